/* SPDX-License-Identifier: ISC */
/* The conditions on content: the MIME stage with its variables, decode, regex and mime_regex. */
#include "tests/unit/lang_util.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/lang/acl.h"
#include "common/mail/mime.h"

static struct arena arena;
static struct fake fake;

static const char message[] =
	"From: a@x.example\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain; charset=utf-8\r\n"
	"Content-Transfer-Encoding: quoted-printable\r\n\r\nth=65 secret=\r\nword\r\n--B\r\nContent-Type: application/x-msdownload; name=\"=?utf-8?q?a=2Eexe?=\"\r\n"
	"Content-Transfer-Encoding: base64\r\n\r\nTVqQAAM=\r\n--B\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\n<p>\r\n--B--\r\n";

/* A MIME ACL for that message, and what comes of it: the answer of the part that decided, and what was logged. */
static const struct { const char *acl; enum acl_verdict verdict; const char *text, *log; } cases[] = {
	{ "accept", ACL_ACCEPT, "", "" },
	{ "deny", ACL_DENY, "", "" },
	{ "defer message = later", ACL_DEFER, "later", "" },
	{ "drop", ACL_DROP, "", "" },
	{ "discard", ACL_DISCARD, "", "" },
	{ "warn", ACL_DENY, "", "" },
	{ "accept logwrite = $mime_part_count$mime_is_multipart$mime_is_coverletter$mime_is_rfc822", ACL_ACCEPT, "", "1 0110\n1 1010\n1 2000\n1 3000\n1 0011\n" },
	{ "accept logwrite = $mime_content_type $mime_charset $mime_boundary.", ACL_ACCEPT, "",
		"1 multipart/mixed  B.\n1 text/plain utf-8 .\n1 application/x-msdownload  .\n1 message/rfc822  .\n1 text/html  .\n" },
	{ "deny condition = ${if match{$mime_filename}{\\N\\.exe$\\N}}\n  message = $mime_filename $mime_content_size\n  accept", ACL_DENY, "a.exe 0", "" },
	{ "deny decode = default\n  condition = ${if eq{$mime_part_count}{2}}\n  message = $mime_content_size $mime_decoded_filename\n  accept", ACL_DENY,
		"1 1xAAAA-000001-AB-00002", "" },
	{ "deny decode = named\n  message = $mime_decoded_filename", ACL_DENY, "named", "" },
	{ "deny decode = 0\n  accept", ACL_ACCEPT, "", "" },
	{ "deny decode = false\n  accept", ACL_ACCEPT, "", "" },
	{ "deny decode = ${if eq{a}{a}{/etc/passwd}}\n  accept", ACL_DEFER, "", NULL },
	{ "deny mime_regex = ^the secretword\n  message = $regex_match_string in $mime_part_count\n  accept", ACL_DENY, "^the secretword in 1", "" },
	{ "deny mime_regex = no : \\N^(MZ)\\x90\\x00\\x03$\\N\n  message = $regex1 in $mime_part_count\n  accept", ACL_DENY, "MZ in 2", "" },
	{ "deny regex = ^th=65 (s)ecret=\\$\n  message = $regex1 in $mime_part_count\n  accept", ACL_DENY, "s in 0", "" },
	{ "deny condition = $mime_is_rfc822\n  regex = ^<p>\n  message = $mime_content_type\n  accept", ACL_DENY, "text/html", "" },
	{ "deny regex = From\n  accept", ACL_ACCEPT, "", "" },
	{ "deny condition = ${if eq{$acl_m_n}{xxxx}}\n  message = part $mime_part_count\n  accept set acl_m_n = x$acl_m_n", ACL_DENY, "part 0", "" },
};

static const struct { const char *message; bool runs; const char *log; } others[] = {
	{ "A: b\r\n\r\nbody\r\n", false, "" },
	{ "A: b\r\n", false, "" },
	{ "Content-Type: text/plain\r\n\r\nx", true, "1 ran 0\n" },
	{ "Content-Type: text/plain", true, "1 ran 0\n" },
	{ "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%", true, "1 ran 2\n" },
	{ "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=XX", true, "1 ran 1\n" },
};

static struct lang *lang_with(const char *acl, struct conf **conf_out)
{
	struct lang_services services = fake_services(&fake);

	fake = (struct fake){ 0 };
	*conf_out = test_conf(arena_printf(&arena, "acl_smtp_mime = tested\nacl_not_smtp_mime = tested\nbegin acl\ntested:\n  %s\n", acl));
	return lang_new(*conf_out, &services);
}

/* The content lies behind other octets, and others follow. */
static void eval_with(struct eval *ev, struct lang *lang, struct ipc_facts *facts, const char *text)
{
	*facts = (struct ipc_facts){ .client_ip = STR_LIT("192.0.2.1"), .has_sender = true, .message_id = STR_LIT("1xAAAA-000001-AB"), .offset = 7,
		.size = strlen(text) };
	eval_init(ev, lang, &arena);
	eval_facts(ev, facts);
	ev->message_fd = memfd_create("message", 0);
	ev->stage = ACL_DATA;
	assert_int_equal(pwrite(ev->message_fd, text, strlen(text), 7), (ssize_t)strlen(text));
	assert_int_equal(pwrite(ev->message_fd, "\r\n--B\r\n", 7, 7 + (off_t)strlen(text)), 7);
}

static void mime_stage(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int local = 0; local < 2; local++) {
			enum acl_stage stage = local ? ACL_NOTSMTP_MIME : ACL_MIME;
			struct ipc_acl_answer answer;
			struct ipc_facts facts;
			struct conf *conf;
			struct lang *lang = lang_with(cases[i].acl, &conf);
			struct eval ev;
			bool go_on;

			eval_with(&ev, lang, &facts, message);
			go_on = acl_mime_run(&ev, stage, &answer);
			if (go_on != (cases[i].verdict == ACL_ACCEPT) || (!go_on && answer.stage != stage) || answer.verdict != cases[i].verdict
				|| (cases[i].text && !str_is(answer.text, cases[i].text)) || (cases[i].log && strcmp(fake.log, cases[i].log) != 0))
				fail_msg("%s\n got %s \"%.*s\" %s log \"%.*s\"", cases[i].acl, acl_verdict_name(answer.verdict), STR_FMT(answer.text), fake.log,
					STR_FMT(answer.log_text));
			/* what the data ACL sees of it */
			if (go_on)
				assert_true(str_is(ev.slot[EV_mime_part_count], "3") && !ev.slot[EV_mime_content_type].len && ev.stage == ACL_DATA);
			close(ev.message_fd);
			eval_clear(&ev);
			lang_free(lang);
			conf_free(conf);
		}
}

static void when_run(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		struct ipc_acl_answer answer;
		struct ipc_facts facts;
		struct conf *conf;
		struct lang *lang = lang_with("deny decode = default\n  logwrite = ran $mime_anomaly_level\n", &conf);
		struct eval ev;
		bool go_on;

		eval_with(&ev, lang, &facts, others[i].message);
		go_on = acl_mime_run(&ev, ACL_MIME, &answer);
		if (go_on == others[i].runs || strcmp(fake.log, others[i].log) != 0)
			fail_msg("case %zu: %s, %s", i, go_on ? "not run" : "run", fake.log);
		close(ev.message_fd);
		eval_clear(&ev);
		lang_free(lang);
		conf_free(conf);
	}
}

/* Parts beyond a limit are parts that nobody has looked at. */
static void limits(void **state)
{
	struct ipc_acl_answer answer;
	struct ipc_facts facts;
	struct conf *conf;
	struct lang *lang = lang_with("accept", &conf);
	struct buf b = BUF_INIT;
	struct eval ev;

	(void)state;
	buf_adds(&b, "Content-Type: multipart/mixed; boundary=B\r\n\r\n");
	for (int i = 0; i < MIME_PARTS_MAX; i++)
		buf_adds(&b, "--B\r\n\r\n");
	eval_with(&ev, lang, &facts, buf_cstr(&b));
	assert_false(acl_mime_run(&ev, ACL_MIME, &answer));
	assert_int_equal(answer.verdict, ACL_DENY);
	assert_string_equal(str_cstr(&arena, answer.text), "more than 1000 MIME parts");
	close(ev.message_fd);
	/* unreadable is another thing */
	ev.message_fd = open("/", O_RDONLY);
	assert_false(acl_mime_run(&ev, ACL_MIME, &answer));
	assert_int_equal(answer.verdict, ACL_DEFER);
	assert_int_equal(answer.text.len, 0);
	close(ev.message_fd);
	eval_clear(&ev);
	buf_clear(&b);
	lang_free(lang);
	conf_free(conf);
}

static int teardown(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(mime_stage), cmocka_unit_test(when_run), cmocka_unit_test(limits) };

	return cmocka_run_group_tests(tests, NULL, teardown);
}

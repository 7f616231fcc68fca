/* SPDX-License-Identifier: ISC */
/* policyd: a question as smtpd asks it, the settings of a client and how long they hold, files fetched in parts. */
#include "tests/unit/lang_util.h"

#include "common/base/clock.h"
#include "policyd/policyd.h"

static struct arena arena;
static struct fake fake;

static struct policyd *policyd(const char *text, struct conf **conf_out, const struct lang_services *given)
{
	struct lang_services services = fake_services(&fake);
	struct err err = ERR_INIT;
	struct policyd *p;

	fake = (struct fake){ 0 };
	*conf_out = test_conf(text);
	p = policyd_new(NULL, *conf_out, given ? given : &services, &err);
	if (!p)
		fail_msg("%s", err.text);
	return p;
}

static const struct ipc_facts facts = {
	.client_ip = STR_LIT("192.0.2.1"), .client_port = 4321, .server_ip = STR_LIT("192.0.2.200"), .server_port = 25, .helo = STR_LIT("helo.example"),
	.sender = STR_LIT("s@sender.example"), .has_sender = true, .recipient = STR_LIT("u@r.example"),
};

static void ask(struct policyd *p, enum acl_stage stage, struct ipc_acl_answer *answer)
{
	struct ipc_facts f = facts;
	struct ipc_acl_ask question = { .stage = stage, .facts = &f };

	policyd_answer(p, &arena, &question, -1, answer);
}

static const char *setting(const struct ipc_acl_answer *a, const char *name)
{
	for (uint32_t i = 0; i < a->n_settings; i++)
		if (str_is(a->settings[i].name, name))
			return str_cstr(&arena, a->settings[i].value);
	return NULL;
}

/* What TLS goes by: at the connect stage, and asked again in the handshake, when the server name is known. */
static void tls_settings(void **state)
{
	static const struct { const char *conf, *sni; bool hello; const char *name, *value; } cases[] = {
		{ "", NULL, false, "tls_certificate", NULL },
		{ "", NULL, false, "tls_verify_certificates", "system" },
		{ "", NULL, false, "tls_alpn", "smtp : esmtp" },
		{ "", NULL, false, "tls_sni_wanted", "no" },
		{ "", NULL, false, "tls_verify_hosts", "no" },
		{ "tls_verify_hosts = 192.0.2.0/24\n", NULL, false, "tls_verify_hosts", "yes" },
		{ "tls_privatekey = ${if eq{1}{2}{/k}fail}\n", NULL, false, "tls_privatekey", NULL },
		{ "tls_privatekey = ${if eq{1}{2}{/k}fail}\n", NULL, false, "tls_trouble", NULL },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\ntls_privatekey = /k\n", NULL, false, "tls_sni_wanted", "yes" },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\ntls_privatekey = /k\n", NULL, false, "tls_privatekey", NULL },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\n", "a.example", true, "tls_certificate", "/a" },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\n", "", true, "tls_certificate", "/b" },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\n", "a.example", true, "tls_sni_wanted", "no" },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\ntls_verify_hosts = *\n", NULL, true, "tls_verify_hosts", "yes" },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a.example}{/a}{/b}}\n", NULL, true, "tls_certificate", NULL },
		/* What the client says names no file; a lookup does. */
		{ "tls_certificate = /c/$tls_in_sni\n", "a.example", true, "tls_certificate", NULL },
		{ "tls_certificate = /c/$tls_in_sni\n", "a.example", true, "tls_trouble",
			"tls_certificate: the name of the file comes from strangers (a lookup makes it harmless)" },
		{ "tls_certificate = ${lookup{$tls_in_sni}lsearch{/t/users}{/c/$value}{/c/other}}\n", "zed", true, "tls_certificate", "/c/other" },
		{ "tls_certificate = ${lookup{x}lsearch{/t/broken}}\n", NULL, false, "tls_certificate", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ipc_pair sni = { .name = STR_LIT("sni"), .value = str_of(cases[i].sni), .tainted = true };
		struct ipc_facts f = facts;
		struct ipc_acl_ask question = { .stage = cases[i].hello ? ASK_TLS : ACL_CONNECT, .facts = &f };
		struct ipc_acl_answer a;
		struct conf *conf;
		struct policyd *p = policyd(cases[i].conf, &conf, NULL);
		const char *value;

		f.tls = &sni;
		f.n_tls = cases[i].sni != NULL;
		policyd_answer(p, &arena, &question, -1, &a);
		value = setting(&a, cases[i].name);
		if (a.verdict != ACL_ACCEPT || !value != !cases[i].value || (value && strcmp(value, cases[i].value)))
			fail_msg("%zu: %s: %s is %s", i, cases[i].conf, cases[i].name, value ? value : "absent");
		policyd_free(p);
		conf_free(conf);
		arena_reset(&arena);
	}
}

/* How far an answer reaches, by what its settings looked at. */
static void scopes(void **state)
{
	static const struct { const char *conf; uint64_t scope, ms; const char *name, *value; } list[] = {
		{ "primary_hostname = m.example\n", 2, POLICYD_CACHE_MS, "smtp_banner", NULL },
		{ "host_reject_connection = 192.0.2.0/24\n", 1, POLICYD_CACHE_MS, "host_reject_connection", "yes" },
		{ "host_reject_connection = 10.0.0.0/8\n", 1, POLICYD_CACHE_MS, "host_reject_connection", "no" },
		{ "host_reject_connection = *\n", 2, POLICYD_CACHE_MS, "host_reject_connection", "yes" },
		{ "pipelining_advertise_hosts =\n", 2, POLICYD_CACHE_MS, "pipelining_advertise_hosts", "no" },
		{ "", 2, POLICYD_CACHE_MS, "pipelining_advertise_hosts", "yes" },
		{ "smtp_banner = hello $sender_host_address\n", 1, POLICYD_CACHE_MS, "smtp_banner", "hello 192.0.2.1" },
		{ "smtp_banner = hello $sender_host_port\n", 0, 0, "smtp_banner", "hello 4321" },
		{ "smtp_banner = at $tod_full\n", 2, POLICYD_CACHE_MS, "smtp_banner", "at $tod_full" },
		{ "smtp_banner = at ${uc:x$tod_epoch}\n", 2, POLICYD_CACHE_TIME_MS, "smtp_banner", NULL },
		{ "smtp_banner = ${lookup{alice}lsearch{/t/users}}\n", 2, POLICYD_CACHE_WORLD_MS, "smtp_banner", "Alice A." },
		{ "smtp_banner = ${lookup{alice}lsearch{/t/broken}}\n", 0, 0, "smtp_banner", NULL },
		{ "host_reject_connection = *.example\n", 1, POLICYD_CACHE_WORLD_MS, "host_reject_connection", "yes" },
		{ "host_lookup = *\n", 1, POLICYD_CACHE_WORLD_MS, "host_reject_connection", "no" },
		{ "message_size_limit = ${if match_ip{$sender_host_address}{192.0.2.0/24}{10M}{1M}}\n", 1, POLICYD_CACHE_MS, "message_size_limit", "10M" },
		{ "smtp_accept_max_per_host = 7\n", 2, POLICYD_CACHE_MS, "smtp_accept_max_per_host", "7" },
		{ "smtp_active_hostname = ${if eq{$interface_address}{192.0.2.200}{in.example}}\n", 0, 0, "smtp_active_hostname", "in.example" },
		{ "acl_smtp_connect = accept\n", 0, 0, "host_reject_connection", "no" },
		{ "", 2, POLICYD_CACHE_MS, "tls_advertise_hosts", "yes" },
		{ "tls_advertise_hosts = 10.0.0.0/8\n", 1, POLICYD_CACHE_MS, "tls_advertise_hosts", "no" },
		{ "tls_certificate = /c/$sender_host_address.pem\n", 1, POLICYD_CACHE_MS, "tls_certificate", "/c/192.0.2.1.pem" },
		{ "tls_certificate = ${if eq{$tls_in_sni}{a}{/a}{/b}}\n", 2, POLICYD_CACHE_MS, "tls_certificate", NULL },
		{ "tls_resumption_hosts = ${if inlist {$received_port}{587:465}{:}{*}}\n", 0, 0, "tls_resumption_hosts", "yes" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct ipc_acl_answer a;
		struct conf *conf;
		struct policyd *p = policyd(list[i].conf, &conf, NULL);
		const char *value;

		ask(p, ACL_CONNECT, &a);
		value = setting(&a, list[i].name);
		if (a.verdict != ACL_ACCEPT || a.cache_scope != list[i].scope || a.cache_ms != list[i].ms
			|| (list[i].value && (!value || strcmp(value, list[i].value))))
			fail_msg("%s: got scope %u for %u ms, %s = %s", list[i].conf, (unsigned)a.cache_scope, (unsigned)a.cache_ms, list[i].name, value ? value : "(none)");
		policyd_free(p);
		conf_free(conf);
	}
}

static void names(void **state)
{
	struct ipc_acl_answer a;
	struct conf *conf;
	struct policyd *p = policyd("host_lookup = *\n", &conf, NULL);

	(void)state;
	ask(p, ACL_CONNECT, &a);
	assert_true(a.name_looked);
	assert_string_equal(str_cstr(&arena, a.client_name), "client.example");
	policyd_free(p);
	conf_free(conf);
}

static void stages(void **state)
{
	static const char text[] = "acl_smtp_rcpt = rcpt\nacl_smtp_data = data\nreceived_header_text = Received: by $primary_hostname\nprimary_hostname = m.example\n"
		"begin acl\nrcpt:\n  accept domains = r.example\n    set acl_m_x = $local_part\n  deny message = relay not permitted\n"
		"data:\n  accept add_header = X-Id: $message_id\n";
	struct ipc_facts f = facts;
	struct ipc_acl_ask question = { .stage = ACL_RCPT, .facts = &f };
	struct ipc_acl_answer a;
	struct conf *conf;
	struct policyd *p = policyd(text, &conf, NULL);

	(void)state;
	policyd_answer(p, &arena, &question, -1, &a);
	assert_int_equal(a.verdict, ACL_ACCEPT);
	assert_int_equal(a.n_acl_m, 1);
	f.recipient = STR_LIT("u@elsewhere.example");
	policyd_answer(p, &arena, &question, -1, &a);
	assert_int_equal(a.verdict, ACL_DENY);
	assert_string_equal(str_cstr(&arena, a.text), "relay not permitted");
	f.message_id = STR_LIT("1xAAAA-000001-AB");
	question.stage = ACL_DATA;
	policyd_answer(p, &arena, &question, -1, &a);
	assert_int_equal(a.verdict, ACL_ACCEPT);
	assert_int_equal(a.n_edits, 1);
	assert_string_equal(setting(&a, "received_header"), "Received: by m.example");
	/* nonsense is answered too */
	question.stage = 77;
	policyd_answer(p, &arena, &question, -1, &a);
	assert_int_equal(a.verdict, ACL_DEFER);
	question.stage = ACL_RCPT;
	question.facts = NULL;
	policyd_answer(p, &arena, &question, -1, &a);
	assert_int_equal(a.verdict, ACL_DEFER);
	policyd_free(p);
	conf_free(conf);
}

/* ---- files ---- */

struct far_file {
	const char *version;
	size_t size;
	unsigned asked, parts;
	bool restless;             /* another version with each part */
};

static enum status far_lookup(void *ctx, struct arena *a, const struct ipc_lookup_ask *q, struct ipc_lookup_answer *out, struct err *err)
{
	struct far_file *far = ctx;
	uint64_t offset = 0;
	char *p;

	far->asked++;
	if (!str_is(q->type, LOOKUP_ASK_FILE) || !far->version)
		return err_set(err, ST_FAIL, "no such file");
	out->matched = str_of(far->version);
	if (str_is(q->options, far->version))
		return ST_OK;
	far->parts++;
	assert_true(str_u64(q->key, far->size, &offset));
	out->value.len = (uint32_t)(far->size - offset < 90000 ? far->size - offset : 90000);
	p = arena_alloc(a, out->value.len + 1);
	for (uint32_t i = 0; i < out->value.len; i++)
		p[i] = (char)('a' + (offset + i) % 23);
	out->value.p = p;
	out->matched = str_printf(a, "%s%u %zu", far->version, far->restless ? far->parts : 0, far->size);
	if (!far->restless)
		out->matched = str_printf(a, "%s %zu", far->version, far->size);
	return ST_OK;
}

static void files(void **state)
{
	struct far_file far = { .version = "v1 m=1", .size = 250000 };
	struct lang_services services = { .ctx = &far, .lookup = far_lookup };
	struct conf *conf;
	struct policyd *p = policyd("", &conf, &services);
	struct lang_file file;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(policyd_file_get(p, &arena, STR_LIT("/x"), &file, &err), ST_OK);
	assert_int_equal(file.content.len, 250000);
	assert_int_equal(far.parts, 3);
	for (uint32_t i = 0; i < file.content.len; i++)
		assert_int_equal(file.content.p[i], 'a' + i % 23);
	/* within a second it is believed, afterwards asked about, and fetched only when it has changed */
	assert_int_equal(policyd_file_get(p, &arena, STR_LIT("/x"), &file, &err), ST_OK);
	assert_int_equal(far.asked, 3);
	p->files->checked_ms -= POLICYD_FILE_FRESH_MS;
	assert_int_equal(policyd_file_get(p, &arena, STR_LIT("/x"), &file, &err), ST_OK);
	assert_int_equal(far.asked, 4);
	assert_int_equal(far.parts, 3);
	p->files->checked_ms -= POLICYD_FILE_FRESH_MS;
	far.version = "v2 m=2";
	far.size = 10;
	assert_int_equal(policyd_file_get(p, &arena, STR_LIT("/x"), &file, &err), ST_OK);
	assert_int_equal(file.content.len, 10);
	assert_int_equal(p->n_files, 1);
	/* one that never stays the same is given up */
	far.restless = true;
	far.size = 250000;
	assert_int_equal(policyd_file_get(p, &arena, STR_LIT("/y"), &file, &err), ST_DEFER);
	far.version = NULL;
	assert_int_equal(policyd_file_get(p, &arena, STR_LIT("/z"), &file, &err), ST_FAIL);
	/* and no more than so many are kept */
	far = (struct far_file){ .version = "v", .size = 1 };
	for (int i = 0; i < 3 * POLICYD_FILES_MAX; i++)
		assert_int_equal(policyd_file_get(p, &arena, str_printf(&arena, "/many/%d", i), &file, &err), ST_OK);
	assert_true(p->n_files <= POLICYD_FILES_MAX);
	policyd_free(p);
	conf_free(conf);
}

/* Router's side of these questions. */
static void files_answered(void **state)
{
	struct ipc_lookup_ask q = { .type = STR_LIT(LOOKUP_ASK_FILE), .file = STR_LIT("/etc/passwd"), .key = STR_LIT("0") };
	struct ipc_lookup_answer first, again;
	struct err err = ERR_INIT;
	ptrdiff_t blank;

	(void)state;
	assert_int_equal(lookup_internal(&q, &arena, &first, &err), ST_OK);
	assert_true(first.value.len > 0);
	blank = str_rfind(first.matched, ' ');
	assert_true(blank > 0);
	q.options = str_sub(first.matched, 0, (size_t)blank);
	assert_int_equal(lookup_internal(&q, &arena, &again, &err), ST_OK);
	assert_int_equal(again.value.len, 0);
	assert_true(str_eq(again.matched, q.options));
	q.file = STR_LIT("/nosuch/file");
	assert_int_equal(lookup_internal(&q, &arena, &again, &err), ST_FAIL);
	q.file = STR_LIT("etc/passwd");
	assert_int_equal(lookup_internal(&q, &arena, &again, &err), ST_ERROR);
	q.file = STR_LIT("/etc/../etc/passwd");
	assert_int_equal(lookup_internal(&q, &arena, &again, &err), ST_ERROR);
}

static void complete(void **state)
{
	struct ipc_acl_answer a;
	struct conf *conf;
	struct policyd *p = policyd("", &conf, NULL);

	(void)state;
	ask(p, ACL_CONNECT, &a);
	/* Every host list gives yes or no; every text that has a default is told. */
	for (size_t i = 0; i < policyd_setting_count(); i++) {
		const char *name = policyd_setting_name(i);
		const char *value = setting(&a, name);

		if (strstr(name, "hosts") || !strcmp(name, "host_reject_connection"))
			assert_true(value && (!strcmp(value, "yes") || !strcmp(value, "no")));
	}
	policyd_free(p);
	conf_free(conf);
}

/* Which sockets the system call filter lets policyd make. */
static void sockets(void **state)
{
	static const struct { const char *conf; uint32_t connect; } cases[] = {
		{ "", 0 },
		{ "av_scanner = clamd:/run/clamd.ctl\nspamd_address = 127.0.0.1 783\n", DAEMON_SYS_CONNECT_UNIX | DAEMON_SYS_CONNECT },
		{ "spamd_address = 127.0.0.1 783\nbegin acl\na:\n  deny spam = nobody\n", DAEMON_SYS_CONNECT },
		{ "spamd_address = /run/spamd.ctl\nbegin acl\na:\n  deny spam = nobody\n", DAEMON_SYS_CONNECT_UNIX },
		{ "av_scanner = clamd:/run/clamd.ctl\nbegin acl\na:\n  deny malware = *\n", DAEMON_SYS_CONNECT_UNIX },
		{ "av_scanner = clamd:127.0.0.1 3310\nbegin acl\na:\n  deny malware = *\n", DAEMON_SYS_CONNECT },
		{ "av_scanner = ${if eq{1}{1}{clamd:/run/clamd.ctl}}\nbegin acl\na:\n  deny malware = *\n", DAEMON_SYS_CONNECT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct conf *conf = test_conf(cases[i].conf);
		uint32_t got = policyd_spec.sys_for(conf) & (DAEMON_SYS_CONNECT | DAEMON_SYS_CONNECT_UNIX);

		conf_free(conf);
		if (got != cases[i].connect)
			fail_msg("%s: %x, want %x", cases[i].conf, got, cases[i].connect);
	}
}

static int teardown(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scopes), cmocka_unit_test(tls_settings), cmocka_unit_test(names), cmocka_unit_test(stages), cmocka_unit_test(files), cmocka_unit_test(files_answered),
		cmocka_unit_test(complete), cmocka_unit_test(sockets),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}

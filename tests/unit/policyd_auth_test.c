/* SPDX-License-Identifier: ISC */
/* AUTH in policyd: what is offered, each driver's steps, with and without TLS; the lines of Dovecot's protocol. */
#include "tests/unit/lang_util.h"

#include "policyd/dovecot_line.h"
#include "policyd/policyd_auth.h"

static const char config[] =
	"begin authenticators\n"
	"plain:\n driver = plaintext\n public_name = PLAIN\n server_prompts = :\n server_set_id = $auth2\n"
	" server_condition = ${if eq{$auth2}{later}{come back}{${if eq{$3}{pw}{${if eq{$auth2}{forced}{${if eq{1}{2}{a}fail}}{yes}}}}}}\n"
	"login:\n driver = plaintext\n public_name = LOGIN\n server_prompts = User Name : Password\n server_condition = ${if eq{$auth1/$auth2}{u/pw}}\n"
	"cram:\n driver = cram_md5\n public_name = CRAM-MD5\n server_set_id = $auth1\n"
	" server_secret = ${if eq{$auth1}{tim}{tanstaaftanstaaf}{${if eq{$auth1}{broken}{${lookup{x}lsearch{/t/broken}}}fail}}}\n"
	"broken:\n driver = plaintext\n public_name = BROKEN\n server_condition = ${lookup{x}lsearch{/t/broken}}\n"
	"secure:\n driver = external\n public_name = EXTERNAL\n server_advertise_condition = ${if def:tls_in_cipher}\n server_param2 = $tls_in_peerdn\n"
	" server_condition = ${if eq{$auth2}{CN=$auth1}}\n server_set_id = $auth1\n server_mail_auth_condition = ${if eq{$authenticated_sender}{ok@x}}\n"
	"cert:\n driver = tls\n server_param1 = $tls_in_peerdn\n server_condition = ${if and{{bool{$tls_in_certificate_verified}}{eq{$auth1}{CN=host}}}}\n"
	" server_set_id = $auth1\n"
	"client_only:\n driver = plaintext\n public_name = X-CLIENT\n client_send = ^a^b\n";

static struct arena arena;
static struct fake fake;
static struct conf *conf;
static struct ipc_pair tls[] = {
	{ STR_LIT("cipher"), STR_LIT("TLS_AES"), true }, { STR_LIT("peerdn"), STR_LIT("CN=joe"), true }, { STR_LIT("certificate_verified"), STR_LIT("1"), false },
};

static struct policyd *made(void)
{
	struct lang_services services = fake_services(&fake);
	struct err err = ERR_INIT;
	struct policyd *p;

	conf = test_conf(config);
	p = policyd_new(NULL, conf, &services, &err);
	if (!p)
		fail_msg("%s", err.text);
	return p;
}

static void ended(struct policyd *p)
{
	policyd_free(p);
	conf_free(conf);
	arena_clear(&arena);
}

static struct ipc_facts facts(bool with_tls)
{
	return (struct ipc_facts){ .client_ip = STR_LIT("192.0.2.1"), .server_ip = STR_LIT("192.0.2.200"), .esmtp = true, .helo = STR_LIT("h"),
		.tls = tls, .n_tls = with_tls ? 3 : 0 };
}

/* Steps: the data of each, NUL as '|'; "-" none. Results as letters, a challenge as C:text. */
static const struct exchange {
	const char *mechanism;
	bool tls;
	const char *data[4];
	const char *want;
} exchanges[] = {
	{ "PLAIN", false, { "|u|pw" }, "OK plain id=u" },
	{ "plain", false, { "-", "|u|pw" }, "C: OK plain id=u" },
	{ "PLAIN", false, { "|u|no" }, "FAIL plain id=u" },
	{ "PLAIN", false, { "" }, "FAIL plain id=" },
	{ "PLAIN", false, { "|u\nX-Field: x\r\177|no" }, "FAIL plain id=u?X-Field: x??" },
	{ "PLAIN", false, { "|later|x" }, "DEFER plain id=later text=come back" },
	{ "PLAIN", false, { "|forced|pw" }, "FAIL plain id=forced" },
	{ "PLAIN", false, { "|u|pw|x|y|z|1|2|3|4|5|6|7|8|9|0|1|2|3|4|5|6|7|8|9" }, "OK plain id=u" },
	{ "LOGIN", false, { "-", "u", "pw" }, "C:User Name C:Password OK login id=" },
	{ "LOGIN", false, { "u", "pw" }, "C:Password OK login id=" },
	{ "LOGIN", false, { "u|pw" }, "OK login id=" },
	{ "LOGIN", false, { "-", "u|pw" }, "C:User Name OK login id=" },
	{ "LOGIN", false, { "-", "", "pw" }, "C:User Name C:Password FAIL login id=" },
	{ "BROKEN", false, { "x" }, "DEFER broken id=" },
	{ "CRAM-MD5", false, { "x" }, "NO_INITIAL cram id=" },
	{ "EXTERNAL", false, { "joe" }, "UNKNOWN  id=" },
	{ "EXTERNAL", true, { "joe" }, "OK secure id=joe" },
	{ "EXTERNAL", true, { "-", "joe" }, "C: OK secure id=joe" },
	{ "EXTERNAL", true, { "ann" }, "FAIL secure id=ann" },
	{ "TLS", true, { "joe" }, "UNKNOWN  id=" },
	{ "X-CLIENT", false, { "a" }, "UNKNOWN  id=" },
};

static void step(struct policyd *p, const char *mechanism, bool with_tls, unsigned n, const char *text, struct str state, struct ipc_auth_answer *out)
{
	struct ipc_facts f = facts(with_tls);
	char *data = arena_strdup(&arena, text);
	struct ipc_auth_ask ask = { .mechanism = str_of(mechanism), .data = str_taint(str_of(data)), .step = n, .state = str_taint(state), .facts = &f };
	int fd = -1;

	ask.has_data = strcmp(text, "-") != 0;
	for (char *c = data; *c; c++)
		if (*c == '|')
			*c = '\0';
	if (!ask.has_data)
		ask.data = STR_NULL;
	policyd_auth_step(p, &arena, &ask, &fd, out);
	assert_int_equal(fd, -1);
}

static void test_exchanges(void **state)
{
	static const char *const names[] = { "?", "C", "OK", "FAIL", "DEFER", "BAD_DATA", "NO_INITIAL", "UNKNOWN" };
	struct policyd *p = made();

	(void)state;
	for (size_t i = 0; i < sizeof exchanges / sizeof *exchanges; i++) {
		const struct exchange *x = &exchanges[i];
		struct ipc_auth_answer a = { .result = AUTH_CHALLENGE };
		char got[300] = "";

		for (unsigned n = 0; n < 4 && x->data[n] && a.result == AUTH_CHALLENGE; n++) {
			step(p, x->mechanism, x->tls, n, x->data[n], a.state, &a);
			snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", n ? " " : "", names[a.result]);
			if (a.result == AUTH_CHALLENGE)
				snprintf(got + strlen(got), sizeof got - strlen(got), ":%.*s", STR_FMT(a.challenge));
			else
				snprintf(got + strlen(got), sizeof got - strlen(got), " %.*s id=%.*s%s%.*s", STR_FMT(a.driver), STR_FMT(a.auth_id),
					a.text.len ? " text=" : "", STR_FMT(a.text));
		}
		if (strcmp(got, x->want))
			fail_msg("%s %s: got \"%s\", want \"%s\" (%.*s)", x->mechanism, x->data[0], got, x->want, STR_FMT(a.log_text));
		if (a.result == AUTH_DEFER && !a.text.len && !a.log_text.len)
			fail_msg("%s: deferred without a word", x->mechanism);
	}
	ended(p);
}

/* RFC 2195's example; everything else than the right digest fails. */
static void test_cram(void **state)
{
	static const struct { const char *response; enum auth_result want; } rows[] = {
		{ "tim b913a602c7eda7a495b4e6e7334d3890", AUTH_OK }, { "tim B913A602C7EDA7A495B4E6E7334D3890", AUTH_OK },
		{ "tim b913a602c7eda7a495b4e6e7334d3891", AUTH_FAIL }, { "tim b913a602c7eda7a495b4e6e7334d389", AUTH_FAIL }, { "tim ", AUTH_FAIL },
		{ "tim", AUTH_FAIL }, { "", AUTH_FAIL }, { "ann b913a602c7eda7a495b4e6e7334d3890", AUTH_FAIL },
		{ "broken b913a602c7eda7a495b4e6e7334d3890", AUTH_DEFER },
	};
	struct policyd *p = made();
	struct ipc_auth_answer a, b;

	(void)state;
	step(p, "CRAM-MD5", false, 0, "-", STR_NULL, &a);
	step(p, "CRAM-MD5", false, 0, "-", STR_NULL, &b);
	assert_int_equal(a.result, AUTH_CHALLENGE);
	assert_true(a.challenge.p[0] == '<' && str_eq(a.challenge, a.state));
	assert_false(str_eq(a.challenge, b.challenge));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		step(p, "CRAM-MD5", false, 1, rows[i].response, STR_LIT("<1896.697170952@postoffice.reston.mci.net>"), &a);
		if (a.result != rows[i].want)
			fail_msg("\"%s\": got %d, want %d", rows[i].response, (int)a.result, rows[i].want);
	}
	ended(p);
}

static const char *offered(struct policyd *p, bool with_tls, bool *later)
{
	struct ipc_facts f = facts(with_tls);
	struct eval ev;
	struct str s;

	eval_init(&ev, p->lang, &arena);
	eval_facts(&ev, &f);
	s = policyd_auth_offer(p, &ev, later);
	eval_clear(&ev);
	return str_cstr(&arena, s);
}

static void test_offer(void **state)
{
	struct policyd *p = made();
	bool later;

	(void)state;
	assert_string_equal(offered(p, false, &later), "PLAIN LOGIN CRAM-MD5 BROKEN");
	assert_true(later); /* $tls_in_cipher, and driver tls */
	assert_string_equal(offered(p, true, &later), "PLAIN LOGIN CRAM-MD5 BROKEN EXTERNAL");
	ended(p);
}

/* The tls driver at EHLO; AUTH= of MAIL. */
static void test_stages(void **state)
{
	struct policyd *p = made();
	struct ipc_acl_answer answer;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct ipc_facts f = facts(i > 0);
		struct ipc_acl_ask ask = { .stage = ACL_HELO, .facts = &f };

		tls[1].value = i == 2 ? STR_LIT("CN=host") : STR_LIT("CN=joe");
		policyd_answer(p, &arena, &ask, -1, &answer);
		assert_true(str_is(answer.auth_method, i == 2 ? "cert" : ""));
		assert_true(str_is(answer.auth_id, i == 2 ? "CN=host" : ""));
		assert_int_equal(answer.n_settings, 1);
		assert_int_equal(answer.settings[0].value.len > 0, i < 2);
	}
	tls[1].value = STR_LIT("CN=joe");
	for (int i = 0; i < 2; i++) {
		struct ipc_facts f = facts(true);
		struct ipc_acl_ask ask = { .stage = ACL_MAILAUTH, .facts = &f };

		f.auth_method = STR_LIT("secure");
		f.auth_sender = i ? STR_LIT("ok@x") : STR_LIT("other@x");
		policyd_answer(p, &arena, &ask, -1, &answer);
		assert_int_equal(answer.auth_sender_refused, !i);
	}
	ended(p);
}

#define HELLO "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tactive\nSPID\t1\nCUID\t2\nCOOKIE\t0a1b\nDONE\n"

static void test_greetings(void **state)
{
	static const struct { const char *lines, *error; } rows[] = {
		{ HELLO, NULL }, { "VERSION\t1\t99\nFUTURE\tx\nMECH\tPLAIN\nSPID\t1\nDONE\n", NULL },
		{ "VERSION\t2\t0\n", "version mismatch" }, { "VERSION\n", "version mismatch" }, { "VERSION\t1\t1\nSPID\t1\n", "type mismatch" },
		{ "220 mx.example ESMTP\n", "does not begin with VERSION" }, { "VERSION\t1\t1\nMECH\tPLAIN\nSPID\tx\n", "no number" },
		{ "VERSION\t1\t1\nMECH\tPLAIN\nCOOKIE\t\n", "cookie" }, { "VERSION\t1\t1\nMECH\tPLAIN\nCOOKIE\tzz\n", "cookie" }, { "VERSION\t1\t1\nMECH\n", "without a name" },
		{ "VERSION\t1\t1\nDONE\n", "without MECH" }, { "MECH\tPLAIN\nSPID\t1\nDONE\n", "without VERSION" }, { "VERSION\t1\t1\nMECH\tPLAIN\nDONE\n", "without SPID" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct dovecot_greeting g = { .done = false };
		struct str rest = str_of(rows[i].lines), line;
		struct err err = ERR_INIT;
		enum status st = ST_OK;

		while (!st && rest.len && str_split(&rest, '\n', &line))
			st = dovecot_greeting_line(&g, line, &err);
		if ((st != ST_OK) != (rows[i].error != NULL) || (!st && !g.done) || (rows[i].error && !strstr(err.text, rows[i].error)))
			fail_msg("%s: got %s \"%s\"", rows[i].lines, status_name(st), err.text);
		if (!st && (!dovecot_has_mech(&g, STR_LIT("plain")) || dovecot_has_mech(&g, STR_LIT("PLAI")) || dovecot_has_mech(&g, STR_LIT(""))))
			fail_msg("%s: mechanisms \"%s\"", rows[i].lines, g.mechs);
	}
}

static void test_replies(void **state)
{
	static const struct { const char *line, *want; } rows[] = {
		{ "OK\t7\tuser=joe", "0 joe" }, { "OK\t7\tuser=j\001to\tmore=x\tuser2=z", "0 j\to" }, { "OK\t7", "username missing" }, { "OK\t8\tuser=joe", "id mismatch" },
		{ "OK\t\tuser=joe", "id mismatch" }, { "OK", "id mismatch" }, { "FAIL\t7", "1 " }, { "FAIL\t7\tuser=joe\ttemp", "1 joe temp" },
		{ "FAIL\t7\tcode=temp_fail", "1  temp" }, { "FAIL\t7\tuser=joe\treason=no\001nway", "1 joe (no\nway)" }, { "FAIL\t7\tuser=joe\tauthz", "1 joe" },
		{ "CONT\t7\tYQ==", "2  YQ==" }, { "CONT\t7", "2 " }, { "", "a reply that is none" }, { "ok\t7\tuser=x", "a reply that is none" },
		{ "NOTFOUND\t7", "a reply that is none" }, { "OK\t7\tuser=joe\001", "0 joe\001" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct dovecot_reply r;
		struct err err = ERR_INIT;
		char got[300];

		if (dovecot_reply_line(&arena, str_of(rows[i].line), 7, &r, &err))
			snprintf(got, sizeof got, "%s", strstr(err.text, rows[i].want) ? rows[i].want : err.text);
		else
			snprintf(got, sizeof got, "%d %.*s%s%s%.*s%s%s%.*s", r.kind, STR_FMT(r.user), r.temp ? " temp" : "", r.reason.len ? " (" : "",
				STR_FMT(r.reason), r.reason.len ? ")" : "", r.data.len ? " " : "", STR_FMT(r.data));
		if (strcmp(got, rows[i].want))
			fail_msg("%s: got \"%s\", want \"%s\"", rows[i].line, got, rows[i].want);
	}
	arena_clear(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchanges), cmocka_unit_test(test_cram), cmocka_unit_test(test_offer), cmocka_unit_test(test_stages),
		cmocka_unit_test(test_greetings), cmocka_unit_test(test_replies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* TLS as the session sees it: when STARTTLS is taken, what stands behind it, what is forgotten, what the facts become. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/tls/tls.h"
#include "smtpd/session_priv.h"
#include "tests/unit/smtpd_mock.h"

#define HELLO "EHLO c.example\r\n"

static const struct tls_facts handshake = {
	.cipher = STR_LIT("TLS1.3:TLS_AES_256_GCM_SHA384:256"), .cipher_std = STR_LIT("TLS_AES_256_GCM_SHA384"), .version = STR_LIT("TLS1.3"), .bits = 256,
	.peerdn = STR_LIT("CN=c"), .sni = STR_LIT("mx.example"), .ourcert_pem = STR_LIT("OURS"), .peercert_pem = STR_LIT("THEIRS"), .verified = true,
	.resumption = TLS_RES_RESUMED,
};

static void begin(struct mock *m, uint32_t flags)
{
	mock_init(m);
	m->server.everyone->tls.flags = flags;
	m->server.settings.log |= LOG_SEL(tls_resumption) | LOG_SEL(tls_peerdn) | LOG_SEL(tls_sni);
}

static void feed(struct mock *m, const char *in)
{
	mock_feed(m, in, strlen(in), 1 << 20, false);
}

static void has(struct mock *m, const char *text)
{
	if (!strstr(buf_cstr(&m->out), text) && !strstr(buf_cstr(&m->log), text))
		fail_msg("\"%s\" is not in\n%s\n%s", text, buf_cstr(&m->out), buf_cstr(&m->log));
}

static void has_not(struct mock *m, const char *text)
{
	if (strstr(buf_cstr(&m->out), text) || strstr(buf_cstr(&m->log), text))
		fail_msg("\"%s\" is in\n%s\n%s", text, buf_cstr(&m->out), buf_cstr(&m->log));
}

static const char *fact(struct mock *m, const char *name, bool *tainted)
{
	struct ipc_facts f;

	session_facts(&m->session, &f);
	for (uint32_t i = 0; i < f.n_tls; i++)
		if (str_is(f.tls[i].name, name)) {
			*tainted = f.tls[i].tainted;
			return str_cstr(&m->server.scratch, f.tls[i].value);
		}
	return "";
}

static void up(struct mock *m)
{
	feed(m, HELLO "STARTTLS\r\n");
	assert_int_equal(m->tls_starts, 1);
	session_on_tls_ready(&m->session);
	has(m, "220 2.0.0 TLS go ahead");
	session_on_tls_done(&m->session, &handshake);
}

static void offered(void **state)
{
	static const struct { const char *in; uint32_t flags; const char *want; unsigned starts; } cases[] = {
		{ HELLO, TLS_F_ADVERTISE, "250-STARTTLS", 0 },
		{ HELLO "STARTTLS\r\n", 0, "503 5.5.1 STARTTLS command used when not advertised", 0 },
		{ "STARTTLS\r\n", TLS_F_ADVERTISE, "503 5.5.1 STARTTLS command used when not advertised", 0 },
		{ "HELO c.example\r\nSTARTTLS\r\n", TLS_F_ADVERTISE, "503 5.5.1", 0 },
		{ HELLO "HELO c.example\r\nSTARTTLS\r\n", TLS_F_ADVERTISE, "503 5.5.1", 0 },
		{ HELLO "STARTTLS now\r\n", TLS_F_ADVERTISE, "501 5.5.4", 0 },
		{ HELLO "starttls\r\n", TLS_F_ADVERTISE, "", 1 },
		/* What stands behind it is never looked at, whatever smtp_enforce_sync says (the mock has it off). */
		{ HELLO "STARTTLS\r\nMAIL FROM:<evil@x.example>\r\n", TLS_F_ADVERTISE, "554 5.5.0 Security failure", 0 },
		{ HELLO "STARTTLS\r\n\x16\x03\x01", TLS_F_ADVERTISE, "554 5.5.0 Security failure", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mock m;

		begin(&m, cases[i].flags);
		session_start(&m.session);
		feed(&m, cases[i].in);
		has(&m, cases[i].want);
		if (m.tls_starts != cases[i].starts)
			fail_msg("%s: %u starts", cases[i].in, m.tls_starts);
		if (!(cases[i].flags & TLS_F_ADVERTISE))
			has_not(&m, "250-STARTTLS");
		has_not(&m, "250 2.1.0 OK");
		mock_clear(&m);
	}
}

static void forgets(void **state)
{
	struct mock m;
	bool tainted;

	(void)state;
	begin(&m, TLS_F_ADVERTISE);
	m.server.everyone->auth = mem_strdup("LOGIN");
	session_start(&m.session);
	feed(&m, HELLO "AUTH LOGIN\r\nZ29vZA==\r\nZ29vZA==\r\nMAIL FROM:<a@b.example>\r\n");
	assert_non_null(m.session.auth_method);
	feed(&m, "STARTTLS\r\n");
	assert_int_equal(m.session.state, SESSION_TLS);
	assert_false(session_wants_input(&m.session));
	assert_null(m.session.txn);
	session_on_tls_ready(&m.session);
	session_on_tls_done(&m.session, &handshake);
	assert_int_equal(m.session.state, SESSION_COMMAND);
	assert_null(m.session.auth_method);
	assert_null(m.session.helo);
	buf_reset(&m.out);
	feed(&m, "MAIL FROM:<a@b.example>\r\n");
	has(&m, "503");
	feed(&m, "STARTTLS\r\n");
	has(&m, "503 5.5.1 STARTTLS");
	buf_reset(&m.out);
	feed(&m, HELLO);
	has(&m, "AUTH LOGIN");
	has_not(&m, "STARTTLS");
	assert_string_equal(fact(&m, "cipher", &tainted), "TLS1.3:TLS_AES_256_GCM_SHA384:256");
	assert_string_equal(fact(&m, "X", &tainted), "TLS1.3:TLS_AES_256_GCM_SHA384:256*");
	assert_string_equal(fact(&m, "CV", &tainted), "yes");
	assert_string_equal(fact(&m, "certificate_verified", &tainted), "1");
	assert_string_equal(fact(&m, "bits", &tainted), "256");
	assert_string_equal(fact(&m, "ourcert", &tainted), "OURS");
	assert_string_equal(fact(&m, "resumption", &tainted), "16");
	mock_clear(&m);
}

static void protocols(void **state)
{
	struct mock m;
	struct ipc_facts f;

	(void)state;
	begin(&m, TLS_F_ADVERTISE);
	session_start(&m.session);
	up(&m);
	feed(&m, HELLO);
	session_facts(&m.session, &f);
	assert_true(str_is(f.protocol, "esmtps"));
	feed(&m, "HELO c.example\r\n");
	session_facts(&m.session, &f);
	assert_true(str_is(f.protocol, "smtps"));
	mock_clear(&m);
}

static void remembers(void **state)
{
	struct mock m;

	(void)state;
	begin(&m, TLS_F_ADVERTISE);
	m.server.settings.tls_remember_esmtp = true;
	session_start(&m.session);
	up(&m);
	feed(&m, "MAIL FROM:<a@b.example>\r\n");
	has(&m, "250 2.1.0 OK");
	mock_clear(&m);
}

static void on_connect(void **state)
{
	struct mock m;

	(void)state;
	begin(&m, TLS_F_ADVERTISE);
	m.session.tls_on_connect = true;
	session_start(&m.session);
	assert_int_equal(m.tls_starts, 1);
	session_on_tls_ready(&m.session);
	assert_int_equal(m.out.len, 0); /* not a word in clear */
	session_on_tls_done(&m.session, &handshake);
	has(&m, "220 mx.example ESMTP");
	feed(&m, HELLO);
	has_not(&m, "STARTTLS");
	mock_clear(&m);

	/* Settings that are not known yet are asked for; the connect stage comes behind the handshake. */
	begin(&m, 0);
	client_settings_unref(m.server.everyone);
	m.server.everyone = NULL;
	m.session.tls_on_connect = true;
	session_start(&m.session);
	assert_int_equal(m.stage, ASK_TLS);
	assert_true(mock_answer(&m));
	assert_int_equal(m.tls_starts, 1);
	session_on_tls_ready(&m.session);
	session_on_tls_done(&m.session, &handshake);
	assert_int_equal(m.stage, ACL_CONNECT);
	assert_true(mock_answer(&m));
	has(&m, "220 mx.example ESMTP");
	mock_clear(&m);

	/* Nothing is said in clear when it fails, either. */
	begin(&m, 0);
	m.session.tls_on_connect = true;
	session_start(&m.session);
	session_on_tls_unavailable(&m.session, "no file");
	assert_int_equal(m.out.len, 0);
	assert_int_equal(m.session.state, SESSION_CLOSING);
	has(&m, "TLS error on connection from [192.0.2.1] no file");
	mock_clear(&m);
}

static void fails(void **state)
{
	struct mock m;

	(void)state;
	/* There is no context: the session goes on in clear. */
	begin(&m, TLS_F_ADVERTISE);
	session_start(&m.session);
	feed(&m, HELLO "STARTTLS\r\n");
	session_on_tls_unavailable(&m.session, "/x.pem: No such file");
	has(&m, "454 4.7.0 TLS currently unavailable");
	has(&m, "TLS error on connection from (c.example) [192.0.2.1] /x.pem: No such file");
	feed(&m, "NOOP\r\n");
	has(&m, "250 2.0.0 OK");
	mock_clear(&m);

	/* The handshake fails: nothing more is said, and the not-QUIT ACL hears why. */
	begin(&m, TLS_F_ADVERTISE);
	m.server.settings.acl_stages |= 1u << ACL_NOTQUIT;
	session_start(&m.session);
	feed(&m, HELLO "STARTTLS\r\n");
	session_on_tls_ready(&m.session);
	buf_reset(&m.out);
	session_on_tls_failed(&m.session, "SSL_accept: wrong version number");
	assert_int_equal(m.stage, ACL_NOTQUIT);
	assert_string_equal(m.session.end_reason, "tls-failed");
	assert_true(mock_answer(&m));
	assert_int_equal(m.session.state, SESSION_CLOSING);
	assert_int_equal(m.out.len, 0);
	mock_clear(&m);

	/* It takes too long: the time of one command, whatever smtp_receive_timeout is. */
	begin(&m, TLS_F_ADVERTISE);
	m.server.settings.command_timeout_ms = 7000;
	session_start(&m.session);
	feed(&m, HELLO "STARTTLS\r\n");
	session_on_tls_ready(&m.session);
	assert_int_equal(m.session.deadline_ms, m.server.now_ms + 7000);
	m.server.now_ms += 7000;
	session_on_deadline(&m.session);
	assert_int_equal(m.session.state, SESSION_CLOSING);
	has(&m, "SSL_accept): timed out");
	mock_clear(&m);

	/* ALPN is asked for. */
	begin(&m, TLS_F_ADVERTISE | TLS_F_ALPN);
	session_start(&m.session);
	up(&m);
	assert_int_equal(m.session.state, SESSION_CLOSING);
	has(&m, "hosts_require_alpn");
	mock_clear(&m);
}

static void server_name(void **state)
{
	struct mock m;
	bool tainted = false;

	(void)state;
	begin(&m, TLS_F_ADVERTISE | TLS_F_SNI);
	session_start(&m.session);
	feed(&m, HELLO "STARTTLS\r\n");
	session_on_tls_ready(&m.session);
	session_on_tls_hello(&m.session, STR_LIT("a.example"));
	assert_int_equal(m.stage, ASK_TLS);
	assert_string_equal(fact(&m, "sni", &tainted), "a.example");
	assert_true(tainted);
	assert_true(mock_answer(&m));
	assert_true(m.tls_chosen);
	assert_int_equal(m.session.state, SESSION_TLS);
	session_on_tls_done(&m.session, &handshake);
	assert_int_equal(m.session.state, SESSION_COMMAND);
	mock_clear(&m);

	/* policyd has no answer: without certificate there is no handshake. */
	begin(&m, TLS_F_ADVERTISE | TLS_F_SNI);
	session_start(&m.session);
	feed(&m, HELLO "STARTTLS\r\n");
	session_on_tls_ready(&m.session);
	session_on_tls_hello(&m.session, STR_LIT("a.example"));
	session_on_acl(&m.session, NULL, false, "no answer in time");
	assert_false(m.tls_chosen);
	assert_int_equal(m.session.state, SESSION_CLOSING);
	mock_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offered), cmocka_unit_test(forgets), cmocka_unit_test(protocols), cmocka_unit_test(remembers), cmocka_unit_test(on_connect),
		cmocka_unit_test(fails), cmocka_unit_test(server_name),
	};

	return cmocka_run_group_tests_name("smtpd_tls", tests, NULL, NULL);
}

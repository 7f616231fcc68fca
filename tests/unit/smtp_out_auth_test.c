/* SPDX-License-Identifier: ISC */
/* AUTH as smtp-out speaks it: what goes out for which challenge, which authenticator is next, what a failure means. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "smtp-out/smtp_client.h"

static struct str plain_send[] = { { "\0u\0p", 4, false } };
static struct str login_send[] = { STR_LIT(""), STR_LIT("u"), STR_LIT("p") };
static struct str cram_send[] = { STR_LIT("tim"), STR_LIT("tanstaaftanstaaf") };
static struct str scram_send[] = { STR_LIT("u"), STR_LIT("p"), STR_LIT("") };
static struct str external_send[] = { STR_LIT("") };

static const struct ipc_client_auth auths[] = {
	{ .name = STR_LIT("scram"), .driver = STR_LIT("gsasl"), .mechanism = STR_LIT("SCRAM-SHA-256"), .send = { scram_send, 3 }, .clear = true },
	{ .name = STR_LIT("tls_only"), .driver = STR_LIT("plaintext"), .mechanism = STR_LIT("PLAIN"), .send = { login_send, 3 }, .tls = true },
	{ .name = STR_LIT("cram"), .driver = STR_LIT("cram_md5"), .mechanism = STR_LIT("CRAM-MD5"), .send = { cram_send, 2 }, .clear = true, .tls = true },
	{ .name = STR_LIT("plain"), .driver = STR_LIT("plaintext"), .mechanism = STR_LIT("PLAIN"), .send = { plain_send, 1 }, .clear = true },
	{ .name = STR_LIT("login"), .driver = STR_LIT("plaintext"), .mechanism = STR_LIT("LOGIN"), .send = { login_send, 3 }, .clear = true, .ignore_base64 = true },
	{ .name = STR_LIT("ext"), .driver = STR_LIT("external"), .mechanism = STR_LIT("EXTERNAL"), .send = { external_send, 1 }, .clear = true },
	{ .name = STR_LIT("odd"), .driver = STR_LIT("plaintext"), .mechanism = STR_LIT("ODD"), .clear = true, .failed = STR_LIT("client_send: no such file") },
};

enum { TRY = 1, REQUIRE = 2, TLS = 4, FORCE = 8 };
#define MAIL "MAIL FROM:<s@x>|RCPT TO:<r@y>|DATA|"
#define MAIL_AUTH "MAIL FROM:<s@x> AUTH=a+2Bb@c|RCPT TO:<r@y>|DATA|"

static const struct dialogue {
	const char *name, *offer;
	int flags;
	const char *replies[6];
	const char *sent;                /* all behind EHLO, '|' for CR LF */
	const char *result;              /* of the recipient; NULL: not yet known */
} dialogues[] = {
	{ "not wanted", "AUTH PLAIN", 0, { NULL }, MAIL, NULL },
	{ "forced AUTH=", "DSN", FORCE, { NULL }, MAIL_AUTH, NULL },
	{ "not offered, try", "DSN", TRY, { NULL }, MAIL, NULL },
	{ "not offered, required", "DSN", REQUIRE, { NULL }, "QUIT|", "auth_failed authentication required but server did not advertise AUTH support" },
	{ "none in common", "AUTH GSSAPI", TRY | REQUIRE, { NULL }, "QUIT|", "auth_failed authentication required but no common mechanisms were found" },
	{ "plain", "AUTH PLAIN", TRY, { "235 ok" }, "AUTH PLAIN AHUAcA==|" MAIL_AUTH, NULL },
	{ "order of the configuration", "AUTH PLAIN CRAM-MD5", TRY, { "504 no", "235 ok" }, "AUTH CRAM-MD5|AUTH PLAIN AHUAcA==|" MAIL_AUTH, NULL },
	{ "CRAM-MD5", "auth cram-md5", REQUIRE, { "334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+", "235 ok" },
	  "AUTH CRAM-MD5|dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw|" MAIL_AUTH, NULL },
	{ "CRAM-MD5 without end", "AUTH CRAM-MD5", TRY, { "334 YQ==", "334 YQ==", "501 cancelled" }, NULL, NULL },
	{ "challenge that is no base64", "AUTH CRAM-MD5", REQUIRE, { "334 !", "501 ok" }, "AUTH CRAM-MD5|*|QUIT|",
	  "auth_failed authentication required but authentication attempt(s) failed" },
	{ "login", "AUTH LOGIN", TRY, { "334 !", "334 !", "235 ok" }, "AUTH LOGIN|dQ==|cA==|" MAIL_AUTH, NULL },
	{ "login asks for more", "AUTH LOGIN", TRY, { "334 ", "334 ", "334 ", "235 what" }, "AUTH LOGIN|dQ==|cA==|*|" MAIL, NULL },
	{ "external", "AUTH EXTERNAL", TRY, { "235 ok" }, "AUTH EXTERNAL =|" MAIL_AUTH, NULL },
	{ "all refused, try", "AUTH PLAIN LOGIN", TRY, { "535 no", "535 no" }, "AUTH PLAIN AHUAcA==|AUTH LOGIN|" MAIL, NULL },
	{ "temporary", "AUTH PLAIN LOGIN", TRY, { "454 later" }, "AUTH PLAIN AHUAcA==|QUIT|", "auth_failed plain authenticator failed: 454 later" },
	{ "expansion had failed", "AUTH ODD", TRY, { NULL }, "QUIT|", "auth_failed client_send: no such file" },
	{ "TLS", "AUTH PLAIN", TRY | TLS, { "334 ", "334 ", "235 ok" }, "AUTH PLAIN|dQ==|cA==|" MAIL_AUTH, NULL },
	{ "SCRAM refused: the next one", "AUTH SCRAM-SHA-256 CRAM-MD5", TRY, { "535 no", "235 ok" }, NULL, NULL },
	{ "SCRAM, and the server says something else", "AUTH SCRAM-SHA-256 PLAIN", TRY, { "334 cj1u", "501 cancelled" }, NULL,
	  "auth_failed scram authenticator failed: the server's first message is none of SCRAM" },
	{ "SCRAM, and the server says no base64", "AUTH SCRAM-SHA-256 PLAIN", TRY, { "334 !", "501 cancelled" }, NULL,
	  "auth_failed scram authenticator failed: the server's first message is none of SCRAM" },
	{ "SCRAM, and the server lets us in without proof", "AUTH SCRAM-SHA-256 PLAIN", TRY, { "235 welcome" }, NULL,
	  "auth_failed scram authenticator failed: the server has not proved that it knows the password" },
	{ "closed", "AUTH PLAIN", TRY, { "421 bye" }, "AUTH PLAIN AHUAcA==|", "lost_connection SMTP error from remote mail server after AUTH PLAIN: 421 bye" },
};

static void test_dialogues(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof *dialogues; i++) {
		const struct dialogue *d = &dialogues[i];
		struct arena arena = ARENA_INIT;
		struct smtp_rcpt rcpt = { .addr = STR_LIT("r@y") };
		struct smtp_txn txn = { .arena = &arena, .sender = STR_LIT("s@x"), .rcpts = &rcpt, .n_rcpts = 1 };
		struct smtp_profile profile = { .helo = STR_LIT("me"), .auth = auths, .n_auth = 7, .auth_try = d->flags & TRY, .auth_require = d->flags & REQUIRE,
			.auth_sender_force = d->flags & FORCE, .auth_sender = STR_LIT("a+b@c"), .size_addition = -1 };
		char line[300], sent[600] = "", result[300] = "";
		struct smtp_client c;
		size_t n = 0;

		smtp_client_init(&c, &profile, &txn);
		c.tls = d->flags & TLS;
		smtp_client_input(&c, "220 a\r\n", 7);
		smtp_client_sent(&c, c.out.len);
		snprintf(line, sizeof line, "250-a\r\n250-PIPELINING\r\n250 %s\r\n", d->offer);
		smtp_client_input(&c, line, strlen(line));
		for (unsigned k = 0; k < 6 && d->replies[k]; k++) {
			snprintf(line, sizeof line, "%s\r\n", d->replies[k]);
			smtp_client_input(&c, line, strlen(line));
		}
		for (size_t k = 0; k < c.out.len && n < sizeof sent - 1; k++)
			if (c.out.p[k] != '\n')
				sent[n++] = c.out.p[k] == '\r' ? '|' : c.out.p[k];
		if (d->sent && strcmp(sent, d->sent))
			fail_msg("%s: sent \"%s\", want \"%s\"", d->name, sent, d->sent);
		if (rcpt.result)
			snprintf(result, sizeof result, "%s %.*s", retry_error_name(rcpt.error), STR_FMT(rcpt.text));
		if (strcmp(result, d->result ? d->result : ""))
			fail_msg("%s: result \"%s\", want \"%s\"", d->name, result, d->result ? d->result : "");
		if (rcpt.result && (rcpt.result != DELIVERY_DEFERRED || !rcpt.host_error))
			fail_msg("%s: not deferred for the host's sake", d->name);
		smtp_client_clear(&c);
		arena_clear(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_dialogues) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

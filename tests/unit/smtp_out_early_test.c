/* SPDX-License-Identifier: ISC */
/* What is remembered of EHLO: its text; what a client makes of it; and what becomes of a group when the server has another mind now. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/ipc/enums.h"
#include "smtp-out/out_early.h"
#include "smtp-out/smtp_early.h"

#define PIPE "PIPELINING,PIPECONNECT"

static const struct { const char *text, *again; } memories[] = {
	{ "1 5 - -", "1 5 - -" },
	{ "1 5 ESMTP -", "1 5 ESMTP -" },
	{ "1 5 " PIPE " " PIPE, "1 5 " PIPE " " PIPE },
	{ "1 5 PIPELINING,X_PIPE_CONNECT -", "1 5 " PIPE " -" },
	{ "1 5 SIZE=10,pipelining,LATER=5 -", "1 5 PIPELINING,SIZE=10 -" },
	{ "1 5 SIZE -", "1 5 SIZE -" },
	{ "1 5 - LIMITS=5+10+0", "1 5 - LIMITS=5+10+0" },
	{ "1 5 LIMITS=1 -", NULL }, { "1 5 LIMITS=1+2+3+4 -", NULL }, { "1 5 LIMITS=1++3 -", NULL }, { "1 5 LIMITS=1+2+4294967296 -", NULL },
	{ "1 5 AUTH=PLAIN+CRAM-MD5+* -", "1 5 AUTH=PLAIN+CRAM-MD5+* -" },
	{ "1 5 AUTH=A1234567890123456789+B1234567890123456789+C1234567890123456789+D1234567890123456789+E1234567890123456789+F1234567890123456789+GH -",
	  "1 5 AUTH=A1234567890123456789+B1234567890123456789+C1234567890123456789+D1234567890123456789+E1234567890123456789+F1234567890123456789+* -" },
	{ "", NULL }, { "1", NULL }, { "1 5", NULL }, { "1 5 -", NULL }, { "1 5 - - x", NULL }, { "2 5 - -", NULL }, { "1 -5 - -", NULL }, { "1 5  -", NULL },
	{ "1 5 SIZE=x -", NULL }, { "1 5 SIZE=99999999999999999999999 -", NULL }, { "1 5 AUTH=PL\r\nAIN -", NULL }, { "1 5 AUTH=A23456789012345678901 -", NULL },
	{ "1 5 AUTH=+ -", NULL },
};

static void test_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof memories / sizeof *memories; i++) {
		struct smtp_memory m;
		struct buf b = BUF_INIT;

		if (smtp_memory_parse(str_of(memories[i].text), &m) != (memories[i].again != NULL))
			fail_msg("\"%s\" is %staken", memories[i].text, memories[i].again ? "not " : "");
		if (!memories[i].again)
			continue;
		smtp_memory_format(&m, &b);
		if (strcmp(buf_cstr(&b), memories[i].again))
			fail_msg("\"%s\": got \"%s\", want \"%s\"", memories[i].text, buf_cstr(&b), memories[i].again);
		buf_clear(&b);
	}
}

enum { AUTH = 1, TLS = 2, TLS_MUST = 4, LMTP = 8, PLAIN = 16 /* no pipelining wanted */, PROBE = 32, BIG = 64, CHUNK = 128, MORE = 256, UTF8 = 512, DSN = 1024, EIGHTBIT = 2048,
	REQUIRE = 4096, UTF8_TO = 8192 /* an address that needs SMTPUTF8, whether the message is marked or not */, HEADER = 16384, TWO = 32768 };

/* `sent`: before anything has come, "|" for CRLF. `end`: what the replies come to. */
static const struct group {
	const char *name, *memory;
	unsigned flags;
	const char *sent, *replies, *end;
} groups[] = {
#define EHLO "EHLO me|"
#define MAIL "MAIL FROM:<s@x>|RCPT TO:<r@y>|"
#define REST EHLO MAIL "DATA|"
#define OFFER "220 hi|250-x|250-PIPELINING|250 PIPECONNECT|"
	{ "nothing known", "1 5 - -", 0, "", "", "" },
	{ "no PIPECONNECT", "1 5 PIPELINING -", 0, "", "", "" },
	{ "no PIPELINING", "1 5 PIPECONNECT -", 0, "", "", "" },
	{ "LMTP", "1 5 " PIPE " -", LMTP, "", "", "" },
	{ "not wanted", "1 5 " PIPE " -", PLAIN, "", "", "" },
	{ "the whole group", "1 5 " PIPE " -", 0, REST, OFFER "250 ok|250 ok|354 go|", "body" },
	{ "one rejected", "1 5 " PIPE " -", 0, REST, OFFER "250 ok|550 no|503 no|", "failed" },
	{ "MAIL rejected", "1 5 " PIPE " -", 0, REST, OFFER "550 ok|503 no|503 no|", "failed" },
	{ "a callout", "1 5 " PIPE " -", PROBE, EHLO MAIL, OFFER "250 ok|550 no|", "failed" },
	{ "too big for what is known", "1 5 " PIPE ",SIZE=10 -", BIG, EHLO, "220 hi|250-x|250-PIPELINING|250-SIZE 100000|250 PIPECONNECT|", "goes on learned" },
	{ "SMTPUTF8 not known", "1 5 " PIPE " -", UTF8, EHLO, OFFER, "goes on" },
	{ "SMTPUTF8 known, and not needed", "1 5 " PIPE ",SMTPUTF8 -", UTF8, REST, "220 hi|250-x|250-PIPELINING|250-SMTPUTF8|250 PIPECONNECT|250 ok|250 ok|354 go|", "body" },
	{ "SMTPUTF8 needed by the header", "1 5 " PIPE ",SMTPUTF8 -", UTF8 | HEADER, EHLO "MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<r@y>|DATA|", OFFER, "again learned" },
	{ "SMTPUTF8 needed by an address", "1 5 " PIPE ",SMTPUTF8 -", UTF8 | UTF8_TO, EHLO "MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<\303\274@y>|DATA|",
	  "220 hi|250-x|250-PIPELINING|250-SMTPUTF8|250 PIPECONNECT|250 ok|250 ok|354 go|", "body" },
	{ "SMTPUTF8 needed by an address that is new", "1 5 " PIPE ",SMTPUTF8 -", UTF8_TO, EHLO "MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<\303\274@y>|DATA|",
	  "220 hi|250-x|250-PIPELINING|250-SMTPUTF8|250 PIPECONNECT|250 ok|250 ok|354 go|", "body" },
	{ "no SMTPUTF8, but an ASCII form", "1 5 " PIPE " -", UTF8_TO, EHLO "MAIL FROM:<s@x>|RCPT TO:<xn--tda@y>|DATA|", OFFER "250 ok|250 ok|354 go|", "body" },
	{ "two recipients", "1 5 " PIPE ",LIMITS=0+2+0 -", TWO, EHLO MAIL "RCPT TO:<q@z>|DATA|",
	  "220 hi|250-x|250-PIPELINING|250-LIMITS RCPTMAX=2|250 PIPECONNECT|250 ok|250 ok|250 ok|354 go|", "body" },
	{ "one recipient at a time", "1 5 " PIPE ",LIMITS=0+1+0 -", TWO, EHLO, "220 hi|250-x|250-PIPELINING|250-LIMITS RCPTMAX=1|250 PIPECONNECT|", "goes on" },
	{ "one domain at a time", "1 5 " PIPE ",LIMITS=0+0+1 -", TWO, EHLO, "220 hi|250-x|250-PIPELINING|250-LIMITS RCPTDOMAINMAX=1|250 PIPECONNECT|", "goes on" },
	{ "one recipient at a time now", "1 5 " PIPE " -", TWO, EHLO MAIL "RCPT TO:<q@z>|DATA|",
	  "220 hi|250-x|250-PIPELINING|250-LIMITS RCPTMAX=1|250 PIPECONNECT|", "again learned" },
	{ "STARTTLS", "1 5 " PIPE ",STARTTLS -", TLS, EHLO "STARTTLS|", "220 hi|250-x|250-PIPELINING|250-STARTTLS|250 PIPECONNECT|220 go|", "shake" },
	{ "STARTTLS unwanted", "1 5 " PIPE ",STARTTLS -", 0, REST, "220 hi|250-x|250-PIPELINING|250-STARTTLS|250 PIPECONNECT|250 ok|250 ok|354 go|", "body" },
	{ "TLS must be, and was not offered", "1 5 " PIPE " -", TLS_MUST, EHLO, OFFER, "quit" },
	{ "STARTTLS is offered now", "1 5 " PIPE " -", TLS, REST, "220 hi|250-x|250-PIPELINING|250-STARTTLS|250 PIPECONNECT|", "again learned" },
	{ "STARTTLS is not offered any more", "1 5 " PIPE ",STARTTLS -", TLS, EHLO "STARTTLS|", OFFER, "again learned" },
	{ "AUTH", "1 5 " PIPE ",AUTH=PLAIN -", AUTH, EHLO "AUTH PLAIN eA==|", "220 hi|250-x|250-PIPELINING|250-AUTH PLAIN|250 PIPECONNECT|235 in|", "goes on" },
	{ "AUTH is not offered any more", "1 5 " PIPE ",AUTH=PLAIN -", AUTH, EHLO "AUTH PLAIN eA==|", OFFER, "again learned" },
	{ "AUTH with another one", "1 5 " PIPE ",AUTH=PLAIN -", AUTH, EHLO "AUTH PLAIN eA==|", "220 hi|250-x|250-PIPELINING|250-AUTH LOGIN|250 PIPECONNECT|", "again learned" },
	{ "AUTH is offered now", "1 5 " PIPE " -", AUTH, REST, "220 hi|250-x|250-PIPELINING|250-AUTH PLAIN|250 PIPECONNECT|", "again learned" },
	{ "more mechanisms than are kept", "1 5 " PIPE ",AUTH=GSSAPI+* -", AUTH, EHLO, "220 hi|250-x|250-PIPELINING|250-AUTH PLAIN|250 PIPECONNECT|", "goes on learned" },
	{ "AUTH required, and not known", "1 5 " PIPE " -", AUTH | REQUIRE, EHLO, OFFER, "quit" },
	{ "BDAT", "1 5 " PIPE ",CHUNKING -", CHUNK, EHLO MAIL "BDAT 5 LAST|", "220 hi|250-x|250-PIPELINING|250-CHUNKING|250 PIPECONNECT|250 ok|250 ok|250 got|", "delivered" },
	{ "BDAT, nobody accepted", "1 5 " PIPE ",CHUNKING -", CHUNK, EHLO MAIL "BDAT 5 LAST|",
	  "220 hi|250-x|250-PIPELINING|250-CHUNKING|250 PIPECONNECT|250 ok|550 no|503 no|", "failed" },
	{ "BDAT in vain", "1 5 " PIPE ",CHUNKING -", CHUNK, EHLO MAIL "BDAT 5 LAST|", "554 hi|503 x|503 x|503 x|503 x|", "again forget" },
	{ "BDAT in vain, but taken", "1 5 " PIPE ",CHUNKING -", CHUNK, EHLO MAIL "BDAT 5 LAST|", "220 hi|550 x|250 x|250 x|250 got|", "delivered forget" },
	{ "CHUNKING is not offered any more", "1 5 " PIPE ",CHUNKING -", CHUNK, EHLO MAIL "BDAT 5 LAST|", OFFER "250 ok|250 ok|500 what|", "again learned" },
	{ "8BITMIME is not offered any more", "1 5 " PIPE ",8BITMIME -", EIGHTBIT, EHLO "MAIL FROM:<s@x> BODY=8BITMIME|RCPT TO:<r@y>|DATA|", OFFER, "again learned" },
	{ "8BITMIME is not offered any more, nor needed", "1 5 " PIPE ",8BITMIME -", 0, REST, OFFER "250 ok|250 ok|354 go|", "body learned" },
	{ "DSN is not offered any more", "1 5 " PIPE ",DSN -", DSN, EHLO "MAIL FROM:<s@x> RET=HDRS|RCPT TO:<r@y>|DATA|", OFFER, "again learned" },
	{ "no offer any more", "1 5 " PIPE " -", 0, REST, "220 hi|250-x|250 PIPELINING|", "again forget" },
	{ "no offer any more, nothing sent", "1 5 " PIPE " -", UTF8, EHLO, "220 hi|250-x|250 PIPELINING|", "goes on forget" },
	{ "greets 554", "1 5 " PIPE " -", 0, REST, "554 no|", "again forget" },
	{ "greets 421", "1 5 " PIPE " -", 0, REST, "421 no|", "again forget" },
	{ "EHLO refused", "1 5 " PIPE " -", 0, REST, "220 hi|500 what|", "again forget" },
	{ "closes", "1 5 " PIPE " -", 0, REST, "", "again forget" },
	{ "closes at RCPT", "1 5 " PIPE " -", 0, REST, OFFER "250 ok|", "again forget" },
	{ "garbage", "1 5 " PIPE " -", 0, REST, "hello|", "again forget" },
	{ "garbage at RCPT", "1 5 " PIPE " -", 0, REST, OFFER "250 ok|354 go|", "again forget" },
	{ "421 at MAIL", "1 5 " PIPE " -", 0, REST, OFFER "421 later|", "deferred" },
};

static void feed(struct smtp_client *c, const char *replies, bool bytewise)
{
	for (; *replies; replies++) {
		char crlf[2] = { '\r', '\n' };

		if (*replies != '|')
			smtp_client_input(c, replies, 1);
		else if (bytewise)
			smtp_client_input(c, crlf, 1), smtp_client_input(c, crlf + 1, 1);
		else
			smtp_client_input(c, crlf, 2);
	}
}

static const char *end_of(const struct smtp_client *c, const struct smtp_txn *t)
{
	if (c->early_failed)
		return "again";
	if (t->rcpts[0].result == DELIVERY_OK)
		return "delivered";
	if (c->recv == SMTP_QUIT && t->host_error)
		return "quit";
	if (t->rcpts[0].result)
		return t->rcpts[0].result == DELIVERY_FAILED ? "failed" : "deferred";
	return c->phase == SMTP_BODY ? "body" : c->phase == SMTP_SHAKE ? "shake" : "goes on";
}

static void group_run(const struct group *g, bool bytewise)
{
	const struct ipc_client_auth auth[] = {
		{ .name = STR_LIT("plain"), .mechanism = STR_LIT("PLAIN"), .driver = STR_LIT("plaintext"), .clear = true, .send = { (struct str[]){ STR_LIT("x") }, 1 } },
		{ .name = STR_LIT("login"), .mechanism = STR_LIT("LOGIN"), .driver = STR_LIT("plaintext"), .clear = true },
	};
	struct smtp_profile profile = { .helo = STR_LIT("me"), .lmtp = g->flags & LMTP, .avoid_pipelining = g->flags & PLAIN, .auth = auth, .n_auth = 2,
		.auth_try = g->flags & AUTH, .auth_require = g->flags & REQUIRE, .try_chunking = true, .size_addition = -1 };
	struct arena a = ARENA_INIT;
	struct smtp_rcpt rcpts[] = { { .addr = g->flags & UTF8_TO ? STR_LIT("\303\274@y") : STR_LIT("r@y") }, { .addr = STR_LIT("q@z") } }, *rcpt = rcpts;
	struct smtp_txn txn = { .arena = &a, .sender = STR_LIT("s@x"), .size = g->flags & BIG ? 1000 : 5, .utf8 = g->flags & UTF8,
		.utf8_header = g->flags & HEADER, .downconvert = -1, .eightbit = g->flags & EIGHTBIT,
		.probe = g->flags & PROBE, .ret = g->flags & DSN ? STR_LIT("HDRS") : STR_NULL, .rcpts = rcpts, .n_rcpts = g->flags & TWO ? 2 : 1 };
	struct smtp_memory memory;
	struct smtp_client c;
	char want[1024], got[64];
	size_t n = 0;

	assert_true(smtp_memory_parse(str_of(g->memory), &memory));
	smtp_client_init(&c, &profile, &txn);
	c.memory = &memory;
	c.tls_want = g->flags & TLS_MUST ? SMTP_TLS_MUST : g->flags & TLS ? SMTP_TLS_TRY : SMTP_TLS_NO;
	if (smtp_client_early(&c) != (*g->sent != 0))
		fail_msg("%s: something else goes early", g->name);
	if (c.chunk_wanted != ((g->flags & CHUNK) != 0))
		fail_msg("%s: the content is asked for, or not", g->name);
	if (c.chunk_wanted)
		smtp_client_chunk_early(&c, 5);
	for (const char *p = g->sent; *p; p++) {
		if (*p == '|')
			want[n++] = '\r';
		want[n++] = *p == '|' ? '\n' : *p;
	}
	if (c.out.len != n || (n && memcmp(c.out.p, want, n)))
		fail_msg("%s: sent \"%.*s\"", g->name, (int)c.out.len, c.out.p);
	smtp_client_sent(&c, c.out.len);
	feed(&c, g->replies, bytewise);
	if (*g->sent && !*g->replies)
		smtp_client_lost(&c, SMTP_LOST_CLOSED, NULL);
	else if (c.early && c.phase == SMTP_BUSY)
		smtp_client_lost(&c, SMTP_LOST_CLOSED, NULL);
	snprintf(got, sizeof got, "%s%s%s", *g->sent ? end_of(&c, &txn) : "", c.learned && !c.forget ? " learned" : "", c.forget ? " forget" : "");
	if (strcmp(got, g->end) && (strcmp(got, "goes on") || *g->end))
		fail_msg("%s: got \"%s\", want \"%s\"", g->name, got, g->end);
	if (c.early_failed && (rcpt->result || txn.host_error))
		fail_msg("%s: a verdict, and yet to be tried again", g->name);
	smtp_client_clear(&c);
	arena_clear(&a);
}

static void test_groups(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
		group_run(&groups[i], false);
		group_run(&groups[i], true);
	}
}

/* The first connection remembers, the second one is told of it by a text; inside TLS likewise. */
static void test_learn(void **state)
{
	struct smtp_profile profile = { .helo = STR_LIT("me"), .size_addition = -1 };
	struct arena a = ARENA_INIT;
	struct smtp_rcpt rcpt = { .addr = STR_LIT("r@y") };
	struct smtp_txn txn = { .arena = &a, .sender = STR_LIT("s@x"), .rcpts = &rcpt, .n_rcpts = 1 };
	struct smtp_memory memory = { 0 };
	struct smtp_client c;
	struct buf b = BUF_INIT;

	(void)state;
	smtp_client_init(&c, &profile, &txn);
	c.memory = &memory;
	c.tls_want = SMTP_TLS_TRY;
	assert_false(smtp_client_early(&c));
	feed(&c, "220 hi|250-x|250-PIPELINING|250-STARTTLS|250-AUTH GSSAPI|250 X_PIPE_CONNECT|", false);
	assert_true(c.learned);
	c.learned = false;
	smtp_client_sent(&c, c.out.len);
	feed(&c, "220 go|", false);
	assert_int_equal(c.phase, SMTP_SHAKE);
	smtp_client_tls_done(&c);
	feed(&c, "250-x|250-PIPELINING|250-SIZE 7|250 PIPECONNECT|", false);
	assert_true(c.learned && !c.forget);
	smtp_memory_format(&memory, &b);
	assert_string_equal(buf_cstr(&b), "1 0 PIPELINING,STARTTLS,AUTH,PIPECONNECT PIPELINING,SIZE=7,PIPECONNECT");
	buf_clear(&b);
	smtp_client_clear(&c);
	arena_clear(&a);
}

/* Content that a server which does not take it would obey is not sent ahead. */
static void test_harmless(void **state)
{
	static const struct { const char *content; bool harmless; } texts[] = {
		{ "Received: from a\r\n\tby b\r\n\tid c;\r\n\tdate\r\nSubject: x\r\n\r\n", true }, { "received:\r\n a\r\n b\r\n\tc", true },
		{ "Received: by mx;\r\n\tdate\r\n\r\nEHLO x\r\n", false }, { "Received: from a\r\n\tby b\r\n\tdate\r\nMAIL FROM:<>\r\n", false },
		{ "Received: from a\r\n\tby b\r\n\r\n\tdate\r\n", false }, { "EHLO x\r\n\ta\r\n\tb\r\n\tc\r\n", false }, { "", false }, { "\r\n", false },
		{ "Received: a\n\n\n\n", false }, { "Received: from a\r\n\tb\r\n\tc\r\n", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (out_early_harmless(str_of(texts[i].content)) != texts[i].harmless)
			fail_msg("row %zu", i);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_harmless), cmocka_unit_test(test_memory), cmocka_unit_test(test_groups), cmocka_unit_test(test_learn) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

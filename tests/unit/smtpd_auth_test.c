/* SPDX-License-Identifier: ISC */
/* AUTH as smtpd speaks it: every reply, what policyd is asked, what the log shows and what it must not; in pieces, and octet by octet. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/mail/base64.h"
#include "tests/unit/smtpd_mock.h"

#define HELLO "EHLO c.example\r\n"
#define GOOD "Z29vZA=="      /* what the mock lets in */
#define BAD "aHVudGVyMg=="
#define LATER "bGF0ZXI="

enum { NONE = 1, ACL = 2, SYNC = 4, CLOSED = 8, MAILAUTH = 16 };

static const struct dialogue {
	const char *name, *in;
	int flags;
	const char *codes;
	const char *has, *has_not;       /* in replies or log */
} dialogues[] = {
	{ "offered", HELLO, 0, "220 250", "AUTH PLAIN LOGIN\r\n", NULL },
	{ "not offered", HELLO "AUTH PLAIN\r\n", NONE, "220 250 503", "AUTH command used when not advertised", "250-AUTH" },
	{ "before EHLO", "AUTH PLAIN " GOOD "\r\n", 0, "220 503", "not advertised", GOOD },
	{ "after HELO", "HELO c.example\r\nAUTH PLAIN\r\n", 0, "220 250 503", "not advertised", NULL },
	{ "initial response", HELLO "AUTH PLAIN " GOOD "\r\n", 0, "220 250 235", "235 2.7.0 Authentication succeeded", GOOD },
	{ "small letters, blanks", HELLO "auth   plain   " GOOD "  \r\n", 0, "220 250 235", NULL, NULL },
	{ "one challenge", HELLO "AUTH PLAIN\r\n" GOOD "\r\n", 0, "220 250 334 235", "334 VXNlcm5hbWU6\r\n", NULL },
	{ "two challenges", HELLO "AUTH LOGIN\r\n" BAD "\r\n" GOOD "\r\n", 0, "220 250 334 334 235", "334 UGFzc3dvcmQ6\r\n", NULL },
	{ "an empty response", HELLO "AUTH LOGIN\r\n\r\n" GOOD "\r\n", 0, "220 250 334 334 235", NULL, NULL },
	{ "empty initial response", HELLO "AUTH PLAIN =\r\n", 0, "220 250 535", NULL, NULL },
	{ "wrong", HELLO "AUTH PLAIN " BAD "\r\nNOOP\r\n", 0, "220 250 535 250",
	  "drv authenticator failed for (c.example) [192.0.2.1]: 535 Incorrect authentication data (set_id=joe)", BAD },
	{ "temporary", HELLO "AUTH PLAIN " LATER "\r\nNOOP\r\n", 0, "220 250 435 250", "435 4.7.0 Unable to authenticate at present", LATER },
	{ "data that is refused", HELLO "AUTH PLAIN b2Rk\r\n", 0, "220 250 501", NULL, NULL },
	{ "initial response not wanted", HELLO "AUTH PLAIN aW5pdGlhbA==\r\n", 0, "220 250 553", "Initial data not expected", NULL },
	{ "policyd does not know it", HELLO "AUTH PLAIN dW5rbm93bg==\r\n", 0, "220 250 504", NULL, NULL },
	{ "lost workers", HELLO "AUTH PLAIN bG9zdA==\r\nNOOP\r\n", 0, "220 250 435 250", NULL, NULL },
	{ "lost with a step", HELLO "AUTH LOGIN\r\nbG9zdA==\r\nNOOP\r\n", 0, "220 250 334 435 250", NULL, NULL },
	{ "unknown mechanism", HELLO "AUTH X-FOO " GOOD "\r\n", 0, "220 250 504", "504 5.5.4 X-FOO authentication mechanism not supported", GOOD },
	{ "part of a name", HELLO "AUTH PLAI\r\n", 0, "220 250 504", NULL, NULL },
	{ "no mechanism", HELLO "AUTH\r\nAUTH  \r\n", 0, "220 250 501 501", NULL, NULL },
	{ "not base64", HELLO "AUTH PLAIN !!!!\r\nNOOP\r\n", 0, "220 250 501 250", "501 5.5.2 Invalid base64 data", "!!!!" },
	{ "base64 of the wrong length", HELLO "AUTH PLAIN YWJ\r\n", 0, "220 250 501", NULL, NULL },
	{ "base64 with bits left over", HELLO "AUTH PLAIN YWJ=\r\n", 0, "220 250 501", NULL, NULL },
	{ "a second argument", HELLO "AUTH PLAIN " GOOD " " GOOD "\r\n", 0, "220 250 501", NULL, NULL },
	{ "response that is no base64", HELLO "AUTH LOGIN\r\nx y\r\nNOOP\r\n", 0, "220 250 334 501 250", NULL, "x y" },
	{ "= is no response", HELLO "AUTH LOGIN\r\n=\r\nNOOP\r\n", 0, "220 250 334 501 250", NULL, NULL },
	{ "cancelled", HELLO "AUTH LOGIN\r\n*\r\nAUTH PLAIN " GOOD "\r\n", 0, "220 250 334 501 235", "501 5.7.0 Authentication cancelled", NULL },
	{ "bare LF", HELLO "AUTH LOGIN\r\n" GOOD "\nMAIL FROM:<a@b>\r\nNOOP\r\n", 0, "220 250 334 500 250", NULL, GOOD },
	{ "twice", HELLO "AUTH PLAIN " GOOD "\r\nAUTH PLAIN " GOOD "\r\n", 0, "220 250 235 503", "503 5.5.1 already authenticated", NULL },
	{ "not offered again", HELLO "AUTH PLAIN " GOOD "\r\n" HELLO "AUTH PLAIN\r\n", 0, "220 250 235 250 503", NULL, NULL },
	{ "in a transaction", HELLO "MAIL FROM:<a@b>\r\nAUTH PLAIN " GOOD "\r\n", 0, "220 250 250 503", "not permitted in mail transaction", GOOD },
	{ "three failures", HELLO "AUTH PLAIN " BAD "\r\nAUTH PLAIN !\r\nAUTH LOGIN\r\n*\r\nNOOP\r\n", CLOSED, "220 250 535 501 334 501",
	  "dropped: too many authentication failures", NULL },
	{ "temporary ones are not counted", HELLO "AUTH PLAIN " LATER "\r\nAUTH PLAIN " LATER "\r\nAUTH PLAIN " LATER "\r\nAUTH PLAIN " LATER "\r\nNOOP\r\n", 0,
	  "220 250 435 435 435 435 250", NULL, NULL },
	{ "more in the packet", HELLO "AUTH PLAIN " BAD "\r\nNOOP\r\n", SYNC | CLOSED, "220 250 554", "rejected \"AUTH PLAIN\"", BAD },
	{ "a response in the packet", HELLO "AUTH PLAIN\r\n" BAD "\r\n", SYNC | CLOSED, "220 250 554", "(14 octets, not shown)", BAD },
	{ "AUTH behind another", HELLO "NOOP\r\nauth PLAIN " BAD "\r\n", SYNC | CLOSED, "220 250 554", "octets, not shown)", BAD },
	{ "ACL", HELLO "AUTH PLAIN " GOOD "\r\n", ACL, "220 250 235", NULL, NULL },
	{ "message", HELLO "AUTH PLAIN " GOOD "\r\nMAIL FROM:<a@b>\r\nRCPT TO:<r@x>\r\nDATA\r\nx\r\n.\r\n", 0, "220 250 235 250 250 354 250", "esmtpa", NULL },
	{ "rejected", HELLO "AUTH PLAIN " GOOD "\r\nMAIL FROM:<a@b>\r\nRCPT TO:<deny@x>\r\n", 0, "220 250 235 250 550", "F=<a@b> A=drv:joe rejected RCPT <deny@x>", NULL },

	{ "AUTH= of a stranger", HELLO "MAIL FROM:<a@b> AUTH=c@d\r\n", 0, "220 250 250", "ignoring AUTH=c@d from H=(c.example) [192.0.2.1] (client not authenticated)", NULL },
	{ "AUTH=", HELLO "AUTH PLAIN " GOOD "\r\nMAIL FROM:<a@b> AUTH=c+2Bx@d\r\n", 0, "220 250 235 250", NULL, "ignoring" },
	{ "AUTH=<>", HELLO "MAIL FROM:<a@b> AUTH=<>\r\n", 0, "220 250 250", NULL, "ignoring" },
	{ "malformed AUTH=", HELLO "MAIL FROM:<a@b> AUTH=c+4\r\nMAIL FROM:<a@b> AUTH=+0A\r\n", 0, "220 250 501 501", "invalid data for AUTH", NULL },
	{ "AUTH= after HELO", "HELO c.example\r\nMAIL FROM:<a@b> AUTH=c@d\r\n", 0, "220 250 555", NULL, NULL },
	{ "AUTH= and the ACL", HELLO "MAIL FROM:<a@b> AUTH=c@d\r\n", MAILAUTH, "220 250 250", NULL, "ignoring" },
};

static void codes(struct str text, char *out, size_t room)
{
	struct str line;

	*out = '\0';
	while (text.len && str_split(&text, '\n', &line))
		if (line.len > 3 && line.p[3] == ' ')
			snprintf(out + strlen(out), room - strlen(out), "%s%.3s", *out ? " " : "", line.p);
}

static bool found(const struct mock *m, const char *what)
{
	return str_find_str(buf_str(&m->out), str_of(what)) >= 0 || str_find_str(buf_str(&m->log), str_of(what)) >= 0 ||
		str_find_str(buf_str(&m->edits), str_of(what)) >= 0;
}

static void dialogue_run(const struct dialogue *d, size_t chunk, bool late)
{
	char got[400];
	struct mock m;

	mock_init(&m);
	if (!(d->flags & NONE))
		m.server.everyone->auth = mem_strdup("PLAIN LOGIN");
	m.server.settings.acl_stages |= d->flags & ACL ? 1u << ACL_AUTH : d->flags & MAILAUTH ? 1u << ACL_MAILAUTH : 0;
	m.server.settings.enforce_sync = d->flags & SYNC;
	m.server.settings.max_synprot = 5;
	session_start(&m.session);
	if (d->flags & SYNC) { /* EHLO by itself */
		mock_feed(&m, HELLO, strlen(HELLO), chunk, late);
		mock_feed(&m, d->in + strlen(HELLO), strlen(d->in) - strlen(HELLO), chunk, late);
	} else {
		mock_feed(&m, d->in, strlen(d->in), chunk, late);
	}
	codes(buf_str(&m.out), got, sizeof got);
	if (strcmp(got, d->codes))
		fail_msg("%s (by %zu): got \"%s\", want \"%s\"\n%.*s\n%.*s", d->name, chunk, got, d->codes, STR_FMT(buf_str(&m.out)), STR_FMT(buf_str(&m.log)));
	if (d->has && !found(&m, d->has))
		fail_msg("%s: no \"%s\" in\n%.*s\n%.*s", d->name, d->has, STR_FMT(buf_str(&m.out)), STR_FMT(buf_str(&m.log)));
	if (d->has_not && found(&m, d->has_not))
		fail_msg("%s: \"%s\" in\n%.*s\n%.*s", d->name, d->has_not, STR_FMT(buf_str(&m.out)), STR_FMT(buf_str(&m.log)));
	if ((d->flags & CLOSED) != (m.session.state == SESSION_CLOSING ? CLOSED : 0))
		fail_msg("%s: state %s", d->name, session_state_name(&m.session));
	mock_clear(&m);
}

static void test_dialogues(void **state)
{
	static const size_t chunks[] = { 100000, 1, 7 };

	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof *dialogues; i++)
		for (size_t k = 0; k < 3; k++)
			if (!k || !(dialogues[i].flags & SYNC))
				dialogue_run(&dialogues[i], chunks[k], k == 0);
}

/* Lines: 12288 octets with CR LF may be an AUTH command or a response; other commands stay at their limit. */
static void test_lengths(void **state)
{
	static const struct { const char *before; size_t octets; const char *codes; } rows[] = {
		{ "AUTH PLAIN ", 12288, "220 250 535 250" }, { "AUTH PLAIN ", 12292, "220 250 500 250" }, { "AUTH LOGIN\r\n", 12288, "220 250 334 334" },
		{ "AUTH LOGIN\r\n", 12289, "220 250 334 500 250" }, { "NOOP ", 2052, "220 250 500 250" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		bool response = strchr(rows[i].before, '\n');
		size_t fill = rows[i].octets - 2 - (response ? 0 : strlen(rows[i].before));
		struct buf in = BUF_INIT;
		char got[100];
		struct mock m;

		buf_printf(&in, "%s%s", HELLO, rows[i].before);
		for (size_t k = 0; k < fill / 4 * 4; k++)
			buf_addc(&in, 'A');
		for (size_t k = fill / 4 * 4; k < fill; k++)
			buf_addc(&in, response ? 'A' : ' ');
		if (response && fill % 4) /* still base64 where the length allows */
			in.len -= rows[i].octets == 12288 ? fill % 4 : 0;
		buf_adds(&in, "\r\nNOOP\r\n");
		if (response && rows[i].octets == 12288)
			in.len -= 6;
		mock_init(&m);
		m.server.everyone->auth = mem_strdup("PLAIN LOGIN");
		session_start(&m.session);
		mock_feed(&m, in.p, in.len, 4096, false);
		codes(buf_str(&m.out), got, sizeof got);
		if (strcmp(got, rows[i].codes))
			fail_msg("%s %zu: got \"%s\", want \"%s\"", rows[i].before, rows[i].octets, got, rows[i].codes);
		mock_clear(&m);
		buf_clear(&in);
	}
}

/* policyd's word at EHLO is the one that holds; a certificate may have been enough. */
static void test_helo(void **state)
{
	struct ipc_pair offer = { STR_LIT("auth"), STR_LIT("EXTERNAL"), false };
	struct ipc_acl_answer answer = { .verdict = ACL_ACCEPT, .settings = &offer, .n_settings = 1 };
	struct mock m;

	(void)state;
	for (int by_certificate = 0; by_certificate < 2; by_certificate++) {
		mock_init(&m);
		m.server.everyone->auth = mem_strdup("PLAIN");
		m.server.everyone->flags |= CLIENT_AUTH_LATER;
		session_start(&m.session);
		session_input(&m.session, HELLO, strlen(HELLO));
		assert_true(m.asked);
		assert_int_equal(m.stage, ACL_HELO);
		m.asked = false;
		if (by_certificate) {
			answer.auth_method = STR_LIT("cert");
			answer.auth_id = STR_LIT("joe");
		}
		session_on_acl(&m.session, &answer, false, NULL);
		assert_int_equal(found(&m, "AUTH EXTERNAL"), !by_certificate);
		assert_false(found(&m, "PLAIN"));
		assert_int_equal(m.session.auth_method != NULL, by_certificate);
		mock_clear(&m);
	}
}

static void test_base64(void **state)
{
	static const struct { const char *text, *plain; } rows[] = {
		{ "", "" }, { "YQ==", "a" }, { "YWI=", "ab" }, { "YWJj", "abc" }, { "YWJjZA==", "abcd" }, { "+/+/", "\xfb\xff\xbf" },
		{ "YQ=", NULL }, { "YQ", NULL }, { "Y", NULL }, { "YR==", NULL }, { "YWJ=", NULL }, { "====", NULL }, { "Y===", NULL }, { "YQ==YQ==", NULL },
		{ "Y Q=", NULL }, { "YWJj\n", NULL }, { "_-_-", NULL }, { "=", NULL }, { "YWJ\xff", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf plain = BUF_INIT, again = BUF_INIT;
		bool good = base64_decode(&plain, str_of(rows[i].text));

		if (good != (rows[i].plain != NULL) || (good && !str_is(buf_str(&plain), rows[i].plain)) || (!good && plain.len))
			fail_msg("\"%s\": %d \"%.*s\"", rows[i].text, good, STR_FMT(buf_str(&plain)));
		base64_encode(&again, buf_str(&plain));
		if (good && !str_is(buf_str(&again), rows[i].text))
			fail_msg("\"%s\" comes back as \"%.*s\"", rows[i].text, STR_FMT(buf_str(&again)));
		buf_clear(&plain);
		buf_clear(&again);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues), cmocka_unit_test(test_lengths), cmocka_unit_test(test_helo), cmocka_unit_test(test_base64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

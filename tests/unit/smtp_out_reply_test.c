/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp-out/smtp_dots.h"
#include "smtp-out/smtp_reply.h"

static const struct {
	const char *in;
	enum smtp_reply_state state;
	unsigned code;
	const char *text, *status; /* text: the reply's, or why it is bad */
	size_t left;               /* octets not used */
} replies[] = {
	{ "250 ok\r\n", SMTP_REPLY_DONE, 250, "250 ok", "", 0 },
	{ "250 ok\n", SMTP_REPLY_DONE, 250, "250 ok", "", 0 },
	{ "250\r\n", SMTP_REPLY_DONE, 250, "250", "", 0 },
	{ "250-a\r\n250-b\r\n250 c\r\n", SMTP_REPLY_DONE, 250, "250-a\n250-b\n250 c", "", 0 },
	{ "250-a\r\n250\r\n", SMTP_REPLY_DONE, 250, "250-a\n250", "", 0 },
	{ "250 ok\r\n354 go\r\n", SMTP_REPLY_DONE, 250, "250 ok", "", 8 },
	{ "550 5.1.1 unknown\r\n", SMTP_REPLY_DONE, 550, "550 5.1.1 unknown", "5.1.1", 0 },
	{ "550-5.7.1 a\r\n550 5.7.26 b\r\n", SMTP_REPLY_DONE, 550, "550-5.7.1 a\n550 5.7.26 b", "5.7.26", 0 },
	{ "450 5.1.1 class\r\n", SMTP_REPLY_DONE, 450, "450 5.1.1 class", "", 0 },
	{ "550 5.1.1unknown\r\n", SMTP_REPLY_DONE, 550, "550 5.1.1unknown", "", 0 },
	{ "550 5.1\r\n", SMTP_REPLY_DONE, 550, "550 5.1", "", 0 },
	{ "550 5.1234.1 x\r\n", SMTP_REPLY_DONE, 550, "550 5.1234.1 x", "", 0 },
	{ "550 5.1.1\r\n", SMTP_REPLY_DONE, 550, "550 5.1.1", "5.1.1", 0 },
	{ "550 a\tb\001c\x7f\r\n", SMTP_REPLY_DONE, 550, "550 a b?c?", "", 0 },
	{ "250 ok", SMTP_REPLY_MORE, 0, NULL, NULL, 0 },
	{ "250-ok\r\n", SMTP_REPLY_MORE, 0, NULL, NULL, 0 },
	{ "\r\n", SMTP_REPLY_BAD, 0, "an empty line", NULL, 0 },
	{ "25\r\n", SMTP_REPLY_BAD, 0, "no code at the start", NULL, 0 },
	{ "abc\r\n", SMTP_REPLY_BAD, 0, "no code at the start", NULL, 0 },
	{ "2500\r\n", SMTP_REPLY_BAD, 0, "no blank or hyphen behind the code", NULL, 0 },
	{ "250_a\r\n", SMTP_REPLY_BAD, 0, "no blank or hyphen behind the code", NULL, 0 },
	{ "150 a\r\n", SMTP_REPLY_BAD, 0, "a code out of range", NULL, 0 },
	{ "650 a\r\n", SMTP_REPLY_BAD, 0, "a code out of range", NULL, 0 },
	{ "250-a\r\n251 b\r\n", SMTP_REPLY_BAD, 0, "different codes in one reply", NULL, 0 },
};

static void test_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
		for (size_t chunk = 1; chunk < 30; chunk++) {
			struct smtp_reply r = { 0 };
			size_t n = strlen(replies[i].in), at = 0;
			enum smtp_reply_state s = SMTP_REPLY_MORE;

			while (at < n && s == SMTP_REPLY_MORE) {
				size_t used = 0;

				s = smtp_reply_read(&r, replies[i].in + at, n - at < chunk ? n - at : chunk, &used);
				at += used;
			}
			if (s != replies[i].state)
				fail_msg("\"%s\": state %d, want %d (%s)", replies[i].in, s, replies[i].state, r.why ? r.why : "");
			if (s == SMTP_REPLY_BAD)
				assert_string_equal(r.why, replies[i].text);
			if (s == SMTP_REPLY_DONE) {
				assert_int_equal(r.code, replies[i].code);
				if (!str_is(buf_str(&r.text), replies[i].text) || !str_is(smtp_reply_status(&r), replies[i].status))
					fail_msg("\"%s\": text \"%.*s\", status \"%.*s\"", replies[i].in, STR_FMT(buf_str(&r.text)), STR_FMT(smtp_reply_status(&r)));
				assert_int_equal(n - at, replies[i].left);
			}
			smtp_reply_clear(&r);
		}
}

static void test_reply_limits(void **state)
{
	struct smtp_reply r = { 0 };
	char line[3000];
	size_t used;
	enum smtp_reply_state s = SMTP_REPLY_MORE;

	(void)state;
	memset(line, 'x', sizeof line);
	memcpy(line, "250 ", 4);
	assert_int_equal(smtp_reply_read(&r, line, sizeof line, &used), SMTP_REPLY_BAD);
	smtp_reply_clear(&r);
	for (size_t i = 0; i < sizeof line && s == SMTP_REPLY_MORE; i++)
		s = smtp_reply_read(&r, line + i, 1, &used);
	assert_int_equal(s, SMTP_REPLY_BAD);
	assert_true(r.line.len <= SMTP_REPLY_LINE_MAX);
	smtp_reply_clear(&r);
	s = SMTP_REPLY_MORE;
	for (size_t i = 0; i < 1000 && s == SMTP_REPLY_MORE; i++)
		s = smtp_reply_read(&r, "250-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 88, &used);
	assert_int_equal(s, SMTP_REPLY_BAD);
	assert_true(r.text.len <= SMTP_REPLY_TEXT_MAX);
	smtp_reply_clear(&r);
}

/* ---- dots ---- */

static const struct {
	const char *in, *want;
} dots[] = {
	{ "", ".\r\n" },
	{ "a\r\n", "a\r\n.\r\n" },
	{ "a", "a\r\n.\r\n" },
	{ ".", "..\r\n.\r\n" },
	{ ".\r\n", "..\r\n.\r\n" },
	{ "..\r\n.\r\n", "...\r\n..\r\n.\r\n" },
	{ "a.b\r\n.c\r\n", "a.b\r\n..c\r\n.\r\n" },
	{ "\r\n.\r\n", "\r\n..\r\n.\r\n" },
	{ "a\n.\nb", "a\r\n..\r\nb\r\n.\r\n" },
	{ "a\r.\rb", "a\r\n..\r\nb\r\n.\r\n" },
	{ "a\n\n", "a\r\n\r\n.\r\n" },
	{ "a\r\r\n", "a\r\n\r\n.\r\n" },
	{ "a\r\n\r", "a\r\n\r\n.\r\n" },
	{ "a\n\r.\r\n", "a\r\n\r\n..\r\n.\r\n" },
	{ "a\r\n.\n.\r.x", "a\r\n..\r\n..\r\n..x\r\n.\r\n" },
};

/* At every cut into three pieces. */
static void test_dots(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dots / sizeof *dots; i++) {
		size_t n = strlen(dots[i].in);

		for (size_t a = 0; a <= n; a++)
			for (size_t b = a; b <= n; b++) {
				struct smtp_dots d = SMTP_DOTS_INIT;
				struct buf out = BUF_INIT;

				smtp_dots_add(&d, dots[i].in, a, &out);
				smtp_dots_add(&d, dots[i].in + a, b - a, &out);
				smtp_dots_add(&d, dots[i].in + b, n - b, &out);
				smtp_dots_end(&d, &out);
				if (!str_is(buf_str(&out), dots[i].want))
					fail_msg("\"%s\" cut at %zu and %zu: \"%.*s\"", dots[i].in, a, b, STR_FMT(buf_str(&out)));
				buf_clear(&out);
			}
	}
}

/* Whatever goes in: no bare CR or LF, no line that begins with a single dot but the last. */
static void test_dots_invariant(void **state)
{
	static const char alphabet[] = "\r\n.a";

	(void)state;
	srand(7);
	for (int round = 0; round < 20000; round++) {
		struct smtp_dots d = SMTP_DOTS_INIT;
		struct buf out = BUF_INIT;
		size_t n = (size_t)rand() % 40;
		char in[40];

		for (size_t i = 0; i < n; i++)
			in[i] = alphabet[rand() % 4];
		for (size_t at = 0, len; at < n; at += len) {
			len = 1 + (size_t)rand() % (n - at);
			smtp_dots_add(&d, in + at, len, &out);
		}
		smtp_dots_end(&d, &out);
		assert_true(out.len >= 3 && !memcmp(out.p + out.len - 3, ".\r\n", 3));
		for (size_t i = 0; i + 3 < out.len; i++) {
			assert_true(out.p[i] != '\n' || (i && out.p[i - 1] == '\r'));
			assert_true(out.p[i] != '\r' || out.p[i + 1] == '\n');
			if (out.p[i] == '.' && (!i || out.p[i - 1] == '\n'))
				assert_true(out.p[i + 1] == '.');
		}
		buf_clear(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_reply_limits),
		cmocka_unit_test(test_dots),
		cmocka_unit_test(test_dots_invariant),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

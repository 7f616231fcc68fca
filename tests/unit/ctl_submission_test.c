/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "ctl/queue.h"
#include "ctl/sendmail.h"

static void test_convert(void **state)
{
	static const struct { const char *name, *in; bool dot_ends, drop_bcc; const char *want; } cases[] = {
		{ "line ends", "a\nb\r\nc", true, false, "a\r\nb\r\nc\r\n" },
		{ "lone CR", "a\rb\n", true, false, "a\r\nb\r\n" },
		{ "CR before a dot", "a\r.\rb\n", true, false, "a\r\n..\r\nb\r\n" },
		{ "dots", ".a\n..\n", true, false, "..a\r\n...\r\n" },
		{ "lone dot ends", "a\n.\nb\n", true, false, "a\r\n" },
		{ "lone dot does not end with -i", "a\n.\nb\n", false, false, "a\r\n..\r\nb\r\n" },
		{ "CRLF dot ends too", "a\r\n.\r\nb\n", true, false, "a\r\n" },
		{ "Bcc goes", "To: x\nBCC: y,\n z\nSubject: s\n\nBcc: stays\n", true, true, "To: x\r\nSubject: s\r\n\r\nBcc: stays\r\n" },
		{ "Bcc stays without -t", "Bcc: y\n\n", true, false, "Bcc: y\r\n\r\n" },
		{ "Bcc with blanks before the colon", "Bcc : y\nA: b\n", true, true, "A: b\r\n" },
		{ "nothing", "", true, true, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out = BUF_INIT;
		size_t end;

		submission_convert(str_of(cases[i].in), cases[i].dot_ends, cases[i].drop_bcc, &out, &end);
		if (strcmp(buf_cstr(&out), cases[i].want))
			fail_msg("%s: got \"%s\", want \"%s\"", cases[i].name, buf_cstr(&out), cases[i].want);
		buf_clear(&out);
	}
}

static void test_addresses(void **state)
{
	static const struct { const char *name, *in, *want; } cases[] = {
		{ "all fields", "To: a@x, B <b@x>\nSubject: To: no@x\ncc: c@x\nBcc : d@x\n\nTo: e@x\n", "a@x b@x c@x d@x" },
		{ "folded", "To: a@x,\n b@x\n\t, c@x\n\n", "a@x b@x c@x" },
		{ "resent wins", "To: a@x\nResent-To: r@x\nResent-Cc: s@x\n\n", "r@x s@x" },
		{ "group", "To: friends: a@x, b@x;\n\n", "a@x b@x" },
		{ "none", "Subject: x\n\n", "" },
		{ "bad", "To: a@@x\n\n", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		struct ipc_strs out = { NULL, 0 };
		struct buf got = BUF_INIT;
		enum status st = submission_addresses(&a, str_of(cases[i].in), &out, &err);

		for (uint32_t k = 0; k < out.n; k++)
			buf_printf(&got, "%s%.*s", k ? " " : "", STR_FMT(out.v[k]));
		if (!cases[i].want)
			assert_true(st == ST_FAIL && strstr(err.text, "To:"));
		else if (st || strcmp(buf_cstr(&got), cases[i].want))
			fail_msg("%s: got %s \"%s\" %s, want \"%s\"", cases[i].name, status_name(st), buf_cstr(&got), err.text, cases[i].want);
		buf_clear(&got);
		arena_clear(&a);
	}
}

static void test_queue_time(void **state)
{
	static const struct { const char *in; int64_t want; } cases[] = {
		{ "90", 90 }, { "5m", 300 }, { "2h30m", 9000 }, { "1d", 86400 }, { "1w", 604800 }, { "", -1 }, { "m", -1 }, { "5x", -1 }, { "-5m", -1 },
		{ "99999999999999999999", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t got = 0;
		bool ok = queue_time_parse(cases[i].in, &got);

		if (ok != (cases[i].want >= 0) || (ok && got != (uint64_t)cases[i].want))
			fail_msg("\"%s\": got %d %llu, want %lld", cases[i].in, ok, (unsigned long long)got, (long long)cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_convert), cmocka_unit_test(test_addresses), cmocka_unit_test(test_queue_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

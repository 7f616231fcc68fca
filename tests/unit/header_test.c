/* SPDX-License-Identifier: ISC */
/* Headers: scanning, dates, message ids, edits, our Received: field. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mail/date.h"
#include "common/mail/edit.h"
#include "common/mail/header.h"
#include "common/mail/msgid.h"
#include "common/mail/received.h"

static const struct { const char *in, *fields; size_t end; bool closed; } scans[] = {
	{ "A: b\r\nC: d\r\n\r\nbody", "A= b|C= d|", 14, true },
	{ "A: b\nC: d\n\nbody", "A= b|C= d|", 11, true },
	{ "A: b\r\n c\r\n\td\r\nE:\r\n\r\n", "A= b\r\n c\r\n\td|E=|", 20, true },
	{ "A : b\r\n\r\n", "A= b|", 9, true },
	{ "A: b", "A= b|", 4, false },
	{ "A: b\r\nno field\r\n\r\nx", "A= b|", 6, false },
	{ "hello\r\n", "", 0, false },
	{ "\r\nbody", "", 2, true },
	{ " folded first\r\n", "", 0, false },
	{ ": x\r\n", "", 0, false },
	{ "", "", 0, false },
	{ "A: b\r\n\r", "A= b|", 6, false },
	{ "A\x80: b\r\nC: d\r\n\r\n", "A\x80= b|C= d|", 15, true },
	{ "A\x7f: b\r\n\r\n", "", 0, false },
	{ "A: b\r\n \r\n\r\n", "A= b\r\n |", 11, true },
};

static void test_scan(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof scans / sizeof *scans; i++) {
		struct header_scan scan;
		struct header_field f;
		struct buf got = BUF_INIT;
		bool closed;
		size_t end;

		header_scan_init(&scan, str_of(scans[i].in));
		while (header_scan_next(&scan, &f))
			buf_printf(&got, "%.*s=%.*s|", STR_FMT(f.name), STR_FMT(f.value));
		end = header_end(str_of(scans[i].in), &closed);
		if (strcmp(buf_cstr(&got), scans[i].fields) || end != scans[i].end || closed != scans[i].closed)
			fail_msg("case %zu: got \"%s\" end %zu closed %d, want \"%s\" %zu %d", i, buf_cstr(&got), end, closed, scans[i].fields, scans[i].end,
				scans[i].closed);
		buf_clear(&got);
	}
}

static void test_text(void **state)
{
	struct arena a = ARENA_INIT;
	struct header_field f;

	(void)state;
	assert_true(header_find(STR_LIT("A: 1\r\nb: 2\r\na: 3\r\n\r\n"), "A", 1, &f) && str_is(f.value, " 3"));
	assert_int_equal(header_count(STR_LIT("A: 1\r\nb: 2\r\na: 3\r\n\r\na: 4\r\n"), "a"), 2);
	assert_true(header_text_valid(STR_LIT("A: b\r\n c\r\nD: e\r\n")));
	assert_false(header_text_valid(STR_LIT("A\x80: b\r\n")));
	assert_false(header_text_valid(STR_LIT("A: b")));
	assert_false(header_text_valid(STR_LIT("A: b\r\n\r\n")));
	assert_false(header_text_valid(STR_LIT("A: b\r\nbody\r\n")));
	assert_false(header_text_valid(STR_LIT("")));
	assert_true(str_is(header_unfold(&a, STR_LIT(" a\r\n b\n\tc ")), "a b\tc"));
	assert_true(str_is(header_crlf(&a, STR_LIT("a\nb\r\nc\rd\n")), "a\r\nb\r\nc\r\nd\r\n"));
	assert_true(str_is(header_msgid(STR_LIT(" <a@b> ")), "a@b"));
	assert_true(header_msgid(STR_LIT(" <a b> ")).len == 0);
	assert_true(header_msgid(STR_LIT("x")).len == 0);
	arena_clear(&a);
}

static const struct { const char *in; int64_t want; } dates[] = { /* -1: refused */
	{ "Sat, 21 Nov 2026 08:30:00 +0000", 1795249800 },
	{ "21 Nov 2026 08:30 +0000", 1795249800 },
	{ "Sat, 21 Nov 2026 09:30:00 +0100", 1795249800 },
	{ "Sat, 21 Nov 2026 03:30:00 EST", 1795249800 },
	{ "(x) Sat (y), 21 Nov 26 (c (d)) 08 : 30:00 GMT", 1795249800 },
	{ "1 Jan 1970 00:00:00 -0000", 0 },
	{ "29 Feb 2024 12:00:00 +0000", 1709208000 },
	{ "29 Feb 2023 12:00:00 +0000", -1 },
	{ "31 Apr 2023 12:00:00 +0000", -1 },
	{ "Sat, 21 Nov 2026 24:30:00 +0000", -1 },
	{ "Sat, 21 Nov 2026 08:60:00 +0000", -1 },
	{ "Sat, 21 Nov 2026 08:30:00 +00", -1 },
	{ "Sat, 21 Foo 2026 08:30:00 +0000", -1 },
	{ "Sat, 21 Nov 2026 08:30:00 +0000 x", -1 },
	{ "(Sat, 21 Nov 2026 08:30:00 +0000", -1 },
	{ "", -1 },
};

static void test_dates(void **state)
{
	char out[DATE_TEXT];
	unsigned seed = 5;

	(void)state;
	for (size_t i = 0; i < sizeof dates / sizeof *dates; i++) {
		int64_t got = -1;

		if (!date_parse(str_of(dates[i].in), &got))
			got = -1;
		if (got != dates[i].want)
			fail_msg("\"%s\": got %lld, want %lld", dates[i].in, (long long)got, (long long)dates[i].want);
	}
	date_format(out, 1795249800, true);
	assert_string_equal(out, "Sat, 21 Nov 2026 08:30:00 +0000");
	for (int i = 0; i < 2000; i++) {
		int64_t t = (int64_t)(rand_r(&seed) % 2000000) * 2000 + rand_r(&seed) % 2000, back;
		size_t n = date_format(out, t, i & 1);

		if (!date_parse(str_make(out, n), &back) || back != t)
			fail_msg("%lld: \"%s\"", (long long)t, out);
	}
}

static void test_msgid(void **state)
{
	struct msgid_gen one, two;
	char id[MSGID_SIZE], last[MSGID_SIZE] = "";

	(void)state;
	msgid_gen_init(&one, 0x123456789abcdef0);
	msgid_gen_init(&two, 0x123456789abcdef1);
	for (int i = 0; i < 1000; i++) {
		msgid_next(&one, 1795249800000000 + (i & 1), id); /* the clock stands, or goes back */
		if (!msgid_valid(str_of(id)) || strcmp(id, last) <= 0)
			fail_msg("%s after %s", id, last);
		assert_true(msgid_time_us(str_of(id)) >= 1795249800000000);
		strcpy(last, id);
	}
	msgid_next(&two, 1795249801000000, id);
	msgid_next(&one, 1795249801000000, last);
	assert_string_not_equal(id, last);
	assert_int_equal(msgid_time_us(str_of(id)), 1795249801000000);
	assert_int_equal(msgid_time_us(STR_LIT("16IOWa-00019l-00")) / 1000000, 1009175028);
	assert_false(msgid_valid(STR_LIT("16IOWa-00019l-0")));
	assert_false(msgid_valid(STR_LIT("16IOWa_00019l-00")));
	assert_false(msgid_valid(STR_LIT("16IOW/-00019l-00")));
}

struct edit_case {
	const char *name, *content;
	uint64_t flags;
	struct ipc_edit edits[4];
	const char *add, *remove, *prepend;
	const char *want;
};
#define E(o, t) { .op = (o), .text = { (t), sizeof(t) - 1, false } }

static const struct edit_case edit_cases[] = {
	{ "nothing", "A: 1\r\n\r\n", 0, { { 0 } }, NULL, NULL, NULL, "A: 1\r\n\r\n" },
	{ "top", "A: 1\r\n\r\n", 0, { E(EDIT_ADD_TOP, "R: 1\r\n"), E(EDIT_ADD_TOP, "S: 1\r\n") }, NULL, NULL, "P: 1\r\n",
	  "P: 1\r\nS: 1\r\nR: 1\r\nA: 1\r\n\r\n" },
	{ "end", "A: 1\r\n\r\n", 0, { E(EDIT_ADD_END, "Y: 1\r\n"), E(EDIT_ADD_END, "Z: 1\r\n") }, "W: 1", NULL, NULL,
	  "A: 1\r\nY: 1\r\nZ: 1\r\nW: 1\r\n\r\n" },
	{ "no header", "", MSG_HEADER_OPEN, { E(EDIT_ADD_TOP, "R: 1\r\n") }, NULL, NULL, NULL, "R: 1\r\n\r\n" },
	{ "empty header", "\r\n", 0, { E(EDIT_ADD_TOP, "R: 1\r\n") }, NULL, NULL, NULL, "R: 1\r\n\r\n" },
	{ "open header", "A: 1\r\n", MSG_HEADER_OPEN, { E(EDIT_ADD_END, "R: 1\r\n") }, NULL, NULL, NULL, "A: 1\r\nR: 1\r\n\r\n" },
	{ "remove", "A: 1\r\nB: 2\r\n 3\r\na: 4\r\nC: 5\r\n\r\n", 0, { E(EDIT_REMOVE, "A"), E(EDIT_REMOVE, "c") }, NULL, NULL, NULL,
	  "B: 2\r\n 3\r\n\r\n" },
	{ "remove leaves what was added", "A: 1\r\n\r\n", 0, { E(EDIT_ADD_END, "A: 2\r\n"), E(EDIT_REMOVE, "A") }, NULL, NULL, NULL, "A: 2\r\n\r\n" },
	{ "replace", "A: 1\r\nB: 2\r\nA: 3\r\n\r\n", 0, { E(EDIT_REPLACE, "6 B: 9\r\n"), E(EDIT_REPLACE, "7 C: 9\r\n"), E(EDIT_REMOVE, "A") }, NULL, NULL, NULL,
	  "B: 9\r\n\r\n" },
	{ "replace what was added", "A: 1\r\n\r\n", 0, { E(EDIT_ADD_END, "X: 2\r\n"), E(EDIT_REPLACE, "e0 X: 3\r\n"), E(EDIT_REPLACE, "nonsense") }, NULL, NULL,
	  NULL, "A: 1\r\nX: 3\r\n\r\n" },
	{ "transport's remove", "A: 1\r\nX-B: 1\r\n\r\n", 0, { E(EDIT_ADD_TOP, "A: 2\r\n"), E(EDIT_ADD_END, "x-c: 2\r\n") }, "A: 3\r\n", "a : X-*", NULL,
	  "A: 3\r\n\r\n" },
	{ "after received", "Received: 1\r\nReceived: 2\r\nA: 1\r\nReceived: 3\r\n\r\n", 0,
	  { E(EDIT_ADD_TOP, "Received: 0\r\n"), E(EDIT_ADD_AFTER_RECEIVED, "X: 1\r\n"), E(EDIT_ADD_AFTER_RECEIVED, "Y: 1\r\n") }, NULL, NULL, NULL,
	  "Received: 0\r\nReceived: 1\r\nReceived: 2\r\nX: 1\r\nY: 1\r\nA: 1\r\nReceived: 3\r\n\r\n" },
	{ "after received, none there", "A: 1\r\n\r\n", 0, { E(EDIT_ADD_AFTER_RECEIVED, "X: 1\r\n") }, NULL, NULL, NULL, "X: 1\r\nA: 1\r\n\r\n" },
	{ "start of the RFC fields", "Received: 1\r\nResent-To: 2\r\nA: 1\r\n\r\n", 0,
	  { E(EDIT_ADD_TOP, "Received: 0\r\n"), E(EDIT_ADD_START_RFC, "X: 1\r\n") }, NULL, NULL, NULL,
	  "Received: 0\r\nReceived: 1\r\nResent-To: 2\r\nX: 1\r\nA: 1\r\n\r\n" },
	{ "everything removed", "A: 1\r\n\r\n", 0, { E(EDIT_REMOVE, "A") }, NULL, NULL, NULL, "\r\n" },
};

static void test_edits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof edit_cases / sizeof *edit_cases; i++) {
		const struct edit_case *c = &edit_cases[i];
		struct arena a = ARENA_INIT;
		struct str add = str_of(c->add), remove = str_of(c->remove), prepend = str_of(c->prepend), memory = STR_NULL, file = STR_NULL;
		struct edit_input in = { .edits = c->edits, .headers_add = { &add, c->add != NULL }, .headers_remove = { &remove, c->remove != NULL },
			.prepend = &prepend, .n_prepend = c->prepend != NULL, .fd = -1, .header = str_of(c->content), .header_size = strlen(c->content),
			.flags = c->flags };
		struct err err = ERR_INIT;
		char name[] = "/tmp/edit_test.XXXXXX";
		int fd = mkstemp(name);

		unlink(name);
		in.offset = i % 2 * 64; /* a spool file has something in front */
		assert_true(pwrite(fd, c->content, strlen(c->content), (off_t)in.offset) == (ssize_t)strlen(c->content));
		while (in.n_edits < 4 && c->edits[in.n_edits].op)
			in.n_edits++;
		if (edit_text(&in, &a, &memory, &err))
			fail_msg("%s: %s", c->name, err.text);
		in.header = STR_NULL;
		in.fd = fd;
		if (edit_text(&in, &a, &file, &err))
			fail_msg("%s: %s", c->name, err.text);
		if (!str_is(memory, c->want) || !str_is(file, c->want))
			fail_msg("%s: got \"%.*s\" and \"%.*s\", want \"%s\"", c->name, STR_FMT(memory), STR_FMT(file), c->want);
		close(fd);
		arena_clear(&a);
	}
}

/* Adding at the ends must not read the content. */
static void test_edit_cost(void **state)
{
	struct ipc_edit edits[] = { E(EDIT_ADD_TOP, "R: 1\r\n"), E(EDIT_ADD_END, "Z: 1\r\n") };
	struct edit_input in = { .edits = edits, .n_edits = 1, .fd = -1, .header_size = 1000000 };
	struct arena a = ARENA_INIT;
	struct edit_result out;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(edit_apply(&in, &a, &out, &err), ST_OK);
	assert_int_equal(out.n, 2);
	assert_true(!out.v[1].text && out.v[1].offset == 0 && out.v[1].len == 1000000 && out.size == 1000006);
	in.n_edits = 2;
	assert_int_equal(edit_apply(&in, &a, &out, &err), ST_OK);
	assert_int_equal(out.n, 4);
	edits[0].op = EDIT_REMOVE;
	assert_int_equal(edit_apply(&in, &a, &out, &err), ST_DEFER); /* there is nothing to read from */
	arena_clear(&a);
}

static void test_received(void **state)
{
	struct ipc_facts f = { .client_ip = STR_LIT("192.0.2.1"), .client_port = 1234, .helo = STR_LIT("h.example"), .protocol = STR_LIT("esmtp"),
		.sender = STR_LIT("a@b.example") };
	struct received r = { .facts = &f, .hostname = STR_LIT("mx.example"), .software = STR_LIT("Bulkhead 0"), .message_id = STR_LIT("16IOWa-00019l-00"),
		.recipient = STR_LIT("c@d.example"), .wall_s = 1795249800, .utc = true };
	struct arena a = ARENA_INIT;

	(void)state;
	assert_true(str_is(received_format(&a, &r), "Received: from [192.0.2.1] (helo=h.example)\r\n\tby mx.example with esmtp (Bulkhead 0)\r\n"
		"\t(envelope-from <a@b.example>)\r\n\tid 16IOWa-00019l-00\r\n\tfor c@d.example;\r\n\tSat, 21 Nov 2026 08:30:00 +0000\r\n"));
	assert_true(str_is(received_fullhost(&a, &f, false), "(h.example) [192.0.2.1]"));
	f.client_name = STR_LIT("n.example");
	assert_true(str_is(received_fullhost(&a, &f, true), "n.example (h.example) [192.0.2.1]:1234"));
	assert_true(str_is(received_rcvhost(&a, &f, false), "n.example ([192.0.2.1] helo=h.example)"));
	f.helo = STR_LIT("N.example");
	assert_true(str_is(received_fullhost(&a, &f, false), "n.example [192.0.2.1]"));
	assert_true(str_is(received_rcvhost(&a, &f, false), "n.example ([192.0.2.1])"));
	f = (struct ipc_facts){ .ident = STR_LIT("root"), .local = true, .protocol = STR_LIT("local"), .sender = STR_LIT("r@b") };
	r.recipient = STR_NULL;
	assert_true(str_is(received_format(&a, &r), "Received: from root by mx.example with local (Bulkhead 0)\r\n"
		"\t(envelope-from <r@b>)\r\n\tid 16IOWa-00019l-00;\r\n\tSat, 21 Nov 2026 08:30:00 +0000\r\n"));
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan), cmocka_unit_test(test_text), cmocka_unit_test(test_dates), cmocka_unit_test(test_msgid),
		cmocka_unit_test(test_edits), cmocka_unit_test(test_edit_cost), cmocka_unit_test(test_received),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

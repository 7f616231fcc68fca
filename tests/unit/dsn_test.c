/* SPDX-License-Identifier: ISC */
/* Reports parsed back as a mail reader would: header, boundary, parts, fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dsn/dsn.h"
#include "common/mail/header.h"

struct parsed {
	struct str header, part_header[3], part[3];
	unsigned parts;
};

/* Everything is CRLF, no line is too long, no control octet stands in it. */
static const char *lines_check(struct str s, bool utf8)
{
	struct str line;

	while (str_split(&s, '\n', &line)) {
		if (!s.p && !line.len)
			break;
		if (!line.len || line.p[line.len - 1] != '\r')
			return "a line does not end in CRLF";
		line.len--;
		if (line.len > DSN_LINE_MAX)
			return "a line is too long";
		for (uint32_t i = 0; i < line.len; i++)
			if (((unsigned char)line.p[i] < ' ' && line.p[i] != '\t') || (!utf8 && (unsigned char)line.p[i] > 0x7e))
				return "an octet that must not be there";
	}
	return NULL;
}

static bool parse(struct str text, struct parsed *out)
{
	struct header_field f;
	char boundary[128];
	ptrdiff_t at, end;
	size_t body;

	memset(out, 0, sizeof *out);
	body = header_end(text, NULL);
	out->header = str_sub(text, 0, body);
	if (!header_find(out->header, "Content-Type", 0, &f) || (at = str_find_str(f.value, STR_LIT("boundary=\""))) < 0)
		return false;
	f.value = str_from(f.value, (size_t)at + 10);
	snprintf(boundary, sizeof boundary, "\r\n--%.*s", (int)str_find(f.value, '"'), f.value.p);
	text = str_from(text, body - 2); /* the empty line is the first delimiter's */
	while ((at = str_find_str(text, str_of(boundary))) >= 0 && out->parts < 3) {
		text = str_from(text, (size_t)at + strlen(boundary));
		if (str_begins(text, "--"))
			break;
		end = str_find_str(text, str_of(boundary));
		if (end < 0)
			return false;
		text = str_from(text, 2);
		end -= 2;
		body = header_end(str_sub(text, 0, (size_t)end), NULL);
		out->part_header[out->parts] = str_sub(text, 0, body);
		out->part[out->parts++] = str_sub(text, body, (size_t)end - body);
		text = str_from(text, (size_t)end);
	}
	return out->parts == 3 && str_find_str(text, str_of(boundary)) >= 0;
}

/* The nth group of the delivery-status part; 0: the message's own. */
static struct str group(struct str part, unsigned n)
{
	ptrdiff_t at;

	while (n-- && (at = str_find_str(part, STR_LIT("\r\n\r\n"))) >= 0)
		part = str_from(part, (size_t)at + 4);
	at = str_find_str(part, STR_LIT("\r\n\r\n"));
	return at < 0 ? part : str_sub(part, 0, (size_t)at + 2);
}

static struct dsn_report base(const struct dsn_recipient *rcpt, size_t n)
{
	return (struct dsn_report){ .kind = DSN_FAILED_REPORT, .id = STR_LIT("1abcde-000001-AB"), .own_id = STR_LIT("1abcdf-000002-AB"), .host = STR_LIT("mx.example"),
		.from = STR_LIT("Mail Delivery System <Mailer-Daemon@example>"), .to = STR_LIT("s@x.test"), .references = STR_LIT("<m1@b>"), .arrived = 1800000000,
		.now = 1800007200, .what = DSN_RETURN_HEADERS, .extra = true, .rcpt = rcpt, .n_rcpt = n };
}

static struct str report_text(const struct dsn_report *r, struct buf *out, const char *returned)
{
	size_t header;

	assert_true(dsn_report_begin(r, out, &header));
	assert_int_equal(header, header_end(buf_str(out), NULL));
	buf_adds(out, returned);
	assert_true(dsn_report_end(r, out));
	return buf_str(out);
}

static const struct field_case {
	const char *name;
	struct dsn_recipient r;
	enum dsn_kind kind;
	const char *field, *want; /* unfolded; NULL: no such field */
} field_cases[] = {
	{ "final", { .addr = { "u@a", 3, 0 } }, DSN_FAILED_REPORT, "Final-Recipient", "rfc822;u@a" },
	{ "status from the answer", { .addr = { "u@a", 3, 0 }, .diagnostic = { "550 5.1.1 no", 12, 0 } }, DSN_FAILED_REPORT, "Status", "5.1.1" },
	{ "status given", { .addr = { "u@a", 3, 0 }, .status = { "5.7.1", 5, 0 } }, DSN_FAILED_REPORT, "Status", "5.7.1" },
	{ "status that contradicts", { .addr = { "u@a", 3, 0 }, .status = { "2.0.0", 5, 0 } }, DSN_FAILED_REPORT, "Status", "5.0.0" },
	{ "status malformed", { .addr = { "u@a", 3, 0 }, .status = { "5.1\r\nX: y", 9, 0 } }, DSN_FAILED_REPORT, "Status", "5.0.0" },
	{ "delayed", { .addr = { "u@a", 3, 0 }, .action = DSN_ACTION_DELAYED, .status = { "5.1.1", 5, 0 } }, DSN_DELAYED_REPORT, "Status", "4.0.0" },
	{ "action", { .addr = { "u@a", 3, 0 }, .action = DSN_ACTION_RELAYED }, DSN_SUCCESS_REPORT, "Action", "relayed" },
	{ "orcpt decoded", { .addr = { "u@a", 3, 0 }, .orcpt = { "rfc822;a+2Bb@c", 14, 0 } }, DSN_FAILED_REPORT, "Original-Recipient", "rfc822;a+b@c" },
	{ "orcpt with a line end", { .addr = { "u@a", 3, 0 }, .orcpt = { "rfc822;a+0D+0AX: y", 18, 0 } }, DSN_FAILED_REPORT, "Original-Recipient", "rfc822;a+0D+0AX: y" },
	{ "no orcpt", { .addr = { "u@a", 3, 0 } }, DSN_FAILED_REPORT, "Original-Recipient", NULL },
	{ "diagnostic", { .addr = { "u@a", 3, 0 }, .diagnostic = { "550-one\n550 two", 15, 0 } }, DSN_FAILED_REPORT, "Diagnostic-Code", "smtp; 550-one 550 two" },
	{ "diagnostic with controls", { .addr = { "u@a", 3, 0 }, .diagnostic = { "550 a\0b\x1b\xff", 9, 0 } }, DSN_FAILED_REPORT, "Diagnostic-Code", "smtp; 550 a?b??" },
	{ "remote", { .addr = { "u@a", 3, 0 }, .host = { "mx.a", 4, 0 } }, DSN_FAILED_REPORT, "Remote-MTA", "dns; mx.a" },
	{ "greeting", { .addr = { "u@a", 3, 0 }, .greeting = { "220 hi", 6, 0 } }, DSN_FAILED_REPORT, "X-Remote-MTA-smtp-greeting", "X-str; 220 hi" },
	{ "8-bit address", { .addr = { "\xc3\xbc@a", 4, 0 } }, DSN_FAILED_REPORT, "Final-Recipient", "utf-8;\\x{FC}@a" },
	{ "8-bit address that is no UTF-8", { .addr = { "\xfc@a", 3, 0 } }, DSN_FAILED_REPORT, "Final-Recipient", "unknown;?@a" },
	{ "orcpt of type utf-8", { .addr = { "u@a", 3, 0 }, .orcpt = { "utf-8;\xc3\xbc\\x{2B}@c", 16, 0 } }, DSN_FAILED_REPORT, "Original-Recipient", "utf-8;\\x{FC}\\x{2B}@c" },
	{ "orcpt of type utf-8, malformed", { .addr = { "u@a", 3, 0 }, .orcpt = { "utf-8;\\x{FC", 11, 0 } }, DSN_FAILED_REPORT, "Original-Recipient", "utf-8;\\x{FC" },
	{ "until", { .addr = { "u@a", 3, 0 }, .action = DSN_ACTION_DELAYED, .retry_until = 1 }, DSN_FAILED_REPORT, "Will-Retry-Until", "Thu, 01 Jan 1970 00:00:01 +0000" },
};

static void test_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof field_cases / sizeof *field_cases; i++) {
		const struct field_case *c = &field_cases[i];
		struct dsn_report r = base(&c->r, 1);
		struct buf out = BUF_INIT;
		struct arena a = ARENA_INIT;
		struct header_field f = { 0 };
		struct parsed p;
		const char *bad;
		bool there;
		struct str got;

		r.kind = c->kind;
		if ((bad = lines_check(report_text(&r, &out, "Subject: x\r\n"), false)) || !parse(buf_str(&out), &p))
			fail_msg("%s: %s\n%s", c->name, bad ? bad : "not parsed", buf_cstr(&out));
		there = header_find(group(p.part[1], 1), c->field, 0, &f);
		got = there ? header_unfold(&a, f.value) : STR_NULL;
		if (there != (c->want != NULL) || (there && !str_is(got, c->want)))
			fail_msg("%s: got %s \"%.*s\", want \"%s\"\n%s", c->name, c->field, STR_FMT(got), c->want ? c->want : "none", buf_cstr(&out));
		arena_clear(&a);
		buf_clear(&out);
	}
}

static const struct head_case {
	const char *name;
	enum dsn_kind kind;
	enum dsn_return what;
	bool limited, utf8;
	const char *want[4];
} head_cases[] = {
	{ "failure", DSN_FAILED_REPORT, DSN_RETURN_ALL, false, false, { "\r\nSubject: Mail delivery failed: returning message to sender\r\n",
		"\r\nAuto-Submitted: auto-replied\r\n", "\r\nX-Failed-Recipients: u@a\r\n", "Content-Type: message/rfc822\r\n" } },
	{ "delay", DSN_DELAYED_REPORT, DSN_RETURN_HEADERS, false, false, { "\r\nSubject: Warning: message 1abcde-000001-AB delayed 2 hours\r\n",
		"\r\nAuto-Submitted: auto-replied\r\n", "Content-Type: text/rfc822-headers\r\n", NULL } },
	{ "success", DSN_SUCCESS_REPORT, DSN_RETURN_HEADERS, false, false, { "\r\nSubject: Delivery Status Notification\r\n",
		"\r\nAuto-Submitted: auto-generated\r\n", NULL, NULL } },
	{ "limited", DSN_FAILED_REPORT, DSN_RETURN_HEADERS, true, false, { "\r\nX-Exim-DSN-Information: Due to administrative limits only headers are returned\r\n",
		"multipart/report; report-type=delivery-status;", "\r\nReferences: <m1@b>\r\n", "\r\nMIME-Version: 1.0\r\n" } },
	{ "utf8 that is ASCII", DSN_FAILED_REPORT, DSN_RETURN_HEADERS, false, true, { "Content-Type: message/delivery-status\r\n",
		"Content-Type: text/rfc822-headers\r\n", "\r\nX-Failed-Recipients: u@a\r\n", NULL } },
};

static void test_head(void **state)
{
	static const struct dsn_recipient rcpt = { .addr = { "u@a", 3, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof head_cases / sizeof *head_cases; i++) {
		const struct head_case *c = &head_cases[i];
		struct dsn_report r = base(&rcpt, 1);
		struct buf out = BUF_INIT;
		struct parsed p;

		r.kind = c->kind;
		r.what = c->what;
		r.limited = c->limited;
		r.utf8 = c->utf8;
		report_text(&r, &out, "Subject: x\r\n");
		if (!parse(buf_str(&out), &p))
			fail_msg("%s: not parsed\n%s", c->name, buf_cstr(&out));
		for (size_t k = 0; k < 4 && c->want[k]; k++)
			if (str_find_str(buf_str(&out), str_of(c->want[k])) < 0)
				fail_msg("%s: want \"%s\" in\n%s", c->name, c->want[k], buf_cstr(&out));
		if (str_find_str(p.part[2], STR_LIT("Subject: x\r\n")) < 0)
			fail_msg("%s: the returned header is missing", c->name);
		buf_clear(&out);
	}
}

/* RFC 6533, and what those get who can't have UTF-8. */
static const struct utf8_case {
	const char *name, *to, *addr, *orcpt, *diagnostic;
	bool utf8, header_8bit;
	enum dsn_return what;
	const char *want[6], *never[2];
} utf8_cases[] = {
	{ "all of it", "s\xc3\xa9@x", "\xe7\x94\xa8\xe6\x88\xb7@y", "utf-8;\\x{E9}@z", "550 n\xc3\xa9\xc3\xa9", true, true, DSN_RETURN_HEADERS,
		{ "\r\nX-Failed-Recipients: \xe7\x94\xa8\xe6\x88\xb7@y\r\n", "\r\nTo: s\xc3\xa9@x\r\n", "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
		  "\r\nFinal-Recipient: utf-8;\xe7\x94\xa8\xe6\x88\xb7@y\r\n", "\r\nOriginal-Recipient: utf-8;\xc3\xa9@z\r\n", "\r\nContent-Type: message/global-headers\r\n" },
		{ "rfc822", NULL } },
	{ "whole message", "s@x", "u@y", "", "550 no", true, true, DSN_RETURN_ALL, { "Content-Type: message/delivery-status\r\n", "Content-Type: message/global\r\n",
		"\r\nX-Failed-Recipients: u@y\r\n", NULL, NULL, NULL }, { "rfc822-headers", NULL } },
	{ "ASCII header for an ASCII address", "s@x", "\xc3\xa9@y", "", "550 no", true, false, DSN_RETURN_ALL, { "Content-Type: message/global-delivery-status\r\n",
		"Content-Type: message/rfc822\r\n", "\r\nFinal-Recipient: utf-8;\xc3\xa9@y\r\n", NULL, NULL, NULL }, { "X-Failed-Recipients", NULL } },
	{ "an answer that is no UTF-8", "s@x", "u@y", "", "550 n\xe9", true, false, DSN_RETURN_HEADERS, { "\r\nDiagnostic-Code: smtp; 550 n?\r\n", "\r\n    550 n?\r\n" }, { NULL } },
	{ "without UTF-8", "s@x", "\xc3\xa9@y", "utf-8;\xc3\xa9@z", "550 n\xc3\xa9", false, false, DSN_RETURN_HEADERS, { "Content-Type: message/delivery-status\r\n",
		"\r\nFinal-Recipient: utf-8;\\x{E9}@y\r\n", "\r\nOriginal-Recipient: utf-8;\\x{E9}@z\r\n", "\r\n  \\x{E9}@y\r\n", "smtp; 550 n??\r\n",
		"Content-Type: text/rfc822-headers\r\n" }, { "X-Failed-Recipients", "8bit" } },
};

static void test_utf8(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof utf8_cases / sizeof *utf8_cases; i++) {
		const struct utf8_case *c = &utf8_cases[i];
		const struct dsn_recipient rcpt = { .addr = str_of(c->addr), .orcpt = str_of(c->orcpt), .diagnostic = str_of(c->diagnostic) };
		struct dsn_report r = base(&rcpt, 1);
		struct buf out = BUF_INIT;
		struct parsed p;
		const char *bad;

		r.to = str_of(c->to);
		r.utf8 = c->utf8;
		r.header_8bit = r.eightbit = c->header_8bit;
		r.what = c->what;
		bad = lines_check(report_text(&r, &out, "Subject: x\r\n"), c->utf8);
		if (bad || !parse(buf_str(&out), &p))
			fail_msg("%s: %s\n%s", c->name, bad ? bad : "not parsed", buf_cstr(&out));
		for (size_t k = 0; k < 6 && c->want[k]; k++)
			if (str_find_str(buf_str(&out), str_of(c->want[k])) < 0)
				fail_msg("%s: want \"%s\" in\n%s", c->name, c->want[k], buf_cstr(&out));
		for (size_t k = 0; k < 2 && c->never[k]; k++)
			if (str_find_str(buf_str(&out), str_of(c->never[k])) >= 0)
				fail_msg("%s: \"%s\" in\n%s", c->name, c->never[k], buf_cstr(&out));
		buf_clear(&out);
	}
}

/* The administrator's own words; %LONG% stands for a line of 3000 octets. */
static const struct words_case {
	const char *name;
	enum dsn_kind kind;
	const char *head, *intro, *last, *output;
	const char *want[4], *never[3];
} words_cases[] = {
	{ "fields", DSN_FAILED_REPORT, "Subject: Bounced\nX-Note: a\n b\n", "", "", "", { "\r\nSubject: Bounced\r\nX-Note: a\r\n b\r\nMessage-ID:",
		"This report was written by" }, { "returning message to sender" } },
	{ "fields that would end the header", DSN_FAILED_REPORT, "Subject: a\n\n--x\r\n\r\nno field\n", "", "", "", { "\r\nSubject: a\r\n --x\r\n no field\r\nMessage-ID:" }, { NULL } },
	{ "fields that are not theirs to set", DSN_FAILED_REPORT, "junk first\nContent-Type: text/html\n charset=x\nTo: everybody\nSUBJECT: b\nBcc:x@y\n", "", "", "",
		{ "\r\nSUBJECT: b\r\nMessage-ID:" }, { "text/html", "everybody", "junk" } },
	{ "8-bit fields", DSN_FAILED_REPORT, "Subject: \xc3\xa4\n", "", "", "", { "\r\nSubject: ??\r\n" }, { NULL } },
	{ "beginning", DSN_FAILED_REPORT, "", "Sorry,\n\nbut no.\n", "", "", { "us-ascii\r\n\r\nSorry,\r\n\r\nbut no.\r\n\r\n  u@a\r\n", "\r\nSubject: Mail delivery failed" },
		{ "This report was written", "extra text", "The message has the id" } },
	{ "beginning, not ended", DSN_FAILED_REPORT, "", "Sorry", "", "", { "\r\nSorry\r\n\r\n  u@a\r\n" }, { NULL } },
	{ "none", DSN_FAILED_REPORT, "", "", "", "", { "This report was written", "extra text", "The message has the id" }, { NULL } },
	{ "8-bit words", DSN_FAILED_REPORT, "", "F\xc3\xbcr Sie\n", "", "", { "charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "F\xc3\xbcr Sie\r\n",
		"\"\r\nContent-Transfer-Encoding: 8bit\r\n" }, { NULL } },
	{ "words that are no UTF-8", DSN_FAILED_REPORT, "", "F\xfcr\x01\n", "", "", { "charset=us-ascii", "F?r?\r\n" }, { "8bit" } },
	{ "a line without end", DSN_FAILED_REPORT, "", "%LONG%", "", "", { "us-ascii" }, { NULL } },
	{ "before output", DSN_FAILED_REPORT, "", "", "It said:\n", "oops\n", { "\r\nIt said:\r\n\r\n------ u@a\r\n\r\n  oops\r\n" }, { "The following text was generated" } },
	{ "before no output", DSN_FAILED_REPORT, "", "", "It said:\n", "", { "  u@a\r\n" }, { "It said" } },
	{ "output", DSN_FAILED_REPORT, "", "", "", "oops\n", { "\r\nThe following text was generated during the delivery attempt:\r\n\r\n------ u@a\r\n\r\n  oops\r\n" }, { NULL } },
	{ "a delay", DSN_DELAYED_REPORT, "Subject: slow\n", "Wait.\n", "Still here.\n", "", { "\r\nWait.\r\n\r\n  u@a\r\n\r\nStill here.\r\n\r\n--", "\r\nSubject: slow\r\n" }, { "Warning: message" } },
};

static void test_words(void **state)
{
	char longest[3001];

	(void)state;
	memset(longest, 'x', 3000);
	longest[3000] = 0;
	for (size_t i = 0; i < sizeof words_cases / sizeof *words_cases; i++) {
		const struct words_case *c = &words_cases[i];
		const struct dsn_recipient rcpt = { .addr = { "u@a", 3, 0 }, .output = str_of(c->output) };
		struct dsn_report r = base(&rcpt, 1);
		struct buf out = BUF_INIT;
		struct parsed p;
		const char *bad;

		r.kind = c->kind;
		r.text = STR_LIT("extra text");
		r.head = str_of(c->head);
		r.intro = str_of(strcmp(c->intro, "%LONG%") ? c->intro : longest);
		r.last = str_of(c->last);
		bad = lines_check(report_text(&r, &out, "Subject: x\r\n"), true);
		if (bad || !parse(buf_str(&out), &p))
			fail_msg("%s: %s\n%s", c->name, bad ? bad : "not parsed", buf_cstr(&out));
		for (size_t k = 0; k < 4 && c->want[k]; k++)
			if (str_find_str(buf_str(&out), str_of(c->want[k])) < 0)
				fail_msg("%s: want \"%s\" in\n%s", c->name, c->want[k], buf_cstr(&out));
		for (size_t k = 0; k < 3 && c->never[k]; k++)
			if (str_find_str(buf_str(&out), str_of(c->never[k])) >= 0)
				fail_msg("%s: \"%s\" should not be in\n%s", c->name, c->never[k], buf_cstr(&out));
		buf_clear(&out);
	}
}

static void test_many(void **state)
{
	enum { N = 1000 };
	struct dsn_recipient *rcpt = mem_new(N * sizeof *rcpt);
	struct arena a = ARENA_INIT;
	struct buf out = BUF_INIT;
	struct dsn_report r = base(rcpt, N);
	struct parsed p;
	const char *bad;
	struct str rest;
	unsigned seen = 0;
	ptrdiff_t at;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		rcpt[i].addr = str_printf(&a, "recipient-number-%u@some-domain-with-a-long-name.example", i);
		rcpt[i].error = str_printf(&a, "SMTP error from remote mail server after RCPT TO:<x>: 550 5.1.1 %0*d", 900 + (int)i, 0);
		rcpt[i].diagnostic = str_from(rcpt[i].error, 55);
	}
	bad = lines_check(report_text(&r, &out, "Subject: x\r\n"), false);
	if (bad || !parse(buf_str(&out), &p))
		fail_msg("%s", bad ? bad : "not parsed");
	for (rest = p.part[1]; (at = str_find_str(rest, STR_LIT("\r\nFinal-Recipient: "))) >= 0; rest = str_from(rest, (size_t)at + 2))
		seen++;
	assert_int_equal(seen, N);
	assert_int_equal(header_count(p.header, "X-Failed-Recipients"), N / DSN_FAILED_A_FIELD);
	assert_true(str_find_str(p.part[1], STR_LIT("[truncated]")) >= 0);
	buf_clear(&out);
	arena_clear(&a);
	mem_free(rcpt);
}

static void test_envid(void **state)
{
	static const struct { const char *in, *want; } cases[] = {
		{ "QQ314159", "QQ314159" }, { "a+20b+2Bc", "a b+c" }, { "a+0Ab", "a+0Ab" }, { "a+2", "a+2" }, { "a+zz", "a+zz" },
	};
	static const struct dsn_recipient rcpt = { .addr = { "u@a", 3, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct dsn_report r = base(&rcpt, 1);
		struct buf out = BUF_INIT;
		struct header_field f = { 0 };
		struct parsed p;
		struct str got;

		r.envid = str_of(cases[i].in);
		report_text(&r, &out, "");
		assert_true(parse(buf_str(&out), &p));
		assert_true(header_find(group(p.part[1], 0), "Original-Envelope-Id", 0, &f));
		got = str_trim(f.value);
		if (!str_is(got, cases[i].want))
			fail_msg("envid %s: got \"%.*s\", want \"%s\"", cases[i].in, STR_FMT(got), cases[i].want);
		buf_clear(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_utf8), cmocka_unit_test(test_words),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_envid),
	};

	setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

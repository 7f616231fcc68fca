/* SPDX-License-Identifier: ISC */
/* Answers of name servers, hand-made: good, foreign, truncated, malformed, hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/dns/dns_impl.h"

enum { ID = 0x1234 };

struct packet {
	uint8_t p[8192];
	size_t n;
};

static void put(struct packet *k, const void *p, size_t n)
{
	memcpy(k->p + k->n, p, n);
	k->n += n;
}

static void put16(struct packet *k, unsigned v)
{
	put(k, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2);
}

static void put_name(struct packet *k, const char *name)
{
	k->n += dns_name_to_wire(k->p + k->n, 255, str_of(name));
}

/* flags: the word behind the id. */
static void begin(struct packet *k, unsigned flags, const char *name, unsigned type, unsigned answers, unsigned authority)
{
	k->n = 0;
	put16(k, ID);
	put16(k, flags);
	put16(k, 1);
	put16(k, answers);
	put16(k, authority);
	put16(k, 0);
	put_name(k, name);
	put16(k, type);
	put16(k, 1);
}

static void record(struct packet *k, const char *owner, unsigned type, unsigned ttl, const void *data, size_t n)
{
	put_name(k, owner);
	put16(k, type);
	put16(k, 1);
	put16(k, 0);
	put16(k, ttl);
	put16(k, (unsigned)n);
	put(k, data, n);
}

static void record_name(struct packet *k, const char *owner, unsigned type, unsigned ttl, int preference, const char *target)
{
	uint8_t data[300];
	size_t n = 0;

	if (preference >= 0) {
		data[n++] = (uint8_t)(preference >> 8);
		data[n++] = (uint8_t)preference;
	}
	if (*target)
		n += dns_name_to_wire(data + n, 255, str_of(target));
	else
		data[n++] = 0;
	record(k, owner, type, ttl, data, n);
}

static void record_soa(struct packet *k, const char *owner, unsigned ttl, unsigned minimum)
{
	uint8_t data[600];
	size_t n = dns_name_to_wire(data, 255, STR_LIT("ns.example"));

	n += dns_name_to_wire(data + n, 255, STR_LIT("host.example"));
	memset(data + n, 0, 20);
	data[n + 18] = (uint8_t)(minimum >> 8);
	data[n + 19] = (uint8_t)minimum;
	record(k, owner, DNS_SOA, ttl, data, n + 20);
}

/* ---- the packets ---- */

static void make_mx(struct packet *k)
{
	begin(k, 0x8180 | 0x20, "Example.ORG", DNS_MX, 3, 0);
	record_name(k, "example.org", DNS_MX, 300, 20, "b.example.org");
	record_name(k, "EXAMPLE.org", DNS_MX, 200, 10, "A.Example.org");
	record_name(k, "other.org", DNS_MX, 10, 1, "evil.example"); /* not what was asked */
}

static void make_null_mx(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_MX, 1, 0);
	record_name(k, "example.org", DNS_MX, 300, 0, "");
}

static void make_a(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 1, 0);
	record(k, "example.org", DNS_A, 60, (uint8_t[]){ 192, 0, 2, 7 }, 4);
}

static void make_a_short(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 1, 0);
	record(k, "example.org", DNS_A, 60, (uint8_t[]){ 192, 0, 2 }, 3);
}

static void make_cname(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 3, 0);
	record(k, "end.example", DNS_A, 60, (uint8_t[]){ 192, 0, 2, 8 }, 4);
	record_name(k, "mid.example", DNS_CNAME, 50, -1, "end.example");
	record_name(k, "example.org", DNS_CNAME, 70, -1, "mid.example");
}

static void make_cname_open(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 1, 0);
	record_name(k, "example.org", DNS_CNAME, 70, -1, "elsewhere.example");
}

static void make_cname_loop(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 2, 0);
	record_name(k, "example.org", DNS_CNAME, 70, -1, "b.example");
	record_name(k, "b.example", DNS_CNAME, 70, -1, "example.org");
}

static void make_cname_self(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 1, 0);
	record_name(k, "example.org", DNS_CNAME, 70, -1, "example.org");
}

static void make_nxdomain(struct packet *k)
{
	begin(k, 0x8183, "example.org", DNS_A, 0, 1);
	record_soa(k, "org", 900, 120);
}

static void make_nodata(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 0, 1);
	record_soa(k, "org", 30, 120);
}

static void make_referral(struct packet *k)
{
	begin(k, 0x8100, "example.org", DNS_A, 0, 1);
	record_name(k, "org", DNS_NS, 900, -1, "ns.example");
}

static void make_servfail(struct packet *k)
{
	begin(k, 0x8182, "example.org", DNS_A, 0, 0);
}

static void make_refused_bare(struct packet *k)
{
	make_servfail(k);
	k->p[3] = 0x85;
	k->p[5] = 0; /* no question */
	k->n = 12;
}

static void make_truncated(struct packet *k)
{
	begin(k, 0x8380, "example.org", DNS_A, 0, 0);
}

static void make_other_id(struct packet *k)
{
	make_a(k);
	k->p[0] ^= 1;
}

static void make_question(struct packet *k)
{
	make_a(k);
	k->p[2] &= 0x7f; /* QR */
}

static void make_other_name(struct packet *k)
{
	begin(k, 0x8180, "example.net", DNS_A, 1, 0);
	record(k, "example.net", DNS_A, 60, (uint8_t[]){ 192, 0, 2, 7 }, 4);
}

static void make_other_type(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_AAAA, 0, 0);
}

static void make_counts_lie(struct packet *k)
{
	make_a(k);
	k->p[6] = 0xff;
	k->p[7] = 0xff;
}

static void make_cut(struct packet *k)
{
	make_mx(k);
	k->n -= 5;
}

static void make_header_only(struct packet *k)
{
	make_a(k);
	k->n = 11;
}

static void make_pointer_loop(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 1, 0);
	put(k, (uint8_t[]){ 0xc0, (uint8_t)k->n }, 2); /* points to itself */
	put(k, (uint8_t[]){ 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4 }, 14);
}

static void make_odd_target(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_MX, 2, 0);
	record_name(k, "example.org", DNS_MX, 300, 5, "mx;rm.example");
	record_name(k, "example.org", DNS_MX, 300, 10, "good.example");
}

static void make_many(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_A, 300, 0);
	for (unsigned i = 0; i < 300; i++) {
		put(k, (uint8_t[]){ 0xc0, 12 }, 2);
		put(k, (uint8_t[]){ 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, (uint8_t)(i >> 8), (uint8_t)i }, 14);
	}
}

static void make_txt(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_TXT, 1, 0);
	record(k, "example.org", DNS_TXT, 60, "\005hello\000\006 world", 14);
}

static void make_txt_bad(struct packet *k)
{
	begin(k, 0x8180, "example.org", DNS_TXT, 1, 0);
	record(k, "example.org", DNS_TXT, 60, "\377hello", 6);
}

static void make_tlsa(struct packet *k)
{
	begin(k, 0x81a0, "_25._tcp.example.org", DNS_TLSA, 1, 0);
	record(k, "_25._tcp.example.org", DNS_TLSA, 60, (uint8_t[]){ 3, 1, 1, 0xaa, 0xbb }, 5);
}

static void make_srv(struct packet *k)
{
	uint8_t data[300] = { 0, 1, 0, 2, 0, 25 };
	size_t n = 6 + dns_name_to_wire(data + 6, 255, STR_LIT("h.example"));

	begin(k, 0x8180, "_smtp._tcp.example.org", DNS_SRV, 1, 0);
	record(k, "_smtp._tcp.example.org", DNS_SRV, 60, data, n);
}

static const struct {
	const char *name;
	void (*make)(struct packet *k);
	const char *ask;
	unsigned type, flags;
	enum dns_parse parse;
	const char *want; /* found secure ttl cnames name rows */
} cases[] = {
	{ "mx", make_mx, "example.org", DNS_MX, 0, DNS_PARSE_OK, "0 secure ttl=200 cnames=0 example.org: 20 b.example.org; 10 a.example.org;" },
	{ "null mx", make_null_mx, "example.org", DNS_MX, 0, DNS_PARSE_OK, "0 - ttl=300 cnames=0 example.org: 0 ;" },
	{ "address", make_a, "example.org", DNS_A, 0, DNS_PARSE_OK, "0 - ttl=60 cnames=0 example.org: 0 192.0.2.7;" },
	{ "address too short", make_a_short, "example.org", DNS_A, 0, DNS_PARSE_MALFORMED, NULL },
	{ "chain, out of order", make_cname, "example.org", DNS_A, 0, DNS_PARSE_OK, "0 - ttl=50 cnames=2 end.example: 0 192.0.2.8;" },
	{ "chain not followed", make_cname, "example.org", DNS_A, DNS_NO_CNAME, DNS_PARSE_OK, "1 - ttl=5 cnames=0 example.org:" },
	{ "chain leads out", make_cname_open, "example.org", DNS_A, 0, DNS_PARSE_OK, "1 - ttl=5 cnames=1 elsewhere.example: open" },
	{ "loop", make_cname_loop, "example.org", DNS_A, 0, DNS_PARSE_MALFORMED, NULL },
	{ "loop of one", make_cname_self, "example.org", DNS_A, 0, DNS_PARSE_MALFORMED, NULL },
	{ "no such name", make_nxdomain, "example.org", DNS_A, 0, DNS_PARSE_OK, "2 - ttl=120 cnames=0 example.org:" },
	{ "no such rows", make_nodata, "example.org", DNS_A, 0, DNS_PARSE_OK, "1 - ttl=30 cnames=0 example.org:" },
	{ "referral", make_referral, "example.org", DNS_A, 0, DNS_PARSE_OK, "1 - ttl=5 cnames=0 example.org: trouble=3" },
	{ "server failure", make_servfail, "example.org", DNS_A, 0, DNS_PARSE_OK, "0 - ttl=0 cnames=0 example.org: rcode=2" },
	{ "refused without the question", make_refused_bare, "example.org", DNS_A, 0, DNS_PARSE_OK, "0 - ttl=0 cnames=0 example.org: rcode=5" },
	{ "truncated", make_truncated, "example.org", DNS_A, 0, DNS_PARSE_TRUNCATED, NULL },
	{ "another id", make_other_id, "example.org", DNS_A, 0, DNS_PARSE_FOREIGN, NULL },
	{ "a question", make_question, "example.org", DNS_A, 0, DNS_PARSE_FOREIGN, NULL },
	{ "another name", make_other_name, "example.org", DNS_A, 0, DNS_PARSE_FOREIGN, NULL },
	{ "another type", make_other_type, "example.org", DNS_A, 0, DNS_PARSE_FOREIGN, NULL },
	{ "counts lie", make_counts_lie, "example.org", DNS_A, 0, DNS_PARSE_MALFORMED, NULL },
	{ "cut off", make_cut, "example.org", DNS_MX, 0, DNS_PARSE_MALFORMED, NULL },
	{ "less than a header", make_header_only, "example.org", DNS_A, 0, DNS_PARSE_FOREIGN, NULL },
	{ "compression loop", make_pointer_loop, "example.org", DNS_A, 0, DNS_PARSE_MALFORMED, NULL },
	{ "a target that is no host name", make_odd_target, "example.org", DNS_MX, 0, DNS_PARSE_OK,
		"0 - ttl=300 cnames=0 example.org: 10 good.example;" },
	{ "such a target asked for", make_odd_target, "example.org", DNS_MX, DNS_ANY_NAME, DNS_PARSE_OK,
		"0 - ttl=300 cnames=0 example.org: 5 mx;rm.example; 10 good.example;" },
	{ "three strings", make_txt, "example.org", DNS_TXT, 0, DNS_PARSE_OK, "0 - ttl=60 cnames=0 example.org: 0 hello world;" },
	{ "a string longer than its record", make_txt_bad, "example.org", DNS_TXT, 0, DNS_PARSE_MALFORMED, NULL },
	{ "tlsa", make_tlsa, "_25._tcp.example.org", DNS_TLSA, 0, DNS_PARSE_OK, "0 secure ttl=60 cnames=0 _25._tcp.example.org: 3 \xaa\xbb;" },
	{ "srv", make_srv, "_smtp._tcp.example.org", DNS_SRV, 0, DNS_PARSE_OK, "0 - ttl=60 cnames=0 _smtp._tcp.example.org: 1 h.example;" },
};

static void answer_text(const struct dns_answer *x, bool open, char *out, size_t max)
{
	int n = snprintf(out, max, "%d %s ttl=%u cnames=%u %.*s:", x->found, x->secure ? "secure" : "-", x->ttl, x->cnames, STR_FMT(x->name));

	for (uint32_t i = 0; i < x->n; i++)
		n += snprintf(out + n, max - (size_t)n, " %u %.*s;", x->rows[i].n[0], STR_FMT(x->rows[i].data));
	if (open)
		n += snprintf(out + n, max - (size_t)n, " open");
	if (x->trouble)
		n += snprintf(out + n, max - (size_t)n, " trouble=%d", x->trouble);
	if (x->rcode && x->rcode != 3)
		snprintf(out + n, max - (size_t)n, " rcode=%u", x->rcode);
}

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct packet *k = mem_new(sizeof *k);
		struct dns_answer x;
		bool open;
		char got[2000] = "";
		enum dns_parse parse;
		cases[i].make(k);
		parse = dns_answer_parse(k->p, k->n, ID, str_of(cases[i].ask), cases[i].type, cases[i].flags, &a, &x, &open);
		if (parse != cases[i].parse)
			fail_msg("%s: got %d, want %d", cases[i].name, parse, cases[i].parse);
		if (cases[i].want) {
			answer_text(&x, open, got, sizeof got);
			if (strcmp(got, cases[i].want))
				fail_msg("%s:\n got %s\nwant %s", cases[i].name, got, cases[i].want);
		}
		mem_free(k);
		arena_clear(&a);
	}
}

static void test_limits(void **state)
{
	struct arena a = ARENA_INIT;
	struct packet *k = mem_new(sizeof *k);
	struct dns_answer x;
	bool open;

	(void)state;
	make_many(k);
	assert_int_equal(dns_answer_parse(k->p, k->n, ID, STR_LIT("example.org"), DNS_A, 0, &a, &x, &open), DNS_PARSE_OK);
	assert_int_equal(x.n, 300);
	/* every cut of it is refused or understood, and nothing is read behind its end */
	for (size_t n = 0; n < k->n; n += 7) {
		uint8_t *copy = mem_memdup(k->p, n);
		dns_answer_parse(copy, n, ID, STR_LIT("example.org"), DNS_A, 0, &a, &x, &open);
		mem_free(copy);
		arena_reset(&a);
	}
	mem_free(k);
	arena_clear(&a);
}

static const struct {
	const char *in, *want; /* NULL: refused */
	bool strict;
} names[] = {
	{ "Example.ORG", "example.org", true }, { "example.org.", "example.org", true }, { "stra\xc3\x9f" "e.example", "xn--strae-oqa.example", true },
	{ "_25._tcp.example", "_25._tcp.example", true }, { "", NULL, true }, { ".", NULL, true }, { "a..b", NULL, true }, { ".a", NULL, true },
	{ "a b", NULL, true }, { "a/b", NULL, true }, { "a/b", "a/b", false }, { "a\\b", NULL, false }, { "a\nb", NULL, false },
	{ "0123456789012345678901234567890123456789012345678901234567890123", NULL, true },
	{ "012345678901234567890123456789012345678901234567890123456789012", "012345678901234567890123456789012345678901234567890123456789012", true },
	{ "\xff\xfe.example", NULL, true },
};

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		struct str got = STR_NULL;
		enum status st = dns_name_normal(&a, str_of(names[i].in), names[i].strict, &got, &err);
		if (names[i].want ? st != ST_OK || !str_is(got, names[i].want) : st != ST_FAIL)
			fail_msg("\"%s\": got %s \"%.*s\", want \"%s\"", names[i].in, status_name(st), STR_FMT(got), names[i].want ? names[i].want : "(refused)");
		arena_clear(&a);
	}
}

static void test_reverse(void **state)
{
	static const struct { const char *in, *want; } ips[] = {
		{ "192.0.2.1", "1.2.0.192.in-addr.arpa" },
		{ "2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa" }, { "192.0.2", "" }, { "mail", "" },
	};
	struct arena a = ARENA_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof ips / sizeof *ips; i++) {
		struct str got = dns_name_reverse(&a, str_of(ips[i].in));
		if (!str_is(got, ips[i].want))
			fail_msg("%s: got %.*s", ips[i].in, STR_FMT(got));
	}
	arena_clear(&a);
}

static void test_cache(void **state)
{
	struct arena a = ARENA_INIT;
	struct dns_cache c;
	struct str parts[] = { STR_LIT("he"), STR_LIT("llo") };
	struct str whole = STR_LIT("hello");
	struct dns_row row = { .owner = STR_LIT("x.example"), .type = DNS_TXT, .data = whole, .parts = parts, .n_parts = 2 };
	struct dns_answer x = { .found = DNS_ROWS, .name = STR_LIT("x.example"), .rows = &row, .n = 1, .ttl = 60 }, got;
	struct err err = ERR_INIT;
	enum status st;

	(void)state;
	parts[0].p = whole.p;
	parts[1].p = whole.p + 2;
	dns_cache_init(&c, 2);
	dns_cache_put(&c, STR_LIT("1"), 1000, ST_OK, &x, NULL);
	dns_cache_put(&c, STR_LIT("2"), 5000, ST_OK, &x, NULL);
	assert_true(dns_cache_get(&c, STR_LIT("1"), 500, &a, &st, &got, &err));
	assert_int_equal(got.n, 1);
	assert_int_equal(got.ttl, 1);
	assert_true(got.cached);
	assert_true(str_is(got.rows[0].parts[1], "llo"));
	dns_cache_put(&c, STR_LIT("3"), 5000, ST_OK, &x, NULL); /* the one not used for longest goes */
	assert_false(dns_cache_get(&c, STR_LIT("2"), 500, &a, &st, &got, &err));
	assert_true(dns_cache_get(&c, STR_LIT("1"), 999, &a, &st, &got, &err));
	assert_false(dns_cache_get(&c, STR_LIT("1"), 1000, &a, &st, &got, &err)); /* too old */
	assert_int_equal(c.n, 1);
	dns_cache_clear(&c);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers), cmocka_unit_test(test_limits), cmocka_unit_test(test_names), cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

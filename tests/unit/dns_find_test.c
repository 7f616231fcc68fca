/* SPDX-License-Identifier: ISC */
/* Hosts of domains, asked of a name server in a thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/dns/find.h"
#include "tests/unit/dns_fake.h"

static const char *const zone[] = {
	"two.example. IN MX 20 b.example.", "two.example. IN MX 10 a.example.",
	"a.example. IN A 192.0.2.1", "a.example. IN AAAA 2001:db8::1", "b.example. IN A 192.0.2.2",
	"plain.example. IN A 192.0.2.3",
	"null.example. IN MX 0 .", "null.example. IN A 192.0.2.4",
	"nullplus.example. IN MX 0 .", "nullplus.example. IN MX 10 a.example.",
	"text.example. IN TXT \"x\"",
	"ip.example. IN MX 10 192.0.2.5.",
	"ghost.example. IN MX 10 nothing.example.",
	"half.example. IN MX 10 servfail.example.", "half.example. IN MX 20 b.example.",
	"broken.example. IN MX 10 servfail.example.",
	"alias.example. IN CNAME two.example.",
	"hostalias.example. IN MX 10 ha.example.", "ha.example. IN CNAME b.example.",
	"self1.example. IN MX 10 me.example.", "self1.example. IN MX 20 b.example.", "me.example. IN A 192.0.2.99",
	"self2.example. IN MX 10 b.example.", "self2.example. IN MX 20 me.example.", "self2.example. IN MX 20 a.example.",
	"self2.example. IN MX 30 plain.example.",
	"self3.example. IN MX 10 servfail.example.", "self3.example. IN MX 20 me.example.",
	"ignored.example. IN MX 10 ig.example.", "ig.example. IN A 198.51.100.1",
	"someignored.example. IN MX 10 ig.example.", "someignored.example. IN MX 20 b.example.",
	"twice.example. IN MX 30 b.example.", "twice.example. IN MX 10 b.example.",
	"mail.secure.example. IN MX 10 h.secure.example.", "h.secure.example. IN A 192.0.2.6",
	"weak.secure.example. IN MX 10 b.example.",
	"_smtp._tcp.srv.example. IN SRV 10 5 2525 b.example.", "_smtp._tcp.srv.example. IN SRV 20 5 25 a.example.",
	"_smtp._tcp.nosrv.example. IN SRV 0 0 0 .", "nosrv.example. IN MX 10 a.example.",
	"cut.example. IN MX 10 b.example.", "liar.example. IN A 192.0.2.7", "noedns.example. IN A 192.0.2.8",
	"1.2.0.192.in-addr.arpa. IN PTR a.example.", "2.2.0.192.in-addr.arpa. IN PTR liar2.example.", "liar2.example. IN A 203.0.113.1",
	"own.example. IN A 192.0.2.9", "own.trusted.example. IN A 192.0.2.10", "others.trusted.example. IN A 192.0.2.11",
	"loop1.example. IN CNAME loop2.example.", "loop2.example. IN CNAME loop1.example.",
	NULL,
};

static bool ignored(void *ctx, struct str ip, struct str name)
{
	(void)ctx, (void)name;
	return str_begins(ip, "198.51.100.");
}

static bool local(void *ctx, struct str ip, struct str name)
{
	(void)ctx, (void)name;
	return str_is(ip, "192.0.2.99");
}

static const struct {
	const char *domain;
	unsigned flags;
	const char *srv;
	const char *want;
} cases[] = {
	{ "two.example", 0, "", "ok mx: 0 a.example 2001:db8::1; 0 a.example 192.0.2.1; 1 b.example 192.0.2.2;" },
	{ "TWO.example.", FIND_IPV4_FIRST, "", "ok mx: 0 a.example 192.0.2.1; 0 a.example 2001:db8::1; 1 b.example 192.0.2.2;" },
	{ "two.example", FIND_IPV4_ONLY, "", "ok mx: 0 a.example 192.0.2.1; 1 b.example 192.0.2.2;" },
	{ "plain.example", 0, "", "ok: 0 plain.example 192.0.2.3;" },
	{ "plain.example", FIND_MX_REQUIRED, "", "fail why=2" },
	{ "null.example", 0, "", "fail why=3 mx" },
	{ "nullplus.example", 0, "", "ok mx: 0 a.example 2001:db8::1; 0 a.example 192.0.2.1;" },
	{ "text.example", 0, "", "fail why=2" },
	{ "nowhere.example", 0, "", "fail why=1" },
	{ "ip.example", 0, "", "fail why=6 mx" },
	{ "ip.example", FIND_ALLOW_MX_IP, "", "ok mx: 0 192.0.2.5 192.0.2.5;" },
	{ "ghost.example", 0, "", "fail why=5 mx" },
	{ "half.example", 0, "", "ok mx: 1 b.example 192.0.2.2;" },
	{ "broken.example", 0, "", "defer why=8 mx trouble=2" },
	{ "servfail.example", 0, "", "defer why=8 trouble=2" },
	{ "refused.example", 0, "", "defer why=8 trouble=3" },
	{ "alias.example", 0, "", "ok mx: 0 a.example 2001:db8::1; 0 a.example 192.0.2.1; 1 b.example 192.0.2.2;" },
	{ "hostalias.example", 0, "", "ok mx: 0 ha.example 192.0.2.2;" },
	{ "self1.example", 0, "", "ok mx self: 0 me.example 192.0.2.99; 1 b.example 192.0.2.2;" },
	{ "self2.example", 0, "", "ok mx dropped: 0 b.example 192.0.2.2;" },
	{ "self2.example", FIND_SECONDARY, "", "ok mx dropped: 0 b.example 192.0.2.2;" },
	{ "two.example", FIND_SECONDARY, "", "fail why=2 mx" },
	{ "self3.example", 0, "", "defer why=8 mx trouble=2" },
	{ "ignored.example", 0, "", "fail why=4 mx" },
	{ "someignored.example", 0, "", "ok mx: 1 b.example 192.0.2.2;" },
	{ "twice.example", 0, "", "ok mx: 0 b.example 192.0.2.2;" },
	{ "mail.secure.example", 0, "", "ok mx secure: 0 h.secure.example 192.0.2.6 s;" },
	{ "weak.secure.example", 0, "", "ok mx secure: 0 b.example 192.0.2.2;" },
	{ "srv.example", 0, "smtp", "ok mx: 0 b.example 192.0.2.2:2525; 1 a.example 2001:db8::1:25; 1 a.example 192.0.2.1:25;" },
	{ "nosrv.example", 0, "smtp", "fail why=3 mx" },
	{ "two.example", 0, "smtp", "ok mx: 0 a.example 2001:db8::1; 0 a.example 192.0.2.1; 1 b.example 192.0.2.2;" },
	{ "cut.example", 0, "", "ok mx: 0 b.example 192.0.2.2;" },
	{ "liar.example", 0, "", "ok: 0 liar.example 192.0.2.7;" },
	{ "noedns.example", 0, "", "ok: 0 noedns.example 192.0.2.8;" },
	{ "bad_-domain..example", 0, "", "fail why=7" },
	{ "loop1.example", 0, "", "defer why=8 trouble=4" },
	{ "silent.example", 0, "", "defer why=8 trouble=1" },
	{ "silent.example", FIND_MX_DEFER_IS_NONE, "", "defer why=8 trouble=1" },
};

static struct dns_fake *fake;
static struct dns *dns;

static void result_text(enum status st, const struct find_result *r, char *out, size_t max)
{
	int n = snprintf(out, max, "%s", st == ST_OK ? "ok" : st == ST_FAIL ? "fail" : st == ST_DEFER ? "defer" : "error");

	if (st != ST_OK)
		n += snprintf(out + n, max - (size_t)n, " why=%d", r->why);
	n += snprintf(out + n, max - (size_t)n, "%s%s%s%s", r->had_mx ? " mx" : "", r->self ? " self" : "", r->dropped && st == ST_OK ? " dropped" : "",
		r->secure ? " secure" : "");
	if (st == ST_DEFER)
		snprintf(out + n, max - (size_t)n, " trouble=%d", r->trouble);
	if (st != ST_OK)
		return;
	n += snprintf(out + n, max - (size_t)n, ":");
	for (uint32_t i = 0; i < r->n; i++) {
		n += snprintf(out + n, max - (size_t)n, " %u %.*s %.*s", r->v[i].group, STR_FMT(r->v[i].name), STR_FMT(r->v[i].ip));
		if (r->v[i].port)
			n += snprintf(out + n, max - (size_t)n, ":%u", r->v[i].port);
		n += snprintf(out + n, max - (size_t)n, "%s;", r->v[i].secure ? " s" : "");
	}
}

static void test_hosts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct find_options o = { .flags = cases[i].flags | FIND_KEEP_ORDER, .srv = str_of(cases[i].srv), .ignored = ignored, .local = local };
		struct find_result r;
		struct err err = ERR_INIT;
		char got[2000];
		enum status st = find_mail_hosts(dns, &a, str_of(cases[i].domain), &o, &r, &err);
		result_text(st, &r, got, sizeof got);
		if (strcmp(got, cases[i].want))
			fail_msg("%s:\n got %s (%s)\nwant %s", cases[i].domain, got, err.text, cases[i].want);
		if (st != ST_OK && !err.text[0])
			fail_msg("%s: no text", cases[i].domain);
		arena_clear(&a);
	}
	assert_true(fake->asked_tcp > 0);
}

static void test_random_order(void **state)
{
	struct arena a = ARENA_INIT;
	struct find_options o = { .flags = FIND_IPV4_ONLY };
	struct find_result r;
	unsigned first = 0;

	(void)state;
	for (int i = 0; i < 64; i++) {
		assert_int_equal(find_mail_hosts(dns, &a, STR_LIT("two.example"), &o, &r, NULL), ST_OK);
		first += str_is(r.v[0].name, "a.example"); /* preference before chance */
	}
	assert_int_equal(first, 64);
	arena_clear(&a);
}

static void test_addresses(void **state)
{
	static const struct { const char *name; unsigned flags; const char *want; } names[] = {
		{ "192.0.2.9", 0, "ok: 0 192.0.2.9 192.0.2.9;" }, { "2001:DB8:0::1", 0, "ok: 0 2001:DB8:0::1 2001:db8::1;" },
		{ "b.example", 0, "ok: 0 b.example 192.0.2.2;" }, { "from.file", 0, "ok: 0 from.file 2001:db8::7; 0 from.file 192.0.2.70;" },
		{ "from.file", FIND_DNS_ONLY, "fail why=1" }, { "localhost", 0, "ok: 0 localhost ::1; 0 localhost 127.0.0.1;" },
		{ "nowhere.example", 0, "fail why=1" }, { "text.example", 0, "fail why=2" }, { "198.51.100.7", 0, "fail why=4" },
		{ "a b", 0, "fail why=7" }, { "ha.example", 0, "ok: 0 ha.example 192.0.2.2;" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct arena a = ARENA_INIT;
		struct find_options o = { .flags = names[i].flags, .ignored = ignored, .local = local };
		struct find_result r;
		struct err err = ERR_INIT;
		char got[2000];
		enum status st = find_addresses(dns, &a, str_of(names[i].name), &o, &r, &err);
		result_text(st, &r, got, sizeof got);
		if (strcmp(got, names[i].want))
			fail_msg("%s:\n got %s (%s)\nwant %s", names[i].name, got, err.text, names[i].want);
		arena_clear(&a);
	}
}

static void test_reverse(void **state)
{
	static const struct find_order usual = { { FIND_BY_DNS, FIND_BY_FILE } }, turned = { { FIND_BY_FILE, FIND_BY_DNS } }, file = { { FIND_BY_FILE } },
		by_dns = { { FIND_BY_DNS } };
	static const struct { const char *ip; const struct find_order *order; enum status st; const char *name; } ips[] = {
		{ "192.0.2.1", &usual, ST_OK, "a.example" }, { "192.0.2.2", &usual, ST_FAIL, "" }, { "192.0.2.77", &usual, ST_FAIL, "" },
		{ "192.0.2.70", &usual, ST_OK, "from.file" }, { "192.0.2.70", &turned, ST_OK, "from.file" }, { "192.0.2.70", &file, ST_OK, "from.file" },
		{ "192.0.2.70", &by_dns, ST_FAIL, "" }, { "192.0.2.1", &turned, ST_OK, "a.example" }, { "192.0.2.1", &file, ST_FAIL, "" },
		{ "no address", &usual, ST_FAIL, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof ips / sizeof *ips; i++) {
		struct arena a = ARENA_INIT;
		struct find_names names;
		enum status st = find_names(dns, &a, str_of(ips[i].ip), *ips[i].order, &names, NULL);
		if (st != ips[i].st || (st == ST_OK && !str_is(names.v[0], ips[i].name)))
			fail_msg("%s: got %s %.*s", ips[i].ip, status_name(st), STR_FMT(names.n ? names.v[0] : STR_NULL));
		arena_clear(&a);
	}
}

static void test_cache_and_lists(void **state)
{
	struct arena a = ARENA_INIT;
	struct dns_answer x;
	unsigned before;

	(void)state;
	assert_int_equal(dns_query(dns, &a, STR_LIT("a.example"), DNS_A, 0, &x, NULL), ST_OK);
	before = fake->asked;
	assert_int_equal(dns_query(dns, &a, STR_LIT("A.EXAMPLE."), DNS_A, 0, &x, NULL), ST_OK);
	assert_true(x.cached);
	assert_int_equal(dns_query(dns, &a, STR_LIT("nowhere.example"), DNS_A, 0, &x, NULL), ST_FAIL);
	assert_int_equal(dns_query(dns, &a, STR_LIT("nowhere.example"), DNS_A, 0, &x, NULL), ST_FAIL);
	assert_true(x.cached);
	assert_int_equal(x.found, DNS_NXDOMAIN);
	assert_int_equal(dns_query(dns, &a, STR_LIT("servfail.example"), DNS_A, 0, &x, NULL), ST_DEFER);
	assert_int_equal(dns_query(dns, &a, STR_LIT("servfail.example"), DNS_A, 0, &x, NULL), ST_DEFER);
	assert_true(x.cached);
	assert_true(fake->asked <= before + 2);
	assert_int_equal(dns_query(dns, &a, STR_LIT("again.servfail.example"), DNS_TLSA, 0, &x, NULL), ST_FAIL); /* NXDOMAIN: not in the zone */
	assert_int_equal(dns_query(dns, &a, STR_LIT("servfail-again.example"), DNS_A, 0, &x, NULL), ST_FAIL);
	assert_int_equal(dns_query(dns, &a, STR_LIT("servfail-again.example"), DNS_TLSA, 0, &x, NULL), ST_DEFER);
	assert_int_equal(dns_query(dns, &a, STR_LIT("_odd.example"), DNS_A, 0, &x, NULL), ST_FAIL);
	assert_int_equal(x.found, DNS_BAD_NAME);
	arena_clear(&a);
}

/* One dead server before a good one: the good one is asked, and first from then on. */
static void test_dead_server(void **state)
{
	struct dns_config c = { .retrans_ms = 200, .retry = 2 };
	struct arena a = ARENA_INIT;
	struct dns_answer x;
	struct dns *d;
	uint64_t start;
	char text[40];

	(void)state;
	dns_config_server(&c, STR_LIT("127.0.0.1#1"), NULL); /* nobody listens: refused at once */
	snprintf(text, sizeof text, "127.0.0.1#%u", fake->port);
	dns_config_server(&c, str_of(text), NULL);
	d = dns_new(&c, NULL);
	assert_int_equal(dns_query(d, &a, STR_LIT("a.example"), DNS_A, 0, &x, NULL), ST_OK);
	start = clock_ms();
	assert_int_equal(dns_query(d, &a, STR_LIT("silent2.example"), DNS_A, 0, &x, NULL), ST_DEFER);
	assert_in_range(clock_ms() - start, 500, 3000); /* 200 and 400 */
	assert_true(dns_deadline_begin(d, clock_ms() + 50));
	start = clock_ms();
	assert_int_equal(dns_query(d, &a, STR_LIT("silent3.example"), DNS_A, 0, &x, NULL), ST_DEFER);
	assert_in_range(clock_ms() - start, 30, 400);
	dns_free(d);
	arena_clear(&a);
}

/* Slow name servers: who waits for them asks first, once for a piece of work, and says when it is over. */
static struct { bool yes, full; unsigned begun, ended; } patience;

static bool slow(void *ctx, enum dns_slow what)
{
	(void)ctx;
	patience.begun += what == DNS_SLOW_BEGIN;
	patience.ended += what == DNS_SLOW_END;
	return patience.yes || (what == DNS_SLOW_PLACE && !patience.full);
}

static void test_slow_servers(void **state)
{
	struct dns_config c = { .retrans_ms = 600, .retry = 1, .slow = slow, .slow_ms = 300 };
	struct arena a = ARENA_INIT;
	struct dns_answer x;
	struct err err = ERR_INIT;
	char text[40];
	unsigned before;
	struct dns *d;

	(void)state;
	snprintf(text, sizeof text, "127.0.0.1#%u", fake->port);
	dns_config_server(&c, str_of(text), NULL);
	d = dns_new(&c, NULL);
	/* by itself: permitted, then not */
	patience.yes = true;
	assert_int_equal(dns_query(d, &a, STR_LIT("silent4.example"), DNS_A, DNS_NO_CACHE, &x, &err), ST_DEFER);
	assert_true(patience.begun == 1 && patience.ended == 1);
	assert_null(strstr(err.text, "at once"));
	patience.yes = false;
	assert_int_equal(dns_query(d, &a, STR_LIT("silent5.example"), DNS_A, 0, &x, &err), ST_DEFER);
	assert_true(patience.begun == 2 && patience.ended == 1);
	assert_non_null(strstr(err.text, "too many questions to slow name servers at once"));
	before = fake->asked; /* of which nothing is remembered */
	assert_int_equal(dns_query(d, &a, STR_LIT("silent5.example"), DNS_A, 0, &x, &err), ST_DEFER);
	assert_true(fake->asked > before && patience.begun == 3);
	/* what answers at once goes on */
	assert_int_equal(dns_query(d, &a, STR_LIT("a.example"), DNS_A, 0, &x, &err), ST_OK);
	assert_int_equal(patience.begun, 3);
	/* several in one piece of work: one permission holds for all of it; within it nobody begins another */
	patience.yes = true;
	assert_true(dns_deadline_begin(d, clock_ms() + 60000));
	assert_false(dns_deadline_begin(d, clock_ms() + 1));
	dns_deadline_end(d, false);
	dns_query(d, &a, STR_LIT("silent6.example"), DNS_A, 0, &x, &err);
	dns_query(d, &a, STR_LIT("silent7.example"), DNS_A, 0, &x, &err);
	assert_true(patience.begun == 4 && patience.ended == 1);
	dns_deadline_end(d, true);
	assert_int_equal(patience.ended, 2);
	/* without permission each may still give a quick answer */
	patience.yes = false;
	assert_true(dns_deadline_begin(d, clock_ms() + 60000));
	dns_query(d, &a, STR_LIT("silent8.example"), DNS_A, 0, &x, &err);
	assert_int_equal(dns_query(d, &a, STR_LIT("b.example"), DNS_A, 0, &x, &err), ST_OK);
	dns_deadline_end(d, true);
	assert_true(patience.begun == 5 && patience.ended == 2);
	/* where there was no place at its start, it gives up sooner */
	dns_free(d);
	c.slow_ms = 1800; /* more than all tries take; a sixth of it is less */
	d = dns_new(&c, NULL);
	for (unsigned i = 0; i < 2; i++) {
		patience.full = i;
		assert_true(dns_deadline_begin(d, clock_ms() + 60000));
		dns_query(d, &a, STR_LIT("silent9.example"), DNS_A, DNS_NO_CACHE, &x, &err);
		dns_deadline_end(d, true);
		assert_int_equal(patience.begun, 5 + i);
	}
	dns_free(d);
	arena_clear(&a);
}

static void test_configuration(void **state)
{
	static const struct { const char *in; unsigned port; } good[] = {
		{ "192.0.2.1", 53 }, { "192.0.2.1#5353", 5353 }, { "192.0.2.1:5353", 5353 }, { "192.0.2.1.5353", 5353 }, { "[192.0.2.1]:54", 54 },
		{ "2001:db8::1", 53 }, { "[2001:db8::1]", 53 }, { "[2001:db8::1]:54", 54 }, { "2001:db8::1#54", 54 },
	};
	static const char *const bad[] = { "", "mail", "192.0.2", "192.0.2.1#", "192.0.2.1#70000", "[192.0.2.1", "[::1]x", "192.0.2.1#0" };
	struct dns_config c = { .n_servers = 0 };

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		c.n_servers = 0;
		if (dns_config_server(&c, str_of(good[i].in), NULL) != ST_OK ||
			ntohs(((struct sockaddr_in *)&c.servers[0].addr)->sin_port) != good[i].port)
			fail_msg("%s", good[i].in);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (dns_config_server(&c, str_of(bad[i]), NULL) != ST_ERROR)
			fail_msg("%s was taken", bad[i]);
	memset(&c, 0, sizeof c);
	dns_config_resolv(&c, STR_LIT("# x\nnameserver 192.0.2.1\nsearch a b\nnameserver ::1\noptions timeout:2 attempts:5 trust-ad foo\n"));
	assert_int_equal(c.n_servers, 2);
	assert_int_equal(c.retrans_ms, 2000);
	assert_int_equal(c.retry, 5);
	assert_true(c.trust_ad && c.servers[1].trusted && !c.servers[0].trusted);
	memset(&c, 0, sizeof c);
	dns_config_resolv(&c, STR_NULL);
	assert_int_equal(c.n_servers, 1);
}

static bool listed(void *ctx, enum dns_list list, struct str domain)
{
	(void)ctx;
	return (list == DNS_LIST_AGAIN_NONEXIST && str_begins(domain, "servfail-again")) ||
		(list == DNS_LIST_TRUST_AA && str_endsi(domain, "trusted.example"));
}

/* AD is believed of this machine alone (the mapped address is no loopback address), or where resolv.conf says so; AA of domains in
 * dns_trust_aa. */
static void test_who_is_believed(void **state)
{
	static const struct { const char *server; bool trust_ad; const char *name; bool secure; } rows[] = {
		{ "local", false, "h.secure.example", true }, { "strange", false, "h.secure.example", false },
		{ "strange", true, "h.secure.example", true }, { "local", true, "a.example", false },
		{ "local", false, "own.trusted.example", true }, { "local", false, "own.example", false },
		{ "local", false, "others.trusted.example", false }, { "strange", false, "own.trusted.example", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct dns_config c = { .retrans_ms = 100, .retry = 2, .edns = -1, .dnssec = -1, .listed = listed, .trust_ad = rows[i].trust_ad };
		struct arena a = ARENA_INIT;
		struct dns_answer x;
		char text[64];
		struct dns *d;

		snprintf(text, sizeof text, !strcmp(rows[i].server, "strange") ? "::ffff:127.0.0.1#%u" : "127.0.0.1#%u", fake->port);
		assert_int_equal(dns_config_server(&c, str_of(text), NULL), ST_OK);
		d = dns_new(&c, NULL);
		assert_int_equal(dns_query(d, &a, str_of(rows[i].name), DNS_A, 0, &x, NULL), ST_OK);
		if (x.secure != rows[i].secure)
			fail_msg("%s of %s: secure %d", rows[i].name, text, x.secure);
		dns_free(d);
		arena_clear(&a);
	}
}

static int setup(void **state)
{
	struct dns_config c = { .retrans_ms = 100, .retry = 2, .edns = -1, .dnssec = -1, .listed = listed,
		.check_names = STR_LIT("(?i)^(?>(?(1)\\.|())[^\\W_](?>[a-z0-9/-]*[^\\W_])?)+$"),
		.hosts_file = STR_LIT("# names\n192.0.2.70 from.file alias\n2001:DB8::7\tfrom.file # x\nbad line\n::1 localhost\n127.0.0.1 localhost\n") };
	char text[40];

	(void)state;
	fake = dns_fake_start(zone);
	if (!fake)
		return -1;
	snprintf(text, sizeof text, "127.0.0.1#%u", fake->port);
	dns_config_server(&c, str_of(text), NULL);
	dns = dns_new(&c, NULL);
	return dns ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	dns_free(dns);
	dns_fake_stop(fake);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts), cmocka_unit_test(test_random_order), cmocka_unit_test(test_addresses), cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_cache_and_lists), cmocka_unit_test(test_dead_server), cmocka_unit_test(test_slow_servers), cmocka_unit_test(test_configuration),
		cmocka_unit_test(test_who_is_believed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: ISC */
/* Addresses: what the grammar takes and refuses, whole paths, forms. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/mail/address.h"
#include "common/mail/addrlist.h"

#define A10 "aaaaaaaaaa"
#define A60 A10 A10 A10 A10 A10 A10
#define A63 A60 "aaa"
#define A64 A60 "aaaa"
#define D4 A63 "." A63 "." A63 "."
#define LIT ADDR_LITERALS
#define LEN ADDR_LENIENT
#define UNQ ADDR_UNQUALIFIED
#define U8 ADDR_UTF8
#define EMP ADDR_EMPTY

/* want: the address; NULL: refused. rest: what stays behind the path. */
static const struct path_case {
	const char *in;
	unsigned flags;
	const char *want, *rest;
} path_cases[] = {
	{ "<a@b.example>", 0, "a@b.example", "" },
	{ "<a@b>", 0, "a@b", "" },
	{ "<a@b.example> SIZE=10", 0, "a@b.example", " SIZE=10" },
	{ "<a@b.example>SIZE=10", 0, NULL, NULL },
	{ "<a@b.example>>", 0, NULL, NULL },
	{ "<<a@b.example>", 0, NULL, NULL },
	{ "<a@b.example", 0, NULL, NULL },
	{ "a@b.example>", 0, NULL, NULL },
	{ "a@b.example", 0, NULL, NULL },
	{ "a@b.example", LEN, "a@b.example", "" },
	{ "a@b.example SIZE=1", LEN, "a@b.example", " SIZE=1" },
	{ " <a@b.example>", 0, NULL, NULL },
	{ " <a@b.example>", LEN, "a@b.example", "" },
	{ "< a@b.example >", LEN, "a@b.example", "" },
	{ "< a@b.example>", 0, NULL, NULL },
	{ "<a@b.example >", 0, NULL, NULL },
	{ "<>", 0, NULL, NULL },
	{ "<>", EMP, "", "" },
	{ "<> BODY=7BIT", EMP, "", " BODY=7BIT" },
	{ "< >", EMP, NULL, NULL },
	{ "", EMP, NULL, NULL },
	{ "", LEN | EMP, NULL, NULL },
	{ "<a.b.c@b.example>", 0, "a.b.c@b.example", "" },
	{ "<.a@b.example>", 0, NULL, NULL },
	{ "<a.@b.example>", 0, NULL, NULL },
	{ "<a..b@b.example>", 0, NULL, NULL },
	{ "<.a@b.example>", LEN, ".a@b.example", "" },
	{ "<a..b.@b.example>", LEN, "a..b.@b.example", "" },
	{ "<!#$%&'*+-/=?^_`{|}~@b.example>", 0, "!#$%&'*+-/=?^_`{|}~@b.example", "" },
	{ "<a b@c.example>", 0, NULL, NULL },
	{ "<a(b)@c.example>", 0, NULL, NULL },
	{ "<a,b@c.example>", 0, NULL, NULL },
	{ "<a;b@c.example>", 0, NULL, NULL },
	{ "<a:b@c.example>", 0, NULL, NULL },
	{ "<a\\b@c.example>", 0, NULL, NULL },
	{ "<a[b@c.example>", 0, NULL, NULL },
	{ "<a@b@c.example>", 0, NULL, NULL },
	{ "<a>b@c.example>", 0, NULL, NULL },
	{ "<\"a b\"@c.example>", 0, "\"a b\"@c.example", "" },
	{ "<\"a\\\"b\"@c.example>", 0, "\"a\\\"b\"@c.example", "" },
	{ "<\"a\\\\\"@c.example>", 0, "\"a\\\\\"@c.example", "" },
	{ "<\"a@b\"@c.example>", 0, "\"a@b\"@c.example", "" },
	{ "<\"a>b\"@c.example>", 0, "\"a>b\"@c.example", "" },
	{ "<\"\"@c.example>", 0, "\"\"@c.example", "" },
	{ "<\"a..b\"@c.example>", 0, "\"a..b\"@c.example", "" },
	{ "<\"a@c.example>", 0, NULL, NULL },
	{ "<\"a\"b@c.example>", 0, NULL, NULL },
	{ "<a\"b\"@c.example>", 0, NULL, NULL },
	{ "<\"a\".b@c.example>", 0, NULL, NULL },
	{ "<\"a\\\"@c.example>", 0, NULL, NULL },
	{ "<\"a\tb\"@c.example>", 0, NULL, NULL },
	{ "<\"a\rb\"@c.example>", 0, NULL, NULL },
	{ "<\"a\nb\"@c.example>", 0, NULL, NULL },
	{ "<\"a\\\nb\"@c.example>", 0, NULL, NULL },
	{ "<\"a\x7f\"@c.example>", 0, NULL, NULL },
	{ "<\"\\a\"@c.example>", 0, "\"\\a\"@c.example", "" },
	{ "<" A64 "@b.example>", 0, A64 "@b.example", "" },
	{ "<" A64 "a@b.example>", 0, NULL, NULL },
	{ "<" A64 "a@b.example>", LEN, A64 "a@b.example", "" },
	{ "<a@" A63 ".example>", 0, "a@" A63 ".example", "" },
	{ "<a@" A64 ".example>", 0, NULL, NULL },
	{ "<a@" A64 ".example>", LEN, NULL, NULL },
	{ "<a@" D4 A60 ">", 0, "a@" D4 A60, "" },   /* 254 octets of address */
	{ "<ab@" D4 A60 ">", 0, NULL, NULL },       /* 257 with brackets */
	{ "<ab@" D4 A60 ">", LEN, "ab@" D4 A60, "" },
	{ "<a@" D4 A63 ">", 0, NULL, NULL },
	{ "<a@" D4 A63 "." A63 ">", LEN, NULL, NULL }, /* 319 octets of domain */
	{ "<a@b.c.d.e.f.g>", 0, "a@b.c.d.e.f.g", "" },
	{ "<a@b..example>", 0, NULL, NULL },
	{ "<a@.b.example>", 0, NULL, NULL },
	{ "<a@b.example.>", 0, NULL, NULL },
	{ "<a@b.example.>", LEN, "a@b.example.", "" },
	{ "<a@b.example..>", LEN, NULL, NULL },
	{ "<a@.>", LEN, NULL, NULL },
	{ "<a@->", 0, NULL, NULL },
	{ "<a@-b.example>", 0, NULL, NULL },
	{ "<a@b-.example>", 0, NULL, NULL },
	{ "<a@b--c.example>", 0, "a@b--c.example", "" },
	{ "<a@xn--bcher-kva.example>", 0, "a@xn--bcher-kva.example", "" },
	{ "<a@b_c.example>", 0, NULL, NULL },
	{ "<a@b_c.example>", LEN, "a@b_c.example", "" },
	{ "<a@1.2.3.4>", 0, "a@1.2.3.4", "" },
	{ "<a@3com.example>", 0, "a@3com.example", "" },
	{ "<a@b,c.example>", 0, NULL, NULL },
	{ "<a@b c.example>", 0, NULL, NULL },
	{ "<a@b/c.example>", 0, NULL, NULL },
	{ "<a@b:25>", 0, NULL, NULL },
	{ "<a@\"b\".example>", 0, NULL, NULL },
	{ "<a@>", 0, NULL, NULL },
	{ "<a@ >", 0, NULL, NULL },
	{ "<@b.example>", 0, NULL, NULL },
	{ "<@>", 0, NULL, NULL },
	{ "<@>", LEN | EMP, NULL, NULL },
	{ "<a>", 0, NULL, NULL },
	{ "<a>", UNQ, "a", "" },
	{ "<\"a b\">", UNQ, "\"a b\"", "" },
	{ "<a> X", UNQ, "a", " X" },
	{ "<postmaster>", 0, "postmaster", "" },
	{ "<PostMaster>", 0, "PostMaster", "" },
	{ "<postmaster@>", 0, NULL, NULL },
	{ "<postmasterx>", 0, NULL, NULL },
	{ "<a@[192.0.2.1]>", 0, NULL, NULL },
	{ "<a@[192.0.2.1]>", LIT, "a@[192.0.2.1]", "" },
	{ "<a@[192.0.2.256]>", LIT, NULL, NULL },
	{ "<a@[192.0.2]>", LIT, NULL, NULL },
	{ "<a@[192.0.2.1.5]>", LIT, NULL, NULL },
	{ "<a@[]>", LIT, NULL, NULL },
	{ "<a@[192.0.2.1>", LIT, NULL, NULL },
	{ "<a@192.0.2.1]>", LIT, NULL, NULL },
	{ "<a@[192.0.2.1].example>", LIT, NULL, NULL },
	{ "<a@[ 192.0.2.1]>", LIT, NULL, NULL },
	{ "<a@[IPv6:2001:db8::1]>", LIT, "a@[IPv6:2001:db8::1]", "" },
	{ "<a@[ipv6:::1]>", LIT, "a@[ipv6:::1]", "" },
	{ "<a@[IPv6:::ffff:192.0.2.1]>", LIT, "a@[IPv6:::ffff:192.0.2.1]", "" },
	{ "<a@[IPv6:2001:db8::1::2]>", LIT, NULL, NULL },
	{ "<a@[IPv6:192.0.2.1]>", LIT, NULL, NULL },
	{ "<a@[2001:db8::1]>", LIT, NULL, NULL },
	{ "<a@[IPv6:]>", LIT, NULL, NULL },
	{ "<a@[IPv6:fe80::1%eth0]>", LIT, NULL, NULL },
	{ "<a@[x400:foo]>", LIT, NULL, NULL },
	{ "<a@[localhost]>", LIT, NULL, NULL },
	{ "<@one.example:a@b.example>", 0, "a@b.example", "" },
	{ "<@one.example,@two.example:a@b.example>", 0, "a@b.example", "" },
	{ "<@one.example,two.example:a@b.example>", 0, NULL, NULL },
	{ "<@one.example a@b.example>", 0, NULL, NULL },
	{ "<@one.example,@two.example>", 0, NULL, NULL },
	{ "<@one.example:>", 0, NULL, NULL },
	{ "<@one.example:>", EMP, NULL, NULL },
	{ "<@-:a@b.example>", 0, NULL, NULL },
	{ "<@:a@b.example>", 0, NULL, NULL },
	{ "<@one.example:@two.example:a@b>", 0, NULL, NULL },
	{ "<a@b.example\r>", 0, NULL, NULL },
	{ "<a\x01@b.example>", 0, NULL, NULL },
	{ "<a@b.example\x01>", 0, NULL, NULL },
	{ "<\xc3\xa4@b.example>", 0, NULL, NULL },
	{ "<\xc3\xa4@b.example>", U8, "\xc3\xa4@b.example", "" },
	{ "<a@b\xc3\xbc" "cher.example>", 0, NULL, NULL },
	{ "<a@b\xc3\xbc" "cher.example>", U8, "a@b\xc3\xbc" "cher.example", "" },
	{ "<\"\xc3\xa4 b\"@b.example>", U8, "\"\xc3\xa4 b\"@b.example", "" },
	{ "<\xc3@b.example>", U8, NULL, NULL },
	{ "<\xc0\xaf@b.example>", U8, NULL, NULL },       /* overlong */
	{ "<\xed\xa0\x80@b.example>", U8, NULL, NULL },   /* surrogate */
	{ "<\xc2\x85@b.example>", U8, NULL, NULL },       /* U+0085 */
	{ "<\xc2\xa0@b.example>", U8, "\xc2\xa0@b.example", "" },
	{ "<\xf4\x8f\xbf\xbf@b.example>", U8, "\xf4\x8f\xbf\xbf@b.example", "" },
	{ "<\xf4\x90\x80\x80@b.example>", U8, NULL, NULL },
	{ "<a@" A60 "\xc3\xa4\xc3\xa4.example>", U8, "a@" A60 "\xc3\xa4\xc3\xa4.example", "" }, /* 64 octets: IDNA has the last word */
	{ "<\xf5\x80\x80\x80@b.example>", U8, NULL, NULL },
	{ "<\xf0\x9f\x93\xa7@b.example>", U8, "\xf0\x9f\x93\xa7@b.example", "" },
};

static void test_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof path_cases / sizeof *path_cases; i++) {
		const struct path_case *c = &path_cases[i];
		struct address addr;
		struct str rest = STR_NULL;
		struct err err = ERR_INIT;
		enum status st = address_path_parse(str_of(c->in), c->flags, &addr, &rest, &err);

		if ((st == ST_OK) != (c->want != NULL))
			fail_msg("case %zu \"%s\": got %s \"%.*s\" %s, want %s", i, c->in, status_name(st), STR_FMT(addr.text), err.text,
				c->want ? c->want : "a refusal");
		if (st == ST_OK && (!str_is(addr.text, c->want) || !str_is(rest, c->rest)))
			fail_msg("case %zu \"%s\": got \"%.*s\" and \"%.*s\", want \"%s\" and \"%s\"", i, c->in, STR_FMT(addr.text), STR_FMT(rest), c->want,
				c->rest);
		if (st != ST_OK && (st != ST_FAIL || !err.text[0]))
			fail_msg("case %zu \"%s\": status %s, text \"%s\"", i, c->in, status_name(st), err.text);
	}
}

static void test_nul(void **state)
{
	static const char in[] = "<a\0@b.example>";
	struct address addr;
	struct str rest;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(address_path_parse(str_make(in, sizeof in - 1), 0, &addr, &rest, &err), ST_FAIL);
	assert_int_equal(address_path_parse(str_make("<a@b\0.example>", 14), ADDR_LENIENT, &addr, &rest, &err), ST_FAIL);
	assert_int_equal(address_path_parse(str_make("<\"\0\"@b>", 8), 0, &addr, &rest, &err), ST_FAIL);
}

static void test_parts(void **state)
{
	struct address addr;
	struct err err = ERR_INIT;
	struct str local, domain;

	(void)state;
	assert_int_equal(address_parse(STR_LIT("\"x@y\"@Example.ORG"), 0, &addr, &err), ST_OK);
	assert_true(str_is(addr.local, "\"x@y\"") && str_is(addr.domain, "Example.ORG") && addr.quoted && !addr.literal);
	assert_int_equal(address_parse(STR_LIT("a@b "), 0, &addr, &err), ST_FAIL);
	assert_int_equal(address_parse(STR_LIT("a@b>"), 0, &addr, &err), ST_FAIL);
	assert_int_equal(address_parse(STR_LIT("<a@b>"), 0, &addr, &err), ST_FAIL);
	assert_true(address_split(STR_LIT("\"x@y\"@z"), &local, &domain));
	assert_true(str_is(local, "\"x@y\"") && str_is(domain, "z"));
	assert_false(address_split(STR_LIT("\"x@y\""), &local, &domain));
}

static void test_forms(void **state)
{
	static const struct { const char *bare, *quoted; } quotes[] = {
		{ "a", "a" }, { "a.b", "a.b" }, { "a b", "\"a b\"" }, { ".a", "\".a\"" }, { "a.", "\"a.\"" }, { "a..b", "\"a..b\"" },
		{ "", "\"\"" }, { "a\"b", "\"a\\\"b\"" }, { "a\\b", "\"a\\\\b\"" }, { "a@b", "\"a@b\"" },
	};
	struct arena a = ARENA_INIT;
	struct str back;

	(void)state;
	for (size_t i = 0; i < sizeof quotes / sizeof *quotes; i++) {
		struct str q = address_local_quote(&a, str_of(quotes[i].bare));

		if (!str_is(q, quotes[i].quoted) || !str_is(address_local_unquote(&a, q), quotes[i].bare))
			fail_msg("\"%s\": got %.*s", quotes[i].bare, STR_FMT(q));
		assert_true(address_local_valid(q, 0));
	}
	assert_true(str_is(address_lower_domain(&a, STR_LIT("A.B@C.Example")), "A.B@c.example"));
	assert_true(str_is(address_lower_domain(&a, STR_LIT("\"A@B\"@C")), "\"A@B\"@c"));
	assert_true(address_same(&a, STR_LIT("\"a\"@B.c"), STR_LIT("a@b.C")));
	assert_false(address_same(&a, STR_LIT("A@b"), STR_LIT("a@b")));
	assert_true(str_is(address_xtext_encode(&a, STR_LIT("a+b=c d")), "a+2Bb+3Dc+20d"));
	assert_true(address_xtext_decode(&a, STR_LIT("a+2Bb+3Dc+20d"), &back) && str_is(back, "a+b=c d"));
	assert_false(address_xtext_decode(&a, STR_LIT("a+2"), &back));
	assert_false(address_xtext_decode(&a, STR_LIT("a+2b"), &back));
	assert_false(address_xtext_decode(&a, STR_LIT("a=b"), &back));
	assert_true(address_same(&a, STR_LIT("a@b\xc3\xbc" "cher.example"), STR_LIT("a@XN--bcher-kva.example")));
	assert_true(address_same(&a, STR_LIT("a@bu\xcc\x88" "cher.example"), STR_LIT("a@B\xc3\x9c" "cher.example")));
	assert_false(address_same(&a, STR_LIT("\xc3\xa9@b"), STR_LIT("e\xcc\x81@b")));
	arena_clear(&a);
}

/* RFC 6533: the two forms of an address, NULL: refused. */
static const struct { const char *in, *address, *ascii, *unitext; } unitexts[] = {
	{ "a@b", "a@b", "a@b", "a@b" },
	{ "\xc3\xa4@b", "\xc3\xa4@b", "\\x{E4}@b", "\xc3\xa4@b" },
	{ "\\x{E4}\\x{e4}@b", "\xc3\xa4\xc3\xa4@b", "\\x{E4}\\x{E4}@b", "\xc3\xa4\xc3\xa4@b" },
	{ "\\x{7528}\\x{6237}@b", "\xe7\x94\xa8\xe6\x88\xb7@b", "\\x{7528}\\x{6237}@b", "\xe7\x94\xa8\xe6\x88\xb7@b" },
	{ "\\x{1F600}@b", "\xf0\x9f\x98\x80@b", "\\x{1F600}@b", "\xf0\x9f\x98\x80@b" },
	{ "\\x{10FFFF}@b", "\xf4\x8f\xbf\xbf@b", "\\x{10FFFF}@b", "\xf4\x8f\xbf\xbf@b" },
	{ "\"a\\x{20}b\"\\x{2B}\\x{3D}\\x{5C}@b", "\"a b\"+=\\@b", "\"a\\x{20}b\"\\x{2B}\\x{3D}\\x{5C}@b", "\"a\\x{20}b\"\\x{2B}\\x{3D}\\x{5C}@b" },
	{ "", NULL, NULL, NULL }, { "a b", NULL, NULL, NULL }, { "a+b", NULL, NULL, NULL }, { "a=b", NULL, NULL, NULL }, { "\\", NULL, NULL, NULL },
	{ "\\x", NULL, NULL, NULL }, { "\\x{", NULL, NULL, NULL }, { "\\x{}", NULL, NULL, NULL }, { "\\x{E}", NULL, NULL, NULL }, { "\\x{E4", NULL, NULL, NULL },
	{ "\\x{0E4}", NULL, NULL, NULL }, { "\\x{41}", NULL, NULL, NULL }, { "\\x{0A}", NULL, NULL, NULL }, { "\\x{85}", NULL, NULL, NULL },
	{ "\\x{D800}", NULL, NULL, NULL }, { "\\x{110000}", NULL, NULL, NULL }, { "\\x{100000000E4}", NULL, NULL, NULL }, { "\xc3", NULL, NULL, NULL },
	{ "\xc0\xaf", NULL, NULL, NULL },
};

static void test_unitext(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof unitexts / sizeof *unitexts; i++) {
		struct arena a = ARENA_INIT;
		struct str got;
		bool ok = address_unitext_decode(&a, str_of(unitexts[i].in), &got);

		if (ok != (unitexts[i].address != NULL) || (ok && !str_is(got, unitexts[i].address)))
			fail_msg("\"%s\": %s", unitexts[i].in, ok ? str_cstr(&a, got) : "refused");
		if (ok) {
			assert_true(str_is(address_unitext_encode(&a, got, true), unitexts[i].ascii));
			assert_true(str_is(address_unitext_encode(&a, got, false), unitexts[i].unitext));
		}
		arena_clear(&a);
	}
}

/* want: "addr|name|group" items separated by "; ", NULL: refused */
static const struct { const char *in; unsigned flags; const char *want; } list_cases[] = {
	{ "a@b", 0, "a@b||" },
	{ "a@b, c@d", 0, "a@b||; c@d||" },
	{ " A B <a@b> ", 0, "a@b|A B|" },
	{ "\"B, A\" <a@b>,c@d", 0, "a@b|B, A|; c@d||" },
	{ "a@b (Name here)", 0, "a@b|Name here|" },
	{ "(c) a (c) @ (c) b (c (nested \\) ))", 0, "a@b|c (nested ) )|" },
	{ "John Q. Public <a@b>", 0, "a@b|John Q. Public|" },
	{ "friends: a@b, \"x y\"@d;", 0, "a@b||friends; \"x y\"@d||friends" },
	{ "undisclosed-recipients:;", 0, "" },
	{ "g1: a@b;, c@d, g2: e@f;", 0, "a@b||g1; c@d||; e@f||g2" },
	{ "", 0, "" },
	{ ",,a@b,,", 0, "a@b||" },
	{ "a@b,\r\n\tc@d", 0, "a@b||; c@d||" },
	{ "root", 0, "root||" },
	{ "<@x,@y:a@b>", 0, "a@b||" },
	{ "Name <@x:a@b>", 0, "a@b|Name|" },
	{ "a@[192.0.2.1]", 0, "a@[192.0.2.1]||" },
	{ "=?utf-8?q?N?= <a@b>", 0, "a@b|=?utf-8?q?N?=|" },
	{ "<>", 0, NULL },
	{ "<>", ADDR_EMPTY, "||" },
	{ "a b@c", 0, NULL },
	{ "a@b c@d", 0, NULL },
	{ "a@b> x", 0, NULL },
	{ "<a@b", 0, NULL },
	{ "<a@b> c", 0, NULL },
	{ "\"a@b", 0, NULL },
	{ "(a@b", 0, NULL },
	{ "a@b;", 0, NULL },
	{ "g: h: a@b;", 0, NULL },
	{ "a@b..c", 0, NULL },
	{ "a..b@c", 0, NULL },
	{ "a..b@c", ADDR_LENIENT, "a..b@c||" },
	{ "@", 0, NULL },
	{ "a@", 0, NULL },
	{ "\xc3\xa4 <a@b>", 0, "a@b|\xc3\xa4|" },
	{ "\xc3\xa4@b", 0, NULL },
	{ "\xc3\xa4@b", ADDR_UTF8, "\xc3\xa4@b||" },
};

static void test_lists(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof list_cases / sizeof *list_cases; i++) {
		struct arena a = ARENA_INIT;
		struct addrlist list;
		struct err err = ERR_INIT;
		struct buf got = BUF_INIT;
		enum status st = addrlist_parse(str_of(list_cases[i].in), list_cases[i].flags, &a, &list, &err);

		for (uint32_t k = 0; !st && k < list.n; k++)
			buf_printf(&got, "%s%.*s|%.*s|%.*s", k ? "; " : "", STR_FMT(list.v[k].addr), STR_FMT(list.v[k].name), STR_FMT(list.v[k].group));
		if ((st == ST_OK) != (list_cases[i].want != NULL) || (!st && strcmp(buf_cstr(&got), list_cases[i].want)))
			fail_msg("\"%s\": got %s \"%s\" %s, want \"%s\"", list_cases[i].in, status_name(st), buf_cstr(&got), err.text,
				list_cases[i].want ? list_cases[i].want : "(refusal)");
		buf_clear(&got);
		arena_clear(&a);
	}
}

static void test_items(void **state)
{
	struct str rest = STR_LIT("|\"/bin/x a,b\", \"a,b\"@c (x,y), :fail: no"), item;
	struct arena a = ARENA_INIT;
	struct addrlist_item one;
	struct err err = ERR_INIT;

	(void)state;
	assert_true(addrlist_item_next(&rest, &item) && str_is(item, "|\"/bin/x a,b\""));
	assert_true(addrlist_item_next(&rest, &item) && str_is(item, "\"a,b\"@c (x,y)"));
	assert_int_equal(addrlist_item_parse(item, 0, &a, &one, &err), ST_OK);
	assert_true(str_is(one.addr, "\"a,b\"@c"));
	assert_true(addrlist_item_next(&rest, &item) && str_is(item, ":fail: no"));
	assert_false(addrlist_item_next(&rest, &item));
	assert_int_equal(addrlist_item_parse(STR_LIT("a@b, c@d"), 0, &a, &one, &err), ST_FAIL);
	assert_true(str_is(addrlist_format(&a, STR_LIT("A. \"B\""), STR_LIT("a@b")), "\"A. \\\"B\\\"\" <a@b>"));
	assert_true(str_is(addrlist_format(&a, STR_LIT("A B"), STR_LIT("a@b")), "A B <a@b>"));
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths), cmocka_unit_test(test_nul), cmocka_unit_test(test_parts), cmocka_unit_test(test_forms),
		cmocka_unit_test(test_unitext), cmocka_unit_test(test_lists), cmocka_unit_test(test_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* Lists: what is in them, what a match gives, what can't be known. */
#include "tests/unit/lang_util.h"

#include "common/base/clock.h"
#include "common/lang/lang_priv.h"

static const char conf_text[] =
	"primary_hostname = mail.example.test\n"
	"hosts_treat_as_local = treated.example\n"
	"domainlist locals = local.example : *.sub.example\n"
	"domainlist nested = +locals : third.example\n"
	"domainlist circle = +circle2\n"
	"domainlist circle2 = +circle\n"
	"domainlist files = /f/list\n"
	"domainlist looked = lsearch;/t/domains\n"
	"domainlist_cache cached = ${if eq{a}{a}{lsearch;/t/domains}} : $domain.none\n"
	"domainlist uncached = lsearch,cache=no_rd;/t/domains : $domain.none\n"
	"localpartlist cased = +caseful : lsearch;/t/users\n"
	"localpartlist users = lsearch;/t/users\n"
	"hostlist hosts_looked = lsearch;/t/names\n"
	"hostlist relays = 10.0.0.0/8 : 192.0.2.1\n"
	"addresslist people = *@locals.example : boss@top.example\n"
	"localpartlist names = alice : bob\n";

static struct conf *conf;
static struct lang *lang;
static struct fake fake;
static struct arena arena;

static int setup(void **state)
{
	struct lang_services services;

	(void)state;
	conf = test_conf(conf_text);
	services = fake_services(&fake);
	lang = lang_new(conf, &services);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lang_free(lang);
	conf_free(conf);
	arena_clear(&arena);
	return 0;
}

struct list_case {
	enum lang_list_kind kind;
	const char *list, *subject;
	enum status status;
	const char *data;          /* NULL: not compared; with ST_ERROR: part of the message */
};

#define D LIST_DOMAIN
#define A LIST_ADDRESS
#define L LIST_LOCALPART
#define H LIST_HOST
#define S LIST_STRING
#define I LIST_IP

static const struct list_case cases[] = {
	/* plain domains, wildcards, negation, the end of the list */
	{ D, "a.example : b.example", "b.example", ST_OK, "b.example" },
	{ D, "a.example : b.example", "B.Example", ST_OK, "b.example" },
	{ D, "a.example : b.example", "c.example", ST_FAIL, NULL },
	{ D, "", "a", ST_FAIL, NULL },
	{ D, ":", "", ST_OK, "" },
	{ D, "*.b.example", "x.b.example", ST_OK, "*.b.example" },
	{ D, "*.b.example", "b.example", ST_FAIL, NULL },
	{ D, "*b.example", "b.example", ST_OK, "*b.example" },
	{ D, "*", "anything", ST_OK, "*" },
	{ D, "!a.example : *.example", "a.example", ST_FAIL, NULL },
	{ D, "! a.example : *.example", "b.example", ST_OK, "*.example" },
	{ D, "!a.example", "b.example", ST_OK, NULL },
	{ D, "!a.example : b.example", "c.example", ST_FAIL, NULL },
	{ D, "a.example : !b.example", "c.example", ST_OK, NULL },
	{ D, "<; a.example; b:c", "b:c", ST_OK, "b:c" },
	{ D, "a::b : c", "a:b", ST_OK, "a:b" },
	{ D, "\\N^a\\d+\\.example$\\N", "A12.example", ST_OK, NULL },
	{ D, "\\N^(?-i)a\\d+\\.example$\\N", "A12.example", ST_OK, NULL }, /* the subject is in lower case */
	{ D, "^[", "x", ST_ERROR, "regular expression" },
	{ D, "a1.x : a2.x : a3.x : a4.x : a5.x : a6.x : a7.x : a8.x : a9.x : A10.x", "a10.x", ST_OK, "A10.x" },
	{ D, "a1.x : a2.x : a3.x : a4.x : a5.x : a6.x : a7.x : a8.x : a9.x : A10.x", "a11.x", ST_FAIL, NULL },
	/* what is not ASCII: domains by IDNA, all else in normalisation form C */
	{ D, "b\xc3\xbc" "cher.example", "b\xc3\xbc" "cher.example", ST_OK, "b\xc3\xbc" "cher.example" },
	{ D, "b\xc3\xbc" "cher.example", "xn--bcher-kva.example", ST_OK, "b\xc3\xbc" "cher.example" },
	{ D, "xn--bcher-kva.example", "B\xc3\xbc" "cher.example", ST_OK, "xn--bcher-kva.example" },
	{ D, "B\xc3\x9c" "CHER.example", "b\xc3\xbc" "cher.example", ST_OK, "B\xc3\x9c" "CHER.example" },
	{ D, "bu\xcc\x88" "cher.example", "b\xc3\xbc" "cher.example", ST_OK, NULL },
	{ D, "b\xc3\xbc" "cher.example", "bu\xcc\x88" "cher.example", ST_OK, NULL },
	{ D, "b\xc3\xbc" "cher.example", "bucher.example", ST_FAIL, NULL },
	{ D, "\xe7\x94\xa8\xe6\x88\xb7.example : \xd9\x85\xd8\xab\xd8\xa7\xd9\x84.example", "\xe7\x94\xa8\xe6\x88\xb7.example", ST_OK, "\xe7\x94\xa8\xe6\x88\xb7.example" },
	{ D, "*.b\xc3\xbc" "cher.example", "x.xn--bcher-kva.example", ST_OK, "*.b\xc3\xbc" "cher.example" },
	{ D, "*.b\xc3\xbc" "cher.example", "\xe7\x94\xa8\xe6\x88\xb7.b\xc3\xbc" "cher.example", ST_OK, "*.b\xc3\xbc" "cher.example" },
	{ D, "*cher.example", "b\xc3\xbc" "cher.example", ST_OK, "*cher.example" },
	{ D, "*\xc3\xbc" "cher.example", "b\xc3\xbc" "cher.example", ST_OK, "*\xc3\xbc" "cher.example" },
	{ D, "!b\xc3\xbc" "cher.example : *", "xn--bcher-kva.example", ST_FAIL, NULL },
	{ D, "a1.x : a2.x : a3.x : a4.x : a5.x : a6.x : a7.x : a8.x : \xc3\xa4.x : a10.x : xn--bcher-kva.x", "\xc3\xa4.x", ST_OK, "\xc3\xa4.x" },
	{ D, "a1.x : a2.x : a3.x : a4.x : a5.x : a6.x : a7.x : a8.x : \xc3\xa4.x : a10.x : xn--bcher-kva.x", "b\xc3\xbc" "cher.x", ST_OK, "xn--bcher-kva.x" },
	{ D, "^b.*cher", "xn--bcher-kva.example", ST_OK, NULL },
	{ D, "^xn--", "b\xc3\xbc" "cher.example", ST_OK, NULL },
	{ L, "j\xc3\xbcrgen : \xc3\xa9", "ju\xcc\x88rgen", ST_OK, "j\xc3\xbcrgen" },
	{ L, "ju\xcc\x88rgen", "j\xc3\xbcrgen", ST_OK, NULL },
	{ L, "j\xc3\xbcrgen", "jurgen", ST_FAIL, NULL },
	{ L, "j\xc3\xbcrgen", "xn--jrgen-kva", ST_FAIL, NULL },
	{ A, "j\xc3\xbcrgen@b\xc3\xbc" "cher.example", "ju\xcc\x88rgen@bu\xcc\x88" "cher.example", ST_OK, NULL },
	{ A, "j\xc3\xbcrgen@b\xc3\xbc" "cher.example", "j\xc3\xbcrgen@xn--bcher-kva.example", ST_OK, NULL },
	{ A, "*@b\xc3\xbc" "cher.example", "\xe7\x94\xa8\xe6\x88\xb7@xn--bcher-kva.example", ST_OK, NULL },
	{ A, "b\xc3\xbc" "cher.example", "\xe7\x94\xa8\xe6\x88\xb7@xn--bcher-kva.example", ST_OK, NULL },
	{ A, "*.b\xc3\xbc" "cher.example", "\xe7\x94\xa8\xe6\x88\xb7@a.xn--bcher-kva.example", ST_OK, NULL },
	{ A, "*\xc3\xbcrgen@b", "j\xc3\xbcrgen@b", ST_OK, NULL },
	{ A, "j\xc3\xbcrgen@b", "xn--jrgen-kva@b", ST_FAIL, NULL },
	{ S, "\xc3\xa9", "e\xcc\x81", ST_OK, NULL },
	/* this host */
	{ D, "@", "mail.example.test", ST_OK, "mail.example.test" },
	{ D, "@", "other", ST_FAIL, NULL },
	{ D, "@[]", "[192.0.2.200]", ST_OK, "@[]" },
	{ D, "@[]", "[192.0.2.201]", ST_FAIL, NULL },
	{ D, "@mx_any", "prim.example", ST_OK, "@mx_any" },
	{ D, "@mx_any", "sec.example", ST_OK, "@mx_any" },
	{ D, "@mx_any", "none.example", ST_FAIL, NULL },
	{ D, "@mx_primary", "prim.example", ST_OK, NULL },
	{ D, "@mx_primary", "sec.example", ST_FAIL, NULL },
	{ D, "@mx_secondary", "sec.example", ST_OK, NULL },
	{ D, "@mx_secondary", "prim.example", ST_FAIL, NULL },
	{ D, "@mx_any/ignore=192.0.2.200", "prim.example", ST_FAIL, NULL },
	{ D, "@mx_any", "defer.example", ST_DEFER, NULL },
	/* named lists */
	{ D, "+locals", "local.example", ST_OK, "local.example" },
	{ D, "+nested", "x.sub.example", ST_OK, "*.sub.example" },
	{ D, "! +nested : *", "third.example", ST_FAIL, NULL },
	{ D, "! +nested : *", "fourth.example", ST_OK, "*" },
	{ D, "+local", "x", ST_ERROR, "did you mean \"+locals\"" },
	{ D, "+circle", "x", ST_ERROR, "names itself" },
	{ D, "+relays", "x", ST_ERROR, "unknown domain list" },
	/* files */
	{ D, "/f/list", "one.example", ST_OK, "one.example" },
	{ D, "/f/list", "two.example", ST_FAIL, NULL },
	{ D, "/f/list", "x.two.example", ST_OK, "*.two.example" },
	{ D, "!/f/list", "one.example", ST_FAIL, NULL },
	{ D, "!/f/list", "two.example", ST_OK, NULL },
	{ D, "!/f/list", "three.example", ST_OK, NULL },
	{ D, "+files", "one.example", ST_OK, "one.example" },
	{ D, "/f/nosuch", "x", ST_ERROR, "does not exist" },
	{ L, "/f/locals", "a#b", ST_OK, "a#b" },
	{ L, "/f/locals", "c", ST_OK, "c" },
	/* lookups */
	{ D, "lsearch;/t/domains", "a.example", ST_OK, "data a" },
	{ D, "lsearch;/t/domains", "z.example", ST_FAIL, NULL },
	{ D, "lsearch*;/t/domains", "z.example", ST_OK, "star" },
	{ D, "partial-lsearch;/t/domains", "x.y.b.example", ST_OK, "data b" },
	{ D, "+looked", "a.example", ST_OK, "data a" },
	{ D, "lsearch,ret=key;/t/domains", "a.example", ST_OK, "a.example" },
	{ D, "redis;get key", "x", ST_OK, "redis value" },
	{ D, "lsearch;/t/broken", "x", ST_DEFER, NULL },
	{ D, "lsearch;t/relative", "x", ST_ERROR, "absolute" },
	{ D, "lsearhc;/t/x", "x", ST_ERROR, "did you mean \"lsearch\"" },
	{ D, "${lookup{nobody}lsearch{/t/users}{$value}fail}", "x", ST_FAIL, NULL },
	{ D, "${if eq{a}{a}{x.example}}", "x.example", ST_OK, "x.example" },
	{ D, "${lookup{alice}lsearch{/t/broken}}", "x", ST_DEFER, NULL },
	{ D, "${if bool{x}{a}}", "x", ST_ERROR, "boolean" },
	/* local parts */
	{ L, "alice : bob", "Alice", ST_OK, "alice" },
	{ L, "+caseful : alice", "Alice", ST_FAIL, NULL },
	{ L, "bob : +caseful : Alice", "Alice", ST_OK, "Alice" },
	{ L, "*-request", "list-request", ST_OK, "*-request" },
	{ L, "+names", "bob", ST_OK, "bob" },
	{ L, "@", "@", ST_OK, "@" },
	{ L, "lsearch;/t/users", "alice", ST_OK, "Alice A." },
	/* addresses */
	{ A, ":", "", ST_OK, "" },
	{ A, "", "", ST_FAIL, NULL },
	{ A, "*", "", ST_FAIL, NULL },
	{ A, "*", "a@b", ST_OK, NULL },
	{ A, "a@b.example", "A@B.example", ST_OK, "a@b.example" },
	{ A, "+caseful : a@b.example", "A@b.example", ST_FAIL, NULL },
	{ A, "+caseful : A@b.example", "A@B.EXAMPLE", ST_OK, NULL },
	{ A, "*@b.example", "x@b.example", ST_OK, "*@b.example" },
	{ A, "x*@b.example", "yx@b.example", ST_FAIL, NULL },
	{ A, "*x@b.example", "yx@b.example", ST_OK, NULL },
	{ A, "b.example", "x@b.example", ST_OK, "@b.example" },
	{ A, "*.example", "x@b.example", ST_OK, "@*.example" },
	{ A, "b.example", "", ST_FAIL, NULL },
	{ A, "*@+locals", "x@y.sub.example", ST_OK, "*@*.sub.example" },
	{ A, "+people", "boss@top.example", ST_OK, "boss@top.example" },
	{ A, "\\N^x.*@b\\.example$\\N", "Xy@b.example", ST_OK, NULL },
	{ A, "\\N^$\\N", "", ST_OK, NULL },
	{ A, "lsearch;/t/addresses", "u@x.example", ST_OK, "hit" },
	{ A, "lsearch*@;/t/addresses", "v@y.example", ST_OK, "hit y" },
	{ A, "lsearch;/t/addresses", "", ST_FAIL, NULL },
	{ A, "partial-lsearch;/t/addresses", "u@x.example", ST_ERROR, "not looked up in parts" },
	{ A, "u@lsearch;/t/domains", "u@a.example", ST_OK, "u@data a" },
	{ A, "u@lsearch;/t/domains", "v@a.example", ST_FAIL, NULL },
	{ A, "@@lsearch;/t/locals", "zyx@at.example", ST_OK, NULL },
	{ A, "@@lsearch;/t/locals", "postmaster@at.example", ST_FAIL, NULL },
	{ A, "@@lsearch;/t/locals", "zed@at.example", ST_OK, NULL },
	{ A, "@@lsearch;/t/locals", "zed@nowhere.example", ST_FAIL, NULL },
	{ A, "@@lsearch;/t/locals", "q@loop.example", ST_ERROR, "continuations" },
	{ A, "@@nothing", "q@loop.example", ST_ERROR, "a lookup expected" },
	/* hosts by address */
	{ H, "192.0.2.1", "192.0.2.1", ST_OK, "" },
	{ H, "192.0.2.0/24", "192.0.2.99", ST_OK, NULL },
	{ H, "192.0.2.0/25", "192.0.2.200", ST_FAIL, NULL },
	{ H, "0.0.0.0/0", "1.2.3.4", ST_OK, NULL },
	{ H, "0.0.0.0/0", "::1", ST_FAIL, NULL },
	{ H, "<; 2001:db8::/32 ; ::1", "2001:db8:1::5", ST_OK, NULL },
	{ H, "2001::db8::::/32", "2001:db8:1::5", ST_OK, NULL },
	{ H, "10.0.0.0/8", "::ffff:10.1.2.3", ST_OK, NULL },
	{ H, "!10.0.0.1 : 10.0.0.0/8", "10.0.0.1", ST_FAIL, NULL },
	{ H, "", "1.2.3.4", ST_FAIL, NULL },
	{ H, ":", "", ST_OK, NULL },
	{ H, ":", "1.2.3.4", ST_FAIL, NULL },
	{ H, "*", "1.2.3.4", ST_OK, NULL },
	{ H, "*", "", ST_OK, NULL },
	{ H, "10.0.0.0/8", "", ST_FAIL, NULL },
	{ H, "10.0.0.0/33", "10.0.0.1", ST_ERROR, "malformed network" },
	{ H, "<; net24-lsearch;/t/nets", "10.0.0.1", ST_ERROR, "\"net24-lsearch\" needs a file" }, { H, "lsearch", "10.0.0.1", ST_ERROR, "write lsearch;FILE" },
	{ H, "<; 10.0.0.1 ; net8-lsearch;;/t/nets", "10.0.0.1", ST_OK, NULL },
	{ H, "@[]", "192.0.2.200", ST_OK, NULL },
	{ H, "@", "192.0.2.200", ST_OK, NULL },
	{ H, "+relays", "10.9.9.9", ST_OK, "" },
	{ H, "/f/nets", "10.1.1.1", ST_OK, NULL },
	{ H, "/f/nets", "192.0.2.1", ST_FAIL, NULL },
	{ H, "net-lsearch;/t/nets", "192.0.2.1", ST_OK, "one" },
	{ H, "net8-lsearch;/t/nets", "10.20.30.40", ST_OK, "ten" },
	{ H, "net-lsearch;/t/nets", "2001:db8::1", ST_OK, "dots" },
	{ H, "net-iplsearch;/t/nets", "2001:db8::1", ST_OK, "colons" },
	/* hosts by name */
	{ H, "client.example", "192.0.2.1", ST_OK, "" },
	{ H, "other.example", "192.0.2.1", ST_FAIL, NULL },
	{ H, "*.example", "192.0.2.1", ST_OK, "*.example" },
	{ H, "alias.*", "192.0.2.1", ST_FAIL, NULL },
	{ H, "\\N^alias\\.\\N", "192.0.2.1", ST_OK, NULL },
	{ H, "lsearch;/t/names", "192.0.2.1", ST_OK, "named" },
	{ H, "redis;get key", "192.0.2.1", ST_OK, NULL },
	/* what is unknown, and what can't be known now */
	{ H, "*.example : 192.0.2.3", "192.0.2.3", ST_FAIL, NULL },
	{ H, "+ignore_unknown : *.example : 192.0.2.3", "192.0.2.3", ST_OK, NULL },
	{ H, "+include_unknown : *.example", "192.0.2.3", ST_OK, NULL },
	{ H, "nosuch.example : 192.0.2.3", "192.0.2.3", ST_FAIL, NULL },
	{ H, "+ignore_unknown : nosuch.example : 192.0.2.3", "192.0.2.3", ST_OK, NULL },
	{ H, "*.example", "192.0.2.9", ST_DEFER, NULL },
	{ D, "@[]", "[IPv6:2001:db8::200]", ST_OK, "@[]" }, { D, "@[]", "[ipv6:2001:db8::201]", ST_FAIL, NULL },
	{ H, "+ignore_defer : *.example : 192.0.2.9", "192.0.2.9", ST_OK, "" },
	{ H, "+include_defer : *.example", "192.0.2.9", ST_OK, NULL },
	{ H, "defer.example", "192.0.2.1", ST_DEFER, NULL },
	{ H, "192.0.2.9 : *.example", "192.0.2.9", ST_OK, NULL },
	/* words and addresses alone */
	{ S, "plain : login", "login", ST_OK, NULL },
	{ S, "*", "login", ST_OK, NULL },
	{ S, "TLS_*", "x", ST_FAIL, NULL },
	{ S, "*_SHA384 : other", "TLS_AES_SHA384", ST_OK, NULL },
	{ I, "10.0.0.0/8 : *", "1.2.3.4", ST_OK, NULL },
	{ I, "lsearch;/t/nets", "192.0.2.1", ST_OK, "one" },
	{ I, "name.example", "1.2.3.4", ST_ERROR, "neither IP address" },
};

static enum status match(const struct list_case *c, struct lang_list_match *m, struct err *err)
{
	struct ipc_facts facts = { .client_ip = str_of(c->subject) };
	struct list_subject subject = { .text = str_of(c->subject) };
	struct lang_list *list;
	struct eval ev;
	enum status st;

	st = lang_list_build(lang, &arena, c->kind, str_of(c->list), true, &list, err);
	if (st)
		return st;
	eval_init(&ev, lang, &arena);
	eval_facts(&ev, &facts);
	st = lang_list_match(&ev, list, &subject, m, err);
	eval_clear(&ev);
	return st;
}

static void matches(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct list_case *c = &cases[i];
		struct lang_list_match m = { STR_NULL, STR_NULL };
		struct err err = ERR_INIT;
		enum status st = match(c, &m, &err);
		bool good = st == c->status && (!c->data || (st == ST_OK ? str_is(m.data, c->data) : st == ST_ERROR ? strstr(err.text, c->data) != NULL : true));

		if (!good) {
			print_error("%s ~ %s\n  got  %s \"%.*s\" %s\n  want %s \"%s\"\n", c->subject, c->list, status_name(st), STR_FMT(m.data), st ? err.text : "",
				status_name(c->status), c->data ? c->data : "");
			failed++;
		}
		arena_reset(&arena);
	}
	assert_int_equal(failed, 0);
}

/* What has been asked once is not asked again in the same context; a new context asks anew. */
static void remembered(void **state)
{
	struct lang_list *list;
	struct err err = ERR_INIT;
	struct eval ev;
	unsigned before;

	(void)state;
	assert_int_equal(lang_list_named(lang, LIST_DOMAIN, STR_LIT("looked"), &list, &err), ST_OK);
	eval_init(&ev, lang, &arena);
	before = fake.lookups;
	for (int i = 0; i < 3; i++)
		assert_int_equal(lang_domain_match(&ev, list, STR_LIT("a.example"), NULL, &err), ST_OK);
	assert_int_equal(fake.lookups, before + 1);
	eval_clear(&ev);
	eval_init(&ev, lang, &arena);
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("a.example"), NULL, &err), ST_OK);
	assert_int_equal(fake.lookups, before + 2);
	eval_clear(&ev);
	/* Expanded lists only where the name says so, or where the lookup itself is remembered. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(lang_list_named(lang, LIST_DOMAIN, i ? STR_LIT("uncached") : STR_LIT("cached"), &list, &err), ST_OK);
		eval_init(&ev, lang, &arena);
		before = fake.lookups;
		for (int k = 0; k < 3; k++)
			assert_int_equal(lang_domain_match(&ev, list, STR_LIT("a.example"), NULL, &err), ST_OK);
		assert_int_equal(fake.lookups, before + (i ? 3 : 1));
		eval_clear(&ev);
	}
}

/* What is remembered is one answer for one question: the same word in other letters, or of another host, is another one. */
static void remembered_apart(void **state)
{
	struct list_subject host = { .text = STR_LIT("192.0.2.5"), .host_name = STR_LIT("client.example"), .no_client = true };
	struct lang_list *list;
	struct err err = ERR_INIT;
	struct eval ev;

	(void)state;
	assert_int_equal(lang_list_named(lang, LIST_LOCALPART, STR_LIT("users"), &list, &err), ST_OK);
	eval_init(&ev, lang, &arena);
	assert_int_equal(lang_local_part_match(&ev, list, STR_LIT("ALICE"), false, NULL, &err), ST_OK);
	assert_int_equal(lang_local_part_match(&ev, list, STR_LIT("ALICE"), true, NULL, &err), ST_FAIL);
	assert_int_equal(lang_list_named(lang, LIST_HOST, STR_LIT("hosts_looked"), &list, &err), ST_OK);
	assert_int_equal(lang_list_match(&ev, list, &host, NULL, &err), ST_OK);
	host.host_name = STR_LIT("other.example");
	assert_int_equal(lang_list_match(&ev, list, &host, NULL, &err), ST_FAIL);
	eval_clear(&ev);
}

/* Strangers may choose patterns; how many are kept is bounded. */
static void patterns_bounded(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	for (unsigned i = 0; i < 2 * LANG_REGEX_MAX; i++) {
		struct str text;
		struct eval ev;

		eval_init(&ev, lang, &arena);
		assert_int_equal(expand_text(&ev, str_printf(&arena, "${if match{a}{a%u?}{y}{n}}", i), &text, &err), ST_OK);
		eval_clear(&ev);
		assert_true(lang->regexes.n <= LANG_REGEX_MAX);
	}
}

/* (n)wildlsearch: the language's own, over the file's text. */
static void patterns(void **state)
{
	static const struct { const char *lookup, *want; } rows[] = {
		{ "${lookup{a.w.example}wildlsearch{/f/wild}}", "tail" }, { "${lookup{1x}wildlsearch{/f/wild}{$value<$1>}}", "digit<>" },
		{ "${lookup{up}wildlsearch{/f/wild}}", "expanded" }, { "${lookup{A.example}wildlsearch{/f/wild}}", "rest" },
		{ "${lookup{a.example}wildlsearch{/f/wild}}", "nested" }, { "${lookup{known}wildlsearch{/f/wild}{$value}{no}}", "no" },
		{ "${lookup{me}wildlsearch{/f/wild}}", "var" }, { "${lookup{xtail}nwildlsearch{/f/nwild}}", "one" }, { "${lookup{12}nwildlsearch{/f/nwild}}", "two" },
		{ "${lookup{$plain}nwildlsearch{/f/nwild}}", "" }, { "${lookup{\\$plain}nwildlsearch,ret=full{/f/nwild}}", "$plain three" },
		{ "${lookup{q.7}partial1-nwildlsearch{/f/nwild}{y}{no}}", "no" }, { "${lookup{XTAIL}nwildlsearch,ret=key{/f/nwild}}", "XTAIL" },
		{ "${lookup{x}wildlsearch{/f/badwild}}", "error" }, { "${lookup{x}wildlsearch{/f/none}}", "defer" },
		{ "${if match_domain{a.w.example}{wildlsearch;/f/wild}{$value}}", "tail" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err err = ERR_INIT;
		struct expansion *x;
		struct str got = STR_NULL;
		struct eval ev;
		enum status st;

		eval_init(&ev, lang, &arena);
		eval_set(&ev, EV_local_part, str_taint(STR_LIT("me")));
		st = expansion_compile(lang, &arena, str_of(rows[i].lookup), &x, &err);
		if (!st)
			st = expand(&ev, x, &got, &err);
		if (st)
			got = str_of(status_name(st));
		/* "$plain" is no variable: the case is refused when it is compiled */
		if (!str_is(got, *rows[i].want ? rows[i].want : "error") || got.tainted)
			fail_msg("%s: got \"%.*s\" %s, want \"%s\"", rows[i].lookup, STR_FMT(got), err.text, rows[i].want);
		eval_clear(&ev);
	}
}

/* A stranger chooses no server and no file, however his words are quoted. */
static void quoted(void **state)
{
	static const struct { const char *text, *local_part; enum status want; } rows[] = {
		{ "${lookup redis{get ${quote_redis:$local_part}}}", "key", ST_OK }, { "${lookup redis{get $local_part}}", "key", ST_ERROR },
		{ "${lookup redis{get $local_part ${quote_redis:$local_part}}}", "key", ST_ERROR }, { "${lookup redis{${quote_redis:$local_part} $local_part}}", "get", ST_ERROR },
		{ "${lookup redis{get ${quote_lsearch:$local_part}}}", "key", ST_ERROR }, { "${lookup redis{${quote_redis:$local_part}}}", "servers=x//;get\\ key", ST_ERROR },
		{ "${lookup redis{ ${quote_redis:$local_part}}}", "servers=x//;", ST_ERROR }, { "${lookup redis,servers=a//{get ${quote_redis:$local_part}}}", "key", ST_OK },
		{ "${lookup sqlite{${quote_sqlite:$local_part}}}", "/etc/shadow select", ST_ERROR }, { "${lookup{a}lsearch{/t/$local_part}}", "users", ST_ERROR },
		{ "${lookup{$local_part}lsearch{/t/users}}", "alice", ST_OK }, { "${lookup passwd{$local_part}{$value}{none}}", "x", ST_OK },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err err = ERR_INIT;
		struct expansion *x;
		struct str got;
		struct eval ev;

		eval_init(&ev, lang, &arena);
		eval_set(&ev, EV_local_part, str_taint(str_of(rows[i].local_part)));
		assert_int_equal(expansion_compile(lang, &arena, str_of(rows[i].text), &x, &err), ST_OK);
		if (expand(&ev, x, &got, &err) != rows[i].want)
			fail_msg("%s with %s: %s %s", rows[i].text, rows[i].local_part, status_name(err.status), err.text);
		eval_clear(&ev);
	}
}

/* The value of a match comes from the configuration: it is clean, however the subject came. */
static void untainted(void **state)
{
	struct lang_list_match m;
	struct lang_list *list;
	struct err err = ERR_INIT;
	struct eval ev;

	(void)state;
	assert_int_equal(lang_list_build(lang, &arena, LIST_DOMAIN, STR_LIT("a.example"), true, &list, &err), ST_OK);
	eval_init(&ev, lang, &arena);
	assert_int_equal(lang_domain_match(&ev, list, str_taint(STR_LIT("a.example")), &m, &err), ST_OK);
	assert_false(m.data.tainted);
	eval_set(&ev, EV_domain, str_taint(STR_LIT("a.example")));
	assert_int_equal(lang_list_build(lang, &arena, LIST_DOMAIN, STR_LIT("$domain"), true, &list, &err), ST_OK);
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("a.example"), &m, &err), ST_OK);
	assert_true(m.data.tainted);
	/* and a stranger's text is no file and no query */
	eval_set(&ev, EV_domain, str_taint(STR_LIT("/f/list")));
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("one.example"), &m, &err), ST_ERROR);
	eval_set(&ev, EV_domain, str_taint(STR_LIT("redis;get key")));
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("one.example"), &m, &err), ST_ERROR);
	assert_int_equal(lang_list_build(lang, &arena, LIST_DOMAIN, STR_LIT("redis;get ${quote_redis:$domain}"), true, &list, &err), ST_OK);
	eval_set(&ev, EV_domain, str_taint(STR_LIT("key")));
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("one.example"), &m, &err), ST_OK);
	/* nor does he make another item of it, be it fit to be asked by itself */
	eval_set(&ev, EV_domain, str_taint(STR_LIT("none:redis;get\\ key")));
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("one.example"), &m, &err), ST_ERROR);
	eval_set(&ev, EV_domain, str_taint(STR_LIT("none:key")));
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("one.example"), &m, &err), ST_ERROR);
	assert_int_equal(lang_list_build(lang, &arena, LIST_DOMAIN, STR_LIT("<| redis;get ${quote_redis:$domain}"), true, &list, &err), ST_OK);
	assert_int_equal(lang_domain_match(&ev, list, STR_LIT("one.example"), &m, &err), ST_FAIL);
	eval_set(&ev, EV_domain, str_taint(STR_LIT("a.example")));
	assert_int_equal(lang_list_build(lang, &arena, LIST_ADDRESS, STR_LIT("u@$domain"), true, &list, &err), ST_OK);
	assert_int_equal(lang_address_match(&ev, list, STR_LIT("u@a.example"), &m, &err), ST_OK);
	assert_true(m.data.tainted);
	eval_clear(&ev);
}

static void splits(void **state)
{
	static const struct { const char *list, *want; } list[] = {
		{ "a:b:c", "[a][b][c]" }, { " a : b :", "[a][b]" }, { ":", "[]" }, { "::", "[:]" }, { "a::b:c", "[a:b][c]" }, { "", "" }, { "<;a;b:c", "[a][b:c]" },
		{ "<, a ,, b", "[a , b]" }, { "<\na\n\nb", "[a][][b]" }, { "a:::b", "[a:][b]" }, { "<+ a + b", "[a][b]" }, { "< a", "[< a]" }, { " : a", "[][a]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct lang_split split = LANG_SPLIT(str_of(list[i].list));
		struct buf b = BUF_INIT;
		struct str item;

		while (lang_split_next(&split, &arena, &item))
			buf_printf(&b, "[%.*s]", STR_FMT(item));
		if (strcmp(buf_cstr(&b), list[i].want))
			fail_msg("%s: got %s want %s", list[i].list, buf_cstr(&b), list[i].want);
		buf_clear(&b);
	}
}

static void partial_keys(void **state)
{
	static const struct { const char *type, *key, *want; } list[] = {
		{ "lsearch", "a.b.c", "a.b.c" },
		{ "partial-lsearch", "2250.dates.fict.example", "2250.dates.fict.example *.2250.dates.fict.example *.dates.fict.example *.fict.example" },
		{ "partial3-lsearch", "a.b.c.d", "a.b.c.d *.a.b.c.d *.b.c.d" },
		{ "partial(.)lsearch", "a.b.c", "a.b.c .a.b.c .b.c" },
		{ "partial1()lsearch", "a.b.c", "a.b.c b.c c" },
		{ "partial0-lsearch", "a.b", "a.b *.a.b *.b *" },
		{ "partial0(.)lsearch*", "a.b", "a.b .a.b .b . *" },
		{ "lsearch*@", "u@x.example", "u@x.example *@x.example *" },
		{ "lsearch*", "u", "u *" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct buf tried = BUF_INIT;
		struct ipc_lookup_answer answer;
		struct err err = ERR_INIT;
		struct lookup_spec spec;
		extern const struct lookup_driver trying;

		assert_int_equal(lookup_spec_parse(str_of(list[i].type), &spec, &err), ST_OK);
		assert_int_equal(lookup_search(&trying, &tried, NULL, &spec, STR_NULL, str_of(list[i].key), &arena, &answer, &err), ST_FAIL);
		if (strcmp(buf_cstr(&tried), list[i].want))
			fail_msg("%s %s: got %s want %s", list[i].type, list[i].key, buf_cstr(&tried), list[i].want);
		buf_clear(&tried);
	}
}

/* A driver that knows nothing and tells what it was asked. */
static enum status trying_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct buf *b = env;

	(void)handle;
	(void)file;
	(void)options;
	(void)a;
	(void)out;
	(void)err;
	buf_printf(b, "%s%.*s", b->len ? " " : "", STR_FMT(key));
	return ST_FAIL;
}
extern const struct lookup_driver trying;
const struct lookup_driver trying = { .name = "trying", .find = trying_find };

/* Three constant conditions of a recipient check, compiled: well below the worker's budget. Printed, and bounded generously. */
static void fast(void **state)
{
	struct lang_list *domains, *hosts, *locals;
	struct err err = ERR_INIT;
	struct eval ev;
	uint64_t t0;
	struct buf b = BUF_INIT;
	enum { TURNS = 20000 };

	(void)state;
	for (int i = 0; i < 5000; i++)
		buf_printf(&b, "d%d.example : ", i);
	assert_int_equal(lang_list_build(lang, &arena, LIST_DOMAIN, buf_str(&b), true, &domains, &err), ST_OK);
	assert_int_equal(lang_list_build(lang, &arena, LIST_HOST, STR_LIT("10.0.0.0/8 : 192.168.0.0/16 : 192.0.2.1"), true, &hosts, &err), ST_OK);
	assert_int_equal(lang_list_build(lang, &arena, LIST_LOCALPART, STR_LIT("alice : bob : carol"), true, &locals, &err), ST_OK);
	t0 = clock_us();
	for (int i = 0; i < TURNS; i++) {
		struct arena work = ARENA_INIT;

		eval_init(&ev, lang, &work);
		assert_int_equal(lang_domain_match(&ev, domains, STR_LIT("d4999.example"), NULL, &err), ST_OK);
		assert_int_equal(lang_ip_match(&ev, hosts, STR_LIT("192.0.2.1"), NULL, &err), ST_OK);
		assert_int_equal(lang_local_part_match(&ev, locals, STR_LIT("carol"), false, NULL, &err), ST_OK);
		eval_clear(&ev);
		arena_clear(&work);
	}
	print_message("three lists: %.2f microseconds\n", (double)(clock_us() - t0) / TURNS);
	assert_true(clock_us() - t0 < TURNS * 200);
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches), cmocka_unit_test(remembered), cmocka_unit_test(remembered_apart), cmocka_unit_test(patterns_bounded),
		cmocka_unit_test(patterns), cmocka_unit_test(quoted), cmocka_unit_test(untainted), cmocka_unit_test(splits),
		cmocka_unit_test(partial_keys), cmocka_unit_test(fast),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: ISC */
/* Domains between U-labels and A-labels (what `idn2` says of them), local parts, normalisation. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/mail/alabel.h"

/* ascii NULL: refused. back: what the A-labels become again; NULL: the text itself. */
static const struct { const char *text, *ascii, *back; } domains[] = {
	{ "plain.Example", "plain.Example", NULL },
	{ "stra\xc3\x9f" "e.example", "xn--strae-oqa.example", NULL },
	{ "fa\xc3\x9f.de", "xn--fa-hia.de", NULL },
	{ "b\xc3\xbc" "cher.example", "xn--bcher-kva.example", NULL },
	{ "B\xc3\x9c" "CHER.example", "xn--bcher-kva.example", "b\xc3\xbc" "cher.example" },
	{ "bu\xcc\x88" "cher.example", "xn--bcher-kva.example", "b\xc3\xbc" "cher.example" },
	{ "\xc3\xb1" "and\xc3\xba.example", "xn--and-6ma2c.example", NULL },
	{ "\xe4\xbe\x8b\xe3\x81\x88.jp", "xn--r8jz45g.jp", NULL },
	{ "\xe7\x94\xa8\xe6\x88\xb7.\xe4\xbe\x8b\xe5\xad\x90.example", "xn--zouo53b.xn--fsqu00a.example", NULL },
	{ "\xe7\x94\xa8\xe6\x88\xb7\xe3\x80\x82" "example", "xn--zouo53b.example", "\xe7\x94\xa8\xe6\x88\xb7.example" }, /* ideographic full stop */
	{ "\xd9\x85\xd8\xab\xd8\xa7\xd9\x84.\xd8\xa5\xd8\xae\xd8\xaa\xd8\xa8\xd8\xa7\xd8\xb1", "xn--mgbh0fb.xn--kgbechtv", NULL },
	{ "\xcf\x80\xce\xb1\xcf\x81\xce\xac\xce\xb4\xce\xb5\xce\xb9\xce\xb3\xce\xbc\xce\xb1.\xce\xb4\xce\xbf\xce\xba\xce\xb9\xce\xbc\xce\xae", "xn--hxajbheg2az3al.xn--jxalpdlp", NULL },
	{ "\xf0\x9f\x98\x80.example", NULL, NULL },         /* emoji: disallowed */
	{ "i\xe2\x9d\xa4.ws", NULL, NULL },
	{ "\xe2\x80\xae.example", NULL, NULL },              /* right-to-left override */
	{ "a\xd7\x90.example", NULL, NULL },                  /* bidi: letters of both directions */
	{ "\xd7\x90" "1a.example", NULL, NULL },
	{ "\xcc\x81" "e.example", NULL, NULL },               /* begins with a combining mark */
	{ "\xc2\x80.example", NULL, NULL },                   /* control */
	{ "\xc3.example", NULL, NULL },                        /* no UTF-8 */
	{ "\xed\xa0\x80.example", NULL, NULL },
	{ "xn--\xc3\xbc.example", NULL, NULL },
};

static void test_domains(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
		struct str text = str_of(domains[i].text), ascii = STR_NULL, back, other;
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		enum status st = alabel_domain_encode(&a, text, &ascii, &err);

		if ((st == ST_OK) != (domains[i].ascii != NULL) || (!st && !str_is(ascii, domains[i].ascii)))
			fail_msg("%s: got %.*s (%s)", domains[i].text, STR_FMT(ascii), err.text);
		if (!st) {
			assert_int_equal(alabel_domain_decode(&a, ascii, &back, &err), ST_OK);
			if (!str_is(back, domains[i].back ? domains[i].back : domains[i].text))
				fail_msg("%s: back %.*s", domains[i].text, STR_FMT(back));
			assert_true(str_eqi(alabel_domain_canonical(&a, text), ascii));
			assert_int_equal(alabel_domain_other(&a, text, &other), !str_eq(text, ascii));
			assert_int_equal(alabel_domain_other(&a, ascii, &other), !str_eq(text, ascii));
			assert_true(str_eq(text, ascii) || str_eq(other, back));
		} else {
			assert_true(err.text[0] && str_eq(alabel_domain_canonical(&a, text), text));
		}
		arena_clear(&a);
	}
}

/* "xn--" that IDNA would not have made is no other form of anything. */
static void test_false_alabels(void **state)
{
	static const char *const names[] = { "xn--.example", "xn--a.example", "xn--fa-hia-.de", "xn--a-ecp.ru", "xn--0.example", "xn--99999999.example" };

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct arena a = ARENA_INIT;
		struct str other;

		if (alabel_domain_other(&a, str_of(names[i]), &other))
			fail_msg("%s: got %.*s", names[i], STR_FMT(other));
		arena_clear(&a);
	}
}

static const struct { const char *text, *ascii; } locals[] = {
	{ "plain", "plain" }, { "j\xc3\xb6rg", "xn--jrg-sna" }, { "\xe7\x94\xa8\xe6\x88\xb7", "xn--zouo53b" },
	{ "\xd9\x85\xd8\xab\xd8\xa7\xd9\x84", "xn--mgbh0fb" }, { "\xf0\x9f\x98\x80", "xn--e28h" },
	{ "\xc3\xa9", "xn--9ca" }, { "e\xcc\x81", "xn--e-xbb" }, /* octet by octet: another name */
	{ "\xff", NULL }, { "\xc0\xaf", NULL }, { "\xed\xa0\x80", NULL },
};

static void test_locals(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof locals / sizeof *locals; i++) {
		struct arena a = ARENA_INIT;
		struct str got = STR_NULL, back;
		enum status st = alabel_local_encode(&a, str_of(locals[i].text), &got, NULL);

		if ((st == ST_OK) != (locals[i].ascii != NULL) || (!st && !str_is(got, locals[i].ascii)))
			fail_msg("%s: got %.*s", locals[i].text, STR_FMT(got));
		if (!st && strcmp(locals[i].text, locals[i].ascii))
			assert_true(!alabel_local_decode(&a, got, &back, NULL) && str_is(back, locals[i].text));
		arena_clear(&a);
	}
}

static const struct { const char *text, *nfc; } normal[] = {
	{ "plain", "plain" }, { "e\xcc\x81", "\xc3\xa9" }, { "\xc3\xa9", "\xc3\xa9" }, { "A\xcc\x8a", "\xc3\x85" }, { "\xe2\x84\xab", "\xc3\x85" },
	{ "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c" }, { "\xef\xac\x81", "\xef\xac\x81" }, /* a ligature is not taken apart */
	{ "e\xcc\x81\xff", "e\xcc\x81\xff" }, { "", "" },
};

static void test_nfc(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof normal / sizeof *normal; i++) {
		struct arena a = ARENA_INIT;
		struct str in = str_taint(str_of(normal[i].text)), got = utf8_nfc(&a, in);

		if (!str_is(got, normal[i].nfc) || !got.tainted)
			fail_msg("%s: got %.*s", normal[i].text, STR_FMT(got));
		arena_clear(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_domains), cmocka_unit_test(test_false_alabels), cmocka_unit_test(test_locals), cmocka_unit_test(test_nfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

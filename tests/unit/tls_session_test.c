/* SPDX-License-Identifier: ISC */
/* Sessions that are kept: for whom they serve, how they are written, how they are sealed. */
#include <stdio.h>
#include <string.h>

#include "common/tls/tls.h"
#include "common/tls/tls_seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { BORN = 1000, NONE = 0, VERIFIED = 1, DANE = 2, OCSP = 4 };

static void test_serves(void **state)
{
	static const struct { unsigned has; int64_t until, ocsp_until; unsigned needs; int64_t now; bool serves; } cases[] = {
		{ NONE, 5000, 0, NONE, BORN, true }, { NONE, 5000, 0, NONE, 4999, true }, { NONE, 5000, 0, NONE, 5000, false },
		{ NONE, 5000, 0, NONE, BORN - 1, false },                         /* a clock that went back */
		{ NONE, 900000, 0, NONE, BORN + 86399, true }, { NONE, 900000, 0, NONE, BORN + 86400, false },
		{ NONE, 5000, 0, VERIFIED, 2000, false }, { VERIFIED, 5000, 0, VERIFIED, 2000, true }, { VERIFIED, 5000, 0, NONE, 2000, true },
		{ VERIFIED, 5000, 0, DANE, 2000, false }, { DANE, 5000, 0, DANE, 2000, true }, { VERIFIED | DANE, 5000, 0, VERIFIED | DANE, 2000, true },
		{ DANE, 5000, 0, VERIFIED, 2000, false },
		{ VERIFIED, 5000, 0, OCSP, 2000, false }, { OCSP, 5000, 3000, OCSP, 2999, true }, { OCSP, 5000, 3000, OCSP, 3000, false },
		{ OCSP, 5000, 3000, NONE, 3000, false }, { OCSP, 5000, 3000, NONE, 2999, true }, { OCSP, 5000, 0, OCSP, 2000, false },
	};
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		unsigned has = cases[i].has, needs = cases[i].needs;
		struct tls_session s = { .der = STR_LIT("x"), .born = BORN, .until = cases[i].until, .ocsp_until = cases[i].ocsp_until, .verified = has & VERIFIED,
			.dane = has & DANE, .ocsp = has & OCSP ? TLS_OCSP_VERIFIED : TLS_OCSP_FAILED };
		struct tls_session_need need = { .verified = needs & VERIFIED, .dane = needs & DANE, .ocsp = needs & OCSP };

		if (tls_session_serves(&s, &need, cases[i].now) != cases[i].serves) {
			print_error("row %zu: got %d\n", i, !cases[i].serves);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
	assert_false(tls_session_serves(&(struct tls_session){ .born = BORN, .until = 5000 }, &(struct tls_session_need){ .dane = false }, 2000)); /* no session */
}

static void test_written(void **state)
{
	static const struct { const char *text; bool good; } cases[] = {
		{ "1 10 20 30 4 7\nDER", true }, { "1 0 0 0 0 0\nD", true }, { "1 10 20 30 4 7\nwith\nlines\n", true },
		{ "", false }, { "\n", false }, { "1 10 20 30 4 7\n", false }, { "1 10 20 30 4 7", false }, { "2 10 20 30 4 7\nDER", false },
		{ "1 10 20 30 5 7\nDER", false }, { "1 10 20 30 4 8\nDER", false }, { "1 10 20 30 4\nDER", false }, { "1 10 20 30 4 7 1\nDER", false },
		{ "1 -10 20 30 4 7\nDER", false }, { "1 9223372036854775807 20 30 4 7\nDER", false }, { "1 10 20 30 4 x\nDER", false }, { "1  20 30 4 7\nDER", false },
	};
	struct buf b = BUF_INIT;
	struct tls_session s;
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool good = tls_session_parse(str_of(cases[i].text), &s);

		buf_reset(&b);
		if (good)
			tls_session_format(&b, &s);
		if (good != cases[i].good || (good && !str_is(buf_str(&b), cases[i].text))) {
			print_error("'%s': got %d '%.*s'\n", cases[i].text, good, STR_FMT(buf_str(&b)));
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
	assert_true(tls_session_parse(STR_LIT("1 10 20 30 4 5\nDER"), &s));
	assert_true(s.born == 10 && s.until == 20 && s.ocsp_until == 30 && s.ocsp == TLS_OCSP_VERIFIED && s.verified && !s.dane && s.once && str_is(s.der, "DER"));
	/* Longer than any session. */
	buf_reset(&b);
	buf_adds(&b, "1 10 20 30 4 7\n");
	memset(buf_room(&b, TLS_SESSION_MAX + 1), 'x', TLS_SESSION_MAX + 1);
	b.len += TLS_SESSION_MAX;
	assert_true(tls_session_parse(buf_str(&b), &s));
	b.len++;
	assert_false(tls_session_parse(buf_str(&b), &s));
	buf_clear(&b);
}

static void test_sealed(void **state)
{
	struct arena a = ARENA_INIT;
	uint8_t key[TLS_SEAL_KEY], other[TLS_SEAL_KEY];
	struct str one, two, got, name = STR_LIT("a name");

	(void)state;
	assert_true(tls_seal_key(STR_LIT("a secret"), "one", key) && tls_seal_key(STR_LIT("a secret"), "two", other));
	assert_memory_not_equal(key, other, sizeof key);
	assert_false(tls_seal_key(STR_NULL, "one", other));
	for (size_t n = 0; n < 3; n++) {
		struct str plain = str_sub(STR_LIT("ab"), 0, n);

		assert_true(tls_seal(key, name, plain, &a, &one) && tls_seal(key, name, plain, &a, &two));
		assert_int_equal(one.len, n + TLS_SEAL_MORE);
		assert_false(str_eq(one, two));
		assert_true(tls_unseal(key, name, one, &a, &got) && str_eq(got, plain));
		assert_false(tls_unseal(other, name, one, &a, &got));
		assert_false(tls_unseal(key, STR_LIT("a nam"), one, &a, &got));
		assert_false(tls_unseal(key, STR_NULL, one, &a, &got));
		for (size_t i = 0; i < one.len; i++) {
			char *p = (char *)(uintptr_t)one.p;

			assert_false(tls_unseal(key, name, str_sub(one, 0, i), &a, &got));
			p[i] ^= 1;
			assert_false(tls_unseal(key, name, one, &a, &got));
			assert_int_equal(got.len, 0);
			p[i] ^= 1;
		}
	}
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_serves), cmocka_unit_test(test_written), cmocka_unit_test(test_sealed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

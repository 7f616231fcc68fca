/* SPDX-License-Identifier: ISC */
/* SCRAM as the client: the vectors of RFC 5802 and RFC 7677, and servers that lie. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/mail/scram.h"

#define N1 "fyko+d2lbbFgONRv9qkxdawL"
#define S1 "3rfcNHYJY1ZVvWVs7j"
#define N256 "rOprNGfwEbeRWgbNEkqO"
#define S256 "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define FIRST1 "r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=4096"
#define PROOF1 "c=biws,r=" N1 S1 ",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
#define LAST1 "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="
#define NOT_SCRAM "the server's first message is none of SCRAM"
#define NOT_LAST "the server's last message is none of SCRAM"
#define BAD_SALT "the server's salt can't be used"
#define BAD_COUNT "the server's iteration count is not between 4096 and 100000"
#define BAD_NONCE "the server's nonce does not begin with ours"
#define LIAR "the server does not know the password"

static const struct {
	const char *mechanism, *nonce, *password;
	const char *first;            /* what the server says */
	const char *proof;            /* what it gets; or why nothing */
	const char *last, *why;       /* its last message; NULL: it is believed */
} cases[] = {
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, LAST1, NULL },
	{ "scram-sha-256", N256, "pencil", "r=" N256 S256 ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"c=biws,r=" N256 S256 ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", NULL },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, LAST1 ",x=more", NULL },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, "v=rmF9pqV8S7suAoZWja4dJRkFsKR=", LIAR },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, "v=smF9pqV8S7suAoZWja4dJRkFsKQ=", LIAR },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, "v=rmF9pqV8S7suAoZWja4dJRkF", LIAR },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, "v=", LIAR },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, "e=invalid-proof", NOT_LAST },
	{ "SCRAM-SHA-1", N1, "pencil", FIRST1, PROOF1, "", NOT_LAST },
	{ "SCRAM-SHA-1", N1, "pencil", "", NOT_SCRAM, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1, NOT_SCRAM, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "m=must,r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=4096", NOT_SCRAM, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "s=QSXCR+Q6sek8bf92,r=" N1 S1 ",i=4096", NOT_SCRAM, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 ",s=QSXCR+Q6sek8bf92,i=4096", BAD_NONCE, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" S1 N1 ",s=QSXCR+Q6sek8bf92,i=4096", BAD_NONCE, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=,s=QSXCR+Q6sek8bf92,i=4096", BAD_NONCE, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 "\001,s=QSXCR+Q6sek8bf92,i=4096", "the server's nonce is not printable", NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=,i=4096", BAD_SALT, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=!,i=4096", BAD_SALT, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=4095", BAD_COUNT, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=100001", BAD_COUNT, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=4294971392", BAD_COUNT, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=-1", BAD_COUNT, NULL, NULL },
	{ "SCRAM-SHA-1", N1, "pencil", "r=" N1 S1 ",s=QSXCR+Q6sek8bf92,i=", BAD_COUNT, NULL, NULL },
};

static void test_dialogues(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct scram s = { .digest = NULL };
		struct buf out = BUF_INIT;
		struct err err = ERR_INIT;
		enum status st;

		scram_begin(&s, scram_digest(str_of(cases[i].mechanism)), STR_LIT("user"), STR_NULL, str_of(cases[i].nonce));
		scram_first(&s, &out);
		assert_true(str_begins(buf_str(&out), "n,,n=user,r="));
		buf_reset(&out);
		st = scram_prove(&s, str_of(cases[i].first), str_of(cases[i].password), &out, &err);
		assert_string_equal(st ? err.text : buf_cstr(&out), cases[i].proof);
		assert_true(!st || !out.len);
		if (cases[i].last) {
			st = scram_confirm(&s, str_of(cases[i].last), &err);
			assert_int_equal(st, cases[i].why ? ST_FAIL : ST_OK);
			assert_int_equal(s.step, cases[i].why ? SCRAM_PROVED : SCRAM_CONFIRMED);
			if (cases[i].why)
				assert_string_equal(err.text, cases[i].why);
			/* neither message may come a second time */
			assert_int_equal(scram_prove(&s, str_of(cases[i].first), str_of(cases[i].password), &out, &err), ST_FAIL);
		} else {
			assert_int_equal(scram_confirm(&s, STR_LIT(LAST1), &err), ST_FAIL); /* the answer without the question */
		}
		buf_clear(&out);
		scram_clear(&s);
	}
}

static void test_names(void **state)
{
	struct scram s = { .digest = NULL };
	struct buf out = BUF_INIT;

	(void)state;
	assert_null(scram_digest(STR_LIT("SCRAM-SHA-256-PLUS")));
	assert_null(scram_digest(STR_LIT("SCRAM-SHA-512")));
	scram_begin(&s, "SHA1", STR_LIT("a,b=c"), STR_LIT("x=y"), STR_LIT("nonce"));
	scram_first(&s, &out);
	assert_string_equal(buf_cstr(&out), "n,a=x=3Dy,n=a=2Cb=3Dc,r=nonce");
	scram_clear(&s);
	buf_clear(&out);
}

/* Drawn anew, and long enough. */
static void test_nonces(void **state)
{
	struct scram s = { .digest = NULL };
	char first[64];

	(void)state;
	scram_begin(&s, "SHA1", STR_LIT("u"), STR_NULL, STR_NULL);
	assert_int_equal(s.nonce.len, 24);
	memcpy(first, s.nonce.p, 24);
	scram_begin(&s, "SHA1", STR_LIT("u"), STR_NULL, STR_NULL);
	assert_memory_not_equal(first, s.nonce.p, 24);
	scram_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_nonces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* The SOCKS5 client without a network: every reply in whatever pieces, and in which order proxies are tried. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "smtp-out/out_socks.h"
#include "smtp-out/socks5.h"

#define ASK4 "05010001" "c0000219" "0019"                          /* 192.0.2.25, port 25 */
#define ASK6 "05010004" "20010db8000000000000000000000019" "0251"  /* 2001:db8::19, port 593 */
#define BOUND4 "05000001" "7f000001" "1234"
#define X255 "787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878" \
	"787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878" \
	"787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878" \
	"787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878" \
	"787878787878787878787878787878"

static const struct {
	const char *what;
	bool v6;
	const char *user, *pass;
	const char *in;             /* what the proxy says, in hex; behind it come more octets, or its end */
	bool closes;
	const char *out;            /* what is said to it */
	enum socks5_result result;
	const char *why;
	int error_no;
} cases[] = {
	{ "an address of four octets", false, "", "", "0500" BOUND4, false, "050100" ASK4, SOCKS5_THROUGH, NULL, 0 },
	{ "an address of sixteen", true, "", "", "0500" "05000004" "00000000000000000000000000000001" "ffff", false, "050100" ASK6, SOCKS5_THROUGH, NULL, 0 },
	{ "a name", false, "", "", "0500" "05000003" "05" "6173646667" "0019", false, "050100" ASK4, SOCKS5_THROUGH, NULL, 0 },
	{ "a name of no octets", false, "", "", "0500" "05000003" "00" "0019", false, "050100" ASK4, SOCKS5_THROUGH, NULL, 0 },
	{ "the longest name", false, "", "", "0500" "05000003" "ff" X255 "0019", false, "050100" ASK4, SOCKS5_THROUGH, NULL, 0 },
	{ "a reserved octet in use", false, "", "", "0500" "05007f01" "7f000001" "1234", false, "050100" ASK4, SOCKS5_THROUGH, NULL, 0 },
	{ "with a login", false, "me", "secret", "0502" "0100" BOUND4, false, "050102" "01026d6506736563726574" ASK4, SOCKS5_THROUGH, NULL, 0 },

	{ "no method", false, "", "", "05ff", false, "050100", SOCKS5_PROXY_FAILED, "it wants authentication", 0 },
	{ "no login", false, "me", "secret", "05ff", false, "050102", SOCKS5_PROXY_FAILED, "it takes no user name and password", 0 },
	{ "a method that was not offered", false, "", "", "0502", false, "050100", SOCKS5_PROXY_FAILED, "it chose a method that was not offered", 0 },
	{ "no login where one was offered", false, "me", "secret", "0500", false, "050102", SOCKS5_PROXY_FAILED, "it chose a method that was not offered", 0 },
	{ "GSSAPI", false, "me", "secret", "0501", false, "050102", SOCKS5_PROXY_FAILED, "it chose a method that was not offered", 0 },
	{ "SOCKS4", false, "", "", "005b", false, "050100", SOCKS5_PROXY_FAILED, "it does not speak SOCKS5", 0 },
	{ "an SMTP server", false, "", "", "323230", false, "050100", SOCKS5_PROXY_FAILED, "it does not speak SOCKS5", 0 },
	{ "a wrong password", false, "me", "secret", "0502" "0101", false, "050102" "01026d6506736563726574", SOCKS5_PROXY_FAILED,
		"it refused user name or password", 0 },
	{ "garbage for the login", false, "me", "secret", "0502" "0500", false, "050102" "01026d6506736563726574", SOCKS5_PROXY_FAILED,
		"its answer to the login is none", 0 },

	{ "reply 1", false, "", "", "0500" "05010001", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "general failure", 0 },
	{ "reply 2", false, "", "", "0500" "05020001", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "connection not allowed by its rules", 0 },
	{ "reply 3", false, "", "", "0500" "05030001", false, "050100" ASK4, SOCKS5_TARGET_FAILED, "network unreachable", ENETUNREACH },
	{ "reply 4", false, "", "", "0500" "05040001", false, "050100" ASK4, SOCKS5_TARGET_FAILED, "host unreachable", EHOSTUNREACH },
	{ "reply 5", false, "", "", "0500" "05050001", false, "050100" ASK4, SOCKS5_TARGET_FAILED, "connection refused", ECONNREFUSED },
	{ "reply 6", false, "", "", "0500" "05060001", false, "050100" ASK4, SOCKS5_TARGET_FAILED, "TTL expired", 0 },
	{ "reply 7", false, "", "", "0500" "05070001", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "command not supported", 0 },
	{ "reply 8", true, "", "", "0500" "05080001", false, "050100" ASK6, SOCKS5_PROXY_FAILED, "address type not supported", 0 },
	{ "reply 9", false, "", "", "0500" "05090001", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5", 0 },
	{ "reply 255", false, "", "", "0500" "05ff0001", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5", 0 },
	{ "a reply of another version", false, "", "", "0500" "04000001", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5", 0 },
	{ "an unknown kind of address", false, "", "", "0500" "05000002", false, "050100" ASK4, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5", 0 },

	{ "silence, and the end", false, "", "", "", true, "050100", SOCKS5_PROXY_FAILED, "it closed the connection", 0 },
	{ "half a method", false, "", "", "05", true, "050100", SOCKS5_PROXY_FAILED, "it closed the connection", 0 },
	{ "the end in place of the login's answer", false, "me", "secret", "0502", true, "050102" "01026d6506736563726574", SOCKS5_PROXY_FAILED,
		"it closed the connection", 0 },
	{ "the end in place of a reply", false, "", "", "0500", true, "050100" ASK4, SOCKS5_PROXY_FAILED, "it closed the connection", 0 },
	{ "the end within a good reply", false, "", "", "0500" "05000001" "7f00", true, "050100" ASK4, SOCKS5_PROXY_FAILED, "it closed the connection", 0 },
	{ "the end behind two octets of a good reply", false, "", "", "0500" "0500", true, "050100" ASK4, SOCKS5_PROXY_FAILED, "it closed the connection", 0 },
	{ "the end behind two octets of a refusal", false, "", "", "0500" "0505", true, "050100" ASK4, SOCKS5_TARGET_FAILED, "connection refused", ECONNREFUSED },
};

static size_t unhex(const char *s, uint8_t *out)
{
	size_t n = 0;
	unsigned octet;

	for (; s[0] && s[1]; s += 2) {
		assert_int_equal(sscanf(s, "%2x", &octet), 1);
		out[n++] = (uint8_t)octet;
	}
	return n;
}

static void said(struct socks5 *s, struct buf *out)
{
	for (; s->out_at < s->out_len; socks5_sent(s, 1))
		buf_printf(out, "%02x", s->out[s->out_at]);
}

static void dialogue(size_t i, size_t chunk)
{
	struct socks5_target target = { .port = cases[i].v6 ? 593 : 25, .v6 = cases[i].v6 };
	struct socks5 s;
	struct buf out = BUF_INIT;
	uint8_t in[600];
	size_t n = unhex(cases[i].in, in), at = 0;
	enum socks5_result result = SOCKS5_BUSY;

	unhex(cases[i].v6 ? "20010db8000000000000000000000019" : "c0000219", target.address);
	socks5_begin(&s, &target, str_of(cases[i].user), str_of(cases[i].pass));
	said(&s, &out);
	while (result == SOCKS5_BUSY && at < n) {
		size_t wants = socks5_wants(&s), now = chunk < wants ? chunk : wants;

		assert_true(wants > 0);
		now = now < n - at ? now : n - at;
		result = socks5_input(&s, in + at, now);
		at += now;
		said(&s, &out);
	}
	if (result == SOCKS5_BUSY && cases[i].closes)
		result = socks5_closed(&s);
	if (result != cases[i].result || strcmp(buf_cstr(&out), cases[i].out))
		print_error("%s, in pieces of %zu\n", cases[i].what, chunk);
	assert_int_equal(result, cases[i].result);
	assert_string_equal(buf_cstr(&out), cases[i].out);
	assert_int_equal(s.error_no, cases[i].error_no);
	if (cases[i].why)
		assert_string_equal(s.why, cases[i].why);
	if (result == SOCKS5_THROUGH) /* what the target says is left alone */
		assert_int_equal(at, n);
	assert_int_equal(socks5_wants(&s), 0);
	buf_clear(&out);
	socks5_clear(&s);
}

static void test_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t chunk = 1; chunk < 300; chunk += chunk < 20 ? 1 : 57)
			dialogue(i, chunk);
}

static void test_longest_login(void **state)
{
	const struct socks5_target target = { .port = 25 };
	uint8_t text[255];
	struct socks5 s;

	(void)state;
	memset(text, 'x', sizeof text);
	socks5_begin(&s, &target, str_make((char *)text, sizeof text), str_make((char *)text, sizeof text));
	socks5_sent(&s, s.out_len);
	assert_int_equal(socks5_input(&s, (const uint8_t *)"\5\2", 2), SOCKS5_BUSY);
	assert_int_equal(s.out_len, 513);
	assert_int_equal(s.out[1], 255);
	assert_int_equal(s.out[257], 255);
	assert_memory_equal(s.out + 258, text, sizeof text);
}

/* ---- order ---- */

/* A fixed sequence: the same with every run. */
static uint32_t next_random(void *arg, uint32_t n)
{
	uint64_t *x = arg;

	*x = *x * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*x >> 33) % n;
}

enum { DRAWS = 1000 };

static void order_check(const struct conf_proxies *all, const uint8_t *order)
{
	uint32_t seen = 0;

	for (uint32_t i = 0; i < all->n; i++) {
		assert_in_range(order[i], 0, all->n - 1);
		assert_false(seen & 1u << order[i]);
		seen |= 1u << order[i];
		if (i)
			assert_true(all->v[order[i]].priority <= all->v[order[i - 1]].priority);
	}
}

static void draw_many(const char *text, unsigned first[CONF_PROXIES_MAX])
{
	struct arena a = ARENA_INIT;
	struct conf_proxies all;
	uint64_t seed = 42;

	memset(first, 0, CONF_PROXIES_MAX * sizeof *first);
	assert_int_equal(conf_proxies_parse(str_of(text), &a, &all, NULL), ST_OK);
	for (unsigned i = 0; i < DRAWS; i++) {
		uint8_t order[CONF_PROXIES_MAX];

		out_socks_order(&all, next_random, &seed, order);
		order_check(&all, order);
		first[order[0]]++;
	}
	arena_clear(&a);
}

static void test_order(void **state)
{
	unsigned first[CONF_PROXIES_MAX];

	(void)state;
	draw_many("192.0.2.1:192.0.2.2:192.0.2.3", first); /* as they stand */
	assert_int_equal(first[0], DRAWS);
	draw_many("192.0.2.1:192.0.2.2 pri=2:192.0.2.3", first);
	assert_int_equal(first[1], DRAWS);
	/* 1 : 3 : 6 of a thousand; three standard deviations are below 50 */
	draw_many("192.0.2.1 weight=1:192.0.2.2 weight=3:192.0.2.3 weight=6:192.0.2.4 pri=0 weight=1000", first);
	assert_in_range(first[0], 60, 140);
	assert_in_range(first[1], 250, 350);
	assert_in_range(first[2], 550, 650);
	assert_int_equal(first[3], 0);
	draw_many("192.0.2.1 weight=0:192.0.2.2 weight=0:192.0.2.3 weight=5", first);
	assert_int_equal(first[2], DRAWS);
	draw_many("192.0.2.1 weight=0:192.0.2.2 weight=0", first);
	assert_int_equal(first[0], DRAWS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_longest_login),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

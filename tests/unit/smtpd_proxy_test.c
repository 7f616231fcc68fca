/* SPDX-License-Identifier: ISC */
/* PROXY headers: the good, the bad, and each of them octet by octet. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "smtpd/proxy_header.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define A4 "\xc0\x00\x02\x01" "\xc6\x33\x64\x02" "\xff\xfe" "\x00\x19"
#define A6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02" "\x12\x34" "\x01\xd1"
#define H(text) text, sizeof text - 1

static const struct {
	const char *p;
	size_t n;
	enum proxy_verdict verdict;
	const char *want;             /* "SOURCE PORT TARGET PORT", "none", or words of the fault */
} cases[] = {
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 65534 25\r\n"), PROXY_DONE, "192.0.2.1 65534 198.51.100.2 25" },
	{ H("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"), PROXY_DONE, "2001:db8::1 1 2001:db8::2 65535" },
	{ H("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), PROXY_DONE,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535" },
	{ H("PROXY UNKNOWN\r\n"), PROXY_DONE, "none" }, { H("PROXY UNKNOWN what ever 1 2 3 4\r\n"), PROXY_DONE, "none" },
	{ H("PROXY UNKNOWNS\r\n"), PROXY_BAD, "five words" }, { H("PROXY unknown\r\n"), PROXY_BAD, "five words" },
	{ H("PROXY TCP5 192.0.2.1 198.51.100.2 65534 25\r\n"), PROXY_BAD, "family" },
	{ H("PROXY tcp4 192.0.2.1 198.51.100.2 65534 25\r\n"), PROXY_BAD, "family" },
	{ H("proxy TCP4 192.0.2.1 198.51.100.2 65534 25\r\n"), PROXY_BAD, "no PROXY header" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 65534 25\n"), PROXY_BAD, "CR LF" }, { H("PROXY \n"), PROXY_BAD, "CR LF" },
	{ H("PROXY \r\n"), PROXY_BAD, "five words" }, { H("PROXY TCP4\r\n"), PROXY_BAD, "five words" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 65534\r\n"), PROXY_BAD, "five words" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 65534 25 \r\n"), PROXY_BAD, "" }, { H("PROXY TCP4 192.0.2.1 198.51.100.2 65534 25 x\r\n"), PROXY_BAD, "" },
	{ H("PROXY  TCP4 192.0.2.1 198.51.100.2 65534 25\r\n"), PROXY_BAD, "" }, { H("PROXY TCP4  192.0.2.1 198.51.100.2 65534 25\r\n"), PROXY_BAD, "" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 65534\t25\r\n"), PROXY_BAD, "" },
	{ H("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), PROXY_BAD, "address" }, { H("PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n"), PROXY_BAD, "address" },
	{ H("PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n"), PROXY_BAD, "address" }, { H("PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n"), PROXY_BAD, "address" },
	{ H("PROXY TCP4 192.0.2.1\0 198.51.100.2 1 2\r\n"), PROXY_BAD, "address" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 0 25\r\n"), PROXY_BAD, "port" }, { H("PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n"), PROXY_BAD, "port" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 1 025\r\n"), PROXY_BAD, "port" }, { H("PROXY TCP4 192.0.2.1 198.51.100.2 +1 25\r\n"), PROXY_BAD, "port" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n"), PROXY_BAD, "port" }, { H("PROXY TCP4 192.0.2.1 198.51.100.2 1 2x\r\n"), PROXY_BAD, "port" },
	{ H("PROXY TCP4 192.0.2.1 198.51.100.2 1 123456\r\n"), PROXY_BAD, "port" },
	{ H("PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"), PROXY_BAD,
		"too long" },
	{ H("EHLO client.example\r\n"), PROXY_BAD, "no PROXY header" }, { H("\r\n"), PROXY_MORE, "" }, { H(""), PROXY_MORE, "" },
	{ H("\r\nEHLO"), PROXY_BAD, "no PROXY header" },
	{ H(SIG "\x21\x11\0\x0c" A4), PROXY_DONE, "192.0.2.1 65534 198.51.100.2 25" },
	{ H(SIG "\x21\x21\0\x24" A6), PROXY_DONE, "2001:db8::1 4660 2001:db8::2 465" },
	{ H(SIG "\x20\x00\0\x00"), PROXY_DONE, "none" }, { H(SIG "\x20\x11\0\x0c" A4), PROXY_DONE, "none" }, { H(SIG "\x20\xff\0\x03xyz"), PROXY_DONE, "none" },
	{ H(SIG "\x21\x00\0\x00"), PROXY_DONE, "none" }, { H(SIG "\x21\x00\0\x03xyz"), PROXY_DONE, "none" }, { H(SIG "\x21\x01\0\x00"), PROXY_BAD, "family" },
	{ H(SIG "\x21\x12\0\x0c" A4), PROXY_BAD, "family" }, { H(SIG "\x21\x22\0\x24" A6), PROXY_BAD, "family" },
	{ H(SIG "\x21\x31\0\xd8"), PROXY_MORE, "" }, { H(SIG "\x21\x31\0\xd7"), PROXY_BAD, "too short" }, { H(SIG "\x21\x32\0\xd8"), PROXY_BAD, "family" },
	{ H(SIG "\x11\x11\0\x0c" A4), PROXY_BAD, "version" }, { H(SIG "\x22\x11\0\x0c" A4), PROXY_BAD, "version" },
	{ H(SIG "\x21\x11\0\x0b" A4), PROXY_BAD, "too short" }, { H(SIG "\x21\x21\0\x23" A6), PROXY_BAD, "too short" },
	{ H(SIG "\x21\x11\xff\xff" A4), PROXY_MORE, "" },
	{ H(SIG "\x21\x11\0\x11" A4 "\x04\0\x02zz"), PROXY_DONE, "192.0.2.1 65534 198.51.100.2 25" },
	{ H(SIG "\x21\x11\0\x0e" A4 "\x04\0"), PROXY_BAD, "cut off" }, { H(SIG "\x21\x11\0\x11" A4 "\x04\0\x03zz"), PROXY_BAD, "longer" },
	{ H(SIG "\x21\x11\0\x13" A4 "\x03\0\x04\x5a\x13\x99\xb9"), PROXY_BAD, "checksum" },
	{ H(SIG "\x21\x11\0\x12" A4 "\x03\0\x03" "abc"), PROXY_BAD, "checksum" },
};

static void form(const struct proxy_header *h, enum proxy_verdict verdict, char *out, size_t size)
{
	char source[64], target[64];

	if (verdict == PROXY_BAD) {
		snprintf(out, size, "%s", h->why);
		return;
	}
	inet_ntop(h->ipv6 ? AF_INET6 : AF_INET, h->source, source, sizeof source);
	inet_ntop(h->ipv6 ? AF_INET6 : AF_INET, h->target, target, sizeof target);
	snprintf(out, size, "%s", h->none ? "none" : "");
	if (!h->none)
		snprintf(out, size, "%s %u %s %u", source, h->source_port, target, h->target_port);
}

static void test_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct proxy_header h;
		enum proxy_verdict verdict = proxy_header_parse((const uint8_t *)cases[i].p, cases[i].n, &h);
		char got[200] = "";

		if (verdict != PROXY_MORE)
			form(&h, verdict, got, sizeof got);
		if (verdict != cases[i].verdict || (verdict == PROXY_BAD ? !strstr(got, cases[i].want) : strcmp(got, cases[i].want)))
			fail_msg("case %zu: %d \"%s\", want %d \"%s\"", i, verdict, got, cases[i].verdict, cases[i].want);
		if (verdict == PROXY_DONE)
			assert_int_equal(h.size, cases[i].n);
	}
}

/* What is incomplete is never taken for something, and what follows changes nothing. */
static void test_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t room[PROXY_HEADER_MAX + 32];
		struct proxy_header h;

		if (cases[i].verdict != PROXY_DONE)
			continue;
		for (size_t n = 0; n < cases[i].n; n++)
			if (proxy_header_parse((const uint8_t *)cases[i].p, n, &h) != PROXY_MORE)
				fail_msg("case %zu, %zu octets: %s", i, n, h.why ? h.why : "done");
		memcpy(room, cases[i].p, cases[i].n);
		memcpy(room + cases[i].n, "EHLO x\r\n", 8);
		assert_int_equal(proxy_header_parse(room, cases[i].n + 8, &h), PROXY_DONE);
		assert_int_equal(h.size, cases[i].n);
	}
}

/* The checksum is over the whole header with its own field as zeros. */
static void test_checksum(void **state)
{
	uint8_t p[] = SIG "\x21\x11\0\x13" A4 "\x03\0\x04\0\0\0\0";
	size_t n = sizeof p - 1, at = n - 4;
	uint32_t crc = 0xffffffff;
	struct proxy_header h;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	crc = ~crc;
	for (int i = 0; i < 4; i++)
		p[at + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
	assert_int_equal(proxy_header_parse(p, n, &h), PROXY_DONE);
	p[20] ^= 1;
	assert_int_equal(proxy_header_parse(p, n, &h), PROXY_BAD);
	assert_non_null(strstr(h.why, "checksum"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_headers), cmocka_unit_test(test_pieces), cmocka_unit_test(test_checksum) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

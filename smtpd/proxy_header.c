/* SPDX-License-Identifier: ISC */
#include "smtpd/proxy_header.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/base/str.h"

static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };

static enum proxy_verdict bad(struct proxy_header *out, const char *why)
{
	out->why = why;
	return PROXY_BAD;
}

/* ---- version 1 ---- */

/* 1 to 65535, nothing but digits, no leading zero. */
static bool port_parse(struct str s, uint16_t *out)
{
	uint64_t v;

	if (!s.len || s.len > 5 || s.p[0] == '0' || !str_u64(s, 65535, &v))
		return false;
	*out = (uint16_t)v;
	return true;
}

static bool address_parse_text(struct str s, bool ipv6, uint8_t out[16])
{
	char text[INET6_ADDRSTRLEN];

	if (s.len >= sizeof text || memchr(s.p, 0, s.len))
		return false;
	memcpy(text, s.p, s.len);
	text[s.len] = '\0';
	return inet_pton(ipv6 ? AF_INET6 : AF_INET, text, out) == 1;
}

static enum proxy_verdict v1_parse(const char *p, size_t n, struct proxy_header *out)
{
	const char *lf = memchr(p, '\n', n > PROXY_V1_MAX ? PROXY_V1_MAX : n);
	struct str line, word[6], rest;
	size_t words = 0;

	if (!lf)
		return n < PROXY_V1_MAX ? PROXY_MORE : bad(out, "the line is too long");
	out->size = (size_t)(lf - p) + 1;
	if (out->size < 2 || lf[-1] != '\r')
		return bad(out, "the line does not end in CR LF");
	line = str_make(p, out->size - 2);
	rest = str_from(line, sizeof "PROXY " - 1);
	if (str_is(rest, "UNKNOWN") || str_begins(rest, "UNKNOWN ")) {
		out->none = true;
		return PROXY_DONE;
	}
	for (;;) {
		if (words == 6)
			return bad(out, "too many words");
		if (!str_split(&rest, ' ', &word[words]))
			break;
		words++;
	}
	if (words != 5 || (line.p[line.len - 1] == ' '))
		return bad(out, "five words were expected, one blank between them");
	if (!str_is(word[0], "TCP4") && !str_is(word[0], "TCP6"))
		return bad(out, "the family is none of TCP4, TCP6, UNKNOWN");
	out->ipv6 = str_is(word[0], "TCP6");
	if (!address_parse_text(word[1], out->ipv6, out->source) || !address_parse_text(word[2], out->ipv6, out->target))
		return bad(out, "an address is not of the family named");
	if (!port_parse(word[3], &out->source_port) || !port_parse(word[4], &out->target_port))
		return bad(out, "a port is no number from 1 to 65535");
	return PROXY_DONE;
}

/* ---- version 2 ---- */

/* CRC-32C, with the four octets at `hole` taken as zero. */
static uint32_t crc32c(const uint8_t *p, size_t n, size_t hole)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < n; i++) {
		crc ^= i - hole < 4 ? 0 : p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return ~crc;
}

static enum proxy_verdict tlvs_check(const uint8_t *p, size_t at, struct proxy_header *out)
{
	enum { TLV_CRC32C = 3, TLV_HEAD = 3 };

	while (at < out->size) {
		size_t len;

		if (out->size - at < TLV_HEAD)
			return bad(out, "a TLV is cut off");
		len = (size_t)p[at + 1] << 8 | p[at + 2];
		if (len > out->size - at - TLV_HEAD)
			return bad(out, "a TLV is longer than the header");
		if (p[at] == TLV_CRC32C) {
			const uint8_t *c = p + at + TLV_HEAD;

			if (len != 4 || crc32c(p, out->size, at + TLV_HEAD) != ((uint32_t)c[0] << 24 | (uint32_t)c[1] << 16 | (uint32_t)c[2] << 8 | c[3]))
				return bad(out, "the checksum is wrong");
		}
		at += TLV_HEAD + len;
	}
	return PROXY_DONE;
}

/* Connections of a kind that has no address of ours are the proxy's own, as UNKNOWN is in version 1. Datagrams can't be. */
static const struct family {
	uint8_t value;
	uint8_t ip;             /* octets of an address; 0: it says nothing of a host */
	uint16_t addresses;     /* octets of all addresses and ports */
} families[] = {
	{ 0x00, 0, 0 }, { 0x11, 4, 12 }, { 0x21, 16, 36 }, { 0x31, 0, 216 },
};

static const struct family *family_find(uint8_t value)
{
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (families[i].value == value)
			return &families[i];
	return NULL;
}

static enum proxy_verdict v2_parse(const uint8_t *p, size_t n, struct proxy_header *out)
{
	enum { VERSION_LOCAL = 0x20, VERSION_PROXY = 0x21 };
	const struct family *family;
	size_t payload, at = PROXY_V2_HEAD;

	if (n < PROXY_V2_HEAD)
		return PROXY_MORE;
	if (p[12] != VERSION_LOCAL && p[12] != VERSION_PROXY)
		return bad(out, "unknown version or command");
	payload = (size_t)p[14] << 8 | p[15];
	out->none = p[12] == VERSION_LOCAL;
	family = family_find(p[13]);
	if (!out->none && !family)
		return bad(out, "the family is none of TCP over IPv4, TCP over IPv6, a Unix socket, unspecified");
	if (!out->none && payload < family->addresses)
		return bad(out, "the header is too short for its addresses");
	out->size = PROXY_V2_HEAD + payload;
	if (n < out->size)
		return PROXY_MORE;
	if (out->none) /* whatever it says is to be ignored */
		return PROXY_DONE;
	out->none = !family->ip;
	if (!family->addresses) /* nor can it be told where TLVs would begin */
		return PROXY_DONE;
	if (!out->none) {
		out->ipv6 = family->ip == 16;
		memcpy(out->source, p + at, family->ip);
		memcpy(out->target, p + at + family->ip, family->ip);
		at += 2 * family->ip;
		out->source_port = (uint16_t)(p[at] << 8 | p[at + 1]);
		out->target_port = (uint16_t)(p[at + 2] << 8 | p[at + 3]);
	}
	return tlvs_check(p, PROXY_V2_HEAD + family->addresses, out);
}

enum proxy_verdict proxy_header_parse(const uint8_t *p, size_t n, struct proxy_header *out)
{
	static const char v1[] = "PROXY ";
	size_t v1_len = sizeof v1 - 1;

	memset(out, 0, sizeof *out);
	if (!memcmp(p, v1, n < v1_len ? n : v1_len))
		return n < v1_len ? PROXY_MORE : v1_parse((const char *)p, n, out);
	if (!memcmp(p, signature, n < sizeof signature ? n : sizeof signature))
		return n < sizeof signature ? PROXY_MORE : v2_parse(p, n, out);
	return bad(out, "no PROXY header");
}

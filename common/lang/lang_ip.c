/* SPDX-License-Identifier: ISC */
#include "common/lang/lang_ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool ip_parse(struct str s, struct ip *out)
{
	char text[IP_TEXT];

	if (!s.len || s.len >= sizeof text || memchr(s.p, 0, s.len))
		return false;
	memcpy(text, s.p, s.len);
	text[s.len] = '\0';
	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, text, out->octets) == 1) {
		out->len = 4;
		return true;
	}
	if (inet_pton(AF_INET6, text, out->octets) == 1) {
		out->len = 16;
		return true;
	}
	return false;
}

bool ip_parse_mapped(struct str s, struct ip *out)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	if (!ip_parse(s, out))
		return false;
	if (out->len == 16 && !memcmp(out->octets, mapped, sizeof mapped)) {
		memmove(out->octets, out->octets + 12, 4);
		memset(out->octets + 4, 0, 12);
		out->len = 4;
	}
	return true;
}

bool ip_net_parse(struct str s, struct ip_net *out)
{
	ptrdiff_t slash = str_find(s, '/');
	uint64_t bits;

	if (!ip_parse(slash < 0 ? s : str_sub(s, 0, (size_t)slash), &out->ip))
		return false;
	out->bits = (uint8_t)(out->ip.len * 8);
	if (slash < 0)
		return true;
	if (!str_u64(str_from(s, (size_t)slash + 1), out->bits, &bits))
		return false;
	out->bits = (uint8_t)bits;
	return true;
}

bool ip_in_net(const struct ip *ip, const struct ip_net *net)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	if (ip->len != net->ip.len || memcmp(ip->octets, net->ip.octets, whole))
		return false;
	return !rest || !((ip->octets[whole] ^ net->ip.octets[whole]) >> (8 - rest));
}

void ip_mask(struct ip *ip, unsigned bits)
{
	for (unsigned i = 0; i < ip->len; i++) {
		unsigned keep = bits >= 8 ? 8 : bits;

		ip->octets[i] &= (uint8_t)(0xff00 >> keep);
		bits -= keep;
	}
}

struct str ip_format(struct arena *a, const struct ip *ip)
{
	char text[INET6_ADDRSTRLEN];

	if (!inet_ntop(ip->len == 4 ? AF_INET : AF_INET6, ip->octets, text, sizeof text))
		return STR_NULL;
	return str_dup(a, str_of(text));
}

struct str ip_format_full(struct arena *a, const struct ip *ip, char sep)
{
	char text[IP_TEXT];
	int n = 0;

	if (ip->len == 4)
		return ip_format(a, ip);
	for (int i = 0; i < 16; i += 2)
		n += snprintf(text + n, sizeof text - (size_t)n, "%s%02x%02x", i ? (char[]){ sep, 0 } : "", ip->octets[i], ip->octets[i + 1]);
	return str_dup(a, str_make(text, (size_t)n));
}

struct str ip_format_reverse(struct arena *a, const struct ip *ip)
{
	char text[IP_TEXT + 1];
	int n = 0;

	if (ip->len == 4)
		return str_printf(a, "%u.%u.%u.%u", ip->octets[3], ip->octets[2], ip->octets[1], ip->octets[0]);
	for (int i = 15; i >= 0; i--)
		n += snprintf(text + n, sizeof text - (size_t)n, "%x.%x.", ip->octets[i] & 15, ip->octets[i] >> 4);
	return str_dup(a, str_make(text, (size_t)n - 1));
}

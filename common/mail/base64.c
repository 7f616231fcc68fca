/* SPDX-License-Identifier: ISC */
#include "common/mail/base64.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, struct str s)
{
	for (uint32_t i = 0; i < s.len; i += 3) {
		uint32_t left = s.len - i, v = (uint32_t)(unsigned char)s.p[i] << 16;

		if (left > 1)
			v |= (uint32_t)(unsigned char)s.p[i + 1] << 8;
		if (left > 2)
			v |= (unsigned char)s.p[i + 2];
		buf_addc(out, letters[v >> 18]);
		buf_addc(out, letters[v >> 12 & 63]);
		buf_addc(out, left > 1 ? letters[v >> 6 & 63] : '=');
		buf_addc(out, left > 2 ? letters[v & 63] : '=');
	}
}

int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four letters; `last` may be padded. Octets put out, 0: wrong. */
static unsigned group_decode(const char *p, bool last, char out[3])
{
	unsigned n = last && p[3] == '=' ? p[2] == '=' ? 1 : 2 : 3;
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		int x = i <= n ? base64_value(p[i]) : 0;

		if (x < 0)
			return 0;
		v = v << 6 | (uint32_t)x;
	}
	if (v & (n == 1 ? 0xffffu : n == 2 ? 0xffu : 0u)) /* bits that mean nothing */
		return 0;
	out[0] = (char)(v >> 16);
	out[1] = (char)(v >> 8);
	out[2] = (char)v;
	return n;
}

bool base64_decode(struct buf *out, struct str s)
{
	size_t before = out->len;

	if (s.len % 4)
		return false;
	for (uint32_t i = 0; i < s.len; i += 4) {
		char octets[3];
		unsigned n = group_decode(s.p + i, i + 4 == s.len, octets);

		if (!n || !buf_add(out, octets, n)) {
			out->len = before;
			return false;
		}
	}
	return true;
}

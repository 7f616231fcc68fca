/* SPDX-License-Identifier: ISC */
/* Forms of addresses: quoting, case, comparison, xtext. */
#include <string.h>

#include "common/mail/address.h"

struct str address_local_unquote(struct arena *a, struct str local)
{
	char *p;
	size_t n = 0;

	if (local.len < 2 || local.p[0] != '"' || local.p[local.len - 1] != '"')
		return local;
	p = arena_alloc(a, local.len);
	for (size_t i = 1; i + 1 < local.len; i++) {
		if (local.p[i] == '\\' && i + 2 < local.len)
			i++;
		p[n++] = local.p[i];
	}
	return (struct str){ p, (uint32_t)n, local.tainted };
}

struct str address_local_quote(struct arena *a, struct str bare)
{
	char *p;
	size_t n = 0;
	bool plain = bare.len && bare.p[0] != '.' && bare.p[bare.len - 1] != '.';

	for (size_t i = 0; i < bare.len && plain; i++) {
		char c = bare.p[i];

		plain = ascii_is_alnum(c) || (unsigned char)c > 127 || (c && strchr("!#$%&'*+-/=?^_`{|}~", c)) ||
			(c == '.' && bare.p[i + 1] != '.');
	}
	if (plain)
		return bare;
	p = arena_alloc(a, 2 * (size_t)bare.len + 3);
	p[n++] = '"';
	for (size_t i = 0; i < bare.len; i++) {
		if (bare.p[i] == '"' || bare.p[i] == '\\')
			p[n++] = '\\';
		p[n++] = bare.p[i];
	}
	p[n++] = '"';
	return (struct str){ p, (uint32_t)n, bare.tainted };
}

struct str address_lower_domain(struct arena *a, struct str addr)
{
	struct str local, domain;
	size_t i;
	char *p;

	if (!address_split(addr, &local, &domain))
		return addr;
	for (i = 0; i < domain.len && ascii_lower(domain.p[i]) == domain.p[i]; i++)
		;
	if (i == domain.len)
		return addr;
	p = arena_memdup(a, addr.p, addr.len);
	for (i = local.len + 1; i < addr.len; i++)
		p[i] = ascii_lower(p[i]);
	return (struct str){ p, addr.len, addr.tainted };
}

bool address_same(struct arena *a, struct str x, struct str y)
{
	struct str lx, dx, ly, dy;

	address_split(x, &lx, &dx);
	address_split(y, &ly, &dy);
	return str_eqi(dx, dy) && str_eq(address_local_unquote(a, lx), address_local_unquote(a, ly));
}

struct str address_xtext_encode(struct arena *a, struct str s)
{
	static const char hex[] = "0123456789ABCDEF";
	char *p = arena_alloc(a, 3 * (size_t)s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 33 || c > 126 || c == '+' || c == '=') {
			p[n++] = '+';
			p[n++] = hex[c >> 4];
			p[n++] = hex[c & 15];
		} else {
			p[n++] = (char)c;
		}
	}
	return (struct str){ p, (uint32_t)n, s.tainted };
}

static int hex_upper(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool address_xtext_decode(struct arena *a, struct str s, struct str *out)
{
	char *p = arena_alloc(a, (size_t)s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 33 || c > 126 || c == '=')
			return false;
		if (c == '+') {
			int hi, lo;

			if (i + 2 >= s.len || (hi = hex_upper(s.p[i + 1])) < 0 || (lo = hex_upper(s.p[i + 2])) < 0)
				return false;
			c = (unsigned char)(hi << 4 | lo);
			i += 2;
		}
		p[n++] = (char)c;
	}
	*out = (struct str){ p, (uint32_t)n, s.tainted };
	return true;
}

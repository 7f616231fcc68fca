/* SPDX-License-Identifier: ISC */
/* Forms of addresses: quoting, case, comparison, xtext. */
#include <string.h>

#include "common/mail/address.h"
#include "common/mail/alabel.h"

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
	return str_eqi(alabel_domain_canonical(a, dx), alabel_domain_canonical(a, dy)) && str_eq(address_local_unquote(a, lx), address_local_unquote(a, ly));
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

/* ---- addresses of type "utf-8" ---- */

/* One character of text that is valid UTF-8. */
static uint32_t utf8_char(struct str s, uint32_t *at)
{
	unsigned char c = (unsigned char)s.p[(*at)++];
	uint32_t more = c < 0xc0 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3, code = more ? c & (0x3fu >> more) : c;

	for (; more && *at < s.len; more--)
		code = code << 6 | ((unsigned char)s.p[(*at)++] & 0x3f);
	return code;
}

struct str address_unitext_encode(struct arena *a, struct str s, bool ascii)
{
	struct buf b = BUF_INIT;
	struct str out;

	for (uint32_t at = 0; at < s.len;) {
		uint32_t from = at, code = utf8_char(s, &at);

		if (code <= ' ' || code == '+' || code == '=' || code == '\\' || code == 0x7f || (code > 0x7f && ascii))
			buf_printf(&b, "\\x{%02X}", (unsigned)code);
		else
			buf_add(&b, s.p + from, at - from);
	}
	out = str_dup(a, buf_str(&b));
	out.tainted = s.tainted;
	buf_clear(&b);
	return out;
}

static size_t utf8_put(char *p, uint32_t c)
{
	unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;

	if (!more) {
		*p = (char)c;
		return 1;
	}
	p[0] = (char)((0xff80u >> more & 0xff) | c >> 6 * more);
	for (unsigned i = 1; i <= more; i++)
		p[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3f));
	return more + 1;
}

/* "\x{" 2 to 6 digits "}" at *at, of a character that has no other form. */
static bool embedded_char(struct str s, uint32_t *at, uint32_t *code_out)
{
	uint32_t i = *at + 3, code = 0, digits = 0;

	if (s.len - *at < 6 || s.p[*at + 1] != 'x' || s.p[*at + 2] != '{')
		return false;
	for (; i < s.len && hex_upper(ascii_upper(s.p[i])) >= 0 && digits < 7; i++, digits++)
		code = code << 4 | (uint32_t)hex_upper(ascii_upper(s.p[i]));
	if (i >= s.len || s.p[i] != '}' || digits < 2 || digits > 6 || (digits > 2 && s.p[*at + 3] == '0'))
		return false;
	if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000) || code < ' ' || (code >= 0x7f && code < 0xa0))
		return false;
	if (code < 0x7f && code != ' ' && code != '+' && code != '=' && code != '\\')
		return false;
	*at = i + 1;
	*code_out = code;
	return true;
}

bool address_unitext_decode(struct arena *a, struct str s, struct str *out)
{
	char *p = arena_alloc(a, (size_t)s.len + 1);
	size_t n = 0;

	if (!s.len || !address_utf8_valid(s))
		return false;
	for (uint32_t at = 0; at < s.len;) {
		unsigned char c = (unsigned char)s.p[at];
		uint32_t code;

		if (c <= ' ' || c == 0x7f || c == '+' || c == '=')
			return false;
		if (c != '\\') {
			p[n++] = s.p[at++];
			continue;
		}
		if (!embedded_char(s, &at, &code))
			return false;
		n += utf8_put(p + n, code);
	}
	*out = (struct str){ p, (uint32_t)n, s.tainted };
	return true;
}

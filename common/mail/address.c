/* SPDX-License-Identifier: ISC */
#include "common/mail/address.h"

#include <arpa/inet.h>
#include <string.h>

#define UTF8(flags) ((flags) & ADDR_UTF8)
#define LENIENT(flags) ((flags) & ADDR_LENIENT)

static bool is_high(char c)
{
	return (unsigned char)c > 127;
}

/* RFC 5322 section 3.2.3 */
static bool is_atext(char c)
{
	return ascii_is_alnum(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), 0 if it is none or a control character. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	static const struct { unsigned char lo, hi, len, second_lo, second_hi; } rows[] = {
		{ 0xc2, 0xdf, 2, 0x80, 0xbf }, { 0xe0, 0xe0, 3, 0xa0, 0xbf }, { 0xe1, 0xec, 3, 0x80, 0xbf },
		{ 0xed, 0xed, 3, 0x80, 0x9f }, { 0xee, 0xef, 3, 0x80, 0xbf }, { 0xf0, 0xf0, 4, 0x90, 0xbf },
		{ 0xf1, 0xf3, 4, 0x80, 0xbf }, { 0xf4, 0xf4, 4, 0x80, 0x8f },
	};

	if (!n || p[0] < 0x80)
		return n ? 1 : 0;
	if (p[0] == 0xc2 && n > 1 && p[1] < 0xa0)
		return 0;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (p[0] < rows[i].lo || p[0] > rows[i].hi)
			continue;
		if (n < rows[i].len || p[1] < rows[i].second_lo || p[1] > rows[i].second_hi)
			return 0;
		for (size_t k = 2; k < rows[i].len; k++)
			if (p[k] < 0x80 || p[k] > 0xbf)
				return 0;
		return rows[i].len;
	}
	return 0;
}

bool address_utf8_valid(struct str s)
{
	for (size_t i = 0, n; i < s.len; i += n)
		if (!(n = utf8_len((const unsigned char *)s.p + i, s.len - i)))
			return false;
	return true;
}

bool address_is_ascii(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_high(s.p[i]))
			return false;
	return true;
}

/* A run from *at: dot-atom or quoted string. False with *why_out when there is none. */
static bool local_scan(struct str in, size_t *at, unsigned flags, bool *quoted_out, const char **why_out)
{
	size_t i = *at;
	bool dot = true; /* an atom must follow */

	*quoted_out = false;
	if (i < in.len && in.p[i] == '"') {
		*quoted_out = true;
		for (i++; i < in.len && in.p[i] != '"'; i++) {
			if (in.p[i] == '\\')
				i++;
			if (i >= in.len)
				break;
			if ((unsigned char)in.p[i] < 32 || in.p[i] == 127 || (is_high(in.p[i]) && !UTF8(flags))) {
				*why_out = "control or 8-bit character in quoted local part";
				return false;
			}
		}
		if (i >= in.len) {
			*why_out = "quoted local part does not end";
			return false;
		}
		*at = i + 1;
		return true;
	}
	for (; i < in.len; i++) {
		if (in.p[i] == '.') {
			if (dot && !LENIENT(flags)) {
				*why_out = i == *at ? "local part begins with a dot" : "two dots in sequence in local part";
				return false;
			}
			dot = true;
		} else if (is_atext(in.p[i]) || (is_high(in.p[i]) && UTF8(flags))) {
			dot = false;
		} else {
			break;
		}
	}
	if (i == *at) {
		*why_out = "missing or malformed local part";
		return false;
	}
	if (dot && !LENIENT(flags)) {
		*why_out = "local part ends with a dot";
		return false;
	}
	*at = i;
	return true;
}

static bool label_valid(struct str label, unsigned flags)
{
	if (!label.len || (label.len > ADDR_LABEL_MAX && address_is_ascii(label)) || label.p[0] == '-' || label.p[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++) {
		char c = label.p[i];

		if (!ascii_is_alnum(c) && c != '-' && !(c == '_' && LENIENT(flags)) && !(is_high(c) && UTF8(flags)))
			return false;
	}
	return true;
}

static bool name_valid(struct str domain, unsigned flags)
{
	struct str rest = domain, label;

	if (LENIENT(flags) && rest.len > 1 && rest.p[rest.len - 1] == '.')
		rest.len--;
	if (!rest.len || domain.len > ADDR_DOMAIN_MAX || rest.p[rest.len - 1] == '.')
		return false;
	while (str_split(&rest, '.', &label))
		if (!label_valid(label, flags))
			return false;
	return true;
}

bool address_hostname_valid(struct str name)
{
	return name_valid(name, 0);
}

/* RFC 5321 section 4.1.3; a general literal ("tag:...") belongs to no standard yet and is refused. */
bool address_literal_valid(struct str literal)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char ip[16];
	struct str s;
	int family = AF_INET;

	if (literal.len < 3 || literal.p[0] != '[' || literal.p[literal.len - 1] != ']')
		return false;
	s = str_sub(literal, 1, literal.len - 2);
	if (str_beginsi(s, "IPv6:")) {
		s = str_from(s, 5);
		family = AF_INET6;
	} else if (str_beginsi(s, "IPv4:")) { /* no standard has it; sooner or later somebody writes it */
		s = str_from(s, 5);
	}
	if (!s.len || s.len >= sizeof text || memchr(s.p, 0, s.len))
		return false;
	memcpy(text, s.p, s.len);
	text[s.len] = 0;
	return inet_pton(family, text, ip) == 1;
}

bool address_domain_valid(struct str domain, unsigned flags)
{
	if (domain.len && domain.p[0] == '[')
		return (flags & ADDR_LITERALS) && domain.len <= ADDR_DOMAIN_MAX && address_literal_valid(domain);
	return name_valid(domain, flags) && (!UTF8(flags) || address_utf8_valid(domain));
}

bool address_local_valid(struct str local, unsigned flags)
{
	size_t at = 0;
	bool quoted;
	const char *why;

	return local_scan(local, &at, flags, &quoted, &why) && at == local.len && (!UTF8(flags) || address_utf8_valid(local)) &&
		local.len <= (LENIENT(flags) ? ADDR_LENIENT_MAX : ADDR_LOCAL_MAX);
}

/* The octets of a domain from *at on: a literal with its brackets, or what may stand in a name. */
static struct str domain_take(struct str in, size_t *at)
{
	size_t from = *at, i = from;

	if (i < in.len && in.p[i] == '[') {
		while (i < in.len && in.p[i] != ']' && in.p[i] != '>' && !ascii_is_space(in.p[i]))
			i++;
		if (i < in.len && in.p[i] == ']')
			i++;
	} else {
		while (i < in.len && (ascii_is_alnum(in.p[i]) || is_high(in.p[i]) || strchr("-._", in.p[i] ? in.p[i] : ' ')))
			i++;
	}
	*at = i;
	return str_sub(in, from, i - from);
}

static enum status domain_check(struct str domain, unsigned flags, struct err *err)
{
	bool literal = domain.len && domain.p[0] == '[';

	if (!domain.len)
		return err_set(err, ST_FAIL, "domain missing or malformed");
	if (domain.len > ADDR_DOMAIN_MAX)
		return err_set(err, ST_FAIL, "domain is longer than %d octets", ADDR_DOMAIN_MAX);
	if (literal && !(flags & ADDR_LITERALS))
		return err_set(err, ST_FAIL, "domain literals not allowed");
	if (!address_domain_valid(domain, flags))
		return err_set(err, ST_FAIL, literal ? "malformed domain literal" : "malformed domain");
	return ST_OK;
}

/* local [@ domain] at *at; stops at the first octet that can't belong to it. */
static enum status mailbox_scan(struct str in, size_t *at, unsigned flags, struct address *out, struct err *err)
{
	const char *why = "";
	size_t from = *at;
	enum status st;

	if (!local_scan(in, at, flags, &out->quoted, &why))
		return err_set(err, ST_FAIL, "%s", why);
	out->local = str_sub(in, from, *at - from);
	if (out->local.len > ADDR_LOCAL_MAX && !LENIENT(flags))
		return err_set(err, ST_FAIL, "local part is longer than %d octets", ADDR_LOCAL_MAX);
	if (*at < in.len && in.p[*at] == '@') {
		(*at)++;
		out->domain = domain_take(in, at);
		if ((st = domain_check(out->domain, flags, err)))
			return st;
		out->literal = out->domain.p[0] == '[';
	} else if (!(flags & ADDR_UNQUALIFIED) && !str_isi(out->local, "postmaster")) {
		/* Said only if nothing but the domain is missing: otherwise the caller has the better words. */
		if (*at >= in.len || in.p[*at] == '>' || in.p[*at] == ' ')
			return err_set(err, ST_FAIL, "unqualified address not permitted");
	}
	out->text = str_sub(in, from, *at - from);
	for (size_t i = 0; i < out->text.len; i++)
		out->utf8 |= is_high(out->text.p[i]);
	if (out->utf8 && !address_utf8_valid(out->text))
		return err_set(err, ST_FAIL, "malformed UTF-8 in address");
	if (out->text.len > ADDR_LENIENT_MAX)
		return err_set(err, ST_FAIL, "address is longer than %d octets", ADDR_LENIENT_MAX);
	return ST_OK;
}

/* "@one,@two:" is dropped, RFC 5321 appendix C. */
static enum status route_skip(struct str in, size_t *at, unsigned flags, struct err *err)
{
	while (*at < in.len && in.p[*at] == '@') {
		struct str domain;
		enum status st;

		(*at)++;
		domain = domain_take(in, at);
		if ((st = domain_check(domain, flags, err)))
			return err_prefix(err, "source route");
		if (*at >= in.len || (in.p[*at] != ',' && in.p[*at] != ':'))
			return err_set(err, ST_FAIL, "malformed source route");
		if (in.p[(*at)++] == ':')
			return ST_OK;
		if (*at >= in.len || in.p[*at] != '@')
			return err_set(err, ST_FAIL, "malformed source route");
	}
	return err_set(err, ST_FAIL, "malformed source route");
}

static void out_reset(struct address *out, bool tainted)
{
	memset(out, 0, sizeof *out);
	out->text.tainted = out->local.tainted = out->domain.tainted = tainted;
}

enum status address_path_parse(struct str in, unsigned flags, struct address *out, struct str *rest_out, struct err *err)
{
	size_t at = 0, from;
	enum status st;
	bool bracket;

	out_reset(out, in.tainted);
	if (LENIENT(flags))
		while (at < in.len && in.p[at] == ' ')
			at++;
	from = at;
	bracket = at < in.len && in.p[at] == '<';
	if (!bracket && !LENIENT(flags))
		return err_set(err, ST_FAIL, "address must be enclosed in < and >");
	at += bracket;
	if (bracket && at < in.len && in.p[at] == '>') {
		if (!(flags & ADDR_EMPTY))
			return err_set(err, ST_FAIL, "empty address");
		at++;
	} else {
		if (bracket && LENIENT(flags))
			while (at < in.len && in.p[at] == ' ')
				at++;
		if (at < in.len && in.p[at] == '@') {
			if ((st = route_skip(in, &at, flags, err)))
				return st;
			out->routed = true;
		}
		if ((st = mailbox_scan(in, &at, flags, out, err)))
			return st;
		if (bracket && LENIENT(flags))
			while (at < in.len && in.p[at] == ' ')
				at++;
		if (bracket && (at >= in.len || in.p[at] != '>'))
			return err_set(err, ST_FAIL, at >= in.len ? "address does not end in >" : "malformed address");
		at += bracket;
	}
	if (at < in.len && in.p[at] != ' ')
		return err_set(err, ST_FAIL, "malformed address");
	if (at - from > ADDR_PATH_MAX && !LENIENT(flags))
		return err_set(err, ST_FAIL, "address is longer than %d octets", ADDR_PATH_MAX);
	if (!out->text.p)
		out->text.p = "";
	*rest_out = str_from(in, at);
	return ST_OK;
}

enum status address_parse(struct str in, unsigned flags, struct address *out, struct err *err)
{
	size_t at = 0;
	enum status st;

	out_reset(out, in.tainted);
	if (!in.len) {
		out->text.p = "";
		return flags & ADDR_EMPTY ? ST_OK : err_set(err, ST_FAIL, "empty address");
	}
	if ((st = mailbox_scan(in, &at, flags, out, err)))
		return st;
	if (at != in.len)
		return err_set(err, ST_FAIL, "malformed address");
	if (in.len > ADDR_PATH_MAX - 2 && !LENIENT(flags))
		return err_set(err, ST_FAIL, "address is longer than %d octets", ADDR_PATH_MAX - 2);
	return ST_OK;
}

bool address_split(struct str addr, struct str *local_out, struct str *domain_out)
{
	ptrdiff_t at = -1;
	bool quoted = false;

	for (size_t i = 0; i < addr.len; i++) {
		if (quoted && addr.p[i] == '\\')
			i++;
		else if (addr.p[i] == '"')
			quoted = !quoted;
		else if (addr.p[i] == '@' && !quoted)
			at = (ptrdiff_t)i;
	}
	*local_out = at < 0 ? addr : str_sub(addr, 0, (size_t)at);
	*domain_out = at < 0 ? STR_NULL : str_from(addr, (size_t)at + 1);
	domain_out->tainted = addr.tainted;
	return at >= 0;
}

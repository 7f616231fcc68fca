/* SPDX-License-Identifier: ISC */
/* Parameters of Content-Type: and Content-Disposition: (RFC 2045 section 5.1, RFC 2231). */
#include "common/mail/mime.h"

#include <string.h>

enum { SEGMENTS_MAX = 100, PARAMS_MAX = 1000 };

static uint32_t blanks_skip(struct str s, uint32_t i)
{
	while (i < s.len && ascii_is_space(s.p[i]))
		i++;
	return i;
}

/* Behind a comment; comments may nest. */
static uint32_t comment_skip(struct str s, uint32_t i)
{
	unsigned depth = 0;

	for (; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '(')
			depth++;
		else if (s.p[i] == ')' && !--depth)
			return i + 1;
	}
	return s.len;
}

/* Where a value that begins at i ends: at the semicolon that is neither quoted nor in a comment. */
static uint32_t value_end(struct str s, uint32_t i)
{
	bool quoted = false;

	while (i < s.len && (quoted || s.p[i] != ';')) {
		if (!quoted && s.p[i] == '(') {
			i = comment_skip(s, i);
			continue;
		}
		if (s.p[i] == '"')
			quoted = !quoted;
		else if (quoted && s.p[i] == '\\' && i + 1 < s.len)
			i++;
		i++;
	}
	return i;
}

/* A value with quotes and comments taken off, wherever they stand. */
static struct str value_clean(struct arena *a, struct str s)
{
	uint32_t i = blanks_skip(s, 0), n = 0, kept = 0;
	char *p = arena_alloc(a, s.len + 1);
	bool quoted = false;

	while (i < s.len) {
		if (!quoted && s.p[i] == '(') {
			i = comment_skip(s, i);
			continue;
		}
		if (quoted && s.p[i] == '\\' && i + 1 < s.len)
			p[n++] = s.p[++i];
		else if (s.p[i] == '"')
			quoted = !quoted;
		else if (s.p[i] != '\r' && s.p[i] != '\n')
			p[n++] = s.p[i];
		if (quoted || !ascii_is_space(s.p[i]))
			kept = n;
		i++;
	}
	return (struct str){ p, kept, s.tainted };
}

/* The next NAME=VALUE behind the semicolon at or after *at; the value as it stands. */
static bool param_next(struct str s, uint32_t *at, struct str *name, struct str *value)
{
	uint32_t i = value_end(s, *at), from;

	if (i >= s.len)
		return false;
	i = blanks_skip(s, i + 1);
	if (i < s.len && s.p[i] == '(')
		i = blanks_skip(s, comment_skip(s, i));
	for (from = i; i < s.len && s.p[i] != '=' && s.p[i] != ';'; i++)
		;
	*name = str_trim(str_sub(s, from, i - from));
	*value = STR_NULL;
	if (i < s.len && s.p[i] == '=') {
		from = i + 1;
		i = value_end(s, from);
		*value = str_sub(s, from, i - from);
	}
	*at = i;
	return true;
}

static int hex(char c)
{
	c = ascii_lower(c);
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void percent_decode(struct buf *out, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (s.p[i] == '%' && i + 2 < s.len && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
			buf_addc(out, (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2])));
			i += 2;
		} else {
			buf_addc(out, s.p[i]);
		}
}

/* CHARSET'LANGUAGE'TEXT: the text. */
static void charset_drop(struct str *s)
{
	ptrdiff_t first = str_find(*s, '\''), second = first < 0 ? -1 : str_find(str_from(*s, (size_t)first + 1), '\'');

	if (second >= 0)
		*s = str_from(*s, (size_t)(first + second) + 2);
}

struct found {
	struct str plain, extended;
	struct { struct str text; bool set, percent; } segment[SEGMENTS_MAX];
	bool has_plain, has_extended;
};

/* "name", "name*", "name*3" or "name*3*" */
static void param_note(struct found *f, struct str name, struct str value, struct str want)
{
	struct str rest;
	uint64_t n;
	bool percent;

	if (!str_eqi(str_sub(name, 0, want.len), want))
		return;
	rest = str_from(name, want.len);
	if (!rest.len && !f->has_plain) {
		f->plain = value;
		f->has_plain = true;
	}
	if (!rest.len || rest.p[0] != '*')
		return;
	rest = str_from(rest, 1);
	if (!rest.len && !f->has_extended) {
		f->extended = value;
		f->has_extended = true;
	}
	percent = str_ends(rest, "*");
	if (percent)
		rest.len--;
	if (rest.len && str_u64(rest, SEGMENTS_MAX - 1, &n) && !f->segment[n].set) {
		f->segment[n].text = value;
		f->segment[n].set = true;
		f->segment[n].percent = percent;
	}
}

/* Piece after piece, as they are numbered. */
static void segments_join(struct arena *a, const struct found *f, struct buf *out)
{
	for (unsigned i = 0; i < SEGMENTS_MAX && f->segment[i].set; i++) {
		struct str piece = value_clean(a, f->segment[i].text);

		if (i == 0 && f->segment[i].percent)
			charset_drop(&piece);
		if (f->segment[i].percent)
			percent_decode(out, piece);
		else
			buf_add_str(out, piece);
	}
}

bool mime_param(struct arena *a, struct str value, const char *name, struct str *out)
{
	struct found f = { .has_plain = false };
	struct buf text = BUF_LIMIT(MIME_HEADER_MAX);
	struct str p_name, p_value;
	uint32_t at = 0;

	for (unsigned n = 0; n < PARAMS_MAX && param_next(value, &at, &p_name, &p_value); n++)
		param_note(&f, p_name, p_value, str_of(name));
	if (!f.has_extended && !f.segment[0].set && !f.has_plain)
		return false;
	if (f.has_extended) {
		p_value = value_clean(a, f.extended);
		charset_drop(&p_value);
		percent_decode(&text, p_value);
	} else if (f.segment[0].set) {
		segments_join(a, &f, &text);
	} else {
		buf_add_str(&text, value_clean(a, f.plain));
	}
	*out = str_taint(str_dup(a, buf_str(&text)));
	buf_clear(&text);
	return true;
}

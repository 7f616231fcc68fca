/* SPDX-License-Identifier: ISC */
/* The form of lsearch files. Specification, section 9.3. */
#include "common/lang/text_table.h"

static bool line_take(struct str *text, struct str *line_out)
{
	ptrdiff_t at;

	if (!text->len)
		return false;
	at = str_find(*text, '\n');
	*line_out = at < 0 ? *text : str_sub(*text, 0, (size_t)at);
	*text = str_from(*text, at < 0 ? text->len : (size_t)at + 1);
	if (line_out->len && line_out->p[line_out->len - 1] == '\r')
		line_out->len--;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static unsigned digits_take(const struct str *s, uint32_t *at, unsigned base, uint32_t max, unsigned *value_out)
{
	unsigned n = 0, v = 0;

	for (; n < max && *at < s->len; n++, (*at)++) {
		char c = ascii_lower(s->p[*at]);
		unsigned d = ascii_is_digit(c) ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 99;

		if (d >= base)
			break;
		v = v * base + d;
	}
	*value_out = v;
	return n;
}

/* A key in double quotes, with the escapes of section 6.17; *rest_out is what stands behind the closing quote. */
static struct str key_unquote(struct str line, struct arena *a, struct str *rest_out)
{
	char *out = arena_alloc(a, line.len + 1);
	uint32_t at = 1, n = 0;

	while (at < line.len && line.p[at] != '"') {
		char c = line.p[at++];
		unsigned v;

		if (c != '\\' || at >= line.len) {
			out[n++] = c;
			continue;
		}
		c = line.p[at];
		if (c >= '0' && c <= '7' && digits_take(&line, &at, 8, 3, &v)) {
			out[n++] = (char)v;
			continue;
		}
		at++;
		if (c == 'x' && digits_take(&line, &at, 16, 2, &v))
			out[n++] = (char)v;
		else
			out[n++] = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
	}
	*rest_out = str_from(line, at < line.len ? at + 1 : at);
	return str_make(out, n);
}

static struct text_entry key_take(struct str line, struct arena *a)
{
	struct str key, rest, value;

	if (line.p[0] == '"') {
		key = key_unquote(line, a, &rest);
	} else {
		uint32_t n = 0;

		while (n < line.len && line.p[n] != ':' && !is_blank(line.p[n]))
			n++;
		key = str_sub(line, 0, n);
		rest = str_from(line, n);
	}
	value = str_trim(rest);
	if (value.len && value.p[0] == ':')
		value = str_trim(str_from(value, 1));
	/* What stands between the two, for ret=full; blanks at the line's end belong to neither. */
	return (struct text_entry){ key, value.len ? str_sub(rest, 0, (size_t)(value.p - rest.p)) : str_trim(rest), value };
}

void text_table_each(struct str text, struct arena *a, text_entry_fn *fn, void *arg)
{
	struct text_entry entry = { STR_NULL, STR_NULL, STR_NULL };
	struct buf joined = BUF_INIT;
	struct str line;
	bool have = false, long_value = false, go = true;

	while (go && line_take(&text, &line)) {
		struct str trimmed = str_trim(line);

		/* Empty lines and comments count for nothing, even in the middle of an item. */
		if (!trimmed.len || line.p[0] == '#')
			continue;
		if (is_blank(line.p[0])) {
			if (!have)
				continue;
			if (!long_value) {
				buf_reset(&joined);
				buf_add_str(&joined, entry.value);
				long_value = true;
			}
			/* one blank at each junction, also where the first line has no value */
			buf_addc(&joined, ' ');
			buf_add_str(&joined, trimmed);
			continue;
		}
		if (long_value)
			entry.value = str_dup(a, buf_str(&joined));
		if (have)
			go = fn(arg, &entry);
		entry = key_take(line, a);
		have = true;
		long_value = false;
	}
	if (long_value)
		entry.value = str_dup(a, buf_str(&joined));
	if (have && go)
		fn(arg, &entry);
	buf_clear(&joined);
}

struct str text_entry_full(struct arena *a, const struct text_entry *e)
{
	return str_printf(a, "%.*s%.*s%.*s", STR_FMT(e->key), STR_FMT(e->gap), STR_FMT(e->value));
}

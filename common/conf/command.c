/* SPDX-License-Identifier: ISC */
#include "common/conf/command.h"

#include <string.h>

static bool is_octal(char c) { return c >= '0' && c <= '7'; }

/* What stands behind a backslash in double quotes: \n \r \t \ooo \xhh, anything else itself. */
static char escape_take(struct str s, uint32_t *at)
{
	char c = s.p[(*at)++];
	unsigned value = 0;

	switch (c) {
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	case 'x':
		for (int k = 0; k < 2 && *at < s.len; k++) {
			char h = ascii_lower(s.p[*at]);
			if (!ascii_is_digit(h) && (h < 'a' || h > 'f'))
				break;
			value = value * 16 + (unsigned)(ascii_is_digit(h) ? h - '0' : h - 'a' + 10);
			++*at;
		}
		return (char)value;
	default:
		if (!is_octal(c))
			return c;
		value = (unsigned)(c - '0');
		for (int k = 0; k < 2 && *at < s.len && is_octal(s.p[*at]); k++)
			value = value * 8 + (unsigned)(s.p[(*at)++] - '0');
		return (char)value;
	}
}

static enum status word_take(struct str s, uint32_t *at, struct arena *a, struct str *out, struct err *err)
{
	char quote = s.p[*at], *room;
	uint32_t from = *at, n = 0;

	if (quote != '"' && quote != '\'') {
		while (*at < s.len && !ascii_is_space(s.p[*at]))
			++*at;
		*out = str_sub(s, from, *at - from);
		return ST_OK;
	}
	room = arena_alloc(a, s.len + 1);
	for (++*at; *at < s.len && s.p[*at] != quote;) {
		char c = s.p[(*at)++];
		room[n++] = c == '\\' && quote == '"' && *at < s.len ? escape_take(s, at) : c;
	}
	if (*at >= s.len)
		return err_set(err, ST_ERROR, "a quote is missing in the command \"%.*s\"", STR_FMT(str_sub(s, 0, 200)));
	++*at;
	*out = (struct str){ room, n, s.tainted };
	return ST_OK;
}

enum status command_split(struct str text, struct arena *a, struct command_words *out, struct err *err)
{
	struct str *v = arena_alloc(a, COMMAND_WORDS_MAX * sizeof *v);
	uint32_t n = 0, at = 0;

	for (;;) {
		while (at < text.len && ascii_is_space(text.p[at]))
			at++;
		if (at >= text.len)
			break;
		if (n == COMMAND_WORDS_MAX)
			return err_set(err, ST_ERROR, "the command has more than %d words", COMMAND_WORDS_MAX);
		if (word_take(text, &at, a, &v[n], err) != ST_OK)
			return err->status;
		n++;
	}
	if (!n)
		return err_set(err, ST_ERROR, "the command is empty");
	out->v = arena_memdup(a, v, n * sizeof *v);
	out->n = n;
	return ST_OK;
}

bool command_fits(const struct command_words *option, const struct str *words, uint32_t n)
{
	if (option->n != n)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (str_find(option->v[i], '$') < 0 && str_find(option->v[i], '\\') < 0 && !str_eq(option->v[i], words[i]))
			return false;
	return true;
}

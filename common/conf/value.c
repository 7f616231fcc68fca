/* SPDX-License-Identifier: ISC */
/* The scanners behind the kinds of options (specification, sections 6.12 to 6.22). */
#include "common/conf/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum status conf_bool_parse(struct str s, bool *out, struct err *err)
{
	s = str_trim(s);
	if (str_isi(s, "true") || str_isi(s, "yes"))
		*out = true;
	else if (str_isi(s, "false") || str_isi(s, "no"))
		*out = false;
	else
		return err_set(err, ST_ERROR, "not a boolean value: write true, yes, false or no");
	return ST_OK;
}

static int digit_value(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* Digits of the base off the front; false when there is none or they overflow. */
static bool take_number(struct str *s, int base, int64_t *out)
{
	int64_t n = 0;
	uint32_t i = 0;

	for (; i < s->len && digit_value(s->p[i]) < base; i++)
		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit_value(s->p[i]), &n))
			return false;
	*s = str_from(*s, i);
	*out = n;
	return i > 0;
}

enum status conf_int_parse(struct str s, int64_t *out, struct err *err)
{
	static const char suffixes[] = "kmgt";
	static const char right[] = "not an integer: write digits, or 0x and hexadecimal digits, and K, M, G or T behind them";
	int64_t n;
	bool minus;

	s = str_trim(s);
	minus = s.len && *s.p == '-';
	if (minus || (s.len && *s.p == '+'))
		s = str_from(s, 1);
	if (s.len > 2 && s.p[0] == '0' && (s.p[1] == 'x' || s.p[1] == 'X')) {
		s = str_from(s, 2);
		if (!take_number(&s, 16, &n))
			return err_set(err, ST_ERROR, "%s", right);
	} else if (!take_number(&s, s.len && *s.p == '0' ? 8 : 10, &n)) {
		return err_set(err, ST_ERROR, "%s", right);
	}
	if (s.len == 1) {
		const char *at = strchr(suffixes, ascii_lower(*s.p));
		if (!at || !*at)
			return err_set(err, ST_ERROR, "%s", right);
		for (; at >= suffixes; at--)
			if (__builtin_mul_overflow(n, 1024, &n))
				return err_set(err, ST_ERROR, "too large");
		s = STR_NULL;
	}
	if (s.len)
		return err_set(err, ST_ERROR, "%s", right);
	*out = minus ? -n : n;
	return ST_OK;
}

enum status conf_octal_parse(struct str s, int64_t *out, struct err *err)
{
	int64_t n;

	s = str_trim(s);
	if (!take_number(&s, 8, &n) || s.len)
		return err_set(err, ST_ERROR, "not an octal number: write digits 0 to 7");
	*out = n;
	return ST_OK;
}

enum status conf_fixed_parse(struct str s, int64_t *out, struct err *err)
{
	static const char right[] = "not a fixed-point number: write digits, at most three of them behind a point";
	int64_t n, part = 0;
	uint32_t digits = 0;

	s = str_trim(s);
	if (!take_number(&s, 10, &n) || __builtin_mul_overflow(n, 1000, &n))
		return err_set(err, ST_ERROR, "%s", right);
	if (s.len && *s.p == '.') {
		s = str_from(s, 1);
		for (; digits < 3 && s.len && ascii_is_digit(*s.p); s = str_from(s, 1), digits++)
			part = part * 10 + (*s.p - '0');
		for (uint32_t i = digits; i < 3; i++)
			part *= 10;
	}
	if (s.len || __builtin_add_overflow(n, part, &n))
		return err_set(err, ST_ERROR, "%s", right);
	*out = n;
	return ST_OK;
}

static const struct {
	char letter;
	int64_t seconds;
} units[] = { { 'w', 604800 }, { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
enum { UNITS = sizeof units / sizeof *units };

enum status conf_time_parse(struct str s, int64_t *out, struct err *err)
{
	static const char right[] = "not a time: write numbers with w, d, h, m or s behind each, like 1h30m";
	int64_t sum = 0;

	s = str_trim(s);
	if (!s.len)
		return err_set(err, ST_ERROR, "%s", right);
	while (s.len) {
		int64_t n;
		unsigned u = 0;
		if (!take_number(&s, 10, &n) || !s.len)
			return err_set(err, ST_ERROR, "%s", right);
		while (u < UNITS && units[u].letter != *s.p)
			u++;
		if (u == UNITS)
			return err_set(err, ST_ERROR, "%s", right);
		if (__builtin_mul_overflow(n, units[u].seconds, &n) || __builtin_add_overflow(sum, n, &sum))
			return err_set(err, ST_ERROR, "too large");
		s = str_from(s, 1);
	}
	*out = sum;
	return ST_OK;
}

size_t conf_time_format(char out[32], int64_t seconds)
{
	size_t len = 0;

	if (seconds <= 0)
		return (size_t)snprintf(out, 32, "0s");
	for (unsigned u = 0; u < UNITS; u++) {
		if (seconds / units[u].seconds && len < 32)
			len += (size_t)snprintf(out + len, 32 - len, "%" PRId64 "%c", seconds / units[u].seconds, units[u].letter);
		seconds %= units[u].seconds;
	}
	return len;
}

typedef enum status number_parse(struct str s, int64_t *out, struct err *err);

static number_parse *parser_of(enum conf_kind kind)
{
	static number_parse *const parsers[CONF_KINDS] = {
		[CONF_INT] = conf_int_parse, [CONF_OCTAL] = conf_octal_parse, [CONF_FIXED] = conf_fixed_parse, [CONF_TIME] = conf_time_parse,
		[CONF_XINT] = conf_int_parse, [CONF_XFIXED] = conf_fixed_parse, [CONF_XTIME] = conf_time_parse,
	};
	return parsers[kind];
}

struct str conf_number_format(enum conf_kind kind, int64_t n, struct arena *a)
{
	char text[40];

	if (kind == CONF_TIME)
		conf_time_format(text, n);
	else if (kind == CONF_OCTAL)
		snprintf(text, sizeof text, "%04" PRIo64, (uint64_t)n);
	else if (kind == CONF_FIXED)
		snprintf(text, sizeof text, "%" PRId64 ".%03" PRId64, n / 1000, n % 1000);
	else if (n && n % (1024 * 1024 * 1024) == 0)
		snprintf(text, sizeof text, "%" PRId64 "G", n / (1024 * 1024 * 1024));
	else if (n && n % (1024 * 1024) == 0)
		snprintf(text, sizeof text, "%" PRId64 "M", n / (1024 * 1024));
	else if (n && n % 1024 == 0)
		snprintf(text, sizeof text, "%" PRId64 "K", n / 1024);
	else
		snprintf(text, sizeof text, "%" PRId64, n);
	return str_of(arena_strdup(a, text));
}

/* A bound as the administrator would write it. */
static void bound_format(enum conf_kind kind, int64_t n, char out[40])
{
	if (kind == CONF_TIME)
		conf_time_format(out, n);
	else if (kind == CONF_OCTAL)
		snprintf(out, 40, "%04" PRIo64, (uint64_t)n);
	else if (kind == CONF_FIXED)
		snprintf(out, 40, "%" PRId64, n / 1000);
	else
		snprintf(out, 40, "%" PRId64, n);
}

enum status conf_number_parse(const struct conf_option *o, struct str s, int64_t *out, struct err *err)
{
	int64_t n, min = o->min, max = o->min || o->max ? o->max : INT64_MAX;
	char low[40], high[40];
	enum status st = parser_of(o->kind)(s, &n, err);

	if (st != ST_OK)
		return st;
	if (n < min || n > max) {
		bound_format(o->kind, min, low);
		bound_format(o->kind, max, high);
		if (max == INT64_MAX)
			return err_set(err, ST_ERROR, "out of range: %s or more", low);
		return err_set(err, ST_ERROR, "out of range: %s to %s", low, high);
	}
	*out = n;
	return ST_OK;
}

static enum status word_check(const char *words, struct str s, struct err *err)
{
	struct str rest = str_of(words), word;

	while (str_split(&rest, '|', &word)) {
		if (str_eq(word, s))
			return ST_OK;
		if (str_ends(word, "*") && s.len >= word.len && !memcmp(s.p, word.p, word.len - 1))
			return ST_OK;
	}
	return err_set(err, ST_ERROR, "not one of %s", words);
}

static enum status times_check(struct str s, struct err *err)
{
	struct arena a = ARENA_INIT;
	struct conf_list_walk walk = CONF_LIST_WALK(s);
	struct str item;
	enum status st = ST_OK;
	int64_t n, before = 0;

	for (unsigned i = 0; st == ST_OK && conf_list_next(&walk, &a, &item); i++) {
		if (i == 10)
			st = err_set(err, ST_ERROR, "more than 10 times");
		else
			st = conf_time_parse(item, &n, err);
		if (st == ST_OK && i && n <= before)
			st = err_set(err, ST_ERROR, "times must increase");
		before = st == ST_OK ? n : 0;
	}
	arena_clear(&a);
	return st;
}

enum status conf_text_check(const struct conf_option *o, struct str s, struct err *err)
{
	int64_t n;
	bool b;

	if (memchr(s.p ? s.p : "", '\0', s.len))
		return err_set(err, ST_ERROR, "contains a zero octet");
	if (o->kind == CONF_WORD)
		return word_check(o->words, s, err);
	if (o->kind == CONF_TIMES)
		return times_check(s, err);
	if (str_find(s, '$') >= 0 || str_find(s, '\\') >= 0)
		return ST_OK; /* known only after expansion */
	s = str_trim(s);
	if (o->kind == CONF_XBOOL && s.len)
		return conf_bool_parse(s, &b, err);
	if (parser_of(o->kind) && s.len) {
		enum status st = parser_of(o->kind)(s, &n, err);
		if (st == ST_OK && n < -1)
			return err_set(err, ST_ERROR, "out of range: 0 or more");
		return st;
	}
	if (o->flags & F_PATH && o->kind == CONF_TEXT && s.len && *s.p != '/')
		return err_set(err, ST_ERROR, "not an absolute path");
	return ST_OK;
}

/* ---- strings and lists ---- */

/* The character that a backslash and what follows stand for; *i is behind the backslash, then behind the escape. */
static char escape_take(struct str s, uint32_t *i)
{
	char c = s.p[(*i)++];
	unsigned n = 0;

	switch (c) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case 'x':
		for (unsigned k = 0; k < 2 && *i < s.len && digit_value(s.p[*i]) < 16; k++)
			n = n * 16 + (unsigned)digit_value(s.p[(*i)++]);
		return (char)n;
	default:
		if (digit_value(c) >= 8)
			return c;
		n = (unsigned)digit_value(c);
		for (unsigned k = 0; k < 2 && *i < s.len && digit_value(s.p[*i]) < 8; k++)
			n = n * 8 + (unsigned)digit_value(s.p[(*i)++]);
		return (char)n;
	}
}

enum status conf_string_take(struct str *s, bool word, struct arena *a, struct str *out, struct err *err)
{
	uint32_t i = 1, len = 0;
	char *text;

	if (!s->len || *s->p != '"') {
		uint32_t end = s->len;
		if (word)
			for (end = 0; end < s->len && !ascii_is_space(s->p[end]); end++)
				;
		*out = str_make(arena_memdup(a, s->p ? s->p : "", end), end);
		*s = str_from(*s, end);
		return ST_OK;
	}
	text = arena_alloc(a, s->len + 1);
	while (i < s->len && s->p[i] != '"') {
		if (s->p[i] == '\\' && i + 1 < s->len) {
			i++;
			text[len++] = escape_take(*s, &i);
		} else {
			text[len++] = s->p[i++];
		}
	}
	if (i >= s->len)
		return err_set(err, ST_ERROR, "the quote at the start has no quote at the end");
	*s = str_from(*s, i + 1);
	*out = str_make(text, len);
	return ST_OK;
}

static bool is_separator(char c)
{
	return (c > ' ' && c < 127 && !ascii_is_alnum(c)) || (c >= 0 && c < ' ') || c == 127;
}

bool conf_list_next(struct conf_list_walk *w, struct arena *a, struct str *item_out)
{
	struct str s = w->rest;
	uint32_t i = 0, len = 0;
	bool control;
	char *text;

	if (!w->sep) {
		while (s.len && ascii_is_space(*s.p))
			s = str_from(s, 1);
		w->sep = ':';
		if (s.len > 1 && *s.p == '<' && is_separator(s.p[1])) {
			w->sep = s.p[1];
			s = str_from(s, 2);
		}
	}
	control = (w->sep >= 0 && w->sep < ' ') || w->sep == 127;
	while (s.len && *s.p != w->sep && ascii_is_space(*s.p))
		s = str_from(s, 1);
	if (!s.len) {
		w->rest = STR_NULL;
		return false;
	}
	/* Find the end first: an item's memory is its own length, not that of the rest. */
	while (i < s.len) {
		if (s.p[i] != w->sep)
			i++;
		else if (!control && i + 1 < s.len && s.p[i + 1] == w->sep)
			i += 2;
		else
			break;
	}
	text = arena_alloc(a, i + 1);
	for (uint32_t k = 0; k < i; k++) {
		text[len++] = s.p[k];
		k += s.p[k] == w->sep;
	}
	w->rest = str_from(s, i < s.len ? i + 1 : i);
	while (len && ascii_is_space(text[len - 1]))
		len--;
	*item_out = str_make(text, len);
	return true;
}

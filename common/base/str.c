/* SPDX-License-Identifier: ISC */
#include "common/base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"

struct str str_make(const char *p, size_t len)
{
	bug_on(len > UINT32_MAX);
	return (struct str){ p, (uint32_t)len, false };
}

struct str str_of(const char *s)
{
	return s ? str_make(s, strlen(s)) : STR_NULL;
}

struct str str_taint(struct str s)
{
	s.tainted = true;
	return s;
}

struct str str_dup(struct arena *a, struct str s)
{
	s.p = arena_memdup(a, s.p, s.len);
	return s;
}

char *str_cstr(struct arena *a, struct str s)
{
	return arena_memdup(a, s.p, s.len);
}

char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }
bool ascii_is_alpha(char c) { c = ascii_lower(c); return c >= 'a' && c <= 'z'; }
bool ascii_is_digit(char c) { return c >= '0' && c <= '9'; }
bool ascii_is_alnum(char c) { return ascii_is_alpha(c) || ascii_is_digit(c); }
bool ascii_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static int mem_cmpi(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int d = (unsigned char)ascii_lower(a[i]) - (unsigned char)ascii_lower(b[i]);

		if (d)
			return d;
	}
	return 0;
}

bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (!a.len || !memcmp(a.p, b.p, a.len));
}

bool str_eqi(struct str a, struct str b)
{
	return a.len == b.len && !mem_cmpi(a.p, b.p, a.len);
}

bool str_is(struct str a, const char *b) { return str_eq(a, str_of(b)); }
bool str_isi(struct str a, const char *b) { return str_eqi(a, str_of(b)); }

int str_cmp(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int d = n ? memcmp(a.p, b.p, n) : 0;

	return d ? d : (a.len > b.len) - (a.len < b.len);
}

int str_cmpi(struct str a, struct str b)
{
	int d = mem_cmpi(a.p, b.p, a.len < b.len ? a.len : b.len);

	return d ? d : (a.len > b.len) - (a.len < b.len);
}

bool str_begins(struct str s, const char *prefix)
{
	return str_is(str_sub(s, 0, strlen(prefix)), prefix);
}

bool str_beginsi(struct str s, const char *prefix)
{
	return str_isi(str_sub(s, 0, strlen(prefix)), prefix);
}

bool str_ends(struct str s, const char *suffix)
{
	size_t n = strlen(suffix);

	return s.len >= n && str_is(str_from(s, s.len - n), suffix);
}

bool str_endsi(struct str s, const char *suffix)
{
	size_t n = strlen(suffix);

	return s.len >= n && str_isi(str_from(s, s.len - n), suffix);
}

struct str str_trim(struct str s)
{
	while (s.len && ascii_is_space(s.p[0]))
		s.p++, s.len--;
	while (s.len && ascii_is_space(s.p[s.len - 1]))
		s.len--;
	return s;
}

struct str str_sub(struct str s, size_t from, size_t len)
{
	if (from > s.len)
		from = s.len;
	if (len > s.len - from)
		len = s.len - from;
	return (struct str){ s.p ? s.p + from : NULL, (uint32_t)len, s.tainted };
}

struct str str_from(struct str s, size_t from)
{
	return str_sub(s, from, s.len);
}

ptrdiff_t str_find(struct str s, char c)
{
	const char *p = s.len ? memchr(s.p, c, s.len) : NULL;

	return p ? p - s.p : -1;
}

ptrdiff_t str_rfind(struct str s, char c)
{
	const char *p = s.len ? memrchr(s.p, c, s.len) : NULL;

	return p ? p - s.p : -1;
}

ptrdiff_t str_find_str(struct str s, struct str needle)
{
	const char *p;

	if (!needle.len)
		return 0;
	p = s.len ? memmem(s.p, s.len, needle.p, needle.len) : NULL;
	return p ? p - s.p : -1;
}

bool str_split(struct str *s, char c, struct str *part_out)
{
	ptrdiff_t at;

	if (!s->p)
		return false;
	at = str_find(*s, c);
	if (at < 0) {
		*part_out = *s;
		*s = (struct str){ NULL, 0, s->tainted };
	} else {
		*part_out = str_sub(*s, 0, (size_t)at);
		*s = str_from(*s, (size_t)at + 1);
	}
	return true;
}

struct str str_lower(struct arena *a, struct str s)
{
	char *p = arena_memdup(a, s.p, s.len);

	for (size_t i = 0; i < s.len; i++)
		p[i] = ascii_lower(p[i]);
	s.p = p;
	return s;
}

struct str str_upper(struct arena *a, struct str s)
{
	char *p = arena_memdup(a, s.p, s.len);

	for (size_t i = 0; i < s.len; i++)
		p[i] = ascii_upper(p[i]);
	s.p = p;
	return s;
}

struct str str_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return str_of(p);
}

bool str_u64(struct str s, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (!s.len)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		uint64_t d;

		if (!ascii_is_digit(s.p[i]))
			return false;
		d = (uint64_t)(s.p[i] - '0');
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v) || v > max)
			return false;
	}
	*out = v;
	return true;
}

bool str_has_ctl(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return true;
	return false;
}

unsigned str_distance(const char *a, const char *b)
{
	enum { N = 64 };
	unsigned row[3][N + 1];
	size_t la = strnlen(a, N), lb = strnlen(b, N);

	for (size_t j = 0; j <= lb; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *two = row[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = before[j - 1] + (a[i - 1] != b[j - 1]);

			if (before[j] + 1 < best)
				best = before[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < best)
				best = two[j - 2] + 1;
			now[j] = best;
		}
	}
	return row[la % 3][lb];
}

static bool buf_grow(struct buf *b, size_t n)
{
	size_t want, cap;

	if (__builtin_add_overflow(b->len, n, &want) || (b->max && want > b->max)) {
		b->full = true;
		return false;
	}
	if (want < b->cap)
		return true;
	cap = b->cap ? b->cap : 64;
	while (cap <= want)
		cap += cap / 2;
	b->p = mem_resize(b->p, cap);
	b->cap = cap;
	return true;
}

char *buf_room(struct buf *b, size_t n)
{
	return buf_grow(b, n) ? b->p + b->len : NULL;
}

bool buf_add(struct buf *b, const void *p, size_t n)
{
	if (!buf_grow(b, n))
		return false;
	if (n)
		memcpy(b->p + b->len, p, n);
	b->len += n;
	return true;
}

bool buf_add_str(struct buf *b, struct str s) { return buf_add(b, s.p, s.len); }
bool buf_adds(struct buf *b, const char *s) { return buf_add(b, s, strlen(s)); }
bool buf_addc(struct buf *b, char c) { return buf_add(b, &c, 1); }

bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0 || !buf_grow(b, (size_t)n + 1))
		return false;
	vsnprintf(b->p + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
	return true;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	bool ok;

	va_start(ap, fmt);
	ok = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return ok;
}

void buf_drop(struct buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	memmove(b->p, b->p + n, b->len - n);
	b->len -= n;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->full = false;
}

void buf_clear(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ .max = b->max };
}

const char *buf_cstr(struct buf *b)
{
	size_t max = b->max;

	b->max = 0; /* the closing zero does not count */
	buf_grow(b, 1);
	b->max = max;
	b->p[b->len] = '\0';
	return b->p;
}

struct str buf_str(const struct buf *b)
{
	return str_make(b->p, b->len);
}

/* SPDX-License-Identifier: ISC */
/* str.h - text as pointer, length and taint; growing buffers; small scanners.
 * Used by:    everybody. Text from outside is never assumed to end in zero or to be free of zeros.
 * Owns:       struct str lends; struct buf owns its memory until buf_clear().
 * Errors:     a struct buf that reached its limit refuses to grow: buf_add() returns false and sets `full`. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/mem.h"

struct str {
	const char *p;  /* not necessarily zero-terminated; NULL only when len is 0 */
	uint32_t len;
	bool tainted;   /* came from a stranger, or was built from what did */
};

#define STR_NULL ((struct str){ NULL, 0, false })
#define STR_LIT(s) ((struct str){ (s), sizeof(s) - 1, false })
#define STR_FMT(s) (int)(s).len, (s).p ? (s).p : "" /* for "%.*s" */

struct str str_of(const char *zero_terminated);      /* untainted; NULL gives STR_NULL */
struct str str_make(const char *p, size_t len);      /* untainted; len must fit 32 bits */
struct str str_taint(struct str s);
struct str str_dup(struct arena *a, struct str s);   /* zero-terminated copy, keeps taint */
char *str_cstr(struct arena *a, struct str s);       /* zero-terminated copy; inner zeros stay */
bool str_eq(struct str a, struct str b);
bool str_eqi(struct str a, struct str b);            /* ASCII caseless */
bool str_is(struct str a, const char *b);
bool str_isi(struct str a, const char *b);
int str_cmp(struct str a, struct str b);
int str_cmpi(struct str a, struct str b);
bool str_begins(struct str s, const char *prefix);
bool str_beginsi(struct str s, const char *prefix);
bool str_ends(struct str s, const char *suffix);
bool str_endsi(struct str s, const char *suffix);
struct str str_trim(struct str s);                   /* blanks, tabs, CR, LF at both ends */
struct str str_sub(struct str s, size_t from, size_t len); /* clipped to s */
struct str str_from(struct str s, size_t from);
ptrdiff_t str_find(struct str s, char c);            /* index or -1 */
ptrdiff_t str_rfind(struct str s, char c);
ptrdiff_t str_find_str(struct str s, struct str needle);
/* Takes the part before the first c off s (c is dropped too); all of s when there is none. False once s is used up (p NULL). */
bool str_split(struct str *s, char c, struct str *part_out);
struct str str_lower(struct arena *a, struct str s);
struct str str_upper(struct arena *a, struct str s);
struct str str_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* untainted */
/* Exact decimal: digits only, no sign, no blank, no overflow over max. */
bool str_u64(struct str s, uint64_t max, uint64_t *out);
bool str_has_ctl(struct str s);                      /* any octet below 0x20 or 0x7f */
char ascii_lower(char c);
char ascii_upper(char c);
bool ascii_is_alpha(char c);
bool ascii_is_digit(char c);
bool ascii_is_alnum(char c);
bool ascii_is_space(char c);                         /* blank, \t \n \v \f \r */

/* Distance between two words, for "did you mean": insertions, deletions, changes, neighbours swapped; at most 64 octets count. */
unsigned str_distance(const char *a, const char *b);

struct buf {
	char *p;
	size_t len, cap;
	size_t max;    /* limit in octets; 0: none */
	bool full;     /* something did not fit */
};
#define BUF_INIT { NULL, 0, 0, 0, false }
#define BUF_LIMIT(n) { NULL, 0, 0, (n), false }

bool buf_add(struct buf *b, const void *p, size_t n);
bool buf_add_str(struct buf *b, struct str s);
bool buf_adds(struct buf *b, const char *s);
bool buf_addc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
char *buf_room(struct buf *b, size_t n);             /* n writable octets at the end, NULL if over the limit; then len += what was used */
void buf_drop(struct buf *b, size_t n);              /* the first n octets */
void buf_reset(struct buf *b);                       /* keeps the memory */
void buf_clear(struct buf *b);                       /* gives it back */
const char *buf_cstr(struct buf *b);                 /* zero-terminated view */
struct str buf_str(const struct buf *b);             /* lends */

#endif

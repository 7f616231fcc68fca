/* SPDX-License-Identifier: ISC */
/* lang_regex.h - regular expressions (PCRE2) with limits.
 * Used by:    match, sg, lists, wildlsearch.
 * Owns:       a cache owns its patterns until regex_cache_clear(). Patterns that came from strangers are never kept in it: the
 *             caller frees them (regex_free()), or chains them to a context.
 * Errors:     regex_get(): ST_ERROR for a pattern that does not compile. regex_match(): ST_FAIL no match; ST_ERROR when a limit
 *             was reached. */
#ifndef LANG_LANG_REGEX_H
#define LANG_LANG_REGEX_H

#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/str.h"

enum {
	REGEX_MATCH_MAX = 1000000,     /* calls of the matcher's inner function */
	REGEX_DEPTH_MAX = 10000,       /* nested back-tracking points */
	REGEX_HEAP_MAX_KB = 20000,
	REGEX_PATTERN_MAX = 65536,     /* octets of a pattern */
	REGEX_GROUPS_MAX = 20,         /* groups that are reported, besides the whole */
};

enum regex_flag { REGEX_CASELESS = 1, REGEX_ANCHORED = 2 };

struct regex;
struct regex_match {
	struct str group[REGEX_GROUPS_MAX + 1]; /* lent from the subject, with its taint */
	int n;                                  /* groups set, the whole included */
};

struct regex_cache {
	struct hash by_pattern;
	uint32_t n;
};

struct regex *regex_new(struct str pattern, unsigned flags, struct err *err);
void regex_free(struct regex *re);
/* From the cache, or compiled into it. */
enum status regex_get(struct regex_cache *cache, struct str pattern, unsigned flags, struct regex **out, struct err *err);
void regex_cache_clear(struct regex_cache *cache);
/* From octet `from` on. */
enum status regex_match(const struct regex *re, struct str subject, uint32_t from, struct regex_match *out, struct err *err);
/* As Perl's s///g: $1, ${1}, $& and backslashes in the replacement as the sg item has them. */
struct eval;
/* A pattern met during an evaluation: kept in the language's cache, or, from a stranger, until eval_clear(). */
enum status eval_regex(struct eval *ev, struct str pattern, unsigned flags, struct regex **out, struct err *err);
void eval_regexes_clear(struct eval *ev);

#endif

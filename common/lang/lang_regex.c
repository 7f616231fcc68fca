/* SPDX-License-Identifier: ISC */
#include "common/lang/lang_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/base/mem.h"
#include "common/lang/eval.h"
#include "common/lang/lang_priv.h"

struct regex {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *context;
	char *key;                /* flags and pattern, when in a cache */
};

struct regex_chain {
	struct regex_chain *next;
	struct regex *re;
};

void regex_free(struct regex *re)
{
	if (!re)
		return;
	pcre2_match_context_free(re->context);
	pcre2_match_data_free(re->data);
	pcre2_code_free(re->code);
	mem_free(re->key);
	mem_free(re);
}

struct regex *regex_new(struct str pattern, unsigned flags, struct err *err)
{
	uint32_t options = PCRE2_NEVER_BACKSLASH_C;
	struct regex *re;
	PCRE2_SIZE at;
	int code;

	if (pattern.len > REGEX_PATTERN_MAX) {
		err_set(err, ST_ERROR, "regular expression longer than %d octets", REGEX_PATTERN_MAX);
		return NULL;
	}
	if (flags & REGEX_CASELESS)
		options |= PCRE2_CASELESS;
	if (flags & REGEX_ANCHORED)
		options |= PCRE2_ANCHORED;
	re = mem_new(sizeof *re);
	re->code = pcre2_compile((PCRE2_SPTR)(pattern.p ? pattern.p : ""), pattern.len, options, &code, &at, NULL);
	if (!re->code) {
		PCRE2_UCHAR text[128];

		pcre2_get_error_message(code, text, sizeof text);
		err_set(err, ST_ERROR, "regular expression \"%.*s\": %s at offset %zu", pattern.len > 100 ? 100 : (int)pattern.len, pattern.p, (char *)text, (size_t)at);
		mem_free(re);
		return NULL;
	}
	re->data = pcre2_match_data_create(REGEX_GROUPS_MAX + 1, NULL);
	re->context = pcre2_match_context_create(NULL);
	if (!re->data || !re->context) {
		err_set(err, ST_DEFER, "out of memory for a regular expression");
		regex_free(re);
		return NULL;
	}
	pcre2_set_match_limit(re->context, REGEX_MATCH_MAX);
	pcre2_set_depth_limit(re->context, REGEX_DEPTH_MAX);
	pcre2_set_heap_limit(re->context, REGEX_HEAP_MAX_KB);
	return re;
}

enum status regex_get(struct regex_cache *cache, struct str pattern, unsigned flags, struct regex **out, struct err *err)
{
	char small[256], *key = small;
	struct regex *re;

	if (pattern.len > REGEX_PATTERN_MAX)
		return err_set(err, ST_ERROR, "regular expression longer than %d octets", REGEX_PATTERN_MAX);
	if (pattern.len + 1 > sizeof small)
		key = mem_new(pattern.len + 1);
	key[0] = (char)('0' + flags);
	for (uint32_t i = 0; i < pattern.len; i++)
		key[i + 1] = pattern.p[i];
	re = hash_get(&cache->by_pattern, str_make(key, pattern.len + 1));
	if (!re) {
		re = regex_new(pattern, flags, err);
		if (re) {
			re->key = mem_memdup(key, pattern.len + 1);
			hash_put(&cache->by_pattern, str_make(re->key, pattern.len + 1), re);
			cache->n++;
		}
	}
	if (key != small)
		mem_free(key);
	*out = re;
	return re ? ST_OK : err ? err->status : ST_ERROR;
}

void regex_cache_clear(struct regex_cache *cache)
{
	uint32_t pos = 0;
	struct regex *re;

	while ((re = hash_next(&cache->by_pattern, &pos, NULL)))
		regex_free(re);
	hash_clear(&cache->by_pattern);
	cache->n = 0;
}

enum status regex_match(const struct regex *re, struct str subject, uint32_t from, struct regex_match *out, struct err *err)
{
	PCRE2_SIZE *offsets;
	int n;

	if (out)
		out->n = 0;
	if (from > subject.len)
		return ST_FAIL;
	n = pcre2_match(re->code, (PCRE2_SPTR)(subject.p ? subject.p : ""), subject.len, from, 0, re->data, re->context);
	if (n == PCRE2_ERROR_NOMATCH)
		return ST_FAIL;
	if (n < 0) {
		PCRE2_UCHAR text[128];

		pcre2_get_error_message(n, text, sizeof text);
		return err_set(err, ST_ERROR, "matching a regular expression: %s", (char *)text);
	}
	if (!out)
		return ST_OK;
	if (n == 0 || n > REGEX_GROUPS_MAX + 1)
		n = REGEX_GROUPS_MAX + 1;
	offsets = pcre2_get_ovector_pointer(re->data);
	for (int i = 0; i < n; i++) {
		/* A group that took no part, and \K in a look-ahead, which may put the end before the start. */
		if (offsets[2 * i] == PCRE2_UNSET || offsets[2 * i + 1] < offsets[2 * i])
			out->group[i] = STR_NULL;
		else
			out->group[i] = str_sub(subject, offsets[2 * i], offsets[2 * i + 1] - offsets[2 * i]);
	}
	out->n = n;
	return ST_OK;
}

enum status eval_regex(struct eval *ev, struct str pattern, unsigned flags, struct regex **out, struct err *err)
{
	struct regex_chain *link;

	if (!pattern.tainted)
		return regex_get(&ev->lang->regexes, pattern, flags, out, err);
	*out = regex_new(pattern, flags, err);
	if (!*out)
		return err ? err->status : ST_ERROR;
	link = arena_alloc(ev->arena, sizeof *link);
	link->re = *out;
	link->next = ev->regexes;
	ev->regexes = link;
	return ST_OK;
}

void eval_regexes_clear(struct eval *ev)
{
	for (struct regex_chain *l = ev->regexes; l; l = l->next)
		regex_free(l->re);
	ev->regexes = NULL;
}

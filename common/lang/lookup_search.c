/* SPDX-License-Identifier: ISC */
/* The search: the key itself, partial keys, defaults. And the questions about files. */
#include "common/lang/lookup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/lang/lang.h"

struct search {
	const struct lookup_driver *driver;
	void *env, *handle;
	const struct lookup_spec *spec;
	struct str file, asked;
	struct arena *a;
	struct ipc_lookup_answer *out;
	struct err *err;
};

static enum status search_key(struct search *s, struct str key)
{
	struct lookup_result r = { 0 };
	enum status st = s->driver->find(s->env, s->handle, s->file, key, s->spec->options, s->a, &r, s->err);

	s->out->keep = r.ttl_s != 0;
	if (st)
		return st;
	s->out->value = s->spec->ret_key ? s->asked : r.value;
	s->out->matched = key;
	s->out->dnssec = r.dnssec;
	if (s->out->value.len > LOOKUP_VALUE_MAX)
		return err_set(s->err, ST_ERROR, "value of %u octets: %d are allowed", s->out->value.len, LOOKUP_VALUE_MAX);
	return ST_OK;
}

static struct str joined(struct arena *a, struct str x, struct str y)
{
	char *p = arena_alloc(a, (size_t)x.len + y.len + 1);

	if (x.len)
		memcpy(p, x.p, x.len);
	if (y.len)
		memcpy(p + x.len, y.p, y.len);
	return (struct str){ p, x.len + y.len, y.tainted };
}

static int components(struct str key)
{
	int n = key.len ? 1 : 0;

	for (uint32_t i = 0; i < key.len; i++)
		n += key.p[i] == '.';
	return n;
}

/* At the end of partial0: what is left of the affix alone. */
static enum status search_partial_last(struct search *s)
{
	struct str affix = s->spec->affix;

	if (!affix.len)
		return ST_FAIL;
	if (affix.len > 1 && affix.p[affix.len - 1] == '.')
		affix.len--;
	return search_key(s, affix);
}

static enum status search_partial(struct search *s, struct str key)
{
	int n = components(key);
	struct str rest = key;
	enum status st;

	if (n > LOOKUP_PARTIAL_MAX)
		return ST_FAIL;
	/* The whole key with the affix first, unless that would be the key again. */
	if (s->spec->affix.len && n >= s->spec->partial) {
		st = search_key(s, joined(s->a, s->spec->affix, key));
		if (st != ST_FAIL)
			return st;
	}
	while (n > 1 && n > s->spec->partial) {
		rest = str_from(rest, (size_t)str_find(rest, '.') + 1);
		n--;
		st = search_key(s, joined(s->a, s->spec->affix, rest));
		if (st != ST_FAIL)
			return st;
	}
	return s->spec->partial == 0 ? search_partial_last(s) : ST_FAIL;
}

enum status lookup_search(const struct lookup_driver *driver, void *env, void *handle, const struct lookup_spec *spec, struct str file,
	struct str key, struct arena *a, struct ipc_lookup_answer *out, struct err *err)
{
	struct search s = { driver, env, handle, spec, file, key, a, out, err };
	ptrdiff_t at = spec->star_at ? str_rfind(key, '@') : -1;
	enum status st;

	*out = (struct ipc_lookup_answer){ 0 };
	st = key.len ? search_key(&s, key) : ST_FAIL;
	if (st == ST_FAIL && spec->partial >= 0)
		st = search_partial(&s, key);
	if (st == ST_FAIL && at > 0)
		st = search_key(&s, joined(a, STR_LIT("*"), str_from(key, (size_t)at)));
	if (st == ST_FAIL && spec->star)
		st = search_key(&s, STR_LIT("*"));
	out->status = st;
	return st;
}

bool lookup_parts(const struct lookup_spec *spec, struct str key, struct str matched, struct str *wild_out, struct str *fixed_out)
{
	struct str affix = spec->affix, fixed;

	*wild_out = *fixed_out = STR_NULL;
	if (!matched.len || str_eq(matched, key)) {
		*fixed_out = key;
		return spec->partial >= 0;
	}
	if (spec->partial >= 0 && matched.len > affix.len && str_eq(str_sub(matched, 0, affix.len), affix)) {
		fixed = str_from(matched, affix.len);
		if (fixed.len <= key.len && str_eqi(str_from(key, key.len - fixed.len), fixed)) {
			*fixed_out = str_from(key, key.len - fixed.len);
			*wild_out = str_sub(key, 0, key.len - fixed.len);
			if (wild_out->len && wild_out->p[wild_out->len - 1] == '.')
				wild_out->len--;
			return true;
		}
	}
	if (spec->star_at && matched.len > 1 && matched.p[0] == '*' && matched.p[1] == '@') {
		*wild_out = str_sub(key, 0, key.len - (matched.len - 1));
		return true;
	}
	*wild_out = key;
	return true;
}

/* ---- questions about files ---- */

enum { FILE_PART = 90000 /* octets of a file in one answer, below LOOKUP_VALUE_MAX */ };

bool lookup_is_internal(struct str type)
{
	return type.len && type.p[0] == '.';
}

enum status lookup_internal(const struct ipc_lookup_ask *ask, struct arena *a, struct ipc_lookup_answer *out, struct err *err)
{
	struct str path = { ask->file.p, ask->file.len, false }, stat_text;
	struct lang_file file;
	uint64_t offset = 0;
	enum status st;

	*out = (struct ipc_lookup_answer){ 0 };
	if (!path.len || path.p[0] != '/' || memchr(path.p, 0, path.len) || str_find_str(path, STR_LIT("/../")) >= 0 || str_ends(path, "/.."))
		return out->status = err_set(err, ST_ERROR, "not an absolute path");
	st = lang_file_stat(NULL, a, path, &stat_text, err);
	if (st || str_is(ask->type, LOOKUP_ASK_STAT)) {
		out->value = stat_text;
		return out->status = st;
	}
	if (!str_is(ask->type, LOOKUP_ASK_FILE))
		return out->status = err_set(err, ST_ERROR, "unknown question \"%.*s\"", STR_FMT(str_sub(ask->type, 0, 40)));
	/* Everything that stat tells of a file but when it was read is its version. */
	{
		ptrdiff_t atime = str_find_str(stat_text, STR_LIT(" atime="));
		ptrdiff_t mtime = str_find_str(stat_text, STR_LIT(" mtime="));

		out->matched = atime >= 0 && mtime > atime ? str_printf(a, "%.*s%.*s", (int)atime, stat_text.p, STR_FMT(str_from(stat_text, (size_t)mtime)))
			: stat_text;
	}
	if (ask->options.len && str_eq(ask->options, out->matched))
		return out->status = ST_OK;
	st = lang_file_read(NULL, a, path, &file, err);
	if (!st && ask->key.len && !str_u64(ask->key, LANG_FILE_MAX, &offset))
		st = err_set(err, ST_ERROR, "bad offset");
	if (!st) {
		out->value = str_sub(file.content, offset, FILE_PART);
		out->matched = str_printf(a, "%.*s %u", STR_FMT(out->matched), file.content.len);
	}
	return out->status = st;
}

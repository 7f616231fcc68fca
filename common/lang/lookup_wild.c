/* SPDX-License-Identifier: ISC */
/* wildlsearch and nwildlsearch: the keys of the file are patterns, so they are the language's business and not a driver's: they are
 * expanded with the variables of the evaluation, may be regular expressions, and may be lookups themselves. */
#include <string.h>

#include "common/lang/expand_tree.h"
#include "common/lang/list_priv.h"
#include "common/lang/text_table.h"

struct wild {
	struct eval *ev;
	const struct lookup_spec *spec;
	struct str text;
	bool expanded;                 /* wildlsearch */
	/* one search */
	struct str key;
	enum status st;
	struct lookup_result *out;
	struct arena *a;
	struct err *err;
};

/* A key of the file against the key asked for; not tainted, since it is the administrator's. */
static enum status pattern_match(struct wild *w, struct str pattern)
{
	static const struct lang_list strings = { .kind = LIST_LOCALPART };
	struct list_subject subject = { .text = w->key };
	struct lang_list_match match;
	struct list_run run = { .ev = w->ev, .list = &strings, .subject = &subject, .text = w->key, .out = &match, .err = w->err };
	struct list_item item = { .text = pattern };
	bool negated = pattern.len && pattern.p[0] == '!';
	enum status st = ST_OK;

	if (negated)
		pattern = str_trim(str_from(pattern, 1));
	if (pattern.len && (pattern.p[0] == '+' || pattern.p[0] == '/')) {
		item.kind = ITEM_LITERAL;
		item.part = pattern;
	} else {
		st = list_item_parse(w->ev->lang, w->a, LIST_LOCALPART, pattern, &item, w->err);
	}
	if (!st)
		st = item_match_text(&run, &item, w->key, false);
	return !negated || st > ST_FAIL ? st : st == ST_OK ? ST_FAIL : ST_OK;
}

static bool wild_entry(void *arg, const struct text_entry *entry)
{
	struct wild *w = arg;
	struct str pattern = entry->key;

	w->st = eval_step(w->ev, 1, w->err);
	if (!w->st && w->expanded)
		w->st = expand_text(w->ev, pattern, &pattern, w->err);
	if (!w->st)
		w->st = pattern_match(w, pattern);
	if (w->st == ST_DEFER || w->st == ST_ERROR)
		err_prefix(w->err, "key \"%.*s\"", STR_FMT(expand_quote(w->ev, entry->key)));
	if (w->st == ST_OK)
		w->out->value = w->spec->ret_full ? text_entry_full(w->a, entry) : entry->value;
	return w->st == ST_FAIL;
}

static enum status wild_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct wild *w = env;
	struct nums_saved nums;

	(void)handle, (void)file, (void)options;
	w->key = key;
	w->st = ST_FAIL;
	w->out = out;
	w->a = a;
	w->err = err;
	/* What a pattern's parts matched is told to nobody: results may come from a cache. */
	nums_save(w->ev, &nums);
	text_table_each(w->text, a, wild_entry, w);
	nums_restore(w->ev, &nums);
	out->ttl_s = LOOKUP_TTL_FILE;
	return w->st;
}

enum status lookup_wild(struct eval *ev, const struct lookup_spec *spec, struct str text, struct str key, struct ipc_lookup_answer *out,
	struct err *err)
{
	static const struct lookup_driver driver = { .name = "wildlsearch", .find = wild_find };
	struct wild w = { .ev = ev, .spec = spec, .text = text, .expanded = spec->type->name[0] == 'w' };

	return lookup_search(&driver, &w, NULL, spec, STR_NULL, key, ev->arena, out, err);
}

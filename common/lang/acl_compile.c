/* SPDX-License-Identifier: ISC */
/* From the configuration's statements to what is run. */
#include <string.h>

#include "common/lang/acl_row.h"
#include "common/lang/lang_ask.h"
#include "common/lang/lang_priv.h"

static bool verb_find(struct str name, enum acl_verb *out)
{
	struct lang_row row;

	for (size_t i = 0; acl_verb_at(i, &row); i++)
		if (str_is(name, row.name)) {
			*out = (enum acl_verb)i;
			return true;
		}
	return false;
}

static const char *item_nearest(struct str name)
{
	char word[CONF_NAME_MAX + 1];
	uint32_t len = name.len < CONF_NAME_MAX ? name.len : CONF_NAME_MAX;
	unsigned best = name.len / 3 + 2;
	const char *near = NULL;
	struct lang_row row;

	if (len)
		memcpy(word, name.p, len);
	word[len] = '\0';
	for (size_t i = 0; acl_condition_at(i, &row); i++) {
		unsigned d = str_distance(word, row.name);

		if (d < best) {
			best = d;
			near = row.name;
		}
	}
	return near;
}

static enum status item_compile(struct acl_compiler *c, const struct conf_acl_item *from, enum acl_verb verb, struct acl_item *out, struct err *err)
{
	const struct acl_item_row *row = hash_get(&c->lang->acl_items, from->name);
	enum status st = ST_OK;

	*out = (struct acl_item){ .row = row, .negated = from->negated, .place = from->place, .text = str_dup(c->arena, from->value.text) };
	if (!row) {
		const char *near = item_nearest(from->name);

		return err_set(err, ST_ERROR, "unknown ACL condition or modifier \"%.*s\"%s%s%s", STR_FMT(from->name), near ? ": did you mean \"" : "",
			near ? near : "", near ? "\"?" : "");
	}
	if (row->later)
		return err_set(err, ST_ERROR, "\"%s\" is known to Exim, not implemented", row->name);
	if (from->negated && row->modifier)
		return err_set(err, ST_ERROR, "the modifier \"%s\" can't be negated", row->name);
	if (from->value.set == (row->shape == SHAPE_NONE))
		return err_set(err, ST_ERROR, from->value.set ? "\"%s\" takes no value" : "\"%s\" needs \"=\" and a value", row->name);
	if (row->shape == SHAPE_NONE && verb != VERB_ACCEPT && verb != VERB_DISCARD)
		return err_set(err, ST_ERROR, "\"%s\" is for accept and discard only", row->name);
	out->stages = row->stages;
	if (row->shape == SHAPE_TEXT)
		st = expansion_compile(c->lang, c->arena, from->value.text, &out->x, err);
	else if (row->shape == SHAPE_LIST)
		st = lang_list_build(c->lang, c->arena, row->list, from->value.text, true, &out->list, err);
	if (!st && row->compile)
		st = row->compile(c, out, from, err);
	return st ? err_prefix(err, "%s", row->name) : ST_OK;
}

static enum status statement_compile(struct acl_compiler *c, const struct conf_statement *from, struct acl_statement *out, struct conf_place *place,
	struct err *err)
{
	out->place = *place = from->place;
	if (!verb_find(from->verb, &out->verb))
		return err_set(err, ST_ERROR, "unknown ACL verb \"%.*s\"", STR_FMT(from->verb));
	out->items = arena_alloc(c->arena, sizeof *out->items * (from->n + 1));
	for (uint32_t i = 0; i < from->n; i++) {
		*place = from->items[i].place;
		if (item_compile(c, &from->items[i], out->verb, &out->items[out->n++], err))
			return ST_ERROR;
	}
	return ST_OK;
}

/* place: where the error is. */
static enum status compile(struct lang *lang, const struct conf_acl *from, struct acl **out, struct conf_place *place, struct err *err)
{
	struct acl_compiler c = { lang, &lang->arena };
	struct acl *acl = arena_alloc(c.arena, sizeof *acl);

	acl->name = from->name;
	acl->place = from->place;
	acl->statements = arena_alloc(c.arena, sizeof *acl->statements * (from->n + 1));
	for (uint32_t i = 0; i < from->n; i++)
		if (statement_compile(&c, &from->statements[i], &acl->statements[acl->n++], place, err))
			return ST_ERROR;
	*out = acl;
	return ST_OK;
}

static enum status place_prefix(struct lang *lang, struct conf_place place, struct err *err)
{
	struct arena a = ARENA_INIT;

	if (lang->conf && place.line) {
		struct str s = conf_place_format(lang->conf, place, &a);

		if (s.len)
			err_prefix(err, "%.*s", STR_FMT(s));
	}
	arena_clear(&a);
	return ST_ERROR;
}

enum status acl_compile(struct lang *lang, const struct conf_acl *conf_acl, struct acl **out, struct err *err)
{
	struct conf_place place = conf_acl->place;

	*out = NULL;
	if (compile(lang, conf_acl, out, &place, err))
		return place_prefix(lang, place, err);
	return ST_OK;
}

enum status acl_named(struct lang *lang, struct str name, struct acl **out, struct err *err)
{
	const struct conf_acl *from;
	enum status st;

	*out = hash_get(&lang->acls, name);
	if (*out)
		return ST_OK;
	from = lang->conf ? conf_acl_find(lang->conf, name) : NULL;
	if (!from)
		return err_set(err, ST_FAIL, "there is no ACL \"%.*s\"", STR_FMT(str_sub(name, 0, CONF_NAME_MAX)));
	st = acl_compile(lang, from, out, err);
	if (!st)
		hash_put(&lang->acls, from->name, *out);
	return st;
}

/* Lines that end in a backslash go on in the next, blanks at its start apart. */
static struct str lines_join(struct arena *a, struct str text)
{
	char *p = arena_alloc(a, text.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < text.len; i++) {
		uint32_t k = i + 1;

		if (text.p[i] == '\r')
			continue;
		if (text.p[i] != '\\') {
			p[n++] = text.p[i];
			continue;
		}
		while (k < text.len && (text.p[k] == ' ' || text.p[k] == '\t' || text.p[k] == '\r'))
			k++;
		if (k >= text.len || text.p[k] != '\n') {
			p[n++] = text.p[i];
			continue;
		}
		for (k++; k < text.len && (text.p[k] == ' ' || text.p[k] == '\t'); k++)
			;
		i = k - 1;
	}
	return (struct str){ p, n, text.tainted };
}

static enum status text_compile(struct lang *lang, struct str text, struct conf_place place, struct acl **out, struct err *err)
{
	struct conf_acl parsed;
	enum status st;

	/* The parser takes names from the configuration only to complain. */
	st = conf_acl_parse((struct conf *)lang->conf, &lang->arena, lines_join(&lang->arena, text), place, &parsed, err);
	return st ? st : acl_compile(lang, &parsed, out, err);
}

enum status acl_find(struct eval *ev, struct str value, struct acl **out, struct err *err)
{
	struct lang *lang = ev->lang;
	struct str text = str_trim(value), key;
	bool blank = false;
	enum status st;

	*out = NULL;
	if (text.tainted)
		return err_set(err, ST_ERROR, "tainted text \"%.*s\" can't be an ACL or its name: take it from a lookup, or from a list that it matches", STR_FMT(expand_quote(ev, text)));
	for (uint32_t i = 0; i < text.len; i++)
		blank |= ascii_is_space(text.p[i]);
	if (text.len && text.p[0] != '/' && !blank) {
		st = acl_named(lang, text, out, err);
		if (st != ST_FAIL)
			return st;
	}
	*out = hash_get(&lang->acl_texts, text);
	if (*out)
		return ST_OK;
	if (lang->acl_texts.used >= LANG_TEXTS_MAX)
		return err_set(err, ST_ERROR, "more than %d ACLs in line or in files", LANG_TEXTS_MAX);
	key = str_dup(&lang->arena, text);
	if (text.len && text.p[0] == '/') {
		struct lang_file file;

		st = lang_ask_file(ev, text, &file, err);
		if (st == ST_FAIL)
			st = err_set(err, ST_ERROR, "there is no file \"%.*s\"", STR_FMT(expand_quote(ev, text)));
		if (st)
			return err_prefix(err, "ACL");
		text = file.content;
	} else if (!blank && !hash_get(&lang->acl_items, text)) {
		enum acl_verb verb;

		/* One word that is no ACL, unless it is a verb alone. */
		if (!verb_find(text, &verb))
			return err_set(err, ST_ERROR, "there is no ACL \"%.*s\"", STR_FMT(expand_quote(ev, text)));
	}
	st = text_compile(lang, text, (struct conf_place){ 0, 0 }, out, err);
	if (st)
		return err_prefix(err, "ACL \"%.*s\"", STR_FMT(str_sub(key, 0, 60)));
	hash_put(&lang->acl_texts, key, *out);
	return ST_OK;
}

/* ---- checks at load ---- */

static void item_check(struct acl_compiler *c, struct conf *conf, const struct conf_acl_item *from, enum acl_verb verb)
{
	struct acl_item item;
	struct err err = ERR_INIT;

	if (item_compile(c, from, verb, &item, &err))
		conf_problem_add(conf, CONF_ERROR, from->place, "%s", err.text);
	else if (item.pending)
		conf_problem_add(conf, CONF_WARNING, from->place, "\"%s = %.*s\" is not served in this build: it %s", item.row->name,
			STR_FMT(str_sub(item.text, 0, 80)), item.pending);
	lang_names_check(conf, from->place, from->value.text);
	lang_paths_check(conf, from->place, from->value.text);
}

/* Item by item, so that each gives its own problem. */
void acl_check(struct lang *lang, struct conf *conf, const struct conf_acl *conf_acl)
{
	struct acl_compiler c = { lang, &lang->arena };

	for (uint32_t i = 0; i < conf_acl->n; i++) {
		const struct conf_statement *from = &conf_acl->statements[i];
		enum acl_verb verb = VERB_ACCEPT;

		if (!verb_find(from->verb, &verb))
			conf_problem_add(conf, CONF_ERROR, from->place, "unknown ACL verb \"%.*s\"", STR_FMT(from->verb));
		for (uint32_t k = 0; k < from->n; k++)
			item_check(&c, conf, &from->items[k], verb);
	}
}

const char *acl_stages_words(struct arena *a, uint32_t stages)
{
	const char *text = NULL;

	for (unsigned i = 1; i < ACL_STAGES_END; i++)
		if (stages & STAGE(i))
			text = text ? arena_printf(a, "%s, %s", text, acl_stage_name(i)) : acl_stage_name(i);
	return text ? arena_printf(a, "it can be used in the ACLs %s", text) : "it can be used in no ACL";
}

enum status acl_stage_check(const struct acl *acl, enum acl_stage stage, struct err *err)
{
	struct arena a = ARENA_INIT;
	enum status st = ST_OK;

	for (uint32_t i = 0; i < acl->n && !st; i++)
		for (uint32_t k = 0; k < acl->statements[i].n && !st; k++) {
			const struct acl_item *item = &acl->statements[i].items[k];

			if (!(item->stages & STAGE(stage)))
				st = err_set(err, ST_ERROR, "cannot use \"%s\" (line %u) in the %s ACL; %s", item->what ? item->what : item->row->name,
					item->place.line, acl_stage_name(stage), acl_stages_words(&a, item->stages));
		}
	arena_clear(&a);
	return st;
}

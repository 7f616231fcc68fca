/* SPDX-License-Identifier: ISC */
/* Options and named lists: the main section, and the option lines of drivers. */
#include "common/conf/reader.h"

#include <string.h>

enum { SHOWN_MAX = 80 }; /* octets of a value in a message */

/* The row of the name in one of the targets, aliases not followed. */
static const struct conf_option *target_find(const struct conf_target *targets, unsigned n, struct str name, const struct conf_target **target_out)
{
	for (unsigned i = 0; i < n; i++)
		for (const struct conf_option *o = targets[i].table->rows; o->name; o++)
			if (str_is(name, o->name)) {
				*target_out = &targets[i];
				return o;
			}
	return NULL;
}

/* `no_x` and `not_x` for a boolean x. */
static const struct conf_option *target_find_negated(const struct conf_target *targets, unsigned n, struct str name,
	const struct conf_target **target_out)
{
	static const char *const prefixes[] = { "no_", "not_" };
	const struct conf_option *o;

	for (unsigned i = 0; i < 2; i++) {
		if (!str_begins(name, prefixes[i]))
			continue;
		o = target_find(targets, n, str_from(name, strlen(prefixes[i])), target_out);
		if (o && (o->kind == CONF_BOOL || o->kind == CONF_XBOOL || o->flags & F_ALIAS))
			return o;
	}
	return NULL;
}

/* Another driver's option, spelt right: say whose it is. */
static const char *owner_elsewhere(const struct conf_target *targets, unsigned n, struct str name)
{
	const char *family = targets[n - 1].table->name;
	size_t len = strcspn(family, "_");

	for (unsigned i = 0; conf_tables[i]; i++) {
		bool mine = false;
		for (unsigned k = 0; k < n; k++)
			mine |= conf_tables[i] == targets[k].table;
		if (!mine && !strncmp(conf_tables[i]->name, family, len) && conf_option_find(conf_tables[i], name))
			return conf_tables[i]->title;
	}
	return NULL;
}

static void unknown(struct conf *conf, const struct conf_target *targets, unsigned n, bool complete, const char *where, struct str name,
	struct conf_place place)
{
	const char *elsewhere = owner_elsewhere(targets, n, name), *near = NULL;
	char typed[65];
	struct conf_nearest nearest;

	if (elsewhere && !complete) {
		conf_problem_add(conf, CONF_ERROR, place, "%soption \"%.*s\": \"driver = ...\" must come before it, as it is an option of %s", where,
			STR_FMT(name), elsewhere);
		return;
	}
	if (elsewhere) {
		conf_problem_add(conf, CONF_ERROR, place, "%soption \"%.*s\" belongs to %s, not to %s", where, STR_FMT(name), elsewhere,
			targets[n - 1].table->title);
		return;
	}
	conf_nearest_begin(&nearest, typed, sizeof typed, name);
	for (unsigned i = 0; i < n; i++)
		for (const struct conf_option *o = targets[i].table->rows; o->name; o++)
			near = conf_nearest_pick(&nearest, o->name);
	conf_problem_add(conf, CONF_ERROR, place, "%sunknown option \"%.*s\"%s", where, STR_FMT(str_sub(name, 0, SHOWN_MAX)), conf_hint(conf, near));
}

/* The value as messages show it. */
static struct str shown(struct conf *conf, struct str value, bool hide)
{
	if (hide)
		return STR_LIT("(not displayed)");
	if (value.len <= SHOWN_MAX)
		return value;
	return str_printf(&conf->arena, "%.*s...", SHOWN_MAX, value.p);
}

/* The text of the value behind the name: the quotes gone. */
static enum status value_take(struct conf *conf, const struct conf_option *o, struct str rest, bool negated, struct str *value_out,
	struct err *err)
{
	bool boolean = o->kind == CONF_BOOL || o->kind == CONF_XBOOL;

	if (!rest.len && boolean) {
		*value_out = negated ? STR_LIT("false") : STR_LIT("true");
		return ST_OK;
	}
	if (negated)
		return err_set(err, ST_ERROR, "no value may follow no_ and not_");
	if (!rest.len || *rest.p != '=')
		return err_set(err, ST_ERROR, "\"=\" and a value must follow the name (%s)", conf_kind_name(o->kind));
	rest = conf_skip(str_from(rest, 1));
	if (conf_string_take(&rest, false, &conf->arena, value_out, err) != ST_OK)
		return ST_ERROR;
	if (conf_skip(rest).len)
		return err_set(err, ST_ERROR, "nothing may follow the quote at the end");
	return ST_OK;
}

struct line {
	struct conf *conf;
	const char *where;   /* "router r1: ", "" */
	struct conf_place place;
	struct str rest;     /* behind the name */
	bool negated;
};

/* To switch off what is not in this build is no error. */
static bool switches_off(const struct line *l, const struct conf_option *o)
{
	struct str value;
	bool on = true;

	if ((o->kind != CONF_HOSTS && o->kind != CONF_BOOL) || value_take(l->conf, o, l->rest, l->negated, &value, NULL) != ST_OK)
		return false;
	return o->kind == CONF_HOSTS ? !value.len : conf_bool_parse(value, &on, NULL) == ST_OK && !on;
}

/* Rows without a field, and second settings: says what there is to say; true if the line ends with that. */
static bool option_passed_over(const struct line *l, const struct conf_option *o, const struct conf_meta *meta)
{
	if (o->flags & F_LATER) {
		if (!switches_off(l, o))
			conf_problem_add(l->conf, CONF_ERROR, l->place, "%soption \"%s\": known to Exim, not implemented in this build", l->where, o->name);
		return true;
	}
	if (o->flags & F_IGNORED) {
		conf_problem_add(l->conf, CONF_WARNING, l->place, "%soption \"%s\": has no effect here (%s)", l->where, o->name, o->what);
		return true;
	}
	if (o->flags & F_UNREAD)
		conf_problem_add(l->conf, CONF_WARNING, l->place, "%soption \"%s\": is accepted, but %s in this build", l->where, o->name,
			(o->flags & F_PENDING) == F_PENDING ? "not served, and what needs it is put off," : "has no effect");
	if (meta->set && !(o->flags & F_REPEAT)) {
		struct str before = conf_place_format(l->conf, meta->place, &l->conf->arena);
		conf_problem_add(l->conf, CONF_ERROR, l->place, "%soption \"%s\": set a second time (first at %.*s)", l->where, o->name,
			STR_FMT(before));
		return true;
	}
	return false;
}

static void option_set(const struct line *l, const struct conf_option *o, void *opts, bool hide)
{
	struct err err = ERR_INIT;
	struct str value;

	if (value_take(l->conf, o, l->rest, l->negated, &value, &err) != ST_OK)
		conf_problem_add(l->conf, CONF_ERROR, l->place, "%soption \"%s\": %s", l->where, o->name, err.text);
	else if (conf_option_store(o, opts, &l->conf->arena, value, l->place, &err) != ST_OK)
		conf_problem_add(l->conf, CONF_ERROR, l->place, "%soption \"%s\": value \"%.*s\": %s", l->where, o->name,
			STR_FMT(shown(l->conf, value, hide)), err.text);
}

void conf_option_line(struct conf *conf, const struct conf_target *targets, unsigned n, bool complete, const char *owner,
	struct str text, struct conf_place place)
{
	struct line l = { conf, owner ? arena_printf(&conf->arena, "%s: ", owner) : "", place, text, false };
	const struct conf_target *target = NULL;
	const struct conf_option *o;
	struct conf_meta *meta;
	struct str name;
	bool hide = conf_word_begins(&l.rest, "hide");

	name = conf_name_take(&l.rest);
	if (!name.len) {
		conf_problem_add(conf, CONF_ERROR, place, "%s\"%.*s\": an option must stand here: a name of lower-case letters and underscores",
			l.where, STR_FMT(shown(conf, text, hide)));
		return;
	}
	o = target_find(targets, n, name, &target);
	if (!o) {
		o = target_find_negated(targets, n, name, &target);
		l.negated = o != NULL;
	}
	if (!o) {
		unknown(conf, targets, n, complete, l.where, name, place);
		return;
	}
	if (o->flags & F_ALIAS) {
		conf_problem_add(conf, CONF_WARNING, place, "%soption \"%s\": an older name of \"%s\"", l.where, o->name, o->what);
		o = conf_option_find(target->table, str_of(o->what));
	}
	meta = &target->meta[o - target->table->rows];
	if (option_passed_over(&l, o, meta))
		return;
	meta->hide |= hide || o->flags & F_SECRET;
	meta->set = true;
	meta->place = place;
	option_set(&l, o, target->opts, meta->hide);
}

/* ---- named lists ---- */

static void list_line(struct conf *conf, enum conf_list_kind kind, bool cache, bool hide, struct str rest, struct conf_place place)
{
	struct str name = conf_name_take(&rest), value;
	const struct conf_list *old;
	struct conf_list *l;
	struct err err = ERR_INIT;

	if (!name.len || !ascii_is_alpha(*name.p) || name.len > CONF_NAME_MAX || !rest.len || *rest.p != '=') {
		conf_problem_add(conf, CONF_ERROR, place,
			"a named list must be written as NAME = items, its name beginning with a letter and of at most %d letters, digits and underscores",
			CONF_NAME_MAX);
		return;
	}
	old = conf_list_find(conf, kind, name);
	if (old || conf->n_lists >= CONF_LISTS_MAX) {
		if (old)
			conf_problem_add(conf, CONF_ERROR, place, "named list \"%.*s\": defined a second time (first at %.*s)", STR_FMT(name),
				STR_FMT(conf_place_format(conf, old->value.place, &conf->arena)));
		else
			conf_problem_add(conf, CONF_ERROR, place, "more than %d named lists", CONF_LISTS_MAX);
		return;
	}
	rest = conf_skip(str_from(rest, 1));
	if (conf_string_take(&rest, false, &conf->arena, &value, &err) != ST_OK || conf_skip(rest).len) {
		conf_problem_add(conf, CONF_ERROR, place, "named list \"%.*s\": %s", STR_FMT(name),
			err.text[0] ? err.text : "nothing may follow the quote at the end");
		return;
	}
	l = conf_list_add(conf, kind, name);
	l->value = (struct conf_text){ value, place, true };
	l->cache = cache;
	l->hide = hide;
}

void conf_main_line(struct conf *conf, struct str line, struct conf_place place)
{
	static const char *const words[CONF_LIST_KINDS][2] = {
		[CONF_LIST_DOMAIN] = { "domainlist", "domainlist_cache" },
		[CONF_LIST_HOST] = { "hostlist", "hostlist_cache" },
		[CONF_LIST_ADDRESS] = { "addresslist", "addresslist_cache" },
		[CONF_LIST_LOCALPART] = { "localpartlist", "localpartlist_cache" },
	};
	const struct conf_target target = { &conf_table_main, &conf->main, conf->main_meta };
	struct str rest = line;
	bool hide = conf_word_begins(&rest, "hide");

	for (unsigned k = 0; k < CONF_LIST_KINDS; k++)
		for (unsigned cache = 0; cache < 2; cache++)
			if (conf_word_begins(&rest, words[k][cache])) {
				list_line(conf, (enum conf_list_kind)k, cache, hide, rest, place);
				return;
			}
	conf_option_line(conf, &target, 1, true, NULL, line, place);
}

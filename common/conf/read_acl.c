/* SPDX-License-Identifier: ISC */
/* ACLs, split into statements and their conditions and modifiers; what these mean is checked by the language
 * (specification, section 44.19 and 44.20). */
#include "common/conf/reader.h"

#include <string.h>

static const char *const verbs[] = { "accept", "defer", "deny", "discard", "drop", "require", "warn" };
enum { VERBS = sizeof verbs / sizeof *verbs };

static const char *verb_find(struct str name)
{
	for (unsigned i = 0; i < VERBS; i++)
		if (str_is(name, verbs[i]))
			return verbs[i];
	return NULL;
}

static enum status unknown_verb(struct str name, struct err *err)
{
	char typed[65];
	const char *near = NULL;
	struct conf_nearest nearest;

	conf_nearest_begin(&nearest, typed, sizeof typed, name);
	for (unsigned i = 0; i < VERBS; i++)
		near = conf_nearest_pick(&nearest, verbs[i]);
	return err_set(err, ST_ERROR, "unknown ACL verb \"%s\"%s%s%s", typed, near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* "[!] name [argument] [= value]". */
static enum status item_parse(struct arena *a, struct str s, struct conf_place place, struct conf_acl_item *out, struct err *err)
{
	*out = (struct conf_acl_item){ .place = place, .value.place = place };
	while (s.len && *s.p == '!') {
		out->negated = !out->negated;
		s = conf_skip(str_from(s, 1));
	}
	out->name = conf_name_take(&s);
	if (!out->name.len)
		return err_set(err, ST_ERROR, "\"%.*s\": a condition or modifier must stand here", STR_FMT(str_sub(s, 0, 80)));
	if (out->name.len > CONF_NAME_MAX)
		return err_set(err, ST_ERROR, "a name of more than %d octets", CONF_NAME_MAX);
	if (str_is(out->name, "set")) {
		if (s.len && *s.p == '$') /* a form that older samples have */
			s = str_from(s, 1);
		out->argument = conf_name_take(&s);
		if (!out->argument.len || !s.len || *s.p != '=')
			return err_set(err, ST_ERROR, "\"set\": the name of a variable, \"=\" and its value must follow");
	}
	if (s.len && *s.p != '=') {
		if (verb_find(out->name) || out->negated)
			return err_set(err, ST_ERROR, "\"%.*s\": \"=\" and a value must follow it", STR_FMT(out->name));
		return unknown_verb(out->name, err); /* "acept hosts = ..." */
	}
	out->name = str_dup(a, out->name);
	out->argument = out->argument.len ? str_dup(a, out->argument) : STR_NULL;
	if (s.len) {
		s = conf_skip(str_from(s, 1));
		out->value.text = str_make(arena_memdup(a, s.p ? s.p : "", s.len), s.len);
		out->value.set = true;
	}
	return ST_OK;
}

enum status conf_acl_line(struct arena *a, struct conf_acl *acl, struct str line, struct conf_place place, struct err *err)
{
	struct str rest = line, name = conf_name_take(&rest);
	const char *verb = verb_find(name);
	struct conf_statement *s;
	struct conf_acl_item item;

	if (verb && rest.len && *rest.p == '=')
		return err_set(err, ST_ERROR, "\"%s\": a verb has no value: conditions follow it", verb);
	if (verb) {
		if (acl->n >= CONF_RULES_MAX)
			return err_set(err, ST_ERROR, "more than %d statements in one ACL", CONF_RULES_MAX);
		acl->statements = conf_array_grow(a, acl->statements, acl->n, sizeof *acl->statements);
		acl->statements[acl->n++] = (struct conf_statement){ .verb = str_of(verb), .place = place };
		if (!rest.len)
			return ST_OK;
		line = rest;
	}
	if (!acl->n)
		return unknown_verb(name, err);
	if (item_parse(a, line, place, &item, err) != ST_OK)
		return ST_ERROR;
	s = &acl->statements[acl->n - 1];
	if (s->n >= CONF_RULES_MAX)
		return err_set(err, ST_ERROR, "more than %d conditions in one statement", CONF_RULES_MAX);
	s->items = conf_array_grow(a, s->items, s->n, sizeof *s->items);
	s->items[s->n++] = item;
	return ST_OK;
}

/* "name:" alone on its line. */
static bool begins_acl(struct str line, struct str *name_out, struct str *rest_out)
{
	uint32_t n = 0;

	while (n < line.len && (ascii_is_alnum(line.p[n]) || line.p[n] == '_' || line.p[n] == '-'))
		n++;
	*name_out = str_sub(line, 0, n);
	*rest_out = conf_skip(str_from(line, n));
	if (!n || !rest_out->len || *rest_out->p != ':')
		return false;
	*rest_out = conf_skip(str_from(*rest_out, 1));
	return true;
}

void conf_acl_section_line(struct conf *conf, struct conf_acl_reader *r, struct str line, struct conf_place place)
{
	struct str name, rest;
	struct err err = ERR_INIT;

	if (begins_acl(line, &name, &rest)) {
		const struct conf_acl *old = conf_acl_find(conf, name);
		r->broken = true;
		r->acl = NULL;
		if (!ascii_is_alpha(*name.p) || name.len > CONF_NAME_MAX)
			conf_problem_add(conf, CONF_ERROR, place, "ACL name \"%.*s\": must begin with a letter and have at most %d octets", STR_FMT(name),
				CONF_NAME_MAX);
		else if (old)
			conf_problem_add(conf, CONF_ERROR, place, "ACL \"%.*s\": defined a second time (first at %.*s)", STR_FMT(name),
				STR_FMT(conf_place_format(conf, old->place, &conf->arena)));
		else if (conf->n_acls >= CONF_LISTS_MAX)
			conf_problem_add(conf, CONF_ERROR, place, "more than %d ACLs", CONF_LISTS_MAX);
		else
			r->broken = false;
		if (r->broken)
			return;
		if (rest.len)
			conf_problem_add(conf, CONF_ERROR, place, "ACL \"%.*s\": nothing may follow the colon", STR_FMT(name));
		r->acl = conf_acl_add(conf, name, place);
		return;
	}
	if (r->broken)
		return;
	if (!r->acl) {
		conf_problem_add(conf, CONF_ERROR, place, "\"%.*s\": an ACL must begin here: its name and a colon", STR_FMT(str_sub(line, 0, 80)));
		r->broken = true;
		return;
	}
	if (conf_acl_line(&conf->arena, r->acl, line, place, &err) != ST_OK)
		conf_problem_add(conf, CONF_ERROR, place, "ACL %.*s: %s", STR_FMT(r->acl->name), err.text);
}

enum status conf_acl_parse(struct conf *conf, struct arena *a, struct str text, struct conf_place place, struct conf_acl *out, struct err *err)
{
	struct str line;

	(void)conf;
	*out = (struct conf_acl){ .place = place };
	while (str_split(&text, '\n', &line)) {
		line = str_trim(line);
		if (!line.len || *line.p == '#')
			continue;
		if (conf_acl_line(a, out, line, place, err) != ST_OK)
			return ST_ERROR;
	}
	return out->n ? ST_OK : err_set(err, ST_ERROR, "an ACL without a statement");
}

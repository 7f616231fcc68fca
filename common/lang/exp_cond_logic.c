/* SPDX-License-Identifier: ISC */
/* Conditions made of conditions, on lists, on variables; and of ACLs. */
#include "common/lang/expand_tree.h"

#include "common/lang/acl_call.h"
#include "common/lang/exp_text.h"
#include "common/lang/lang_header.h"

static enum status cond_and(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	enum status st = ST_OK;

	(void)args;
	*yes = true;
	for (uint32_t i = 0; !st && *yes && i < c->n_subs; i++)
		st = cond_run(ev, c->subs[i], yes, err);
	return st;
}

static enum status cond_or(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	enum status st = ST_OK;

	(void)args;
	*yes = false;
	for (uint32_t i = 0; !st && !*yes && i < c->n_subs; i++)
		st = cond_run(ev, c->subs[i], yes, err);
	return st;
}

static enum status cond_def(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str value = STR_NULL;
	enum status st = ST_OK;

	(void)args;
	if (c->def->kind == NODE_HEADER)
		return header_exists(ev, c->def->text, yes, err);
	st = node_variable(ev, c->def->var, c->def->text, &value, err);
	*yes = value.len != 0;
	return st;
}

/* All or any of a list's elements. */
static enum status each_element(struct eval *ev, const struct cond *c, struct str list, bool all, bool *yes, struct err *err)
{
	struct lang_split split = LANG_SPLIT(list);
	struct str before = ev->slot[EV_item], item;
	enum status st = ST_OK;
	bool one, any = false;

	*yes = all;
	while (!st && *yes == all && lang_split_next(&split, ev->arena, &item)) {
		any = true;
		ev->slot[EV_item] = item;
		st = cond_run(ev, c->body, &one, err);
		if (!st && one != all)
			*yes = !all;
	}
	ev->slot[EV_item] = before;
	/* Of no element nothing is true, as Exim has it. */
	if (!any)
		*yes = false;
	return st;
}

static enum status cond_forall(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	return each_element(ev, c, args[0], true, yes, err);
}

static enum status cond_forany(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	return each_element(ev, c, args[0], false, yes, err);
}

struct json_run {
	struct eval *ev;
	const struct cond *c;
	bool all, yes, any;
	enum status st;
	struct err *err;
};

static bool json_element(void *arg, struct str element)
{
	struct json_run *run = arg;
	bool one;

	run->any = true;
	run->ev->slot[EV_item] = element;
	run->st = cond_run(run->ev, run->c->body, &one, run->err);
	if (!run->st && one != run->all)
		run->yes = !run->all;
	return !run->st && run->yes == run->all;
}

static enum status each_json(struct eval *ev, const struct cond *c, struct str text, bool all, bool bare, bool *yes, struct err *err)
{
	struct json_run run = { .ev = ev, .c = c, .all = all, .yes = all, .err = err };
	struct str before = ev->slot[EV_item];
	enum status st = text_json_each(ev, text, bare, json_element, &run, err);

	ev->slot[EV_item] = before;
	*yes = run.any && run.yes;
	return st ? st : run.st;
}

#define COND_JSON(name, all, bare) \
	static enum status cond_##name(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err) \
	{ \
		return each_json(ev, c, args[0], all, bare, yes, err); \
	}
COND_JSON(forall_json, true, false)
COND_JSON(forall_jsons, true, true)
COND_JSON(forany_json, false, false)
COND_JSON(forany_jsons, false, true)

static enum status in_list(struct eval *ev, const struct str *args, bool caseless, bool *yes, struct err *err)
{
	struct lang_split split = LANG_SPLIT(args[1]);
	struct str item;

	*yes = false;
	while (!*yes && lang_split_next(&split, ev->arena, &item)) {
		enum status st = eval_step(ev, 1, err);

		if (st)
			return st;
		*yes = caseless ? str_eqi(args[0], item) : str_eq(args[0], item);
	}
	if (*yes)
		ev->slot[EV_value] = item;
	return ST_OK;
}

static enum status cond_inlist(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)c;
	return in_list(ev, args, false, yes, err);
}

static enum status cond_inlisti(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)c;
	return in_list(ev, args, true, yes, err);
}

static enum status cond_acl(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str message;
	enum status st = acl_call(ev, args, c->n, yes, &message, err);

	if (!st)
		ev->slot[EV_value] = message;
	return st;
}

const struct cond_row exp_conds_logic[] = {
	{ "and", COND_SUBS, 0, cond_and, 0, false, "all of the conditions hold" },
	{ "or", COND_SUBS, 0, cond_or, 0, false, "one of the conditions holds" },
	{ "def", COND_DEF, 0, cond_def, 0, false, "a variable is not empty, or a header field is there" },
	{ "forall", COND_EACH, 1, cond_forall, 0, false, "the condition holds for all elements of a list" },
	{ "forany", COND_EACH, 1, cond_forany, 0, false, "the condition holds for an element of a list" },
	{ "forall_json", COND_EACH, 1, cond_forall_json, 0, false, "the condition holds for all elements of a JSON array" },
	{ "forany_json", COND_EACH, 1, cond_forany_json, 0, false, "the condition holds for an element of a JSON array" },
	{ "forall_jsons", COND_EACH, 1, cond_forall_jsons, 0, false, "as forall_json, strings without their quotes" },
	{ "forany_jsons", COND_EACH, 1, cond_forany_jsons, 0, false, "as forany_json, strings without their quotes" },
	{ "inlist", COND_ARGS, 2, cond_inlist, 0, false, "the text is an element of the list" },
	{ "inlisti", COND_ARGS, 2, cond_inlisti, 0, false, "the text is an element of the list, case apart" },
	{ "acl", COND_ACL, 0, cond_acl, 0, false, "an ACL accepts" },
	{ NULL }
};

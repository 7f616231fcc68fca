/* SPDX-License-Identifier: ISC */
/* Items that ask the world: lookup, readfile, env, acl. */
#include "common/lang/expand_tree.h"

#include <stdlib.h>
#include <string.h>

#include "common/lang/acl_call.h"
#include "common/lang/lang_ask.h"
#include "common/lang/lang_priv.h"
#include "common/lang/lookup.h"

struct lookup_own {
	struct lookup_spec spec;
	struct str type;         /* as written */
	bool query;              /* ${lookup TYPE {QUERY}...}, else ${lookup {KEY} TYPE {FILE}...} */
};

/* The type's name ends at a blank or brace; options may hold anything else. */
static enum status parse_lookup_type(struct parser *p, struct lookup_own *own)
{
	uint32_t from;
	struct err err = ERR_INIT;

	parse_blanks(p);
	from = p->at;
	while (p->at < p->text.len && p->text.p[p->at] != '{' && p->text.p[p->at] != '}' && !ascii_is_space(p->text.p[p->at]))
		p->at++;
	if (p->at == from)
		return parse_error(p, "the type of the lookup expected");
	own->type = str_dup(p->arena, str_sub(p->text, from, p->at - from));
	if (lookup_spec_parse(own->type, &own->spec, &err))
		return parse_error(p, "%s", err.text);
	return ST_OK;
}

static enum status parse_lookup(struct parser *p, struct call *call)
{
	struct lookup_own *own = arena_alloc(p->arena, sizeof *own);
	enum status st = ST_OK;

	call->own = own;
	parse_blanks(p);
	own->query = !parse_peek(p, '{');
	if (!own->query)
		st = parse_brace(p, &call->arg[call->n++]);
	if (!st)
		st = parse_lookup_type(p, own);
	if (st)
		return st;
	if (own->query != (own->spec.type->style == LOOKUP_QUERY))
		return parse_error(p, own->query ? "a key in braces must stand before \"%s\": ${lookup {KEY} %s {FILE}...}"
			: "\"%s\" takes a query and no key: ${lookup %s {QUERY}...}", own->spec.type->name, own->spec.type->name);
	st = parse_braces(p, call, call->n + 1, call->n + 1);
	return st ? st : parse_yes_no(p, call);
}

static enum status item_lookup(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	const struct lookup_own *own = call->own;
	struct ipc_lookup_answer answer;
	struct str file = STR_NULL, key, wild, fixed, quoted;
	enum status st = expansion_run_query(ev, call->arg[0], &key, &quoted, err);

	(void)args;
	if (!st && !own->query)
		st = expansion_run(ev, call->arg[1], &file, err);
	if (st)
		return st;
	/* Quoted for this very type: the query is fit to be asked. */
	if (own->query)
		lookup_query_quoted(&own->spec, quoted, &key);
	st = lang_ask_lookup(ev, &own->spec, own->type, file, key, &answer, err);
	if (st == ST_FAIL) {
		out->found = false;
		return ST_OK;
	}
	if (st)
		return st;
	out->found = true;
	out->text = answer.value;
	if (lookup_parts(&own->spec, key, answer.matched, &wild, &fixed)) {
		ev->num[0] = key;
		ev->num[1] = wild;
		ev->num[2] = fixed;
		ev->n_num = 3;
	}
	return ST_OK;
}

static enum status item_readfile(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct lang_file file;
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	enum status st = lang_ask_file(ev, args[0], &file, err);

	if (st == ST_FAIL)
		return err_set(err, ST_ERROR, "readfile: no file \"%.*s\"", STR_FMT(expand_quote(ev, args[0])));
	if (st)
		return st;
	if (file.content.len > EVAL_LENGTH_MAX)
		return err_set(err, ST_ERROR, "readfile: \"%.*s\" is larger than %d octets", STR_FMT(expand_quote(ev, args[0])), EVAL_LENGTH_MAX);
	out->text = file.content;
	if (call->n < 2)
		return ST_OK;
	for (uint32_t i = 0; i < file.content.len; i++)
		if (file.content.p[i] == '\n')
			buf_add_str(&b, args[1]);
		else
			buf_addc(&b, file.content.p[i]);
	if (b.full)
		st = err_set(err, ST_ERROR, "readfile: longer than %d octets", EVAL_LENGTH_MAX);
	else {
		out->text = str_dup(ev->arena, buf_str(&b));
		out->text.tainted = args[1].tainted;
	}
	buf_clear(&b);
	return st;
}

static enum status item_env(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str name = str_trim(args[0]);
	const char *value;

	(void)call;
	if (!name.len)
		return err_set(err, ST_ERROR, "empty name for \"env\"");
	value = memchr(name.p, 0, name.len) ? NULL : getenv(str_cstr(ev->arena, name));
	out->found = value != NULL;
	out->text = value ? str_dup(ev->arena, str_of(value)) : STR_NULL;
	return ST_OK;
}

static enum status item_acl(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	bool yes;

	return acl_call(ev, args, call->n, &yes, &out->text, err);
}

const struct item_row exp_items_lookup[] = {
	{ "lookup", 0, 0, ITEM_YES_NO | ITEM_LAZY, item_lookup, parse_lookup,
		"what a file or database holds under the key, or answers to the query; it is $value in the first string",
		.usage = "{key} type {file}{yes}{no} or type {query}{yes}{no}" },
	{ "readfile", 1, 2, 0, item_readfile, NULL,
		"the content of a file, with the second argument in place of every line end",
		.usage = "{file}{line end}" },
	{ "env", 1, 1, ITEM_YES_NO, item_env, NULL,
		"a variable of the environment that the daemon was started with",
		.usage = "{name}{yes}{no}" },
	{ "acl", 1, 10, 0, item_acl, NULL,
		"the message of an ACL that is run with up to nine arguments, $acl_arg1 and so on; fails when the ACL defers",
		.usage = "{name}{argument}..." },
	{ NULL }
};

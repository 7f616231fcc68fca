/* SPDX-License-Identifier: ISC */
#include "common/lang/eval.h"

#include <string.h>

#include "common/lang/lang_priv.h"
#include "common/mail/address.h"

static const struct ipc_facts facts_none;

void eval_work_begin(struct eval *ev)
{
	ev->steps = 0;
	ev->memory_from = ev->arena->used;
}

void eval_init(struct eval *ev, struct lang *lang, struct arena *arena)
{
	memset(ev, 0, offsetof(struct eval, num));
	memset(&ev->n_num, 0, sizeof *ev - offsetof(struct eval, n_num));
	ev->lang = lang;
	ev->arena = arena;
	ev->facts = &facts_none;
	ev->message_fd = -1;
	eval_work_begin(ev);
	if (!lang->active++ && lang->n_texts >= LANG_TEXTS_MAX)
		lang_texts_drop(lang);
	if (lang->active == 1 && lang->regexes.n >= LANG_REGEX_MAX)
		regex_cache_clear(&lang->regexes);
}

static void vars_begin(struct eval_vars *vars, struct ipc_pair *v, uint32_t n)
{
	*vars = (struct eval_vars){ .v = v, .n = n, .room = n };
}

void eval_facts(struct eval *ev, const struct ipc_facts *facts)
{
	ev->facts = facts;
	/* Lent: the first change copies them, since there is no room. */
	vars_begin(&ev->acl_c, facts->acl_c, facts->n_acl_c);
	vars_begin(&ev->acl_m, facts->acl_m, facts->n_acl_m);
	ev->client_name = facts->client_name;
	ev->client_name.tainted = facts->client_name.len != 0;
	ev->helo_verified = facts->helo_verified;
	ev->name_looked = facts->name_looked || facts->client_name.len;
	ev->name_deferred = facts->name_deferred;
}

void eval_clear(struct eval *ev)
{
	eval_regexes_clear(ev);
	ev->lang->active--;
}

void eval_set_address(struct eval *ev, struct str address)
{
	struct str local, domain;

	if (!address_split(address, &local, &domain))
		domain = STR_NULL;
	local = address_local_unquote(ev->arena, local);
	ev->slot[EV_local_part] = ev->caseful_local_part ? local : str_lower(ev->arena, local);
	ev->slot[EV_domain] = str_lower(ev->arena, domain);
	if (!ev->slot[EV_original_domain].p)
		ev->slot[EV_original_domain] = ev->slot[EV_domain];
	if (!ev->slot[EV_original_local_part].p)
		ev->slot[EV_original_local_part] = ev->slot[EV_local_part];
}

static struct ipc_pair *var_find(const struct eval_vars *vars, struct str name)
{
	for (uint32_t i = 0; i < vars->n; i++)
		if (str_eq(vars->v[i].name, name))
			return &vars->v[i];
	return NULL;
}

bool eval_var_get(const struct eval_vars *vars, struct str name, struct str *value_out)
{
	const struct ipc_pair *pair = var_find(vars, name);

	*value_out = pair ? pair->value : STR_NULL;
	if (pair)
		value_out->tainted = pair->tainted;
	return pair;
}

enum status eval_var_set(struct eval *ev, struct eval_vars *vars, struct str name, struct str value, struct err *err)
{
	struct ipc_pair *pair;

	if (!vars->changed) {
		/* What came with the facts is lent. */
		struct ipc_pair *v = arena_alloc(ev->arena, sizeof *v * (vars->n + 8));

		if (vars->n)
			memcpy(v, vars->v, sizeof *v * vars->n);
		vars->v = v;
		vars->room = vars->n + 8;
		vars->changed = true;
	}
	pair = var_find(vars, name);
	if (!pair) {
		if (vars->n >= EVAL_VARS_MAX)
			return err_set(err, ST_ERROR, "more than %d variables", EVAL_VARS_MAX);
		if (vars->n == vars->room) {
			struct ipc_pair *v = arena_alloc(ev->arena, sizeof *v * vars->room * 2);

			memcpy(v, vars->v, sizeof *v * vars->n);
			vars->v = v;
			vars->room *= 2;
		}
		pair = &vars->v[vars->n++];
		pair->name = name;
	}
	pair->value = value;
	pair->tainted = value.tainted;
	return ST_OK;
}

enum status eval_client_name(struct eval *ev, struct err *err)
{
	const struct lang_services *services = &ev->lang->services;
	struct ipc_name_answer answer = { 0 };
	enum status st;

	ev->deps |= DEP_CLIENT;
	if (ev->client_name.len)
		return ST_OK;
	if (!ev->facts->client_ip.len)
		return err_set(err, ST_FAIL, "there is no client host");
	if (ev->name_looked)
		return ev->name_deferred ? err_set(err, ST_DEFER, "looking up the name of %.*s failed for now", STR_FMT(ev->facts->client_ip))
			: err_set(err, ST_FAIL, "no verified name for %.*s", STR_FMT(ev->facts->client_ip));
	ev->deps |= DEP_WORLD;
	if (!services->name)
		return err_set(err, ST_ERROR, "names of hosts can't be looked up here");
	st = services->name(services->ctx, ev->arena, ev->facts->client_ip, &answer, err);
	if (st == ST_ERROR)
		return st;
	ev->name_looked = true;
	ev->name_deferred = st == ST_DEFER;
	if (st == ST_OK) {
		ev->client_name = str_taint(answer.name);
		ev->client_aliases = answer.aliases;
	}
	return st;
}

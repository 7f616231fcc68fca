/* SPDX-License-Identifier: ISC */
/* route_shadow.c - shadow_transport and shadow_condition: what runs behind a local delivery that has succeeded. Nothing that goes wrong
 * here stands in the way of the delivery itself (specification, chapter 24). */
#include <string.h>

#include "router/route.h"

enum { SHADOW_PLAN_MAX = 60000 /* as struct ipc_plan declares */, SHADOW_ERROR_MAX = 1000 };

/* Is it to run? ST_FAIL: no. */
static enum status condition_ask(struct route *rt, const struct site_transport *t, struct err *err)
{
	struct str value;
	enum status st;

	if (!t->shadow_condition)
		return ST_OK;
	st = route_expand(rt, t->shadow_condition, &value, err);
	if (st != ST_OK)
		return st;
	return value.len && !str_is(value, "0") && !str_is(value, "no") && !str_is(value, "false") ? ST_OK : ST_FAIL;
}

/* What a shadow's command writes is of no consequence. */
static bool is_of_output(struct str option)
{
	static const char *const names[] = { "return_output", "return_fail_output", "log_output", "log_fail_output", "log_defer_output" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (str_is(option, names[i]))
			return true;
	return false;
}

static void options_quiet(struct ipc_plan *plan)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < plan->n_options; i++)
		if (!is_of_output(plan->options[i].name))
			plan->options[n++] = plan->options[i];
	plan->n_options = n;
}

static enum status shadow_encode(struct route *rt, struct ipc_plan *shadow, struct str *out, struct err *err)
{
	struct buf octets = BUF_LIMIT(SHADOW_PLAN_MAX + 1);
	enum status st;

	options_quiet(shadow);
	st = ipc_encode(&ipc_type_plan, shadow, &octets, err);
	if (st == ST_OK && octets.len > SHADOW_PLAN_MAX)
		st = err_set(err, ST_ERROR, "its options, expanded, take more than %d octets", SHADOW_PLAN_MAX);
	if (st == ST_OK)
		*out = str_dup(rt->a, buf_str(&octets));
	buf_clear(&octets);
	return st;
}

void route_shadow(struct route *rt, struct addr *addr, const struct site_router *r, const struct site_transport *t, const struct driver_out *out,
	struct ipc_plan *plan)
{
	struct ipc_plan shadow;
	struct err err = ERR_INIT;
	enum status st = condition_ask(rt, t, &err);

	if (st == ST_FAIL)
		return;
	if (st != ST_OK) {
		plan->shadow_error = str_printf(rt->a, "failed to expand shadow_condition of transport %.*s: %s", STR_FMT(t->conf->name),
			str_cstr(rt->a, str_sub(str_of(err.text), 0, SHADOW_ERROR_MAX - 200)));
		return;
	}
	plan->shadow_name = t->shadow->conf->name;
	if (plan_shadow(rt, addr, r, t->shadow, out, &shadow, &err) == ST_OK && shadow_encode(rt, &shadow, &plan->shadow, &err) == ST_OK)
		return;
	plan->shadow = STR_NULL;
	plan->shadow_error = str_dup(rt->a, str_sub(str_of(err.text), 0, SHADOW_ERROR_MAX));
}

/* SPDX-License-Identifier: ISC */
/* route_plans.c - the plans that one question has made: equal ones are one, and header fields follow domains that change later. */
#include <string.h>

#include "router/route.h"

/* The plan's number: that of an equal one, or a new one. */
enum status plan_keep(struct route *rt, const struct ipc_plan *plan, uint32_t *out, struct err *err)
{
	struct buf octets = BUF_LIMIT(ROUTE_PLAN_MAX + 1);
	enum status st = ipc_encode(&ipc_type_plan, plan, &octets, err);
	void *same;

	if (st == ST_OK && (octets.full || octets.len > ROUTE_PLAN_MAX))
		st = err_set(err, ST_ERROR, "its options, expanded, take more than %d octets", ROUTE_PLAN_MAX);
	if (st != ST_OK) {
		buf_clear(&octets);
		return st;
	}
	same = hash_get(&rt->plan_by_octets, buf_str(&octets));
	if (same) {
		*out = (uint32_t)(uintptr_t)same - 1;
		buf_clear(&octets);
		return ST_OK;
	}
	if (rt->n_plans == rt->plans_room) {
		uint32_t room = rt->plans_room ? rt->plans_room * 2 : 8;
		struct ipc_plan *v = arena_alloc(rt->a, room * sizeof *v);
		uint32_t *n = arena_alloc(rt->a, room * sizeof *n);
		if (rt->n_plans) {
			memcpy(v, rt->plans, rt->n_plans * sizeof *v);
			memcpy(n, rt->plan_octets, rt->n_plans * sizeof *n);
		}
		rt->plans = v;
		rt->plan_octets = n;
		n = arena_alloc(rt->a, room * sizeof *n);
		if (rt->n_plans)
			memcpy(n, rt->plan_changes, rt->n_plans * sizeof *n);
		rt->plan_changes = n;
		rt->plans_room = room;
	}
	rt->plans[rt->n_plans] = *plan;
	rt->plan_octets[rt->n_plans] = (uint32_t)octets.len;
	rt->plan_changes[rt->n_plans] = rt->n_changes;
	*out = rt->n_plans++;
	hash_put(&rt->plan_by_octets, str_dup(rt->a, buf_str(&octets)), (void *)(uintptr_t)(*out + 1));
	buf_clear(&octets);
	return ST_OK;
}

/* Its fields with the changes that came after it. One that grows too large stays as it is. */
static void plan_finish(struct route *rt, uint32_t i, struct str header)
{
	const struct rewrite_wish wish = { .changes = rt->changes + rt->plan_changes[i], .n_changes = rt->n_changes - rt->plan_changes[i],
		.before = rt->plans[i].rewrites, .n_before = rt->plans[i].n_rewrites };
	struct ipc_plan plan = rt->plans[i];
	struct buf octets = BUF_LIMIT(ROUTE_PLAN_MAX + 1);
	struct err err = ERR_INIT;

	plan.rewrites = rewrite_outgoing(rt->ev, &wish, header, &plan.n_rewrites);
	if (ipc_encode(&ipc_type_plan, &plan, &octets, &err) == ST_OK && !octets.full && octets.len <= ROUTE_PLAN_MAX) {
		rt->plans[i] = plan;
		rt->plan_octets[i] = (uint32_t)octets.len;
	} else {
		router_log(rt->r, LOG_MAIN, "%.*s: header fields are too large to be rewritten", STR_FMT(rt->facts->message_id));
	}
	buf_clear(&octets);
}

void plans_finish(struct route *rt)
{
	struct str header = STR_NULL;
	struct err err = ERR_INIT;

	if (!rt->n_changes || rt->no_content)
		return;
	if (rewrite_header_read(rt->ev, &header, &err))
		router_log(rt->r, LOG_MAIN, "%.*s: header fields are not rewritten: %s", STR_FMT(rt->facts->message_id), err.text);
	for (uint32_t i = 0; header.len && i < rt->n_plans; i++)
		if (rt->plan_changes[i] < rt->n_changes)
			plan_finish(rt, i, header);
}

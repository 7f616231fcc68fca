/* SPDX-License-Identifier: ISC */
/* route.c - an address's way through the routers: which run, what their verdicts mean, what becomes of children. */
#include "router/route.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/lang/rewrite.h"
#include "common/mail/address.h"
#include "router/callout.h"

bool route_is_verify(const struct route *rt)
{
	return rt->mode == MODE_VERIFY_RECIPIENT || rt->mode == MODE_VERIFY_SENDER;
}

void route_trace_add(struct route *rt, const char *fmt, ...)
{
	char line[1000];
	va_list ap;
	int n;

	if (rt->n_trace == ROUTE_TRACE_MAX)
		return;
	if (!rt->trace)
		rt->trace = arena_alloc(rt->a, ROUTE_TRACE_MAX * sizeof *rt->trace);
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof line)
		n = sizeof line - 1;
	rt->trace[rt->n_trace++] = str_make(arena_memdup(rt->a, line, (size_t)n), (size_t)n);
}

enum status route_expand(struct route *rt, const struct expansion *x, struct str *out, struct err *err)
{
	return expand(rt->ev, x, out, err);
}

/* ---- addresses ---- */

/* Splits, lowers and unquotes; false when it is no address. */
bool addr_parse(struct route *rt, struct addr *addr, struct str text)
{
	struct str local, domain;

	addr->text = text;
	if (!address_split(text, &local, &domain) || !local.len || !domain.len)
		return false;
	addr->local = memchr(local.p, '"', local.len) || memchr(local.p, '\\', local.len) ? address_local_unquote(rt->a, local) : local;
	addr->local_lower = str_lower(rt->a, addr->local);
	addr->domain = str_lower(rt->a, domain);
	addr->local.tainted = addr->local_lower.tainted = addr->domain.tainted = true;
	return true;
}

static void addr_push(struct route *rt, struct addr *addr)
{
	*rt->queue_end = addr;
	rt->queue_end = &addr->next;
	rt->n_addrs++;
}

void route_recipient(struct route *rt, uint32_t index, const struct ipc_recipient *rcpt)
{
	struct addr *addr = arena_alloc(rt->a, sizeof *addr);
	struct str text = rcpt->addr, local, domain;

	if (text.len && !address_split(text, &local, &domain)) /* no domain: postmaster, or a test */
		text = str_taint(str_printf(rt->a, "%.*s@%.*s", STR_FMT(text), STR_FMT(lang_qualify_recipient(rt->r->lang))));
	if (rt->rewrites) /* what comes with a message was rewritten when it came */
		text = rewrite_address(rt->ev, rt->mode == MODE_VERIFY_SENDER ? REWRITE_ENV_FROM : REWRITE_ENV_TO, text);
	addr->recipient = index;
	addr->vars = rt->ev->r;
	if (rcpt->errors_to.len) {
		addr->errors_to = rcpt->errors_to;
		addr->has_errors_to = true;
	}
	if (!addr_parse(rt, addr, text)) {
		leaf_end(rt, addr, NULL, ROUTE_FAIL, false, STR_LIT("5.1.3"), "malformed address");
		return;
	}
	addr_push(rt, addr);
}

enum status route_child(struct route *rt, struct addr *addr, const struct site_router *r, enum addr_kind kind, struct str text,
	const struct site_transport *transport, struct err *err)
{
	struct addr *child;

	if (addr->depth >= ROUTE_DEPTH_MAX)
		return err_set(err, ST_ERROR, "more than %d redirections in a row: a loop", ROUTE_DEPTH_MAX);
	if (rt->n_addrs >= ROUTE_ADDRS_MAX)
		return err_set(err, ST_ERROR, "more than %d addresses made by redirection", ROUTE_ADDRS_MAX);
	child = arena_memdup(rt->a, addr, sizeof *addr);
	child->next = NULL;
	child->parent = addr;
	child->depth++;
	child->kind = kind;
	child->transport = transport;
	child->router = kind == KIND_ADDRESS ? NULL : r;
	child->start = r->redirect_to;
	if (kind != KIND_ADDRESS) {
		child->text = text;
	} else if (!addr_parse(rt, child, text)) {
		return err_set(err, ST_ERROR, "\"%.*s\" is no address", STR_FMT(text));
	}
	route_trace(rt, "  %s%s%.*s", kind == KIND_ADDRESS ? "-> " : "-> delivery to ", kind == KIND_PIPE ? "|" : "", STR_FMT(child->text));
	addr_push(rt, child);
	return ST_OK;
}

/* Verification and tests have no header. */
static void change_note(struct route *rt, struct str from, struct str to)
{
	if (rt->mode != MODE_DELIVER || !rt->facts->message_id.len)
		return;
	for (uint32_t i = 0; i < rt->n_changes; i++)
		if (str_eqi(rt->changes[i].from, from) && str_eqi(rt->changes[i].to, to))
			return;
	if (rt->n_changes == ROUTE_CHANGES_MAX)
		return;
	rt->no_content |= rt->ev->message_fd < 0;
	if (!rt->changes)
		rt->changes = arena_alloc(rt->a, ROUTE_CHANGES_MAX * sizeof *rt->changes);
	rt->changes[rt->n_changes++] = (struct rewrite_change){ from, to };
}

enum status route_domain_change(struct route *rt, struct addr *addr, const struct site_router *r, struct str domain, bool rewrite,
	struct err *err)
{
	ptrdiff_t at = str_rfind(addr->text, '@');
	struct str text = str_taint(str_printf(rt->a, "%.*s@%.*s", STR_FMT(str_sub(addr->text, 0, (size_t)at)), STR_FMT(domain)));
	enum status st;

	st = route_child(rt, addr, r, KIND_ADDRESS, text, NULL, err);
	if (st == ST_OK)
		((struct addr *)((char *)rt->queue_end - offsetof(struct addr, next)))->start = NULL; /* it is the same address still */
	if (st == ST_OK && rewrite)
		change_note(rt, addr->domain, domain);
	return st;
}

static const struct addr *addr_top(const struct addr *addr)
{
	while (addr->parent)
		addr = addr->parent;
	return addr;
}

/* The whole local part, as the router that redirected it saw it; of an address that still is on its way, as this one sees it. */
static struct str local_seen(const struct addr *addr, const struct site_router *r)
{
	return r && r->o->caseful_local_part ? addr->local : addr->local_lower;
}

void addr_enter(struct route *rt, const struct addr *addr, const struct site_router *r)
{
	struct eval *ev = rt->ev;
	const struct addr *top = addr_top(addr);

	memset(ev->slot, 0, sizeof ev->slot);
	ev->caseful_local_part = r && r->o->caseful_local_part;
	eval_work_begin(ev);
	ev->r = addr->vars;
	eval_set(ev, EV_domain, addr->domain);
	eval_set(ev, EV_local_part, addr->lp.p ? addr->lp : ev->caseful_local_part ? addr->local : addr->local_lower);
	eval_set(ev, EV_original_domain, top->domain);
	eval_set(ev, EV_original_local_part, local_seen(top, top == addr ? r : top->router));
	if (addr->parent) {
		eval_set(ev, EV_parent_domain, addr->parent->domain);
		eval_set(ev, EV_parent_local_part, local_seen(addr->parent, addr->parent->router));
	}
	eval_set(ev, EV_local_part_prefix, addr->prefix);
	eval_set(ev, EV_local_part_prefix_v, addr->prefix_v);
	eval_set(ev, EV_local_part_suffix, addr->suffix);
	eval_set(ev, EV_local_part_suffix_v, addr->suffix_v);
	eval_set(ev, EV_address_data, addr->address_data);
	eval_set(ev, EV_self_hostname, addr->self_hostname);
	eval_set(ev, EV_domain_data, addr->domain_data);
	eval_set(ev, EV_local_part_data, addr->local_part_data);
	eval_set(ev, EV_home, addr->router_home.p ? addr->router_home : addr->home);
	eval_set(ev, EV_return_path, addr->has_errors_to ? addr->errors_to : rt->facts->sender);
	if (addr->has_user) {
		eval_set(ev, EV_local_user_uid, str_printf(rt->a, "%llu", (unsigned long long)addr->uid));
		eval_set(ev, EV_local_user_gid, str_printf(rt->a, "%llu", (unsigned long long)addr->gid));
	}
	if (r)
		eval_set(ev, EV_router_name, r->conf->name);
	if (route_is_verify(rt))
		eval_set(ev, EV_verify_mode, rt->mode == MODE_VERIFY_SENDER ? STR_LIT("S") : STR_LIT("R"));
}

/* What a router found out of the address holds for that router only. */
static void addr_fresh(struct addr *addr)
{
	addr->lp = addr->prefix = addr->prefix_v = addr->suffix = addr->suffix_v = STR_NULL;
	addr->domain_data = addr->local_part_data = addr->home = addr->router_home = STR_NULL;
	addr->has_user = false;
}

/* ---- loops ---- */

/* A router does not run for an address of which an ancestor was redirected by it: an equal one, or with no_repeat_use any. */
static bool router_would_loop(const struct addr *addr, const struct site_router *r)
{
	const struct conf_opts_router_redirect *own = CONF_OWN(r->conf, router_redirect);
	bool once = own && !own->repeat_use;

	for (const struct addr *p = addr->parent; p; p = p->parent) {
		if (p->router != r)
			continue;
		if (once || (str_eq(p->domain, addr->domain) &&
			(r->o->caseful_local_part ? str_eq(p->local, addr->local) : str_eq(p->local_lower, addr->local_lower))))
			return true;
	}
	return false;
}

/* ---- options around the driver ---- */

/* yes, true, no, false; a forced failure: the default. */
static enum status bool_expand(struct route *rt, const struct expansion *x, const char *name, bool fallback, bool *out, struct err *err)
{
	struct str text;
	enum status st;

	*out = fallback;
	if (!x)
		return ST_OK;
	st = route_expand(rt, x, &text, err);
	if (st == ST_FAIL)
		return ST_OK;
	if (st != ST_OK)
		return err_prefix(err, "%s", name);
	text = str_trim(text);
	if (str_isi(text, "yes") || str_isi(text, "true"))
		*out = true;
	else if (str_isi(text, "no") || str_isi(text, "false"))
		*out = false;
	else
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is neither yes nor no", name, STR_FMT(text));
	return ST_OK;
}

static enum status sets_expand(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err)
{
	struct eval_vars *vars = &rt->ev->r;

	if (!r->n_sets)
		return ST_OK;
	/* relatives share the values: a copy, before anything is changed in place */
	vars->v = vars->n ? arena_memdup(rt->a, vars->v, vars->n * sizeof *vars->v) : NULL;
	vars->room = vars->n;
	for (uint32_t i = 0; i < r->n_sets; i++) {
		struct str value;
		enum status st = route_expand(rt, r->sets[i].value, &value, err);
		if (st == ST_FAIL)
			return st;
		if (st == ST_OK)
			st = eval_var_set(rt->ev, vars, r->sets[i].name, value, err);
		if (st != ST_OK)
			return err_prefix(err, "set r_%.*s", STR_FMT(r->sets[i].name));
	}
	addr->vars = *vars;
	return ST_OK;
}

/* ST_FAIL: the router declines. */
static enum status data_expand(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err)
{
	struct str value;
	enum status st = sets_expand(rt, addr, r, err);

	if (st != ST_OK || !r->address_data)
		return st;
	st = route_expand(rt, r->address_data, &value, err);
	if (st == ST_OK) {
		addr->address_data = value;
		eval_set(rt->ev, EV_address_data, value);
	}
	return st == ST_OK || st == ST_FAIL ? st : err_prefix(err, "address_data");
}

/* errors_to counts only if the address is good itself. */
static bool errors_address_good(struct route *rt, struct str address)
{
	struct ipc_recipient rcpt = { .addr = address };
	struct ipc_facts facts = *rt->facts;
	struct route sub = { .r = rt->r, .site = rt->site, .a = rt->a, .mode = MODE_VERIFY_RECIPIENT, .facts = &facts, .nested = rt->nested + 1,
		.verdict = ST_DEFER };
	struct eval ev;

	if (route_is_verify(rt) || rt->nested >= ROUTE_NESTED_MAX)
		return true;
	facts.sender = STR_NULL;
	eval_init(&ev, rt->r->lang, rt->a);
	eval_facts(&ev, &facts);
	ev.message_fd = rt->ev->message_fd;
	sub.ev = &ev;
	sub.queue_end = &sub.queue;
	route_recipient(&sub, 0, &rcpt);
	route_run(&sub);
	eval_clear(&ev);
	hash_clear(&sub.leaf_by_key);
	hash_clear(&sub.plan_by_octets);
	rt->no_content |= sub.no_content;
	return sub.verdict == ST_OK;
}

static enum status errors_to_expand(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err)
{
	struct str value;
	struct address parsed;
	enum status st;

	if (!r->errors_to)
		return ST_OK;
	st = route_expand(rt, r->errors_to, &value, err);
	if (st == ST_FAIL)
		return ST_OK;
	if (st != ST_OK)
		return err_prefix(err, "errors_to");
	value = str_trim(value);
	if (str_is(value, "<>"))
		value = STR_NULL;
	if (value.len && address_parse(value, ADDR_LITERALS | ADDR_UTF8 | ADDR_UNQUALIFIED, &parsed, NULL) == ST_OK && !parsed.domain.len)
		value = str_printf(rt->a, "%.*s@%.*s", STR_FMT(value), STR_FMT(lang_qualify_domain(rt->r->lang)));
	if (value.len && !errors_address_good(rt, value)) {
		route_trace(rt, "  errors_to = %.*s is not routeable: ignored", STR_FMT(value));
		return ST_OK;
	}
	addr->errors_to = value.len ? value : (struct str){ "", 0, false };
	addr->has_errors_to = true;
	eval_set(rt->ev, EV_return_path, addr->errors_to);
	return ST_OK;
}

/* Appends the items' expansions to the address's own list (never in place: relatives share it). Forced failure: nothing. */
static enum status items_expand(struct route *rt, const struct site_texts *items, const char *name, uint32_t max, struct str **list, uint32_t *n,
	struct err *err)
{
	struct str *all;

	if (!items->n)
		return ST_OK;
	all = arena_alloc(rt->a, (*n + items->n) * sizeof *all);
	if (*n)
		memcpy(all, *list, *n * sizeof *all);
	for (uint32_t i = 0; i < items->n; i++) {
		struct str value;
		enum status st = route_expand(rt, items->v[i], &value, err);
		if (st == ST_FAIL)
			continue;
		if (st != ST_OK)
			return err_prefix(err, "%s", name);
		value = str_trim(value);
		if (!value.len)
			continue;
		if (*n == max)
			return err_set(err, ST_ERROR, "%s: more than %u fields", name, max);
		all[(*n)++] = value;
	}
	*list = all;
	return ST_OK;
}

enum status route_delivery_options(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err)
{
	enum status st = errors_to_expand(rt, addr, r, err);

	if (st == ST_OK)
		st = items_expand(rt, &r->headers_add, "headers_add", SITE_HEADERS_MAX, &addr->headers_add, &addr->n_add, err);
	if (st == ST_OK)
		st = items_expand(rt, &r->headers_remove, "headers_remove", SITE_REMOVES_MAX, &addr->headers_remove, &addr->n_remove, err);
	return st;
}

/* ---- verdicts ---- */

struct turn {
	bool over;                        /* the address is done */
	bool put_off;                     /* ... for now: its delivery could not be made ready */
	bool unseen;                      /* whether it was an extra copy before this router */
	const struct site_router *next;   /* where it goes on, if it does */
};

static const struct site_router *router_after(const struct route *rt, const struct site_router *r)
{
	return r->index + 1 < rt->site->n_routers ? r + 1 : NULL;
}

static void unrouteable(struct route *rt, struct addr *addr, const struct site_router *last, const struct err *why, struct str status)
{
	struct str text;
	struct err err = ERR_INIT;
	char room[ERR_TEXT_MAX + 32];

	if (!last || !last->cannot_route || route_expand(rt, last->cannot_route, &text, &err) != ST_OK || !text.len) {
		if (err.status == ST_ERROR || err.status == ST_DEFER)
			router_log(rt->r, LOG_MAIN | LOG_PANIC, "router %.*s: cannot_route_message: %s", STR_FMT(last->conf->name), err.text);
		snprintf(room, sizeof room, "Unrouteable address%s%s", why->text[0] ? ": " : "", why->text);
	} else {
		snprintf(room, sizeof room, "%.*s", STR_FMT(text));
	}
	leaf_end(rt, addr, last, ROUTE_FAIL, false, status.len ? status : STR_LIT("5.1.1"), room);
}

/* The plan that a delivery would have, where other hosts are in it. A router for verification alone needs no transport. */
static enum status callout_plan(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	struct ipc_plan *bare;
	uint32_t plan;

	if (!out->transport && !r->transport_fixed && !r->transport) {
		if (out->n_hosts) {
			bare = arena_alloc(rt->a, sizeof *bare);
			callout_plan_bare(rt, out, bare);
			rt->callout_plan = bare;
		}
		return ST_OK;
	}
	if (!out->transport && route_transport(rt, r, &out->transport, err) != ST_OK)
		return err->status;
	if (!out->transport->smtp && !out->transport->lmtp)
		return ST_OK;
	if (plan_make(rt, addr, r, out->transport, out, &plan, err) != ST_OK)
		return err->status;
	rt->callout_plan = &rt->plans[plan];
	return ST_OK;
}

static enum status turn_deliver(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	uint32_t plan = 0;
	enum status st = route_hosts_finish(rt, addr, r, out, err);

	if (st != ST_OK)
		return st;
	if (route_is_verify(rt)) {
		if (rt->wants_plan && !router_fails_verify(rt, r) && callout_plan(rt, addr, r, out, err) != ST_OK)
			return err->status;
		leaf_deliver(rt, addr, r, UINT32_MAX);
		return ST_OK;
	}
	st = route_delivery_options(rt, addr, r, err);
	if (st == ST_OK && !out->transport)
		st = route_transport(rt, r, &out->transport, err);
	if (st == ST_OK)
		st = plan_make(rt, addr, r, out->transport, out, &plan, err);
	if (st == ST_OK)
		leaf_deliver(rt, addr, r, plan);
	else if (st == ST_FAIL)
		leaf_end(rt, addr, r, ROUTE_FAIL, false, STR_LIT("5.3.4"), err->text); /* too big: nothing else fails for good here */
	return st == ST_FAIL ? ST_OK : st;
}

static void verdict_trace(struct route *rt, const struct site_router *r, enum verdict v, const struct driver_out *out, const struct err *err)
{
	static const char *const names[] = { "accepted", "redirected", "discarded", "declined", "passed on", "failed", "deferred", "deferred, frozen" };

	route_trace(rt, "router %.*s: %s%s%.*s%s%s", STR_FMT(r->conf->name), names[v], out->transport ? ", transport " : "",
		STR_FMT(out->transport ? out->transport->conf->name : STR_NULL), v >= RT_DECLINE && err->text[0] ? ": " : "",
		v >= RT_DECLINE ? err->text : "");
}

/* The driver has spoken. */
static void turn_take(struct route *rt, struct addr *addr, const struct site_router *r, enum verdict verdict, struct driver_out *out,
	struct err *err, struct turn *turn)
{
	bool more;
	enum status st = ST_OK;

	turn->over = true;
	switch (verdict) {
	case RT_ACCEPT:
		st = turn_deliver(rt, addr, r, out, err);
		break;
	case RT_REDIRECT:
		if (route_is_verify(rt) && (rt->success_on_redirect || !rt->queue || rt->queue->next))
			leaf_redirected(rt, addr, r);
		break;
	case RT_DISCARD:
		leaf_end(rt, addr, r, ROUTE_DISCARD, false, STR_NULL, "");
		break;
	case RT_FAIL:
		leaf_end(rt, addr, r, ROUTE_FAIL, false, out->status.len ? out->status : STR_LIT("5.1.1"), err->text[0] ? err->text : "delivery refused");
		break;
	case RT_DEFER:
	case RT_FREEZE:
		rt->told = out->told;
		leaf_end(rt, addr, r, ROUTE_DEFER, verdict == RT_FREEZE, out->status, err->text);
		break;
	case RT_PASS:
		turn->over = false;
		turn->next = r->pass_to ? r->pass_to : router_after(rt, r);
		break;
	case RT_DECLINE:
		st = bool_expand(rt, r->more, "more", true, &more, err);
		if (st != ST_OK)
			break;
		if (more) {
			rt->why = *err;
			rt->why_status = out->status;
			turn->over = false;
			turn->next = router_after(rt, r);
		} else {
			unrouteable(rt, addr, r, err, out->status);
		}
		break;
	}
	if (st != ST_OK) {
		err_prefix(err, "router %.*s", STR_FMT(r->conf->name));
		addr->unseen = turn->unseen;
		leaf_end(rt, addr, r, ROUTE_DEFER, false, STR_NULL, err->text);
		turn->over = turn->put_off = true;
	}
}

/* With `unseen` what this router does is done to a copy; the address itself goes on. Only what it accepts: otherwise there is no copy. */
static void unseen_go_on(struct addr *addr, const struct addr *before, const struct site_router *r, const struct route *rt, struct turn *turn)
{
	struct str data = addr->address_data;
	struct eval_vars vars = addr->vars;

	*addr = *before;
	addr->address_data = data;
	addr->vars = vars;
	turn->over = false;
	turn->next = router_after(rt, r);
}

static void router_run(struct route *rt, struct addr *addr, const struct site_router *r, struct turn *turn)
{
	struct driver_out out = { .transport = NULL };
	struct err err = ERR_INIT;
	struct addr *at = addr, before = *addr;
	enum verdict verdict;
	bool unseen = false, is_copy = false;
	enum status st = data_expand(rt, addr, r, &err);

	if (st == ST_OK && r->pending)
		st = err_set(&err, ST_DEFER, "option \"%s\" is not served in this build", r->pending->name);
	if (st == ST_OK && (st = bool_expand(rt, r->unseen, "unseen", false, &unseen, &err)) == ST_OK) {
		if (unseen && router_after(rt, r) && !route_is_verify(rt)) {
			at = arena_memdup(rt->a, addr, sizeof *addr);
			at->unseen = is_copy = true;
		}
		at->router = r;
		verdict = r->driver->run(rt, at, r, &out, &err);
		/* the address goes on besides its children: there are several, which verification does not follow */
		if (verdict == RT_REDIRECT && unseen && route_is_verify(rt) && !router_fails_verify(rt, r)) {
			leaf_redirected(rt, addr, r);
			turn->over = true;
			return;
		}
	} else {
		verdict = st == ST_FAIL ? RT_DECLINE : RT_DEFER;
		if (st != ST_FAIL)
			err_prefix(&err, "router %.*s", STR_FMT(r->conf->name));
	}
	if (rt->no_content)
		return;
	if (verdict == RT_ACCEPT && !out.transport && r->transport_fixed)
		out.transport = r->transport_fixed;
	if (rt->trace_on)
		verdict_trace(rt, r, verdict, &out, &err);
	if (route_is_verify(rt) && verdict < RT_DECLINE && router_fails_verify(rt, r)) {
		leaf_verify_failed(rt, addr, r);
		turn->over = true;
		return;
	}
	/* verification follows what goes on */
	if (route_is_verify(rt) && verdict == RT_ACCEPT && unseen && router_after(rt, r)) {
		unseen_go_on(addr, &before, r, rt, turn);
		return;
	}
	if (is_copy && verdict >= RT_DECLINE)
		at->unseen = before.unseen;
	turn->unseen = before.unseen;
	turn_take(rt, at, r, verdict, &out, &err, turn);
	if (is_copy && verdict < RT_DECLINE && turn->over && !turn->put_off)
		unseen_go_on(addr, &before, r, rt, turn);
	else if (at != addr)
		*addr = *at;
}

static void kind_deliver(struct route *rt, struct addr *addr)
{
	struct driver_out out = { .transport = addr->transport };
	struct err err = ERR_INIT;

	if (!addr->transport) { /* /dev/null */
		leaf_end(rt, addr, addr->router, ROUTE_DISCARD, false, STR_NULL, "");
		return;
	}
	addr_enter(rt, addr, addr->router);
	eval_set(rt->ev, addr->kind == KIND_PIPE ? EV_address_pipe : EV_address_file, addr->text);
	if (turn_deliver(rt, addr, addr->router, &out, &err) != ST_OK) {
		err_prefix(&err, "router %.*s", STR_FMT(addr->router->conf->name));
		leaf_end(rt, addr, addr->router, ROUTE_DEFER, false, STR_NULL, err.text);
	}
}

static void addr_route(struct route *rt, struct addr *addr)
{
	const struct site_router *r = addr->start ? addr->start : rt->site->n_routers ? rt->site->routers : NULL, *last = NULL;
	struct turn turn = { .over = false };

	if (addr->kind != KIND_ADDRESS) {
		kind_deliver(rt, addr);
		return;
	}
	if (addr_waits(rt, addr))
		return;
	route_trace(rt, "address %.*s", STR_FMT(addr->text));
	err_clear(&rt->why);
	rt->why_status = STR_NULL;
	for (; r && !rt->no_content; r = turn.next) {
		struct err err = ERR_INIT;
		enum status st;
		last = r;
		turn = (struct turn){ .next = router_after(rt, r) };
		addr_fresh(addr);
		if (r->reads_message && rt->ev->message_fd < 0 && rt->facts->message_id.len && rt->mode == MODE_DELIVER) {
			rt->no_content = true;
			return;
		}
		if (router_would_loop(addr, r)) {
			route_trace(rt, "router %.*s: skipped: it made this address itself (loop)", STR_FMT(r->conf->name));
			continue;
		}
		st = route_preconditions(rt, addr, r, &err);
		if (st == ST_FAIL) {
			route_trace(rt, "router %.*s: skipped: %s", STR_FMT(r->conf->name), err.text);
			continue;
		}
		if (st != ST_OK) {
			err_prefix(&err, "router %.*s", STR_FMT(r->conf->name));
			route_trace(rt, "%s", err.text);
			leaf_end(rt, addr, r, ROUTE_DEFER, false, STR_NULL, err.text);
			return;
		}
		router_run(rt, addr, r, &turn);
		if (turn.over)
			return;
	}
	if (!rt->no_content) {
		addr_fresh(addr);
		addr_enter(rt, addr, last);
		unrouteable(rt, addr, last, &rt->why, rt->why_status);
	}
}

void route_run(struct route *rt)
{
	while (rt->queue && !rt->no_content) {
		struct addr *addr = rt->queue;
		rt->queue = addr->next;
		if (!rt->queue)
			rt->queue_end = &rt->queue;
		addr->next = NULL;
		addr_route(rt, addr);
		if ((route_is_verify(rt) && rt->verify_leaf) || rt->mode == MODE_EXPN)
			return;
	}
}

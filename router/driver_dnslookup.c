/* SPDX-License-Identifier: ISC */
/* driver_dnslookup.c - finds the hosts of a domain in the DNS (specification, chapter 17). */
#include <string.h>

#include "router/route.h"

struct own {
	const struct conf_opts_router_dnslookup *o;
	struct lang_list *fail_defer, *mx_domains, *mx_fail, *srv_fail;
	struct expansion *check_srv, *ipv4_only, *ipv4_prefer;
	struct str *widen;
	uint32_t n_widen;
	bool fixed;               /* what is found depends on the domain alone */
};

/* Another address may find another value. */
static bool varies(const struct conf_text *t)
{
	return t->text.p && str_find(t->text, '$') >= 0;
}

static enum status dnslookup_compile(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router_dnslookup *o = CONF_OWN(r->conf, router_dnslookup);
	struct own *own = arena_alloc(&site->arena, sizeof *own);
	struct lang_split split = LANG_SPLIT(o->widen_domains.text);
	struct str item;

	own->o = o;
	r->own = own;
	if (site_list(site, LIST_DOMAIN, &o->fail_defer_domains, &own->fail_defer, err) != ST_OK ||
		site_list(site, LIST_DOMAIN, &o->mx_domains, &own->mx_domains, err) != ST_OK ||
		site_list(site, LIST_DOMAIN, &o->mx_fail_domains, &own->mx_fail, err) != ST_OK ||
		site_list(site, LIST_DOMAIN, &o->srv_fail_domains, &own->srv_fail, err) != ST_OK ||
		site_text(site, &o->check_srv, &own->check_srv, err) != ST_OK || site_text(site, &o->ipv4_only, &own->ipv4_only, err) != ST_OK ||
		site_text(site, &o->ipv4_prefer, &own->ipv4_prefer, err) != ST_OK)
		return err->status;
	own->fixed = o->same_domain_copy_routing || (!varies(&o->fail_defer_domains) && !varies(&o->mx_domains) && !varies(&o->mx_fail_domains) && !varies(&o->srv_fail_domains) &&
		!varies(&r->o->ignore_target_hosts) && !varies(&r->o->dnssec_require_domains) && !varies(&r->o->dnssec_request_domains) &&
		(!own->check_srv || expansion_is_constant(own->check_srv)) && (!own->ipv4_only || expansion_is_constant(own->ipv4_only)) &&
		(!own->ipv4_prefer || expansion_is_constant(own->ipv4_prefer)));
	while (o->widen_domains.text.len && lang_split_next(&split, &site->arena, &item)) {
		struct str *more = arena_alloc(&site->arena, (own->n_widen + 1) * sizeof *more);
		if (own->n_widen)
			memcpy(more, own->widen, own->n_widen * sizeof *more);
		more[own->n_widen++] = str_dup(&site->arena, item);
		own->widen = more;
	}
	return ST_OK;
}

/* As a router's condition: empty, 0, no, false and a forced failure are false. */
static enum status loose_bool(struct route *rt, const struct expansion *x, const char *name, unsigned flag, unsigned *flags, struct err *err)
{
	struct str value;
	enum status st;

	if (!x)
		return ST_OK;
	st = route_expand(rt, x, &value, err);
	if (st == ST_FAIL)
		return ST_OK;
	if (st != ST_OK)
		return err_prefix(err, "%s", name);
	if (value.len && !str_is(value, "0") && !str_isi(value, "no") && !str_isi(value, "false"))
		*flags |= flag;
	return ST_OK;
}

static enum status listed(struct route *rt, const struct lang_list *list, const char *name, struct str domain, unsigned flag, unsigned *flags,
	struct err *err)
{
	enum status st;

	if (!list)
		return ST_OK;
	st = lang_domain_match(rt->ev, list, domain, NULL, err);
	if (st == ST_OK)
		*flags |= flag;
	return st == ST_OK || st == ST_FAIL ? ST_OK : err_prefix(err, "%s", name);
}

static enum status options_make(struct route *rt, struct addr *addr, const struct own *own, const struct site_router *r,
	struct find_options *out, struct err *err)
{
	unsigned flags = FIND_DNS_ONLY | (own->o->check_secondary_mx ? FIND_SECONDARY : 0);
	struct str srv = STR_NULL;
	enum status st = loose_bool(rt, own->ipv4_only, "ipv4_only", FIND_IPV4_ONLY, &flags, err);

	if (st == ST_OK)
		st = loose_bool(rt, own->ipv4_prefer, "ipv4_prefer", FIND_IPV4_FIRST, &flags, err);
	if (st == ST_OK)
		st = listed(rt, own->mx_domains, "mx_domains", addr->domain, FIND_MX_REQUIRED, &flags, err);
	if (st == ST_OK)
		st = listed(rt, own->mx_fail, "mx_fail_domains", addr->domain, FIND_MX_DEFER_IS_NONE, &flags, err);
	if (st == ST_OK)
		st = listed(rt, own->srv_fail, "srv_fail_domains", addr->domain, FIND_SRV_DEFER_IS_NONE, &flags, err);
	if (st == ST_OK && own->check_srv) {
		st = route_expand(rt, own->check_srv, &srv, err);
		if (st == ST_FAIL)
			st = ST_OK;
		else if (st != ST_OK)
			err_prefix(err, "check_srv");
	}
	if (st != ST_OK)
		return st;
	route_find_options(rt, r, flags, out);
	out->srv = srv;
	return ST_OK;
}

/* One name; a definite "no such domain" lets the next one be tried. */
struct search {
	struct route *rt;
	const struct find_options *options;
	struct find_result *found;
	struct err *err;
	struct str name;         /* that was found */
	enum status st;
	bool tried;
};

static bool search_try(struct search *s, struct str name)
{
	struct find_result found;
	struct err err = ERR_INIT;
	enum status st = find_mail_hosts(s->rt->r->dns, s->rt->a, name, s->options, &found, &err);

	/* what the name as it was given had to say counts, if no other is found */
	if (!s->tried || st != ST_FAIL) {
		*s->found = found;
		*s->err = err;
		s->st = st;
		s->name = name;
	}
	s->tried = true;
	return st != ST_FAIL || found.why != FIND_NO_DOMAIN;
}

static struct str joined(struct route *rt, struct str domain, struct str tail)
{
	return str_printf(rt->a, "%.*s.%.*s", STR_FMT(domain), STR_FMT(tail));
}

/* The resolver's list: a name of one part is completed by its first domain (qualify_single), any by all of them (search_parents). */
static bool search_list(struct search *s, struct str domain, bool all)
{
	struct str list = s->rt->r->search, word;

	while (str_split(&list, ' ', &word)) {
		if (!word.len)
			continue;
		if (search_try(s, joined(s->rt, domain, word)) && s->st != ST_FAIL)
			return true;
		if (!all)
			break;
	}
	return false;
}

/* The domain; completed as the resolver does; then with each of widen_domains behind it. */
static enum status hosts_find(struct route *rt, struct addr *addr, const struct own *own, const struct find_options *options,
	struct find_result *found, struct str *name_out, struct err *err)
{
	struct search s = { .rt = rt, .options = options, .found = found, .err = err, .name = addr->domain, .st = ST_FAIL };
	bool widen = rt->mode != MODE_VERIFY_SENDER || !own->o->rewrite_headers, single = str_find(addr->domain, '.') < 0;
	bool over = search_try(&s, addr->domain);

	if (!over && (single ? own->o->qualify_single || own->o->search_parents : own->o->search_parents))
		over = search_list(&s, addr->domain, own->o->search_parents);
	for (uint32_t i = 0; widen && !over && i < own->n_widen; i++)
		over = search_try(&s, joined(rt, addr->domain, own->widen[i])) && s.st != ST_FAIL;
	*name_out = s.name;
	return s.st;
}

/* No host: what the definite no means. */
static enum verdict hosts_none(struct route *rt, struct addr *addr, const struct own *own, const struct find_result *found, struct driver_out *out,
	struct err *err)
{
	unsigned defer = 0;
	struct err list_err = ERR_INIT;

	if (found->why == FIND_NULL_MX)
		out->status = rt->mode == MODE_VERIFY_SENDER ? STR_LIT("5.7.27") : STR_LIT("5.1.10");
	else
		out->status = STR_LIT("5.1.2");
	if (listed(rt, own->fail_defer, "fail_defer_domains", addr->domain, 1, &defer, &list_err) != ST_OK) {
		*err = list_err;
		return RT_DEFER;
	}
	return defer ? RT_DEFER : RT_DECLINE;
}

static enum verdict secure_check(struct route *rt, struct addr *addr, const struct site_router *r, const struct find_result *found, struct err *err)
{
	enum status st;

	if (!r->dnssec_require)
		return RT_ACCEPT;
	st = lang_domain_match(rt->ev, r->dnssec_require, addr->domain, NULL, err);
	if (st == ST_FAIL)
		return RT_ACCEPT;
	if (st == ST_OK) {
		bool secure = found->secure;
		for (uint32_t i = 0; i < found->n; i++)
			secure = secure && found->v[i].secure;
		if (secure)
			return RT_ACCEPT;
		err_set(err, ST_DEFER, "%.*s: lookup not DNSSEC-secure, as dnssec_require_domains demands", STR_FMT(addr->domain));
	}
	return RT_DEFER;
}

static enum verdict hosts_use(struct route *rt, struct addr *addr, const struct site_router *r, const struct find_result *found,
	struct str name, struct driver_out *out, struct err *err)
{
	enum verdict verdict = secure_check(rt, addr, r, found, err);

	if (verdict == RT_ACCEPT)
		err_clear(err);
	if (verdict == RT_ACCEPT && found->self)
		verdict = route_self(rt, addr, r, found->v[0].name, err);
	if (verdict == RT_ACCEPT)
		route_hosts_take(rt, found, name, 0, 0, out);
	return verdict;
}

static enum verdict dnslookup_run(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	const struct own *own = r->own;
	const struct hosts_memo *memo = own->fixed ? route_memo_find(rt, r, addr->domain) : NULL;
	struct find_options options;
	struct find_result found;
	struct str name;
	enum verdict verdict;
	enum status st;

	if (memo) {
		*out = memo->out;
		*err = memo->err;
		return memo->verdict;
	}
	if (addr->domain.len && addr->domain.p[0] == '[') {
		err_set(err, ST_FAIL, "%.*s is an address, not a domain", STR_FMT(addr->domain));
		return RT_DECLINE;
	}
	st = options_make(rt, addr, own, r, &options, err);
	if (st != ST_OK)
		return RT_DEFER;
	st = hosts_find(rt, addr, own, &options, &found, &name, err);
	if (st == ST_OK && !str_eqi(name, addr->domain)) {
		route_trace(rt, "  %.*s is %.*s: routed again by its full name", STR_FMT(addr->domain), STR_FMT(name));
		return route_domain_change(rt, addr, r, name, own->o->rewrite_headers, err) == ST_OK ? RT_REDIRECT : RT_DEFER;
	}
	if (st == ST_OK)
		verdict = hosts_use(rt, addr, r, &found, name, out, err);
	else if (st == ST_FAIL)
		verdict = hosts_none(rt, addr, own, &found, out, err);
	else
		verdict = r->o->pass_on_timeout ? RT_PASS : RT_DEFER;
	/* what an address by itself decided (a redirection, a pass) is not kept for others */
	if (own->fixed && !found.self && verdict != RT_PASS)
		route_memo_keep(rt, r, addr->domain, verdict, out, err);
	return verdict;
}

const struct router_driver router_dnslookup = { &conf_table_router_dnslookup, dnslookup_compile, dnslookup_run, false };

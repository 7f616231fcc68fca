/* SPDX-License-Identifier: ISC */
/* route_hosts.c - from names of hosts to what is tried: addresses, this host itself, the retry rules that fit. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "common/mail/address.h"
#include "router/route.h"

/* ---- questions that the finder asks back ---- */

struct finder {
	struct route *rt;
	const struct site_router *r;
};

static bool finder_ignored(void *ctx, struct str ip, struct str name)
{
	struct finder *f = ctx;
	const struct list_subject subject = { .text = ip, .host_name = name, .no_client = true };
	struct err err = ERR_INIT;
	enum status st;

	if (!f->r->ignore_hosts)
		return false;
	eval_set(f->rt->ev, EV_host_address, ip);
	st = lang_list_match(f->rt->ev, f->r->ignore_hosts, &subject, NULL, &err);
	eval_set(f->rt->ev, EV_host_address, STR_NULL);
	if (st == ST_DEFER || st == ST_ERROR)
		router_log(f->rt->r, LOG_MAIN, "router %.*s: ignore_target_hosts: %s", STR_FMT(f->r->conf->name), err.text);
	return st == ST_OK;
}

static bool finder_local(void *ctx, struct str ip, struct str name)
{
	const struct finder *f = ctx;

	return router_host_is_local(f->rt->r, ip, name);
}

void route_find_options(struct route *rt, const struct site_router *r, unsigned flags, struct find_options *out)
{
	struct finder *f = arena_alloc(rt->a, sizeof *f);

	f->rt = rt;
	f->r = r;
	if (rt->r->conf->main.allow_mx_to_ip)
		flags |= FIND_ALLOW_MX_IP;
	*out = (struct find_options){ .flags = flags, .ignored = finder_ignored, .local = finder_local, .ctx = f };
}

/* ---- retry rules ---- */

bool retry_pattern_fits(struct eval *ev, const struct site_retry *rule, struct str local, struct str domain)
{
	struct list_subject subject;
	struct err err = ERR_INIT;

	if (!rule->pattern)
		return true;
	subject = (struct list_subject){ .text = str_printf(ev->arena, "%.*s@%.*s", STR_FMT(local.len ? local : STR_LIT("*")), STR_FMT(domain)) };
	subject.text.tainted = true;
	/* in doubt it fits: a failure is then retried, not made final */
	return lang_list_match(ev, rule->pattern, &subject, NULL, &err) != ST_FAIL;
}

bool retry_sender_fits(struct eval *ev, const struct site_retry *rule, struct str sender)
{
	struct err err = ERR_INIT;

	return !rule->senders || lang_address_match(ev, rule->senders, sender, NULL, &err) != ST_FAIL;
}

void route_retry_rules(struct route *rt, struct str local, struct str domain, struct ipc_strs *out, struct ipc_strs *local_only)
{
	const struct site *site = rt->site;
	struct str v[ROUTE_RULES_MAX], alone[ROUTE_RULES_MAX];
	uint32_t n = 0, n_alone = 0;

	for (uint32_t i = 0; i < site->n_retry && n < ROUTE_RULES_MAX; i++) {
		const struct site_retry *rule = &site->retry[i];

		if (!retry_pattern_fits(rt->ev, rule, local, domain) || !retry_sender_fits(rt->ev, rule, rt->facts->sender))
			continue;
		if (local_only && local.len && rule->pattern && !retry_pattern_fits(rt->ev, rule, STR_NULL, domain))
			alone[n_alone++] = rule->number;
		v[n++] = rule->number;
	}
	out->n = n;
	out->v = n ? arena_memdup(rt->a, v, n * sizeof *v) : NULL;
	if (local_only)
		*local_only = (struct ipc_strs){ n_alone ? arena_memdup(rt->a, alone, n_alone * sizeof *alone) : NULL, n_alone };
}

/* ---- results kept for the question ---- */

struct hosts_memo *route_memo_find(struct route *rt, const struct site_router *r, struct str domain)
{
	for (unsigned i = 0; i < rt->n_hosts_memo; i++)
		if (rt->hosts_memo[i]->router == r && str_eq(rt->hosts_memo[i]->domain, domain))
			return rt->hosts_memo[i];
	return NULL;
}

void route_memo_keep(struct route *rt, const struct site_router *r, struct str domain, enum verdict verdict, const struct driver_out *out,
	const struct err *err)
{
	struct hosts_memo *m;

	if (rt->n_hosts_memo == ROUTE_MEMOS_MAX)
		return;
	m = rt->hosts_memo[rt->n_hosts_memo++] = arena_alloc(rt->a, sizeof *m);
	*m = (struct hosts_memo){ .router = r, .domain = domain, .verdict = verdict, .out = *out, .err = *err };
}

/* ---- lists ---- */

/* Names beside the host's that a certificate may have: the domain's, since its MX answer is secure (RFC 7672 section 3.2.2). */
static struct ipc_strs names_of_domain(struct route *rt, const struct find_result *found, struct str domain)
{
	struct ipc_strs names = { NULL, 0 };

	if (!found->had_mx || !found->secure || dns_name_normal(rt->a, domain, true, &domain, NULL) != ST_OK)
		return names;
	names.v = arena_alloc(rt->a, 2 * sizeof *names.v);
	names.v[names.n++] = domain;
	if (!str_eq(found->name, domain))
		names.v[names.n++] = found->name;
	return names;
}

void route_hosts_take(struct route *rt, const struct find_result *found, struct str domain, uint32_t group, uint16_t port, struct driver_out *out)
{
	struct ipc_strs names = names_of_domain(rt, found, domain);
	uint32_t room = ROUTE_HOSTS_MAX - out->n_hosts, n = found->n < room ? found->n : room;
	struct ipc_host *v = arena_alloc(rt->a, (out->n_hosts + n + 1) * sizeof *v);
	struct str last = STR_NULL;
	struct ipc_strs rules = { NULL, 0 };

	if (out->n_hosts)
		memcpy(v, out->hosts, out->n_hosts * sizeof *v);
	for (uint32_t i = 0; i < n; i++) {
		const struct find_host *h = &found->v[i];
		if (!last.p || !str_eq(last, h->name))
			route_retry_rules(rt, STR_NULL, h->name, &rules, NULL);
		last = h->name;
		v[out->n_hosts++] = (struct ipc_host){ .name = h->name, .ip = h->ip, .port = port ? port : h->port, .group = group + h->group,
			.secure = h->secure, .mx = found->had_mx, .retry_rules = rules, .tlsa_base = h->canonical, .tlsa_names = names,
			.secure_name = !found->had_mx || found->secure };
	}
	out->hosts = v;
}

/* Where DNSSEC was not asked for, nothing counts as secure; a domain whose answers must be secure is asked about in any case. */
static enum status hosts_unsecure(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	struct ipc_host *v;
	enum status st;

	if (!r->dnssec_request || r->dnssec_require || out->dnssec_judged)
		return ST_OK;
	st = lang_domain_match(rt->ev, r->dnssec_request, addr->domain, NULL, err);
	if (st == ST_OK)
		return ST_OK;
	if (st != ST_FAIL)
		return err_prefix(err, "dnssec_request_domains");
	v = arena_memdup(rt->a, out->hosts, out->n_hosts * sizeof *v); /* they may be shared */
	for (uint32_t i = 0; i < out->n_hosts; i++) {
		v[i].secure = false;
		v[i].secure_name = !v[i].mx;
		v[i].tlsa_base = STR_NULL; /* nor is it asked whether its alias is */
	}
	out->hosts = v;
	return ST_OK;
}

/* One host's address by translate_ip_address: another one, or the addresses of a name. */
static enum status host_translate(struct route *rt, const struct site_router *r, const struct ipc_host *h, struct driver_out *out, struct err *err)
{
	struct find_options options = { .flags = FIND_KEEP_ORDER };
	struct find_result found;
	struct str value;
	uint32_t n = 1;
	enum status st;

	eval_set(rt->ev, EV_host_address, h->ip);
	st = route_expand(rt, r->translate, &value, err);
	eval_set(rt->ev, EV_host_address, STR_NULL);
	if (st == ST_FAIL)
		value = h->ip;
	else if (st != ST_OK)
		return st;
	st = find_addresses(rt->r->dns, rt->a, str_trim(value), &options, &found, err);
	if (st != ST_OK)
		return err_set(err, ST_DEFER, "host \"%.*s\" not found for %.*s", STR_FMT(value), STR_FMT(h->ip));
	n = found.n < ROUTE_HOSTS_MAX - out->n_hosts ? found.n : ROUTE_HOSTS_MAX - out->n_hosts;
	for (uint32_t i = 0; i < n; i++) {
		out->hosts[out->n_hosts] = *h;
		out->hosts[out->n_hosts++].ip = found.v[i].ip;
	}
	return ST_OK;
}

static enum status hosts_translate(struct route *rt, const struct site_router *r, struct driver_out *out, struct err *err)
{
	const struct ipc_host *v = out->hosts;
	uint32_t n = out->n_hosts;
	enum status st = ST_OK;

	if (!r->translate)
		return ST_OK;
	out->hosts = arena_alloc(rt->a, ROUTE_HOSTS_MAX * sizeof *out->hosts);
	out->n_hosts = 0;
	for (uint32_t i = 0; st == ST_OK && i < n; i++)
		st = host_translate(rt, r, &v[i], out, err);
	return st == ST_OK ? ST_OK : err_prefix(err, "translate_ip_address");
}

enum status route_hosts_finish(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	enum status st = out->n_hosts ? hosts_unsecure(rt, addr, r, out, err) : ST_OK;

	return st == ST_OK && out->n_hosts ? hosts_translate(rt, r, out, err) : st;
}

enum verdict route_self(struct route *rt, struct addr *addr, const struct site_router *r, struct str host, struct err *err)
{
	err_set(err, ST_ERROR, "remote host is the local host: %.*s (%.*s)", STR_FMT(addr->domain), STR_FMT(host));
	switch (r->self) {
	case SELF_SEND:
		err_clear(err);
		return RT_ACCEPT;
	case SELF_DEFER:
		return RT_DEFER;
	case SELF_FAIL:
		return RT_FAIL;
	case SELF_PASS:
		addr->self_hostname = host;
		return RT_PASS;
	case SELF_REROUTE:
		err_clear(err);
		return route_domain_change(rt, addr, r, r->reroute_to, r->reroute_rewrite, err) == ST_OK ? RT_REDIRECT : RT_DEFER;
	case SELF_FREEZE:
		break;
	}
	return RT_FREEZE;
}

/* host_find_failed and host_all_ignored. */
static enum verdict word_verdict(struct str word)
{
	static const struct { const char *word; enum verdict verdict; } words[] = {
		{ "decline", RT_DECLINE }, { "defer", RT_DEFER }, { "fail", RT_FAIL }, { "freeze", RT_FREEZE }, { "pass", RT_PASS },
	};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (str_is(word, words[i].word))
			return words[i].verdict;
	return RT_FREEZE;
}

/* Groups between "+" items are shuffled each for itself. */
static void items_shuffle(struct host_item *v, uint32_t n)
{
	for (uint32_t from = 0; from < n;) {
		uint32_t end = from;
		while (end < n && !v[end].border)
			end++;
		for (uint32_t i = end - from; i > 1; i--) {
			uint32_t k = arc4random_uniform(i);
			struct host_item t = v[from + i - 1];
			v[from + i - 1] = v[from + k];
			v[from + k] = t;
		}
		from = end + 1;
	}
}

/* The list as it is used this time: in order, each host a group of its own; shuffled, what lies between borders is one group. */
static const struct host_item *items_order(struct route *rt, const struct host_items *items, bool randomize)
{
	struct host_item *v;

	if (!randomize)
		return items->v;
	v = arena_memdup(rt->a, items->v, items->n * sizeof *v);
	items_shuffle(v, items->n);
	return v;
}

struct gathering {
	struct route *rt;
	struct addr *addr;
	const struct site_router *r;
	const struct hosts_wish *wish;
	struct driver_out *out;
	uint32_t group;
	bool ignored;         /* a host was not found, and that is ignored */
	bool trouble;         /* a host can't be known now */
	bool over;            /* this host was met: nothing behind it counts */
	struct err trouble_err;
};

/* Where DNSSEC was not asked for, nothing counts as secure. */
static enum status item_request(struct gathering *g, const struct host_item *item, struct find_result *found, struct err *err)
{
	enum status st = g->wish->dnssec_request ? lang_domain_match(g->rt->ev, g->wish->dnssec_request, item->name, NULL, err) : ST_OK;

	if (st != ST_FAIL)
		return st == ST_OK ? ST_OK : err_prefix(err, "dnssec_request_domains");
	err_clear(err);
	found->secure = false;
	for (uint32_t i = 0; i < found->n; i++) {
		found->v[i].secure = false;
		found->v[i].canonical = STR_NULL;
	}
	return ST_OK;
}

/* A host whose addresses must be secure, and are not: as if the question had failed. */
static enum status item_secure(struct gathering *g, const struct host_item *item, struct find_result *found, struct err *err)
{
	enum status st;

	if (!g->wish->dnssec_require || item->name.p[0] == '[')
		return item_request(g, item, found, err);
	st = lang_domain_match(g->rt->ev, g->wish->dnssec_require, item->name, NULL, err);
	if (st == ST_FAIL)
		return item_request(g, item, found, err);
	if (st != ST_OK)
		return err_prefix(err, "dnssec_require_domains");
	for (uint32_t i = 0; i < found->n; i++)
		if (!found->v[i].secure || (item->mx && !found->secure))
			return err_set(err, ST_DEFER, "%.*s: lookup not DNSSEC-secure, as dnssec_require_domains demands", STR_FMT(item->name));
	return ST_OK;
}

/* RT_ACCEPT: go on with the next item. */
static enum verdict item_missing(struct gathering *g, struct err *err)
{
	/* an ignored address does not exist: a host of such alone is not found */
	if (str_is(g->wish->find_failed, "ignore")) {
		g->ignored = true;
		return RT_ACCEPT;
	}
	return err->text[0] ? word_verdict(g->wish->find_failed) : RT_FREEZE;
}

static enum verdict item_take(struct gathering *g, const struct host_item *item, bool first, struct err *err)
{
	struct find_options options;
	struct find_result found;
	enum status st;
	uint32_t n = g->out->n_hosts;

	route_find_options(g->rt, g->r, g->wish->find_flags, &options);
	if (item->mx)
		st = find_mail_hosts(g->rt->r->dns, g->rt->a, item->name, &options, &found, err);
	else
		st = find_addresses(g->rt->r->dns, g->rt->a, item->name, &options, &found, err);
	if (st == ST_FAIL)
		return item_missing(g, err);
	if (st == ST_OK)
		st = item_secure(g, item, &found, err);
	if (st != ST_OK) {
		if (!g->wish->never_self)
			return g->r->o->pass_on_timeout ? RT_PASS : RT_DEFER;
		/* the transport's own: the others may do; if none is left, the address waits */
		g->trouble = true;
		g->trouble_err = *err;
		return RT_ACCEPT;
	}
	if (!item->mx)
		find_drop_self(&found);
	if (found.self && !g->wish->never_self) {
		if (first) {
			enum verdict v = route_self(g->rt, g->addr, g->r, found.v[0].name, err);
			if (v != RT_ACCEPT)
				return v;
		} else {
			g->over = true;
			return RT_ACCEPT;
		}
	}
	route_hosts_take(g->rt, &found, item->name, g->group, item->port, g->out);
	if (g->out->n_hosts > n && !g->wish->randomize)
		g->group = (uint32_t)g->out->hosts[g->out->n_hosts - 1].group + 1;
	return RT_ACCEPT;
}

enum verdict route_hosts(struct route *rt, struct addr *addr, const struct site_router *r, const struct host_items *items,
	const struct hosts_wish *wish, struct driver_out *out, struct err *err)
{
	struct gathering g = { .rt = rt, .addr = addr, .r = r, .wish = wish, .out = out };
	const struct host_item *v = items_order(rt, items, wish->randomize);
	bool first = true;

	out->dnssec_judged = true;
	for (uint32_t i = 0; i < items->n && !g.over; i++) {
		enum verdict verdict;
		if (v[i].border) {
			g.group = out->n_hosts ? (uint32_t)out->hosts[out->n_hosts - 1].group + 1 : 0;
			continue;
		}
		verdict = item_take(&g, &v[i], first, err);
		if (verdict != RT_ACCEPT)
			return verdict;
		first = false;
	}
	err_clear(err);
	if (out->n_hosts)
		return RT_ACCEPT;
	if (g.trouble) {
		*err = g.trouble_err;
		return r->o->pass_on_timeout ? RT_PASS : RT_DEFER;
	}
	if (g.ignored) {
		err_set(err, ST_FAIL, "no host is left: all are ignored or unknown");
		return word_verdict(wish->all_ignored);
	}
	err_set(err, ST_ERROR, "the list of hosts is empty");
	return RT_DEFER;
}

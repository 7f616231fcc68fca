/* SPDX-License-Identifier: ISC */
/* driver_manualroute.c - hosts by the administrator's own rules (specification, chapter 20). */
#include <string.h>

#include "router/manual_rule.h"
#include "router/route.h"

struct rule {
	struct lang_list *pattern;
	struct str text;                   /* of the hosts, also the key of what was found for them */
	struct expansion *hosts;           /* NULL: none */
	bool fixed;                        /* items are the hosts, whatever the address */
	struct host_items items;
	struct manual_options options;
	const struct site_transport *transport;
};

struct own {
	const struct conf_opts_router_manualroute *o;
	struct rule *rules;
	uint32_t n;
	struct expansion *data;
};

static enum status rule_compile(struct site *site, struct str text, struct conf_place place, struct rule *out, struct err *err)
{
	struct arena *a = &site->arena;
	struct conf_text list = { .place = place };
	struct manual_rule parsed;

	if (manual_rule_parse(str_dup(a, text), a, &parsed, err) != ST_OK)
		return err->status;
	/* one pattern, not a list: a separator that it can't contain */
	list.text = str_printf(a, "<\001 %.*s", STR_FMT(parsed.pattern));
	if (site_list(site, LIST_DOMAIN, &list, &out->pattern, err) != ST_OK)
		return err->status;
	out->options = parsed.options;
	out->text = parsed.hosts;
	if (parsed.options.transport.len) {
		out->transport = site_transport_find(site, parsed.options.transport);
		if (!out->transport)
			return err_set(err, ST_ERROR, "\"%.*s\" is neither an option nor a transport", STR_FMT(parsed.options.transport));
	}
	if (!parsed.hosts.len)
		return ST_OK;
	if (lang_compile(site->router->lang, parsed.hosts, place, &out->hosts, err) != ST_OK)
		return err->status;
	if (!expansion_is_constant(out->hosts) || str_find(parsed.hosts, '\\') >= 0)
		return ST_OK;
	out->fixed = true;
	return host_items_parse(parsed.hosts, a, &out->items, err);
}

static enum status manualroute_compile(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router_manualroute *o = CONF_OWN(r->conf, router_manualroute);
	struct own *own = arena_alloc(&site->arena, sizeof *own);
	struct lang_split split = LANG_SPLIT(o->route_list.text);
	struct str item;

	own->o = o;
	r->own = own;
	if (o->route_list.set == o->route_data.set)
		return err_set(err, ST_ERROR, "exactly one of route_list and route_data must be set");
	if (site_text(site, &o->route_data, &own->data, err) != ST_OK)
		return err->status;
	if (!o->route_list.set)
		return ST_OK;
	if (!(o->route_list.text.len && o->route_list.text.p[0] == '<'))
		split.sep = ';';
	while (lang_split_next(&split, &site->arena, &item)) {
		struct rule *more;
		if (!item.len)
			continue;
		if (own->n == MANUAL_RULES_MAX)
			return err_set(err, ST_ERROR, "route_list: more than %d rules", MANUAL_RULES_MAX);
		if (!(own->n & (own->n - 1))) { /* 0, 1, 2, 4 ...: room for twice as many */
			more = arena_alloc(&site->arena, (own->n ? own->n * 2 : 1) * sizeof *more);
			if (own->n)
				memcpy(more, own->rules, own->n * sizeof *more);
			own->rules = more;
		}
		if (rule_compile(site, item, o->route_list.place, &own->rules[own->n], err) != ST_OK) {
			err_prefix(err, "route_list, rule %u", own->n + 1);
			return site_wrong(site, o->route_list.place, err);
		}
		own->n++;
	}
	return ST_OK;
}

/* ---- at work ---- */

/* What is to be done, from a rule or from route_data. */
struct work {
	struct host_items items;
	struct manual_options options;
	const struct site_transport *transport;
	struct str text;                /* of the hosts */
	bool fixed;
};

static enum verdict rule_choose(struct route *rt, struct addr *addr, const struct own *own, const struct rule **out, struct err *err)
{
	struct lang_list_match match = { STR_NULL, STR_NULL };

	for (uint32_t i = 0; i < own->n; i++) {
		enum status st = lang_domain_match(rt->ev, own->rules[i].pattern, addr->domain, &match, err);
		if (st == ST_FAIL)
			continue;
		if (st != ST_OK) {
			err_prefix(err, "route_list");
			return RT_DEFER;
		}
		*out = &own->rules[i];
		eval_set(rt->ev, EV_value, match.data);
		return RT_ACCEPT;
	}
	err_clear(err);
	return RT_DECLINE;
}

static enum verdict hosts_expand(struct route *rt, struct expansion *x, struct str *out, struct err *err)
{
	enum status st = route_expand(rt, x, out, err);

	if (st == ST_OK)
		return RT_ACCEPT;
	err_prefix(err, "list of hosts");
	return st == ST_FAIL ? RT_DECLINE : RT_DEFER;
}

static enum verdict work_from_list(struct route *rt, struct addr *addr, const struct own *own, struct work *w, struct err *err)
{
	const struct rule *rule = NULL;
	enum verdict verdict = rule_choose(rt, addr, own, &rule, err);

	if (verdict != RT_ACCEPT)
		return verdict;
	w->options = rule->options;
	w->transport = rule->transport;
	w->items = rule->items;
	w->text = rule->text;
	w->fixed = rule->fixed;
	if (!rule->hosts || rule->fixed)
		return RT_ACCEPT;
	verdict = hosts_expand(rt, rule->hosts, &w->text, err);
	if (verdict != RT_ACCEPT)
		return verdict;
	return host_items_parse(w->text, rt->a, &w->items, err) == ST_OK ? RT_ACCEPT : RT_DEFER;
}

static enum verdict work_from_data(struct route *rt, const struct own *own, struct work *w, struct err *err)
{
	struct str data, hosts;
	enum status st = route_expand(rt, own->data, &data, err);

	if (st == ST_FAIL || (st == ST_OK && !str_trim(data).len))
		return RT_DECLINE;
	if (st == ST_OK)
		st = manual_data_parse(data, rt->a, &hosts, &w->options, err);
	/* the list is expanded by itself once more */
	if (st == ST_OK && (str_find(hosts, '$') >= 0 || str_find(hosts, '\\') >= 0)) {
		st = expand_text(rt->ev, hosts, &hosts, err);
		if (st == ST_FAIL)
			return RT_DECLINE;
	}
	if (st == ST_OK)
		st = host_items_parse(hosts, rt->a, &w->items, err);
	w->text = hosts;
	if (st == ST_OK && w->options.transport.len) {
		w->transport = site_transport_find(rt->site, w->options.transport);
		if (!w->transport)
			st = err_set(err, ST_ERROR, "\"%.*s\" is neither an option nor a transport", STR_FMT(w->options.transport));
	}
	if (st == ST_OK)
		return RT_ACCEPT;
	err_prefix(err, "route_data");
	return RT_DEFER;
}

static enum verdict work_hosts(struct route *rt, struct addr *addr, const struct site_router *r, const struct work *w, struct driver_out *out,
	struct err *err)
{
	const struct own *own = r->own;
	struct hosts_wish wish = { .find_failed = own->o->host_find_failed.text, .all_ignored = own->o->host_all_ignored.text,
		.dnssec_request = r->dnssec_request, .dnssec_require = r->dnssec_require };
	bool fixed = own->o->same_domain_copy_routing || (w->fixed && str_find(r->o->ignore_target_hosts.text, '$') < 0);
	const struct hosts_memo *memo;
	struct str key;
	enum verdict verdict;

	wish.randomize = (own->o->hosts_randomize || w->options.randomize) && !w->options.no_randomize;
	wish.find_flags = (w->options.bydns ? FIND_DNS_ONLY : 0) | (w->options.ipv4_only ? FIND_IPV4_ONLY : 0) |
		(w->options.ipv4_prefer ? FIND_IPV4_FIRST : 0);
	/* two rules may name the same hosts, to be found in different ways */
	key = str_printf(rt->a, "%x %x %.*s", wish.find_flags, wish.randomize, STR_FMT(w->text));
	memo = fixed ? route_memo_find(rt, r, key) : NULL;
	if (memo) {
		out->hosts = memo->out.hosts;
		out->n_hosts = memo->out.n_hosts;
		*err = memo->err;
		return memo->verdict;
	}
	verdict = route_hosts(rt, addr, r, &w->items, &wish, out, err);
	if (fixed && verdict == RT_ACCEPT)
		route_memo_keep(rt, r, key, verdict, out, err);
	return verdict;
}

static enum verdict manualroute_run(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	const struct own *own = r->own;
	struct work w = { .transport = NULL };
	enum verdict verdict = own->data ? work_from_data(rt, own, &w, err) : work_from_list(rt, addr, own, &w, err);

	/* verified: the pattern's match is enough, unless the hosts will be asked */
	if (verdict != RT_ACCEPT || (route_is_verify(rt) && !rt->wants_plan))
		return verdict;
	if (route_is_verify(rt) && !w.transport && !r->transport_fixed && !r->transport)
		return work_hosts(rt, addr, r, &w, out, err);
	if (!w.transport && route_transport(rt, r, &w.transport, err) != ST_OK)
		return RT_DEFER;
	out->transport = w.transport;
	if (!w.transport->smtp) {
		out->host_text = w.text;
		return RT_ACCEPT;
	}
	if (!w.items.n && (w.transport->hosts || w.transport->smtp->hosts_override))
		return RT_ACCEPT; /* the transport has hosts of its own */
	return work_hosts(rt, addr, r, &w, out, err);
}

const struct router_driver router_manualroute = { &conf_table_router_manualroute, manualroute_compile, manualroute_run, false };

/* SPDX-License-Identifier: ISC */
/* plan_proxies.c - socks_proxy as smtp-out takes it: addresses in place of names, one entry for each of a name's addresses. */
#include "common/conf/proxies.h"
#include "common/dns/find.h"
#include "router/plan_impl.h"

/* A proxy whose name can't be found is as good as one that is down: the others may do. */
static enum status proxy_resolve(struct making *m, const struct conf_proxy *p, struct conf_proxies *out, struct err *err)
{
	const struct find_options options = { .flags = 0 };
	struct find_result found;
	enum status st;

	if (!p->named) {
		out->v[out->n++] = *p;
		return ST_OK;
	}
	st = find_addresses(m->rt->r->dns, m->rt->a, p->host, &options, &found, err);
	if (st != ST_OK)
		return st == ST_FAIL ? err_set(err, ST_DEFER, "proxy %.*s has no address", STR_FMT(p->host)) : err_prefix(err, "proxy %.*s", STR_FMT(p->host));
	for (uint32_t i = 0; i < found.n && out->n < CONF_PROXIES_MAX; i++) {
		out->v[out->n] = *p;
		out->v[out->n].named = false;
		out->v[out->n++].host = found.v[i].ip;
	}
	return ST_OK;
}

enum status plan_proxies(struct making *m, struct str *value, struct err *err)
{
	struct conf_proxies all, out = { .v = NULL };
	struct err why = ERR_INIT;

	if (conf_proxies_parse(*value, m->rt->a, &all, err))
		return err_prefix(err, "socks_proxy");
	out.v = arena_alloc(m->rt->a, CONF_PROXIES_MAX * sizeof *out.v);
	out.ranked = all.ranked;
	for (uint32_t i = 0; i < all.n && out.n < CONF_PROXIES_MAX; i++)
		proxy_resolve(m, &all.v[i], &out, &why);
	if (all.n && !out.n) {
		*err = why;
		return err_prefix(err, "socks_proxy");
	}
	*value = conf_proxies_format(&out, m->rt->a);
	return ST_OK;
}

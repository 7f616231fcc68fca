/* SPDX-License-Identifier: ISC */
/* find.c - from a domain to the hosts that take its mail. */
#include "common/dns/find.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "common/dns/dns_impl.h"

/* A name to be resolved, of an MX or SRV record. */
struct target {
	struct str name;
	uint32_t group, weight, random;
	uint16_t port;
};

struct gather {
	struct dns *dns;
	struct arena *a;
	const struct find_options *options;
	struct find_result *out;
	bool secure;               /* so far */
	bool ignored;              /* an address was left out because of ignore_target_hosts */
	bool mx_ip;                /* an MX named an address */
	enum dns_trouble trouble;  /* of a host */
	uint32_t trouble_group;    /* lowest group that had any */
	struct err trouble_err;
};

static bool ip_parse(struct str text, uint8_t octets[16], int *family)
{
	char room[INET6_ADDRSTRLEN];

	if (!text.len || text.len >= sizeof room)
		return false;
	memcpy(room, text.p, text.len);
	room[text.len] = 0;
	*family = str_find(text, ':') >= 0 ? AF_INET6 : AF_INET;
	return inet_pton(*family, room, octets) == 1;
}

static struct str ip_text(struct arena *a, int family, const uint8_t *octets)
{
	char room[INET6_ADDRSTRLEN];

	inet_ntop(family, octets, room, sizeof room);
	return str_of(arena_strdup(a, room));
}

/* ---- addresses of one name ---- */

static void host_add(struct gather *g, const struct target *t, struct str canonical, struct str ip, bool secure, bool from_file)
{
	const struct find_options *o = g->options;
	struct find_host *h;

	if (g->out->n == FIND_ADDRS_MAX)
		return;
	if (o->ignored && o->ignored(o->ctx, ip, t->name)) {
		g->ignored = true;
		return;
	}
	h = &g->out->v[g->out->n++];
	*h = (struct find_host){ .name = t->name, .canonical = canonical, .ip = ip, .group = t->group, .port = t->port, .secure = secure,
		.from_file = from_file };
	h->local = o->local && o->local(o->ctx, ip, t->name);
}

static void rows_add(struct gather *g, const struct target *t, const struct dns_answer *x)
{
	uint32_t start = x->n > 1 && !(g->options->flags & FIND_KEEP_ORDER) ? arc4random_uniform(x->n) : 0;

	for (uint32_t i = 0; i < x->n; i++)
		host_add(g, t, x->name, x->rows[(start + i) % x->n].data, g->secure && x->secure, false);
}

static bool ipv4_listed(const struct dns *dns, struct str name)
{
	return dns->config.listed && dns->config.listed(dns->config.ctx, DNS_LIST_IPV4, name);
}

/* ST_FAIL: definitely none; ST_DEFER: a question failed and the other gave nothing. */
static enum status dns_addresses(struct gather *g, const struct target *t, struct err *err)
{
	unsigned flags = g->options->flags;
	bool v4_first = flags & FIND_IPV4_FIRST, no_v6 = flags & FIND_IPV4_ONLY || g->dns->config.no_ipv6 || ipv4_listed(g->dns, t->name);
	unsigned order[2] = { v4_first ? DNS_A : DNS_AAAA, v4_first ? DNS_AAAA : DNS_A };
	bool found = false, nothing = true;
	enum status worst = ST_FAIL;

	for (int i = 0; i < 2; i++) {
		struct dns_answer x;
		struct err own = ERR_INIT;
		enum status st;
		if (no_v6 && order[i] == DNS_AAAA)
			continue;
		st = dns_query(g->dns, g->a, t->name, order[i], 0, &x, &own);
		if (st == ST_OK) {
			found = true;
			rows_add(g, t, &x);
			continue;
		}
		if (nothing || st != ST_FAIL)
			*err = own;
		nothing = false;
		if (st != ST_FAIL) {
			worst = st;
			g->out->trouble = x.trouble;
		} else if (x.found == DNS_NXDOMAIN || x.found == DNS_BAD_NAME) {
			if (worst == ST_FAIL)
				g->out->why = x.found == DNS_BAD_NAME ? FIND_BAD_NAME : FIND_NO_DOMAIN;
			break; /* no such name: the other type has nothing either */
		}
	}
	return found ? ST_OK : worst;
}

static bool file_addresses(struct gather *g, const struct target *t)
{
	static const struct str localhost[] = { { "::1", 3, false }, { "127.0.0.1", 9, false } };
	struct str ips[16];
	unsigned n = hosts_file_addresses(g->dns->hosts, t->name, ips, 16);
	bool v4_first = g->options->flags & FIND_IPV4_FIRST, no_v6 = g->options->flags & FIND_IPV4_ONLY || g->dns->config.no_ipv6;

	/* RFC 6761 section 6.3: never asked of a name server */
	if (!n && (str_is(t->name, "localhost") || str_ends(t->name, ".localhost"))) {
		memcpy(ips, localhost, sizeof localhost);
		n = 2;
	}
	for (int pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < n; i++) {
			bool v6 = str_find(ips[i], ':') >= 0;
			if (v6 == (pass == (v4_first ? 1 : 0)) && !(v6 && no_v6))
				host_add(g, t, t->name, ips[i], false, true);
		}
	return n > 0;
}

static void gather_init(struct gather *g, struct dns *dns, struct arena *a, const struct find_options *options, uint32_t room,
	struct find_result *out)
{
	memset(out, 0, sizeof *out);
	out->v = arena_alloc(a, room * sizeof *out->v);
	*g = (struct gather){ .dns = dns, .a = a, .options = options, .out = out, .trouble_group = UINT32_MAX };
}

enum status find_addresses(struct dns *dns, struct arena *a, struct str name, const struct find_options *options, struct find_result *out,
	struct err *err)
{
	struct gather g;
	struct target t = { .name = name };
	uint8_t octets[16];
	int family;
	enum status st;
	struct err own;
	bool is_ip = ip_parse(name, octets, &family);

	gather_init(&g, dns, a, options, is_ip ? 1 : FIND_ADDRS_MAX, out);
	if (!err)
		err = &own;
	if (is_ip) {
		host_add(&g, &t, name, ip_text(a, family, octets), false, true); /* no DNS: nothing that DNSSEC could say */
	} else {
		st = dns_name_normal(a, name, true, &t.name, err);
		if (st != ST_OK) {
			out->why = FIND_BAD_NAME;
			return st;
		}
		g.secure = true;
		if ((options->flags & FIND_DNS_ONLY) || !file_addresses(&g, &t)) {
			st = dns_addresses(&g, &t, err);
			if (st != ST_OK) {
				if (st != ST_FAIL)
					out->why = FIND_TROUBLE;
				else if (!out->why)
					out->why = FIND_NO_HOSTS;
				return st;
			}
		}
	}
	out->name = out->n ? out->v[0].canonical : t.name;
	if (out->n) {
		out->why = FIND_OK;
		out->secure = out->v[0].secure;
		return ST_OK;
	}
	out->why = g.ignored ? FIND_ALL_IGNORED : FIND_NO_HOSTS;
	return err_set(err, ST_FAIL, "%s %.*s", g.ignored ? "all addresses are ignored (ignore_target_hosts):" : "no usable address for", STR_FMT(t.name));
}

/* ---- MX and SRV ---- */

static int target_compare(const void *x, const void *y)
{
	const struct target *p = x, *q = y;

	if (p->group != q->group)
		return p->group < q->group ? -1 : 1;
	return p->random < q->random ? -1 : p->random > q->random;
}

/* The records' targets: each name once, at its best preference; the nameless one ("." ) left out and counted. */
static uint32_t targets_collect(struct gather *g, const struct dns_answer *x, struct target **out, uint32_t *nameless)
{
	struct target *v = arena_alloc(g->a, (x->n + 1) * sizeof *v);
	struct hash seen = HASH_INIT;
	uint32_t n = 0;

	*nameless = 0;
	for (uint32_t i = 0; i < x->n; i++) {
		const struct dns_row *r = &x->rows[i];
		struct target t = { .name = r->data, .group = r->n[0] };
		struct target *before;
		if (!r->data.len) {
			++*nameless;
			continue;
		}
		if (r->type == DNS_SRV) {
			t.weight = r->n[1];
			t.port = (uint16_t)r->n[2];
		}
		before = hash_get(&seen, t.name);
		if (before && before->port == t.port) {
			if (t.group < before->group)
				before->group = t.group;
			continue;
		}
		t.random = g->options->flags & FIND_KEEP_ORDER ? i : arc4random();
		v[n] = t;
		if (!before)
			hash_put(&seen, t.name, &v[n]);
		n++;
	}
	hash_clear(&seen);
	qsort(v, n, sizeof *v, target_compare);
	*out = v;
	return n;
}

/* RFC 2782: within a priority, each next one is drawn with a chance in proportion to its weight. */
static void targets_draw(struct target *v, uint32_t n)
{
	for (uint32_t at = 0; at < n; at++) {
		uint64_t total = 0, pick;
		uint32_t end = at, i;
		while (end < n && v[end].group == v[at].group)
			total += v[end++].weight;
		pick = total ? arc4random_uniform((uint32_t)total + 1) : 0;
		for (i = at; i + 1 < end; i++) {
			if (v[i].weight >= pick && (total == 0 || v[i].weight))
				break;
			pick -= v[i].weight < pick ? v[i].weight : pick;
		}
		struct target chosen = v[i];
		memmove(v + at + 1, v + at, (i - at) * sizeof *v);
		v[at] = chosen;
	}
}

static void groups_dense(struct target *v, uint32_t n)
{
	uint32_t dense = 0, last = n ? v[0].group : 0;

	for (uint32_t i = 0; i < n; i++) {
		dense += v[i].group != last;
		last = v[i].group;
		v[i].group = dense;
	}
}

/* The addresses of each target; those that can't be known now are remembered. */
static void targets_resolve(struct gather *g, const struct target *v, uint32_t n)
{
	for (uint32_t i = 0; i < n && i < FIND_HOSTS_MAX && g->out->n < FIND_ADDRS_MAX; i++) {
		struct err err = ERR_INIT;
		uint8_t octets[16];
		int family;
		enum status st;
		if (ip_parse(v[i].name, octets, &family)) {
			g->mx_ip = true;
			if (g->options->flags & FIND_ALLOW_MX_IP)
				host_add(g, &v[i], v[i].name, ip_text(g->a, family, octets), g->secure, false);
			continue;
		}
		st = dns_addresses(g, &v[i], &err);
		if (st != ST_OK && st != ST_FAIL && v[i].group < g->trouble_group) {
			g->trouble_group = v[i].group;
			g->trouble = g->out->trouble;
			g->trouble_err = err;
		}
	}
}

void find_drop_self(struct find_result *r)
{
	uint32_t keep = 0, group = UINT32_MAX;

	for (uint32_t i = 0; i < r->n; i++)
		if (r->v[i].local && r->v[i].group < group)
			group = r->v[i].group;
	if (group == UINT32_MAX)
		return;
	while (keep < r->n && r->v[keep].group < group)
		keep++;
	if (!keep) {
		r->self = true;
		return;
	}
	r->dropped = true;
	r->n = keep;
}

static enum status no_hosts(struct gather *g, struct str domain, struct err *err)
{
	struct find_result *r = g->out;

	if (g->trouble_group != UINT32_MAX) {
		r->why = FIND_TROUBLE;
		r->trouble = g->trouble;
		if (err)
			*err = g->trouble_err;
		return err ? err->status : ST_DEFER;
	}
	if (g->ignored) {
		r->why = FIND_ALL_IGNORED;
		return err_set(err, ST_FAIL, "all hosts for %.*s are ignored (ignore_target_hosts)", STR_FMT(domain));
	}
	if (g->mx_ip) {
		r->why = FIND_MX_TO_IP;
		return err_set(err, ST_FAIL, "MX of %.*s is an IP address, not a name (allow_mx_to_ip)", STR_FMT(domain));
	}
	r->why = FIND_MX_NO_ADDRESS;
	return err_set(err, ST_FAIL, "no host of %.*s has an address", STR_FMT(domain));
}

static enum status targets_finish(struct gather *g, struct str domain, struct err *err)
{
	struct find_result *r = g->out;
	struct find_host *whole = r->v;
	uint32_t n = r->n;

	if (!n)
		return no_hosts(g, domain, err);
	find_drop_self(r);
	/* a better host than this one may exist, but its address is not known now: not our own mail yet */
	if (r->self && g->trouble_group < whole[0].group) {
		r->self = false;
		r->n = 0;
		return no_hosts(g, domain, err);
	}
	if ((g->options->flags & FIND_SECONDARY) && !r->dropped && !r->self) {
		r->why = FIND_NO_HOSTS;
		return err_set(err, ST_FAIL, "this host is no secondary mail exchanger of %.*s", STR_FMT(domain));
	}
	r->why = FIND_OK;
	return ST_OK;
}

static enum status null_target(struct gather *g, struct str domain, struct err *err)
{
	g->out->why = FIND_NULL_MX;
	return err_set(err, ST_FAIL, "%.*s takes no mail (null MX)", STR_FMT(domain));
}

/* ST_OK with done: hosts, or a definite answer; not done: no such records, go on. */
static enum status records_try(struct gather *g, struct str domain, struct str asked, unsigned type, bool *done, struct err *err)
{
	struct dns_answer x;
	struct target *v;
	uint32_t n, nameless;
	unsigned lenient = type == DNS_MX ? FIND_MX_DEFER_IS_NONE : FIND_SRV_DEFER_IS_NONE;
	enum status st = dns_query(g->dns, g->a, asked, type, 0, &x, err);

	*done = true;
	if (st == ST_FAIL) {
		g->secure = x.secure;
		g->out->secure = x.secure;
		*done = type == DNS_MX && x.found != DNS_NODATA;
		g->out->why = x.found == DNS_BAD_NAME ? FIND_BAD_NAME : FIND_NO_DOMAIN;
		g->out->name = x.name;
		return *done ? st : ST_OK;
	}
	if (st != ST_OK) {
		g->out->why = FIND_TROUBLE;
		g->out->trouble = x.trouble;
		*done = !(g->options->flags & lenient) || st == ST_ERROR;
		return *done ? st : ST_OK;
	}
	g->out->had_mx = true;
	g->out->secure = g->secure = x.secure;
	g->out->name = type == DNS_MX ? x.name : domain;
	n = targets_collect(g, &x, &v, &nameless);
	if (!n)
		return nameless ? null_target(g, domain, err) : no_hosts(g, domain, err);
	groups_dense(v, n);
	if (type == DNS_SRV && !(g->options->flags & FIND_KEEP_ORDER))
		targets_draw(v, n);
	targets_resolve(g, v, n);
	return targets_finish(g, domain, err);
}

static enum status address_try(struct gather *g, struct str domain, struct err *err)
{
	struct target t = { .name = domain };
	enum status st;

	g->out->why = FIND_OK;
	g->out->had_mx = false;
	g->secure = g->secure || g->out->secure;
	st = dns_addresses(g, &t, err);
	if (st == ST_OK) {
		if (g->out->n)
			g->out->name = g->out->v[0].canonical;
		return targets_finish(g, domain, err);
	}
	if (st != ST_FAIL)
		g->out->why = FIND_TROUBLE;
	else if (!g->out->why)
		g->out->why = FIND_NO_HOSTS;
	return st;
}

enum status find_mail_hosts(struct dns *dns, struct arena *a, struct str domain, const struct find_options *options, struct find_result *out,
	struct err *err)
{
	struct gather g;
	struct err own = ERR_INIT;
	enum status st;
	bool done = false;

	if (!err)
		err = &own;
	gather_init(&g, dns, a, options, FIND_ADDRS_MAX, out);
	out->name = domain;
	st = dns_name_normal(a, domain, true, &domain, err);
	if (st != ST_OK) {
		out->why = FIND_BAD_NAME;
		return st;
	}
	if (options->srv.len) {
		struct str asked = str_printf(a, "_%.*s._tcp.%.*s", STR_FMT(options->srv), STR_FMT(domain));
		st = records_try(&g, domain, asked, DNS_SRV, &done, err);
		if (done)
			return st;
	}
	st = records_try(&g, domain, domain, DNS_MX, &done, err);
	if (done)
		return st;
	if (options->flags & FIND_MX_REQUIRED) {
		out->why = FIND_NO_HOSTS;
		return err_set(err, ST_FAIL, "%.*s has no MX record", STR_FMT(domain));
	}
	return address_try(&g, domain, err);
}

/* ---- names of an address ---- */

static bool names_have(const struct find_names *out, struct str name)
{
	for (uint32_t i = 0; i < out->n; i++)
		if (str_eq(out->v[i], name))
			return true;
	return false;
}

static enum status names_by_file(struct dns *dns, struct str ip, struct find_names *out, struct err *err)
{
	struct str name = hosts_file_name(dns->hosts, ip);

	if (!name.len)
		return err_set(err, ST_FAIL, "the hosts file has no name for %.*s", STR_FMT(ip));
	out->v[out->n++] = name;
	return ST_OK;
}

static enum status names_by_dns(struct dns *dns, struct arena *a, struct str ip, struct find_names *out, struct err *err)
{
	static const struct find_options plain = { .flags = FIND_KEEP_ORDER };
	struct dns_answer x;
	enum status deferred = ST_OK, st = dns_query(dns, a, dns_name_reverse(a, ip), DNS_PTR, 0, &x, err);

	if (st != ST_OK)
		return st;
	out->secure = x.secure;
	for (uint32_t i = 0; i < x.n && i < FIND_ALIASES_MAX; i++) {
		struct find_result r;
		if (!x.rows[i].data.len || names_have(out, x.rows[i].data))
			continue;
		st = find_addresses(dns, a, x.rows[i].data, &plain, &r, err);
		if (st == ST_DEFER || st == ST_ERROR)
			deferred = st;
		for (uint32_t k = 0; st == ST_OK && k < r.n; k++)
			if (str_eq(r.v[k].ip, ip)) {
				out->secure = out->secure && r.v[k].secure;
				out->v[out->n++] = x.rows[i].data;
				break;
			}
	}
	if (out->n)
		return ST_OK;
	if (deferred != ST_OK)
		return deferred;
	out->unverified = true;
	return err_set(err, ST_FAIL, "no name of %.*s leads back to it", STR_FMT(ip));
}

enum status find_names(struct dns *dns, struct arena *a, struct str ip, struct find_order order, struct find_names *out, struct err *err)
{
	struct err own = ERR_INIT;
	uint8_t octets[16];
	int family;
	enum status st = ST_FAIL;

	memset(out, 0, sizeof *out);
	if (!err)
		err = &own;
	if (!ip_parse(ip, octets, &family))
		return err_set(err, ST_FAIL, "no IP address");
	ip = ip_text(a, family, octets);
	for (size_t i = 0; st == ST_FAIL && i < sizeof order.way && order.way[i]; i++)
		st = order.way[i] == FIND_BY_FILE ? names_by_file(dns, ip, out, err) : names_by_dns(dns, a, ip, out, err);
	return st;
}

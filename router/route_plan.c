/* SPDX-License-Identifier: ISC */
/* route_plan.c - how an accepted address is delivered: transport, its options expanded, hosts, identity. */
#include <string.h>

#include "router/plan_impl.h"
#include "router/route_command.h"
#include "router/route_reply.h"

enum status route_transport(struct route *rt, const struct site_router *r, const struct site_transport **out, struct err *err)
{
	struct str name;
	enum status st;

	*out = r->transport_fixed;
	if (*out)
		return ST_OK;
	if (!r->transport)
		return err_set(err, ST_ERROR, "it accepts addresses, but has no transport");
	st = route_expand(rt, r->transport, &name, err);
	if (st != ST_OK) {
		err_prefix(err, "transport");
		return st == ST_FAIL ? err_set(err, ST_ERROR, "transport: forced failure") : st;
	}
	name = str_trim(name);
	if (name.tainted)
		return err_set(err, ST_ERROR, "transport: the name \"%.*s\" is tainted (it comes from a stranger)", STR_FMT(name));
	*out = site_transport_find(rt->site, name);
	return *out ? ST_OK : err_set(err, ST_ERROR, "transport: there is no transport \"%.*s\"", STR_FMT(name));
}

bool plan_is_local(const struct site_transport *t)
{
	return !t->smtp && !t->lmtp && t->conf->driver->table != &conf_table_transport_queuefile;
}

/* An expansion that may be missing, or be forced to fail: then *out stays as it is and *got is false. */
enum status plan_expand(struct making *m, const struct expansion *x, const char *name, struct str *out, bool *got, struct err *err)
{
	struct str value;
	enum status st;

	*got = false;
	if (!x)
		return ST_OK;
	st = route_expand(m->rt, x, &value, err);
	if (st == ST_FAIL)
		return ST_OK;
	if (st != ST_OK)
		return err_prefix(err, "%s", name);
	*out = value;
	*got = true;
	return ST_OK;
}

/* ---- hosts ---- */

static enum status own_hosts_items(struct making *m, struct host_items *items, struct err *err)
{
	struct str text = STR_NULL;
	bool got;
	enum status st;

	*items = m->t->hosts_fixed;
	if (m->t->has_hosts_fixed)
		return ST_OK;
	st = plan_expand(m, m->t->hosts, "hosts", &text, &got, err);
	if (st != ST_OK || !got)
		return st;
	return host_items_parse(text, m->rt->a, items, err);
}

static enum status hosts_find(struct making *m, const struct host_items *items, bool randomize, struct driver_out *out, struct err *err)
{
	const struct hosts_wish wish = { .randomize = randomize, .find_failed = STR_LIT("defer"), .all_ignored = STR_LIT("defer"), .never_self = true,
		.dnssec_request = m->t->dnssec_request, .dnssec_require = m->t->dnssec_require };

	if (route_hosts(m->rt, m->addr, m->r, items, &wish, out, err) != RT_ACCEPT)
		return err_prefix(err, "hosts");
	for (uint32_t i = 0; !m->t->smtp->allow_localhost && i < out->n_hosts; i++)
		if (router_host_is_local(m->rt->r, out->hosts[i].ip, out->hosts[i].name))
			return err_set(err, ST_DEFER, "hosts: %.*s [%.*s] is this host, and allow_localhost is not set", STR_FMT(out->hosts[i].name),
				STR_FMT(out->hosts[i].ip));
	return ST_OK;
}

/* Fallback hosts stand behind all others: they are tried when those gave temporary failures. */
static enum status fallback_add(struct making *m, struct driver_out *hosts, struct err *err)
{
	const struct host_items *items = m->r->fallback.n ? &m->r->fallback : &m->t->fallback;
	struct driver_out more = { .transport = NULL };
	struct ipc_host *v;
	uint32_t n;

	if (!items->n || !hosts->n_hosts)
		return ST_OK;
	if (hosts_find(m, items, false, &more, err) != ST_OK) {
		err_clear(err); /* the first ones may do without */
		return ST_OK;
	}
	n = more.n_hosts < ROUTE_HOSTS_MAX - hosts->n_hosts ? more.n_hosts : ROUTE_HOSTS_MAX - hosts->n_hosts;
	v = arena_alloc(m->rt->a, (hosts->n_hosts + n) * sizeof *v);
	memcpy(v, hosts->hosts, hosts->n_hosts * sizeof *v);
	for (uint32_t i = 0; i < n; i++) {
		v[hosts->n_hosts] = more.hosts[i];
		v[hosts->n_hosts++].group += HOST_GROUP_FALLBACK;
	}
	hosts->hosts = v;
	return ST_OK;
}

static enum status port_find(struct making *m, uint16_t *out, struct err *err)
{
	struct str text;
	enum status st;

	*out = m->t->port_fixed;
	if (*out)
		return ST_OK;
	st = route_expand(m->rt, m->t->port, &text, err);
	if (st != ST_OK)
		return st == ST_FAIL ? err_set(err, ST_ERROR, "port: forced failure") : err_prefix(err, "port");
	*out = port_parse(text);
	return *out ? ST_OK : err_set(err, ST_ERROR, "port: \"%.*s\" is neither a number nor a known service", STR_FMT(text));
}

static enum status make_hosts(struct making *m, const struct driver_out *found, struct err *err)
{
	const struct site_transport *t = m->t;
	struct driver_out hosts = { .hosts = found->hosts, .n_hosts = found->n_hosts };
	struct host_items items = { NULL, 0 };
	uint16_t port;
	enum status st;

	if (!t->smtp)
		return ST_OK;
	if (t->hosts && (!hosts.n_hosts || t->smtp->hosts_override)) {
		hosts.n_hosts = 0;
		st = own_hosts_items(m, &items, err);
		if (st == ST_OK)
			st = hosts_find(m, &items, t->smtp->hosts_randomize, &hosts, err);
		if (st != ST_OK)
			return st == ST_FAIL ? err_set(err, ST_DEFER, "%s", "no host can be found") : st;
	}
	if (!hosts.n_hosts)
		return err_set(err, ST_ERROR, "neither the router nor the transport names a host");
	if (fallback_add(m, &hosts, err) != ST_OK || port_find(m, &port, err) != ST_OK)
		return err->status;
	m->plan.hosts = hosts.hosts;
	m->plan.n_hosts = hosts.n_hosts;
	for (uint32_t i = 0; i < hosts.n_hosts; i++)
		if (!hosts.hosts[i].port) {
			/* the hosts may be shared with other transports of this question */
			struct ipc_host *v = arena_memdup(m->rt->a, hosts.hosts, hosts.n_hosts * sizeof *v);
			for (uint32_t k = 0; k < hosts.n_hosts; k++)
				if (!v[k].port)
					v[k].port = port;
			m->plan.hosts = v;
			break;
		}
	return ST_OK;
}

/* ---- options ---- */

/* What is expanded from now on is about this host. */
static void plan_host_set(struct making *m, uint32_t i)
{
	const struct ipc_host *h = &m->plan.hosts[i];

	eval_set(m->rt->ev, EV_host, h->name);
	eval_set(m->rt->ev, EV_host_address, h->ip);
	eval_set(m->rt->ev, EV_host_port, str_printf(m->rt->a, "%u", (unsigned)h->port));
	eval_set(m->rt->ev, EV_tls_out_tlsa_usage, plan_tlsa_usage(h));
}

/* A host list is decided here for each host of the plan: "*", nothing, or the addresses it holds for. */
static enum status host_list_value(struct making *m, const struct site_option *o, struct str *out, struct err *err)
{
	struct buf b = BUF_INIT;
	uint32_t n = 0;

	buf_adds(&b, "<;");
	for (uint32_t i = 0; i < m->plan.n_hosts; i++) {
		const struct ipc_host *h = &m->plan.hosts[i];
		const struct list_subject subject = { .text = h->ip, .host_name = h->name, .no_client = true };
		enum status st;

		plan_host_set(m, i);
		st = lang_list_match(m->rt->ev, o->hosts, &subject, NULL, err);
		if (st == ST_DEFER || st == ST_ERROR) {
			buf_clear(&b);
			return err_prefix(err, "%s", o->row->name);
		}
		if (st == ST_OK) {
			n++;
			buf_printf(&b, " %.*s ;", STR_FMT(h->ip));
		}
	}
	if (m->plan.n_hosts)
		plan_host_set(m, 0);
	*out = n == m->plan.n_hosts ? (n ? STR_LIT("*") : STR_NULL) : n ? str_dup(m->rt->a, buf_str(&b)) : STR_NULL;
	buf_clear(&b);
	err_clear(err);
	return ST_OK;
}

static bool has_dots(struct str path)
{
	struct str part;

	while (str_split(&path, '/', &part))
		if (str_is(part, ".."))
			return true;
	return false;
}

/* create_file = belowhome, or a path: what lies below that is no stranger's choice any more. */
static bool is_confined(const struct making *m, struct str value)
{
	struct str top = m->t->appendfile ? str_trim(m->t->appendfile->create_file.text) : STR_NULL;

	if (str_is(top, "belowhome"))
		top = m->plan.home;
	else if (!top.len || top.p[0] != '/')
		return false;
	while (top.len > 1 && top.p[top.len - 1] == '/')
		top.len--;
	return top.len > 1 && !top.tainted && value.len > top.len + 1 && !memcmp(value.p, top.p, top.len) && value.p[top.len] == '/' && !has_dots(value);
}

static enum status path_check(const struct making *m, const struct site_option *o, struct str value, struct err *err)
{
	if (value.tainted && !is_confined(m, value))
		return err_set(err, ST_ERROR, "%s: the path \"%.*s\" is tainted, since it holds text from a stranger; use $local_part_data or "
			"$domain_data, which the options local_parts, domains and check_local_user set", o->row->name, STR_FMT(value));
	if (!value.len || value.p[0] != '/' || memchr(value.p, 0, value.len))
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is no absolute path", o->row->name, STR_FMT(value));
	return ST_OK;
}

/* The hosts may be shared with other transports of this question; now they get options of their own. */
static void hosts_own(struct making *m)
{
	struct ipc_host *v;

	if (m->hosts_owned)
		return;
	m->hosts_owned = true;
	v = arena_memdup(m->rt->a, m->plan.hosts, m->plan.n_hosts * sizeof *v);
	for (uint32_t i = 0; i < m->plan.n_hosts; i++)
		v[i].options = arena_alloc(m->rt->a, m->t->n_options * sizeof *v[i].options);
	m->plan.hosts = v;
}

static enum status file_check(const struct site_option *o, struct str value, struct err *err)
{
	if (value.tainted)
		return err_set(err, ST_ERROR, "%s: the file \"%.*s\" is tainted, since its name holds text from a stranger", o->row->name, STR_FMT(value));
	if (value.len && value.p[0] != '/' && !str_is(value, "system"))
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is no absolute path", o->row->name, STR_FMT(value));
	return ST_OK;
}

/* What the agent can't do by itself is done to the value here. */
static enum status value_take(struct making *m, const struct site_option *o, struct str *value, bool *got, struct err *err)
{
	enum status st = ST_OK;

	*got = true;
	*value = o->constant;
	if (o->x)
		st = plan_expand(m, o->x, o->row->name, value, got, err);
	if (st == ST_OK && *got && (o->row->flags & F_KEYD))
		st = file_check(o, *value, err);
	if (st == ST_OK && *got && !strcmp(o->row->name, "socks_proxy"))
		st = plan_proxies(m, value, err);
	return st;
}

/* One value where it is the same for all hosts; else *got is false, and each host has its own. */
static enum status hosts_value(struct making *m, const struct site_option *o, struct str *value, bool *got, struct err *err)
{
	uint32_t n = m->plan.n_hosts;
	struct str *v = arena_alloc(m->rt->a, n * sizeof *v);
	bool same = true;
	enum status st = ST_OK;

	for (uint32_t i = 0; !st && i < n; i++) {
		bool has;

		plan_host_set(m, i);
		st = value_take(m, o, &v[i], &has, err);
		same = same && !v[i].p == !v[0].p && str_eq(v[i], v[0]);
	}
	plan_host_set(m, 0);
	*got = !st && same && v[0].p;
	*value = v[0];
	if (st || same)
		return st;
	hosts_own(m);
	for (uint32_t i = 0; i < n; i++)
		if (v[i].p)
			m->plan.hosts[i].options[m->plan.hosts[i].n_options++] = (struct ipc_pair){ .name = o->name, .value = v[i] };
	return ST_OK;
}

static enum status option_value(struct making *m, const struct site_option *o, struct str *value, bool *got, struct err *err)
{
	if (o->hosts) {
		enum status st = host_list_value(m, o, value, err);
		*got = value->len > 0 || o->row->fallback; /* else the agent would take the default */
		return st;
	}
	if (o->x && (o->row->flags & F_PER_HOST) && m->plan.n_hosts)
		return hosts_value(m, o, value, got, err);
	return value_take(m, o, value, got, err);
}

static enum status make_options(struct making *m, struct err *err)
{
	const struct site_transport *t = m->t;
	struct ipc_pair *v = arena_alloc(m->rt->a, (t->n_options + 2 + REPLY_OPTIONS_MAX) * sizeof *v);
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n_options; i++) {
		const struct site_option *o = &t->options[i];
		struct str value;
		bool got;
		enum status st = option_value(m, o, &value, &got, err);
		if (st == ST_OK && got && (o->row->flags & F_PATH)) {
			st = path_check(m, o, value, err);
			if (!m->store.p)
				m->store = value;
		}
		if (st != ST_OK)
			return st;
		if (!got)
			continue;
		if (o->row->flags & F_REUSE)
			plan_identity_add(m, o->name, value);
		v[n++] = (struct ipc_pair){ .name = o->name, .value = value };
	}
	m->plan.options = v;
	m->plan.n_options = n;
	return ST_OK;
}

/* A redirection to a path: the transport writes where that says. */
static enum status make_redirected_path(struct making *m, struct err *err)
{
	static const struct conf_option row = { .name = "file" };
	const struct site_option o = { .row = &row };
	struct addr *addr = m->addr;
	enum status st;

	if ((addr->kind != KIND_FILE && addr->kind != KIND_DIRECTORY) || m->store.p)
		return ST_OK;
	st = path_check(m, &o, addr->text, err);
	if (st != ST_OK)
		return st;
	m->store = addr->text;
	m->plan.options[m->plan.n_options++] = (struct ipc_pair){ .name = addr->kind == KIND_FILE ? STR_LIT("file") : STR_LIT("directory"),
		.value = addr->kind == KIND_FILE ? addr->text : str_sub(addr->text, 0, addr->text.len - 1) };
	return ST_OK;
}

/* What the queue manager goes by. */
static enum status make_manners(struct making *m, struct err *err)
{
	const struct conf_opts_transport *o = m->t->o;
	int64_t most = 0;
	enum status st;

	m->plan.no_log = o->disable_logging;
	m->plan.affixes = o->rcpt_include_affixes;
	if (m->t->smtp) {
		bool with_ip = true;

		m->plan.retry_any_sender = !m->t->smtp->address_retry_include_sender;
		m->plan.cutoff_tries = !m->t->smtp->delay_after_cutoff;
		if (m->t->retry_ip) {
			st = expand_bool(m->rt->ev, m->t->retry_ip, &with_ip, err);
			if (st != ST_OK && st != ST_FAIL)
				return err_prefix(err, "retry_include_ip_address");
		}
		m->plan.retry_by_name = !with_ip;
	}
	if (!m->t->max_parallel)
		return ST_OK;
	st = expand_int(m->rt->ev, m->t->max_parallel, &most, err);
	if (st != ST_OK)
		return st == ST_FAIL ? (err_clear(err), ST_OK) : err_prefix(err, "max_parallel");
	m->plan.max_parallel = most > 0 ? (uint64_t)most : 0;
	return ST_OK;
}

static void make_limits(struct making *m)
{
	const struct site_transport *t = m->t;

	if (t->smtp)
		m->plan.max_rcpt = (uint64_t)t->smtp->max_rcpt;
	else if (t->lmtp)
		m->plan.max_rcpt = (uint64_t)t->lmtp->batch_max;
	else if (t->pipe)
		m->plan.max_rcpt = (uint64_t)t->pipe->batch_max;
	else
		m->plan.max_rcpt = t->appendfile ? (uint64_t)t->appendfile->batch_max : t->autoreply ? 1 : 0;
}

/* ---- all of it ---- */

static enum status plan_fill(struct making *m, const struct driver_out *out, struct err *err)
{
	struct eval *ev = m->rt->ev;
	enum status st;

	m->plan.transport = m->t->conf->name;
	m->plan.driver = str_of(m->t->conf->driver->name);
	m->plan.router = m->r->conf->name;
	eval_set(ev, EV_transport_name, m->plan.transport);
	buf_add_str(&m->identity, m->plan.transport);
	st = make_hosts(m, out, err);
	if (st == ST_OK)
		st = plan_tlsa(m, err);
	if (st != ST_OK)
		return st;
	if (m->plan.n_hosts) {
		plan_host_set(m, 0);
	} else {
		eval_set(ev, EV_host, out->host_text);
	}
	make_limits(m);
	st = plan_home(m, err);
	if (st == ST_OK)
		st = plan_directory(m, err);
	if (st == ST_OK)
		st = make_manners(m, err);
	if (st == ST_OK)
		st = plan_size_check(m, err);
	if (st == ST_OK)
		st = make_options(m, err);
	if (st == ST_OK)
		st = make_redirected_path(m, err);
	if (st == ST_OK && m->t->pipe)
		st = route_command(m->rt, m->addr, m->t, out->host_text, &m->plan, err);
	if (st == ST_OK && m->t->autoreply)
		st = route_reply(m->rt, m->t, &m->plan, err);
	if (st == ST_OK)
		st = plan_login(m, err);
	if (st == ST_OK)
		st = plan_fields_added(m, err);
	if (st == ST_OK)
		st = plan_fields_removed(m, err);
	if (st == ST_OK)
		st = plan_rewrites(m, err);
	if (st == ST_OK)
		st = plan_return_path(m, err);
	if (st == ST_OK)
		st = route_auth(m->rt, m->t, &m->plan, &m->identity, err);
	return st == ST_OK ? plan_identity(m, err) : st;
}

static bool is_memorable(const struct addr *addr, const struct site_router *r, const struct site_transport *t)
{
	return t->constant && r->plain && addr->kind == KIND_ADDRESS && !addr->n_add && !addr->n_remove && !addr->has_errors_to;
}

enum status plan_shadow(struct route *rt, struct addr *addr, const struct site_router *r, const struct site_transport *t, const struct driver_out *out,
	struct ipc_plan *plan_out, struct err *err)
{
	struct making m = { .rt = rt, .addr = addr, .r = r, .t = t };
	enum status st;

	if (t->pending)
		return err_set(err, ST_DEFER, "option \"%s\" is not served in this build", t->pending->name);
	st = plan_fill(&m, out, err);
	buf_clear(&m.identity);
	*plan_out = m.plan;
	return st;
}

enum status plan_make(struct route *rt, struct addr *addr, const struct site_router *r, const struct site_transport *t,
	const struct driver_out *out, uint32_t *plan_out, struct err *err)
{
	struct making m = { .rt = rt, .addr = addr, .r = r, .t = t };
	bool memorable = is_memorable(addr, r, t);
	enum status st;

	if (t->pending)
		return err_set(err, ST_DEFER, "transport %.*s: option \"%s\" is not served in this build", STR_FMT(t->conf->name), t->pending->name);
	for (unsigned i = 0; memorable && i < rt->n_plan_memo; i++) {
		const struct plan_memo *memo = &rt->plan_memo[i];
		if (memo->router == r && memo->transport == t && memo->hosts == out->hosts) {
			*plan_out = memo->plan;
			return ST_OK;
		}
	}
	if (t->reads_message && rt->ev->message_fd < 0 && rt->facts->message_id.len && rt->mode == MODE_DELIVER) {
		rt->no_content = true;
		return err_set(err, ST_DEFER, "the message is needed");
	}
	st = plan_fill(&m, out, err);
	if (st == ST_OK && t->shadow && rt->mode == MODE_DELIVER)
		route_shadow(rt, addr, r, t, out, &m.plan);
	if (m.identity.p) /* passwords are in it */
		explicit_bzero(m.identity.p, m.identity.cap);
	buf_clear(&m.identity);
	if (st == ST_OK)
		st = plan_keep(rt, &m.plan, plan_out, err);
	if (st == ST_OK && memorable && rt->n_plan_memo < ROUTE_MEMOS_MAX)
		rt->plan_memo[rt->n_plan_memo++] = (struct plan_memo){ r, t, out->hosts, *plan_out };
	return st == ST_OK || st == ST_FAIL ? st : err_prefix(err, "transport %.*s", STR_FMT(t->conf->name));
}

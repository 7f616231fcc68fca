/* SPDX-License-Identifier: ISC */
/* router_ask.c - the questions that are answered without a word to the pool: routing, verification, expansion, names, hosts, hints. */
#include <string.h>

#include "common/base/clock.h"
#include "common/conf/hints_url.h"
#include "common/mail/address.h"
#include "router/callout.h"
#include "router/hints.h"
#include "router/route.h"

enum { EXPN_TEXT_MAX = 4000, ADDRESS_OCTETS_MAX = 1000 };
enum { HINTS_RETRY_MS = 10000, HINTS_EXPIRE_MS = 60000, HINTS_EXPIRE_WRITES = HINTS_EXPIRE_BATCH / 4 };

/* A question's room: the evaluation's context and the way through. */
static void question_begin(struct route *rt, struct eval *ev, struct router *r, struct arena *a, const struct ipc_facts *facts, int message_fd)
{
	*rt = (struct route){ .r = r, .site = r->site, .a = a, .ev = ev, .facts = facts, .verdict = ST_DEFER };
	rt->queue_end = &rt->queue;
	eval_init(ev, r->lang, a);
	eval_facts(ev, facts);
	ev->message_fd = message_fd;
	ev->body_offset = facts->body_offset;
	r->program_until_ms = clock_ms() + ROUTER_PROGRAM_MS;
	rt->dns_begun = dns_deadline_begin(r->dns, clock_ms() + ROUTER_DNS_MS);
}

static void question_end(struct route *rt)
{
	eval_clear(rt->ev);
	hash_clear(&rt->plan_by_octets);
	hash_clear(&rt->leaf_by_key);
	dns_deadline_end(rt->r->dns, rt->dns_begun);
}

void router_route(struct router *r, struct arena *a, const struct ipc_route_ask *ask, int message_fd, route_send_fn *send, void *arg)
{
	static const struct ipc_facts nothing;
	struct route *rt = arena_alloc(a, sizeof *rt);
	struct eval ev;

	question_begin(rt, &ev, r, a, ask->facts ? ask->facts : &nothing, message_fd);
	rt->mode = ask->verify ? ask->verify_sender ? MODE_VERIFY_SENDER : MODE_VERIFY_RECIPIENT : ask->testing ? MODE_TEST : MODE_DELIVER;
	rt->trace_on = ask->trace;
	rt->arrival = ask->arrival;
	rt->forced = ask->forced;
	rt->rewrites = ask->testing || ask->verify;
	ev.first_delivery = ask->first;
	ev.message_age_s = (int64_t)ask->age_s;
	for (uint32_t i = 0; i < ask->n_recipients && !rt->no_content; i++) {
		rt->verify_leaf = NULL;
		route_recipient(rt, i, &ask->recipients[i]);
		route_run(rt);
		if (route_is_verify(rt)) {
			rt->queue = NULL;
			rt->queue_end = &rt->queue;
			if (rt->verify_leaf && rt->verify_leaf->outcome == ROUTE_DELIVER)
				rt->verify_leaf->plan = 0;
		}
	}
	plans_finish(rt);
	if (rt->no_content) {
		const struct ipc_route_answer again = { .need_content = true };
		send(arg, &again);
	} else {
		if (route_is_verify(rt) && rt->n_leaves && !rt->n_plans) {
			static const struct ipc_plan none;
			rt->plans = arena_memdup(a, &none, sizeof none);
			rt->plan_octets = arena_alloc(a, sizeof *rt->plan_octets);
			rt->n_plans = 1;
		}
		leaves_send(rt, send, arg);
	}
	question_end(rt);
}

/* Who is named in MAIL of a callout. */
static struct str callout_sender(const struct router *r, struct arena *a, const struct ipc_verify_ask *ask, const struct verify_options *o)
{
	if (ask->sender)
		return o->mailfrom;
	if (o->use_postmaster)
		return str_printf(a, "postmaster@%.*s", STR_FMT(lang_qualify_domain(r->lang)));
	return o->use_sender && ask->facts ? ask->facts->sender : STR_NULL;
}

/* One level: the addresses that the first redirection makes, or the address itself where it is accepted. */
static void router_expn(struct router *r, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out)
{
	static const struct ipc_facts nothing;
	struct ipc_recipient rcpt = { .addr = ask->addr };
	struct route *rt = arena_alloc(a, sizeof *rt);
	struct buf b = BUF_LIMIT(EXPN_TEXT_MAX);
	struct eval ev;

	question_begin(rt, &ev, r, a, ask->facts ? ask->facts : &nothing, -1);
	rt->mode = MODE_EXPN;
	route_recipient(rt, 0, &rcpt);
	route_run(rt);
	out->status = ST_OK;
	for (const struct addr *p = rt->queue; p && b.len < EXPN_TEXT_MAX - ADDRESS_OCTETS_MAX; p = p->next)
		buf_printf(&b, "%s<%.*s>", b.len ? "\n" : "", STR_FMT(str_sub(p->text, 0, ADDRESS_OCTETS_MAX - 4)));
	for (uint32_t i = 0; i < rt->n_leaves && !b.len; i++) {
		const struct ipc_leaf *l = &rt->leaves[i];
		out->router = l->router;
		out->text = out->log_text = l->text;
		out->status = l->outcome == ROUTE_FAIL ? ST_FAIL : l->outcome == ROUTE_DEFER ? ST_DEFER : ST_OK;
		if (out->status == ST_OK)
			buf_printf(&b, l->outcome == ROUTE_DISCARD ? "mail to <%.*s> is discarded" : "<%.*s>", STR_FMT(str_sub(l->addr, 0, ADDRESS_OCTETS_MAX - 4)));
	}
	if (b.len)
		out->text = str_dup(a, buf_str(&b));
	buf_clear(&b);
	question_end(rt);
}

void router_verify(struct router *r, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out)
{
	static const struct ipc_facts nothing;
	struct ipc_facts facts = ask->facts ? *ask->facts : nothing;
	struct ipc_recipient rcpt = { .addr = ask->addr };
	struct route *rt = arena_alloc(a, sizeof *rt);
	struct verify_options options;
	const struct ipc_leaf *l;
	struct err err = ERR_INIT;
	struct eval ev;

	memset(out, 0, sizeof *out);
	if (ask->expn) {
		router_expn(r, a, ask, out);
		return;
	}
	if (verify_options_parse(ask->options, ask->header ? VERIFY_HEADER : ask->sender ? VERIFY_SENDER : VERIFY_RECIPIENT, &options, &err) != ST_OK) {
		out->status = ST_ERROR;
		out->text = out->log_text = str_of(arena_strdup(a, err.text));
		return;
	}
	if (ask->sender) { /* the sender is what is being found out */
		facts.sender = STR_NULL;
		facts.has_sender = false;
	}
	question_begin(rt, &ev, r, a, &facts, -1);
	rt->mode = ask->sender ? MODE_VERIFY_SENDER : MODE_VERIFY_RECIPIENT;
	rt->success_on_redirect = options.success_on_redirect;
	rt->wants_plan = options.callout;
	route_recipient(rt, 0, &rcpt);
	route_run(rt);
	l = rt->verify_leaf;
	out->status = rt->verdict;
	if (out->status != ST_OK)
		out->failure = STR_LIT("route");
	if (l) {
		out->log_text = l->text;
		if (rt->verdict != ST_DEFER || rt->told) /* what is wrong with a router or its data is no client's business */
			out->text = l->text;
		out->router = l->router;
		out->code = l->status;
		out->addr = l->addr;
	}
	if (rt->verified && rt->verdict == ST_OK) {
		out->address_data = str_sub(rt->verified->address_data, 0, 8192);
		out->domain_data = str_sub(rt->verified->domain_data, 0, 4096);
		out->local_part_data = str_sub(rt->verified->local_part_data, 0, 4096);
	}
	if (rt->verdict == ST_OK && rt->callout_plan && l) {
		const struct callout c = { .r = r, .a = a, .ev = &ev, .options = &options, .plan = rt->callout_plan, .addr = l->addr,
			.mail_from = callout_sender(r, a, ask, &options), .client_ip = facts.client_ip, .sender = ask->sender, .utf8 = facts.smtputf8,
			.requiretls = facts.flags & MSG_REQUIRETLS };

		callout_verify(&c, out);
	}
	question_end(rt);
}

static const char *const slot_names[EVAL_SLOTS] = {
#define SLOT(name, what) #name,
#include "common/lang/slots.def"
#undef SLOT
};

/* A slot, or one of the families acl_c..., acl_m... and r_... */
static void variable_set(struct eval *ev, const struct ipc_pair *v)
{
	struct str value = v->value;
	struct err err = ERR_INIT;

	value.tainted = v->tainted;
	for (int slot = 0; slot < EVAL_SLOTS; slot++)
		if (str_is(v->name, slot_names[slot])) {
			eval_set(ev, (enum eval_slot)slot, value);
			return;
		}
	if (str_begins(v->name, "acl_c"))
		eval_var_set(ev, &ev->acl_c, str_from(v->name, 4), value, &err);
	else if (str_begins(v->name, "acl_m"))
		eval_var_set(ev, &ev->acl_m, str_from(v->name, 4), value, &err);
	else if (str_begins(v->name, "r_"))
		eval_var_set(ev, &ev->r, str_from(v->name, 2), value, &err);
}

void router_expand(struct router *r, struct arena *a, const struct ipc_expand_ask *ask, int message_fd, struct ipc_expand_answer *out)
{
	static const struct ipc_facts nothing;
	struct eval ev;
	struct err err = ERR_INIT;
	struct str text = ask->text;
	enum status st;

	memset(out, 0, sizeof *out);
	eval_init(&ev, r->lang, a);
	eval_facts(&ev, ask->facts ? ask->facts : &nothing);
	ev.message_fd = message_fd;
	r->program_until_ms = clock_ms() + ROUTER_PROGRAM_MS;
	if (ask->facts && ask->facts->recipient.len)
		eval_set_address(&ev, ask->facts->recipient);
	for (uint32_t i = 0; i < ask->n_variables; i++)
		variable_set(&ev, &ask->variables[i]);
	text.tainted = false; /* the administrator's own words, come through a channel */
	st = expand_text(&ev, text, &text, &err);
	out->status = st;
	out->text = st == ST_OK ? text : str_of(arena_strdup(a, err.text));
	if (out->text.len > 100000) {
		out->status = ST_ERROR;
		out->text = STR_LIT("the result is longer than 100000 octets");
	}
	eval_clear(&ev);
}

void router_name(struct router *r, struct arena *a, struct str ip, struct ipc_name_answer *out)
{
	struct find_names names;
	struct err err = ERR_INIT;
	enum status st;
	bool begun = dns_deadline_begin(r->dns, clock_ms() + ROUTER_DNS_MS);

	memset(out, 0, sizeof *out);
	st = find_names(r->dns, a, ip, r->name_order, &names, &err);
	dns_deadline_end(r->dns, begun);
	out->status = st;
	if (st != ST_OK) {
		out->text = str_of(arena_strdup(a, err.text));
		return;
	}
	out->name = names.v[0];
	out->dnssec = names.secure;
	if (names.n > 1) {
		out->aliases.n = names.n - 1;
		out->aliases.v = arena_memdup(a, names.v + 1, (names.n - 1) * sizeof *names.v);
	}
}

void router_host(struct router *r, struct arena *a, struct str name, struct str type, struct ipc_host_answer *out)
{
	const struct find_options options = { .flags = FIND_KEEP_ORDER };
	struct find_result found;
	struct err err = ERR_INIT;
	enum status st;
	bool begun = dns_deadline_begin(r->dns, clock_ms() + ROUTER_DNS_MS);

	memset(out, 0, sizeof *out);
	st = str_isi(type, "MX") ? find_mail_hosts(r->dns, a, name, &options, &found, &err) : find_addresses(r->dns, a, name, &options, &found, &err);
	dns_deadline_end(r->dns, begun);
	out->status = st;
	if (st != ST_OK) {
		out->text = str_of(arena_strdup(a, err.text));
		return;
	}
	out->dnssec = found.secure;
	out->n_hosts = found.n;
	out->hosts = arena_alloc(a, (found.n + 1) * sizeof *out->hosts);
	for (uint32_t i = 0; i < found.n; i++)
		out->hosts[i] = (struct ipc_host){ .name = found.v[i].name, .ip = found.v[i].ip, .group = found.v[i].group, .secure = found.v[i].secure,
			.mx = found.had_mx };
}

bool router_hint_permitted(struct str space, const char *peer)
{
	/* Whose are not named here are anybody's. */
	static const struct { const char *space, *owner; } owned[] = {
		{ "callout", "router" }, { "retry", "qmgr" }, { "ratelimit", "policyd" }, { "seen", "policyd" },
		{ "tls", "smtp-out" }, { "ehlo", "smtp-out" }, { "tickets", "master" },
	};

	if (!hints_space_valid(space))
		return false;
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		if (str_is(space, owned[i].space))
			return !strcmp(peer, owned[i].owner) || (str_is(space, "ehlo") && !strcmp(peer, "ctl")); /* bulkhead hints forget */
	return true;
}

bool router_text_is_option(const struct conf *conf, struct str text)
{
	for (uint32_t i = 0; i < conf_table_main.n; i++) {
		const struct conf_option *row = &conf_table_main.rows[i];
		const struct conf_text *t = (const struct conf_text *)(const void *)((const char *)&conf->main + row->offset);

		if (row->offset != CONF_NO_FIELD && row->kind >= CONF_TEXT && t->text.len && str_eq(t->text, text))
			return true;
	}
	return false;
}

static struct hints *hints_open(struct router *r, struct arena *a, struct err *err)
{
	struct conf_hints where;

	if (conf_hints_parse(r->conf->main.hints.text, &where, err) != ST_OK)
		return NULL;
	return where.redis ? hints_redis_open(&where, &r->lookup_env) : hints_lmdb_open(str_cstr(a, r->conf->main.hints_directory.text), 0, err);
}

bool router_text_is_extract(const struct conf *conf, struct str text)
{
	const struct conf_instances *t = &conf->of[CONF_TRANSPORTS];

	for (uint32_t i = 0; i < t->n; i++) {
		const struct conf_opts_transport_smtp *o = t->v[i].own;

		if (t->v[i].driver && t->v[i].driver->table == &conf_table_transport_smtp && str_eq(o->host_name_extract.text, text))
			return true;
	}
	return false;
}

/* smtp-out knows but three things, and has them from strangers: whatever it says of them. */
void router_expand_extract(struct router *r, struct arena *a, const struct ipc_expand_ask *ask, struct ipc_expand_answer *out)
{
	static const char *const known[] = { "host", "host_address", "item" };
	struct ipc_expand_ask own = { .text = ask->text };

	own.variables = arena_alloc(a, (ask->n_variables + 1) * sizeof *own.variables);
	for (uint32_t i = 0; i < ask->n_variables; i++)
		for (size_t k = 0; k < sizeof known / sizeof *known; k++)
			if (str_is(ask->variables[i].name, known[k]))
				own.variables[own.n_variables++] = (struct ipc_pair){ ask->variables[i].name, ask->variables[i].value, true };
	router_expand(r, a, &own, -1, out);
}

/* Said once, until it is over. */
static void hints_trouble(struct router *r, const struct ipc_hint_answer *answer)
{
	bool away = answer->status == ST_DEFER;

	if (away && !r->hints_away)
		router_log(r, LOG_MAIN, "%.*s: going on without", STR_FMT(answer->text));
	else if (!away && r->hints_away)
		router_log(r, LOG_MAIN, "hints: within reach again");
	r->hints_away = away;
}

/* The store is opened when it is first needed, and again some time after it was out of reach. */
void router_hint(struct router *r, struct arena *a, const struct ipc_hint_ask *ask, struct ipc_hint_answer *out)
{
	struct err err = ERR_INIT;
	uint64_t now = clock_ms();

	memset(out, 0, sizeof *out);
	if (!r->hints && now >= r->hints_retry_ms) {
		r->hints = hints_open(r, a, &err);
		if (!r->hints) {
			r->hints_retry_ms = now + HINTS_RETRY_MS;
			router_log(r, LOG_MAIN, "hints: %s: going on without", err.text);
		}
	}
	if (!r->hints) {
		out->status = ST_DEFER;
		out->text = STR_LIT("the hints are out of reach");
		return;
	}
	hints_do(r->hints, ask, clock_wall(), a, out);
	hints_trouble(r, out);
	r->hints_writes += ask->op != HINT_GET && ask->op != HINT_LIST && ask->op != HINT_REMOVE;
	/* By writes, too: strangers whose addresses are called out make entries faster than any clock takes them away. */
	if (now >= r->hints_expire_ms || r->hints_writes >= HINTS_EXPIRE_WRITES) {
		r->hints_writes = 0;
		r->hints_expire_ms = now + HINTS_EXPIRE_MS;
		hints_expire(r->hints, clock_wall());
	}
}

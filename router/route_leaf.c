/* SPDX-License-Identifier: ISC */
/* route_leaf.c - what is answered: a leaf for each final address, in parts that fit a frame. */
#include <string.h>

#include "router/route.h"

enum { PARENTS_MAX = 8000, TEXT_MAX = 4000, LEAVES_MAX = 2048, PLANS_MAX = 2048, LEAF_OVERHEAD = 64 };

static struct ipc_leaf *leaf_new(struct route *rt)
{
	if (rt->n_leaves == rt->leaves_room) {
		uint32_t room = rt->leaves_room ? rt->leaves_room * 2 : 8;
		struct ipc_leaf *v = arena_alloc(rt->a, room * sizeof *v);
		if (rt->n_leaves)
			memcpy(v, rt->leaves, rt->n_leaves * sizeof *v);
		rt->leaves = v;
		rt->leaves_room = room;
	}
	return &rt->leaves[rt->n_leaves++];
}

/* From the recipient down to the immediate parent; where that is too long, the oldest and the youngest. */
static struct str parents_text(struct route *rt, const struct addr *addr)
{
	const struct addr *chain[ROUTE_DEPTH_MAX + 1];
	unsigned n = 0;
	struct buf b = BUF_LIMIT(PARENTS_MAX);
	struct str out;

	for (const struct addr *p = addr->parent; p && n <= ROUTE_DEPTH_MAX; p = p->parent)
		chain[n++] = p;
	if (!n)
		return STR_NULL;
	while (n--) {
		if (b.len && b.len + chain[n]->text.len + 1 > PARENTS_MAX / 2 && n > 1)
			continue;
		if (b.len)
			buf_addc(&b, '\n');
		buf_add_str(&b, chain[n]->text);
	}
	out = str_dup(rt->a, buf_str(&b));
	buf_clear(&b);
	return out;
}

/* Keeps an error line presentable: one line, bounded. */
static struct str text_clean(struct route *rt, const char *text)
{
	struct str s = str_dup(rt->a, str_sub(str_of(text), 0, TEXT_MAX));

	for (uint32_t i = 0; i < s.len; i++)
		if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
			((char *)(uintptr_t)s.p)[i] = ' ';
	return s;
}

/* Are retry times kept for the address (else for its domain)? t: the transport of a local delivery; NULL: routing. */
static bool retry_by_address(const struct site_router *r, const struct site_transport *t)
{
	if (t)
		return t->smtp || t->lmtp || !t->conf->generic_meta[CONF_INDEX(transport, retry_use_local_part)].set || t->o->retry_use_local_part;
	if (!r)
		return false;
	return r->conf->generic_meta[CONF_INDEX(router, retry_use_local_part)].set ? r->o->retry_use_local_part : r->o->check_local_user;
}

static const struct site_transport *transport_named(const struct route *rt, struct str name)
{
	for (uint32_t i = 0; i < rt->site->n_transports; i++)
		if (str_eq(rt->site->transports[i].conf->name, name))
			return &rt->site->transports[i];
	return NULL;
}

static void leaf_retry(struct route *rt, const struct addr *addr, bool by_address, struct ipc_leaf *l)
{
	if (addr->kind != KIND_ADDRESS)
		addr = addr->parent;
	if (!addr)
		return;
	l->retry_domain = !by_address;
	route_retry_rules(rt, by_address ? addr->local : STR_NULL, addr->domain, &l->retry_rules, &l->local_rules);
}

static void leaf_common(struct route *rt, struct addr *addr, const struct site_router *r, struct ipc_leaf *l)
{
	l->recipient = addr->recipient;
	l->addr = addr->kind == KIND_PIPE ? str_printf(rt->a, "|%.*s", STR_FMT(str_sub(addr->text, 0, 1000))) : str_sub(addr->text, 0, 1024);
	l->parents = parents_text(rt, addr);
	l->errors_to = addr->errors_to;
	l->has_errors_to = addr->has_errors_to;
	l->router = r ? r->conf->name : STR_NULL;
	l->one_time = addr->one_time && addr->parent;
	l->unseen = addr->unseen;
	l->hide_child = addr->hide_child;
}

static void key_put(struct buf *b, struct str s)
{
	buf_add(b, &s.len, sizeof s.len);
	buf_add_str(b, s);
}

/* The same address by the same plan twice for one recipient is delivered once. A recipient's own address comes but once. */
static bool leaf_is_twice(struct route *rt, const struct addr *addr, uint32_t plan)
{
	uint32_t head[3] = { addr->recipient, plan, addr->unseen };
	struct buf key = BUF_INIT;
	bool twice;

	if (!addr->parent && !addr->unseen)
		return false;
	buf_add(&key, head, sizeof head);
	key_put(&key, addr->kind == KIND_ADDRESS ? addr->local : addr->text);
	key_put(&key, addr->kind == KIND_ADDRESS ? addr->domain : addr->parent->text);
	twice = hash_get(&rt->leaf_by_key, buf_str(&key)) != NULL;
	if (!twice)
		hash_put(&rt->leaf_by_key, str_dup(rt->a, buf_str(&key)), rt);
	buf_clear(&key);
	return twice;
}

static void verified(struct route *rt, const struct addr *addr, enum status st)
{
	rt->verdict = st;
	rt->verified = addr;
	rt->verify_leaf = &rt->leaves[rt->n_leaves - 1];
}

bool router_fails_verify(const struct route *rt, const struct site_router *r)
{
	return rt->mode == MODE_VERIFY_SENDER ? r->fail_sender : r->fail_recipient;
}

void leaf_verify_failed(struct route *rt, struct addr *addr, const struct site_router *r)
{
	struct err why = ERR_INIT;

	err_set(&why, ST_FAIL, "%.*s router forced verify failure", STR_FMT(r->conf->name));
	leaf_end(rt, addr, r, ROUTE_FAIL, false, STR_LIT("5.1.1"), why.text);
}

void leaf_deliver(struct route *rt, struct addr *addr, const struct site_router *r, uint32_t plan)
{
	const struct conf_opts_router *o = r->o;
	struct ipc_leaf *l;

	if (route_is_verify(rt)) {
		if (router_fails_verify(rt, r)) {
			leaf_verify_failed(rt, addr, r);
			return;
		}
	} else if (leaf_is_twice(rt, addr, plan)) {
		route_trace(rt, "  %.*s: a duplicate, dropped", STR_FMT(addr->text));
		return;
	}
	l = leaf_new(rt);
	leaf_common(rt, addr, r, l);
	l->outcome = ROUTE_DELIVER;
	l->plan = plan;
	l->local_part_prefix = addr->prefix;
	l->local_part_suffix = addr->suffix;
	l->lasthop = o->dsn_lasthop;
	l->log_whole = !r->log_as_local;
	if (!route_is_verify(rt)) {
		const struct site_transport *t = transport_named(rt, rt->plans[plan].transport);

		leaf_retry(rt, addr, retry_by_address(r, t), l);
		if (t && t->smtp)
			leaf_remote(rt, addr, l);
	}
	if (rt->trace_on && !route_is_verify(rt))
		route_trace(rt, "  => %.*s by transport %.*s", STR_FMT(addr->text), STR_FMT(rt->plans[plan].transport));
	if (route_is_verify(rt))
		verified(rt, addr, ST_OK);
}

void leaf_end(struct route *rt, struct addr *addr, const struct site_router *r, enum route_outcome outcome, bool freeze, struct str status,
	const char *text)
{
	struct ipc_leaf *l = leaf_new(rt);

	leaf_common(rt, addr, r, l);
	if (outcome == ROUTE_DEFER && !route_is_verify(rt))
		leaf_retry(rt, addr, retry_by_address(r, NULL), l);
	l->outcome = outcome;
	l->freeze = freeze;
	l->status = str_sub(status, 0, 16);
	l->text = text_clean(rt, text);
	if (rt->trace_on)
		route_trace(rt, "  %s %.*s%s%.*s", outcome == ROUTE_FAIL ? "**" : outcome == ROUTE_DEFER ? "==" : "=> (discarded)", STR_FMT(addr->text),
			l->text.len ? ": " : "", STR_FMT(l->text));
	if (route_is_verify(rt))
		verified(rt, addr, outcome == ROUTE_FAIL ? ST_FAIL : outcome == ROUTE_DEFER ? ST_DEFER : ST_OK);
}

/* Verification ends at a redirection to several addresses: they are not looked at. */
void leaf_redirected(struct route *rt, struct addr *addr, const struct site_router *r)
{
	struct ipc_leaf *l = leaf_new(rt);

	leaf_common(rt, addr, r, l);
	l->outcome = ROUTE_DELIVER;
	l->plan = UINT32_MAX;
	verified(rt, addr, ST_OK);
}

/* ---- parts ---- */

static size_t leaf_octets(const struct ipc_leaf *l)
{
	size_t n = LEAF_OVERHEAD + l->addr.len + l->text.len + l->parents.len + l->errors_to.len + l->router.len + l->local_part_prefix.len +
		l->local_part_suffix.len;

	for (uint32_t i = 0; i < l->retry_rules.n; i++)
		n += l->retry_rules.v[i].len + 8;
	for (uint32_t i = 0; i < l->local_rules.n; i++)
		n += l->local_rules.v[i].len + 8;
	return n;
}

/* An answer that names only plans of its own: their numbers are those of its list. */
struct part {
	struct ipc_route_answer answer;
	struct ipc_plan *plans;
	uint32_t *number;     /* plan -> number in this part + 1 */
	size_t octets;
};

static void part_begin(struct route *rt, struct part *p, uint32_t from)
{
	memset(&p->answer, 0, sizeof p->answer);
	p->answer.leaves = rt->leaves + from;
	p->answer.plans = p->plans;
	memset(p->number, 0, (rt->n_plans + 1) * sizeof *p->number);
	p->octets = 0;
}

static bool part_takes(struct route *rt, struct part *p, struct ipc_leaf *l)
{
	bool has_plan = l->outcome == ROUTE_DELIVER;
	bool fresh = has_plan && !p->number[l->plan];
	size_t n = leaf_octets(l) + (fresh ? rt->plan_octets[l->plan] + 16 : 0);

	if (p->answer.n_leaves && (p->octets + n > ROUTE_PART_MAX || p->answer.n_leaves == LEAVES_MAX || (fresh && p->answer.n_plans == PLANS_MAX)))
		return false;
	p->octets += n;
	p->answer.n_leaves++;
	if (fresh) {
		p->answer.plans[p->answer.n_plans++] = rt->plans[l->plan];
		p->number[l->plan] = p->answer.n_plans;
	}
	if (has_plan)
		l->plan = p->number[l->plan] - 1;
	return true;
}

/* Lines of a trace go with the last part, as many as fit. */
static void trace_add(struct route *rt, struct part *p)
{
	size_t n = 0;

	while (n < rt->n_trace && p->octets + rt->trace[n].len + 8 < ROUTE_PART_MAX + 40000)
		p->octets += rt->trace[n++].len + 8;
	p->answer.trace.v = rt->trace;
	p->answer.trace.n = (uint32_t)n;
}

void leaves_send(struct route *rt, route_send_fn *send, void *arg)
{
	struct part part;

	part.plans = arena_alloc(rt->a, ((rt->n_plans < PLANS_MAX ? rt->n_plans : PLANS_MAX) + 1) * sizeof *part.plans);
	part.number = arena_alloc(rt->a, (rt->n_plans + 1) * sizeof *part.number);
	part_begin(rt, &part, 0);
	for (uint32_t i = 0; i < rt->n_leaves; i++) {
		if (part_takes(rt, &part, &rt->leaves[i]))
			continue;
		part.answer.more = true;
		send(arg, &part.answer);
		part_begin(rt, &part, i);
		part_takes(rt, &part, &rt->leaves[i]);
	}
	trace_add(rt, &part);
	part.answer.notices = rt->notices;
	for (uint32_t i = 0; i < rt->n_notices && part.octets + rt->notices[i].text.len < ROUTE_PART_MAX + 40000; i++) {
		part.octets += rt->notices[i].text.len + rt->notices[i].to.len + 16;
		part.answer.n_notices++;
	}
	send(arg, &part.answer);
}

/* SPDX-License-Identifier: ISC */
/* Deliveries: from the router's plans to what the agents say became of them. What a failure means for recipient, message and
 * host is decided here and nowhere else. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { AGENT_LOST_RETRY_S = 10, RETRY_RULES_MAX = 64 };

static const struct driver_row {
	const char *driver;
	enum agent_class class;
} drivers[] = {
	{ "smtp", AGENT_SMTP }, { "lmtp", AGENT_SMTP }, { "queuefile", AGENT_QUEUEFILE }, { "pipe", AGENT_PIPE }, { NULL, AGENT_LOCAL },
};

static enum agent_class driver_class(struct str driver)
{
	const struct driver_row *row = drivers;

	while (row->driver && !str_is(driver, row->driver))
		row++;
	return row->class;
}

/* ---- plans ---- */

/* All are past their last cutoff: those that nobody has tried since this message came. */
static void cutoff_hosts(struct qmgr *q, struct active *a, const struct ipc_plan *plan, struct plan_part *p, struct ipc_plan *out)
{
	for (uint32_t i = 0; i < plan->n_hosts; i++) {
		const struct ipc_host *h = &plan->hosts[i];
		char text[RETRY_KEY_MAX];
		const struct retry_entry *e = retry_get(q, retry_host_key(text, h->name, plan->retry_by_name ? STR_NULL : h->ip, h->port));

		if (!e || e->last_try < a->m->received)
			out->hosts[out->n_hosts++] = *h;
	}
	if (out->n_hosts)
		p->skipped_next = TRY_NEVER;
}

/* Leaves out the hosts whose retry time has not come. */
static void plan_hosts(struct qmgr *q, struct active *a, const struct ipc_plan *plan, struct plan_part *p, struct ipc_plan *out)
{
	struct message *m = a->m;
	uint32_t now = qmgr_now(q);

	p->skipped_next = TRY_NEVER;
	p->n_hosts = plan->n_hosts;
	if (!q->n_retry || m->forced || now >= m->overdue_at || p->class != AGENT_SMTP)
		return;
	out->hosts = arena_alloc(&a->arena, (plan->n_hosts + 1) * sizeof *out->hosts);
	out->n_hosts = 0;
	for (uint32_t i = 0; i < plan->n_hosts; i++) {
		const struct ipc_host *h = &plan->hosts[i];
		char text[RETRY_KEY_MAX];
		const struct retry_entry *e = retry_get(q, retry_host_key(text, h->name, plan->retry_by_name ? STR_NULL : h->ip, h->port));

		if (!e || e->next_try <= now) {
			out->hosts[out->n_hosts++] = *h;
			continue;
		}
		p->skipped_alive |= !e->expired;
		if (e->next_try < p->skipped_next)
			p->skipped_next = e->next_try;
	}
	if (plan->cutoff_tries && !out->n_hosts && !p->skipped_alive)
		cutoff_hosts(q, a, plan, p, out);
	p->n_hosts = out->n_hosts;
	out->hosts_left_out = out->n_hosts < plan->n_hosts;
}

struct plan_part *plan_part_new(struct qmgr *q, struct active *a, const struct ipc_plan *plan)
{
	struct plan_part *p = arena_alloc(&a->arena, sizeof *p);
	struct ipc_plan out = *plan;
	struct buf encoded = BUF_LIMIT(100000); /* as deliver declares */
	struct err err = ERR_INIT;

	p->class = driver_class(plan->driver);
	p->lmtp = str_is(plan->driver, "lmtp");
	p->no_log = plan->no_log;
	p->affixes = plan->affixes;
	p->retry_any_sender = plan->retry_any_sender;
	p->retry_by_name = plan->retry_by_name;
	plan_hosts(q, a, plan, p, &out);
	out.shadow = out.shadow_name = out.shadow_error = STR_NULL; /* not the agent's business */
	if (ipc_encode(&ipc_type_plan, &out, &encoded, &err)) {
		buf_clear(&encoded);
		return NULL;
	}
	p->encoded = str_dup(&a->arena, buf_str(&encoded));
	buf_clear(&encoded);
	p->hash = hash_bytes(p->encoded.p, p->encoded.len);
	p->transport = str_dup(&a->arena, plan->transport);
	p->router = str_dup(&a->arena, plan->router);
	p->return_path = str_dup(&a->arena, plan->return_path);
	p->has_return_path = plan->has_return_path;
	p->most = plan->max_rcpt && plan->max_rcpt < DELIVER_RCPT_MAX ? (uint32_t)plan->max_rcpt : DELIVER_RCPT_MAX;
	p->shadow = str_dup(&a->arena, plan->shadow);
	p->shadow_name = str_dup(&a->arena, plan->shadow_name);
	p->shadow_error = str_dup(&a->arena, plan->shadow_error);
	p->lane = lane_get(q, dest_get(q, plan->transport, plan->destination, p->class), plan);
	p->lane->dest->load->most = (uint32_t)(plan->max_parallel < UINT32_MAX ? plan->max_parallel : UINT32_MAX);
	p->lane->busy++; /* kept until deliver_leaves() is through */
	return p;
}

static struct str leaf_sender(const struct active *a, const struct plan_part *p, const struct leaf *leaf)
{
	struct str sender = a->env->facts ? a->env->facts->sender : STR_NULL;

	if (p->has_return_path)
		return p->return_path;
	if (!sender.len)
		return sender; /* a report keeps its null sender */
	if (leaf->l->has_errors_to)
		return leaf->l->errors_to;
	return leaf->rcpt->r->errors_to.len ? leaf->rcpt->r->errors_to : sender;
}

void delivery_append(struct delivery *d, struct leaf *leaf)
{
	leaf->in_delivery = NULL;
	*d->leaves_last = leaf;
	d->leaves_last = &leaf->in_delivery;
	d->n++;
}

struct delivery *delivery_new(struct qmgr *q, struct active *a, struct plan_part *p, struct str sender, uint64_t order)
{
	struct delivery *d = arena_alloc(&a->arena, sizeof *d);

	d->q = q;
	d->a = a;
	d->plan = p;
	d->sender = sender;
	d->order = order;
	d->leaves_last = &d->leaves;
	return d;
}

/* Into a delivery of this message that still waits, or a new one. */
static void leaf_queue(struct qmgr *q, struct active *a, struct plan_part *p, struct leaf *leaf)
{
	bool back = back_wanted(q, p, leaf);
	struct str sender = leaf_sender(a, p, leaf);
	struct delivery *d = back ? back_last(a, p, sender, leaf->l->order) : lane_last(p->lane, a);

	if (d && d->n < p->most && d->plan->hash == p->hash && !d->shadow && str_eq(d->plan->shadow, p->shadow) && str_eq(d->sender, sender)) {
		delivery_append(d, leaf);
		return;
	}
	d = delivery_new(q, a, p, sender, leaf->l->order);
	delivery_append(d, leaf);
	if (back)
		back_add(a, d);
	else
		lane_add(q, p->lane, a, d);
}

static void leaf_fail(struct qmgr *q, struct active *a, struct leaf *leaf, struct leaf_end *end, struct log_delivery *log, struct str text)
{
	end->result = DELIVERY_FAILED;
	end->text = text;
	log_failed(q, log, text);
	leaf_settle(q, a, leaf, end);
}

/* No host of its plan may be tried now. */
static void leaf_not_due(struct qmgr *q, struct active *a, struct plan_part *p, struct leaf *leaf)
{
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .status = STR_LIT("4.4.1"), .transport = p->transport, .router = p->router,
		.text = STR_LIT("retry time not reached for any host"), .next_try = p->skipped_next, .dest = p->lane->dest };
	struct log_delivery log = { .a = a, .leaf = leaf, .plan = p };

	if (!p->skipped_alive) {
		end.status = STR_LIT("4.4.7");
		leaf_fail(q, a, leaf, &end, &log, str_printf(&a->arena,
			"all hosts for '%.*s' have been failing for a long time (and retry time not reached)", STR_FMT(p->lane->dest->name)));
		return;
	}
	if (q->set->log & LOG_SEL(retry_defer))
		log_deferred(q, &log, end.text);
	leaf_settle(q, a, leaf, &end);
}

/* Routed, but to be sent in the next queue run. */
static void leaf_not_now(struct qmgr *q, struct active *a, struct plan_part *p, struct leaf *leaf)
{
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .waits = true, .status = STR_LIT("4.4.7"), .transport = p->transport, .router = p->router,
		.text = STR_LIT("first-pass only routing due to queue_smtp_domains, queue_only_file or control=queue"),
		.next_try = a->m->received + q->set->queue_interval };
	struct log_delivery log = { .a = a, .leaf = leaf, .plan = p };

	log_deferred(q, &log, end.text);
	leaf_settle(q, a, leaf, &end);
}

/* Too much waits for it already: the message leaves memory. Only where that is all that it does in this round. */
static bool leaf_park(struct active *a, struct plan_part *p, struct leaf *leaf)
{
	struct rcpt *r = leaf->rcpt;

	if (p->lane->queued < LANE_QUEUE_MAX || a->n_rcpt != 1 || r->leaves != leaf || leaf->next || a->due || a->m->state != M_ACTIVE)
		return false;
	a->parked = p->lane->dest;
	a->parked->refs++;
	r->open--;           /* never the last: the question holds one */
	return true;
}

void deliver_leaves(struct qmgr *q, struct active *a, struct leaf **leaves, uint32_t n, const struct ipc_plan *plans, uint32_t n_plans)
{
	struct plan_part **parts = n ? arena_alloc(&a->arena, n_plans * sizeof *parts) : NULL;

	for (uint32_t i = 0; i < n; i++) {
		struct leaf *leaf = leaves[i];
		struct plan_part **p = &parts[leaf->l->plan];

		if (!*p)
			*p = plan_part_new(q, a, &plans[leaf->l->plan]);
		if (!*p) {
			struct leaf_end end = { .result = DELIVERY_DEFERRED, .internal = true, .status = STR_LIT("4.3.0"),
				.text = STR_LIT("the router's plan is too large"), .next_try = qmgr_now(q) + 3600 };
			struct log_delivery log = { .a = a, .leaf = leaf };

			log_deferred(q, &log, end.text);
			leaf_settle(q, a, leaf, &end);
		} else if (leaf->l->wait) {
			leaf_not_now(q, a, *p, leaf);
		} else if (!(*p)->n_hosts && (*p)->skipped_next != TRY_NEVER) {
			leaf_not_due(q, a, *p, leaf);
		} else if (!leaf_park(a, *p, leaf)) {
			leaf_queue(q, a, *p, leaf);
		}
	}
	for (uint32_t i = 0; n && i < n_plans; i++)
		if (parts[i]) {
			parts[i]->lane->busy--;
			lane_release(q, parts[i]->lane); /* if nothing was queued in it */
		}
}

/* ---- out ---- */

static void deliver_on_reply(void *arg, struct ipc_in *in, const struct err *err);

/* RCPT has the address that the mailbox is known by: without the affixes that a router took off. */
struct str leaf_address_bare(struct arena *a, struct str addr, const struct ipc_leaf *l)
{
	ptrdiff_t at = str_rfind(addr, '@');
	size_t from = l->local_part_prefix.len, to = at > 0 ? (size_t)at : 0;

	if (at <= 0 || to <= from + l->local_part_suffix.len || !str_eqi(str_sub(addr, 0, from), l->local_part_prefix) ||
		!str_eqi(str_sub(addr, to - l->local_part_suffix.len, l->local_part_suffix.len), l->local_part_suffix))
		return addr;
	return str_printf(a, "%.*s%.*s", (int)(to - l->local_part_suffix.len - from), addr.p + from, STR_FMT(str_from(addr, to)));
}

static void deliver_recipients(const struct delivery *d, struct ipc_recipient *out)
{
	uint32_t i = 0;

	for (const struct leaf *leaf = d->leaves; leaf; leaf = leaf->in_delivery, i++) {
		const struct ipc_recipient *r = leaf->rcpt->r;
		bool pass = !leaf->l->parents.len && !leaf->l->lasthop;

		out[i] = (struct ipc_recipient){ .addr = leaf->l->addr.len ? leaf->l->addr : r->addr, .index = i, .parent = leaf->l->parents.len ? r->addr : r->parent,
			.notify = pass ? (leaf->l->notify ? leaf->l->notify : r->notify) : r->notify & DSN_NEVER, .orcpt = pass ? r->orcpt : STR_NULL,
			.facts = leaf->l->facts, .n_facts = leaf->l->n_facts };
		if (!d->plan->affixes && (leaf->l->local_part_prefix.len || leaf->l->local_part_suffix.len)) {
			struct str full = out[i].addr;

			out[i].addr = leaf_address_bare(&d->a->arena, full, leaf->l);
			if (!out[i].parent.len && !str_eq(out[i].addr, full))
				out[i].parent = full;
		}
	}
}

bool deliver_send(struct qmgr *q, struct delivery *d, struct agent *agent, struct conn *conn)
{
	struct active *a = d->a;
	const struct ipc_spool_envelope *env = a->env;
	struct ipc_recipient rcpt[DELIVER_RCPT_MAX];
	struct ipc_deliver msg = { .id = str_of(a->m->file->id), .sender = d->sender, .recipients = rcpt, .n_recipients = d->n,
		.plan = d->plan->encoded, .edits = env->edits, .n_edits = env->n_edits, .content = env->content, .header_size = env->header_size,
		.flags = a->m->flags, .content_8bit = env->content_8bit, .longest_line = env->longest_line, .received = a->m->received,
		.attempt = d->attempt, .offset = SPOOL_CONTENT_OFFSET };
	struct err err = ERR_INIT;
	int fd = spool_open_reader(q->spool, a->m->file, &err);

	if (fd < 0) {
		struct leaf_end end = { .result = DELIVERY_DEFERRED, .internal = true, .status = STR_LIT("4.3.0"), .text = str_of(err.text),
			.next_try = qmgr_now(q) + INTERNAL_RETRY_S };

		struct lane *lane = d->plan->lane;

		if (err.status == ST_ERROR) {
			log_line(q->log, LOG_MAIN | LOG_PANIC, "%s spool file is damaged: %s; frozen", a->m->file->id, err.text);
			a->freeze = "spool file damaged";
		}
		lane->busy++; /* keeps it */
		if (conn)
			conn_close(q, conn, true);
		deliver_settle_all(q, d, &end);
		delivery_over(d);
		active_step(q, a);
		lane->busy--;
		lane_release(q, lane);
		return false;
	}
	deliver_recipients(d, rcpt);
	d->number = msg.delivery = ++q->delivery_number;
	d->agent = agent;
	d->conn = conn;
	d->started_us = qmgr_now_us(q);
	msg.connection = conn ? conn->number : 0;
	if (!d->leaves->l->lasthop) { /* routers don't mix within a plan */
		msg.ret = env->ret;
		msg.envid = env->envid;
	}
	if (agent->class == AGENT_QUEUEFILE)
		msg.facts = env->facts;
	agent->busy++;
	q->class[agent->class].busy++;
	d->plan->lane->busy++;
	d->plan->lane->dest->busy++;
	d->plan->lane->dest->load->busy++;
	q->counts.reused += conn != NULL;
	channel_ask(agent->link->channel, &ipc_type_deliver, &msg, &fd, 1, &ipc_type_delivered, 0, deliver_on_reply, d);
	return true;
}

void delivery_landed(struct qmgr *q, struct delivery *d)
{
	struct lane *lane = d->plan->lane;

	agent_landed(d->agent);
	q->class[d->agent->class].busy--;
	lane->busy--;
	lane->dest->busy--;
	load_landed(q, lane->dest->load);
}

void delivery_over(struct delivery *d)
{
	d->a->deliveries--;
	d->a->remote_out -= d->counted;
	d->counted = false;
}

void deliver_settle_all(struct qmgr *q, struct delivery *d, const struct leaf_end *end)
{
	struct leaf_end e = *end;

	if (d->shadow) {
		shadow_end(q, d, end->text);
		return;
	}
	e.transport = d->plan->transport;
	e.router = d->plan->router;
	e.dest = e.internal ? NULL : d->plan->lane->dest;
	if (e.internal)
		d->a->internal = true;
	for (struct leaf *leaf = d->leaves, *next; leaf; leaf = next) {
		struct log_delivery log = { .a = d->a, .leaf = leaf, .plan = d->plan };

		next = leaf->in_delivery;
		if (e.result == DELIVERY_DEFERRED && (q->set->log & LOG_SEL(retry_defer) || e.internal))
			log_deferred(q, &log, e.text);
		leaf_settle(q, d->a, leaf, &e);
	}
}

/* ---- lost ---- */

static void delivery_lost(struct qmgr *q, struct delivery *d, const char *how)
{
	struct active *a = d->a;
	struct message *m = a->m;
	struct lane *lane = d->plan->lane;
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .internal = true, .status = STR_LIT("4.3.0") };

	lane->busy++; /* keeps it */
	delivery_landed(q, d);
	if (d->conn) {
		conn_close(q, d->conn, false);
		d->conn = NULL;
	}
	q->counts.agent_lost++;
	if (d->attempt < UINT8_MAX)
		d->attempt++;
	if (m->lost < UINT8_MAX && !d->shadow)
		m->lost++;
	if (d->shadow) {
		delivery_over(d);
		shadow_end(q, d, str_of(how));
		active_step(q, a);
	} else if (m->lost < LOST_MAX && !q->draining) {
		a->deliveries--;
		lane_add_front(q, lane, a, d);
	} else {
		delivery_over(d);
		log_message(q, m, "delivery agent lost %u times with it (%s): set aside for a while", m->lost, how);
		end.text = str_printf(&a->arena, "delivery agent lost: %s", how);
		end.next_try = qmgr_now(q) + (AGENT_LOST_RETRY_S << (m->internal > 8 ? 8 : m->internal));
		m->lost = 0;
		deliver_settle_all(q, d, &end);
		active_step(q, a);
	}
	lane->busy--;
	schedule_dest(q, lane->dest);
	lane_release(q, lane);
	qmgr_pump(q);
}

/* ---- results ---- */

/* The rules of host and address in one: each line of the section is tried for both, in the order of the file. */
static const struct retry_rule *rule_for(const struct settings *s, struct ipc_strs host, struct ipc_strs addr, const struct retry_fault *fault)
{
	const struct retry_rule *x = retry_rule_find(s, host, fault), *y = retry_rule_find(s, addr, fault);

	return !x ? y : !y ? x : x < y ? x : y;
}

/* An address's rules without those that fit it alone: what holds for the hosts of its domain. */
static struct ipc_strs rules_of_domain(struct active *a, const struct ipc_leaf *l)
{
	struct ipc_strs out = { 0 };

	if (!l->local_rules.n)
		return l->retry_rules;
	out.v = arena_alloc(&a->arena, (l->retry_rules.n + 1) * sizeof *out.v);
	for (uint32_t i = 0; i < l->retry_rules.n; i++) {
		bool alone = false;

		for (uint32_t k = 0; k < l->local_rules.n; k++)
			alone |= str_eq(l->retry_rules.v[i], l->local_rules.v[k]);
		if (!alone)
			out.v[out.n++] = l->retry_rules.v[i];
	}
	return out;
}

static uint32_t enum_bound(uint64_t v, uint32_t end, uint32_t fallback) { return v < end ? (uint32_t)v : fallback; }

struct hosts_end {
	uint32_t next;          /* when the first of the hosts may be tried again */
	bool any, alive, no_rule;
	const struct retry_rule *rule;
};

/* What the hosts' states say, for the table and for the recipients that they failed. */
/* The plan's host of which an agent tells; NULL: the plan has none such, and of others it has nothing to tell. */
static const struct ipc_host *host_told(const struct ipc_plan *plan, const struct ipc_host_state *h)
{
	for (uint32_t i = 0; i < plan->n_hosts; i++)
		if (str_eq(plan->hosts[i].name, h->name) && str_eq(plan->hosts[i].ip, h->ip) && (!plan->hosts[i].port || plan->hosts[i].port == h->port))
			return &plan->hosts[i];
	return NULL;
}

/* False: there is nothing to learn of hosts. */
static bool plan_again(const struct qmgr *q, const struct delivery *d, const struct ipc_delivered *msg, struct arena *a, struct ipc_plan *out)
{
	bool wanted = msg->n_hosts && q->n_retry;

	for (uint32_t i = 0; !wanted && i < msg->n_hosts; i++)
		wanted = msg->hosts[i].error != 0;
	return wanted && ipc_decode(&ipc_type_plan, d->plan->encoded, a, out, NULL) == ST_OK;
}

static void hosts_learn(struct qmgr *q, const struct delivery *d, const struct ipc_delivered *msg, struct hosts_end *out)
{
	struct ipc_strs addr_rules = rules_of_domain(d->a, d->leaves->l);
	struct arena scratch = ARENA_INIT;
	struct ipc_plan plan;

	*out = (struct hosts_end){ .next = d->plan->skipped_next, .alive = d->plan->skipped_alive };
	if (!plan_again(q, d, msg, &scratch, &plan))
		plan.n_hosts = 0;
	for (uint32_t i = 0; i < msg->n_hosts; i++) {
		const struct ipc_host_state *h = &msg->hosts[i];
		const struct ipc_host *known = host_told(&plan, h);
		struct retry_fault fault = { .error = enum_bound(h->error, RETRY_ERRORS_END, RETRY_OTHER), .via = known && known->mx ? 'M' : 'A', .quota_age = -1 };
		char text[RETRY_KEY_MAX];
		struct str key = retry_host_key(text, h->name, d->plan->retry_by_name ? STR_NULL : h->ip, h->port);
		struct retry_entry *e;

		if (!known)
			continue;
		if (!h->error) {
			retry_worked(q, key);
			continue;
		}
		out->any = true;
		out->rule = rule_for(q->set, known->retry_rules, addr_rules, &fault);
		e = retry_failed(q, key, out->rule, fault.error, 0);
		if (!e) {
			out->no_rule = true;
			continue;
		}
		out->alive |= !e->expired;
		if (e->next_try < out->next)
			out->next = e->next_try;
	}
	arena_clear(&scratch);
}

static void overdue_learn(struct message *m, const struct retry_rule *rule)
{
	uint32_t at = m->received + retry_cutoff(rule);

	if (rule && at < m->overdue_at)
		m->overdue_at = at;
}

/* The host that gave an outcome. */
static const struct ipc_host_state *host_of(const struct ipc_delivered *msg, const struct ipc_outcome *o)
{
	if (o->host && o->host <= msg->n_hosts)
		return &msg->hosts[o->host - 1];
	return msg->n_hosts ? &msg->hosts[msg->n_hosts - 1] : NULL;
}

/* Temporary failure of one leaf: when next, or no more. True: it is to be given up. */
static bool leaf_later(struct qmgr *q, struct delivery *d, struct leaf *leaf, const struct ipc_outcome *o, const struct ipc_delivered *msg,
	const struct hosts_end *hosts, struct leaf_end *end)
{
	const struct ipc_host_state *last = host_of(msg, o);
	struct retry_fault fault = { .error = enum_bound(o->error, RETRY_ERRORS_END, RETRY_OTHER), .code = (unsigned)o->code,
		.via = last && last->mx ? 'M' : 'A', .quota_age = o->quota_age ? (int64_t)o->quota_age - 1 : -1 };
	struct message *m = d->a->m;
	struct rcpt *r = leaf->rcpt;
	struct str addr = leaf->l->addr.len ? leaf->l->addr : r->r->addr;
	uint32_t now = qmgr_now(q);
	const struct retry_rule *rule;
	char text[RETRY_KEY_MAX];
	struct retry_entry *e;
	bool expired;

	if (fault.error == RETRY_NONE)
		fault.error = RETRY_OTHER;
	if (o->host_error && hosts->any && d->plan->class == AGENT_SMTP) {
		overdue_learn(m, hosts->rule);
		end->next_try = hosts->next;
		end->first_failed = 0;
		if (hosts->next == TRY_NEVER || !hosts->alive)
			return true;
		return hosts->rule && now - m->received >= retry_cutoff(hosts->rule);
	}
	/* A reply to RCPT is the address's own; others to the whole message are the host's and its domain's. */
	if (d->plan->class == AGENT_SMTP && fault.error != RETRY_RCPT_4XX)
		rule = rule_for(q->set, last ? last->retry_rules : (struct ipc_strs){ 0 }, rules_of_domain(d->a, leaf->l), &fault);
	else
		rule = retry_rule_find(q->set, leaf->l->retry_rules, &fault);
	overdue_learn(m, rule);
	if (!rule || !rule->n)
		return true;
	if (d->plan->class != AGENT_SMTP || fault.error == RETRY_RCPT_4XX) {
		/* The address's own: a message that came before its first failure still counts from that failure. */
		e = retry_failed(q, d->plan->class == AGENT_SMTP ? retry_addr_key(text, 'A', addr, d->plan->retry_any_sender ? STR_NULL : d->sender) :
			retry_addr_key(text, 'L', retry_addr(leaf->l, addr), STR_NULL), rule, fault.error, fault.error == RETRY_QUOTA ? m->received : 0);
		if (!e)
			return true;
		end->next_try = e->next_try;
		end->first_failed = e->first_failed;
		return e->expired || now - m->received >= retry_cutoff(rule);
	}
	/* The message's with this host: counted from its arrival, or nothing else would ever end it. */
	end->first_failed = m->received;
	end->next_try = retry_next(rule, m->received, r->last_try, r->next_try, now, q->set->retry_interval_max, qmgr_random(q), &expired);
	return expired;
}

/* The server's words in an error of ours: from the code on. */
static struct str diagnostic_of(const struct ipc_outcome *o)
{
	char code[16];
	ptrdiff_t at;

	if (!o->code)
		return STR_NULL;
	snprintf(code, sizeof code, "%u", (unsigned)o->code);
	if (str_begins(o->text, code))
		return o->text;
	snprintf(code, sizeof code, ": %u", (unsigned)o->code);
	at = str_find_str(o->text, str_of(code));
	return at < 0 ? STR_NULL : str_from(o->text, (size_t)at + 2);
}

static struct str pair_value(const struct ipc_pair *v, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (str_is(v[i].name, name))
			return v[i].value;
	return STR_NULL;
}

static void leaf_result(struct qmgr *q, struct delivery *d, struct leaf *leaf, const struct ipc_outcome *o, const struct ipc_delivered *msg,
	const struct hosts_end *hosts, bool first)
{
	struct active *a = d->a;
	const struct ipc_host_state *h = msg->host.len && (!o->host || o->host > msg->n_hosts) ? NULL : host_of(msg, o);
	struct leaf_end end = { .result = (enum delivery_result)enum_bound(o->result, DELIVERY_RESULTS_END, DELIVERY_DEFERRED), .status = o->status,
		.text = log_error_text(&a->arena, msg, o), .diagnostic = diagnostic_of(o), .host = h ? h->name : msg->host, .ip = h ? h->ip : msg->ip,
		.port = (unsigned)(h ? h->port : msg->port),
		.transport = d->plan->transport, .router = d->plan->router, .greeting = pair_value(msg->log, msg->n_log, "greeting"),
		.helo = pair_value(msg->log, msg->n_log, "helo"), .remote = d->plan->class == AGENT_SMTP && !d->plan->lmtp,
		.dsn_passed = msg->dsn_passed, .lasthop = leaf->l->lasthop, .dest = o->host_error ? d->plan->lane->dest : NULL,
		.told = o->internal ? STR_LIT("local delivery failed") : STR_NULL, .output = first ? msg->output : STR_NULL };
	struct log_delivery log = { .a = a, .leaf = leaf, .plan = d->plan, .d = msg, .outcome = o, .sender = d->sender,
		.host = end.host, .ip = end.ip, .port = end.port, .took_us = qmgr_now_us(q) - d->started_us, .first = first };

	if (end.result == DELIVERY_OK) {
		if (!shadow_hold(q, d, leaf, &log))
			log_delivered(q, &log);
		leaf_settle(q, a, leaf, &end);
	} else if (end.result == DELIVERY_FAILED) {
		leaf_fail(q, a, leaf, &end, &log, end.text);
	} else if (o->freeze) {
		end.next_try = TRY_NEVER;
		a->freeze = "as its transport wants";
		log_deferred(q, &log, end.text);
		leaf_settle(q, a, leaf, &end);
	} else {
		bool over = leaf_later(q, d, leaf, o, msg, hosts, &end);

		log_deferred(q, &log, end.text);
		if (over)
			leaf_fail(q, a, leaf, &end, &log, str_printf(&a->arena, "%.*s: retry timeout exceeded", STR_FMT(end.text)));
		else
			leaf_settle(q, a, leaf, &end);
	}
}

/* True: the host answered, whatever it said. */
static bool leaves_settle(struct qmgr *q, struct delivery *d, const struct ipc_delivered *msg, const struct hosts_end *hosts)
{
	static const struct ipc_outcome silent = { .result = DELIVERY_DEFERRED, .error = RETRY_OTHER, .text = { "the agent did not say what became of it", 39, false } };
	const struct ipc_outcome *by_index[DELIVER_RCPT_MAX] = { 0 };
	bool worked = false, first = true;
	uint32_t i = 0;

	for (i = 0; i < msg->n_outcomes; i++)
		if (msg->outcomes[i].recipient < d->n && !by_index[msg->outcomes[i].recipient])
			by_index[msg->outcomes[i].recipient] = &msg->outcomes[i];
	i = 0;
	for (struct leaf *leaf = d->leaves, *next; leaf; leaf = next, i++) {
		const struct ipc_outcome *o = by_index[i] ? by_index[i] : &silent;
		bool ok = o->result == DELIVERY_OK;

		next = leaf->in_delivery;
		worked |= ok || !o->host_error;
		leaf_result(q, d, leaf, o, msg, hosts, first);
		first = first && !ok;
	}
	return worked;
}

/* The connection's next delivery, at once: no turn of the loop is lost. */
static void conn_continue(struct qmgr *q, struct agent *agent, struct lane *lane, struct conn *conn, uint64_t number)
{
	struct delivery *next;

	if (conn && conn->number != number) {
		conn_close(q, conn, false);
		conn = NULL;
	}
	if (!number)
		return;
	if (!conn) {
		if (conn_find(agent, number)) /* a number twice: nonsense */
			return;
		conn = mem_new(sizeof *conn);
		conn->agent = agent;
		conn->lane = lane;
		conn->number = number;
		lane->conns++;
		list_push(&agent->conns, &conn->node);
	}
	next = agent->old ? NULL : schedule_next(q, lane);
	if (next)
		deliver_send(q, next, agent, conn);
	else if (agent->old || q->draining || lane->dest->busy + lane->conns > q->set->concurrency_max * 2)
		conn_close(q, conn, true);
	else
		conn_keep(q, conn);
}

/* What a command wrote, where its transport wants that logged. */
static void log_output(struct qmgr *q, const struct delivery *d, const struct ipc_delivered *msg)
{
	struct str line = pair_value(msg->log, msg->n_log, "output");
	const struct leaf *leaf = d->leaves;

	if (line.len && !d->plan->no_log)
		log_message(q, d->a->m, "<%.*s>: %.*s transport output: %.*s", STR_FMT(leaf->l->addr.len ? leaf->l->addr : leaf->rcpt->r->addr),
			STR_FMT(d->plan->transport), STR_FMT(line));
}

static void delivery_done(struct qmgr *q, struct delivery *d, const struct ipc_delivered *msg)
{
	struct active *a = d->a;
	struct lane *lane = d->plan->lane;
	struct dest *dest = lane->dest;
	struct agent *agent = d->agent;
	struct conn *conn = d->conn;
	bool remote = d->plan->class == AGENT_SMTP, worked;
	struct hosts_end hosts;
	uint32_t now = qmgr_now(q);

	lane->busy++; /* keeps it until all is done */
	delivery_landed(q, d);
	if (d->shadow) {
		shadow_result(q, d, msg);
		delivery_over(d);
		active_step(q, a);
		lane->busy--;
		schedule_dest(q, dest);
		lane_release(q, lane);
		qmgr_pump(q);
		return;
	}
	a->m->lost = 0;
	log_output(q, d, msg);
	q->counts.bytes += msg->bytes;
	hosts_learn(q, d, msg, &hosts);
	worked = leaves_settle(q, d, msg, &hosts);
	if (d->holds)
		shadow_start(q, d);
	delivery_over(d);
	dest_result(q, dest, worked || !remote);
	if (!worked && remote && hosts.any && hosts.next != TRY_NEVER && hosts.next > now) {
		/* Nobody else need try what has just failed. */
		struct leaf_end end = { .result = DELIVERY_DEFERRED, .status = STR_LIT("4.4.1"), .next_try = hosts.next,
			.text = STR_LIT("retry time not reached for any host") };

		dest->dead_until = hosts.next;
		active_step(q, a);
		lane_flush(q, lane, &end);
	} else {
		active_step(q, a);
	}
	conn_continue(q, agent, lane, conn, remote ? msg->connection : 0);
	lane->busy--;
	schedule_dest(q, dest);
	lane_release(q, lane);
	qmgr_pump(q);
}

static void deliver_on_reply(void *arg, struct ipc_in *in, const struct err *err)
{
	struct delivery *d = arg;
	const struct ipc_delivered *msg = in ? in->msg : NULL;

	if (d->q->stopped)
		return; /* it will be tried again after the next start */
	if (!in)
		delivery_lost(d->q, d, err->text);
	else if (in->type == &ipc_type_ctl_lost)
		delivery_lost(d->q, d, "its worker died");
	else if (msg->delivery != d->number) {
		delivery_lost(d->q, d, "the agent answered for another delivery");
	} else {
		if (in->fds[0] >= 0 && msg->n_reply_to && d->plan->class == AGENT_LOCAL) {
			reply_take(d->q, d, msg, in->fds[0]);
			in->fds[0] = -1;
		}
		delivery_done(d->q, d, msg);
	}
}

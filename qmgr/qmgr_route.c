/* SPDX-License-Identifier: ISC */
/* Asking the router: one question for up to ROUTE_SLICE recipients of a message, the answer taken apart into leaves. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct router_peer {
	struct list node;            /* q->routers, the newest generation first */
	struct channel *ch;
	uint64_t generation;
};

struct question {
	struct list node;            /* q->route_waiting, while not asked */
	struct qmgr *q;
	struct active *a;
	uint32_t n;
	uint8_t attempt;
	bool content;                /* the descriptor went along */
	struct rcpt *rcpt[];         /* ROUTE_SLICE at most */
};

/* ---- the routers ---- */

void route_router_add(struct qmgr *q, struct channel *ch, uint64_t generation)
{
	struct router_peer *p = mem_new(sizeof *p);
	bool first = list_empty(&q->routers);

	p->ch = ch;
	p->generation = generation;
	list_push_front(&q->routers, &p->node);
	if (first)
		retry_load(q);
	report_view(q);
	qmgr_pump(q);
}

void route_router_gone(struct qmgr *q, struct channel *ch)
{
	list_each_safe(&q->routers, n) {
		struct router_peer *p = list_entry(n, struct router_peer, node);

		if (!ch || p->ch == ch) {
			list_remove(n);
			mem_free(p);
		}
	}
}

struct channel *route_router(struct qmgr *q)
{
	struct list *n = list_first(&q->routers);

	return n ? list_entry(n, struct router_peer, node)->ch : NULL;
}

void route_forget(struct qmgr *q)
{
	struct list *n;

	while ((n = list_first(&q->route_waiting))) {
		list_remove(n);
		mem_free(list_entry(n, struct question, node));
	}
}

/* ---- leaves ---- */

static struct str leaf_key(struct active *a, const struct ipc_leaf *l, struct str transport)
{
	size_t n = (size_t)transport.len + 1 + l->addr.len;
	char *key = arena_alloc(&a->arena, n);

	if (transport.len)
		memcpy(key, transport.p, transport.len);
	key[transport.len] = '\n';
	if (l->addr.len)
		memcpy(key + transport.len + 1, l->addr.p, l->addr.len);
	return str_make(key, n);
}

static bool leaf_is_done(const struct rcpt *r, const struct ipc_leaf *l, struct str transport)
{
	for (const struct done *d = r->done; d; d = d->next)
		if (str_eq(d->addr, l->addr) && (!d->transport.len || !transport.len || str_eq(d->transport, transport)))
			return true;
	return false;
}

enum duplicate { DUP_NO, DUP_CHAINED, DUP_DONE };

/* One copy serves all recipients that lead to the same address by the same transport: the copy under way settles this one with it. */
static enum duplicate leaf_duplicate(struct active *a, struct leaf *leaf, struct str transport)
{
	struct str key = leaf_key(a, leaf->l, transport);
	struct leaf *other = hash_get(&a->seen, key);

	if (!other) {
		hash_put(&a->seen, key, leaf);
		return DUP_NO;
	}
	if (other->result)
		return other->result == DELIVERY_OK ? DUP_DONE : DUP_NO;
	leaf->same = other->same;
	other->same = leaf;
	return DUP_CHAINED;
}

static void leaf_refused(struct qmgr *q, struct active *a, struct leaf *leaf, struct str text)
{
	struct leaf_end end = { .result = DELIVERY_FAILED, .status = leaf->l->status, .text = text, .router = leaf->l->router };
	struct log_delivery log = { .a = a, .leaf = leaf };

	log_failed(q, &log, text);
	leaf_settle(q, a, leaf, &end);
}

/* The address can't be routed now. */
static void leaf_deferred(struct qmgr *q, struct active *a, struct leaf *leaf)
{
	const struct retry_fault fault = { .error = RETRY_LOOKUP, .quota_age = -1 };
	const struct retry_rule *rule = retry_rule_find(q->set, leaf->l->retry_rules, &fault);
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .status = leaf->l->status, .text = leaf->l->text, .router = leaf->l->router };
	struct log_delivery log = { .a = a, .leaf = leaf };
	struct message *m = a->m;
	uint32_t now = qmgr_now(q);
	char key[RETRY_KEY_MAX];
	struct retry_entry *e;

	if (!end.text.len)
		end.text = STR_LIT("address could not be routed now");
	e = retry_failed(q, retry_addr_key(key, 'R', retry_addr(leaf->l, leaf->l->addr.len ? leaf->l->addr : leaf->rcpt->r->addr), STR_NULL), rule, fault.error, 0);
	log_deferred(q, &log, end.text);
	if (leaf->l->freeze) {
		a->freeze = "by the router";
		end.next_try = e ? e->next_try : now + q->set->queue_interval;
		leaf_settle(q, a, leaf, &end);
		return;
	}
	if (!e || e->expired || now - m->received >= retry_cutoff(rule)) {
		leaf_refused(q, a, leaf, str_printf(&a->arena, "%.*s: retry timeout exceeded", STR_FMT(end.text)));
		return;
	}
	end.next_try = e->next_try;
	end.first_failed = e->first_failed;
	leaf_settle(q, a, leaf, &end);
}

/* Nothing is wrong with it: a domain that is held, or that waits for a queue run. Held mail is given up in the end, as any other. */
static void leaf_waits(struct qmgr *q, struct active *a, struct leaf *leaf)
{
	uint32_t now = qmgr_now(q), longest = retry_cutoff_longest(q->set), received = a->m->received;
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .waits = true, .status = leaf->l->status, .text = leaf->l->text, .router = leaf->l->router,
		.next_try = leaf->l->wait == WAIT_HELD ? now + q->set->queue_interval : received + q->set->queue_interval };
	struct log_delivery log = { .a = a, .leaf = leaf };

	if (leaf->l->wait == WAIT_HELD && longest && now - received >= longest) {
		leaf_refused(q, a, leaf, str_printf(&a->arena, "%.*s: retry timeout exceeded", STR_FMT(end.text)));
		return;
	}
	log_deferred(q, &log, end.text);
	leaf_settle(q, a, leaf, &end);
}

static void leaf_internal(struct qmgr *q, struct active *a, struct leaf *leaf, const char *text)
{
	struct message *m = a->m;
	uint32_t wait = INTERNAL_RETRY_S << (m->internal > 6 ? 6 : m->internal);
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .internal = true, .text = str_of(text), .status = STR_LIT("4.3.0") };
	struct log_delivery log = { .a = a, .leaf = leaf };

	a->internal = true;
	end.next_try = qmgr_now(q) + (wait > 3600 ? 3600 : wait);
	log_deferred(q, &log, end.text);
	leaf_settle(q, a, leaf, &end);
}

static void leaf_discarded(struct qmgr *q, struct active *a, struct leaf *leaf)
{
	struct leaf_end end = { .result = DELIVERY_OK, .discarded = true, .status = STR_LIT("2.0.0"), .router = leaf->l->router };
	struct log_delivery log = { .a = a, .leaf = leaf };

	log_discarded(q, &log);
	leaf_settle(q, a, leaf, &end);
}

static void leaf_skip(struct leaf *leaf)
{
	leaf->result = DELIVERY_OK;
	leaf->rcpt->open--; /* never the last: the question holds one */
}

/* ---- answers ---- */

static struct rcpt *answer_rcpt(const struct question *qu, const struct ipc_leaf *l)
{
	return l->recipient < qu->n ? qu->rcpt[l->recipient] : NULL;
}

static void answer_leaves(struct question *qu, const struct ipc_route_answer *answer)
{
	struct active *a = qu->a;
	struct qmgr *q = qu->q;
	struct leaf **deliver = arena_alloc(&a->arena, (answer->n_leaves + 1) * sizeof *deliver);
	bool several = a->n_rcpt > 1 || answer->n_leaves > 1;
	uint32_t n = 0;

	for (uint32_t i = 0; i < answer->n_leaves; i++) {
		const struct ipc_leaf *l = &answer->leaves[i];
		struct rcpt *r = answer_rcpt(qu, l);
		struct str transport = l->outcome == ROUTE_DELIVER && l->plan < answer->n_plans ? answer->plans[l->plan].transport : STR_NULL;
		enum duplicate dup;
		struct leaf *leaf;

		if (!r || r->open > UINT16_MAX - 2)
			continue;
		leaf = leaf_new(a, r, l);
		if (l->parents.len)
			rcpt_expanded(q, a, r, true);
		dup = leaf_is_done(r, leaf->l, transport) ? DUP_DONE : several ? leaf_duplicate(a, leaf, transport) : DUP_NO;
		if (dup == DUP_DONE)
			leaf_skip(leaf);
		if (dup != DUP_NO)
			continue;
		switch (l->outcome) {
		case ROUTE_DELIVER:
			if (l->plan < answer->n_plans)
				deliver[n++] = leaf;
			else
				leaf_internal(q, a, leaf, "the router named a plan that it did not give");
			break;
		case ROUTE_FAIL:
			leaf_refused(q, a, leaf, l->text.len ? leaf->l->text : STR_LIT("Unrouteable address"));
			break;
		case ROUTE_DEFER:
			if (leaf->l->wait)
				leaf_waits(q, a, leaf);
			else
				leaf_deferred(q, a, leaf);
			break;
		case ROUTE_DISCARD:
			leaf_discarded(q, a, leaf);
			break;
		default:
			leaf_internal(q, a, leaf, "the router's answer was not understood");
		}
	}
	deliver_leaves(q, a, deliver, n, answer->plans, answer->n_plans);
}

/* The question is over: what held its recipients open is let go. */
static void question_end(struct question *qu, const char *why)
{
	struct active *a = qu->a;
	struct qmgr *q = qu->q;

	for (uint32_t i = 0; i < qu->n; i++) {
		struct rcpt *r = qu->rcpt[i];

		if (!r->leaves)
			leaf_internal(q, a, leaf_new(a, r, NULL), why);
		if (!--r->open)
			rcpt_settle(q, a, r);
	}
	a->questions--;
	mem_free(qu);
	active_step(q, a);
	qmgr_pump(q);
}

static void question_wait(struct question *qu)
{
	list_push(&qu->q->route_waiting, &qu->node);
	qmgr_pump(qu->q);
}

/* A worker died or hung with it. */
static void question_lost(struct question *qu, struct str how)
{
	struct qmgr *q = qu->q;
	struct message *m = qu->a->m;

	q->counts.route_lost++;
	qu->attempt++;
	if (m->lost < UINT8_MAX)
		m->lost++;
	if (m->lost < LOST_MAX) {
		log_message(q, m, "the router lost a worker while routing it (%.*s): asked again", STR_FMT(how));
		question_wait(qu);
		return;
	}
	log_line(q->log, LOG_MAIN | LOG_PANIC, "%s the router lost a worker with it %u times (%.*s): set aside, frozen", m->file->id, m->lost, STR_FMT(how));
	m->lost = 0;
	qu->a->freeze = "routing it kills the router's workers";
	question_end(qu, "routing it kills the router's workers");
}

static void route_on_answer(void *arg, struct ipc_in *in, const struct err *err)
{
	struct question *qu = arg;
	struct qmgr *q = qu->q;
	const struct ipc_route_answer *answer;

	if (q->stopped) {
		mem_free(qu);
		return;
	}
	if (!in || in->type == &ipc_type_ctl_lost) {
		q->n_questions--;
		if (in)
			question_lost(qu, ((const struct ipc_ctl_lost *)in->msg)->text);
		else if (q->draining)
			question_end(qu, "shutting down");
		else if (err && str_find_str(str_of(err->text), STR_LIT("in time")) >= 0)
			question_lost(qu, str_of(err->text));
		else
			question_wait(qu); /* the router was restarted */
		return;
	}
	answer = in->msg;
	if (answer->need_content && !qu->content) {
		q->n_questions--;
		q->route_content = true;
		question_wait(qu);
		return;
	}
	answer_leaves(qu, answer);
	if (answer->more) {
		in->keep = true;
		return;
	}
	for (uint32_t i = 0; i < answer->n_notices && !qu->a->m->tries; i++) /* once, not with each try */
		notice_send(q, qu->a, &answer->notices[i]);
	q->n_questions--;
	q->counts.routed++;
	question_end(qu, "the router did not say where it goes");
}

/* ---- questions ---- */

static void question_facts(const struct question *qu, struct ipc_facts *facts)
{
	const struct ipc_spool_envelope *env = qu->a->env;

	if (env->facts)
		*facts = *env->facts;
	facts->house = &qu->q->house;
	facts->message_id = str_of(qu->a->m->file->id);
	facts->has_sender = true;
	facts->size = env->content;
	facts->body_offset = env->header_size;
	facts->received_us = env->received_us;
	facts->flags = qu->a->m->flags;
	facts->offset = SPOOL_CONTENT_OFFSET;
	facts->edits = qu->content ? env->edits : NULL;
	facts->n_edits = !qu->content ? 0 : env->n_edits > 256 ? 256 : env->n_edits;
	facts->n_results = facts->n_results > 64 ? 64 : facts->n_results;
}

/* False: no router is there, or its file can't be opened now. */
static bool question_ask(struct question *qu)
{
	struct qmgr *q = qu->q;
	struct channel *ch = route_router(q);
	struct ipc_recipient rcpt[ROUTE_SLICE];
	struct ipc_facts facts = { 0 };
	struct ipc_route_ask ask = { .facts = &facts, .recipients = rcpt, .n_recipients = qu->n, .attempt = qu->attempt,
		.first = qu->a->first, .forced = qu->a->m->forced };
	struct err err = ERR_INIT;
	uint32_t now = qmgr_now(q);
	int fd = -1;

	if (!ch)
		return false;
	qu->content = q->route_content;
	if (qu->content && (fd = spool_open_reader(q->spool, qu->a->m->file, &err)) < 0) {
		question_end(qu, "its file can't be opened now");
		return true;
	}
	question_facts(qu, &facts);
	ask.id = facts.message_id;
	/* On time for a queue run, nothing waits for one any more. */
	ask.arrival = ask.first && now < qu->a->m->received + q->set->queue_interval;
	ask.age_s = now > qu->a->m->received ? now - qu->a->m->received : 0;
	for (uint32_t i = 0; i < qu->n; i++) {
		rcpt[i] = *qu->rcpt[i]->r;
		rcpt[i].index = i; /* what the leaves say */
	}
	q->n_questions++;
	channel_ask(ch, &ipc_type_route_ask, &ask, &fd, qu->content ? 1 : 0, &ipc_type_route_answer, ROUTE_DEADLINE_MS, route_on_answer, qu);
	return true;
}

void route_pump(struct qmgr *q)
{
	while (q->n_questions < ROUTE_OPEN_MAX && !list_empty(&q->route_waiting) && route_router(q)) {
		struct list *n = list_first(&q->route_waiting);

		list_remove(n);
		if (!question_ask(list_entry(n, struct question, node))) {
			list_push_front(&q->route_waiting, n);
			return;
		}
	}
}

/* ---- the window ---- */

/* True: it is to be routed now. */
static bool rcpt_begin(struct qmgr *q, struct active *a, struct rcpt *r)
{
	struct message *m = a->m;
	uint32_t now = qmgr_now(q);

	if (r->state != R_TODO)
		return false;
	if (m->cancel) {
		r->state = R_BUSY;
		a->window++;
		q->n_window++;
		leaf_refused(q, a, leaf_new(a, r, NULL), m->cancel == CANCEL_ADMIN ? STR_LIT("cancelled by the administrator")
			: STR_LIT("the message was frozen for too long"));
		return false;
	}
	if (r->next_try > now && !m->forced && now < m->overdue_at) {
		r->state = R_DEFERRED; /* as recorded before */
		return false;
	}
	r->state = R_BUSY;
	a->window++;
	q->n_window++;
	return true;
}

void route_window(struct qmgr *q, struct active *a)
{
	while (a->next < a->n_rcpt && a->window < WINDOW_MAX) {
		uint32_t left = a->n_rcpt - a->next;
		struct question *qu = mem_new(sizeof *qu + (left < ROUTE_SLICE ? left : ROUTE_SLICE) * sizeof *qu->rcpt);

		qu->q = q;
		qu->a = a;
		qu->attempt = a->m->lost;
		while (a->next < a->n_rcpt && qu->n < ROUTE_SLICE) {
			struct rcpt *r = &a->rcpt[a->next++];

			if (rcpt_begin(q, a, r)) {
				r->open = 1;
				qu->rcpt[qu->n++] = r;
			}
		}
		if (!qu->n) {
			mem_free(qu);
			continue;
		}
		a->questions++;
		if (q->n_questions >= ROUTE_OPEN_MAX || !list_empty(&q->route_waiting) || !route_router(q) || !question_ask(qu))
			question_wait(qu);
	}
}

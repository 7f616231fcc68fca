/* SPDX-License-Identifier: ISC */
/* Recipients: what the ends of their leaves mean for them, for the message's file and for the reports. */
#include "qmgr/qmgr.h"

#include <string.h>

#include "common/dsn/dsn.h"

static uint32_t rcpt_number(const struct active *a, const struct rcpt *r) { return (uint32_t)(r - a->rcpt); }

/* ---- records ---- */

void record_add(struct qmgr *q, struct active *a, const struct ipc_spool_record *record)
{
	struct ipc_spool_record rec = *record;

	rec.when_us = qmgr_now_us(q);
	buf_add(&a->records, &rec, sizeof rec);
}

void records_flush(struct qmgr *q, struct active *a)
{
	struct err err = ERR_INIT;
	uint32_t n = (uint32_t)(a->records.len / sizeof(struct ipc_spool_record));

	if (!n)
		return;
	/* Not durable before the next batch: a crash until then means a second copy, never a lost recipient. */
	if (spool_record(q->spool, a->m->file, (const struct ipc_spool_record *)(const void *)a->records.p, n, NULL, NULL, &err))
		log_line(q->log, LOG_MAIN | LOG_PANIC, "%s results could not be recorded: %s", a->m->file->id, err.text);
	buf_reset(&a->records);
}

static struct str text_keep(struct active *a, struct str s, size_t most)
{
	return str_dup(&a->arena, str_sub(s, 0, most));
}

void due_add(struct active *a, const struct due *due)
{
	struct due *d = arena_alloc(&a->arena, sizeof *d);
	struct str *texts[] = { &d->to, &d->addr, &d->parent, &d->status, &d->host, &d->ip, &d->diagnostic, &d->error, &d->greeting, &d->helo,
		&d->note };

	*d = *due;
	d->next = NULL;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		*texts[i] = text_keep(a, *texts[i], 4096);
	d->output = str_dup(&a->arena, due->output);
	*a->due_last = d;
	a->due_last = &d->next;
}

/* ---- who hears of it ---- */

static bool leaf_is_redirected(const struct leaf *leaf) { return leaf->l->parents.len != 0; }

struct str report_to(const struct active *a, const struct rcpt *r, const struct leaf *leaf)
{
	if (leaf && leaf->l->has_errors_to)
		return leaf->l->errors_to;
	if (r->r->errors_to.len && !message_is_bounce(a->m))
		return r->r->errors_to;
	return a->env->facts ? a->env->facts->sender : STR_NULL;
}

static unsigned notify_of(const struct active *a, const struct rcpt *r, const struct leaf *leaf)
{
	unsigned notify = (unsigned)(leaf && leaf->l->notify ? leaf->l->notify : r->r->notify);

	/* Children of a redirection report as if nothing had been asked for, unless that was: never. */
	if (leaf && leaf_is_redirected(leaf) && !(notify & DSN_NEVER))
		notify = 0;
	if (a->m->flags & (MSG_FAKE_REJECT | MSG_FAKE_DEFER))
		notify &= ~(unsigned)(DSN_SUCCESS | DSN_DELAY);
	return notify;
}

static void due_fill(struct due *due, struct rcpt *r, const struct leaf *leaf, const struct leaf_end *end)
{
	due->rcpt = r;
	due->addr = leaf->l->addr.len ? leaf->l->addr : r->r->addr;
	due->parent = leaf_is_redirected(leaf) ? r->r->addr : r->r->parent;
	if (leaf->l->hide_child) {
		due->addr = r->r->parent.len ? r->r->parent : r->r->addr;
		due->parent = STR_NULL;
	}
	due->status = end->status;
	due->host = end->host;
	due->ip = end->ip;
	due->port = end->port;
	due->diagnostic = end->diagnostic;
	due->error = end->told.len ? end->told : end->text;
	due->output = end->output;
	due->greeting = end->greeting;
	due->helo = end->helo;
}

static bool due_success(struct active *a, struct rcpt *r, const struct leaf *leaf, const struct leaf_end *end, struct due *due)
{
	if (!(notify_of(a, r, leaf) & DSN_SUCCESS) || message_is_bounce(a->m) || !report_to(a, r, leaf).len)
		return false;
	if (end->remote && end->dsn_passed && !end->lasthop)
		return false; /* the next host answers for it */
	due_fill(due, r, leaf, end);
	due->kind = DUE_SUCCESS;
	due->to = report_to(a, r, leaf);
	due->addr = r->r->addr; /* as the client gave it */
	due->parent = STR_NULL;
	due->error = STR_NULL;
	due->action = end->remote ? DSN_ACTION_RELAYED : DSN_ACTION_DELIVERED;
	if (end->remote)
		due->note = end->lasthop ? STR_LIT("relayed via non DSN router") : STR_LIT("relayed to non-DSN-aware mailer");
	return true;
}

/* False: nobody is told. A report that can't be delivered itself is frozen, or dropped once it is old. */
static bool due_failure(struct qmgr *q, struct active *a, struct rcpt *r, const struct leaf *leaf, const struct leaf_end *end, struct due *due,
	bool *freeze_out)
{
	struct message *m = a->m;
	struct str to = report_to(a, r, leaf);
	unsigned notify = notify_of(a, r, leaf);

	*freeze_out = false;
	if (leaf->l->has_errors_to && !to.len) {
		log_message(q, m, "error ignored");
		return false;
	}
	if (!to.len) {
		if (q->set->ignore_bounce_errors >= 0 && (int64_t)qmgr_now(q) - m->received >= q->set->ignore_bounce_errors)
			log_message(q, m, "error ignored");
		else
			*freeze_out = true;
		return false;
	}
	if (notify && !(notify & DSN_FAILURE)) {
		log_message(q, m, "error ignored: RFC 3461 DSN, failure notify not requested");
		return false;
	}
	due_fill(due, r, leaf, end);
	due->kind = DUE_FAILED;
	due->action = DSN_ACTION_FAILED;
	due->to = to;
	return true;
}

void delay_add(struct qmgr *q, struct active *a, struct rcpt *r)
{
	unsigned notify = notify_of(a, r, NULL);
	struct due due = { .kind = DUE_DELAY, .rcpt = r, .action = DSN_ACTION_DELAYED, .to = report_to(a, r, NULL), .addr = r->r->addr,
		.parent = r->r->parent, .status = r->status, .error = r->why, .host = r->why_host, .ip = r->why_ip };

	if (!due.to.len || (notify && !(notify & DSN_DELAY)) || message_is_bounce(a->m) || a->m->flags & (MSG_FAKE_REJECT | MSG_FAKE_DEFER))
		return;
	if (a->m->overdue_at != TRY_NEVER && a->m->overdue_at > qmgr_now(q))
		due.retry_until = a->m->overdue_at;
	due_add(a, &due);
}

/* ---- the end of a leaf ---- */

static void result_record(struct qmgr *q, struct active *a, struct rcpt *r, const struct leaf *leaf, const struct leaf_end *end,
	const struct due *due)
{
	struct ipc_outcome *outcome = arena_alloc(&a->arena, sizeof *outcome);
	struct ipc_spool_record rec = { .kind = SPOOL_RESULT, .recipient = rcpt_number(a, r), .outcome = outcome };

	outcome->result = end->result;
	outcome->status = text_keep(a, end->status, 16);
	outcome->text = text_keep(a, end->diagnostic, 4096);
	outcome->stage = text_keep(a, end->text, 128);
	rec.addr = leaf->l->addr.len ? leaf->l->addr : r->r->addr;
	rec.host = text_keep(a, end->host, 255);
	rec.ip = text_keep(a, end->ip, 64);
	rec.transport = text_keep(a, end->transport, 128);
	rec.router = text_keep(a, end->router, 128);
	if (due) {
		struct ipc_pair *fact = arena_alloc(&a->arena, sizeof *fact);
		char *digit = arena_alloc(&a->arena, 2);

		digit[0] = (char)('0' + due->action);
		*fact = (struct ipc_pair){ .name = STR_LIT("report"), .value = str_make(digit, 1) };
		rec.facts = fact;
		rec.n_facts = 1;
		rec.text = text_keep(a, due->to, 4096);
	}
	record_add(q, a, &rec);
}

/* The only leaf of the only recipient, delivered, and nobody to be told: the file goes at once, so nothing need be written to it. */
static bool leaf_is_all(const struct active *a, const struct rcpt *r, const struct leaf *leaf)
{
	return a->n_rcpt == 1 && r->leaves == leaf && !leaf->next && !a->due;
}

static void leaf_end_one(struct qmgr *q, struct active *a, struct leaf *leaf, const struct leaf_end *end)
{
	struct rcpt *r = leaf->rcpt;
	struct due due = { 0 };
	bool told = false, freeze = false;

	switch (end->result) {
	case DELIVERY_OK:
		q->counts.delivered++;
		told = !leaf->l->unseen && due_success(a, r, leaf, end, &due);
		break;
	case DELIVERY_FAILED:
		q->counts.failed++;
		told = due_failure(q, a, r, leaf, end, &due, &freeze);
		if (freeze)
			a->freeze = "delivery error message";
		break;
	case DELIVERY_DEFERRED:
	case DELIVERY_RESULTS_END:
		q->counts.deferred++;
	}
	if (told)
		due_add(a, &due);
	if (end->result == DELIVERY_DEFERRED || freeze) {
		uint32_t next = freeze ? TRY_NEVER : end->next_try;

		if (!r->deferred || next < r->next_try) {
			r->next_try = next;
			if (end->dest)
				end->dest->refs++;
			if (r->dest)
				dest_unref(q, r->dest);
			r->dest = end->dest;
			r->waited = end->waits;
			r->why = text_keep(a, end->text, 1024);
			r->status = text_keep(a, end->status, 16);
			r->why_host = text_keep(a, end->host, 255);
			r->why_ip = text_keep(a, end->ip, 64);
		}
		if (!r->first_failed || (end->first_failed && end->first_failed < r->first_failed))
			r->first_failed = end->first_failed ? end->first_failed : qmgr_now(q);
		r->deferred = true;
	} else if (told || !leaf_is_all(a, r, leaf)) {
		result_record(q, a, r, leaf, end, told ? &due : NULL);
	}
	bug_on(!r->open);
	if (!--r->open)
		rcpt_settle(q, a, r);
}

struct leaf *leaf_new(struct active *a, struct rcpt *r, const struct ipc_leaf *l)
{
	struct leaf *leaf = arena_alloc(&a->arena, sizeof *leaf);

	leaf->l = arena_alloc(&a->arena, sizeof *leaf->l);
	if (l)
		ipc_copy(&ipc_type_leaf, l, leaf->l, &a->arena);
	else
		leaf->l->addr = r->r->addr;
	leaf->rcpt = r;
	leaf->next = r->leaves;
	r->leaves = leaf;
	r->open++;
	return leaf;
}

void leaf_settle(struct qmgr *q, struct active *a, struct leaf *leaf, const struct leaf_end *end)
{
	for (struct leaf *next; leaf; leaf = next) {
		next = leaf->same;
		leaf->same = NULL;
		leaf->result = (uint8_t)end->result;
		leaf_end_one(q, a, leaf, end);
	}
}

void leaf_withdraw(struct qmgr *q, struct active *a, struct leaf *leaf)
{
	for (struct leaf *next; leaf; leaf = next) {
		next = leaf->same;
		leaf->same = NULL;
		if (!--leaf->rcpt->open)
			rcpt_settle(q, a, leaf->rcpt);
	}
}

/* ---- the end of a recipient's round ---- */

/* one_time: what is left of the redirection stands for the recipient from now on. */
static bool rcpt_replace(struct qmgr *q, struct active *a, struct rcpt *r)
{
	struct ipc_spool_record rec = { .kind = SPOOL_REPLACE, .recipient = rcpt_number(a, r) };
	uint32_t n = 0;

	for (struct leaf *leaf = r->leaves; leaf; leaf = leaf->next) {
		if (!leaf->l->one_time || !leaf->l->addr.len)
			return false;
		n++;
	}
	if (!n || n > 2048 || a->n_rcpt + a->n_replaced + n > RECIPIENTS_MAX)
		return false;
	rec.recipients = arena_alloc(&a->arena, n * sizeof *rec.recipients);
	for (struct leaf *leaf = r->leaves; leaf; leaf = leaf->next) {
		struct done *d = r->done;

		while (d && !str_eq(d->addr, leaf->l->addr))
			d = d->next;
		if (d || (leaf->result && leaf->result != DELIVERY_DEFERRED)) /* delivered or failed, in an earlier round or in this one */
			continue;
		rec.recipients[rec.n_recipients++] = (struct ipc_recipient){ .addr = leaf->l->addr, .notify = r->r->notify & DSN_NEVER,
			.errors_to = leaf->l->has_errors_to && leaf->l->errors_to.len ? leaf->l->errors_to : r->r->errors_to, .parent = r->r->addr,
			.index = a->n_rcpt + a->n_replaced + rec.n_recipients };
	}
	a->n_replaced += rec.n_recipients;
	record_add(q, a, &rec);
	return true;
}

static void retry_record(struct qmgr *q, struct active *a, struct rcpt *r)
{
	struct ipc_spool_record rec = { .kind = SPOOL_RETRY, .recipient = rcpt_number(a, r), .next_try = r->next_try,
		.first_failed = r->first_failed, .tries = r->tries, .text = str_sub(r->why, 0, 1024), .destination = r->dest ? r->dest->name : STR_NULL };

	record_add(q, a, &rec);
}

/* Done is only what has been delivered, discarded or failed: a leaf whose end nobody told keeps its recipient in the queue. */
static bool leaves_are_settled(const struct rcpt *r)
{
	for (const struct leaf *leaf = r->leaves; leaf; leaf = leaf->next)
		if (!leaf->result)
			return false;
	return r->leaves != NULL;
}

void rcpt_settle(struct qmgr *q, struct active *a, struct rcpt *r)
{
	if (r->state == R_BUSY) {
		a->window--;
		q->n_window--;
	}
	if ((a->parked || a->withdrawn) && !r->deferred && !leaves_are_settled(r)) { /* as if it had not been looked at */
		r->state = R_DEFERRED;
		return;
	}
	if (!r->deferred && !leaves_are_settled(r)) {
		r->deferred = true;
		r->why = STR_LIT("its end was lost");
		r->next_try = qmgr_now(q) + INTERNAL_RETRY_S;
	}
	if (r->deferred) {
		r->state = R_DEFERRED;
		if (!r->waited) {
			r->last_try = qmgr_now(q);
			if (r->tries < UINT16_MAX)
				r->tries++;
		}
		if (r->tries >= a->m->tries)
			a->m->tries = r->tries ? r->tries : 1;
		if (rcpt_replace(q, a, r))
			r->state = R_DONE;
		else
			retry_record(q, a, r);
		return;
	}
	r->state = R_DONE;
	if (a->n_rcpt > 1 || !r->leaves || r->leaves->next || a->due || r->leaves->l->unseen) {
		struct ipc_outcome *outcome = arena_alloc(&a->arena, sizeof *outcome);
		struct ipc_spool_record rec = { .kind = SPOOL_RESULT, .recipient = rcpt_number(a, r), .outcome = outcome };

		outcome->result = DELIVERY_OK; /* of the recipient as a whole: nothing more is to be done */
		record_add(q, a, &rec);
	}
}

void rcpt_expanded(struct qmgr *q, struct active *a, struct rcpt *r, bool record)
{
	struct due due = { .kind = DUE_SUCCESS, .rcpt = r, .action = DSN_ACTION_EXPANDED, .addr = r->r->addr };
	struct ipc_spool_record rec = { .kind = SPOOL_NOTE, .recipient = rcpt_number(a, r), .text = STR_LIT("expanded") };

	if (r->expanded || !(r->r->notify & DSN_SUCCESS) || message_is_bounce(a->m) || a->m->flags & (MSG_FAKE_REJECT | MSG_FAKE_DEFER))
		return;
	r->expanded = true;
	due.to = report_to(a, r, NULL);
	if (!due.to.len)
		return;
	due_add(a, &due);
	if (record)
		record_add(q, a, &rec);
}

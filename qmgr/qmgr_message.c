/* SPDX-License-Identifier: ISC */
/* Messages: from durable to complete. A round makes a message active, routes and delivers all recipients that are due, makes
 * the reports, and ends in completion or in a deferral; docs/QUEUE.md draws the states. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SPARE_ACTIVES = 64, PROBE_S = 60, REPORT_AGAIN_S = 300, LOAD_AGAIN_S = 15 };

static const char *const state_names[M_STATES] = {
	[M_CURSOR] = "", [M_INTAKE] = "intake", [M_COMMITTING] = "intake", [M_READY] = "active", [M_ACTIVE] = "active",
	[M_DEFERRED] = "deferred", [M_PARKED] = "active", [M_FROZEN] = "frozen", [M_HELD] = "held", [M_LEAVING] = "leaving",
};

const char *message_state_name(const struct message *m) { return state_names[m->state]; }
bool message_is_bounce(const struct message *m) { return m->null_sender; }

void message_state_set(struct qmgr *q, struct message *m, enum message_state state)
{
	q->n_state[m->state]--;
	q->n_state[state]++;
	m->state = (uint8_t)state;
}

/* ---- making and ending ---- */

struct message *message_new(struct qmgr *q, struct spool_msg *file)
{
	struct message *m = mem_new(sizeof *m);

	m->file = file;
	file->owner = m;
	m->state = M_INTAKE;
	m->next_try = TRY_NEVER;
	m->overdue_at = TRY_NEVER;
	q->n_state[M_INTAKE]++;
	q->n_messages++;
	return m;
}

void message_free(struct qmgr *q, struct message *m)
{
	if ((m->state == M_ACTIVE || m->state == M_COMMITTING) && m->active)
		active_free(q, m->active);
	timer_set(q, m, TRY_NEVER);
	dest_unwait(q, m);
	list_remove(&m->queue);
	list_remove(&m->node);
	if (m->file)
		m->file->owner = NULL;
	q->n_state[m->state]--;
	q->n_messages--;
	mem_free(m);
}

struct active *active_new(struct qmgr *q, struct message *m)
{
	struct list *n = list_first(&q->spare_actives);
	struct active *a;

	if (n) {
		struct arena arena;
		struct buf records;

		a = list_entry(n, struct active, node);
		list_remove(n);
		q->n_spare--;
		arena = a->arena; /* its memory serves again */
		records = a->records;
		*a = (struct active){ .arena = arena, .records = records };
	} else {
		a = mem_new(sizeof *a);
	}
	a->m = m;
	list_init(&a->jobs);
	list_init(&a->back);
	a->due_last = &a->due;
	a->seen = (struct hash)HASH_INIT;
	return a;
}

/* Nothing may be in flight for it any more, or only what finds it by number. */
void active_free(struct qmgr *q, struct active *a)
{
	struct list *n;

	while ((n = list_first(&a->jobs)))
		job_drop(q, list_entry(n, struct job, of_message));
	back_drop(q, a, false);
	if (list_linked(&a->node)) {
		list_remove(&a->node);
		q->n_active--;
	}
	q->n_window -= a->window;
	for (uint32_t i = 0; i < a->n_rcpt; i++)
		if (a->rcpt[i].dest)
			dest_unref(q, a->rcpt[i].dest);
	if (a->parked)
		dest_unref(q, a->parked);
	hash_clear(&a->seen);
	if (a->m)
		a->m->active = NULL;
	buf_reset(&a->records);
	arena_reset(&a->arena);
	a->m = NULL;
	if (q->n_spare < SPARE_ACTIVES) {
		list_push(&q->spare_actives, &a->node);
		q->n_spare++;
		return;
	}
	buf_clear(&a->records);
	arena_clear(&a->arena);
	mem_free(a);
}

/* ---- what the file says ---- */

static struct rcpt *rcpt_at(struct active *a, uint64_t number)
{
	return number < a->n_rcpt ? &a->rcpt[number] : NULL;
}

static void fill_result(struct active *a, const struct ipc_spool_record *rec)
{
	struct rcpt *r = rcpt_at(a, rec->recipient);
	struct due due = { 0 };
	bool failed = rec->outcome && rec->outcome->result == DELIVERY_FAILED;

	if (!r || !rec->outcome)
		return;
	if (rec->addr.len) {
		struct done *d = arena_alloc(&a->arena, sizeof *d);

		*d = (struct done){ r->done, str_dup(&a->arena, rec->addr), str_dup(&a->arena, rec->transport) };
		r->done = d;
	} else {
		r->state = R_DONE;
	}
	/* Reports are due until a note says that they were made: no crash loses one. */
	for (uint32_t i = 0; i < rec->n_facts; i++)
		if (str_is(rec->facts[i].name, "report")) {
			due.kind = failed ? DUE_FAILED : DUE_SUCCESS;
			due.action = (uint8_t)(rec->facts[i].value.len ? rec->facts[i].value.p[0] - '0' : 0);
			due.rcpt = r;
			due.to = rec->text;
			due.addr = rec->addr.len ? rec->addr : r->r->addr;
			due.status = rec->outcome->status;
			due.diagnostic = rec->outcome->text;
			due.error = rec->outcome->stage;
			due.host = rec->host;
			due.ip = rec->ip;
			due_add(a, &due);
		}
}

/* A report was made for all that stood unreported until then. */
static void fill_reported(struct active *a)
{
	a->due = NULL;
	a->due_last = &a->due;
}

static uint32_t replaced_count(const struct ipc_spool_record *records, uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		if (records[i].kind == SPOOL_REPLACE)
			sum += records[i].n_recipients;
	return sum;
}

static void fill_record(struct active *a, const struct ipc_spool_record *rec, uint32_t *known)
{
	struct rcpt *r = rcpt_at(a, rec->recipient);
	struct message *m = a->m;

	switch (rec->kind) {
	case SPOOL_RESULT:
		fill_result(a, rec);
		break;
	case SPOOL_RETRY:
		if (r) {
			r->next_try = (uint32_t)(rec->next_try < 0 ? 0 : rec->next_try > UINT32_MAX - 1 ? UINT32_MAX - 1 : rec->next_try);
			r->first_failed = (uint32_t)rec->first_failed;
			r->last_try = rec->tries ? (uint32_t)(rec->when_us / 1000000) : 0;
			r->tries = (uint16_t)rec->tries;
			r->why = rec->text;
			if (r->tries > m->tries)
				m->tries = r->tries;
		}
		break;
	case SPOOL_FLAGS:
		m->flags = rec->flags;
		if (m->flags & MSG_FREEZE)
			m->frozen_at = (uint32_t)(rec->when_us / 1000000);
		break;
	case SPOOL_REPLACE:
		for (uint32_t i = 0; i < rec->n_recipients && *known < a->n_rcpt; i++, (*known)++) {
			a->rcpt[*known].r = arena_alloc(&a->arena, sizeof(struct ipc_recipient));
			ipc_copy(&ipc_type_recipient, &rec->recipients[i], a->rcpt[*known].r, &a->arena);
		}
		if (r && r < a->rcpt + *known)
			r->state = R_DONE;
		break;
	case SPOOL_WARNED:
		if (m->warned < UINT8_MAX)
			m->warned++;
		break;
	case SPOOL_NOTE:
		if (str_is(rec->text, "reported"))
			fill_reported(a);
		else if (r && str_is(rec->text, "expanded"))
			rcpt_expanded(NULL, a, r, false);
		break;
	default:
		break; /* a newer version's */
	}
}

void active_fill(struct active *a, const struct ipc_spool_record *records, uint32_t n)
{
	struct message *m = a->m;
	uint32_t known = a->env->n_recipients;

	a->n_rcpt = known + replaced_count(records, n);
	a->rcpt = arena_alloc(&a->arena, a->n_rcpt * sizeof *a->rcpt);
	for (uint32_t i = 0; i < known; i++)
		a->rcpt[i].r = &a->env->recipients[i];
	m->warned = 0;
	m->flags = a->env->flags;
	for (uint32_t i = 0; i < n; i++)
		fill_record(a, &records[i], &known);
	a->n_rcpt = known;
	m->n_rcpt = known;
	m->n_open = 0;
	for (uint32_t i = 0; i < known; i++)
		m->n_open += a->rcpt[i].state != R_DONE;
	m->received = (uint32_t)(a->env->received_us / 1000000);
	m->null_sender = !a->env->facts || !a->env->facts->sender.len;
}

static uint32_t fill_next_try(const struct active *a)
{
	uint32_t next = TRY_NEVER;

	for (uint32_t i = 0; i < a->n_rcpt; i++)
		if (a->rcpt[i].state == R_TODO && a->rcpt[i].next_try < next)
			next = a->rcpt[i].next_try;
	return a->due ? 0 : next;
}

/* ---- entering the queue ---- */

static void message_activate(struct qmgr *q, struct message *m)
{
	message_state_set(q, m, M_ACTIVE);
	m->active->first = !m->tries;
	list_push(&q->actives, &m->active->node);
	q->n_active++;
	active_step(q, m->active);
}

static bool room_for(const struct qmgr *q)
{
	return q->n_active < ACTIVE_MESSAGES_MAX && q->n_window < ACTIVE_RCPT_MAX && !q->draining;
}

void message_arrived(struct qmgr *q, struct message *m)
{
	struct active *a = m->active;
	uint32_t now = qmgr_now(q);

	list_push(&q->messages, &m->node);
	active_fill(a, NULL, 0);
	if (m->flags & MSG_DISCARDED || !m->n_rcpt) {
		log_message(q, m, "=> blackhole (discarded)");
		message_complete(q, m);
	} else if (m->flags & MSG_FREEZE) {
		freeze_notice(q, a, "by ACL", true);
		message_freeze(q, m, m->null_sender ? "" : "frozen on arrival by ACL");
	} else if (m->flags & MSG_QUEUE || q->set->queue_only) {
		message_defer(q, m, now + q->set->queue_interval);
	} else if (room_for(q) && list_empty(&q->ready[0])) {
		message_activate(q, m);
	} else {
		active_free(q, a);
		message_ready(q, m, true);
	}
}

static void message_place(struct qmgr *q, struct message *m, uint32_t next_try)
{
	uint32_t now = qmgr_now(q), warn = report_next_warning(q, m);

	if (m->flags & MSG_HELD)
		message_state_set(q, m, M_HELD);
	else if (m->flags & MSG_FREEZE)
		message_freeze(q, m, NULL);
	else if (next_try <= now || warn <= now)
		message_ready(q, m, false);
	else
		message_defer(q, m, next_try);
}

void message_scanned(struct qmgr *q, const struct spool_loaded *loaded)
{
	struct message *m = message_new(q, loaded->msg);
	struct active *a = active_new(q, m);
	uint32_t next_try;

	a->env = loaded->envelope;
	message_state_set(q, m, M_COMMITTING);
	m->active = a;
	list_push(&q->messages, &m->node);
	active_fill(a, loaded->records, loaded->n_records);
	next_try = fill_next_try(a);
	if (m->flags & MSG_QUEUE && !m->tries && !next_try)
		next_try = m->received + q->set->queue_interval;
	if (!m->n_open && !a->due) {
		message_complete(q, m); /* the end came between the last record and the removal */
		return;
	}
	active_free(q, a);
	message_place(q, m, next_try);
}

/* ---- ready, active ---- */

void message_ready(struct qmgr *q, struct message *m, bool fresh)
{
	timer_set(q, m, TRY_NEVER);
	m->next_try = 0;
	dest_unwait(q, m);
	list_remove(&m->queue);
	list_push(&q->ready[fresh ? 0 : 1], &m->queue);
	message_state_set(q, m, M_READY);
	qmgr_pump(q);
}

void message_wake(struct qmgr *q, struct message *m, bool forced)
{
	m->forced = m->forced || forced;
	if (m->state == M_DEFERRED || m->state == M_PARKED)
		message_ready(q, m, false);
}

static void message_unreadable(struct qmgr *q, struct message *m, enum status status, const struct err *err)
{
	struct err aside = ERR_INIT;

	if (status == ST_DEFER) {
		log_message(q, m, "spool file can't be read now: %s", err->text);
		message_defer(q, m, qmgr_now(q) + INTERNAL_RETRY_S);
		return;
	}
	log_line(q->log, LOG_MAIN | LOG_PANIC, "%s spool file is damaged and is set aside: %s", m->file->id, err->text);
	if (spool_set_aside(q->spool, m->file, err->text, &aside)) {
		log_line(q->log, LOG_MAIN | LOG_PANIC, "%s could not be set aside: %s", m->file->id, aside.text);
		message_freeze(q, m, "spool file damaged");
		return;
	}
	m->file = NULL;
	message_free(q, m);
}

static void message_load(struct qmgr *q, struct message *m)
{
	struct active *a = active_new(q, m);
	struct spool_loaded loaded;
	struct err err = ERR_INIT;
	enum status status;

	m->active = a;
	status = spool_load(q->spool, m->file, &a->arena, &loaded, &err);
	if (status) {
		active_free(q, a);
		message_unreadable(q, m, status, &err);
		return;
	}
	a->env = loaded.envelope;
	active_fill(a, loaded.records, loaded.n_records);
	message_activate(q, m);
}

void messages_pump(struct qmgr *q)
{
	unsigned budget = LOADS_A_TURN;

	while (budget-- && room_for(q)) {
		struct list *n = list_first(&q->ready[q->ready_turn]);

		if (!n)
			n = list_first(&q->ready[!q->ready_turn]);
		q->ready_turn = !q->ready_turn;
		if (!n)
			return;
		list_remove(n);
		message_load(q, list_entry(n, struct message, queue));
	}
	if (room_for(q) && (!list_empty(&q->ready[0]) || !list_empty(&q->ready[1])))
		loop_timer_start(&q->again, q->loop, 0, q->again.fn, q);
}

/* ---- the round ---- */

/* What an administrator asked for while the round was on. */
static bool round_want(struct qmgr *q, struct active *a)
{
	struct message *m = a->m;

	switch (a->want) {
	case WANT_REMOVE:
		message_complete(q, m);
		return true;
	case WANT_HOLD:
		active_free(q, a);
		message_hold(q, m);
		return true;
	case WANT_BOUNCE:
		m->cancel = CANCEL_ADMIN;
		active_free(q, a);
		message_ready(q, m, false);
		return true;
	case WANT_FREEZE:
		a->freeze = a->freeze ? a->freeze : "";
		return false;
	default:
		return false;
	}
}

static void round_close(struct qmgr *q, struct active *a)
{
	struct message *m = a->m;
	uint32_t next = TRY_NEVER, now = qmgr_now(q);
	struct dest *dest = NULL;
	bool one = true;

	m->n_open = 0;
	for (uint32_t i = 0; i < a->n_rcpt; i++) {
		struct rcpt *r = &a->rcpt[i];

		if (r->state == R_DONE)
			continue;
		m->n_open++;
		if (r->next_try < next)
			next = r->next_try;
		if (m->n_open > 1 && dest != r->dest)
			one = false;
		dest = r->dest;
	}
	m->n_open += a->n_replaced;
	if (a->report_failed) { /* what is due stands in the file */
		records_flush(q, a);
		message_defer(q, m, now + REPORT_AGAIN_S);
		return;
	}
	if (a->n_replaced)
		next = now < next ? now : next;
	if (!m->n_open) {
		message_complete(q, m);
		return;
	}
	records_flush(q, a);
	if (!a->parked)
		m->forced = false;
	m->internal = !a->internal ? 0 : m->internal < 16 ? (uint8_t)(m->internal + 1) : m->internal;
	if (round_want(q, a))
		return;
	if (a->freeze) {
		if (*a->freeze) /* not an administrator's wish */
			freeze_notice(q, a, a->freeze, false);
		message_freeze(q, m, a->freeze);
		return;
	}
	if (a->parked) {
		dest_wait(a->parked, m, true);
		active_free(q, a);
		message_state_set(q, m, M_PARKED);
		q->counts.parked++;
		return;
	}
	if (one && dest && !m->dest)
		dest_wait(dest, m, false);
	message_defer(q, m, next);
}

void active_step(struct qmgr *q, struct active *a)
{
	bool all = true;

	if (a->closing) /* called from within: the outer call goes on */
		return;
	a->closing = true;
	if (!a->want && !q->draining)
		route_window(q, a);
	if (!list_empty(&a->back) && !a->questions) /* all are known: in their order */
		back_release(q, a);
	a->closing = false;
	if (a->window || a->questions || a->deliveries) {
		records_flush(q, a);
		return;
	}
	if (a->reports)
		return;
	for (uint32_t i = 0; i < a->n_rcpt && all; i++)
		all = a->rcpt[i].state == R_DONE;
	if (!all || a->n_replaced)
		records_flush(q, a); /* else all that is recorded would go with the file */
	if (a->want == WANT_REMOVE || report_round(q, a))
		round_close(q, a);
}

void message_defer(struct qmgr *q, struct message *m, uint32_t when)
{
	uint32_t warn = report_next_warning(q, m), now = qmgr_now(q);

	if ((m->state == M_ACTIVE || m->state == M_COMMITTING) && m->active)
		active_free(q, m->active);
	if (!m->dest)
		list_remove(&m->queue);
	if (when <= now)
		when = now + 1;
	if (warn <= now) /* its condition could not be asked for: later */
		warn = now + 3600;
	message_state_set(q, m, M_DEFERRED);
	timer_set(q, m, when < warn ? when : warn);
}

void message_complete(struct qmgr *q, struct message *m)
{
	log_completed(q, m);
	q->counts.completed++;
	spool_finish(q->spool, m->file);
	m->file->owner = NULL;
	m->file = NULL;
	message_free(q, m);
	qmgr_pump(q);
}

void message_hold(struct qmgr *q, struct message *m)
{
	message_state_set(q, m, M_HELD);
}

void message_due(struct qmgr *q, struct message *m)
{
	uint32_t now = qmgr_now(q);
	struct dest *d = m->dest;

	if (m->state == M_FROZEN) {
		message_frozen_due(q, m, now);
		return;
	}
	if (m->state != M_DEFERRED)
		return;
	if (!m->forced && house_load_high(q)) {
		timer_set(q, m, now + LOAD_AGAIN_S + qmgr_random(q) % LOAD_AGAIN_S);
		return;
	}
	if (d && !m->forced && now < m->overdue_at && !report_warning_due(q, m) && d->dead_until) {
		if (d->dead_until > now) { /* not loaded, not routed: it could only be put back */
			uint32_t warn = report_next_warning(q, m), when = d->dead_until + qmgr_random(q) % 8;

			timer_set(q, m, warn < when ? warn : when);
			return;
		}
		d->dead_until = now + PROBE_S; /* this one finds out for the others */
	}
	message_ready(q, m, false);
}

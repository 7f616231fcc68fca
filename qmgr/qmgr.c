/* SPDX-License-Identifier: ISC */
/* The queue manager put together: its state, its turns, its timers. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"

enum {
	TICK_MS = 500,          /* idle connections */
	GATE_MS = 5000,         /* disk space */
	SCAN_FILES = 200,       /* files read in one turn while the spool is scanned */
	DUE_A_TURN = 2000,      /* deferred messages looked at in one turn */
};

int64_t qmgr_now_us(struct qmgr *q) { return q->env.wall_us ? q->env.wall_us(q->env.arg) : clock_wall_us(); }
uint32_t qmgr_now(struct qmgr *q) { return (uint32_t)(qmgr_now_us(q) / 1000000); }

/* For jitter, not for secrets. */
uint32_t qmgr_random(struct qmgr *q)
{
	q->random ^= q->random << 13;
	q->random ^= q->random >> 7;
	q->random ^= q->random << 17;
	return (uint32_t)(q->random >> 16);
}

/* ---- turns ---- */

static void timer_arm(struct qmgr *q)
{
	uint32_t next = timer_next(q);
	int64_t wait_us;

	if (next == q->timer_at && q->timer.at_ms)
		return;
	q->timer_at = next;
	if (next == TRY_NEVER) {
		loop_timer_stop(&q->timer);
		return;
	}
	wait_us = (int64_t)next * 1000000 - qmgr_now_us(q);
	if (wait_us > 3600 * (int64_t)1000000) /* the wall clock may be set meanwhile */
		wait_us = 3600 * (int64_t)1000000;
	loop_timer_start(&q->timer, q->loop, wait_us <= 0 ? 0 : (uint64_t)wait_us / 1000 + 1, qmgr_on_time, q);
}

void qmgr_on_time(void *arg)
{
	struct qmgr *q = arg;
	uint32_t now = qmgr_now(q);
	struct message *m;

	if (q->draining)
		return;
	for (unsigned i = 0; i < DUE_A_TURN && (m = timer_due(q, now)); i++)
		message_due(q, m);
	q->timer_at = TRY_NEVER;
	qmgr_pump(q);
}

static void pump_run(void *arg)
{
	struct qmgr *q = arg;

	q->pumping = false;
	if (!q->draining) {
		messages_pump(q);
		route_pump(q);
		schedule_pump(q);
	}
	timer_arm(q);
}

void qmgr_pump(struct qmgr *q)
{
	if (q->pumping || q->stopped)
		return;
	q->pumping = true;
	loop_defer(q->loop, pump_run, q);
}

static void again_fire(void *arg) { qmgr_pump(arg); }

static void tick_fire(void *arg)
{
	struct qmgr *q = arg;
	uint64_t now = loop_now(q->loop);

	conns_expire(q, now);
	agents_expire(q, now);
	if (q->n_state[M_PARKED])
		dests_unpark(q);
	if (q->spool && now >= q->intake_checked_ms + GATE_MS) {
		q->intake_checked_ms = now;
		intake_check(q);
		if (house_look(q))
			intake_tell(q);
	}
	qmgr_pump(q);
	loop_timer_start(&q->tick, q->loop, TICK_MS, tick_fire, q);
}

/* ---- the spool ---- */

static void scan_message(void *arg, const struct spool_loaded *loaded)
{
	message_scanned(arg, loaded);
}

static void scan_slice(void *arg)
{
	struct qmgr *q = arg;
	struct err err = ERR_INIT;
	enum status status;

	if (q->draining)
		return;
	status = spool_scan_next(q->spool, SCAN_FILES, scan_message, q, &err);
	if (status == ST_OK) {
		loop_timer_start(&q->scan, q->loop, 0, scan_slice, q);
	} else {
		q->scanning = false;
		if (status != ST_FAIL)
			log_line(q->log, LOG_MAIN | LOG_PANIC, "the spool could not be read to its end: %s", err.text);
	}
	qmgr_pump(q);
}

static void spool_on_trouble(void *arg, const struct spool_trouble *t)
{
	struct qmgr *q = arg;

	log_line(q->log, LOG_MAIN | LOG_PANIC, "spool: %s: %s%s", t->path, t->text, t->kind == SPOOL_DAMAGED ? "; moved to damaged/" : "");
}

static void spool_on_health(void *arg, enum spool_health health, const char *text)
{
	intake_health(arg, health, text);
}

enum status qmgr_open(struct qmgr *q, const struct spool_options *options, struct err *err)
{
	struct spool_options o = *options;

	o.loop = q->loop;
	o.trouble = spool_on_trouble;
	o.health = spool_on_health;
	o.arg = q;
	if (spool_open(&q->spool, &o, err))
		return err->status;
	intake_check(q);
	house_look(q);
	q->intake_checked_ms = loop_now(q->loop);
	q->scanning = true;
	loop_timer_start(&q->scan, q->loop, 0, scan_slice, q);
	loop_timer_start(&q->tick, q->loop, TICK_MS, tick_fire, q);
	return ST_OK;
}

/* ---- life ---- */

struct qmgr *qmgr_new(const struct qmgr_env *env, struct settings *set)
{
	struct qmgr *q = mem_new(sizeof *q);

	q->env = *env;
	q->loop = env->loop;
	q->log = env->log;
	q->set = set;
	q->random = (uint64_t)clock_wall_us() * 2654435761u ^ hash_bytes(&q, sizeof q);
	q->random |= 1;
	msgid_gen_init(&q->ids, hash_bytes(&q->random, sizeof q->random));
	q->timer_at = TRY_NEVER;
	list_init(&q->messages);
	list_init(&q->ready[0]);
	list_init(&q->ready[1]);
	list_init(&q->actives);
	list_init(&q->spare_actives);
	list_init(&q->routers);
	list_init(&q->route_waiting);
	for (unsigned i = 0; i < AGENT_CLASSES; i++) {
		list_init(&q->class[i].agents);
		list_init(&q->class[i].ready);
	}
	list_init(&q->shadows);
	list_init(&q->idle_conns);
	list_init(&q->retry_age);
	list_init(&q->clients);
	list_init(&q->ctls);
	q->again.fn = again_fire;
	report_view(q);
	return q;
}

static void messages_forget(struct qmgr *q)
{
	struct list *n;

	while ((n = list_first(&q->messages))) {
		struct message *m = list_entry(n, struct message, node);

		if (m->state == M_CURSOR) {
			list_remove(n);
			continue;
		}
		message_free(q, m);
	}
}

void qmgr_stop(struct qmgr *q)
{
	q->stopped = q->draining = true;
}

void qmgr_free(struct qmgr *q)
{
	struct list *n;

	if (!q)
		return;
	qmgr_stop(q);
	loop_timer_stop(&q->timer);
	loop_timer_stop(&q->tick);
	loop_timer_stop(&q->again);
	loop_timer_stop(&q->scan);
	route_forget(q);
	queue_etrn_stop(q);
	messages_forget(q);
	agents_free(q);
	if (q->spool)
		spool_close(q->spool);
	while ((n = list_first(&q->spare_actives))) {
		struct active *a = list_entry(n, struct active, node);

		list_remove(n);
		buf_clear(&a->records);
		arena_clear(&a->arena);
		mem_free(a);
	}
	route_router_gone(q, NULL);
	retry_clear(q);
	destinations_free(q);
	mem_free((char *)(uintptr_t)q->dsn_from.p);
	buf_clear(&q->line);
	mem_free(q->heap);
	settings_free(q->set);
	mem_free(q);
}

void qmgr_settings(struct qmgr *q, struct settings *set)
{
	settings_free(q->set);
	q->set = set;
	q->route_content = false; /* the new routers say whether they need it */
	report_view(q);
	intake_check(q);
	qmgr_pump(q);
}

void qmgr_drain(struct qmgr *q)
{
	q->draining = true;
	shadows_drain(q);
	snprintf(q->intake_text, sizeof q->intake_text, "shutting down, try again later");
}

bool qmgr_is_idle(const struct qmgr *q)
{
	for (unsigned i = 0; i < AGENT_CLASSES; i++)
		if (q->class[i].busy)
			return false;
	return !q->n_state[M_COMMITTING];
}

/* ---- counters ---- */

uint64_t qmgr_counter(const struct qmgr *q, unsigned i, const char **name_out)
{
	const struct { const char *name; uint64_t value; } rows[] = {
		{ "messages", q->n_messages },
		{ "active", q->n_state[M_ACTIVE] + q->n_state[M_READY] + q->n_state[M_PARKED] },
		{ "deferred", q->n_state[M_DEFERRED] },
		{ "frozen", q->n_state[M_FROZEN] },
		{ "held", q->n_state[M_HELD] },
		{ "incoming", q->n_state[M_INTAKE] + q->n_state[M_COMMITTING] },
		{ "parked", q->n_state[M_PARKED] },
		{ "scanning", q->scanning },
		{ "intake_closed", q->intake_is_closed },
		{ "destinations", q->dests.used },
		{ "remote_deliveries", q->class[AGENT_SMTP].busy },
		{ "local_deliveries", q->class[AGENT_LOCAL].busy },
		{ "idle_connections", q->n_idle_conns },
		{ "routing", q->n_questions },
		{ "failing_hosts", q->n_retry },
		{ "received", q->counts.received },
		{ "reports", q->counts.reports },
		{ "completed", q->counts.completed },
		{ "delivered", q->counts.delivered },
		{ "failed", q->counts.failed },
		{ "deferrals", q->counts.deferred },
		{ "connections_reused", q->counts.reused },
		{ "bytes_sent", q->counts.bytes },
		{ "router_workers_lost", q->counts.route_lost },
		{ "agents_lost", q->counts.agent_lost },
	};

	*name_out = i < sizeof rows / sizeof *rows ? rows[i].name : NULL;
	return *name_out ? rows[i].value : 0;
}

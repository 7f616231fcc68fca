/* SPDX-License-Identifier: ISC */
/* master_tickets.c - keys of TLS session tickets: random, in memory only, the same for every smtpd process, through reloads and restarts.
 * A key makes tickets for tls_ticket_key_time, and is taken as long again. With hints in Redis and tls_ticket_secret set, the first machine
 * that comes into a slot of time puts its key there, wrapped, and the others take it: master asks router as any daemon does, and looks at
 * nothing of an answer that the wrapping does not vouch for. While Redis is away each machine has keys of its own. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/hints_url.h"
#include "master/master.h"

enum {
	SHARE_AGAIN_MS = 2000,  /* router is not there, or has no answer */
	SHARE_WAIT_MS = 30000,
};

static bool sharing(const struct master *m)
{
	struct conf_hints where;
	struct err err = ERR_INIT;

	return m->conf->main.tls_ticket_secret.text.len && conf_hints_parse(m->conf->main.hints.text, &where, &err) == ST_OK && where.redis;
}

static void tickets_tell(struct master *m)
{
	list_each(&m->children, n)
		child_tickets_send(list_entry(n, struct child, node));
}

/* ---- what the other machines have ---- */

static void on_router_closed(void *owner, struct channel *ch, const char *why)
{
	struct master *m = owner;

	(void)why;
	m->tickets_router = NULL;
	m->tickets_question[0] = m->tickets_question[1] = 0;
	channel_free(ch);
}

static void router_leave(void *arg)
{
	struct master *m = arg;

	channel_free(m->tickets_router);
	m->tickets_router = NULL;
	m->tickets_question[0] = m->tickets_question[1] = 0;
}

static struct channel *router_channel(struct master *m)
{
	static const struct ipc_handler none[] = { { 0, NULL } };
	struct channel_spec spec = { .peer = "router", .handlers = none, .owner = m, .closed = on_router_closed };
	struct ipc_ctl_channel msg = { .peer = STR_LIT("master") };
	struct child *found = NULL;
	struct err err = ERR_INIT;
	int pair[2];

	if (m->tickets_router && channel_is_open(m->tickets_router))
		return m->tickets_router;
	list_each(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (!strcmp(c->service->name, "router") && c->control && !c->pending && !c->leaving && c->state == CHILD_READY)
			found = c;
	}
	if (!found || m->tickets_router || !ipc_pair(pair, &err))
		return NULL;
	channel_send(found->control, &ipc_type_ctl_channel, &msg, &pair[1], 1);
	m->tickets_router = channel_open(m->loop, pair[0], &spec);
	return m->tickets_router;
}

static void on_answer(void *arg, struct ipc_in *in, const struct err *err, int which)
{
	struct master *m = arg;
	const struct ipc_hint_answer *answer = in && in->type == &ipc_type_hint_answer ? in->msg : NULL;
	char name[TICKET_SLOT_TEXT];
	uint8_t key[TICKET_KEY];
	bool known;

	(void)err;
	m->tickets_question[which] = 0;
	/* A router that drains waits for who could ask it; not from here, where the channel is at work. */
	if (!m->tickets_question[!which])
		loop_timer_start(&m->tickets_leave, m->loop, 0, router_leave, m);
	if (!answer || answer->status != ST_OK)
		return;
	ticket_slot_name(name, m->tickets_period, m->tickets.slot[which]);
	known = ticket_unwrap(m->conf->main.tls_ticket_secret.text, name, answer->value, key);
	if (!known && !m->tickets_strange)
		master_log(m, LOG_MAIN, "the key of TLS session tickets in the hints was not wrapped with our tls_ticket_secret: this machine uses keys of its own");
	m->tickets_strange = !known;
	if (known && ticket_keys_share(&m->tickets, m->tickets.slot[which], key))
		tickets_tell(m);
	explicit_bzero(key, sizeof key);
}

static void on_kept(void *arg, struct ipc_in *in, const struct err *err)
{
	on_answer(arg, in, err, 0);
}

static void on_before(void *arg, struct ipc_in *in, const struct err *err)
{
	on_answer(arg, in, err, 1);
}

/* Answers to what was asked in an earlier slot are about other keys. */
static void questions_cancel(struct master *m)
{
	for (int i = 0; i < 2; i++) {
		if (m->tickets_question[i])
			channel_cancel(m->tickets_router, m->tickets_question[i]);
		m->tickets_question[i] = 0;
	}
}

static void share_ask(struct master *m, int which, ipc_reply_fn *fn)
{
	struct ipc_hint_ask ask = { .op = which ? HINT_GET : HINT_KEEP, .space = STR_LIT("tickets"), .expire_s = 2 * (uint64_t)m->tickets_period };
	char name[TICKET_SLOT_TEXT];
	uint8_t wrapped[TICKET_WRAPPED];
	struct channel *ch = m->tickets_question[which] ? NULL : router_channel(m);

	if (!ch)
		return;
	ticket_slot_name(name, m->tickets_period, m->tickets.slot[which]);
	ask.key = str_of(name);
	if (!which && !ticket_wrap(m->conf->main.tls_ticket_secret.text, name, m->tickets.key[0], wrapped))
		return;
	if (!which)
		ask.value = str_make((const char *)wrapped, sizeof wrapped);
	loop_timer_stop(&m->tickets_leave);
	m->tickets_question[which] = channel_ask(ch, &ipc_type_hint_ask, &ask, NULL, 0, &ipc_type_hint_answer, SHARE_WAIT_MS, fn, m);
}

/* ---- time ---- */

static void on_time(void *arg);

static void timer_set(struct master *m, int64_t wall_us)
{
	uint64_t period_ms = (uint64_t)m->tickets_period * 1000, wait = period_ms;

	if (m->tickets_clock)
		wait = period_ms - (uint64_t)(wall_us / 1000) % period_ms + 1;
	if (m->tickets_clock && !m->tickets.shared[0] && wait > SHARE_AGAIN_MS)
		wait = SHARE_AGAIN_MS;
	loop_timer_start(&m->tickets_timer, m->loop, wait, on_time, m);
}

/* Shared keys go by the clock, others by the time since they were made. */
static void on_time(void *arg)
{
	struct master *m = arg;
	int64_t wall_us = clock_wall_us(), slot;
	bool by_clock = sharing(m);

	if (by_clock != m->tickets_clock || m->tickets_period != m->conf->main.tls_ticket_key_time) {
		/* The settings are others since a reload: the key stays, as the one before. */
		m->tickets_period = m->conf->main.tls_ticket_key_time;
		m->tickets_clock = by_clock;
		m->tickets.slot[0] = by_clock ? wall_us / 1000000 / m->tickets_period - 1 : m->tickets.slot[0];
		m->tickets.shared[0] = false;
	}
	slot = by_clock ? wall_us / 1000000 / m->tickets_period : m->tickets.slot[0] + 1;
	if (slot != m->tickets.slot[0] || !m->tickets.made[0]) {
		questions_cancel(m);
		ticket_keys_turn(&m->tickets, slot, NULL);
		tickets_tell(m);
	}
	if (by_clock && !m->tickets.shared[0])
		share_ask(m, 0, on_kept);
	if (by_clock && !m->tickets.shared[1] && !m->tickets.made[1])
		share_ask(m, 1, on_before);
	timer_set(m, wall_us);
}

void tickets_start(struct master *m)
{
	if (m->tickets.made[0])
		return;
	/* With a secret the sessions that servers gave are known after a restart, and to the machines that share the hints. */
	if (!tls_seal_key(m->conf->main.tls_ticket_secret.text, "bulkhead: TLS sessions among the hints, 1", m->session_key))
		arc4random_buf(m->session_key, sizeof m->session_key);
	on_time(m);
}

void child_tickets_send(struct child *c)
{
	const struct ticket_keys *k = &c->m->tickets;
	struct ipc_ctl_tickets sessions = { .sessions = str_make((const char *)c->m->session_key, sizeof c->m->session_key) };
	struct ipc_ctl_tickets msg = { .now = str_make((const char *)k->key[0], sizeof k->key[0]) };

	if (!strcmp(c->service->name, "smtp-out") && c->control)
		channel_send(c->control, &ipc_type_ctl_tickets, &sessions, NULL, 0);
	if (!c->service->listens || !c->control || !k->made[0])
		return;
	if (k->made[1])
		msg.before = str_make((const char *)k->key[1], sizeof k->key[1]);
	channel_send(c->control, &ipc_type_ctl_tickets, &msg, NULL, 0);
}

void tickets_stop(struct master *m)
{
	loop_timer_stop(&m->tickets_timer);
	loop_timer_stop(&m->tickets_leave);
	router_leave(m);
}

void tickets_clear(struct master *m)
{
	tickets_stop(m);
	ticket_keys_clear(&m->tickets);
	explicit_bzero(m->session_key, sizeof m->session_key);
}

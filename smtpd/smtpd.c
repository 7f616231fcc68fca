/* SPDX-License-Identifier: ISC */
#include "smtpd/smtpd.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/conf/conf.h"

/* Read once by main(), before the jail; constant afterwards. */
static struct users users;

void smtpd_prepare(void)
{
	tzset();
	OPENSSL_init_ssl(0, NULL); /* reads the machine's openssl.cnf */
	users_load(&users);
}

const struct users *smtpd_users(void)
{
	return &users;
}

/* ---- channels ---- */

static void policyd_opened(struct daemon_link *link)
{
	struct smtpd *m = link->daemon->state;

	m->policyd = link;
	conn_policyd_opened(m);
}

static void policyd_closed(struct daemon_link *link, const char *why)
{
	struct smtpd *m = link->daemon->state;

	(void)why;
	if (m->policyd == link)
		m->policyd = NULL;
}

static void qmgr_opened(struct daemon_link *link)
{
	struct smtpd *m = link->daemon->state;

	m->qmgr = link;
	conn_qmgr_opened(m);
}

static void qmgr_closed(struct daemon_link *link, const char *why)
{
	struct smtpd *m = link->daemon->state;

	(void)why;
	if (m->qmgr == link)
		m->qmgr = NULL;
	conn_qmgr_closed(m, link->channel);
}

static void on_intake(void *owner, struct ipc_in *in)
{
	struct daemon_link *link = owner;
	struct smtpd *m = link->daemon->state;
	const struct ipc_intake *intake = in->msg;

	m->server.intake_closed = intake->closed;
	m->server.intake_code = (uint32_t)intake->code;
	m->server.intake_space_kb = intake->space_kb;
	m->server.house = intake->house ? *intake->house : (struct ipc_house){ 0 };
	snprintf(m->server.intake_text, sizeof m->server.intake_text, "%.*s", STR_FMT(intake->text));
}

static const struct ipc_handler qmgr_handlers[] = {
	{ IPC_intake, on_intake },
	{ 0, NULL },
};

/* The command plays master and qmgr (`bulkhead session`): it hands us a client that says where it comes from. */
static void on_session_client(void *owner, struct ipc_in *in)
{
	struct daemon_link *link = owner;

	conn_pretended(link->daemon->state, in->fds[0], in->msg);
	in->fds[0] = -1;
}

static const struct ipc_handler session_handlers[] = {
	{ IPC_session_client, on_session_client },
	{ 0, NULL },
};

static const struct daemon_peer peers[] = {
	{ .name = "policyd", .pack = 1, .retire = true, .opened = policyd_opened, .closed = policyd_closed },
	{ .name = "qmgr", .handlers = qmgr_handlers, .opened = qmgr_opened, .closed = qmgr_closed },
	{ .name = "keyd", .raw = true, .opened = tls_keyd_opened },
	{ .name = "session", .handlers = session_handlers },
	{ .name = NULL },
};

/* ---- life ---- */

static enum status smtpd_start(struct daemon *d, struct err *err)
{
	struct smtpd *m = mem_new(sizeof *m);

	(void)err;
	m->daemon = d;
	d->state = m;
	list_init(&m->conns);
	list_init(&m->listeners);
	m->buffer = mem_new(SMTPD_READ_MAX);
	tls_cache_init(m);
	m->server.ops = &conn_ops;
	m->server.process = (uint32_t)getpid();
	m->server.scratch = (struct arena)ARENA_INIT;
	settings_from_conf(&m->server.settings, d->conf);
	return ST_OK;
}

static void drain_tick(void *arg)
{
	struct smtpd *m = arg;
	uint64_t now = loop_now(m->daemon->loop);

	list_each_safe(&m->conns, n) {
		struct conn *c = list_entry(n, struct conn, node);

		/* Whoever is stopping does not wait for an ACL's delay, or for a handshake. */
		if ((c->session.state == SESSION_DELAY || c->session.state == SESSION_TLS) && m->drain_idle_ms <= SMTPD_DRAIN_GRACE_MS) {
			conn_enter(c);
			c->session.deadline_ms = now;
			session_on_deadline(&c->session);
			conn_leave(c);
			continue;
		}
		if (c->session.state != SESSION_COMMAND || (c->session.txn && now < m->drain_from_ms + 4 * m->drain_idle_ms) ||
		    now < c->active_ms + m->drain_idle_ms || now < m->drain_from_ms + m->drain_idle_ms)
			continue;
		conn_enter(c);
		session_on_drain(&c->session);
		conn_leave(c);
	}
	if (list_empty(&m->conns))
		daemon_finish(m->daemon);
	else
		loop_timer_start(&m->drain, m->daemon->loop, SMTPD_DRAIN_TICK_MS, drain_tick, m);
}

/* A long deadline is a reload: sessions end by themselves. A short one is a stop: those that do nothing are told to go. */
static void smtpd_drain(struct daemon *d, uint64_t deadline_ms)
{
	struct smtpd *m = d->state;

	m->draining = true;
	m->drain_from_ms = loop_now(d->loop);
	m->drain_idle_ms = deadline_ms >= 10 * 60 * 1000 ? deadline_ms / 2 : deadline_ms / 4 < SMTPD_DRAIN_GRACE_MS ? deadline_ms / 4 : SMTPD_DRAIN_GRACE_MS;
	listeners_close(m);
	drain_tick(m);
}

static void smtpd_stop(struct daemon *d)
{
	struct smtpd *m = d->state;

	list_each_safe(&m->conns, n)
		conn_end(list_entry(n, struct conn, node));
	listeners_close(m);
	loop_timer_stop(&m->drain);
	hosts_clear(m);
	tls_cache_clear(m);
	client_settings_unref(m->server.everyone);
	arena_clear(&m->server.scratch);
	mem_free(m->buffer);
	mem_free(m);
	d->state = NULL;
}

static void smtpd_status(struct daemon *d, struct daemon_status *out)
{
	struct smtpd *m = d->state;
	const struct server_stats *stats = &m->server.stats;
	const struct { const char *name; uint64_t value; } rows[] = {
		{ "open", m->n_conns }, { "sessions", stats->sessions }, { "refused", stats->refused }, { "messages", stats->messages },
		{ "recipients", stats->recipients }, { "rejects", stats->rejects }, { "bytes", stats->bytes }, { "lost", stats->lost },
		{ "timeouts", stats->timeouts }, { "asked", stats->asked }, { "asked_again", stats->asked_again },
		{ "tls", stats->tls }, { "tls_resumed", stats->tls_resumed }, { "tls_failed", stats->tls_failed },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		daemon_count(out, rows[i].name, rows[i].value);
	if (m->server.intake_closed)
		daemon_note(out, "intake", "closed: %s", m->server.intake_text);
}

const struct daemon_spec smtpd_spec = {
	.name = "smtpd",
	.what = "receives mail by SMTP",
	.see = V_SMTPD,
	.peers = peers,
	.sys = DAEMON_SYS_ACCEPT,
	.start = smtpd_start,
	.listener = listener_add,
	.drain = smtpd_drain,
	.stop = smtpd_stop,
	.status = smtpd_status,
	.tickets = tls_tickets_take,
};

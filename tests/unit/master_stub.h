/* SPDX-License-Identifier: ISC */
/* master_stub.h - stand-ins for the daemons, for master's test: each does just enough to show who it is and who it can reach.
 * Used by:    master_life_test.c, whose program is started under the daemons' names.
 * Words on an smtpd stub's connection, one a line: "who" says name, generation, pid, uid; "ask KEY" goes to policyd and from there
 * to router; "deliver UID [GID]" goes to qmgr and from there to local; "die" kills it. */
#ifndef TESTS_MASTER_STUB_H
#define TESTS_MASTER_STUB_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/daemon/daemon.h"
#include "common/daemon/pool.h"

/* ---- query: says who it is ---- */

static void stub_query_ask(struct worker *w, struct ipc_in *in)
{
	struct ipc_lookup_answer a = { .status = ST_OK, .value = str_printf(&w->arena, "ran as uid %d gid %d", (int)getuid(), (int)getgid()) };

	worker_answer(w, in, &ipc_type_lookup_answer, &a, NULL, 0);
}
static const struct pool_handler stub_query_handlers[] = { { IPC_lookup_ask, stub_query_ask }, { 0, NULL } };
static const struct pool_peer stub_query_peers[] = { { "router", stub_query_handlers }, { NULL, NULL } };
static const struct pool_spec stub_query = {
	.name = "query", .what = "stub", .see = V_QUERY, .sys = DAEMON_SYS_READ, .peers = stub_query_peers, .drain_when_idle = true
};

/* ---- router: lookup KEY gives "KEY router/N gG"; "query UID" what the query process of that uid, with the gid behind it, says ---- */

static void stub_lookup(struct worker *w, struct ipc_in *in)
{
	const struct ipc_lookup_ask *q = in->msg;
	struct ipc_lookup_answer a = { .status = ST_OK }, got;
	struct err err = ERR_INIT;
	uint64_t uid;

	if (str_is(q->key, "crash"))
		abort();
	a.value = str_printf(&w->arena, "%.*s router g%d", STR_FMT(q->key), (int)w->generation);
	if (str_begins(q->key, "query ") && str_u64(str_from(q->key, 6), UINT32_MAX, &uid)) {
		struct worker_login login = { (uid_t)uid, (gid_t)uid + 1 };

		a.value = worker_errand(w, &login, &ipc_type_lookup_ask, q, &ipc_type_lookup_answer, &got, 2000, &err) ?
			str_of(arena_strdup(&w->arena, err.text)) : got.value;
	}
	worker_answer(w, in, &ipc_type_lookup_answer, &a, NULL, 0);
}
static const struct pool_handler stub_router_handlers[] = { { IPC_lookup_ask, stub_lookup }, { 0, NULL } };
static const struct pool_peer stub_router_peers[] = {
	{ "qmgr", stub_router_handlers }, { "policyd", stub_router_handlers }, { "ctl", stub_router_handlers }, { NULL, NULL }
};
static const struct pool_spec stub_router = { .name = "router", .what = "stub", .see = V_ROUTER, .sys = DAEMON_SYS_READ, .peers = stub_router_peers,
	.errand = "query" };

/* ---- policyd ---- */

static void stub_acl(struct worker *w, struct ipc_in *in)
{
	const struct ipc_acl_ask *q = in->msg;
	struct ipc_lookup_ask up = { .type = STR_LIT("x"), .key = q->facts ? q->facts->helo : STR_NULL };
	struct ipc_lookup_answer got;
	struct ipc_acl_answer a = { .verdict = ACL_ACCEPT };
	struct err err = ERR_INIT;

	if (worker_call(w, &ipc_type_lookup_ask, &up, NULL, 0, &ipc_type_lookup_answer, &got, 3000, &err))
		a.text = str_of(arena_strdup(&w->arena, err.text));
	else
		a.text = str_printf(&w->arena, "%.*s policyd g%d", STR_FMT(got.value), (int)w->generation);
	worker_answer(w, in, &ipc_type_acl_answer, &a, NULL, 0);
}
static const struct pool_handler stub_policyd_handlers[] = { { IPC_acl_ask, stub_acl }, { 0, NULL } };
static const struct pool_peer stub_policyd_peers[] = { { "smtpd", stub_policyd_handlers }, { NULL, NULL } };
static const struct pool_spec stub_policyd = {
	.name = "policyd", .what = "stub", .see = V_POLICYD, .peers = stub_policyd_peers, .needs = "router"
};

/* ---- local ---- */

static void stub_deliver(struct worker *w, struct ipc_in *in)
{
	const struct ipc_deliver *q = in->msg;
	struct ipc_delivered a = { .delivery = q->delivery };

	a.store = str_printf(&w->arena, "delivered by uid %d, gid %d", (int)getuid(), (int)getgid());
	worker_answer(w, in, &ipc_type_delivered, &a, NULL, 0);
}
static const struct pool_handler stub_local_handlers[] = { { IPC_deliver, stub_deliver }, { 0, NULL } };
static const struct pool_peer stub_local_peers[] = { { "qmgr", stub_local_handlers }, { NULL, NULL } };
static void stub_local_size(const struct conf *conf, struct pool_size *out)
{
	(void)conf;
	out->alone_ms = 300;
}
static const struct pool_spec stub_local = {
	.name = "local", .what = "stub", .see = V_LOCAL, .sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE, .peers = stub_local_peers,
	.drain_when_idle = true, .size = stub_local_size
};

/* ---- qmgr: msg_begin size=UID + GID << 32 is answered with what local for that uid said ---- */

struct stub_question {
	struct channel *client;
	uint64_t request;
	struct daemon_link *local;
};
static struct stub_question stub_questions[256];

static void stub_file_answer(struct stub_question *q, struct str text)
{
	struct ipc_msg_file a = { .status = ST_DEFER, .text = text };

	if (q->client)
		channel_answer(q->client, q->request, &ipc_type_msg_file, &a, NULL, 0);
	q->client = NULL;
}
static void stub_on_delivered(void *arg, struct ipc_in *in, const struct err *err)
{
	struct stub_question *q = arg;

	stub_file_answer(q, in && in->type == &ipc_type_delivered ? ((const struct ipc_delivered *)in->msg)->store : str_of(err ? err->text : "lost"));
	if (q->local)
		daemon_link_close(q->local);
	q->local = NULL;
}
static void stub_on_begin(void *owner, struct ipc_in *in)
{
	struct daemon_link *l = owner;
	const struct ipc_msg_begin *m = in->msg;
	uint64_t cookie = in->request % 256;

	stub_questions[cookie] = (struct stub_question){ .client = in->channel, .request = in->request };
	daemon_need(l->daemon, "local", cookie, (uid_t)(uint32_t)m->size, (gid_t)(m->size >> 32), "somebody", false);
}
static void stub_local_opened(struct daemon_link *l)
{
	struct stub_question *q = &stub_questions[l->cookie % 256];
	struct ipc_deliver d = { .delivery = 1, .id = STR_LIT("x") };

	q->local = l;
	channel_ask(l->channel, &ipc_type_deliver, &d, NULL, 0, &ipc_type_delivered, 5000, stub_on_delivered, q);
}
static void stub_refused(struct daemon *d, uint64_t cookie, struct str text)
{
	(void)d;
	stub_file_answer(&stub_questions[cookie % 256], text);
}
static const struct ipc_handler stub_qmgr_smtpd[] = { { IPC_msg_begin, stub_on_begin }, { 0, NULL } };
static const struct daemon_peer stub_qmgr_peers[] = {
	{ .name = "smtpd", .handlers = stub_qmgr_smtpd }, { .name = "router", .retire = true }, { .name = "smtp-out" },
	{ .name = "local", .opened = stub_local_opened }, { .name = "ctl" }, { NULL }
};
static enum status stub_view(struct daemon *d, const struct conf *conf, struct err *err)
{
	(void)err;
	daemon_log(d, LOG_MAIN, "new view: %.*s", STR_FMT(conf->main.qualify_domain.text));
	return ST_OK;
}
static void stub_status(struct daemon *d, struct daemon_status *out)
{
	unsigned n = 0;

	list_each(&d->links, l)
		n++;
	daemon_count(out, "links", n);
}
static const struct daemon_spec stub_qmgr = {
	.name = "qmgr", .what = "stub", .see = V_QMGR, .peers = stub_qmgr_peers, .sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE, .view = stub_view,
	.refused = stub_refused, .status = stub_status
};

/* ---- smtp-out ---- */

static const struct daemon_peer stub_out_peers[] = { { .name = "qmgr" }, { NULL } };
static const struct daemon_spec stub_out = { .name = "smtp-out", .what = "stub", .see = V_SMTP_OUT, .peers = stub_out_peers };

/* ---- keyd ---- */

static const struct daemon_peer stub_keyd_peers[] = { { .name = "smtpd" }, { NULL } };
static const struct daemon_spec stub_keyd = { .name = "keyd", .what = "stub", .see = V_KEYD, .peers = stub_keyd_peers };

/* ---- smtpd: "tickets" says the key that makes tickets, or a part of it ---- */

static char stub_tickets[12] = "none";
static void stub_tickets_take(struct daemon *d, struct str now, struct str before)
{
	(void)d, (void)before;
	snprintf(stub_tickets, sizeof stub_tickets, "%02x%02x%02x%02x", (uint8_t)now.p[0], (uint8_t)now.p[1], (uint8_t)now.p[78], (uint8_t)now.p[79]);
}

struct stub_session {
	struct list node;
	struct daemon *d;
	struct loop_fd watch;
	int fd;
	unsigned tries;
	char key[256];
};
static struct list stub_sessions = { &stub_sessions, &stub_sessions };
static struct loop_fd stub_listeners[64];
static unsigned stub_n_listeners;
static struct daemon *stub_daemon;

static void stub_say(struct stub_session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void stub_say(struct stub_session *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(s->fd, fmt, ap);
	va_end(ap);
}
static void stub_session_end(struct stub_session *s)
{
	struct daemon *d = s->d;

	loop_fd_clear(&s->watch);
	close(s->fd);
	list_remove(&s->node);
	free(s);
	if (d->draining && list_empty(&stub_sessions))
		daemon_finish(d);
}
static void stub_ask_policyd(struct stub_session *s);
static void stub_on_acl(void *arg, struct ipc_in *in, const struct err *err)
{
	struct stub_session *s = arg;

	if (in && in->type == &ipc_type_acl_answer)
		stub_say(s, "%.*s\n", STR_FMT(((const struct ipc_acl_answer *)in->msg)->text));
	else if (s->tries++ < 200)
		stub_ask_policyd(s);
	else
		stub_say(s, "lost: %s\n", err ? err->text : "a worker");
}
static void stub_later(void *arg)
{
	stub_ask_policyd(arg);
}
static void stub_ask_policyd(struct stub_session *s)
{
	static struct loop_timer wait;
	struct daemon_link *l = daemon_link_find(s->d, "policyd");
	struct ipc_facts facts = { .helo = str_of(s->key) };
	struct ipc_acl_ask q = { .stage = ACL_HELO, .facts = &facts };

	if (l)
		channel_ask(l->channel, &ipc_type_acl_ask, &q, NULL, 0, &ipc_type_acl_answer, 5000, stub_on_acl, s);
	else
		loop_timer_start(&wait, s->d->loop, 20, stub_later, s);
}
static void stub_on_file(void *arg, struct ipc_in *in, const struct err *err)
{
	struct stub_session *s = arg;

	stub_say(s, "%.*s\n", STR_FMT(in ? ((const struct ipc_msg_file *)in->msg)->text : str_of(err->text)));
}
static void stub_word(struct stub_session *s, char *line)
{
	struct daemon_link *qmgr = daemon_link_find(s->d, "qmgr");
	char *gid = line;
	uint64_t uid = strtoull(line + 8, &gid, 10);
	struct ipc_msg_begin m = { .size = uid | (*gid == ' ' ? strtoull(gid, NULL, 10) : uid) << 32 };

	if (!strncmp(line, "who", 3)) {
		stub_say(s, "%s %d %d %d %.*s\n", s->d->name, (int)s->d->generation, (int)getpid(), (int)getuid(),
			STR_FMT(s->d->conf->main.qualify_domain.text));
	} else if (!strncmp(line, "ask ", 4)) {
		snprintf(s->key, sizeof s->key, "%s", line + 4);
		s->tries = 0;
		stub_ask_policyd(s);
	} else if (!strncmp(line, "deliver ", 8) && qmgr) {
		channel_ask(qmgr->channel, &ipc_type_msg_begin, &m, NULL, 0, &ipc_type_msg_file, 5000, stub_on_file, s);
	} else if (!strncmp(line, "tickets", 7)) {
		stub_say(s, "%s\n", stub_tickets);
	} else if (!strncmp(line, "die", 3)) {
		abort();
	} else {
		stub_say(s, "what?\n");
	}
}
static void stub_on_line(void *arg, unsigned ready)
{
	struct stub_session *s = arg;
	char line[256];
	ssize_t n = read(s->fd, line, sizeof line - 1);

	(void)ready;
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			stub_session_end(s);
		return;
	}
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	stub_word(s, line);
}
static void stub_on_accept(void *arg, unsigned ready)
{
	struct loop_fd *w = arg;
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct stub_session *s;

	(void)ready;
	if (fd < 0)
		return;
	s = calloc(1, sizeof *s);
	s->fd = fd;
	list_push(&stub_sessions, &s->node);
	s->d = stub_daemon;
	loop_fd_init(&s->watch, w->loop, fd, stub_on_line, s);
	loop_fd_set(&s->watch, LOOP_READ);
}
static enum status stub_smtpd_start(struct daemon *d, struct err *err)
{
	(void)err;
	stub_daemon = d;
	if (str_is(d->conf->main.qualify_domain.text, "broken.example"))
		return err_set(err, ST_ERROR, "this configuration breaks smtpd");
	return ST_OK;
}
static void stub_listener(struct daemon *d, const struct daemon_listener *l)
{
	struct loop_fd *w = &stub_listeners[stub_n_listeners++ % 64];

	loop_fd_init(w, d->loop, l->fd, stub_on_accept, w);
	loop_fd_set(w, LOOP_READ);
}
static void stub_drain(struct daemon *d, uint64_t deadline_ms)
{
	for (unsigned i = 0; i < stub_n_listeners; i++) {
		loop_fd_clear(&stub_listeners[i]);
		close(stub_listeners[i].fd);
	}
	stub_n_listeners = 0;
	if (list_empty(&stub_sessions) || deadline_ms < 20000) /* a stop, and no reload */
		daemon_finish(d);
}
static const struct daemon_peer stub_smtpd_peers[] = { { .name = "policyd", .retire = true }, { .name = "qmgr" }, { .name = "keyd" }, { NULL } };
static const struct daemon_spec stub_smtpd = {
	.name = "smtpd", .what = "stub", .see = V_SMTPD, .peers = stub_smtpd_peers, .sys = DAEMON_SYS_ACCEPT, .start = stub_smtpd_start,
	.listener = stub_listener, .drain = stub_drain, .tickets = stub_tickets_take
};

/* Whether this program was started as a daemon; then *code_out is what it ended with. */
static bool stub_main(int argc, char **argv, int *code_out)
{
	static const struct daemon_spec *const daemons[] = { &stub_qmgr, &stub_out, &stub_smtpd, &stub_keyd };
	static const struct pool_spec *const pools[] = { &stub_router, &stub_policyd, &stub_local };
	const char *name = strrchr(argv[0], '/');

	name = name ? name + 1 : argv[0];
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--name") && !strncmp(argv[i + 1], "query/", 6)) {
			*code_out = pool_main(&stub_query, argc, argv);
			return true;
		}
	for (size_t i = 0; i < 4; i++) {
		if (!strcmp(name, daemons[i]->name)) {
			*code_out = daemon_main(daemons[i], argc, argv);
			return true;
		}
		if (i < 3 && !strcmp(name, pools[i]->name)) {
			*code_out = pool_main(pools[i], argc, argv);
			return true;
		}
	}
	return false;
}

#endif

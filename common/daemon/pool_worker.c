/* SPDX-License-Identifier: ISC */
/* pool_worker.c - a worker of a pool: reads a packet, works its questions off, answers. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/daemon/pool_impl.h"

enum {
	ANSWER_SOFT_MAX = 60 * 1024,  /* octets of answers that are collected */
	ANSWER_WAIT_US = 500,         /* an answer waits no longer for those behind it */
	SEND_TIMEOUT_MS = 10 * 1000,  /* a client that takes no answer for so long is given up */
	CONTROL_TIMEOUT_MS = 10 * 1000,
	KEEP_MAX = POOL_WORKERS_MAX + 64,
	ERRAND_TRIES = 2,
};

struct worker_client {
	struct list node;
	uint64_t id;
	int fd;
	const struct pool_peer *peer;
	char name[64];
};

struct worker_impl {
	struct worker worker;
	struct daemon *daemon;
	struct pool_shared *shared;
	struct pool_slot *slot;
	struct list clients;
	int control, full, epoll;
	bool stop, asked;                 /* an upstream channel has been asked for */
	int errand;                       /* the channel of an errand; -1: none */
	struct worker_login errand_login; /* whose that channel is to be */
	char refused[256];                /* why there is no channel for it */
	char name[96];
	struct ipc_packet packet;
	/* while a packet is worked off */
	struct worker_client *client;     /* whose; NULL: none */
	struct buf out;                   /* answers collected */
	uint64_t packet_us;               /* when it was read, or the last answers were sent */
	unsigned at, answered_at;         /* question under way; those below answered_at are marked as answered */
	uint64_t request;                 /* of the question under way; 0: no answer expected */
	bool answered;                    /* the question under way has an answer */
};

/* ---- saying ---- */

void worker_log(struct worker *w, unsigned targets, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_line(w->log, targets, "%s: %s", w->name, text);
}

static void control_send(struct worker_impl *i, const struct ipc_type *type, const void *msg)
{
	struct err err = ERR_INIT;

	if (ipc_send(i->control, type, 0, false, msg, NULL, 0, CONTROL_TIMEOUT_MS, &err))
		i->stop = true; /* the manager is gone */
}

_Noreturn static void worker_exit(struct worker_impl *i, int code)
{
	log_flush(i->worker.log);
	_exit(code);
}

/* ---- clients ---- */

static void client_add(struct worker_impl *i, uint64_t id, int fd, const struct pool_peer *peer, const char *name)
{
	struct worker_client *c = mem_new(sizeof *c);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = c };

	c->id = id;
	c->fd = fd;
	c->peer = peer;
	snprintf(c->name, sizeof c->name, "%s", name);
	list_push(&i->clients, &c->node);
	if (epoll_ctl(i->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		worker_log(&i->worker, LOG_MAIN | LOG_PANIC, "watching the channel of %s: %s", name, strerror(errno));
}

static void client_drop(struct worker_impl *i, struct worker_client *c)
{
	if (i->client == c)
		i->client = NULL;
	list_remove(&c->node);
	epoll_ctl(i->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	close(c->fd);
	mem_free(c);
}

/* Ends the channel for everybody: the other workers and the manager see its end, the client asks again on another. */
static void client_break(struct worker_impl *i, struct worker_client *c, const char *why)
{
	worker_log(&i->worker, LOG_MAIN | LOG_PANIC, "the channel of %s is closed: %s", c->name, why);
	shutdown(c->fd, SHUT_RDWR);
	client_drop(i, c);
}

/* ---- the manager ---- */

static const struct pool_peer *peer_find(const struct pool_spec *spec, struct str name)
{
	for (const struct pool_peer *p = spec->peers; p && p->name; p++)
		if (str_is(name, p->name))
			return p;
	return NULL;
}

static void upstream_drop(struct worker_impl *i)
{
	if (i->worker.upstream >= 0) {
		epoll_ctl(i->epoll, EPOLL_CTL_DEL, i->worker.upstream, NULL);
		close(i->worker.upstream);
	}
	i->worker.upstream = -1;
}

static void upstream_ask(struct worker_impl *i)
{
	if (i->worker.spec->needs && !i->asked) {
		struct ipc_ctl_need need = { .peer = str_of(i->worker.spec->needs) };

		i->asked = true;
		control_send(i, &ipc_type_ctl_need, &need);
	}
}

/* One that came too late for the errand that asked for it is closed by the caller. */
static void errand_take(struct worker_impl *i, struct ipc_in *in)
{
	const struct ipc_ctl_channel *m = in->msg;

	if (i->errand >= 0 || m->uid != (uint64_t)i->errand_login.uid + 1 || m->gid != (uint64_t)i->errand_login.gid + 1)
		return;
	i->errand = in->fds[0];
	in->fds[0] = -1;
}

static void control_channel(struct worker_impl *i, struct ipc_in *in)
{
	const struct ipc_ctl_channel *m = in->msg;
	const struct pool_peer *peer;
	char name[64];

	if (in->fds[0] < 0)
		return;
	if (i->worker.spec->needs && str_is(m->peer, i->worker.spec->needs) && !m->cookie) {
		struct epoll_event ev = { .events = EPOLLRDHUP, .data.ptr = &i->worker.upstream };

		if (i->worker.upstream >= 0) {
			epoll_ctl(i->epoll, EPOLL_CTL_DEL, i->worker.upstream, NULL);
			close(i->worker.upstream);
		}
		i->asked = false;
		i->worker.upstream = in->fds[0];
		in->fds[0] = -1;
		epoll_ctl(i->epoll, EPOLL_CTL_ADD, i->worker.upstream, &ev);
		return;
	}
	if (i->worker.spec->errand && str_is(m->peer, i->worker.spec->errand) && !m->cookie) {
		errand_take(i, in);
		return;
	}
	peer = peer_find(i->worker.spec, m->peer);
	if (!peer)
		return;
	snprintf(name, sizeof name, "%s/%u", peer->name, (unsigned)m->number);
	client_add(i, m->cookie, in->fds[0], peer, name);
	in->fds[0] = -1;
}

static void control_logs(struct worker_impl *i, struct ipc_in *in)
{
	for (unsigned t = 0; t < LOG_FDS; t++) {
		if (in->fds[t] >= 0)
			log_set_fd(i->worker.log, t, in->fds[t]);
		in->fds[t] = -1;
	}
}

/* One packet from the manager; waits for it up to timeout_ms. */
static enum status control_take(struct worker_impl *i, int timeout_ms)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	struct err err = ERR_INIT;
	struct ipc_in in;
	enum status st = ipc_recv(i->control, &packet, timeout_ms, &err);

	if (st && st != ST_DEFER)
		i->stop = true;
	while (!st && !(ipc_packet_next(&packet, &i->worker.arena, &in, &err))) {
		if (in.type == &ipc_type_ctl_channel)
			control_channel(i, &in);
		else if (in.type == &ipc_type_ctl_logs)
			control_logs(i, &in);
		else if (in.type == &ipc_type_ctl_refused)
			snprintf(i->refused, sizeof i->refused, "%.*s", STR_FMT(((const struct ipc_ctl_refused *)in.msg)->text));
		else if (in.type == &ipc_type_ctl_drain)
			i->stop = true;
		for (unsigned f = 0; f < IPC_FDS_MAX; f++)
			if (in.fds[f] >= 0)
				close(in.fds[f]);
	}
	ipc_packet_clear(&packet);
	return st;
}

/* ---- answering ---- */

/* The questions before `upto` have been answered, and the answers are sent. */
static void slot_answered(struct worker_impl *i, unsigned upto)
{
	for (; i->answered_at < upto; i->answered_at++)
		if (i->answered_at < POOL_PACKET_MAX)
			atomic_store_explicit(&i->slot->requests[i->answered_at], 0, memory_order_relaxed);
}

static void answers_send(struct worker_impl *i)
{
	struct err err = ERR_INIT;
	enum status st = ST_OK;

	if (i->out.len && i->client)
		st = ipc_send_packet(i->client->fd, &i->out, SEND_TIMEOUT_MS, &err);
	buf_reset(&i->out);
	if (st == ST_FAIL)
		client_drop(i, i->client);
	else if (st)
		client_break(i, i->client, err.text);
}

void worker_flush(struct worker *w)
{
	answers_send(w->impl);
	slot_answered(w->impl, w->impl->at);
}

static void answer_add(struct worker_impl *i, const struct ipc_type *type, uint64_t request, const void *msg, const int *fds, unsigned n_fds)
{
	struct err err = ERR_INIT;
	size_t before = i->out.len;
	enum status st;

	if (n_fds) {
		answers_send(i);
		if (!i->client) {
			for (unsigned f = 0; f < n_fds; f++)
				close(fds[f]);
			return;
		}
		st = ipc_send(i->client->fd, type, request, request != 0, msg, fds, n_fds, SEND_TIMEOUT_MS, &err);
		if (st == ST_FAIL)
			client_drop(i, i->client);
		else if (st)
			client_break(i, i->client, err.text);
		return;
	}
	st = ipc_frame_add(&i->out, type, request, request != 0, msg, &err);
	if (st) {
		struct ipc_ctl_lost lost = { .request = request, .text = str_of(err.text) };

		worker_log(&i->worker, LOG_MAIN | LOG_PANIC, "an answer that can't be sent: %s", err.text);
		if (request)
			ipc_frame_add(&i->out, &ipc_type_ctl_lost, request, true, &lost, NULL);
	}
	if (before && i->out.len > ANSWER_SOFT_MAX) { /* what was there goes first, alone */
		struct buf last = BUF_INIT;

		buf_add(&last, i->out.p + before, i->out.len - before);
		i->out.len = before;
		answers_send(i);
		buf_add(&i->out, last.p, last.len);
		buf_clear(&last);
	}
}

void worker_answer(struct worker *w, const struct ipc_in *in, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds)
{
	if (!in->request || !w->impl->client) {
		for (unsigned f = 0; f < n_fds; f++)
			close(fds[f]);
		return;
	}
	w->impl->answered = true;
	answer_add(w->impl, type, in->request, msg, fds, n_fds);
}

void worker_notice(struct worker *w, const struct ipc_in *in, const struct ipc_type *type, const void *msg)
{
	(void)in;
	if (w->impl->client)
		answer_add(w->impl, type, 0, msg, NULL, 0);
}

/* ---- asking upstream ---- */

/* The channel is gone: another is asked for, unless it is time enough when it is needed. */
static void upstream_lost(struct worker_impl *i)
{
	upstream_drop(i);
	if (!i->worker.spec->needs_late)
		upstream_ask(i);
}

/* Waits for a channel; false when the time is over. */
static bool upstream_wait(struct worker_impl *i, uint64_t until_ms)
{
	while (i->worker.upstream < 0 && !i->stop) {
		uint64_t now = clock_ms();

		upstream_ask(i); /* if that was not done yet */
		if (now >= until_ms || control_take(i, (int)(until_ms - now)) == ST_DEFER)
			break;
	}
	return i->worker.upstream >= 0;
}

static enum status upstream_call(struct worker *w, int tries_max, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, void *answer_out, int timeout_ms, struct err *err)
{
	struct worker_impl *i = w->impl;
	uint64_t until = clock_ms() + (uint64_t)timeout_ms;
	enum status st = ST_DEFER;

	worker_flush(w);
	for (int tries = 0; tries < tries_max; tries++) {
		uint64_t now;

		if (!upstream_wait(i, until)) {
			if (!tries)
				for (unsigned f = 0; f < n_fds; f++)
					close(fds[f]);
			return err_set(err, ST_DEFER, "%s is not there now", w->spec->needs ? w->spec->needs : "upstream");
		}
		now = clock_ms();
		st = ipc_call(w->upstream, type, msg, fds, n_fds, want, &w->arena, answer_out, now < until ? (int)(until - now) : 1, err);
		if (!st || (st == ST_DEFER && clock_ms() >= until))
			return st;
		if (st != ST_DEFER) /* ST_DEFER: the worker that was asked died; the channel is good */
			upstream_lost(i);
		if (n_fds || st == ST_ERROR)
			break;
	}
	return st == ST_FAIL ? err_set(err, ST_DEFER, "%s did not answer", w->spec->needs) : st;
}

enum status worker_call(struct worker *w, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, void *answer_out, int timeout_ms, struct err *err)
{
	return upstream_call(w, 2, type, msg, fds, n_fds, want, answer_out, timeout_ms, err);
}

enum status worker_call_once(struct worker *w, const struct ipc_type *type, const void *msg, const struct ipc_type *want, void *answer_out,
	int timeout_ms, struct err *err)
{
	return upstream_call(w, 1, type, msg, NULL, 0, want, answer_out, timeout_ms, err);
}

/* ---- errands ---- */

static void errand_end(struct worker_impl *i)
{
	if (i->errand >= 0)
		close(i->errand);
	i->errand = -1;
	i->errand_login = (struct worker_login){ 0, 0 }; /* fits no channel */
}

static enum status errand_channel(struct worker_impl *i, const struct worker_login *login, uint64_t until_ms, struct err *err)
{
	struct ipc_ctl_need need = { .peer = str_of(i->worker.spec->errand), .uid = (uint64_t)login->uid + 1, .gid = (uint64_t)login->gid + 1 };

	i->errand_login = *login;
	i->refused[0] = '\0';
	control_send(i, &ipc_type_ctl_need, &need);
	while (i->errand < 0 && !i->refused[0] && !i->stop) {
		uint64_t now = clock_ms();

		if (now >= until_ms || control_take(i, (int)(until_ms - now)) == ST_DEFER)
			break;
	}
	if (i->errand >= 0)
		return ST_OK;
	return err_set(err, ST_DEFER, "%s", i->refused[0] ? i->refused : "no process for it is there now");
}

enum status worker_errand(struct worker *w, const struct worker_login *login, const struct ipc_type *type, const void *msg,
	const struct ipc_type *want, void *answer_out, int timeout_ms, struct err *err)
{
	struct worker_impl *i = w->impl;
	uint64_t until = clock_ms() + (uint64_t)timeout_ms, now;
	enum status st = ST_FAIL;

	worker_flush(w);
	/* ST_FAIL: it ended just then, having had nothing to do for a while, or was killed. */
	for (int tries = 0; st == ST_FAIL && tries < ERRAND_TRIES; tries++) {
		st = errand_channel(i, login, until, err);
		now = clock_ms();
		if (st == ST_OK)
			st = ipc_call(i->errand, type, msg, NULL, 0, want, &w->arena, answer_out, now < until ? (int)(until - now) : 1, err);
		errand_end(i);
	}
	return st == ST_FAIL ? err_set(err, ST_DEFER, "%s ended before it answered", w->spec->errand) : st;
}

/* ---- things that take long ---- */

void worker_allow(struct worker *w, uint64_t ms)
{
	uint64_t until = clock_ms() + ms;

	if (until > atomic_load(&w->impl->slot->until_ms))
		atomic_store(&w->impl->slot->until_ms, until);
}

unsigned worker_slow_count(const struct worker *w)
{
	struct pool_shared *shared = w->impl->shared;
	unsigned n = 0;

	for (uint32_t i = 0; i < shared->n_slots; i++)
		n += atomic_load(&shared->slots[i].slow) != 0;
	return n;
}

bool worker_slow_begin(struct worker *w, unsigned most)
{
	/* Itself first, so that of several who count at the same time none misses another. */
	atomic_store(&w->impl->slot->slow, 1);
	if (worker_slow_count(w) <= most)
		return true;
	worker_slow_end(w);
	return false;
}

void worker_slow_end(struct worker *w)
{
	atomic_store(&w->impl->slot->slow, 0);
}

/* ---- working ---- */

/* Writes down what the packet asks, so that the manager can tell the client if we die. False: not a packet that a client may send. */
static bool slot_fill(struct worker_impl *i)
{
	const struct buf *b = &i->packet.data;
	uint32_t n = 0, length;
	uint64_t request;

	for (size_t at = 0; at < b->len; at += length, n++) {
		if (b->len - at < IPC_HEAD || n == POOL_PACKET_MAX)
			return false;
		memcpy(&length, b->p + at, sizeof length);
		memcpy(&request, b->p + at + 8, sizeof request);
		if (length < IPC_HEAD || length > b->len - at)
			return false;
		atomic_store_explicit(&i->slot->requests[n], request, memory_order_relaxed);
	}
	atomic_store_explicit(&i->slot->n, n, memory_order_relaxed);
	atomic_store_explicit(&i->slot->at, 0, memory_order_relaxed);
	return true;
}

static void slot_set(struct worker_impl *i, enum slot_state state)
{
	atomic_store_explicit(&i->slot->since_ms, clock_ms(), memory_order_relaxed);
	atomic_store_explicit(&i->slot->state, state, memory_order_release);
}

static void busy_begin(struct worker_impl *i)
{
	uint64_t none = 0;

	slot_set(i, SLOT_BUSY);
	if (atomic_fetch_add(&i->shared->busy, 1) + 1 < atomic_load_explicit(&i->shared->workers, memory_order_relaxed))
		return;
	if (atomic_compare_exchange_strong(&i->shared->full_since, &none, clock_ms() | 1)) {
		uint64_t one = 1;

		if (write(i->full, &one, sizeof one) < 0)
			atomic_store(&i->shared->full_since, 0);
	}
}

static void busy_end(struct worker_impl *i)
{
	atomic_store_explicit(&i->slot->until_ms, 0, memory_order_relaxed);
	atomic_store_explicit(&i->slot->slow, 0, memory_order_relaxed);
	atomic_fetch_sub(&i->shared->busy, 1);
	slot_set(i, SLOT_IDLE);
}

static void question_work(struct worker_impl *i, struct ipc_in *in)
{
	const struct pool_handler *h = i->client->peer->handlers;

	while (h && h->number && h->number != (enum ipc_message)in->type->number)
		h++;
	if (!h || !h->number) {
		char why[96];

		snprintf(why, sizeof why, "it may not send %s", in->type->name);
		client_break(i, i->client, why);
		return;
	}
	i->request = in->request;
	i->answered = false;
	h->fn(&i->worker, in);
	if (in->request && !i->answered && i->client) {
		struct ipc_ctl_lost lost = { .request = in->request, .text = STR_LIT("it was not answered") };

		worker_log(&i->worker, LOG_MAIN | LOG_PANIC, "%s of %s was not answered", in->type->name, i->client->name);
		answer_add(i, &ipc_type_ctl_lost, in->request, &lost, NULL, 0);
	}
	atomic_fetch_add_explicit(&i->slot->done, 1, memory_order_relaxed);
}

static void packet_work(struct worker_impl *i)
{
	struct err err = ERR_INIT;
	struct ipc_in in;
	enum status st;

	i->at = i->answered_at = 0;
	i->packet_us = clock_us();
	while (i->client && !(st = ipc_packet_next(&i->packet, &i->worker.arena, &in, &err))) {
		if (i->at) {
			atomic_store_explicit(&i->slot->at, i->at, memory_order_relaxed);
			atomic_store_explicit(&i->slot->since_ms, clock_ms(), memory_order_relaxed);
			atomic_store_explicit(&i->slot->until_ms, 0, memory_order_relaxed);
		}
		question_work(i, &in);
		if (in.type == &ipc_type_auth_ask) /* a password was in it */
			explicit_bzero(i->packet.data.p, i->packet.at);
		for (unsigned f = 0; f < IPC_FDS_MAX; f++)
			if (in.fds[f] >= 0)
				close(in.fds[f]);
		arena_reset(&i->worker.arena);
		i->at++;
		if (i->out.len && i->packet.at < i->packet.data.len && clock_us() - i->packet_us > ANSWER_WAIT_US) {
			worker_flush(&i->worker);
			i->packet_us = clock_us();
		}
	}
	if (i->client && st == ST_ERROR)
		client_break(i, i->client, err.text);
	worker_flush(&i->worker);
}

static void client_serve(struct worker_impl *i, struct worker_client *c)
{
	struct err err = ERR_INIT;
	enum status st;

	atomic_store_explicit(&i->slot->client, c->id, memory_order_relaxed);
	atomic_store_explicit(&i->slot->state, SLOT_READING, memory_order_release);
	st = ipc_recv(c->fd, &i->packet, 0, &err);
	if (st || !slot_fill(i)) {
		atomic_store_explicit(&i->slot->state, SLOT_IDLE, memory_order_release);
		if (st == ST_FAIL)
			client_drop(i, c);
		else if (st != ST_DEFER)
			client_break(i, c, st ? err.text : "a malformed packet");
		return;
	}
	busy_begin(i);
	i->client = c;
	packet_work(i);
	i->client = NULL;
	busy_end(i);
	log_flush(i->worker.log);
}

/* ---- birth ---- */

static int fd_cmp(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Closes all that was inherited and is not for a worker: above all the control channel to master. */
static void fds_keep(const struct pool_birth *b)
{
	int keep[KEEP_MAX];
	unsigned n = 0, from = STDERR_FILENO + 1;

	keep[n++] = b->control;
	keep[n++] = b->full;
	for (unsigned t = 0; t < LOG_FDS; t++)
		if (b->daemon->log.fd[t] >= 0)
			keep[n++] = b->daemon->log.fd[t];
	list_each(b->clients, node)
		if (n < KEEP_MAX)
			keep[n++] = list_entry(node, struct pool_client, node)->fd;
	qsort(keep, n, sizeof *keep, fd_cmp);
	for (unsigned k = 0; k < n; k++) {
		if ((unsigned)keep[k] > from)
			close_range(from, (unsigned)keep[k] - 1, 0);
		if ((unsigned)keep[k] >= from)
			from = (unsigned)keep[k] + 1;
	}
	close_range(from, ~0u, 0);
}

static void signals_reset(void)
{
	static const int signals[] = { SIGTERM, SIGCHLD };
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (size_t s = 0; s < sizeof signals / sizeof *signals; s++)
		sigaction(signals[s], &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void worker_start(struct worker_impl *i)
{
	static const struct ipc_ctl_ready ready;
	struct err err = ERR_INIT;

	if (i->worker.spec->worker_start && i->worker.spec->worker_start(&i->worker, &err)) {
		struct ipc_ctl_failed failed = { .text = str_of(err.text) };

		control_send(i, &ipc_type_ctl_failed, &failed);
		worker_exit(i, DAEMON_EXIT_START);
	}
	arena_reset(&i->worker.arena);
	slot_set(i, SLOT_IDLE);
	control_send(i, &ipc_type_ctl_ready, &ready);
	if (!i->worker.spec->needs_late)
		upstream_ask(i);
}

void worker_run(const struct pool_birth *b)
{
	struct worker_impl *i = mem_new(sizeof *i);
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = i };
	bool idle = false;

	signals_reset();
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != b->manager)
		_exit(0);
	fds_keep(b);
	*i = (struct worker_impl){
		.daemon = b->daemon, .shared = b->shared, .slot = b->slot, .control = b->control, .full = b->full, .packet = { .data = BUF_INIT },
		.errand = -1,
		.worker = {
			.spec = b->spec, .conf = b->daemon->conf, .log = &b->daemon->log, .number = b->number, .generation = b->daemon->generation,
			.unprivileged = b->daemon->unprivileged, .upstream = -1, .impl = i,
		},
	};
	snprintf(i->name, sizeof i->name, "%s:%u", b->daemon->name, b->number);
	i->worker.name = i->name;
	prctl(PR_SET_NAME, i->name, 0, 0, 0);
	list_init(&i->clients);
	i->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (i->epoll < 0 || epoll_ctl(i->epoll, EPOLL_CTL_ADD, i->control, &ev) < 0)
		worker_exit(i, DAEMON_EXIT_MEMORY);
	list_each(b->clients, node) {
		struct pool_client *c = list_entry(node, struct pool_client, node);

		client_add(i, c->id, c->fd, c->peer, c->name);
	}
	worker_start(i);
	while (!i->stop) {
		int n = epoll_wait(i->epoll, &ev, 1, idle ? POOL_IDLE_MS : -1);

		if (n == 0 && idle)
			idle = b->spec->worker_idle(&i->worker);
		if (n < 1)
			continue;
		idle = b->spec->worker_idle != NULL;
		if (ev.data.ptr == i)
			control_take(i, 0);
		else if (ev.data.ptr == &i->worker.upstream)
			upstream_lost(i);
		else
			client_serve(i, ev.data.ptr);
		arena_reset(&i->worker.arena);
	}
	if (i->worker.spec->worker_stop)
		i->worker.spec->worker_stop(&i->worker);
	worker_exit(i, DAEMON_EXIT_OK);
}

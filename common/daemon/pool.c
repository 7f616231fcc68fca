/* SPDX-License-Identifier: ISC */
/* pool.c - the manager of a pool: clients, workers, losses, size. */
#include "common/daemon/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/daemon/pool_impl.h"

enum {
	TICK_MIN_MS = 20, TICK_MAX_MS = 1000,
	STUCK_PARTS = 8,              /* a stuck worker is found within this part of its time */
	RESPAWN_MIN_MS = 100, RESPAWN_MAX_MS = 10 * 1000,
	LOST_SEND_MS = 100,           /* a client that takes no notice of a loss for so long loses its channel */
	STOP_WAIT_MS = 1000, STOP_STEP_MS = 2,
	BLOCKED_MS = 10,              /* a worker that is at one question for so long waits for something */
	ALLOW_MAX_MS = 3600 * 1000,   /* worker_allow() is not believed beyond this */
};

struct pool_worker {
	struct list node;
	struct pool *pool;
	pid_t pid;
	unsigned number, slot;
	struct channel *control;
	bool ready, leaving;          /* leaving: told to go, since it was idle */
	uint64_t cpu_ns;              /* at the beginning of the present look at the load */
	char why[128];                /* we killed it: why */
	char failed[512];             /* it could not start: why */
};

struct pool {
	struct daemon *daemon;
	const struct pool_spec *spec;
	struct pool_size size;
	struct pool_shared *shared;
	struct list workers, clients;
	unsigned n_workers, next_number;
	uint64_t next_client, questions, lost;
	int full, hangups;            /* eventfd; epoll over the clients' channels */
	struct loop_fd full_watch, hangups_watch;
	struct loop_timer tick, grow, respawn, reap;
	uint64_t tick_ms, respawn_ms, grow_from_ms, alone_from_ms;
	bool ready;
	struct daemon_spec as_daemon;
	struct daemon_peer peers[POOL_PEERS_MAX + 3];
};

static struct pool *pool_of(struct daemon *d) { return d->state; }
static void pool_fill(struct pool *p);

/* ---- slots, as the manager sees them ---- */

static struct pool_slot *slot_of(const struct pool_worker *w) { return &w->pool->shared->slots[w->slot]; }
static enum slot_state state_of(const struct pool_worker *w)
{
	uint32_t s = atomic_load_explicit(&slot_of(w)->state, memory_order_acquire);

	return s > SLOT_BUSY ? SLOT_BUSY : (enum slot_state)s;
}

static bool slot_find(const struct pool *p, unsigned *out)
{
	for (unsigned i = 0; i < p->size.max; i++)
		if (atomic_load(&p->shared->slots[i].state) == SLOT_FREE) {
			*out = i;
			return true;
		}
	return false;
}

static void busy_correct(struct pool *p)
{
	uint32_t n = 0;

	list_each(&p->workers, node)
		n += state_of(list_entry(node, struct pool_worker, node)) == SLOT_BUSY;
	atomic_store(&p->shared->busy, n);
	atomic_store(&p->shared->workers, p->n_workers);
}

/* ---- clients ---- */

static struct pool_client *client_find(const struct pool *p, uint64_t id)
{
	list_each(&p->clients, n) {
		struct pool_client *c = list_entry(n, struct pool_client, node);

		if (c->id == id)
			return c;
	}
	return NULL;
}

static void client_drop(struct pool *p, struct pool_client *c)
{
	list_remove(&c->node);
	epoll_ctl(p->hangups, EPOLL_CTL_DEL, c->fd, NULL);
	close(c->fd);
	mem_free(c);
	if (p->daemon->draining && list_empty(&p->clients))
		daemon_finish(p->daemon);
}

/* The client is told of each question that its dead worker had not answered. */
static void client_tell(struct pool *p, struct pool_client *c, const struct pool_slot *s, const char *how)
{
	uint32_t n = atomic_load(&s->n), at = atomic_load(&s->at);

	for (uint32_t i = 0; i < n && i < POOL_PACKET_MAX; i++) {
		struct ipc_ctl_lost lost = { .request = atomic_load(&s->requests[i]), .text = str_of(how), .waited = i != at };
		struct err err = ERR_INIT;

		if (!lost.request)
			continue;
		p->lost++;
		if (ipc_send(c->fd, &ipc_type_ctl_lost, lost.request, true, &lost, NULL, 0, LOST_SEND_MS, &err)) {
			daemon_log(p->daemon, LOG_MAIN, "%s takes no notices: its channel is closed", c->name);
			shutdown(c->fd, SHUT_RDWR);
			return;
		}
	}
}

static void on_hangups(void *arg, unsigned ready)
{
	struct pool *p = arg;
	struct epoll_event ev[16];
	int n = epoll_wait(p->hangups, ev, 16, 0);

	(void)ready;
	for (int i = 0; i < n; i++) {
		struct pool_client *c = client_find(p, ev[i].data.u64);

		if (c)
			client_drop(p, c);
	}
}

static void worker_give(struct pool_worker *w, const struct pool_client *c)
{
	const char *slash = strrchr(c->name, '/');
	struct ipc_ctl_channel m = { .peer = str_of(c->peer->name), .cookie = c->id };
	int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);

	if (slash)
		str_u64(str_of(slash + 1), UINT32_MAX, &m.number);
	if (fd >= 0)
		channel_send(w->control, &ipc_type_ctl_channel, &m, &fd, 1);
	else
		daemon_log(w->pool->daemon, LOG_MAIN | LOG_PANIC, "no descriptor for worker %u: %s", w->number, strerror(errno));
}

static const struct pool_peer *pool_peer_find(const struct pool_spec *spec, const char *name)
{
	for (const struct pool_peer *peer = spec->peers; peer && peer->name; peer++)
		if (!strcmp(peer->name, name))
			return peer;
	return NULL;
}

static void client_opened(struct daemon_link *link)
{
	struct pool *p = pool_of(link->daemon);
	struct pool_client *c = mem_new(sizeof *c);
	struct epoll_event ev = { .events = EPOLLRDHUP };

	c->id = ++p->next_client;
	c->fd = link->fd;
	link->fd = -1;
	c->peer = pool_peer_find(p->spec, link->peer->name);
	snprintf(c->name, sizeof c->name, "%s", link->name);
	list_push(&p->clients, &c->node);
	ev.data.u64 = c->id;
	if (epoll_ctl(p->hangups, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		daemon_log(p->daemon, LOG_MAIN | LOG_PANIC, "watching %s: %s", c->name, strerror(errno));
	list_each(&p->workers, n)
		worker_give(list_entry(n, struct pool_worker, node), c);
}

static struct pool_worker *worker_numbered(const struct pool *p, uint64_t number)
{
	list_each(&p->workers, n) {
		struct pool_worker *w = list_entry(n, struct pool_worker, node);

		if (w->number == number)
			return w;
	}
	return NULL;
}

/* A worker's channel to the daemon that it needs, or for its errand. */
static void upstream_opened(struct daemon_link *link)
{
	struct pool *p = pool_of(link->daemon);
	struct ipc_ctl_channel m = { .peer = str_of(link->peer->name), .generation = link->generation, .uid = link->uid, .gid = link->gid };
	struct pool_worker *w = worker_numbered(p, link->cookie);

	if (!w)
		return;
	channel_send(w->control, &ipc_type_ctl_channel, &m, &link->fd, 1);
	link->fd = -1;
}

/* Who serves this pool's workers may be its client, too: a channel that a worker asked for has that worker's number. */
static void either_opened(struct daemon_link *link)
{
	if (link->cookie)
		upstream_opened(link);
	else if (pool_peer_find(pool_of(link->daemon)->spec, link->peer->name))
		client_opened(link);
}

/* Only for an errand somebody waits for that. */
static void pool_refused(struct daemon *d, uint64_t cookie, struct str text)
{
	struct pool_worker *w = worker_numbered(pool_of(d), cookie);
	struct ipc_ctl_refused m = { .text = text };

	if (w)
		channel_send(w->control, &ipc_type_ctl_refused, &m, NULL, 0);
}

/* ---- workers ---- */

static void worker_on_ready(void *owner, struct ipc_in *in)
{
	struct pool_worker *w = owner;
	struct pool *p = w->pool;
	bool all = true;

	(void)in;
	w->ready = true;
	p->respawn_ms = 0;
	list_each(&p->workers, n)
		all = all && list_entry(n, struct pool_worker, node)->ready;
	if (all && !p->ready) {
		p->ready = true;
		daemon_ready(p->daemon);
	}
}

static void worker_on_failed(void *owner, struct ipc_in *in)
{
	struct pool_worker *w = owner;
	const struct ipc_ctl_failed *m = in->msg;

	snprintf(w->failed, sizeof w->failed, "%.*s", STR_FMT(m->text));
	if (!w->pool->ready)
		daemon_fail(w->pool->daemon, DAEMON_EXIT_START, "%s", w->failed);
}

static void worker_on_need(void *owner, struct ipc_in *in)
{
	struct pool_worker *w = owner;
	const struct pool_spec *spec = w->pool->spec;
	const struct ipc_ctl_need *m = in->msg;

	if (spec->errand && str_is(m->peer, spec->errand) && m->uid && m->gid)
		daemon_need(w->pool->daemon, spec->errand, w->number, (uid_t)(m->uid - 1), (gid_t)(m->gid - 1), "", false);
	else if (spec->needs && str_is(m->peer, spec->needs))
		daemon_need_any(w->pool->daemon, spec->needs, w->number);
}

static const struct ipc_handler worker_handlers[] = {
	{ IPC_ctl_ready, worker_on_ready },
	{ IPC_ctl_failed, worker_on_failed },
	{ IPC_ctl_need, worker_on_need },
	{ 0, NULL },
};

/* Its process is gone or going; waitpid() tells how. One that only broke its channel is useless. */
static void worker_closed(void *owner, struct channel *ch, const char *why)
{
	struct pool_worker *w = owner;

	(void)ch;
	(void)why;
	kill(w->pid, SIGKILL);
}

static pid_t worker_fork(struct pool *p, unsigned slot, int control)
{
	struct pool_birth birth = {
		.spec = p->spec, .daemon = p->daemon, .shared = p->shared, .slot = &p->shared->slots[slot], .clients = &p->clients,
		.number = p->next_number, .control = control, .full = p->full, .manager = getpid(),
	};
	sigset_t all, before;
	pid_t pid;

	/* No signal may reach the child while it still has the manager's handlers. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		worker_run(&birth);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static enum status worker_new(struct pool *p, struct err *err)
{
	struct channel_spec control = { .handlers = worker_handlers, .closed = worker_closed };
	struct pool_worker *w;
	struct pool_slot *s;
	unsigned slot;
	int pair[2];
	pid_t pid;

	if (!slot_find(p, &slot))
		return err_set(err, ST_ERROR, "no room for another worker");
	if (!ipc_pair(pair, err))
		return err->status;
	s = &p->shared->slots[slot];
	atomic_store(&s->since_ms, clock_ms());
	atomic_store(&s->until_ms, 0);
	atomic_store(&s->slow, 0);
	atomic_store(&s->n, 0);
	atomic_store(&s->done, 0);
	atomic_store(&s->state, SLOT_STARTING);
	p->next_number++;
	log_flush(&p->daemon->log);
	pid = worker_fork(p, slot, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		atomic_store(&s->state, SLOT_FREE);
		return err_set(err, ST_ERROR, "fork: %s", strerror(errno));
	}
	w = mem_new(sizeof *w);
	w->pool = p;
	w->pid = pid;
	w->slot = slot;
	w->number = p->next_number;
	control.peer = "worker";
	control.owner = w;
	w->control = channel_open(p->daemon->loop, pair[0], &control);
	list_push(&p->workers, &w->node);
	p->n_workers++;
	busy_correct(p);
	return ST_OK;
}

static void worker_free(struct pool_worker *w)
{
	struct pool *p = w->pool;
	struct pool_slot *s = slot_of(w);

	p->questions += atomic_load(&s->done);
	atomic_store(&s->done, 0);
	atomic_store(&s->slow, 0);
	atomic_store(&s->state, SLOT_FREE);
	list_remove(&w->node);
	channel_free(w->control);
	mem_free(w);
	p->n_workers--;
	busy_correct(p);
}

/* "was killed by SIGSEGV" */
static void end_format(const struct pool_worker *w, int status, char out[192])
{
	if (w->why[0])
		snprintf(out, 192, "was killed: %s", w->why);
	else if (w->failed[0])
		snprintf(out, 192, "could not start: %.150s", w->failed);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		snprintf(out, 192, "was killed by seccomp (SIGSYS)");
	else if (WIFSIGNALED(status))
		snprintf(out, 192, "was killed by SIG%s", sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
	else
		snprintf(out, 192, "ended with code %d", WEXITSTATUS(status));
}

static void worker_gone(struct pool *p, struct pool_worker *w, int status)
{
	struct pool_slot *s = slot_of(w);
	struct pool_client *c = client_find(p, atomic_load(&s->client));
	char how[192], during[128] = "";
	bool busy = state_of(w) == SLOT_BUSY, ready = w->ready;

	/* What it said before its end is still in the channel: above all why it could not start. */
	end_format(w, status, how);
	if (busy && c) {
		snprintf(during, sizeof during, " while it worked for %s", c->name);
		client_tell(p, c, s, how);
	}
	if (!w->leaving)
		daemon_log(p->daemon, LOG_MAIN | LOG_PANIC, "worker %u (pid %d) %s%s", w->number, (int)w->pid, how, during);
	worker_free(w);
	if (!p->ready)
		daemon_fail(p->daemon, DAEMON_EXIT_START, "a worker %s", how);
	if (!ready) {
		p->respawn_ms = p->respawn_ms ? p->respawn_ms * 2 : RESPAWN_MIN_MS;
		if (p->respawn_ms > RESPAWN_MAX_MS)
			p->respawn_ms = RESPAWN_MAX_MS;
	}
	pool_fill(p);
}

static struct pool_worker *worker_find(const struct pool *p, pid_t pid)
{
	list_each(&p->workers, n) {
		struct pool_worker *w = list_entry(n, struct pool_worker, node);

		if (w->pid == pid)
			return w;
	}
	return NULL;
}

static void children_reap(void *arg)
{
	struct pool *p = arg;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct pool_worker *w = worker_find(p, pid);

		if (w)
			worker_gone(p, w, status);
	}
}

static void on_child(void *arg, int signo)
{
	struct pool *p = arg;

	(void)signo;
	/* In the next turn, behind its descriptors: a worker's last words come first. */
	loop_timer_start(&p->reap, p->daemon->loop, 0, children_reap, p);
}

/* ---- size ---- */

static void respawn_late(void *arg)
{
	struct pool *p = arg;
	struct err err = ERR_INIT;

	while (p->n_workers < p->size.min)
		if (worker_new(p, &err)) {
			daemon_log(p->daemon, LOG_MAIN | LOG_PANIC, "no new worker: %s", err.text);
			loop_timer_start(&p->respawn, p->daemon->loop, RESPAWN_MAX_MS, respawn_late, p);
			return;
		}
}

/* Up to the minimum again; at once, unless they die before they are ready. */
static void pool_fill(struct pool *p)
{
	if (p->n_workers >= p->size.min || p->respawn.at_ms)
		return;
	if (p->respawn_ms)
		loop_timer_start(&p->respawn, p->daemon->loop, p->respawn_ms, respawn_late, p);
	else
		respawn_late(p);
}

static uint64_t worker_cpu_ns(const struct pool_worker *w)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(w->pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Whether another worker would help: all are busy, and rather wait for something than want the processor. */
static bool pool_is_short(struct pool *p, uint64_t now)
{
	uint64_t cpu_ns = 0, gone_ns = (now - p->grow_from_ms) * 1000000u;
	unsigned blocked = 0, processors = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);

	list_each(&p->workers, n) {
		struct pool_worker *w = list_entry(n, struct pool_worker, node);
		uint64_t cpu = worker_cpu_ns(w);

		if (state_of(w) < SLOT_BUSY)
			return false;
		cpu_ns += cpu > w->cpu_ns ? cpu - w->cpu_ns : 0;
		w->cpu_ns = cpu;
		blocked += now - atomic_load(&slot_of(w)->since_ms) >= BLOCKED_MS;
	}
	if (p->n_workers < processors * 4)
		return cpu_ns < gone_ns * p->n_workers / 2;
	return blocked * 2 >= p->n_workers;
}

static void grow_look(void *arg)
{
	struct pool *p = arg;
	uint64_t now = clock_ms();
	struct err err = ERR_INIT;
	bool full = true;

	list_each(&p->workers, n)
		full = full && state_of(list_entry(n, struct pool_worker, node)) == SLOT_BUSY;
	if (!full || p->n_workers >= p->size.max || p->daemon->draining) {
		atomic_store(&p->shared->full_since, 0);
		busy_correct(p);
		return;
	}
	if (pool_is_short(p, now) && worker_new(p, &err))
		daemon_log(p->daemon, LOG_MAIN, "no further worker: %s", err.text);
	p->grow_from_ms = now;
	loop_timer_start(&p->grow, p->daemon->loop, p->size.grow_ms, grow_look, p);
}

static void on_full(void *arg, unsigned ready)
{
	struct pool *p = arg;
	uint64_t n;

	(void)ready;
	if (read(p->full, &n, sizeof n) < 0 || p->grow.at_ms)
		return;
	p->grow_from_ms = clock_ms();
	list_each(&p->workers, node) {
		struct pool_worker *w = list_entry(node, struct pool_worker, node);

		w->cpu_ns = worker_cpu_ns(w);
	}
	loop_timer_start(&p->grow, p->daemon->loop, p->size.grow_ms, grow_look, p);
}

static void worker_dismiss(struct pool_worker *w)
{
	static const struct ipc_ctl_drain go;

	w->leaving = true;
	channel_send(w->control, &ipc_type_ctl_drain, &go, NULL, 0);
}

static bool worker_stuck(struct pool *p, struct pool_worker *w, uint64_t now)
{
	uint64_t since = atomic_load(&slot_of(w)->since_ms), until = atomic_load(&slot_of(w)->until_ms);

	if (!p->size.stuck_ms || w->why[0] || (state_of(w) != SLOT_BUSY && state_of(w) != SLOT_STARTING) || since > now ||
	    now - since < p->size.stuck_ms || (now < until && until - now <= ALLOW_MAX_MS))
		return false;
	snprintf(w->why, sizeof w->why, "stuck for %llu seconds", (unsigned long long)((now - since) / 1000));
	kill(w->pid, SIGKILL);
	return true;
}

static bool workers_look(struct pool *p)
{
	uint64_t now = clock_ms();
	unsigned staying = p->n_workers, dismissed = 0;
	bool busy = false;

	list_each(&p->workers, n)
		staying -= list_entry(n, struct pool_worker, node)->leaving;
	for (struct list *n = p->workers.prev; n != &p->workers; n = n->prev) { /* the youngest go first */
		struct pool_worker *w = list_entry(n, struct pool_worker, node);
		uint64_t since = atomic_load(&slot_of(w)->since_ms);

		busy = busy || state_of(w) > SLOT_IDLE;
		if (worker_stuck(p, w, now))
			continue;
		if (w->ready && !w->leaving && state_of(w) == SLOT_IDLE && staying - dismissed > p->size.min && since <= now &&
		    now - since >= p->size.idle_ms) {
			worker_dismiss(w);
			dismissed++;
		}
	}
	return busy;
}

static bool drains_when_idle(const struct pool *p)
{
	return p->daemon->draining && (p->spec->drain_when_idle || p->daemon->drain_idle);
}

static void tick(void *arg)
{
	struct pool *p = arg;
	bool busy = workers_look(p);

	if (!list_empty(&p->clients))
		p->alone_from_ms = clock_ms();
	if ((drains_when_idle(p) && !busy) ||
	    (p->size.alone_ms && list_empty(&p->clients) && clock_ms() - p->alone_from_ms >= p->size.alone_ms)) {
		daemon_finish(p->daemon);
		return;
	}
	loop_timer_start(&p->tick, p->daemon->loop, drains_when_idle(p) ? TICK_MIN_MS : p->tick_ms, tick, p);
}

/* ---- as a daemon ---- */

static uint64_t bounded(uint64_t n, uint64_t min, uint64_t max)
{
	return n < min ? min : n > max ? max : n;
}

static void size_take(struct pool *p)
{
	p->size = (struct pool_size){ .min = 1, .max = 10, .stuck_ms = 300000 };
	if (p->spec->size)
		p->spec->size(p->daemon->conf, &p->size);
	if (!p->size.grow_ms)
		p->size.grow_ms = 20;
	if (!p->size.idle_ms)
		p->size.idle_ms = 30000;
	p->size.min = (unsigned)bounded(p->size.min, 1, POOL_WORKERS_MAX);
	p->size.max = (unsigned)bounded(p->size.max, p->size.min, POOL_WORKERS_MAX);
	p->tick_ms = bounded(p->size.idle_ms / STUCK_PARTS, TICK_MIN_MS, TICK_MAX_MS);
	if (p->size.stuck_ms)
		p->tick_ms = bounded(p->size.stuck_ms / STUCK_PARTS, TICK_MIN_MS, p->tick_ms);
}

static enum status pool_start(struct daemon *d, struct err *err)
{
	struct pool *p = list_entry(d->spec, struct pool, as_daemon);
	size_t octets;

	p->daemon = d;
	d->state = p;
	size_take(p);
	octets = sizeof *p->shared + p->size.max * sizeof p->shared->slots[0];
	p->shared = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->shared == MAP_FAILED)
		return err_set(err, ST_ERROR, "shared memory: %s", strerror(errno));
	p->shared->n_slots = p->size.max;
	p->full = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->hangups = epoll_create1(EPOLL_CLOEXEC);
	if (p->full < 0 || p->hangups < 0 || !loop_signal(d->loop, SIGCHLD, on_child, p))
		return err_set(err, ST_ERROR, "the pool's manager: %s", strerror(errno));
	loop_fd_init(&p->full_watch, d->loop, p->full, on_full, p);
	loop_fd_init(&p->hangups_watch, d->loop, p->hangups, on_hangups, p);
	if (!loop_fd_set(&p->full_watch, LOOP_READ) || !loop_fd_set(&p->hangups_watch, LOOP_READ))
		return err_set(err, ST_ERROR, "the pool's manager: %s", strerror(errno));
	while (p->n_workers < p->size.min)
		if (worker_new(p, err))
			return err->status;
	p->alone_from_ms = clock_ms();
	loop_timer_start(&p->tick, d->loop, p->tick_ms, tick, p);
	return ST_DEFER; /* ready when the workers are */
}

static void pool_drain(struct daemon *d, uint64_t deadline_ms)
{
	struct pool *p = pool_of(d);

	(void)deadline_ms;
	if (drains_when_idle(p))
		loop_timer_start(&p->tick, d->loop, TICK_MIN_MS, tick, p);
	else if (list_empty(&p->clients))
		daemon_finish(d);
}

/* The workers see their control channel close, and end in order; those that do not are killed. */
static void pool_stop(struct daemon *d)
{
	struct pool *p = pool_of(d);
	struct timespec step = { 0, STOP_STEP_MS * 1000000L };

	list_each(&p->workers, n) {
		struct pool_worker *w = list_entry(n, struct pool_worker, node);

		w->leaving = true;
		channel_free(w->control);
		w->control = NULL;
	}
	for (unsigned ms = 0; p->n_workers; ms += STOP_STEP_MS) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);
		struct pool_worker *w = pid > 0 ? worker_find(p, pid) : NULL;

		if (w) {
			worker_free(w);
			continue;
		}
		if (pid < 0 && errno == ECHILD)
			break;
		if (ms >= STOP_WAIT_MS)
			list_each(&p->workers, n)
				kill(list_entry(n, struct pool_worker, node)->pid, SIGKILL);
		nanosleep(&step, NULL);
	}
	d->draining = false; /* nothing is to be finished any more */
	list_each_safe(&p->clients, n)
		client_drop(p, list_entry(n, struct pool_client, node));
	loop_timer_stop(&p->tick);
	loop_timer_stop(&p->grow);
	loop_timer_stop(&p->respawn);
	loop_timer_stop(&p->reap);
	loop_fd_clear(&p->full_watch);
	loop_fd_clear(&p->hangups_watch);
	close(p->full);
	close(p->hangups);
	munmap(p->shared, sizeof *p->shared + p->size.max * sizeof p->shared->slots[0]);
}

static void pool_status(struct daemon *d, struct daemon_status *out)
{
	struct pool *p = pool_of(d);
	uint64_t questions = p->questions, busy = 0, clients = 0;

	list_each(&p->workers, n) {
		const struct pool_worker *w = list_entry(n, struct pool_worker, node);

		questions += atomic_load(&slot_of(w)->done);
		busy += state_of(w) == SLOT_BUSY;
	}
	list_each(&p->clients, n)
		clients++;
	daemon_count(out, "workers", p->n_workers);
	daemon_count(out, "busy", busy);
	daemon_count(out, "clients", clients);
	daemon_count(out, "questions", questions);
	daemon_count(out, "questions_lost", p->lost);
	daemon_count(out, "workers_started", p->next_number);
}

static void pool_logs(struct daemon *d)
{
	struct pool *p = pool_of(d);

	list_each(&p->workers, n) {
		struct pool_worker *w = list_entry(n, struct pool_worker, node);
		static const struct ipc_ctl_logs m;
		int fds[LOG_FDS];
		unsigned k = 0;

		for (; k < LOG_FDS && (fds[k] = fcntl(d->log.fd[k], F_DUPFD_CLOEXEC, 0)) >= 0; k++)
			;
		if (k == LOG_FDS)
			channel_send(w->control, &ipc_type_ctl_logs, &m, fds, LOG_FDS);
		else
			while (k)
				close(fds[--k]);
	}
}

static void peers_take(struct pool *p)
{
	const char *const served_by[] = { p->spec->needs, p->spec->errand };
	unsigned n = 0;

	for (const struct pool_peer *peer = p->spec->peers; peer && peer->name; peer++) {
		bug_on(n == POOL_PEERS_MAX);
		p->peers[n++] = (struct daemon_peer){ .name = peer->name, .raw = true, .opened = either_opened };
	}
	for (unsigned i = 0; i < sizeof served_by / sizeof *served_by; i++)
		if (served_by[i] && !pool_peer_find(p->spec, served_by[i]))
			p->peers[n++] = (struct daemon_peer){ .name = served_by[i], .raw = true, .opened = either_opened };
}

int pool_main(const struct pool_spec *spec, int argc, char **argv)
{
	struct pool *p = mem_new(sizeof *p);
	int code;

	p->spec = spec;
	list_init(&p->workers);
	list_init(&p->clients);
	peers_take(p);
	p->as_daemon = (struct daemon_spec){
		.name = spec->name, .what = spec->what, .see = spec->see, .peers = p->peers, .sys = spec->sys | DAEMON_SYS_FORK, .sys_for = spec->sys_for,
		.sys_more = spec->sys_more, .limits = spec->limits, .start = pool_start, .drain = pool_drain, .stop = pool_stop,
		.status = pool_status, .logs = pool_logs, .refused = pool_refused,
	};
	p->as_daemon.limits.processes = true;
	code = daemon_main(&p->as_daemon, argc, argv);
	mem_free(p);
	return code;
}

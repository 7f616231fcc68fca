/* SPDX-License-Identifier: ISC */
#include "common/event/loop.h"

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/mem.h"

struct loop_job {
	void (*fn)(void *arg);
	void *arg;
};

struct loop_sig {
	struct list node;
	struct event ev;
	void (*fn)(void *arg, int signo);
	void *arg;
};

struct loop {
	struct event_base *base;
	struct event tick;             /* wakes the base for the first timer */
	struct loop_timer **heap;      /* heap[1] is the first */
	uint32_t n_heap, cap_heap;
	struct loop_job *jobs;
	uint32_t n_jobs, cap_jobs;
	struct list hooks, signals;
	uint64_t now;                  /* 0: not yet asked for in this turn */
	bool stop;
};

static void loop_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg; /* timers run at the end of the turn */
}

struct loop *loop_new(void)
{
	struct event_config *cfg = event_config_new();
	struct loop *loop = mem_new(sizeof *loop);

	list_init(&loop->hooks);
	list_init(&loop->signals);
	if (cfg) {
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
		loop->base = event_base_new_with_config(cfg);
		event_config_free(cfg);
	}
	if (!loop->base || event_assign(&loop->tick, loop->base, -1, 0, loop_tick, loop) < 0) {
		mem_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	list_each_safe(&loop->signals, n) {
		struct loop_sig *sig = list_entry(n, struct loop_sig, node);

		event_del(&sig->ev);
		mem_free(sig);
	}
	event_del(&loop->tick);
	event_base_free(loop->base);
	mem_free(loop->heap);
	mem_free(loop->jobs);
	mem_free(loop);
}

uint64_t loop_now(struct loop *loop)
{
	if (!loop->now)
		loop->now = clock_ms();
	return loop->now;
}

/* ---- timers: a binary heap ---- */

static void heap_place(struct loop *loop, uint32_t at, struct loop_timer *t)
{
	loop->heap[at] = t;
	t->slot = at;
}

static void heap_up(struct loop *loop, uint32_t at, struct loop_timer *t)
{
	for (; at > 1 && loop->heap[at / 2]->at_ms > t->at_ms; at /= 2)
		heap_place(loop, at, loop->heap[at / 2]);
	heap_place(loop, at, t);
}

static void heap_down(struct loop *loop, uint32_t at, struct loop_timer *t)
{
	uint32_t child;

	for (; (child = at * 2) <= loop->n_heap; at = child) {
		if (child < loop->n_heap && loop->heap[child + 1]->at_ms < loop->heap[child]->at_ms)
			child++;
		if (loop->heap[child]->at_ms >= t->at_ms)
			break;
		heap_place(loop, at, loop->heap[child]);
	}
	heap_place(loop, at, t);
}

void loop_timer_stop(struct loop_timer *t)
{
	struct loop *loop = t->loop;
	struct loop_timer *last;
	uint32_t at = t->slot;

	if (!t->at_ms)
		return;
	last = loop->heap[loop->n_heap--];
	t->at_ms = 0;
	if (last == t)
		return;
	if (at > 1 && loop->heap[at / 2]->at_ms > last->at_ms)
		heap_up(loop, at, last);
	else
		heap_down(loop, at, last);
}

void loop_timer_start(struct loop_timer *t, struct loop *loop, uint64_t delay_ms, void (*fn)(void *arg), void *arg)
{
	loop_timer_stop(t);
	t->loop = loop;
	t->fn = fn;
	t->arg = arg;
	t->at_ms = loop_now(loop) + delay_ms;
	if (loop->n_heap + 1 >= loop->cap_heap) {
		loop->cap_heap = loop->cap_heap ? loop->cap_heap * 2 : 64;
		loop->heap = mem_resize(loop->heap, loop->cap_heap * sizeof *loop->heap);
	}
	heap_up(loop, ++loop->n_heap, t);
}

static void loop_timers_run(struct loop *loop)
{
	/* A timer that a handler starts with no delay waits for the next turn, so that descriptors get theirs. */
	uint64_t now = loop_now(loop);

	for (uint32_t budget = loop->n_heap; budget && loop->n_heap && loop->heap[1]->at_ms <= now; budget--) {
		struct loop_timer *t = loop->heap[1];

		loop_timer_stop(t);
		t->fn(t->arg);
	}
}

/* ---- deferred work and hooks ---- */

void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	if (loop->n_jobs == loop->cap_jobs) {
		loop->cap_jobs = loop->cap_jobs ? loop->cap_jobs * 2 : 16;
		loop->jobs = mem_resize(loop->jobs, loop->cap_jobs * sizeof *loop->jobs);
	}
	loop->jobs[loop->n_jobs++] = (struct loop_job){ fn, arg };
}

static void loop_jobs_run(struct loop *loop)
{
	/* Those that jobs add run in this turn too. */
	for (uint32_t i = 0; i < loop->n_jobs; i++) {
		struct loop_job job = loop->jobs[i];

		job.fn(job.arg);
	}
	loop->n_jobs = 0;
}

void loop_hook_add(struct loop *loop, struct loop_hook *hook, void (*fn)(void *arg), void *arg)
{
	hook->fn = fn;
	hook->arg = arg;
	list_push(&loop->hooks, &hook->node);
}

void loop_hook_remove(struct loop_hook *hook)
{
	list_remove(&hook->node);
}

/* ---- descriptors ---- */

static void loop_fd_event(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *w = arg;

	(void)fd;
	w->fn(w->arg, (what & EV_READ ? LOOP_READ : 0u) | (what & EV_WRITE ? LOOP_WRITE : 0u)); /* w may be gone now */
}

void loop_fd_init(struct loop_fd *w, struct loop *loop, int fd, void (*fn)(void *arg, unsigned ready), void *arg)
{
	*w = (struct loop_fd){ .loop = loop, .fn = fn, .arg = arg, .fd = fd };
}

bool loop_fd_set(struct loop_fd *w, unsigned want)
{
	short what = (short)(EV_PERSIST | (want & LOOP_READ ? EV_READ : 0) | (want & LOOP_WRITE ? EV_WRITE : 0));
	struct event *ev = w->impl;

	if (want == w->want)
		return true;
	if (ev) {
		event_del(ev);
		if (want && event_assign(ev, w->loop->base, w->fd, what, loop_fd_event, w) < 0)
			return false;
	} else if (want) {
		ev = w->impl = event_new(w->loop->base, w->fd, what, loop_fd_event, w);
	}
	if (want && (!ev || event_add(ev, NULL) < 0)) {
		w->want = 0;
		return false;
	}
	w->want = (uint8_t)want;
	return true;
}

void loop_fd_clear(struct loop_fd *w)
{
	if (w->impl)
		event_free(w->impl);
	w->impl = NULL;
	w->want = 0;
}

/* ---- signals ---- */

static void loop_sig_event(evutil_socket_t signo, short what, void *arg)
{
	struct loop_sig *sig = arg;

	(void)what;
	sig->fn(sig->arg, (int)signo);
}

bool loop_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg)
{
	struct loop_sig *sig = mem_new(sizeof *sig);

	sig->fn = fn;
	sig->arg = arg;
	if (event_assign(&sig->ev, loop->base, signo, EV_SIGNAL | EV_PERSIST, loop_sig_event, sig) < 0 ||
	    event_add(&sig->ev, NULL) < 0) {
		mem_free(sig);
		return false;
	}
	list_push(&loop->signals, &sig->node);
	return true;
}

/* ---- turning ---- */

void loop_turn(struct loop *loop, bool wait)
{
	int flags = EVLOOP_ONCE;

	loop->now = 0;
	if (!wait || loop->n_jobs) {
		flags |= EVLOOP_NONBLOCK;
	} else if (loop->n_heap) {
		uint64_t now = loop_now(loop), at = loop->heap[1]->at_ms, ms = at > now ? at - now : 0;

		if (!ms) {
			flags |= EVLOOP_NONBLOCK;
		} else {
			struct timeval tv = { (time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000) };

			event_add(&loop->tick, &tv);
		}
		loop->now = 0;
	} else {
		event_del(&loop->tick);
	}
	event_base_loop(loop->base, flags | EVLOOP_NO_EXIT_ON_EMPTY);
	loop_timers_run(loop);
	loop_jobs_run(loop);
	list_each_safe(&loop->hooks, n) {
		struct loop_hook *hook = list_entry(n, struct loop_hook, node);

		hook->fn(hook->arg);
	}
}

void loop_run(struct loop *loop)
{
	loop->stop = false;
	while (!loop->stop)
		loop_turn(loop, true);
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

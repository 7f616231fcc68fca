/* SPDX-License-Identifier: ISC */
/* loop.h - the event loop: a thin room around libevent.
 * Used by:    every daemon; channels, protocol shells.
 * Owns:       its events. An event that was freed never fires again; objects with callbacks under way are released with
 *             loop_defer(), at the end of the turn.
 * Errors:     loop_new() NULL when the kernel refuses; loop_fd_set() false when it does. */
#ifndef EVENT_LOOP_H
#define EVENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/list.h"

struct loop;
struct loop *loop_new(void);
void loop_free(struct loop *loop);
void loop_run(struct loop *loop);      /* until loop_stop() */
void loop_turn(struct loop *loop, bool wait); /* one turn, for tests */
void loop_stop(struct loop *loop);
uint64_t loop_now(struct loop *loop);  /* clock_ms() at the start of this turn */

/* Runs fn(arg) once, at the end of the present turn (of the next one if none is running). */
void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);
/* Runs at the end of every turn, after the deferred ones, in order of registration: channels flush here, then the log. */
struct loop_hook {
	struct list node;
	void (*fn)(void *arg);
	void *arg;
};
void loop_hook_add(struct loop *loop, struct loop_hook *hook, void (*fn)(void *arg), void *arg);
void loop_hook_remove(struct loop_hook *hook);

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

/* A descriptor that is watched. In the caller's storage; small, since a session has one. */
struct loop_fd {
	struct loop *loop;
	void *impl;              /* NULL until something is wanted */
	void (*fn)(void *arg, unsigned ready);
	void *arg;
	int fd;
	uint8_t want;
};
void loop_fd_init(struct loop_fd *w, struct loop *loop, int fd, void (*fn)(void *arg, unsigned ready), void *arg);
bool loop_fd_set(struct loop_fd *w, unsigned want); /* LOOP_READ | LOOP_WRITE, 0: nothing; level-triggered */
void loop_fd_clear(struct loop_fd *w);              /* stops watching; does not close */

/* A timer: coarse (a wheel or heap of ours, one timerfd or libevent timeout below), cheap to start and cancel. All zero is a stopped timer. */
struct loop_timer {
	struct loop *loop;
	void (*fn)(void *arg);
	void *arg;
	uint64_t at_ms;          /* 0: not running */
	uint32_t slot;           /* position in the heap, for the loop */
};
void loop_timer_start(struct loop_timer *t, struct loop *loop, uint64_t delay_ms, void (*fn)(void *arg), void *arg); /* again: moves it */
void loop_timer_stop(struct loop_timer *t);

/* Signals come through the loop, never in a handler of ours. */
bool loop_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg);

#endif

/* SPDX-License-Identifier: ISC */
/* pool.h - a manager and its workers, which do one thing at a time: policyd, router, local.
 * Used by:    the main() of daemons that use blocking libraries: `return pool_main(&router_spec, argc, argv);`
 * Owns:       the manager owns its copies of the clients' channels; each worker its own copies, its arena and its state.
 * Invariant:  a question that a worker has read is answered, or the client is told ctl_lost, or its channel is closed.
 * Errors:     a worker that dies or is stuck is replaced; the client asks again, and decides by `attempt` when to give up
 *             (ctl_lost.waited: the question only came in the same packet; that is no attempt).
 *
 * The manager is a daemon like any other (daemon.h). It forks the workers; they inherit jail, filter, view and the far end of
 * each client's channel, and whichever is free reads the next packet. A packet's frames are worked off in order; answers go
 * back on the same channel, together where they were quick. */
#ifndef DAEMON_POOL_H
#define DAEMON_POOL_H

#include "common/daemon/daemon.h"

/* A worker, in its own process. */
struct worker {
	const struct pool_spec *spec;
	const struct conf *conf;     /* the view */
	struct log *log;             /* flushed after each packet */
	unsigned number;             /* from 1, unique among those alive */
	const char *name;            /* "router/1:3", for the log */
	uint64_t generation;
	bool unprivileged;
	void *state;                 /* made by worker_start() */
	struct arena arena;          /* for one question: reset behind each handler */
	int upstream;                /* channel to the daemon named in spec->needs; -1: none now. See worker_call() */
	struct worker_impl *impl;
};

/* What a kind of client may ask: rows, ended by a zero number. The question's descriptors belong to the handler (those it leaves
 * in in->fds are closed behind it); in->msg lives in w->arena; in->channel is NULL. */
struct pool_handler {
	enum ipc_message number;
	void (*fn)(struct worker *w, struct ipc_in *in);
};

struct pool_peer {
	const char *name;                   /* smtpd, policyd, qmgr, ctl ... */
	const struct pool_handler *handlers;
};

struct pool_size {
	unsigned min, max;
	uint64_t stuck_ms;                  /* one question may take so long; 0: for ever */
	uint64_t grow_ms;                   /* a worker more when none was free for so long; 0: 20 */
	uint64_t idle_ms;                   /* one fewer when some were idle for so long; 0: 30000 */
	uint64_t alone_ms;                  /* ends itself when it has had no client for so long (local, started on demand); 0: never */
};

enum { POOL_IDLE_MS = 15000 };

struct pool_spec {
	const char *name, *what;            /* as in struct daemon_spec, and the following three */
	uint32_t see, sys;
	uint32_t (*sys_for)(const struct conf *conf);
	const char *const *sys_more;
	struct daemon_limits limits;
	const struct pool_peer *peers;      /* clients; ended by a NULL name */
	const char *needs;                  /* daemon to which every worker has a channel of its own: "router"; or NULL */
	bool needs_late;                    /* ... asked for when a worker first calls it, not at its start */
	const char *errand;                 /* daemon that runs under a login of the asker's choice, for worker_errand(): "query"; or NULL */
	bool drain_when_idle;               /* a drain ends when all questions are answered (local), not when all clients are gone */
	void (*size)(const struct conf *conf, struct pool_size *out); /* out has the defaults: 1, 10, 5 minutes */
	/* In the new worker, before its first question: open databases, make tables. Failing at the pool's start ends the pool. */
	enum status (*worker_start)(struct worker *w, struct err *err);
	void (*worker_stop)(struct worker *w);                        /* orderly end; may be NULL */
	bool (*worker_idle)(struct worker *w);                        /* nothing was asked for POOL_IDLE_MS: true to be called again; may be NULL */
};

int pool_main(const struct pool_spec *spec, int argc, char **argv);

/* Answers; collected, and sent behind the packet's last question, or earlier when the packet takes longer than half a millisecond. May be called
 * several times for one question where the protocol has answers in parts. An answer beyond the limits of its declaration is logged,
 * and the question reported as lost. Descriptors are given away. A client that is gone is no error. */
void worker_answer(struct worker *w, const struct ipc_in *in, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds);
/* Sends what was collected: before something slow, when answers of the same packet wait. */
void worker_flush(struct worker *w);
/* A notice to the client that asked (not an answer): request 0. */
void worker_notice(struct worker *w, const struct ipc_in *in, const struct ipc_type *type, const void *msg);
/* Asks upstream and waits; descriptors are given away. When the channel is lost (the daemon died or was replaced), waits for
 * another and asks once more, without descriptors only. ST_DEFER when there is no answer within timeout_ms. *answer_out is
 * in w->arena. */
enum status worker_call(struct worker *w, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, void *answer_out, int timeout_ms, struct err *err);
/* Likewise, but asks once: a question that must not be put to a second daemon when the first one died with it. */
enum status worker_call_once(struct worker *w, const struct ipc_type *type, const void *msg, const struct ipc_type *want, void *answer_out,
	int timeout_ms, struct err *err);
/* Asks the daemon named in spec->errand, which runs under that login, over a channel of its own that ends with the answer. ST_DEFER when
 * there is none within timeout_ms, or master refuses. */
struct worker_login {
	uid_t uid;
	gid_t gid;
};
enum status worker_errand(struct worker *w, const struct worker_login *login, const struct ipc_type *type, const void *msg,
	const struct ipc_type *want, void *answer_out, int timeout_ms, struct err *err);
/* The question at hand may take so long from now, even past pool_size.stuck_ms. */
void worker_allow(struct worker *w, uint64_t ms);
/* Around what blocks this worker for long: false when `most` workers of the pool are at such a thing already. */
bool worker_slow_begin(struct worker *w, unsigned most);
unsigned worker_slow_count(const struct worker *w);        /* that are slow now */
void worker_slow_end(struct worker *w);
/* "router/1:3: TEXT" in the log. */
void worker_log(struct worker *w, unsigned targets, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif

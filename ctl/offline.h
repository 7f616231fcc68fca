/* SPDX-License-Identifier: ISC */
/* offline.h - daemons of the command's own: the same executables that serve mail, with the view of the configuration given, under the
 * caller's uid, for questions that need no running system (route, expand, session).
 * Used by:    ctl_route.c, ctl_expand.c, ctl_session.c.
 * Owns:       the children and their control channels, until offline_stop() or offline_daemon_stop().
 * Errors:     ST_ERROR with what the daemon said when it could not start. */
#ifndef CTL_OFFLINE_H
#define CTL_OFFLINE_H

#include <sys/types.h>

#include "ctl/ctl.h"

enum { OFFLINE_QUERIES_MAX = 16, OFFLINE_START_MS = 15000, OFFLINE_ASK_MS = 300000 };

/* ---- any daemon; the caller is its master ---- */

struct offline_daemon {
	const char *name;         /* "router" */
	uint32_t see;             /* V_ROUTER */
	uid_t uid;                /* of the caller, or, for a query process, that of its programs */
	gid_t gid;
	pid_t pid;
	int control;
	bool ready;
	const char *failed;       /* what it said when it could not start */
};

/* Query processes: for programs of queryprogram routers and of ${run}. Those of other logins than the caller's need root. */
struct offline_queries {
	struct offline_daemon v[OFFLINE_QUERIES_MAX];
	unsigned n;
};

/* A router, and a channel to ask it. */
struct offline {
	struct offline_daemon router;
	struct offline_queries queries;
	int channel;              /* -1: closed */
};

enum status offline_start(struct ctl *ctl, struct offline *out, struct err *err);
/* Until the channel has something to read; in the meantime the router gets what it needs. */
enum status offline_wait(struct ctl *ctl, struct offline *o, int timeout_ms, struct err *err);
/* A question with one answer, likewise; fds are given away. */
enum status offline_call(struct ctl *ctl, struct offline *o, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, void *answer_out, struct err *err);
void offline_stop(struct offline *o);

/* Starts it and sends the view; logs[] (main, reject, panic) are given away, -1: nowhere. */
enum status offline_daemon_start(struct ctl *ctl, struct offline_daemon *d, const char *name, uint32_t see, const int logs[3], struct err *err);
/* A channel to `peer` for it, taken from the caller. */
enum status offline_daemon_channel(struct offline_daemon *d, const char *peer, uint64_t cookie, int fd, struct err *err);
enum status offline_daemon_go(struct offline_daemon *d, struct err *err);
/* The next packet on its control channel: ready, failed; ctl_need goes to `need`. ST_FAIL: it has ended. */
typedef void offline_need_fn(void *arg, struct offline_daemon *d, const struct ipc_ctl_need *need);
enum status offline_daemon_read(struct offline_daemon *d, struct arena *a, int timeout_ms, offline_need_fn *need, void *arg, struct err *err);
void offline_daemon_stop(struct offline_daemon *d);

/* The router asks for a channel to "query": it gets one, or is told why not. */
void offline_query_serve(struct ctl *ctl, struct offline_queries *q, struct offline_daemon *router, const struct ipc_ctl_need *need);
void offline_queries_stop(struct offline_queries *q);

#endif

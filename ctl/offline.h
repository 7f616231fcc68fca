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

enum { OFFLINE_START_MS = 15000, OFFLINE_ASK_MS = 300000 };

/* A router, and a channel to ask it. */
struct offline {
	pid_t pid;
	int control, channel;     /* -1: closed */
};

enum status offline_start(struct ctl *ctl, struct offline *out, struct err *err);
void offline_stop(struct offline *o);

/* ---- any daemon; the caller is its master ---- */

struct offline_daemon {
	const char *name;         /* "router" */
	uint32_t see;             /* V_ROUTER */
	pid_t pid;
	int control;
	bool ready;
	const char *failed;       /* what it said when it could not start */
};

/* Starts it and sends the view; logs[] (main, reject, panic) are given away, -1: nowhere. */
enum status offline_daemon_start(struct ctl *ctl, struct offline_daemon *d, const char *name, uint32_t see, const int logs[3], struct err *err);
/* A channel to `peer` for it, taken from the caller. */
enum status offline_daemon_channel(struct offline_daemon *d, const char *peer, uint64_t cookie, int fd, struct err *err);
enum status offline_daemon_go(struct offline_daemon *d, struct err *err);
/* The next packet on its control channel: ready, failed; ctl_need goes to `need`. ST_FAIL: it has ended. */
typedef void offline_need_fn(void *arg, struct offline_daemon *d, const struct ipc_ctl_need *need);
enum status offline_daemon_read(struct offline_daemon *d, struct arena *a, int timeout_ms, offline_need_fn *need, void *arg, struct err *err);
void offline_daemon_stop(struct offline_daemon *d);

#endif

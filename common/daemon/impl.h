/* SPDX-License-Identifier: ISC */
/* impl.h - what the skeleton keeps for itself in a daemon.
 * Used by:    daemon.c and the pool's manager.
 * Owns:       the control channel, the view, what came before ctl_go.
 * Errors:     none. */
#ifndef DAEMON_IMPL_H
#define DAEMON_IMPL_H

#include "common/daemon/daemon.h"

struct daemon_pending_listener {
	struct list node;
	int fd;
	char address[128];
	unsigned port;
	bool tls, submit;
};

struct daemon_impl {
	struct channel *control;
	struct conf *conf;               /* daemon.conf, to be freed */
	struct list listeners;           /* came before ctl_go */
	struct loop_timer deadline;      /* of the drain */
	struct loop_timer retire;        /* runs while links wait for their last answer */
	struct loop_hook hook;
	uint64_t drain_at;
	int view_fd;                     /* -1: loaded or not yet there */
	bool started, ready, finished;
	char instance[64];
};

#endif

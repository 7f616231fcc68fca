/* SPDX-License-Identifier: ISC */
/* offline.h - a router of the command's own: the same executable that serves mail, with the view of the configuration given,
 * under the caller's uid, for questions that need no running system (route, expand).
 * Used by:    ctl_route.c, ctl_expand.c.
 * Owns:       the child and its channels, until offline_stop().
 * Errors:     ST_ERROR with what the router said when it could not start. */
#ifndef CTL_OFFLINE_H
#define CTL_OFFLINE_H

#include <sys/types.h>

#include "ctl/ctl.h"

struct offline {
	pid_t pid;
	int control, channel;     /* -1: closed */
};

enum { OFFLINE_START_MS = 15000, OFFLINE_ASK_MS = 300000 };

enum status offline_start(struct ctl *ctl, struct offline *out, struct err *err);
void offline_stop(struct offline *o);

#endif

/* SPDX-License-Identifier: ISC */
/* session.h - the queue manager of a fake session: files in memory, commits that go nowhere.
 * Used by:    ctl_session.c.
 * Owns:       its end of the channel to smtpd.
 * Errors:     ST_ERROR when smtpd says something that is not understood. */
#ifndef CTL_SESSION_H
#define CTL_SESSION_H

#include "ctl/offline.h"

struct session_queue {
	struct arena *arena;
	int fd;                   /* -1: none */
	bool show;                /* say what would have become of each message */
	uint64_t messages;
};

enum status session_queue_open(struct session_queue *q, struct offline_daemon *smtpd, struct err *err);
enum status session_queue_read(struct session_queue *q, struct err *err);
void session_queue_close(struct session_queue *q);

#endif

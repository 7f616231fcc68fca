/* SPDX-License-Identifier: ISC */
/* local_lock.h - locks on a mailbox: a lock file beside it, fcntl and flock on it.
 * Used by:    local_mbox.c.
 * Owns:       a lock file belongs to its taker until local_lockfile_drop(); the others end with the descriptor.
 * Errors:     a lock that can't be had in time is a fault, to be tried again later. */
#ifndef LOCAL_LOCK_H
#define LOCAL_LOCK_H

#include "local/local.h"

struct local_lockfile {
	char path[LOCAL_PATH_MAX + 64]; /* empty: none is held */
	dev_t dev;
	ino_t ino;
};

/* FILE.lock, in the way that works over NFS too: a file of a unique name, linked to the name of the lock. */
bool local_lockfile_take(const struct local_job *job, const char *file, struct local_lockfile *lock, struct local_fault *f);
void local_lockfile_drop(struct local_lockfile *lock);
/* ST_OK; ST_DEFER: somebody holds it (after the time-outs of the options); ST_ERROR with errno. */
enum status local_fd_lock(const struct local_options *o, int fd);

#endif

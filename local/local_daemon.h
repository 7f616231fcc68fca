/* SPDX-License-Identifier: ISC */
/* local_daemon.h - local as a pool: what qmgr may ask, system calls and limits on one page.
 * Used by:    main.c.
 * Owns:       nothing; a worker's state is its scratch memory and our name. */
#ifndef LOCAL_DAEMON_H
#define LOCAL_DAEMON_H

#include "common/daemon/pool.h"

extern const struct pool_spec local_daemon_spec;
extern const struct pool_spec pipe_daemon_spec;
extern const struct pool_spec query_daemon_spec;

#endif

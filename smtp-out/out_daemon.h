/* SPDX-License-Identifier: ISC */
/* out_daemon.h - smtp-out as a daemon: its peers, system calls and limits on one page.
 * Used by:    main.c.
 * Owns:       nothing; the skeleton owns the daemon, its state is a struct smtp_out. */
#ifndef OUT_DAEMON_H
#define OUT_DAEMON_H

#include "common/daemon/daemon.h"

extern const struct daemon_spec out_daemon_spec;

#endif

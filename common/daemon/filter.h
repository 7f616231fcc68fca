/* SPDX-License-Identifier: ISC */
/* filter.h - the system call filter of a daemon (seccomp).
 * Used by:    daemon_main().
 * Owns:       nothing; a filter is for ever, and for all children.
 * Errors:     ST_ERROR: an unknown name in `more`, or the kernel refused.
 *
 * What is not allowed ends the process (SIGSYS; mode log: is logged by the kernel). Refused with an error instead, since libraries
 * try them without need: opening files without DAEMON_SYS_READ (EACCES), F_SETFL without DAEMON_SYS_SETFL (EPERM: it could take
 * the append flag off a log), executable memory (EACCES: PCRE2 then does without its compiler), terminal ioctls (ENOTTY), clone3 (ENOSYS, so that libc uses clone, whose arguments can be seen). */
#ifndef DAEMON_FILTER_H
#define DAEMON_FILTER_H

#include <stdint.h>

#include "common/base/err.h"

enum filter_mode { FILTER_ENFORCE, FILTER_LOG, FILTER_OFF };

/* sys: mask of enum daemon_sys (daemon.h). more: names, NULL at the end, or NULL. */
enum status filter_enter(uint32_t sys, const char *const *more, enum filter_mode mode, struct err *err);

#endif

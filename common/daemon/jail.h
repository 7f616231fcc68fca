/* SPDX-License-Identifier: ISC */
/* jail.h - what master's arguments say, and the giving up of rights.
 * Used by:    daemon_main(); master writes the arguments (jail_format()).
 * Owns:       struct jail lends from argv.
 * Invariant:  after jail_enter() there is no way back to another uid, another root or more rights.
 * Errors:     ST_FAIL: not started by master (no arguments); ST_ERROR: wrong arguments, or the kernel refused. */
#ifndef DAEMON_JAIL_H
#define DAEMON_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/mem.h"

enum {
	JAIL_GROUPS_MAX = 64,
	JAIL_CONTROL_FD = 3, /* where a daemon finds its channel to master */
	JAIL_ARGS_MAX = 14,
};

struct jail {
	const char *name;      /* "smtpd/1" */
	const char *root;      /* directory to chroot into; NULL: none */
	bool unprivileged;     /* keep uid and root */
	uid_t uid;
	gid_t gid;
	gid_t groups[JAIL_GROUPS_MAX];
	unsigned n_groups;
};

struct jail_limits {
	unsigned memory_mb, files;
	bool processes, cores;
};

enum status jail_parse(int argc, char **argv, struct jail *out, struct err *err);
/* argv for execv(), argv[0] is the path; in the arena. */
char **jail_format(const struct jail *jail, const char *path, struct arena *a);
enum status jail_enter(const struct jail *jail, const struct jail_limits *limits, struct err *err);

#endif

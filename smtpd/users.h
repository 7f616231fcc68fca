/* SPDX-License-Identifier: ISC */
/* users.h - the logins of this machine, read while that is possible: a jailed smtpd has no /etc.
 * Used by:    local submission: the kernel says the uid, this its name; trusted_users and trusted_groups.
 * Owns:       struct users owns its names. At most USERS_MAX of each kind are kept; a uid without a name is called "uid1000".
 * Errors:     none; logins made later are known after the next reload. */
#ifndef SMTPD_USERS_H
#define SMTPD_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/mem.h"
#include "common/base/str.h"

enum { USERS_MAX = 65536 };

struct user {
	uint32_t id;
	const char *name;
	const char *gecos;                /* NULL: none, or a group */
};

struct users {
	struct user *users, *groups;      /* by id */
	uint32_t n_users, n_groups;
	struct arena arena;
};

void users_load(struct users *u);
const char *users_name(const struct users *u, uint32_t uid);                        /* NULL: not known */
const char *users_gecos(const struct users *u, uint32_t uid);                       /* the full name; NULL: not known */
bool users_id(const struct users *u, struct str name, bool group, uint32_t *id_out); /* a name or a number */

#endif

/* SPDX-License-Identifier: ISC */
/* hints_url.h - the option hints: which store, and where it is.
 * Used by:    check-config, router, master.
 * Owns:       nothing; texts lend from the option's.
 * Errors:     ST_ERROR with what would be right; never with the text itself, which may hold a password. */
#ifndef CONF_HINTS_URL_H
#define CONF_HINTS_URL_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/str.h"

enum { CONF_HINTS_PORT = 6379, CONF_HINTS_DATABASE_MAX = 65535 };

struct conf_hints {
	bool redis;              /* else LMDB, and nothing of what follows */
	struct str password, host;
	unsigned port, database;
};

/* lmdb, or redis://[:PASSWORD@]HOST[:PORT][/DB]; a password may hold any octet: the last @ ends it. */
enum status conf_hints_parse(struct str text, struct conf_hints *out, struct err *err);

#endif

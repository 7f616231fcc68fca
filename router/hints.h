/* SPDX-License-Identifier: ISC */
/* hints.h - what is worth remembering but never needed: retry times, counters, TLS sessions, callout results. One small key-value
 * interface over two stores.
 * Used by:    router's handler of hint_ask; router itself.
 * Owns:       a store is a worker's own: an LMDB environment (hints.mdb in hints_directory; LMDB lets the workers share the file), or a
 *             connection to Redis, kept among those of struct lookup_env, which is lent and outlives it.
 * Invariant:  an entry past its time is as good as absent. Counters and rates are changed at once or not at all, whoever else does so at the
 *             same time: none is lost.
 * Errors:     ST_FAIL no such key; ST_DEFER the store is out of reach, full or damaged: mail still flows. A damaged LMDB file is
 *             moved aside and begun anew. Redis that does not answer is left alone for HINTS_REDIS_RETRY_MS. No text has a password. */
#ifndef ROUTER_HINTS_H
#define ROUTER_HINTS_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/ipc/codec.h"
#include "common/ipc/enums.h"

enum {
	HINTS_SPACE_MAX = 32,                    /* octets of a name space */
	HINTS_KEY_MAX = 500,                     /* octets of name space and key; LMDB's limit is 511; longer keys are hashed */
	HINTS_MAP_SIZE = 1024 * 1024 * 1024,     /* octets of address space; the file grows as needed, up to this */
	HINTS_EXPIRE_BATCH = 256,                /* entries looked at in one hints_expire() */
	HINTS_REDIS_RETRY_MS = 10000,
	HINTS_REDIS_RATE_TRIES = 64,             /* of one event, each undone by another's at the same time */
};

/* Letters, digits and "_", 1 to HINTS_SPACE_MAX: no name is another's beginning with ":" behind it, so that who may not use one can't reach it. */
bool hints_space_valid(struct str space);

struct hints;
struct conf_hints;
struct lookup_env;
struct hints *hints_lmdb_open(const char *directory, size_t size_max /* of the file; 0: HINTS_MAP_SIZE */, struct err *err); /* NULL: ST_DEFER in *err */
struct hints *hints_redis_open(const struct conf_hints *where, struct lookup_env *env); /* connects when it is first asked; texts are copied */
void hints_close(struct hints *hints);
/* One operation; the answer's status, value, amount and entries are set, its text too on error. Never fails otherwise. Redis has a clock of
 * its own: now_s is LMDB's. */
void hints_do(struct hints *hints, const struct ipc_hint_ask *ask, int64_t now_s, struct arena *a, struct ipc_hint_answer *out);
/* Removes some of what has expired; call it now and then. Where the file is nearly full, some of the rest goes, too: strangers name the keys
 * of rates, and a store that takes nothing more would be the end of all limits. Returns how many went. */
unsigned hints_expire(struct hints *hints, int64_t now_s);

#endif

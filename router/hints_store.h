/* SPDX-License-Identifier: ISC */
/* hints_store.h - what the stores of hints share.
 * Used by:    hints.c, hints_lmdb.c, hints_redis.c.
 * Owns:       a store owns its struct, of which struct hints is the first member.
 * Errors:     as hints.h says. */
#ifndef ROUTER_HINTS_STORE_H
#define ROUTER_HINTS_STORE_H

#include "router/hints.h"

struct hints_store {
	/* One operation that is known, in a name space that is one; out is ST_OK and else empty. */
	void (*run)(struct hints *hints, const struct ipc_hint_ask *ask, int64_t now_s, struct arena *a, struct ipc_hint_answer *out);
	unsigned (*expire)(struct hints *hints, int64_t now_s); /* NULL: the store does it by itself */
	void (*close)(struct hints *hints);
};

struct hints {
	const struct hints_store *store;
};

/* "SPACE:key"; a key over the limit is replaced by its SHA-256, behind a mark. */
struct str hints_key(struct arena *a, struct str space, struct str key);
/* Seconds until an entry is forgotten, within reason; 0: never. */
uint32_t hints_expire_s(uint64_t asked);
enum { HINTS_LIST_MAX = 256, HINTS_LIST_OCTETS = 100000, HINTS_LIST_NAME = 256, HINTS_VALUE_MAX = 65536 };

#endif

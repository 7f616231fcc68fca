/* SPDX-License-Identifier: ISC */
/* hash.h - a hash table from text to pointer, safe against chosen keys (SipHash with a random seed).
 * Used by:    registries, the queue's indexes, caches.
 * Owns:       its slots. Keys and values are lent by the caller and must outlive their entry.
 * Errors:     none but exhausted memory. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

struct hash_slot;
struct hash {
	struct hash_slot *slots;
	uint32_t size, used, dead; /* size is 0 or a power of two */
	bool caseless;             /* ASCII; set before the first entry */
};
#define HASH_INIT { NULL, 0, 0, 0, false }
#define HASH_CASELESS { NULL, 0, 0, 0, true }

void *hash_get(const struct hash *h, struct str key);       /* NULL: none */
void *hash_put(struct hash *h, struct str key, void *value); /* value not NULL; returns the value replaced (its key is kept), or NULL */
void *hash_remove(struct hash *h, struct str key);          /* the value, or NULL */
void hash_clear(struct hash *h);
/* Steps through all entries in no order: start with *pos = 0; NULL at the end. Entries may be removed, none added. */
void *hash_next(const struct hash *h, uint32_t *pos, struct str *key_out);
uint64_t hash_bytes(const void *p, size_t n);               /* seeded per process: never store it */

#endif

/* SPDX-License-Identifier: ISC */
/* ticket_keys.h - the two keys of TLS session tickets, their succession, and how a key travels through the hints to other machines.
 * Used by:    master_tickets.c.
 * Owns:       the keys, in memory alone; ticket_keys_clear() wipes them.
 * Invariant:  a key makes tickets in one slot (a count of periods since 1970, or since the start) and is taken in the next, never later.
 *             What leaves this machine is wrapped: AES-256-GCM under a key derived from the option tls_ticket_secret, bound to its
 *             slot, so that who can write to the store can neither read a key nor put an old or strange one in its place.
 * Errors:     false: not wrapped with this secret for this slot. */
#ifndef MASTER_TICKET_KEYS_H
#define MASTER_TICKET_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/tls/tls_seal.h"

enum {
	TICKET_KEY = 80,                             /* octets: name 16, AES-256 32, HMAC 32 */
	TICKET_WRAPPED = TICKET_KEY + TLS_SEAL_MORE,
	TICKET_SLOT_TEXT = 48,
};

struct ticket_keys {
	uint8_t key[2][TICKET_KEY];                  /* the present one, the one before */
	int64_t slot[2];
	bool made[2], shared[2];                     /* shared: it is the one that all machines use in that slot */
};

/* The present key becomes the one before if it is of the slot before, else it is forgotten; from NULL: a new one, by chance. */
void ticket_keys_turn(struct ticket_keys *k, int64_t slot, const uint8_t from[TICKET_KEY]);
/* The key of all machines in that slot, the present one or the one before; true if that changes what is known. */
bool ticket_keys_share(struct ticket_keys *k, int64_t slot, const uint8_t key[TICKET_KEY]);
void ticket_keys_clear(struct ticket_keys *k);

/* The name of a slot's entry: machines with periods of different length don't mix. */
void ticket_slot_name(char out[TICKET_SLOT_TEXT], int64_t period_s, int64_t slot);
bool ticket_wrap(struct str secret, const char *slot_name, const uint8_t key[TICKET_KEY], uint8_t out[TICKET_WRAPPED]);
bool ticket_unwrap(struct str secret, const char *slot_name, struct str wrapped, uint8_t out[TICKET_KEY]);

#endif

/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/ticket_keys.h"

#define PURPOSE "bulkhead: keys of TLS session tickets, 1"
_Static_assert((int)TICKET_WRAPPED == (int)TICKET_KEY + (int)TLS_SEAL_MORE, "a key and its seal");

void ticket_keys_turn(struct ticket_keys *k, int64_t slot, const uint8_t from[TICKET_KEY])
{
	bool next = k->made[0] && k->slot[0] == slot - 1;

	if (next)
		memcpy(k->key[1], k->key[0], TICKET_KEY);
	else
		explicit_bzero(k->key[1], TICKET_KEY);
	k->made[1] = next;
	k->shared[1] = next && k->shared[0];
	k->slot[1] = slot - 1;
	if (from)
		memcpy(k->key[0], from, TICKET_KEY);
	else
		arc4random_buf(k->key[0], TICKET_KEY);
	k->made[0] = true;
	k->shared[0] = false;
	k->slot[0] = slot;
}

bool ticket_keys_share(struct ticket_keys *k, int64_t slot, const uint8_t key[TICKET_KEY])
{
	for (int i = 0; i < 2; i++)
		if (slot == k->slot[i] && k->made[0]) {
			bool same = k->made[i] && !memcmp(k->key[i], key, TICKET_KEY);

			memcpy(k->key[i], key, TICKET_KEY);
			k->made[i] = k->shared[i] = true;
			return !same;
		}
	return false;
}

void ticket_keys_clear(struct ticket_keys *k)
{
	explicit_bzero(k, sizeof *k);
}

void ticket_slot_name(char out[TICKET_SLOT_TEXT], int64_t period_s, int64_t slot)
{
	snprintf(out, TICKET_SLOT_TEXT, "%" PRId64 "/%" PRId64, period_s, slot);
}

bool ticket_wrap(struct str secret, const char *slot_name, const uint8_t key[TICKET_KEY], uint8_t out[TICKET_WRAPPED])
{
	struct arena a = ARENA_INIT;
	uint8_t wrap[TLS_SEAL_KEY];
	struct str sealed;
	bool done = tls_seal_key(secret, PURPOSE, wrap) && tls_seal(wrap, str_of(slot_name), str_make((const char *)key, TICKET_KEY), &a, &sealed);

	if (done)
		memcpy(out, sealed.p, TICKET_WRAPPED);
	explicit_bzero(wrap, sizeof wrap);
	arena_clear(&a);
	return done;
}

bool ticket_unwrap(struct str secret, const char *slot_name, struct str wrapped, uint8_t out[TICKET_KEY])
{
	struct arena a = ARENA_INIT;
	uint8_t wrap[TLS_SEAL_KEY];
	struct str key;
	bool done = wrapped.len == TICKET_WRAPPED && tls_seal_key(secret, PURPOSE, wrap) && tls_unseal(wrap, str_of(slot_name), wrapped, &a, &key);

	if (done) {
		memcpy(out, key.p, TICKET_KEY);
		explicit_bzero((void *)(uintptr_t)key.p, key.len);
	}
	explicit_bzero(wrap, sizeof wrap);
	arena_clear(&a);
	return done;
}

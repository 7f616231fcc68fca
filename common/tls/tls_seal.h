/* SPDX-License-Identifier: ISC */
/* tls_seal.h - octets that leave our memory and come back: AES-256-GCM under a key of 32 octets, bound to a name.
 * Used by:    master (keys of session tickets), smtp-out (sessions in the hints).
 * Owns:       nothing.
 * Errors:     false: not sealed with this key under this name; nothing comes out that the seal does not vouch for. */
#ifndef TLS_TLS_SEAL_H
#define TLS_TLS_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/mem.h"
#include "common/base/str.h"

enum { TLS_SEAL_KEY = 32, TLS_SEAL_MORE = 1 + 12 + 16 /* octets: version, nonce, tag */ };

/* HKDF-SHA256; purpose tells the keys of one secret apart. False: the secret is empty. */
bool tls_seal_key(struct str secret, const char *purpose, uint8_t out[TLS_SEAL_KEY]);
bool tls_seal(const uint8_t key[TLS_SEAL_KEY], struct str name, struct str plain, struct arena *a, struct str *out);
bool tls_unseal(const uint8_t key[TLS_SEAL_KEY], struct str name, struct str sealed, struct arena *a, struct str *out);

#endif

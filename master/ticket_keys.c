/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/ticket_keys.h"

enum { VERSION = 1, NONCE = 12, TAG = 16, WRAP_KEY = 32 };

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

/* HKDF-SHA256 of the secret. */
static bool wrap_key(struct str secret, uint8_t out[WRAP_KEY])
{
	char digest[] = "SHA256", info[] = "bulkhead: keys of TLS session tickets, 1";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret.p, secret.len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info - 1), OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	bool done = ctx && secret.len && EVP_KDF_derive(ctx, out, WRAP_KEY, params) == 1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return done;
}

static EVP_CIPHER_CTX *cipher_begin(struct str secret, const char *slot_name, const uint8_t *nonce, int wrapping)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[WRAP_KEY];
	int n;
	bool done = ctx && wrap_key(secret, key) && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, wrapping) == 1 &&
		EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)slot_name, (int)strlen(slot_name)) == 1;

	explicit_bzero(key, sizeof key);
	if (done)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

bool ticket_wrap(struct str secret, const char *slot_name, const uint8_t key[TICKET_KEY], uint8_t out[TICKET_WRAPPED])
{
	EVP_CIPHER_CTX *ctx;
	int n;
	bool done;

	out[0] = VERSION;
	arc4random_buf(out + 1, NONCE);
	ctx = cipher_begin(secret, slot_name, out + 1, 1);
	done = ctx && EVP_CipherUpdate(ctx, out + 1 + NONCE, &n, key, TICKET_KEY) == 1 && n == TICKET_KEY &&
		EVP_CipherFinal_ex(ctx, out + 1 + NONCE + TICKET_KEY, &n) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, out + 1 + NONCE + TICKET_KEY) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return done;
}

bool ticket_unwrap(struct str secret, const char *slot_name, struct str wrapped, uint8_t out[TICKET_KEY])
{
	uint8_t in[TICKET_WRAPPED], room[TICKET_KEY], rest[TAG];
	EVP_CIPHER_CTX *ctx;
	int n;
	bool done;

	if (wrapped.len != TICKET_WRAPPED || (uint8_t)wrapped.p[0] != VERSION)
		return false;
	memcpy(in, wrapped.p, sizeof in);
	ctx = cipher_begin(secret, slot_name, in + 1, 0);
	done = ctx && EVP_CipherUpdate(ctx, room, &n, in + 1 + NONCE, TICKET_KEY) == 1 && n == TICKET_KEY &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, in + 1 + NONCE + TICKET_KEY) == 1 && EVP_CipherFinal_ex(ctx, rest, &n) == 1;
	EVP_CIPHER_CTX_free(ctx);
	if (done)
		memcpy(out, room, TICKET_KEY);
	explicit_bzero(room, sizeof room);
	return done;
}

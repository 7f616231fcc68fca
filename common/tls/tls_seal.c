/* SPDX-License-Identifier: ISC */
#include "common/tls/tls_seal.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, NONCE = 12, TAG = 16 };

bool tls_seal_key(struct str secret, const char *purpose, uint8_t out[TLS_SEAL_KEY])
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret.p, secret.len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)purpose, strlen(purpose)), OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	bool done = ctx && secret.len && EVP_KDF_derive(ctx, out, TLS_SEAL_KEY, params) == 1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return done;
}

static EVP_CIPHER_CTX *cipher_begin(const uint8_t *key, struct str name, const uint8_t *nonce, int sealing)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n;

	if (ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, sealing) == 1 &&
		(!name.len || EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)name.p, (int)name.len) == 1))
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

bool tls_seal(const uint8_t key[TLS_SEAL_KEY], struct str name, struct str plain, struct arena *a, struct str *out)
{
	uint8_t *p = arena_alloc(a, plain.len + TLS_SEAL_MORE);
	EVP_CIPHER_CTX *ctx;
	int n = 0;
	bool done;

	p[0] = VERSION;
	arc4random_buf(p + 1, NONCE);
	ctx = cipher_begin(key, name, p + 1, 1);
	done = ctx && (!plain.len || EVP_CipherUpdate(ctx, p + 1 + NONCE, &n, (const uint8_t *)plain.p, (int)plain.len) == 1) && (size_t)n == plain.len &&
		EVP_CipherFinal_ex(ctx, p + 1 + NONCE + plain.len, &n) == 1 && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, p + 1 + NONCE + plain.len) == 1;
	EVP_CIPHER_CTX_free(ctx);
	*out = str_make((const char *)p, plain.len + TLS_SEAL_MORE);
	return done;
}

bool tls_unseal(const uint8_t key[TLS_SEAL_KEY], struct str name, struct str sealed, struct arena *a, struct str *out)
{
	const uint8_t *in = (const uint8_t *)sealed.p;
	size_t len = sealed.len - TLS_SEAL_MORE;
	uint8_t *p, tag[TAG];
	EVP_CIPHER_CTX *ctx;
	int n = 0;
	bool done;

	*out = STR_NULL;
	if (sealed.len < TLS_SEAL_MORE || in[0] != VERSION)
		return false;
	p = arena_alloc(a, len + TAG);
	memcpy(tag, in + 1 + NONCE + len, TAG);
	ctx = cipher_begin(key, name, in + 1, 0);
	done = ctx && (!len || EVP_CipherUpdate(ctx, p, &n, in + 1 + NONCE, (int)len) == 1) && (size_t)n == len &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 && EVP_CipherFinal_ex(ctx, p + len, &n) == 1;
	EVP_CIPHER_CTX_free(ctx);
	if (done)
		*out = str_make((const char *)p, len);
	else
		explicit_bzero(p, len);
	return done;
}

/* SPDX-License-Identifier: ISC */
/* Keys that are elsewhere: an EVP_PKEY with the public half of a certificate, whose private operation is asked of tls_cert.sign. */
#include <string.h>

#include "common/tls/tls_priv.h"

static struct tls_server_cert *rsa_cert(RSA *rsa)
{
	return RSA_get_ex_data(rsa, 0);
}

/* OpenSSL pads for PSS itself and asks for the bare operation; for TLS 1.2 with PKCS #1 it leaves the padding to the key. */
static int rsa_private(int n, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
	struct tls_server_cert *cert = rsa_cert(rsa);
	struct buf out = BUF_LIMIT(4096);
	int len = -1;

	if (cert && n > 0 && (padding == RSA_NO_PADDING || padding == RSA_PKCS1_PADDING) &&
		cert->sign(cert->sign_ctx, cert->key, padding == RSA_NO_PADDING, str_make((const char *)from, (size_t)n), &out, &cert->trouble) == ST_OK &&
		out.len == (size_t)RSA_size(rsa)) {
		memcpy(to, out.p, out.len);
		len = (int)out.len;
	}
	buf_clear(&out);
	return len;
}

static ECDSA_SIG *ec_sign_sig(const unsigned char *digest, int n, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key)
{
	struct tls_server_cert *cert = EC_KEY_get_ex_data(key, 0);
	struct buf out = BUF_LIMIT(1024);
	ECDSA_SIG *sig = NULL;
	const unsigned char *p;

	(void)kinv, (void)r;
	if (cert && n > 0 && cert->sign(cert->sign_ctx, cert->key, true, str_make((const char *)digest, (size_t)n), &out, &cert->trouble) == ST_OK) {
		p = (const unsigned char *)out.p;
		sig = d2i_ECDSA_SIG(NULL, &p, (long)out.len);
	}
	buf_clear(&out);
	return sig;
}

static int ec_sign(int type, const unsigned char *digest, int n, unsigned char *out, unsigned int *out_len, const BIGNUM *kinv, const BIGNUM *r,
	EC_KEY *key)
{
	ECDSA_SIG *sig = ec_sign_sig(digest, n, kinv, r, key);
	int len = sig ? i2d_ECDSA_SIG(sig, &out) : -1;

	(void)type;
	ECDSA_SIG_free(sig);
	*out_len = len > 0 ? (unsigned)len : 0;
	return len > 0;
}

static EVP_PKEY *rsa_key(struct tls_ctx *ctx, EVP_PKEY *public, struct tls_server_cert *cert)
{
	RSA *rsa = EVP_PKEY_get1_RSA(public);
	EVP_PKEY *key = EVP_PKEY_new();

	if (!ctx->rsa) {
		ctx->rsa = RSA_meth_dup(RSA_get_default_method());
		RSA_meth_set_priv_enc(ctx->rsa, rsa_private);
	}
	if (!rsa || !key || !RSA_set_ex_data(rsa, 0, cert) || !RSA_set_method(rsa, ctx->rsa) || !EVP_PKEY_assign_RSA(key, rsa)) {
		RSA_free(rsa);
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static EVP_PKEY *ec_key(struct tls_ctx *ctx, EVP_PKEY *public, struct tls_server_cert *cert)
{
	EC_KEY *ec = EVP_PKEY_get1_EC_KEY(public);
	EVP_PKEY *key = EVP_PKEY_new();

	if (!ctx->ec) {
		ctx->ec = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
		EC_KEY_METHOD_set_sign(ctx->ec, ec_sign, NULL, ec_sign_sig);
	}
	if (!ec || !key || !EC_KEY_set_ex_data(ec, 0, cert) || !EC_KEY_set_method(ec, ctx->ec) || !EVP_PKEY_assign_EC_KEY(key, ec)) {
		EC_KEY_free(ec);
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

EVP_PKEY *tls_key_elsewhere(struct tls_ctx *ctx, struct tls_server_cert *cert, struct err *err)
{
	EVP_PKEY *public = X509_get0_pubkey(cert->leaf), *key = NULL;

	if (public && EVP_PKEY_get_base_id(public) == EVP_PKEY_RSA)
		key = rsa_key(ctx, public, cert);
	else if (public && EVP_PKEY_get_base_id(public) == EVP_PKEY_EC)
		key = ec_key(ctx, public, cert);
	else if (public) {
		err_set(err, ST_ERROR, "a certificate's key must be RSA or ECDSA");
		return NULL;
	}
	if (!key)
		tls_error(err, "certificate's key");
	return key;
}

void tls_key_methods_free(struct tls_ctx *ctx)
{
	RSA_meth_free(ctx->rsa);
	if (ctx->ec)
		EC_KEY_METHOD_free(ctx->ec);
}

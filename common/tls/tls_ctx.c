/* SPDX-License-Identifier: ISC */
/* Contexts: what all connections with the same options share. */
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "common/tls/tls_priv.h"

static BIO *text_bio(struct str text)
{
	return BIO_new_mem_buf(text.p ? text.p : "", (int)text.len);
}

/* ---- certificates ---- */

static enum status chain_read(struct str pem, X509 **leaf, STACK_OF(X509) **chain, struct err *err)
{
	BIO *bio = text_bio(pem);
	X509 *cert;

	*chain = sk_X509_new_null();
	*leaf = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	while (*leaf && sk_X509_num(*chain) < TLS_CHAIN_MAX && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		sk_X509_push(*chain, cert);
	BIO_free(bio);
	if (!*leaf)
		return tls_error(err, "certificate");
	ERR_clear_error(); /* the end of the text */
	return ST_OK;
}

static int no_password(char *out, int size, int writing, void *arg)
{
	(void)out, (void)size, (void)writing, (void)arg;
	return -1;
}

static EVP_PKEY *key_read(struct str pem, struct err *err)
{
	BIO *bio = text_bio(pem);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);

	BIO_free(bio);
	if (!key)
		tls_error(err, "private key");
	return key;
}

static enum status cert_add(struct tls_ctx *ctx, const struct tls_cert *from, struct err *err)
{
	struct tls_server_cert *cert = &ctx->certs[ctx->n_certs];
	STACK_OF(X509) *chain;
	EVP_PKEY *key = NULL;
	enum status st = chain_read(from->chain_pem, &cert->leaf, &chain, err);

	if (!st) {
		ctx->n_certs++;
		cert->key = str_dup(&ctx->arena, from->key);
		cert->sign = from->sign;
		cert->sign_ctx = from->sign_ctx;
		if (from->ocsp_der.len) {
			cert->ocsp = arena_memdup(&ctx->arena, from->ocsp_der.p, from->ocsp_der.len);
			cert->ocsp_len = from->ocsp_der.len;
		}
		key = from->key_pem.len ? key_read(from->key_pem, err) : tls_key_elsewhere(ctx, cert, err);
		if (!key)
			st = ST_ERROR;
		else if (SSL_CTX_use_cert_and_key(ctx->ssl, cert->leaf, key, chain, 1) != 1)
			st = tls_error(err, "certificate and key");
	}
	EVP_PKEY_free(key);
	sk_X509_pop_free(chain, X509_free);
	return st;
}

/* ---- trust ---- */

static enum status anchors_add(struct tls_ctx *ctx, struct str pem, bool names, struct err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl);
	BIO *bio = text_bio(pem);
	STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL);
	int n = 0;

	for (int i = 0; all && i < sk_X509_INFO_num(all); i++) {
		X509_INFO *info = sk_X509_INFO_value(all, i);

		if (info->x509 && X509_STORE_add_cert(store, info->x509))
			n++;
		if (ctx->server && names && info->x509)
			SSL_CTX_add_client_CA(ctx->ssl, info->x509);
	}
	sk_X509_INFO_pop_free(all, X509_INFO_free);
	BIO_free(bio);
	ERR_clear_error();
	return n ? ST_OK : err_set(err, ST_ERROR, "no certificate among the trust anchors");
}

static enum status crl_add(struct tls_ctx *ctx, struct str pem, struct err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl);
	BIO *bio = text_bio(pem);
	X509_CRL *crl;
	int n = 0;

	while ((crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
		n += X509_STORE_add_crl(store, crl);
		X509_CRL_free(crl);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (!n)
		return err_set(err, ST_ERROR, "no list of revoked certificates");
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return ST_OK;
}

static enum status trust_set(struct tls_ctx *ctx, const struct tls_options *o, struct err *err)
{
	char *path;

	if (o->ca_system && SSL_CTX_set_default_verify_paths(ctx->ssl) != 1)
		return tls_error(err, "the system's certificates");
	if (o->ca_path.len) {
		path = mem_memdup(o->ca_path.p, o->ca_path.len);
		SSL_CTX_load_verify_dir(ctx->ssl, path);
		mem_free(path);
	}
	if (o->ca_pem.len && anchors_add(ctx, o->ca_pem, o->ca_names, err))
		return ST_ERROR;
	return o->crl_pem.len ? crl_add(ctx, o->crl_pem, err) : ST_OK;
}

static void fault_note(struct tls_conn *c, X509_STORE_CTX *store)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(store);
	BIO *bio = cert ? BIO_new(BIO_s_mem()) : NULL;
	int n;

	c->verify_error = X509_STORE_CTX_get_error(store);
	c->fault_depth = X509_STORE_CTX_get_error_depth(store);
	if (!bio)
		return;
	tls_dn_print(bio, cert);
	n = BIO_read(bio, c->fault_dn, sizeof c->fault_dn - 1);
	c->fault_dn[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
}

/* At depth 0 the name is part of the verdict; under TRY all goes on, and the failure is remembered. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *c = SSL_get_app_data(ssl);

	if (c->dane)
		return ok;
	if (ok && !X509_STORE_CTX_get_error_depth(store) && c->name[0]) {
		if (!tls_name_matches(X509_STORE_CTX_get_current_cert(store), c->name)) {
			c->name_failed |= c->verify_error == X509_V_OK;
			ok = 0;
			X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
		}
	}
	if (!ok && c->verify_error == X509_V_OK)
		fault_note(c, store);
	return ok || c->ctx->verify != TLS_VERIFY_MUST;
}

/* ---- key exchange ---- */

static enum status groups_set(struct tls_ctx *ctx, const struct tls_options *o, struct err *err)
{
	EVP_PKEY *dh = NULL;
	char *text;
	int ok = 1;

	if (o->eccurve.len && !str_is(o->eccurve, "auto")) {
		text = mem_memdup(o->eccurve.p, o->eccurve.len);
		ok = SSL_CTX_set1_groups_list(ctx->ssl, text);
		mem_free(text);
		if (ok != 1)
			return tls_error(err, "tls_eccurve");
	}
	if (!ctx->server)
		return ST_OK;
	if (str_begins(o->dhparam, "-----")) {
		BIO *bio = text_bio(o->dhparam);

		dh = PEM_read_bio_Parameters(bio, NULL);
		BIO_free(bio);
		if (dh && o->dh_max_bits && (unsigned)EVP_PKEY_get_bits(dh) > o->dh_max_bits) {
			EVP_PKEY_free(dh);
			return ST_OK;
		}
		if (!dh || SSL_CTX_set0_tmp_dh_pkey(ctx->ssl, dh) != 1) {
			EVP_PKEY_free(dh);
			return tls_error(err, "tls_dhparam");
		}
	} else if (!str_is(o->dhparam, "none")) {
		SSL_CTX_set_dh_auto(ctx->ssl, 1); /* a group as strong as the certificate; names of groups come to the same */
	}
	return ST_OK;
}

/* ---- tickets ---- */

void tls_ctx_ticket_keys(struct tls_ctx *ctx, const uint8_t now[TLS_TICKET_KEY], const uint8_t *before)
{
	memcpy(ctx->ticket_now, now, TLS_TICKET_KEY);
	ctx->has_before = before != NULL;
	if (before)
		memcpy(ctx->ticket_before, before, TLS_TICKET_KEY);
}

static int mac_key_set(EVP_MAC_CTX *mac, const uint8_t *key)
{
	char digest[] = "sha256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key, 32), OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params);
}

/* 1: as it is; 2: renew it, too; 0: not ours. Key: name 16, AES-256 32, HMAC 32. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int making)
{
	struct tls_conn *c = SSL_get_app_data(ssl);
	const uint8_t *key = c->ctx->ticket_now;
	bool old = false;

	if (making) {
		memcpy(name, key, 16);
		if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
			return -1;
		c->resumption |= TLS_RES_TICKET_GIVEN;
	} else if (memcmp(name, key, 16)) {
		key = c->ctx->ticket_before;
		old = true;
		if (!c->ctx->has_before || memcmp(name, key, 16))
			return 0;
	}
	if (!EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key + 16, iv, making) || !mac_key_set(mac, key + 48))
		return -1;
	/* One ticket with each handshake: a client of TLS 1.3 uses none twice. */
	return making || (!old && SSL_version(ssl) < TLS1_3_VERSION) ? 1 : 2;
}

/* A session is resumed only under the demands under which it was made: else a certificate that was never asked for, or was judged by other
 * anchors, would pass for one that these here verify. */
static bool session_context_set(struct tls_ctx *ctx, const struct tls_options *o)
{
	uint8_t digest[32];
	char mode[32];
	struct buf b = BUF_INIT;
	bool done;

	snprintf(mode, sizeof mode, "bulkhead %d %d", o->verify, o->ca_system);
	buf_adds(&b, mode);
	buf_add_str(&b, o->ca_path);
	buf_add_str(&b, o->ca_pem);
	buf_add_str(&b, o->crl_pem);
	done = EVP_Digest(b.p, b.len, digest, NULL, EVP_sha256(), NULL) == 1 && SSL_CTX_set_session_id_context(ctx->ssl, digest, sizeof digest) == 1;
	buf_clear(&b);
	return done;
}

static enum status tickets_set(struct tls_ctx *ctx, const struct tls_options *o, struct err *err)
{
	SSL_CTX_set_session_cache_mode(ctx->ssl, ctx->server || !ctx->tickets ? SSL_SESS_CACHE_OFF : SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	if (!ctx->tickets) {
		SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(ctx->ssl, 0);
		return ST_OK;
	}
	/* A fresh key exchange for each resumption (TLS 1.3). */
	SSL_CTX_clear_options(ctx->ssl, SSL_OP_NO_TICKET | SSL_OP_ALLOW_NO_DHE_KEX);
	if (!ctx->server)
		return ST_OK;
	SSL_CTX_set_num_tickets(ctx->ssl, 1);
	SSL_CTX_set_timeout(ctx->ssl, 7200);
	if (RAND_bytes(ctx->ticket_now, TLS_TICKET_KEY) != 1 || !SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx->ssl, on_ticket) ||
		!session_context_set(ctx, o))
		return tls_error(err, "session tickets");
	return ST_OK;
}

/* ---- the client's hello, ALPN, OCSP: as the server ---- */

static void sni_take(SSL *ssl, struct tls_conn *c)
{
	const unsigned char *p;
	size_t n, len;

	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) || n < 6 || p[2] != TLSEXT_NAMETYPE_host_name)
		return;
	len = (size_t)p[3] << 8 | p[4];
	if (len != n - 5 || len >= sizeof c->sni)
		return;
	for (size_t i = 0; i < len; i++) {
		char ch = (char)p[5 + i];
		if (!ascii_is_alnum(ch) && ch != '-' && ch != '.' && ch != '_')
			return;
		c->sni[i] = ascii_lower(ch);
	}
	c->sni[len] = '\0';
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
	struct tls_conn *c = SSL_get_app_data(ssl);
	const unsigned char *p;
	size_t n;

	(void)alert, (void)arg;
	if (c->hello_seen)
		return SSL_CLIENT_HELLO_SUCCESS;
	c->hello_seen = true;
	sni_take(ssl, c);
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_session_ticket, &p, &n)) {
		c->resumption |= TLS_RES_TICKET_ASKED;
		if (n)
			c->resumption |= TLS_RES_SESSION_OFFERED;
	}
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk_kex_modes, &p, &n))
		c->resumption |= TLS_RES_TICKET_ASKED;
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &p, &n))
		c->resumption |= TLS_RES_SESSION_OFFERED;
	return c->ctx->ask_sni ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_SUCCESS;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
	struct tls_ctx *ctx = arg;
	unsigned char *found;

	(void)ssl;
	/* Of several names most would be somebody else's (specification, tls_alpn). */
	if (in_len != in[0] + 1u || SSL_select_next_proto(&found, out_len, ctx->alpn, ctx->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = found;
	return SSL_TLSEXT_ERR_OK;
}

static int on_status(SSL *ssl, void *arg)
{
	struct tls_ctx *ctx = arg;
	X509 *used = SSL_get_certificate(ssl);
	struct tls_conn *c = SSL_get_app_data(ssl);

	c->ocsp = TLS_OCSP_NO_ANSWER;
	for (unsigned i = 0; i < ctx->n_certs; i++)
		if (ctx->certs[i].ocsp && used && !X509_cmp(used, ctx->certs[i].leaf)) {
			uint8_t *copy = OPENSSL_memdup(ctx->certs[i].ocsp, ctx->certs[i].ocsp_len);

			if (!copy)
				return SSL_TLSEXT_ERR_NOACK;
			SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)ctx->certs[i].ocsp_len);
			c->ocsp = TLS_OCSP_VERIFIED;
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_NOACK;
}

static int on_status_client(SSL *ssl, void *arg)
{
	(void)arg;
	return tls_ocsp_check(ssl, SSL_get_app_data(ssl));
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	tls_session_given(SSL_get_app_data(ssl), session);
	return 0;
}

static enum status alpn_set(struct tls_ctx *ctx, struct str names, struct err *err)
{
	struct str name;

	while (str_split(&names, ':', &name)) {
		name = str_trim(name);
		if (!name.len)
			continue;
		if (name.len > 255 || ctx->alpn_len + name.len + 1 > sizeof ctx->alpn)
			return err_set(err, ST_ERROR, "tls_alpn: the names are too long");
		ctx->alpn[ctx->alpn_len++] = (uint8_t)name.len;
		memcpy(ctx->alpn + ctx->alpn_len, name.p, name.len);
		ctx->alpn_len += name.len;
	}
	if (ctx->alpn_len && ctx->server)
		SSL_CTX_set_alpn_select_cb(ctx->ssl, on_alpn, ctx);
	return ST_OK;
}

/* ---- making ---- */

static enum status protocol_set(struct tls_ctx *ctx, const struct tls_options *o, struct err *err)
{
	struct buf list = BUF_INIT;
	uint64_t set, clear;
	int ok;

	if (tls_openssl_options(o->openssl_options, &set, &clear, err))
		return ST_ERROR;
	SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | set);
	SSL_CTX_clear_options(ctx->ssl, clear & ~(uint64_t)(SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION));
	SSL_CTX_set_mode(ctx->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	/* A peer that sends records without data (key updates, tickets, empty ones) has a turn of the loop for each, and no more. */
	SSL_CTX_clear_mode(ctx->ssl, SSL_MODE_AUTO_RETRY);
	if (!o->ciphers.len && !o->server)
		return ST_OK;
	/* A key that is elsewhere signs, and decrypts nothing: key exchange by RSA alone, which has no forward secrecy, is not offered. */
	buf_add_str(&list, o->ciphers.len ? o->ciphers : STR_LIT("DEFAULT"));
	if (o->server)
		buf_adds(&list, ":!kRSA");
	ok = SSL_CTX_set_cipher_list(ctx->ssl, buf_cstr(&list));
	buf_clear(&list);
	return ok == 1 ? ST_OK : tls_error(err, "tls_require_ciphers");
}

static enum status ctx_fill(struct tls_ctx *ctx, const struct tls_options *o, struct err *err)
{
	if (protocol_set(ctx, o, err) || groups_set(ctx, o, err) || trust_set(ctx, o, err) || tickets_set(ctx, o, err) || alpn_set(ctx, o->alpn, err))
		return ST_ERROR;
	for (unsigned i = 0; i < o->n_certs && i < TLS_CERTS_MAX; i++)
		if (cert_add(ctx, &o->certs[i], err))
			return ST_ERROR;
	SSL_CTX_set_verify(ctx->ssl, o->verify == TLS_VERIFY_NONE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER |
		(o->server && o->verify == TLS_VERIFY_MUST ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), on_verify);
	if (o->server) {
		SSL_CTX_set_client_hello_cb(ctx->ssl, on_hello, NULL);
		SSL_CTX_set_tlsext_status_cb(ctx->ssl, on_status);
		SSL_CTX_set_tlsext_status_arg(ctx->ssl, ctx);
		return ST_OK;
	}
	SSL_CTX_set_tlsext_status_cb(ctx->ssl, on_status_client);
	SSL_CTX_sess_set_new_cb(ctx->ssl, on_new_session);
	if (SSL_CTX_dane_enable(ctx->ssl) != 1)
		return tls_error(err, "DANE");
	return ST_OK;
}

enum status tls_ctx_new(const struct tls_options *o, struct tls_ctx **out, struct err *err)
{
	struct tls_ctx *ctx = mem_new(sizeof *ctx);

	*out = NULL;
	ERR_clear_error();
	ctx->refs = 1;
	ctx->server = o->server;
	ctx->verify = o->verify;
	ctx->tickets = o->tickets;
	ctx->ask_sni = o->server && o->ask_sni;
	ctx->ssl = SSL_CTX_new(o->server ? TLS_server_method() : TLS_client_method());
	if (!ctx->ssl || ctx_fill(ctx, o, err)) {
		if (!ctx->ssl)
			tls_error(err, "TLS");
		tls_ctx_unref(ctx);
		return ST_ERROR;
	}
	*out = ctx;
	return ST_OK;
}

void tls_ctx_unref(struct tls_ctx *ctx)
{
	if (!ctx || --ctx->refs)
		return;
	SSL_CTX_free(ctx->ssl);
	for (unsigned i = 0; i < ctx->n_certs; i++)
		X509_free(ctx->certs[i].leaf);
	tls_key_methods_free(ctx);
	explicit_bzero(ctx->ticket_now, sizeof ctx->ticket_now);
	explicit_bzero(ctx->ticket_before, sizeof ctx->ticket_before);
	arena_clear(&ctx->arena);
	mem_free(ctx);
}

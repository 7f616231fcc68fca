/* SPDX-License-Identifier: ISC */
/* Connections: handshake, octets in and out, and what is known afterwards. */
#include <errno.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "common/tls/tls_priv.h"

/* ---- beginning and end ---- */

bool tls_text_keep(char *out, size_t size, struct str text)
{
	if (text.len >= size || memchr(text.p ? text.p : "", '\0', text.len))
		return false;
	if (text.len)
		memcpy(out, text.p, text.len);
	out[text.len] = '\0';
	return true;
}

static enum status client_begin(struct tls_conn *c, const struct tls_peer *peer, struct err *err)
{
	SSL_set_connect_state(c->ssl);
	if (!tls_name_keep(c->name, sizeof c->name, peer->name) || !tls_text_keep(c->sni, sizeof c->sni, peer->sni))
		return err_set(err, ST_ERROR, "a host name is too long for TLS");
	if (c->sni[0] && SSL_set_tlsext_host_name(c->ssl, c->sni) != 1)
		return tls_error(err, "SNI");
	if (c->ctx->alpn_len)
		SSL_set_alpn_protos(c->ssl, c->ctx->alpn, c->ctx->alpn_len);
	if (c->ctx->tickets)
		c->resumption |= TLS_RES_TICKET_ASKED;
	if (peer->session && c->ctx->tickets)
		tls_session_offer(c, peer->session);
	c->require_ocsp = peer->require_ocsp;
	c->require_alpn = peer->require_alpn;
	c->dh_min_bits = peer->dh_min_bits;
	if (peer->ask_ocsp || peer->require_ocsp) {
		SSL_set_tlsext_status_type(c->ssl, TLSEXT_STATUSTYPE_ocsp);
		c->ocsp = TLS_OCSP_NO_ANSWER;
	}
	return peer->n_tlsa ? tls_dane_begin(c, peer, err) : ST_OK;
}

struct tls_conn *tls_conn_new(struct tls_ctx *ctx, int fd, const struct tls_peer *peer, struct err *err)
{
	struct tls_conn *c = mem_new(sizeof *c);
	enum status st = ST_OK;

	ERR_clear_error();
	c->ctx = ctx;
	ctx->refs++;
	c->verify_error = X509_V_OK;
	c->resumption = TLS_RES_SUPPORTED;
	c->ssl = SSL_new(ctx->ssl);
	if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
		st = tls_error(err, "TLS");
	if (!st) {
		SSL_set_app_data(c->ssl, c);
		if (peer)
			st = client_begin(c, peer, err);
		else
			SSL_set_accept_state(c->ssl);
	}
	if (st) {
		tls_conn_free(c);
		return NULL;
	}
	return c;
}

void tls_conn_free(struct tls_conn *c)
{
	if (!c)
		return;
	SSL_free(c->ssl);
	ERR_clear_error();
	tls_ctx_unref(c->ctx);
	mem_free(c);
}

struct str tls_sni(const struct tls_conn *c)
{
	struct str s = str_of(c->sni);

	s.tainted = true;
	return s;
}

void tls_conn_ctx(struct tls_conn *c, struct tls_ctx *ctx)
{
	if (ctx == c->ctx)
		return;
	ctx->refs++;
	tls_ctx_unref(c->ctx);
	c->ctx = ctx;
	SSL_set_SSL_CTX(c->ssl, ctx->ssl);
	/* What SSL_new() copied of the first context is not changed by that. */
	SSL_set_verify(c->ssl, SSL_CTX_get_verify_mode(ctx->ssl), SSL_CTX_get_verify_callback(ctx->ssl));
	SSL_clear_options(c->ssl, SSL_get_options(c->ssl) & ~SSL_CTX_get_options(ctx->ssl));
	SSL_set_options(c->ssl, SSL_CTX_get_options(ctx->ssl));
}

void tls_conn_on_session(struct tls_conn *c, void (*fn)(void *arg, const struct tls_session *session), void *arg)
{
	c->on_session = fn;
	c->on_session_arg = arg;
}

/* ---- octets ---- */

/* One line for people: what the peer said, or what is wrong with its certificate. */
static void failure_describe(struct tls_conn *c, const char *what, int error, struct err *err)
{
	unsigned long code = ERR_peek_last_error();
	long verify = c->dane ? SSL_get_verify_result(c->ssl) : c->verify_error;
	int saved = errno;
	const char *trouble = NULL;

	for (unsigned i = 0; i < c->ctx->n_certs; i++)
		trouble = c->ctx->certs[i].trouble.text[0] ? c->ctx->certs[i].trouble.text : trouble;
	if (trouble)
		err_set(err, ST_DEFER, "%s: no signature: %s", what, trouble);
	else if (c->trouble.text[0])
		err_set(err, ST_ERROR, "%s", c->trouble.text);
	else if (c->name_failed && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		err_set(err, ST_ERROR, "certificate verification failed: name mismatch: DN=\"%s\" H=\"%s\"", c->fault_dn, c->name);
	else if (verify != X509_V_OK && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		err_set(err, ST_ERROR, "certificate verification failed: %s", X509_verify_cert_error_string(verify));
	else if (code)
		err_set(err, ST_ERROR, "%s: %s", what, ERR_reason_error_string(code) ? ERR_reason_error_string(code) : "protocol error");
	else if (error == SSL_ERROR_SYSCALL && saved)
		err_set(err, ST_ERROR, "%s: %s", what, strerror(saved));
	else
		err_set(err, ST_ERROR, "%s: the connection was closed", what);
	ERR_clear_error();
}

static enum tls_io io_result(struct tls_conn *c, int done, const char *what, struct err *err)
{
	int error = done > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, done);

	switch (error) {
	case SSL_ERROR_NONE:
		return TLS_DONE;
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_WANT_CLIENT_HELLO_CB:
		return TLS_WANT_CTX;
	case SSL_ERROR_ZERO_RETURN:
		ERR_clear_error();
		return TLS_CLOSED;
	default:
		failure_describe(c, what, error, err);
		return TLS_FAILED;
	}
}

/* What OpenSSL does not look at by itself, or not in a session that is resumed. */
static bool client_demands(struct tls_conn *c, struct err *err)
{
	const unsigned char *alpn;
	unsigned alpn_len;
	EVP_PKEY *key = NULL;
	int bits = 0;

	SSL_get0_alpn_selected(c->ssl, &alpn, &alpn_len);
	if (SSL_get_peer_tmp_key(c->ssl, &key) == 1 && EVP_PKEY_get_base_id(key) == EVP_PKEY_DH)
		bits = EVP_PKEY_get_bits(key);
	EVP_PKEY_free(key);
	if (c->require_alpn && !alpn_len)
		err_set(err, ST_ERROR, "the server chose no protocol (ALPN), which is required");
	else if (bits && (unsigned)bits < c->dh_min_bits)
		err_set(err, ST_ERROR, "the server's Diffie-Hellman group has %d bits, less than tls_dh_min_bits", bits);
	else if (c->require_ocsp && c->ocsp != TLS_OCSP_VERIFIED)
		err_set(err, ST_ERROR, "the server gave no certificate status (OCSP), which is required");
	else
		return true;
	ERR_clear_error();
	return false;
}

enum tls_io tls_handshake(struct tls_conn *c, struct err *err)
{
	enum tls_io io;

	for (unsigned i = 0; i < c->ctx->n_certs; i++)
		err_clear(&c->ctx->certs[i].trouble);
	ERR_clear_error();
	errno = 0;
	io = io_result(c, SSL_do_handshake(c->ssl), c->ctx->server ? "SSL_accept" : "SSL_connect", err);
	if (io == TLS_CLOSED) {
		err_set(err, ST_ERROR, "the peer closed during the handshake");
		io = TLS_FAILED;
	}
	if (io == TLS_DONE && SSL_session_reused(c->ssl))
		tls_session_resumed(c);
	/* OpenSSL has seen to it, but for a session that was resumed. */
	if (io == TLS_DONE && c->ctx->server && c->ctx->verify == TLS_VERIFY_MUST &&
	    (!SSL_get0_peer_certificate(c->ssl) || SSL_get_verify_result(c->ssl) != X509_V_OK)) {
		err_set(err, ST_ERROR, "SSL_accept: the client has shown no valid certificate");
		io = TLS_FAILED;
	}
	if (io == TLS_DONE && !c->ctx->server && !client_demands(c, err))
		io = TLS_FAILED;
	return io;
}

enum tls_io tls_read(struct tls_conn *c, void *p, size_t n, size_t *n_out, struct err *err)
{
	*n_out = 0;
	ERR_clear_error();
	errno = 0;
	return io_result(c, SSL_read_ex(c->ssl, p, n, n_out), "SSL_read", err);
}

enum tls_io tls_write(struct tls_conn *c, const void *p, size_t n, size_t *n_out, struct err *err)
{
	*n_out = 0;
	ERR_clear_error();
	errno = 0;
	return io_result(c, SSL_write_ex(c->ssl, p, n, n_out), "SSL_write", err);
}

size_t tls_pending(const struct tls_conn *c)
{
	/* Not SSL_has_pending(), which counts the beginning of a record: the rest of that is told by the descriptor. */
	return (size_t)SSL_pending(c->ssl);
}

void tls_shutdown(struct tls_conn *c)
{
	ERR_clear_error();
	if (!SSL_in_init(c->ssl))
		SSL_shutdown(c->ssl);
	ERR_clear_error();
}

/* ---- what is known ---- */

static struct str bio_text(BIO *bio, struct arena *a, size_t max)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	struct str s = { 0 };

	if (n > 0)
		s = str_dup(a, str_make(p, (size_t)n < max ? (size_t)n : max));
	BIO_free(bio);
	return s;
}

static struct str cert_pem(X509 *cert, struct arena *a)
{
	BIO *bio = BIO_new(BIO_s_mem());

	if (cert)
		PEM_write_bio_X509(bio, cert);
	return bio_text(bio, a, TLS_PEM_MAX);
}

static struct str cert_dn(X509 *cert, struct arena *a)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct str dn;

	tls_dn_print(bio, cert);
	dn = bio_text(bio, a, 1024);
	dn.tainted = true;
	return dn;
}

static bool peer_verified(const struct tls_conn *c, X509 *peer)
{
	return tls_dane_verified(c) || (peer && c->ctx->verify != TLS_VERIFY_NONE && c->verify_error == X509_V_OK && SSL_get_verify_result(c->ssl) == X509_V_OK);
}

void tls_facts_get(const struct tls_conn *c, struct arena *a, struct tls_facts *out)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
	X509 *peer = SSL_get0_peer_certificate(c->ssl), *own = SSL_get_certificate(c->ssl);
	const char *version = SSL_get_version(c->ssl);
	const unsigned char *alpn;
	unsigned alpn_len;

	*out = (struct tls_facts){ .resumption = c->resumption, .ocsp = c->ocsp };
	out->bits = (unsigned)SSL_CIPHER_get_bits(cipher, NULL);
	out->version = str_of(!strncmp(version, "TLSv", 4) ? arena_printf(a, "TLS%s", version + 4) : version);
	out->cipher = str_printf(a, "%.*s:%s:%u", STR_FMT(out->version), SSL_CIPHER_get_name(cipher), out->bits);
	out->cipher_std = str_of(arena_strdup(a, SSL_CIPHER_standard_name(cipher)));
	out->ourcert_pem = cert_pem(own, a);
	if (peer) {
		out->peercert_pem = cert_pem(peer, a);
		out->peercert_pem.tainted = true;
		out->peerdn = cert_dn(peer, a);
	}
	if (!c->ctx->server && SSL_session_reused(c->ssl)) {
		out->dane = c->offered.dane;
		out->verified = c->offered.verified;
	} else {
		out->dane = tls_dane_verified(c);
		out->verified = peer_verified(c, peer);
	}
	out->sni = str_dup(a, str_of(c->sni));
	out->sni.tainted = c->ctx->server;
	SSL_get0_alpn_selected(c->ssl, &alpn, &alpn_len);
	if (alpn_len)
		out->alpn = str_dup(a, str_make((const char *)alpn, alpn_len));
}

bool tls_fault_get(const struct tls_conn *c, struct arena *a, struct tls_fault *out)
{
	if (c->ctx->verify == TLS_VERIFY_NONE || c->verify_error == X509_V_OK)
		return false;
	*out = (struct tls_fault){
		.name = c->name_failed, .depth = c->fault_depth, .dn = str_taint(str_dup(a, str_of(c->fault_dn))),
		.reason = X509_verify_cert_error_string(c->verify_error),
	};
	return true;
}

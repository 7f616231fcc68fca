/* SPDX-License-Identifier: ISC */
/* tls_priv.h - the inside of common/tls. Used by: tls_*.c only. */
#ifndef TLS_PRIV_H
#define TLS_PRIV_H

#define OPENSSL_SUPPRESS_DEPRECATED /* key methods: a provider of our own would be ten times the code for one operation */
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "common/base/mem.h"
#include "common/tls/tls.h"

/* A certificate's part that outlives tls_ctx_new(). */
struct tls_server_cert {
	X509 *leaf;
	uint8_t *ocsp;
	size_t ocsp_len;
	struct str key;
	enum status (*sign)(void *ctx, struct str key, bool raw, struct str octets, struct buf *signature, struct err *err);
	void *sign_ctx;
	struct err trouble;          /* why the last signature did not come */
};

struct tls_ctx {
	SSL_CTX *ssl;
	unsigned refs;
	bool server, ask_sni, tickets, has_before;
	enum tls_verify verify;
	RSA_METHOD *rsa;
	EC_KEY_METHOD *ec;
	struct tls_server_cert certs[TLS_CERTS_MAX];
	unsigned n_certs;
	uint8_t ticket_now[TLS_TICKET_KEY], ticket_before[TLS_TICKET_KEY];
	uint8_t alpn[256];           /* wire form */
	unsigned alpn_len;
	struct arena arena;
};

struct tls_conn {
	SSL *ssl;
	struct tls_ctx *ctx;
	char sni[256], name[256];
	uint16_t resumption;
	uint8_t sessions;            /* that were given and are kept */
	uint8_t ocsp;                /* as in struct tls_facts */
	bool hello_seen, dane, require_ocsp, require_alpn;
	bool name_failed;            /* the chain is good, but the name is another's */
	unsigned dh_min_bits;
	long verify_error;           /* X509_V_..., of the first certificate that failed */
	int fault_depth;             /* of that certificate */
	char fault_dn[512];
	struct err trouble;          /* why a callback ended the handshake; empty: none did */
	struct tls_session offered;  /* what was known of the session that was offered, without its octets */
	int64_t ocsp_until;          /* of the answer that was verified */
	void (*on_session)(void *arg, const struct tls_session *session);
	void *on_session_arg;
};

/* "what: reason", and an empty error queue. */
enum status tls_error(struct err *err, const char *what);
/* Keys that are elsewhere. */
EVP_PKEY *tls_key_elsewhere(struct tls_ctx *ctx, struct tls_server_cert *cert, struct err *err);
void tls_key_methods_free(struct tls_ctx *ctx);
/* Options by Exim's names into SSL_OP_ bits. */
enum status tls_openssl_options(struct str text, uint64_t *set, uint64_t *clear, struct err *err);
/* Without a zero octet within. */
bool tls_text_keep(char *out, size_t size, struct str text);
/* A host's name as certificates have it: A-labels, no dot at the end, an address without brackets. */
bool tls_name_keep(char *out, size_t size, struct str name);
bool tls_name_matches(X509 *cert, const char *name);
void tls_dn_print(BIO *bio, X509 *cert);
/* DANE, with the peer's records and names; ST_DEFER: none of them can be used. */
enum status tls_dane_begin(struct tls_conn *c, const struct tls_peer *peer, struct err *err);
bool tls_dane_verified(const struct tls_conn *c);
/* Client: a session that the server has given, for whoever keeps it. */
void tls_session_given(struct tls_conn *c, SSL_SESSION *session);
/* Client: what a resumed session brings along. */
void tls_session_resumed(struct tls_conn *c);
void tls_session_offer(struct tls_conn *c, const struct tls_session *session);
/* Client: judges the stapled answer. */
int tls_ocsp_check(SSL *ssl, struct tls_conn *c);

#endif

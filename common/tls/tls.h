/* SPDX-License-Identifier: ISC */
/* tls.h - TLS 1.2 and 1.3 for event loops and for workers, on OpenSSL 3: contexts, connections, what is known of a peer.
 * Used by:    smtpd (server), smtp-out (client), policyd's workers (to Dovecot).
 * Owns:       a connection owns its SSL, not the descriptor. A context is counted by its connections: it may be let go while they live.
 *             Texts of struct tls_facts live in the arena given.
 * Errors:     a handshake that fails gives TLS_FAILED and one line that says what the peer or the certificate did; never the
 *             library's error queue, which is empty after each call. A context that cannot be made: ST_ERROR with file and reason.
 * Invariant:  nothing blocks; no globals of ours. No private key is in a context of a daemon that has keyd: see tls_keys.h.
 *
 *   tls_conn_new() -> tls_handshake() until TLS_DONE -> tls_read(), tls_write() -> tls_shutdown(), tls_conn_free() */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/tls/tls_session.h"

enum {
	TLS_CERTS_MAX = 8,           /* certificates of one server, by key type */
	TLS_CHAIN_MAX = 16,          /* certificates taken from a peer */
	TLS_TLSA_MAX = 40,           /* records used of one name (RFC 6698) */
	TLS_PEM_MAX = 64 * 1024,     /* octets of a certificate shown to expansions */
};

struct tls_ctx;
struct tls_conn;

enum tls_io {
	TLS_DONE = 1, TLS_WANT_READ, TLS_WANT_WRITE, TLS_CLOSED, TLS_FAILED,
	TLS_WANT_CTX, /* a server that asks (tls_options.ask_sni) has read tls_sni(): give tls_conn_ctx(), then shake hands on */
};

enum tls_verify { TLS_VERIFY_NONE, TLS_VERIFY_TRY, TLS_VERIFY_MUST };

/* As $tls_in_ocsp and $tls_out_ocsp have it. */
enum tls_ocsp { TLS_OCSP_NOT_ASKED, TLS_OCSP_NO_ANSWER, TLS_OCSP_NOT_VERIFIED, TLS_OCSP_FAILED, TLS_OCSP_VERIFIED };

/* Bits of $tls_in_resumption and $tls_out_resumption. */
enum tls_resumption {
	TLS_RES_SUPPORTED = 1 << 0, TLS_RES_TICKET_ASKED = 1 << 1, TLS_RES_SESSION_OFFERED = 1 << 2, TLS_RES_TICKET_GIVEN = 1 << 3,
	TLS_RES_RESUMED = 1 << 4,
};

/* One certificate with its key: the PEM text of a private key, or a name that whoever signs knows it by (RSA and ECDSA). */
struct tls_cert {
	struct str chain_pem;        /* leaf first */
	struct str key_pem;          /* empty: the key is elsewhere, see sign */
	struct str ocsp_der;         /* stapled answer; empty: none */
	/* With key_pem empty: the private operation of a key that is elsewhere. RSA: octets are padded here (raw true) or are to be padded
	 * as PKCS #1 v1.5; ECDSA: octets are a digest, the signature DER. Blocks no longer than a signature takes. */
	enum status (*sign)(void *ctx, struct str key, bool raw, struct str octets, struct buf *signature, struct err *err);
	void *sign_ctx;
	struct str key;              /* the key's name, for sign */
};

struct tls_options {
	bool server;
	struct tls_cert certs[TLS_CERTS_MAX];
	unsigned n_certs;
	struct str ciphers;          /* tls_require_ciphers: OpenSSL's list for 1.2; empty: the default */
	struct str eccurve;          /* groups, colon separated; empty or "auto": OpenSSL's choice */
	struct str dhparam;          /* PEM text, or a group's name; empty: the built-in group */
	struct str openssl_options;  /* openssl_options as Exim spells it: "+no_sslv2 -all" */
	struct str alpn;             /* names, colon separated; server: what is accepted, client: what is sent */
	struct str ca_pem, ca_path;  /* trust anchors: text, and a hashed directory; ca_system: the system's */
	bool ca_system;
	bool ca_names;               /* server: the names of the anchors are told to clients */
	unsigned dh_max_bits;        /* a larger group in dhparam is as "none"; 0: any */
	struct str crl_pem;
	enum tls_verify verify;      /* server: of the client's certificate, client: of the server's */
	bool tickets;                /* server: give and take them; client: offer and keep sessions */
	bool ask_sni;                /* server: TLS_WANT_CTX once the client's hello is read */
};

/* Every text is copied. */
enum status tls_ctx_new(const struct tls_options *o, struct tls_ctx **out, struct err *err);
void tls_ctx_unref(struct tls_ctx *ctx);

/* Ticket keys, shared by all processes of one machine: 80 octets each (name 16, AES 32, HMAC 32); the first makes tickets, the second
 * is still taken. */
enum { TLS_TICKET_KEY = 80 };
void tls_ctx_ticket_keys(struct tls_ctx *ctx, const uint8_t now[TLS_TICKET_KEY], const uint8_t *before);

/* What a client asks of one connection. */
struct tls_peer {
	struct str sni;              /* empty: none */
	struct str name;             /* the name that the certificate must have, A-label or address; empty: not checked */
	const struct tls_tlsa {
		uint8_t usage, selector, matching;
		struct str data;
	} *tlsa;                     /* DANE: usable records; names[] are those that usage 2 may match */
	unsigned n_tlsa;
	const struct str *names;
	unsigned n_names;
	const struct tls_session *session; /* to be offered; NULL: none. What serves is the caller's to judge: tls_session_serves() */
	bool ask_ocsp, require_ocsp; /* a stapled answer */
	bool require_alpn;           /* the server must choose one of the context's names */
	unsigned dh_min_bits;        /* of a Diffie-Hellman group over a prime; 0: any */
};

struct tls_conn *tls_conn_new(struct tls_ctx *ctx, int fd, const struct tls_peer *peer /* NULL: server */, struct err *err);
void tls_conn_free(struct tls_conn *c);

enum tls_io tls_handshake(struct tls_conn *c, struct err *err);
/* *n_out octets were read (written). TLS_WANT_WRITE of a read: call it again when the descriptor can be written to, and the other way
 * round. TLS_CLOSED: the peer said that it sends no more; TLS_FAILED: it broke off, or worse. */
enum tls_io tls_read(struct tls_conn *c, void *p, size_t n, size_t *n_out, struct err *err);
enum tls_io tls_write(struct tls_conn *c, const void *p, size_t n, size_t *n_out, struct err *err);
/* The same as recv() and send() have it: octets, 0 for an orderly end, -1 and errno (EAGAIN: later). tls_recv() goes on as long as `room` octets
 * are free, 1 or more. */
struct tls_socket {
	bool write_for_read;         /* TLS has to write before it can read */
	bool broken;                 /* nothing goes any more, not even a farewell */
};
ssize_t tls_recv(struct tls_conn *c, char *p, size_t n, size_t room, struct tls_socket *s);
ssize_t tls_send(struct tls_conn *c, const char *p, size_t n, struct tls_socket *s);
size_t tls_pending(const struct tls_conn *c);   /* octets decrypted and not read: the descriptor will not tell of them */
void tls_shutdown(struct tls_conn *c);          /* close_notify, as far as it goes now */

/* A value of tls_require_ciphers, dane_require_tls_ciphers or tls_eccurve that OpenSSL will not have, before a handshake needs it; of other
 * options nothing is said. */
enum status tls_text_check(const char *option, struct str text, struct err *err);

/* The name that the client sent, empty: none; octets of a stranger, checked to be of a host name. */
struct str tls_sni(const struct tls_conn *c);
void tls_conn_ctx(struct tls_conn *c, struct tls_ctx *ctx);

/* After the handshake; texts in the arena. */
struct tls_facts {
	struct str cipher;           /* "TLS1.3:TLS_AES_256_GCM_SHA384:256" */
	struct str cipher_std, version;
	unsigned bits;
	struct str peerdn, peercert_pem, ourcert_pem, sni, alpn;
	bool verified, dane;
	unsigned resumption;         /* enum tls_resumption */
	unsigned ocsp;               /* enum tls_ocsp */
};
void tls_facts_get(const struct tls_conn *c, struct arena *a, struct tls_facts *out);
/* What was wrong with the peer's certificate, also behind a handshake that failed for it. False: nothing was, or nobody looked. */
struct tls_fault {
	bool name;                   /* the chain is good, but the certificate is for another name */
	int depth;                   /* of the certificate that failed */
	const char *reason;
	struct str dn;               /* its subject */
};
bool tls_fault_get(const struct tls_conn *c, struct arena *a, struct tls_fault *out);
/* Whether a certificate (PEM) is for this host name, or address with or without brackets. */
bool tls_cert_names(struct str pem, struct str name);
/* Called with each session that the server gives, within tls_handshake() and tls_read(), for a client's memory. Those that are made within a
 * handshake that fails in the end are worth nothing. */
void tls_conn_on_session(struct tls_conn *c, void (*fn)(void *arg, const struct tls_session *session), void *arg);

#endif

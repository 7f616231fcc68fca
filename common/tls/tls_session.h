/* SPDX-License-Identifier: ISC */
/* tls_session.h - a session that a server gave us, and what was known of the server when it was made: what is kept, for how long it serves,
 * and for which demands.
 * Used by:    tls_conn.c, which makes and offers them; smtp-out, which keeps them in the hints.
 * Owns:       nothing; texts are lent, or in the arena given.
 * Invariant:  a session never gives more than the handshake that made it: one that verified nothing does not serve where verification is
 *             demanded, one without DANE not where DANE is, a status (OCSP) not longer than its answer.
 * Errors:     false: the octets are no such entry. */
#ifndef TLS_TLS_SESSION_H
#define TLS_TLS_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/mem.h"
#include "common/base/str.h"

enum {
	TLS_SESSIONS_MAX = 4,                /* of one connection that are kept; a server may send tickets for ever */
	TLS_SESSION_MAX = 16 * 1024,         /* octets of DER, the server's certificates among them */
	TLS_SESSION_TIME = 24 * 3600,        /* seconds from the whole handshake, at most, whatever the server allows (RFC 8446 section 4.6.1: a week):
	                                      * however often it is resumed, a day later the certificate is looked at again */
	TLS_SESSION_TIME_UNSAID = 2 * 3600,  /* where it says nothing (TLS 1.2, RFC 5077 section 3.3) */
};

struct tls_session {
	struct str der;
	int64_t until;               /* seconds since 1970: it serves before */
	int64_t born;                /* when the whole handshake was */
	int64_t ocsp_until;          /* ocsp is TLS_OCSP_VERIFIED before */
	unsigned ocsp;               /* enum tls_ocsp */
	bool verified, dane;
	bool once;                   /* TLS 1.3 (RFC 8446 appendix C.4): whoever sees two uses knows that it is the same client */
};

/* What a connection demands. */
struct tls_session_need {
	bool verified, dane, ocsp;
};

bool tls_session_serves(const struct tls_session *s, const struct tls_session_need *need, int64_t now_s);
void tls_session_format(struct buf *out, const struct tls_session *s);
bool tls_session_parse(struct str text, struct tls_session *out); /* lends */

#endif

/* SPDX-License-Identifier: ISC */
/* out_tls.h - TLS of outgoing connections: what a plan demands of a host, the handshake, and the octets behind it.
 * Used by:    out_plan.c, for what a host's options come to; out_conn.c, for the rest; DANE and sessions join in out_tls_peer_fill().
 * Owns:       conn->tls and conn->facts, whose texts are in conn->tls_arena; both end with out_tls_end(). Contexts are the shelf's.
 * Errors:     a handshake that can't be begun: ST_DEFER where the fault is ours and passes (keyd is away), ST_ERROR where it has to be
 *             repaired, or is the peer's.
 * Limits:     asking keyd for files and signatures blocks, for two seconds at most. */
#ifndef OUT_TLS_H
#define OUT_TLS_H

#include <sys/types.h>

#include "common/tls/tls.h"
#include "smtp-out/out_options.h"

struct out_conn;

/* What the TLSA records come to (out_dane.h). */
enum out_dane { OUT_DANE_NO /* as without */, OUT_DANE_VERIFY, OUT_DANE_DEFER, OUT_DANE_FAIL };

/* What the options come to for one host. */
struct out_tls_host {
	uint8_t dane;                    /* enum out_dane */
	uint8_t dane_usages;             /* of records that can be used: bit n for usage n */
	uint8_t want, want_callout;      /* enum smtp_tls */
	uint8_t verify;                  /* enum tls_verify */
	bool first;                      /* protocol = smtps */
	bool check_name, ask_ocsp, require_ocsp, require_alpn;
	bool clear_if_refused, clear_if_failed;
	bool resume;                     /* sessions are kept, and offered */
	bool unauthenticated;            /* for REQUIRETLS it need not have a certificate that can be verified */
	bool one_message;                /* an encrypted connection is not used again */
};

void out_tls_decide(const struct out_options *o, const struct ipc_host *h, struct out_tls_host *out); /* h NULL: a Unix socket */

/* What a message says of TLS: MSG_REQUIRETLS where it binds, MSG_TLS_OPTIONAL. Deliveries that differ in it share no connection. */
struct out_delivery;
uint64_t out_tls_marks(const struct out_delivery *d);
/* Whether the host is one for this message at all; false: *v. */
struct smtp_verdict;
struct out_host;
bool out_tls_fits(struct out_delivery *d, const struct out_host *to, struct smtp_verdict *v);
/* Before the dialogue: what the client is to try. */
void out_tls_prepare(struct out_conn *conn);
/* As far as it goes now, the beginning too. TLS_DONE: conn->facts are there. */
enum tls_io out_tls_shake(struct out_conn *conn, struct err *err);
/* What this connection asks of the peer; texts are the plan's, or in conn->tls_arena. */
void out_tls_peer_fill(struct out_conn *conn, struct tls_peer *peer);
/* As recv() and send(), errno too. */
ssize_t out_tls_recv(struct out_conn *conn, char *p, size_t n);
ssize_t out_tls_send(struct out_conn *conn, const char *p, size_t n);
void out_tls_end(struct out_conn *conn);

#endif

/* SPDX-License-Identifier: ISC */
/* out_session.h - TLS sessions as the client: what a server gave is kept among the hints, and offered to it the next time.
 * Used by:    out_tls.c.
 * Owns:       conn->session, from out_session_look() to out_session_end(); a question about it while it is open.
 * Invariant:  an entry lies under a digest of all that the connection is and demands (address, ours, names, options, certificates, TLSA records), and
 *             is sealed under that digest with a key that the store has not: another's, an altered or an invented one is none.
 *             A session of TLS 1.3 is taken out of the store when it is used.
 * Errors:     none: without an answer there is a whole handshake. */
#ifndef OUT_SESSION_H
#define OUT_SESSION_H

#include "smtp-out/smtp_out.h"

/* Before the handshake. True: wait, out_conn_wake() will be called. False: go on, with what out_session_offered() has. */
bool out_session_look(struct out_conn *conn);
bool out_session_wanted(const struct out_conn *conn);
const struct tls_session *out_session_offered(struct out_conn *conn); /* NULL: none; lent */
void out_session_begun(struct out_conn *conn);               /* conn->tls is there */
void out_session_shaken(struct out_conn *conn, bool done);   /* the handshake has ended */
void out_session_end(struct out_conn *conn);

#endif

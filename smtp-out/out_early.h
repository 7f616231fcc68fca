/* SPDX-License-Identifier: ISC */
/* out_early.h - for whom early pipelining is, and what is remembered of their replies to EHLO from one connection to the next.
 * Used by:    out_conn.c.
 * Owns:       the connection's memory; entries of the hint space `ehlo`, key "ADDRESS:PORT.EHLO", "[ADDRESS]:PORT.EHLO" with IPv6.
 * Errors:     none: without a memory the connection is an ordinary one. */
#ifndef OUT_EARLY_H
#define OUT_EARLY_H

#include "smtp-out/smtp_out.h"

enum { EARLY_HARMLESS = 4 };

/* Asks what is remembered of the host; known() is called with the answer, never from within. False: it is not wanted, or can't be asked. */
bool out_early_ask(struct out_conn *conn, void (*known)(struct out_conn *conn));
/* What may be said before the banner is written, as far as it is known. False: nothing. */
bool out_early_begin(struct out_conn *conn);
/* Whether content may go with the first group. A server that takes BDAT no more, or does not like our EHLO, reads it as commands (Exim does), and they
 * are a stranger's words: it begins with a Received: field of EARLY_HARMLESS lines at least, which are none, and behind so many it listens no more. */
bool out_early_harmless(struct str content);
/* Writes down what the client has learned. */
void out_early_keep(struct out_conn *conn);
void out_early_clear(struct out_conn *conn);

#endif

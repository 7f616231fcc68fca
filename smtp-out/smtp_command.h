/* SPDX-License-Identifier: ISC */
/* smtp_command.h - the lines that the client sends, and what EHLO's reply offers.
 * Used by:    the files of the dialogue (smtp_client_priv.h).
 * Invariant:  a command line holds one CRLF, at its end: texts that would break that are refused or left out.
 * Errors:     what can't be said to this peer becomes the result of whom it is about.
 * Standards:  RFC 5321, 1870, 3461, 6531, 8689, 9422. */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H

#include "smtp-out/smtp_client.h"

bool smtp_prdr_wanted(const struct smtp_client *c); /* several recipients, and a host that has it */
/* Appended without CRLF, as the log shows them. */
void smtp_command_mail(const struct smtp_client *c, struct buf *out);
void smtp_command_rcpt(const struct smtp_client *c, const struct smtp_rcpt *r, struct buf *out);
/* True if the text may stand between < and > of MAIL and RCPT. */
bool smtp_address_is_safe(struct str addr);
/* Sets offers and peer_size from the reply to EHLO. */
void smtp_offers_read(struct smtp_client *c);
void smtp_offers_limit(struct smtp_client *c);          /* forgets those that the profile does not want */
uint32_t smtp_offer_find(struct str name);              /* enum smtp_offer; 0: unknown */
const char *smtp_offer_name(uint32_t offer);            /* of one bit; NULL: it has none */
/* Settles which forms of the addresses go, and whether MAIL says SMTPUTF8, by the offers that the client goes by. False: somebody can't be
 * sent by them. */
bool smtp_utf8_fits(struct smtp_client *c);
/* Results for what this peer can't take: too large, no SMTPUTF8, unspeakable addresses. Those are skipped then. */
void smtp_txn_check(struct smtp_client *c);

#endif

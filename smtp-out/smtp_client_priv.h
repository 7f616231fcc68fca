/* SPDX-License-Identifier: ISC */
/* smtp_client_priv.h - what the files of the client's dialogue share: smtp_client.c (the table of steps, the envelope), smtp_tls.c,
 * smtp_login.c, smtp_content.c, smtp_group.c.
 * Used by:    these alone.
 * Owns:       nothing; see smtp_client.h.
 * Errors:     all trouble ends in results of recipients (smtp_result.h).
 * Order:      a step's reply moves `recv` on, or ends the transaction; client_send() then sends what may go. */
#ifndef SMTP_CLIENT_PRIV_H
#define SMTP_CLIENT_PRIV_H

#include "smtp-out/smtp_client.h"
#include "smtp-out/smtp_result.h"

/* The table's rows, by file: what a step sends, and what a reply to it does. */
void step_send_starttls(struct smtp_client *c);
void step_reply_starttls(struct smtp_client *c);
void step_send_auth(struct smtp_client *c);
void step_reply_auth(struct smtp_client *c);
void step_send_data(struct smtp_client *c);
void step_reply_data(struct smtp_client *c);
void step_reply_content(struct smtp_client *c);
void step_reply_dot(struct smtp_client *c);

/* smtp_client.c: ends. Over: the connection is to be closed. Done: it may carry another message. */
void client_over(struct smtp_client *c);
void client_txn_done(struct smtp_client *c);
void client_malformed(struct smtp_client *c, const char *why);

/* smtp_client.c: commands and replies. */
void client_txn_start(struct smtp_client *c);
void client_send(struct smtp_client *c);
void client_command_end(struct smtp_client *c, enum smtp_step next);
void client_hello_write(const struct smtp_client *c, bool esmtp, struct buf *out);
bool client_is_answered(const struct smtp_client *c);
bool client_reply_is(const struct smtp_client *c, unsigned class);
struct smtp_verdict client_verdict(struct smtp_client *c, enum retry_error error);
const char *smtp_step_phrase(enum smtp_step step);      /* for the log: "MAIL FROM", "end of data" */

/* smtp_client.c: recipients of the transaction from i on, that are not skipped; of them those whom RCPT accepted. n_rcpts: none. */
uint32_t txn_rcpt_next(const struct smtp_txn *t, uint32_t i);
uint32_t txn_rcpt_accepted(const struct smtp_txn *t, uint32_t i);

/* smtp_tls.c: on with the session behind EHLO or HELO; a deferral for want of TLS; whether a refusal of STARTTLS leads on in clear. */
void client_session_open(struct smtp_client *c);
void client_tls_defer(struct smtp_client *c, struct str status, struct str text, bool host_error);
bool client_is_clear_after(const struct smtp_client *c, const struct smtp_reply *refusal);

/* smtp_login.c: the next authenticator, or on without. */
void client_auth_next(struct smtp_client *c);

/* smtp_content.c: whether the content goes by BDAT; the recipient has the message. */
bool client_is_chunking(const struct smtp_client *c);
void client_delivered(struct smtp_client *c, struct smtp_rcpt *r);

/* smtp_group.c: a reply while a group is under way. True: there is no more to be done about it. */
bool client_early_reply(struct smtp_client *c);

#endif

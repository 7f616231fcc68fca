/* SPDX-License-Identifier: ISC */
/* smtp_result.h - from replies and losses to results of recipients, in the words of the log.
 * Used by:    the files of the dialogue, out_delivery.c, out_tls.c, out_dane.c.
 * Owns:       nothing; texts go into the transaction's arena.
 * Errors:     none: these are what becomes of errors.
 * Invariant:  a recipient that has a result keeps it. */
#ifndef SMTP_RESULT_H
#define SMTP_RESULT_H

#include "smtp-out/smtp_client.h"

/* A result without its recipient. */
struct smtp_verdict {
	enum delivery_result result;
	enum retry_error error;
	const char *stage;
	uint16_t code;
	bool host_error, refused;
	int error_no;               /* errno; 0: none */
	struct str status, text;
};

void smtp_verdict_give(struct smtp_rcpt *r, const struct smtp_verdict *v);
/* To every recipient of the transaction that has none; a host error is noted in the transaction too. */
void smtp_verdict_give_all(struct smtp_txn *t, const struct smtp_verdict *v);
/* Failed, or deferred with `error`, by the code of a 4xx or 5xx reply; `command` is the command as sent, or the phrase of the step. */
struct smtp_verdict smtp_verdict_reply(const struct smtp_txn *t, const struct smtp_reply *reply, const char *stage, struct str command,
	enum retry_error error);
struct smtp_verdict smtp_verdict_loss(const struct smtp_txn *t, const char *stage, struct str command, enum retry_error error,
	bool host_error, struct str text);
/* The host is none for this message, whatever it is for others: the next one may be. */
struct smtp_verdict smtp_verdict_unfit(struct str status, struct str text);
/* The reply as one text for the confirmation or an error, cut to what a message between daemons takes. */
struct str smtp_reply_words(const struct smtp_txn *t, const struct smtp_reply *reply);
struct str smtp_status_of(const struct smtp_txn *t, const struct smtp_reply *reply);

#endif

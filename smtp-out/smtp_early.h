/* SPDX-License-Identifier: ISC */
/* smtp_early.h - early pipelining as the client: what a host's replies to EHLO were, in clear and inside TLS, and what they would allow.
 * Used by:    smtp_client.c decides by it what goes out before the banner has come; out_early.c keeps it among the hints; the fuzz target.
 * Owns:       nothing.
 * Errors:     a text that does not parse is no memory.
 * Form:       "1 SINCE CLEAR TLS", SINCE in seconds since 1970; a part is "-", or words with commas between: PIPELINING, SIZE=100, AUTH=PLAIN+LOGIN.
 *             AUTH=PLAIN+* when there were more mechanisms than are kept; LIMITS=MAILMAX+RCPTMAX+RCPTDOMAINMAX, 0: not said. */
#ifndef SMTP_EARLY_H
#define SMTP_EARLY_H

#include "smtp-out/smtp_client.h"

enum { SMTP_MEMORY_MECHANISMS = 128 /* octets of their names, with blanks between */, SMTP_MEMORY_TEXT_MAX = 2048 };

struct smtp_memory {
	int64_t since_s;
	struct smtp_memory_part {
		bool known;
		bool more;               /* mechanisms that are not in the list */
		uint32_t offers;         /* enum smtp_offer, whatever we make of them */
		uint64_t size;
		uint32_t mails, rcpts, domains; /* LIMITS; 0: none */
		char mechanisms[SMTP_MEMORY_MECHANISMS];
	} part[2];                       /* in clear, inside TLS */
};

bool smtp_memory_parse(struct str text, struct smtp_memory *out);
void smtp_memory_format(const struct smtp_memory *m, struct buf *out);

/* Takes what is remembered for an EHLO reply. False: there is nothing that lets a group go early. */
bool smtp_early_recall(struct smtp_client *c);
/* Compares the reply that was read with what was remembered; sets c->learned or c->forget where they differ. False: there is no offer any more. */
bool smtp_early_learn(struct smtp_client *c);
/* What would follow EHLO by the offers that the client goes by: STARTTLS, AUTH (c->auth is set), MAIL; WAIT: only its reply can tell. */
enum smtp_step smtp_early_next(struct smtp_client *c);
/* The offers of which the transaction's commands make use. */
uint32_t smtp_early_uses(const struct smtp_client *c);

#endif

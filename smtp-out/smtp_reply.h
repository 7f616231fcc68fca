/* SPDX-License-Identifier: ISC */
/* smtp_reply.h - takes replies of one or more lines out of what a server sends.
 * Used by:    the client core; the fuzz target.
 * Owns:       the unfinished line and the text of the present reply, until smtp_reply_clear().
 * Invariant:  the text holds no control octet but LF between its lines, and at most SMTP_REPLY_TEXT_MAX octets.
 * Errors:     SMTP_REPLY_BAD with *why in words; the conversation can't go on after it.
 * Standards:  RFC 5321 sections 4.2 and 4.5.3.1.5. A bare LF also ends a line, as there are servers that send it. */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include "common/base/str.h"

enum {
	SMTP_REPLY_LINE_MAX = 2048,  /* octets of one line; RFC 5321 says 512 */
	SMTP_REPLY_LINES_MAX = 128,
	SMTP_REPLY_TEXT_MAX = 8192,  /* octets kept of one reply; the rest is read and dropped */
};

enum smtp_reply_state { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };

struct smtp_reply {
	struct buf line;    /* a line of which the end has not come */
	struct buf text;    /* whole lines with their codes, LF between them */
	uint32_t last;      /* where the last line begins in text */
	uint16_t code;
	uint16_t lines;
	const char *why;    /* SMTP_REPLY_BAD */
};

/* Reads until a reply is complete or the octets are used up. *used_out says how many were. After SMTP_REPLY_DONE the reply may
 * be read until the next call. */
enum smtp_reply_state smtp_reply_read(struct smtp_reply *r, const char *p, size_t n, size_t *used_out);
/* "5.1.1" out of the reply's last line, if its class fits the code; else STR_NULL. Lends. */
struct str smtp_reply_status(const struct smtp_reply *r);
/* The next line of a complete reply without its code; start with *at = 0. False at the end. */
bool smtp_reply_line(const struct smtp_reply *r, size_t *at, struct str *line_out);
bool smtp_reply_is_partial(const struct smtp_reply *r); /* something of an unfinished reply has come */
void smtp_reply_clear(struct smtp_reply *r);            /* gives the memory back; ready for the next reply */

#endif

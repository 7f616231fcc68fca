/* SPDX-License-Identifier: ISC */
/* local_text.h - content on its way into a file: line ends as the store wants them, lines that must be escaped.
 * Used by:    local_sink.c.
 * Owns:       what it holds back at the start of a line until it is known whether the line must be escaped.
 * Invariant:  the same octets come out however the input is cut up. CRLF becomes LF (or stays); a bare LF is a line end, a bare
 *             CR stays as it is. The last line is ended. */
#ifndef LOCAL_TEXT_H
#define LOCAL_TEXT_H

#include "common/base/str.h"

enum { LOCAL_CHECK_MAX = 64 };  /* octets of check_string */

struct local_text {
	struct str check, escape;   /* empty check: nothing is escaped */
	bool crlf;                  /* lines end with CRLF in the store */
	bool cr;                    /* the last octet was a CR; it has not been written */
	bool bol;                   /* at the beginning of a line */
	uint8_t held;               /* octets of check seen at the beginning of this line */
};

void local_text_init(struct local_text *t, struct str check, struct str escape, bool crlf);
void local_text_add(struct local_text *t, const char *p, size_t n, struct buf *out);
void local_text_end(struct local_text *t, struct buf *out);

#endif

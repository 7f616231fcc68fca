/* SPDX-License-Identifier: ISC */
/* smtp_dots.h - content on its way out: every line ends in CRLF, a dot at the start of a line is doubled.
 * Used by:    out_content.c.
 * Owns:       nothing; all zero but `bol` is the state at the start: SMTP_DOTS_INIT.
 * Invariant:  what comes out holds CR only before LF and LF only behind CR, whatever goes in and however it is cut up. A bare
 *             CR or LF becomes CRLF: content is checked at intake, but a spool file may have come from elsewhere.
 * Errors:     none.
 * Standards:  RFC 5321 sections 2.3.8 and 4.5.2. */
#ifndef SMTP_DOTS_H
#define SMTP_DOTS_H

#include "common/base/str.h"

struct smtp_dots {
	bool bol;  /* at the beginning of a line */
	bool cr;   /* the last octet was a CR; it has not been written */
	bool plain; /* BDAT: line ends are looked after, dots are not */
};
#define SMTP_DOTS_INIT { true, false, false }

void smtp_dots_add(struct smtp_dots *d, const char *p, size_t n, struct buf *out);
/* Ends the last line if need be, and the content with its lone dot. */
void smtp_dots_end(struct smtp_dots *d, struct buf *out);

#endif

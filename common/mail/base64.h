/* SPDX-License-Identifier: ISC */
/* base64.h - base64 as SASL has it: exact, no line ends, no blanks.
 * Used by:    smtpd, smtp-out and policyd, for AUTH; the MIME decoder, for its letters.
 * Owns:       nothing; results go into the caller's buffer.
 * Errors:     base64_decode() is false for anything that an encoder would not have made: wrong letters, wrong padding, bits left over.
 * Standards:  RFC 4648 section 4, RFC 4954 section 4. */
#ifndef MAIL_BASE64_H
#define MAIL_BASE64_H

#include "common/base/str.h"

int base64_value(char c);                          /* of a letter, 0 to 63; -1: it is none */
void base64_encode(struct buf *out, struct str s);
bool base64_decode(struct buf *out, struct str s); /* appends; on false out is as before */

#endif

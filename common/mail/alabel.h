/* SPDX-License-Identifier: ISC */
/* alabel.h - domains and local parts between UTF-8 and their ASCII forms.
 * Used by:    the expander; downconversion of SMTPUTF8 messages.
 * Owns:       nothing: results are in the arena, or the text itself where nothing changes.
 * Errors:     ST_ERROR: the text has no such form.
 * Standards:  RFC 5890, 3492; the form of local parts ("xn--..." by plain Punycode) is Exim's. */
#ifndef MAIL_ALABEL_H
#define MAIL_ALABEL_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum { ALABEL_TEXT_MAX = 1024 /* octets of a text to convert */ };

enum status alabel_domain_encode(struct arena *a, struct str domain, struct str *out, struct err *err);
enum status alabel_domain_decode(struct arena *a, struct str domain, struct str *out, struct err *err);
enum status alabel_local_encode(struct arena *a, struct str local, struct str *out, struct err *err);
enum status alabel_local_decode(struct arena *a, struct str local, struct str *out, struct err *err);

/* The same domain for every way to write it: A-labels in small letters; the text itself where there are none. */
struct str alabel_domain_canonical(struct arena *a, struct str domain);
/* The other form of an internationalised domain: A-labels for U-labels, and back. False: it is none, or has none. */
bool alabel_domain_other(struct arena *a, struct str domain, struct str *out);
/* Normalisation form C, by which local parts and keys are compared; the text itself where that changes nothing, or it is not UTF-8. */
struct str utf8_nfc(struct arena *a, struct str text);

#endif

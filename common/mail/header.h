/* SPDX-License-Identifier: ISC */
/* header.h - the header of a message as text: fields, folding, bounds.
 * Used by:    smtpd, policyd, router ($h_...), smtp-out and local (edits), qmgr (reports), sendmail -t.
 * Owns:       nothing: fields lend from the text.
 * Invariant:  every octet of the header belongs to exactly one field or to the empty line. Lines end in CRLF or LF.
 * Errors:     none: what is no field ends the header, and the body begins there.
 * Standards:  RFC 5322 section 2.2; blanks between name and colon (section 4.5) are accepted. */
#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

#include "common/base/mem.h"
#include "common/base/str.h"

enum { HEADER_NAME_MAX = 200 }; /* octets of a field's name with the blanks before its colon: a line with a longer one is no field */

/* What a name may be made of to be seen as one. Octets over 127 are wrong in it (header_name_valid()), but are no end of the header:
 * what stands behind such a field is seen by others, and so by us. */
static inline bool header_name_octet(char c)
{
	return (unsigned char)c > 32 && (unsigned char)c != 127 && c != ':';
}

struct header_field {
	struct str name;        /* without colon and blanks before it */
	struct str value;       /* behind the colon, folding and blanks as they are, without the last line end */
	struct str raw;         /* all of it with its last line end (if the text has one) */
	size_t at;              /* offset of raw in the text */
};

struct header_scan {
	struct str text;
	size_t at;              /* where the next field begins */
	bool ended;             /* the end of the header was seen */
	bool empty_line;        /* ... and it was an empty line */
};

void header_scan_init(struct header_scan *scan, struct str text);
/* The next field; false at the end of the header: scan->at is then the offset of the body (behind the empty line, if there is one). */
bool header_scan_next(struct header_scan *scan, struct header_field *out);

/* The nth (from 0) field of this name; false if there is none. */
bool header_find(struct str text, const char *name, unsigned nth, struct header_field *out);
unsigned header_count(struct str text, const char *name);
/* Offset of the body; *closed_out says whether an empty line stood before it. */
size_t header_end(struct str text, bool *closed_out);
bool header_name_valid(struct str name);       /* printable ASCII without colon and blank */
/* Is the text one or more whole fields, each line ended (CRLF or LF), no empty line: fit to be put into a header? */
bool header_text_valid(struct str text);
/* The value on one line: each line end goes, the blanks stay; ends are trimmed. */
struct str header_unfold(struct arena *a, struct str value);
/* The same with CRLF line ends where the text has lone LF or CR. */
struct str header_crlf(struct arena *a, struct str text);
/* A Message-ID field's value without brackets and blanks, for the log; empty when malformed. */
struct str header_msgid(struct str value);

#endif

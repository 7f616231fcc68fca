/* SPDX-License-Identifier: ISC */
/* address.h - mail addresses as SMTP knows them: paths, local parts, domains.
 * Used by:    smtpd (MAIL, RCPT), router, smtp-out, local, sendmail, ACLs.
 * Owns:       nothing: results lend from the text that was parsed, functions with an arena allocate from it.
 * Invariant:  text that is accepted is accepted whole; nothing is ever cut off or repaired. No accepted address contains a
 *             control octet, so it may go into a command, a header or a log line as it is.
 * Errors:     ST_FAIL with a text for the client ("local part too long"); never ST_DEFER.
 * Standards:  RFC 5321 sections 4.1.2, 4.1.3, 4.5.3.1; RFC 6531 section 3.3 with ADDR_UTF8. */
#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum {
	ADDR_LOCAL_MAX = 64,    /* octets, RFC 5321 section 4.5.3.1.1 */
	ADDR_DOMAIN_MAX = 255,  /* octets, section 4.5.3.1.2 */
	ADDR_PATH_MAX = 256,    /* octets with the brackets, section 4.5.3.1.3 */
	ADDR_LABEL_MAX = 63,    /* octets of a domain's label, RFC 1035 section 2.3.4; of an U-label its A-label has them, which IDNA sees to */
	ADDR_LENIENT_MAX = 1000, /* octets of an address in lenient mode: what the messages between daemons can carry */
};

enum addr_flag {
	ADDR_LITERALS = 1,      /* [192.0.2.1] and [IPv6:2001:db8::1] as domains */
	ADDR_UNQUALIFIED = 2,   /* a local part without a domain; "postmaster" is accepted without this */
	ADDR_LENIENT = 4,       /* no brackets, blanks around, dots anywhere in the local part, "_" in domains, a final dot, long parts */
	ADDR_UTF8 = 8,          /* octets over 127 that are valid UTF-8 */
	ADDR_EMPTY = 16,        /* the null path <> */
};

struct address {
	struct str text;        /* local@domain without brackets and source route; empty: null path */
	struct str local;       /* as written, with its quotes */
	struct str domain;      /* as written; NULL: none */
	bool quoted;            /* the local part is a quoted string */
	bool literal;           /* the domain is an address literal */
	bool utf8;              /* an octet over 127 is in it */
	bool routed;            /* a source route was there and has been dropped */
};

/* A path at the start of `in` (the argument of MAIL FROM: or RCPT TO:, leading blanks skipped only when lenient). *rest_out begins
 * behind the path: empty, or a blank and the parameters. */
enum status address_path_parse(struct str in, unsigned flags, struct address *out, struct str *rest_out, struct err *err);
/* All of `in`, no brackets: user@example.org. ADDR_EMPTY allows the empty text. */
enum status address_parse(struct str in, unsigned flags, struct address *out, struct err *err);

/* Cuts at the last "@" that is outside quotes, without any check of grammar. False if there is none (local_out is all). */
bool address_split(struct str addr, struct str *local_out, struct str *domain_out);
bool address_domain_valid(struct str domain, unsigned flags);   /* name or, with ADDR_LITERALS, literal */
bool address_hostname_valid(struct str name);                   /* letters, digits, hyphens, dots; labels and length in bounds */
bool address_literal_valid(struct str literal);                 /* with its square brackets */
bool address_local_valid(struct str local, unsigned flags);     /* dot-atom or quoted string */
/* The local part without quotes and backslashes (what mailboxes are compared by), and back, quoted only where it must be. */
struct str address_local_unquote(struct arena *a, struct str local);
struct str address_local_quote(struct arena *a, struct str bare);
/* local@domain with the domain in lower case; the local part as it is. Lends from addr if nothing changes. */
struct str address_lower_domain(struct arena *a, struct str addr);
/* Equal mailboxes: domains caselessly and in either form, local parts exactly (quotes undone). */
bool address_same(struct arena *a, struct str x, struct str y);
bool address_utf8_valid(struct str s);                         /* RFC 3629, and none of the control characters U+0080 to U+009F */
bool address_is_ascii(struct str s);

/* xtext, RFC 3461 section 4. */
struct str address_xtext_encode(struct arena *a, struct str s);
bool address_xtext_decode(struct arena *a, struct str s, struct str *out);
/* The forms of an address of type "utf-8" in ORCPT and in reports (RFC 6533 section 3): characters that don't fit are \x{HEX}; all that
 * is not ASCII with `ascii` (utf-8-addr-xtext), else only "+", "=", "\", blanks (utf-8-addr-unitext). */
struct str address_unitext_encode(struct arena *a, struct str s, bool ascii);
bool address_unitext_decode(struct arena *a, struct str s, struct str *out); /* either form */

#endif

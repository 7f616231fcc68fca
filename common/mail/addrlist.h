/* SPDX-License-Identifier: ISC */
/* addrlist.h - the address lists of header fields: names, comments, groups, quoted strings.
 * Used by:    sendmail -t, redirect data, verify = header_syntax, header_sender, reports.
 * Owns:       all results are in the caller's arena.
 * Errors:     ST_FAIL with the place: "malformed address: ; may not follow ...". ADDRLIST_MAX addresses at most.
 * Standards:  RFC 5322 section 3.4 with the obsolete forms of section 4.4; RFC 6532 with ADDR_UTF8. */
#ifndef MAIL_ADDRLIST_H
#define MAIL_ADDRLIST_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/mail/address.h"

enum { ADDRLIST_MAX = 50000 };

struct addrlist_item {
	struct str addr;        /* local@domain, comments and blanks removed; only a local part if unqualified */
	struct str name;        /* display name or the comment behind, unquoted; may be empty; encoded words as they are */
	struct str group;       /* name of the group that it is in */
	struct str raw;         /* the item as written, lent from the input */
};

struct addrlist {
	struct addrlist_item *v;
	uint32_t n;
};

/* A whole field value (folding allowed). Empty items and empty groups give nothing. flags: enum addr_flag (ADDR_UNQUALIFIED and
 * ADDR_LITERALS are implied; ADDR_EMPTY allows <>). */
enum status addrlist_parse(struct str value, unsigned flags, struct arena *a, struct addrlist *out, struct err *err);
/* One item of such a list, up to its comma outside quotes and comments; false at the end of *rest. Items are not checked: for lists
 * in which an item may also be something else (alias files). Groups are not taken apart. */
bool addrlist_item_next(struct str *rest, struct str *item_out);
/* The one address of an item: "Name <a@b>", "a@b (Name)". */
enum status addrlist_item_parse(struct str item, unsigned flags, struct arena *a, struct addrlist_item *out, struct err *err);
/* "Name <addr>" with the name quoted where it must be; only addr if there is no name. */
struct str addrlist_format(struct arena *a, struct str name, struct str addr);

#endif

/* SPDX-License-Identifier: ISC */
/* affix.h - prefixes and suffixes of local parts, as lists like "real-: *+" name them (specification, chapter 15, local_part_prefix).
 * Used by:    router (a router's preconditions), smtpd (the check of From:).
 * Owns:       nothing.
 * Errors:     none: no match is 0. */
#ifndef MAIL_AFFIX_H
#define MAIL_AFFIX_H

#include "common/base/str.h"

/* Octets of the local part that the prefix (not empty; an asterisk in front stands for anything, the longest) takes; *wild_out of them
 * stand for the asterisk. 0: no match. Case does not count. */
size_t affix_prefix(struct str local, struct str prefix, size_t *wild_out);
/* Likewise at the end, an asterisk behind; a suffix never takes all. */
size_t affix_suffix(struct str local, struct str suffix, size_t *wild_out);

#endif

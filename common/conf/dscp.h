/* SPDX-License-Identifier: ISC */
/* dscp.h - classes of service of connections, by name or number.
 * Used by:    smtp-out, for the option dscp; checks.
 * Owns:       nothing.
 * Errors:     ST_ERROR with what would be right.
 * Standards:  RFC 2474, 2597, 3246; the words of RFC 1349 for the older type of service. */
#ifndef CONF_DSCP_H
#define CONF_DSCP_H

#include "common/base/err.h"
#include "common/base/str.h"

/* *tos_out: the octet of the IP header (TOS, or IPv6's traffic class), whose upper six bits are the code point. */
enum status conf_dscp_parse(struct str s, int16_t *tos_out, struct err *err);

#endif

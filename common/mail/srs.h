/* SPDX-License-Identifier: ISC */
/* srs.h - envelope senders rewritten for forwarding, in the form that Exim's srs_encode and inbound_srs use ("native"):
 * SRS0=hhhh=tt=domain=local@forwarder.
 * Used by:    the expander; the command.
 * Owns:       nothing: results are in the arena.
 * Errors:     encoding: ST_ERROR for what is no address. Decoding: ST_FAIL with the reason: no SRS address, wrong hash, too old. */
#ifndef MAIL_SRS_H
#define MAIL_SRS_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum {
	SRS_NATIVE_DAYS = 10,      /* an address is good for */
	SRS_DAYS_ROUND = 1024,     /* the count of days begins anew */
};

/* days: since 1970. An empty address stays empty. */
enum status srs_native_encode(struct arena *a, struct str secret, struct str address, struct str domain, int64_t days, struct str *out, struct err *err);
/* An empty secret: neither hash nor age is looked at. */
enum status srs_native_decode(struct arena *a, struct str secret, struct str local_part, int64_t days, struct str *out, struct err *err);

#endif

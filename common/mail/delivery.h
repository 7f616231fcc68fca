/* SPDX-License-Identifier: ISC */
/* delivery.h - the fields that a transport puts in front of a message: Return-path:, Envelope-to:, Delivery-date:.
 * Used by:    smtp-out, local (struct edit_input's prepend).
 * Owns:       nothing; texts are in the caller's arena.
 * Invariant:  fields end in CRLF and hold no other line end: octets of an address that would break that come out as '?'. */
#ifndef MAIL_DELIVERY_H
#define MAIL_DELIVERY_H

#include "common/ipc/codec.h"

enum { DELIVERY_FIELDS_MAX = 3 };

struct delivery_fields {
	bool return_path, envelope_to, delivery_date; /* which are wanted */
	struct str sender;
	const struct ipc_recipient *recipients;       /* Envelope-to: names them, or what they came of */
	uint32_t n_recipients;
	int64_t now_s;
};

uint32_t delivery_fields_make(const struct delivery_fields *f, struct arena *a, struct str out[DELIVERY_FIELDS_MAX]);

#endif

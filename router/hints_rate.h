/* SPDX-License-Identifier: ISC */
/* hints_rate.h - how a rate is reckoned from event to event (specification, sections 44.39 to 44.43).
 * Used by:    hints.c, within its transaction; its unit test.
 * Owns:       nothing. The stored value: one line "RATE WHEN_US", and with unique events a second, "BEGIN_US", followed by 8 octets
 *             for each event of the period.
 * Errors:     false when the question is malformed; a stored value that is not understood counts as none.
 *
 * The rate is an exponentially smoothed average, in events a period P: after an interval i a rate r becomes
 *     r exp(-i/P) + count (1 - exp(-i/P)) / (i/P)
 * so that events in a burst add up, and a client that sends evenly is measured at what it sends. */
#ifndef ROUTER_HINTS_RATE_H
#define ROUTER_HINTS_RATE_H

#include "common/base/mem.h"
#include "common/ipc/codec.h"

enum { HINTS_RATE_EVENTS_MAX = 7000 /* unique events that are told apart in a period; with more the set is begun anew */ };

/* *new_out: what is to be stored, empty when nothing is; *keep_s_out: for how long. */
bool hints_rate(const struct ipc_hint_ask *ask, struct str stored, struct arena *a, struct str *new_out, uint64_t *keep_s_out,
	struct ipc_hint_answer *out);

#endif

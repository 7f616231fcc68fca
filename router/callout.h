/* SPDX-License-Identifier: ISC */
/* callout.h - the second stage of a verification: the server is asked, through smtp-out, unless the cache knows.
 * Used by:    router_ask.c.
 * Owns:       nothing; all is in the question's arena.
 * Errors:     none: trouble is an answer ST_DEFER with a text for the log. */
#ifndef ROUTER_CALLOUT_H
#define ROUTER_CALLOUT_H

#include "common/lang/verify_options.h"
#include "router/route.h"

struct callout {
	struct router *r;
	struct arena *a;
	struct eval *ev;                      /* for callout_random_local_part */
	const struct verify_options *options;
	const struct ipc_plan *plan;          /* of a delivery */
	struct str addr, mail_from;
	struct str client_ip;                 /* for the log */
	bool sender;                          /* the address is verified as a sender */
	bool utf8, requiretls;
};

/* out: what routing said; status, texts, failure, callout_address and the data variables are set. */
void callout_verify(const struct callout *c, struct ipc_verify_answer *out);
/* A plan for hosts of a router that has no transport (verification only). */
void callout_plan_bare(struct route *rt, const struct driver_out *hosts, struct ipc_plan *out);

#endif

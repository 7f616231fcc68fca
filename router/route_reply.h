/* SPDX-License-Identifier: ISC */
/* route_reply.h - what an autoreply transport needs beyond plain options: recipients that may be written to, files that may be named.
 * Used by:    site_transport.c (at load), route_plan.c.
 * Owns:       in the site's arena; results in the question's.
 * Errors:     ST_DEFER a file or list can't be read now; ST_ERROR the configuration, or taint. */
#ifndef ROUTER_ROUTE_REPLY_H
#define ROUTER_ROUTE_REPLY_H

#include "router/route.h"

enum { REPLY_OPTIONS_MAX = 8 };

struct site_reply {
	struct expansion *to, *cc, *bcc, *file, *log, *once, *text;
	struct lang_list *never;
};
enum status site_reply_make(struct site *site, struct site_transport *t, struct err *err);
/* Appends to the plan's options; there is room for REPLY_OPTIONS_MAX. */
enum status route_reply(struct route *rt, const struct site_transport *t, struct ipc_plan *plan, struct err *err);

#endif

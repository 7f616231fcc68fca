/* SPDX-License-Identifier: ISC */
/* driver_accept.c - accepts every address that gets to it. */
#include "router/route.h"

static enum verdict accept_run(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	(void)rt, (void)addr, (void)r, (void)out, (void)err;
	return RT_ACCEPT;
}

const struct router_driver router_accept = { &conf_table_router_accept, NULL, accept_run, false };

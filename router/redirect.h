/* SPDX-License-Identifier: ISC */
/* redirect.h - redirection for other drivers than redirect.
 * Used by:    driver_queryprogram.c.
 * Errors:     RT_DEFER with what is wrong with the data. */
#ifndef ROUTER_REDIRECT_H
#define ROUTER_REDIRECT_H

#include "router/route.h"

/* By a text that a program gave: addresses and :fail: alone. */
enum verdict redirect_text(struct route *rt, struct addr *addr, const struct site_router *r, struct str data, struct driver_out *out, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* route_command.h - the command of a pipe transport: its words, each expanded by itself, who may run it, and its environment.
 * Used by:    site_transport.c (at load), route_plan.c.
 * Owns:       nothing; words are in the question's arena.
 * Errors:     ST_FAIL: this command may not run; ST_ERROR: the configuration, or taint (specification, section 29.3). */
#ifndef ROUTER_ROUTE_COMMAND_H
#define ROUTER_ROUTE_COMMAND_H

#include "common/conf/command.h"
#include "common/ipc/codec.h"
#include "router/route.h"

enum { COMMAND_ENV_MAX = 128 };

/* The `command` option, compiled word by word. */
struct site_command {
	struct command_words words;
	struct expansion **x;          /* NULL for a word that is filled in later */
	struct expansion *whole;       /* use_shell */
	struct expansion *allow, *environment;
};
enum status site_command_make(struct site *site, struct site_transport *t, struct err *err);

/* argv and environment of the plan. */
enum status route_command(struct route *rt, const struct addr *addr, const struct site_transport *t, struct str host, struct ipc_plan *plan,
	struct err *err);

#endif

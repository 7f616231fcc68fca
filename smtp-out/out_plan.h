/* SPDX-License-Identifier: ISC */
/* out_plan.h - plans, decoded once and shared by all deliveries and connections that follow the same one.
 * Used by:    smtp_out.c, out_delivery.c, out_conn.c.
 * Owns:       a plan lives while somebody holds it: out_plan_get() and out_plan_hold() count up, out_plan_drop() down.
 * Errors:     as out_options_read(). */
#ifndef OUT_PLAN_H
#define OUT_PLAN_H

#include "common/base/hash.h"
#include "smtp-out/out_options.h"
#include "smtp-out/out_tls.h"
#include "smtp-out/smtp_client.h"

/* What holds for one host of a plan. */
struct out_host {
	const struct ipc_host *host;         /* NULL: Unix socket */
	const struct out_options *options;   /* the plan's, or this host's own */
	struct smtp_profile profile;
	struct out_tls_host tls;
};

struct out_plan {
	uint32_t refs;
	struct hash *cache;
	struct str encoded;              /* its key there */
	struct ipc_plan plan;
	struct out_options options;      /* those that are the same for all hosts */
	struct out_host *hosts;          /* as plan.hosts; behind the last one: the Unix socket */
	struct arena arena;
};

/* encoded: struct ipc_plan as it came; helo: our name, where the transport sets none. */
enum status out_plan_get(struct hash *cache, struct str encoded, struct str helo, struct out_plan **out, struct err *err);
struct out_plan *out_plan_hold(struct out_plan *p);
void out_plan_drop(struct out_plan *p); /* NULL is fine */
const struct out_host *out_plan_host(const struct out_plan *p, uint32_t host); /* index among the hosts; others: the Unix socket */

#endif

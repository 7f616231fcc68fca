/* SPDX-License-Identifier: ISC */
/* out_plan.h - plans, decoded once and shared by all deliveries and connections that follow the same one.
 * Used by:    smtp_out.c, out_delivery.c, out_conn.c.
 * Owns:       a plan lives while somebody holds it: out_plan_get() and out_plan_hold() count up, out_plan_drop() down.
 * Errors:     as out_options_read(). */
#ifndef OUT_PLAN_H
#define OUT_PLAN_H

#include "common/base/hash.h"
#include "smtp-out/out_options.h"
#include "smtp-out/smtp_client.h"

struct out_plan {
	uint32_t refs;
	struct hash *cache;
	struct str encoded;              /* its key there */
	struct ipc_plan plan;
	struct out_options options;
	struct smtp_profile profiles[16]; /* [require_auth * 8 + try_auth * 4 + avoid_esmtp * 2 + avoid_pipelining] */
	struct arena arena;
};

/* encoded: struct ipc_plan as it came; helo: our name, where the transport sets none. */
enum status out_plan_get(struct hash *cache, struct str encoded, struct str helo, struct out_plan **out, struct err *err);
struct out_plan *out_plan_hold(struct out_plan *p);
void out_plan_drop(struct out_plan *p); /* NULL is fine */
const struct smtp_profile *out_plan_profile(const struct out_plan *p, const struct ipc_host *host); /* host NULL: Unix socket */

#endif

/* SPDX-License-Identifier: ISC */
/* plan_impl.h - a plan while it is made.
 * Used by:    route_plan.c and the plan_....c beside it; nobody else.
 * Owns:       texts are in the question's arena; the buffer `identity` is freed by plan_make().
 * Errors:     ST_DEFER, ST_ERROR with the option in front; ST_FAIL where an address can't be delivered like that. */
#ifndef ROUTER_PLAN_IMPL_H
#define ROUTER_PLAN_IMPL_H

#include "router/route.h"

struct making {
	struct route *rt;
	struct addr *addr;
	const struct site_router *r;
	const struct site_transport *t;
	struct ipc_plan plan;
	struct buf identity;           /* what makes a connection what it is */
	bool hosts_owned;              /* plan.hosts is of this plan alone */
	struct str store;              /* path of a local delivery, or socket */
};

/* An expansion that may be missing, or be forced to fail: then *out stays as it is and *got is false. */
enum status plan_expand(struct making *m, const struct expansion *x, const char *name, struct str *out, bool *got, struct err *err);
bool plan_is_local(const struct site_transport *t);

/* plan_login.c */
enum status plan_login(struct making *m, struct err *err);
enum status plan_home(struct making *m, struct err *err);
enum status plan_directory(struct making *m, struct err *err);

/* plan_message.c */
enum status plan_fields_added(struct making *m, struct err *err);
enum status plan_fields_removed(struct making *m, struct err *err);
enum status plan_rewrites(struct making *m, struct err *err);
enum status plan_return_path(struct making *m, struct err *err);
enum status plan_size_check(struct making *m, struct err *err);

/* plan_tlsa.c: once the hosts are there, with their ports */
enum status plan_tlsa(struct making *m, struct err *err);
struct str plan_tlsa_usage(const struct ipc_host *h); /* $tls_out_tlsa_usage */
void plan_tlsa_identity(struct making *m, const struct ipc_host *h);
/* plan_proxies.c: the expanded value of socks_proxy, into what smtp-out takes. */
enum status plan_proxies(struct making *m, struct str *value, struct err *err);

/* plan_identity.c */
void plan_identity_add(struct making *m, struct str name, struct str value);
enum status plan_identity(struct making *m, struct err *err); /* key and destination; all else is in the plan */

#endif

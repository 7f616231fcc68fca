/* SPDX-License-Identifier: ISC */
/* redis_conn.h - connections to Redis servers, kept by the worker: connected, logged in, with their database selected.
 * Used by:    lookup_redis.c, hints_redis.c.
 * Owns:       nothing; env's struct conns owns the connections. Drop one that failed: conns_drop(env->conns, s->name).
 * Errors:     NULL with ST_DEFER and a text that names the server and holds no password. */
#ifndef ROUTER_REDIS_CONN_H
#define ROUTER_REDIS_CONN_H

#include <hiredis/hiredis.h>

#include "router/lookup_servers.h"

/* Lent until the next call; *kept_out: it was open already, and may have died since it was looked at. */
redisContext *redis_conn_get(struct lookup_env *env, const struct server *s, struct arena *a, bool *kept_out, struct err *err);

#endif

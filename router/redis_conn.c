/* SPDX-License-Identifier: ISC */
#include "router/redis_conn.h"

enum {
	REDIS_TIMEOUT_MS = 5000,
	REDIS_PORT = 6379,
};

static void redis_close(void *conn)
{
	redisFree(conn);
}

/* AUTH or SELECT: the server's words, without what was sent. */
static enum status conn_say(redisContext *ctx, const char *verb, struct str word, const struct server *s, struct err *err)
{
	redisReply *r = redisCommand(ctx, "%s %b", verb, word.p, (size_t)word.len);
	enum status st = ST_OK;

	if (!r)
		st = err_set(err, ST_DEFER, "REDIS: %.*s: %s", STR_FMT(s->shown), ctx->errstr);
	else if (r->type == REDIS_REPLY_ERROR)
		st = err_set(err, ST_DEFER, "REDIS: %.*s: %s failed: %s", STR_FMT(s->shown), verb, r->str);
	if (r)
		freeReplyObject(r);
	return st;
}

static redisContext *connect_to(struct lookup_env *env, const struct server *s, struct str ip, struct arena *a, struct err *err)
{
	uint32_t ms = env->redis_timeout_ms ? env->redis_timeout_ms : REDIS_TIMEOUT_MS;
	struct timeval tv = { ms / 1000, (suseconds_t)(ms % 1000) * 1000 };
	redisContext *ctx = s->socket.len ? redisConnectUnixWithTimeout(str_cstr(a, s->socket), tv)
					  : redisConnectWithTimeout(str_cstr(a, ip), (int)(s->port ? s->port : REDIS_PORT), tv);
	enum status st = ST_OK;

	if (!ctx || ctx->err) {
		err_set(err, ST_DEFER, "REDIS: %.*s: %s", STR_FMT(s->shown), ctx ? ctx->errstr : "out of memory");
		if (ctx)
			redisFree(ctx);
		return NULL;
	}
	redisSetTimeout(ctx, tv);
	if (s->password.len)
		st = conn_say(ctx, "AUTH", s->password, s, err);
	if (!st && s->database.len)
		st = conn_say(ctx, "SELECT", s->database, s, err);
	if (!st)
		return ctx;
	redisFree(ctx);
	return NULL;
}

redisContext *redis_conn_get(struct lookup_env *env, const struct server *s, struct arena *a, bool *kept_out, struct err *err)
{
	struct str ip[SERVER_IPS_MAX] = { STR_NULL };
	redisContext *ctx;
	unsigned n = 1;

	if (!env->conns)
		env->conns = conns_new();
	ctx = conns_get(env->conns, s->name);
	*kept_out = ctx != NULL;
	if (ctx && !ctx->err && !conn_is_dead(ctx->fd))
		return ctx;
	*kept_out = false;
	conns_drop(env->conns, s->name);
	if (!s->socket.len && server_ips(env, s, a, ip, &n, err))
		return NULL;
	for (unsigned i = 0; i < n; i++) {
		ctx = connect_to(env, s, ip[i], a, err);
		if (!ctx)
			continue;
		conns_put(env->conns, s->name, ctx, redis_close);
		return ctx;
	}
	return NULL;
}

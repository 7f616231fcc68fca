/* SPDX-License-Identifier: ISC */
/* lookup_redis.c - the redis lookup: one command a query, servers in order, connections kept by the worker. */
#include <errno.h>
#include <string.h>

#include "common/base/hash.h"
#include "router/redis_conn.h"

enum {
	REDIS_WORDS_MAX = 1024,
	REDIS_MOVES_MAX = 5,
};

/* ---- one command ---- */

struct command {
	const char *argv[REDIS_WORDS_MAX];
	size_t len[REDIS_WORDS_MAX];
	int n;
};

/* Words at white space; a backslash protects the next octet. */
static enum status command_split(struct str query, struct arena *a, struct command *out, struct err *err)
{
	uint32_t at = 0;

	out->n = 0;
	for (;;) {
		char *word;
		uint32_t n = 0;

		while (at < query.len && ascii_is_space(query.p[at]))
			at++;
		if (at >= query.len)
			break;
		if (out->n == REDIS_WORDS_MAX)
			return err_set(err, ST_ERROR, "REDIS: a command of more than %d words", REDIS_WORDS_MAX);
		word = arena_alloc(a, query.len - at + 1);
		while (at < query.len && !ascii_is_space(query.p[at])) {
			if (query.p[at] == '\\' && at + 1 < query.len)
				at++;
			word[n++] = query.p[at++];
		}
		out->argv[out->n] = word;
		out->len[out->n++] = n;
	}
	return out->n ? ST_OK : err_set(err, ST_ERROR, "REDIS: the query is empty");
}

static void reply_add(struct buf *b, const redisReply *r, bool *first, int depth)
{
	if (r->type == REDIS_REPLY_ARRAY) {
		for (size_t i = 0; depth < 2 && i < r->elements; i++)
			reply_add(b, r->element[i], first, depth + 1);
		return;
	}
	if (!*first)
		buf_addc(b, '\n');
	*first = false;
	if (r->type == REDIS_REPLY_INTEGER)
		buf_printf(b, "%lld", r->integer);
	else if (r->str)
		buf_add(b, r->str, r->len);
}

static enum status reply_value(const redisReply *r, struct arena *a, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(LOOKUP_VALUE_MAX);
	bool first = true, full;

	switch (r->type) {
	case REDIS_REPLY_NIL:
		*out = STR_LIT("");
		return ST_OK;
	case REDIS_REPLY_INTEGER:
		*out = r->integer ? STR_LIT("true") : STR_LIT("false");
		return ST_OK;
	default:
		reply_add(&b, r, &first, 0);
		*out = str_dup(a, buf_str(&b));
		full = b.full;
		buf_clear(&b);
		return full ? err_set(err, ST_DEFER, "REDIS: a reply of more than %d octets", LOOKUP_VALUE_MAX) : ST_OK;
	}
}

static bool writes_nothing(struct str verb)
{
	static const char *const reads[] = { "GET", "MGET", "HGET", "HMGET", "HGETALL", "HKEYS", "HVALS", "HEXISTS", "HLEN", "EXISTS", "SMEMBERS",
		"SISMEMBER", "SMISMEMBER", "SCARD", "LRANGE", "LLEN", "LINDEX", "ZRANGE", "ZSCORE", "ZRANK", "ZCARD", "STRLEN", "TTL", "TYPE", "KEYS",
		"SINTER", "SUNION", "SDIFF", "GETRANGE", "GETBIT", "BITCOUNT", "SRANDMEMBER", "ZRANGEBYSCORE", "ZCOUNT" };

	for (size_t i = 0; i < sizeof reads / sizeof *reads; i++)
		if (str_isi(verb, reads[i]))
			return true;
	return false;
}

/* MOVED 3999 127.0.0.1:6381, ASK likewise: the node that has the key; without a host the one that says so. */
static bool reply_moved(const redisReply *r, struct arena *a, struct server *to, bool *ask)
{
	struct str s = str_make(r->str, r->len), word;
	ptrdiff_t colon;
	uint64_t port;

	if (r->type != REDIS_REPLY_ERROR || (!str_begins(s, "MOVED ") && !str_begins(s, "ASK ")))
		return false;
	*ask = s.p[0] == 'A';
	str_split(&s, ' ', &word);
	if (!str_split(&s, ' ', &word) || !str_split(&s, ' ', &word))
		return false;
	colon = str_rfind(word, ':');
	if (colon < 0 || !str_u64(str_from(word, (size_t)colon + 1), 65535, &port))
		return false;
	if (colon > 0)
		to->host = str_dup(a, str_sub(word, 0, (size_t)colon));
	to->socket = STR_NULL;
	to->port = (unsigned)port;
	to->shown = str_printf(a, "%.*s:%u/%.*s", STR_FMT(to->host), to->port, STR_FMT(to->database));
	to->name = arena_printf(a, "redis node %.*s %016llx", STR_FMT(to->shown),
		(unsigned long long)hash_bytes(to->password.p ? to->password.p : "", to->password.len));
	return true;
}

static redisReply *command_send(struct lookup_env *env, const struct server *s, const struct command *cmd, bool ask, struct arena *a,
	struct err *err)
{
	bool reads = writes_nothing(str_make(cmd->argv[0], cmd->len[0]));

	/* A kept connection may have died since it was looked at: then once more on a new one, if that can do no harm. */
	for (int attempt = 0;; attempt++) {
		bool kept, silent;
		redisContext *ctx = redis_conn_get(env, s, a, &kept, err);
		redisReply *r;

		if (!ctx)
			return NULL;
		if (ask && (r = redisCommand(ctx, "ASKING")))
			freeReplyObject(r);
		errno = 0;
		r = redisCommandArgv(ctx, cmd->n, (const char **)(uintptr_t)cmd->argv, cmd->len);
		if (r)
			return r;
		silent = ctx->err == REDIS_ERR_IO && (errno == EAGAIN || errno == ETIMEDOUT);
		err_set(err, ST_DEFER, "REDIS: %.*s: %s", STR_FMT(s->shown), silent ? "no answer in time" : ctx->errstr);
		conns_drop(env->conns, s->name);
		if (attempt || !kept || silent || !reads)
			return NULL;
	}
}

static enum status server_ask(struct lookup_env *env, struct server s, const struct command *cmd, struct arena *a, struct str *out,
	struct err *err)
{
	bool ask = false;

	for (int moves = 0; moves <= REDIS_MOVES_MAX; moves++) {
		redisReply *r = command_send(env, &s, cmd, ask, a, err);
		enum status st;

		if (!r)
			return ST_DEFER;
		if (reply_moved(r, a, &s, &ask)) {
			freeReplyObject(r);
			continue;
		}
		if (r->type == REDIS_REPLY_ERROR)
			st = err_set(err, ST_DEFER, "REDIS: query failed: %s", r->str);
		else
			st = reply_value(r, a, out, err);
		freeReplyObject(r);
		return st;
	}
	return err_set(err, ST_DEFER, "REDIS: sent from node to node more than %d times", REDIS_MOVES_MAX);
}

static enum status redis_find(void *arg, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;
	struct servers servers;
	struct command cmd;
	struct server s;
	enum status st = servers_of_query("redis", env->redis_servers, options, a, &key, &servers, err);

	(void)handle, (void)file;
	if (!st)
		st = command_split(key, a, &cmd, err);
	if (st)
		return st;
	for (unsigned i = 0; i < servers.n && (!i || st == ST_DEFER); i++) {
		if (str_begins(servers.v[i], "rediss://"))
			return err_set(err, ST_ERROR, "REDIS: %.*s...: TLS to Redis is not in this build", STR_FMT(str_sub(servers.v[i], 0, 12)));
		if (server_parse("Redis", servers.v[i], false, a, &s, err))
			return ST_ERROR;
		st = server_ask(env, s, &cmd, a, &out->value, err);
	}
	out->ttl_s = !st && out->value.len && writes_nothing(str_make(cmd.argv[0], cmd.len[0]));
	return st;
}

const struct lookup_driver lookup_driver_redis = { "redis", NULL, NULL, redis_find, NULL, NULL };

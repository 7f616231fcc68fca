/* SPDX-License-Identifier: ISC */
/* lookup_redis.c - the redis lookup: one command a query, servers in order, connections kept by the worker. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "router/lookup_drivers.h"

enum {
	REDIS_WORDS_MAX = 1024,
	REDIS_SERVERS_MAX = 32,
	REDIS_CONNECTIONS_MAX = 32,
	REDIS_MOVES_MAX = 5,
	REDIS_TIMEOUT_MS = 5000,
	REDIS_PORT = 6379,
};

struct redis_server {
	struct str host, socket, db, password;
	unsigned port;
};

struct redis_conn {
	struct redis_conn *next;
	char *name;                /* the specification, or host:port of a node that a cluster named */
	redisContext *ctx;
};

struct redis_pool {
	struct redis_conn *first;
	unsigned n;
};

/* ---- servers ---- */

/* host[:port][(/socket)]/db/password; IPv6 in brackets. */
static enum status server_parse(struct str spec, struct redis_server *out, struct err *err)
{
	ptrdiff_t open = str_find(spec, '('), close = str_find(spec, ')'), slash;
	struct str rest, host;
	uint64_t port = REDIS_PORT;

	*out = (struct redis_server){ .port = REDIS_PORT };
	if (open >= 0 && close > open) {
		host = str_sub(spec, 0, (size_t)open);
		out->socket = str_sub(spec, (size_t)open + 1, (size_t)(close - open - 1));
		rest = str_from(spec, (size_t)close + 1);
	} else {
		slash = str_find(spec, '/');
		host = slash < 0 ? spec : str_sub(spec, 0, (size_t)slash);
		rest = slash < 0 ? STR_NULL : str_from(spec, (size_t)slash);
	}
	slash = rest.len ? str_find(str_from(rest, 1), '/') : -1;
	if (!rest.len || rest.p[0] != '/' || slash < 0)
		return err_set(err, ST_ERROR, "incomplete Redis server data: \"%.*s...\": two slashes are required, as in 127.0.0.1/10/ (host/database/password)",
			STR_FMT(host));
	out->db = str_sub(rest, 1, (size_t)slash);
	out->password = str_from(rest, (size_t)slash + 2);
	if (host.len && host.p[0] == '[' && (close = str_find(host, ']')) > 0) {
		out->host = str_sub(host, 1, (size_t)close - 1);
		host = str_from(host, (size_t)close + 1);
		slash = host.len && host.p[0] == ':' ? 0 : -1;
	} else {
		slash = str_find(host, ':');
		out->host = slash < 0 ? host : str_sub(host, 0, (size_t)slash);
	}
	if (slash >= 0 && !str_u64(str_from(host, (size_t)slash + 1), 65535, &port))
		return err_set(err, ST_ERROR, "Redis server \"%.*s\": the port is no number", STR_FMT(out->host));
	out->port = (unsigned)port;
	return ST_OK;
}

/* ---- connections ---- */

static void conn_drop(struct redis_pool *pool, const char *name)
{
	for (struct redis_conn **at = &pool->first, *c; (c = *at); at = &c->next) {
		if (strcmp(c->name, name))
			continue;
		*at = c->next;
		redisFree(c->ctx);
		mem_free(c->name);
		mem_free(c);
		pool->n--;
		return;
	}
}

static void redis_tidy(void *arg)
{
	struct lookup_env *env = arg;

	while (env->redis && env->redis->first)
		conn_drop(env->redis, env->redis->first->name);
	mem_free(env->redis);
	env->redis = NULL;
}

/* AUTH or SELECT: the server's words, without what was sent. */
static enum status conn_say(redisContext *ctx, const char *verb, struct str word, const char *name, struct err *err)
{
	redisReply *r = redisCommand(ctx, "%s %b", verb, word.p, (size_t)word.len);
	enum status st = ST_OK;

	if (!r)
		st = err_set(err, ST_DEFER, "REDIS: %s: %s", name, ctx->errstr);
	else if (r->type == REDIS_REPLY_ERROR)
		st = err_set(err, ST_DEFER, "REDIS: %s: %s failed: %s", name, verb, r->str);
	if (r)
		freeReplyObject(r);
	return st;
}

static enum status conn_get(struct lookup_env *env, const struct redis_server *s, const char *name, struct arena *a, redisContext **out,
	struct err *err)
{
	uint32_t ms = env->redis_timeout_ms ? env->redis_timeout_ms : REDIS_TIMEOUT_MS;
	struct timeval tv = { ms / 1000, (suseconds_t)(ms % 1000) * 1000 };
	struct redis_conn *c;
	redisContext *ctx;
	enum status st = ST_OK;

	if (!env->redis)
		env->redis = mem_new(sizeof *env->redis);
	for (c = env->redis->first; c; c = c->next)
		if (!strcmp(c->name, name)) {
			*out = c->ctx;
			return ST_OK;
		}
	ctx = s->socket.len ? redisConnectUnixWithTimeout(str_cstr(a, s->socket), tv) : redisConnectWithTimeout(str_cstr(a, s->host), (int)s->port, tv);
	if (!ctx || ctx->err) {
		st = err_set(err, ST_DEFER, "REDIS: %s: %s", name, ctx ? ctx->errstr : "out of memory");
		if (ctx)
			redisFree(ctx);
		return st;
	}
	redisSetTimeout(ctx, tv);
	if (s->password.len)
		st = conn_say(ctx, "AUTH", s->password, name, err);
	if (!st && s->db.len)
		st = conn_say(ctx, "SELECT", s->db, name, err);
	if (st) {
		redisFree(ctx);
		return st;
	}
	while (env->redis->n >= REDIS_CONNECTIONS_MAX)
		conn_drop(env->redis, env->redis->first->name);
	c = mem_new(sizeof *c);
	c->name = mem_strdup(name);
	c->ctx = ctx;
	c->next = env->redis->first;
	env->redis->first = c;
	env->redis->n++;
	*out = ctx;
	return ST_OK;
}

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

/* MOVED 3999 127.0.0.1:6381, ASK likewise: the node that has the key. */
static bool reply_moved(const redisReply *r, struct arena *a, struct redis_server *to, bool *ask)
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
	if (colon <= 0 || !str_u64(str_from(word, (size_t)colon + 1), 65535, &port))
		return false;
	to->host = str_dup(a, str_sub(word, 0, (size_t)colon));
	to->socket = STR_NULL;
	to->port = (unsigned)port;
	return true;
}

static redisReply *command_send(struct lookup_env *env, const struct redis_server *s, const char *name, const struct command *cmd, bool ask,
	struct arena *a, struct err *err)
{
	/* A kept connection may have died since: then once more on a new one. */
	for (int attempt = 0; attempt < 2; attempt++) {
		bool kept = false;
		redisContext *ctx = NULL;
		redisReply *r;

		for (struct redis_conn *c = env->redis ? env->redis->first : NULL; c; c = c->next)
			kept = kept || !strcmp(c->name, name);
		if (conn_get(env, s, name, a, &ctx, err))
			return NULL;
		if (ask && (r = redisCommand(ctx, "ASKING")))
			freeReplyObject(r);
		r = redisCommandArgv(ctx, cmd->n, (const char **)(uintptr_t)cmd->argv, cmd->len);
		if (r)
			return r;
		err_set(err, ST_DEFER, "REDIS: %s: %s", name, ctx->err == REDIS_ERR_IO ? "no answer in time, or the connection was lost" : ctx->errstr);
		conn_drop(env->redis, name);
		if (!kept)
			break;
	}
	return NULL;
}

static enum status server_ask(struct lookup_env *env, struct redis_server s, const struct command *cmd, struct arena *a, struct str *out,
	struct err *err)
{
	bool ask = false;

	for (int moves = 0; moves <= REDIS_MOVES_MAX; moves++) {
		/* The password is part of no name: two specifications of one server differ by host, port and database. */
		const char *name = arena_printf(a, "%.*s%s%.*s:%u/%.*s", STR_FMT(s.host), s.socket.len ? ":" : "", STR_FMT(s.socket), s.port, STR_FMT(s.db));
		redisReply *r = command_send(env, &s, name, cmd, ask, a, err);
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

/* This query's servers: servers=LIST of the options; a bare name stands for the entry of redis_servers that begins with it. */
static struct str servers_of(struct str options, struct str *query)
{
	struct str one, rest = options;

	while (str_split(&rest, ',', &one))
		if (str_begins(str_trim(one), "servers="))
			return str_from(str_trim(one), 8);
	if (str_begins(*query, "servers=")) {
		ptrdiff_t semicolon = str_find(*query, ';');

		if (semicolon > 8) {
			one = str_sub(*query, 8, (size_t)semicolon - 8);
			*query = str_trim(str_from(*query, (size_t)semicolon + 1));
			return str_trim(one);
		}
	}
	return STR_NULL;
}

static struct str server_named(struct str list, struct str name)
{
	struct str one;

	while (str_split(&list, ' ', &one)) {
		if (one.len > name.len && str_eq(str_sub(one, 0, name.len), name) && strchr(":/(", one.p[name.len]))
			return one;
	}
	return name;
}

/* Exim's list syntax in its plain form: items between colons (doubled: a colon of the item), or another separator after "<". Items
 * come out between blanks, which no specification contains. */
static struct str list_words(struct arena *a, struct str list)
{
	struct buf b = BUF_INIT;
	char sep = ':';
	struct str out;

	list = str_trim(list);
	if (list.len > 1 && list.p[0] == '<') {
		sep = list.p[1];
		list = str_from(list, 2);
	}
	for (uint32_t i = 0; i < list.len; i++) {
		char c = list.p[i];

		if (c == sep && i + 1 < list.len && list.p[i + 1] == sep)
			buf_addc(&b, list.p[i++]);
		else if (c == sep)
			buf_addc(&b, ' ');
		else if (!ascii_is_space(c))
			buf_addc(&b, c);
	}
	out = str_dup(a, buf_str(&b));
	buf_clear(&b);
	return out;
}

static enum status redis_find(void *arg, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;
	struct str own, all = list_words(a, env->redis_servers), list, spec;
	struct command cmd;
	enum status st;
	int tried = 0;

	(void)handle, (void)file;
	own = servers_of(options, &key);
	list = own.len ? list_words(a, own) : all;
	st = command_split(key, a, &cmd, err);
	if (st)
		return st;
	st = err_set(err, ST_ERROR, "REDIS: no servers: redis_servers is not set");
	while (str_split(&list, ' ', &spec)) {
		struct redis_server s;

		if (!spec.len || ++tried > REDIS_SERVERS_MAX)
			continue;
		if (own.len)
			spec = server_named(all, spec);
		if (server_parse(spec, &s, err))
			return ST_ERROR;
		st = server_ask(env, s, &cmd, a, &out->value, err);
		if (st != ST_DEFER)
			break;
	}
	out->ttl_s = !st && out->value.len && writes_nothing(str_make(cmd.argv[0], cmd.len[0])) ? 1 : 0;
	return st;
}

const struct lookup_driver lookup_driver_redis = { "redis", NULL, NULL, redis_find, NULL, redis_tidy };

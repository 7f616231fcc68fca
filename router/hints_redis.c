/* SPDX-License-Identifier: ISC */
/* hints_redis.c - hints that several machines share. A key is "bulkhead:SPACE:key"; Redis expires entries by its own clock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/conf/hints_url.h"
#include "router/hints_rate.h"
#include "router/hints_store.h"
#include "router/redis_conn.h"

#define KEYS "bulkhead:"

struct hints_redis {
	struct hints base;
	struct lookup_env *env;
	struct server server;
	uint64_t retry_ms;           /* till then it is taken to be away */
	struct arena arena;
};

struct ask {
	struct hints_redis *h;
	const struct ipc_hint_ask *ask;
	struct str key;
	struct arena *a;
	struct ipc_hint_answer *out;
	bool lost, silent;           /* the connection, at the last question; since there was no answer in time */
};

/* ---- a question, and what may go wrong with it ---- */

static void defer(struct ask *q, const char *why)
{
	q->out->status = ST_DEFER;
	q->out->text = str_printf(q->a, "hints: Redis at %.*s: %s", STR_FMT(q->h->server.shown), why);
}

static void away(struct ask *q, redisContext *ctx)
{
	q->lost = true;
	q->silent = ctx->err == REDIS_ERR_IO && (errno == EAGAIN || errno == ETIMEDOUT);
	defer(q, q->silent ? "no answer in time" : ctx->errstr);
	conns_drop(q->h->env->conns, q->h->server.name);
	if (q->silent)
		q->h->retry_ms = clock_ms() + HINTS_REDIS_RETRY_MS;
}

/* A kept connection may have died since it was looked at: then once more on a new one, if that can do no harm. */
static bool worth_another(struct ask *q, bool kept, int attempt)
{
	if (attempt || !kept || !q->lost || q->silent)
		return false;
	*q->out = (struct ipc_hint_answer){ .status = ST_OK };
	return true;
}

static redisContext *connection(struct ask *q, bool *kept)
{
	struct err err = ERR_INIT;
	redisContext *ctx;

	q->lost = q->silent = false;
	if (clock_ms() < q->h->retry_ms) {
		defer(q, "did not answer a short time ago");
		return NULL;
	}
	ctx = redis_conn_get(q->h->env, &q->h->server, q->a, kept, &err);
	if (!ctx) {
		q->out->status = ST_DEFER;
		q->out->text = str_printf(q->a, "hints: %s", err.text);
		q->h->retry_ms = clock_ms() + HINTS_REDIS_RETRY_MS;
	}
	return ctx;
}

/* NULL, and the answer says why: no connection, no reply, or one that is an error. */
static redisReply *reply_next(struct ask *q, redisContext *ctx)
{
	redisReply *r = NULL;

	errno = 0;
	if (redisGetReply(ctx, (void **)&r) != REDIS_OK || !r) {
		away(q, ctx);
		return NULL;
	}
	if (r->type != REDIS_REPLY_ERROR)
		return r;
	defer(q, r->str);
	freeReplyObject(r);
	return NULL;
}

static redisReply *say(struct ask *q, bool may_repeat, int argc, const char **argv, const size_t *len)
{
	for (int attempt = 0;; attempt++) {
		bool kept;
		redisContext *ctx = connection(q, &kept);
		redisReply *r;

		if (!ctx)
			return NULL;
		redisAppendCommandArgv(ctx, argc, argv, len);
		r = reply_next(q, ctx);
		if (r || !may_repeat || !worth_another(q, kept, attempt))
			return r;
	}
}

struct words {
	const char *v[10];
	size_t len[10];
	int n;
};

static void word(struct words *w, struct str s)
{
	w->v[w->n] = s.p ? s.p : "";
	w->len[w->n++] = s.len;
}

static redisReply *ask_words(struct ask *q, bool may_repeat, struct words *w)
{
	return say(q, may_repeat, w->n, w->v, w->len);
}

static struct str number(struct arena *a, long long n)
{
	return str_printf(a, "%lld", n);
}

/* A text that is there: true. */
static bool value_take(struct ask *q, const redisReply *r)
{
	if (r->type != REDIS_REPLY_STRING || r->len > HINTS_VALUE_MAX) {
		q->out->status = ST_FAIL; /* nil, or nothing that we have put there */
		return false;
	}
	q->out->value = str_dup(q->a, str_make(r->str, r->len));
	return true;
}

/* ---- operations ---- */

static void redis_get(struct ask *q)
{
	struct words w = { .n = 0 };
	redisReply *r;

	word(&w, STR_LIT("GET"));
	word(&w, q->key);
	if (!(r = ask_words(q, true, &w)))
		return;
	value_take(q, r);
	freeReplyObject(r);
}

static void redis_put(struct ask *q)
{
	struct words w = { .n = 0 };

	word(&w, STR_LIT("SET"));
	word(&w, q->key);
	word(&w, q->ask->value);
	if (q->ask->expire_s) {
		word(&w, STR_LIT("EX"));
		word(&w, number(q->a, hints_expire_s(q->ask->expire_s)));
	}
	freeReplyObject(ask_words(q, true, &w));
}

static void redis_remove(struct ask *q)
{
	struct words w = { .n = 0 };
	redisReply *r;

	word(&w, STR_LIT("DEL"));
	word(&w, q->key);
	if (!(r = ask_words(q, true, &w)))
		return;
	if (r->type != REDIS_REPLY_INTEGER || !r->integer)
		q->out->status = ST_FAIL;
	freeReplyObject(r);
}

/* A script with one key, and up to three words. */
static redisReply *script(struct ask *q, const char *text, bool may_repeat, struct str one, struct str two, struct str three)
{
	struct words w = { .n = 0 };

	word(&w, STR_LIT("EVAL"));
	word(&w, str_of(text));
	word(&w, STR_LIT("1"));
	word(&w, q->key);
	word(&w, one);
	word(&w, two);
	word(&w, three);
	return ask_words(q, may_repeat, &w);
}

/* The first add sets when it expires; what is no number counts as none; at the ends of the numbers it stays. */
static const char add_script[] =
	"local fresh = redis.call('EXISTS', KEYS[1]) == 0\n"
	"local done = redis.pcall('INCRBY', KEYS[1], ARGV[1])\n"
	"if type(done) == 'table' then\n"
	"  local old = redis.call('GET', KEYS[1])\n"
	"  redis.call('SET', KEYS[1], string.match(old, '^-?%d+$') and ARGV[3] or ARGV[1], 'KEEPTTL')\n"
	"end\n"
	"if fresh and ARGV[2] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[2]) end\n"
	"return redis.call('GET', KEYS[1])\n";

static void redis_add(struct ask *q)
{
	redisReply *r = script(q, add_script, false, number(q->a, q->ask->amount), number(q->a, hints_expire_s(q->ask->expire_s)),
		number(q->a, q->ask->amount > 0 ? INT64_MAX : INT64_MIN + 1));

	if (!r)
		return;
	if (r->type == REDIS_REPLY_STRING)
		q->out->amount = strtoll(r->str, NULL, 10);
	freeReplyObject(r);
}

static const char take_script[] =
	"local v = redis.call('GET', KEYS[1])\n"
	"if v then redis.call('DEL', KEYS[1]) end\n"
	"return v\n";

static void redis_take(struct ask *q)
{
	redisReply *r = script(q, take_script, false, STR_NULL, STR_NULL, STR_NULL);

	if (!r)
		return;
	value_take(q, r);
	freeReplyObject(r);
}

static const char keep_script[] =
	"local v = redis.call('GET', KEYS[1])\n"
	"if v then return v end\n"
	"if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end\n"
	"return ARGV[1]\n";

static void redis_keep(struct ask *q)
{
	redisReply *r = script(q, keep_script, true, q->ask->value, number(q->a, hints_expire_s(q->ask->expire_s)), STR_NULL);

	if (!r)
		return;
	value_take(q, r);
	freeReplyObject(r);
}

/* ---- rates: read, reckon, write if nobody else has written meanwhile ---- */

/* What is stored; *ok false: the answer says why not. */
static struct str rate_read(struct ask *q, redisContext *ctx, bool *ok)
{
	struct str old = STR_NULL;
	redisReply *r;

	redisAppendCommand(ctx, "WATCH %b", q->key.p, (size_t)q->key.len);
	redisAppendCommand(ctx, "GET %b", q->key.p, (size_t)q->key.len);
	*ok = false;
	if (!(r = reply_next(q, ctx)))
		return old;
	freeReplyObject(r);
	if (!(r = reply_next(q, ctx)))
		return old;
	if (r->type == REDIS_REPLY_STRING)
		old = str_dup(q->a, str_make(r->str, r->len));
	freeReplyObject(r);
	*ok = true;
	return old;
}

/* True: done, or it can't be (the answer says so). */
static bool rate_write(struct ask *q, redisContext *ctx, struct str new, uint64_t keep_s)
{
	redisReply *r = NULL;
	bool done = true;

	redisAppendCommand(ctx, "MULTI");
	redisAppendCommand(ctx, "SET %b %b EX %u", q->key.p, (size_t)q->key.len, new.p, (size_t)new.len, hints_expire_s(keep_s));
	redisAppendCommand(ctx, "EXEC");
	for (int i = 0; i < 3; i++) {
		r = reply_next(q, ctx);
		if (!r) {
			/* A refused SET (no memory) leaves replies behind, and a transaction: this connection is of no more use. */
			conns_drop(q->h->env->conns, q->h->server.name);
			return true;
		}
		done = i < 2 || r->type != REDIS_REPLY_NIL;
		freeReplyObject(r);
	}
	return done;
}

static void redis_rate(struct ask *q)
{
	int attempt = 0;

	for (int i = 0; i < HINTS_REDIS_RATE_TRIES; i++) {
		struct str old, new;
		redisContext *ctx;
		uint64_t keep_s;
		bool kept, ok;

		*q->out = (struct ipc_hint_answer){ .status = ST_OK };
		ctx = connection(q, &kept);
		if (!ctx)
			return;
		old = rate_read(q, ctx, &ok);
		if (!ok && worth_another(q, kept, attempt++))
			continue;
		if (!ok) {
			conns_drop(q->h->env->conns, q->h->server.name);
			return;
		}
		if (!hints_rate(q->ask, old, q->a, &new, &keep_s, q->out)) {
			q->out->status = ST_ERROR;
			q->out->text = STR_LIT("hints: rate: COUNT LIMIT PERIOD and words are wanted");
		}
		if (q->out->status || !new.len) {
			freeReplyObject(redisCommand(ctx, "UNWATCH"));
			return;
		}
		if (rate_write(q, ctx, new, keep_s))
			return;
	}
	defer(q, "too many change the same rate");
}

/* ---- what is there ---- */

/* The pattern of keys that begin so. */
static struct str pattern_of(struct arena *a, struct str prefix)
{
	char *p = arena_alloc(a, 2 * prefix.len + 2);
	size_t n = 0;

	for (size_t i = 0; i < prefix.len; i++) {
		if (memchr("*?[]\\^-", prefix.p[i], 7))
			p[n++] = '\\';
		p[n++] = prefix.p[i];
	}
	p[n++] = '*';
	return str_make(p, n);
}

static int by_octets(const void *a, const void *b)
{
	const struct str *x = a, *y = b;
	int c = memcmp(x->p, y->p, x->len < y->len ? x->len : y->len);

	return c ? c : (x->len > y->len) - (x->len < y->len);
}

/* Names that begin so, in order, each once. */
static unsigned names_find(struct ask *q, struct str names[HINTS_LIST_MAX])
{
	struct str cursor = STR_LIT("0"), pattern = pattern_of(q->a, q->key);
	uint64_t until = clock_ms() + (q->h->env->redis_timeout_ms ? q->h->env->redis_timeout_ms : 5000);
	unsigned n = 0, kept = 0;

	do {
		struct words w = { .n = 0 };
		redisReply *r;

		word(&w, STR_LIT("SCAN"));
		word(&w, cursor);
		word(&w, STR_LIT("MATCH"));
		word(&w, pattern);
		word(&w, STR_LIT("COUNT"));
		word(&w, STR_LIT("1000"));
		if (!(r = ask_words(q, true, &w)))
			return 0;
		cursor = STR_LIT("0");
		if (r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[0]->str && r->element[1]->type == REDIS_REPLY_ARRAY) {
			cursor = str_dup(q->a, str_make(r->element[0]->str, r->element[0]->len));
			for (size_t i = 0; i < r->element[1]->elements && n < HINTS_LIST_MAX; i++) {
				const redisReply *e = r->element[1]->element[i];

				if (e->type == REDIS_REPLY_STRING && e->len - (sizeof KEYS - 1) - q->ask->space.len - 1 <= HINTS_LIST_NAME)
					names[n++] = str_dup(q->a, str_make(e->str, e->len));
			}
		}
		freeReplyObject(r);
	} while (!str_is(cursor, "0") && n < HINTS_LIST_MAX && clock_ms() < until);
	qsort(names, n, sizeof *names, by_octets);
	for (unsigned i = 0; i < n; i++)
		if (!kept || !str_eq(names[kept - 1], names[i]))
			names[kept++] = names[i];
	return kept;
}

static void redis_list(struct ask *q)
{
	struct str names[HINTS_LIST_MAX];
	const char *argv[HINTS_LIST_MAX + 1] = { "MGET" };
	size_t len[HINTS_LIST_MAX + 1] = { 4 }, octets = 0, skip = sizeof KEYS - 1 + q->ask->space.len + 1;
	unsigned n = names_find(q, names);
	redisReply *r;

	for (unsigned i = 0; i < n; i++) {
		argv[i + 1] = names[i].p;
		len[i + 1] = names[i].len;
	}
	if (!n || !(r = say(q, true, (int)n + 1, argv, len)))
		return;
	q->out->entries = arena_alloc(q->a, n * sizeof *q->out->entries);
	for (unsigned i = 0; r->type == REDIS_REPLY_ARRAY && i < n && i < r->elements && octets < HINTS_LIST_OCTETS; i++) {
		const redisReply *e = r->element[i];

		if (e->type != REDIS_REPLY_STRING || e->len > HINTS_VALUE_MAX)
			continue;
		octets += names[i].len + e->len;
		q->out->entries[q->out->n_entries].name = str_from(names[i], skip);
		q->out->entries[q->out->n_entries++].value = str_dup(q->a, str_make(e->str, e->len));
	}
	freeReplyObject(r);
}

/* ---- the store ---- */

static struct str key_of(struct arena *a, const struct ipc_hint_ask *ask)
{
	struct str key = hints_key(a, ask->space, ask->key);
	char *p = arena_alloc(a, sizeof KEYS + key.len);

	memcpy(p, KEYS, sizeof KEYS - 1);
	memcpy(p + sizeof KEYS - 1, key.p, key.len);
	return str_make(p, sizeof KEYS - 1 + key.len);
}

static void redis_run(struct hints *hints, const struct ipc_hint_ask *ask, int64_t now, struct arena *a, struct ipc_hint_answer *out)
{
	static void (*const run[])(struct ask *) = {
		[HINT_GET] = redis_get, [HINT_PUT] = redis_put, [HINT_ADD] = redis_add, [HINT_REMOVE] = redis_remove, [HINT_LIST] = redis_list,
		[HINT_RATE] = redis_rate, [HINT_TAKE] = redis_take, [HINT_KEEP] = redis_keep,
	};
	struct ask q = { .h = (struct hints_redis *)(void *)hints, .ask = ask, .a = a, .out = out };

	_Static_assert(sizeof run / sizeof *run == HINT_OPS_END, "a function for each operation");
	(void)now;
	q.key = key_of(a, ask);
	run[ask->op](&q);
}

static void redis_close(struct hints *hints)
{
	struct hints_redis *h = (struct hints_redis *)(void *)hints;

	if (h->env->conns)
		conns_drop(h->env->conns, h->server.name);
	arena_clear(&h->arena);
	mem_free(h);
}

static const struct hints_store redis_store = { redis_run, NULL, redis_close };

struct hints *hints_redis_open(const struct conf_hints *where, struct lookup_env *env)
{
	struct hints_redis *h = mem_new(sizeof *h);
	struct server *s = &h->server;

	h->base.store = &redis_store;
	h->env = env;
	s->host = str_dup(&h->arena, where->host);
	s->password = str_dup(&h->arena, where->password);
	s->database = str_printf(&h->arena, "%u", where->database);
	s->port = where->port;
	s->shown = str_printf(&h->arena, "%.*s:%u/%u", STR_FMT(s->host), s->port, where->database);
	s->name = arena_printf(&h->arena, "hints %.*s", STR_FMT(s->shown));
	return &h->base;
}

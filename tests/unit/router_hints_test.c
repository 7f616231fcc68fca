/* SPDX-License-Identifier: ISC */
/* Hints: the same operations, and the same rates, in both stores; Redis is the real thing, killed in between. */
#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/hints_url.h"
#include "router/hints.h"
#include "router/lookup_drivers.h"
#include "router/lookup_servers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char dir[] = "/tmp/bulkhead-hints-XXXXXX";
static struct lookup_env env, env2;
static unsigned port;
static pid_t server;

static const char *path_of(const char *name)
{
	static char path[200];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

/* ---- Redis ---- */

static unsigned port_free(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sin;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	close(fd);
	return ntohs(sin.sin_port);
}

static redisContext *redis_open(void)
{
	redisContext *c = redisConnect("127.0.0.1", (int)port);
	redisReply *r = c->err ? NULL : redisCommand(c, "AUTH s3same@:/");

	if (r && r->type == REDIS_REPLY_STATUS) {
		freeReplyObject(r);
		freeReplyObject(redisCommand(c, "SELECT 3"));
		return c;
	}
	freeReplyObject(r);
	redisFree(c);
	return NULL;
}

static void redis_start(void)
{
	char number[20];
	redisContext *c;

	snprintf(number, sizeof number, "%u", port);
	server = fork();
	if (!server) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(1);
		execlp("redis-server", "redis-server", "--port", number, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--requirepass", "s3same@:/", NULL);
		_exit(127);
	}
	for (int i = 0; !(c = redis_open()); i++) {
		assert_int_equal(waitpid(server, NULL, WNOHANG), 0); /* redis-server is among the packages of scripts/deps */
		assert_in_range(i, 0, 2000);
		usleep(10000);
	}
	redisFree(c);
}

static void redis_stop(void)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

static long long redis_say(const char *command, const char *word)
{
	redisContext *c = redis_open();
	redisReply *r = redisCommand(c, command, word);
	long long n = r->type == REDIS_REPLY_INTEGER ? r->integer : r->type == REDIS_REPLY_ERROR ? -1 : 0;

	if (r->type == REDIS_REPLY_ERROR)
		print_error("%s: %s\n", command, r->str);
	freeReplyObject(r);
	redisFree(c);
	return n;
}

/* As if so many seconds had gone by for Redis. */
static void redis_pass(int64_t seconds)
{
	char text[300];

	snprintf(text, sizeof text, "for _, k in ipairs(redis.call('KEYS', '*')) do local t = redis.call('PTTL', k) "
		"if t >= 0 then redis.call('PEXPIRE', k, t - %lld) end end return 7", (long long)seconds * 1000);
	assert_int_equal(redis_say("EVAL %s 0", text), 7);
}

static struct hints *redis_hints(struct lookup_env *e)
{
	char url[100];
	struct conf_hints where;
	struct err err = ERR_INIT;

	snprintf(url, sizeof url, "redis://:s3same@:/@127.0.0.1:%u/3", port);
	assert_int_equal(conf_hints_parse(str_of(url), &where, &err), ST_OK);
	return hints_redis_open(&where, e);
}

/* ---- the same for both ---- */

struct store {
	const char *name;
	bool redis;
};
static struct store lmdb = { "lmdb", false }, redis = { "redis", true };

static struct hints *store_open(const struct store *s)
{
	struct err err = ERR_INIT;
	struct hints *h;

	if (s->redis) {
		redis_say("FLUSHDB", NULL);
		return redis_hints(&env);
	}
	unlink(path_of("hints.mdb"));
	h = hints_lmdb_open(dir, 0, &err);
	assert_non_null(h);
	return h;
}

static void hint(struct hints *h, enum hint_op op, const char *key, const char *value, int64_t amount, uint64_t expire, int64_t now,
	struct arena *a, struct ipc_hint_answer *out)
{
	struct ipc_hint_ask ask = { .op = op, .space = STR_LIT("test"), .key = str_of(key), .value = str_of(value), .amount = amount, .expire_s = expire };

	hints_do(h, &ask, now, a, out);
}

#define LONG_KEY "0123456789abcdefghij0123456789abcdefghij0123456789abcdefghij0123456789abcdefghij0123456789abcdefghij0123456789abcdefghij"
#define LONGER LONG_KEY LONG_KEY LONG_KEY LONG_KEY LONG_KEY LONG_KEY

static const struct {
	int64_t now;                 /* never goes back */
	enum hint_op op;
	const char *key, *value;
	int64_t amount;
	uint64_t expire;
	enum status want;
	const char *text;            /* value, or names and values of a list */
	int64_t count;
} ops[] = {
	{ 100, HINT_GET, "a", NULL, 0, 0, ST_FAIL, "", 0 },
	{ 100, HINT_PUT, "a", "one", 0, 10, ST_OK, "", 0 },
	{ 105, HINT_GET, "a", NULL, 0, 0, ST_OK, "one", 0 },
	{ 111, HINT_GET, "a", NULL, 0, 0, ST_FAIL, "", 0 },          /* expired */
	{ 111, HINT_PUT, "a", "", 0, 0, ST_OK, "", 0 },
	{ 111, HINT_GET, "a", NULL, 0, 0, ST_OK, "", 0 },            /* empty is something */
	{ 111, HINT_PUT, "a", "for ever", 0, 0, ST_OK, "", 0 },
	{ 111, HINT_ADD, "n", NULL, 5, 60, ST_OK, "", 5 },
	{ 141, HINT_ADD, "n", NULL, -7, 60, ST_OK, "", -2 },
	{ 172, HINT_ADD, "n", NULL, 1, 60, ST_OK, "", 1 },           /* the first add said when it ends: begun anew */
	{ 172, HINT_ADD, "big", NULL, INT64_MAX, 0, ST_OK, "", INT64_MAX },
	{ 172, HINT_ADD, "big", NULL, 1, 0, ST_OK, "", INT64_MAX },  /* at the end it stays */
	{ 172, HINT_ADD, "big", NULL, -7, 0, ST_OK, "", INT64_MAX - 7 },
	{ 172, HINT_PUT, "low", "-9223372036854775806", 0, 0, ST_OK, "", 0 },
	{ 172, HINT_ADD, "low", NULL, -5, 0, ST_OK, "", INT64_MIN + 1 },
	{ 172, HINT_PUT, "word", "x", 0, 60, ST_OK, "", 0 },
	{ 172, HINT_ADD, "word", NULL, 3, 0, ST_OK, "", 3 },         /* no number is none, and its end stays */
	{ 233, HINT_GET, "word", NULL, 0, 0, ST_FAIL, "", 0 },
	{ 233, HINT_PUT, LONGER, "long", 0, 0, ST_OK, "", 0 },
	{ 233, HINT_GET, LONGER, NULL, 0, 0, ST_OK, "long", 0 },
	{ 233, HINT_GET, LONGER "x", NULL, 0, 0, ST_FAIL, "", 0 },
	{ 233, HINT_PUT, "li*t2", "y", 0, 0, ST_OK, "", 0 },
	{ 233, HINT_PUT, "li*t1", "x", 0, 20, ST_OK, "", 0 },
	{ 233, HINT_PUT, "li*t10", "z", 0, 0, ST_OK, "", 0 },
	{ 233, HINT_PUT, "list", "no", 0, 0, ST_OK, "", 0 },
	{ 233, HINT_LIST, "li*t", NULL, 0, 0, ST_OK, "li*t1=x li*t10=z li*t2=y ", 0 },
	{ 254, HINT_LIST, "li*t", NULL, 0, 0, ST_OK, "li*t10=z li*t2=y ", 0 },
	{ 254, HINT_LIST, "none", NULL, 0, 0, ST_OK, "", 0 },
	{ 254, HINT_REMOVE, "li*t2", NULL, 0, 0, ST_OK, "", 0 },
	{ 254, HINT_REMOVE, "li*t2", NULL, 0, 0, ST_FAIL, "", 0 },
	{ 254, HINT_PUT, "t", "ticket", 0, 10, ST_OK, "", 0 },
	{ 254, HINT_TAKE, "t", NULL, 0, 0, ST_OK, "ticket", 0 },
	{ 254, HINT_TAKE, "t", NULL, 0, 0, ST_FAIL, "", 0 },         /* once */
	{ 254, HINT_PUT, "t", "ticket", 0, 10, ST_OK, "", 0 },
	{ 265, HINT_TAKE, "t", NULL, 0, 0, ST_FAIL, "", 0 },
	{ 265, HINT_KEEP, "k", "mine", 0, 10, ST_OK, "mine", 0 },
	{ 270, HINT_KEEP, "k", "yours", 0, 10, ST_OK, "mine", 0 },   /* the first stays, and its end */
	{ 276, HINT_KEEP, "k", "yours", 0, 0, ST_OK, "yours", 0 },
	{ 999, HINT_KEEP, "k", "mine", 0, 10, ST_OK, "yours", 0 },
	{ 999, HINT_GET, "a", NULL, 0, 0, ST_OK, "for ever", 0 },
	{ 999, HINT_PUT, "far", "x", 0, UINT64_MAX, ST_OK, "", 0 },
	{ 99999, HINT_GET, "far", NULL, 0, 0, ST_OK, "x", 0 },
	{ 99999, HINT_OPS_END, "x", NULL, 0, 0, ST_ERROR, "", 0 },
};

static void test_operations(void **state)
{
	const struct store *s = *state;
	struct arena a = ARENA_INIT;
	struct hints *h = store_open(s);
	int64_t now = ops[0].now;
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
		struct ipc_hint_answer r;
		struct str got;

		if (s->redis && ops[i].now > now)
			redis_pass(ops[i].now - now);
		now = ops[i].now;
		hint(h, ops[i].op, ops[i].key, ops[i].value, ops[i].amount, ops[i].expire, now, &a, &r);
		got = r.value;
		for (uint32_t j = 0; j < r.n_entries; j++)
			got = str_printf(&a, "%.*s%.*s=%.*s ", STR_FMT(got), STR_FMT(r.entries[j].name), STR_FMT(r.entries[j].value));
		if (r.status == ops[i].want && str_is(got, ops[i].text) && r.amount == ops[i].count)
			continue;
		print_error("%s: row %zu: got %s '%.*s' %lld (%.*s), want %s '%s' %lld\n", s->name, i, status_name(r.status), STR_FMT(got), (long long)r.amount,
			STR_FMT(r.text), status_name(ops[i].want), ops[i].text, (long long)ops[i].count);
		wrong++;
	}
	assert_int_equal(wrong, 0);
	hints_close(h);
	arena_clear(&a);
}

/* An event of a rate: seconds, "COUNT LIMIT PERIOD words", what is unique; "RATE over" comes back. */
static const char *rate(struct hints *h, struct arena *a, const char *key, double when_s, const char *value, const char *unique)
{
	struct ipc_hint_ask ask = { .op = HINT_RATE, .space = STR_LIT("ratelimit"), .key = str_of(key), .value = str_of(value), .unique = str_of(unique),
		.now_us = (int64_t)(when_s * 1e6) };
	struct ipc_hint_answer r;

	hints_do(h, &ask, (int64_t)when_s, a, &r);
	if (r.status)
		return status_name(r.status);
	return arena_printf(a, "%.2f%s", strtod(str_cstr(a, r.value), NULL), r.amount ? " over" : "");
}

static const struct { const char *key; double when; const char *value, *unique, *want; } rates[] = {
	/* a burst adds up, and fades with the period */
	{ "b", 1000, "1 3 60", NULL, "1.00" }, { "b", 1000.001, "1 3 60", NULL, "2.00" }, { "b", 1000.002, "1 3 60", NULL, "3.00" },
	{ "b", 1000.003, "1 3 60", NULL, "4.00 over" }, { "b", 1060.003, "1 3 60", NULL, "2.10" },
	/* an even sender is measured at what it sends: one in 30 s is 2 in 60 s */
	{ "e", 1000, "1 9 60", NULL, "1.00" }, { "e", 1030, "1 9 60", NULL, "1.39" }, { "e", 1060, "1 9 60", NULL, "1.63" },
	{ "e", 1090, "1 9 60", NULL, "1.78" }, { "e", 1120, "1 9 60", NULL, "1.86" },
	/* leaky: what is over does not count; strict: it does */
	{ "l", 1000, "1 2 60 leaky", NULL, "1.00" }, { "l", 1000.1, "1 2 60 leaky", NULL, "2.00" }, { "l", 1000.2, "1 2 60 leaky", NULL, "2.99 over" },
	{ "l", 1000.2, "1 2 60 leaky", NULL, "2.99 over" }, { "s", 1000, "3 2 60", NULL, "3.00 over" }, { "s", 1000, "3 2 60", NULL, "6.00 over" },
	/* reading changes nothing */
	{ "r", 1000, "1 1 60 readonly", NULL, "0.00" }, { "s", 1000, "1 9 60 readonly", NULL, "6.00" }, { "s", 1000, "1 9 60 readonly", NULL, "6.00" },
	/* each event once in a period */
	{ "u", 1000, "1 9 60 unique", "a", "1.00" }, { "u", 1000, "1 9 60 unique", "b", "2.00" }, { "u", 1000, "1 9 60 unique", "a", "2.00" },
	{ "u", 1061, "1 9 60 unique", "a", "1.35" }, { "u", 1061, "5 9 60 unique readonly", "c", "1.35" },
	/* a clock that went back */
	{ "s", 900, "1 9 60", NULL, "7.00" },
	/* nonsense */
	{ "x", 1000, "1 2", NULL, "error" }, { "x", 1000, "1 2 0", NULL, "error" }, { "x", 1000, "-1 2 60", NULL, "error" }, { "x", 1000, "", NULL, "error" },
	{ "x", 1000, "nan 2 60", NULL, "error" }, { "x", 1000, "1 2 1e300", NULL, "error" }, { "x", 1000, "1e30 2 60", NULL, "error" },
};

static void test_rates(void **state)
{
	const struct store *s = *state;
	struct arena a = ARENA_INIT;
	struct hints *h = store_open(s);
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
		const char *got = rate(h, &a, rates[i].key, rates[i].when, rates[i].value, rates[i].unique);

		if (strcmp(got, rates[i].want)) {
			print_error("%s: %s at %g: %s: got %s, want %s\n", s->name, rates[i].key, rates[i].when, rates[i].value, got, rates[i].want);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
	hints_close(h);
	arena_clear(&a);
}

/* ---- many at once: each event and each add counts ---- */

enum { PROCESSES = 4, EVENTS = 200 };

static void events_send(const struct store *s)
{
	struct lookup_env own = { .redis_timeout_ms = 20000 };
	struct err err = ERR_INIT;
	struct arena a = ARENA_INIT;
	struct hints *h = s->redis ? redis_hints(&own) : hints_lmdb_open(dir, 0, &err);
	struct ipc_hint_answer r;
	int bad = 0;

	for (int i = 0; i < EVENTS; i++) {
		/* A period so long that nothing fades. */
		bad += strstr(rate(h, &a, "all", 1000, "1 1e6 1e6", NULL), "defer") != NULL;
		hint(h, HINT_ADD, "all", NULL, 1, 60, 100, &a, &r);
		bad += r.status != ST_OK;
		arena_reset(&a);
	}
	hints_close(h);
	arena_clear(&a);
	_exit(bad != 0);
}

static void test_nothing_is_lost(void **state)
{
	const struct store *s = *state;
	struct hints *h = store_open(s);
	struct arena a = ARENA_INIT;
	struct ipc_hint_answer r;

	hints_close(h); /* nothing of it may be used in two processes */
	for (int i = 0; i < PROCESSES; i++)
		if (!fork())
			events_send(s);
	for (int i = 0; i < PROCESSES; i++) {
		int status;

		assert_true(waitpid(-getpgrp(), &status, 0) > 0);
		assert_int_equal(status, 0);
	}
	h = s->redis ? redis_hints(&env) : hints_lmdb_open(dir, 0, &(struct err)ERR_INIT);
	assert_string_equal(rate(h, &a, "all", 1000, "1 1e6 1e6 readonly", NULL), "800.00");
	hint(h, HINT_ADD, "all", NULL, 0, 60, 100, &a, &r);
	assert_int_equal(r.amount, PROCESSES * EVENTS);
	hints_close(h);
	arena_clear(&a);
}

/* ---- what only one of them has ---- */

static void test_redis_goes_and_comes(void **state)
{
	struct arena a = ARENA_INIT;
	struct hints *h = store_open(&redis), *other = redis_hints(&env2);
	struct ipc_hint_answer r;

	(void)state;
	hint(h, HINT_PUT, "a", "one", 0, 60, 0, &a, &r);
	hint(other, HINT_GET, "a", NULL, 0, 0, 0, &a, &r);
	assert_true(str_is(r.value, "one"));
	redis_stop();
	for (int op = HINT_GET; op < HINT_OPS_END; op++) {
		hint(h, (enum hint_op)op, "a", "1 2 60", 1, 0, 0, &a, &r);
		if (r.status != ST_DEFER || !r.text.len || str_find_str(r.text, STR_LIT("s3same")) >= 0)
			fail_msg("%s: %s %.*s", hint_op_name((uint64_t)op), status_name(r.status), STR_FMT(r.text));
	}
	redis_start();
	/* One that was asked while it was away waits; one that was not notices that its connection is dead. */
	hint(h, HINT_GET, "a", NULL, 0, 0, 0, &a, &r);
	assert_int_equal(r.status, ST_DEFER);
	hint(other, HINT_PUT, "b", "two", 0, 60, 0, &a, &r);
	assert_int_equal(r.status, ST_OK);
	hints_close(h);
	h = redis_hints(&env);
	hint(h, HINT_GET, "b", NULL, 0, 0, 0, &a, &r);
	assert_true(str_is(r.value, "two"));
	hint(h, HINT_GET, "a", NULL, 0, 0, 0, &a, &r);
	assert_int_equal(r.status, ST_FAIL); /* hints are advice: this Redis keeps nothing */
	/* Something else under our key, and a server that takes nothing more. */
	redis_say("LPUSH %s x", "bulkhead:test:list");
	hint(h, HINT_GET, "list", NULL, 0, 0, 0, &a, &r);
	assert_int_equal(r.status, ST_DEFER);
	redis_say("CONFIG SET maxmemory %s", "1");
	hint(h, HINT_PUT, "b", "three", 0, 60, 0, &a, &r);
	assert_int_equal(r.status, ST_DEFER);
	assert_string_equal(rate(h, &a, "r", 1000, "1 3 60", NULL), "defer");
	redis_say("CONFIG SET maxmemory %s", "0");
	assert_string_equal(rate(h, &a, "r", 1000, "1 3 60", NULL), "1.00");
	assert_in_range(redis_say("TTL %s", "bulkhead:ratelimit:r"), 400, 430);
	hints_close(h);
	hints_close(other);
	arena_clear(&a);
}

static void test_redis_refuses(void **state)
{
	struct conf_hints where = { .redis = true, .host = STR_LIT("127.0.0.1"), .port = port, .password = STR_LIT("wr0ng") };
	struct hints *h = hints_redis_open(&where, &env);
	struct arena a = ARENA_INIT;
	struct ipc_hint_answer r;

	(void)state;
	hint(h, HINT_GET, "a", NULL, 0, 0, 0, &a, &r);
	assert_int_equal(r.status, ST_DEFER);
	assert_true(str_find_str(r.text, STR_LIT("AUTH failed")) > 0 && str_find_str(r.text, STR_LIT("wr0ng")) < 0);
	hints_close(h);
	arena_clear(&a);
}

static void test_lmdb_expires_and_mends(void **state)
{
	static const char nonsense[] = "nothing that LMDB would know";
	struct err err = ERR_INIT;
	struct arena a = ARENA_INIT;
	struct hints *h = store_open(&lmdb);
	struct ipc_hint_answer r;
	FILE *f;

	(void)state;
	hint(h, HINT_PUT, "a", "x", 0, 10, 100, &a, &r);
	hint(h, HINT_PUT, "b", "x", 0, 10, 100, &a, &r);
	hint(h, HINT_PUT, "c", "x", 0, 0, 100, &a, &r);
	assert_int_equal(hints_expire(h, 10000), 2);
	hints_close(h);
	/* Damaged: moved aside, begun anew. */
	f = fopen(path_of("hints.mdb"), "w");
	assert_non_null(f);
	fwrite(nonsense, 1, sizeof nonsense, f);
	fclose(f);
	h = hints_lmdb_open(dir, 0, &err);
	assert_non_null(h);
	hint(h, HINT_PUT, "a", "again", 0, 0, 100, &a, &r);
	assert_int_equal(r.status, ST_OK);
	hints_close(h);
	assert_int_equal(access(path_of("hints.mdb.damaged"), F_OK), 0);
	arena_clear(&a);
}

/* Strangers name the keys of rates: the store takes new ones for ever, and old ones go. */
static void test_hints_full(void **state)
{
	struct err err = ERR_INIT;
	struct arena a = ARENA_INIT;
	struct hints *h;
	struct ipc_hint_answer r;
	unsigned refused = 0, gone = 0;

	(void)state;
	unlink(path_of("hints.mdb"));
	h = hints_lmdb_open(dir, 1024 * 1024, &err);
	assert_non_null(h);
	for (int i = 0; i < 20000; i++) {
		hint(h, HINT_PUT, arena_printf(&a, "a-rate-of-somebody-%d@example.com", i * 7919 % 20000), "1.0000000000 1700000000000000", 0, 86400, 100, &a, &r);
		refused += r.status != ST_OK;
		if (i % 64 == 63)
			gone += hints_expire(h, 101);
		arena_reset(&a);
	}
	assert_int_equal(refused, 0);
	assert_in_range(gone, 1000, 19999); /* none has expired: some went for lack of room, and most are there still */
	hint(h, HINT_PUT, "far", "x", 0, UINT64_MAX, 100, &a, &r);
	hint(h, HINT_GET, "far", NULL, 0, 0, 1000000, &a, &r);
	assert_int_equal(r.status, ST_OK);
	hints_close(h);
	unlink(path_of("hints.mdb"));
	arena_clear(&a);
}


/* ---- where it is ---- */

static void test_url(void **state)
{
	static const struct { const char *text, *want; } cases[] = {
		{ "lmdb", "lmdb" }, { "redis://h", "h 6379 0 ''" }, { "redis://h:1/2", "h 1 2 ''" }, { "redis://:p@h/", "h 6379 0 'p'" },
		{ "redis://:p@q/r:s@10.0.0.1:77/15", "10.0.0.1 77 15 'p@q/r:s'" }, { "redis://[::1]", "::1 6379 0 ''" }, { "redis://[2001:db8::1]:7/3", "2001:db8::1 7 3 ''" },
		{ "redis://:@h", "h 6379 0 ''" },
		{ "", "error" }, { "LMDB", "error" }, { "rediss://h", "error" }, { "redis:h", "error" }, { "memcached://h", "error" }, { "redis://", "error" },
		{ "redis:///1", "error" }, { "redis://:7", "error" }, { "redis://h:", "error" }, { "redis://h:0", "error" }, { "redis://h:65536", "error" }, { "redis://h:x", "error" },
		{ "redis://h/x", "error" }, { "redis://h/70000", "error" }, { "redis://user:p@h", "error" }, { "redis://@h", "error" }, { "redis://:p@", "error" },
		{ "redis://[::1", "error" }, { "redis://[]:1", "error" }, { "redis://[::1]x", "error" }, { "redis://[::1]:", "error" },
	};
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err = ERR_INIT;
		struct conf_hints h;
		char got[200];

		if (conf_hints_parse(str_of(cases[i].text), &h, &err) != ST_OK)
			strcpy(got, "error");
		else if (!h.redis)
			strcpy(got, "lmdb");
		else
			snprintf(got, sizeof got, "%.*s %u %u '%.*s'", STR_FMT(h.host), h.port, h.database, STR_FMT(h.password));
		if (strcmp(got, cases[i].want)) {
			print_error("%s: got %s, want %s\n", cases[i].text, got, cases[i].want);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	port = port_free();
	redis_start();
	return 0;
}

static int teardown(void **state)
{
	char command[300];

	(void)state;
	redis_stop();
	conns_free(env.conns);
	conns_free(env2.conns);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

#define BOTH(test) { #test " lmdb", test, NULL, NULL, &lmdb }, { #test " redis", test, NULL, NULL, &redis }

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_operations), BOTH(test_rates), BOTH(test_nothing_is_lost), cmocka_unit_test(test_redis_goes_and_comes),
		cmocka_unit_test(test_redis_refuses), cmocka_unit_test(test_lmdb_expires_and_mends), cmocka_unit_test(test_hints_full),
		cmocka_unit_test(test_url),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

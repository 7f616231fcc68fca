/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "gen/have.h"
#if HAVE_DB
#include <db.h>
#endif
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "router/lookup_servers.h"

static char dir[] = "/tmp/bulkhead-lookup-XXXXXX";

static char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void file_write(const char *path, const char *text, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
}

/* One lookup through a driver: "value", or "FAIL", "DEFER text" ... */
static const char *look(const struct lookup_driver *d, const char *file, const char *key, const char *options)
{
	static char got[4096];
	struct lookup_env env = { .dns = NULL };
	struct lookup_result r = { .value = STR_NULL };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	void *handle = NULL;
	enum status st = d->open ? d->open(&env, str_of(file), &handle, &err) : ST_OK;

	if (!st)
		st = d->find(&env, handle, str_of(file), str_taint(str_of(key)), str_of(options), &a, &r, &err);
	if (!st)
		snprintf(got, sizeof got, "%.*s%s", STR_FMT(r.value), r.value.tainted ? " (tainted)" : "");
	else
		snprintf(got, sizeof got, "%s%s%s", status_name(st), err.text[0] ? " " : "", err.text);
	if (handle)
		d->close(handle);
	arena_clear(&a);
	return got;
}

static const char aliases[] =
	"# a comment\n"
	"postmaster: root\n"
	"Root:\tjoe, \n"
	"   ann\n"
	"\n"
	"# within an item\n"
	"\tbob  \n"
	"plain data here\n"
	"colon :  :fail: gone\n"
	"\"with space\": x\n"
	"\"esc\\\"aped\\x41\\101\\n\" y\n"
	"empty:\n"
	"alone\n"
	"root: second\n"
	"last: no newline";

static void test_lsearch(void **state)
{
	static const struct { const char *key, *want; } cases[] = {
		{ "postmaster", "root" }, { "POSTMASTER", "root" }, { "root", "joe, ann bob" }, { "plain", "data here" }, { "colon", ":fail: gone" },
		{ "with space", "x" }, { "esc\"apedAA\n", "y" }, { "empty", "" }, { "alone", "" }, { "last", "no newline" }, { "absent", "fail" },
		{ "#", "fail" }, { "", "fail" },
	};
	char *path = path_of("aliases");

	(void)state;
	file_write(path, aliases, sizeof aliases - 1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *got = look(&lookup_driver_lsearch, path, cases[i].key, NULL);

		if (strcmp(got, cases[i].want))
			fail_msg("\"%s\": got \"%s\", want \"%s\"", cases[i].key, got, cases[i].want);
	}
	assert_non_null(strstr(look(&lookup_driver_lsearch, path_of("none"), "x", NULL), "defer failed to open"));
	assert_non_null(strstr(look(&lookup_driver_lsearch, dir, "x", NULL), "no regular file"));
}

static void test_changed_file_is_noticed(void **state)
{
	struct lookup_env env = { .dns = NULL };
	struct err err = ERR_INIT;
	char *path = path_of("changing");
	void *handle;

	(void)state;
	file_write(path, "a: 1\n", 5);
	assert_int_equal(lookup_driver_lsearch.open(&env, str_of(path), &handle, &err), ST_OK);
	assert_false(lookup_driver_lsearch.changed(handle));
	file_write(path, "a: 10\n", 6);
	assert_true(lookup_driver_lsearch.changed(handle));
	unlink(path);
	assert_true(lookup_driver_lsearch.changed(handle));
	lookup_driver_lsearch.close(handle);
}

static void test_iplsearch(void **state)
{
	static const char table[] = "1.2.3.4: one\n10.0.0.0/9: ten\n\"2001:db8::/33\": six\n10.200.0.0/16: never\n10.128.0.0/9: rest\n*: all\n";
	static const struct { const char *key, *want; } cases[] = {
		{ "1.2.3.4", "one" }, { "1.2.3.5", "fail" }, { "10.1.1.1", "ten" }, { "10.127.255.255", "ten" }, { "10.200.0.1", "never" },
		{ "10.201.0.1", "rest" }, { "2001:db8:7fff::1", "six" }, { "2001:db8:8000::1", "fail" }, { "*", "all" },
	};
	char *path = path_of("nets");

	(void)state;
	file_write(path, table, sizeof table - 1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *got = look(&lookup_driver_iplsearch, path, cases[i].key, NULL);

		if (strcmp(got, cases[i].want))
			fail_msg("\"%s\": got \"%s\", want \"%s\"", cases[i].key, got, cases[i].want);
	}
	assert_non_null(strstr(look(&lookup_driver_iplsearch, path, "host.example", NULL), "no IP address"));
}

static void test_dsearch(void **state)
{
	static const struct { const char *key, *options, *want; } cases[] = {
		{ "file", NULL, "file" }, { "sub", NULL, "sub" }, { "none", NULL, "fail" }, { "file", "filter=dir", "fail" }, { "sub", "filter=dir", "sub" },
		{ "sub", "filter=file", "fail" }, { "..", "filter=subdir", "fail" }, { "..", NULL, ".." }, { "", NULL, "fail" },
	};
	char *path = path_of("ds");

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	file_write(path_of("ds/file"), "", 0);
	assert_int_equal(mkdir(path_of("ds/sub"), 0700), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *got = look(&lookup_driver_dsearch, path_of("ds"), cases[i].key, cases[i].options);

		if (strcmp(got, cases[i].want))
			fail_msg("\"%s\" %s: got \"%s\", want \"%s\"", cases[i].key, cases[i].options, got, cases[i].want);
	}
	assert_non_null(strstr(look(&lookup_driver_dsearch, path_of("ds"), "../aliases", NULL), "slash"));
	assert_non_null(strstr(look(&lookup_driver_dsearch, path_of("ds"), "file", "ret=full"), "/ds/file"));
}

static void lmdb_make(const char *path, const char *value)
{
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_val k = { 3, (void *)(uintptr_t)"key" }, v = { strlen(value), (void *)(uintptr_t)value };

	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void test_lmdb(void **state)
{
	char *path = path_of("t.mdb");
	struct lookup_env env = { .dns = NULL };
	struct lookup_result r;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	void *handle;

	(void)state;
	lmdb_make(path, "value one");
	assert_string_equal(look(&lookup_driver_lmdb, path, "key", NULL), "value one");
	assert_string_equal(look(&lookup_driver_lmdb, path, "other", NULL), "fail");
	assert_string_equal(look(&lookup_driver_lmdb, path, "", NULL), "fail");
	/* A lookup sees what was written after the handle was opened. */
	assert_int_equal(lookup_driver_lmdb.open(&env, str_of(path), &handle, &err), ST_OK);
	lmdb_make(path, "value two");
	assert_int_equal(lookup_driver_lmdb.find(&env, handle, str_of(path), STR_LIT("key"), STR_NULL, &a, &r, &err), ST_OK);
	assert_true(str_is(r.value, "value two"));
	assert_false(lookup_driver_lmdb.changed(handle));
	/* Cut short under our feet: a temporary error, not a dead worker. */
	assert_int_equal(truncate(path, 8192), 0);
	assert_int_equal(lookup_driver_lmdb.find(&env, handle, str_of(path), STR_LIT("key"), STR_NULL, &a, &r, &err), ST_DEFER);
	unlink(path);
	assert_true(lookup_driver_lmdb.changed(handle));
	lookup_driver_lmdb.close(handle);
	file_write(path, aliases, sizeof aliases - 1);
	assert_non_null(strstr(look(&lookup_driver_lmdb, path, "key", NULL), "defer LMDB: Unable to open environment"));
	unlink(path);
	assert_non_null(strstr(look(&lookup_driver_lmdb, path, "key", NULL), "defer LMDB: Unable to open environment"));
	arena_clear(&a);
}

/* ---- lmdb,put and lmdb,del ---- */

static const char *lmdb_do(struct lookup_env *env, const char *file, const char *key, const char *options)
{
	static char got[600];
	struct lookup_result r = { .value = STR_NULL };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	void *handle;
	enum status st = lookup_driver_lmdb.open(env, str_of(file), &handle, &err);

	if (!st) {
		st = lookup_driver_lmdb.find(env, handle, str_of(file), str_taint(str_of(key)), str_of(options), &a, &r, &err);
		lookup_driver_lmdb.close(handle);
	}
	snprintf(got, sizeof got, "%s %.*s", status_name(st), STR_FMT(st ? str_of(err.text) : str_sub(r.value, 0, 300)));
	arena_clear(&a);
	return got;
}

static void test_lmdb_write(void **state)
{
	char mine[256], other[256];
	struct lookup_env env = { .dns = NULL };
	char *big = mem_new(70001);

	(void)state;
	snprintf(mine, sizeof mine, "%s", path_of("put.mdb"));
	snprintf(other, sizeof other, "%s", path_of("other.mdb"));
	lmdb_make(other, "theirs");
	file_write(mine, "", 0); /* as master makes it */
	env.lmdb_writable = str_of(mine);
	assert_string_equal(lmdb_do(&env, mine, "<; k ; v;;w ", "put"), "ok OK");
	assert_string_equal(lmdb_do(&env, mine, "k", ""), "ok v;w");
	assert_string_equal(lmdb_do(&env, mine, "k:second", "put"), "ok OK");
	assert_string_equal(lmdb_do(&env, mine, "k", NULL), "ok second");
	assert_string_equal(lmdb_do(&env, mine, "alone", "put"), "ok OK");
	assert_string_equal(lmdb_do(&env, mine, "alone", NULL), "ok ");
	assert_string_equal(lmdb_do(&env, mine, "n:in another", "put,db=other"), "ok OK");
	assert_string_equal(lmdb_do(&env, mine, "n", "db=other"), "ok in another");
	assert_string_equal(lmdb_do(&env, mine, "n", NULL), "fail ");
	assert_string_equal(lmdb_do(&env, mine, "k", "del"), "ok OK");
	assert_string_equal(lmdb_do(&env, mine, "k", "del"), "fail ");
	assert_string_equal(lmdb_do(&env, mine, "k", NULL), "fail ");
	assert_non_null(strstr(lmdb_do(&env, mine, "a:b:c", "put"), "error LMDB: put wants one key"));
	assert_non_null(strstr(lmdb_do(&env, mine, "", "put"), "error LMDB: put wants a key"));
	assert_non_null(strstr(lmdb_do(&env, other, "key:mine", "put"), "is not named by lmdb_writable"));
	assert_non_null(strstr(lmdb_do(&env, other, "key", "del"), "is not named by lmdb_writable"));
	assert_string_equal(lmdb_do(&env, other, "key", NULL), "ok theirs");
	/* More than the map had room for: it grows. */
	memset(big, 'x', 70000);
	for (int i = 0; i < 400; i++) {
		struct arena a = ARENA_INIT;

		assert_string_equal(lmdb_do(&env, mine, arena_printf(&a, "big%d : %s", i, big), "put"), "ok OK");
		arena_clear(&a);
	}
	assert_int_equal(strlen(lmdb_do(&env, mine, "big399", NULL)), 303);
	mem_free(big);
}

/* ---- json ---- */

static void test_json(void **state)
{
	static const char text[] = "{ \"a\": { \"list\": [ 10, \"two\", { \"x\": null } ], \"s\": \"st\\\"r\\u00e4\", \"\": \"empty name\", \"7\": \"named\" },\n"
		" \"t\": true, \"n\": 1.5, \"a:b\": \"colon\", \"nul\": \"a\\u0000b\" }";
	static const struct { const char *key, *want; } cases[] = {
		{ "a:list:0", "10" }, { "a:list:1", "two" }, { "a:list:2", "{\"x\": null}" }, { "a:list:2:x", "" }, { "a:list:3", "fail" }, { "a:list:-1", "fail" },
		{ "a:list", "[10, \"two\", {\"x\": null}]" }, { "a:s", "st\"r\xc3\xa4" }, { "a:7", "named" }, { "t", "true" }, { "n", "1.5" }, { "<; a ; list ; 1", "two" },
		{ "a::b", "colon" }, { "none", "fail" }, { "a:none:x", "fail" }, { "t:x", "fail" }, { "a:s:0", "fail" },
	};
	char *path = path_of("t.json");

	(void)state;
	file_write(path, text, sizeof text - 1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *got = look(&lookup_driver_json, path, cases[i].key, NULL);

		if (strcmp(got, cases[i].want))
			fail_msg("\"%s\": got \"%s\", want \"%s\"", cases[i].key, got, cases[i].want);
	}
	file_write(path, "{ \"a\": ", 7);
	assert_non_null(strstr(look(&lookup_driver_json, path, "a", NULL), "defer json: "));
	assert_non_null(strstr(look(&lookup_driver_json, path_of("none"), "a", NULL), "defer failed to open"));
}

/* ---- cdb: what is damaged is an error, and ends nothing ---- */

static void test_cdb(void **state)
{
	/* One record, "one" -> "1", made by hand as the format says: its hash is 193411130 ("one"), in table 58 (193411130 % 256). */
	unsigned char file[2048 + 8 + 4 + 16] = { 0 };
	uint32_t h = 5381, end = sizeof file - 16;
	char *path = path_of("t.cdb");

	(void)state;
	if (!lookup_driver_cdb.open)
		skip(); /* not built in */
	for (const char *p = "one"; *p; p++)
		h = (h + (h << 5)) ^ (unsigned char)*p;
	for (unsigned i = 0; i < 256; i++)
		for (unsigned k = 0; k < 4; k++)
			file[i * 8 + k] = (unsigned char)(end >> 8 * k);
	file[(h & 255) * 8 + 4] = 2;
	file[2048] = 3;
	file[2052] = 1;
	memcpy(file + 2056, "one1", 4);
	for (unsigned k = 0; k < 4; k++) {
		unsigned slot = (h >> 8) % 2 * 8;

		file[end + slot + k] = (unsigned char)(h >> 8 * k);
		file[end + slot + 4 + k] = (unsigned char)(2048u >> 8 * k);
	}
	file_write(path, (const char *)file, sizeof file);
	assert_string_equal(look(&lookup_driver_cdb, path, "one", NULL), "1");
	assert_string_equal(look(&lookup_driver_cdb, path, "two", NULL), "fail");
	assert_string_equal(look(&lookup_driver_cdb, path, "", NULL), "fail");
	file[2055] = 0x7f; /* a value of two thousand million octets */
	file_write(path, (const char *)file, sizeof file);
	assert_non_null(strstr(look(&lookup_driver_cdb, path, "one", NULL), "defer cdb: "));
	file_write(path, (const char *)file, 2050);
	assert_non_null(strstr(look(&lookup_driver_cdb, path, "one", NULL), "defer cdb: "));
	file_write(path, "short", 5);
	assert_non_null(strstr(look(&lookup_driver_cdb, path, "one", NULL), "no cdb file"));
}

/* ---- dbm ---- */
#if HAVE_DB

static void dbm_put(DB *db, const char *key, unsigned key_len, const char *value, unsigned value_len)
{
	DBT k = { .data = (void *)(uintptr_t)key, .size = key_len }, v = { .data = (void *)(uintptr_t)value, .size = value_len };

	assert_int_equal(db->put(db, NULL, &k, &v, 0), 0);
}

/* Records enough for several pages; values that need pages of their own, one too long to be given. */
static void dbm_make(const char *path, DBTYPE type, const char *value, bool swapped)
{
	char key[32], *big = calloc(1, LOOKUP_VALUE_MAX + 1);
	DB *db;

	assert_non_null(big);
	memset(big, 'x', LOOKUP_VALUE_MAX + 1);
	unlink(path);
	assert_int_equal(db_create(&db, NULL, 0), 0);
	db->set_pagesize(db, 512);
	db->set_lorder(db, swapped ? 4321 : 1234);
	assert_int_equal(db->open(db, NULL, path, NULL, type, DB_CREATE, 0644), 0);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof key, "key%d", i);
		dbm_put(db, key, (unsigned)strlen(key), key, (unsigned)strlen(key));
	}
	dbm_put(db, "one", 4, value, (unsigned)strlen(value) + 1);
	dbm_put(db, "bare", 4, "no zero", 7);
	dbm_put(db, "u\0r\0p", 5, "joined", 6);
	dbm_put(db, "u\0\0p", 4, "hole", 4);
	dbm_put(db, "u\0z", 4, "with zero", 9);
	dbm_put(db, "empty", 5, "", 0);
	dbm_put(db, "long", 4, big, 3000);
	dbm_put(db, "much", 4, big, LOOKUP_VALUE_MAX + 1);
	assert_int_equal(db->close(db, 0), 0);
	free(big);
}

static void test_dbm(void **state)
{
	static const struct { const struct lookup_driver *driver; const char *key, *want; } cases[] = {
		{ &lookup_driver_dbm, "one", "first" }, { &lookup_driver_dbm, "bare", "fail" }, { &lookup_driver_dbm, "", "fail" },
		{ &lookup_driver_dbm, "key7", "fail" }, { &lookup_driver_dbmnz, "one", "fail" }, { &lookup_driver_dbmnz, "bare", "no zero" },
		{ &lookup_driver_dbmnz, "key0", "key0" }, { &lookup_driver_dbmnz, "key199", "key199" }, { &lookup_driver_dbmnz, "key200", "fail" },
		{ &lookup_driver_dbmnz, "empty", "" }, { &lookup_driver_dbmjz, "u:r:p", "joined" }, { &lookup_driver_dbmjz, "<; u ; r ; p", "joined" },
		{ &lookup_driver_dbmjz, "u: :p", "hole" }, { &lookup_driver_dbmjz, "bare", "no zero" }, { &lookup_driver_dbmjz, "u:z", "fail" },
		{ &lookup_driver_dbmjz, "u:z: :", "with zero" }, { &lookup_driver_dbmjz, "one: :", "first" }, { &lookup_driver_dbmjz, "", "fail" },
	};
	static const struct { DBTYPE type; bool swapped; } files[] = { { DB_HASH, false }, { DB_BTREE, false }, { DB_HASH, true }, { DB_BTREE, true } };
	char *path = path_of("t.dbm");

	(void)state;
	for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
		dbm_make(path, files[f].type, "first", files[f].swapped);
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
			const char *got = look(cases[i].driver, path, cases[i].key, NULL);

			if (strcmp(got, cases[i].want))
				fail_msg("file %zu, %s \"%s\": got \"%s\", want \"%s\"", f, cases[i].driver->name, cases[i].key, got, cases[i].want);
		}
		assert_int_equal(strlen(look(&lookup_driver_dbmnz, path, "long", NULL)), 3000);
		assert_non_null(strstr(look(&lookup_driver_dbmnz, path, "much", NULL), "defer dbm: "));
		assert_non_null(strstr(look(&lookup_driver_dbmnz, path, "much", NULL), "a value of 100001 octets"));
	}
}

static void test_dbm_changes(void **state)
{
	struct lookup_env env = { .dns = NULL };
	struct lookup_result r = { .value = STR_NULL };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	char *path = path_of("c.dbm");
	unsigned deferred = 0;
	void *handle;

	(void)state;
	dbm_make(path, DB_HASH, "first", false);
	assert_int_equal(lookup_driver_dbm.open(&env, str_of(path), &handle, &err), ST_OK);
	assert_false(lookup_driver_dbm.changed(handle));
	assert_int_equal(env.dbm_known_n, 1);
	lookup_driver_dbm.close(handle);
	/* Not looked through again, until it changes. */
	assert_int_equal(lookup_driver_dbmnz.open(&env, str_of(path), &handle, &err), ST_OK);
	assert_int_equal(env.dbm_known_n, 1);
	dbm_make(path, DB_HASH, "second", false);
	assert_true(lookup_driver_dbmnz.changed(handle));
	lookup_driver_dbmnz.close(handle);
	assert_int_equal(lookup_driver_dbm.open(&env, str_of(path), &handle, &err), ST_OK);
	assert_int_equal(env.dbm_known_n, 2);
	assert_int_equal(lookup_driver_dbm.find(&env, handle, str_of(path), STR_LIT("one"), STR_NULL, &a, &r, &err), ST_OK);
	assert_true(str_is(r.value, "second"));
	/* Cut short while it is open: what is not in memory yet cannot be known, and is not taken for absent. */
	assert_int_equal(truncate(path, 1024), 0);
	for (int i = 0; i < 200; i++) {
		struct str key = str_printf(&a, "key%d", i);
		enum status st = lookup_driver_dbmnz.find(&env, handle, str_of(path), key, STR_NULL, &a, &r, &err);

		if (st != ST_DEFER && !(st == ST_OK && str_eq(r.value, key)))
			fail_msg("key%d: %s %.*s %s", i, status_name(st), STR_FMT(r.value), err.text);
		deferred += st == ST_DEFER;
	}
	assert_true(deferred > 0);
	assert_true(lookup_driver_dbm.changed(handle));
	lookup_driver_dbm.close(handle);
	arena_clear(&a);
}

static void test_dbm_damaged(void **state)
{
	char *path, *image, *copy;
	const char *got;
	unsigned circles;
	struct stat st;
	size_t n;
	FILE *f;

	(void)state;
	assert_non_null(strstr(look(&lookup_driver_dbm, path_of("none"), "one", NULL), "defer dbm: "));
	assert_non_null(strstr(look(&lookup_driver_dbm, dir, "one", NULL), "not a file"));
	path = path_of("d.dbm");
	for (int type = 0; type < 2; type++) {
		circles = 0;
		dbm_make(path, type ? DB_BTREE : DB_HASH, "first", false);
		f = fopen(path, "r");
		assert_non_null(f);
		assert_int_equal(fstat(fileno(f), &st), 0);
		n = (size_t)st.st_size;
		image = malloc(n);
		copy = malloc(n);
		assert_non_null(image);
		assert_non_null(copy);
		assert_int_equal(fread(image, 1, n, f), n);
		fclose(f);
		/* Cut at every page and within. */
		for (size_t cut = 0; cut < n; cut += cut < 1024 ? 100 : 5000) {
			file_write(path, image, cut);
			assert_non_null(strstr(look(&lookup_driver_dbmnz, path, "key7", NULL), "defer dbm: "));
		}
		/* Each page in its turn is nonsense; and says that it is its own successor: a circle, unless nobody asks such a page. */
		for (size_t at = 512; at < n; at += n / 512 > 100 ? 512 * 7 : 512) {
			memcpy(copy, image, n);
			memset(copy + at, 0x5a, 512);
			file_write(path, copy, n);
			assert_non_null(strstr(look(&lookup_driver_dbmnz, path, "key7", NULL), "damaged: page "));
			memcpy(copy + at, image + at, 512);
			if (!copy[at + 25]) /* a free page */
				continue;
			memcpy(copy + at + 16, image + at + 8, 4);
			file_write(path, copy, n);
			got = look(&lookup_driver_dbmnz, path, "key7", NULL);
			assert_true(strstr(got, "damaged") || !strcmp(got, "key7"));
			circles += strcmp(got, "key7") != 0;
		}
		assert_true(circles > 0);
		/* The size of pages is twice what it was: libdb's own check has died of that. */
		memcpy(copy, image, n);
		copy[21] = 4;
		file_write(path, copy, n);
		assert_non_null(strstr(look(&lookup_driver_dbmnz, path, "key7", NULL), "damaged"));
		copy[21] = 2;
		copy[24] = 1; /* encrypted */
		file_write(path, copy, n);
		assert_non_null(strstr(look(&lookup_driver_dbmnz, path, "key7", NULL), "of a kind that is not read here"));
		free(image);
		free(copy);
	}
	file_write(path, "one: first\n", 11);
	assert_non_null(strstr(look(&lookup_driver_dbm, path, "one", NULL), "no hash and no B-tree"));
	assert_int_equal(truncate(path, (off_t)LOOKUP_FILE_MAX + 1), 0);
	assert_non_null(strstr(look(&lookup_driver_dbm, path, "one", NULL), "more than 268435456 octets"));
}
#endif

/* ---- servers as written ---- */

static void test_servers(void **state)
{
	static const struct { const char *all, *options, *query, *want; } cases[] = {
		{ "a/d/u/p", NULL, "q", "[a||0||d|u|p]q" }, { "a::1234/d/u/p", NULL, "q", "[a||1234||d|u|p]q" }, { "<; [2001:db8::1]:99/d//", NULL, "q", "[2001:db8::1||99||d||]q" },
		{ "(/run/.s.PGSQL.5432)/d/u/p/x", NULL, "q", "[|/run/.s.PGSQL.5432|0||d|u|p/x]q" }, { "localhost::3(/s)[g]/d/u/p", NULL, "q", "[localhost|/s|3|g|d|u|p]q" },
		{ "/d/u/p", NULL, "q", "[||0||d|u|p]q" }, { "a/1/u/p:b/2/u/p", "servers=b", "q", "[b||0||2|u|p]q" }, { "a/1/u/p:b/2/u/p", "cache=no_rd,servers=b:a", "q", "[b||0||2|u|p][a||0||1|u|p]q" },
		{ "a/1/u/p", NULL, "servers=c/3/u/p:a; select 1", "[c||0||3|u|p][a||0||1|u|p]select 1" }, { "a/1/u/p", "servers=ab", "q", "error incomplete" },
		{ "a/1", NULL, "q", "error incomplete" }, { "", NULL, "q", "error test: no servers" }, { "a::x/d/u/p", NULL, "q", "error test server \"a\": the port is no number" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		struct servers servers;
		struct server s;
		struct str query = str_of(cases[i].query);
		struct buf b = BUF_INIT;
		enum status st = servers_of_query("test", str_of(cases[i].all), str_of(cases[i].options), &a, &query, &servers, &err);

		for (unsigned k = 0; !st && k < servers.n; k++) {
			st = server_parse("test", servers.v[k], true, &a, &s, &err);
			buf_printf(&b, "[%.*s|%.*s|%u|%.*s|%.*s|%.*s|%.*s]", STR_FMT(s.host), STR_FMT(s.socket), s.port, STR_FMT(s.group), STR_FMT(s.database),
				STR_FMT(s.user), STR_FMT(s.password));
			assert_true(st || str_find(s.shown, 'p') < 0); /* no password is shown */
		}
		if (st) {
			buf_reset(&b);
			buf_printf(&b, "%s %s", status_name(st), err.text);
		} else {
			buf_add_str(&b, query);
		}
		if (st ? strncmp(buf_cstr(&b), cases[i].want, strlen(cases[i].want)) : strcmp(buf_cstr(&b), cases[i].want))
			fail_msg("%s %s: got \"%s\", want \"%s\"", cases[i].all, cases[i].query, buf_cstr(&b), cases[i].want);
		buf_clear(&b);
		arena_clear(&a);
	}
}

static int closed;
static void conn_count(void *conn)
{
	(void)conn;
	closed++;
}

static void test_connections_kept(void **state)
{
	struct conns *c = conns_new();
	char name[20];

	(void)state;
	closed = 0;
	conns_put(c, "a", &closed, conn_count);
	assert_ptr_equal(conns_get(c, "a"), &closed);
	assert_null(conns_get(c, "b"));
	assert_true(conns_tidy(c, clock_ms()));
	assert_int_equal(closed, 0);
	for (int i = 0; i < CONNS_MAX; i++) {
		snprintf(name, sizeof name, "n%d", i);
		conns_put(c, name, c, conn_count);
		if (i < CONNS_MAX - 1)
			assert_non_null(conns_get(c, "a")); /* what is used stays */
	}
	assert_int_equal(closed, 1);
	conns_drop(c, "a");
	assert_int_equal(closed, 2);
	assert_false(conns_tidy(c, clock_ms() + CONNS_IDLE_MS + 1));
	assert_int_equal(closed, 1 + CONNS_MAX);
	conns_free(c);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[300];

	(void)state;
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsearch), cmocka_unit_test(test_changed_file_is_noticed), cmocka_unit_test(test_iplsearch),
#if HAVE_DB
		cmocka_unit_test(test_dbm), cmocka_unit_test(test_dbm_changes), cmocka_unit_test(test_dbm_damaged),
#endif
		cmocka_unit_test(test_dsearch), cmocka_unit_test(test_lmdb), cmocka_unit_test(test_lmdb_write), cmocka_unit_test(test_json),
		cmocka_unit_test(test_cdb), cmocka_unit_test(test_servers), cmocka_unit_test(test_connections_kept)
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

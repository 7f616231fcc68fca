/* SPDX-License-Identifier: ISC */
/* lookup_dbm.c - Berkeley DB's files, hashes and B-trees, only read. Specification, section 9.3: dbm, dbmnz, dbmjz.
 * libdb believes what a file says, so each file is looked through first, by dbm_pages.c and then by libdb itself: a page that points to
 * itself would never end, a wrong number would end the worker. What was found is remembered for as long as the file stays as it is:
 * libdb loses memory over damaged ones.
 * No environment, nothing shared: the cache is this process's memory, and nothing is mapped, since a file cut short would then end the
 * worker. */
#include "gen/have.h"
#include "common/lang/lang_list.h"
#include "router/dbm_pages.h"
#include "router/lookup_drivers.h"

#if HAVE_DB
#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_TRIES = 3, CHECK_CACHE_MIN = 1 << 20 /* octets */ };

struct dbm_file {
	DB *db;
	char *path;
	struct lookup_stamp stamp;
	bool broken;                  /* libdb gave it up: opened anew next time */
};

static void dbm_close(void *handle)
{
	struct dbm_file *f = handle;

	if (f->db)
		f->db->close(f->db, 0);
	mem_free(f->path);
	mem_free(f);
}

/* Without one, libdb writes to the standard error. */
static void dbm_said(const DB_ENV *dbenv, const char *prefix, const char *message)
{
	(void)dbenv, (void)prefix, (void)message;
}

static int dbm_create(DB **out)
{
	int rc = db_create(out, NULL, 0);

	if (!rc)
		(*out)->set_errcall(*out, dbm_said);
	return rc;
}

enum known { NEW_FILE, WHOLE_FILE, DAMAGED_FILE };

static enum known dbm_known(const struct lookup_env *env, const struct dbm_file *f)
{
	for (unsigned i = 0; i < env->dbm_known_n && i < LOOKUP_DBM_KNOWN; i++)
		if (!memcmp(&env->dbm_known[i].stamp, &f->stamp, sizeof f->stamp))
			return env->dbm_known[i].whole ? WHOLE_FILE : DAMAGED_FILE;
	return NEW_FILE;
}

/* The stamp, and each page for itself, unless that is known. */
static enum status dbm_pages(const struct lookup_env *env, struct dbm_file *f, struct err *err)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), e = errno;
	enum status status = ST_OK;
	struct err why = ERR_INIT;
	struct stat st;

	f->stamp = (struct lookup_stamp){ 0 };
	if (fd < 0)
		return err_set(err, ST_DEFER, "dbm: %s: %s", f->path, strerror(e));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !lookup_stamp_get(fd, &f->stamp))
		status = err_set(&why, ST_DEFER, "not a file");
	else if (f->stamp.size > LOOKUP_FILE_MAX)
		status = err_set(&why, ST_DEFER, "more than %d octets", LOOKUP_FILE_MAX);
	else if (dbm_known(env, f) == NEW_FILE)
		status = dbm_pages_check(fd, f->stamp.size, &why);
	close(fd);
	return status ? err_set(err, status, "dbm: %s: %s", f->path, why.text) : ST_OK;
}

/* How the pages hang together. The order of keys is the affair of who made the file, perhaps by rules of his own. */
static int dbm_verify(struct lookup_env *env, const struct dbm_file *f)
{
	/* For the file and the notes about each page: libdb would make one in /var/tmp for what has no room. */
	uint64_t cache = f->stamp.size * 3 / 2 + CHECK_CACHE_MIN;
	enum known known = dbm_known(env, f);
	unsigned at = env->dbm_known_n % LOOKUP_DBM_KNOWN;
	DB *db;
	int rc;

	if (known != NEW_FILE)
		return known == WHOLE_FILE ? 0 : DB_VERIFY_BAD;
	rc = dbm_create(&db);
	if (rc)
		return rc;
	db->set_cachesize(db, 0, (uint32_t)cache, 1);
	rc = db->verify(db, f->path, NULL, NULL, DB_NOORDERCHK); /* frees db, whatever comes */
	if (!rc || rc == DB_VERIFY_BAD) {
		env->dbm_known[at].stamp = f->stamp;
		env->dbm_known[at].whole = !rc;
		env->dbm_known_n++;
	}
	return rc;
}

static enum status dbm_try(struct lookup_env *env, struct dbm_file *f, struct err *err)
{
	enum status st = dbm_pages(env, f, err);
	int rc;

	if (st)
		return st;
	rc = dbm_verify(env, f);
	if (!rc)
		rc = dbm_create(&f->db);
	if (!rc)
		rc = f->db->open(f->db, NULL, f->path, NULL, DB_UNKNOWN, DB_RDONLY | DB_NOMMAP, 0);
	if (rc)
		return err_set(err, ST_DEFER, "dbm: %s: damaged, or of a kind that is not read here: %s", f->path, db_strerror(rc));
	return ST_OK;
}

static enum status dbm_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct dbm_file *f = mem_new(sizeof *f);
	enum status st = ST_DEFER;

	*f = (struct dbm_file){ .path = mem_memdup(file.p, file.len) };
	for (unsigned i = 0; i < OPEN_TRIES; i++) {
		st = dbm_try(env, f, err);
		if (!lookup_stamp_differs(f->path, &f->stamp)) /* what was opened is what was looked through */
			break;
		if (!st)
			st = err_set(err, ST_DEFER, "dbm: %s: changes while it is opened", f->path);
		if (f->db)
			f->db->close(f->db, 0);
		f->db = NULL;
	}
	if (st) {
		dbm_close(f);
		return st;
	}
	*handle_out = f;
	return ST_OK;
}

static bool dbm_changed(void *handle)
{
	struct dbm_file *f = handle;

	return f->broken || lookup_stamp_differs(f->path, &f->stamp);
}

/* A hash takes a page behind the file's end for an empty one. */
static bool dbm_is_whole(struct dbm_file *f)
{
	struct stat st;
	int fd;

	return f->db->fd(f->db, &fd) == 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size >= f->stamp.size;
}

/* The key as it is in the file. */
static enum status dbm_get(struct dbm_file *f, struct str key, struct arena *a, struct lookup_result *out, struct err *err)
{
	DBT k = { .data = (void *)(uintptr_t)key.p, .size = key.len }, v = { .data = NULL };
	int rc;
	size_t n;

	out->ttl_s = LOOKUP_TTL_FILE;
	rc = f->db->get(f->db, NULL, &k, &v, 0);
	if (rc == DB_NOTFOUND && dbm_is_whole(f))
		return ST_FAIL;
	if (rc) {
		f->broken = true;
		return err_set(err, ST_DEFER, "dbm: %s: %s", f->path, rc == DB_NOTFOUND ? "was cut short" : db_strerror(rc));
	}
	n = strnlen(v.data ? v.data : "", v.size); /* the closing zero is no part of the value */
	if (n > LOOKUP_VALUE_MAX)
		return err_set(err, ST_DEFER, "dbm: %s: a value of %zu octets: %d are allowed", f->path, n, LOOKUP_VALUE_MAX);
	out->value = str_make(arena_memdup(a, n ? v.data : "", n), n);
	return ST_OK;
}

static enum status dbm_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	(void)env, (void)file, (void)options;
	/* arena_memdup() puts a zero behind */
	return dbm_get(handle, str_make(arena_memdup(a, key.p, key.len), (size_t)key.len + 1), a, out, err);
}

static enum status dbmnz_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	(void)env, (void)file, (void)options;
	return dbm_get(handle, key, a, out, err);
}

/* The key is a list, its elements with zeros between them. */
static enum status dbmjz_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(key);
	char *text = arena_alloc(a, (size_t)key.len + 2);
	struct str one;
	size_t n = 0;

	(void)env, (void)file, (void)options;
	while (lang_split_next(&split, a, &one)) {
		if (one.len)
			memcpy(text + n, one.p, one.len);
		n += one.len;
		text[n++] = '\0';
	}
	return n ? dbm_get(handle, str_make(text, n - 1), a, out, err) : ST_FAIL;
}

const struct lookup_driver lookup_driver_dbm = { "dbm", dbm_open, dbm_changed, dbm_find, dbm_close, NULL };
const struct lookup_driver lookup_driver_dbmnz = { "dbmnz", dbm_open, dbm_changed, dbmnz_find, dbm_close, NULL };
const struct lookup_driver lookup_driver_dbmjz = { "dbmjz", dbm_open, dbm_changed, dbmjz_find, dbm_close, NULL };
#else
const struct lookup_driver lookup_driver_dbm = { "dbm", NULL, NULL, lookup_absent, NULL, NULL };
const struct lookup_driver lookup_driver_dbmnz = { "dbmnz", NULL, NULL, lookup_absent, NULL, NULL };
const struct lookup_driver lookup_driver_dbmjz = { "dbmjz", NULL, NULL, lookup_absent, NULL, NULL };
#endif

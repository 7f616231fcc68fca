/* SPDX-License-Identifier: ISC */
/* lookup_lmdb.c - LMDB files: one environment a file, read-only unless lmdb_writable names it, a fresh snapshot for every lookup. */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/lang/lang_list.h"
#include "router/lookup_drivers.h"

struct lmdb {
	MDB_env *env;
	char *path, *data_path;       /* what was named; the file that holds the data */
	uint64_t dev, ino;
	bool writable;
};

enum { LMDB_MAP_MIN = 16 * 1024 * 1024 };
#define LMDB_MAP_MAX ((size_t)1 << 40)

static void lmdb_close(void *handle)
{
	struct lmdb *h = handle;

	if (h->env)
		mdb_env_close(h->env);
	mem_free(h->path);
	mem_free(h->data_path);
	mem_free(h);
}

/* LMDB trusts its file; a foreign or cut one must not be mapped: it would end the worker. */
static bool lmdb_file_sane(const char *path, struct stat *st)
{
	struct { uint64_t page_head[2]; uint32_t magic, version; } meta;
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fstat(fileno(f), st) == 0 && S_ISREG(st->st_mode) && fread(&meta, sizeof meta, 1, f) == 1 && meta.magic == 0xBEEFC0DEu;
	fclose(f);
	return ok;
}

static bool file_is_writable(const struct lookup_env *env, struct str file)
{
	struct lang_split split = LANG_SPLIT(env->lmdb_writable);
	struct arena a = ARENA_INIT;
	struct str one;
	bool yes = false;

	while (env->lmdb_writable.len && !yes && lang_split_next(&split, &a, &one))
		yes = one.len && str_eq(one, file);
	arena_clear(&a);
	return yes;
}

static enum status lmdb_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct lmdb *h = mem_new(sizeof *h);
	struct stat st;
	unsigned flags = MDB_NOTLS;
	bool fresh;
	int rc;

	h->writable = file_is_writable(env, file);
	flags |= h->writable ? 0 : MDB_RDONLY;
	h->path = mem_memdup(file.p, file.len);
	if (stat(h->path, &st) < 0) {
		err_set(err, ST_DEFER, "LMDB: Unable to open environment with %s: %s", h->path, strerror(errno));
		lmdb_close(h);
		return ST_DEFER;
	}
	if (S_ISDIR(st.st_mode)) {
		h->data_path = mem_new(file.len + 16);
		snprintf(h->data_path, file.len + 16, "%s/data.mdb", h->path);
	} else {
		h->data_path = mem_strdup(h->path);
		flags |= MDB_NOSUBDIR;
	}
	fresh = h->writable && stat(h->data_path, &st) == 0 && S_ISREG(st.st_mode) && !st.st_size; /* made by master: LMDB fills it */
	if (!fresh && !lmdb_file_sane(h->data_path, &st)) {
		err_set(err, ST_DEFER, "LMDB: Unable to open environment with %s: not an LMDB file", h->path);
		lmdb_close(h);
		return ST_DEFER;
	}
	h->dev = (uint64_t)st.st_dev;
	h->ino = (uint64_t)st.st_ino;
	rc = mdb_env_create(&h->env);
	if (!rc) {
		mdb_env_set_maxdbs(h->env, 16);
		if (h->writable) /* room to grow; only what is used is ever in the file */
			mdb_env_set_mapsize(h->env, (size_t)st.st_size * 2 > LMDB_MAP_MIN ? (size_t)st.st_size * 2 : LMDB_MAP_MIN);
		rc = mdb_env_open(h->env, h->path, flags, 0600);
		if (!h->writable && (rc == EACCES || rc == EROFS || rc == EPERM)) { /* no place for a lock file: read-only media or mount */
			mdb_env_close(h->env);
			h->env = NULL;
			rc = mdb_env_create(&h->env);
			if (!rc) {
				mdb_env_set_maxdbs(h->env, 16);
				rc = mdb_env_open(h->env, h->path, flags | MDB_NOLOCK, 0);
			}
		}
	}
	if (rc) {
		err_set(err, ST_DEFER, "LMDB: Unable to open environment with %s: %s", h->path, mdb_strerror(rc));
		lmdb_close(h);
		return ST_DEFER;
	}
	mdb_reader_check(h->env, &rc); /* slots of dead workers */
	*handle_out = h;
	return ST_OK;
}

static bool lmdb_changed(void *handle)
{
	struct lmdb *h = handle;
	struct stat st;

	return stat(h->data_path, &st) < 0 || (uint64_t)st.st_dev != h->dev || (uint64_t)st.st_ino != h->ino;
}

/* The data's pages must all be within the file, or touching them ends the worker (SIGBUS): a file cut short by someone. */
static bool lmdb_whole(struct lmdb *h)
{
	MDB_envinfo info;
	MDB_stat ms;
	struct stat st;

	return mdb_env_info(h->env, &info) == 0 && mdb_env_stat(h->env, &ms) == 0 && stat(h->data_path, &st) == 0 &&
		(uint64_t)st.st_size >= ((uint64_t)info.me_last_pgno + 1) * ms.ms_psize;
}

/* ---- put and del ---- */

/* Put: the key is a list of two, key and value. */
static enum status put_parse(struct str text, struct arena *a, struct str *key, struct str *value, struct err *err)
{
	struct lang_split split = LANG_SPLIT(text);
	struct str more;

	if (!lang_split_next(&split, a, key) || !key->len)
		return err_set(err, ST_ERROR, "LMDB: put wants a key and a value: ${lookup {<; KEY ; VALUE} lmdb,put {FILE}}");
	if (!lang_split_next(&split, a, value))
		*value = STR_LIT("");
	else if (lang_split_next(&split, a, &more))
		return err_set(err, ST_ERROR, "LMDB: put wants one key and one value; separators within them are doubled");
	return ST_OK;
}

static int write_once(struct lmdb *h, const char *db, struct str key, const struct str *value)
{
	MDB_val k = { key.len, (void *)(uintptr_t)key.p }, v = { value ? value->len : 0, (void *)(uintptr_t)(value ? value->p : NULL) };
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc = mdb_txn_begin(h->env, NULL, 0, &txn);

	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, db, db && value ? MDB_CREATE : 0, &dbi);
	if (!rc)
		rc = value ? mdb_put(txn, dbi, &k, &v, 0) : mdb_del(txn, dbi, &k, NULL);
	if (!rc)
		return mdb_txn_commit(txn); /* durable when this returns */
	mdb_txn_abort(txn);
	return rc;
}

static enum status lmdb_write(struct lmdb *h, struct str file, const char *db, struct str key, const struct str *value, struct lookup_result *out,
	struct err *err)
{
	MDB_envinfo info;
	int rc;

	if (!h->writable)
		return err_set(err, ST_ERROR, "LMDB: %.*s is not named by lmdb_writable", STR_FMT(file));
	if ((int)key.len > mdb_env_get_maxkeysize(h->env))
		return err_set(err, ST_ERROR, "LMDB: a key of %u octets: %d are allowed", key.len, mdb_env_get_maxkeysize(h->env));
	rc = write_once(h, db, key, value);
	if (rc == MDB_MAP_RESIZED) { /* another process made it larger */
		mdb_env_set_mapsize(h->env, 0);
		rc = write_once(h, db, key, value);
	}
	if (rc == MDB_MAP_FULL && !mdb_env_info(h->env, &info) && info.me_mapsize < LMDB_MAP_MAX) {
		mdb_env_set_mapsize(h->env, info.me_mapsize * 2);
		rc = write_once(h, db, key, value);
	}
	if (rc == MDB_NOTFOUND && !value)
		return ST_FAIL;
	if (rc)
		return err_set(err, ST_DEFER, "LMDB: writing %.*s: %s", STR_FMT(file), mdb_strerror(rc));
	out->value = STR_LIT("OK");
	return ST_OK;
}

/* ---- get ---- */

static enum status lmdb_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lmdb *h = handle;
	struct str db = lookup_option_value(options, "db"), value;
	char *db_name = db.len ? str_cstr(a, db) : NULL;
	MDB_val k = { key.len, (void *)(uintptr_t)key.p }, v;
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc;

	(void)env;
	if (lookup_option(options, "put")) {
		enum status st = put_parse(key, a, &key, &value, err);

		return st ? st : lmdb_write(h, file, db_name, key, &value, out, err);
	}
	if (lookup_option(options, "del"))
		return lmdb_write(h, file, db_name, key, NULL, out, err);
	out->ttl_s = LOOKUP_TTL_FILE;
	if (!key.len || (int)key.len > mdb_env_get_maxkeysize(h->env))
		return ST_FAIL;
	if (!lmdb_whole(h))
		return err_set(err, ST_DEFER, "LMDB: %.*s is cut short", STR_FMT(file));
	rc = mdb_txn_begin(h->env, NULL, MDB_RDONLY, &txn);
	if (rc == MDB_MAP_RESIZED) { /* a writer made the file larger */
		mdb_env_set_mapsize(h->env, 0);
		rc = mdb_txn_begin(h->env, NULL, MDB_RDONLY, &txn);
	}
	if (rc)
		return err_set(err, ST_DEFER, "LMDB: Unable to create transaction with %.*s: %s", STR_FMT(file), mdb_strerror(rc));
	rc = mdb_dbi_open(txn, db_name, 0, &dbi);
	if (!rc)
		rc = mdb_get(txn, dbi, &k, &v);
	if (!rc && v.mv_size > LOOKUP_VALUE_MAX)
		rc = MDB_BAD_VALSIZE;
	if (!rc) {
		size_t n = strnlen(v.mv_data, v.mv_size); /* some writers store the closing zero */

		out->value = str_make(arena_memdup(a, v.mv_data, n), n);
	}
	mdb_txn_abort(txn);
	if (!rc)
		return ST_OK;
	return rc == MDB_NOTFOUND ? ST_FAIL : err_set(err, ST_DEFER, "LMDB: lookup in %.*s: %s", STR_FMT(file), mdb_strerror(rc));
}

const struct lookup_driver lookup_driver_lmdb = { "lmdb", lmdb_open, lmdb_changed, lmdb_find, lmdb_close, NULL };

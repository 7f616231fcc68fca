/* SPDX-License-Identifier: ISC */
/* lookup_lmdb.c - LMDB files: one read-only environment a file, a fresh snapshot for every lookup. */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "router/lookup_drivers.h"

struct lmdb {
	MDB_env *env;
	char *path, *data_path;       /* what was named; the file that holds the data */
	uint64_t dev, ino;
};

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

static enum status lmdb_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct lmdb *h = mem_new(sizeof *h);
	struct stat st;
	unsigned flags = MDB_RDONLY | MDB_NOTLS;
	int rc;

	(void)env;
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
	if (!lmdb_file_sane(h->data_path, &st)) {
		err_set(err, ST_DEFER, "LMDB: Unable to open environment with %s: not an LMDB file", h->path);
		lmdb_close(h);
		return ST_DEFER;
	}
	h->dev = (uint64_t)st.st_dev;
	h->ino = (uint64_t)st.st_ino;
	rc = mdb_env_create(&h->env);
	if (!rc) {
		mdb_env_set_maxdbs(h->env, 16);
		rc = mdb_env_open(h->env, h->path, flags, 0);
		if (rc == EACCES || rc == EROFS || rc == EPERM) { /* no place for a lock file: read-only media or mount */
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

static enum status lmdb_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lmdb *h = handle;
	struct str db = lookup_option_value(options, "db");
	MDB_val k = { key.len, (void *)(uintptr_t)key.p }, v;
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc;

	(void)env;
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
	rc = mdb_dbi_open(txn, db.p ? str_cstr(a, db) : NULL, 0, &dbi);
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

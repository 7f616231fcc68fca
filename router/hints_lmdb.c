/* SPDX-License-Identifier: ISC */
/* hints_lmdb.c - hints in a file of this machine. */
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "router/hints_rate.h"
#include "router/hints_store.h"

struct hints_lmdb {
	struct hints base;
	size_t size_max;
	MDB_env *env;
	MDB_dbi dbi;
	char *path;
	char cursor[HINTS_KEY_MAX + 1];  /* where hints_expire() goes on */
	size_t cursor_len;
};

/* A value in the store: when it expires (seconds since 1970, 0: never), then the octets. */
struct hint_head {
	int64_t expires;
};

static void hints_aside(const char *path)
{
	char to[4200];

	if (snprintf(to, sizeof to, "%s.damaged", path) < (int)sizeof to)
		rename(path, to);
}

static int hints_env_open(struct hints_lmdb *h)
{
	MDB_txn *txn;
	int rc = mdb_env_create(&h->env);

	if (rc)
		return rc;
	/* Hints are advice: a power cut may cost the last ones, never the file's order (no MDB_WRITEMAP). */
	mdb_env_set_mapsize(h->env, h->size_max);
	rc = mdb_env_open(h->env, h->path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOSYNC, 0600);
	if (!rc) {
		int dead;

		mdb_reader_check(h->env, &dead);
		rc = mdb_txn_begin(h->env, NULL, 0, &txn);
	}
	if (!rc) {
		rc = mdb_dbi_open(txn, NULL, 0, &h->dbi);
		if (rc)
			mdb_txn_abort(txn);
		else
			rc = mdb_txn_commit(txn);
	}
	if (rc) {
		mdb_env_close(h->env);
		h->env = NULL;
	}
	return rc;
}

static MDB_val hint_key(struct arena *a, struct str space, struct str key)
{
	struct str k = hints_key(a, space, key);

	return (MDB_val){ k.len, (void *)(uintptr_t)k.p };
}

static bool hint_alive(const MDB_val *v, int64_t now, struct hint_head *head, struct str *value)
{
	if (v->mv_size < sizeof *head)
		return false;
	memcpy(head, v->mv_data, sizeof *head);
	*value = str_make((const char *)v->mv_data + sizeof *head, v->mv_size - sizeof *head);
	return !head->expires || head->expires > now;
}

/* When an entry of so many seconds ends. */
static int64_t hint_end(int64_t now, uint64_t expire_s)
{
	return expire_s ? now + (int64_t)hints_expire_s(expire_s) : 0;
}

static int hint_store(MDB_txn *txn, MDB_dbi dbi, MDB_val *k, struct str value, int64_t expires, struct arena *a)
{
	struct hint_head head = { expires };
	char *p = arena_alloc(a, sizeof head + value.len);
	MDB_val v = { sizeof head + value.len, p };

	memcpy(p, &head, sizeof head);
	if (value.len)
		memcpy(p + sizeof head, value.p, value.len);
	return mdb_put(txn, dbi, k, &v, 0);
}

static int hint_get(struct hints_lmdb *h, MDB_txn *txn, MDB_val *k, int64_t now, struct arena *a, struct ipc_hint_answer *out)
{
	struct hint_head head;
	struct str value;
	MDB_val v;
	int rc = mdb_get(txn, h->dbi, k, &v);

	if (!rc && !hint_alive(&v, now, &head, &value))
		rc = MDB_NOTFOUND;
	if (!rc)
		out->value = str_dup(a, value);
	return rc;
}

/* A counter: decimal text; the first add sets when it expires. */
static int hint_add(struct hints_lmdb *h, MDB_txn *txn, MDB_val *k, const struct ipc_hint_ask *ask, int64_t now, struct arena *a,
	struct ipc_hint_answer *out)
{
	int64_t expires = hint_end(now, ask->expire_s), count = 0;
	struct hint_head head;
	struct str value;
	MDB_val v;
	int rc = mdb_get(txn, h->dbi, k, &v);

	if (!rc && hint_alive(&v, now, &head, &value)) {
		bool minus = value.len && value.p[0] == '-';
		uint64_t n;

		if (str_u64(minus ? str_from(value, 1) : value, INT64_MAX, &n))
			count = minus ? -(int64_t)n : (int64_t)n;
		expires = head.expires;
	}
	if (__builtin_add_overflow(count, ask->amount, &count))
		count = ask->amount > 0 ? INT64_MAX : INT64_MIN + 1;
	out->amount = count;
	return hint_store(txn, h->dbi, k, str_printf(a, "%lld", (long long)count), expires, a);
}

/* Reading, reckoning and writing in one transaction: events that come at the same time to several daemons all count. */
static int hint_rate(struct hints_lmdb *h, MDB_txn *txn, MDB_val *k, const struct ipc_hint_ask *ask, int64_t now, struct arena *a,
	struct ipc_hint_answer *out)
{
	struct hint_head head;
	struct str old = STR_NULL, new;
	uint64_t keep_s;
	MDB_val v;
	int rc = mdb_get(txn, h->dbi, k, &v);

	if (rc && rc != MDB_NOTFOUND)
		return rc;
	if (!rc && !hint_alive(&v, now, &head, &old))
		old = STR_NULL;
	if (!hints_rate(ask, old, a, &new, &keep_s, out)) {
		out->status = ST_ERROR;
		out->text = STR_LIT("hints: rate: COUNT LIMIT PERIOD and words are wanted");
		return 0;
	}
	return new.len ? hint_store(txn, h->dbi, k, new, hint_end(now, keep_s), a) : 0;
}

/* What is there; with that the store forgets it. */
static int hint_take(struct hints_lmdb *h, MDB_txn *txn, MDB_val *k, int64_t now, struct arena *a, struct ipc_hint_answer *out)
{
	int rc = hint_get(h, txn, k, now, a, out);

	return rc ? rc : mdb_del(txn, h->dbi, k, NULL);
}

static int hint_keep(struct hints_lmdb *h, MDB_txn *txn, MDB_val *k, const struct ipc_hint_ask *ask, int64_t now, struct arena *a,
	struct ipc_hint_answer *out)
{
	int rc = hint_get(h, txn, k, now, a, out);

	if (rc != MDB_NOTFOUND)
		return rc;
	out->value = ask->value;
	return hint_store(txn, h->dbi, k, ask->value, hint_end(now, ask->expire_s), a);
}

static int hint_list(struct hints_lmdb *h, MDB_txn *txn, struct str space, struct str prefix, int64_t now, struct arena *a,
	struct ipc_hint_answer *out)
{
	MDB_val from = hint_key(a, space, prefix), k = from, v;
	MDB_cursor *c;
	int rc = mdb_cursor_open(txn, h->dbi, &c);
	size_t octets = 0;

	if (rc)
		return rc;
	out->entries = arena_alloc(a, HINTS_LIST_MAX * sizeof *out->entries);
	for (rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE); !rc && out->n_entries < HINTS_LIST_MAX && octets < HINTS_LIST_OCTETS; rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		struct hint_head head;
		struct str value;

		if (k.mv_size < from.mv_size || memcmp(k.mv_data, from.mv_data, from.mv_size))
			break;
		if (k.mv_size - space.len - 1 > HINTS_LIST_NAME || !hint_alive(&v, now, &head, &value))
			continue;
		octets += k.mv_size + v.mv_size;
		out->entries[out->n_entries].name = str_dup(a, str_make((char *)k.mv_data + space.len + 1, k.mv_size - space.len - 1));
		out->entries[out->n_entries++].value = str_dup(a, value);
	}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static void lmdb_run(struct hints *hints, const struct ipc_hint_ask *ask, int64_t now, struct arena *a, struct ipc_hint_answer *out)
{
	struct hints_lmdb *h = (struct hints_lmdb *)(void *)hints;
	bool writes = ask->op != HINT_GET && ask->op != HINT_LIST;
	MDB_txn *txn;
	MDB_val k;
	int rc;

	k = hint_key(a, ask->space, ask->key);
	rc = mdb_txn_begin(h->env, NULL, writes ? 0 : MDB_RDONLY, &txn);
	if (!rc) {
		switch ((enum hint_op)ask->op) {
		case HINT_GET: rc = hint_get(h, txn, &k, now, a, out); break;
		case HINT_PUT: rc = hint_store(txn, h->dbi, &k, ask->value, hint_end(now, ask->expire_s), a); break;
		case HINT_ADD: rc = hint_add(h, txn, &k, ask, now, a, out); break;
		case HINT_REMOVE: rc = mdb_del(txn, h->dbi, &k, NULL); break;
		case HINT_LIST: rc = hint_list(h, txn, ask->space, ask->key, now, a, out); break;
		case HINT_RATE: rc = hint_rate(h, txn, &k, ask, now, a, out); break;
		case HINT_TAKE: rc = hint_take(h, txn, &k, now, a, out); break;
		case HINT_KEEP: rc = hint_keep(h, txn, &k, ask, now, a, out); break;
		case HINT_OPS_END: break;
		}
		if (rc || !writes)
			mdb_txn_abort(txn);
		else
			rc = mdb_txn_commit(txn);
	}
	if (rc == MDB_NOTFOUND) {
		out->status = ST_FAIL;
	} else if (rc) {
		out->status = ST_DEFER;
		out->text = str_printf(a, "hints: %s: %s", h->path, mdb_strerror(rc));
	}
}

/* Three quarters are in use: what is left is for the pages that every change copies. */
static bool hints_crowded(struct hints_lmdb *h, MDB_txn *txn)
{
	MDB_stat s;

	if (mdb_stat(txn, h->dbi, &s))
		return false;
	return (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) * s.ms_psize > h->size_max / 4 * 3;
}

static unsigned lmdb_expire(struct hints *hints, int64_t now)
{
	struct hints_lmdb *h = (struct hints_lmdb *)(void *)hints;
	MDB_val k = { h->cursor_len, h->cursor }, v;
	unsigned gone = 0, seen = 0;
	bool crowded;
	MDB_cursor *c;
	MDB_txn *txn;
	int rc;

	if (mdb_txn_begin(h->env, NULL, 0, &txn))
		return 0;
	if (mdb_cursor_open(txn, h->dbi, &c)) {
		mdb_txn_abort(txn);
		return 0;
	}
	crowded = hints_crowded(h, txn);
	rc = mdb_cursor_get(c, &k, &v, h->cursor_len ? MDB_SET_RANGE : MDB_FIRST);
	h->cursor_len = 0;
	for (; !rc; rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		struct hint_head head;
		struct str value;

		if (++seen > HINTS_EXPIRE_BATCH) {
			if (k.mv_size <= HINTS_KEY_MAX) {
				memcpy(h->cursor, k.mv_data, k.mv_size);
				h->cursor_len = k.mv_size;
			}
			break;
		}
		if ((crowded || !hint_alive(&v, now, &head, &value)) && !mdb_cursor_del(c, 0))
			gone++;
	}
	mdb_cursor_close(c);
	if (gone)
		mdb_txn_commit(txn);
	else
		mdb_txn_abort(txn);
	return gone;
}

static void lmdb_close(struct hints *hints)
{
	struct hints_lmdb *h = (struct hints_lmdb *)(void *)hints;

	mdb_env_close(h->env);
	mem_free(h->path);
	mem_free(h);
}

static const struct hints_store lmdb_store = { lmdb_run, lmdb_expire, lmdb_close };

struct hints *hints_lmdb_open(const char *directory, size_t size_max, struct err *err)
{
	struct hints_lmdb *h = mem_new(sizeof *h);
	size_t n = strlen(directory) + 16;
	struct stat st;
	int rc;

	h->size_max = size_max ? size_max : HINTS_MAP_SIZE;
	h->path = mem_new(n);
	snprintf(h->path, n, "%s/hints.mdb", directory);
	/* An empty file is what a crash at the very first start leaves: LMDB makes it anew only if it is not there. */
	rc = hints_env_open(h);
	if (rc == MDB_INVALID || rc == MDB_CORRUPTED || rc == MDB_VERSION_MISMATCH || rc == MDB_PAGE_NOTFOUND ||
	    (rc && stat(h->path, &st) == 0 && st.st_size > 0 && st.st_size < 8192)) {
		hints_aside(h->path);
		rc = hints_env_open(h);
	}
	if (rc) {
		err_set(err, ST_DEFER, "hints: %s: %s", h->path, mdb_strerror(rc));
		mem_free(h->path);
		mem_free(h);
		return NULL;
	}
	h->base.store = &lmdb_store;
	return &h->base;
}

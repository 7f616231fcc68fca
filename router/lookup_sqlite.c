/* SPDX-License-Identifier: ISC */
/* lookup_sqlite.c - SQLite files: one connection a file, kept by the worker. Specification, sections 9.21 and 9.26. */
#include "gen/have.h"
#include "router/lookup_servers.h"

#if HAVE_SQLITE
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/lang/lang_list.h"

enum { SQLITE_STEPS = 10000 /* of its machine, between two looks at the clock */, SQLITE_LOCK_MS = 5000, SQLITE_QUERY_MS = 30000 };

struct sqlite {
	sqlite3 *db;
	bool write;
	struct lookup_stamp stamp;
	char *path;
	uint64_t deadline_ms;
};

static void sqlite_close(void *conn)
{
	struct sqlite *s = conn;

	sqlite3_close(s->db);
	mem_free(s->path);
	mem_free(s);
}

static int query_may_go_on(void *arg)
{
	return clock_ms() > ((struct sqlite *)arg)->deadline_ms;
}

/* Whether the directory of the file is named by sqlite_writable: SQLite makes files of its own beside it. */
static bool file_is_writable(struct lookup_env *env, struct str file, struct arena *a)
{
	struct lang_split split = LANG_SPLIT(env->sqlite_writable);
	ptrdiff_t slash = str_rfind(file, '/');
	struct str dir;

	while (env->sqlite_writable.len && lang_split_next(&split, a, &dir)) {
		while (dir.len > 1 && dir.p[dir.len - 1] == '/')
			dir.len--;
		if (dir.len && slash > 0 && str_eq(dir, str_sub(file, 0, (size_t)slash)))
			return true;
	}
	return false;
}

static bool file_replaced(const struct sqlite *s)
{
	struct lookup_stamp now;

	/* What a writer changes within the file is SQLite's own business. */
	return !lookup_stamp_path(s->path, &now) || now.dev != s->stamp.dev || now.ino != s->stamp.ino;
}

static enum status sqlite_get(struct lookup_env *env, struct str file, const char *name, struct arena *a, struct sqlite **out, struct err *err)
{
	int flags = file_is_writable(env, file, a) ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
	struct sqlite *s;
	int rc;

	if (!env->conns)
		env->conns = conns_new();
	*out = s = conns_get(env->conns, name);
	if (s && !file_replaced(s))
		return ST_OK;
	conns_drop(env->conns, name);
	s = mem_new(sizeof *s);
	s->path = mem_memdup(file.p, file.len);
	s->write = flags & SQLITE_OPEN_READWRITE;
	rc = sqlite3_open_v2(s->path, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK || !lookup_stamp_path(s->path, &s->stamp)) {
		err_set(err, ST_DEFER, "sqlite: %s: %s%s", s->path, s->db ? sqlite3_errmsg(s->db) : "out of memory",
			access(s->path, F_OK) < 0 ? " (it does not exist, or is not in lookup_directories)" : "");
		sqlite_close(s);
		return ST_DEFER;
	}
	sqlite3_busy_timeout(s->db, (int)(env->sqlite_lock_ms ? env->sqlite_lock_ms : SQLITE_LOCK_MS));
	sqlite3_limit(s->db, SQLITE_LIMIT_ATTACHED, 0);
	sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, 16 * 1024 * 1024);
	sqlite3_progress_handler(s->db, SQLITE_STEPS, query_may_go_on, s);
	conns_put(env->conns, name, s, sqlite_close);
	*out = s;
	return ST_OK;
}

static void row_add(sqlite3_stmt *stmt, struct rows *rows)
{
	int n = sqlite3_column_count(stmt);

	rows_next(rows);
	for (int i = 0; i < n; i++) {
		const char *text = (const char *)sqlite3_column_text(stmt, i);

		/* up to the first zero, as everywhere where values are strings */
		rows_field(rows, sqlite3_column_name(stmt, i), text ? str_of(text) : STR_LIT("<NULL>"), n == 1);
	}
}

/* All statements of the query, one after the other. */
static enum status query_run(struct sqlite *s, struct str query, struct rows *rows, struct err *err)
{
	const char *at = query.p, *end = query.p + query.len;

	while (at < end) {
		sqlite3_stmt *stmt = NULL;
		int rc = sqlite3_prepare_v2(s->db, at, (int)(end - at), &stmt, &at);

		if (rc == SQLITE_OK && !stmt)
			continue; /* blanks and comments */
		while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
			row_add(stmt, rows);
			rc = rows->text.full ? SQLITE_DONE : SQLITE_OK;
		}
		sqlite3_finalize(stmt);
		if (rc == SQLITE_INTERRUPT)
			return err_set(err, ST_DEFER, "sqlite: the query took too long (sql_timeout)");
		if (rc != SQLITE_DONE)
			return err_set(err, ST_DEFER, "sqlite: %s%s", sqlite3_errmsg(s->db), (rc & 0xff) != SQLITE_READONLY ? "" : s->write ?
				" (router's user may not write the file or its directory)" : " (sqlite_writable does not name its directory)");
		if (rows->text.full)
			return ST_OK;
	}
	return ST_OK;
}

static enum status sqlite_find(void *arg, void *handle, struct str unused, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;
	struct str file = lookup_option_value(options, "file"), query = str_trim(key);
	struct rows rows = { .text = BUF_LIMIT(LOOKUP_VALUE_MAX) };
	struct sqlite *s;
	const char *name;
	enum status st;

	(void)handle, (void)unused;
	if (!file.len && query.len && query.p[0] == '/') { /* the old form: the file before the query */
		uint32_t n = 0;

		while (n < query.len && !ascii_is_space(query.p[n]))
			n++;
		file = str_sub(query, 0, n);
		query = str_trim(str_from(query, n));
	}
	if (!file.len)
		file = env->sqlite_dbfile;
	if (!file.len || file.p[0] != '/' || str_find_str(file, STR_LIT("/../")) >= 0)
		return err_set(err, ST_ERROR, "absolute file name expected for \"sqlite\" lookup, not \"%.*s\"", STR_FMT(str_sub(file, 0, 120)));
	name = arena_printf(a, "sqlite %.*s", STR_FMT(file));
	query = str_dup(a, query);
	st = sqlite_get(env, file, name, a, &s, err);
	if (st)
		return st;
	s->deadline_ms = clock_ms() + (env->sql_timeout_ms ? env->sql_timeout_ms : SQLITE_QUERY_MS) + env->sqlite_lock_ms;
	st = query_run(s, query, &rows, err);
	out->ttl_s = query_reads(query);
	if (st) {
		conns_drop(env->conns, name);
		buf_clear(&rows.text);
		return st;
	}
	return rows_end(&rows, "sqlite", a, out, err);
}

const struct lookup_driver lookup_driver_sqlite = { "sqlite", NULL, NULL, sqlite_find, NULL, NULL };
#else
const struct lookup_driver lookup_driver_sqlite = { "sqlite", NULL, NULL, lookup_absent, NULL, NULL };
#endif

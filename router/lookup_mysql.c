/* SPDX-License-Identifier: ISC */
/* lookup_mysql.c - MySQL and MariaDB. Specification, sections 9.21 to 9.24. */
#include "gen/have.h"
#include "router/lookup_servers.h"

#if HAVE_MYSQL
#include <errmsg.h>
#include <mysql.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"

enum { MYSQL_TIMEOUT_MS = 5000 };

static void mysql_end(void *conn)
{
	mysql_close(conn);
	mem_free(conn);
}

static enum status mysql_trouble(const struct server *s, const char *doing, MYSQL *c, struct err *err)
{
	return err_set(err, ST_DEFER, "MYSQL: %.*s: %s: %s", STR_FMT(s->shown), doing, mysql_error(c));
}

/* quote_mysql puts backslashes before quotes, as Exim's does: a server that takes them for themselves would see the quote alone. */
static bool escapes_hold(MYSQL *c)
{
	static const char plain[] = "SET SESSION sql_mode = TRIM(BOTH ',' FROM REPLACE(CONCAT(',', @@SESSION.sql_mode, ','), ',NO_BACKSLASH_ESCAPES,', ','))";

	if (!(c->server_status & SERVER_STATUS_NO_BACKSLASH_ESCAPES))
		return true;
	return mysql_real_query(c, plain, sizeof plain - 1) == 0 && !(c->server_status & SERVER_STATUS_NO_BACKSLASH_ESCAPES);
}

static MYSQL *connect_to(struct lookup_env *env, const struct server *s, struct str ip, struct arena *a, struct err *err)
{
	unsigned seconds = ((env->sql_timeout_ms ? env->sql_timeout_ms : MYSQL_TIMEOUT_MS) + 999) / 1000, off = 0;
	bool local = !ip.len;
	MYSQL *c = mem_new(sizeof *c);

	mysql_init(c);
	mysql_options(c, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
	mysql_options(c, MYSQL_OPT_READ_TIMEOUT, &seconds);
	mysql_options(c, MYSQL_OPT_WRITE_TIMEOUT, &seconds);
	mysql_options(c, MYSQL_OPT_LOCAL_INFILE, &off); /* a server could ask for files */
	if (s->group.len)
		mysql_options(c, MYSQL_READ_DEFAULT_GROUP, str_cstr(a, s->group));
	if (mysql_real_connect(c, local ? "localhost" : str_cstr(a, ip), str_cstr(a, s->user), str_cstr(a, s->password),
		    s->database.len ? str_cstr(a, s->database) : NULL, s->port, s->socket.len ? str_cstr(a, s->socket) : NULL, 0) && escapes_hold(c))
		return c;
	mysql_trouble(s, "connecting", c, err);
	mysql_end(c);
	return NULL;
}

static MYSQL *mysql_get(struct lookup_env *env, const struct server *s, struct arena *a, bool *kept_out, struct err *err)
{
	struct str ip[SERVER_IPS_MAX] = { STR_NULL };
	bool local = !s->host.len || str_isi(s->host, "localhost") || s->socket.len;
	unsigned n = 1;
	MYSQL *c;

	if (!env->conns)
		env->conns = conns_new();
	c = conns_get(env->conns, s->name);
	*kept_out = c != NULL;
	if (c && !conn_is_dead((int)mysql_get_socket(c)))
		return c;
	*kept_out = false;
	conns_drop(env->conns, s->name);
	if (!local && server_ips(env, s, a, ip, &n, err))
		return NULL;
	for (unsigned i = 0; i < n; i++) {
		c = connect_to(env, s, ip[i], a, err);
		if (!c)
			continue;
		conns_put(env->conns, s->name, c, mysql_end);
		return c;
	}
	return NULL;
}

static enum status rows_take(MYSQL *c, const struct server *s, struct rows *rows, struct err *err)
{
	MYSQL_RES *r = mysql_use_result(c);
	MYSQL_FIELD *fields;
	unsigned n;
	MYSQL_ROW row;

	if (!r && mysql_field_count(c))
		return mysql_trouble(s, "query failed", c, err);
	if (!r) { /* as many rows as were changed */
		rows_next(rows);
		buf_printf(&rows->text, "%llu", (unsigned long long)mysql_affected_rows(c));
		return ST_OK;
	}
	n = mysql_num_fields(r);
	fields = mysql_fetch_fields(r);
	while (!rows->text.full && (row = mysql_fetch_row(r))) {
		const unsigned long *len = mysql_fetch_lengths(r);

		rows_next(rows);
		for (unsigned i = 0; i < n; i++)
			rows_field(rows, fields[i].name, str_make(row[i], row[i] ? len[i] : 0), n == 1);
	}
	/* More is not wanted, but must not be read for the answer to the next query: the connection goes. */
	if (rows->text.full || mysql_errno(c)) {
		if (rows->text.full)
			err_set(err, ST_DEFER, "MYSQL: a result of more than %d octets", LOOKUP_VALUE_MAX);
		else
			mysql_trouble(s, "reading", c, err);
		shutdown((int)mysql_get_socket(c), SHUT_RDWR); /* freeing the result would read all the rest */
		mysql_free_result(r);
		return ST_DEFER;
	}
	mysql_free_result(r);
	return ST_OK;
}

static enum status server_ask(struct lookup_env *env, const struct server *s, struct str query, struct arena *a, struct rows *rows, struct err *err)
{
	enum status st;
	bool kept;

	for (int attempt = 0;; attempt++) {
		MYSQL *c = mysql_get(env, s, a, &kept, err);
		bool lost = false;

		if (!c)
			return ST_DEFER;
		if (mysql_real_query(c, query.p ? query.p : "", query.len)) {
			lost = mysql_errno(c) == CR_SERVER_GONE_ERROR || mysql_errno(c) == CR_SERVER_LOST;
			st = mysql_trouble(s, "query failed", c, err);
		} else {
			st = rows_take(c, s, rows, err);
		}
		if (!st)
			return ST_OK;
		conns_drop(env->conns, s->name);
		if (attempt || !kept || !lost || !query_reads(query))
			return st;
	}
}

static enum status mysql_find(void *arg, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;

	(void)handle, (void)file;
	return sql_find(env, "mysql", env->mysql_servers, server_ask, key, options, a, out, err);
}

const struct lookup_driver lookup_driver_mysql = { "mysql", NULL, NULL, mysql_find, NULL, NULL };
#else
const struct lookup_driver lookup_driver_mysql = { "mysql", NULL, NULL, lookup_absent, NULL, NULL };
#endif

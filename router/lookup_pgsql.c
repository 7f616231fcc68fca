/* SPDX-License-Identifier: ISC */
/* lookup_pgsql.c - PostgreSQL, by libpq's calls that never block, so that every wait has an end. Specification, sections 9.21 to 9.25. */
#include "gen/have.h"
#include "router/lookup_servers.h"

#if HAVE_PGSQL
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>

#include "common/base/clock.h"

enum { PGSQL_PORT = 5432, PGSQL_TIMEOUT_MS = 5000 };

static void pgsql_close(void *conn)
{
	PQfinish(conn);
}

/* The library's words on one line; of connections it is told the user, of a password never. */
static enum status pgsql_trouble(const struct server *s, const char *doing, const char *words, struct err *err)
{
	struct str text = str_trim(str_of(words));
	char line[300];
	uint32_t n = 0;

	for (; n < text.len && n < sizeof line - 1; n++)
		line[n] = text.p[n] == '\n' || text.p[n] == '\t' ? ' ' : text.p[n];
	line[n] = '\0';
	return err_set(err, ST_DEFER, "PGSQL: %.*s: %s: %s", STR_FMT(s->shown), doing, n ? line : "no answer in time");
}

/* Until the socket is ready; false at the deadline. */
static bool socket_wait(int fd, bool write, uint64_t deadline_ms)
{
	uint64_t now = clock_ms();
	struct pollfd p = { .fd = fd, .events = write ? POLLOUT : POLLIN };
	int rc;

	do
		rc = now >= deadline_ms || fd < 0 ? 0 : poll(&p, 1, (int)(deadline_ms - now));
	while (rc < 0 && errno == EINTR && (now = clock_ms()) < deadline_ms);
	return rc > 0;
}

static PGconn *connect_to(const struct server *s, struct str ip, struct arena *a, uint64_t deadline_ms, struct err *err)
{
	ptrdiff_t slash = str_rfind(s->socket, '/'), dot = str_rfind(s->socket, '.');
	struct str port = str_printf(a, "%u", s->port ? s->port : PGSQL_PORT);
	struct str dir = s->socket;
	/* Nothing is read from files and environment that the configuration does not say. */
	const char *names[] = { "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "gssencmode", "sslmode", "sslcert", "sslrootcert",
		"sslcrl", "application_name", "client_encoding", NULL };
	const char *values[] = { NULL, NULL, NULL, str_cstr(a, s->database), str_cstr(a, s->user), str_cstr(a, s->password), "/dev/null", "disable",
		"prefer", "/dev/null/none", "/dev/null/none", "/dev/null/none", "bulkhead", "UTF8", NULL };
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;
	PGconn *c;

	if (s->socket.len && slash >= 0 && dot > slash && str_find_str(s->socket, STR_LIT("/.s.PGSQL.")) >= 0) {
		dir = str_sub(s->socket, 0, (size_t)slash);
		port = str_from(s->socket, (size_t)dot + 1);
	}
	values[0] = str_cstr(a, s->socket.len ? dir : s->host);
	values[1] = s->socket.len ? "" : str_cstr(a, ip);
	values[2] = str_cstr(a, port);
	c = PQconnectStartParams(names, values, 0);
	if (!c || PQstatus(c) == CONNECTION_BAD) {
		pgsql_trouble(s, "connecting", c ? PQerrorMessage(c) : "out of memory", err);
		PQfinish(c);
		return NULL;
	}
	while (want != PGRES_POLLING_OK && want != PGRES_POLLING_FAILED) {
		if (!socket_wait(PQsocket(c), want == PGRES_POLLING_WRITING, deadline_ms)) {
			pgsql_trouble(s, "connecting", "", err);
			PQfinish(c);
			return NULL;
		}
		want = PQconnectPoll(c);
	}
	if (want == PGRES_POLLING_OK && PQsetnonblocking(c, 1) == 0)
		return c;
	pgsql_trouble(s, "connecting", PQerrorMessage(c), err);
	PQfinish(c);
	return NULL;
}

static PGconn *pgsql_get(struct lookup_env *env, const struct server *s, struct arena *a, uint64_t deadline_ms, bool *kept_out, struct err *err)
{
	struct str ip[SERVER_IPS_MAX] = { STR_NULL };
	unsigned n = 1;
	PGconn *c;

	if (!env->conns)
		env->conns = conns_new();
	c = conns_get(env->conns, s->name);
	*kept_out = c != NULL;
	if (c && PQstatus(c) == CONNECTION_OK && !conn_is_dead(PQsocket(c)))
		return c;
	*kept_out = false;
	conns_drop(env->conns, s->name);
	if (!s->socket.len && server_ips(env, s, a, ip, &n, err))
		return NULL;
	for (unsigned i = 0; i < n; i++) {
		c = connect_to(s, ip[i], a, deadline_ms, err);
		if (!c)
			continue;
		conns_put(env->conns, s->name, c, pgsql_close);
		return c;
	}
	return NULL;
}

/* One result of perhaps several; rows come one at a time. */
static enum status result_take(const struct server *s, PGresult *r, struct rows *rows, bool *fresh, struct err *err)
{
	int fields = PQnfields(r);

	switch (PQresultStatus(r)) {
	case PGRES_SINGLE_TUPLE:
	case PGRES_TUPLES_OK:
		if (*fresh) { /* of several statements the last one counts */
			buf_reset(&rows->text);
			rows->n = 0;
		}
		*fresh = PQresultStatus(r) == PGRES_TUPLES_OK;
		for (int i = 0; i < PQntuples(r); i++) {
			rows_next(rows);
			for (int k = 0; k < fields; k++)
				rows_field(rows, PQfname(r, k), str_make(PQgetvalue(r, i, k), (size_t)PQgetlength(r, i, k)), fields == 1);
		}
		return ST_OK;
	case PGRES_COMMAND_OK: /* as many rows as were changed */
		buf_reset(&rows->text);
		rows->n = 0;
		rows_next(rows);
		buf_adds(&rows->text, PQcmdTuples(r));
		*fresh = true;
		return ST_OK;
	case PGRES_EMPTY_QUERY: case PGRES_COPY_OUT: case PGRES_COPY_IN: case PGRES_BAD_RESPONSE: case PGRES_NONFATAL_ERROR: case PGRES_FATAL_ERROR:
	case PGRES_COPY_BOTH: case PGRES_PIPELINE_SYNC: case PGRES_PIPELINE_ABORTED:
		break;
	}
	return pgsql_trouble(s, "query failed", *PQresultErrorMessage(r) ? PQresultErrorMessage(r) : PQresStatus(PQresultStatus(r)), err);
}

/* lost: the connection broke before there was any answer. */
static enum status query_run(PGconn *c, const struct server *s, const char *query, uint64_t deadline_ms, struct rows *rows, bool *lost, struct err *err)
{
	enum status st = ST_OK;
	bool fresh = false, any = false;
	int flush;

	*lost = false;
	if (!PQsendQuery(c, query)) {
		*lost = PQstatus(c) == CONNECTION_BAD;
		return pgsql_trouble(s, "sending", PQerrorMessage(c), err);
	}
	PQsetSingleRowMode(c);
	while ((flush = PQflush(c)) == 1)
		if (!socket_wait(PQsocket(c), true, deadline_ms))
			return pgsql_trouble(s, "sending", "", err);
	for (;;) {
		PGresult *r;

		while (PQisBusy(c)) {
			if (!socket_wait(PQsocket(c), false, deadline_ms))
				return pgsql_trouble(s, "query", "", err);
			if (!PQconsumeInput(c)) {
				*lost = !any;
				return pgsql_trouble(s, "query", PQerrorMessage(c), err);
			}
		}
		r = PQgetResult(c);
		if (!r)
			return st;
		any = true;
		if (!st)
			st = result_take(s, r, rows, &fresh, err);
		PQclear(r);
		if (rows->text.full)
			return err_set(err, ST_DEFER, "PGSQL: a result of more than %d octets", LOOKUP_VALUE_MAX);
	}
}

static enum status server_ask(struct lookup_env *env, const struct server *s, struct str query, struct arena *a, struct rows *rows, struct err *err)
{
	uint32_t limit = env->sql_timeout_ms ? env->sql_timeout_ms : PGSQL_TIMEOUT_MS;
	const char *text = str_cstr(a, query);
	bool kept, lost;
	enum status st;

	for (int attempt = 0;; attempt++) {
		PGconn *c = pgsql_get(env, s, a, clock_ms() + limit, &kept, err);

		if (!c)
			return ST_DEFER;
		st = query_run(c, s, text, clock_ms() + limit, rows, &lost, err);
		if (!st)
			return ST_OK;
		conns_drop(env->conns, s->name);
		if (attempt || !kept || !lost || !query_reads(query))
			return st;
	}
}

static enum status pgsql_find(void *arg, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;

	(void)handle, (void)file;
	return sql_find(env, "pgsql", env->pgsql_servers, server_ask, key, options, a, out, err);
}

const struct lookup_driver lookup_driver_pgsql = { "pgsql", NULL, NULL, pgsql_find, NULL, NULL };
#else
const struct lookup_driver lookup_driver_pgsql = { "pgsql", NULL, NULL, lookup_absent, NULL, NULL };
#endif

/* SPDX-License-Identifier: ISC */
/* lookup_servers.h - what lookups of database servers share: which servers, in which order, and the connections that are kept.
 * Used by:    lookup_redis.c, lookup_pgsql.c, lookup_mysql.c, lookup_sqlite.c.
 * Owns:       struct conns owns its connections; they are closed when idle, dropped, too many, or by conns_free().
 * Invariant:  a connection's name tells servers and logins apart and holds no password in clear.
 * Errors:     ST_ERROR: a specification that can't be; ST_DEFER: no address for a name now. */
#ifndef ROUTER_LOOKUP_SERVERS_H
#define ROUTER_LOOKUP_SERVERS_H

#include "router/lookup_drivers.h"

enum { SERVERS_MAX = 32, CONNS_MAX = 32, CONNS_IDLE_MS = 60000, SERVER_IPS_MAX = 4 };

/* ---- which servers ---- */

struct servers {
	struct str v[SERVERS_MAX];
	unsigned n;
};
/* This query's: servers=LIST of the options, or in front of the query ("servers=LIST; ..."), where a name without slashes stands for the
 * item of `all` that begins with it; else all of `all`. query is left without such a beginning. */
enum status servers_of_query(const char *type, struct str all, struct str options, struct arena *a, struct str *query, struct servers *out,
	struct err *err);

/* HOST[:PORT][(SOCKET)][[GROUP]]/DATABASE/USER/PASSWORD; IPv6 addresses in brackets. Redis has no USER. */
struct server {
	struct str host, socket, group, database, user, password;
	unsigned port;             /* 0: none given */
	struct str shown;          /* without user and password */
	char *name;                /* for struct conns */
};
enum status server_parse(const char *type, struct str spec, bool user, struct arena *a, struct server *out, struct err *err);
/* The addresses of its host, as text. */
enum status server_ips(struct lookup_env *env, const struct server *s, struct arena *a, struct str out[SERVER_IPS_MAX], unsigned *n_out, struct err *err);

/* ---- connections ---- */

struct conns *conns_new(void);
void conns_free(struct conns *conns);
void *conns_get(struct conns *conns, const char *name);   /* lent; NULL: none is kept */
void conns_put(struct conns *conns, const char *name, void *conn, void (*close)(void *conn));
void conns_drop(struct conns *conns, const char *name);
bool conns_tidy(struct conns *conns, uint64_t now_ms);     /* closes those that were idle for long; true when some are left */

/* True when the other side of a connection that waits for nothing has closed it, or says what nobody asked for. */
bool conn_is_dead(int fd);

/* ---- results of SQL ---- */

struct rows {
	struct buf text;           /* BUF_LIMIT(LOOKUP_VALUE_MAX) */
	unsigned n;
};
/* One field: its value alone if it is the row's only one, else NAME=VALUE and a blank, in quotes where needed. */
void rows_next(struct rows *rows);
void rows_field(struct rows *rows, const char *name, struct str value, bool alone);
/* What they are together. ST_FAIL: none. */
enum status rows_end(struct rows *rows, const char *type, struct arena *a, struct lookup_result *out, struct err *err);
/* Asks one server, on a connection that is kept or new; rows is empty. */
typedef enum status sql_ask_fn(struct lookup_env *env, const struct server *s, struct str query, struct arena *a, struct rows *rows, struct err *err);
/* A whole lookup: the servers in turn, as long as they can't be asked. */
enum status sql_find(struct lookup_env *env, const char *type, struct str all, sql_ask_fn *ask, struct str query, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err);
bool query_reads(struct str query); /* begins with SELECT, so that it may be asked twice and its answer kept */

#endif

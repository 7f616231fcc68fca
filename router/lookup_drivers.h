/* SPDX-License-Identifier: ISC */
/* lookup_drivers.h - the lookup types that work here, one file each, and what they share.
 * Used by:    router's lookup handler, which keeps handles and asks lookup_search() (common/lang/lookup.h).
 * Owns:       struct lookup_env is a worker's; its connections are closed by lookup_env_clear().
 * Errors:     as lookup.h says; texts name the file, server or domain, never a password. */
#ifndef ROUTER_LOOKUP_DRIVERS_H
#define ROUTER_LOOKUP_DRIVERS_H

#include "common/dns/dns.h"
#include "common/lang/lookup.h"

struct conns;
struct users;

/* What tells that a file was replaced or changed. */
struct lookup_stamp {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
};

enum { LOOKUP_DBM_KNOWN = 32 };
struct lookup_env {
	struct dns *dns;              /* dnsdb, and names of servers; lent */
	struct users *users;          /* passwd; lent */
	struct str redis_servers, pgsql_servers, mysql_servers; /* the options */
	uint32_t redis_timeout_ms, sql_timeout_ms;              /* 0: 5 s */
	struct str sqlite_dbfile, sqlite_writable;
	uint32_t sqlite_lock_ms;
	struct str lmdb_writable;
	struct conns *conns;          /* connections kept; lookup_servers.h */
	struct { struct lookup_stamp stamp; bool whole; } dbm_known[LOOKUP_DBM_KNOWN]; /* files looked through last; lookup_dbm.c */
	unsigned dbm_known_n;         /* so far */
};
void lookup_env_clear(struct lookup_env *env);

extern const struct lookup_driver *const lookup_drivers[];   /* ended by NULL */
const struct lookup_driver *lookup_driver_find(const char *name);

extern const struct lookup_driver lookup_driver_lsearch, lookup_driver_iplsearch, lookup_driver_dsearch, lookup_driver_lmdb,
	lookup_driver_redis, lookup_driver_dnsdb, lookup_driver_cdb, lookup_driver_json, lookup_driver_passwd,
	lookup_driver_sqlite, lookup_driver_pgsql, lookup_driver_mysql, lookup_driver_psl, lookup_driver_regdom,
	lookup_driver_dbm, lookup_driver_dbmnz, lookup_driver_dbmjz;
/* find() of types whose library was not there at build time. */
enum status lookup_absent(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err);
/* A JSON text as a handle of lookup_driver_json, for its fuzz target. */
enum status lookup_json_parse(struct str text, void **handle_out, struct err *err);

bool lookup_stamp_path(const char *path, struct lookup_stamp *out);
bool lookup_stamp_get(int fd, struct lookup_stamp *out);
bool lookup_stamp_differs(const char *path, const struct lookup_stamp *stamp);

enum { LOOKUP_FILE_MAX = 256 * 1024 * 1024 }; /* octets of a file */
/* A whole regular file, with the stamp that it had. */
enum status lookup_file_read(struct str path, struct arena *a, struct str *text_out, struct lookup_stamp *stamp_out, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* lookup_drivers.h - the lookup types that work here, one file each, and what they share.
 * Used by:    router's lookup handler, which keeps handles and asks lookup_search() (common/lang/lookup.h).
 * Owns:       struct lookup_env is a worker's; its connections are closed by lookup_env_clear().
 * Errors:     as lookup.h says; texts name the file, server or domain, never a password. */
#ifndef ROUTER_LOOKUP_DRIVERS_H
#define ROUTER_LOOKUP_DRIVERS_H

#include "common/dns/dns.h"
#include "common/lang/lookup.h"

struct redis_pool;

struct lookup_env {
	struct dns *dns;              /* dnsdb; lent */
	struct str redis_servers;     /* the option, expanded */
	uint32_t redis_timeout_ms;    /* 0: 5 s */
	struct redis_pool *redis;     /* connections kept; lookup_redis.c */
};
void lookup_env_clear(struct lookup_env *env);

extern const struct lookup_driver *const lookup_drivers[];   /* ended by NULL */
const struct lookup_driver *lookup_driver_find(const char *name);

extern const struct lookup_driver lookup_driver_lsearch, lookup_driver_iplsearch, lookup_driver_dsearch, lookup_driver_lmdb,
	lookup_driver_redis, lookup_driver_dnsdb;

/* What tells that a file was replaced or changed. */
struct lookup_stamp {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
};
bool lookup_stamp_get(int fd, struct lookup_stamp *out);
bool lookup_stamp_differs(const char *path, const struct lookup_stamp *stamp);

/* ---- text files of keys and data (lsearch's form), for the drivers of that family and their fuzz target ---- */
struct text_table;
typedef bool text_entry_fn(void *arg, struct str key, struct str value); /* false: stop */
/* Goes through the entries of a file's text: keys unquoted, values joined over continuation lines; all lent from the arena or text. */
void text_table_each(struct str text, struct arena *a, text_entry_fn *fn, void *arg);
enum { TEXT_TABLE_MAX = 256 * 1024 * 1024 }; /* octets of a file */
enum status text_table_read(struct str path, struct arena *a, struct str *text_out, struct lookup_stamp *stamp_out, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* lookup.h - lookups: the types, how they are written, partial matching and defaults, and what a driver provides.
 * Used by:    the expander and lists (which ask through lang_services.lookup), router (which answers with drivers).
 * Owns:       nothing; a driver's handles belong to router.
 * Errors:     ST_OK found; ST_FAIL not there; ST_DEFER could not look; ST_ERROR wrong file, query or option.
 *
 * A type as written is [partial[N][(affix)]-]TYPE[*|*@][,option...]. policyd sends it so in lookup_ask; router calls
 * lookup_spec_parse(), opens what it names and calls lookup_search(), which does partial matching and defaults over
 * lookup_driver.find(). Values are never tainted; keys may be; files and queries must not be (lookup_check()). */
#ifndef LANG_LOOKUP_H
#define LANG_LOOKUP_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/ipc/codec.h"

enum { LOOKUP_VALUE_MAX = 100000 /* octets, as lookup_answer has it */, LOOKUP_PARTIAL_MAX = 128 /* components */ };

enum lookup_style { LOOKUP_KEY, LOOKUP_QUERY };

enum lookup_flag {
	LOOKUP_FILE = 1,      /* needs the absolute path of a file */
	LOOKUP_DIR = 2,       /* ... of a directory */
	LOOKUP_COLONS = 4,    /* IPv6 addresses as keys keep their colons (iplsearch) */
	LOOKUP_LATER = 8,     /* known to Exim, not in this build */
	LOOKUP_SQL = 16,      /* a query built with tainted text must be quoted by this type's quote operator */
	LOOKUP_OPTFILE = 32,  /* a query type that takes a file (sqlite): file given as option or first word */
	LOOKUP_SERVERS = 64,  /* takes servers=LIST */
	LOOKUP_PATTERNS = 128, /* keys of the file are patterns: searched by the language itself, over the file's text (lookup_wild.c) */
	LOOKUP_ABSENT = 256,  /* its library was not there at build time */
	LOOKUP_STRANGERS = 512, /* what it answers was written by whoever owns the name that is asked for: it is tainted */
	LOOKUP_OF_KEY = 1024, /* what it answers is a part of the key, and as tainted */
};

struct lookup_type {
	const char *name;
	enum lookup_style style;
	unsigned flags;
	/* ${quote_NAME:text}; NULL: the text as it is. ST_ERROR: cannot be quoted. */
	enum status (*quote)(struct arena *a, struct str text, struct str *out, struct err *err);
	const char *what;
};
extern const struct lookup_type lookup_types[];                  /* name NULL behind the last */
const struct lookup_type *lookup_type_find(struct str name);     /* plain name */
const char *lookup_type_nearest(struct str name);

struct lookup_spec {
	const struct lookup_type *type;
	int partial;              /* least number of fixed components; -1: no partial matching */
	struct str affix;         /* "*." unless given */
	bool star, star_at;       /* default key *, and *@domain before it */
	struct str options;       /* behind the first comma, empty: none */
	bool ret_key;             /* ret=key: the value is the key as asked, now untainted */
	bool ret_full;            /* ret=full: more than the value: the line, the path */
	struct str filter;        /* filter=...: for lookups of directories */
	bool no_cache_read, no_cache_write; /* cache=no_rd, no_wr, no */
};
/* ST_ERROR: unknown type (with the nearest), later type, options that a query type cannot have. */
enum status lookup_spec_parse(struct str text, struct lookup_spec *out, struct err *err);
/* All that is tainted of the query has passed the quote operator of type `by`: if that is this type, it may be asked. Not if it begins with
 * servers or a file, in the old form: who quotes for a query has not quoted for those. */
void lookup_query_quoted(const struct lookup_spec *spec, struct str by, struct str *query);
/* Whether a value of the file and a key may be used: paths absolute, no "..", not tainted; queries not tainted. ST_ERROR if not. */
enum status lookup_check(const struct lookup_spec *spec, struct str file, struct str key, struct err *err);

/* ---- drivers: in router, one file each ---- */

struct lookup_result {
	struct str value;         /* in the arena */
	bool dnssec;
	uint32_t ttl_s;           /* how long it, or that there is none, may be kept; 0: not at all, LOOKUP_TTL_FILE: as long as the file does not change */
};
#define LOOKUP_TTL_FILE UINT32_MAX

struct lookup_driver {
	const char *name;         /* of its lookup_type */
	/* Single-key types: opens a file (checked absolute, untainted); *handle_out is kept by router and closed when it has been idle,
	 * the limit of open ones is reached, or changed() says so. Query types: file is empty, and open may be NULL. env is router's own. */
	enum status (*open)(void *env, struct str file, void **handle_out, struct err *err);
	bool (*changed)(void *handle);          /* NULL: never; asked before each use: the file was replaced */
	/* One exact key, or one query. options as written, what the common code took off included. */
	enum status (*find)(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
		struct lookup_result *out, struct err *err);
	void (*close)(void *handle);            /* may be NULL */
	void (*tidy)(void *env);                /* gives back what it keeps between uses (connections); may be NULL */
};

/* The search itself: the key, then partial keys, then *@domain and *, by what the spec says. out->key: the key that matched, as asked. */
enum status lookup_search(const struct lookup_driver *driver, void *env, void *handle, const struct lookup_spec *spec, struct str file,
	struct str key, struct arena *a, struct ipc_lookup_answer *out, struct err *err);
/* One of the options as written ("ret=full"); the text behind "name=" (STR_NULL: not there). For drivers. */
bool lookup_option(struct str options, const char *option);
struct str lookup_option_value(struct str options, const char *name);
/* The same for a single-key type whose keys are patterns, over the file's text. */
struct eval;
enum status lookup_wild(struct eval *ev, const struct lookup_spec *spec, struct str text, struct str key, struct ipc_lookup_answer *out,
	struct err *err);
/* $1 (what the wildcard stands for) and $2 (the rest) of a search with partial keys or defaults; false when none was asked for, or the match
 * was exact and only a default asked for. */
bool lookup_parts(const struct lookup_spec *spec, struct str key, struct str matched, struct str *wild_out, struct str *fixed_out);

/* Questions that policyd asks of router about files, in lookup_ask.type; answered by lookup_internal() there. */
#define LOOKUP_ASK_FILE ".file"   /* key: offset; value: a part of the file, matched: "VERSION SIZE"; options: version that the asker has: value empty if unchanged */
#define LOOKUP_ASK_STAT ".stat"
/* Likewise, for udpsend: file: IP address; options: port; key: what is sent. Answered by router's packet.c. ST_FAIL: it could not be sent. */
#define LOOKUP_ASK_PACKET ".packet"
bool lookup_is_internal(struct str type);
enum status lookup_internal(const struct ipc_lookup_ask *ask, struct arena *a, struct ipc_lookup_answer *out, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* option.h - every option of the configuration, declared once: the option tables.
 * Used by:    the reader, views, check-config, the manual; daemons, for the structs that come from the rows.
 * Owns:       nothing; the tables are constant.
 * Errors:     conf_opts_set(): ST_ERROR with what is wrong with the value and what would be right.
 *
 * Rows stand in options_*.def, one an option, put together in tables.def. From a row come the struct field, parsing,
 * default, bounds, view, line of the manual and predefined macro. To add an option: add its row, nothing else.
 *
 *   BOOL(name, default, see, flags, what)                    field: bool
 *   NUM(name, kind, default, min, max, see, flags, what)     field: int64_t; kind INT, OCTAL, FIXED (thousandths), TIME
 *                                                            (seconds); CONF_NONE when unset without default
 *   TXT(name, kind, default, see, flags, what)               field: struct conf_text; kind TEXT, LIST, DOMAINS, HOSTS,
 *                                                            ADDRS, LOCALS, TIMES, XBOOL, XINT, XTIME, XFIXED
 *   WORD(name, default, words, see, flags, what)             field: struct conf_text, one of "a|b|c"
 *   TXTS(name, kind, see, flags, what)                       field: struct conf_texts; may be given several times
 *   LATER(name, kind, what)      known to Exim, not in this build: using it is an error that says so, but for a host list that is
 *                                empty and a boolean that is false: these switch off what is not there
 *   IGNORED(name, kind, what)    accepted with a warning, does nothing
 *   ALIAS(name, canonical)       an older name, accepted with a warning
 * `default` is written as an administrator would write it; NULL: unset. `see` is the mask of daemons (V_...), master and
 * the command see all. `what` is one line for the manual, without a period. */
#ifndef CONF_OPTION_H
#define CONF_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define CONF_NONE (-1) /* a number that is not set and has no default */

/* Where a value was written. */
struct conf_place {
	uint32_t file; /* index into struct conf's files; see conf_place_format() */
	uint32_t line; /* 0: nowhere (a default) */
};

/* A text option. text is the default while !set; p NULL: unset. Not expanded, not tainted. */
struct conf_text {
	struct str text;
	struct conf_place place;
	bool set; /* the administrator wrote it */
};

struct conf_texts {
	struct conf_text *v;
	uint32_t n;
};

/* Daemons that may see an option. */
enum conf_see {
	V_SMTPD = 1 << 0,
	V_POLICYD = 1 << 1,
	V_ROUTER = 1 << 2,
	V_QMGR = 1 << 3,
	V_SMTP_OUT = 1 << 4,
	V_LOCAL = 1 << 5,
	V_QUEUEFILE = 1 << 6,
	V_KEYD = 1 << 7,
	V_MASTER = 1 << 8, /* sees everything anyway; for rows that nobody else sees */
	V_CTL = 1 << 9,    /* likewise */
	V_QUERY = 1 << 10, /* runs the programs of queryprogram routers */
	V_LANG = V_POLICYD | V_ROUTER,
	V_DAEMONS = 0xff | V_QUERY,
	V_ALL = 0x7ff,
};

enum conf_flag {
	F_SECRET = 1 << 0,   /* never shown without rights, as if `hide` stood before it */
	F_EXP_P = 1 << 1,    /* expanded by policyd */
	F_EXP_R = 1 << 2,    /* expanded by router */
	F_EXP_M = 1 << 3,    /* expanded once, at start: constants only ($primary_hostname and the like) */
	F_REUSE = 1 << 4,    /* part of a connection's identity: deliveries that differ in it share no connection */
	F_PATH = 1 << 5,     /* names a file or directory: absolute */
	F_USER = 1 << 6,     /* (a list of) login names or numbers */
	F_GROUP = 1 << 7,
	F_ACL = 1 << 8,      /* names an ACL, or is one */
	F_TRANSPORT = 1 << 9, /* names a transport */
	F_NAMED_ROUTER = 1 << 10, /* names a router */
	F_OURS = 1 << 11,    /* Exim does not have it */
	F_RESTART = 1 << 12, /* a change takes effect with restart, not with reload */
	F_LATER = 1 << 13,
	F_IGNORED = 1 << 14,
	F_ALIAS = 1 << 15,
	F_REPEAT = 1 << 16,  /* may be given several times */
	F_UNREAD = 1 << 17,  /* accepted, but no daemon acts on it in this build: setting it is a warning */
	F_PENDING = 1 << 18 | F_UNREAD, /* F_UNREAD, but mail must not go on as if it were not set: routers and transports that set it put off */
	F_PER_HOST = 1 << 19, /* expanded for each host of a plan ($host, $host_address, $host_port are its); the values may differ */
	F_KEYD = 1 << 20,    /* names a file that keyd reads: absolute, and never of a stranger's words */
	F_EXPANDED = F_EXP_P | F_EXP_R | F_EXP_M,
};

enum conf_kind {
	CONF_BOOL, CONF_INT, CONF_OCTAL, CONF_FIXED, CONF_TIME,
	CONF_TEXT,    /* any text */
	CONF_WORD,    /* one of the row's words */
	CONF_LIST,    /* string list */
	CONF_DOMAINS, CONF_HOSTS, CONF_ADDRS, CONF_LOCALS, /* domain list, host list, address list, local part list */
	CONF_TIMES,   /* list of times */
	CONF_XBOOL, CONF_XINT, CONF_XTIME, CONF_XFIXED, /* text that gives such a value after expansion; checked at load if it has no $ */
	CONF_KINDS
};

struct conf_option {
	const char *name;       /* NULL behind the last row of a table */
	enum conf_kind kind;
	uint32_t flags, see;
	const char *fallback;   /* the default, as an administrator would write it; NULL: unset */
	const char *what;       /* F_ALIAS: the canonical name */
	int64_t min, max;       /* numbers; both 0: any that is not negative */
	const char *words;      /* CONF_WORD: "a|b|c" */
	size_t offset;          /* of the field in the struct; CONF_NO_FIELD */
};
#define CONF_NO_FIELD SIZE_MAX

struct conf_table {
	const char *name;       /* "main", "router", "router_dnslookup" */
	const char *title;      /* for people: "main section", "routers", "router driver dnslookup" */
	const char *family;     /* of predefined macros: "MAIN", "ROUTERS", "ROUTER_DNSLOOKUP" */
	const struct conf_option *rows;
	uint32_t n;
	size_t size;            /* of the struct */
};

/* struct conf_opts_NAME: a field for every row that has one; struct conf_index_NAME: for CONF_INDEX(); conf_table_NAME. */
#define TABLE(name, title, family) struct conf_opts_##name {
#define TABLE_END(name) };
#define BOOL(name, fallback, see, flags, what) bool name;
#define NUM(name, kind, fallback, min, max, see, flags, what) int64_t name;
#define TXT(name, kind, fallback, see, flags, what) struct conf_text name;
#define WORD(name, fallback, words, see, flags, what) struct conf_text name;
#define TXTS(name, kind, see, flags, what) struct conf_texts name;
#define LATER(name, kind, what)
#define IGNORED(name, kind, what)
#define ALIAS(name, canonical)
#include "common/conf/tables.def"
#include "common/conf/tables_undef.h"

#define TABLE(name, title, family) extern const struct conf_table conf_table_##name; struct conf_index_##name {
#define TABLE_END(name) };
#define BOOL(name, fallback, see, flags, what) char name;
#define NUM(name, kind, fallback, min, max, see, flags, what) char name;
#define TXT(name, kind, fallback, see, flags, what) char name;
#define WORD(name, fallback, words, see, flags, what) char name;
#define TXTS(name, kind, see, flags, what) char name;
#define LATER(name, kind, what) char name;
#define IGNORED(name, kind, what) char name;
#define ALIAS(name, canonical) char name;
#include "common/conf/tables.def"
#include "common/conf/tables_undef.h"

/* The number of a row in its table: CONF_INDEX(main, smtp_banner). */
#define CONF_INDEX(table, option) offsetof(struct conf_index_##table, option)

/* What may have instances. */
enum conf_class { CONF_ROUTERS, CONF_TRANSPORTS, CONF_AUTHENTICATORS, CONF_CLASSES };

struct conf_driver {
	const char *name;              /* NULL behind the last */
	enum conf_class class;
	const struct conf_table *table;
	bool later;                    /* known to Exim, not in this build */
	const char *what;
};

extern const struct conf_driver conf_drivers[];              /* all classes */
extern const struct conf_table *const conf_tables[];         /* all, NULL behind the last */
const struct conf_table *conf_class_table(enum conf_class class); /* the generic options */
const char *conf_class_name(enum conf_class class);          /* "router" */
const struct conf_driver *conf_driver_find(enum conf_class class, struct str name);

const struct conf_option *conf_option_find(const struct conf_table *table, struct str name); /* aliases are followed; NULL: none */
/* The nearest name of a table within reach of a typing error, or NULL. */
const char *conf_option_nearest(const struct conf_table *table, struct str name);
const char *conf_kind_name(enum conf_kind kind);             /* "time", "host list" */

/* The field of the option in a struct conf_opts_NAME; NULL for a row without one. */
static inline void *conf_field(const struct conf_option *option, const void *opts)
{
	return option->offset == CONF_NO_FIELD ? NULL : (char *)opts + option->offset;
}

/* Fills a struct conf_opts_NAME with the defaults; texts lend from the table. */
void conf_opts_init(const struct conf_table *table, void *opts);
/* Sets one option from text (no quotes, no hide), for example what arrived in a plan; allocates from the arena. ST_FAIL: no such
 * option; ST_ERROR: bad value. */
enum status conf_opts_set(const struct conf_table *table, void *opts, struct arena *a, struct str name, struct str value, struct err *err);
/* The value as text, as an administrator would write it; false when unset without default. For F_REPEAT: the first. */
bool conf_opts_get(const struct conf_option *option, const void *opts, struct arena *a, struct str *text_out);

/* The scanners behind the kinds; ST_ERROR with what would be right. */
enum status conf_bool_parse(struct str s, bool *out, struct err *err);          /* yes true no false */
enum status conf_int_parse(struct str s, int64_t *out, struct err *err);        /* decimal, 0x, octal; K M G T */
enum status conf_octal_parse(struct str s, int64_t *out, struct err *err);
enum status conf_fixed_parse(struct str s, int64_t *out, struct err *err);      /* thousandths */
enum status conf_time_parse(struct str s, int64_t *out, struct err *err);       /* 1w2d3h4m5s, seconds */
size_t conf_time_format(char out[32], int64_t seconds);                         /* "1w2d", "0s" */

/* A variable that only the agent knows becomes CONF_LATE_MARK. False: it stands within another item, where the agent can't put it. */
#define CONF_LATE_MARK '\001'
bool conf_late_mark(struct str text, const char *variable, struct arena *a, struct str *out);
/* Does the text ask for itself whether the variable is known ("def:NAME")? Then it may have it anywhere: it is not known yet. */
bool conf_late_guarded(struct str text, const char *variable, struct arena *a);

/* Takes the next item off a list: separator ':' or as "<c" at the start says, doubled for itself, blanks trimmed, an empty last
 * item ignored. Begin with CONF_LIST_WALK(text). The item may be built in the arena. */
struct conf_list_walk {
	struct str rest;
	char sep; /* 0: not begun */
};
#define CONF_LIST_WALK(t) ((struct conf_list_walk){ (t), 0 })
bool conf_list_next(struct conf_list_walk *walk, struct arena *a, struct str *item_out);

#endif

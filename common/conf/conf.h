/* SPDX-License-Identifier: ISC */
/* conf.h - the configuration, read: options, named lists, ACLs, routers, transports, retry and rewriting rules.
 * Used by:    master (reads, checks, makes views), every daemon (loads its view), the command.
 * Owns:       struct conf owns all that hangs off it in its arena, until conf_free().
 * Invariant:  what conf_read() gives without an error is well-formed: numbers in bounds, names unique, drivers known.
 * Errors:     reading collects problems, each with its place, instead of stopping at the first (conf->problems). */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "common/base/hash.h"
#include "common/conf/option.h"
#include "common/ipc/enums.h"

enum {
	CONF_PROBLEMS_MAX = 1000,
	CONF_FILES_MAX = 256,
	CONF_INCLUDE_DEPTH_MAX = 16,
	CONF_IF_DEPTH_MAX = 64,
	CONF_LINE_MAX = 1024 * 1024,        /* octets of a logical line, macros replaced */
	CONF_TOTAL_MAX = 64 * 1024 * 1024,  /* octets read, and octets held */
	CONF_MACROS_MAX = 4096,
	CONF_INSTANCES_MAX = 4096,          /* of one class */
	CONF_LISTS_MAX = 4096,
	CONF_RULES_MAX = 16384,             /* retry, rewrite, statements of an ACL */
	CONF_NAME_MAX = 64,                 /* octets of the name of a list, driver instance, macro or ACL */
};

enum conf_severity { CONF_WARNING = 1, CONF_ERROR };

struct conf_problem {
	enum conf_severity severity;
	struct conf_place place;
	struct str text;                    /* without the place */
};

/* What is known of one option beside its value: struct conf_meta[rows of the table]. */
struct conf_meta {
	struct conf_place place;
	bool set;       /* the administrator wrote it */
	bool hide;      /* `hide` stood before it, or the option is secret */
	bool unseen;    /* this view may not see it: the value is the default, whatever was written */
};

enum conf_list_kind { CONF_LIST_DOMAIN, CONF_LIST_HOST, CONF_LIST_ADDRESS, CONF_LIST_LOCALPART, CONF_LIST_KINDS };

struct conf_list {
	struct str name;                    /* without the + */
	enum conf_list_kind kind;
	struct conf_text value;             /* unexpanded */
	bool cache, hide;
};

struct conf_acl_item {
	struct str name;                    /* condition or modifier as written: "hosts", "set", "verify" */
	bool negated;
	struct str argument;                /* set: the variable's name */
	struct conf_text value;             /* unexpanded; !set for those without "=" (endpass) */
	struct conf_place place;
};

struct conf_statement {
	struct str verb;                    /* accept, defer, deny, discard, drop, require, warn */
	struct conf_place place;
	struct conf_acl_item *items;
	uint32_t n;
};

struct conf_acl {
	struct str name;                    /* empty for one in line */
	struct conf_place place;
	struct conf_statement *statements;
	uint32_t n;
};

/* A router, transport or authenticator. */
struct conf_instance {
	struct str name;
	struct conf_place place;
	const struct conf_driver *driver;
	void *generic;                      /* struct conf_opts_router, _transport or _authenticator */
	void *own;                          /* struct conf_opts_router_dnslookup and so on, as driver->table says */
	struct conf_meta *generic_meta, *own_meta;
	uint32_t index;                     /* in its class, from 0: the order in the file */
};

struct conf_instances {
	struct conf_instance *v;
	uint32_t n;
	struct hash by_name;
};

struct conf_retry_step {
	char kind;                          /* F, G or H */
	int64_t cutoff, interval;           /* seconds */
	int64_t factor;                     /* thousandths; 0 for F */
};

struct conf_retry {
	struct conf_text pattern;           /* address or domain pattern, unexpanded */
	enum retry_error error;             /* RETRY_NONE: "*", any */
	uint16_t code_min, code_max;        /* mail_45x: 450 and 459; others 0 */
	char via;                           /* 'A' or 'M' (refused_MX, timeout_connect_A); 0: either */
	int64_t quota_age;                  /* quota_7d: seconds without a read of the mailbox; -1: any */
	struct conf_text senders;           /* address list; !set: any */
	struct conf_retry_step *steps;      /* none: do not retry */
	uint32_t n;
	struct conf_place place;
};

struct conf_rewrite {
	struct conf_text pattern, replacement;
	struct str flags;                   /* letters, checked against those known */
	struct conf_place place;
};

struct conf_macro {
	struct str name, value;
	bool fixed;                         /* from the command line: definitions in the file are ignored */
};

struct conf {
	struct conf_opts_main main;
	struct conf_meta *main_meta;        /* [conf_table_main.n] */
	struct conf_list *lists;
	uint32_t n_lists;
	struct conf_acl *acls;
	uint32_t n_acls;
	struct conf_instances of[CONF_CLASSES]; /* [CONF_ROUTERS] in the order of the file, and so on */
	struct conf_retry *retry;
	uint32_t n_retry;
	struct conf_rewrite *rewrite;
	uint32_t n_rewrite;
	bool rewrites_args, rewrites_rcpt, rewrites_data; /* rules for arguments of MAIL and RCPT; recipients; sender or header: all may know */

	struct conf_macro *macros;          /* after reading; not in views */
	uint32_t n_macros;
	struct str *files;                  /* names for places; [0] is the main file */
	uint32_t n_files;
	struct conf_problem *problems;
	uint32_t n_problems, n_errors;      /* n_problems at most CONF_PROBLEMS_MAX, n_errors counts on */
	uint32_t seen_by;                   /* V_ALL after reading, the daemon's mask after loading a view */
	uint64_t generation;                /* set by master before it makes views */
	struct hash lists_by_name[CONF_LIST_KINDS], acls_by_name;
	struct arena arena;
};

struct conf *conf_new(void);
void conf_free(struct conf *conf);

/* The struct of a router's (transport's ...) generic options, and of its driver's own: CONF_OWN(r, router_dnslookup)->mx_domains.
 * CONF_OWN is NULL when the instance's driver is another. */
#define CONF_ROUTER(instance) ((const struct conf_opts_router *)(instance)->generic)
#define CONF_TRANSPORT(instance) ((const struct conf_opts_transport *)(instance)->generic)
#define CONF_AUTHENTICATOR(instance) ((const struct conf_opts_authenticator *)(instance)->generic)
#define CONF_OWN(instance, table_name) \
	((const struct conf_opts_##table_name *)((instance)->driver->table == &conf_table_##table_name ? (instance)->own : NULL))

const struct conf_instance *conf_instance_find(const struct conf *conf, enum conf_class class, struct str name);
const struct conf_list *conf_list_find(const struct conf *conf, enum conf_list_kind kind, struct str name);
const struct conf_acl *conf_acl_find(const struct conf *conf, struct str name);
/* The first F_PENDING option that the instance sets, or NULL. */
const struct conf_option *conf_instance_pending(const struct conf_instance *instance, enum conf_class class);
#define conf_main_meta(conf, option) (&(conf)->main_meta[CONF_INDEX(main, option)])

/* "/etc/bulkhead/bulkhead.conf:41"; in the arena. Empty for a default. */
struct str conf_place_format(const struct conf *conf, struct conf_place place, struct arena *a);
/* Adds a problem; the text is formatted into the configuration's arena. Errors beyond the limit are counted only. */
void conf_problem_add(struct conf *conf, enum conf_severity severity, struct conf_place place, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* "FILE:LINE: warning: TEXT" or "FILE:LINE: TEXT". */
struct str conf_problem_format(const struct conf *conf, const struct conf_problem *problem, struct arena *a);

/* Splits ACL statements, one per element of the text's lines (\n), as for an ACL written in line. Meaning is checked by the
 * language, not here: only verbs and the form "name = value". ST_ERROR names the place. */
enum status conf_acl_parse(struct conf *conf, struct arena *a, struct str text, struct conf_place place, struct conf_acl *out, struct err *err);

#endif

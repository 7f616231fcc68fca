/* SPDX-License-Identifier: ISC */
/* read.h - from files to struct conf.
 * Used by:    master, the command, tests.
 * Owns:       the caller owns the struct conf given back, also after errors (it holds the problems).
 * Errors:     ST_ERROR when conf->n_errors is not 0; the problems say what and where. ST_DEFER: a file could not be read now. */
#ifndef CONF_READ_H
#define CONF_READ_H

#include "common/conf/conf.h"

struct conf_define {     /* -D NAME=value */
	const char *name, *value;
};

/* Extra names for predefined macros, from registries above this one: "ACL_", "EXP_ITEM_" ... NULL ends. */
struct conf_macro_family {
	const char *prefix;          /* "_EXP_OP_": the name is put behind it in capitals */
	const char *const *names;    /* NULL behind the last */
};

struct conf_source {
	const char *path;            /* main file */
	const char *text;            /* NULL: read path; otherwise its content (tests, fuzzing) */
	size_t text_len;
	bool isolated;               /* touch nothing else: no .include, no defaults from the machine (tests, fuzzing) */
	const struct conf_define *defines;
	uint32_t n_defines;
	const struct conf_macro_family *families; /* prefix NULL behind the last; may be NULL */
};

/* Reads, parses, fills in the defaults that depend on the machine (primary_hostname, qualify_domain). *conf_out is always set. */
enum status conf_read(const struct conf_source *source, struct conf **conf_out);

/* What the layers above check at load: conf does not know the language. Each may be NULL; each adds problems itself. */
struct conf_checks {
	void *ctx;
	/* an expanded or list option: owner is "main", "router dnslookup1" ... */
	void (*value)(void *ctx, struct conf *conf, const struct conf_option *option, const char *owner, const struct conf_text *text);
	void (*list)(void *ctx, struct conf *conf, const struct conf_list *list);
	void (*acl)(void *ctx, struct conf *conf, const struct conf_acl *acl);
	void (*retry)(void *ctx, struct conf *conf, const struct conf_retry *rule);
	void (*rewrite)(void *ctx, struct conf *conf, const struct conf_rewrite *rule);
};

/* References between parts (transports, routers, ACLs, named lists), ports, surprising settings; then the checks given, for each
 * value. Problems are added to conf. ST_ERROR if it has errors now. */
enum status conf_check(struct conf *conf, const struct conf_checks *checks);
void conf_check_dane(struct conf *conf); /* the part of it that is about DANE */
void conf_check_proxy(struct conf *conf); /* that about hosts_proxy */

/* One rewriting rule, as in the rewrite section: pattern, replacement, flags. For rules in an option. */
enum status conf_rewrite_parse(struct arena *a, struct str line, struct conf_place place, struct conf_rewrite *out, struct err *err);
/* The name of an error as retry rules write it: error, code_min, code_max, via and quota_age are set. */
enum status conf_retry_error_parse(struct str name, struct conf_retry *out, struct err *err);

#endif

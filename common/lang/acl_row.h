/* SPDX-License-Identifier: ISC */
/* acl_row.h - the inside of the ACL engine: compiled statements, the registries' rows, the state of a run.
 * Used by:    acl_*.c only.
 *
 * To add a condition, modifier or control: one row in the acl_ file of its subject, and one function. Compiler, stage checks, errors with
 * the nearest name, manual and completeness test read the row. */
#ifndef LANG_ACL_ROW_H
#define LANG_ACL_ROW_H

#include "common/lang/acl.h"
#include "common/lang/acl_call.h"
#include "common/lang/expand_tree.h"
#include "common/lang/lang_list.h"

#define STAGE(s) (1u << (s))
enum {
	STAGES_ALL = (1u << ACL_STAGES_END) - 2,
	STAGES_NOT_SMTP = STAGE(ACL_NOTSMTP) | STAGE(ACL_NOTSMTP_START) | STAGE(ACL_NOTSMTP_MIME),
	STAGES_SMTP = STAGES_ALL & ~STAGES_NOT_SMTP,
	STAGES_RCPT = STAGE(ACL_RCPT) | STAGE(ACL_PRDR) | STAGE(ACL_VRFY),
	/* a sender is known */
	STAGES_MESSAGE = STAGE(ACL_MAIL) | STAGE(ACL_RCPT) | STAGE(ACL_PREDATA) | STAGE(ACL_MIME) | STAGE(ACL_DKIM) | STAGE(ACL_DATA) | STAGE(ACL_PRDR)
		| STAGES_NOT_SMTP,
	/* the message is there */
	STAGES_CONTENT = STAGE(ACL_MIME) | STAGE(ACL_DKIM) | STAGE(ACL_DATA) | STAGE(ACL_PRDR) | STAGE(ACL_NOTSMTP) | STAGE(ACL_NOTSMTP_MIME),
	STAGES_AFTER_CONNECT = STAGES_SMTP & ~STAGE(ACL_CONNECT),
};

enum acl_verb { VERB_ACCEPT, VERB_DEFER, VERB_DENY, VERB_DISCARD, VERB_DROP, VERB_REQUIRE, VERB_WARN, VERBS };

/* What a statement's conditions gave. */
enum acl_rc { RC_OK, RC_FAIL, RC_FAIL_DROP, RC_DISCARD, RC_DEFER, RC_ERROR,
	RC_NEVER /* a condition: what it stands on is out of reach; the statement is as if it were not there */ };

struct acl_state;
struct acl_item;
struct acl_compiler {
	struct lang *lang;
	struct arena *arena;
};

enum acl_shape {
	SHAPE_TEXT,        /* value is expanded before fn: item->x */
	SHAPE_LIST,        /* value is a list of kind row->list: item->list */
	SHAPE_NONE,        /* endpass */
	SHAPE_OWN,         /* row->compile does all */
};

struct acl_item_row {
	const char *name;
	bool modifier;
	enum acl_shape shape;
	uint32_t stages;
	enum lang_list_kind list;
	/* text: the expanded value (SHAPE_TEXT). Conditions: RC_OK true, RC_FAIL false. Modifiers: RC_OK. */
	enum acl_rc (*fn)(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err);
	enum status (*compile)(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err);
	bool later;
	const char *what;
};

struct acl_item {
	const struct acl_item_row *row;
	bool negated;
	struct conf_place place;
	struct str argument;          /* set: name without acl_ */
	struct expansion *x;
	struct lang_list *list;
	const void *own;              /* of row->compile */
	uint32_t stages;              /* row's, or narrower: by kind of verify or control */
	struct str text;              /* value as written, for traces */
	const char *pending;          /* what it does for want of its feature in this build: a warning at load; NULL: it is served */
	const char *what;             /* "control=freeze": for messages; NULL: the row's name */
};

struct acl_statement {
	enum acl_verb verb;
	struct conf_place place;
	struct acl_item *items;
	uint32_t n;
};

struct acl {
	struct str name;
	struct conf_place place;
	struct acl_statement *statements;
	uint32_t n;
};

struct acl_warned {
	struct acl_warned *next;
	struct str text;
};

/* A run, with all that it calls. */
struct acl_state {
	struct eval *ev;
	enum acl_stage stage;
	uint32_t depth;
	uint64_t delay_ms;
	bool no_reject_log;
	unsigned reject_targets;      /* of log_reject_target; 0: the usual */
	struct ipc_pair *results;     /* added */
	uint32_t n_results, results_room;
	struct acl_warned *warned;    /* lines of warn that have been logged */
	struct eval_vars rates;       /* rates reckoned in this run, by hint */
	/* what the statement at hand has said so far */
	struct str user_text, log_text;
	const struct acl_item *at;    /* for messages */
	struct str verify_lines;      /* why the sender was not verified: stands before whatever refusal comes of it */
};

/* ---- for row functions ---- */

enum acl_rc acl_rc_of(enum status st);
/* One fact to be carried on in `results`; an older one of that name is replaced. */
void acl_result_set(struct acl_state *s, const char *name, struct str value);
struct str acl_result_get(const struct acl_state *s, const char *name);
void acl_edit_add(struct acl_state *s, enum edit_op op, struct str text);
enum acl_rc acl_run_nested(struct acl_state *s, const struct acl *acl, const struct str *args, uint32_t n, struct err *err);
/* Header fields from the value of add_header, or of message on warn. */
enum acl_rc acl_headers_add(struct acl_state *s, struct str text, struct err *err);
void acl_log(struct acl_state *s, unsigned targets, struct str text);
/* ">>> ..." in the log, where it was asked for; each line of the text by itself. */
void acl_trace(struct acl_state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct str acl_client_words(struct acl_state *s); /* "H=name (helo) [ip]", as in the log */
enum acl_rc acl_statements_run(struct acl_state *s, const struct acl *acl, struct err *err);

extern const struct acl_item_row acl_items_address[], acl_items_session[], acl_items_message[], acl_items_verify[], acl_items_control[], acl_items_rate[], acl_items_dnslists[], acl_items_regex[],
	acl_items_content[], acl_items_mime[], acl_items_udpsend[], acl_items_later[], acl_items_pending[];
/* Deferred for want of a feature. */
enum acl_rc acl_pending(struct acl_state *s, const char *what, struct err *err);

/* ---- controls ---- */

struct acl_control_row {
	const char *name;
	uint32_t stages;
	uint64_t set, clear;          /* enum msg_flag */
	bool (*option)(struct str option); /* whether this may stand behind the slash; NULL: nothing may */
	const char *result;           /* the option is carried on with the message, under this name */
	enum acl_rc (*fn)(struct acl_state *s, struct str option, struct err *err);
	bool later;
	const char *what;
	const char *pending;          /* as in struct acl_item */
};
extern const struct acl_control_row acl_controls[];

/* "it can be used in the ACLs mail, rcpt, data" */
const char *acl_stages_words(struct arena *a, uint32_t stages);

/* Checks of a configuration: problems of one ACL, and whether the ACL may stand at a stage. */
void lang_names_check(struct conf *conf, struct conf_place place, struct str text);
/* Warnings of files outside of lookup_directories, store_directories and tls_directories: lang_paths.c */
void lang_paths_check(struct conf *conf, struct conf_place place, struct str text);
void lang_keys_check(struct conf *conf, const struct conf_option *option, const struct conf_text *text);
void lang_store_check(struct conf *conf, const struct conf_option *option, const char *owner, const struct conf_text *text);
void acl_check(struct lang *lang, struct conf *conf, const struct conf_acl *conf_acl);
enum status acl_stage_check(const struct acl *acl, enum acl_stage stage, struct err *err);

#endif

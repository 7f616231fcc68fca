/* SPDX-License-Identifier: ISC */
/* expand_tree.h - the inside of the expander: the compiled tree, the registries' rows, and what row functions may call.
 * Used by:    expand_*.c, exp_*.c only.
 * Owns:       trees live in the arena that they were compiled into.
 *
 * To add an operator, item, condition or variable: one row in the exp_OP_, exp_ITEM_, exp_COND_ or exp_VAR_ file of its subject, and
 * one function. Parser, errors with the nearest name, manual and the completeness test read the row. */
#ifndef LANG_EXPAND_TREE_H
#define LANG_EXPAND_TREE_H

#include "common/lang/expand.h"
#include "common/lang/lang_list.h"

struct node;
struct cond;
struct call;

struct expansion {
	struct node *nodes;
	uint32_t n;
	struct str text;             /* as written */
	struct conf_place place;
	struct str constant;         /* the whole result, when is_constant */
	bool is_constant;
};

enum node_kind { NODE_TEXT, NODE_VARIABLE, NODE_NUMBER, NODE_HEADER, NODE_OPERATOR, NODE_ITEM };

enum header_form { HEADER_DECODED, HEADER_RAW, HEADER_BASIC, HEADER_LIST };

struct node {
	enum node_kind kind;
	uint32_t column;             /* from 1, for messages */
	struct str text;             /* NODE_TEXT; a variable's or header's name */
	const struct var_row *var;
	const struct op_row *op;
	struct expansion *arg;       /* of an operator */
	struct str op_arg;           /* behind the operator's name: "_3_5" without the first underscore */
	bool has_op_arg;
	struct call *call;           /* NODE_ITEM */
	enum header_form form;
	int number;                  /* NODE_NUMBER */
};

/* ---- variables ---- */

enum var_kind {
	VAR_SLOT,      /* ev->slot[index] */
	VAR_FACT,      /* a text in struct ipc_facts at offset index */
	VAR_FACT_U64,  /* a number there */
	VAR_TLS,       /* a pair of facts->tls; key */
	VAR_PROXY,     /* a pair of facts->proxy */
	VAR_RESULT,    /* a pair of facts->results */
	VAR_FN,        /* fn(ev, name) */
	VAR_FAMILY,    /* name is a prefix: fn gets the whole name */
	VAR_LATER,     /* known to Exim, not in this build */
};

struct var_row {
	const char *name;
	enum var_kind kind;
	unsigned deps;               /* enum eval_dep */
	uint32_t index;
	bool clean;                  /* VAR_FACT: not a stranger's text, even though it came with a message */
	const char *key;
	enum status (*fn)(struct eval *ev, struct str name, struct str *out, struct err *err);
	const char *what;
	const char *absent;          /* VAR_TLS, VAR_PROXY, VAR_RESULT: value when there is no such pair; NULL: empty */
};

/* ---- operators: ${name:text}, ${name_arg:text} ---- */

struct op_row {
	const char *name;
	enum status (*fn)(struct eval *ev, const struct node *node, struct str in, struct str *out, struct err *err);
	bool takes_arg;              /* something may follow an underscore behind the name */
	bool later;
	const char *what;
};

/* ---- items: ${name{...}{...}...} ---- */

enum item_flag {
	ITEM_YES_NO = 1,      /* {yes}{no} or {yes}fail follow the arguments; $value is set in them */
	ITEM_LAZY = 2,        /* arguments are not evaluated before fn is called */
	ITEM_LATER = 4,
};

struct item_value {
	struct str text;      /* the result, or $value for the yes string */
	bool found;           /* ITEM_YES_NO: which string */
};

struct parser;
struct item_row {
	const char *name;
	uint8_t min, max;     /* arguments in braces */
	unsigned flags;       /* enum item_flag */
	/* args: evaluated arguments, absent ones STR_NULL; ITEM_LAZY: NULL */
	enum status (*fn)(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err);
	/* What stands between the name and the closing brace, when it isn't just arguments. */
	enum status (*parse)(struct parser *p, struct call *call);
	const char *what;
	const char *instead;   /* ITEM_LATER: why, and what to use; may be NULL */
	const char *usage;     /* what stands behind the name */
};

struct call {
	const struct item_row *row;
	struct expansion *arg[EXPAND_ARGS_MAX];
	uint32_t n;
	struct cond *cond;            /* if, filter */
	struct expansion *yes, *no;   /* NULL: not given */
	bool fail;                    /* the word `fail` stands in place of no */
	const void *own;              /* what the row's parse function keeps */
	struct str word;              /* "json" of extract, and the like */
};

/* ---- conditions ---- */

enum cond_shape {
	COND_NONE,            /* no argument */
	COND_ARGS,            /* n arguments in braces, evaluated */
	COND_ARG_LIST,        /* {text}{list}: the list is not expanded */
	COND_DEF,             /* def:NAME */
	COND_SUBS,            /* {{cond}{cond}...} */
	COND_EACH,            /* {list}{cond} */
	COND_ACL,             /* {{name}{arg}...} */
};

struct cond_row {
	const char *name;
	enum cond_shape shape;
	uint8_t n;
	enum status (*fn)(struct eval *ev, const struct cond *cond, const struct str *args, bool *yes, struct err *err);
	enum lang_list_kind list;     /* COND_ARG_LIST */
	bool later;
	const char *what;
};

struct cond {
	const struct cond_row *row;
	bool negated;
	struct expansion *arg[EXPAND_ARGS_MAX];
	uint32_t n;
	struct cond **subs;           /* COND_SUBS */
	uint32_t n_subs;
	struct cond *body;            /* COND_EACH */
	struct node *def;             /* COND_DEF */
	struct lang_list *list;       /* COND_ARG_LIST */
};

/* ---- parsing, for item_row.parse ---- */

struct parser {
	struct lang *lang;
	struct arena *arena;
	struct str text;
	uint32_t at;
	uint32_t depth;
	struct conf_place place;
	struct err *err;
	bool skipping;       /* only the end is looked for */
};

/* ST_ERROR with "column N: " in front. */
enum status parse_error(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void parse_blanks(struct parser *p);
bool parse_peek(const struct parser *p, char c);
/* Letters, digits and those of `more`; empty if none. */
struct str parse_word(struct parser *p, const char *more);
/* "{text}" into an expansion; ST_ERROR when there is no brace. */
enum status parse_brace(struct parser *p, struct expansion **out);
/* "{text}" as written: its end is where it would be if it were expanded. */
enum status parse_brace_raw(struct parser *p, struct str *out);
/* A text of its own within that of p, as deep as p is. */
enum status parse_text(const struct parser *p, struct str text, struct expansion **out, struct err *err);
/* As many as there are, up to max in all. */
enum status parse_braces(struct parser *p, struct call *call, unsigned min, unsigned max);
/* "{yes}{no}", "{yes}fail" or nothing, up to the closing brace, which is left. */
enum status parse_yes_no(struct parser *p, struct call *call);
enum status parse_condition(struct parser *p, struct cond **out);

/* ---- evaluating, for row functions ---- */

enum status expansion_run(struct eval *ev, const struct expansion *x, struct str *out, struct err *err);
/* For queries: *quoted_out names the lookup type whose quote operator all tainted parts have passed
 * (out stays tainted), or is empty. */
enum status expansion_run_query(struct eval *ev, const struct expansion *x, struct str *out, struct str *quoted_out, struct err *err);
/* The same for lists whose items may be queries: it is empty, too, when a tainted part holds the list's separator, and so might make items. */
enum status expansion_run_list(struct eval *ev, const struct expansion *x, struct str *out, struct str *quoted_out, struct err *err);
enum status cond_run(struct eval *ev, const struct cond *cond, bool *yes, struct err *err);
enum status node_variable(struct eval *ev, const struct var_row *row, struct str name, struct str *out, struct err *err);
/* A number as comparisons want it: blanks around, sign, K M G T, empty is 0. */
enum status expand_number(struct str text, int64_t *out, struct err *err);
/* Texts for messages: cut and printable. */
struct str expand_quote(struct eval *ev, struct str text);

struct nums_saved {
	struct str num[EVAL_NUMS];
	int n;
};
void nums_save(const struct eval *ev, struct nums_saved *to);
void nums_restore(struct eval *ev, const struct nums_saved *from);

/* ---- registries: arrays ended by a NULL name ---- */

extern const struct item_row exp_items_text[], exp_items_list[], exp_items_lookup[], exp_items_code[], exp_items_mail[], exp_items_results[],
	exp_items_run[], exp_items_later[];
extern const struct op_row exp_ops_text[], exp_ops_code[], exp_ops_mail[], exp_ops_net[], exp_ops_number[];
extern const struct cond_row exp_conds_compare[], exp_conds_logic[], exp_conds_match[], exp_conds_world[], exp_conds_mail[], exp_conds_later[];
extern const struct var_row exp_vars_slots[], exp_vars_session[], exp_vars_message[], exp_vars_results[], exp_vars_world[], exp_vars_later[];

struct rows_index;   /* hash tables over them, in struct lang */
const struct item_row *row_item(const struct lang *lang, struct str name);
const struct op_row *row_operator(const struct lang *lang, struct str name);
const struct cond_row *row_condition(const struct lang *lang, struct str name);
/* What an unset slot gives: "0" and the like; NULL: nothing. */
const char *slot_absent(enum eval_slot slot);
const struct var_row *row_variable(const struct lang *lang, struct str name);  /* families too */
const char *row_item_nearest(struct str name);        /* of items and operators; NULL: none near */
const char *row_condition_nearest(struct str name);
const char *row_variable_nearest(struct str name);

#endif

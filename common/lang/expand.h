/* SPDX-License-Identifier: ISC */
/* expand.h - string expansion: compiled once, evaluated often.
 * Used by:    whoever has an option that is expanded.
 * Owns:       compiled expansions live in the arena they were compiled into; results in the context's arena, or are lent from
 *             the compiled text and the facts.
 * Errors:     compiling: ST_ERROR, "column N: what is wrong", with the nearest name for an unknown one.
 *             evaluating: ST_FAIL forced failure ("fail"); ST_DEFER a lookup could not be made now; ST_ERROR the rest.
 * Taint:      a result is tainted when any part of it came from a stranger. */
#ifndef LANG_EXPAND_H
#define LANG_EXPAND_H

#include "common/lang/eval.h"

enum {
	EXPAND_DEPTH_MAX = 100,         /* nested braces */
	EXPAND_TEXT_MAX = 1024 * 1024,  /* octets of a text to compile */
	EXPAND_ARGS_MAX = 16,           /* arguments of one item */
};

/* Into the language's own arena: for options, at load. */
enum status lang_compile(struct lang *lang, struct str text, struct conf_place place, struct expansion **out, struct err *err);
/* Into any arena. */
enum status expansion_compile(struct lang *lang, struct arena *a, struct str text, struct expansion **out, struct err *err);

bool expansion_is_constant(const struct expansion *x);
struct str expansion_text(const struct expansion *x);            /* as written */
struct conf_place expansion_place(const struct expansion *x);
/* Whether the text is exactly $name or ${name} somewhere in it: for options that leave a variable to others. */
bool expansion_mentions(const struct expansion *x, const char *variable);

enum status expand(struct eval *ev, const struct expansion *x, struct str *out, struct err *err);
/* The same, but $name (not inside of an item or operator) stays as it is written: for whoever fills it in later, and often. */
enum status expand_leaving(struct eval *ev, const struct expansion *x, const char *name, struct str *out, struct err *err);
/* Compiles and evaluates; texts of the configuration and of lookups are remembered. A tainted text is refused (ST_ERROR). */
enum status expand_text(struct eval *ev, struct str text, struct str *out, struct err *err);

/* Expansion to a value of a type. An empty result of bool is false; others of "" are errors. */
enum status expand_bool(struct eval *ev, const struct expansion *x, bool *out, struct err *err);    /* as condition =: empty, 0, no, false are false; yes, true, numbers true; else ST_ERROR */
enum status expand_int(struct eval *ev, const struct expansion *x, int64_t *out, struct err *err);  /* K, M, G */
enum status expand_time(struct eval *ev, const struct expansion *x, int64_t *out, struct err *err); /* 1d2h, seconds */

/* One variable by name, without $: ST_FAIL when there is no such variable. */
enum status expand_variable(struct eval *ev, struct str name, struct str *out, struct err *err);

/* The registries, for the manual, predefined macros and tests. Step with i from 0 until false. */
struct lang_row {
	const char *name, *what;
	bool later;                     /* known to Exim, not in this build */
	const char *usage;              /* items: what stands behind the name; NULL else */
	unsigned args;                  /* conditions: arguments in braces; operators: 1 when a number may follow the name */
};
bool expand_item_at(size_t i, struct lang_row *out);
bool expand_operator_at(size_t i, struct lang_row *out);
bool expand_condition_at(size_t i, struct lang_row *out);
bool expand_variable_at(size_t i, struct lang_row *out);
#endif

/* SPDX-License-Identifier: ISC */
/* reader.h - what the files of common/conf share among themselves.
 * Used by:    common/conf only. */
#ifndef CONF_READER_H
#define CONF_READER_H

#include "common/conf/read.h"

/* ---- values: value.c ---- */

enum status conf_number_parse(const struct conf_option *o, struct str s, int64_t *out, struct err *err); /* with bounds */
struct str conf_number_format(enum conf_kind kind, int64_t n, struct arena *a);
/* Literal values of expanded numbers, words, lists of times. */
enum status conf_text_check(const struct conf_option *o, struct str s, struct err *err);
/* Takes a string as options have it off *s: quoted with escapes, or up to the end of the text (word false) or the next blank. */
enum status conf_string_take(struct str *s, bool word, struct arena *a, struct str *out, struct err *err);

/* ---- names near another: option.c ---- */

struct conf_nearest {
	const char *word, *found;
	unsigned distance;
};
void conf_nearest_begin(struct conf_nearest *n, char *word, size_t size, struct str name);
const char *conf_nearest_pick(struct conf_nearest *n, const char *candidate); /* the nearest so far, or NULL */

/* ---- parts of struct conf: conf.c. Names are copied; pointers last until the next _add of their kind. ---- */

struct conf_instance *conf_instance_add(struct conf *conf, enum conf_class class, struct str name, struct conf_place place);
void conf_instance_drive(struct conf *conf, struct conf_instance *i, const struct conf_driver *driver); /* gives it own options */
struct conf_list *conf_list_add(struct conf *conf, enum conf_list_kind kind, struct str name);
struct conf_acl *conf_acl_add(struct conf *conf, struct str name, struct conf_place place);

/* ---- options: option.c ---- */

/* Stores a value into its field, after checking it. The option has a field. */
enum status conf_option_store(const struct conf_option *o, void *opts, struct arena *a, struct str value, struct conf_place place,
	struct err *err);
/* Room for one more behind n elements, in the arena; what was there may be copied. */
void *conf_array_grow(struct arena *a, void *v, uint32_t n, size_t size);

/* ---- logical lines: lines.c ---- */

struct conf_lines;
struct conf_lines *conf_lines_new(struct conf *conf, const struct conf_source *source);
void conf_lines_free(struct conf_lines *l);
/* ST_DEFER, ST_ERROR: the main file cannot be read. */
enum status conf_lines_open(struct conf_lines *l, struct err *err);
/* The next logical line, trimmed, never empty; lent until the next call. False at the end. */
bool conf_lines_next(struct conf_lines *l, struct str *line_out, struct conf_place *place_out);
/* A line "NAME = text" or "NAME == text": defines a macro; problems are added. */
void conf_lines_define(struct conf_lines *l, struct str line, struct conf_place place);
/* Does the line have that form (a capital in front)? */
bool conf_line_is_macro(struct str line);

/* ---- predefined macros: predefined.c ---- */

/* Puts the names into the set (values are not NULL); names are allocated from the arena. */
void conf_predefined_fill(struct hash *set, struct arena *a, const struct conf_macro_family *families);

/* ---- words: word.c ---- */

struct str conf_name_take(struct str *s);                /* letters, digits, _ off the front; blanks behind are skipped */
struct str conf_skip(struct str s);                      /* without the blanks at the front */
bool conf_word_begins(struct str *s, const char *word);  /* takes the word and blanks off, if a blank or the end follows it */
/* ": did you mean "x"?" or nothing; lent until the configuration's end. */
const char *conf_hint(struct conf *conf, const char *nearest);

/* ---- parts of the file: read_main.c, read_driver.c, read_acl.c, read_rules.c ---- */

void conf_main_line(struct conf *conf, struct str line, struct conf_place place);

struct conf_driver_reader {
	enum conf_class class;
	struct conf_instance *current; /* NULL between definitions */
	bool broken;                   /* the definition had no usable name: its lines are passed over */
};
void conf_driver_line(struct conf *conf, struct conf_driver_reader *r, struct str line, struct conf_place place);
void conf_driver_end(struct conf *conf, struct conf_driver_reader *r); /* of a definition */
void conf_driver_hide(struct conf *conf);                /* hide on one instance hides on all of its driver */

/* Where an option line's value may go. */
struct conf_target {
	const struct conf_table *table;
	void *opts;
	struct conf_meta *meta;
};
/* Finds the option of the line in one of the targets, reads its value, stores it. owner is for messages: "router dnslookup1",
 * NULL: the main section. complete is false where a driver is still to be named, whose options are not known yet. */
void conf_option_line(struct conf *conf, const struct conf_target *targets, unsigned n, bool complete, const char *owner,
	struct str line, struct conf_place place);

struct conf_acl_reader {
	struct arena *a;
	struct conf_acl *acl;          /* NULL between definitions; lent until the next conf_acl_add() */
	bool broken;
};
/* A line of an ACL's body. ST_ERROR: *err says what is wrong with it. */
enum status conf_acl_line(struct arena *a, struct conf_acl *acl, struct str line, struct conf_place place, struct err *err);
void conf_acl_section_line(struct conf *conf, struct conf_acl_reader *r, struct str line, struct conf_place place);

void conf_retry_line(struct conf *conf, struct str line, struct conf_place place);
struct str conf_retry_error_format(const struct conf_retry *r, struct arena *a); /* the name as it is written */
void conf_rewrite_line(struct conf *conf, struct str line, struct conf_place place);

/* Fills in what depends on the machine: machine.c. */
void conf_machine_defaults(struct conf *conf);
/* Expands the options that are expanded once, at start. */
void conf_constants_expand(struct conf *conf);
/* Warnings of logins and groups that the machine lacks; an error in never_users. logins.c */
void conf_logins_check(struct conf *conf);

#endif

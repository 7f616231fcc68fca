/* SPDX-License-Identifier: ISC */
/* lang_list.h - domain, host, address, local part and string lists: compiled once, matched often.
 * Used by:    routers' preconditions, ACL conditions, conditions of expansions, host options.
 * Owns:       compiled lists live in the arena they were compiled into.
 * Errors:     compiling: ST_ERROR. Matching: ST_OK in the list, ST_FAIL not in it, ST_DEFER cannot know now, ST_ERROR. A forced
 *             failure while expanding the list is ST_FAIL ("not in it"), as Exim has it. */
#ifndef LANG_LIST_H
#define LANG_LIST_H

#include "common/lang/eval.h"

enum lang_list_kind {
	LIST_DOMAIN = CONF_LIST_DOMAIN, LIST_HOST = CONF_LIST_HOST, LIST_ADDRESS = CONF_LIST_ADDRESS,
	LIST_LOCALPART = CONF_LIST_LOCALPART,
	LIST_STRING,     /* plain words, * and ^regex: authenticated, encrypted */
	LIST_IP,         /* match_ip: a host list without names */
	LANG_LIST_KINDS
};

enum {
	LIST_ITEMS_MAX = 100000,      /* of one list */
	LIST_NESTING_MAX = 20,        /* lists naming lists */
	LIST_CHAIN_MAX = 50,          /* continuations of @@ lookups */
};

struct lang_list_match {
	struct str data;              /* of a lookup, or the item that matched; for a named list, of the item within it */
	struct str item;              /* the item as written */
};

/* What a list is matched with; give what the kind needs. */
struct list_subject {
	struct str text;              /* domain, address (without brackets), local part, word, or a host's IP address */
	struct str host_name;         /* host lists: name if known */
	bool no_client;               /* host lists: the host is not the client, so its name is not looked up from the facts */
	bool caseful;                 /* addresses and local parts: from the start */
};

enum status lang_list_compile(struct lang *lang, enum lang_list_kind kind, struct str text, struct conf_place place, struct lang_list **out, struct err *err);
/* Into any arena; expand false: the text is taken as it is (match_domain's second argument, lists from a file). */
enum status lang_list_build(struct lang *lang, struct arena *a, enum lang_list_kind kind, struct str text, bool expand, struct lang_list **out, struct err *err);
/* A named list, compiled; ST_FAIL with the nearest name when there is none. */
enum status lang_list_named(struct lang *lang, enum lang_list_kind kind, struct str name, struct lang_list **out, struct err *err);

enum status lang_list_match(struct eval *ev, const struct lang_list *list, const struct list_subject *subject, struct lang_list_match *match_out, struct err *err);

/* The usual cases. match_out may be NULL. */
enum status lang_domain_match(struct eval *ev, const struct lang_list *list, struct str domain, struct lang_list_match *match_out, struct err *err);
enum status lang_address_match(struct eval *ev, const struct lang_list *list, struct str address, struct lang_list_match *match_out, struct err *err);
enum status lang_local_part_match(struct eval *ev, const struct lang_list *list, struct str local_part, bool caseful, struct lang_list_match *match_out, struct err *err);
enum status lang_client_match(struct eval *ev, const struct lang_list *list, struct lang_list_match *match_out, struct err *err); /* the client of the facts */
enum status lang_ip_match(struct eval *ev, const struct lang_list *list, struct str ip, struct lang_list_match *match_out, struct err *err); /* any host by address (ignore_target_hosts) */

/* Splits a list: separator as "<c" says (colon), doubled for itself, blanks trimmed, an empty last item ignored. Items are built in
 * the arena only where a separator was doubled; taint is kept. Begin with LANG_SPLIT(text). */
struct lang_split {
	struct str rest;
	char sep;        /* 0: not begun; then the separator in use */
};
#define LANG_SPLIT(t) ((struct lang_split){ (t), 0 })
bool lang_split_next(struct lang_split *split, struct arena *a, struct str *item_out);
char lang_split_separator(struct str text);
/* Appends an item to a list text, separators in it doubled. */
bool lang_split_add(struct buf *b, char sep, struct str item, bool first);

#endif

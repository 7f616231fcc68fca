/* SPDX-License-Identifier: ISC */
/* list_priv.h - the inside of lists; for list_*.c only. */
#ifndef LANG_LIST_PRIV_H
#define LANG_LIST_PRIV_H

#include "common/lang/lang_ask.h"
#include "common/lang/lang_ip.h"
#include "common/lang/lang_list.h"

enum item_kind {
	ITEM_EMPTY,       /* nothing: matches an empty subject */
	ITEM_ANY,         /* * */
	ITEM_LITERAL,
	ITEM_RUN,         /* many literals, sorted; domain lists */
	ITEM_TAIL,        /* *tail */
	ITEM_REGEX,       /* ^... */
	ITEM_FILE,        /* /path */
	ITEM_LOOKUP,      /* type;file or type;query */
	ITEM_NAMED,       /* +name */
	ITEM_SELF,        /* @ */
	ITEM_SELF_IP,     /* @[] */
	ITEM_MX,          /* @mx_any and kin */
	ITEM_NET,         /* address or network */
	ITEM_NET_LOOKUP,  /* net-type;file, net24-type;file */
	ITEM_HOST_NAME,   /* name whose addresses are looked up */
	ITEM_SWITCH,      /* +include_unknown, +caseful ... */
	ITEM_ADDRESS,     /* local@domain */
	ITEM_AT_AT,       /* @@lookup */
	ITEM_BROKEN,      /* cannot be understood: an error when it is reached */
};

enum item_switch { SWITCH_INCLUDE_UNKNOWN, SWITCH_IGNORE_UNKNOWN, SWITCH_INCLUDE_DEFER, SWITCH_IGNORE_DEFER, SWITCH_CASEFUL };
enum mx_want { MX_ANY, MX_PRIMARY, MX_SECONDARY };

struct list_item {
	enum item_kind kind;
	bool negated;
	struct str text;            /* as written, without ! */
	struct str part;            /* tail, pattern, path, host name, local part of an address */
	struct lookup_spec spec;
	struct str type, file, key; /* lookups: type as written; file, or query in key */
	struct ip_net net;
	int net_bits;               /* net24-: 24; -1: no mask */
	enum item_switch which;
	enum mx_want mx;
	struct lang_list *sub;      /* named list, ignore list, sorted run's own is in run */
	struct list_item *domain;   /* ITEM_ADDRESS: pattern of the domain */
	struct str *run;            /* ITEM_RUN: sorted, caseless */
	uint32_t n_run;
	const char *broken;
};

struct lang_list {
	enum lang_list_kind kind;
	struct str text, name;
	struct conf_place place;
	struct expansion *x;        /* when it is not constant */
	struct list_item *items;
	uint32_t n;
	bool last_negated;
	bool cache;                 /* domainlist_cache ...: expanded, but remembered all the same */
	bool costly;                /* asks the world: results are remembered within a context */
	struct str quoted_by;       /* text is tainted, but all of it that is has passed this type's quote operator */
};

/* Where a match stands. */
struct list_run {
	struct eval *ev;
	const struct lang_list *list;
	const struct list_subject *subject;
	struct str text;            /* subject; domains and caseless local parts in lower case */
	bool caseful;
	bool include_unknown, ignore_unknown, include_defer, ignore_defer;
	bool unknown;               /* the last item needed something that does not exist */
	bool data_set;
	struct lang_list_match *out;
	struct err *err;
};

/* Items of a text into list->items. lines: one a line, # begins a comment, no files (the content of a file). */
enum status list_items_build(struct lang *lang, struct arena *a, struct lang_list *list, struct str text, bool lines, struct err *err);
enum status list_item_parse(struct lang *lang, struct arena *a, enum lang_list_kind kind, struct str text, struct list_item *out, struct err *err);

/* Each: ST_OK matches, ST_FAIL does not; run->unknown when information was missing. */
enum status item_match_text(struct list_run *run, const struct list_item *item, struct str text, bool caseful);
enum status item_match_domain(struct list_run *run, const struct list_item *item, struct str domain);
enum status item_match_host(struct list_run *run, const struct list_item *item);
enum status item_match_address(struct list_run *run, const struct list_item *item);
enum status item_match_lookup(struct list_run *run, const struct list_item *item, struct str key, struct str *value_out);
enum status list_run_items(struct list_run *run, const struct lang_list *list);
void list_run_data(struct list_run *run, struct str data, struct str item);

#endif

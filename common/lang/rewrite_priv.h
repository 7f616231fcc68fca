/* SPDX-License-Identifier: ISC */
/* rewrite_priv.h - the inside of rewriting rules; for rewrite*.c only. */
#ifndef LANG_REWRITE_PRIV_H
#define LANG_REWRITE_PRIV_H

#include "common/lang/expand_tree.h"
#include "common/lang/rewrite.h"

struct rewrite_rule {
	unsigned kinds;               /* of addresses that it is for */
	unsigned number;              /* from 1 */
	bool quit, qualify, repeat, whole, stop;
	struct str pattern_text;
	struct lang_list *pattern;
	struct expansion *smtp;       /* flag S: a regular expression in place of the pattern */
	struct expansion *replacement;
};

struct rewrite {
	struct rewrite_rule *v;
	uint32_t n;
	unsigned kinds;
};

/* False: nothing changed. *whole_out: the whole item (flag w), or nothing. */
bool rewrite_run(struct eval *ev, const struct rewrite *rules, enum rewrite_kind kind, struct str address, struct str *address_out, struct str *whole_out);

/* An address item with another address in the place of its own. */
struct str rewrite_item_put(struct arena *a, struct str item, struct str address);

#endif

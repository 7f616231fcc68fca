/* SPDX-License-Identifier: ISC */
/* text_table.h - files of keys and values, a line each (lsearch's form).
 * Used by:    router's lsearch and iplsearch; wildlsearch and nwildlsearch (lookup_wild.c); their fuzz target.
 * Owns:       nothing: entries are lent from the text, or from the arena where they had to be put together.
 * Errors:     none: every text has this form. */
#ifndef LANG_TEXT_TABLE_H
#define LANG_TEXT_TABLE_H

#include "common/base/mem.h"
#include "common/base/str.h"

struct text_entry {
	struct str key;      /* unquoted */
	struct str gap;      /* what stands between key and value */
	struct str value;    /* continuation lines joined by one blank */
};
typedef bool text_entry_fn(void *arg, const struct text_entry *entry); /* false: stop */
void text_table_each(struct str text, struct arena *a, text_entry_fn *fn, void *arg);
struct str text_entry_full(struct arena *a, const struct text_entry *entry); /* ret=full: key, gap, value */

#endif

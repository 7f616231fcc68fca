/* SPDX-License-Identifier: ISC */
/* lang_priv.h - the inside of struct lang; for common/lang only. */
#ifndef LANG_LANG_PRIV_H
#define LANG_LANG_PRIV_H

#include "common/base/hash.h"
#include "common/lang/acl.h"
#include "common/lang/lang.h"
#include "common/lang/lang_regex.h"

struct lang {
	const struct conf *conf;
	struct lang_services services;
	struct arena arena;
	struct hash items, operators, conditions, variables;   /* registries by name */
	struct hash acl_items, acl_controls;
	struct hash lists[CONF_LIST_KINDS];  /* name: struct named_list */
	struct hash acls;                    /* name: struct acl */
	struct hash acl_texts;               /* in-line ACLs by their text, in the arena; bounded by LANG_TEXTS_MAX */
	struct hash texts;                   /* text: struct expansion, in texts_arena */
	struct hash list_texts;              /* kind and text: struct lang_list, in texts_arena */
	struct arena texts_arena;
	uint32_t n_texts;
	const struct rewrite *rewrite;       /* the rewrite section's, once compiled */
	bool rewrite_compiled;
	uint64_t log_selector;               /* as the configuration has it */
	struct regex_cache regexes;
	uint32_t active;                     /* contexts in use: what they use is not dropped */
};

void lang_rows_index(struct lang *lang);  /* expand_rows.c */
void lang_acl_index(struct lang *lang);   /* acl_rows.c */
void lang_rows_clear(struct lang *lang);
void lang_texts_drop(struct lang *lang);

#endif

/* SPDX-License-Identifier: ISC */
/* Names of the language for predefined macros: what is there can be asked for with .ifdef. */
#include <string.h>

#include "common/lang/acl.h"
#include "common/lang/lang.h"
#include "common/lang/lookup.h"

/* Exim's families keep conditions and modifiers apart; _ACL_ has both. */
static bool of_kind(bool modifier, size_t i, struct lang_row *out)
{
	struct acl_page_row row;

	for (size_t k = 0; acl_condition_at(k, out); k++) {
		bool is_modifier = false;

		for (size_t m = 0; !is_modifier && acl_page_at(ACL_PAGE_MODIFIERS, m, &row); m++)
			is_modifier = !strcmp(row.name, out->name);
		if (is_modifier == modifier && !i--)
			return true;
	}
	return false;
}

static bool condition_at(size_t i, struct lang_row *out) { return of_kind(false, i, out); }
static bool modifier_at(size_t i, struct lang_row *out) { return of_kind(true, i, out); }

static bool lookup_at(size_t i, struct lang_row *out)
{
	const struct lookup_type *t = &lookup_types[i];

	if (t->name)
		*out = (struct lang_row){ t->name, t->what, t->flags & (LOOKUP_LATER | LOOKUP_ABSENT) };
	return t->name;
}

static const struct {
	const char *prefix;
	bool (*at)(size_t i, struct lang_row *out);
} families[] = {
	{ "_EXP_ITEM_", expand_item_at }, { "_EXP_OP_", expand_operator_at }, { "_EXP_COND_", expand_condition_at }, { "_EXP_VAR_", expand_variable_at },
	{ "_ACL_", acl_condition_at }, { "_ACL_CONTROL_", acl_control_at }, { "_ACL_COND_", condition_at },
	{ "_ACL_MOD_", modifier_at }, { "_HAVE_LOOKUP_", lookup_at },
};
enum { FAMILIES = sizeof families / sizeof *families };

static bool is_name(const char *s)
{
	for (; *s; s++)
		if (!ascii_is_alnum(*s) && *s != '_')
			return false;
	return true;
}

static const char **names(struct arena *a, bool (*at)(size_t i, struct lang_row *out))
{
	struct lang_row row;
	const char **v;
	size_t n = 0, k = 0;

	while (at(n, &row))
		n++;
	v = arena_alloc(a, sizeof *v * (n + 1));
	for (size_t i = 0; at(i, &row); i++)
		if (!row.later && is_name(row.name)) /* "<=" can't be part of a macro's name */
			v[k++] = row.name;
	return v;
}

const struct conf_macro_family *lang_macro_families(struct arena *a)
{
	struct conf_macro_family *v = arena_alloc(a, sizeof *v * (FAMILIES + 1));

	for (size_t i = 0; i < FAMILIES; i++)
		v[i] = (struct conf_macro_family){ families[i].prefix, names(a, families[i].at) };
	return v;
}

/* SPDX-License-Identifier: ISC */
/* Names of the language for predefined macros: what is there can be asked for with .ifdef. */
#include "common/lang/acl.h"
#include "common/lang/lang.h"

static const struct {
	const char *prefix;
	bool (*at)(size_t i, struct lang_row *out);
} families[] = {
	{ "_EXP_ITEM_", expand_item_at }, { "_EXP_OP_", expand_operator_at }, { "_EXP_COND_", expand_condition_at }, { "_EXP_VAR_", expand_variable_at },
	{ "_ACL_", acl_condition_at }, { "_ACL_CONTROL_", acl_control_at },
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

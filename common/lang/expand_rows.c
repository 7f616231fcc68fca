/* SPDX-License-Identifier: ISC */
/* The registries: arrays gathered, names found by hash, the nearest name for one that is none. */
#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"

static const struct item_row *const item_files[] = { exp_items_text, exp_items_list, exp_items_lookup, exp_items_code, exp_items_mail,
	exp_items_results, exp_items_run, exp_items_later };
static const struct op_row *const op_files[] = { exp_ops_text, exp_ops_code, exp_ops_mail, exp_ops_net, exp_ops_number };
static const struct cond_row *const cond_files[] = { exp_conds_compare, exp_conds_logic, exp_conds_match, exp_conds_world, exp_conds_mail,
	exp_conds_later };
static const struct var_row *const var_files[] = { exp_vars_slots, exp_vars_session, exp_vars_message, exp_vars_results, exp_vars_world, exp_vars_later };

#define FILES(list) (sizeof (list) / sizeof *(list))

/* The ith row over all files of a registry; NULL behind the last. */
#define ROWS_AT(type, files) \
	static const struct type *type##_at(size_t i) \
	{ \
		for (size_t f = 0; f < FILES(files); f++) \
			for (const struct type *r = files[f]; r->name; r++) \
				if (!i--) \
					return r; \
		return NULL; \
	}
ROWS_AT(item_row, item_files)
ROWS_AT(op_row, op_files)
ROWS_AT(cond_row, cond_files)
ROWS_AT(var_row, var_files)

#define ROWS_INDEX(type, table) \
	for (size_t f = 0; f < FILES(table##_files); f++) \
		for (const struct type *r = table##_files[f]; r->name; r++)

void lang_rows_index(struct lang *lang)
{
	ROWS_INDEX(item_row, item)
		hash_put(&lang->items, str_of(r->name), (void *)r);
	ROWS_INDEX(op_row, op)
		hash_put(&lang->operators, str_of(r->name), (void *)r);
	ROWS_INDEX(cond_row, cond)
		hash_put(&lang->conditions, str_of(r->name), (void *)r);
	ROWS_INDEX(var_row, var)
		hash_put(&lang->variables, str_of(r->name), (void *)r);
}

void lang_rows_clear(struct lang *lang)
{
	hash_clear(&lang->items);
	hash_clear(&lang->operators);
	hash_clear(&lang->conditions);
	hash_clear(&lang->variables);
}

const struct item_row *row_item(const struct lang *lang, struct str name) { return hash_get(&lang->items, name); }
const struct op_row *row_operator(const struct lang *lang, struct str name) { return hash_get(&lang->operators, name); }
const struct cond_row *row_condition(const struct lang *lang, struct str name) { return hash_get(&lang->conditions, name); }

/* acl_c_foo, acl_m3, r_bar: the family's row. */
static const struct var_row *family_find(const struct lang *lang, struct str name)
{
	static const char *const families[] = { "acl_c", "acl_m", "r_" };

	for (size_t i = 0; i < FILES(families); i++) {
		struct str rest = str_from(name, str_of(families[i]).len);

		if (str_begins(name, families[i]) && rest.len && (families[i][0] == 'r' || ascii_is_digit(rest.p[0]) || rest.p[0] == '_'))
			return hash_get(&lang->variables, str_of(families[i]));
	}
	return NULL;
}

const struct var_row *row_variable(const struct lang *lang, struct str name)
{
	const struct var_row *row = hash_get(&lang->variables, name);

	if (row && row->kind == VAR_FAMILY)
		return NULL;
	return row ? row : family_find(lang, name);
}

/* ---- nearest names ---- */

struct nearest {
	char word[65];
	const char *name;
	unsigned distance;
};

static void nearest_begin(struct nearest *n, struct str name)
{
	uint32_t len = name.len < sizeof n->word - 1 ? name.len : sizeof n->word - 1;

	for (uint32_t i = 0; i < len; i++)
		n->word[i] = name.p[i];
	n->word[len] = '\0';
	n->name = NULL;
	/* Within reach of a slip of the fingers: a third of the word. */
	n->distance = len / 3 + 2;
}

static void nearest_try(struct nearest *n, const char *name)
{
	unsigned d = str_distance(n->word, name);

	if (d < n->distance) {
		n->distance = d;
		n->name = name;
	}
}

const char *row_item_nearest(struct str name)
{
	struct nearest n;

	nearest_begin(&n, name);
	ROWS_INDEX(item_row, item)
		nearest_try(&n, r->name);
	ROWS_INDEX(op_row, op)
		nearest_try(&n, r->name);
	return n.name;
}

const char *row_condition_nearest(struct str name)
{
	struct nearest n;

	nearest_begin(&n, name);
	ROWS_INDEX(cond_row, cond)
		nearest_try(&n, r->name);
	return n.name;
}

const char *row_variable_nearest(struct str name)
{
	struct nearest n;

	nearest_begin(&n, name);
	ROWS_INDEX(var_row, var)
		nearest_try(&n, r->name);
	return n.name;
}

/* ---- for the manual and tests ---- */

bool expand_item_at(size_t i, struct lang_row *out)
{
	const struct item_row *r = item_row_at(i);

	if (r)
		*out = (struct lang_row){ r->name, r->what, r->flags & ITEM_LATER, r->usage, r->max };
	return r;
}

bool expand_operator_at(size_t i, struct lang_row *out)
{
	const struct op_row *r = op_row_at(i);

	if (r)
		*out = (struct lang_row){ r->name, r->what, r->later, NULL, r->takes_arg };
	return r;
}

static const char *cond_usage(const struct cond_row *r)
{
	switch (r->shape) {
	case COND_NONE:
		return "";
	case COND_ARGS:
		return r->n == 1 ? "{text}" : "{text}{text}";
	case COND_ARG_LIST:
		return "{text}{list}";
	case COND_DEF:
		return ":variable";
	case COND_SUBS:
		return "{{condition}{condition}...}";
	case COND_EACH:
		return "{list}{condition}";
	case COND_ACL:
		return "{{name}{argument}...}";
	}
	return "";
}

bool expand_condition_at(size_t i, struct lang_row *out)
{
	const struct cond_row *r = cond_row_at(i);

	if (r)
		*out = (struct lang_row){ r->name, r->what, r->later, cond_usage(r), r->n };
	return r;
}

bool expand_variable_at(size_t i, struct lang_row *out)
{
	const struct var_row *r = var_row_at(i);

	if (r)
		*out = (struct lang_row){ r->name, r->what, r->kind == VAR_LATER };
	return r;
}

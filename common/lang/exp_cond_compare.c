/* SPDX-License-Identifier: ISC */
/* Conditions that compare texts and numbers. */
#include "common/lang/expand_tree.h"

static enum status numbers(const struct str *args, int64_t *x, int64_t *y, struct err *err)
{
	enum status st = expand_number(args[0], x, err);

	return st ? st : expand_number(args[1], y, err);
}

#define COND_NUMBER(name, op) \
	static enum status cond_##name(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err) \
	{ \
		int64_t x, y; \
		enum status st = numbers(args, &x, &y, err); \
		(void)ev; \
		(void)c; \
		*yes = !st && x op y; \
		return st; \
	}
COND_NUMBER(num_eq, ==)
COND_NUMBER(num_lt, <)
COND_NUMBER(num_le, <=)
COND_NUMBER(num_gt, >)
COND_NUMBER(num_ge, >=)

#define COND_TEXT(name, compare, op) \
	static enum status cond_##name(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err) \
	{ \
		(void)ev; \
		(void)c; \
		(void)err; \
		*yes = compare(args[0], args[1]) op 0; \
		return ST_OK; \
	}
COND_TEXT(eq, str_cmp, ==)
COND_TEXT(eqi, str_cmpi, ==)
COND_TEXT(lt, str_cmp, <)
COND_TEXT(lti, str_cmpi, <)
COND_TEXT(le, str_cmp, <=)
COND_TEXT(lei, str_cmpi, <=)
COND_TEXT(gt, str_cmp, >)
COND_TEXT(gti, str_cmpi, >)
COND_TEXT(ge, str_cmp, >=)
COND_TEXT(gei, str_cmpi, >=)

/* Digits as in a C program: any number but 0 is true. */
static bool is_number(struct str s)
{
	if (s.len && s.p[0] == '-')
		s = str_from(s, 1);
	for (uint32_t i = 0; i < s.len; i++)
		if (!ascii_is_digit(s.p[i]))
			return false;
	return s.len;
}

static bool is_zero(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (ascii_is_digit(s.p[i]) && s.p[i] != '0')
			return false;
	return true;
}

static enum status cond_bool(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str s = str_trim(args[0]);

	(void)c;
	if (!s.len || str_isi(s, "false") || str_isi(s, "no"))
		*yes = false;
	else if (str_isi(s, "true") || str_isi(s, "yes"))
		*yes = true;
	else if (is_number(s))
		*yes = !is_zero(s);
	else
		return err_set(err, ST_ERROR, "unrecognised boolean value \"%.*s\"", STR_FMT(expand_quote(ev, s)));
	return ST_OK;
}

static enum status cond_bool_lax(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str s = str_trim(args[0]);

	(void)ev;
	(void)c;
	(void)err;
	*yes = s.len && !str_isi(s, "false") && !str_isi(s, "no") && !str_is(s, "0");
	return ST_OK;
}

const struct cond_row exp_conds_compare[] = {
	{ "=", COND_ARGS, 2, cond_num_eq, 0, false, "two numbers are equal" },
	{ "==", COND_ARGS, 2, cond_num_eq, 0, false, "two numbers are equal" },
	{ "<", COND_ARGS, 2, cond_num_lt, 0, false, "the first number is less" },
	{ "<=", COND_ARGS, 2, cond_num_le, 0, false, "the first number is less or equal" },
	{ ">", COND_ARGS, 2, cond_num_gt, 0, false, "the first number is greater" },
	{ ">=", COND_ARGS, 2, cond_num_ge, 0, false, "the first number is greater or equal" },
	{ "eq", COND_ARGS, 2, cond_eq, 0, false, "two texts are equal" },
	{ "eqi", COND_ARGS, 2, cond_eqi, 0, false, "two texts are equal, case apart" },
	{ "lt", COND_ARGS, 2, cond_lt, 0, false, "the first text sorts before the second" },
	{ "lti", COND_ARGS, 2, cond_lti, 0, false, "the first text sorts before the second, case apart" },
	{ "le", COND_ARGS, 2, cond_le, 0, false, "the first text sorts before the second or is equal" },
	{ "lei", COND_ARGS, 2, cond_lei, 0, false, "the first text sorts before the second or is equal, case apart" },
	{ "gt", COND_ARGS, 2, cond_gt, 0, false, "the first text sorts behind the second" },
	{ "gti", COND_ARGS, 2, cond_gti, 0, false, "the first text sorts behind the second, case apart" },
	{ "ge", COND_ARGS, 2, cond_ge, 0, false, "the first text sorts behind the second or is equal" },
	{ "gei", COND_ARGS, 2, cond_gei, 0, false, "the first text sorts behind the second or is equal, case apart" },
	{ "bool", COND_ARGS, 1, cond_bool, 0, false, "the text is true, yes or a number that is not 0" },
	{ "bool_lax", COND_ARGS, 1, cond_bool_lax, 0, false, "the text is neither empty nor false, no or 0" },
	{ NULL }
};

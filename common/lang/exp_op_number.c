/* SPDX-License-Identifier: ISC */
/* Operators of arithmetic and time. */
#include "common/lang/expand_tree.h"

#include <string.h>
#include <sys/random.h>

enum { EVAL_PARENS_MAX = 100 };

/* ---- eval: a recursive descent over the text, priorities as in C ---- */

struct arith {
	struct str s;
	uint32_t at;
	bool decimal;          /* eval10 */
	uint32_t depth;
	const char *wrong;     /* NULL: all is well */
};

static void arith_blanks(struct arith *a)
{
	while (a->at < a->s.len && ascii_is_space(a->s.p[a->at]))
		a->at++;
}

static bool arith_take(struct arith *a, const char *op)
{
	arith_blanks(a);
	if (!str_begins(str_from(a->s, a->at), op))
		return false;
	a->at += str_of(op).len;
	return true;
}

static int64_t arith_binary(struct arith *a, unsigned level);

static int64_t arith_number(struct arith *a)
{
	static const char units[] = "KMG";
	unsigned base = 10, digits = 0;
	uint64_t v = 0;
	ptrdiff_t unit;

	if (!a->decimal && a->at < a->s.len && a->s.p[a->at] == '0') {
		base = 8;
		if (a->at + 1 < a->s.len && ascii_lower(a->s.p[a->at + 1]) == 'x') {
			base = 16;
			a->at += 2;
		}
	}
	for (; a->at < a->s.len; a->at++, digits++) {
		char c = ascii_lower(a->s.p[a->at]);
		unsigned d = ascii_is_digit(c) ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 99;

		if (d >= base)
			break;
		if (v > ((uint64_t)INT64_MAX - d) / base) {
			a->wrong = "number too large";
			return 0;
		}
		v = v * base + d;
	}
	if (!digits) {
		a->wrong = "expecting number or opening parenthesis";
		return 0;
	}
	unit = a->at < a->s.len ? str_find(STR_LIT(units), ascii_upper(a->s.p[a->at])) : -1;
	if (unit >= 0) {
		a->at++;
		if (v > (uint64_t)INT64_MAX >> (10 * (unit + 1))) {
			a->wrong = "number too large";
			return 0;
		}
		v <<= 10 * (unit + 1);
	}
	return (int64_t)v;
}

static int64_t arith_unary(struct arith *a)
{
	int64_t v;

	if (++a->depth > EVAL_PARENS_MAX) {
		a->wrong = "nested too deeply";
		return 0;
	}
	arith_blanks(a);
	if (arith_take(a, "+"))
		v = arith_unary(a);
	else if (arith_take(a, "-"))
		v = (int64_t)-(uint64_t)arith_unary(a);
	else if (arith_take(a, "~"))
		v = ~arith_unary(a);
	else if (arith_take(a, "(")) {
		v = arith_binary(a, 0);
		if (!a->wrong && !arith_take(a, ")"))
			a->wrong = "expecting closing parenthesis";
	} else {
		v = arith_number(a);
	}
	a->depth--;
	return v;
}

static int64_t arith_divide(struct arith *a, int64_t x, int64_t y, bool rest)
{
	if (!y) {
		a->wrong = rest ? "modulo by zero" : "divide by zero";
		return 0;
	}
	if (y == -1) /* the one quotient that overflows is the largest number, as Exim has it */
		return rest ? 0 : x == INT64_MIN ? INT64_MAX : -x;
	return rest ? x % y : x / y;
}

enum arith_op { ADD, SUBTRACT, MULTIPLY };

static int64_t arith_checked(struct arith *a, enum arith_op op, int64_t x, int64_t y)
{
	int64_t out = 0;
	bool over = op == ADD ? __builtin_add_overflow(x, y, &out) : op == SUBTRACT ? __builtin_sub_overflow(x, y, &out)
		: __builtin_mul_overflow(x, y, &out);

	if (over && !a->wrong)
		a->wrong = op == MULTIPLY ? "overflow in product" : "overflow in sum";
	return out;
}

static int64_t arith_shift(int64_t x, int64_t y, bool left)
{
	if (y < 0 || y > 63)
		return left || x >= 0 ? 0 : -1;
	return left ? (int64_t)((uint64_t)x << y) : x >> y;
}

/* Levels, lowest first: | ^ & shift sum product. */
static int64_t arith_binary(struct arith *a, unsigned level)
{
	int64_t x;

	if (a->wrong)
		return 0;
	if (level == 6)
		return arith_unary(a);
	x = arith_binary(a, level + 1);
	while (!a->wrong) {
		if (level == 0 && arith_take(a, "|"))
			x |= arith_binary(a, 1);
		else if (level == 1 && arith_take(a, "^"))
			x ^= arith_binary(a, 2);
		else if (level == 2 && arith_take(a, "&"))
			x &= arith_binary(a, 3);
		else if (level == 3 && arith_take(a, "<<"))
			x = arith_shift(x, arith_binary(a, 4), true);
		else if (level == 3 && arith_take(a, ">>"))
			x = arith_shift(x, arith_binary(a, 4), false);
		else if (level == 4 && arith_take(a, "+"))
			x = arith_checked(a, ADD, x, arith_binary(a, 5));
		else if (level == 4 && arith_take(a, "-"))
			x = arith_checked(a, SUBTRACT, x, arith_binary(a, 5));
		else if (level == 5 && arith_take(a, "*"))
			x = arith_checked(a, MULTIPLY, x, arith_binary(a, 6));
		else if (level == 5 && arith_take(a, "/"))
			x = arith_divide(a, x, arith_binary(a, 6), false);
		else if (level == 5 && arith_take(a, "%"))
			x = arith_divide(a, x, arith_binary(a, 6), true);
		else
			break;
	}
	return x;
}

static enum status arith_run(struct eval *ev, const struct node *n, struct str in, bool decimal, struct str *out, struct err *err)
{
	struct arith a = { .s = in, .decimal = decimal };
	int64_t v = arith_binary(&a, 0);

	arith_blanks(&a);
	if (!a.wrong && a.at < in.len)
		a.wrong = "expecting operator";
	if (a.wrong)
		return err_set(err, ST_ERROR, "error in expression evaluation: %s (after processing \"%.*s\") in %s", a.wrong,
			STR_FMT(expand_quote(ev, str_sub(in, 0, a.at))), n->op->name);
	*out = str_printf(ev->arena, "%lld", (long long)v);
	return ST_OK;
}

static enum status op_eval(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	return arith_run(ev, n, in, false, out, err);
}

static enum status op_eval10(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	return arith_run(ev, n, in, true, out, err);
}

static enum status op_randint(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t max;
	uint64_t r;

	(void)n;
	if (!in.len || expand_number(in, &max, err) || max < 0)
		return err_set(err, ST_ERROR, "randint: a number of 0 or more expected");
	if (getrandom(&r, sizeof r, 0) != sizeof r)
		return err_set(err, ST_ERROR, "randint: no random numbers");
	ev->deps |= DEP_TIME;
	*out = str_printf(ev->arena, "%llu", (unsigned long long)(max ? r % (uint64_t)max : 0));
	return ST_OK;
}

static enum status op_time_eval(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t v;

	(void)n;
	if (str_trim(in).len != in.len || conf_time_parse(in, &v, err))
		return err_set(err, ST_ERROR, "\"%.*s\" is not a time interval", STR_FMT(expand_quote(ev, in)));
	*out = str_printf(ev->arena, "%lld", (long long)v);
	return ST_OK;
}

static enum status op_time_interval(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	char text[32];
	uint64_t v;
	size_t len;

	(void)n;
	if (!in.len)
		v = 0;
	else if (!str_u64(in, INT64_MAX, &v))
		return err_set(err, ST_ERROR, "time_interval: \"%.*s\" is no number of seconds", STR_FMT(expand_quote(ev, in)));
	len = conf_time_format(text, (int64_t)v);
	*out = str_dup(ev->arena, str_make(text, len));
	return ST_OK;
}

const struct op_row exp_ops_number[] = {
	{ "eval", op_eval, false, false, "the result of arithmetic; numbers are decimal, octal (0...) or hexadecimal (0x...), with K, M or G behind" },
	{ "eval10", op_eval10, false, false, "the result of arithmetic; numbers are decimal, with K, M or G behind" },
	{ "randint", op_randint, false, false, "a random number below the one given" },
	{ "time_eval", op_time_eval, false, false, "an interval like 1d2h as a number of seconds" },
	{ "time_interval", op_time_interval, false, false, "a number of seconds as an interval like 1d2h" },
	{ NULL }
};

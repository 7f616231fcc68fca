/* SPDX-License-Identifier: ISC */
/* Items on lists: map, filter, reduce, sort, listextract, listquote. */
#include "common/lang/expand_tree.h"

#include <stdlib.h>

enum { SORT_MAX = 20000 /* elements */, NUMBERS_MAX = 100000 /* elements that listextract counts */ };

/* Runs over the list text with $item set to each element. */
struct each {
	struct eval *ev;
	struct lang_split split;
	struct str before;      /* $item around the run */
	struct buf out;
	uint32_t n;
	bool tainted;
};

static void each_begin(struct each *e, struct eval *ev, struct str list)
{
	*e = (struct each){ .ev = ev, .split = LANG_SPLIT(list), .before = ev->slot[EV_item], .out = BUF_LIMIT(EVAL_LENGTH_MAX) };
	e->tainted = list.tainted;
}

static bool each_next(struct each *e, struct str *item_out, enum status *st, struct err *err)
{
	*st = eval_step(e->ev, 1, err);
	if (*st || !lang_split_next(&e->split, e->ev->arena, item_out))
		return false;
	e->ev->slot[EV_item] = *item_out;
	return true;
}

static void each_add(struct each *e, struct str item)
{
	lang_split_add(&e->out, e->split.sep, item, !e->n++);
	e->tainted |= item.tainted;
}

/* The list built, $item as before. */
static enum status each_end(struct each *e, enum status st, struct str *out, struct err *err)
{
	e->ev->slot[EV_item] = e->before;
	if (!st && e->out.full)
		st = err_set(err, ST_ERROR, "list longer than %d octets", EVAL_LENGTH_MAX);
	if (!st) {
		*out = str_dup(e->ev->arena, buf_str(&e->out));
		out->tainted = e->tainted;
	}
	buf_clear(&e->out);
	return st;
}

static enum status item_map(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str list, item, made;
	struct each e;
	enum status st = expansion_run(ev, call->arg[0], &list, err);

	(void)args;
	if (st)
		return st;
	each_begin(&e, ev, list);
	while (!st && each_next(&e, &item, &st, err)) {
		st = expansion_run(ev, call->arg[1], &made, err);
		if (!st)
			each_add(&e, made);
	}
	return each_end(&e, st, &out->text, err);
}

static enum status parse_filter(struct parser *p, struct call *call)
{
	enum status st = parse_braces(p, call, 1, 1);

	if (st)
		return st;
	parse_blanks(p);
	if (!parse_peek(p, '{'))
		return parse_error(p, "\"{\" expected before the condition of \"filter\"");
	p->at++;
	st = parse_condition(p, &call->cond);
	if (st)
		return st;
	parse_blanks(p);
	if (!parse_peek(p, '}'))
		return parse_error(p, "\"}\" expected behind the condition of \"filter\"");
	p->at++;
	return ST_OK;
}

static enum status item_filter(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str list, item;
	struct each e;
	bool yes;
	enum status st = expansion_run(ev, call->arg[0], &list, err);

	(void)args;
	if (st)
		return st;
	each_begin(&e, ev, list);
	while (!st && each_next(&e, &item, &st, err)) {
		st = cond_run(ev, call->cond, &yes, err);
		if (!st && yes)
			each_add(&e, item);
	}
	return each_end(&e, st, &out->text, err);
}

static enum status item_reduce(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str list, item, value, before = ev->slot[EV_value];
	struct each e;
	enum status st = expansion_run(ev, call->arg[0], &list, err);

	(void)args;
	if (!st)
		st = expansion_run(ev, call->arg[1], &value, err);
	if (st)
		return st;
	each_begin(&e, ev, list);
	ev->slot[EV_value] = value;
	while (!st && each_next(&e, &item, &st, err)) {
		st = expansion_run(ev, call->arg[2], &value, err);
		if (!st)
			ev->slot[EV_value] = value;
	}
	ev->slot[EV_value] = before;
	st = each_end(&e, st, &out->text, err);
	out->text = value;
	return st;
}

/* ---- sort ---- */

static enum status parse_sort(struct parser *p, struct call *call)
{
	static const char *const known[] = { "<", "<=", ">", ">=", "lt", "le", "gt", "ge", "lti", "lei", "gti", "gei" };
	enum status st = parse_braces(p, call, 3, 3);
	const struct cond_row *row;

	if (st)
		return st;
	if (!call->arg[1]->is_constant)
		return parse_error(p, "the comparison of \"sort\" must be a constant");
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (str_is(call->arg[1]->constant, known[i])) {
			row = row_condition(p->lang, str_of(known[i]));
			call->own = row;
			return ST_OK;
		}
	return parse_error(p, "\"sort\" compares by < <= > >= lt le gt ge lti lei gti gei");
}

struct sort_entry {
	struct str item, key;
};

/* Merge sort: stable (backwards for <= and its like), and content with a comparison that can fail. */
static enum status sort_merge(struct eval *ev, const struct cond_row *row, struct sort_entry *v, struct sort_entry *tmp, uint32_t n, struct err *err)
{
	uint32_t half = n / 2, i = 0, j = half, k = 0;
	enum status st;

	if (n < 2)
		return ST_OK;
	st = sort_merge(ev, row, v, tmp, half, err);
	if (!st)
		st = sort_merge(ev, row, v + half, tmp, n - half, err);
	while (!st && i < half && j < n) {
		struct str args[2] = { v[j].key, v[i].key }; /* does the later one belong before? With <= of equal ones it does, as in Exim. */
		bool before;

		st = eval_step(ev, 1, err);
		if (!st)
			st = row->fn(ev, NULL, args, &before, err);
		if (!st)
			tmp[k++] = before ? v[j++] : v[i++];
	}
	if (st)
		return st;
	while (i < half)
		tmp[k++] = v[i++];
	while (j < n)
		tmp[k++] = v[j++];
	for (i = 0; i < n; i++)
		v[i] = tmp[i];
	return ST_OK;
}

static enum status item_sort(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct sort_entry *v = NULL;
	uint32_t n = 0, room = 0;
	struct str list, item;
	struct each e;
	enum status st = expansion_run(ev, call->arg[0], &list, err);

	(void)args;
	if (st)
		return st;
	each_begin(&e, ev, list);
	while (!st && each_next(&e, &item, &st, err)) {
		if (n == SORT_MAX) {
			st = err_set(err, ST_ERROR, "\"sort\" takes no more than %d elements", SORT_MAX);
			break;
		}
		if (n == room) {
			room = room ? room * 2 : 64;
			v = mem_resize(v, sizeof *v * room);
		}
		v[n].item = item;
		st = expansion_run(ev, call->arg[2], &v[n++].key, err);
	}
	if (!st && n) {
		struct sort_entry *tmp = mem_new(sizeof *tmp * n);

		st = sort_merge(ev, call->own, v, tmp, n, err);
		mem_free(tmp);
	}
	for (uint32_t i = 0; !st && i < n; i++)
		each_add(&e, v[i].item);
	mem_free(v);
	return each_end(&e, st, &out->text, err);
}

/* ---- listextract, listquote ---- */

static enum status item_listextract(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(args[1]);
	struct str item, number = str_trim(args[0]);
	int64_t want, n = 0;
	struct err why = ERR_INIT;

	(void)call;
	if (!number.len || expand_number(number, &want, &why) || ascii_is_alpha(number.p[number.len - 1]))
		return err_set(err, ST_ERROR, "first argument of \"listextract\" is no number: \"%.*s\"", STR_FMT(str_sub(number, 0, 60)));
	if (want < 0) {
		while (n < NUMBERS_MAX && lang_split_next(&split, ev->arena, &item))
			n++;
		want += n + 1;
		split = LANG_SPLIT(args[1]);
		n = 0;
	}
	while (want > 0 && lang_split_next(&split, ev->arena, &item)) {
		enum status st = eval_step(ev, 1, err);

		if (st)
			return st;
		if (++n == want) {
			out->text = item;
			out->found = true;
			break;
		}
	}
	return ST_OK;
}

static enum status item_listquote(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	enum status st = ST_OK;
	char sep;

	(void)call;
	if (args[0].len != 1)
		return err_set(err, ST_ERROR, "the separator of \"listquote\" must be one octet");
	sep = args[0].p[0];
	if (!args[1].len) {
		out->text = (struct str){ " ", 1, args[1].tainted };
		return ST_OK;
	}
	for (uint32_t i = 0; i < args[1].len; i++) {
		buf_addc(&b, args[1].p[i]);
		if (args[1].p[i] == sep)
			buf_addc(&b, sep);
	}
	if (b.full)
		st = err_set(err, ST_ERROR, "result of \"listquote\" longer than %d octets", EVAL_LENGTH_MAX);
	else {
		out->text = str_dup(ev->arena, buf_str(&b));
		out->text.tainted = args[1].tainted;
	}
	buf_clear(&b);
	return st;
}

const struct item_row exp_items_list[] = {
	{ "map", 2, 2, ITEM_LAZY, item_map, NULL,
		"the list of what the text gives for each element, which is $item",
		.usage = "{list}{text}" },
	{ "filter", 1, 1, ITEM_LAZY, item_filter, parse_filter,
		"the list of the elements, each of them $item, for which the condition holds",
		.usage = "{list}{condition}" },
	{ "reduce", 3, 3, ITEM_LAZY, item_reduce, NULL,
		"the last value: the text is expanded for each element ($item), and becomes $value for the next",
		.usage = "{list}{first value}{text}" },
	{ "sort", 3, 3, ITEM_LAZY, item_sort, parse_sort,
		"the list in order: the key is expanded for each element ($item), keys are compared by < <= > >= lt le gt ge lti lei gti gei",
		.usage = "{list}{comparison}{key}" },
	{ "listextract", 2, 2, ITEM_YES_NO, item_listextract, NULL,
		"one element of a list, counted from 1, or from the end if negative; $value in the first string",
		.usage = "{number}{list}{yes}{no}" },
	{ "listquote", 2, 2, 0, item_listquote, NULL,
		"the text with its separators doubled, fit to be an element of a list",
		.usage = "{separator}{text}" },
	{ NULL }
};

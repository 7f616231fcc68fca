/* SPDX-License-Identifier: ISC */
/* From tree to text. */
#include "common/lang/expand_tree.h"

#include <string.h>

#include "common/lang/lang_header.h"
#include "common/lang/lang_priv.h"

enum { PIECES_ON_STACK = 16, QUOTE_MAX = 120 };

enum status eval_step(struct eval *ev, uint32_t steps, struct err *err)
{
	if (ev->steps + steps < ev->steps || (ev->steps += steps) > EVAL_STEPS_MAX)
		return err_set(err, ST_ERROR, "expansion takes more than %d steps", EVAL_STEPS_MAX);
	/* Results live as long as the context: a long text for each item of a long list adds up. */
	if (ev->arena->used > ev->memory_from && ev->arena->used - ev->memory_from > EVAL_MEMORY_MAX)
		return err_set(err, ST_ERROR, "expansion takes more than %d octets of memory", EVAL_MEMORY_MAX);
	return ST_OK;
}

struct str expand_quote(struct eval *ev, struct str text)
{
	struct str s = str_dup(ev->arena, str_sub(text, 0, QUOTE_MAX));
	char *p = (char *)s.p;

	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
			p[i] = '?';
	return s;
}

void nums_save(const struct eval *ev, struct nums_saved *to)
{
	to->n = ev->n_num;
	memcpy(to->num, ev->num, sizeof *to->num * (size_t)ev->n_num);
}

void nums_restore(struct eval *ev, const struct nums_saved *from)
{
	ev->n_num = from->n;
	memcpy(ev->num, from->num, sizeof *from->num * (size_t)from->n);
}

/* ---- variables ---- */

static bool pair_find(const struct ipc_pair *v, uint32_t n, const char *key, struct str *out)
{
	for (uint32_t i = 0; i < n; i++)
		if (str_is(v[i].name, key)) {
			*out = v[i].value;
			out->tainted = v[i].tainted;
			return true;
		}
	return false;
}

static struct str pair_value(const struct ipc_pair *v, uint32_t n, const struct var_row *row)
{
	struct str s;

	return pair_find(v, n, row->key, &s) ? s : str_of(row->absent);
}

struct str eval_result(const struct eval *ev, const char *name)
{
	struct str s = STR_NULL;

	if (!pair_find(ev->results, ev->n_results, name, &s))
		pair_find(ev->facts->results, ev->facts->n_results, name, &s);
	return s;
}

/* Facts that we made ourselves, or the kernel: addresses, ids, names of protocols. What does not look like one is taken for a stranger's, who
 * may have got hold of the daemon that says it. */
static bool fact_is_plain(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!ascii_is_alnum(s.p[i]) && !(s.p[i] && strchr(".:-_%", s.p[i])))
			return false;
	return str_find_str(s, STR_LIT("..")) < 0;
}

enum status node_variable(struct eval *ev, const struct var_row *row, struct str name, struct str *out, struct err *err)
{
	const char *field = (const char *)ev->facts + row->index;

	ev->deps |= row->deps;
	switch (row->kind) {
	case VAR_SLOT:
		*out = ev->slot[row->index];
		if (!out->p)
			*out = str_of(slot_absent((enum eval_slot)row->index));
		return ST_OK;
	case VAR_FACT:
		*out = *(const struct str *)(const void *)field;
		out->tainted = !row->clean || !fact_is_plain(*out);
		return ST_OK;
	case VAR_FACT_U64:
		*out = str_printf(ev->arena, "%llu", *(const unsigned long long *)(const void *)field);
		return ST_OK;
	case VAR_TLS:
		*out = pair_value(ev->facts->tls, ev->facts->n_tls, row);
		return ST_OK;
	case VAR_PROXY:
		*out = pair_value(ev->facts->proxy, ev->facts->n_proxy, row);
		return ST_OK;
	case VAR_RESULT:
		*out = eval_result(ev, row->key);
		if (!out->p)
			*out = str_of(row->absent);
		return ST_OK;
	case VAR_FN:
	case VAR_FAMILY:
		*out = STR_NULL;
		return row->fn(ev, name, out, err);
	case VAR_LATER:
		break;
	}
	return err_set(err, ST_ERROR, "variable \"$%.*s\" is known to Exim, not implemented", STR_FMT(name));
}

enum status expand_variable(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	const struct var_row *row = row_variable(ev->lang, name);

	*out = STR_NULL;
	if (!row)
		return err_set(err, ST_FAIL, "unknown variable \"$%.*s\"", STR_FMT(str_sub(name, 0, QUOTE_MAX)));
	return node_variable(ev, row, name, out, err);
}

/* ---- items ---- */

static enum status call_args(struct eval *ev, const struct call *call, struct str *args, struct err *err)
{
	for (uint32_t i = 0; i < EXPAND_ARGS_MAX; i++)
		args[i] = STR_NULL;
	for (uint32_t i = 0; i < call->n; i++) {
		enum status st = expansion_run(ev, call->arg[i], &args[i], err);

		if (st)
			return st;
	}
	return ST_OK;
}

/* The yes or no string of an item whose value is known; $value and $1... are the item's while it runs. */
static enum status call_choose(struct eval *ev, const struct call *call, const struct item_value *v, struct str *out, struct err *err)
{
	struct str before = ev->slot[EV_value];
	enum status st = ST_OK;

	*out = STR_NULL;
	if (v->found) {
		if (!call->yes) {
			*out = v->text;
			return ST_OK;
		}
		ev->slot[EV_value] = v->text;
		st = expansion_run(ev, call->yes, out, err);
		ev->slot[EV_value] = before;
	} else if (call->fail) {
		st = err_set(err, ST_FAIL, "\"%s\" failed and \"fail\" requested", call->row->name);
	} else if (call->no) {
		st = expansion_run(ev, call->no, out, err);
	}
	return st;
}

static enum status call_run(struct eval *ev, const struct call *call, struct str *out, struct err *err)
{
	struct str args[EXPAND_ARGS_MAX];
	struct item_value value = { STR_NULL, false };
	struct nums_saved nums;
	enum status st = ST_OK;

	if (!(call->row->flags & ITEM_LAZY))
		st = call_args(ev, call, args, err);
	if (st)
		return st;
	if (!(call->row->flags & ITEM_YES_NO)) {
		st = call->row->fn(ev, call, args, &value, err);
		*out = value.text;
		return st;
	}
	nums_save(ev, &nums);
	st = call->row->fn(ev, call, args, &value, err);
	if (!st)
		st = call_choose(ev, call, &value, out, err);
	nums_restore(ev, &nums);
	return st;
}

/* ---- conditions ---- */

enum status cond_run(struct eval *ev, const struct cond *cond, bool *yes, struct err *err)
{
	struct str args[EXPAND_ARGS_MAX];
	enum status st = eval_step(ev, 1, err);

	*yes = false;
	/* A condition evaluates the lists that it tries things on, or other conditions, itself. */
	if (cond->row->shape == COND_ARGS || cond->row->shape == COND_EACH || cond->row->shape == COND_ACL)
		for (uint32_t i = 0; !st && i < cond->n; i++)
			st = expansion_run(ev, cond->arg[i], &args[i], err);
	else if (cond->row->shape == COND_ARG_LIST && !st)
		st = expansion_run(ev, cond->arg[0], &args[0], err);
	if (!st)
		st = cond->row->fn(ev, cond, args, yes, err);
	if (!st && cond->negated)
		*yes = !*yes;
	return st;
}

/* ---- the whole ---- */

static enum status node_run(struct eval *ev, const struct node *n, struct str *out, struct err *err)
{
	enum status st = ST_OK;

	*out = STR_NULL;
	switch (n->kind) {
	case NODE_TEXT:
		*out = n->text;
		return ST_OK;
	case NODE_NUMBER:
		if (n->number < ev->n_num)
			*out = ev->num[n->number];
		return ST_OK;
	case NODE_VARIABLE:
		if (ev->leave && ev->depth == ev->leave_depth && str_is(n->text, ev->leave)) {
			*out = str_printf(ev->arena, "$%s", ev->leave);
			return ST_OK;
		}
		return node_variable(ev, n->var, n->text, out, err);
	case NODE_HEADER:
		return header_value(ev, n->text, n->form, out, err);
	case NODE_OPERATOR: {
		struct str in;

		st = expansion_run(ev, n->arg, &in, err);
		if (!st)
			st = n->op->fn(ev, n, in, out, err);
		return st;
	}
	case NODE_ITEM:
		return call_run(ev, n->call, out, err);
	}
	return err_set(err, ST_ERROR, "broken expansion");
}

/* How far a tainted piece of a query can be trusted. */
struct quoting {
	struct str by;
	bool broken;       /* a tainted piece has passed no quote operator, or another one */
	bool octets[256];  /* those of tainted pieces */
};

static void quoting_see(struct quoting *q, const struct node *n, struct str piece)
{
	if (!piece.tainted)
		return;
	for (uint32_t i = 0; i < piece.len; i++)
		q->octets[(unsigned char)piece.p[i]] = true;
	if (n->kind != NODE_OPERATOR || !n->has_op_arg || strcmp(n->op->name, "quote") || (q->by.len && !str_eq(q->by, n->op_arg)))
		q->broken = true;
	else
		q->by = n->op_arg;
}

static enum status expansion_join(struct eval *ev, const struct expansion *x, struct str *pieces, struct quoting *quoting, struct str *out,
	struct err *err)
{
	uint64_t total = 0;
	bool tainted = false;
	uint32_t filled = 0, last = 0;
	char *p;

	for (uint32_t i = 0; i < x->n; i++) {
		enum status st = node_run(ev, &x->nodes[i], &pieces[i], err);

		if (st)
			return st;
		if (quoting)
			quoting_see(quoting, &x->nodes[i], pieces[i]);
		total += pieces[i].len;
		tainted |= pieces[i].tainted;
		if (pieces[i].len) {
			filled++;
			last = i;
		}
		if (total > EVAL_LENGTH_MAX)
			return err_set(err, ST_ERROR, "expansion longer than %d octets", EVAL_LENGTH_MAX);
	}
	/* Mostly empty: no copy. */
	if (filled <= 1) {
		*out = filled ? pieces[last] : (struct str){ "", 0, false };
		out->tainted = tainted;
		return ST_OK;
	}
	p = arena_alloc(ev->arena, total + 1);
	*out = str_make(p, total);
	out->tainted = tainted;
	for (uint32_t i = 0; i < x->n; i++) {
		if (pieces[i].len)
			memcpy(p, pieces[i].p, pieces[i].len);
		p += pieces[i].len;
	}
	return ST_OK;
}

static enum status expansion_eval(struct eval *ev, const struct expansion *x, struct quoting *quoting, struct str *out, struct err *err)
{
	struct str few[PIECES_ON_STACK];
	enum status st;

	if (x->is_constant) {
		*out = x->constant;
		return ST_OK;
	}
	*out = STR_NULL;
	st = eval_step(ev, x->n, err);
	if (st)
		return st;
	if (++ev->depth > EVAL_DEPTH_MAX + EXPAND_DEPTH_MAX) {
		st = err_set(err, ST_ERROR, "expansions nested too deeply");
	} else if (x->n == 1) {
		st = node_run(ev, &x->nodes[0], out, err);
		if (!st && quoting)
			quoting_see(quoting, &x->nodes[0], *out);
		if (!st && out->len > EVAL_LENGTH_MAX)
			st = err_set(err, ST_ERROR, "expansion longer than %d octets", EVAL_LENGTH_MAX);
	} else {
		st = expansion_join(ev, x, x->n <= PIECES_ON_STACK ? few : arena_alloc(ev->arena, sizeof *few * x->n), quoting, out, err);
	}
	ev->depth--;
	return st;
}

enum status expansion_run(struct eval *ev, const struct expansion *x, struct str *out, struct err *err)
{
	return expansion_eval(ev, x, NULL, out, err);
}

enum status expansion_run_query(struct eval *ev, const struct expansion *x, struct str *out, struct str *quoted_out, struct err *err)
{
	struct quoting quoting = { .by = STR_NULL };
	enum status st = expansion_eval(ev, x, &quoting, out, err);

	*quoted_out = quoting.broken ? STR_NULL : quoting.by;
	return st;
}

enum status expansion_run_list(struct eval *ev, const struct expansion *x, struct str *out, struct str *quoted_out, struct err *err)
{
	struct quoting quoting = { .by = STR_NULL };
	enum status st = expansion_eval(ev, x, &quoting, out, err);

	/* Quoting keeps a text within its place in a query, not within its item of a list. */
	if (!st && quoting.octets[(unsigned char)lang_split_separator(*out)])
		quoting.broken = true;
	*quoted_out = quoting.broken ? STR_NULL : quoting.by;
	return st;
}

enum status expand(struct eval *ev, const struct expansion *x, struct str *out, struct err *err)
{
	return expansion_run(ev, x, out, err);
}

enum status expand_leaving(struct eval *ev, const struct expansion *x, const char *name, struct str *out, struct err *err)
{
	enum status st;

	ev->leave = name;
	ev->leave_depth = ev->depth + 1;
	st = expansion_run(ev, x, out, err);
	ev->leave = NULL;
	return st;
}

enum status expand_text(struct eval *ev, struct str text, struct str *out, struct err *err)
{
	struct lang *lang = ev->lang;
	struct expansion *x;
	enum status st;

	*out = STR_NULL;
	if (text.tainted)
		return err_set(err, ST_ERROR, "attempt to expand tainted text \"%.*s\": take it from a lookup, or from a list that it matches", STR_FMT(expand_quote(ev, text)));
	if (ev->depth > EVAL_DEPTH_MAX)
		return err_set(err, ST_ERROR, "expansions nested too deeply");
	x = hash_get(&lang->texts, text);
	if (!x) {
		bool keep = lang->n_texts < LANG_TEXTS_MAX;

		st = expansion_compile(lang, keep ? &lang->texts_arena : ev->arena, text, &x, err);
		if (st)
			return st;
		if (keep) {
			hash_put(&lang->texts, x->text, x);
			lang->n_texts++;
		}
	}
	ev->depth++;
	st = expansion_run(ev, x, out, err);
	ev->depth--;
	return st;
}

bool expansion_is_constant(const struct expansion *x) { return x->is_constant; }
struct str expansion_text(const struct expansion *x) { return x->text; }
struct conf_place expansion_place(const struct expansion *x) { return x->place; }

bool expansion_mentions(const struct expansion *x, const char *variable)
{
	for (uint32_t i = 0; i < x->n; i++)
		if (x->nodes[i].kind == NODE_VARIABLE && str_is(x->nodes[i].text, variable))
			return true;
	return false;
}

/* ---- typed results ---- */

enum status expand_number(struct str text, int64_t *out, struct err *err)
{
	static const char units[] = "KMG";
	struct str s = str_trim(text);
	bool negative = false;
	uint64_t v, scale = 1;
	ptrdiff_t unit;

	*out = 0;
	if (!s.len)
		return ST_OK;
	if (s.p[0] == '-' || s.p[0] == '+') {
		negative = s.p[0] == '-';
		s = str_from(s, 1);
	}
	unit = s.len ? str_find(STR_LIT(units), ascii_upper(s.p[s.len - 1])) : -1;
	if (unit >= 0) {
		scale = (uint64_t)1 << (10 * (unit + 1));
		s.len--;
	}
	if (!str_u64(s, (uint64_t)INT64_MAX / scale + (negative && scale == 1), &v))
		return err_set(err, ST_ERROR, "\"%.*s\" is no number, or too large", STR_FMT(str_sub(text, 0, QUOTE_MAX)));
	*out = negative ? (int64_t)-(v * scale) : (int64_t)(v * scale);
	return ST_OK;
}

enum status expand_bool(struct eval *ev, const struct expansion *x, bool *out, struct err *err)
{
	struct str text, s;
	uint64_t n;
	enum status st = expansion_run(ev, x, &text, err);

	*out = false;
	if (st)
		return st;
	s = str_trim(text);
	if (!s.len || str_isi(s, "no") || str_isi(s, "false"))
		return ST_OK;
	*out = true;
	if (str_isi(s, "yes") || str_isi(s, "true"))
		return ST_OK;
	if (s.p[0] == '-')
		s = str_from(s, 1);
	if (!str_u64(s, UINT64_MAX, &n))
		return err_set(err, ST_ERROR, "\"%.*s\" is not a truth value", STR_FMT(expand_quote(ev, text)));
	*out = n != 0;
	return ST_OK;
}

enum status expand_int(struct eval *ev, const struct expansion *x, int64_t *out, struct err *err)
{
	struct str text;
	enum status st = expansion_run(ev, x, &text, err);

	*out = 0;
	if (!st && !str_trim(text).len)
		return err_set(err, ST_ERROR, "a number expected, the expansion is empty");
	return st ? st : expand_number(text, out, err);
}

enum status expand_time(struct eval *ev, const struct expansion *x, int64_t *out, struct err *err)
{
	struct str text;
	enum status st = expansion_run(ev, x, &text, err);

	*out = 0;
	return st ? st : conf_time_parse(str_trim(text), out, err);
}

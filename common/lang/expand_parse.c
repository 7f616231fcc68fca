/* SPDX-License-Identifier: ISC */
/* From text to tree. The text is read once, from left to right; braces nest to EXPAND_DEPTH_MAX. */
#include "common/lang/expand_tree.h"
#include "common/lang/lookup.h"

#include <string.h>

#include "common/lang/lang_priv.h"

enum { NODES_FIRST = 8 };

enum brace { OPEN_ENDED, TO_BRACE };       /* a text ends at the end, or at the } that closes it */
enum dollar { DOLLAR_MEANS, DOLLAR_PLAIN };

static enum status parse_nodes(struct parser *p, enum brace end, enum dollar dollar, struct expansion *x);

enum status parse_error(struct parser *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(p->err, ST_ERROR, fmt, ap);
	va_end(ap);
	return err_prefix(p->err, "column %u", p->at + 1);
}

static bool parse_ended(const struct parser *p) { return p->at >= p->text.len; }

bool parse_peek(const struct parser *p, char c)
{
	return !parse_ended(p) && p->text.p[p->at] == c;
}

void parse_blanks(struct parser *p)
{
	while (!parse_ended(p) && ascii_is_space(p->text.p[p->at]))
		p->at++;
}

struct str parse_word(struct parser *p, const char *more)
{
	uint32_t from = p->at;

	while (!parse_ended(p)) {
		char c = p->text.p[p->at];

		if (!ascii_is_alnum(c) && (!c || str_find(str_of(more), c) < 0))
			break;
		p->at++;
	}
	return str_sub(p->text, from, p->at - from);
}

static enum status parse_expect(struct parser *p, char c, const char *after)
{
	parse_blanks(p);
	if (!parse_peek(p, c))
		return parse_error(p, "\"%c\" expected %s", c, after);
	p->at++;
	return ST_OK;
}

/* ---- growing lists of nodes ---- */

struct nodes {
	struct node *v;
	uint32_t n, room;
	struct buf text;        /* literal text not yet put into a node */
	uint32_t text_column;
};

static struct node *nodes_add(struct parser *p, struct nodes *list, enum node_kind kind)
{
	if (list->n == list->room) {
		uint32_t room = list->room ? list->room * 2 : NODES_FIRST;
		struct node *v = arena_alloc(p->arena, sizeof *v * room);

		for (uint32_t i = 0; i < list->n; i++)
			v[i] = list->v[i];
		list->v = v;
		list->room = room;
	}
	list->v[list->n] = (struct node){ .kind = kind, .column = p->at + 1 };
	return &list->v[list->n++];
}

static void nodes_text_end(struct parser *p, struct nodes *list)
{
	struct node *n;

	if (!list->text.len)
		return;
	n = nodes_add(p, list, NODE_TEXT);
	n->text = str_dup(p->arena, buf_str(&list->text));
	n->text.tainted = p->text.tainted;
	buf_reset(&list->text);
}

/* ---- literal text ---- */

static int hex_value(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind a backslash. */
static enum status parse_escape(struct parser *p, struct buf *out)
{
	static const char letters[] = "nrtbfv", codes[] = "\n\r\t\b\f\v";
	char c;
	ptrdiff_t i;

	if (parse_ended(p))
		return parse_error(p, "\\ at the end of the text");
	c = p->text.p[p->at++];
	if (c == 'N') {
		while (!parse_ended(p)) {
			if (p->text.p[p->at] == '\\' && p->at + 1 < p->text.len && p->text.p[p->at + 1] == 'N') {
				p->at += 2;
				return ST_OK;
			}
			buf_addc(out, p->text.p[p->at++]);
		}
		return ST_OK;
	}
	i = str_find(STR_LIT(letters), c);
	if (i >= 0) {
		buf_addc(out, codes[i]);
	} else if (c >= '0' && c <= '7') {
		unsigned v = (unsigned)(c - '0');

		for (int k = 0; k < 2 && !parse_ended(p) && p->text.p[p->at] >= '0' && p->text.p[p->at] <= '7'; k++)
			v = v * 8 + (unsigned)(p->text.p[p->at++] - '0');
		buf_addc(out, (char)v);
	} else if (c == 'x') {
		unsigned v = 0;

		for (int k = 0; k < 2 && !parse_ended(p) && hex_value(p->text.p[p->at]) >= 0; k++)
			v = v * 16 + (unsigned)hex_value(p->text.p[p->at++]);
		buf_addc(out, (char)v);
	} else {
		buf_addc(out, c);
	}
	return ST_OK;
}

/* ---- braces, yes and no ---- */

static enum status parse_brace_as(struct parser *p, enum dollar dollar, struct expansion **out)
{
	struct expansion *x = arena_alloc(p->arena, sizeof *x);
	enum status st;

	st = parse_expect(p, '{', "here");
	if (st)
		return st;
	if (++p->depth > EXPAND_DEPTH_MAX)
		return parse_error(p, "braces nested deeper than %d", EXPAND_DEPTH_MAX);
	st = parse_nodes(p, TO_BRACE, dollar, x);
	p->depth--;
	*out = x;
	return st;
}

enum status parse_brace(struct parser *p, struct expansion **out)
{
	return parse_brace_as(p, DOLLAR_MEANS, out);
}

enum status parse_braces(struct parser *p, struct call *call, unsigned min, unsigned max)
{
	enum status st;

	for (;;) {
		parse_blanks(p);
		if (call->n >= max || !parse_peek(p, '{'))
			break;
		st = parse_brace(p, &call->arg[call->n++]);
		if (st)
			return st;
	}
	if (call->n < min)
		return parse_error(p, "\"%s\" needs %u argument%s in braces", call->row->name, min, min == 1 ? "" : "s");
	return ST_OK;
}

enum status parse_yes_no(struct parser *p, struct call *call)
{
	enum status st;
	struct str word;

	parse_blanks(p);
	if (!parse_peek(p, '{'))
		return ST_OK;
	st = parse_brace(p, &call->yes);
	if (st)
		return st;
	parse_blanks(p);
	if (parse_peek(p, '{'))
		return parse_brace(p, &call->no);
	if (parse_peek(p, '}'))
		return ST_OK;
	word = parse_word(p, "");
	if (!str_is(word, "fail"))
		return parse_error(p, "a second string in braces, \"fail\" or \"}\" expected in \"%s\"", call->row->name);
	call->fail = true;
	return ST_OK;
}

/* ---- headers and variables ---- */

static const struct { const char *prefix; enum header_form form; } header_prefixes[] = {
	{ "h_", HEADER_DECODED }, { "header_", HEADER_DECODED }, { "rh_", HEADER_RAW }, { "rheader_", HEADER_RAW },
	{ "bh_", HEADER_BASIC }, { "bheader_", HEADER_BASIC }, { "lh_", HEADER_LIST }, { "lheader_", HEADER_LIST },
};

/* Length of the prefix when the text at hand names a header, else 0. */
static uint32_t header_prefix(const struct parser *p, enum header_form *form_out)
{
	struct str rest = str_from(p->text, p->at);

	for (size_t i = 0; i < sizeof header_prefixes / sizeof *header_prefixes; i++)
		if (str_begins(rest, header_prefixes[i].prefix)) {
			*form_out = header_prefixes[i].form;
			return str_of(header_prefixes[i].prefix).len;
		}
	return 0;
}

/* A header's name ends at a colon, which is taken, or before a blank. */
static void parse_header_name(struct parser *p, struct node *n, uint32_t prefix, enum header_form form)
{
	uint32_t from;

	p->at += prefix;
	from = p->at;
	while (!parse_ended(p) && (unsigned char)p->text.p[p->at] > ' ' && p->text.p[p->at] != ':')
		p->at++;
	n->kind = NODE_HEADER;
	n->form = form;
	n->text = str_dup(p->arena, str_sub(p->text, from, p->at - from));
	if (parse_peek(p, ':'))
		p->at++;
}

static enum status node_set_variable(struct parser *p, struct node *n, struct str name)
{
	n->kind = NODE_VARIABLE;
	n->var = row_variable(p->lang, name);
	n->text = str_dup(p->arena, name);
	if (!n->var) {
		const char *near = row_variable_nearest(name);

		return parse_error(p, "unknown variable \"$%.*s\"%s%s%s", STR_FMT(str_sub(name, 0, 100)), near ? ": did you mean \"$" : "", near ? near : "",
			near ? "\"?" : "");
	}
	if (n->var->kind == VAR_LATER)
		return parse_error(p, "variable \"$%.*s\" is known to Exim, not implemented", STR_FMT(name));
	return ST_OK;
}

static enum status parse_digits(struct parser *p, struct node *n)
{
	int v = 0;

	while (!parse_ended(p) && ascii_is_digit(p->text.p[p->at]) && v < 1000)
		v = v * 10 + (p->text.p[p->at++] - '0');
	n->kind = NODE_NUMBER;
	n->number = v;
	return ST_OK;
}

/* ---- conditions ---- */

static enum status parse_condition_subs(struct parser *p, struct cond *c)
{
	struct cond *subs[64];
	enum status st;

	st = parse_expect(p, '{', "before the conditions of \"and\" or \"or\"");
	if (st)
		return st;
	for (;;) {
		parse_blanks(p);
		if (parse_peek(p, '}'))
			break;
		if (c->n_subs == sizeof subs / sizeof *subs)
			return parse_error(p, "more than %zu conditions in one \"%s\"", sizeof subs / sizeof *subs, c->row->name);
		st = parse_expect(p, '{', "before a condition of \"and\" or \"or\"");
		if (!st)
			st = parse_condition(p, &subs[c->n_subs++]);
		if (!st)
			st = parse_expect(p, '}', "behind a condition of \"and\" or \"or\"");
		if (st)
			return st;
	}
	p->at++;
	c->subs = arena_alloc(p->arena, sizeof *c->subs * (c->n_subs + 1));
	for (uint32_t i = 0; i < c->n_subs; i++)
		c->subs[i] = subs[i];
	return ST_OK;
}

static enum status parse_condition_def(struct parser *p, struct cond *c)
{
	enum header_form form;
	uint32_t prefix;
	struct str name;

	if (!parse_peek(p, ':'))
		return parse_error(p, "\":\" expected behind \"def\"");
	p->at++;
	c->def = arena_alloc(p->arena, sizeof *c->def);
	c->def->column = p->at + 1;
	prefix = header_prefix(p, &form);
	if (prefix) {
		parse_header_name(p, c->def, prefix, form);
		return ST_OK;
	}
	name = parse_word(p, "_");
	if (!name.len)
		return parse_error(p, "a variable's name expected behind \"def:\"");
	return node_set_variable(p, c->def, name);
}

static enum status parse_condition_list(struct parser *p, struct cond *c)
{
	enum status st;
	struct err err = ERR_INIT;

	c->n = 2;
	st = parse_brace(p, &c->arg[0]);
	if (!st)
		st = parse_brace_as(p, DOLLAR_PLAIN, &c->arg[1]);
	if (st)
		return st;
	if (lang_list_build(p->lang, p->arena, c->row->list, c->arg[1]->constant, false, &c->list, &err))
		return parse_error(p, "%s", err.text);
	return ST_OK;
}

/* {{name}{arg}...}, or {name} alone. */
static enum status parse_condition_acl(struct parser *p, struct cond *c)
{
	enum status st;

	st = parse_expect(p, '{', "behind \"acl\"");
	if (st)
		return st;
	for (;;) {
		parse_blanks(p);
		if (!parse_peek(p, '{'))
			break;
		if (c->n > ACL_ARGS_MAX)
			return parse_error(p, "more than %d arguments for an ACL", ACL_ARGS_MAX);
		st = parse_brace(p, &c->arg[c->n++]);
		if (st)
			return st;
	}
	if (!c->n)
		return parse_error(p, "the name of an ACL expected, in braces");
	return parse_expect(p, '}', "behind the arguments of \"acl\"");
}

static struct str parse_condition_name(struct parser *p)
{
	uint32_t from = p->at;

	if (!parse_ended(p) && str_find(STR_LIT("<>="), p->text.p[p->at]) >= 0) {
		p->at++;
		if (parse_peek(p, '='))
			p->at++;
		return str_sub(p->text, from, p->at - from);
	}
	return parse_word(p, "_");
}

static enum status parse_condition_row(struct parser *p, struct cond *c, struct str name)
{
	c->row = row_condition(p->lang, name);
	if (!c->row) {
		const char *near = row_condition_nearest(name);

		return parse_error(p, "unknown condition \"%.*s\"%s%s%s", STR_FMT(str_sub(name, 0, 100)), near ? ": did you mean \"" : "", near ? near : "",
			near ? "\"?" : "");
	}
	if (c->row->later)
		return parse_error(p, "condition \"%s\" is known to Exim, not implemented", c->row->name);
	return ST_OK;
}

enum status parse_condition(struct parser *p, struct cond **out)
{
	struct cond *c = arena_alloc(p->arena, sizeof *c);
	enum status st = ST_OK;
	struct str name;

	*out = c;
	if (++p->depth > EXPAND_DEPTH_MAX)
		return parse_error(p, "conditions nested deeper than %d", EXPAND_DEPTH_MAX);
	for (parse_blanks(p); parse_peek(p, '!'); parse_blanks(p)) {
		c->negated = !c->negated;
		p->at++;
	}
	name = parse_condition_name(p);
	if (!name.len)
		return parse_error(p, "a condition expected");
	st = parse_condition_row(p, c, name);
	if (st)
		return st;
	switch (c->row->shape) {
	case COND_NONE:
		break;
	case COND_ARGS:
		while (!st && c->n < c->row->n)
			st = parse_brace(p, &c->arg[c->n++]);
		break;
	case COND_ARG_LIST:
		st = parse_condition_list(p, c);
		break;
	case COND_DEF:
		st = parse_condition_def(p, c);
		break;
	case COND_SUBS:
		st = parse_condition_subs(p, c);
		break;
	case COND_EACH:
		st = parse_brace(p, &c->arg[c->n++]);
		if (!st)
			st = parse_expect(p, '{', "before the condition to try");
		if (!st)
			st = parse_condition(p, &c->body);
		if (!st)
			st = parse_expect(p, '}', "behind the condition to try");
		break;
	case COND_ACL:
		st = parse_condition_acl(p, c);
		break;
	}
	p->depth--;
	return st;
}

/* ---- ${...} ---- */

static enum status parse_item(struct parser *p, struct node *n, const struct item_row *row)
{
	struct call *call = arena_alloc(p->arena, sizeof *call);
	enum status st;

	if (row->flags & ITEM_LATER)
		return parse_error(p, "item \"%s\" is known to Exim, not implemented%s%s", row->name, row->instead ? ": " : "", row->instead ? row->instead : "");
	call->row = row;
	n->kind = NODE_ITEM;
	n->call = call;
	if (row->parse) {
		st = row->parse(p, call);
	} else {
		st = parse_braces(p, call, row->min, row->max);
		if (!st && row->flags & ITEM_YES_NO)
			st = parse_yes_no(p, call);
	}
	if (st)
		return st;
	parse_blanks(p);
	if (!parse_peek(p, '}')) {
		if (parse_ended(p))
			return parse_error(p, "\"}\" missing at the end of \"%s\"", row->name);
		return parse_error(p, "\"}\" expected at the end of \"%s\", which has all its arguments", row->name);
	}
	p->at++;
	return ST_OK;
}

/* "length_5" is length with argument 5; "time_eval" is a name of its own. */
static const struct op_row *operator_find(struct parser *p, struct str name, struct node *n)
{
	const struct op_row *row = row_operator(p->lang, name);

	for (uint32_t i = 1; !row && i < name.len; i++) {
		if (name.p[i] != '_')
			continue;
		row = row_operator(p->lang, str_sub(name, 0, i));
		if (row && !row->takes_arg)
			row = NULL;
		if (row) {
			n->op_arg = str_dup(p->arena, str_from(name, i + 1));
			n->has_op_arg = true;
		}
	}
	return row;
}

static enum status parse_operator(struct parser *p, struct node *n, struct str name)
{
	enum status st;

	n->kind = NODE_OPERATOR;
	n->op = operator_find(p, name, n);
	/* "h_5" hashes, "h_subject" is somebody's header. */
	if (n->op && !strcmp(n->op->name, "h") && n->op_arg.len && ascii_is_alpha(n->op_arg.p[0]))
		n->op = NULL;
	if (!n->op) {
		const char *near = row_item_nearest(name);
		enum header_form form;

		p->at -= name.len;
		if (header_prefix(p, &form))
			return parse_error(p, "a header's name is not put into braces: write $%.*s:", STR_FMT(name));
		return parse_error(p, "unknown expansion operator \"%.*s\"%s%s%s", STR_FMT(str_sub(name, 0, 100)), near ? ": did you mean \"" : "", near ? near : "",
			near ? "\"?" : "");
	}
	if (!strcmp(n->op->name, "quote") && n->has_op_arg && !lookup_type_find(n->op_arg)) {
		const char *near = lookup_type_nearest(n->op_arg);

		p->at -= name.len;
		return parse_error(p, "quote_: unknown lookup type \"%.*s\"%s%s%s", STR_FMT(str_sub(n->op_arg, 0, 40)), near ? ": did you mean \"" : "", near ? near : "",
			near ? "\"?" : "");
	}
	if (n->op->later)
		return parse_error(p, "operator \"%s\" is known to Exim, not implemented", n->op->name);
	p->at++;
	n->arg = arena_alloc(p->arena, sizeof *n->arg);
	if (++p->depth > EXPAND_DEPTH_MAX)
		return parse_error(p, "braces nested deeper than %d", EXPAND_DEPTH_MAX);
	st = parse_nodes(p, TO_BRACE, DOLLAR_MEANS, n->arg);
	p->depth--;
	return st;
}

static enum status parse_braced(struct parser *p, struct node *n)
{
	const struct item_row *row;
	struct str name;

	if (!parse_ended(p) && ascii_is_digit(p->text.p[p->at])) {
		parse_digits(p, n);
		return parse_expect(p, '}', "behind the number of a variable");
	}
	name = parse_word(p, "_-");
	if (!name.len)
		return parse_error(p, "a name or number expected behind \"${\"");
	if (parse_peek(p, ':'))
		return parse_operator(p, n, name);
	row = row_item(p->lang, name);
	if (row)
		return parse_item(p, n, row);
	if (parse_peek(p, '}')) {
		enum status st = node_set_variable(p, n, name);

		p->at++;
		return st;
	}
	{
		const char *near = row_item_nearest(name);

		return parse_error(p, "unknown expansion item \"%.*s\"%s%s%s", STR_FMT(str_sub(name, 0, 100)), near ? ": did you mean \"" : "", near ? near : "",
			near ? "\"?" : "");
	}
}

/* Behind a dollar. */
static enum status parse_dollar(struct parser *p, struct nodes *list)
{
	struct node *n = nodes_add(p, list, NODE_TEXT);
	enum header_form form;
	uint32_t prefix;
	struct str name;

	n->column = p->at; /* of the dollar */
	if (parse_peek(p, '{')) {
		struct node made = *n;
		enum status st;

		p->at++;
		st = parse_braced(p, &made);
		*n = made;
		return st;
	}
	if (!parse_ended(p) && ascii_is_digit(p->text.p[p->at]))
		return parse_digits(p, n);
	prefix = header_prefix(p, &form);
	if (prefix) {
		parse_header_name(p, n, prefix, form);
		return ST_OK;
	}
	name = parse_word(p, "_");
	if (!name.len || !ascii_is_alpha(name.p[0]))
		return parse_error(p, "\"$\" must be followed by a letter, a digit or \"{\"");
	return node_set_variable(p, n, name);
}

/* ---- the text as a whole ---- */

static enum status parse_loop(struct parser *p, enum brace end, enum dollar dollar, struct nodes *list)
{
	while (!parse_ended(p)) {
		char c = p->text.p[p->at];
		enum status st = ST_OK;

		if (c == '}' && end == TO_BRACE) {
			p->at++;
			return ST_OK;
		}
		p->at++;
		if (c == '\\') {
			st = parse_escape(p, &list->text);
		} else if (c == '$' && dollar == DOLLAR_MEANS) {
			nodes_text_end(p, list);
			st = parse_dollar(p, list);
		} else {
			buf_addc(&list->text, c);
		}
		if (st)
			return st;
	}
	if (end == TO_BRACE)
		return parse_error(p, "\"}\" missing");
	return ST_OK;
}

static enum status parse_nodes(struct parser *p, enum brace end, enum dollar dollar, struct expansion *x)
{
	struct nodes list = { .text = BUF_INIT };
	uint32_t from = p->at;
	enum status st = parse_loop(p, end, dollar, &list);

	if (!st) {
		nodes_text_end(p, &list);
		x->nodes = list.v;
		x->n = list.n;
		x->text = str_sub(p->text, from, p->at - from);
		x->place = p->place;
		if (!x->n || (x->n == 1 && x->nodes[0].kind == NODE_TEXT)) {
			x->is_constant = true;
			x->constant = x->n ? x->nodes[0].text : (struct str){ "", 0, p->text.tainted };
		}
	}
	buf_clear(&list.text);
	return st;
}

enum status parse_brace_raw(struct parser *p, struct str *out)
{
	bool skipping = p->skipping;
	struct expansion x;
	uint32_t from;
	enum status st = parse_expect(p, '{', "here");

	if (st)
		return st;
	from = p->at;
	if (++p->depth > EXPAND_DEPTH_MAX)
		return parse_error(p, "braces nested deeper than %d", EXPAND_DEPTH_MAX);
	p->skipping = true;
	st = parse_nodes(p, TO_BRACE, DOLLAR_MEANS, &x);
	p->skipping = skipping;
	p->depth--;
	if (!st)
		*out = str_sub(p->text, from, p->at - 1 - from);
	return st;
}

enum status parse_text(const struct parser *p, struct str text, struct expansion **out, struct err *err)
{
	struct parser own = { .lang = p->lang, .arena = p->arena, .text = str_dup(p->arena, text), .depth = p->depth + 1, .place = p->place, .err = err };

	*out = arena_alloc(p->arena, sizeof **out);
	if (own.depth > EXPAND_DEPTH_MAX)
		return err_set(err, ST_ERROR, "nested deeper than %d", EXPAND_DEPTH_MAX);
	if (parse_nodes(&own, OPEN_ENDED, DOLLAR_MEANS, *out))
		return ST_ERROR;
	(*out)->text = own.text;
	return ST_OK;
}

static enum status compile(struct lang *lang, struct arena *a, struct str text, struct conf_place place, struct expansion **out, struct err *err)
{
	struct err own = ERR_INIT;
	struct parser p = { .lang = lang, .arena = a, .place = place, .err = err ? err : &own };
	struct expansion *x = arena_alloc(a, sizeof *x);

	*out = NULL;
	if (text.len > EXPAND_TEXT_MAX)
		return err_set(err, ST_ERROR, "text longer than %d octets", EXPAND_TEXT_MAX);
	p.text = str_dup(a, text);
	if (parse_nodes(&p, OPEN_ENDED, DOLLAR_MEANS, x))
		return ST_ERROR;
	x->text = p.text;
	*out = x;
	return ST_OK;
}

enum status expansion_compile(struct lang *lang, struct arena *a, struct str text, struct expansion **out, struct err *err)
{
	return compile(lang, a, text, (struct conf_place){ 0, 0 }, out, err);
}

enum status lang_compile(struct lang *lang, struct str text, struct conf_place place, struct expansion **out, struct err *err)
{
	return compile(lang, &lang->arena, text, place, out, err);
}

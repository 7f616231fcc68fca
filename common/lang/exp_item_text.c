/* SPDX-License-Identifier: ISC */
/* Items on pieces of text: extract, sg, substr, length, tr, hash, nhash, and if. */
#include "common/lang/expand_tree.h"

#include <string.h>

#include "common/lang/exp_text.h"
#include "common/lang/lang_regex.h"

/* ---- if ---- */

static enum status parse_if(struct parser *p, struct call *call)
{
	enum status st = parse_condition(p, &call->cond);

	return st ? st : parse_yes_no(p, call);
}

static enum status item_if(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	bool yes;
	enum status st;
	struct str before = ev->slot[EV_value];
	struct nums_saved nums;

	(void)args;
	nums_save(ev, &nums);
	out->text = STR_NULL;
	st = cond_run(ev, call->cond, &yes, err);
	if (st)
		;
	else if (yes && !call->yes)
		out->text = STR_LIT("true");
	else if (yes)
		st = expansion_run(ev, call->yes, &out->text, err);
	else if (call->fail)
		st = err_set(err, ST_FAIL, "\"if\" failed and \"fail\" requested");
	else if (call->no)
		st = expansion_run(ev, call->no, &out->text, err);
	ev->slot[EV_value] = before;
	nums_restore(ev, &nums);
	return st;
}

/* ---- extract ---- */

static enum status parse_extract(struct parser *p, struct call *call)
{
	enum status st;

	parse_blanks(p);
	if (!parse_peek(p, '{')) {
		call->word = parse_word(p, "");
		if (!str_is(call->word, "json") && !str_is(call->word, "jsons"))
			return parse_error(p, "\"{\", \"json\" or \"jsons\" expected behind \"extract\"");
	}
	/* How many are arguments is known only when the first one is: a number makes one more. */
	st = parse_braces(p, call, 2, 5);
	if (st)
		return st;
	parse_blanks(p);
	if (!parse_peek(p, '}')) {
		struct str word = parse_word(p, "");

		if (!str_is(word, "fail"))
			return parse_error(p, "\"{\", \"fail\" or \"}\" expected in \"extract\"");
		call->fail = true;
	}
	return ST_OK;
}

/* A field number: blanks and a sign around digits. */
static bool field_number(struct str s, int64_t *out)
{
	bool negative;
	uint64_t v;

	s = str_trim(s);
	negative = s.len && s.p[0] == '-';
	if (negative)
		s = str_from(s, 1);
	if (!s.len || !str_u64(s, INT32_MAX, &v))
		return false;
	*out = negative ? -(int64_t)v : (int64_t)v;
	return true;
}

bool text_field(struct str text, struct str seps, int64_t number, struct str *out)
{
	int64_t n = 1, want = number;

	*out = text;
	if (!number)
		return true;
	for (uint32_t i = 0; i < text.len; i++)
		n += str_find(seps, text.p[i]) >= 0;
	if (number < 0)
		want = n + 1 + number;
	if (want < 1 || want > n)
		return false;
	for (uint32_t i = 0, from = 0;; i++) {
		if (i < text.len && str_find(seps, text.p[i]) < 0)
			continue;
		if (!--want) {
			*out = str_sub(text, from, i - from);
			return true;
		}
		from = i + 1;
	}
}

/* The value behind "key =" at *at; quoted ones are unquoted. */
static struct str keyed_value(struct eval *ev, struct str s, uint32_t *at)
{
	uint32_t from;
	char *p;
	uint32_t n = 0;

	if (*at >= s.len || s.p[*at] != '"') {
		from = *at;
		while (*at < s.len && !ascii_is_space(s.p[*at]))
			++*at;
		return str_sub(s, from, *at - from);
	}
	p = arena_alloc(ev->arena, s.len - *at + 1);
	for (++*at; *at < s.len && s.p[*at] != '"'; ++*at) {
		char c = s.p[*at];

		if (c == '\\' && *at + 1 < s.len) {
			c = s.p[++*at];
			c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
		}
		p[n++] = c;
	}
	if (*at < s.len)
		++*at;
	return (struct str){ p, n, s.tainted };
}

bool text_keyed(struct eval *ev, struct str text, struct str key, struct str *out)
{
	uint32_t at = 0;

	while (at < text.len) {
		uint32_t from;
		struct str name, value;

		while (at < text.len && ascii_is_space(text.p[at]))
			at++;
		from = at;
		while (at < text.len && text.p[at] != '=' && !ascii_is_space(text.p[at]))
			at++;
		name = str_sub(text, from, at - from);
		while (at < text.len && ascii_is_space(text.p[at]))
			at++;
		if (at < text.len && text.p[at] == '=')
			at++;
		while (at < text.len && ascii_is_space(text.p[at]))
			at++;
		value = keyed_value(ev, text, &at);
		if (name.len && str_eqi(name, key)) {
			*out = value;
			return true;
		}
	}
	return false;
}

static enum status item_extract(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct call shape = *call; /* yes and no, now that they are known */
	struct str v[3] = { STR_NULL, STR_NULL, STR_NULL }, before = ev->slot[EV_value];
	struct item_value value = { STR_NULL, false };
	int64_t number = 0;
	unsigned need = 2;
	bool numbered;
	enum status st = expansion_run(ev, call->arg[0], &v[0], err);

	(void)args;
	if (st)
		return st;
	v[0] = str_trim(v[0]);
	numbered = field_number(v[0], &number);
	if (!v[0].len)
		return err_set(err, ST_ERROR, "first argument of \"extract\" is empty");
	if (numbered && !call->word.len)
		need = 3;
	if (call->n < need)
		return err_set(err, ST_ERROR, "\"extract\" by number needs %u arguments in braces", need);
	for (unsigned i = 1; !st && i < need; i++)
		st = expansion_run(ev, call->arg[i], &v[i], err);
	if (st)
		return st;
	shape.yes = call->n > need ? call->arg[need] : NULL;
	shape.no = call->n > need + 1 ? call->arg[need + 1] : NULL;
	if (shape.fail && !shape.yes)
		return err_set(err, ST_ERROR, "\"fail\" of \"extract\" needs a string in braces before it");
	if (call->n > need + 2)
		return err_set(err, ST_ERROR, "too many arguments for \"extract\"");
	if (call->word.len)
		st = text_json(ev, v[1], v[0], numbered ? &number : NULL, str_is(call->word, "jsons"), &value.text, &value.found, err);
	else if (numbered)
		value.found = text_field(v[2], v[1], number, &value.text);
	else
		value.found = text_keyed(ev, v[1], v[0], &value.text);
	if (st)
		return st;
	out->text = STR_NULL;
	if (value.found && !shape.yes) {
		out->text = value.text;
	} else if (value.found) {
		ev->slot[EV_value] = value.text;
		st = expansion_run(ev, shape.yes, &out->text, err);
		ev->slot[EV_value] = before;
	} else if (shape.fail) {
		st = err_set(err, ST_FAIL, "\"extract\" failed and \"fail\" requested");
	} else if (shape.no) {
		st = expansion_run(ev, shape.no, &out->text, err);
	}
	return st;
}

/* ---- sg ---- */

/* The replacement is itself expanded for each match, with the match's $0, $1 ...: "\\$1" of the configuration has become "$1" by then.
 * What came from a stranger is not: in it only these numbers mean something. */
static void sg_replace_tainted(struct buf *b, struct str with, const struct regex_match *m)
{
	for (uint32_t i = 0; i < with.len; i++) {
		bool number = with.p[i] == '$' && i + 1 < with.len && ascii_is_digit(with.p[i + 1]);
		int n = number ? with.p[i + 1] - '0' : 0;

		if (!number)
			buf_addc(b, with.p[i]);
		else if (n < m->n)
			buf_add_str(b, m->group[n]);
		i += number;
	}
}

static enum status sg_replace(struct eval *ev, struct buf *b, struct str with, const struct regex_match *m, bool *tainted, struct err *err)
{
	struct str made;
	enum status st;

	if (with.tainted) {
		sg_replace_tainted(b, with, m);
		return ST_OK;
	}
	for (int i = 0; i < m->n; i++)
		ev->num[i] = m->group[i];
	ev->n_num = m->n;
	st = expand_text(ev, with, &made, err);
	if (!st) {
		buf_add_str(b, made);
		*tainted |= made.tainted;
	}
	return st;
}

static enum status item_sg(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str subject = args[0];
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	struct regex_match m;
	struct regex *re;
	bool tainted = subject.tainted || args[2].tainted;
	struct nums_saved nums;
	uint32_t at = 0;
	bool done = false;
	enum status st = eval_regex(ev, args[1], 0, &re, err);

	(void)call;
	nums_save(ev, &nums);
	while (!st) {
		uint32_t from, end;

		st = regex_match(re, subject, at, &m, err);
		if (st == ST_FAIL) {
			st = ST_OK;
			done = true;
			break;
		}
		if (!st)
			st = eval_step(ev, 4, err);
		if (st)
			break;
		from = (uint32_t)(m.group[0].p - subject.p);
		if (!m.group[0].p)
			from = at;
		end = from + m.group[0].len;
		if (from > at)
			buf_add_str(&b, str_sub(subject, at, from - at));
		st = sg_replace(ev, &b, args[2], &m, &tainted, err);
		if (st)
			break;
		/* An empty match: the octet behind it is kept, and the search goes on behind that. */
		if (end == from) {
			if (end >= subject.len) {
				at = subject.len + 1;
				done = true;
				break;
			}
			buf_addc(&b, subject.p[end++]);
		}
		at = end;
	}
	nums_restore(ev, &nums);
	if (done) {
		if (at < subject.len)
			buf_add_str(&b, str_from(subject, at));
		st = b.full ? err_set(err, ST_ERROR, "result of \"sg\" longer than %d octets", EVAL_LENGTH_MAX) : ST_OK;
	}
	if (!st) {
		out->text = str_dup(ev->arena, buf_str(&b));
		out->text.tainted = tainted;
	}
	buf_clear(&b);
	return st;
}

/* ---- substr, length, tr ---- */

/* Digits with a sign, nothing else; nothing at all is 0, as Exim has it. */
static enum status number_arg(const struct call *call, struct str s, int64_t *out, struct err *err)
{
	bool negative = s.len && s.p[0] == '-';
	struct str rest = s.len && (negative || s.p[0] == '+') ? str_from(s, 1) : s;
	uint64_t v = 0;

	*out = 0;
	if (s.len && !str_u64(rest, INT32_MAX, &v))
		return err_set(err, ST_ERROR, "\"%.*s\" is no number, in \"%s\"", STR_FMT(str_sub(s, 0, 60)), call->row->name);
	*out = negative ? -(int64_t)v : (int64_t)v;
	return ST_OK;
}

struct str text_substr(struct str s, int64_t start, int64_t len, bool has_len)
{
	int64_t size = s.len;

	if (start < 0) {
		/* No length: what stands before the point. */
		if (!has_len)
			return str_sub(s, 0, size + start > 0 ? (size_t)(size + start) : 0);
		start += size;
		if (start < 0) {
			len += start;
			start = 0;
		}
	}
	if (start > size)
		start = size;
	if (!has_len)
		return str_from(s, (size_t)start);
	return str_sub(s, (size_t)start, len > 0 ? (size_t)len : 0);
}

static enum status item_substr(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	int64_t start, len = 0;
	enum status st = number_arg(call, args[0], &start, err);

	(void)ev;
	if (!st && call->n == 3)
		st = number_arg(call, args[1], &len, err);
	if (!st && len < 0)
		st = err_set(err, ST_ERROR, "negative length in \"substr\"");
	if (!st)
		out->text = text_substr(args[call->n - 1], start, len, call->n == 3);
	return st;
}

static enum status item_length(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	int64_t len;
	enum status st = number_arg(call, args[0], &len, err);

	(void)ev;
	if (!st && len < 0)
		return err_set(err, ST_ERROR, "negative length in \"length\"");
	if (!st)
		out->text = str_sub(args[1], 0, (size_t)len);
	return st;
}

static enum status item_tr(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str s = str_dup(ev->arena, args[0]), from = args[1], to = args[2];
	char *p = (char *)s.p;

	(void)call;
	(void)err;
	for (uint32_t i = 0; to.len && i < s.len; i++) {
		ptrdiff_t at = str_rfind(from, p[i]);

		if (at >= 0)
			p[i] = to.p[at < (ptrdiff_t)to.len ? at : (ptrdiff_t)to.len - 1];
	}
	s.tainted |= to.tainted;
	out->text = s;
	return ST_OK;
}

/* ---- hash, nhash ---- */

enum status text_hash(struct eval *ev, struct str s, int64_t len, int64_t chars, struct str *out, struct err *err)
{
	static const char codes[] = "abcdefghijklmnopqrtsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	char *p;

	if (len < 0 || chars < 1)
		return err_set(err, ST_ERROR, "\"hash\" needs a length and a number of characters above 0");
	if (chars > (int64_t)sizeof codes - 1)
		return err_set(err, ST_ERROR, "\"hash\" knows no more than %zu characters", sizeof codes - 1);
	*out = s;
	if (len >= s.len || !len) {
		if (!len)
			*out = (struct str){ "", 0, s.tainted };
		return ST_OK;
	}
	p = arena_alloc(ev->arena, (size_t)len + 1);
	memcpy(p, s.p, (size_t)len);
	/* What goes beyond the length is folded in, each octet turned by as many bits as it and its place say. */
	for (uint32_t i = (uint32_t)len, j = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		unsigned shift = (c + i) & 7;

		p[j] ^= (char)((c << shift) | (c >> (8 - shift)));
		if (++j >= (uint32_t)len)
			j = 0;
	}
	for (uint32_t i = 0; i < (uint32_t)len; i++)
		p[i] = codes[(unsigned char)p[i] % (unsigned)chars];
	*out = (struct str){ p, (uint32_t)len, s.tainted };
	return ST_OK;
}

enum status text_nhash(struct eval *ev, struct str s, int64_t n, int64_t m, struct str *out, struct err *err)
{
	static const unsigned primes[] = { 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
		109, 113 };
	uint64_t total = 0;
	int prime = 0;

	if (n < 1 || n > INT32_MAX || (m != -1 && (m < 1 || m > INT32_MAX)))
		return err_set(err, ST_ERROR, "\"nhash\" needs numbers above 0");
	/* Octets weighted by primes taken from the largest down, around and around. */
	for (uint32_t i = 0; i < s.len; i++) {
		if (!prime)
			prime = (int)(sizeof primes / sizeof *primes);
		total += primes[--prime] * (uint64_t)(unsigned char)s.p[i];
	}
	if (m == -1)
		*out = str_printf(ev->arena, "%llu", (unsigned long long)(total % (uint64_t)n));
	else {
		total %= (uint64_t)n * (uint64_t)m;
		*out = str_printf(ev->arena, "%llu/%llu", (unsigned long long)(total / (uint64_t)m), (unsigned long long)(total % (uint64_t)m));
	}
	return ST_OK;
}

static enum status item_hash(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	int64_t len, chars = 26;
	enum status st = number_arg(call, args[0], &len, err);

	if (!st && call->n == 3)
		st = number_arg(call, args[1], &chars, err);
	return st ? st : text_hash(ev, args[call->n - 1], len, chars, &out->text, err);
}

static enum status item_nhash(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	int64_t n, m = -1;
	enum status st = number_arg(call, args[0], &n, err);

	if (!st && call->n == 3) {
		st = number_arg(call, args[1], &m, err);
		if (!st && m < 1)
			return err_set(err, ST_ERROR, "\"nhash\" needs numbers above 0");
	}
	return st ? st : text_nhash(ev, args[call->n - 1], n, m, &out->text, err);
}

const struct item_row exp_items_text[] = {
	{ "if", 0, 0, ITEM_LAZY, item_if, parse_if,
		"the first string if the condition holds, else the second; only that one is expanded",
		.usage = "condition {yes}{no}" },
	{ "extract", 2, 5, ITEM_LAZY, item_extract, parse_extract,
		"the value behind key= in the text, or its numbered field, or a member of JSON (jsons: strings without their quotes)",
		.usage = "{key}{text}{yes}{no} or {number}{separators}{text}{yes}{no} or json {key}{text}{yes}{no}" },
	{ "sg", 3, 3, 0, item_sg, NULL,
		"the text with all matches replaced; \\$1 and so on are the groups of the match",
		.usage = "{text}{regular expression}{replacement}" },
	{ "substr", 2, 3, 0, item_substr, NULL,
		"part of a text, from octet start on (counted from 0, or from the end if negative), all of the rest without a length",
		.usage = "{start}{length}{text}" },
	{ "length", 2, 2, 0, item_length, NULL,
		"the first octets of a text",
		.usage = "{number}{text}" },
	{ "tr", 3, 3, 0, item_tr, NULL,
		"the text with each octet that is in the second argument replaced by the one at its place in the third",
		.usage = "{text}{from}{to}" },
	{ "hash", 2, 3, 0, item_hash, NULL,
		"a hash of the given length made of letters and digits; shorter texts stay as they are",
		.usage = "{length}{characters}{text}" },
	{ "nhash", 2, 3, 0, item_nhash, NULL,
		"a number below n made from the text; with m two numbers, as n/m",
		.usage = "{n}{m}{text}" },
	{ NULL }
};

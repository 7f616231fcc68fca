/* SPDX-License-Identifier: ISC */
/* Operators on plain text: case, length, quoting, lists. */
#include "common/lang/expand_tree.h"

#include <string.h>

#include "common/lang/exp_text.h"
#include "common/lang/lang_header.h"
#include "common/lang/lookup.h"
#include "common/mail/address.h"

/* Finishes a result built in b. */
static enum status built(struct eval *ev, struct buf *b, bool tainted, struct str *out, struct err *err)
{
	enum status st = ST_OK;

	if (b->full)
		st = err_set(err, ST_ERROR, "result longer than %d octets", EVAL_LENGTH_MAX);
	else
		*out = str_dup(ev->arena, buf_str(b));
	out->tainted = tainted;
	buf_clear(b);
	return st;
}

/* Numbers behind the operator's name: _3 or _3_5; nothing is 0. Count of them, or -1. */
static int op_numbers(const struct node *n, int64_t out[2])
{
	struct str rest = n->op_arg, part;
	int count = 0;

	if (!n->has_op_arg)
		return 0;
	do {
		bool negative, more = str_find(rest, '_') >= 0;
		uint64_t v = 0;

		if (count == 2)
			return -1;
		if (!str_split(&rest, '_', &part))
			part = STR_NULL;
		negative = part.len && part.p[0] == '-';
		if (negative || (part.len && part.p[0] == '+'))
			part = str_from(part, 1);
		if ((part.len || n->op_arg.len) && !str_u64(part, INT32_MAX, &v))
			return -1;
		out[count++] = negative ? -(int64_t)v : (int64_t)v;
		if (!more)
			break;
	} while (true);
	return count;
}

static enum status op_bad(const struct node *n, struct err *err)
{
	return err_set(err, ST_ERROR, "operator \"%s\" needs numbers behind \"_\"", n->op->name);
}

static enum status op_lc(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	*out = str_lower(ev->arena, in);
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_uc(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	*out = str_upper(ev->arena, in);
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_strlen(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	*out = str_printf(ev->arena, "%u", in.len);
	return ST_OK;
}

static enum status op_length(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t v[2];

	(void)ev;
	if (op_numbers(n, v) != 1 || v[0] < 0)
		return op_bad(n, err);
	*out = str_sub(in, 0, (size_t)v[0]);
	return ST_OK;
}

static enum status op_substr(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t v[2] = { 0, 0 };
	int count = op_numbers(n, v);

	(void)ev;
	if (count < 1 || (count == 2 && v[1] < 0))
		return op_bad(n, err);
	*out = text_substr(in, v[0], v[1], count == 2);
	return ST_OK;
}

static enum status op_hash(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t v[2] = { 0, 26 };

	if (op_numbers(n, v) < 1)
		return op_bad(n, err);
	return text_hash(ev, in, v[0], v[1], out, err);
}

static enum status op_nhash(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t v[2] = { 0, -1 };
	int count = op_numbers(n, v);

	if (count < 1 || v[0] < 1 || (count == 2 && v[1] < 1))
		return op_bad(n, err);
	return text_nhash(ev, in, v[0], v[1], out, err);
}

/* ---- quoting and escaping ---- */

static enum status text_as_is(struct str in, struct str *out)
{
	*out = in;
	return ST_OK;
}

static enum status text_in_quotes(struct eval *ev, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	buf_addc(&b, '"');
	for (uint32_t i = 0; i < in.len; i++) {
		if (in.p[i] == '\n') {
			buf_adds(&b, "\\n");
		} else if (in.p[i] == '\r') {
			buf_adds(&b, "\\r");
		} else {
			if (in.p[i] == '"' || in.p[i] == '\\')
				buf_addc(&b, '\\');
			buf_addc(&b, in.p[i]);
		}
	}
	buf_addc(&b, '"');
	return built(ev, &b, in.tainted, out, err);
}

/* quote_TYPE */
static enum status text_quote_for(struct eval *ev, struct str name, struct str in, struct str *out, struct err *err)
{
	const struct lookup_type *type = lookup_type_find(name);

	if (!type)
		return err_set(err, ST_ERROR, "quote_: unknown lookup type \"%.*s\"", STR_FMT(str_sub(name, 0, 40)));
	if (type->flags & LOOKUP_LATER)
		return err_set(err, ST_ERROR, "quote_%s: lookup type \"%s\" is known to Exim, not implemented", type->name, type->name);
	return type->quote ? type->quote(ev->arena, in, out, err) : text_as_is(in, out);
}

static enum status op_quote(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	bool plain = in.len != 0;

	if (n->has_op_arg)
		return text_quote_for(ev, n->op_arg, in, out, err);
	for (uint32_t i = 0; plain && i < in.len; i++)
		plain = ascii_is_alnum(in.p[i]) || (in.p[i] && strchr("_-.", in.p[i]));
	return plain ? text_as_is(in, out) : text_in_quotes(ev, in, out, err);
}

static enum status op_quote_local_part(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	static const char atext[] = "!#$%&'*+-/=?^_`{|}~";
	bool plain = in.len && in.p[0] != '.' && in.p[in.len - 1] != '.';

	(void)n;
	for (uint32_t i = 0; plain && i < in.len; i++)
		plain = ascii_is_alnum(in.p[i]) || (in.p[i] && strchr(atext, in.p[i])) || (in.p[i] == '.' && in.p[i - 1] != '.');
	return plain ? text_as_is(in, out) : text_in_quotes(ev, in, out, err);
}

static enum status op_rxquote(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	(void)n;
	for (uint32_t i = 0; i < in.len; i++) {
		if (!ascii_is_alnum(in.p[i]))
			buf_addc(&b, '\\');
		buf_addc(&b, in.p[i]);
	}
	return built(ev, &b, in.tainted, out, err);
}

static void escape_add(struct buf *b, unsigned char c)
{
	static const char codes[] = "\n\r\t\b\v\f", letters[] = "nrtbvf";
	ptrdiff_t i = str_find(STR_LIT(codes), (char)c);

	if (i >= 0)
		buf_printf(b, "\\%c", letters[i]);
	else
		buf_printf(b, "\\%03o", c);
}

static enum status op_escape(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	(void)n;
	for (uint32_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.p[i];

		if ((c < ' ' && c != '\t') || c >= 0x7f)
			escape_add(&b, c);
		else
			buf_addc(&b, (char)c);
	}
	return built(ev, &b, in.tainted, out, err);
}

static enum status op_escape8bit(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	(void)n;
	for (uint32_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.p[i];

		if (c >= 0x7f || c == '\\')
			buf_printf(&b, "\\%03o", c);
		else
			buf_addc(&b, (char)c);
	}
	return built(ev, &b, in.tainted, out, err);
}

static enum status op_hexquote(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	(void)n;
	for (uint32_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.p[i];

		if (c >= '!' && c <= '~')
			buf_addc(&b, (char)c);
		else
			buf_printf(&b, "\\x%02x", c);
	}
	return built(ev, &b, in.tainted, out, err);
}

static enum status op_expand(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	return expand_text(ev, in, out, err);
}

/* ---- UTF-8 ---- */

uint32_t text_utf8(struct str s, uint32_t *code_out)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char c = (unsigned char)s.p[0];
	uint32_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
	uint32_t code = n == 1 ? c : n ? c & (0xffu >> (n + 1)) : 0;

	if (!n || s.len < n)
		return 0;
	for (uint32_t i = 1; i < n; i++) {
		if (((unsigned char)s.p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | ((unsigned char)s.p[i] & 0x3f);
	}
	if (n > 1 && (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)))
		return 0;
	*code_out = code;
	return n;
}

/* Length of what is replaced by one "?": a sequence that is whole but means nothing, or that the end cuts off; else one octet. */
static uint32_t utf8_bad(struct str s)
{
	unsigned char c = (unsigned char)s.p[0];
	uint32_t n = c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 1, i = 1;

	while (i < n && i < s.len && ((unsigned char)s.p[i] & 0xc0) == 0x80)
		i++;
	return i == n || i == s.len ? i : 1;
}

static enum status op_utf8clean(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	uint32_t code;

	(void)n;
	for (uint32_t i = 0; i < in.len;) {
		uint32_t k = text_utf8(str_from(in, i), &code);

		if (k)
			buf_add(&b, in.p + i, k);
		else
			buf_addc(&b, '?');
		i += k ? k : utf8_bad(str_from(in, i));
	}
	return built(ev, &b, in.tainted, out, err);
}

static enum status op_from_utf8(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	(void)n;
	for (uint32_t i = 0; i < in.len;) {
		uint32_t code = '_', k = text_utf8(str_from(in, i), &code);

		buf_addc(&b, code < 256 ? (char)code : '_');
		i += k ? k : 1;
	}
	return built(ev, &b, in.tainted, out, err);
}

/* ---- RFC 2047 ---- */

static enum status op_rfc2047(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	*out = header_encode_words(ev->arena, in, header_charset(ev));
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_rfc2047d(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	*out = header_decode_words(ev->arena, in, header_charset(ev));
	out->tainted = in.tainted;
	return ST_OK;
}

/* ${headerwrap_COLUMNS_MAX:field}: folded at blanks, cut at MAX. */
static enum status op_headerwrap(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	int64_t v[2] = { 80, 998 };
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	uint32_t line = 0;
	int count = op_numbers(n, v);

	if (count < 0 || v[0] < 1 || v[1] < 1)
		return op_bad(n, err);
	in = str_sub(in, 0, (size_t)v[1]);
	for (uint32_t i = 0; i < in.len;) {
		uint32_t word = i + 1; /* a word with the blank before it */

		while (word < in.len && !strchr(" \t", in.p[word]))
			word++;
		if (line && line + (word - i) > v[0] && strchr(" \t", in.p[i])) {
			buf_adds(&b, "\n\t");
			line = 8;
			i++;
		}
		buf_add(&b, in.p + i, word - i);
		line += word - i;
		i = word;
	}
	return built(ev, &b, in.tainted, out, err);
}

/* ---- lists ---- */

static enum status op_listcount(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(in);
	struct str item;
	unsigned count = 0;

	(void)n;
	while (lang_split_next(&split, ev->arena, &item)) {
		enum status st = eval_step(ev, 1, err);

		if (st)
			return st;
		count++;
	}
	*out = str_printf(ev->arena, "%u", count);
	return ST_OK;
}

static const struct { char letter; enum conf_list_kind kind; } list_kinds[] = {
	{ 'a', CONF_LIST_ADDRESS }, { 'd', CONF_LIST_DOMAIN }, { 'h', CONF_LIST_HOST }, { 'l', CONF_LIST_LOCALPART },
};

/* The text of a named list, lists that it names put in; no expansion. */
static enum status listnamed_add(struct eval *ev, const struct conf_list *list, struct buf *b, int depth, struct err *err)
{
	struct lang_split split = LANG_SPLIT(list->value.text);
	struct str item;

	if (depth > LIST_NESTING_MAX)
		return err_set(err, ST_ERROR, "listnamed: lists name each other more than %d deep", LIST_NESTING_MAX);
	while (lang_split_next(&split, ev->arena, &item)) {
		enum status st = eval_step(ev, 1, err);

		if (!st && item.len > 1 && item.p[0] == '+') {
			const struct conf_list *inner = conf_list_find(lang_conf(ev->lang), list->kind, str_from(item, 1));

			if (!inner)
				return err_set(err, ST_ERROR, "listnamed: no list \"%.*s\"", STR_FMT(item));
			st = listnamed_add(ev, inner, b, depth + 1, err);
		} else if (!st) {
			if (b->len)
				buf_adds(b, " : ");
			lang_split_add(b, ':', item, true);
		}
		if (st)
			return st;
	}
	return ST_OK;
}

static bool listnamed_nests(struct eval *ev, const struct conf_list *list)
{
	struct lang_split split = LANG_SPLIT(list->value.text);
	struct str item;

	while (lang_split_next(&split, ev->arena, &item))
		if (item.len > 1 && item.p[0] == '+')
			return true;
	return false;
}

static enum status op_listnamed(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	const struct conf_list *list = NULL;
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	struct str name = in.len && in.p[0] == '+' ? str_from(in, 1) : in;
	enum status st;

	if (!lang_conf(ev->lang))
		return err_set(err, ST_ERROR, "listnamed: there is no configuration");
	for (size_t i = 0; !list && i < sizeof list_kinds / sizeof *list_kinds; i++)
		if (!n->has_op_arg || (n->op_arg.len == 1 && n->op_arg.p[0] == list_kinds[i].letter))
			list = conf_list_find(lang_conf(ev->lang), list_kinds[i].kind, name);
	if (!list)
		return err_set(err, ST_ERROR, "\"%.*s\" is not a named list", STR_FMT(expand_quote(ev, in)));
	if (!listnamed_nests(ev, list)) {
		*out = list->value.text;
		return ST_OK;
	}
	st = listnamed_add(ev, list, &b, 0, err);
	if (st) {
		buf_clear(&b);
		return st;
	}
	return built(ev, &b, false, out, err);
}

const struct op_row exp_ops_text[] = {
	{ "lc", op_lc, false, false, "the text with its letters in lower case" },
	{ "uc", op_uc, false, false, "the text with its letters in upper case" },
	{ "strlen", op_strlen, false, false, "the length of the text in octets" },
	{ "length", op_length, true, false, "the first octets: length_N" },
	{ "l", op_length, true, false, "short for length: the first octets" },
	{ "substr", op_substr, true, false, "part of a text: substr_START_LENGTH" },
	{ "s", op_substr, true, false, "short for substr: part of a text" },
	{ "hash", op_hash, true, false, "a textual hash: hash_LENGTH_CHARACTERS" },
	{ "h", op_hash, true, false, "short for hash: a textual hash" },
	{ "nhash", op_nhash, true, false, "a numeric hash: nhash_N or nhash_N_M" },
	{ "nh", op_nhash, true, false, "short for nhash: a numeric hash" },
	{ "quote", op_quote, true, false, "in double quotes where needed; quote_TYPE: for queries of that lookup type" },
	{ "quote_local_part", op_quote_local_part, false, false, "a local part quoted where its grammar asks for it" },
	{ "rxquote", op_rxquote, false, false, "a backslash before all that is no letter or digit" },
	{ "escape", op_escape, false, false, "unprintable octets as escapes" },
	{ "escape8bit", op_escape8bit, false, false, "8-bit octets as escapes" },
	{ "hexquote", op_hexquote, false, false, "unprintable octets and blanks as \\xNN" },
	{ "expand", op_expand, false, false, "the text expanded once more" },
	{ "utf8clean", op_utf8clean, false, false, "invalid UTF-8 replaced by ?" },
	{ "from_utf8", op_from_utf8, false, false, "UTF-8 converted to ISO-8859-1" },
	{ "rfc2047", op_rfc2047, false, false, "encoded for a header field" },
	{ "rfc2047d", op_rfc2047d, false, false, "decoded from a header field" },
	{ "headerwrap", op_headerwrap, true, false, "folded for a header field: headerwrap_COLUMNS_MAXIMUM" },
	{ "listcount", op_listcount, false, false, "number of elements of a list" },
	{ "listnamed", op_listnamed, true, false, "text of a named list" },
	{ NULL }
};

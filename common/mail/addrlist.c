/* SPDX-License-Identifier: ISC */
#include "common/mail/addrlist.h"

#include <string.h>

/* One pass over the value. Words and separators are collected in two forms at once: as the addr-spec that they may turn out to be
 * (no blanks) and as the phrase that they may turn out to be (words with one blank between). */
struct parser {
	struct str in;
	size_t at;
	unsigned flags;
	struct arena *arena;
	struct err *err;
	struct buf spec, phrase, comment;
	bool word;              /* the last token of spec was a word */
	bool broken;            /* two words in sequence: a phrase only */
	size_t from;            /* where the item began */
};

static bool is_special(char c)
{
	return c && strchr("()<>[]:;@\\,\".", c);
}

/* Comments and blanks; the text of the last comment is kept as a name for addresses without phrase. */
static enum status space_skip(struct parser *p)
{
	while (p->at < p->in.len) {
		char c = p->in.p[p->at];
		unsigned depth = 0;

		if (ascii_is_space(c)) {
			p->at++;
			continue;
		}
		if (c != '(')
			return ST_OK;
		buf_reset(&p->comment);
		do {
			if (p->at >= p->in.len)
				return err_set(p->err, ST_FAIL, "malformed address: comment does not end");
			c = p->in.p[p->at++];
			if (c == '(') {
				if (!depth++)
					continue;
			} else if (c == ')') {
				if (!--depth)
					break;
			} else if (c == '\\' && p->at < p->in.len) {
				c = p->in.p[p->at++];
			}
			if (c != '\r' && c != '\n')
				buf_addc(&p->comment, c);
		} while (depth);
	}
	return ST_OK;
}

static void word_add(struct parser *p, const char *text, size_t n, bool blank_before)
{
	if (p->word)
		p->broken = true;
	buf_add(&p->spec, text, n);
	if (p->phrase.len && blank_before)
		buf_addc(&p->phrase, ' ');
	p->word = true;
}

static enum status quoted_take(struct parser *p, bool blank_before)
{
	size_t from = p->at++;

	word_add(p, "\"", 1, blank_before);
	for (; p->at < p->in.len && p->in.p[p->at] != '"'; p->at++) {
		char c = p->in.p[p->at];

		if (c == '\r' || c == '\n')
			continue;
		if (c == '\\' && p->at + 1 < p->in.len) {
			buf_addc(&p->spec, c);
			c = p->in.p[++p->at];
		}
		buf_addc(&p->spec, c);
		buf_addc(&p->phrase, c);
	}
	if (p->at++ >= p->in.len)
		return err_set(p->err, ST_FAIL, "malformed address: quoted string does not end: %.*s", (int)(p->in.len - from > 60 ? 60 : p->in.len - from),
			p->in.p + from);
	buf_addc(&p->spec, '"');
	return ST_OK;
}

static enum status literal_take(struct parser *p)
{
	size_t from = p->at;

	while (p->at < p->in.len && p->in.p[p->at] != ']')
		p->at++;
	if (p->at++ >= p->in.len)
		return err_set(p->err, ST_FAIL, "malformed address: domain literal does not end");
	if (p->word)
		p->broken = true;
	buf_add(&p->spec, p->in.p + from, p->at - from);
	buf_add(&p->phrase, p->in.p + from, p->at - from);
	p->word = true;
	return ST_OK;
}

/* Words, dots, at signs and literals up to the next separator; blanks in between. */
static enum status tokens_take(struct parser *p)
{
	bool blank = false;

	for (;;) {
		size_t from = p->at;
		enum status st = space_skip(p);
		char c;

		blank = p->at != from;
		if (st)
			return st;
		if (p->at >= p->in.len)
			return ST_OK;
		c = p->in.p[p->at];
		if (c == '"') {
			st = quoted_take(p, blank);
		} else if (c == '[') {
			st = literal_take(p);
		} else if (c == '.' || c == '@') {
			buf_addc(&p->spec, c);
			buf_addc(&p->phrase, c);
			p->word = false;
			p->at++;
		} else if (is_special(c)) {
			return ST_OK;
		} else {
			for (from = p->at; p->at < p->in.len && !is_special(p->in.p[p->at]) && !ascii_is_space(p->in.p[p->at]); p->at++)
				;
			word_add(p, p->in.p + from, p->at - from, blank);
			buf_add(&p->phrase, p->in.p + from, p->at - from);
		}
		if (st)
			return st;
	}
}

static struct str keep(struct parser *p, const struct buf *b)
{
	return str_dup(p->arena, (struct str){ b->len ? b->p : "", (uint32_t)b->len, p->in.tainted });
}

static void item_begin(struct parser *p)
{
	buf_reset(&p->spec);
	buf_reset(&p->phrase);
	buf_reset(&p->comment);
	p->word = p->broken = false;
}

static enum status spec_check(struct parser *p, struct addrlist_item *out)
{
	struct address addr;
	enum status st;

	if (p->broken)
		return err_set(p->err, ST_FAIL, "malformed address: %.*s", (int)(p->at - p->from > 100 ? 100 : p->at - p->from), p->in.p + p->from);
	out->addr = keep(p, &p->spec);
	st = address_parse(out->addr, p->flags | ADDR_LITERALS | ADDR_UNQUALIFIED, &addr, p->err);
	return st ? err_prefix(p->err, "malformed address: %.*s", (int)(out->addr.len > 100 ? 100 : out->addr.len), out->addr.p) : ST_OK;
}

/* <addr>, behind the phrase that has been collected. */
static enum status angle_take(struct parser *p, struct addrlist_item *out)
{
	enum status st;
	char *colon;

	out->name = keep(p, &p->phrase);
	item_begin(p);
	p->at++;
	if ((st = tokens_take(p)))
		return st;
	/* A source route, which is dropped: RFC 5322 section 4.4. */
	while (p->at < p->in.len && (p->in.p[p->at] == ',' || p->in.p[p->at] == ':') && p->spec.len && p->spec.p[0] == '@') {
		colon = p->in.p[p->at] == ':' ? p->spec.p : NULL;
		p->at++;
		p->word = false;
		if (colon) {
			item_begin(p);
			if ((st = tokens_take(p)))
				return st;
			break;
		}
		if ((st = tokens_take(p)))
			return st;
	}
	if (p->at >= p->in.len || p->in.p[p->at] != '>')
		return err_set(p->err, ST_FAIL, "malformed address: > expected after <%.*s", (int)(p->spec.len > 100 ? 100 : p->spec.len),
			p->spec.p ? p->spec.p : "");
	p->at++;
	if (!p->spec.len) {
		if (!(p->flags & ADDR_EMPTY))
			return err_set(p->err, ST_FAIL, "empty address <>");
		out->addr = (struct str){ "", 0, p->in.tainted };
	} else if ((st = spec_check(p, out))) {
		return st;
	}
	item_begin(p);
	if ((st = space_skip(p)))
		return st;
	if (!out->name.len)
		out->name = keep(p, &p->comment);
	if (p->at < p->in.len && !strchr(",;", p->in.p[p->at]))
		return err_set(p->err, ST_FAIL, "malformed address: %.*s may not follow <%.*s>", (int)(p->in.len - p->at > 20 ? 20 : p->in.len - p->at),
			p->in.p + p->at, (int)(out->addr.len > 100 ? 100 : out->addr.len), out->addr.p);
	return ST_OK;
}

/* One item up to its separator, which is left. *found_out: there was an address; *group_out: "name:" was read instead. */
static enum status item_take(struct parser *p, struct addrlist_item *out, bool *found_out, bool *group_out)
{
	enum status st;

	memset(out, 0, sizeof *out);
	*found_out = *group_out = false;
	item_begin(p);
	if ((st = space_skip(p)))
		return st;
	p->from = p->at;
	if ((st = tokens_take(p)))
		return st;
	if (p->at < p->in.len && p->in.p[p->at] == '<') {
		st = angle_take(p, out);
		*found_out = true;
	} else if (p->at < p->in.len && p->in.p[p->at] == ':') {
		p->at++;
		*group_out = true;
		out->name = keep(p, &p->phrase);
		return ST_OK;
	} else if (p->at < p->in.len && !strchr(",;", p->in.p[p->at])) {
		return err_set(p->err, ST_FAIL, "malformed address: unexpected \"%c\"", p->in.p[p->at]);
	} else if (p->spec.len) {
		if ((st = spec_check(p, out)))
			return st;
		out->name = keep(p, &p->comment);
		*found_out = true;
	}
	out->raw = str_trim(str_sub(p->in, p->from, p->at - p->from));
	return st;
}

static void parser_init(struct parser *p, struct str in, unsigned flags, struct arena *a, struct err *err)
{
	*p = (struct parser){ .in = in, .flags = flags, .arena = a, .err = err, .spec = BUF_INIT, .phrase = BUF_INIT, .comment = BUF_INIT };
}

static void parser_clear(struct parser *p)
{
	buf_clear(&p->spec);
	buf_clear(&p->phrase);
	buf_clear(&p->comment);
}

static enum status list_take(struct parser *p, struct addrlist *out, uint32_t *room)
{
	struct str group = STR_NULL;
	bool in_group = false;

	while (p->at < p->in.len) {
		struct addrlist_item item;
		bool found, begins;
		enum status st = item_take(p, &item, &found, &begins);

		if (st)
			return st;
		if (begins) {
			if (in_group)
				return err_set(p->err, ST_FAIL, "malformed address: a group within a group");
			in_group = true;
			group = item.name;
			continue;
		}
		if (found) {
			if (out->n == ADDRLIST_MAX)
				return err_set(p->err, ST_FAIL, "more than %d addresses", ADDRLIST_MAX);
			if (out->n == *room) {
				struct addrlist_item *more = arena_alloc(p->arena, (*room ? *room *= 2 : (*room = 8)) * sizeof *more);

				if (out->n)
					memcpy(more, out->v, out->n * sizeof *more);
				out->v = more;
			}
			item.group = group;
			out->v[out->n++] = item;
		}
		if (p->at < p->in.len && p->in.p[p->at++] == ';') {
			if (!in_group)
				return err_set(p->err, ST_FAIL, "malformed address: \";\" outside a group");
			in_group = false;
			group = STR_NULL;
		}
	}
	return ST_OK;
}

enum status addrlist_parse(struct str value, unsigned flags, struct arena *a, struct addrlist *out, struct err *err)
{
	struct parser p;
	uint32_t room = 0;
	enum status st;

	*out = (struct addrlist){ NULL, 0 };
	parser_init(&p, value, flags, a, err);
	st = list_take(&p, out, &room);
	parser_clear(&p);
	return st;
}

bool addrlist_item_next(struct str *rest, struct str *item_out)
{
	unsigned depth = 0;
	bool quoted = false;
	size_t i;

	if (!rest->p || !rest->len)
		return false;
	for (i = 0; i < rest->len; i++) {
		char c = rest->p[i];

		if (c == '\\' && (quoted || depth)) {
			i++;
		} else if (quoted) {
			quoted = c != '"';
		} else if (depth) {
			depth += (c == '(') - (c == ')');
		} else if (c == '"') {
			quoted = true;
		} else if (c == '(') {
			depth = 1;
		} else if (c == ',') {
			break;
		}
	}
	if (i > rest->len)
		i = rest->len;
	*item_out = str_trim(str_sub(*rest, 0, i));
	*rest = str_from(*rest, i + 1);
	return true;
}

enum status addrlist_item_parse(struct str item, unsigned flags, struct arena *a, struct addrlist_item *out, struct err *err)
{
	struct parser p;
	bool found, begins;
	enum status st;

	parser_init(&p, item, flags, a, err);
	st = item_take(&p, out, &found, &begins);
	if (!st && (begins || p.at < item.len))
		st = err_set(err, ST_FAIL, "more than one address");
	else if (!st && !found)
		st = err_set(err, ST_FAIL, "empty address");
	parser_clear(&p);
	return st;
}

struct str addrlist_format(struct arena *a, struct str name, struct str addr)
{
	struct buf b = BUF_INIT;
	bool quote = false;
	struct str s;

	if (!name.len)
		return addr;
	for (size_t i = 0; i < name.len; i++)
		quote |= is_special(name.p[i]) || (unsigned char)name.p[i] < 32 || name.p[i] == 127;
	if (quote)
		buf_addc(&b, '"');
	for (size_t i = 0; i < name.len; i++) {
		if (quote && (name.p[i] == '"' || name.p[i] == '\\'))
			buf_addc(&b, '\\');
		buf_addc(&b, (unsigned char)name.p[i] < 32 || name.p[i] == 127 ? ' ' : name.p[i]);
	}
	buf_printf(&b, "%s <%.*s>", quote ? "\"" : "", STR_FMT(addr));
	s = str_dup(a, buf_str(&b));
	s.tainted = name.tainted || addr.tainted;
	buf_clear(&b);
	return s;
}

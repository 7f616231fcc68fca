/* SPDX-License-Identifier: ISC */
#include "router/redirect_list.h"

#include "common/mail/addrlist.h"

static const struct {
	const char *word;
	enum redirect_kind kind;
} specials[] = {
	{ ":fail:", REDIRECT_FAIL }, { ":defer:", REDIRECT_DEFER }, { ":blackhole:", REDIRECT_BLACKHOLE }, { ":unknown:", REDIRECT_UNKNOWN },
	{ ":include:", REDIRECT_INCLUDE },
};

static struct str line_take(struct redirect_scan *s)
{
	ptrdiff_t at = str_find(s->rest, '\n');
	struct str line = at < 0 ? s->rest : str_sub(s->rest, 0, (size_t)at);

	s->rest = str_from(s->rest, line.len);
	return line;
}

/* Blanks, line ends, commas; comments, which begin with "#" where an item could. */
static void gap_skip(struct redirect_scan *s)
{
	for (;;) {
		uint32_t n = 0;
		while (n < s->rest.len && (ascii_is_space(s->rest.p[n]) || s->rest.p[n] == ','))
			n++;
		s->rest = str_from(s->rest, n);
		if (!s->rest.len || s->rest.p[0] != '#')
			return;
		line_take(s);
	}
}

/* Up to a comma or line end outside quotes and comments; the commas of a source route (@one,@two:local@domain) are its own. */
static struct str item_take(struct redirect_scan *s)
{
	struct str r = s->rest;
	uint32_t i = 0, depth = 0;
	bool quoted = false, route = r.len && r.p[0] == '@';

	for (; i < r.len; i++) {
		char c = r.p[i];
		if (c == '\\' && i + 1 < r.len && r.p[i + 1] != '\n')
			i++;
		else if (quoted)
			quoted = c != '"';
		else if (depth)
			depth += (c == '(') - (c == ')');
		else if (c == '"')
			quoted = true;
		else if (c == '(')
			depth = 1;
		else if (route && c == ':')
			route = false;
		else if ((c == ',' && !(route && i + 1 < r.len && r.p[i + 1] == '@')) || c == '\n')
			break;
	}
	if (i > r.len)
		i = r.len;
	s->rest = str_from(r, i);
	return str_trim(str_sub(r, 0, i));
}

/* Quotes around the whole item are taken off, and what they protected stands for itself. */
static struct str whole_unquote(struct arena *a, struct str item)
{
	struct buf b = BUF_INIT;
	struct str out;

	if (item.len < 2 || item.p[0] != '"' || item.p[item.len - 1] != '"')
		return item;
	for (uint32_t i = 1; i + 1 < item.len; i++) {
		char c = item.p[i];
		if (c == '"') { /* it ends before the end: "john doe"@example.org */
			buf_clear(&b);
			return item;
		}
		if (c == '\\' && i + 2 < item.len)
			c = item.p[++i];
		buf_addc(&b, c);
	}
	out = str_trim(str_dup(a, buf_str(&b)));
	out.tainted = item.tainted;
	buf_clear(&b);
	return out;
}

static bool address_parse_item(struct str item, struct arena *a, struct str *out, struct err *err)
{
	struct addrlist_item parsed;

	if (addrlist_item_parse(item, ADDR_LENIENT | ADDR_UTF8, a, &parsed, err) != ST_OK)
		return false;
	*out = parsed.addr;
	out->tainted = item.tainted;
	return true;
}

static bool has_domain(struct str addr)
{
	struct str local, domain;

	return address_split(addr, &local, &domain) && domain.len;
}

/* "@one,@two:local@domain" is local@domain (RFC 5321 section 4.1.1.3: source routes are ignored). */
static struct str route_drop(struct str item)
{
	ptrdiff_t colon = item.p[0] == '@' ? str_find(item, ':') : -1;

	return colon > 0 ? str_trim(str_from(item, (size_t)colon + 1)) : item;
}

static void path_or_pipe(struct str item, struct redirect_item *out)
{
	if (item.p[0] == '|') {
		out->text = str_trim(str_from(item, 1));
		out->kind = out->text.len ? REDIRECT_PIPE : REDIRECT_BAD;
		if (!out->text.len)
			out->text = STR_LIT("\"|\": no command");
	} else {
		out->kind = str_is(item, "/dev/null") ? REDIRECT_NOWHERE : item.p[item.len - 1] == '/' ? REDIRECT_DIRECTORY : REDIRECT_FILE;
		out->text = item;
	}
}

static void address_item(struct str item, struct arena *a, struct redirect_item *out)
{
	struct err err = ERR_INIT;
	bool special = item.p[0] == '|' || item.p[0] == '/';

	if (item.p[0] == '\\') {
		out->backslash = true;
		item = str_from(item, 1);
	}
	item = item.len ? route_drop(item) : item;
	if (address_parse_item(item, a, &out->text, &err) && out->text.len && (!special || has_domain(out->text))) {
		out->kind = REDIRECT_ADDRESS;
		return;
	}
	if (special && !out->backslash) {
		path_or_pipe(item, out);
		return;
	}
	out->kind = REDIRECT_BAD;
	out->text = str_printf(a, "\"%.*s\": %s", STR_FMT(str_sub(item, 0, 200)), err.text[0] ? err.text : "no address");
}

static bool special_item(struct redirect_scan *s, struct arena *a, struct redirect_item *out)
{
	for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
		size_t n = __builtin_strlen(specials[i].word);
		if (!str_begins(s->rest, specials[i].word))
			continue;
		out->kind = specials[i].kind;
		s->rest = str_from(s->rest, n);
		/* the reason goes to the end of the line, commas and all; a path to the end of the item */
		if (out->kind == REDIRECT_FAIL || out->kind == REDIRECT_DEFER)
			out->text = str_trim(line_take(s));
		else
			out->text = whole_unquote(a, item_take(s));
		return true;
	}
	return false;
}

bool redirect_next(struct redirect_scan *s, struct arena *a, struct redirect_item *out)
{
	struct redirect_scan inner;
	struct str item;

	*out = (struct redirect_item){ .kind = REDIRECT_BAD };
	gap_skip(s);
	if (!s->rest.len)
		return false;
	if (special_item(s, a, out))
		return true;
	item = whole_unquote(a, item_take(s));
	if (!item.len) {
		out->text = STR_LIT("empty item");
		return true;
	}
	inner = REDIRECT_SCAN(item);
	if (item.p[0] == ':' && special_item(&inner, a, out))
		return true;
	address_item(item, a, out);
	return true;
}

static bool is_digits(struct str s, uint32_t from, uint32_t to)
{
	if (from >= to || s.len < to)
		return false;
	for (uint32_t i = from; i < to; i++)
		if (!ascii_is_digit(s.p[i]))
			return false;
	return true;
}

void redirect_codes_take(struct str *text, char digit, struct str *status_out)
{
	struct str s = *text, word;
	ptrdiff_t blank;
	unsigned dots = 0;

	*status_out = STR_NULL;
	if (s.len < 3 || !is_digits(s, 0, 3) || s.p[0] != digit || (s.len > 3 && s.p[3] != ' '))
		return;
	s = str_trim(str_from(s, 3));
	*text = s;
	blank = str_find(s, ' ');
	word = blank < 0 ? s : str_sub(s, 0, (size_t)blank);
	if (word.len < 5 || word.len > 11 || word.p[0] != digit || word.p[1] != '.')
		return;
	for (uint32_t i = 0; i < word.len; i++) {
		dots += word.p[i] == '.';
		if (word.p[i] != '.' && !ascii_is_digit(word.p[i]))
			return;
		if (word.p[i] == '.' && (i + 1 == word.len || word.p[i + 1] == '.'))
			return;
	}
	if (dots != 2)
		return;
	*status_out = word;
	*text = str_trim(str_from(s, word.len));
}

void redirect_codes_drop(struct str *text)
{
	struct str status;

	if (text->len)
		redirect_codes_take(text, text->p[0], &status);
}

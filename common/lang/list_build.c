/* SPDX-License-Identifier: ISC */
/* From text to items. */
#include "common/lang/list_priv.h"

#include <stdlib.h>
#include <string.h>

#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"
#include "common/mail/address.h"
#include "common/mail/alabel.h"

enum { RUN_MIN = 8 /* literals in a row that are worth sorting */ };

static const struct { const char *name; enum item_switch which; bool hosts; } switches[] = {
	{ "+include_unknown", SWITCH_INCLUDE_UNKNOWN, true }, { "+ignore_unknown", SWITCH_IGNORE_UNKNOWN, true },
	{ "+include_defer", SWITCH_INCLUDE_DEFER, true }, { "+ignore_defer", SWITCH_IGNORE_DEFER, true },
	{ "+caseful", SWITCH_CASEFUL, false },
};

static bool kind_is_host(enum lang_list_kind kind) { return kind == LIST_HOST || kind == LIST_IP; }

static bool switch_parse(enum lang_list_kind kind, struct str text, struct list_item *out)
{
	for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
		if (str_is(text, switches[i].name) && switches[i].hosts == kind_is_host(kind) && kind != LIST_DOMAIN) {
			out->kind = ITEM_SWITCH;
			out->which = switches[i].which;
			return true;
		}
	return false;
}

/* "type,options;rest" where the type exists. ST_FAIL: no lookup; ST_ERROR: one that can't be. */
static enum status lookup_parse(struct str text, struct list_item *out, struct err *err)
{
	ptrdiff_t semi = str_find(text, ';');
	struct err why = ERR_INIT;
	struct str type;
	enum status st;

	if (semi < 0)
		return ST_FAIL;
	type = str_trim(str_sub(text, 0, (size_t)semi));
	st = lookup_spec_parse(type, &out->spec, &why);
	if (st)
		return err_set(err, ST_ERROR, "%s", why.text);
	out->type = type;
	out->kind = ITEM_LOOKUP;
	out->part = str_trim(str_from(text, (size_t)semi + 1));
	if (out->spec.type->style == LOOKUP_QUERY)
		out->key = out->part;
	else
		out->file = out->part;
	return ST_OK;
}

static enum status mx_parse(struct lang *lang, struct arena *a, struct str text, struct list_item *out, struct err *err)
{
	static const struct { const char *name; enum mx_want want; } names[] = {
		{ "@mx_any", MX_ANY }, { "@mx_primary", MX_PRIMARY }, { "@mx_secondary", MX_SECONDARY },
	};
	ptrdiff_t slash = str_find(text, '/');
	struct str name = slash < 0 ? text : str_sub(text, 0, (size_t)slash);

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!str_isi(name, names[i].name))
			continue;
		out->kind = ITEM_MX;
		out->mx = names[i].want;
		if (slash < 0)
			return ST_OK;
		if (!str_beginsi(str_from(text, (size_t)slash), "/ignore="))
			return err_set(err, ST_ERROR, "\"/ignore=\" expected behind \"%s\"", names[i].name);
		return lang_list_build(lang, a, LIST_IP, str_from(text, (size_t)slash + 8), false, &out->sub, err);
	}
	return ST_FAIL;
}

static enum status domain_parse(struct lang *lang, struct arena *a, struct str text, bool at_items, struct list_item *out, struct err *err)
{
	enum status st;

	if (at_items && text.p[0] == '@') {
		out->kind = str_is(text, "@") ? ITEM_SELF : ITEM_SELF_IP;
		if (str_is(text, "@") || str_is(text, "@[]"))
			return ST_OK;
		st = mx_parse(lang, a, text, out, err);
		if (st != ST_FAIL)
			return st;
	}
	st = lookup_parse(text, out, err);
	if (st != ST_FAIL)
		return st;
	out->kind = ITEM_LITERAL;
	out->part = text;
	return ST_OK;
}

/* net-type;file and netN-type;file. */
static enum status net_lookup_parse(struct str text, struct list_item *out, struct err *err)
{
	struct str rest = str_from(text, 3);
	uint32_t digits = 0;
	uint64_t bits;
	enum status st;

	if (!str_begins(text, "net") || str_find(text, ';') < 0)
		return ST_FAIL;
	while (digits < rest.len && ascii_is_digit(rest.p[digits]))
		digits++;
	if (digits >= rest.len || rest.p[digits] != '-')
		return ST_FAIL;
	out->net_bits = -1;
	if (digits) {
		if (!str_u64(str_sub(rest, 0, digits), 128, &bits))
			return err_set(err, ST_ERROR, "mask in \"%.*s\" is longer than 128 bits", STR_FMT(str_sub(text, 0, 60)));
		out->net_bits = (int)bits;
	}
	st = lookup_parse(str_from(rest, digits + 1), out, err);
	if (!st && out->spec.type->style == LOOKUP_KEY)
		out->kind = ITEM_NET_LOOKUP;
	return st;
}

/* "net24-lsearch" or "lsearch" alone: its file was taken for another item, as in "<; net24-lsearch;/file". */
static bool is_lookup_torn(struct str text)
{
	uint32_t n = 3;

	if (str_begins(text, "net")) {
		while (n < text.len && ascii_is_digit(text.p[n]))
			n++;
		if (n < text.len && text.p[n] == '-')
			text = str_from(text, n + 1);
	}
	return lookup_type_find(text) && lookup_type_find(text)->flags & (LOOKUP_FILE | LOOKUP_DIR);
}

static enum status host_parse(enum lang_list_kind kind, struct str text, struct list_item *out, struct err *err)
{
	enum status st;

	if (str_is(text, "@") && kind == LIST_HOST) {
		out->kind = ITEM_SELF;
		return ST_OK;
	}
	if (str_is(text, "@[]")) {
		out->kind = ITEM_SELF_IP;
		return ST_OK;
	}
	if (ip_net_parse(text, &out->net)) {
		out->kind = ITEM_NET;
		/* An IPv4 host is compared as such, however the list writes it. */
		if (out->net.bits == 128 && str_find(text, '/') < 0) {
			ip_parse_mapped(text, &out->net.ip);
			out->net.bits = (uint8_t)(out->net.ip.len * 8);
		}
		return ST_OK;
	}
	st = net_lookup_parse(text, out, err);
	if (st != ST_FAIL)
		return st;
	st = lookup_parse(text, out, err);
	if (!st && kind == LIST_IP && out->spec.type->style == LOOKUP_KEY) {
		out->kind = ITEM_NET_LOOKUP;
		out->net_bits = -1;
	}
	if (st != ST_FAIL)
		return st;
	if (kind == LIST_IP)
		return err_set(err, ST_ERROR, "\"%.*s\" is neither IP address nor network", STR_FMT(str_sub(text, 0, 80)));
	if (str_find(text, '/') >= 0 && ascii_is_digit(text.p[0]))
		return err_set(err, ST_ERROR, "malformed network \"%.*s\"", STR_FMT(str_sub(text, 0, 80)));
	if (is_lookup_torn(text))
		return err_set(err, ST_ERROR, "\"%.*s\" needs a file: write %.*s;FILE, with ;; where the list has semicolons between its items", STR_FMT(text),
			STR_FMT(text));
	out->kind = ITEM_HOST_NAME;
	out->part = text;
	return ST_OK;
}

static enum status address_parse_item(struct lang *lang, struct arena *a, struct str text, struct list_item *out, struct err *err)
{
	ptrdiff_t at, semi = str_find(text, ';');
	struct err why = ERR_INIT;
	enum status st;

	if (str_begins(text, "@@")) {
		st = lookup_parse(str_from(text, 2), out, err);
		if (st == ST_FAIL)
			return err_set(err, ST_ERROR, "a lookup expected behind \"@@\" in \"%.*s\"", STR_FMT(str_sub(text, 0, 80)));
		out->kind = ITEM_AT_AT;
		return st;
	}
	at = semi < 0 ? str_rfind(text, '@') : str_find(str_sub(text, 0, (size_t)semi), '@');
	if (at > 0 && text.p[at - 1] == '@') /* LOCAL@@ and LOCAL@@[]: the domain is @ or @[] */
		at--;
	/* lsearch*@;/file is a lookup of the whole address, user@lsearch;/file one of the domain. */
	if (semi >= 0 && !lookup_parse(text, out, &why)) {
		if (out->spec.partial >= 0)
			return err_set(err, ST_ERROR, "\"%.*s\": whole addresses are not looked up in parts", STR_FMT(out->type));
		return ST_OK;
	}
	if (semi >= 0 && at < 0)
		return err_set(err, ST_ERROR, "%s", why.text);
	out->kind = ITEM_ADDRESS;
	out->part = at < 0 ? STR_LIT("*") : str_sub(text, 0, (size_t)at);
	out->domain = arena_alloc(a, sizeof *out->domain);
	text = at < 0 ? text : str_from(text, (size_t)at + 1);
	if (!text.len) {
		out->domain->kind = ITEM_EMPTY;
		return ST_OK;
	}
	return list_item_parse(lang, a, LIST_DOMAIN, text, out->domain, err);
}

static enum status item_parse(struct lang *lang, struct arena *a, enum lang_list_kind kind, struct str text, struct list_item *out, struct err *err)
{
	enum lang_list_kind named = kind == LIST_IP ? LIST_HOST : kind;

	out->text = text;
	if (!text.len) {
		out->kind = ITEM_EMPTY;
		return ST_OK;
	}
	if (str_is(text, "*")) {
		out->kind = ITEM_ANY;
		return ST_OK;
	}
	if (text.p[0] == '^' && kind != LIST_IP) {
		out->kind = ITEM_REGEX;
		out->part = text;
		if (!text.tainted) {
			struct regex *re;

			return regex_get(&lang->regexes, text, kind == LIST_STRING ? 0 : REGEX_CASELESS, &re, err);
		}
		return ST_OK;
	}
	if (text.p[0] == '+' && text.len > 1 && kind != LIST_STRING) {
		if (switch_parse(kind, text, out))
			return ST_OK;
		out->kind = ITEM_NAMED;
		return lang_list_named(lang, named, str_from(text, 1), &out->sub, err) ? ST_ERROR : ST_OK;
	}
	if (text.p[0] == '*' && kind != LIST_IP && !(kind == LIST_ADDRESS && str_find(text, '@') >= 0)) {
		out->kind = ITEM_TAIL;
		out->part = str_from(text, 1);
		return ST_OK;
	}
	switch (kind) {
	case LIST_DOMAIN:
		return domain_parse(lang, a, text, true, out, err);
	case LIST_LOCALPART:
		return domain_parse(lang, a, text, false, out, err);
	case LIST_HOST:
	case LIST_IP:
		return host_parse(kind, text, out, err);
	case LIST_ADDRESS:
		return address_parse_item(lang, a, text, out, err);
	case LIST_STRING:
	case LANG_LIST_KINDS:
		break;
	}
	out->kind = ITEM_LITERAL;
	out->part = text;
	return ST_OK;
}

/* ".example.org", too. The end of a label has no A-label. */
static struct str domain_canonical(struct arena *a, struct str text, bool tail)
{
	struct str name = text.len && text.p[0] == '.' ? str_from(text, 1) : text, made = alabel_domain_canonical(a, name), out, rest = name, first;

	str_split(&rest, '.', &first);
	if (made.p == name.p || (tail && name.p == text.p && !address_is_ascii(first)))
		return utf8_nfc(a, text);
	out = name.p == text.p ? made : str_printf(a, ".%.*s", STR_FMT(made));
	out.tainted = text.tainted;
	return out;
}

/* What is not ASCII is compared in one form: domains as A-labels, all else in normalisation form C. */
static void item_normalise(struct arena *a, enum lang_list_kind kind, struct list_item *item)
{
	bool domains = kind == LIST_DOMAIN || kind == LIST_HOST || (kind == LIST_ADDRESS && item->kind == ITEM_TAIL);

	if (address_is_ascii(item->part) || (item->kind != ITEM_LITERAL && item->kind != ITEM_TAIL && item->kind != ITEM_HOST_NAME && item->kind != ITEM_ADDRESS))
		return;
	item->part = domains ? domain_canonical(a, item->part, item->kind == ITEM_TAIL) : utf8_nfc(a, item->part);
}

enum status list_item_parse(struct lang *lang, struct arena *a, enum lang_list_kind kind, struct str text, struct list_item *out, struct err *err)
{
	enum status st = item_parse(lang, a, kind, text, out, err);

	if (!st)
		item_normalise(a, kind, out);
	return st;
}

static int run_compare(const void *x, const void *y)
{
	return str_cmpi(*(const struct str *)x, *(const struct str *)y);
}

/* Long rows of plain domains are sorted, so that the number of items hardly matters. */
static void list_runs_sort(struct arena *a, struct lang_list *list)
{
	uint32_t to = 0;

	if (list->kind != LIST_DOMAIN)
		return;
	for (uint32_t i = 0; i < list->n;) {
		uint32_t k = i;
		struct str *run;

		while (k < list->n && list->items[k].kind == ITEM_LITERAL && !list->items[k].negated && address_is_ascii(list->items[k].text))
			k++;
		if (k - i < RUN_MIN) {
			k = k > i ? k : i + 1;
			while (i < k)
				list->items[to++] = list->items[i++];
			continue;
		}
		run = arena_alloc(a, sizeof *run * (k - i));
		for (uint32_t j = i; j < k; j++)
			run[j - i] = list->items[j].part;
		qsort(run, k - i, sizeof *run, run_compare);
		list->items[to++] = (struct list_item){ .kind = ITEM_RUN, .run = run, .n_run = k - i };
		i = k;
	}
	list->n = to;
}

static bool item_costly(const struct list_item *item)
{
	switch (item->kind) {
	case ITEM_FILE: case ITEM_LOOKUP: case ITEM_MX: case ITEM_NET_LOOKUP: case ITEM_HOST_NAME: case ITEM_AT_AT: case ITEM_SELF:
		return true;
	case ITEM_NAMED:
		return item->sub && item->sub->costly;
	case ITEM_ADDRESS:
		return item->domain && item_costly(item->domain);
	case ITEM_EMPTY: case ITEM_ANY: case ITEM_LITERAL: case ITEM_RUN: case ITEM_TAIL: case ITEM_REGEX: case ITEM_SELF_IP: case ITEM_NET:
	case ITEM_SWITCH: case ITEM_BROKEN:
		break;
	}
	return false;
}

/* A line of a file without its comment: from # on, in lists of local parts and addresses only where a blank or nothing is before it. */
static struct str line_strip(enum lang_list_kind kind, struct str line)
{
	bool anywhere = kind == LIST_DOMAIN || kind_is_host(kind);

	for (uint32_t i = 0; i < line.len; i++)
		if (line.p[i] == '#' && (anywhere || !i || ascii_is_space(line.p[i - 1]))) {
			line.len = i;
			break;
		}
	return str_trim(line);
}

struct item_source {
	struct lang_split split;
	struct str rest;
	bool lines;
	enum lang_list_kind kind;
};

static bool source_next(struct item_source *s, struct arena *a, struct str *item)
{
	if (!s->lines)
		return lang_split_next(&s->split, a, item);
	while (str_split(&s->rest, '\n', item)) {
		*item = line_strip(s->kind, *item);
		if (item->len)
			return true;
	}
	return false;
}

enum status list_items_build(struct lang *lang, struct arena *a, struct lang_list *list, struct str text, bool lines, struct err *err)
{
	struct item_source source = { LANG_SPLIT(text), text, lines, list->kind };
	struct list_item *v = NULL;
	uint32_t n = 0, room = 0;
	enum status st = ST_OK;
	struct str item;

	while (!st && source_next(&source, a, &item)) {
		struct list_item *it;

		if (n == LIST_ITEMS_MAX) {
			st = err_set(err, ST_ERROR, "list of more than %d items", LIST_ITEMS_MAX);
			break;
		}
		if (n == room) {
			struct list_item *more = arena_alloc(a, sizeof *more * (room ? room * 2 : 8));

			if (n)
				memcpy(more, v, sizeof *v * n);
			v = more;
			room = room ? room * 2 : 8;
		}
		it = &v[n++];
		*it = (struct list_item){ 0 };
		if (item.len && item.p[0] == '!' && list->kind != LIST_STRING) {
			it->negated = true;
			item = str_trim(str_from(item, 1));
		}
		list->last_negated = it->negated;
		if (!lines && item.len && item.p[0] == '/' && list->kind != LIST_STRING) {
			it->kind = ITEM_FILE;
			it->text = it->part = item;
		} else {
			st = list_item_parse(lang, a, list->kind, item, it, err);
			if (st)
				err_prefix(err, "item \"%.*s\"", STR_FMT(str_sub(item, 0, 80)));
		}
	}
	list->items = v;
	list->n = n;
	if (!st)
		list_runs_sort(a, list);
	for (uint32_t i = 0; i < list->n; i++)
		list->costly |= item_costly(&list->items[i]);
	return st;
}

enum status lang_list_build(struct lang *lang, struct arena *a, enum lang_list_kind kind, struct str text, bool expand, struct lang_list **out,
	struct err *err)
{
	struct lang_list *list = arena_alloc(a, sizeof *list);
	enum status st;

	*out = NULL;
	list->kind = kind;
	list->text = str_dup(a, text);
	if (expand) {
		st = expansion_compile(lang, a, list->text, &list->x, err);
		if (st)
			return st;
		if (!list->x->is_constant) {
			list->costly = true;
			*out = list;
			return ST_OK;
		}
		list->text = list->x->constant;
		list->x = NULL;
	}
	st = list_items_build(lang, a, list, list->text, false, err);
	if (!st)
		*out = list;
	return st;
}

enum status lang_list_compile(struct lang *lang, enum lang_list_kind kind, struct str text, struct conf_place place, struct lang_list **out,
	struct err *err)
{
	enum status st = lang_list_build(lang, &lang->arena, kind, text, true, out, err);

	if (!st)
		(*out)->place = place;
	return st;
}

/* ---- named lists ---- */

struct named_list {
	struct lang_list *list;
	bool building;          /* lists that name each other in a circle */
	struct err err;         /* why there is no list */
};

static const char *const kind_names[] = { [LIST_DOMAIN] = "domain list", [LIST_HOST] = "host list", [LIST_ADDRESS] = "address list",
	[LIST_LOCALPART] = "local part list", [LIST_STRING] = "list", [LIST_IP] = "list of IP addresses" };

static enum status named_unknown(const struct conf *conf, enum lang_list_kind kind, struct str name, struct err *err)
{
	char word[CONF_NAME_MAX + 1];
	struct str near = STR_NULL;
	unsigned best = name.len / 3 + 2;
	uint32_t len = name.len < CONF_NAME_MAX ? name.len : CONF_NAME_MAX;

	if (len)
		memcpy(word, name.p, len);
	word[len] = '\0';
	for (uint32_t i = 0; conf && i < conf->n_lists; i++) {
		const struct conf_list *l = &conf->lists[i];
		unsigned d;

		if ((int)l->kind != (int)kind || !l->name.p)
			continue;
		d = str_distance(word, l->name.p);
		if (d < best) {
			best = d;
			near = l->name;
		}
	}
	return err_set(err, ST_FAIL, "unknown %s \"+%s\"%s%.*s%s", kind_names[kind], word, near.p ? ": did you mean \"+" : "", STR_FMT(near),
		near.p ? "\"?" : "");
}

enum status lang_list_named(struct lang *lang, enum lang_list_kind kind, struct str name, struct lang_list **out, struct err *err)
{
	const struct conf_list *conf_list;
	struct named_list *named;
	enum status st;

	*out = NULL;
	if (kind >= (int)CONF_LIST_KINDS)
		return err_set(err, ST_ERROR, "a %s has no named lists", kind_names[kind]);
	named = hash_get(&lang->lists[kind], name);
	if (named && named->building)
		return err_set(err, ST_ERROR, "%s \"+%.*s\" names itself", kind_names[kind], STR_FMT(name));
	if (named && !named->list)
		return err_set(err, named->err.status, "%s", named->err.text);
	if (named) {
		*out = named->list;
		return ST_OK;
	}
	conf_list = lang->conf ? conf_list_find(lang->conf, (enum conf_list_kind)kind, name) : NULL;
	if (!conf_list)
		return named_unknown(lang->conf, kind, name, err);
	named = arena_alloc(&lang->arena, sizeof *named);
	hash_put(&lang->lists[kind], conf_list->name, named);
	named->building = true;
	st = lang_list_compile(lang, kind, conf_list->value.text, conf_list->value.place, &named->list, &named->err);
	named->building = false;
	if (st) {
		err_prefix(&named->err, "%s \"+%.*s\"", kind_names[kind], STR_FMT(name));
		return err_set(err, st, "%s", named->err.text);
	}
	named->list->name = conf_list->name;
	named->list->cache = conf_list->cache;
	*out = named->list;
	return ST_OK;
}

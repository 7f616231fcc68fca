/* SPDX-License-Identifier: ISC */
/* The dnslists condition: is the client, or another key, in a DNS list (specification, sections 44.27 to 44.37). */
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/conf/log_selector.h"
#include "common/lang/acl_row.h"
#include "common/lang/lang_ask.h"
#include "common/lang/lang_ip.h"
#include "common/lang/lang_priv.h"

enum { DNSLISTS_NAME_MAX = 255, DNSLISTS_KEYS_MAX = 1000 /* lookups of one condition */ };

enum unknown { UNKNOWN_EXCLUDE, UNKNOWN_INCLUDE, UNKNOWN_DEFER };

/* One item: DOMAIN[,DOMAIN][!][=|==|&|=&][ADDRESSES][/KEYS]. */
struct dnslist {
	struct str domain, text_domain;  /* asked; named and asked for the text */
	struct str addresses;            /* empty: any will do */
	bool negated, all, mask;
	struct str keys;
	bool has_keys;
};

static bool domain_valid(struct str domain)
{
	for (uint32_t i = 0; i < domain.len; i++)
		if (!ascii_is_alnum(domain.p[i]) && !strchr("-._", domain.p[i]))
			return false;
	return domain.len > 0;
}

static enum status item_parse(struct acl_state *s, struct str item, struct dnslist *out, struct err *err)
{
	ptrdiff_t slash = str_find(item, '/'), at, comma;
	struct str head = slash < 0 ? item : str_sub(item, 0, (size_t)slash);

	*out = (struct dnslist){ .has_keys = slash >= 0, .keys = slash < 0 ? STR_NULL : str_from(item, (size_t)slash + 1) };
	for (at = 0; (size_t)at < head.len && !strchr("=&!", head.p[at]); at++)
		;
	out->domain = str_trim(str_sub(head, 0, (size_t)at));
	head = str_from(head, (size_t)at);
	if (head.len && head.p[0] == '!') {
		out->negated = true;
		head = str_from(head, 1);
		if (!head.len || !strchr("=&", head.p[0]))
			return err_set(err, ST_ERROR, "dnslists: = or & is wanted behind ! in \"%.*s\"", STR_FMT(expand_quote(s->ev, item)));
	}
	if (head.len > 1 && head.p[0] == '=' && strchr("=&", head.p[1])) {
		out->all = true;
		head = str_from(head, 1);
	}
	if (head.len) {
		out->mask = head.p[0] == '&';
		out->addresses = str_trim(str_from(head, 1));
		if (!out->addresses.len)
			return err_set(err, ST_ERROR, "dnslists: an address is missing in \"%.*s\"", STR_FMT(expand_quote(s->ev, item)));
	}
	comma = str_find(out->domain, ',');
	out->text_domain = comma < 0 ? out->domain : str_trim(str_sub(out->domain, 0, (size_t)comma));
	if (comma >= 0)
		out->domain = str_trim(str_from(out->domain, (size_t)comma + 1));
	if (!domain_valid(out->domain) || !domain_valid(out->text_domain))
		return err_set(err, ST_ERROR, "dnslists: \"%.*s\" is no domain", STR_FMT(expand_quote(s->ev, out->domain)));
	return ST_OK;
}

/* ---- the DNS, through the router ---- */

/* ST_FAIL: no such record; ST_DEFER: can't be told now. Values are separated by LF. */
static enum status records_ask(struct acl_state *s, const char *type, struct str name, struct str *out, struct err *err)
{
	const struct lang_services *services = &s->ev->lang->services;
	struct ipc_lookup_ask ask = { .type = STR_LIT("dnsdb"), .key = str_printf(s->ev->arena, "defer_strict,%s=%.*s", type, STR_FMT(name)) };
	struct ipc_lookup_answer answer = { 0 };
	enum status st;

	*out = STR_NULL;
	s->ev->deps |= DEP_SESSION | DEP_WORLD;
	if (!services->lookup)
		return err_set(err, ST_DEFER, "the DNS can't be asked here");
	st = services->lookup(services->ctx, s->ev->arena, &ask, &answer, err);
	*out = str_taint(answer.value);
	return st == ST_ERROR ? ST_DEFER : st;
}

/* Lists answer within 127.0.0.0/8; anything else comes of a domain that has changed hands. */
static struct str values_keep(struct acl_state *s, struct str name, struct str values)
{
	struct buf b = BUF_LIMIT(4096);
	struct str value, out;

	while (values.len && str_split(&values, '\n', &value)) {
		struct ip ip;

		if (!ip_parse(value, &ip) || ip.len != 4)
			continue;
		if (ip.octets[0] != 127) {
			acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "DNS list lookup for %.*s returned %.*s; not in 127.0/8 and discarded", STR_FMT(name),
				STR_FMT(value)));
			continue;
		}
		buf_printf(&b, "%s%.*s", b.len ? ", " : "", STR_FMT(value));
	}
	out = str_taint(str_dup(s->ev->arena, buf_str(&b)));
	buf_clear(&b);
	return out;
}

/* ---- matching what came back ---- */

static bool address_fits(const struct dnslist *l, struct str value)
{
	struct str rest = l->addresses, word;
	struct ip ip, want;

	if (!ip_parse(value, &ip))
		return false;
	while (rest.len && str_split(&rest, ',', &word)) {
		bool fits = ip_parse(str_trim(word), &want) && want.len == ip.len;

		for (unsigned i = 0; fits && i < ip.len; i++)
			fits = l->mask ? (ip.octets[i] & want.octets[i]) == want.octets[i] : ip.octets[i] == want.octets[i];
		if (fits)
			return true;
	}
	return false;
}

/* Any of the addresses that came, or all of them (== and =&); ! turns the result around. */
static bool values_fit(const struct dnslist *l, struct str values)
{
	bool any = false, all = true;
	struct str value;

	if (!l->addresses.len)
		return true;
	while (values.len && str_split(&values, ',', &value)) {
		bool fits = address_fits(l, str_trim(value));

		any |= fits;
		all &= fits;
	}
	return (l->all ? all : any) != l->negated;
}

static struct str key_name(struct acl_state *s, struct str key, struct str domain)
{
	struct ip ip;

	if (ip_parse(key, &ip))
		key = ip_format_reverse(s->ev->arena, &ip);
	return str_printf(s->ev->arena, "%.*s.%.*s", STR_FMT(key), STR_FMT(domain));
}

static enum status key_lookup(struct acl_state *s, struct str key, struct str domain, struct str *values, struct err *err)
{
	struct str name = key_name(s, key, domain), raw;
	enum status st;

	if (name.len > DNSLISTS_NAME_MAX) {
		acl_log(s, LOG_MAIN | LOG_PANIC, str_printf(s->ev->arena, "dnslist query is too long (ignored): %.*s...", 200, name.p));
		return ST_FAIL;
	}
	st = records_ask(s, "a", name, &raw, err);
	*values = st ? STR_NULL : values_keep(s, name, raw);
	if (!st && !values->len)
		st = ST_FAIL;
	acl_trace(s, "dnslists: %.*s: %s%.*s", STR_FMT(name), st == ST_OK ? "" : st == ST_FAIL ? "not there" : "could not be asked", STR_FMT(*values));
	return st;
}

/* The variables; the text only now, when somebody may want it. */
static void match_set(struct acl_state *s, const struct dnslist *l, struct str key, struct str values)
{
	struct str text = STR_NULL, line;
	struct err err = ERR_INIT;

	if (records_ask(s, "txt", key_name(s, key, l->text_domain), &text, &err) == ST_OK && str_split(&text, '\n', &line))
		text = line;
	else
		text = STR_NULL;
	eval_set(s->ev, EV_dnslist_domain, str_taint(l->text_domain));
	eval_set(s->ev, EV_dnslist_matched, str_taint(key));
	eval_set(s->ev, EV_dnslist_value, values);
	eval_set(s->ev, EV_dnslist_text, text);
}

static enum status key_check(struct acl_state *s, const struct dnslist *l, struct str key, struct err *err)
{
	struct str values;
	enum status st = key_lookup(s, key, l->domain, &values, err);

	if (!st && !values_fit(l, values))
		return ST_FAIL;
	if (!st && !str_eqi(l->domain, l->text_domain))
		st = key_lookup(s, key, l->text_domain, &values, err);
	if (!st)
		match_set(s, l, key, values);
	return st;
}

/* Any key that is there makes up for those that could not be asked. */
static enum status item_check(struct acl_state *s, const struct dnslist *l, unsigned *lookups, struct err *err)
{
	struct lang_split split = LANG_SPLIT(l->keys);
	bool deferred = false;
	struct str key;

	if (!l->has_keys) {
		if (!s->ev->facts->client_ip.len)
			return ST_FAIL;
		return key_check(s, l, s->ev->facts->client_ip, err);
	}
	while (lang_split_next(&split, s->ev->arena, &key)) {
		enum status st;

		if (!key.len)
			continue;
		if (++*lookups > DNSLISTS_KEYS_MAX)
			return err_set(err, ST_ERROR, "dnslists: more than %d keys", DNSLISTS_KEYS_MAX);
		st = key_check(s, l, key, err);
		if (st == ST_OK || st == ST_ERROR)
			return st;
		deferred |= st == ST_DEFER;
	}
	return deferred ? ST_DEFER : ST_FAIL;
}

static void defer_log(struct acl_state *s, const struct dnslist *l, enum unknown unknown)
{
	static const char *const words[] = { "assumed not in list", "assumed in list", "returned DEFER" };
	uint64_t selector = 0;

	if (s->ev->lang->conf)
		log_selector_parse(s->ev->lang->conf->main.log_selector.text, &selector, NULL);
	if (selector & LOG_SEL(dnslist_defer))
		acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "DNS list lookup defer (probably timeout) for %.*s: %s", STR_FMT(l->domain), words[unknown]));
}

static bool unknown_word(struct str item, enum unknown *out)
{
	static const char *const words[] = { "+exclude_unknown", "+include_unknown", "+defer_unknown" };

	for (int i = 0; i < 3; i++)
		if (str_isi(item, words[i])) {
			*out = (enum unknown)i;
			return true;
		}
	return false;
}

static enum acl_rc cond_dnslists(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_split split = LANG_SPLIT(text);
	enum unknown unknown = UNKNOWN_EXCLUDE;
	unsigned lookups = 0;
	struct str word;

	(void)item;
	while (lang_split_next(&split, s->ev->arena, &word)) {
		struct dnslist l;
		enum status st;

		if (!word.len || unknown_word(word, &unknown))
			continue;
		if (word.p[0] == '+') {
			acl_log(s, LOG_MAIN | LOG_PANIC, str_printf(s->ev->arena, "unknown item in dnslist (ignored): \"%.*s\"", STR_FMT(expand_quote(s->ev, word))));
			continue;
		}
		if (item_parse(s, word, &l, err))
			return RC_DEFER;
		st = item_check(s, &l, &lookups, err);
		if (st == ST_ERROR)
			return RC_ERROR;
		if (st == ST_OK)
			return RC_OK;
		if (st == ST_FAIL)
			continue;
		defer_log(s, &l, unknown);
		if (unknown == UNKNOWN_INCLUDE)
			return RC_OK;
		if (unknown == UNKNOWN_DEFER)
			return RC_DEFER;
	}
	return RC_FAIL;
}

const struct acl_item_row acl_items_dnslists[] = {
	{ "dnslists", false, SHAPE_TEXT, STAGES_ALL, 0, cond_dnslists, NULL, false,
		"the client, or a key, is in a DNS list: DOMAIN[=ADDRESSES][/KEYS] : ..." },
	{ NULL }
};

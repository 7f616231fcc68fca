/* SPDX-License-Identifier: ISC */
/* Items of address lists. */
#include "common/lang/list_priv.h"

#include "common/lang/lang_priv.h"
#include "common/mail/address.h"

/* The local part against "*", "*tail" or a plain text. *wild_out: what the asterisk stands for; p NULL: there is none. */
static bool local_fits(struct str pattern, struct str local, bool caseful, struct str *wild_out)
{
	bool tail = pattern.len && pattern.p[0] == '*';

	*wild_out = STR_NULL;

	if (tail) {
		pattern = str_from(pattern, 1);
		if (local.len < pattern.len)
			return false;
		*wild_out = str_sub(local, 0, local.len - pattern.len);
		local = str_from(local, local.len - pattern.len);
	}
	return caseful ? str_eq(pattern, local) : str_eqi(pattern, local);
}

/* The domain leads to a list of local parts; ">key" at its end to another such list. */
static enum status match_at_at(struct list_run *run, const struct list_item *item, struct str local, struct str domain)
{
	struct str key = domain;

	for (int chain = 0; chain < LIST_CHAIN_MAX; chain++) {
		struct str value, next = STR_NULL, entry;
		struct lang_split split;
		enum status st = item_match_lookup(run, item, key, &value);

		if (st)
			return st;
		split = LANG_SPLIT(value);
		while (lang_split_next(&split, run->ev->arena, &entry)) {
			struct list_item one = { 0 };
			bool negated = entry.len && entry.p[0] == '!';

			if (negated)
				entry = str_trim(str_from(entry, 1));
			if (entry.len && entry.p[0] == '>' && !negated) {
				next = str_trim(str_from(entry, 1));
				continue;
			}
			st = eval_step(run->ev, 1, run->err);
			if (!st)
				st = list_item_parse(run->ev->lang, run->ev->arena, LIST_LOCALPART, entry, &one, run->err);
			if (!st)
				st = item_match_text(run, &one, local, run->caseful);
			if (st == ST_OK) /* what matched within the list is the value */
				return negated ? ST_FAIL : ST_OK;
			if (st != ST_FAIL)
				return st;
		}
		if (!next.len || item->spec.type->style == LOOKUP_QUERY)
			return ST_FAIL;
		key = next;
	}
	return err_set(run->err, ST_ERROR, "more than %d continuations in \"%.*s\"", LIST_CHAIN_MAX, STR_FMT(str_sub(item->text, 0, 80)));
}

/* $1, $2 ...: what the asterisk of the local part stood for, then what those of the domain did (a lookup in parts: wild and fixed part). */
static void numbers_set(struct eval *ev, struct str address, bool wild_local, struct str wild, const struct list_item *domain_item, struct str domain)
{
	int n = 1;

	if (domain_item->kind == ITEM_ANY) {
		ev->num[1] = domain;
		ev->n_num = 2;
	}
	if (wild_local) {
		for (int i = ev->n_num < EVAL_NUMS ? ev->n_num : EVAL_NUMS - 1; i > 1; i--)
			ev->num[i] = ev->num[i - 1];
		ev->num[1] = wild;
		n = 2;
	}
	ev->n_num = ev->n_num > 1 ? ev->n_num + (n - 1) : n;
	if (ev->n_num > EVAL_NUMS)
		ev->n_num = EVAL_NUMS;
	ev->num[0] = address;
}

enum status item_match_address(struct list_run *run, const struct list_item *item)
{
	struct str text = run->text, local, domain, domain_as_is, value, wild;
	struct lang_list_match m = { STR_NULL, STR_NULL };
	struct list_run inner = *run;
	enum status st;

	switch (item->kind) {
	case ITEM_NAMED: {
		struct list_subject subject = *run->subject;

		subject.caseful = run->caseful;
		return lang_list_match(run->ev, item->sub, &subject, run->out, run->err);
	}
	case ITEM_EMPTY:
	case ITEM_REGEX:
		return item_match_text(run, item, text, run->caseful);
	case ITEM_LOOKUP:
		if (item->spec.type->style == LOOKUP_KEY && text.len && str_find(text, '@') < 0)
			return ST_FAIL; /* no whole address; the empty one may find a default */
		st = item_match_lookup(run, item, text, &value);
		if (!st)
			list_run_data(run, value, item->text);
		return st;
	case ITEM_ANY: case ITEM_TAIL: case ITEM_ADDRESS: case ITEM_AT_AT: case ITEM_LITERAL: case ITEM_RUN: case ITEM_FILE: case ITEM_SELF: case ITEM_SELF_IP:
	case ITEM_MX: case ITEM_NET: case ITEM_NET_LOOKUP: case ITEM_HOST_NAME: case ITEM_SWITCH: case ITEM_BROKEN:
		break;
	}
	/* All else can match only an address that has a domain. */
	if (!text.len || !address_split(text, &local, &domain))
		return ST_FAIL;
	domain_as_is = domain;
	domain = str_lower(run->ev->arena, domain);
	if (item->kind == ITEM_ANY || item->kind == ITEM_TAIL) {
		st = item_match_domain(run, item, domain);
		if (!st)
			list_run_data(run, str_printf(run->ev->arena, "@%.*s", STR_FMT(item->text)), item->text);
		run->out->data.tainted = item->text.tainted;
		return st;
	}
	if (item->kind == ITEM_AT_AT)
		return match_at_at(run, item, local, domain);
	if (item->kind != ITEM_ADDRESS || !local_fits(item->part, local, run->caseful, &wild))
		return ST_FAIL;
	/* An item without @ says nothing of the local part. */
	if (str_find(item->text, '@') < 0)
		wild = STR_NULL;
	/* A domain list's item: what it says of itself is not what the address list gives. */
	inner.out = &m;
	run->ev->n_num = 0;
	st = item_match_domain(&inner, item->domain, domain);
	if (!st)
		numbers_set(run->ev, text, item->part.len && item->part.p[0] == '*' && str_find(item->text, '@') >= 0, wild, item->domain, domain_as_is);
	run->unknown = inner.unknown;
	/* The value: local part and domain as the items have them, the domain's perhaps from a lookup. */
	if (!st) {
		struct str local_item = str_find(item->text, '@') < 0 ? STR_NULL : item->part;

		list_run_data(run, str_printf(run->ev->arena, "%.*s@%.*s", STR_FMT(local_item), STR_FMT(m.data)), item->text);
		run->out->data.tainted = item->text.tainted || m.data.tainted;
	}
	return st;
}

/* SPDX-License-Identifier: ISC */
/* Matching: the walk over the items, and items of plain text. */
#include "common/lang/list_priv.h"

#include <stdlib.h>
#include <string.h>

#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"
#include "common/mail/address.h"
#include "common/mail/alabel.h"

/* Results of lists that ask the world, within one context. */
struct list_memo {
	struct list_memo *next;
	const struct lang_list *list;
	struct str subject, host_name;
	bool caseful;
	enum status st;
	struct lang_list_match match;
};

void list_run_data(struct list_run *run, struct str data, struct str item)
{
	run->out->data = data;
	run->out->item = item;
}

/* ---- lookups ---- */

enum status item_match_lookup(struct list_run *run, const struct list_item *item, struct str key, struct str *value_out)
{
	struct ipc_lookup_answer answer;
	struct str query = item->key, wild, fixed;
	enum status st;

	*value_out = STR_NULL;
	if (item->spec.type->style == LOOKUP_QUERY) {
		lookup_query_quoted(&item->spec, run->list->quoted_by, &query);
		st = lang_ask_lookup(run->ev, &item->spec, item->type, STR_NULL, query, &answer, run->err);
	} else {
		st = lang_ask_lookup(run->ev, &item->spec, item->type, item->file, key, &answer, run->err);
	}
	if (st)
		return st;
	*value_out = answer.value;
	if (item->spec.type->style == LOOKUP_KEY && lookup_parts(&item->spec, key, answer.matched, &wild, &fixed)) {
		run->ev->num[0] = key;
		run->ev->num[1] = wild;
		run->ev->num[2] = fixed;
		run->ev->n_num = 3;
	}
	return ST_OK;
}

/* ---- texts ---- */

static enum status match_tail(struct list_run *run, const struct list_item *item, struct str text, bool caseful)
{
	struct str end;

	if (text.len < item->part.len)
		return ST_FAIL;
	end = str_from(text, text.len - item->part.len);
	if (!(caseful ? str_eq(end, item->part) : str_eqi(end, item->part)))
		return ST_FAIL;
	run->ev->num[0] = text;
	run->ev->num[1] = str_sub(text, 0, text.len - item->part.len);
	run->ev->n_num = 2;
	list_run_data(run, item->text, item->text);
	return ST_OK;
}

static enum status match_regex(struct list_run *run, const struct list_item *item, struct str text, bool caseful)
{
	struct regex_match m;
	struct regex *re;
	enum status st = eval_regex(run->ev, item->part, caseful ? 0 : REGEX_CASELESS, &re, run->err);

	if (!st)
		st = regex_match(re, text, 0, &m, run->err);
	if (st)
		return st;
	for (int i = 0; i < m.n; i++)
		run->ev->num[i] = m.group[i];
	run->ev->n_num = m.n;
	list_run_data(run, item->text, item->text);
	return ST_OK;
}

enum status item_match_text(struct list_run *run, const struct list_item *item, struct str text, bool caseful)
{
	struct str value;
	enum status st;

	switch (item->kind) {
	case ITEM_EMPTY:
		if (text.len)
			return ST_FAIL;
		list_run_data(run, item->text, item->text);
		return ST_OK;
	case ITEM_ANY: /* the asterisk stands for all of it */
		run->ev->num[0] = run->ev->num[1] = text;
		run->ev->n_num = 2;
		list_run_data(run, item->text, item->text);
		return ST_OK;
	case ITEM_LITERAL:
		if (!(caseful ? str_eq(item->part, text) : str_eqi(item->part, text)))
			return ST_FAIL;
		list_run_data(run, item->text, item->text);
		return ST_OK;
	case ITEM_RUN:
		for (uint32_t low = 0, high = item->n_run; low < high;) {
			uint32_t mid = low + (high - low) / 2;
			int d = str_cmpi(text, item->run[mid]);

			if (!d) {
				list_run_data(run, item->run[mid], item->run[mid]);
				return ST_OK;
			}
			if (d < 0)
				high = mid;
			else
				low = mid + 1;
		}
		return ST_FAIL;
	case ITEM_TAIL:
		return match_tail(run, item, text, caseful);
	case ITEM_REGEX:
		return match_regex(run, item, text, caseful);
	case ITEM_LOOKUP:
		st = item_match_lookup(run, item, text, &value);
		if (!st)
			list_run_data(run, value, item->text);
		return st;
	case ITEM_FILE: case ITEM_NAMED: case ITEM_SELF: case ITEM_SELF_IP: case ITEM_MX: case ITEM_NET: case ITEM_NET_LOOKUP: case ITEM_HOST_NAME:
	case ITEM_SWITCH: case ITEM_ADDRESS: case ITEM_AT_AT: case ITEM_BROKEN:
		break;
	}
	return ST_FAIL;
}

/* ---- domains ---- */

static bool ip_local(struct list_run *run, struct str ip)
{
	const struct lang_services *services = &run->ev->lang->services;

	return services->ip_is_local && services->ip_is_local(services->ctx, ip);
}

static enum status match_mx(struct list_run *run, const struct list_item *item, struct str domain)
{
	struct ipc_host_answer answer;
	uint64_t best = UINT64_MAX;
	bool primary = false, any = false;
	const struct conf *conf = run->ev->lang->conf;
	enum status st = lang_ask_hosts(run->ev, domain, "MX", &answer, run->err);

	if (st)
		return st;
	for (uint32_t i = 0; i < answer.n_hosts; i++)
		if (answer.hosts[i].group < best)
			best = answer.hosts[i].group;
	for (uint32_t i = 0; i < answer.n_hosts; i++) {
		const struct ipc_host *h = &answer.hosts[i];
		bool ours = ip_local(run, h->ip);

		if (item->sub && h->ip.len) {
			st = lang_ip_match(run->ev, item->sub, h->ip, NULL, run->err);
			if (st == ST_OK)
				continue;
			if (st != ST_FAIL)
				return st;
		}
		if (!ours && conf && conf->main.hosts_treat_as_local.text.len) {
			struct lang_list *list;

			st = lang_list_build(run->ev->lang, run->ev->arena, LIST_DOMAIN, conf->main.hosts_treat_as_local.text, true, &list, run->err);
			if (!st)
				st = lang_domain_match(run->ev, list, h->name, NULL, run->err);
			if (st == ST_DEFER || st == ST_ERROR)
				return st;
			ours = st == ST_OK;
		}
		any |= ours;
		primary |= ours && h->group == best;
	}
	if (item->mx == MX_ANY ? !any : item->mx == MX_PRIMARY ? !primary : !any || primary)
		return ST_FAIL;
	list_run_data(run, item->text, item->text);
	return ST_OK;
}

static enum status match_domain_form(struct list_run *run, const struct list_item *item, struct str domain)
{
	if (item->kind == ITEM_SELF) {
		struct str self = lang_primary_hostname(run->ev->lang);

		if (!self.len || !str_eqi(self, domain))
			return ST_FAIL;
		list_run_data(run, self, item->text);
		return ST_OK;
	}
	if (item->kind == ITEM_SELF_IP) {
		struct str ip = domain;

		if (ip.len < 3 || ip.p[0] != '[' || ip.p[ip.len - 1] != ']')
			return ST_FAIL;
		ip = str_sub(ip, 1, ip.len - 2);
		if (str_beginsi(ip, "ipv6:"))
			ip = str_from(ip, 5);
		if (!ip_local(run, ip))
			return ST_FAIL;
		list_run_data(run, item->text, item->text);
		return ST_OK;
	}
	if (item->kind == ITEM_MX)
		return match_mx(run, item, domain);
	if (item->kind == ITEM_NAMED) {
		struct list_subject subject = { .text = domain };

		return lang_list_match(run->ev, item->sub, &subject, run->out, run->err);
	}
	return item_match_text(run, item, domain, false);
}

/* Plain items are A-labels; what is looked up or compared with a pattern may be written in either form. */
enum status item_match_domain(struct list_run *run, const struct list_item *item, struct str domain)
{
	bool ascii = address_is_ascii(domain), either = item->kind == ITEM_LOOKUP || item->kind == ITEM_REGEX, plain = item->kind == ITEM_LITERAL ||
		item->kind == ITEM_TAIL || item->kind == ITEM_RUN || item->kind == ITEM_SELF;
	enum status st = match_domain_form(run, item, domain);
	struct str other;

	if (st != ST_FAIL || !(either || (plain && !ascii)) || !alabel_domain_other(run->ev->arena, domain, &other))
		return st;
	return match_domain_form(run, item, str_lower(run->ev->arena, other));
}

/* ---- the walk ---- */

static enum status item_match_named(struct list_run *run, const struct list_item *item)
{
	struct list_subject subject = *run->subject;
	struct lang_list_match m;
	enum status st;

	subject.caseful = run->caseful;
	st = lang_list_match(run->ev, item->sub, &subject, &m, run->err);
	if (!st)
		*run->out = m;
	return st;
}

/* The lines of a file stand in for the item; a line's own ! turns around what the item's says. ST_FAIL: no line matched, negated_out is then
 * that of the last line, which may be the list's last item. */
static enum status item_match_file(struct list_run *run, const struct list_item *item, bool *negated_out)
{
	struct lang_list lines = { .kind = run->list->kind };
	struct list_run inner = *run;
	struct lang_file file;
	enum status st = lang_ask_file(run->ev, item->part, &file, run->err);

	*negated_out = item->negated;
	if (st == ST_FAIL)
		return err_set(run->err, ST_ERROR, "list file \"%.*s\" does not exist", STR_FMT(expand_quote(run->ev, item->part)));
	if (!st)
		st = list_items_build(run->ev->lang, run->ev->arena, &lines, file.content, true, run->err);
	if (st)
		return st;
	inner.list = &lines;
	for (uint32_t i = 0; i < lines.n; i++) {
		st = eval_step(run->ev, 1, run->err);
		if (!st)
			st = lines.kind == LIST_DOMAIN ? item_match_domain(&inner, &lines.items[i], inner.text)
				: lines.kind == LIST_HOST || lines.kind == LIST_IP ? item_match_host(&inner, &lines.items[i])
				: lines.kind == LIST_ADDRESS ? item_match_address(&inner, &lines.items[i])
				: item_match_text(&inner, &lines.items[i], inner.text, inner.caseful);
		run->unknown = inner.unknown;
		if (!st)
			*negated_out = item->negated != lines.items[i].negated;
		if (st != ST_FAIL || run->unknown)
			return st;
	}
	if (lines.n)
		*negated_out = item->negated != lines.last_negated;
	return ST_FAIL;
}

static void run_switch(struct list_run *run, enum item_switch which)
{
	switch (which) {
	case SWITCH_INCLUDE_UNKNOWN:
		run->include_unknown = true;
		run->ignore_unknown = false;
		break;
	case SWITCH_IGNORE_UNKNOWN:
		run->ignore_unknown = true;
		run->include_unknown = false;
		break;
	case SWITCH_INCLUDE_DEFER:
		run->include_defer = true;
		run->ignore_defer = false;
		break;
	case SWITCH_IGNORE_DEFER:
		run->ignore_defer = true;
		run->include_defer = false;
		break;
	case SWITCH_CASEFUL:
		/* The letters as they came are compared from here on. */
		run->caseful = true;
		run->text = utf8_nfc(run->ev->arena, run->subject->text);
		break;
	}
}

static enum status item_match(struct list_run *run, const struct list_item *item, bool *negated_out)
{
	*negated_out = item->negated;
	if (item->kind == ITEM_FILE)
		return item_match_file(run, item, negated_out);
	if (item->kind == ITEM_NAMED)
		return item_match_named(run, item);
	switch (run->list->kind) {
	case LIST_DOMAIN:
		return item_match_domain(run, item, run->text);
	case LIST_HOST:
	case LIST_IP:
		return item_match_host(run, item);
	case LIST_ADDRESS:
		return item_match_address(run, item);
	case LIST_LOCALPART:
	case LIST_STRING:
	case LANG_LIST_KINDS:
		break;
	}
	return item_match_text(run, item, run->text, run->caseful);
}

enum status list_run_items(struct list_run *run, const struct lang_list *list)
{
	bool last_negated = list->n && list->last_negated;

	for (uint32_t i = 0; i < list->n; i++) {
		const struct list_item *item = &list->items[i];
		bool negated;
		enum status st;

		if (item->kind == ITEM_SWITCH) {
			run_switch(run, item->which);
			continue;
		}
		st = eval_step(run->ev, 1, run->err);
		if (st)
			return st;
		run->unknown = false;
		st = item_match(run, item, &negated);
		if (run->unknown) {
			if (run->include_unknown)
				return ST_OK;
			if (run->ignore_unknown)
				continue;
			return ST_FAIL;
		}
		if (st == ST_DEFER && run->include_defer)
			return ST_OK;
		if (st == ST_DEFER && run->ignore_defer)
			continue;
		last_negated = negated;
		if (st == ST_FAIL)
			continue;
		return st == ST_OK && negated ? ST_FAIL : st;
	}
	return last_negated ? ST_OK : ST_FAIL;
}

static struct str list_key(struct arena *a, enum lang_list_kind kind, struct str text)
{
	char *p = arena_alloc(a, (size_t)text.len + 2);

	p[0] = (char)('0' + kind);
	if (text.len)
		memcpy(p + 1, text.p, text.len);
	return str_make(p, (size_t)text.len + 1);
}

/* The list's text expanded and taken apart, from the cache where no stranger's text is in it. */
static enum status list_expand(struct eval *ev, const struct lang_list *list, struct lang_list **out, struct err *err)
{
	struct lang *lang = ev->lang;
	struct lang_list *made;
	struct str text, quoted, key;
	bool keep;
	enum status st = expansion_run_list(ev, list->x, &text, &quoted, err);

	if (st)
		return st;
	keep = !text.tainted && lang->n_texts < LANG_TEXTS_MAX;
	key = list_key(ev->arena, list->kind, text);
	if (!text.tainted) {
		made = hash_get(&lang->list_texts, key);
		if (made) {
			*out = made;
			return ST_OK;
		}
	}
	made = arena_alloc(keep ? &lang->texts_arena : ev->arena, sizeof *made);
	made->kind = list->kind;
	made->text = keep ? str_dup(&lang->texts_arena, text) : text;
	made->quoted_by = quoted;
	st = list_items_build(lang, keep ? &lang->texts_arena : ev->arena, made, made->text, false, err);
	if (st)
		return st;
	if (keep) {
		hash_put(&lang->list_texts, str_dup(&lang->texts_arena, key), made);
		lang->n_texts++;
	}
	*out = made;
	return ST_OK;
}

static struct list_memo *memo_find(struct eval *ev, const struct lang_list *list, const struct list_subject *subject)
{
	for (struct list_memo *m = ev->memos; m; m = m->next)
		if (m->list == list && m->caseful == subject->caseful && str_eq(m->subject, subject->text) && str_eq(m->host_name, subject->host_name))
			return m;
	return NULL;
}

enum status lang_list_match(struct eval *ev, const struct lang_list *list, const struct list_subject *subject, struct lang_list_match *match_out,
	struct err *err)
{
	struct lang_list_match own;
	struct list_run run = { .ev = ev, .list = list, .subject = subject, .text = subject->text, .caseful = subject->caseful,
		.out = match_out ? match_out : &own, .err = err };
	struct lang_list *expanded = NULL;
	bool remember = list->costly && list->name.len && (!list->x || list->cache);
	struct list_memo *memo;
	enum status st;

	*run.out = (struct lang_list_match){ STR_NULL, STR_NULL };
	if (remember && (memo = memo_find(ev, list, subject))) {
		*run.out = memo->match;
		return memo->st;
	}
	if (ev->depth > EVAL_DEPTH_MAX)
		return err_set(err, ST_ERROR, "lists nested too deeply");
	ev->depth++;
	if (list->x) {
		st = list_expand(ev, list, &expanded, err);
		if (!st)
			run.list = expanded;
	} else {
		st = ST_OK;
	}
	if (!st) {
		if (list->kind != LIST_HOST && list->kind != LIST_IP)
			run.text = utf8_nfc(ev->arena, run.text);
		if ((list->kind == LIST_ADDRESS || list->kind == LIST_LOCALPART || list->kind == LIST_DOMAIN) && !run.caseful)
			run.text = str_lower(ev->arena, run.text);
		st = list_run_items(&run, run.list);
	}
	ev->depth--;
	if (st)
		*run.out = (struct lang_list_match){ STR_NULL, STR_NULL };
	if (remember && (st == ST_OK || st == ST_FAIL)) {
		memo = arena_alloc(ev->arena, sizeof *memo);
		*memo = (struct list_memo){ ev->memos, list, subject->text, subject->host_name, subject->caseful, st, *run.out };
		ev->memos = memo;
	}
	return st;
}

enum status lang_domain_match(struct eval *ev, const struct lang_list *list, struct str domain, struct lang_list_match *match_out, struct err *err)
{
	struct list_subject subject = { .text = domain };

	return lang_list_match(ev, list, &subject, match_out, err);
}

enum status lang_address_match(struct eval *ev, const struct lang_list *list, struct str address, struct lang_list_match *match_out, struct err *err)
{
	struct list_subject subject = { .text = address };

	return lang_list_match(ev, list, &subject, match_out, err);
}

enum status lang_local_part_match(struct eval *ev, const struct lang_list *list, struct str local_part, bool caseful,
	struct lang_list_match *match_out, struct err *err)
{
	struct list_subject subject = { .text = local_part, .caseful = caseful };

	return lang_list_match(ev, list, &subject, match_out, err);
}

enum status lang_client_match(struct eval *ev, const struct lang_list *list, struct lang_list_match *match_out, struct err *err)
{
	struct list_subject subject = { .text = ev->facts->client_ip };

	/* What is the same for every host asks nothing of the client. */
	if (list->x || list->n != 1 || list->items[0].kind != ITEM_ANY)
		if (list->x || list->n)
			ev->deps |= DEP_CLIENT;
	return lang_list_match(ev, list, &subject, match_out, err);
}

enum status lang_ip_match(struct eval *ev, const struct lang_list *list, struct str ip, struct lang_list_match *match_out, struct err *err)
{
	struct list_subject subject = { .text = ip, .no_client = true };

	return lang_list_match(ev, list, &subject, match_out, err);
}

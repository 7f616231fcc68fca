/* SPDX-License-Identifier: ISC */
/* Items of host lists: by address, by the host's name, by the addresses of a name. */
#include "common/lang/list_priv.h"

#include "common/lang/lang_priv.h"

static enum status found(struct list_run *run, const struct list_item *item, bool yes)
{
	if (yes) /* host lists give a value from lookups only */
		list_run_data(run, STR_NULL, item->text);
	return yes ? ST_OK : ST_FAIL;
}

/* The host's names, from the subject or looked up; sets run->unknown when it has none. */
static enum status host_names(struct list_run *run, struct str *first, struct ipc_strs *others)
{
	struct eval *ev = run->ev;
	enum status st;

	*others = (struct ipc_strs){ NULL, 0 };
	*first = run->subject->host_name;
	if (first->len)
		return ST_OK;
	if (run->subject->no_client) {
		struct ipc_name_answer answer = { 0 };

		if (!ev->lang->services.name)
			return err_set(run->err, ST_ERROR, "names of hosts can't be looked up here");
		ev->deps |= DEP_WORLD;
		st = ev->lang->services.name(ev->lang->services.ctx, ev->arena, run->subject->text, &answer, run->err);
		*first = str_taint(answer.name);
		*others = answer.aliases;
	} else {
		st = eval_client_name(ev, run->err);
		*first = ev->client_name;
		*others = ev->client_aliases;
	}
	run->unknown = st == ST_FAIL;
	return st;
}

static enum status match_name(struct list_run *run, const struct list_item *item)
{
	struct ipc_strs others;
	struct str name;
	enum status st = host_names(run, &name, &others);

	for (uint32_t i = 0; !st; i++) {
		st = item_match_text(run, item, name, false);
		if (st != ST_FAIL || i == others.n)
			return st;
		name = str_taint(others.v[i]);
		st = ST_OK;
	}
	return st;
}

/* One of the name's addresses is the host's. */
static enum status match_forward(struct list_run *run, const struct list_item *item, struct str name)
{
	struct ipc_host_answer answer;
	struct ip ip, other;
	enum status st;

	if (!ip_parse_mapped(run->subject->text, &ip))
		return ST_FAIL;
	/* A name that is known for the host needs no question. */
	if (run->subject->host_name.len && str_eqi(run->subject->host_name, name))
		return found(run, item, true);
	st = lang_ask_hosts(run->ev, name, "A", &answer, run->err);
	run->unknown = st == ST_FAIL;
	if (st == ST_DEFER)
		err_prefix(run->err, "host \"%.*s\" of a host list", STR_FMT(str_sub(name, 0, 100)));
	if (st)
		return st;
	for (uint32_t i = 0; i < answer.n_hosts; i++)
		if (ip_parse_mapped(answer.hosts[i].ip, &other) && other.len == ip.len) {
			struct ip_net net = { other, (uint8_t)(other.len * 8) };

			if (ip_in_net(&ip, &net))
				return found(run, item, true);
		}
	return ST_FAIL;
}

static enum status match_net_lookup(struct list_run *run, const struct list_item *item)
{
	char sep = item->spec.type->flags & LOOKUP_COLONS ? ':' : '.';
	struct str key, value;
	struct ip ip;
	enum status st;

	if (!ip_parse_mapped(run->subject->text, &ip))
		return ST_FAIL;
	if (item->net_bits >= 0)
		ip_mask(&ip, (unsigned)item->net_bits);
	key = ip_format_full(run->ev->arena, &ip, sep);
	if (item->net_bits >= 0)
		key = str_printf(run->ev->arena, "%.*s/%d", STR_FMT(key), item->net_bits);
	st = item_match_lookup(run, item, key, &value);
	if (!st)
		list_run_data(run, value, item->text);
	return st;
}

enum status item_match_host(struct list_run *run, const struct list_item *item)
{
	struct str address = run->subject->text, value;
	struct ip ip;
	enum status st;

	if (item->kind == ITEM_ANY)
		return found(run, item, true);
	if (item->kind == ITEM_EMPTY)
		return found(run, item, !address.len);
	if (item->kind == ITEM_NAMED)
		return lang_list_match(run->ev, item->sub, run->subject, run->out, run->err);
	/* Without a host nothing else can match, but for a query, which may ask about anything. */
	if (!address.len && !(item->kind == ITEM_LOOKUP && item->spec.type->style == LOOKUP_QUERY))
		return ST_FAIL;
	switch (item->kind) {
	case ITEM_NET:
		return found(run, item, ip_parse_mapped(address, &ip) && ip_in_net(&ip, &item->net));
	case ITEM_SELF:
		return match_forward(run, item, lang_primary_hostname(run->ev->lang));
	case ITEM_SELF_IP: {
		const struct lang_services *services = &run->ev->lang->services;

		return found(run, item, services->ip_is_local && services->ip_is_local(services->ctx, address));
	}
	case ITEM_HOST_NAME:
		return match_forward(run, item, item->part);
	case ITEM_NET_LOOKUP:
		return match_net_lookup(run, item);
	case ITEM_TAIL:
	case ITEM_REGEX:
		return match_name(run, item);
	case ITEM_LOOKUP:
		if (item->spec.type->style == LOOKUP_KEY)
			return match_name(run, item);
		st = item_match_lookup(run, item, STR_NULL, &value);
		if (!st)
			list_run_data(run, value, item->text);
		return st;
	case ITEM_EMPTY: case ITEM_ANY: case ITEM_LITERAL: case ITEM_RUN: case ITEM_FILE: case ITEM_NAMED: case ITEM_MX: case ITEM_SWITCH:
	case ITEM_ADDRESS: case ITEM_AT_AT: case ITEM_BROKEN:
		break;
	}
	return ST_FAIL;
}

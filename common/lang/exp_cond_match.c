/* SPDX-License-Identifier: ISC */
/* Conditions that match: regular expressions, lists, IP addresses. */
#include "common/lang/expand_tree.h"

#include "common/lang/lang_ip.h"
#include "common/lang/lang_regex.h"

static enum status cond_match(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct regex_match m;
	struct regex *re;
	enum status st = eval_regex(ev, args[1], 0, &re, err);

	(void)c;
	if (!st)
		st = regex_match(re, args[0], 0, &m, err);
	*yes = st == ST_OK;
	if (st == ST_FAIL)
		return ST_OK;
	if (!st) {
		for (int i = 0; i < m.n; i++)
			ev->num[i] = m.group[i];
		ev->n_num = m.n;
	}
	return st;
}

static enum status matched(struct eval *ev, enum status st, const struct lang_list_match *m, bool *yes)
{
	*yes = st == ST_OK;
	if (!st)
		ev->slot[EV_value] = m->data;
	return st == ST_FAIL ? ST_OK : st;
}

static enum status cond_match_domain(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct lang_list_match m;

	return matched(ev, lang_domain_match(ev, c->list, args[0], &m, err), &m, yes);
}

static enum status cond_match_address(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct lang_list_match m;

	return matched(ev, lang_address_match(ev, c->list, args[0], &m, err), &m, yes);
}

static enum status cond_match_local_part(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct lang_list_match m;

	return matched(ev, lang_local_part_match(ev, c->list, args[0], false, &m, err), &m, yes);
}

static enum status cond_match_ip(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct lang_list_match m;
	struct ip ip;

	if (args[0].len && !ip_parse(args[0], &ip))
		return err_set(err, ST_ERROR, "\"%.*s\" is not an IP address", STR_FMT(expand_quote(ev, args[0])));
	return matched(ev, lang_ip_match(ev, c->list, args[0], &m, err), &m, yes);
}

static bool is_ip(struct str s, unsigned len)
{
	ptrdiff_t zone = str_find(s, '%');
	struct ip ip;

	/* fe80::1%eth0 */
	if (zone > 0 && str_find(s, ':') >= 0)
		s = str_sub(s, 0, (size_t)zone);
	return ip_parse(s, &ip) && (!len || ip.len == len);
}

static enum status cond_isip(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)ev;
	(void)c;
	(void)err;
	*yes = is_ip(args[0], 0);
	return ST_OK;
}

static enum status cond_isip4(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)ev;
	(void)c;
	(void)err;
	*yes = is_ip(args[0], 4);
	return ST_OK;
}

static enum status cond_isip6(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)ev;
	(void)c;
	(void)err;
	*yes = is_ip(args[0], 16);
	return ST_OK;
}

const struct cond_row exp_conds_match[] = {
	{ "match", COND_ARGS, 2, cond_match, 0, false, "the text matches a regular expression; sets $1 and so on" },
	{ "match_domain", COND_ARG_LIST, 1, cond_match_domain, LIST_DOMAIN, false, "the domain is in the list" },
	{ "match_address", COND_ARG_LIST, 1, cond_match_address, LIST_ADDRESS, false, "the address is in the list" },
	{ "match_local_part", COND_ARG_LIST, 1, cond_match_local_part, LIST_LOCALPART, false, "the local part is in the list" },
	{ "match_ip", COND_ARG_LIST, 1, cond_match_ip, LIST_IP, false, "the IP address is in the list" },
	{ "isip", COND_ARGS, 1, cond_isip, 0, false, "the text is an IP address" },
	{ "isip4", COND_ARGS, 1, cond_isip4, 0, false, "the text is an IPv4 address" },
	{ "isip6", COND_ARGS, 1, cond_isip6, 0, false, "the text is an IPv6 address" },
	{ NULL }
};

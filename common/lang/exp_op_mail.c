/* SPDX-License-Identifier: ISC */
/* Operators on mail addresses. */
#include "common/lang/expand_tree.h"

#include "common/mail/addrlist.h"
#include "common/mail/alabel.h"

static bool parse_one(struct eval *ev, struct str in, struct addrlist_item *item)
{
	struct err err = ERR_INIT;

	return !addrlist_item_parse(in, ADDR_UNQUALIFIED | ADDR_LITERALS | ADDR_UTF8 | ADDR_LENIENT, ev->arena, item, &err) && item->addr.len;
}

static enum status op_address(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct addrlist_item item;

	(void)n;
	(void)err;
	if (parse_one(ev, in, &item))
		*out = item.addr;
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_part(struct eval *ev, struct str in, bool domain, struct str *out)
{
	struct addrlist_item item;
	struct str l, d = STR_NULL;

	if (parse_one(ev, in, &item)) {
		if (!address_split(item.addr, &l, &d))
			d = STR_NULL;
		*out = domain ? d : l;
	}
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_domain(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	return op_part(ev, in, true, out);
}

static enum status op_local_part(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	return op_part(ev, in, false, out);
}

static enum status op_addresses(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	struct str rest = in, text;
	struct addrlist list;
	struct err why = ERR_INIT;
	enum status st = ST_OK;
	char sep = ':';

	(void)n;
	while (rest.len && ascii_is_space(rest.p[0]))
		rest = str_from(rest, 1);
	if (rest.len == 1 && rest.p[0] == '>')
		return err_set(err, ST_ERROR, "addresses: a separator expected behind \">\"");
	if (rest.len >= 2 && rest.p[0] == '>') {
		sep = rest.p[1];
		rest = str_from(rest, 2);
	}
	/* All at once, which understands groups; item by item when one of them is bad, which leaves that one out. */
	if (!addrlist_parse(rest, ADDR_UTF8 | ADDR_LENIENT, ev->arena, &list, &why)) {
		for (uint32_t i = 0; i < list.n; i++)
			lang_split_add(&b, sep, list.v[i].addr, !b.len);
		rest = STR_NULL;
	}
	while (!st && rest.len && addrlist_item_next(&rest, &text)) {
		st = eval_step(ev, 1, err);
		if (!st && !addrlist_parse(text, ADDR_UTF8 | ADDR_LENIENT, ev->arena, &list, &why))
			for (uint32_t i = 0; i < list.n; i++)
				lang_split_add(&b, sep, list.v[i].addr, !b.len);
	}
	if (!st && b.full)
		st = err_set(err, ST_ERROR, "addresses: longer than %d octets", EVAL_LENGTH_MAX);
	if (!st)
		*out = str_dup(ev->arena, buf_str(&b));
	out->tainted = in.tainted;
	buf_clear(&b);
	return st;
}

#define OP_ALABEL(name_, convert) \
	static enum status op_##name_(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err) \
	{ \
		if (convert(ev->arena, in, out, err)) \
			return err_prefix(err, "%s", n->op->name); \
		return ST_OK; \
	}
OP_ALABEL(domain_to, alabel_domain_encode)
OP_ALABEL(domain_from, alabel_domain_decode)
OP_ALABEL(local_to, alabel_local_encode)
OP_ALABEL(local_from, alabel_local_decode)

const struct op_row exp_ops_mail[] = {
	{ "address", op_address, false, false, "the address in a header field's address" },
	{ "addresses", op_addresses, false, false, "all addresses of a header field, as a list" },
	{ "domain", op_domain, false, false, "the domain of an address" },
	{ "local_part", op_local_part, false, false, "the local part of an address" },
	{ "utf8_domain_to_alabel", op_domain_to, false, false, "a domain from UTF-8 to A-labels (xn--...)" },
	{ "utf8_domain_from_alabel", op_domain_from, false, false, "a domain from A-labels to UTF-8" },
	{ "utf8_localpart_to_alabel", op_local_to, false, false, "a local part from UTF-8 to ASCII, in the manner of A-labels" },
	{ "utf8_localpart_from_alabel", op_local_from, false, false, "a local part from such ASCII back to UTF-8" },
	{ NULL }
};

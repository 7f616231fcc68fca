/* SPDX-License-Identifier: ISC */
/* Operators on IP addresses and files. */
#include "common/lang/expand_tree.h"

#include <stdio.h>
#include <string.h>

#include "common/lang/lang_ask.h"
#include "common/lang/lang_ip.h"

static enum status not_an_ip(struct eval *ev, const struct node *n, struct str in, struct err *err)
{
	return err_set(err, ST_ERROR, "%s: \"%.*s\" is no IP address", n->op->name, STR_FMT(expand_quote(ev, in)));
}

static enum status op_mask(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct ip_net net;
	struct str text;

	if (str_find(in, '/') < 0 || !ip_net_parse(in, &net))
		return err_set(err, ST_ERROR, "mask: \"%.*s\" is not ADDRESS/BITS", STR_FMT(expand_quote(ev, in)));
	if (n->has_op_arg && !str_is(n->op_arg, "n"))
		return err_set(err, ST_ERROR, "mask and mask_n are known");
	ip_mask(&net.ip, net.bits);
	text = n->has_op_arg ? ip_format(ev->arena, &net.ip) : ip_format_full(ev->arena, &net.ip, '.');
	*out = str_printf(ev->arena, "%.*s/%u", STR_FMT(text), net.bits);
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_reverse_ip(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct ip ip;

	if (!ip_parse(in, &ip))
		return not_an_ip(ev, n, in, err);
	if (ip.len == 16 && !memcmp(ip.octets, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)) {
		memmove(ip.octets, ip.octets + 12, 4); /* IPv4 in IPv6 */
		ip.len = 4;
	}
	*out = ip_format_reverse(ev->arena, &ip);
	out->tainted = in.tainted;
	return ST_OK;
}

/* IPv4 as IPv6. */
static bool ip_parse_wide(struct str in, struct ip *ip)
{
	if (!ip_parse(in, ip))
		return false;
	if (ip->len == 4) {
		memmove(ip->octets + 12, ip->octets, 4);
		memset(ip->octets, 0, 10);
		memset(ip->octets + 10, 0xff, 2);
		ip->len = 16;
	}
	return true;
}

static enum status op_ipv6denorm(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	struct ip ip;

	if (!ip_parse_wide(in, &ip))
		return not_an_ip(ev, n, in, err);
	*out = ip_format_full(ev->arena, &ip, ':');
	out->tainted = in.tainted;
	return ST_OK;
}

/* Canonical, but without dotted decimals at the end: the longest run of zero groups (of two or more) is left out. */
static enum status op_ipv6norm(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	unsigned group[8], best = 8, best_len = 1;
	char text[IP_TEXT];
	int at = 0;
	struct ip ip;

	if (!ip_parse_wide(in, &ip))
		return not_an_ip(ev, n, in, err);
	for (unsigned i = 0; i < 8; i++)
		group[i] = (unsigned)ip.octets[2 * i] << 8 | ip.octets[2 * i + 1];
	for (unsigned i = 0; i < 8; i++) {
		unsigned len = 0;

		while (i + len < 8 && !group[i + len])
			len++;
		if (len > best_len) {
			best = i;
			best_len = len;
		}
	}
	for (unsigned i = 0; i < 8; i++) {
		if (i == best) {
			at += snprintf(text + at, sizeof text - (size_t)at, "%s", "::");
			i += best_len - 1;
			continue;
		}
		at += snprintf(text + at, sizeof text - (size_t)at, "%s%x", i && i != best + best_len ? ":" : "", group[i]);
	}
	*out = str_dup(ev->arena, str_make(text, (size_t)at));
	out->tainted = in.tainted;
	return ST_OK;
}

static enum status op_stat(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	enum status st = lang_ask_stat(ev, in, out, err);

	(void)n;
	if (st == ST_FAIL)
		return err_set(err, ST_ERROR, "stat(%.*s): no such file", STR_FMT(expand_quote(ev, in)));
	return st;
}

const struct op_row exp_ops_net[] = {
	{ "mask", op_mask, true, false, "an address under its mask, for lookups; mask_n: in normal form" },
	{ "reverse_ip", op_reverse_ip, false, false, "an address reversed, as the DNS has it" },
	{ "ipv6denorm", op_ipv6denorm, false, false, "an IPv6 address with all its digits" },
	{ "ipv6norm", op_ipv6norm, false, false, "an IPv6 address in its shortest form" },
	{ "stat", op_stat, false, false, "mode, owner, size and times of a file" },
	{ NULL }
};

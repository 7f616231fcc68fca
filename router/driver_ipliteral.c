/* SPDX-License-Identifier: ISC */
/* driver_ipliteral.c - user@[192.0.2.1]: the domain is the host. */
#include "common/mail/address.h"
#include "router/route.h"

static enum verdict ipliteral_run(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	struct find_options options;
	struct find_result found;
	struct str ip;
	enum verdict verdict;

	if (!address_literal_valid(addr->domain))
		return RT_DECLINE;
	ip = str_sub(addr->domain, 1, addr->domain.len - 2);
	if (str_beginsi(ip, "ipv6:") || str_beginsi(ip, "ipv4:"))
		ip = str_from(ip, 5);
	route_find_options(rt, r, 0, &options);
	if (find_addresses(rt->r->dns, rt->a, ip, &options, &found, err) != ST_OK)
		return RT_DECLINE;
	find_drop_self(&found);
	if (found.self) {
		verdict = route_self(rt, addr, r, ip, err);
		if (verdict != RT_ACCEPT)
			return verdict;
	}
	route_hosts_take(rt, &found, ip, 0, 0, out);
	return RT_ACCEPT;
}

const struct router_driver router_ipliteral = { &conf_table_router_ipliteral, NULL, ipliteral_run, false };

/* SPDX-License-Identifier: ISC */
/* proxies.h - the value of socks_proxy: through which SOCKS5 proxies a transport connects (specification, section 59.2).
 * Used by:    checks; router, which finds the addresses of those that are named; smtp-out, which tries them.
 * Owns:       texts and arrays are in the caller's arena, or lent from the text.
 * Invariant:  what conf_proxies_format() writes is read again as the same proxies.
 * Errors:     ST_ERROR with the proxy and what would be right. No user name and no password ever stands in a text of an error. */
#ifndef CONF_PROXIES_H
#define CONF_PROXIES_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	CONF_PROXIES_MAX = 32,
	CONF_PROXY_LOGIN_MAX = 255, /* octets of user name or password, RFC 1929 section 2 */
};

struct conf_proxy {
	struct str host;            /* an address in its usual form, or a name */
	struct str user, pass;
	uint32_t tmo_ms;
	uint32_t priority, weight;
	uint16_t port;
	bool named;                 /* host is a name */
	bool login;                 /* auth=name */
};

struct conf_proxies {
	struct conf_proxy *v;
	uint32_t n;                 /* 0: connect without a proxy */
	bool ranked;                /* pri= or weight= is said somewhere: they are drawn, else tried in order */
};

/* Proxies separated by colons, each of them words separated by blanks; "<c" in front of either chooses another separator. */
enum status conf_proxies_parse(struct str text, struct arena *a, struct conf_proxies *out, struct err *err);
struct str conf_proxies_format(const struct conf_proxies *proxies, struct arena *a);

#endif

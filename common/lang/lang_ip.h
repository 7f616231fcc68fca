/* SPDX-License-Identifier: ISC */
/* lang_ip.h - IP addresses and networks as text and as numbers.
 * Used by:    host lists, ip operators and conditions, policyd, router.
 * Owns:       nothing.
 * Errors:     false for what is no address. An IPv4 address mapped into IPv6 (::ffff:1.2.3.4) is taken as IPv4 by ip_parse_mapped(). */
#ifndef LANG_LANG_IP_H
#define LANG_LANG_IP_H

#include "common/base/mem.h"
#include "common/base/str.h"

struct ip {
	uint8_t octets[16];
	uint8_t len;            /* 4 or 16 */
};

struct ip_net {
	struct ip ip;
	uint8_t bits;           /* of the mask: 0 to 32 or 128 */
};

enum { IP_TEXT = 64 };

bool ip_parse(struct str s, struct ip *out);           /* no scope, no brackets, no port */
bool ip_parse_mapped(struct str s, struct ip *out);
bool ip_net_parse(struct str s, struct ip_net *out);   /* ADDRESS or ADDRESS/BITS */
bool ip_in_net(const struct ip *ip, const struct ip_net *net);
void ip_mask(struct ip *ip, unsigned bits);
struct str ip_format(struct arena *a, const struct ip *ip);             /* 2001:db8::1 */
struct str ip_format_full(struct arena *a, const struct ip *ip, char sep); /* 2001.0db8.0000...: all digits; IPv4 as usual */
struct str ip_format_reverse(struct arena *a, const struct ip *ip);     /* as DNS wants it, without a zone */

#endif

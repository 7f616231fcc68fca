/* SPDX-License-Identifier: ISC */
/* scan_server.h - the values of av_scanner and spamd_address: which scanners, where, how (specification, sections 45.1 and 45.2).
 * Used by:    the conditions malware and spam when they are compiled, policyd, master (directories of sockets).
 * Owns:       texts lie in the arena given, or are those of the value.
 * Errors:     ST_ERROR names what is not understood, with the nearest name, or is not implemented. */
#ifndef LANG_SCAN_SERVER_H
#define LANG_SCAN_SERVER_H

#include "common/conf/conf.h"

enum {
	SCAN_SERVERS_MAX = 32,           /* specification, section 45.2 */
	SCAN_TIMEOUT_MS = 120000,        /* specification, section 45.1 */
	SCAN_TIMEOUT_MAX_MS = 240000,    /* smtpd waits five minutes for all of the ACL */
};

struct scan_server {
	struct str path;                 /* Unix socket; empty: host and ports */
	struct str host;                 /* name or address */
	uint16_t port, port_last;
	unsigned priority, weight;
	int64_t from_s, until_s;         /* times of day, seconds; 0 and 86400: always */
	uint64_t retry_ms, timeout_ms;   /* retry: 0: none */
	bool rspamd;
};

struct scan_servers {
	struct scan_server v[SCAN_SERVERS_MAX];
	unsigned n;
};

enum status scan_servers_parse(struct arena *a, struct str text, bool spam, struct scan_servers *out, struct err *err);
bool scan_text_expands(struct str text);   /* it begins with a dollar: what it names is not known before a message is there */
/* Whether a configuration asks scanners of the kind: the option is set, or an ACL has the condition. */
bool scan_wanted(const struct conf *conf, bool spam);

#endif

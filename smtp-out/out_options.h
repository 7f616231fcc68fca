/* SPDX-License-Identifier: ISC */
/* out_options.h - what a plan's options mean for a connection and a transaction.
 * Used by:    out_plan.c.
 * Owns:       nothing; texts are in the caller's arena.
 * Errors:     ST_ERROR for a value that an expansion made and that can't be used: the delivery is deferred. */
#ifndef OUT_OPTIONS_H
#define OUT_OPTIONS_H

#include "common/base/err.h"
#include "common/conf/proxies.h"
#include "common/ipc/codec.h"

enum { OUT_DOWNCONVERT_MESSAGE = 2 };

struct out_tls_options {
	struct str avoid, verify_avoid, require, verify, try_verify, check_names, request_ocsp, require_ocsp, require_alpn, nopass, noproxy, resume, requiretls_unauthenticated; /* host lists */
	struct str certificate, privatekey, anchors, crl; /* files, which keyd reads */
	struct str sni, ciphers, dane_ciphers, alpn;
	bool request_ocsp_set;       /* request_ocsp is no default */
	struct str machine;          /* host_name_extract as it is written; p NULL: the default rule */
	uint32_t dh_min_bits;
	bool tempfail_tryclear;
	bool first;                  /* TLS before the banner */
};

struct out_options {
	uint64_t connect_ms, command_ms, data_ms, final_ms, idle_ms;
	uint32_t hosts_max_try, hosts_max_try_hardlimit; /* 0: no limit */
	uint32_t max_messages;       /* on one connection; 0: no limit */
	uint16_t port;
	int16_t tos;                 /* IP type of service, -1: the system's */
	struct str helo;             /* empty: the host's name */
	struct str interface;        /* addresses to send from, list */
	struct conf_proxies proxies; /* socks_proxy; n 0: none */
	struct str socket;           /* Unix socket of driver lmtp */
	struct str avoid_esmtp, avoid_pipelining, try_auth, require_auth, try_chunking, try_prdr, pipe_connect, try_fastopen; /* host lists */
	uint64_t line_max;           /* octets of the longest line that is sent; 0: no limit */
	int64_t size_addition;
	int8_t utf8_downconvert;     /* 1, 0, -1, or OUT_DOWNCONVERT_MESSAGE: as the message has it */

	struct out_tls_options tls;
	bool lmtp, ignore_quota, keepalive, auth_sender_force;
	bool headers_only, body_only, return_path_add, delivery_date_add, envelope_to_add;
};

/* host: whose own options come on top; NULL: none. */
enum status out_options_read(const struct ipc_plan *plan, const struct ipc_host *host, struct arena *a, struct out_options *out, struct err *err);
/* True if the host is in the list: items `*`, names with `*` in front, addresses, networks with a mask, each with `!`; "yes" and "no"
 * where the router has decided already. Lookups and named lists are resolved before. */
bool out_host_matches(struct str list, struct str name, struct str ip);
/* The first address of the list that is of this family (AF_INET, AF_INET6); STR_NULL: none. */
struct str out_interface_for(struct str list, int family);

#endif

/* SPDX-License-Identifier: ISC */
/* dns_impl.h - what the files of this folder share.
 * Used by:    common/dns/ and its tests. */
#ifndef DNS_DNS_IMPL_H
#define DNS_DNS_IMPL_H

#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/dns/dns.h"

/* ---- names ---- */
enum dns_name_form { DNS_FORM_HOST /* letters, digits, "-", "_" */, DNS_FORM_PLAIN /* whatever prints */, DNS_FORM_ANY /* \ddd for the rest */ };
/* An uncompressed name; false when it is malformed or has octets that the form refuses. */
bool dns_name_from_wire(struct arena *a, const uint8_t *wire, size_t len, enum dns_name_form form, struct str *out);
size_t dns_name_to_wire(uint8_t *out, size_t max, struct str name); /* length, 0: impossible */

/* ---- cache: answers by name, type and flags; least recently used goes first ---- */
struct dns_cache {
	struct hash by_key;
	struct list recent;        /* first: the one to go */
	uint32_t n, max;
	size_t octets;
};
void dns_cache_init(struct dns_cache *c, uint32_t max);
void dns_cache_clear(struct dns_cache *c);
/* True when there is one that still holds at now_ms; the answer is copied. */
bool dns_cache_get(struct dns_cache *c, struct str key, uint64_t now_ms, struct arena *a, enum status *status_out, struct dns_answer *out,
	struct err *err);
void dns_cache_put(struct dns_cache *c, struct str key, uint64_t until_ms, enum status status, const struct dns_answer *answer,
	const struct err *err);

/* ---- transport ---- */
struct dns_net {
	struct dns_server servers[DNS_SERVERS_MAX];
	uint64_t rest_until[DNS_SERVERS_MAX]; /* clock_ms() */
	unsigned n;
	uint32_t retrans_ms, timeout_ms;
	unsigned retry;
	bool edns, ad;
	uint64_t deadline;         /* of all questions; 0: none */
	bool (*slow)(void *ctx, enum dns_slow what);
	void *ctx;
	uint32_t slow_ms;
	uint64_t slow_at;          /* from here on a question may wait only if slow() says so */
	bool is_slow, gave_up;     /* it did; it did not */
	uint8_t *packet;           /* 64 KB for answers */
};
uint64_t dns_net_slow_at(const struct dns_net *net); /* for what begins now */
/* Asks the servers until one has an answer that means something. ST_OK: answer parsed, rcode NOERROR or NXDOMAIN; ST_DEFER with
 * out->trouble. out->secure is set only from a trusted server. */
enum status dns_net_ask(struct dns_net *net, struct str name, unsigned type, unsigned flags, struct arena *a, struct dns_answer *out,
	bool *open_out, struct err *err);

struct dns {
	struct dns_config config;
	struct dns_net net;
	struct dns_cache cache;
	struct hosts_file *hosts;
	void *pattern;             /* pcre2_code *, NULL: none */
	struct arena own;
};

#endif

/* SPDX-License-Identifier: ISC */
/* find.h - the hosts of a domain: MX, SRV and address records, the hosts file, reverse names.
 * Used by:    router (dnslookup, manualroute, host_ask, name_ask), the sender and recipient checks.
 * Owns:       results are in the caller's arena.
 * Invariant:  a list is in the order to try: by group (MX preference), random within. FIND_HOSTS_MAX names and FIND_ADDRS_MAX
 *             entries at most, whatever the zone holds. A host whose address can't be known now is left out; ST_DEFER only if
 *             no other is left, so that a backup takes the mail as it would from a host that does not answer.
 * Errors:     ST_FAIL: no such domain, no mail there (result->why tells them apart); ST_DEFER.
 * Standards:  RFC 5321 section 5.1, 7505, 2782, 3596. */
#ifndef DNS_FIND_H
#define DNS_FIND_H

#include "common/dns/dns.h"

enum {
	FIND_HOSTS_MAX = 50,       /* names of one domain */
	FIND_ADDRS_MAX = 100,      /* addresses in all */
	FIND_ALIASES_MAX = 16,     /* names of one address */
};

struct find_host {
	struct str name;           /* as the MX says or as asked, lower case */
	struct str canonical;      /* after CNAMEs; equal to name where there are none */
	struct str ip;             /* text */
	uint32_t group;            /* MX preference (or position), made dense from 0 */
	uint16_t port;             /* SRV; else 0 */
	bool secure;               /* all that led here was validated */
	bool local;                /* the address is this host's, or is listed by hosts_treat_as_local */
	bool from_file;            /* the hosts file said so */
};

enum find_why { FIND_OK = 0, FIND_NO_DOMAIN /* NXDOMAIN */, FIND_NO_HOSTS /* exists, no MX nor address */, FIND_NULL_MX, FIND_ALL_IGNORED,
	FIND_MX_NO_ADDRESS /* MX names without addresses */, FIND_MX_TO_IP, FIND_BAD_NAME, FIND_TROUBLE };

struct find_result {
	struct find_host *v;
	uint32_t n;
	enum find_why why;
	enum dns_trouble trouble;
	bool self;                 /* the best host is this one: `self` of the router decides (v is then the whole list) */
	bool dropped;              /* hosts were dropped because this host is a better or equal one */
	bool had_mx;               /* the domain has MX (or SRV) records */
	bool secure;               /* the MX answer (or lack of it) was validated */
	struct str name;           /* full name of the domain, after CNAMEs */
};

enum find_flag {
	FIND_IPV4_ONLY = 1,
	FIND_IPV4_FIRST = 2,       /* ipv4_prefer; otherwise IPv6 first */
	FIND_MX_REQUIRED = 4,      /* no address records of the domain itself (mx_domains) */
	FIND_SECONDARY = 8,        /* check_secondary_mx: ST_FAIL unless this host is in the list, but not first */
	FIND_ALLOW_MX_IP = 16,     /* allow_mx_to_ip */
	FIND_KEEP_ORDER = 32,      /* no randomising, for tests */
	FIND_MX_DEFER_IS_NONE = 64, /* a failing MX question counts as "no MX" (mx_fail_domains) */
	FIND_SRV_DEFER_IS_NONE = 128, /* likewise SRV (srv_fail_domains) */
	FIND_DNS_ONLY = 256,       /* the hosts file is not read (bydns) */
};

struct find_options {
	unsigned flags;
	struct str srv;            /* check_srv: service ("smtp"); empty: none */
	bool (*ignored)(void *ctx, struct str ip, struct str name);  /* ignore_target_hosts; NULL: none */
	bool (*local)(void *ctx, struct str ip, struct str name);    /* NULL: no address is */
	void *ctx;
};

/* Hosts by SRV, MX, addresses, in this order. */
enum status find_mail_hosts(struct dns *dns, struct arena *a, struct str domain, const struct find_options *options, struct find_result *out,
	struct err *err);
/* The addresses of one host name (or the address itself, if it is one): hosts file first unless FIND_DNS_ONLY. */
enum status find_addresses(struct dns *dns, struct arena *a, struct str name, const struct find_options *options, struct find_result *out,
	struct err *err);

struct find_names {
	struct str v[FIND_ALIASES_MAX]; /* verified: the name's addresses have the address */
	uint32_t n;
	bool secure;
	bool unverified;           /* there were names, but none that leads back */
};
/* Ways to find a name, in the order to try: the hosts file, and PTR with each name forward. A zero ends it. */
enum find_way { FIND_BY_DNS = 1, FIND_BY_FILE };
struct find_order { uint8_t way[2]; };
/* The verified names of an address. The first way that knows one decides; one that defers ends it with ST_DEFER. */
enum status find_names(struct dns *dns, struct arena *a, struct str ip, struct find_order order, struct find_names *out, struct err *err);

/* Takes local hosts and all that are not better than the best of them out of a list sorted by group; sets self and dropped. */
void find_drop_self(struct find_result *r);

/* The hosts file. Lines "ADDRESS NAME ALIAS..."; unusable ones are skipped. */
struct hosts_file;
struct hosts_file *hosts_file_parse(struct str text);
void hosts_file_free(struct hosts_file *h);
/* Addresses of a name, in the file's order, up to max; returns how many. */
unsigned hosts_file_addresses(const struct hosts_file *h, struct str name, struct str *out, unsigned max);
struct str hosts_file_name(const struct hosts_file *h, struct str ip); /* the first name; STR_NULL: none */

#endif

/* SPDX-License-Identifier: ISC */
/* callout_cache.h - what callouts have found out, and what it decides for the next one.
 * Used by:    callout.c, which keeps the records in the hints (name space callout).
 * Owns:       nothing.
 * Invariant:  two kinds of records: of a domain (whether callouts can be made at all, whether it takes any local part, whether it has a
 *             postmaster) and of an address, under "address" or "address/<sender>" where the sender was not empty.
 * Errors:     a record that can't be read is as good as none.
 * Standards:  specification, section 44.48. */
#ifndef ROUTER_CALLOUT_CACHE_H
#define ROUTER_CALLOUT_CACHE_H

#include "common/base/err.h"
#include "common/base/str.h"

enum callout_known { KNOWN_NOTHING, KNOWN_TAKEN, KNOWN_REFUSED, KNOWN_NULL_REFUSED /* domain: MAIL FROM:<> was */ };

struct callout_fact {
	enum callout_known known;
	int64_t when_s;
};
struct callout_domain {
	struct callout_fact calls, random, postmaster;
};

struct callout_expire {
	int64_t domain_negative_s, domain_positive_s, negative_s, positive_s;
};

struct callout_wish {
	bool null_sender;         /* MAIL would say <> */
	bool random, postmaster;
};

struct callout_decision {
	bool decided;
	enum status status;       /* ST_OK, ST_FAIL */
	const char *failure;      /* "mail", "recipient", "postmaster"; "random" with ST_OK; else NULL */
	const char *text;         /* for the client */
	/* not decided: what still has to be asked */
	bool random, postmaster;
};

/* domain, address: as stored, or all zero. */
void callout_cache_decide(const struct callout_wish *wish, const struct callout_domain *domain, const struct callout_fact *address,
	const struct callout_expire *expire, int64_t now_s, struct callout_decision *out);

struct str callout_domain_format(struct arena *a, const struct callout_domain *d);
void callout_domain_parse(struct str text, struct callout_domain *out);
struct str callout_fact_format(struct arena *a, const struct callout_fact *f);
void callout_fact_parse(struct str text, struct callout_fact *out);

#endif

/* SPDX-License-Identifier: ISC */
/* manual_rule.h - the routing rules of manualroute, taken apart.
 * Used by:    driver_manualroute.c and its test.
 * Owns:       texts are in the caller's arena or lent.
 * Errors:     ST_ERROR with what is wrong with the rule.
 * Standards:  specification, sections 20.2, 20.3 and 20.7. */
#ifndef ROUTER_MANUAL_RULE_H
#define ROUTER_MANUAL_RULE_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum { MANUAL_RULES_MAX = 10000 };

struct manual_options {
	bool randomize, no_randomize, byname, bydns, ipv4_only, ipv4_prefer;
	struct str transport;   /* empty: none named */
};

struct manual_rule {
	struct str pattern;     /* as one item of a domain list */
	struct str hosts;       /* unexpanded; empty: none */
	struct manual_options options;
};

/* One rule of route_list: "PATTERN HOSTS OPTIONS", pattern and hosts quoted where they hold blanks. */
enum status manual_rule_parse(struct str rule, struct arena *a, struct manual_rule *out, struct err *err);
/* The result of route_data: "HOSTS OPTIONS". */
enum status manual_data_parse(struct str data, struct arena *a, struct str *hosts_out, struct manual_options *out, struct err *err);

#endif

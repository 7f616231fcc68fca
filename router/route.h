/* SPDX-License-Identifier: ISC */
/* route.h - one question's way through the routers.
 * Used by:    router/.
 * Owns:       struct route is on the stack of router_route(); all it makes is in the question's arena.
 * Invariant:  every recipient gets a leaf. Work is bounded: ROUTE_DEPTH_MAX redirections in a row, ROUTE_ADDRS_MAX addresses.
 * Errors:     "cannot know now" makes a leaf that is deferred; it never fails an address. */
#ifndef ROUTER_ROUTE_H
#define ROUTER_ROUTE_H

#include "common/lang/expand.h"
#include "common/lang/rewrite.h"
#include "router/router.h"
#include "router/site.h"

enum {
	ROUTE_DEPTH_MAX = 50,         /* redirections on the way to one address */
	ROUTE_ADDRS_MAX = 50000,      /* addresses made in one question */
	ROUTE_RULES_MAX = 32,         /* retry rules named for one leaf or host, as declared */
	ROUTE_NOTICES_MAX = 16,       /* messages about redirection data, as declared */
	ROUTE_NOTICE_TEXT_MAX = 32768, /* octets of one */
	ROUTE_TRACE_MAX = 4096,       /* lines of a trace, as declared */
	ROUTE_NESTED_MAX = 3,         /* verifications within routing (errors_to) */
	ROUTE_HOSTS_MAX = 256,        /* hosts of one plan, as declared */
	ROUTE_PLAN_MAX = 90000,       /* octets of a plan, below what struct ipc_deliver carries */
	ROUTE_PART_MAX = 120000,      /* octets of one answer before another is begun */
	ROUTE_CHANGES_MAX = 64,       /* domains that routers changed, for header fields */
	ROUTE_MEMOS_MAX = 64,         /* plans, and results of finding hosts, that recipients of one question share */
};

enum route_mode { MODE_DELIVER, MODE_TEST, MODE_VERIFY_RECIPIENT, MODE_VERIFY_SENDER, MODE_EXPN /* one level of redirection */ };

enum addr_kind { KIND_ADDRESS, KIND_FILE, KIND_DIRECTORY, KIND_PIPE };

/* An address on its way. */
struct addr {
	struct addr *next;                    /* in the queue */
	struct addr *parent;                  /* redirected from; NULL: a recipient */
	uint32_t recipient;                   /* its place in the question */
	uint16_t depth;
	enum addr_kind kind;
	struct str text;                      /* address; path or command for the other kinds */
	struct str local, local_lower, domain; /* without quotes; as written, in lower case; domain in lower case */
	const struct site_router *start;      /* begins here; NULL: the first */
	bool hide_child;                      /* reports name the recipient in its place */
	const struct site_router *router;     /* that handled it */
	const struct site_transport *transport; /* for the other kinds */
	/* what routers attached, inherited by children */
	struct str address_data;
	struct eval_vars vars;
	struct str errors_to;
	bool has_errors_to;
	struct str *headers_add, *headers_remove;
	uint32_t n_add, n_remove;
	bool unseen, one_time, lasthop;
	struct str self_hostname;
	/* as they were when its router ran */
	struct str lp, prefix, prefix_v, suffix, suffix_v; /* lp: what $local_part was */
	struct str domain_data, local_part_data;
	struct str home, router_home;         /* of the login; router_home_directory */
	bool has_user;                        /* check_local_user found it */
	uint64_t uid, gid;
	struct str user;
};

struct driver_out {
	const struct site_transport *transport; /* NULL: the router's option */
	struct ipc_host *hosts;
	uint32_t n_hosts;
	struct str host_text;                 /* a host list for a local transport: $host */
	struct str status;                    /* enhanced status of a failure */
	bool told;                            /* a deferral's reason was written for clients */
	bool dnssec_judged;                   /* dnssec_request_domains has been seen to */
};

/* Hosts found once for a router and a domain. */
struct hosts_memo {
	const struct site_router *router;
	struct str domain;
	enum verdict verdict;
	struct driver_out out;
	struct err err;
};

struct plan_memo {
	const struct site_router *router;
	const struct site_transport *transport;
	const struct ipc_host *hosts;
	uint32_t plan;
};

struct route {
	bool dns_begun;                       /* this question has set the DNS' deadline */
	struct router *r;
	struct site *site;
	struct arena *a;
	struct eval *ev;
	enum route_mode mode;
	const struct ipc_facts *facts;
	unsigned nested;
	bool trace_on;
	bool rewrites;                        /* the addresses asked about are rewritten first (bulkhead route) */
	bool arrival, forced;                 /* as in struct ipc_route_ask */
	bool only_looked, only_all, only_smtp; /* queue_only_file: files that exist */
	struct site_sort *sort;               /* remote_sort_domains of this question, once it was needed */
	bool no_content;                      /* the message is needed, and not here: ask again */
	struct addr *queue, **queue_end;
	uint32_t n_addrs;
	struct ipc_leaf *leaves;
	uint32_t n_leaves, leaves_room;
	struct ipc_plan *plans;
	uint32_t *plan_octets;
	uint32_t n_plans, plans_room;
	struct hash plan_by_octets;           /* encoded plan -> index + 1 */
	struct hash leaf_by_key;              /* recipient, plan, address */
	struct rewrite_change *changes;       /* domains that routers changed: for the fields of every copy */
	uint32_t n_changes, *plan_changes;    /* plan_changes: how many of them were known to each plan */
	struct plan_memo plan_memo[ROUTE_MEMOS_MAX];
	unsigned n_plan_memo;
	struct hosts_memo *hosts_memo[ROUTE_MEMOS_MAX];
	unsigned n_hosts_memo;
	struct ipc_notice notices[ROUTE_NOTICES_MAX];
	uint32_t n_notices;
	struct str *trace;
	uint32_t n_trace;
	struct err why;                       /* the last router that declined the present address said */
	struct str why_status;
	/* verification */
	bool success_on_redirect;
	bool wants_plan;                      /* a callout follows */
	const struct ipc_plan *callout_plan;  /* of the accepted address, if it goes to other hosts */
	enum status verdict;
	bool told;                            /* as in struct driver_out, of what deferred it */
	const struct addr *verified;
	struct ipc_leaf *verify_leaf;
};

#define route_trace(rt, ...) do { if ((rt)->trace_on) route_trace_add(rt, __VA_ARGS__); } while (0)
void route_trace_add(struct route *rt, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- the way through (route.c) ---- */
void route_run(struct route *rt); /* until the queue is empty */
/* Puts a recipient into the queue. */
void route_recipient(struct route *rt, uint32_t index, const struct ipc_recipient *rcpt);
/* A child of addr, made by r. text: address with domain, or path and so on. ST_FAIL: too many of them. */
enum status route_child(struct route *rt, struct addr *addr, const struct site_router *r, enum addr_kind kind, struct str text,
	const struct site_transport *transport, struct err *err);
/* The address with another domain, routed from the first router on; with rewrite, the message's header fields follow. */
enum status route_domain_change(struct route *rt, struct addr *addr, const struct site_router *r, struct str domain, bool rewrite,
	struct err *err);
/* errors_to, headers_add, headers_remove, which children inherit. */
enum status route_delivery_options(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err);
enum status route_expand(struct route *rt, const struct expansion *x, struct str *out, struct err *err);
bool route_is_verify(const struct route *rt);
/* Sets the variables of an address for expansions. */
void addr_enter(struct route *rt, const struct addr *addr, const struct site_router *r);
bool addr_parse(struct route *rt, struct addr *addr, struct str text);

/* ---- preconditions (route_pre.c) ---- */
/* ST_OK: the router runs; ST_FAIL: it is skipped, err says why (only when traced); ST_DEFER, ST_ERROR. */
enum status route_preconditions(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err);

/* ---- transports, hosts, plans (route_plan.c, route_plans.c, route_hosts.c) ---- */
enum status route_transport(struct route *rt, const struct site_router *r, const struct site_transport **out, struct err *err);
enum status plan_make(struct route *rt, struct addr *addr, const struct site_router *r, const struct site_transport *t,
	const struct driver_out *out, uint32_t *plan_out, struct err *err);
enum status plan_keep(struct route *rt, const struct ipc_plan *plan, uint32_t *out, struct err *err); /* its number */
/* Behind the last address: plans made before a domain was changed get the change, too. */
void plans_finish(struct route *rt);
/* The same for a transport that runs as another one's shadow: nothing is kept. */
enum status plan_shadow(struct route *rt, struct addr *addr, const struct site_router *r, const struct site_transport *t, const struct driver_out *out,
	struct ipc_plan *plan_out, struct err *err);
/* shadow_transport (route_shadow.c): adds the shadow to t's plan. What goes wrong with it is told there, too. */
void route_shadow(struct route *rt, struct addr *addr, const struct site_router *r, const struct site_transport *t, const struct driver_out *out,
	struct ipc_plan *plan);
/* What the generic options do to found hosts: dnssec_request_domains, translate_ip_address. ST_DEFER, ST_ERROR. */
enum status route_hosts_finish(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err);
/* What `self` says when the best host is this one: RT_ACCEPT for send. */
enum verdict route_self(struct route *rt, struct addr *addr, const struct site_router *r, struct str host, struct err *err);
/* Hosts of a list, in order, with addresses. On RT_ACCEPT there is at least one. failed: host_find_failed and host_all_ignored. */
struct hosts_wish {
	unsigned find_flags;
	bool randomize;
	struct str find_failed, all_ignored;   /* words of manualroute's options */
	bool never_self;               /* the transport's own hosts: no `self` */
	const struct lang_list *dnssec_request, *dnssec_require; /* NULL: all; none */
};
enum verdict route_hosts(struct route *rt, struct addr *addr, const struct site_router *r, const struct host_items *items,
	const struct hosts_wish *wish, struct driver_out *out, struct err *err);
/* The found hosts as they travel, with the numbers of their retry rules. */
void route_hosts_take(struct route *rt, const struct find_result *found, struct str domain, uint32_t group, uint16_t port, struct driver_out *out);
void route_find_options(struct route *rt, const struct site_router *r, unsigned flags, struct find_options *out);
struct hosts_memo *route_memo_find(struct route *rt, const struct site_router *r, struct str domain);
void route_memo_keep(struct route *rt, const struct site_router *r, struct str domain, enum verdict verdict, const struct driver_out *out,
	const struct err *err);
/* Numbers of the retry rules for an address, or a domain or host (local empty). local_only: those that fit for the sake of the local
 * part; may be NULL. */
void route_retry_rules(struct route *rt, struct str local, struct str domain, struct ipc_strs *out, struct ipc_strs *local_only);
bool retry_pattern_fits(struct eval *ev, const struct site_retry *rule, struct str local, struct str domain);
bool retry_sender_fits(struct eval *ev, const struct site_retry *rule, struct str sender);

/* ---- how to authenticate (route_auth.c): adds to the plan, and to the identity of its connections ---- */
enum status route_auth(struct route *rt, const struct site_transport *t, struct ipc_plan *plan, struct buf *identity, struct err *err);

/* ---- what waits, and what goes first (route_queue.c) ---- */
/* True: it is not to be routed now (hold_domains, queue_domains); its leaf says so. */
bool addr_waits(struct route *rt, struct addr *addr);
/* A delivery by SMTP: its place among the others, and whether it waits for a queue run. */
void leaf_remote(struct route *rt, const struct addr *addr, struct ipc_leaf *l);

/* ---- leaves (route_leaf.c) ---- */
bool router_fails_verify(const struct route *rt, const struct site_router *r);
void leaf_verify_failed(struct route *rt, struct addr *addr, const struct site_router *r); /* fail_verify */
void leaf_deliver(struct route *rt, struct addr *addr, const struct site_router *r, uint32_t plan);
void leaf_end(struct route *rt, struct addr *addr, const struct site_router *r, enum route_outcome outcome, bool freeze, struct str status,
	const char *text);
void leaf_redirected(struct route *rt, struct addr *addr, const struct site_router *r); /* verification only */
void leaves_send(struct route *rt, route_send_fn *send, void *arg);

/* ---- users (users.c) ---- */
struct user {
	struct str name, home;
	uint64_t uid, gid;
};
struct users *users_new(const char *passwd, const char *group);
void users_free(struct users *users);
/* By name; texts are lent until the next call. ST_FAIL: no such; ST_DEFER: the file can't be read. */
/* Behind the name and its colon; lent until the next call. */
enum status users_line(struct users *users, struct str name, struct str *rest_out, struct err *err);
enum status users_find(struct users *users, struct str name, struct user *out, struct err *err);
enum status users_group(struct users *users, struct str name, uint64_t *gid_out, struct err *err); /* name or number */

#endif

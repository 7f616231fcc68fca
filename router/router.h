/* SPDX-License-Identifier: ISC */
/* router.h - a worker of the router: what it knows and keeps, and what can be asked of it.
 * Used by:    main.c through router_spec; tests, which open a struct router without a pool.
 * Owns:       struct router owns language, resolver, compiled site, lookup handles and hints; the configuration is lent.
 * Errors:     router_open(): ST_ERROR with the place of the option that is wrong. Questions always get an answer. */
#ifndef ROUTER_ROUTER_H
#define ROUTER_ROUTER_H

#include "common/base/log.h"
#include "common/daemon/pool.h"
#include "common/dns/find.h"
#include "common/lang/lang.h"
#include "common/lang/lang_list.h"
#include "router/lookup_drivers.h"

struct site;
struct users;
struct lookup_handles;
struct hints;

enum {
	ROUTER_DNS_MS = 90000,          /* all DNS questions of one routing question */
	ROUTER_PROGRAM_MS = 240000,     /* all programs of one: qmgr and policyd wait five minutes for an answer */
	ROUTER_PROGRAM_GRACE_MS = 10000, /* beside a program's own time */
	ROUTER_LOCAL_IPS_MAX = 256,     /* addresses named by local_interfaces and extra_local_interfaces */
	ROUTER_SYSTEM_FILE_MAX = 16 * 1024 * 1024, /* octets of /etc/hosts and the like */
};

/* Which addresses are this host's. */
struct local_ips {
	struct str v[ROUTER_LOCAL_IPS_MAX];
	unsigned n;
	bool all_v4, all_v6;            /* 0.0.0.0, ::0: whatever the kernel lets us bind */
	struct hash asked;              /* address -> "y" or "n" */
	struct arena arena;
};

struct router {
	const struct conf *conf;
	struct log *log;                /* NULL: nothing is logged (tests) */
	const char *name;               /* of the worker, for the log */
	bool unprivileged;              /* all daemons run as one user: deliveries need no login */
	struct lang *lang;
	struct dns *dns;
	struct eval dns_ev;             /* for the lists that the resolver asks about */
	struct arena dns_arena;
	struct lang_list *dns_lists[3]; /* by enum dns_list; NULL: unset */
	struct lang_list *treat_as_local;
	struct find_order name_order;   /* host_lookup_order */
	struct str search;              /* domains that complete a name, of resolv.conf */
	struct arena arena;
	struct site *site;
	struct users *users;
	struct local_ips local;
	struct lookup_env lookup_env;
	struct lookup_handles *handles;
	struct hints *hints;            /* NULL: out of reach; tried again by the handler */
	uint64_t hints_retry_ms, hints_expire_ms;
	bool hints_away;                /* they were, when last asked: said in the log */
	unsigned hints_writes;          /* since some that had expired were removed */
	bool (*slow)(void *ctx, enum dns_slow what); /* as dns_config.slow; NULL: whoever wants may wait. ctx: callout_ctx */
	/* Asks smtp-out; NULL: there is none. ST_DEFER with a text when there is no answer. */
	enum status (*callout)(void *ctx, const struct ipc_callout_ask *ask, struct ipc_callout_answer *out, int timeout_ms, struct err *err);
	void *callout_ctx;
	/* Has the program of a queryprogram router run, under that login; NULL: that can't be done here. ST_DEFER with a text likewise. */
	enum status (*program)(void *ctx, const struct worker_login *login, const struct ipc_program_ask *ask, struct ipc_program_answer *out,
		int timeout_ms, struct err *err);
	void *program_ctx;
	uint64_t program_until_ms;      /* programs of one question must have ended by then */
};

/* What tests may put in the place of the machine's own files; NULL: /etc/... */
struct router_files {
	const char *resolv_conf, *hosts, *passwd, *group;
};
enum status router_open(struct router *r, const struct conf *conf, struct log *log, const struct router_files *files, struct err *err);
void router_close(struct router *r);
void router_log(struct router *r, unsigned targets, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool router_ip_is_local(struct router *r, struct str ip);
/* hosts_treat_as_local, or an address of ours. */
bool router_host_is_local(struct router *r, struct str ip, struct str name);

/* The questions, without a pool: the answers' parts are in the arena. */
typedef void route_send_fn(void *arg, const struct ipc_route_answer *answer);
void router_route(struct router *r, struct arena *a, const struct ipc_route_ask *ask, int message_fd, route_send_fn *send, void *arg);
void router_verify(struct router *r, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out);
void router_expand(struct router *r, struct arena *a, const struct ipc_expand_ask *ask, int message_fd, struct ipc_expand_answer *out);
void router_report(struct router *r, struct arena *a, const struct ipc_report_ask *ask, int message_fd, struct ipc_report_answer *out);
void router_rules(struct router *r, struct arena *a, const struct ipc_rules_ask *ask, struct ipc_rules_answer *out);
/* ${run} of policyd. */
void router_run_asked(struct router *r, struct arena *a, const struct ipc_program_ask *ask, struct ipc_program_answer *out);
void router_lookup(struct router *r, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out);
void router_name(struct router *r, struct arena *a, struct str ip, struct ipc_name_answer *out);
void router_host(struct router *r, struct arena *a, struct str name, struct str type, struct ipc_host_answer *out);
/* Whether a daemon may use that name space; whether the text is one of the configuration's main options. */
bool router_hint_permitted(struct str space, const char *peer);
bool router_text_is_option(const struct conf *conf, struct str text);
/* Whether it is the host_name_extract of some transport: all that smtp-out may have expanded. */
bool router_text_is_extract(const struct conf *conf, struct str text);
void router_expand_extract(struct router *r, struct arena *a, const struct ipc_expand_ask *ask, struct ipc_expand_answer *out);
void router_hint(struct router *r, struct arena *a, const struct ipc_hint_ask *ask, struct ipc_hint_answer *out);

/* ---- handles of lookup files (lookup_ask.c) ---- */
struct lookup_handles *lookup_handles_new(unsigned max);
void lookup_handles_free(struct lookup_handles *h, struct lookup_env *env);
/* Closes what was idle for long; true when something is left open. */
bool lookup_handles_tidy(struct lookup_handles *h, struct lookup_env *env);
enum status router_packet(const struct ipc_lookup_ask *ask, struct err *err); /* packet.c; ST_FAIL: it could not be sent */
/* Programs: under which login (options PREFIX_user, PREFIX_group); ask->limit_s within what the question at hand has left; ${run}. */
enum status router_login_find(struct router *r, const char *prefix, const struct conf_text *user_option, const struct conf_text *group_option,
	struct worker_login *out, struct err *err);
enum status router_program_limit(const struct router *r, struct ipc_program_ask *ask, struct err *err);
enum status router_run_service(void *ctx, struct arena *a, const struct ipc_program_ask *ask, struct ipc_program_answer *out, struct err *err);

enum status router_lookup_service(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err);

extern const struct pool_spec router_spec;

#endif

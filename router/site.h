/* SPDX-License-Identifier: ISC */
/* site.h - the configuration made ready for routing: expansions and lists compiled, names resolved, constants worked out.
 * Used by:    router/; made once for each worker.
 * Owns:       everything is in the language's arena and the site's own; it lives as long as the worker.
 * Errors:     site_new(): ST_ERROR with file and line of what cannot work. */
#ifndef ROUTER_SITE_H
#define ROUTER_SITE_H

#include "common/conf/conf.h"
#include "common/lang/expand.h"
#include "common/lang/lang_list.h"

struct router;
struct site;
struct site_router;
struct site_transport;
struct route;
struct addr;
struct driver_out;
struct site_command;
struct site_reply;

enum { SITE_HEADERS_MAX = 64 /* fields added, as struct ipc_plan has it */, SITE_REMOVES_MAX = 256 };

/* What a driver makes of an address. */
enum verdict {
	RT_ACCEPT,     /* out says with which transport and hosts */
	RT_REDIRECT,   /* children were made */
	RT_DISCARD,    /* accepted, goes nowhere */
	RT_DECLINE, RT_PASS,
	RT_FAIL, RT_DEFER, RT_FREEZE,
};

/* One file for each driver, a row here. */
struct router_driver {
	const struct conf_table *table;
	/* At load: what the options mean; hangs it at r->own. */
	enum status (*compile)(struct site *site, struct site_router *r, struct err *err);
	/* err: with RT_FAIL, RT_DEFER, RT_FREEZE and RT_DECLINE why; for people, shown to senders. */
	enum verdict (*run)(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err);
	bool redirects;  /* makes addresses, has no transport */
};
extern const struct router_driver router_accept, router_dnslookup, router_ipliteral, router_manualroute, router_queryprogram,
	router_redirect;
extern const struct router_driver *const router_drivers[]; /* NULL behind the last */

/* One host of a list, as written in route_list, fallback_hosts, hosts (specification, section 20.5). */
struct host_item {
	struct str name;         /* or address, without brackets */
	uint16_t port;           /* 0: none given */
	bool mx;                 /* NAME/MX */
	bool border;             /* "+": no host, ends a group */
};
struct host_items {
	struct host_item *v;
	uint32_t n;
};
/* ST_ERROR with the item. At most HOST_ITEMS_MAX. */
enum { HOST_ITEMS_MAX = 256 };
enum status host_items_parse(struct str list, struct arena *a, struct host_items *out, struct err *err);

struct site_set {
	struct str name;         /* without r_ */
	struct expansion *value;
};

struct site_texts {
	struct expansion **v;
	uint32_t n;
};

enum self_action { SELF_FREEZE, SELF_DEFER, SELF_FAIL, SELF_SEND, SELF_PASS, SELF_REROUTE };

struct site_router {
	const struct conf_instance *conf;
	const struct conf_opts_router *o;
	const struct router_driver *driver;
	const void *own;                     /* the driver's */
	uint32_t index;
	struct lang_list *domains, *local_parts, *senders, *ignore_hosts, *dnssec_require, *dnssec_request /* NULL: all */;
	struct site_texts condition, headers_add, headers_remove, require_files;
	struct expansion *address_data, *cannot_route, *debug_print, *errors_to, *user, *group, *home, *transport_home, *transport_directory, *more, *unseen,
		*transport, *translate;
	struct site_set *sets;
	uint32_t n_sets;
	struct str *prefixes, *suffixes;
	uint32_t n_prefixes, n_suffixes;
	const struct site_router *pass_to, *redirect_to; /* NULL: the next, the first */
	const struct site_transport *transport_fixed;    /* `transport` without expansion */
	enum self_action self;
	struct str reroute_to;
	bool reroute_rewrite;
	bool verify_recipient, verify_sender;   /* for these; `verify` counts where it stands behind them */
	bool fail_recipient, fail_sender;       /* fail_verify and its kin, likewise */
	bool log_as_local;                   /* default: the accept router's alone */
	struct host_items fallback;
	bool reads_message;                  /* an option names its header or body */
	const struct conf_option *pending;   /* an option that this build cannot serve is set: addresses are put off */
	bool plain;                          /* what it adds to a delivery depends on nothing */
};

struct site_option {
	const struct conf_option *row;
	struct str name, constant;
	struct expansion *x;                 /* NULL: constant */
	struct lang_list *hosts;             /* a host list, decided for each host of the plan */
};

struct site_transport {
	const struct conf_instance *conf;
	const struct conf_opts_transport *o;
	const struct conf_opts_transport_smtp *smtp;             /* NULL: another driver */
	const struct conf_opts_transport_lmtp *lmtp;
	const struct conf_opts_transport_appendfile *appendfile;
	const struct conf_opts_transport_pipe *pipe;
	struct site_command *command;        /* pipe */
	const struct conf_opts_transport_autoreply *autoreply;
	struct site_reply *reply;
	struct site_option *options;         /* those to be sent with a plan */
	uint32_t n_options;
	const struct conf_option *pending;   /* as in struct site_router */
	bool constant;                       /* no option depends on anything */
	bool reads_message;
	struct site_texts headers_add, headers_remove;
	const struct rewrite *rewrite;       /* headers_rewrite; NULL: none */
	const struct site_transport *shadow; /* shadow_transport; NULL: none */
	struct expansion *shadow_condition;
	struct expansion *user, *group, *home, *directory, *max_parallel, *return_path, *size_limit, *hosts, *port, *multi_domain, *batch_id, *retry_ip, *auth_sender;
	struct host_items hosts_fixed, fallback;
	bool has_hosts_fixed;
	struct lang_list *dnssec_request /* NULL: all */, *dnssec_require;
	struct lang_list *try_dane, *require_dane;
	bool try_dane_all;                   /* no list need be asked */
	uint16_t port_fixed;                 /* the port where none is given and `port` is constant */
};

struct site_retry {
	struct lang_list *pattern;           /* NULL: "*" */
	struct lang_list *senders;           /* NULL: any */
	struct str number;                   /* as text */
};

/* An authenticator as a client. */
struct site_auth {
	const struct conf_instance *conf;
	struct str mechanism;
	struct expansion *condition, *set_id;
	struct site_texts send;              /* cram_md5: name and secret */
	bool ignore_base64;
};

/* remote_sort_domains, item by item. */
struct site_sort {
	struct lang_list **v;
	uint32_t n;
};

/* What waits, and in which order the rest goes (route_queue.c). NULL, empty: unset. */
struct site_queue {
	struct lang_list *hold, *domains, *smtp_domains;
	struct str only_files;               /* queue_only_file */
	struct site_sort sort;
	struct expansion *sort_text;         /* when it is not the same for all messages: in place of sort */
};

struct site {
	struct router *router;
	struct site_router *routers;
	uint32_t n_routers;
	struct site_transport *transports;
	uint32_t n_transports;
	struct site_auth *auths;
	uint32_t n_auths;
	struct site_retry *retry;
	uint32_t n_retry;
	struct site_queue queue;
	struct expansion *random_local_part; /* for callouts */
	struct arena arena;
};

enum status site_new(struct router *router, struct site **out, struct err *err);
void site_free(struct site *site);
const struct site_transport *site_transport_find(const struct site *site, struct str name);

/* For drivers' compile functions. The option's value is compiled unless it is unset (*out NULL). */
enum status site_text(struct site *site, const struct conf_text *t, struct expansion **out, struct err *err);
enum status site_list(struct site *site, enum lang_list_kind kind, const struct conf_text *t, struct lang_list **out, struct err *err);
enum status site_wrong(struct site *site, struct conf_place place, struct err *err); /* puts the place in front */
enum status site_queue_make(struct site *site, struct err *err);
bool text_reads_message(struct str text); /* an expansion that names the message's header or body */

/* A service's port: a number or a name known here; 0: neither. */
uint16_t port_parse(struct str text);

#endif

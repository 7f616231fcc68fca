/* SPDX-License-Identifier: ISC */
/* router.c - the daemon: what it may be asked, and what a worker opens before its first question. */
#include "router/router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "router/hints.h"
#include "router/route.h"

void router_log(struct router *r, unsigned targets, const char *fmt, ...)
{
	char line[2000];
	va_list ap;

	if (!r->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	log_line(r->log, targets, "%s: %s", r->name, line);
}

/* ---- this host's own addresses ---- */

static void local_ips_add(struct local_ips *l, struct str list)
{
	struct lang_split split = LANG_SPLIT(list);
	struct dns_config parsed;
	struct str item;

	while (list.len && lang_split_next(&split, &l->arena, &item)) {
		char text[INET6_ADDRSTRLEN];
		const struct sockaddr_storage *sa = &parsed.servers[0].addr;
		parsed.n_servers = 0;
		if (dns_config_server(&parsed, item, NULL) != ST_OK || l->n == ROUTER_LOCAL_IPS_MAX)
			continue;
		if (sa->ss_family == AF_INET)
			inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, sizeof text);
		else
			inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, text, sizeof text);
		if (!strcmp(text, "0.0.0.0"))
			l->all_v4 = true;
		else if (!strcmp(text, "::"))
			l->all_v6 = true;
		else
			l->v[l->n++] = str_of(arena_strdup(&l->arena, text));
	}
}

/* The kernel lets us bind to an address only if an interface has it. */
static bool can_bind(struct str ip, bool v6)
{
	char text[INET6_ADDRSTRLEN];
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	int fd, rc;

	if (ip.len >= sizeof text)
		return false;
	memcpy(text, ip.p, ip.len);
	text[ip.len] = 0;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, text, v6 ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr) != 1)
		return false;
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	rc = v6 ? bind(fd, (struct sockaddr *)&a6, sizeof a6) : bind(fd, (struct sockaddr *)&a4, sizeof a4);
	close(fd);
	return rc == 0;
}

enum { LOCAL_ASKED_MAX = 10000 /* answers of can_bind() kept */ };

static bool interface_has(struct local_ips *l, struct str ip, bool v6)
{
	const char *known;
	bool yes;

	/* of the loopback network only the address that the interface really has */
	if (str_begins(ip, "127."))
		return str_is(ip, "127.0.0.1");
	known = hash_get(&l->asked, ip);
	if (known)
		return *known == 'y';
	yes = can_bind(ip, v6);
	if (l->asked.used < LOCAL_ASKED_MAX)
		hash_put(&l->asked, str_dup(&l->arena, ip), (void *)(uintptr_t)(yes ? "y" : "n"));
	return yes;
}

bool router_ip_is_local(struct router *r, struct str ip)
{
	struct local_ips *l = &r->local;
	bool v6 = str_find(ip, ':') >= 0;

	if (str_is(ip, "0.0.0.0") || str_is(ip, "::"))
		return true;
	for (unsigned i = 0; i < l->n; i++)
		if (str_eq(l->v[i], ip))
			return true;
	return (v6 ? l->all_v6 : l->all_v4) && interface_has(l, ip, v6);
}

bool router_host_is_local(struct router *r, struct str ip, struct str name)
{
	struct err err = ERR_INIT;

	if (router_ip_is_local(r, ip))
		return true;
	return r->treat_as_local && name.len && lang_domain_match(&r->dns_ev, r->treat_as_local, name, NULL, &err) == ST_OK;
}

/* ---- services for the language ---- */

static enum status service_name(void *ctx, struct arena *a, struct str ip, struct ipc_name_answer *out, struct err *err)
{
	router_name(ctx, a, ip, out);
	return out->status == ST_OK ? ST_OK : err_set(err, (enum status)out->status, "%.*s", STR_FMT(out->text));
}

static enum status service_host(void *ctx, struct arena *a, struct str name, const char *type, struct ipc_host_answer *out, struct err *err)
{
	router_host(ctx, a, name, str_of(type), out);
	return out->status == ST_OK ? ST_OK : err_set(err, (enum status)out->status, "%.*s", STR_FMT(out->text));
}

static bool service_ip_is_local(void *ctx, struct str ip)
{
	return router_ip_is_local(ctx, ip);
}

static void service_log(void *ctx, unsigned targets, struct str text)
{
	struct router *r = ctx;

	if (r->log)
		log_text(r->log, targets, text);
}

/* ---- opening ---- */

/* A file of the system; empty if it can't be read. */
static struct str system_file(const char *path, struct arena *a)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	size_t n = 0;
	char *p;

	if (fd < 0)
		return STR_NULL;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > ROUTER_SYSTEM_FILE_MAX) {
		close(fd);
		return STR_NULL;
	}
	p = arena_alloc(a, (size_t)st.st_size + 1);
	while (n < (size_t)st.st_size) {
		ssize_t got = read(fd, p + n, (size_t)st.st_size - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(fd);
	return str_make(p, n);
}

static bool dns_listed(void *ctx, enum dns_list list, struct str domain)
{
	struct router *r = ctx;
	struct err err = ERR_INIT;
	bool yes;

	if (!r->dns_lists[list])
		return false;
	r->dns_ev.steps = 0;
	yes = lang_domain_match(&r->dns_ev, r->dns_lists[list], domain, NULL, &err) == ST_OK;
	if (r->dns_arena.used > 1024 * 1024)
		arena_reset(&r->dns_arena);
	return yes;
}

static enum status name_order_parse(struct str text, struct arena *a, struct find_order *out, struct err *err)
{
	static const struct { const char *word; enum find_way way; } ways[] = { { "bydns", FIND_BY_DNS }, { "byaddr", FIND_BY_FILE } };
	struct lang_split split = LANG_SPLIT(text);
	struct str item;
	size_t n = 0;

	while (lang_split_next(&split, a, &item)) {
		enum find_way way = 0;

		for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
			if (str_is(item, ways[i].word))
				way = ways[i].way;
		if (!way || n == sizeof out->way || (n && out->way[0] == way))
			return err_set(err, ST_ERROR, "host_lookup_order: \"%.*s\": \"bydns\" and \"byaddr\" are what there is, each once", STR_FMT(item));
		out->way[n++] = (uint8_t)way;
	}
	return ST_OK;
}

/* Workers that wait for name servers, which may be strangers', leave half of all to others. */
static bool dns_slow(void *ctx, enum dns_slow what)
{
	struct router *r = ctx;

	return !r->slow || r->slow(r->callout_ctx, what);
}

static enum status dns_open(struct router *r, const struct router_files *files, struct arena *a, struct err *err)
{
	const struct conf_opts_main *o = &r->conf->main;
	struct dns_config config = { .edns = (int)o->dns_use_edns0, .dnssec = (int)o->dns_dnssec_ok, .no_ipv6 = o->disable_ipv6,
		.check_names = o->dns_check_names_pattern.text, .listed = dns_listed, .slow = dns_slow, .ctx = r };
	struct lang_split split = LANG_SPLIT(o->dns_resolvers.text);
	struct str item;

	if (o->dns_resolvers.text.len) {
		while (lang_split_next(&split, a, &item))
			if (item.len && dns_config_server(&config, item, err) != ST_OK)
				return err_prefix(err, "dns_resolvers");
	} else {
		dns_config_resolv(&config, system_file(files && files->resolv_conf ? files->resolv_conf : "/etc/resolv.conf", a));
	}
	if (o->dns_retrans > 0)
		config.retrans_ms = (uint32_t)o->dns_retrans * 1000;
	if (o->dns_retry > 0)
		config.retry = (unsigned)o->dns_retry;
	config.timeout_ms = (uint32_t)o->dns_timeout * 1000;
	config.hosts_file = system_file(files && files->hosts ? files->hosts : "/etc/hosts", a);
	r->search = str_dup(&r->arena, config.search);
	for (uint32_t i = 0; i < r->search.len; i++)
		if (r->search.p[i] == '\t')
			((char *)(uintptr_t)r->search.p)[i] = ' ';
	if (name_order_parse(o->host_lookup_order.text, a, &r->name_order, err) != ST_OK)
		return err->status;
	r->dns = dns_new(&config, err);
	return r->dns ? ST_OK : err->status;
}

static enum status lists_open(struct router *r, struct err *err)
{
	const struct conf_opts_main *o = &r->conf->main;
	const struct {
		const struct conf_text *t;
		struct lang_list **out;
	} lists[] = {
		{ &o->dns_again_means_nonexist, &r->dns_lists[DNS_LIST_AGAIN_NONEXIST] }, { &o->dns_ipv4_lookup, &r->dns_lists[DNS_LIST_IPV4] },
		{ &o->dns_trust_aa, &r->dns_lists[DNS_LIST_TRUST_AA] }, { &o->hosts_treat_as_local, &r->treat_as_local },
	};

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		if (lists[i].t->text.p && lang_list_compile(r->lang, LIST_DOMAIN, lists[i].t->text, lists[i].t->place, lists[i].out, err) != ST_OK)
			return err->status;
	return ST_OK;
}

enum status router_open(struct router *r, const struct conf *conf, struct log *log, const struct router_files *files, struct err *err)
{
	const struct lang_services services = { .ctx = r, .lookup = router_lookup_service, .name = service_name, .host = service_host,
		.file = lang_file_read, .stat = lang_file_stat, .ip_is_local = service_ip_is_local, .log = service_log,
		.run = router_run_service };
	const struct conf_opts_main *o = &conf->main;
	struct arena scratch = ARENA_INIT;
	enum status st;

	memset(r, 0, sizeof *r);
	r->conf = conf;
	r->log = log;
	r->name = "router";
	local_ips_add(&r->local, o->local_interfaces.text);
	local_ips_add(&r->local, o->extra_local_interfaces.text);
	r->users = users_new(files && files->passwd ? files->passwd : "/etc/passwd", files && files->group ? files->group : "/etc/group");
	r->handles = lookup_handles_new((unsigned)o->lookup_open_max);
	r->lookup_env.users = r->users;
	r->lookup_env.redis_servers = o->redis_servers.text;
	r->lookup_env.redis_timeout_ms = (uint32_t)o->redis_timeout * 1000;
	r->lookup_env.pgsql_servers = o->pgsql_servers.text;
	r->lookup_env.mysql_servers = o->mysql_servers.text;
	r->lookup_env.sql_timeout_ms = (uint32_t)o->sql_timeout * 1000;
	r->lookup_env.sqlite_dbfile = o->sqlite_dbfile.text;
	r->lookup_env.sqlite_writable = o->sqlite_writable.text;
	r->lookup_env.sqlite_lock_ms = (uint32_t)o->sqlite_lock_timeout * 1000;
	r->lookup_env.lmdb_writable = o->lmdb_writable.text;
	r->lang = lang_new(conf, &services);
	eval_init(&r->dns_ev, r->lang, &r->dns_arena);
	st = lang_load(r->lang, err);
	if (st == ST_OK)
		st = lists_open(r, err);
	if (st == ST_OK)
		st = dns_open(r, files, &scratch, err);
	if (st == ST_OK) {
		r->lookup_env.dns = r->dns;
		st = site_new(r, &r->site, err);
	}
	arena_clear(&scratch);
	return st;
}

void router_close(struct router *r)
{
	site_free(r->site);
	hints_close(r->hints); /* its connection is among those of lookup_env */
	lookup_handles_free(r->handles, &r->lookup_env);
	users_free(r->users);
	dns_free(r->dns);
	eval_clear(&r->dns_ev);
	if (r->lang)
		lang_free(r->lang);
	hash_clear(&r->local.asked);
	arena_clear(&r->local.arena);
	arena_clear(&r->dns_arena);
	arena_clear(&r->arena);
}

/* ---- the pool ---- */

enum { CALLOUT_ALLOW_MS = ROUTER_DNS_MS + 10 * 1000 /* what routing and storing take beside the callout */ };

/* Callouts block workers; half of those there can be are left for routing and lookups, and as many of policyd's for other clients. */
static unsigned callouts_most(const struct conf *conf)
{
	int64_t n = conf->main.router_workers_max < conf->main.policyd_workers_max ? conf->main.router_workers_max : conf->main.policyd_workers_max;

	return (unsigned)(n / 2);
}

static enum status worker_callout(void *ctx, const struct ipc_callout_ask *ask, struct ipc_callout_answer *out, int timeout_ms, struct err *err)
{
	struct worker *w = ctx;
	enum status st;

	if (!worker_slow_begin(w, callouts_most(w->conf)))
		return err_set(err, ST_DEFER, "too many callouts at once");
	worker_allow(w, (uint64_t)timeout_ms + CALLOUT_ALLOW_MS);
	st = worker_call_once(w, &ipc_type_callout_ask, ask, &ipc_type_callout_answer, out, timeout_ms, err);
	worker_slow_end(w);
	return st;
}

static bool worker_dns_slow(void *ctx, enum dns_slow what)
{
	struct worker *w = ctx;
	unsigned most = callouts_most(w->conf);

	most = most ? most : 1;
	if (what == DNS_SLOW_PLACE)
		return worker_slow_count(w) < most;
	if (what == DNS_SLOW_BEGIN)
		return worker_slow_begin(w, most);
	worker_slow_end(w);
	return true;
}

static enum status worker_program(void *ctx, const struct worker_login *login, const struct ipc_program_ask *ask, struct ipc_program_answer *out,
	int timeout_ms, struct err *err)
{
	struct worker *w = ctx;
	struct worker_login own = { geteuid(), getegid() };
	enum status st;

	if (!worker_slow_begin(w, callouts_most(w->conf)))
		return err_set(err, ST_DEFER, "too many programs and callouts at once");
	worker_allow(w, (uint64_t)timeout_ms + CALLOUT_ALLOW_MS);
	/* without rights all runs under one login; `bulkhead route` by root keeps the program's */
	st = worker_errand(w, w->unprivileged && own.uid ? &own : login, &ipc_type_program_ask, ask, &ipc_type_program_answer, out, timeout_ms, err);
	worker_slow_end(w);
	return st;
}

static enum status worker_start(struct worker *w, struct err *err)
{
	struct router *r = mem_new(sizeof *r);
	enum status st = router_open(r, w->conf, w->log, NULL, err);

	if (st != ST_OK) {
		router_close(r);
		mem_free(r);
		return st;
	}
	r->name = w->name;
	r->unprivileged = w->unprivileged;
	r->callout = worker_callout;
	r->slow = worker_dns_slow;
	r->callout_ctx = w;
	r->program = worker_program;
	r->program_ctx = w;
	w->state = r;
	return ST_OK;
}

static void worker_stop(struct worker *w)
{
	router_close(w->state);
	mem_free(w->state);
}

/* Files and connections that nobody asked for are given back. */
static bool worker_idle(struct worker *w)
{
	struct router *r = w->state;

	return lookup_handles_tidy(r->handles, &r->lookup_env);
}

struct sending {
	struct worker *w;
	struct ipc_in *in;
};

static void send_part(void *arg, const struct ipc_route_answer *answer)
{
	struct sending *s = arg;

	worker_answer(s->w, s->in, &ipc_type_route_answer, answer, NULL, 0);
}

static void on_route(struct worker *w, struct ipc_in *in)
{
	struct sending s = { w, in };

	router_route(w->state, &w->arena, in->msg, in->fds[0], send_part, &s);
}

static void on_verify(struct worker *w, struct ipc_in *in)
{
	struct ipc_verify_answer answer;

	router_verify(w->state, &w->arena, in->msg, &answer);
	worker_answer(w, in, &ipc_type_verify_answer, &answer, NULL, 0);
}

static void on_expand(struct worker *w, struct ipc_in *in)
{
	struct ipc_expand_answer answer;

	router_expand(w->state, &w->arena, in->msg, in->fds[0], &answer);
	worker_answer(w, in, &ipc_type_expand_answer, &answer, NULL, 0);
}

/* qmgr has options expanded, and nothing else (the command's own router answers it anything): one that was taken over must not read tables and ask databases with texts of its own. */
static void on_expand_option(struct worker *w, struct ipc_in *in)
{
	const struct ipc_expand_ask *ask = in->msg;
	struct ipc_expand_answer refused = { .status = ST_ERROR, .text = STR_LIT("that is the text of no option") };

	if (router_text_is_option(w->conf, ask->text)) {
		on_expand(w, in);
		return;
	}
	worker_log(w, LOG_MAIN | LOG_PANIC, "qmgr wanted a text expanded that is no option's");
	worker_answer(w, in, &ipc_type_expand_answer, &refused, NULL, 0);
}

static void on_expand_extract(struct worker *w, struct ipc_in *in)
{
	const struct ipc_expand_ask *ask = in->msg;
	struct ipc_expand_answer answer, refused = { .status = ST_ERROR, .text = STR_LIT("that is no host_name_extract") };

	if (router_text_is_extract(w->conf, ask->text)) {
		router_expand_extract(w->state, &w->arena, ask, &answer);
		worker_answer(w, in, &ipc_type_expand_answer, &answer, NULL, 0);
		return;
	}
	worker_log(w, LOG_MAIN | LOG_PANIC, "smtp-out wanted a text expanded that is no host_name_extract");
	worker_answer(w, in, &ipc_type_expand_answer, &refused, NULL, 0);
}

static void on_report(struct worker *w, struct ipc_in *in)
{
	struct ipc_report_answer answer;

	router_report(w->state, &w->arena, in->msg, in->fds[0], &answer);
	worker_answer(w, in, &ipc_type_report_answer, &answer, NULL, 0);
}

static void on_lookup(struct worker *w, struct ipc_in *in)
{
	struct ipc_lookup_answer answer;

	router_lookup(w->state, &w->arena, in->msg, &answer);
	worker_answer(w, in, &ipc_type_lookup_answer, &answer, NULL, 0);
}

static void on_rules(struct worker *w, struct ipc_in *in)
{
	struct ipc_rules_answer answer;

	router_rules(w->state, &w->arena, in->msg, &answer);
	worker_answer(w, in, &ipc_type_rules_answer, &answer, NULL, 0);
}

static void on_name(struct worker *w, struct ipc_in *in)
{
	const struct ipc_name_ask *ask = in->msg;
	struct ipc_name_answer answer;

	router_name(w->state, &w->arena, ask->ip, &answer);
	worker_answer(w, in, &ipc_type_name_answer, &answer, NULL, 0);
}

static void on_host(struct worker *w, struct ipc_in *in)
{
	const struct ipc_host_ask *ask = in->msg;
	struct ipc_host_answer answer;

	router_host(w->state, &w->arena, ask->name, ask->type, &answer);
	worker_answer(w, in, &ipc_type_host_answer, &answer, NULL, 0);
}

static void on_hint(struct worker *w, struct ipc_in *in)
{
	struct ipc_hint_answer answer;

	router_hint(w->state, &w->arena, in->msg, &answer);
	worker_answer(w, in, &ipc_type_hint_answer, &answer, NULL, 0);
}

static void on_run(struct worker *w, struct ipc_in *in)
{
	struct ipc_program_answer answer;

	router_run_asked(w->state, &w->arena, in->msg, &answer);
	worker_answer(w, in, &ipc_type_program_answer, &answer, NULL, 0);
}

static void hint_for(struct worker *w, struct ipc_in *in, const char *peer)
{
	const struct ipc_hint_ask *ask = in->msg;
	struct ipc_hint_answer refused = { .status = ST_ERROR, .text = STR_LIT("hints: that name space is another daemon's") };

	if (router_hint_permitted(ask->space, peer)) {
		on_hint(w, in);
		return;
	}
	worker_log(w, LOG_MAIN | LOG_PANIC, "%s wanted hints that are not its own", peer);
	worker_answer(w, in, &ipc_type_hint_answer, &refused, NULL, 0);
}

static void on_hint_qmgr(struct worker *w, struct ipc_in *in)
{
	hint_for(w, in, "qmgr");
}

static void on_hint_policyd(struct worker *w, struct ipc_in *in)
{
	hint_for(w, in, "policyd");
}

static void on_hint_smtp_out(struct worker *w, struct ipc_in *in)
{
	hint_for(w, in, "smtp-out");
}

static void on_hint_master(struct worker *w, struct ipc_in *in)
{
	hint_for(w, in, "master");
}

static void on_hint_ctl(struct worker *w, struct ipc_in *in)
{
	hint_for(w, in, "ctl");
}

/* The whole interface: what each kind of client may ask. */
static const struct pool_handler of_qmgr[] = {
	{ IPC_route_ask, on_route }, { IPC_expand_ask, on_expand_option }, { IPC_hint_ask, on_hint_qmgr }, { IPC_report_ask, on_report }, { 0, NULL },
};
static const struct pool_handler of_policyd[] = {
	{ IPC_lookup_ask, on_lookup }, { IPC_verify_ask, on_verify }, { IPC_name_ask, on_name }, { IPC_host_ask, on_host },
	{ IPC_hint_ask, on_hint_policyd }, { IPC_program_ask, on_run }, { 0, NULL },
};
static const struct pool_handler of_ctl[] = {
	{ IPC_route_ask, on_route }, { IPC_expand_ask, on_expand }, { IPC_rules_ask, on_rules }, { IPC_verify_ask, on_verify }, { IPC_lookup_ask, on_lookup },
	{ IPC_name_ask, on_name }, { IPC_host_ask, on_host }, { IPC_hint_ask, on_hint_ctl }, { 0, NULL },
};
static const struct pool_handler of_master[] = {
	{ IPC_hint_ask, on_hint_master }, { 0, NULL },
};
static const struct pool_handler of_smtp_out[] = {
	{ IPC_expand_ask, on_expand_extract }, { IPC_hint_ask, on_hint_smtp_out }, { 0, NULL },
};
static const struct pool_peer peers[] = {
	{ "qmgr", of_qmgr }, { "policyd", of_policyd }, { "smtp-out", of_smtp_out }, { "ctl", of_ctl }, { "master", of_master }, { NULL, NULL },
};

static void pool_size(const struct conf *conf, struct pool_size *out)
{
	out->min = (unsigned)conf->main.router_workers_min;
	out->max = (unsigned)conf->main.router_workers_max;
	out->stuck_ms = (uint64_t)conf->main.worker_stuck_after * 1000;
}

/* SQLite gives its journal the owner of the database, where it may: where `bulkhead session` is run by root. */
static const char *const router_sys_more[] = { "fchown", NULL };

const struct pool_spec router_spec = {
	.name = "router",
	.what = "routes addresses, answers lookups, keeps hints",
	.see = V_ROUTER,
	.sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE | DAEMON_SYS_CONNECT | DAEMON_SYS_SETFL,
	.sys_more = router_sys_more,
	.peers = peers,
	.needs = "smtp-out",
	.needs_late = true,
	.errand = "query",
	.size = pool_size,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.worker_idle = worker_idle,
};

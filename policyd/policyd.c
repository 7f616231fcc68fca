/* SPDX-License-Identifier: ISC */
#include "policyd/policyd.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/conf/option.h"
#include "common/lang/scan_server.h"
#include "policyd/policyd_auth.h"
#include "policyd/scan.h"

/* Found before the jail, inherited by every worker. */
static struct ip our_addresses[POLICYD_ADDRESSES_MAX];
static unsigned our_addresses_n;

void policyd_prepare(void)
{
	struct ifaddrs *all;

	/* It reads files when it is first used. */
	OPENSSL_init_ssl(0, NULL);
	HMAC(EVP_md5(), "", 0, (const unsigned char *)"", 0, NULL, NULL);
	tzset();
	if (getifaddrs(&all))
		return;
	for (struct ifaddrs *i = all; i && our_addresses_n < POLICYD_ADDRESSES_MAX; i = i->ifa_next) {
		struct ip *ip = &our_addresses[our_addresses_n];

		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET) {
			memcpy(ip->octets, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, 4);
			ip->len = 4;
			our_addresses_n++;
		} else if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6) {
			memcpy(ip->octets, &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr, 16);
			ip->len = 16;
			our_addresses_n++;
		}
	}
	freeifaddrs(all);
}

struct policyd *policyd_new(struct worker *worker, const struct conf *conf, const struct lang_services *services, struct err *err)
{
	struct policyd *p = mem_new(sizeof *p);
	struct lang_services own = { 0 };
	enum status st;

	p->worker = worker;
	p->conf = conf;
	p->addresses = our_addresses;
	p->n_addresses = our_addresses_n;
	if (services)
		own = *services;
	else
		policyd_services_init(p, &own);
	p->lang = lang_new(conf, &own);
	st = lang_load(p->lang, err);
	if (!st)
		st = policyd_auth_compile(p, err);
	if (!st)
		st = policyd_settings_compile(p, err);
	if (!st)
		st = policyd_helo_compile(p, err);
	if (!st)
		st = policyd_rewrite_compile(p, err);
	if (!st)
		st = policyd_message_compile(p, err);
	if (!st)
		st = policyd_tls_compile(p, err);
	if (st) {
		policyd_free(p);
		return NULL;
	}
	return p;
}

void policyd_free(struct policyd *p)
{
	if (!p)
		return;
	policyd_auth_stop(p);
	policyd_files_clear(p);
	policyd_message_free(p);
	lang_free(p->lang);
	mem_free(p);
}

/* ---- the question ---- */

/* Stages with a message of which lines in the log bear the id. */
static bool stage_has_id(uint64_t stage)
{
	return stage == ACL_DATA || stage == ACL_MIME || stage == ACL_DKIM || stage == ACL_PRDR || stage == ACL_NOTSMTP || stage == ACL_NOTSMTP_MIME;
}

/* The message is here, and is committed if the answer is yes. */
static bool stage_has_content(uint64_t stage)
{
	return stage == ACL_DATA || stage == ACL_NOTSMTP;
}

/* $recipients and the like at stages whose facts name the address in `recipient`. */
static void address_begin(struct eval *ev, const struct ipc_facts *facts)
{
	struct str address = str_taint(facts->recipient);

	if (address.len)
		eval_set_address(ev, address);
}

static void answer_refuse(struct ipc_acl_answer *out, const char *why)
{
	*out = (struct ipc_acl_answer){ .verdict = ACL_DEFER, .log_text = str_of(why) };
}

/* What AUTH offers, now that all is known that it may depend on. Who is let in by certificate is offered nothing. */
static void helo_settings(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	struct ipc_pair *v = arena_alloc(ev->arena, sizeof *v);
	bool later;

	policyd_auth_tls(p, ev, out);
	v->name = STR_LIT("auth");
	v->value = out->auth_method.len ? STR_NULL : policyd_auth_offer(p, ev, &later);
	out->settings = v;
	out->n_settings = 1;
}

/* Nothing but rewriting made smtpd ask: there is no ACL, or none for what is submitted without SMTP. */
static bool stage_is_bare(const struct policyd *p, const struct ipc_acl_ask *ask)
{
	return ask->stage == ACL_RCPT && (!acl_option(p->conf, ACL_RCPT)->text.len || str_is(ask->facts->protocol, "local")) && ask->facts->local;
}

static void stage_run(struct policyd *p, struct eval *ev, const struct ipc_acl_ask *ask, struct ipc_facts *facts, struct ipc_acl_answer *out)
{
	bool content = stage_has_content(ask->stage);
	bool mime = content && !acl_mime_run(ev, ask->stage == ACL_DATA ? ACL_MIME : ACL_NOTSMTP_MIME, out);
	uint64_t delay = content && !mime ? out->delay_ms : 0;
	struct ipc_edit *edits = NULL;
	struct str sender = STR_NULL;
	uint32_t n = 0;

	if (mime) /* a part was refused: that is the answer */
		return;
	if (content)
		edits = policyd_rewrite_message(p, ev, facts, &sender, &n);
	if (stage_is_bare(p, ask))
		*out = (struct ipc_acl_answer){ .verdict = ACL_ACCEPT, .acl_c = ev->acl_c.v, .n_acl_c = ev->acl_c.n, .acl_m = ev->acl_m.v,
			.n_acl_m = ev->acl_m.n };
	else
		acl_stage_run(ev, out);
	out->delay_ms = out->delay_ms + delay < ACL_DELAY_MAX_MS ? out->delay_ms + delay : ACL_DELAY_MAX_MS;
	out->rewritten = sender;
	if (ask->stage == ACL_EXPN && out->verdict == ACL_ACCEPT)
		policyd_expn_answer(p, ev, facts, out);
	if (ask->stage == ACL_VRFY && out->verdict == ACL_ACCEPT)
		policyd_vrfy_answer(p, ev, facts, out);
	if (ask->stage == ACL_RCPT && out->verdict == ACL_ACCEPT)
		policyd_rewrite_recipient(ev, out);
	if (n) {
		struct ipc_edit *all = arena_alloc(ev->arena, (n + out->n_edits) * sizeof *all);

		memcpy(all, edits, n * sizeof *all);
		if (out->n_edits)
			memcpy(all + n, out->edits, out->n_edits * sizeof *all);
		out->edits = all;
		out->n_edits += n;
		if (out->n_edits > ACL_EDITS_MAX)
			out->n_edits = ACL_EDITS_MAX;
	}
}

void policyd_answer(struct policyd *p, struct arena *a, const struct ipc_acl_ask *ask, int fd, struct ipc_acl_answer *out)
{
	struct ipc_acl_answer settings = { 0 };
	struct ipc_facts facts;
	struct eval ev;

	if (!ask->facts || !acl_stage_name(ask->stage)) {
		answer_refuse(out, "policyd was asked a question without facts or stage");
		return;
	}
	facts = *ask->facts;
	eval_init(&ev, p->lang, a);
	eval_facts(&ev, &facts);
	ev.stage = ask->stage >= ASK_TLS ? ACL_CONNECT : (enum acl_stage)ask->stage;
	ev.message_fd = fd;
	ev.trace = ask->trace;
	p->scans_until_ms = clock_ms() + SCAN_ALL_MS;
	p->log_id = stage_has_id(ask->stage) ? ask->facts->message_id : STR_NULL;
	if (ask->stage >= ASK_TLS || ask->argument.len) {
		if (ask->stage == ASK_TLS)
			policyd_tls_answer(p, &ev, out);
		else if (ask->stage == ASK_PROXY)
			policyd_proxy_run(p, &ev, out);
		else
			policyd_rewrite_argument(p, &ev, ask->argument, out);
		eval_clear(&ev);
		return;
	}
	if (ask->stage == ACL_VRFY && !policyd_vrfy_begin(&ev, &facts, out)) {
		eval_clear(&ev);
		return;
	}
	address_begin(&ev, &facts);
	for (uint32_t i = 0; i < ask->facts->n_results; i++)
		if (ask->stage == ACL_NOTQUIT && str_is(ask->facts->results[i].name, "notquit_reason"))
			eval_set(&ev, EV_smtp_notquit_reason, ask->facts->results[i].value);
	if (ask->stage == ACL_CONNECT)
		policyd_settings_run(p, &ev, &settings);
	if (ask->stage == ACL_HELO)
		helo_settings(p, &ev, &settings);
	if (ask->stage != ACL_HELO || policyd_helo_run(p, &ev, out))
		stage_run(p, &ev, ask, &facts, out);
	if (ask->stage == ACL_MAILAUTH)
		out->auth_sender_refused = !policyd_auth_mail(p, &ev);
	out->auth_method = settings.auth_method;
	out->auth_id = settings.auth_id;
	out->settings = settings.settings;
	out->n_settings = settings.n_settings;
	out->cache_scope = settings.cache_scope;
	out->cache_ms = settings.cache_ms;
	if (stage_has_content(ask->stage))
		policyd_message_run(p, &ev, out);
	eval_clear(&ev);
}

static void on_acl_ask(struct worker *w, struct ipc_in *in)
{
	struct ipc_acl_answer answer;

	policyd_answer(w->state, &w->arena, in->msg, in->fds[0], &answer);
	worker_answer(w, in, &ipc_type_acl_answer, &answer, NULL, 0);
}

static void on_auth_ask(struct worker *w, struct ipc_in *in)
{
	struct ipc_auth_answer answer;
	int fd = in->fds[0];

	in->fds[0] = -1;
	policyd_auth_step(w->state, &w->arena, in->msg, &fd, &answer);
	worker_answer(w, in, &ipc_type_auth_answer, &answer, &fd, fd >= 0);
	arena_wipe(&w->arena); /* the client's password was in it */
}

/* ---- the pool ---- */

static enum status policyd_start(struct worker *w, struct err *err)
{
	w->state = policyd_new(w, w->conf, NULL, err);
	return w->state ? ST_OK : ST_ERROR;
}

static void policyd_stop(struct worker *w)
{
	policyd_free(w->state);
}

static void policyd_size(const struct conf *conf, struct pool_size *out)
{
	const struct conf_opts_main *m = &conf->main;

	out->min = (unsigned)(m->policyd_workers_min < 1 ? 1 : m->policyd_workers_min);
	out->max = (unsigned)(m->policyd_workers_max < m->policyd_workers_min ? m->policyd_workers_min : m->policyd_workers_max);
	out->stuck_ms = (uint64_t)m->worker_stuck_after * 1000;
}

/* A socket's system calls, by what it is to reach. */
static uint32_t socket_sys(struct str where)
{
	return str_begins(str_trim(where), "/") ? DAEMON_SYS_CONNECT_UNIX : DAEMON_SYS_CONNECT;
}

static uint32_t scanners_sys(const struct conf *conf, bool spam)
{
	struct str text = spam ? conf->main.spamd_address.text : conf->main.av_scanner.text;
	struct arena a = ARENA_INIT;
	struct scan_servers *servers;
	uint32_t sys = 0;

	if (!scan_wanted(conf, spam))
		return 0;
	servers = arena_alloc(&a, sizeof *servers);
	if (scan_text_expands(text) || scan_servers_parse(&a, text, spam, servers, NULL))
		sys = DAEMON_SYS_CONNECT;
	else
		for (unsigned i = 0; i < servers->n; i++)
			sys |= socket_sys(servers->v[i].path);
	arena_clear(&a);
	return sys;
}

/* Sockets only where an authenticator asks Dovecot, or an ACL a scanner, and only of the kind that it needs. */
static uint32_t policyd_sys(const struct conf *conf)
{
	const struct conf_instances *all = &conf->of[CONF_AUTHENTICATORS];
	uint32_t sys = scanners_sys(conf, false) | scanners_sys(conf, true);

	for (uint32_t i = 0; i < all->n; i++) {
		const struct conf_opts_authenticator_dovecot *o = all->v[i].driver ? CONF_OWN(&all->v[i], authenticator_dovecot) : NULL;

		if (!o || !o->server_socket.text.len)
			continue;
		sys |= socket_sys(o->server_socket.text);
		if (o->server_tls)
			sys |= DAEMON_SYS_READ; /* trust anchors */
	}
	return sys;
}

static const struct pool_handler smtpd_handlers[] = {
	{ IPC_acl_ask, on_acl_ask },
	{ IPC_auth_ask, on_auth_ask },
	{ 0 }
};

static const struct pool_peer peers[] = {
	{ "smtpd", smtpd_handlers },
	{ NULL }
};

const struct pool_spec policyd_spec = {
	.name = "policyd",
	.what = "runs the access control lists for smtpd",
	.see = V_POLICYD,
	.sys_for = policyd_sys,
	.peers = peers,
	.needs = "router",
	.size = policyd_size,
	.worker_start = policyd_start,
	.worker_stop = policyd_stop,
};

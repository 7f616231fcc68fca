/* SPDX-License-Identifier: ISC */
/* ctl_relay.c - would a stranger be let through? The ACLs of a session are run as for a client from outside that sends to an address
 * outside, in a world in which every address can be verified and no lookup finds anything. Nothing is asked of the network. Strangers may
 * say whose sender they like, begin TLS, use any port and write to any postmaster: all that is tried. */
#include "common/lang/acl.h"
#include "common/lang/lang_list.h"
#include "ctl/config.h"

enum { LOCAL_DOMAINS_MAX = 20 };

static enum status nothing_lookup(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err)
{
	(void)ctx, (void)a, (void)ask, (void)err;
	*out = (struct ipc_lookup_answer){ .status = ST_FAIL };
	return ST_FAIL;
}

static enum status nothing_name(void *ctx, struct arena *a, struct str ip, struct ipc_name_answer *out, struct err *err)
{
	(void)ctx, (void)a, (void)ip;
	*out = (struct ipc_name_answer){ .status = ST_FAIL };
	return err_set(err, ST_FAIL, "no name");
}

static enum status nothing_host(void *ctx, struct arena *a, struct str name, const char *type, struct ipc_host_answer *out, struct err *err)
{
	(void)ctx, (void)a, (void)name, (void)type;
	*out = (struct ipc_host_answer){ .status = ST_FAIL };
	return err_set(err, ST_FAIL, "no such host");
}

static enum status all_verify(void *ctx, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out, struct err *err)
{
	(void)ctx, (void)a, (void)err;
	*out = (struct ipc_verify_answer){ .status = ST_OK, .addr = ask->addr };
	return ST_OK;
}

static bool none_local(void *ctx, struct str ip)
{
	(void)ctx, (void)ip;
	return false;
}

static void nothing_log(void *ctx, unsigned targets, struct str text)
{
	(void)ctx, (void)targets, (void)text;
}

struct stranger {
	const char *ip;
	unsigned port;
	bool tls;
	struct str sender, recipient;
	const char *what;             /* what is special about him */
};

/* All stages up to RCPT, each with the variables that the one before left. */
static bool stranger_accepted(struct lang *lang, const struct stranger *who, struct arena *a)
{
	static const enum acl_stage stages[] = { ACL_CONNECT, ACL_HELO, ACL_MAIL, ACL_RCPT };
	static struct ipc_pair tls[] = {
		{ STR_LIT("cipher"), STR_LIT("TLS1.3:TLS_AES_256_GCM_SHA384:256"), false }, { STR_LIT("ver"), STR_LIT("TLS1.3"), false },
		{ STR_LIT("bits"), STR_LIT("256"), false }, { STR_LIT("certificate_verified"), STR_LIT("0"), false },
	};
	struct ipc_facts facts = { .client_ip = str_of(who->ip), .client_port = 40000, .server_port = who->port, .esmtp = true, .name_looked = true,
		.helo = STR_LIT("stranger.invalid"), .protocol = who->tls ? STR_LIT("esmtps") : STR_LIT("esmtp"), .tls = tls,
		.n_tls = who->tls ? sizeof tls / sizeof *tls : 0 };
	struct ipc_acl_answer answer = { 0 };

	for (unsigned i = 0; i < sizeof stages / sizeof *stages; i++) {
		struct eval ev;

		facts.acl_c = answer.acl_c;
		facts.n_acl_c = answer.n_acl_c;
		facts.acl_m = answer.acl_m;
		facts.n_acl_m = answer.n_acl_m;
		facts.has_sender = stages[i] >= ACL_MAIL;
		facts.sender = facts.has_sender ? who->sender : STR_NULL;
		facts.recipient = stages[i] == ACL_RCPT ? who->recipient : STR_NULL;
		facts.rcpt_count = stages[i] == ACL_RCPT;
		eval_init(&ev, lang, a);
		eval_facts(&ev, &facts);
		ev.stage = stages[i];
		ev.message_fd = -1;
		if (facts.recipient.len)
			eval_set_address(&ev, str_taint(facts.recipient));
		answer = (struct ipc_acl_answer){ 0 };
		acl_stage_run(&ev, &answer);
		eval_clear(&ev);
		if (answer.verdict != ACL_ACCEPT)
			return false;
	}
	return true;
}

static bool stranger_try(struct conf *conf, struct lang *lang, const struct stranger *who)
{
	struct arena a = ARENA_INIT;
	bool yes = stranger_accepted(lang, who, &a);

	if (yes)
		conf_problem_add(conf, CONF_WARNING, conf->main.acl_smtp_rcpt.place, "option \"acl_smtp_rcpt\": a client from %s%s may send to %.*s: "
			"this host relays for everybody, and will be abused", who->ip, who->what, STR_FMT(who->recipient));
	arena_clear(&a);
	return yes;
}

/* Senders of the domains that the configuration names itself: anybody can claim to be one. */
static bool senders_try(struct conf *conf, struct lang *lang, const struct stranger *plain)
{
	struct stranger who = *plain;
	unsigned tried = 0;

	for (uint32_t i = 0; i < conf->n_lists && tried < LOCAL_DOMAINS_MAX; i++) {
		struct lang_split split = LANG_SPLIT(conf->lists[i].value.text);
		struct arena a = ARENA_INIT;
		struct str domain;
		bool yes = false;

		while (!yes && conf->lists[i].kind == CONF_LIST_DOMAIN && tried < LOCAL_DOMAINS_MAX && lang_split_next(&split, &a, &domain)) {
			if (str_is(domain, "@"))
				domain = lang_primary_hostname(lang);
			if (!domain.len || str_find(domain, '.') < 0 || !ascii_is_alnum(domain.p[0]) || str_find(domain, ';') >= 0 || str_find(domain, '$') >= 0)
				continue;
			tried++;
			who.sender = str_printf(&a, "stranger@%.*s", STR_FMT(domain));
			who.what = arena_printf(&a, " that gives %.*s for its sender", STR_FMT(who.sender));
			yes = stranger_try(conf, lang, &who);
		}
		arena_clear(&a);
		if (yes)
			return true;
	}
	return false;
}

void relay_try(struct conf *conf)
{
	static const struct stranger strangers[] = {
#define SENDER STR_LIT("stranger@stranger.invalid")
#define ELSEWHERE STR_LIT("somebody@elsewhere.invalid")
		{ "203.0.113.7", 25, false, SENDER, ELSEWHERE, "" }, { "2001:db8:7::7", 25, false, SENDER, ELSEWHERE, "" },
		{ "203.0.113.7", 25, true, SENDER, ELSEWHERE, " that uses TLS" }, { "203.0.113.7", 587, true, SENDER, ELSEWHERE, " to port 587" },
		{ "203.0.113.7", 465, true, SENDER, ELSEWHERE, " to port 465" },
		{ "203.0.113.7", 25, false, STR_LIT(""), ELSEWHERE, " that gives the null sender" },
		{ "203.0.113.7", 25, false, SENDER, STR_LIT("postmaster@elsewhere.invalid"), "" },
	};
	const struct lang_services services = { .lookup = nothing_lookup, .name = nothing_name, .host = nothing_host, .verify = all_verify,
		.file = lang_file_read, .stat = lang_file_stat, .ip_is_local = none_local, .log = nothing_log };
	struct lang *lang = lang_new(conf, &services);
	bool found = false;

	for (unsigned i = 0; !found && i < sizeof strangers / sizeof *strangers; i++)
		found = stranger_try(conf, lang, &strangers[i]);
	if (!found)
		senders_try(conf, lang, &strangers[0]);
	lang_free(lang);
}

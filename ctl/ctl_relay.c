/* SPDX-License-Identifier: ISC */
/* ctl_relay.c - would a stranger be let through? The ACLs of a session are run as for a client from outside that sends to an address
 * outside, in a world in which every address can be verified and no lookup finds anything. Nothing is asked of the network. */
#include "common/lang/acl.h"
#include "ctl/config.h"

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

/* All stages up to RCPT, each with the variables that the one before left. */
static bool stranger_accepted(struct lang *lang, const char *ip, struct arena *a)
{
	static const enum acl_stage stages[] = { ACL_CONNECT, ACL_HELO, ACL_MAIL, ACL_RCPT };
	struct ipc_facts facts = { .client_ip = str_of(ip), .client_port = 40000, .server_port = 25, .esmtp = true, .name_looked = true,
		.helo = STR_LIT("stranger.invalid"), .protocol = STR_LIT("esmtp") };
	struct ipc_acl_answer answer = { 0 };

	for (unsigned i = 0; i < sizeof stages / sizeof *stages; i++) {
		struct eval ev;

		facts.acl_c = answer.acl_c;
		facts.n_acl_c = answer.n_acl_c;
		facts.acl_m = answer.acl_m;
		facts.n_acl_m = answer.n_acl_m;
		facts.has_sender = stages[i] >= ACL_MAIL;
		facts.sender = facts.has_sender ? STR_LIT("stranger@stranger.invalid") : STR_NULL;
		facts.recipient = stages[i] == ACL_RCPT ? STR_LIT("somebody@elsewhere.invalid") : STR_NULL;
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

void relay_try(struct conf *conf)
{
	static const char *const strangers[] = { "203.0.113.7", "2001:db8:7::7" };
	const struct lang_services services = { .lookup = nothing_lookup, .name = nothing_name, .host = nothing_host, .verify = all_verify,
		.file = lang_file_read, .stat = lang_file_stat, .ip_is_local = none_local, .log = nothing_log };
	struct lang *lang = lang_new(conf, &services);
	struct arena a = ARENA_INIT;

	for (unsigned i = 0; i < sizeof strangers / sizeof *strangers; i++)
		if (stranger_accepted(lang, strangers[i], &a)) {
			conf_problem_add(conf, CONF_WARNING, conf->main.acl_smtp_rcpt.place, "option \"acl_smtp_rcpt\": a client from %s may send to "
				"somebody@elsewhere.invalid: this host relays for everybody, and will be abused", strangers[i]);
			break;
		}
	arena_clear(&a);
	lang_free(lang);
}

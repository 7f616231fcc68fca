/* SPDX-License-Identifier: ISC */
/* acl_verify_address.c - verify = recipient, sender and header_sender: asked of router, which also does callouts; what the client and the log
 * are told (specification, sections 44.45 and 44.50). */
#include <string.h>

#include "common/base/log.h"
#include "common/conf/log_selector.h"
#include "common/lang/acl_verify.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_priv.h"
#include "common/lang/rewrite.h"
#include "common/mail/addrlist.h"
#include "common/mail/header.h"

static enum status ask_verify(struct acl_state *s, struct str address, enum verify_kind kind, struct str options, struct ipc_verify_answer *out,
	struct err *err)
{
	const struct lang_services *services = &s->ev->lang->services;
	struct ipc_facts facts = *s->ev->facts;
	struct ipc_verify_ask ask = { .addr = address, .sender = kind != VERIFY_RECIPIENT, .header = kind == VERIFY_HEADER, .facts = &facts, .options = options };
	enum status st;

	*out = (struct ipc_verify_answer){ 0 };
	facts.acl_c = s->ev->acl_c.v;
	facts.n_acl_c = s->ev->acl_c.n;
	facts.acl_m = s->ev->acl_m.v;
	facts.n_acl_m = s->ev->acl_m.n;
	facts.client_name = s->ev->client_name;
	facts.name_looked = s->ev->name_looked;
	facts.name_deferred = s->ev->name_deferred;
	if (!services->verify)
		return err_set(err, ST_ERROR, "addresses can't be verified here");
	s->ev->deps |= DEP_SESSION | DEP_WORLD;
	st = services->verify(services->ctx, s->ev->arena, &ask, out, err);
	if (out->callout_address.len)
		eval_set(s->ev, EV_callout_address, out->callout_address);
	return st;
}

/* Why it failed, in a word; "random" where anything is taken. */
static struct str failure_word(const struct ipc_verify_answer *answer, enum status st)
{
	struct str word = answer->failure;

	word.tainted = false;
	return word.len || st == ST_OK ? word : STR_LIT("route");
}

/* Deferrals that the options let pass. */
static bool defer_passes(enum status st, const struct verify_options *o, const struct ipc_verify_answer *answer)
{
	return st == ST_DEFER && (o->defer_ok || (o->callout_defer_ok && answer->callout));
}

static void defer_text(const struct ipc_verify_answer *answer, struct err *err)
{
	if (answer->log_text.len)
		err_set(err, ST_DEFER, "%.*s", STR_FMT(answer->log_text));
}

/* ---- recipients ---- */

/* What is no path, no query and no list of its own: servers that take all addresses vouch for little. */
static bool is_plain(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!ascii_is_alnum(s.p[i]) && !(s.p[i] && strchr("._+-=", s.p[i])))
			return false;
	return s.len && s.p[0] != '.' && s.p[0] != '-' && str_find_str(s, STR_LIT("..")) < 0;
}

/* A server that has taken the address vouches for it. */
static void data_trust(struct acl_state *s)
{
	struct str local = s->ev->slot[EV_local_part], domain = s->ev->slot[EV_domain];

	local.tainted = !is_plain(local);
	domain.tainted = !is_plain(domain);
	eval_set(s->ev, EV_local_part_data, local);
	eval_set(s->ev, EV_domain_data, str_lower(s->ev->arena, domain));
}

/* A server that was not asked, since it has not what the message needs. */
static void server_lacks(struct acl_state *s, struct str status)
{
	if (str_is(status, "5.6.7")) /* SMTPUTF8 */
		s->user_text = s->stage == ACL_RCPT ? STR_LIT("533 no support for internationalised mailbox name") : STR_LIT("550 mailbox unavailable");
	else if (str_is(status, "5.7.30") || str_is(status, "5.7.10"))
		s->user_text = STR_LIT("530 5.7.4 REQUIRETLS support required");
}

enum acl_rc acl_verify_recipient(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	struct ipc_verify_answer answer;
	enum status st = ask_verify(s, rewrite_address(s->ev, REWRITE_ENV_TO, s->ev->facts->recipient), VERIFY_RECIPIENT, call->options, &answer, err);

	if (st == ST_OK || st == ST_FAIL) {
		eval_set(s->ev, EV_address_data, answer.address_data);
		eval_set(s->ev, EV_recipient_verify_failure, failure_word(&answer, st));
	}
	if (st == ST_OK && answer.callout && !answer.failure.len)
		data_trust(s);
	if (st == ST_FAIL) {
		s->user_text = answer.text.len ? answer.text : STR_LIT("Unrouteable address");
		s->log_text = answer.log_text.len ? answer.log_text : s->user_text;
		if (answer.callout)
			server_lacks(s, answer.code);
	}
	if (defer_passes(st, &call->parsed, &answer))
		return RC_OK;
	if (st == ST_DEFER) {
		defer_text(&answer, err);
		if (answer.text.len)
			s->user_text = answer.text;
	}
	return acl_rc_of(st);
}

/* ---- senders ---- */

struct sender_words {
	const char *failure, *before, *behind;
};

static const struct sender_words words[] = {
	{ "mail", "Callback setup failed while verifying", "\nThe initial connection, or a HELO or MAIL FROM:<> command was\n"
		"rejected. Refusing MAIL FROM:<> does not help fight spam, disregards\nRFC requirements, and stops you from receiving standard bounce\n"
		"messages. This host does not accept mail from domains whose servers\nrefuse bounces." },
	{ "postmaster", "Postmaster verification failed while checking", "\nSeveral RFCs state that you are required to have a postmaster\n"
		"mailbox for each mail domain. This host does not accept mail\nfrom domains whose servers reject the postmaster address." },
	{ NULL, "Verification failed for", "" },
};

static struct str details(struct acl_state *s, struct str sender, const struct ipc_verify_answer *answer)
{
	const struct sender_words *w = words;
	struct str why = answer->text.len ? answer->text : STR_LIT("Unrouteable address");

	while (w->failure && !str_is(answer->failure, w->failure))
		w++;
	return str_printf(s->ev->arena, "%s <%.*s>\n%.*s%s", w->before, STR_FMT(sender), STR_FMT(why), w->behind);
}

static void failure_log(struct acl_state *s, const char *how, struct str sender, struct str why)
{
	const struct conf *conf = s->ev->lang->conf;
	uint64_t bits;

	if (!conf || log_selector_parse(conf->main.log_selector.text, &bits, NULL) || !(bits & LOG_SEL(sender_verify_fail)))
		return;
	acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "%.*s sender verify %s for <%.*s>%s%.*s", STR_FMT(acl_client_words(s)), how, STR_FMT(sender),
		why.len ? ": " : "", STR_FMT(why)));
}

/* What is verified is what the message will have; once its content is here, it has it. */
static struct str sender_rewritten(struct acl_state *s)
{
	bool done = s->stage == ACL_DATA || s->stage == ACL_NOTSMTP;

	return done ? s->ev->facts->sender : rewrite_address(s->ev, REWRITE_ENV_FROM, s->ev->facts->sender);
}

enum acl_rc acl_verify_sender(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	struct str sender = call->has_address ? call->address : sender_rewritten(s);
	bool brief = call->parsed.no_details || s->ev->flags & MSG_NO_MULTILINE || s->ev->facts->flags & MSG_NO_MULTILINE;
	struct ipc_verify_answer answer;
	enum status st;

	/* Reports have no sender that could be wrong. */
	if (!sender.len)
		return RC_OK;
	st = ask_verify(s, sender, VERIFY_SENDER, call->options, &answer, err);
	if (st == ST_OK || st == ST_FAIL) {
		eval_set(s->ev, EV_sender_address_data, answer.address_data);
		eval_set(s->ev, EV_sender_verify_failure, failure_word(&answer, st));
	}
	if (st == ST_FAIL) {
		s->user_text = s->log_text = STR_LIT("Sender verify failed");
		if (!brief)
			s->verify_lines = details(s, sender, &answer);
		if (!call->parsed.no_details)
			failure_log(s, "fail", sender, answer.log_text);
	}
	if (defer_passes(st, &call->parsed, &answer))
		return RC_OK;
	if (st == ST_DEFER) {
		s->user_text = answer.callout ? STR_LIT("Could not complete sender verify callout") : STR_LIT("Could not complete sender verify");
		defer_text(&answer, err);
		if (!call->parsed.no_details)
			failure_log(s, "defer", sender, answer.log_text);
	}
	return acl_rc_of(st);
}

/* ---- senders in the header ---- */

struct header_walk {
	struct acl_state *s;
	const struct verify_call *call;
	bool deferred;
	unsigned asked;
	struct str why;              /* of the last address that was not good */
};

enum { HEADER_ADDRESSES_MAX = 20 /* each may have name servers that are slow */ };

/* RC_OK: one is good. RC_FAIL: go on. */
static enum acl_rc header_address(struct header_walk *w, const char *field, struct str address, struct err *err)
{
	struct ipc_verify_answer answer = { 0 };
	enum status st = ST_FAIL;
	struct err why = ERR_INIT;

	if (w->asked++ == HEADER_ADDRESSES_MAX) {
		w->s->log_text = str_printf(w->s->ev->arena, "none of the first %d addresses of the header can be verified", HEADER_ADDRESSES_MAX);
		return RC_DISCARD;
	}
	if (str_rfind(address, '@') > 0)
		st = ask_verify(w->s, address, VERIFY_HEADER, w->call->options, &answer, &why);
	else
		answer.log_text = STR_LIT("the address has no domain");
	if (st == ST_OK || defer_passes(st, &w->call->parsed, &answer))
		return RC_OK;
	if (st == ST_ERROR) {
		*err = why;
		return RC_ERROR;
	}
	w->deferred |= st == ST_DEFER;
	w->why = str_printf(w->s->ev->arena, "could not verify \"%s:\" header address\n%.*s: %.*s", field, STR_FMT(address),
		STR_FMT(answer.log_text.len ? answer.log_text : str_of(why.text)));
	return RC_FAIL;
}

static enum acl_rc header_field(struct header_walk *w, const char *name, struct str value, struct err *err)
{
	struct err why = ERR_INIT;
	struct addrlist list;
	enum acl_rc rc = RC_FAIL;

	if (addrlist_parse(value, ADDR_UTF8, w->s->ev->arena, &list, &why)) {
		w->s->log_text = str_printf(w->s->ev->arena, "syntax error in '%s:' header when scanning for sender: %s", name, why.text);
		return RC_DISCARD; /* that is the answer; nothing else is looked at */
	}
	for (uint32_t i = 0; rc == RC_FAIL && i < list.n; i++)
		rc = header_address(w, name, list.v[i].addr, err);
	return rc;
}

enum acl_rc acl_verify_header_sender(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	static const char *const names[] = { "Sender", "Reply-To", "From" };
	const struct conf *conf = s->ev->lang->conf;
	struct header_walk w = { .s = s, .call = call };
	struct header_scan scan;
	struct header_field f;
	struct str whole;
	enum status st = header_whole(s->ev, &whole, err);
	enum acl_rc rc = RC_FAIL;

	if (st)
		return acl_rc_of(st);
	for (size_t i = 0; rc == RC_FAIL && i < sizeof names / sizeof *names; i++) {
		header_scan_init(&scan, whole);
		while (rc == RC_FAIL && header_scan_next(&scan, &f))
			if (str_isi(f.name, names[i]))
				rc = header_field(&w, names[i], f.value, err);
	}
	if (rc == RC_OK || rc == RC_ERROR)
		return rc;
	if (rc == RC_FAIL)
		s->log_text = w.deferred ? STR_LIT("all attempts to verify a sender in a header line deferred") : STR_LIT("there is no valid sender in any header line");
	if (conf && conf->main.smtp_return_error_details)
		s->user_text = str_printf(s->ev->arena, "Rejected after DATA: %.*s", STR_FMT(w.why.len && rc == RC_FAIL ? w.why : s->log_text));
	return rc == RC_FAIL && w.deferred ? RC_DEFER : RC_FAIL;
}

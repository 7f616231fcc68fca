/* SPDX-License-Identifier: ISC */
/* Rewriting at reception: the argument of MAIL and RCPT (flag S), a recipient once it is accepted, and, when the content is here, the
 * sender and the addresses in header fields, before the content's ACL sees them. */
#include <string.h>

#include "common/lang/lang_list.h"
#include "common/lang/rewrite.h"
#include "common/mail/address.h"
#include "policyd/policyd.h"

static const struct rewrite *rules_of(struct eval *ev)
{
	const struct rewrite *rules;

	return rewrite_rules(ev->lang, &rules, NULL) ? NULL : rules;
}

static void rewrite_log(struct policyd *p, const char *what, const struct err *err)
{
	if (p->worker)
		worker_log(p->worker, LOG_MAIN | LOG_PANIC, "%.*s%s%s: %s", STR_FMT(p->log_id), p->log_id.len ? " " : "", what, err->text);
}

enum status policyd_rewrite_compile(struct policyd *p, struct err *err)
{
	const struct conf_text *senders = &p->conf->main.untrusted_set_sender;

	if (senders->text.len && lang_list_compile(p->lang, LIST_ADDRESS, senders->text, senders->place, &p->untrusted, err) != ST_OK)
		return err_prefix(err, "untrusted_set_sender");
	return ST_OK;
}

/* The address of a path; what is none is for smtpd to refuse. */
static bool path_address(struct eval *ev, struct str path, struct str *out)
{
	struct address addr;
	struct str rest;

	if (address_path_parse(path, ADDR_LITERALS | ADDR_LENIENT | ADDR_UTF8 | ADDR_UNQUALIFIED | ADDR_EMPTY, &addr, &rest, NULL) != ST_OK)
		return false;
	*out = !addr.local.len ? STR_NULL : str_printf(ev->arena, "%.*s@%.*s", STR_FMT(addr.local),
		STR_FMT(addr.domain.len ? addr.domain : lang_qualify_domain(ev->lang)));
	out->tainted = true;
	return true;
}

/* The null sender is everybody's. */
static bool sender_is_his(struct policyd *p, struct eval *ev, struct str path)
{
	struct str address;
	struct err err = ERR_INIT;
	enum status st;

	if (!path_address(ev, path, &address) || !address.len)
		return true;
	st = lang_address_match(ev, p->untrusted, address, NULL, &err);
	if (st == ST_DEFER || st == ST_ERROR)
		rewrite_log(p, "untrusted_set_sender", &err);
	return st == ST_OK;
}

void policyd_rewrite_argument(struct policyd *p, struct eval *ev, struct str argument, struct ipc_acl_answer *out)
{
	const struct ipc_facts *facts = ev->facts;
	struct str made;

	argument.tainted = true;
	made = rewrite_smtp(ev, ev->stage == ACL_RCPT ? REWRITE_SMTP_TO : REWRITE_SMTP_FROM, argument);
	if (ev->stage == ACL_MAIL && facts->local && !facts->trusted && p->untrusted && !sender_is_his(p, ev, made))
		made = str_printf(ev->arena, "%.*s@%.*s", STR_FMT(address_local_quote(ev->arena, facts->ident)), STR_FMT(lang_qualify_domain(ev->lang)));
	*out = (struct ipc_acl_answer){ .verdict = ACL_ACCEPT, .acl_c = ev->acl_c.v, .n_acl_c = ev->acl_c.n, .acl_m = ev->acl_m.v, .n_acl_m = ev->acl_m.n };
	if (!str_eq(made, argument) && made.len < 1022) {
		out->rewritten = str_printf(ev->arena, "<%.*s>", STR_FMT(made));
		out->rewritten.tainted = true;
	}
}

void policyd_rewrite_recipient(struct eval *ev, struct ipc_acl_answer *out)
{
	struct str before = str_taint(ev->facts->recipient), made = rewrite_address(ev, REWRITE_ENV_TO, before);

	if (!str_eq(made, before))
		out->rewritten = made;
}

struct ipc_edit *policyd_rewrite_message(struct policyd *p, struct eval *ev, struct ipc_facts *facts, struct str *sender_out, uint32_t *n_out)
{
	const struct rewrite *rules = rules_of(ev);
	bool sender = facts->local || policyd_setting_yes(p, ev, "sender_unqualified_hosts");
	bool recipient = facts->local || policyd_setting_yes(p, ev, "recipient_unqualified_hosts");
	struct ipc_edit *made, *all;
	struct err err = ERR_INIT;
	struct str header, before = str_taint(facts->sender);

	*n_out = 0;
	*sender_out = rewrite_address(ev, REWRITE_ENV_FROM, before);
	if (str_eq(*sender_out, before)) {
		*sender_out = STR_NULL;
	} else {
		facts->sender = *sender_out;
		if (!sender_out->len)
			*sender_out = STR_LIT("<>");
	}
	if (!(rewrite_kinds(rules) & REWRITE_HEADERS) && !sender && !recipient)
		return NULL;
	if (rewrite_header_read(ev, &header, &err)) {
		rewrite_log(p, "addresses are not rewritten: message header", &err);
		return NULL;
	}
	made = rewrite_headers(ev, rules, header, sender, recipient, n_out);
	if (!*n_out)
		return NULL;
	all = arena_alloc(ev->arena, (facts->n_edits + *n_out) * sizeof *all);
	if (facts->n_edits)
		memcpy(all, facts->edits, facts->n_edits * sizeof *all);
	memcpy(all + facts->n_edits, made, *n_out * sizeof *all);
	facts->edits = all;
	facts->n_edits += *n_out;
	ev->headers = NULL; /* what has been read of the header is not what it is now */
	return made;
}

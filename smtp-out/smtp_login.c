/* SPDX-License-Identifier: ISC */
/* AUTH within the dialogue: one authenticator after the other, and what follows when none is left. smtp_auth.c has the mechanisms. */
#include "smtp-out/smtp_auth.h"
#include "smtp-out/smtp_client_priv.h"
#include "smtp-out/smtp_result.h"

enum { AUTH_WORDS_MAX = 512 };

void step_send_auth(struct smtp_client *c)
{
	smtp_auth_command(c, &c->out);
	client_command_end(c, SMTP_WAIT);
}

/* No authentication, though the host requires it; or an attempt that may succeed another time: the next host may do better. */
static void auth_defer(struct smtp_client *c, struct str text)
{
	if (c->txn) {
		struct smtp_verdict v = {
			.result = DELIVERY_DEFERRED, .error = RETRY_AUTH_FAILED, .stage = "AUTH", .host_error = true, .status = STR_LIT("4.7.0"),
			.code = c->recv == SMTP_AUTH ? c->reply.code : 0, .text = str_taint(str_dup(c->txn->arena, text)),
		};

		smtp_verdict_give_all(c->txn, &v);
	}
	client_txn_done(c);
	smtp_client_quit(c);
}

/* The next authenticator; when there is none, on without, where the host allows it. */
void client_auth_next(struct smtp_client *c)
{
	if ((c->profile->auth_try || c->profile->auth_require) && smtp_auth_find(c)) {
		struct str failed = smtp_auth_current(c)->failed;

		if (failed.len)
			auth_defer(c, failed);
		else
			c->send = c->recv = SMTP_AUTH;
		return;
	}
	if (!c->profile->auth_require)
		client_txn_start(c);
	else if (!(c->offers & SMTP_O_AUTH))
		auth_defer(c, STR_LIT("authentication required but server did not advertise AUTH support"));
	else if (!c->auth_tried)
		auth_defer(c, STR_LIT("authentication required but no common mechanisms were found"));
	else
		auth_defer(c, STR_LIT("authentication required but authentication attempt(s) failed"));
}

/* Whatever helps then, the next authenticator or doing without: a wrong password should not go unnoticed. */
static void auth_refusal(struct smtp_client *c)
{
	struct str words = str_sub(buf_str(&c->reply.text), 0, AUTH_WORDS_MAX);

	buf_reset(&c->auth_refusal);
	buf_add(&c->auth_refusal, words.p, words.len);
	c->auth_refused = c->auth;
}

void step_reply_auth(struct smtp_client *c)
{
	const char *why = smtp_auth_distrust(c);

	if (why) { /* nor is it to get a password by the next authenticator */
		auth_defer(c, c->txn ? str_printf(c->txn->arena, "%.*s authenticator failed: %s", STR_FMT(smtp_auth_current(c)->name), why) : STR_NULL);
	} else if (client_reply_is(c, 2) && !c->auth_cancelled) {
		c->authenticated = true;
		client_txn_start(c);
	} else if (client_reply_is(c, 3) && !c->auth_cancelled) {
		smtp_auth_respond(c, &c->out);
		client_command_end(c, SMTP_WAIT);
	} else if (client_reply_is(c, 4) && !c->auth_cancelled) {
		struct smtp_txn *t = c->txn;

		auth_defer(c, t ? str_printf(t->arena, "%.*s authenticator failed: %.*s", STR_FMT(smtp_auth_current(c)->name),
			STR_FMT(smtp_reply_words(t, &c->reply))) : STR_NULL);
	} else {
		c->auth_tried = true;
		auth_refusal(c);
		c->auth++;
		client_auth_next(c);
	}
}

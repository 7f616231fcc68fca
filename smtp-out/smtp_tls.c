/* SPDX-License-Identifier: ISC */
/* STARTTLS and what stands in for it: whether the session has to be encrypted, is, or goes on as it is. */
#include "common/base/err.h"
#include "smtp-out/smtp_client_priv.h"
#include "smtp-out/smtp_result.h"

void step_send_starttls(struct smtp_client *c)
{
	buf_add(&c->out, "STARTTLS", 8);
	client_command_end(c, SMTP_WAIT);
}

void client_tls_defer(struct smtp_client *c, struct str status, struct str text, bool host_error)
{
	if (c->txn) {
		struct smtp_verdict v = {
			.result = DELIVERY_DEFERRED, .error = host_error && c->tls_want == SMTP_TLS_MUST ? RETRY_TLS_REQUIRED : RETRY_OTHER, .stage = smtp_step_phrase((enum smtp_step)c->recv),
			.host_error = host_error, .status = status, .code = c->recv == SMTP_STARTTLS ? c->reply.code : 0, .text = text,
		};

		/* RFC 8689 section 4.2.1: no session that protects the message comes about, and none will. */
		if (c->txn->requiretls_must && host_error && v.code / 100 != 4)
			v = smtp_verdict_unfit(STR_LIT("5.7.10"), str_printf(c->txn->arena, "Encryption needed: %.*s", STR_FMT(text)));
		smtp_verdict_give_all(c->txn, &v);
	}
}

/* On with the session as it is; or not at all, where it has to be encrypted and is not. */
void client_session_open(struct smtp_client *c)
{
	bool offered = c->offers & SMTP_O_STARTTLS;

	c->auth = 0;
	if (c->tls || c->tls_want == SMTP_TLS_NO || (c->tls_want == SMTP_TLS_TRY && !offered)) {
		client_auth_next(c);
	} else if (offered) {
		c->send = c->recv = SMTP_STARTTLS;
	} else {
		client_tls_defer(c, STR_LIT("4.7.4"), STR_LIT("a TLS session is required, but the server did not offer TLS support"), true);
		client_txn_done(c);
		smtp_client_quit(c);
	}
}

bool client_is_clear_after(const struct smtp_client *c, const struct smtp_reply *refusal)
{
	return c->tls_want == SMTP_TLS_TRY && (refusal->code >= 500 || c->clear_if_refused);
}

void step_reply_starttls(struct smtp_client *c)
{
	if (client_reply_is(c, 2)) {
		c->send = c->recv = SMTP_TLS;
		c->phase = SMTP_SHAKE;
	} else if (client_is_clear_after(c, &c->reply)) {
		client_auth_next(c);
	} else {
		if (c->txn)
			client_tls_defer(c, STR_LIT("4.7.0"), client_verdict(c, RETRY_OTHER).text, true);
		client_txn_done(c);
		smtp_client_quit(c);
	}
}

/* All that was said in clear is forgotten (RFC 3207, section 4.2); where TLS came first, the banner is still to come. */
void smtp_client_tls_done(struct smtp_client *c)
{
	bug_on(c->phase != SMTP_SHAKE);
	c->tls = true;
	c->offers = 0;
	c->peer_size = 0;
	buf_clear(&c->mechanisms);
	c->phase = SMTP_BUSY;
	c->send = c->recv = c->replies ? SMTP_EHLO : SMTP_BANNER;
	if (!smtp_client_early(c))
		client_send(c);
}

void smtp_client_tls_failed(struct smtp_client *c, const char *why, bool ours)
{
	bug_on(c->phase != SMTP_SHAKE);
	c->again_clear = c->tls_want == SMTP_TLS_TRY && c->clear_if_failed && !ours;
	if (!c->again_clear && c->txn)
		client_tls_defer(c, STR_LIT("4.7.5"), str_taint(str_printf(c->txn->arena, "%.*s: %s",
			STR_FMT(c->tls_phrase.len ? c->tls_phrase : STR_LIT("TLS session")), why)), !ours);
	client_over(c);
}

void smtp_client_tls_first(struct smtp_client *c)
{
	bug_on(c->recv != SMTP_BANNER || c->replies);
	c->send = c->recv = SMTP_TLS;
	c->phase = SMTP_SHAKE;
}

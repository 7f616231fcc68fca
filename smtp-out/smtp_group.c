/* SPDX-License-Identifier: ISC */
/* The group that goes out before the banner has come, and what becomes of it when the server has another mind now. */
#include "common/base/err.h"
#include "smtp-out/smtp_client_priv.h"
#include "smtp-out/smtp_command.h"
#include "smtp-out/smtp_early.h"

bool smtp_client_early(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	bug_on(c->phase != SMTP_BUSY || (c->recv != SMTP_BANNER && c->recv != SMTP_EHLO));
	if (!t || !smtp_early_recall(c))
		return false;
	c->early = SMTP_EARLY_GROUP;
	client_hello_write(c, true, &c->out);
	c->early_next = (uint8_t)smtp_early_next(c);
	client_command_end(c, (enum smtp_step)c->early_next);
	c->ahead = true;
	c->early_uses = 0;
	if (c->early_next == SMTP_MAIL) {
		c->lone_dot = c->prdr_asked = c->prdr_answers = c->rset = false;
		c->chunks = 0;
	}
	client_send(c);
	if (c->early_next == SMTP_MAIL) {
		c->early_uses = smtp_early_uses(c);
		c->chunk_wanted = c->send == SMTP_DATA && client_is_chunking(c) && !t->probe && !c->prdr_asked && t->size <= SMTP_EARLY_BODY_MAX;
	}
	c->early_end = c->commands;
	return true;
}

/* RFC 3030 section 2: the server takes the octets of a chunk from the stream whatever it answers, so that nothing is lost where all recipients
 * are refused. */
void smtp_client_chunk_early(struct smtp_client *c, size_t octets)
{
	bug_on(!c->chunk_wanted);
	buf_printf(&c->out, "BDAT %zu LAST\r\n", octets);
	c->commands++;
	c->send = SMTP_DOT;
	c->chunk_wanted = false;
	c->body_ahead = c->txn->chunked = c->txn->pipelined = true;
	c->early_uses = smtp_early_uses(c);
}

/* The group was sent in vain. Where the content goes with it, the server may take it for all that. */
static void early_break(struct smtp_client *c, bool forget)
{
	c->forget |= forget;
	if (c->body_ahead) {
		c->early = SMTP_EARLY_BROKEN;
	} else {
		c->early_failed = true;
		client_over(c);
	}
}

static void early_dot(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	if (client_reply_is(c, 2)) {
		t->early = true;
		t->confirmation = smtp_reply_words(t, &c->reply);
		for (uint32_t i = txn_rcpt_accepted(t, 0); i < t->n_rcpts; i = txn_rcpt_accepted(t, i + 1))
			client_delivered(c, &t->rcpts[i]);
	}
	for (uint32_t i = 0; i < t->n_rcpts; i++)
		c->early_failed |= !t->rcpts[i].skip && !t->rcpts[i].result;
	client_over(c);
}

/* Replies of a group that is broken: only who got the message counts. */
static void early_drain(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	if (c->recv == SMTP_BANNER) {
		c->recv = SMTP_EHLO;
	} else if (c->recv == SMTP_EHLO) {
		c->recv = SMTP_MAIL;
	} else if (c->recv == SMTP_MAIL) {
		c->recv = SMTP_RCPT;
		c->recv_rcpt = txn_rcpt_next(t, 0);
	} else if (c->recv == SMTP_RCPT) {
		t->rcpts[c->recv_rcpt].accepted = client_reply_is(c, 2);
		t->n_accepted += client_reply_is(c, 2);
		c->recv_rcpt = txn_rcpt_next(t, c->recv_rcpt + 1);
		if (c->recv_rcpt >= t->n_rcpts)
			c->recv = SMTP_DOT;
	} else {
		early_dot(c);
	}
}

/* What EHLO says now, beside what was taken for granted. */
static void early_ehlo(struct smtp_client *c)
{
	uint8_t auth = c->auth, auth_sent = c->auth_sent, next;
	bool offered;

	smtp_offers_read(c);
	offered = smtp_early_learn(c);
	c->txn->early = true;
	if (c->early_next == SMTP_WAIT) {
		c->early = SMTP_EARLY_NOT;
		client_session_open(c);
		return;
	}
	next = (uint8_t)smtp_early_next(c);
	if (!offered || next != c->early_next || (next == SMTP_AUTH && c->auth != auth) || c->early_uses & ~(uint32_t)c->offers) {
		early_break(c, false);
		if (c->early == SMTP_EARLY_BROKEN)
			early_drain(c);
		return;
	}
	c->auth_sent = auth_sent;
	c->recv = next;
	c->txn->dsn_passed = c->offers & SMTP_O_DSN;
}

/* True if there is no more to be done about the reply. */
bool client_early_reply(struct smtp_client *c)
{
	bool hello = c->recv == SMTP_BANNER || c->recv == SMTP_EHLO;

	c->chunk_wanted = false;
	if (c->early == SMTP_EARLY_GROUP && hello && !client_reply_is(c, 2))
		early_break(c, true);
	if (c->early == SMTP_EARLY_BROKEN) {
		early_drain(c);
		return true;
	}
	if (c->phase == SMTP_OVER)
		return true;
	if (c->recv == SMTP_EHLO) {
		early_ehlo(c);
		return true;
	}
	return false;
}

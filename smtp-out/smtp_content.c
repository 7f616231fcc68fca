/* SPDX-License-Identifier: ISC */
/* The content: DATA or BDAT, and the replies behind it, one for all (SMTP), one for each (LMTP, PRDR) or one for each piece (BDAT). */
#include "common/base/err.h"
#include "smtp-out/smtp_client_priv.h"
#include "smtp-out/smtp_result.h"

/* Several pieces go without waiting for the reply to each, which only PIPELINING allows. */
bool client_is_chunking(const struct smtp_client *c)
{
	return (c->offers & SMTP_O_CHUNKING) && (c->offers & SMTP_O_PIPELINING) && !c->profile->lmtp;
}

void step_send_data(struct smtp_client *c)
{
	if (c->txn->probe || (client_is_chunking(c) && !client_is_answered(c)))
		return; /* there is no reply between RCPT and the content: who is accepted must be known before */
	if (client_is_answered(c) && !c->txn->n_accepted) { /* not worth it */
		c->rset = true;
		client_txn_done(c);
		return;
	}
	if (client_is_chunking(c)) {
		c->txn->chunked = true;
		c->send = c->recv = SMTP_CONTENT;
		c->phase = SMTP_BODY;
		return;
	}
	buf_add(&c->out, "DATA", 4);
	client_command_end(c, SMTP_CONTENT);
}

void step_reply_data(struct smtp_client *c)
{
	if (client_reply_is(c, 2)) {
		client_malformed(c, "not a reply to this command");
	} else if (!client_reply_is(c, 3)) {
		struct smtp_verdict v = client_verdict(c, RETRY_DATA_4XX);

		smtp_verdict_give_all(c->txn, &v);
		c->rset = true;
		client_txn_done(c);
	} else if (c->txn->n_accepted) {
		c->recv = SMTP_CONTENT;
		c->phase = SMTP_BODY;
	} else if (c->profile->lmtp) { /* there may be no reply to the dot, as there is no recipient */
		client_over(c);
	} else {
		buf_add(&c->out, ".\r\n", 3);
		c->commands++;
		c->lone_dot = true;
		c->recv = SMTP_DOT;
	}
}

/* Before the content has all been sent: nothing but an error makes sense, and the dialogue can't be continued; pieces have replies. */
void step_reply_content(struct smtp_client *c)
{
	struct smtp_verdict v;

	if (c->chunks && client_reply_is(c, 2)) {
		c->chunks--;
		c->replies++;
		return;
	}

	if (!client_reply_is(c, 4) && !client_reply_is(c, 5)) {
		client_malformed(c, "too early");
		return;
	}
	v = client_verdict(c, RETRY_DATA_4XX);
	smtp_verdict_give_all(c->txn, &v);
	client_over(c);
}

void client_delivered(struct smtp_client *c, struct smtp_rcpt *r)
{
	struct smtp_verdict v = {
		.result = DELIVERY_OK, .stage = smtp_step_phrase(SMTP_DOT), .code = c->reply.code, .status = smtp_status_of(c->txn, &c->reply),
		.text = c->txn->confirmation,
	};

	if (!r->result && r->accepted)
		c->txn->n_delivered++;
	smtp_verdict_give(r, &v);
}

/* PRDR: a reply for each recipient that was accepted; those who get a positive one wait for that to all. */
static void reply_prdr(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_rcpt *r = c->recv_rcpt < t->n_rcpts ? &t->rcpts[c->recv_rcpt] : NULL;
	struct smtp_verdict v;

	if (r) {
		if (client_reply_is(c, 2)) {
			r->text = smtp_reply_words(t, &c->reply);
		} else {
			v = client_verdict(c, RETRY_DATA_4XX);
			smtp_verdict_give(r, &v);
		}
		c->recv_rcpt = txn_rcpt_accepted(t, c->recv_rcpt + 1);
		return;
	}
	if (!client_reply_is(c, 2))
		v = client_verdict(c, RETRY_DATA_4XX);
	for (uint32_t i = txn_rcpt_accepted(t, 0); i < t->n_rcpts; i = txn_rcpt_accepted(t, i + 1)) {
		if (!client_reply_is(c, 2)) {
			smtp_verdict_give(&t->rcpts[i], &v);
			continue;
		}
		t->confirmation = str_taint(str_printf(t->arena, "%.*s\n%.*s", STR_FMT(t->rcpts[i].text), STR_FMT(smtp_reply_words(t, &c->reply))));
		client_delivered(c, &t->rcpts[i]);
	}
	client_txn_done(c);
}

void step_reply_dot(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_verdict v;

	if (c->chunks) { /* of a piece before the last one */
		c->chunks--;
		if (client_reply_is(c, 2))
			return;
		v = client_verdict(c, RETRY_DATA_4XX);
		smtp_verdict_give_all(t, &v);
		client_over(c);
		return;
	}
	if (c->prdr_answers && !client_reply_is(c, 3)) {
		reply_prdr(c);
		return;
	}
	if (c->prdr_asked && !c->prdr_answers && c->reply.code == 353) {
		c->prdr_answers = t->prdr = true;
		c->owed = t->n_accepted + 1;
		c->commands += c->owed;
		return;
	}

	if (c->lone_dot) {
		client_txn_done(c);
		return;
	}
	if (client_reply_is(c, 3)) {
		client_malformed(c, "not a reply to this command");
		return;
	}
	if (client_reply_is(c, 2))
		t->confirmation = smtp_reply_words(t, &c->reply);
	else
		v = client_verdict(c, RETRY_DATA_4XX);
	for (;;) {
		struct smtp_rcpt *r = &t->rcpts[c->recv_rcpt];

		if (client_reply_is(c, 2))
			client_delivered(c, r);
		else
			smtp_verdict_give(r, &v);
		c->recv_rcpt = txn_rcpt_accepted(t, c->recv_rcpt + 1);
		if (c->recv_rcpt >= t->n_rcpts)
			break;
		if (c->profile->lmtp) /* one reply for each */
			return;
	}
	client_txn_done(c);
}

void smtp_client_chunk(struct smtp_client *c, size_t octets, bool last)
{
	bug_on(c->phase != SMTP_BODY || !c->txn->chunked);
	buf_printf(&c->out, "BDAT %zu%s\r\n", octets, last ? " LAST" : "");
	if (last)
		return;
	c->commands++;
	c->chunks++;
}

void smtp_client_body_sent(struct smtp_client *c)
{
	bug_on(c->phase != SMTP_BODY);
	c->phase = SMTP_BUSY;
	c->recv = SMTP_DOT;
	c->recv_rcpt = txn_rcpt_accepted(c->txn, 0);
	c->commands += c->profile->lmtp ? c->txn->n_accepted : 1;
}

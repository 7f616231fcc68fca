/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_result.h"

enum { WORDS_MAX = 2000, COMMAND_MAX = 1200 };

void smtp_verdict_give(struct smtp_rcpt *r, const struct smtp_verdict *v)
{
	if (r->skip || r->result)
		return;
	r->result = (uint8_t)v->result;
	r->error = (uint8_t)v->error;
	r->stage = v->stage;
	r->code = v->code;
	r->host_error = v->host_error;
	r->error_no = (uint16_t)v->error_no;
	r->refused = v->refused;
	r->status = v->status;
	r->text = v->text;
}

void smtp_verdict_give_all(struct smtp_txn *t, const struct smtp_verdict *v)
{
	for (uint32_t i = 0; i < t->n_rcpts; i++)
		smtp_verdict_give(&t->rcpts[i], v);
	if (v->host_error) {
		t->host_error = (uint8_t)v->error;
		t->host_text = v->text;
	}
}

struct str smtp_reply_words(const struct smtp_txn *t, const struct smtp_reply *reply)
{
	return str_taint(str_dup(t->arena, str_sub(buf_str(&reply->text), 0, WORDS_MAX)));
}

struct str smtp_status_of(const struct smtp_txn *t, const struct smtp_reply *reply)
{
	struct str s = smtp_reply_status(reply);

	return s.len ? str_dup(t->arena, s) : str_printf(t->arena, "%u.0.0", reply->code / 100u);
}

struct smtp_verdict smtp_verdict_reply(const struct smtp_txn *t, const struct smtp_reply *reply, const char *stage, struct str command,
	enum retry_error error)
{
	bool failed = reply->code >= 500;

	return (struct smtp_verdict){
		.result = failed ? DELIVERY_FAILED : DELIVERY_DEFERRED,
		.error = failed ? RETRY_OTHER : error,
		.stage = stage,
		.code = reply->code,
		.status = smtp_status_of(t, reply),
		.text = str_taint(str_printf(t->arena, "SMTP error from remote mail server after %s%.*s: %.*s", t->pipelined ? "pipelined " : "",
			STR_FMT(str_sub(command, 0, COMMAND_MAX)), STR_FMT(str_sub(buf_str(&reply->text), 0, WORDS_MAX)))),
	};
}

struct smtp_verdict smtp_verdict_loss(const struct smtp_txn *t, const char *stage, struct str command, enum retry_error error,
	bool host_error, struct str text)
{
	const char *pl = t->pipelined ? "pipelined " : "";

	command = str_sub(command, 0, COMMAND_MAX);
	return (struct smtp_verdict){
		.result = DELIVERY_DEFERRED,
		.error = error,
		.stage = stage,
		.host_error = host_error,
		.status = STR_LIT("4.4.2"),
		.text = str_taint(error == RETRY_TIMEOUT ? str_printf(t->arena, "SMTP timeout after %s%.*s", pl, STR_FMT(command))
			: text.len ? str_printf(t->arena, "%.*s in response to %s%.*s", STR_FMT(text), pl, STR_FMT(command))
			: str_printf(t->arena, "Remote host closed connection in response to %s%.*s", pl, STR_FMT(command))),
	};
}

struct smtp_verdict smtp_verdict_unfit(struct str status, struct str text)
{
	return (struct smtp_verdict){ .result = DELIVERY_DEFERRED, .refused = true, .error = RETRY_OTHER, .stage = "MAIL FROM", .status = status, .text = text };
}

void smtp_txn_host_failed(struct smtp_txn *t, enum retry_error error, const char *stage, struct str status, struct str text)
{
	struct smtp_verdict v = {
		.result = DELIVERY_DEFERRED, .error = error, .stage = stage, .host_error = true, .status = status, .text = text,
	};

	smtp_verdict_give_all(t, &v);
}

static void rcpt_again(struct smtp_rcpt *r)
{
	r->result = r->error = 0;
	r->code = 0;
	r->host_error = r->refused = r->accepted = r->later = false;
	r->status = r->text = STR_NULL;
	r->stage = NULL;
}

static void txn_again(struct smtp_txn *t)
{
	t->n_accepted = t->n_later = 0;
	t->host_error = RETRY_NONE;
	t->host_text = STR_NULL;
	t->mail_answered = t->pipelined = t->prdr = t->chunked = t->early = false;
}

void smtp_txn_rest(struct smtp_txn *t)
{
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct smtp_rcpt *r = &t->rcpts[i];
		bool later = r->later;

		r->skip = !later;
		if (later)
			rcpt_again(r);
	}
	txn_again(t);
}

bool smtp_txn_again(struct smtp_txn *t)
{
	bool left = false;

	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct smtp_rcpt *r = &t->rcpts[i];

		if (r->result) /* one that this host alone could not take is skipped, but not done */
			r->skip = r->result != DELIVERY_DEFERRED;
		r->waits |= r->result == DELIVERY_DEFERRED && !r->refused;
		if (r->skip)
			continue;
		left = true;
		rcpt_again(r);
	}
	txn_again(t);
	return left;
}

/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_client_priv.h"

#include "common/base/err.h"
#include "common/conf/option.h"
#include "smtp-out/smtp_auth.h"
#include "smtp-out/smtp_command.h"
#include "smtp-out/smtp_early.h"
#include "smtp-out/smtp_result.h"

enum { STEP_AHEAD = 1 /* with PIPELINING the next command may go before the reply has come */ };

struct step_row {
	const char *name, *phrase;
	enum smtp_timer timer;
	unsigned flags;
	void (*send)(struct smtp_client *c);   /* writes the command and moves `send` on; NULL: nothing is sent here */
	void (*reply)(struct smtp_client *c);  /* moves `recv` on, or ends the transaction */
};
static const struct step_row steps[SMTP_STEPS];

/* ---- ends of transactions and connections ---- */

void client_over(struct smtp_client *c)
{
	c->txn = NULL;
	c->send = c->recv = SMTP_END;
	c->phase = SMTP_OVER;
}

void client_txn_done(struct smtp_client *c)
{
	if (c->peer_closes) {
		client_over(c);
		return;
	}
	c->txn = NULL;
	c->send = c->recv = SMTP_WAIT;
	c->phase = SMTP_READY;
}

uint32_t txn_rcpt_next(const struct smtp_txn *t, uint32_t i)
{
	while (i < t->n_rcpts && t->rcpts[i].skip)
		i++;
	return i;
}

uint32_t txn_rcpt_accepted(const struct smtp_txn *t, uint32_t i)
{
	while (i < t->n_rcpts && (t->rcpts[i].skip || !t->rcpts[i].accepted))
		i++;
	return i;
}

bool client_is_answered(const struct smtp_client *c)
{
	return c->commands == c->replies;
}

void client_hello_write(const struct smtp_client *c, bool esmtp, struct buf *out)
{
	buf_printf(out, "%s ", !esmtp ? "HELO" : c->profile->lmtp ? "LHLO" : "EHLO");
	for (uint32_t i = 0; i < c->profile->helo.len; i++)
		if (c->profile->helo.p[i] == CONF_LATE_MARK)
			buf_adds(out, c->local_ip ? c->local_ip : "");
		else
			buf_addc(out, c->profile->helo.p[i]);
}

/* The command of step recv, as it is sent and as the log shows it. */
static void command_write(const struct smtp_client *c, struct buf *out)
{
	switch ((enum smtp_step)c->recv) {
	case SMTP_EHLO:
	case SMTP_HELO:
		client_hello_write(c, c->recv == SMTP_EHLO, out);
		break;
	case SMTP_MAIL:
		smtp_command_mail(c, out);
		break;
	case SMTP_AUTH: /* without what is secret */
		buf_printf(out, "AUTH %.*s", STR_FMT(smtp_auth_current(c)->mechanism));
		break;
	case SMTP_RCPT:
		smtp_command_rcpt(c, &c->txn->rcpts[c->recv_rcpt], out);
		break;
	case SMTP_BANNER:
	case SMTP_STARTTLS:
	case SMTP_TLS:
	case SMTP_WAIT:
	case SMTP_RSET:
	case SMTP_DATA:
	case SMTP_CONTENT:
	case SMTP_DOT:
	case SMTP_QUIT:
	case SMTP_END:
	case SMTP_STEPS:
		buf_adds(out, steps[c->recv].phrase);
		break;
	}
}

static struct str command_words(const struct smtp_client *c)
{
	struct buf b = BUF_INIT;
	struct str s;

	command_write(c, &b);
	s = str_dup(c->txn->arena, buf_str(&b));
	buf_clear(&b);
	return s;
}

struct smtp_verdict client_verdict(struct smtp_client *c, enum retry_error error)
{
	return smtp_verdict_reply(c->txn, &c->reply, steps[c->recv].phrase, command_words(c), error);
}

/* Where a loss is the message's or a recipient's affair and not the host's (specification, section 49.2). */
static bool loss_is_host_error(const struct smtp_client *c, enum retry_error error)
{
	if (c->recv == SMTP_DOT)
		return false;
	return error != RETRY_TIMEOUT || (c->recv != SMTP_MAIL && c->recv != SMTP_RCPT);
}

/* Nothing is known of what would have become of the group: the host is asked once more, in the ordinary way. */
static void early_fail(struct smtp_client *c)
{
	c->forget = c->early_failed = true;
	client_over(c);
}

static void client_give_up(struct smtp_client *c, enum retry_error error, struct str text)
{
	if (c->early) {
		early_fail(c);
		return;
	}
	if (c->txn) {
		struct smtp_verdict v =
			smtp_verdict_loss(c->txn, steps[c->recv].phrase, command_words(c), error, loss_is_host_error(c, error), text);

		smtp_verdict_give_all(c->txn, &v);
	}
	client_over(c);
}

void client_malformed(struct smtp_client *c, const char *why)
{
	if (c->early) {
		early_fail(c);
		return;
	}
	if (c->txn) {
		struct arena *a = c->txn->arena;
		struct smtp_verdict v = {
			.result = DELIVERY_DEFERRED, .error = RETRY_OTHER, .stage = steps[c->recv].phrase, .host_error = c->recv != SMTP_DOT,
			.status = STR_LIT("4.5.0"),
			.text = str_taint(str_printf(a, "Malformed SMTP reply (%s) in response to %s%.*s: %.*s", why, c->txn->pipelined ? "pipelined " : "",
				STR_FMT(str_sub(command_words(c), 0, 1000)), STR_FMT(str_sub(buf_str(&c->reply.text), 0, 500)))),
		};

		smtp_verdict_give_all(c->txn, &v);
	}
	client_over(c);
}

/* The host does not want us at all: the next one may. */
static void client_refused(struct smtp_client *c)
{
	if (c->txn) {
		struct smtp_verdict v = client_verdict(c, RETRY_OTHER);

		v.refused = v.result == DELIVERY_FAILED;
		v.result = DELIVERY_DEFERRED;
		v.error = RETRY_OTHER;
		v.host_error = true;
		smtp_verdict_give_all(c->txn, &v);
	}
	client_txn_done(c);
	smtp_client_quit(c);
}

/* ---- sending ---- */

void client_command_end(struct smtp_client *c, enum smtp_step next)
{
	buf_add(&c->out, "\r\n", 2);
	c->commands++;
	c->send = (uint8_t)next;
}

static void send_hello(struct smtp_client *c)
{
	command_write(c, &c->out);
	client_command_end(c, SMTP_WAIT);
}

static void send_rset(struct smtp_client *c)
{
	buf_add(&c->out, "RSET", 4);
	client_command_end(c, SMTP_MAIL);
}

static void send_mail(struct smtp_client *c)
{
	c->prdr_asked = smtp_prdr_wanted(c);
	smtp_command_mail(c, &c->out);
	c->send_rcpt = txn_rcpt_next(c->txn, 0);
	client_command_end(c, SMTP_RCPT);
}

static void send_rcpt(struct smtp_client *c)
{
	if (!client_is_answered(c))
		c->txn->pipelined = true;
	smtp_command_rcpt(c, &c->txn->rcpts[c->send_rcpt], &c->out);
	c->send_rcpt = txn_rcpt_next(c->txn, c->send_rcpt + 1);
	client_command_end(c, c->send_rcpt < c->txn->n_rcpts ? SMTP_RCPT : SMTP_DATA);
}

void client_send(struct smtp_client *c)
{
	for (;;) {
		const struct step_row *row = &steps[c->send];

		if (!row->send || (!client_is_answered(c) && !c->ahead))
			return;
		c->ahead = (row->flags & STEP_AHEAD) && (c->offers & SMTP_O_PIPELINING) && (c->early || !(c->txn && c->txn->probe));
		row->send(c);
	}
}

void client_txn_start(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	if (!t) {
		client_txn_done(c);
		return;
	}
	c->phase = SMTP_BUSY;
	c->lone_dot = c->prdr_asked = c->prdr_answers = false;
	c->chunks = 0;
	t->dsn_passed = c->offers & SMTP_O_DSN;
	smtp_txn_check(c);
	if (txn_rcpt_next(t, 0) == t->n_rcpts) {
		t->mail_answered = true;
		client_txn_done(c);
		return;
	}
	c->send = c->recv = c->rset ? SMTP_RSET : SMTP_MAIL;
	c->rset = false;
}

/* ---- receiving ---- */

bool client_reply_is(const struct smtp_client *c, unsigned class)
{
	return c->reply.code / 100u == class;
}

static void reply_banner(struct smtp_client *c)
{
	if (!client_reply_is(c, 2))
		client_refused(c);
	else if (c->early)
		c->recv = SMTP_EHLO;
	else
		c->send = c->recv = c->profile->avoid_esmtp && !c->profile->lmtp ? SMTP_HELO : SMTP_EHLO;
}

/* ---- TLS ---- */

static void reply_ehlo(struct smtp_client *c)
{
	if (client_reply_is(c, 2)) {
		smtp_offers_read(c);
		if (c->ehlo_wanted && !c->tls) {
			buf_reset(&c->ehlo);
			buf_add_str(&c->ehlo, buf_str(&c->reply.text));
		}
		if (c->memory)
			smtp_early_learn(c);
		client_session_open(c);
	} else if (client_reply_is(c, 5) && !c->profile->lmtp) {
		c->send = c->recv = SMTP_HELO;
	} else {
		client_refused(c);
	}
}

static void reply_helo(struct smtp_client *c)
{
	if (client_reply_is(c, 2))
		client_session_open(c);
	else
		client_refused(c);
}

static void reply_rset(struct smtp_client *c)
{
	c->recv = SMTP_MAIL; /* an error shows again at MAIL, or does no harm */
}

static void reply_mail(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	t->mail_answered = true;
	if (client_reply_is(c, 3)) {
		client_malformed(c, "not a reply to this command");
		return;
	}
	if (!client_reply_is(c, 2)) {
		struct smtp_verdict v = client_verdict(c, RETRY_MAIL_4XX);

		smtp_verdict_give_all(t, &v);
		c->rset = true;
		if (client_is_answered(c)) {
			client_txn_done(c);
			return;
		}
	}
	c->recv = SMTP_RCPT;
	c->recv_rcpt = txn_rcpt_next(t, 0);
}

static void reply_rcpt(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_rcpt *r = &t->rcpts[c->recv_rcpt];

	if (client_reply_is(c, 3)) {
		client_malformed(c, "not a reply to this command");
		return;
	}
	if (!client_reply_is(c, 2)) {
		struct smtp_verdict v = client_verdict(c, RETRY_RCPT_4XX);

		smtp_verdict_give(r, &v);
	} else if (!r->result) {
		r->accepted = true;
		t->n_accepted++;
	}
	c->recv_rcpt = txn_rcpt_next(t, c->recv_rcpt + 1);
	c->recv = c->recv_rcpt < t->n_rcpts ? SMTP_RCPT : SMTP_DATA;
	if (c->recv != SMTP_DATA)
		return;
	if (t->probe) {
		c->rset = true;
		client_txn_done(c);
	} else if (c->body_ahead) {
		c->body_ahead = false;
		c->recv = SMTP_DOT;
		c->recv_rcpt = txn_rcpt_accepted(t, 0);
		c->lone_dot = !t->n_accepted;
	}
}

static void reply_over(struct smtp_client *c)
{
	client_over(c);
}

static const struct step_row steps[SMTP_STEPS] = {
	[SMTP_BANNER] = { "BANNER", "initial connection", SMTP_T_COMMAND, 0, NULL, reply_banner },
	[SMTP_EHLO] = { "EHLO", "EHLO", SMTP_T_COMMAND, 0, send_hello, reply_ehlo },
	[SMTP_HELO] = { "HELO", "HELO", SMTP_T_COMMAND, 0, send_hello, reply_helo },
	[SMTP_STARTTLS] = { "STARTTLS", "STARTTLS", SMTP_T_COMMAND, 0, step_send_starttls, step_reply_starttls },
	[SMTP_TLS] = { "TLS", "TLS handshake", SMTP_T_COMMAND, 0, NULL, reply_over },
	[SMTP_AUTH] = { "AUTH", "AUTH", SMTP_T_COMMAND, 0, step_send_auth, step_reply_auth },
	[SMTP_WAIT] = { "WAIT", "nothing", SMTP_T_NONE, 0, NULL, reply_over },
	[SMTP_RSET] = { "RSET", "RSET", SMTP_T_COMMAND, STEP_AHEAD, send_rset, reply_rset },
	[SMTP_MAIL] = { "MAIL", "MAIL FROM", SMTP_T_COMMAND, STEP_AHEAD, send_mail, reply_mail },
	[SMTP_RCPT] = { "RCPT", "RCPT TO", SMTP_T_COMMAND, STEP_AHEAD, send_rcpt, reply_rcpt },
	[SMTP_DATA] = { "DATA", "DATA", SMTP_T_COMMAND, 0, step_send_data, step_reply_data },
	[SMTP_CONTENT] = { "CONTENT", "sending data block", SMTP_T_DATA, 0, NULL, step_reply_content },
	[SMTP_DOT] = { "DOT", "end of data", SMTP_T_FINAL, 0, NULL, step_reply_dot },
	[SMTP_QUIT] = { "QUIT", "QUIT", SMTP_T_QUIT, 0, NULL, reply_over },
	[SMTP_END] = { "END", "nothing", SMTP_T_NONE, 0, NULL, reply_over },
};

/* 421: the host goes away, whatever was asked. On a connection that had waited it was said before it read our MAIL, which
 * therefore counts as not answered. */
static void reply_closing(struct smtp_client *c)
{
	struct smtp_verdict v;

	if (c->recv == SMTP_DOT || c->recv == SMTP_CONTENT || !c->txn)
		return;
	if (c->recv == SMTP_STARTTLS && client_is_clear_after(c, &c->reply)) {
		c->again_clear = true;
		client_over(c);
		return;
	}
	v = client_verdict(c, RETRY_LOST_CONNECTION);
	v.host_error = true;
	if (c->recv == SMTP_STARTTLS && c->tls_want == SMTP_TLS_MUST)
		v.error = RETRY_TLS_REQUIRED;
	if (c->recv == SMTP_RCPT) { /* the answer to this one, and no answer to the others */
		struct smtp_verdict own = v;

		own.error = RETRY_RCPT_4XX;
		own.host_error = false;
		smtp_verdict_give(&c->txn->rcpts[c->recv_rcpt], &own);
	}
	smtp_verdict_give_all(c->txn, &v);
	client_over(c);
}

/* ---- early pipelining ---- */

static void reply_take(struct smtp_client *c)
{
	c->replies++;
	if (c->early && client_early_reply(c)) {
		if (c->phase == SMTP_BUSY)
			client_send(c);
		return;
	}
	if (c->early && c->replies >= c->early_end)
		c->early = SMTP_EARLY_NOT;
	if (c->reply.code == 421) {
		c->peer_closes = true;
		reply_closing(c);
	}
	if (c->phase != SMTP_OVER)
		steps[c->recv].reply(c);
	if (c->peer_closes && c->phase != SMTP_OVER) /* LMTP: other recipients still wait for their replies */
		client_give_up(c, RETRY_LOST_CONNECTION, STR_NULL);
	if (c->phase == SMTP_BUSY)
		client_send(c);
}

/* ---- the interface ---- */

void smtp_client_init(struct smtp_client *c, const struct smtp_profile *profile, struct smtp_txn *txn)
{
	*c = (struct smtp_client){
		.profile = profile, .txn = txn, .commands = 1, .send = SMTP_BANNER, .recv = SMTP_BANNER, .phase = SMTP_BUSY,
	};
}

void smtp_client_begin(struct smtp_client *c, struct smtp_txn *txn)
{
	bug_on(c->phase != SMTP_READY || c->txn);
	c->txn = txn;
	client_txn_start(c);
	if (c->phase == SMTP_BUSY)
		client_send(c);
}

void smtp_client_input(struct smtp_client *c, const char *p, size_t n)
{
	uint32_t asked = c->commands; /* a reply to what has not even been sent is none */

	while (n && c->phase != SMTP_OVER) {
		size_t used = 0;
		enum smtp_reply_state state;

		if (c->recv == SMTP_WAIT) { /* good-bye or nonsense */
			client_over(c);
			return;
		}
		if (c->phase == SMTP_SHAKE) { /* by whom they were said, nobody can tell */
			client_tls_defer(c, STR_LIT("4.5.0"), STR_LIT("octets in clear behind the reply to STARTTLS"), true);
			client_over(c);
			return;
		}
		state = smtp_reply_read(&c->reply, p, n, &used);
		p += used;
		n -= used;
		if (state == SMTP_REPLY_MORE)
			return;
		if (state == SMTP_REPLY_BAD)
			client_malformed(c, c->reply.why);
		else if (c->recv == SMTP_CONTENT)
			step_reply_content(c);
		else if (c->replies == asked)
			client_malformed(c, "before its command");
		else
			reply_take(c);
		asked += c->owed; /* they may come in the same packet */
		c->owed = 0;
	}
}

void smtp_client_sent(struct smtp_client *c, size_t n)
{
	buf_drop(&c->out, n);
}

void smtp_client_lost(struct smtp_client *c, enum smtp_loss loss, const char *text)
{
	static const enum retry_error errors[] = {
		[SMTP_LOST_CLOSED] = RETRY_LOST_CONNECTION, [SMTP_LOST_ERROR] = RETRY_LOST_CONNECTION, [SMTP_LOST_TIMEOUT] = RETRY_TIMEOUT,
	};

	if (c->phase == SMTP_OVER)
		return;
	if (loss == SMTP_LOST_CONTENT && c->txn) {
		struct smtp_verdict v = {
			.result = DELIVERY_DEFERRED, .error = RETRY_OTHER, .stage = steps[c->recv].phrase, .status = STR_LIT("4.3.0"),
			.text = str_printf(c->txn->arena, "the message could not be read: %s", text ? text : "unknown error"),
		};

		smtp_verdict_give_all(c->txn, &v);
	}
	if (loss == SMTP_LOST_CONTENT)
		client_over(c);
	else
		client_give_up(c, errors[loss], str_of(text));
}

void smtp_client_quit(struct smtp_client *c)
{
	if (c->phase == SMTP_OVER)
		return;
	if (c->txn || c->phase != SMTP_READY) {
		client_over(c);
		return;
	}
	buf_add(&c->out, "QUIT\r\n", 6);
	c->commands++;
	c->send = c->recv = SMTP_QUIT;
	c->phase = SMTP_BUSY;
}

enum smtp_timer smtp_client_timer(const struct smtp_client *c)
{
	return steps[c->recv].timer;
}

const char *smtp_step_phrase(enum smtp_step step)
{
	return steps[step].phrase;
}

const char *smtp_step_name(enum smtp_step step)
{
	return step < SMTP_STEPS ? steps[step].name : "?";
}

void smtp_client_trim(struct smtp_client *c)
{
	if (!smtp_reply_is_partial(&c->reply))
		smtp_reply_clear(&c->reply);
	if (!c->out.len)
		buf_clear(&c->out);
}

void smtp_client_clear(struct smtp_client *c)
{
	smtp_reply_clear(&c->reply);
	buf_clear(&c->out);
	buf_clear(&c->mechanisms);
	smtp_auth_clear(c);
	buf_clear(&c->auth_refusal);
	buf_clear(&c->ehlo);
}

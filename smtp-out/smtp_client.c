/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_client.h"

#include "common/base/err.h"
#include "common/conf/option.h"
#include "smtp-out/smtp_auth.h"
#include "smtp-out/smtp_command.h"
#include "smtp-out/smtp_early.h"
#include "smtp-out/smtp_result.h"

enum { AUTH_WORDS_MAX = 512 };
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

static void client_over(struct smtp_client *c)
{
	c->txn = NULL;
	c->send = c->recv = SMTP_END;
	c->phase = SMTP_OVER;
}

static void txn_done(struct smtp_client *c)
{
	if (c->peer_closes) {
		client_over(c);
		return;
	}
	c->txn = NULL;
	c->send = c->recv = SMTP_WAIT;
	c->phase = SMTP_READY;
}

static uint32_t rcpt_next(const struct smtp_txn *t, uint32_t i)
{
	while (i < t->n_rcpts && t->rcpts[i].skip)
		i++;
	return i;
}

static uint32_t rcpt_next_accepted(const struct smtp_txn *t, uint32_t i)
{
	while (i < t->n_rcpts && (t->rcpts[i].skip || !t->rcpts[i].accepted))
		i++;
	return i;
}

static bool all_answered(const struct smtp_client *c)
{
	return c->commands == c->replies;
}

static void hello_write(const struct smtp_client *c, bool esmtp, struct buf *out)
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
		hello_write(c, c->recv == SMTP_EHLO, out);
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

static struct smtp_verdict verdict_now(struct smtp_client *c, enum retry_error error)
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

static void client_malformed(struct smtp_client *c, const char *why)
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
		struct smtp_verdict v = verdict_now(c, RETRY_OTHER);

		v.refused = v.result == DELIVERY_FAILED;
		v.result = DELIVERY_DEFERRED;
		v.error = RETRY_OTHER;
		v.host_error = true;
		smtp_verdict_give_all(c->txn, &v);
	}
	txn_done(c);
	smtp_client_quit(c);
}

/* ---- sending ---- */

static void command_end(struct smtp_client *c, enum smtp_step next)
{
	buf_add(&c->out, "\r\n", 2);
	c->commands++;
	c->send = (uint8_t)next;
}

static void send_hello(struct smtp_client *c)
{
	command_write(c, &c->out);
	command_end(c, SMTP_WAIT);
}

static void send_rset(struct smtp_client *c)
{
	buf_add(&c->out, "RSET", 4);
	command_end(c, SMTP_MAIL);
}

static void send_mail(struct smtp_client *c)
{
	c->prdr_asked = smtp_prdr_wanted(c);
	smtp_command_mail(c, &c->out);
	c->send_rcpt = rcpt_next(c->txn, 0);
	command_end(c, SMTP_RCPT);
}

static void send_rcpt(struct smtp_client *c)
{
	if (!all_answered(c))
		c->txn->pipelined = true;
	smtp_command_rcpt(c, &c->txn->rcpts[c->send_rcpt], &c->out);
	c->send_rcpt = rcpt_next(c->txn, c->send_rcpt + 1);
	command_end(c, c->send_rcpt < c->txn->n_rcpts ? SMTP_RCPT : SMTP_DATA);
}

/* Several pieces go without waiting for the reply to each, which only PIPELINING allows. */
static bool is_chunking(const struct smtp_client *c)
{
	return (c->offers & SMTP_O_CHUNKING) && (c->offers & SMTP_O_PIPELINING) && !c->profile->lmtp;
}

static void send_data(struct smtp_client *c)
{
	if (c->txn->probe || (is_chunking(c) && !all_answered(c)))
		return; /* there is no reply between RCPT and the content: who is accepted must be known before */
	if (all_answered(c) && !c->txn->n_accepted) { /* not worth it */
		c->rset = true;
		txn_done(c);
		return;
	}
	if (is_chunking(c)) {
		c->txn->chunked = true;
		c->send = c->recv = SMTP_CONTENT;
		c->phase = SMTP_BODY;
		return;
	}
	buf_add(&c->out, "DATA", 4);
	command_end(c, SMTP_CONTENT);
}

static void client_send(struct smtp_client *c)
{
	for (;;) {
		const struct step_row *row = &steps[c->send];

		if (!row->send || (!all_answered(c) && !c->ahead))
			return;
		c->ahead = (row->flags & STEP_AHEAD) && (c->offers & SMTP_O_PIPELINING) && (c->early || !(c->txn && c->txn->probe));
		row->send(c);
	}
}

static void send_auth(struct smtp_client *c)
{
	smtp_auth_command(c, &c->out);
	command_end(c, SMTP_WAIT);
}

static void send_starttls(struct smtp_client *c)
{
	buf_add(&c->out, "STARTTLS", 8);
	command_end(c, SMTP_WAIT);
}

static void txn_start(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	if (!t) {
		txn_done(c);
		return;
	}
	c->phase = SMTP_BUSY;
	c->lone_dot = c->prdr_asked = c->prdr_answers = false;
	c->chunks = 0;
	t->dsn_passed = c->offers & SMTP_O_DSN;
	smtp_txn_check(c);
	if (rcpt_next(t, 0) == t->n_rcpts) {
		t->mail_answered = true;
		txn_done(c);
		return;
	}
	c->send = c->recv = c->rset ? SMTP_RSET : SMTP_MAIL;
	c->rset = false;
}

/* ---- receiving ---- */

static bool reply_is(const struct smtp_client *c, unsigned class)
{
	return c->reply.code / 100u == class;
}

static void reply_banner(struct smtp_client *c)
{
	if (!reply_is(c, 2))
		client_refused(c);
	else if (c->early)
		c->recv = SMTP_EHLO;
	else
		c->send = c->recv = c->profile->avoid_esmtp && !c->profile->lmtp ? SMTP_HELO : SMTP_EHLO;
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
	txn_done(c);
	smtp_client_quit(c);
}

/* The next authenticator; when there is none, on without, where the host allows it. */
static void auth_next(struct smtp_client *c)
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
		txn_start(c);
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

static void reply_auth(struct smtp_client *c)
{
	const char *why = smtp_auth_distrust(c);

	if (why) { /* nor is it to get a password by the next authenticator */
		auth_defer(c, c->txn ? str_printf(c->txn->arena, "%.*s authenticator failed: %s", STR_FMT(smtp_auth_current(c)->name), why) : STR_NULL);
	} else if (reply_is(c, 2) && !c->auth_cancelled) {
		c->authenticated = true;
		txn_start(c);
	} else if (reply_is(c, 3) && !c->auth_cancelled) {
		smtp_auth_respond(c, &c->out);
		command_end(c, SMTP_WAIT);
	} else if (reply_is(c, 4) && !c->auth_cancelled) {
		struct smtp_txn *t = c->txn;

		auth_defer(c, t ? str_printf(t->arena, "%.*s authenticator failed: %.*s", STR_FMT(smtp_auth_current(c)->name),
			STR_FMT(smtp_reply_words(t, &c->reply))) : STR_NULL);
	} else {
		c->auth_tried = true;
		auth_refusal(c);
		c->auth++;
		auth_next(c);
	}
}

/* ---- TLS ---- */

static void tls_defer(struct smtp_client *c, struct str status, struct str text, bool host_error)
{
	if (c->txn) {
		struct smtp_verdict v = {
			.result = DELIVERY_DEFERRED, .error = host_error && c->tls_want == SMTP_TLS_MUST ? RETRY_TLS_REQUIRED : RETRY_OTHER, .stage = steps[c->recv].phrase,
			.host_error = host_error, .status = status, .code = c->recv == SMTP_STARTTLS ? c->reply.code : 0, .text = text,
		};

		/* RFC 8689 section 4.2.1: no session that protects the message comes about, and none will. */
		if (c->txn->requiretls_must && host_error && v.code / 100 != 4)
			v = smtp_verdict_unfit(STR_LIT("5.7.10"), str_printf(c->txn->arena, "Encryption needed: %.*s", STR_FMT(text)));
		smtp_verdict_give_all(c->txn, &v);
	}
}

/* On with the session as it is; or not at all, where it has to be encrypted and is not. */
static void session_open(struct smtp_client *c)
{
	bool offered = c->offers & SMTP_O_STARTTLS;

	c->auth = 0;
	if (c->tls || c->tls_want == SMTP_TLS_NO || (c->tls_want == SMTP_TLS_TRY && !offered)) {
		auth_next(c);
	} else if (offered) {
		c->send = c->recv = SMTP_STARTTLS;
	} else {
		tls_defer(c, STR_LIT("4.7.4"), STR_LIT("a TLS session is required, but the server did not offer TLS support"), true);
		txn_done(c);
		smtp_client_quit(c);
	}
}

static bool is_clear_after(const struct smtp_client *c, const struct smtp_reply *refusal)
{
	return c->tls_want == SMTP_TLS_TRY && (refusal->code >= 500 || c->clear_if_refused);
}

static void reply_starttls(struct smtp_client *c)
{
	if (reply_is(c, 2)) {
		c->send = c->recv = SMTP_TLS;
		c->phase = SMTP_SHAKE;
	} else if (is_clear_after(c, &c->reply)) {
		auth_next(c);
	} else {
		if (c->txn)
			tls_defer(c, STR_LIT("4.7.0"), verdict_now(c, RETRY_OTHER).text, true);
		txn_done(c);
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
		tls_defer(c, STR_LIT("4.7.5"), str_taint(str_printf(c->txn->arena, "%.*s: %s",
			STR_FMT(c->tls_phrase.len ? c->tls_phrase : STR_LIT("TLS session")), why)), !ours);
	client_over(c);
}

void smtp_client_tls_first(struct smtp_client *c)
{
	bug_on(c->recv != SMTP_BANNER || c->replies);
	c->send = c->recv = SMTP_TLS;
	c->phase = SMTP_SHAKE;
}

static void reply_ehlo(struct smtp_client *c)
{
	if (reply_is(c, 2)) {
		smtp_offers_read(c);
		if (c->ehlo_wanted && !c->tls) {
			buf_reset(&c->ehlo);
			buf_add_str(&c->ehlo, buf_str(&c->reply.text));
		}
		if (c->memory)
			smtp_early_learn(c);
		session_open(c);
	} else if (reply_is(c, 5) && !c->profile->lmtp) {
		c->send = c->recv = SMTP_HELO;
	} else {
		client_refused(c);
	}
}

static void reply_helo(struct smtp_client *c)
{
	if (reply_is(c, 2))
		session_open(c);
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
	if (reply_is(c, 3)) {
		client_malformed(c, "not a reply to this command");
		return;
	}
	if (!reply_is(c, 2)) {
		struct smtp_verdict v = verdict_now(c, RETRY_MAIL_4XX);

		smtp_verdict_give_all(t, &v);
		c->rset = true;
		if (all_answered(c)) {
			txn_done(c);
			return;
		}
	}
	c->recv = SMTP_RCPT;
	c->recv_rcpt = rcpt_next(t, 0);
}

static void reply_rcpt(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_rcpt *r = &t->rcpts[c->recv_rcpt];

	if (reply_is(c, 3)) {
		client_malformed(c, "not a reply to this command");
		return;
	}
	if (!reply_is(c, 2)) {
		struct smtp_verdict v = verdict_now(c, RETRY_RCPT_4XX);

		smtp_verdict_give(r, &v);
	} else if (!r->result) {
		r->accepted = true;
		t->n_accepted++;
	}
	c->recv_rcpt = rcpt_next(t, c->recv_rcpt + 1);
	c->recv = c->recv_rcpt < t->n_rcpts ? SMTP_RCPT : SMTP_DATA;
	if (c->recv != SMTP_DATA)
		return;
	if (t->probe) {
		c->rset = true;
		txn_done(c);
	} else if (c->body_ahead) {
		c->body_ahead = false;
		c->recv = SMTP_DOT;
		c->recv_rcpt = rcpt_next_accepted(t, 0);
		c->lone_dot = !t->n_accepted;
	}
}

static void reply_data(struct smtp_client *c)
{
	if (reply_is(c, 2)) {
		client_malformed(c, "not a reply to this command");
	} else if (!reply_is(c, 3)) {
		struct smtp_verdict v = verdict_now(c, RETRY_DATA_4XX);

		smtp_verdict_give_all(c->txn, &v);
		c->rset = true;
		txn_done(c);
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
static void reply_content(struct smtp_client *c)
{
	struct smtp_verdict v;

	if (c->chunks && reply_is(c, 2)) {
		c->chunks--;
		c->replies++;
		return;
	}

	if (!reply_is(c, 4) && !reply_is(c, 5)) {
		client_malformed(c, "too early");
		return;
	}
	v = verdict_now(c, RETRY_DATA_4XX);
	smtp_verdict_give_all(c->txn, &v);
	client_over(c);
}

static void delivered(struct smtp_client *c, struct smtp_rcpt *r)
{
	struct smtp_verdict v = {
		.result = DELIVERY_OK, .stage = steps[SMTP_DOT].phrase, .code = c->reply.code, .status = smtp_status_of(c->txn, &c->reply),
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
		if (reply_is(c, 2)) {
			r->text = smtp_reply_words(t, &c->reply);
		} else {
			v = verdict_now(c, RETRY_DATA_4XX);
			smtp_verdict_give(r, &v);
		}
		c->recv_rcpt = rcpt_next_accepted(t, c->recv_rcpt + 1);
		return;
	}
	if (!reply_is(c, 2))
		v = verdict_now(c, RETRY_DATA_4XX);
	for (uint32_t i = rcpt_next_accepted(t, 0); i < t->n_rcpts; i = rcpt_next_accepted(t, i + 1)) {
		if (!reply_is(c, 2)) {
			smtp_verdict_give(&t->rcpts[i], &v);
			continue;
		}
		t->confirmation = str_taint(str_printf(t->arena, "%.*s\n%.*s", STR_FMT(t->rcpts[i].text), STR_FMT(smtp_reply_words(t, &c->reply))));
		delivered(c, &t->rcpts[i]);
	}
	txn_done(c);
}

static void reply_dot(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_verdict v;

	if (c->chunks) { /* of a piece before the last one */
		c->chunks--;
		if (reply_is(c, 2))
			return;
		v = verdict_now(c, RETRY_DATA_4XX);
		smtp_verdict_give_all(t, &v);
		client_over(c);
		return;
	}
	if (c->prdr_answers && !reply_is(c, 3)) {
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
		txn_done(c);
		return;
	}
	if (reply_is(c, 3)) {
		client_malformed(c, "not a reply to this command");
		return;
	}
	if (reply_is(c, 2))
		t->confirmation = smtp_reply_words(t, &c->reply);
	else
		v = verdict_now(c, RETRY_DATA_4XX);
	for (;;) {
		struct smtp_rcpt *r = &t->rcpts[c->recv_rcpt];

		if (reply_is(c, 2))
			delivered(c, r);
		else
			smtp_verdict_give(r, &v);
		c->recv_rcpt = rcpt_next_accepted(t, c->recv_rcpt + 1);
		if (c->recv_rcpt >= t->n_rcpts)
			break;
		if (c->profile->lmtp) /* one reply for each */
			return;
	}
	txn_done(c);
}

static void reply_over(struct smtp_client *c)
{
	client_over(c);
}

static const struct step_row steps[SMTP_STEPS] = {
	[SMTP_BANNER] = { "BANNER", "initial connection", SMTP_T_COMMAND, 0, NULL, reply_banner },
	[SMTP_EHLO] = { "EHLO", "EHLO", SMTP_T_COMMAND, 0, send_hello, reply_ehlo },
	[SMTP_HELO] = { "HELO", "HELO", SMTP_T_COMMAND, 0, send_hello, reply_helo },
	[SMTP_STARTTLS] = { "STARTTLS", "STARTTLS", SMTP_T_COMMAND, 0, send_starttls, reply_starttls },
	[SMTP_TLS] = { "TLS", "TLS handshake", SMTP_T_COMMAND, 0, NULL, reply_over },
	[SMTP_AUTH] = { "AUTH", "AUTH", SMTP_T_COMMAND, 0, send_auth, reply_auth },
	[SMTP_WAIT] = { "WAIT", "nothing", SMTP_T_NONE, 0, NULL, reply_over },
	[SMTP_RSET] = { "RSET", "RSET", SMTP_T_COMMAND, STEP_AHEAD, send_rset, reply_rset },
	[SMTP_MAIL] = { "MAIL", "MAIL FROM", SMTP_T_COMMAND, STEP_AHEAD, send_mail, reply_mail },
	[SMTP_RCPT] = { "RCPT", "RCPT TO", SMTP_T_COMMAND, STEP_AHEAD, send_rcpt, reply_rcpt },
	[SMTP_DATA] = { "DATA", "DATA", SMTP_T_COMMAND, 0, send_data, reply_data },
	[SMTP_CONTENT] = { "CONTENT", "sending data block", SMTP_T_DATA, 0, NULL, reply_content },
	[SMTP_DOT] = { "DOT", "end of data", SMTP_T_FINAL, 0, NULL, reply_dot },
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
	if (c->recv == SMTP_STARTTLS && is_clear_after(c, &c->reply)) {
		c->again_clear = true;
		client_over(c);
		return;
	}
	v = verdict_now(c, RETRY_LOST_CONNECTION);
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

bool smtp_client_early(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;

	bug_on(c->phase != SMTP_BUSY || (c->recv != SMTP_BANNER && c->recv != SMTP_EHLO));
	if (!t || !smtp_early_recall(c))
		return false;
	c->early = SMTP_EARLY_GROUP;
	hello_write(c, true, &c->out);
	c->early_next = (uint8_t)smtp_early_next(c);
	command_end(c, (enum smtp_step)c->early_next);
	c->ahead = true;
	c->early_uses = 0;
	if (c->early_next == SMTP_MAIL) {
		c->lone_dot = c->prdr_asked = c->prdr_answers = c->rset = false;
		c->chunks = 0;
	}
	client_send(c);
	if (c->early_next == SMTP_MAIL) {
		c->early_uses = smtp_early_uses(c);
		c->chunk_wanted = c->send == SMTP_DATA && is_chunking(c) && !t->probe && !c->prdr_asked && t->size <= SMTP_EARLY_BODY_MAX;
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

	if (reply_is(c, 2)) {
		t->early = true;
		t->confirmation = smtp_reply_words(t, &c->reply);
		for (uint32_t i = rcpt_next_accepted(t, 0); i < t->n_rcpts; i = rcpt_next_accepted(t, i + 1))
			delivered(c, &t->rcpts[i]);
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
		c->recv_rcpt = rcpt_next(t, 0);
	} else if (c->recv == SMTP_RCPT) {
		t->rcpts[c->recv_rcpt].accepted = reply_is(c, 2);
		t->n_accepted += reply_is(c, 2);
		c->recv_rcpt = rcpt_next(t, c->recv_rcpt + 1);
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
		session_open(c);
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
static bool early_reply(struct smtp_client *c)
{
	bool hello = c->recv == SMTP_BANNER || c->recv == SMTP_EHLO;

	c->chunk_wanted = false;
	if (c->early == SMTP_EARLY_GROUP && hello && !reply_is(c, 2))
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

static void reply_take(struct smtp_client *c)
{
	c->replies++;
	if (c->early && early_reply(c)) {
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
	txn_start(c);
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
			tls_defer(c, STR_LIT("4.5.0"), STR_LIT("octets in clear behind the reply to STARTTLS"), true);
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
			reply_content(c);
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
	c->recv_rcpt = rcpt_next_accepted(c->txn, 0);
	c->commands += c->profile->lmtp ? c->txn->n_accepted : 1;
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

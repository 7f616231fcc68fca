/* SPDX-License-Identifier: ISC */
/* A connection's way into TLS, and its octets from there on. */
#include <errno.h>
#include <sys/ioctl.h>

#include "smtpd/smtpd.h"

void conn_tls_start(struct session *s)
{
	struct conn *c = s->shell;

	c->tls_step = CONN_TLS_WANTED; /* conn_leave() goes on, when it is known what of the input was taken */
}

void conn_tls_go_on(struct session *s)
{
	struct conn *c = s->shell;

	if (c->tls_step == CONN_TLS_ASKED)
		c->tls_step = CONN_TLS_CHOSEN;
}

void conn_tls_end(struct conn *c)
{
	if (!c->tls)
		return;
	if (c->tls_step == CONN_TLS_ON && !c->tls_socket.broken && !c->shut)
		tls_shutdown(c->tls);
	tls_conn_free(c->tls);
	c->tls = NULL;
	c->tls_step = CONN_CLEAR;
}

/* The handshake is over, without TLS. */
static void give_up(struct conn *c)
{
	tls_conn_free(c->tls);
	c->tls = NULL;
	c->tls_step = CONN_CLEAR;
}

/* ---- steps ---- */

/* Has the client said more, in clear, than STARTTLS? It can't know yet that it may. */
static bool input_injected(struct conn *c)
{
	int n = 0;

	return !c->session.tls_on_connect && (c->in_len || (!ioctl(c->fd, FIONREAD, &n) && n > 0));
}

static void step_wanted(struct conn *c)
{
	struct session *s = &c->session;
	struct err err = ERR_INIT;
	struct tls_ctx *ctx;

	c->tls_step = CONN_CLEAR;
	if (input_injected(c)) {
		session_on_tls_injected(s);
		return;
	}
	ctx = tls_cache_get(c->smtpd, session_tls(s), false, &err);
	if (ctx)
		c->tls = tls_conn_new(ctx, c->fd, NULL, &err);
	if (!c->tls) {
		session_on_tls_unavailable(s, err.text);
		return;
	}
	c->tls_step = CONN_TLS_FLUSH;
	session_on_tls_ready(s);
}

/* What has been said in clear must be gone before the handshake. */
static void step_flush(struct conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.p, c->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			buf_clear(&c->out);
			give_up(c);
			session_on_tls_failed(&c->session, "the connection was lost");
			return;
		}
		buf_drop(&c->out, (size_t)n);
	}
	buf_clear(&c->out);
	c->tls_step = CONN_TLS_SHAKE;
}

static void step_chosen(struct conn *c)
{
	struct err err = ERR_INIT;
	struct tls_ctx *ctx = tls_cache_get(c->smtpd, session_tls(&c->session), true, &err);

	if (!ctx) {
		give_up(c);
		session_on_tls_failed(&c->session, err.text);
		return;
	}
	tls_conn_ctx(c->tls, ctx);
	c->tls_step = CONN_TLS_SHAKE;
}

static void shake_done(struct conn *c)
{
	struct tls_facts facts;

	c->tls_step = CONN_TLS_ON;
	c->active_ms = c->smtpd->server.now_ms;
	tls_facts_get(c->tls, &c->smtpd->server.scratch, &facts);
	session_on_tls_done(&c->session, &facts);
}

static void step_shake(struct conn *c)
{
	struct err err = ERR_INIT;
	enum tls_io io = tls_handshake(c->tls, &err);

	c->tls_want = io == TLS_WANT_WRITE ? LOOP_WRITE : LOOP_READ;
	if (io == TLS_DONE) {
		shake_done(c);
	} else if (io == TLS_WANT_CTX) {
		c->tls_step = CONN_TLS_ASKED;
		session_on_tls_hello(&c->session, tls_sni(c->tls));
	} else if (io == TLS_FAILED || io == TLS_CLOSED) {
		give_up(c);
		session_on_tls_failed(&c->session, err.text);
	}
}

void conn_tls_step(struct conn *c)
{
	static void (*const steps[])(struct conn *c) = {
		[CONN_TLS_WANTED] = step_wanted, [CONN_TLS_FLUSH] = step_flush, [CONN_TLS_SHAKE] = step_shake, [CONN_TLS_CHOSEN] = step_chosen,
	};
	uint8_t before;

	/* A session that has given up in the middle (a deadline, a question lost) wants no handshake any more. */
	if (c->session.state != SESSION_TLS && (c->session.state != SESSION_ASK || c->session.stage != ASK_TLS))
		give_up(c);
	do {
		before = c->tls_step;
		if (before < sizeof steps / sizeof *steps && steps[before])
			steps[before](c);
	} while (c->tls_step != before && c->tls_step != CONN_CLEAR && c->tls_step != CONN_TLS_ON);
}

/* ---- octets ---- */

ssize_t conn_tls_send(struct conn *c, const char *p, size_t n)
{
	return tls_send(c->tls, p, n, &c->tls_socket);
}

ssize_t conn_tls_recv(struct conn *c, char *p, size_t n)
{
	return tls_recv(c->tls, p, n, 1, &c->tls_socket);
}

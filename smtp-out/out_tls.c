/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_tls.h"

#include <stdio.h>

#include "smtp-out/out_dane.h"
#include "smtp-out/out_session.h"
#include "smtp-out/smtp_result.h"

/* ---- what the options come to ---- */

void out_tls_decide(const struct out_options *o, const struct ipc_host *h, struct out_tls_host *out)
{
	const struct out_tls_options *t = &o->tls;
	bool must, avoid;

	*out = (struct out_tls_host){ .first = t->first };
	if (!h)
		return;
	must = t->first || out_host_matches(t->require, h->name, h->ip);
	avoid = out_host_matches(t->avoid, h->name, h->ip);
	out->want = must ? SMTP_TLS_MUST : avoid ? SMTP_TLS_NO : SMTP_TLS_TRY;
	out->want_callout = must ? SMTP_TLS_MUST : avoid || out_host_matches(t->verify_avoid, h->name, h->ip) ? SMTP_TLS_NO : SMTP_TLS_TRY;
	if (out_host_matches(t->verify, h->name, h->ip))
		out->verify = TLS_VERIFY_MUST;
	else if (t->anchors.len && out_host_matches(t->try_verify, h->name, h->ip))
		out->verify = TLS_VERIFY_TRY;
	out->check_name = out_host_matches(t->check_names, h->name, h->ip);
	out->require_ocsp = out_host_matches(t->require_ocsp, h->name, h->ip);
	out->ask_ocsp = out->require_ocsp || out_host_matches(t->request_ocsp, h->name, h->ip);
	out->require_alpn = out_host_matches(t->require_alpn, h->name, h->ip);
	out->clear_if_refused = t->tempfail_tryclear;
	out->clear_if_failed = t->tempfail_tryclear && out->verify != TLS_VERIFY_MUST;
	out->resume = out_host_matches(t->resume, h->name, h->ip);
	out->unauthenticated = out_host_matches(t->requiretls_unauthenticated, h->name, h->ip);
	out->one_message = out_host_matches(t->nopass, h->name, h->ip) || out_host_matches(t->noproxy, h->name, h->ip);
	out_dane_decide(t, h, out);
}

static void dane_prepare(struct out_conn *conn)
{
	const struct ipc_host *h = conn->to->host;
	const char *remark = out_dane_remark(h, &conn->demand, &conn->tls_arena);

	if (conn->demand.dane == OUT_DANE_VERIFY)
		conn->client.tls_phrase = str_printf(&conn->tls_arena, "DANE attempt failed; TLS connection to %.*s [%.*s]", STR_FMT(h->name), STR_FMT(h->ip));
	if (remark)
		smtp_out_log(conn->so, conn->delivery, "%s", remark);
}

/* ---- what the message adds (RFC 8689) ---- */

uint64_t out_tls_marks(const struct out_delivery *d)
{
	if (d->txn.requiretls)
		return d->txn.requiretls_must ? MSG_REQUIRETLS : 0;
	return d->msg.flags & MSG_TLS_OPTIONAL;
}

bool out_tls_fits(struct out_delivery *d, const struct out_host *to, struct smtp_verdict *v)
{
	struct out_tls_host t = to->tls;
	const char *why = NULL;

	if (out_tls_marks(d) & MSG_TLS_OPTIONAL)
		out_dane_waive(to->host, &t);
	if (out_dane_refuses(to->host, &t, &d->arena, v))
		return false;
	if (!to->host || !(out_tls_marks(d) & MSG_REQUIRETLS))
		return true;
	if ((d->callout ? to->tls.want_callout : to->tls.want) == SMTP_TLS_NO)
		why = "is in hosts_avoid_tls";
	else if (!to->host->secure_name && !to->tls.unauthenticated)
		why = "comes from an MX record that is not signed";
	if (why)
		*v = smtp_verdict_unfit(STR_LIT("5.7.10"), str_printf(&d->arena, "Encryption needed, but %.*s %s", STR_FMT(to->host->name), why));
	return !why;
}

/* Section 4.2.1: TLS, with a certificate that names the host, or nothing. */
static void demand_more(struct out_tls_host *t)
{
	t->want = t->want_callout = SMTP_TLS_MUST;
	t->clear_if_refused = t->clear_if_failed = false;
	if (t->unauthenticated || t->dane == OUT_DANE_VERIFY)
		return;
	t->verify = TLS_VERIFY_MUST;
	t->check_name = true;
}

/* Section 4.2.2: what the recipient's side has published and what can't be verified is no obstacle; what our administrator demands is. */
static void demand_less(struct out_tls_host *t, const struct ipc_host *h, const struct out_tls_options *o)
{
	bool required;

	out_dane_waive(h, t);
	required = t->first || t->dane == OUT_DANE_VERIFY || out_host_matches(o->require, h->name, h->ip);
	if (t->verify == TLS_VERIFY_MUST)
		t->verify = TLS_VERIFY_TRY;
	t->require_ocsp = false;
	t->clear_if_refused = t->clear_if_failed = true;
	if (!required && t->want == SMTP_TLS_MUST)
		t->want = t->want_callout = SMTP_TLS_TRY;
}

void out_tls_prepare(struct out_conn *conn)
{
	struct out_tls_host *t = &conn->demand;
	struct smtp_client *c = &conn->client;

	*t = conn->to->tls;
	conn->marks = out_tls_marks(conn->delivery);
	if (conn->to->host && conn->marks & MSG_REQUIRETLS)
		demand_more(t);
	else if (conn->to->host && conn->marks)
		demand_less(t, conn->to->host, &conn->to->options->tls);
	c->tls_want = conn->delivery->callout ? t->want_callout : t->want;
	if (conn->delivery->in_clear)
		c->tls_want = SMTP_TLS_NO;
	c->ehlo_wanted = t->resume;
	c->clear_if_refused = t->clear_if_refused;
	c->clear_if_failed = t->clear_if_failed;
	dane_prepare(conn);
	if (t->first)
		smtp_client_tls_first(c);
}

/* ---- the handshake ---- */

void out_tls_peer_fill(struct out_conn *conn, struct tls_peer *peer)
{
	const struct out_tls_options *o = &conn->to->options->tls;
	const struct out_tls_host *t = &conn->demand;

	*peer = (struct tls_peer){
		.sni = o->sni, .name = t->check_name ? conn->to->host->name : STR_NULL, .ask_ocsp = t->ask_ocsp, .require_ocsp = t->require_ocsp,
		.require_alpn = t->require_alpn, .dh_min_bits = o->dh_min_bits,
	};
	if (t->dane == OUT_DANE_VERIFY)
		out_dane_peer_fill(conn->to->host, &conn->tls_arena, peer);
}

static struct tls_ctx *context_get(struct out_conn *conn, struct err *err)
{
	struct smtp_out *so = conn->so;
	const struct out_tls_options *o = &conn->to->options->tls;
	struct tls_options want = { .ciphers = o->ciphers, .alpn = o->alpn, .openssl_options = so->openssl_options, .verify = conn->demand.verify,
		.tickets = out_session_wanted(conn) };
	struct tls_files files = { .n_certs = o->certificate.len ? 1 : 0 };

	if (conn->demand.dane == OUT_DANE_VERIFY && o->dane_ciphers.len)
		want.ciphers = o->dane_ciphers;
	files.certs[0] = (struct tls_trio){ .cert = o->certificate, .key = o->privatekey };
	/* DANE has anchors of its own; of a status that is only asked for nothing depends on ours. */
	if (want.verify || conn->demand.require_ocsp || (conn->demand.ask_ocsp && conn->demand.dane != OUT_DANE_VERIFY))
		files.anchors = o->anchors;
	if (want.verify)
		files.crl = o->crl;
	if (tls_keyd_wanted(&so->keyd) && so->need)
		so->need(so->need_arg, "keyd", 0);
	return tls_shelf_get(&so->shelf, &want, &files, loop_now(so->loop), err);
}

static enum status begin(struct out_conn *conn, struct err *err)
{
	struct tls_ctx *ctx = context_get(conn, err);
	struct tls_peer peer;

	if (!ctx)
		return err->status;
	out_tls_peer_fill(conn, &peer);
	peer.session = out_session_offered(conn);
	conn->tls = tls_conn_new(ctx, conn->fd, &peer, err);
	if (conn->tls)
		out_session_begun(conn);
	return conn->tls ? ST_OK : err->status;
}

/* One line a connection: what is wrong with the certificate, whether it is taken all the same or not. */
static void fault_log(struct out_conn *conn)
{
	struct tls_fault f;
	struct str text;

	if (!tls_fault_get(conn->tls, &conn->tls_arena, &f))
		return;
	if (f.name)
		text = str_printf(&conn->tls_arena, "certificate name mismatch: DN=\"%.*s\" H=\"%.*s\"", STR_FMT(f.dn), STR_FMT(conn->to->host->name));
	else
		text = str_printf(&conn->tls_arena, "depth=%d error=%s cert=%.*s", f.depth, f.reason, STR_FMT(f.dn));
	smtp_out_log(conn->so, conn->delivery, "[%.*s] SSL verify error%s: %.*s", STR_FMT(conn->to->host->ip), out_callout_during(conn->delivery), STR_FMT(text));
}

enum tls_io out_tls_shake(struct out_conn *conn, struct err *err)
{
	enum tls_io io;

	if (!conn->tls && out_session_look(conn)) {
		conn->tls_watch = 0;
		return TLS_WANT_READ;
	}
	if (!conn->tls && begin(conn, err))
		return TLS_FAILED;
	io = tls_handshake(conn->tls, err);
	conn->tls_watch = io == TLS_WANT_WRITE ? LOOP_WRITE : LOOP_READ;
	if (io == TLS_WANT_READ || io == TLS_WANT_WRITE)
		return io;
	fault_log(conn);
	out_session_shaken(conn, io == TLS_DONE);
	if (io != TLS_DONE)
		return TLS_FAILED;
	tls_facts_get(conn->tls, &conn->tls_arena, &conn->facts);
	return TLS_DONE;
}

/* ---- octets ---- */

/* Whole records only: of what stays within the library the descriptor would not tell. */
ssize_t out_tls_recv(struct out_conn *conn, char *p, size_t n)
{
	enum { RECORD_MAX = 16384 };

	bug_on(n < RECORD_MAX);
	return tls_recv(conn->tls, p, n, RECORD_MAX, &conn->tls_socket);
}

ssize_t out_tls_send(struct out_conn *conn, const char *p, size_t n)
{
	return tls_send(conn->tls, p, n, &conn->tls_socket);
}

void out_tls_end(struct out_conn *conn)
{
	if (conn->tls && conn->client.tls && !conn->tls_socket.broken)
		tls_shutdown(conn->tls);
	out_session_end(conn);
	tls_conn_free(conn->tls);
	conn->tls = NULL;
	conn->facts = (struct tls_facts){ .bits = 0 };
	arena_clear(&conn->tls_arena);
}

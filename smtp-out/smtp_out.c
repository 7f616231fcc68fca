/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_out.h"

#include <stdarg.h>
#include <string.h>

#include "smtp-out/out_hint.h"

void smtp_out_conn_close(struct smtp_out *so, struct ipc_in *in)
{
	const struct ipc_conn_close *m = in->msg;
	struct out_conn *conn = out_conn_find(so, m->connection);

	if (!conn || conn->channel != in->channel)
		return;
	if (conn->state == OUT_WAITING)
		out_conn_quit(conn);
	else if (conn->state == OUT_GONE)
		out_conn_close(conn);
}

struct smtp_out *smtp_out_new(struct loop *loop, struct str helo, struct str openssl_options)
{
	struct smtp_out *so = mem_new(sizeof *so);

	so->loop = loop;
	so->helo = helo;
	so->helo.p = mem_memdup(helo.p, helo.len);
	so->openssl_options = openssl_options;
	so->openssl_options.p = mem_memdup(openssl_options.p ? openssl_options.p : "", openssl_options.len);
	so->scratch = mem_new(OUT_SCRATCH);
	list_init(&so->conns);
	list_init(&so->deliveries);
	list_init(&so->spare);
	list_init(&so->hint_asks);
	so->ehlo_expire_s = 7 * 24 * 3600;
	so->keyd = (struct tls_keyd)TLS_KEYD_INIT;
	tls_shelf_init(&so->shelf, &so->keyd);
	return so;
}

void smtp_out_free(struct smtp_out *so)
{
	list_each_safe(&so->deliveries, n)
		out_delivery_abandon(list_entry(n, struct out_delivery, node));
	list_each_safe(&so->conns, n)
		out_conn_close(list_entry(n, struct out_conn, node));
	list_each_safe(&so->spare, n) {
		struct out_delivery *d = list_entry(n, struct out_delivery, node);

		list_remove(n);
		arena_clear(&d->arena);
		mem_free(d);
	}
	out_hint_clear(so);
	tls_shelf_clear(&so->shelf);
	tls_keyd_close(&so->keyd);
	hash_clear(&so->plans);
	hash_clear(&so->by_number);
	mem_free((void *)(uintptr_t)so->helo.p);
	mem_free((void *)(uintptr_t)so->openssl_options.p);
	mem_free(so->scratch);
	mem_free(so);
}

void smtp_out_channel_closed(struct smtp_out *so, struct channel *ch)
{
	list_each_safe(&so->deliveries, n) {
		struct out_delivery *d = list_entry(n, struct out_delivery, node);

		if (d->channel == ch)
			out_delivery_abandon(d);
	}
	list_each_safe(&so->conns, n) {
		struct out_conn *conn = list_entry(n, struct out_conn, node);

		if (conn->channel != ch)
			continue;
		conn->channel = NULL;
		if (conn->state == OUT_WAITING)
			out_conn_quit(conn);
		else if (conn->state != OUT_LEAVING)
			out_conn_close(conn);
	}
}

void smtp_out_log(struct smtp_out *so, const struct out_delivery *d, const char *fmt, ...)
{
	struct buf b = BUF_INIT;
	va_list ap;

	if (!so->log)
		return;
	if (d && d->msg.id.len)
		buf_printf(&b, "%.*s ", STR_FMT(d->msg.id));
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	so->log(so->log_arg, buf_cstr(&b));
	buf_clear(&b);
}

void smtp_out_check_drained(struct smtp_out *so)
{
	void (*fn)(void *arg) = so->drained;

	if (!so->draining || so->n_deliveries || so->n_conns || !fn)
		return;
	so->drained = NULL;
	fn(so->drained_arg);
}

void smtp_out_drain(struct smtp_out *so, void (*drained)(void *arg), void *arg)
{
	so->draining = true;
	so->drained = drained;
	so->drained_arg = arg;
	list_each_safe(&so->conns, n) {
		struct out_conn *conn = list_entry(n, struct out_conn, node);
		struct ipc_conn_closed msg = { .connection = conn->number };

		if (conn->state != OUT_WAITING)
			continue;
		channel_send(conn->channel, &ipc_type_conn_closed, &msg, NULL, 0);
		out_conn_quit(conn);
	}
	smtp_out_check_drained(so);
}

bool smtp_out_counter(const struct smtp_out *so, unsigned i, struct smtp_out_counter *out)
{
	const struct smtp_out_counter rows[] = {
		{ "deliveries_active", so->n_deliveries }, { "connections_open", so->n_conns }, { "connections_waiting", so->n_waiting },
		{ "deliveries", so->count.deliveries }, { "recipients_delivered", so->count.delivered },
		{ "recipients_failed", so->count.failed }, { "recipients_deferred", so->count.deferred },
		{ "connections", so->count.connections }, { "connections_reused", so->count.reused },
		{ "host_errors", so->count.host_errors }, { "proxy_errors", so->count.proxy_errors }, { "callouts", so->count.callouts }, { "bytes_sent", so->count.bytes },
	};

	if (i >= sizeof rows / sizeof *rows)
		return false;
	*out = rows[i];
	return true;
}

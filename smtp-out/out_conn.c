/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "smtp-out/out_connect.h"
#include "smtp-out/out_early.h"
#include "smtp-out/out_socks.h"
#include "smtp-out/smtp_out.h"
#include "smtp-out/smtp_result.h"

static void conn_event(void *arg, unsigned ready);
static void conn_late(void *arg);
static void conn_work(struct out_conn *conn);
static void conn_failed(struct out_conn *conn, const struct smtp_verdict *v);

const struct ipc_host *out_conn_host(const struct out_conn *conn)
{
	return conn->to->host;
}

/* ---- end ---- */

static struct str number_key(const struct out_conn *conn)
{
	return str_make((const char *)&conn->number, sizeof conn->number);
}

struct out_conn *out_conn_find(struct smtp_out *so, uint64_t number)
{
	return number ? hash_get(&so->by_number, str_make((const char *)&number, sizeof number)) : NULL;
}

static void conn_free(void *arg)
{
	mem_free(arg);
}

/* Closes the socket; what is left is a record of the plan. */
static void conn_shut(struct out_conn *conn)
{
	if (conn->state == OUT_GONE)
		return;
	loop_timer_stop(&conn->timer);
	out_tls_end(conn);
	out_socks_free(conn->socks);
	conn->socks = NULL;
	if (conn->fd >= 0) {
		loop_fd_clear(&conn->watch);
		close(conn->fd);
	}
	conn->fd = -1;
	conn->so->n_conns--;
	if (conn->state == OUT_WAITING)
		conn->so->n_waiting--;
	conn->state = OUT_GONE;
	smtp_client_clear(&conn->client);
	out_early_clear(conn);
}

void out_conn_close(struct out_conn *conn)
{
	struct smtp_out *so = conn->so;

	conn_shut(conn);
	loop_timer_stop(&conn->timer);
	if (conn->number && hash_get(&so->by_number, number_key(conn)) == conn)
		hash_remove(&so->by_number, number_key(conn));
	conn->number = 0;
	list_remove(&conn->node);
	out_plan_drop(conn->plan);
	conn->plan = NULL;
	loop_defer(so->loop, conn_free, conn);
	smtp_out_check_drained(so);
}

static void conn_forget(void *arg)
{
	out_conn_close(arg);
}

/* A waiting connection has ended: qmgr is told, but may have named it already. */
static void conn_gone(struct out_conn *conn)
{
	struct ipc_conn_closed msg = { .connection = conn->number };

	conn_shut(conn);
	if (conn->channel)
		channel_send(conn->channel, &ipc_type_conn_closed, &msg, NULL, 0);
	loop_timer_start(&conn->timer, conn->so->loop, OUT_GONE_MS, conn_forget, conn);
	smtp_out_check_drained(conn->so);
}

/* ---- connecting ---- */

static void conn_sent(struct out_conn *conn, size_t n)
{
	conn->so->count.bytes += n;
	if (conn->delivery)
		conn->delivery->bytes += n;
	smtp_client_sent(&conn->client, n);
}

/* The whole content goes with the first group, if it is no more than was thought, and can do no harm there. */
static void conn_chunk_early(struct out_conn *conn)
{
	struct out_delivery *d = conn->delivery;
	struct smtp_client *c = &conn->client;
	struct err err = ERR_INIT;
	struct buf piece = BUF_INIT;

	if (!c->chunk_wanted)
		return;
	d->content.dots.plain = true;
	if (out_content_fill(&d->content, &piece, OUT_FILL, conn->so->scratch, &err) == ST_OK && d->content.ended && out_early_harmless(buf_str(&piece))) {
		smtp_client_chunk_early(c, piece.len);
		buf_add(&c->out, piece.p, piece.len);
	} else { /* in the ordinary way, with its errors */
		out_content_rewind(&d->content);
		c->chunk_wanted = false;
	}
	buf_clear(&piece);
}

/* The time-outs are the plan's; connect_timeout 0: the system's. */
static void conn_timer_set(struct out_conn *conn, uint64_t ms)
{
	if (ms)
		loop_timer_start(&conn->timer, conn->so->loop, ms, conn_late, conn);
	else
		loop_timer_stop(&conn->timer);
}

static void conn_watch(struct out_conn *conn, int fd)
{
	conn->fd = fd;
	loop_fd_init(&conn->watch, conn->so->loop, fd, conn_event, conn);
	loop_fd_set(&conn->watch, LOOP_WRITE);
}

static void conn_through(void *arg, int fd);

/* Begins to connect. False: *v says why not. */
static bool conn_dial(struct out_conn *conn, struct smtp_verdict *v)
{
	const struct out_options *o = conn->to->options;
	const struct ipc_host *h = conn->to->host;
	struct arena *a = &conn->delivery->arena;
	struct out_fast fast = { 0 };
	uint16_t port = h && h->port ? (uint16_t)h->port : o->port;
	bool is_fast = h && out_host_matches(o->try_fastopen, h->name, h->ip);
	int fd;

	conn->state = OUT_CONNECTING;
	conn_timer_set(conn, o->connect_ms);
	if (h && o->proxies.n) {
		conn->socks = out_socks_start(conn->so->loop, o, h->ip, port, conn_through, conn);
		return true;
	}
	/* What came with the first segment may come to the server twice (RFC 7413, section 2.1): never a whole message. */
	if (out_early_begin(conn) && !is_fast)
		conn_chunk_early(conn);
	fast.p = conn->client.out.p;
	fast.n = conn->client.out.len;
	fd = h ? out_connect_to(o, h->ip, port, is_fast ? &fast : NULL, a, v) : out_connect_socket(o, a, v);
	if (fd < 0)
		return false;
	conn->fastopen = is_fast ? OUT_FASTOPEN_TRIED : OUT_FASTOPEN_NOT;
	conn_sent(conn, fast.sent);
	conn_watch(conn, fd);
	return true;
}

static void conn_known(struct out_conn *conn)
{
	struct smtp_verdict v;

	if (!conn_dial(conn, &v))
		conn_failed(conn, &v);
}

struct out_conn *out_conn_open(struct out_delivery *d, uint32_t host, struct smtp_verdict *v)
{
	struct smtp_out *so = d->so;
	struct out_plan *p = d->plan;
	const struct out_host *to = out_plan_host(p, host);
	struct out_conn *conn;

	if (!out_tls_fits(d, to, v))
		return NULL;
	conn = mem_new(sizeof *conn);
	conn->so = so;
	conn->plan = out_plan_hold(p);
	conn->channel = d->channel;
	conn->host = to->host ? host : UINT32_MAX;
	conn->to = to;
	conn->fd = -1;
	conn->state = OUT_ASKING;
	list_push(&so->conns, &conn->node);
	so->n_conns++;
	so->count.connections++;
	conn->delivery = d;
	d->conn = conn;
	smtp_client_init(&conn->client, &to->profile, &d->txn);
	out_tls_prepare(conn);
	if (out_early_ask(conn, conn_known) || conn_dial(conn, v))
		return conn;
	d->conn = NULL;
	conn->delivery = NULL;
	out_conn_close(conn);
	return NULL;
}

/* The delivery goes on elsewhere; the connection has told all it knows. */
static void conn_detach(struct out_conn *conn)
{
	struct out_delivery *d = conn->delivery;

	conn->delivery = NULL;
	d->conn = NULL;
	out_delivery_answered(d, conn);
}

static void conn_failed(struct out_conn *conn, const struct smtp_verdict *v)
{
	if (conn->delivery) {
		smtp_verdict_give_all(&conn->delivery->txn, v);
		conn->client.txn = NULL;
		conn->client.phase = SMTP_OVER;
		conn_detach(conn);
	}
	out_conn_close(conn);
}

/* A group went out in vain: one more connection to the same host, without one. False: nobody waits for that any more. */
static bool conn_reopen(struct out_conn *conn)
{
	struct out_delivery *d = conn->delivery;
	struct smtp_verdict v;

	if (!smtp_txn_again(&d->txn))
		return false;
	if (d->content.fd >= 0)
		out_content_rewind(&d->content);
	d->not_early = conn->host + 1;
	d->conn = NULL;
	conn->delivery = NULL;
	if (out_conn_open(d, conn->host, &v))
		return true;
	smtp_verdict_give_all(&d->txn, &v);
	conn->delivery = d;
	d->conn = conn;
	return false;
}

static void conn_opened(struct out_conn *conn)
{
	out_connect_local(conn->fd, conn->local_ip, &conn->local_port);
	conn->client.local_ip = conn->local_ip;
	if (conn->fastopen)
		conn->fastopen = (uint8_t)out_connect_fastopen(conn->fd);
	conn->state = OUT_TALKING;
	conn_work(conn);
}

static void conn_connected(struct out_conn *conn)
{
	struct smtp_verdict v;

	if (!out_connect_end(conn->fd, &conn->delivery->arena, &v))
		conn_failed(conn, &v);
	else
		conn_opened(conn);
}

/* A proxy has connected us, or none could. */
static void conn_through(void *arg, int fd)
{
	struct out_conn *conn = arg;
	struct smtp_verdict v;

	conn->proxy = out_socks_proxy(conn->socks);
	conn->so->count.proxy_errors += out_socks_failures(conn->socks);
	if (fd < 0) {
		v = out_socks_verdict(conn->socks, &conn->delivery->arena);
		conn_failed(conn, &v);
		return;
	}
	out_socks_free(conn->socks);
	conn->socks = NULL;
	conn_watch(conn, fd);
	out_early_begin(conn);
	conn_opened(conn);
}

/* ---- talking ---- */

static void conn_lost(struct out_conn *conn, enum smtp_loss loss, const char *text)
{
	smtp_client_lost(&conn->client, loss, text);
}

static void auth_refusal_log(struct out_conn *conn)
{
	struct smtp_client *c = &conn->client;

	if (!c->auth_refusal.len)
		return;
	smtp_out_log(conn->so, conn->delivery, "%.*s authenticator failed%s H=%.*s [%.*s]: %.*s", STR_FMT(c->profile->auth[c->auth_refused].name),
		conn->delivery ? out_callout_during(conn->delivery) : "", STR_FMT(conn->to->host->name), STR_FMT(conn->to->host->ip), STR_FMT(buf_str(&c->auth_refusal)));
	buf_clear(&c->auth_refusal);
}

/* False when there is nothing more to read now. */
static bool conn_read(struct out_conn *conn)
{
	ssize_t n;

	if (conn->client.phase == SMTP_SHAKE)
		return false; /* what comes is the handshake's */
	n = conn->client.tls ? out_tls_recv(conn, conn->so->scratch, OUT_SCRATCH) : recv(conn->fd, conn->so->scratch, OUT_SCRATCH, 0);

	if (n > 0) {
		smtp_client_input(&conn->client, conn->so->scratch, (size_t)n);
		auth_refusal_log(conn);
	} else if (n == 0) {
		conn_lost(conn, SMTP_LOST_CLOSED, NULL);
	} else if (errno != EAGAIN && errno != EINTR) {
		conn_lost(conn, SMTP_LOST_ERROR, strerror(errno));
	}
	return n > 0;
}

enum flush { FLUSH_ALL, FLUSH_BLOCKED, FLUSH_DEAD };

static enum flush conn_flush(struct out_conn *conn)
{
	struct smtp_client *c = &conn->client;

	while (c->out.len) {
		ssize_t n = c->tls ? out_tls_send(conn, c->out.p, c->out.len) : send(conn->fd, c->out.p, c->out.len, MSG_NOSIGNAL);
		int error = errno;

		if (n > 0) {
			conn_sent(conn, (size_t)n);
			conn->timer_kind = SMTP_T_NONE; /* progress */
		} else if (n < 0 && error == EAGAIN) {
			return FLUSH_BLOCKED;
		} else if (n < 0 && error != EINTR) {
			/* The host may have said why before it closed. */
			while (c->phase != SMTP_OVER && conn_read(conn))
				;
			conn_lost(conn, SMTP_LOST_ERROR, strerror(error));
			return FLUSH_DEAD;
		}
	}
	return FLUSH_ALL;
}

/* A piece of the content behind its BDAT: how long it is is known only when line ends have been looked after. */
static void chunk_fill(struct out_conn *conn)
{
	struct out_delivery *d = conn->delivery;
	struct err err = ERR_INIT;
	struct buf piece = BUF_INIT;
	enum status st;

	d->content.dots.plain = true;
	st = out_content_fill(&d->content, &piece, OUT_FILL, conn->so->scratch, &err);
	if (st == ST_OK) {
		smtp_client_chunk(&conn->client, piece.len, d->content.ended);
		buf_add(&conn->client.out, piece.p, piece.len);
	}
	buf_clear(&piece);
	if (st == ST_OK)
		return;
	d->failed_here = true;
	conn_lost(conn, SMTP_LOST_CONTENT, err.text);
}

static void conn_fill(struct out_conn *conn)
{
	struct out_delivery *d = conn->delivery;
	struct err err = ERR_INIT;
	uint64_t room = d->content.size + d->content.size / 64 + 64;

	if (d->txn.chunked) {
		chunk_fill(conn);
		return;
	}
	buf_room(&conn->client.out, room < OUT_FILL ? room : OUT_FILL + OUT_FILL / 8);
	if (out_content_fill(&d->content, &conn->client.out, OUT_FILL, conn->so->scratch, &err) == ST_OK)
		return;
	d->failed_here = true;
	conn_lost(conn, SMTP_LOST_CONTENT, err.text);
}

static uint64_t timer_ms(const struct out_conn *conn, enum smtp_timer kind)
{
	const struct out_options *o = conn->to->options;

	switch (kind) {
	case SMTP_T_COMMAND: return o->command_ms;
	case SMTP_T_DATA: return o->data_ms;
	case SMTP_T_FINAL: return o->final_ms;
	case SMTP_T_QUIT: return OUT_QUIT_MS;
	case SMTP_T_NONE: break;
	}
	return o->idle_ms;
}

/* A time-out holds for one reply, or one piece of content, however slowly its octets come. */
static void conn_timer_update(struct out_conn *conn)
{
	struct smtp_client *c = &conn->client;
	enum smtp_timer kind = smtp_client_timer(c);
	uint32_t mark = c->replies + c->commands;

	if (kind != SMTP_T_NONE && kind == conn->timer_kind && mark == conn->timer_mark)
		return;
	conn->timer_kind = (uint8_t)kind;
	conn->timer_mark = mark;
	conn_timer_set(conn, timer_ms(conn, kind));
}

static void shake_failed(struct out_conn *conn, const struct err *err)
{
	smtp_client_tls_failed(&conn->client, err->text, err->status == ST_DEFER);
	if (conn->client.again_clear)
		smtp_out_log(conn->so, conn->delivery, "TLS session failure: delivering unencrypted to %.*s [%.*s] (not in hosts_require_tls): %s",
			STR_FMT(conn->to->host->name), STR_FMT(conn->to->host->ip), err->text);
}

static void conn_shake(struct out_conn *conn)
{
	struct err err = ERR_INIT;
	enum tls_io io = out_tls_shake(conn, &err);

	if (io == TLS_DONE)
		smtp_client_tls_done(&conn->client);
	else if (io == TLS_FAILED)
		shake_failed(conn, &err);
}

/* What the loop is to tell of. Content that is not yet out of the door, too: the next turn goes on with it. */
static unsigned conn_wants(const struct out_conn *conn)
{
	const struct smtp_client *c = &conn->client;

	if (c->phase == SMTP_SHAKE)
		return conn->tls_watch;
	return LOOP_READ | (c->out.len || c->phase == SMTP_BODY || conn->tls_socket.write_for_read ? LOOP_WRITE : 0);
}

/* Brings the connection as far as it goes now. May close it. */
static void conn_work(struct out_conn *conn)
{
	struct smtp_client *c = &conn->client;
	enum flush flush = FLUSH_ALL;

	if (c->phase == SMTP_SHAKE && !c->out.len)
		conn_shake(conn);
	conn_chunk_early(conn);
	for (unsigned round = 0; round < OUT_ROUNDS; round++) {
		if (c->phase == SMTP_BODY && !conn->delivery->content.ended && c->out.len < OUT_FILL / 2)
			conn_fill(conn);
		flush = conn_flush(conn);
		if (c->phase != SMTP_BODY || flush != FLUSH_ALL)
			break;
		if (conn->delivery->content.ended) {
			smtp_client_body_sent(c);
			break;
		}
	}
	out_early_keep(conn);
	if (c->early_failed && conn->delivery && conn_reopen(conn)) {
		out_conn_close(conn);
		return;
	}
	while (!c->txn && conn->delivery)
		conn_detach(conn); /* and let the delivery say whether to wait or leave; a callout's next question may be answered already */
	if (conn->fd < 0)
		return;
	if (c->phase == SMTP_READY && conn->state == OUT_TALKING) /* nobody asked it to wait */
		out_conn_quit(conn);
	if (c->phase == SMTP_OVER) {
		if (conn->state == OUT_WAITING)
			conn_gone(conn);
		else
			out_conn_close(conn);
		return;
	}
	loop_fd_set(&conn->watch, conn_wants(conn));
	if (conn->state != OUT_WAITING)
		conn_timer_update(conn);
}

void out_conn_wake(struct out_conn *conn)
{
	if (conn->fd >= 0)
		conn_work(conn);
}

static void conn_event(void *arg, unsigned ready)
{
	struct out_conn *conn = arg;

	if (conn->fd < 0)
		return;
	if (conn->state == OUT_CONNECTING) {
		conn_connected(conn);
		return;
	}
	if (ready & LOOP_READ || conn->tls_socket.write_for_read)
		conn_read(conn);
	conn_work(conn);
}

static void conn_late(void *arg)
{
	struct out_conn *conn = arg;

	if (conn->state == OUT_CONNECTING) {
		struct arena *a = &conn->delivery->arena;
		struct smtp_verdict v = conn->socks ? out_socks_late(conn->socks, a) : out_connect_verdict(a, ETIMEDOUT);

		conn->proxy = conn->socks ? out_socks_proxy(conn->socks) : NULL;
		conn_failed(conn, &v);
	} else if (conn->state == OUT_WAITING) {
		struct ipc_conn_closed msg = { .connection = conn->number };

		channel_send(conn->channel, &ipc_type_conn_closed, &msg, NULL, 0);
		out_conn_quit(conn);
		conn_work(conn);
	} else if (conn->client.phase == SMTP_SHAKE) {
		struct err err = ERR_INIT;

		err_set(&err, ST_ERROR, "timeout in the handshake");
		shake_failed(conn, &err);
		conn_work(conn);
	} else {
		conn_lost(conn, SMTP_LOST_TIMEOUT, NULL);
		conn_work(conn);
	}
}

/* ---- between messages ---- */

void out_conn_wait(struct out_conn *conn)
{
	struct smtp_out *so = conn->so;

	if (!conn->number) {
		conn->number = ++so->last_number;
		hash_put(&so->by_number, number_key(conn), conn);
	}
	conn->state = OUT_WAITING;
	so->n_waiting++;
	smtp_client_trim(&conn->client);
	conn->timer_kind = SMTP_T_NONE;
	loop_timer_start(&conn->timer, so->loop, conn->to->options->idle_ms, conn_late, conn);
}

void out_conn_begin(struct out_conn *conn, struct out_delivery *d)
{
	bug_on(conn->state != OUT_WAITING);
	conn->so->n_waiting--;
	conn->so->count.reused++;
	conn->state = OUT_TALKING;
	conn->delivery = d;
	d->conn = conn;
	smtp_client_begin(&conn->client, &d->txn);
	conn_work(conn);
}

bool out_conn_again(struct out_conn *conn, struct out_delivery *d)
{
	if (conn->fd < 0 || conn->state != OUT_TALKING || conn->client.phase != SMTP_READY)
		return false;
	conn->delivery = d;
	d->conn = conn;
	smtp_client_begin(&conn->client, &d->txn);
	return true; /* conn_work(), which called, goes on with it */
}

void out_conn_quit(struct out_conn *conn)
{
	if (conn->fd < 0) {
		out_conn_close(conn);
		return;
	}
	if (conn->state == OUT_WAITING)
		conn->so->n_waiting--;
	conn->state = OUT_LEAVING;
	smtp_client_quit(&conn->client);
	conn_flush(conn);
	conn_timer_update(conn);
}

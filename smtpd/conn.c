/* SPDX-License-Identifier: ISC */
/* A client's connection: its socket, its timer, its file, and the session that lives on them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/load.h"
#include "common/base/clock.h"
#include "common/conf/conf.h"
#include "smtpd/smtpd.h"

enum { EARLY_HOLD_MS = 1000 }; /* no longer do replies wait for others: the question may need a callout */
enum { PENDING_ROUNDS = 8 }; /* one read takes all that TLS holds, and one more is needed where the replies had no room */

static struct conn *conn_of(struct session *s)
{
	return s->shell;
}

/* ---- what the session wants ---- */

static void op_output(struct session *s, const char *p, size_t n)
{
	buf_add(&conn_of(s)->out, p, n);
}

static enum status op_write(struct session *s, const struct iovec *pieces, unsigned n, uint64_t offset, struct err *err)
{
	struct conn *c = conn_of(s);
	struct iovec iov[72];
	unsigned at = 0;

	if (c->file < 0 || n > sizeof iov / sizeof *iov)
		return err_set(err, ST_ERROR, "no file to write to");
	if (c->file_full)
		return err_set(err, ST_DEFER, "no file for a large message");
	memcpy(iov, pieces, n * sizeof *iov);
	offset += c->file_offset;
	while (at < n) {
		ssize_t done = pwritev(c->file, iov + at, (int)(n - at), (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return err_set(err, errno == ENOSPC || errno == EDQUOT ? ST_DEFER : ST_ERROR, "cannot write the message: %s",
				done ? strerror(errno) : "nothing written");
		offset += (uint64_t)done;
		while (at < n && (size_t)done >= iov[at].iov_len)
			done -= (ssize_t)iov[at++].iov_len;
		if (at < n) {
			iov[at].iov_base = (char *)iov[at].iov_base + done;
			iov[at].iov_len -= (size_t)done;
		}
	}
	if (c->file_limit && offset - c->file_offset > c->file_limit && !c->grow)
		conn_grow(c);
	return ST_OK;
}

static enum status op_read(struct session *s, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct conn *c = conn_of(s);
	size_t got = 0;

	while (got < n) {
		ssize_t done = pread(c->file, (char *)p + got, n - got, (off_t)(c->file_offset + offset + got));

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return err_set(err, ST_DEFER, "cannot read the message: %s", done ? strerror(errno) : "it is too short");
		got += (size_t)done;
	}
	return ST_OK;
}

static bool op_input_waiting(struct session *s)
{
	struct conn *c = conn_of(s);
	int n = 0;

	return c->in_len || (c->tls && tls_pending(c->tls)) || (!ioctl(c->fd, FIONREAD, &n) && n > 0);
}

static void op_remember(struct session *s, uint64_t ms)
{
	struct conn *c = conn_of(s);

	if (!c->host)
		return;
	client_settings_unref(c->host->client);
	c->host->client = client_settings_ref(s->client);
	c->host->client_until_ms = s->server->now_ms + ms;
}

/* Counts the connection for its client. */
static void conn_host(struct conn *c)
{
	struct session *s = &c->session;

	if (c->host)
		host_put(c->smtpd, c->host);
	c->host = host_get(c->smtpd, s->client_ip);
	s->host_connections = ++c->host->connections;
	if (c->host->client && c->smtpd->server.now_ms < c->host->client_until_ms)
		s->client = client_settings_ref(c->host->client);
}

static void op_client_changed(struct session *s)
{
	conn_host(conn_of(s));
}

static void op_log(struct session *s, unsigned targets, struct str line)
{
	log_text(&conn_of(s)->smtpd->daemon->log, targets, line);
}

const struct session_ops conn_ops = {
	.output = op_output, .ask = conn_ask, .ask_cancel = conn_ask_cancel, .begin = conn_begin, .recipients = conn_recipients, .commit = conn_commit,
	.forget = conn_forget, .write = op_write, .read = op_read, .input_waiting = op_input_waiting, .remember = op_remember, .log = op_log,
	.auth_ask = conn_auth_ask, .auth_forget = conn_auth_forget, .client_changed = op_client_changed, .etrn = conn_etrn, .tls_start = conn_tls_start, .tls_go_on = conn_tls_go_on,
};

/* ---- turns ---- */

void conn_enter(struct conn *c)
{
	struct server *server = &c->smtpd->server;

	server->now_ms = loop_now(c->smtpd->daemon->loop);
	server->wall_us = clock_wall_us();
	if ((server->settings.queue_load != LOAD_NO_LIMIT || server->settings.load_reserve != LOAD_NO_LIMIT) &&
		(!server->load_ms || server->now_ms >= server->load_ms + LOAD_LOOK_MS)) {
		load_average(&server->load);
		server->load_ms = server->now_ms;
	}
}

/* Octets go out as they are, or in TLS; between the two, during the handshake, nobody has any. */
static void conn_send(struct conn *c)
{
	while (c->out.len) {
		ssize_t n = c->tls_step == CONN_TLS_ON ? conn_tls_send(c, c->out.p, c->out.len) : send(c->fd, c->out.p, c->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			buf_clear(&c->out);
			session_on_eof(&c->session, strerror(errno));
			return;
		}
		buf_drop(&c->out, (size_t)n);
	}
	/* An idle session has no buffer. */
	buf_clear(&c->out);
}

/* Keeps what the session has not taken of p[0..n). */
static void input_keep(struct conn *c, const char *p, size_t n)
{
	char *old = c->in;

	size_t old_len = c->in_len;

	c->in = n ? mem_memdup(p, n) : NULL;
	c->in_len = (uint32_t)n;
	if (old)
		explicit_bzero(old, old_len); /* it may have been part of an AUTH command */
	mem_free(old);
}

static bool conn_listens(const struct conn *c)
{
	return c->session.state == SESSION_PROXY || (session_wants_input(&c->session) && c->out.len < SMTPD_OUT_MAX);
}

static void input_go_on(struct conn *c)
{
	size_t taken;

	if (!c->in_len || !conn_listens(c))
		return;
	taken = session_input(&c->session, c->in, c->in_len);
	if (taken)
		input_keep(c, c->in + taken, c->in_len - taken);
}

static void conn_on_timer(void *arg);
static void pending_read(struct conn *c);
static void conn_read(struct conn *c);

/* The timer runs late rather than being moved by each command: it looks at the deadline when it fires. */
static void timer_set(struct conn *c)
{
	uint64_t at = c->session.deadline_ms, now = c->smtpd->server.now_ms;

	if (c->held_ms && (!at || at > c->held_ms + EARLY_HOLD_MS))
		at = c->held_ms + EARLY_HOLD_MS;
	if (!at)
		return;
	if (!c->timer.at_ms || c->timer.at_ms > at)
		loop_timer_start(&c->timer, c->smtpd->daemon->loop, at > now ? at - now : 0, conn_on_timer, c);
}

/* The last reply is on its way: take no more, wait for the client to see it. */
static void conn_shut(struct conn *c)
{
	if (c->out.len)
		return;
	if (c->eof || c->session.quit || c->smtpd->draining) {
		conn_end(c);
		return;
	}
	if (!c->shut) {
		if (c->tls_step == CONN_TLS_ON && !c->tls_socket.broken)
			tls_shutdown(c->tls);
		shutdown(c->fd, SHUT_WR);
	}
	c->shut = true;
}

/* Early pipelining: what has come before our greeting and was not read belongs to the same group. */
static void early_read(struct conn *c)
{
	if (c->session.early_held && conn_listens(c) && !c->eof && c->tls_step == CONN_CLEAR && op_input_waiting(&c->session))
		conn_read(c);
}

/* The replies to such a group go out together: as long as the session waits for others within it, and within limits. */
static bool conn_holds(struct conn *c)
{
	struct session *s = &c->session;

	if (!s->early_held)
		return false;
	if (!session_holds(s) || !c->out.len) {
		s->early_held = session_holds(s);
		c->held_ms = 0;
		return false;
	}
	if (!c->held_ms)
		c->held_ms = c->smtpd->server.now_ms;
	s->early_held = s->flags & MSG_NO_CALLOUT_FLUSH || c->smtpd->server.now_ms - c->held_ms < EARLY_HOLD_MS;
	if (!s->early_held)
		c->held_ms = 0;
	return s->early_held;
}

void conn_leave(struct conn *c)
{
	unsigned want = LOOP_READ;
	bool held = false;

	input_go_on(c);
	early_read(c);
	if (c->tls_step != CONN_CLEAR && c->tls_step != CONN_TLS_ON)
		conn_tls_step(c);
	for (unsigned round = 0; round < PENDING_ROUNDS; round++) {
		if (c->tls_step == CONN_TLS_ON)
			pending_read(c);
		/* control = no_delay_flush: what has been said goes out with what is held back. */
		held = c->out.len && conn_holds(c);
		if (c->out.len && !held && !(c->watch.want & LOOP_WRITE) && !(c->session.state == SESSION_DELAY && c->session.flags & MSG_NO_DELAY_FLUSH))
			conn_send(c);
		/* With room for more replies there may be more to read, of which the descriptor will not tell. */
		if (c->tls_step != CONN_TLS_ON || c->eof || !conn_listens(c) || !tls_pending(c->tls))
			break;
	}
	arena_reset(&c->smtpd->server.scratch);
	if (c->session.state == SESSION_CLOSING)
		conn_shut(c);
	if (c->session.state == SESSION_CLOSED)
		conn_end(c);
	if (c->ended)
		return;
	/* Watching goes on until something comes that can't be taken: most clients wait for their reply. */
	c->stalled = (c->stalled || c->in_len) && !conn_listens(c);
	if (c->eof || c->stalled)
		want = 0;
	if (c->tls_step > CONN_TLS_FLUSH && c->tls_step < CONN_TLS_ON)
		want = c->tls_step == CONN_TLS_SHAKE ? c->tls_want : 0;
	if ((c->out.len && !held) || (want && c->tls_socket.write_for_read))
		want |= LOOP_WRITE;
	if (c->watch.want != want && !loop_fd_set(&c->watch, want))
		conn_end(c);
	if (!c->ended)
		timer_set(c);
}

static void conn_on_timer(void *arg)
{
	struct conn *c = arg;

	conn_enter(c);
	session_on_deadline(&c->session);
	conn_leave(c);
}

static void secret_wipe(struct conn *c, char *p, size_t taken)
{
	if (c->session.wipe)
		explicit_bzero(p, taken);
	c->session.wipe = false;
}

static void conn_read(struct conn *c)
{
	char *buffer = c->smtpd->buffer;
	size_t kept = c->in_len, taken;
	ssize_t n;

	if (!conn_listens(c)) {
		c->stalled = true;
		return;
	}
	if (kept)
		memcpy(buffer, c->in, kept);
	n = c->tls_step == CONN_TLS_ON ? conn_tls_recv(c, buffer + kept, SMTPD_READ_MAX - kept) : recv(c->fd, buffer + kept, SMTPD_READ_MAX - kept, 0);
	if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		c->eof = true;
		session_on_eof(&c->session, n < 0 ? strerror(errno) : NULL);
		return;
	}
	c->active_ms = c->smtpd->server.now_ms;
	taken = session_input(&c->session, buffer, kept + (size_t)n);
	secret_wipe(c, buffer, taken);
	if (taken < kept + (size_t)n || kept)
		input_keep(c, buffer + taken, kept + (size_t)n - taken);
}

/* What TLS has decrypted and nobody has read: the descriptor will not tell of it. It may be the rest of a line whose beginning is kept. */
static void pending_read(struct conn *c)
{
	size_t before;

	do {
		before = tls_pending(c->tls);
		if (!before || c->eof || c->in_len >= SMTPD_READ_MAX || c->session.state == SESSION_CLOSED || !conn_listens(c))
			return;
		conn_read(c);
	} while (tls_pending(c->tls) != before);
}

static void conn_on_fd(void *arg, unsigned ready)
{
	struct conn *c = arg;

	conn_enter(c);
	/* During a handshake the step in conn_leave() does all. */
	if (c->session.state == SESSION_PROXY)
		conn_proxy_read(c);
	else if (c->tls_step == CONN_CLEAR || c->tls_step == CONN_TLS_ON) {
		if (ready & LOOP_WRITE)
			conn_send(c);
		if ((ready & LOOP_READ || c->tls_socket.write_for_read) && !c->eof)
			conn_read(c);
	}
	conn_leave(c);
}

/* ---- beginning and end ---- */

static void address_take(const struct sockaddr_storage *from, bool *ipv6, uint8_t ip[16], uint16_t *port)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)from;

		*port = ntohs(in6->sin6_port);
		if (memcmp(in6->sin6_addr.s6_addr, mapped, sizeof mapped)) {
			*ipv6 = true;
			memcpy(ip, in6->sin6_addr.s6_addr, 16);
		} else { /* an IPv4 client of an IPv6 listener is an IPv4 client */
			memcpy(ip, in6->sin6_addr.s6_addr + 12, 4);
		}
	} else if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)from;

		*port = ntohs(in->sin_port);
		memcpy(ip, &in->sin_addr, 4);
	}
}

/* ST_FAIL when the kernel does not say who is there. */
static bool submitter_take(struct conn *c)
{
	const struct conf_opts_main *m = &c->smtpd->daemon->conf->main;
	struct session *s = &c->session;
	struct arena *a = &c->smtpd->server.scratch;
	struct conf_list_walk walk = CONF_LIST_WALK(m->trusted_users.text);
	gid_t groups[256];
	struct ucred who;
	socklen_t len = sizeof who, size = sizeof groups;
	const char *name;
	struct str item;
	uint32_t id;

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) || who.uid == (uid_t)-1)
		return false;
	s->local = true;
	s->uid = (uint64_t)who.uid + 1;
	s->gid = (uint64_t)who.gid + 1;
	name = users_name(smtpd_users(), who.uid);
	s->ident = mem_strdup(name ? name : arena_printf(a, "uid%u", (unsigned)who.uid));
	name = users_gecos(smtpd_users(), who.uid);
	s->gecos = name ? mem_strdup(name) : NULL;
	s->trusted = who.uid == 0 || who.uid == geteuid();
	while (!s->trusted && conf_list_next(&walk, a, &item))
		s->trusted = users_id(smtpd_users(), item, false, &id) && id == who.uid;
	if (s->trusted || !m->trusted_groups.text.len || getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		return true;
	walk = CONF_LIST_WALK(m->trusted_groups.text);
	while (!s->trusted && conf_list_next(&walk, a, &item)) {
		if (!users_id(smtpd_users(), item, true, &id))
			continue;
		s->trusted = id == who.gid;
		for (size_t i = 0; i < size / sizeof *groups; i++)
			s->trusted |= groups[i] == id;
	}
	return true;
}

static void socket_prepare(struct conn *c)
{
	int one = 1;

	if (c->smtpd->server.settings.nodelay)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (c->smtpd->server.settings.keepalive)
		setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

/* A connection that is here before the handshake has ended, or whose first segment brought data. */
static uint8_t fastopen_look(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof info;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return 0;
	return info.tcpi_options & TCPI_OPT_SYN_DATA ? 2 : info.tcpi_state == TCP_SYN_RECV;
}

static struct conn *conn_make(struct smtpd *m, int fd)
{
	struct conn *c = mem_new(sizeof *c);

	c->smtpd = m;
	c->fd = fd;
	c->file = c->reader = c->auth_fd = -1;
	list_push(&m->conns, &c->node);
	m->n_conns++;
	m->server.now_ms = loop_now(m->daemon->loop);
	session_init(&c->session, &m->server);
	c->session.shell = c;
	loop_fd_init(&c->watch, m->daemon->loop, fd, conn_on_fd, c);
	conn_enter(c);
	c->active_ms = m->server.now_ms;
	return c;
}

void conn_new(struct smtpd *m, struct listener *from, int fd, const struct sockaddr_storage *peer)
{
	struct conn *c = conn_make(m, fd);
	struct sockaddr_storage own;
	socklen_t len = sizeof own;
	struct session *s = &c->session;

	if (from->submit) {
		if (!submitter_take(c)) {
			conn_end(c);
			return;
		}
	} else {
		socket_prepare(c);
		s->tls_on_connect = from->tls;
		s->fastopen = fastopen_look(fd);
		address_take(peer, &s->ipv6, s->client_ip, &s->client_port);
		if (!getsockname(fd, (struct sockaddr *)&own, &len))
			address_take(&own, &s->server_ipv6, s->server_ip, &s->server_port);
		conn_host(c);
	}
	session_start(s);
	conn_leave(c);
}

static bool ip_take(struct str text, uint8_t ip[16], bool *ipv6)
{
	char copy[64];

	snprintf(copy, sizeof copy, "%.*s", STR_FMT(text));
	*ipv6 = strchr(copy, ':') != NULL;
	return inet_pton(*ipv6 ? AF_INET6 : AF_INET, copy, ip) == 1;
}

void conn_pretended(struct smtpd *m, int fd, const struct ipc_session_client *who)
{
	struct conn *c;
	struct session *s;

	if (fd < 0 || m->draining)
		return;
	c = conn_make(m, fd);
	s = &c->session;
	s->pretended = true;
	s->trace = who->trace;
	s->client_port = (uint16_t)who->port;
	s->server_port = (uint16_t)who->server_port;
	if (!ip_take(who->ip, s->client_ip, &s->ipv6)) {
		conn_end(c);
		return;
	}
	/* The address of ours that a client of the other family would have met is not known. */
	if (!ip_take(who->server_ip, s->server_ip, &s->server_ipv6) || s->server_ipv6 != s->ipv6) {
		memset(s->server_ip, 0, sizeof s->server_ip);
		s->server_ipv6 = s->ipv6;
	}
	conn_host(c);
	session_start(s);
	conn_leave(c);
}

static void conn_release(void *arg)
{
	mem_free(arg);
}

void conn_end(struct conn *c)
{
	if (c->ended)
		return;
	c->ended = true;
	loop_timer_stop(&c->timer);
	loop_fd_clear(&c->watch);
	session_clear(&c->session);
	conn_channels_release(c);
	conn_tls_end(c);
	conn_proxy_end(c);
	if (c->host)
		host_put(c->smtpd, c->host);
	buf_clear(&c->out);
	input_keep(c, NULL, 0);
	close(c->fd);
	list_remove(&c->node);
	c->smtpd->n_conns--;
	loop_defer(c->smtpd->daemon->loop, conn_release, c);
}

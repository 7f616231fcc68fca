/* SPDX-License-Identifier: ISC */
/* Listening sockets, the count of connections, and who they are from. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "smtpd/smtpd.h"

/* ---- hosts ---- */

static void host_free(struct host *h)
{
	client_settings_unref(h->client);
	mem_free(h);
}

/* Addresses without connections are kept while their settings hold; when there are too many, they go. */
static void hosts_shrink(struct smtpd *m)
{
	uint32_t pos = 0;
	struct host *h;

	if (m->hosts.used < SMTPD_HOSTS_MAX)
		return;
	while ((h = hash_next(&m->hosts, &pos, NULL))) {
		if (h->connections)
			continue;
		hash_remove(&m->hosts, str_make((const char *)h->ip, sizeof h->ip));
		host_free(h);
	}
}

struct host *host_get(struct smtpd *m, const uint8_t ip[16])
{
	struct host *h = hash_get(&m->hosts, str_make((const char *)ip, 16));

	if (h)
		return h;
	hosts_shrink(m);
	h = mem_new(sizeof *h);
	memcpy(h->ip, ip, sizeof h->ip);
	hash_put(&m->hosts, str_make((const char *)h->ip, sizeof h->ip), h);
	return h;
}

void host_put(struct smtpd *m, struct host *h)
{
	if (--h->connections || (h->client && m->server.now_ms < h->client_until_ms))
		return;
	hash_remove(&m->hosts, str_make((const char *)h->ip, sizeof h->ip));
	host_free(h);
}

void hosts_clear(struct smtpd *m)
{
	uint32_t pos = 0;
	struct host *h;

	while ((h = hash_next(&m->hosts, &pos, NULL))) {
		hash_remove(&m->hosts, str_make((const char *)h->ip, sizeof h->ip));
		host_free(h);
	}
	hash_clear(&m->hosts);
}

/* ---- accepting ---- */

static void refuse(struct smtpd *m, int fd, const struct sockaddr_storage *peer)
{
	static const char reply[] = "421 4.3.2 Too many concurrent SMTP connections; please try again later.\r\n";
	const struct sockaddr_in *in = (const void *)peer;
	const struct sockaddr_in6 *in6 = (const void *)peer;
	char ip[64] = "local";

	if (peer->ss_family == AF_INET)
		session_ip_format(false, (const uint8_t *)&in->sin_addr, ip);
	else if (peer->ss_family == AF_INET6)
		session_ip_format(true, in6->sin6_addr.s6_addr, ip);
	m->server.stats.refused++;
	if (m->server.settings.log & LOG_SEL(connection_reject))
		log_line(&m->daemon->log, LOG_MAIN, "Connection from [%s] refused: too many connections", ip);
	send(fd, reply, sizeof reply - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void listener_on_fd(void *arg, unsigned ready)
{
	struct listener *l = arg;
	struct smtpd *m = l->smtpd;

	(void)ready;
	for (int i = 0; i < SMTPD_ACCEPT_BATCH; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t len = sizeof peer;
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		uint32_t max = m->server.settings.accept_max;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			if (errno != EAGAIN && errno != EWOULDBLOCK && !m->full_logged) {
				m->full_logged = true; /* once: with no descriptor left this comes in every turn */
				daemon_log(m->daemon, LOG_MAIN | LOG_PANIC, "cannot accept a connection: %s", strerror(errno));
			}
			return;
		}
		if (max && !l->submit && m->n_conns >= max)
			refuse(m, fd, &peer);
		else
			conn_new(m, l, fd, &peer);
	}
}

void listener_add(struct daemon *d, const struct daemon_listener *from)
{
	struct smtpd *m = d->state;
	struct listener *l;

	if (m->draining) {
		close(from->fd);
		return;
	}
	l = mem_new(sizeof *l);
	l->smtpd = m;
	l->fd = from->fd;
	l->port = (uint16_t)from->port;
	l->tls = from->tls;
	l->submit = from->submit;
	list_push(&m->listeners, &l->node);
	loop_fd_init(&l->watch, d->loop, l->fd, listener_on_fd, l);
	if (!loop_fd_set(&l->watch, LOOP_READ))
		daemon_log(d, LOG_MAIN | LOG_PANIC, "cannot watch the listener %s port %u", from->address, from->port);
}

void listeners_close(struct smtpd *m)
{
	list_each_safe(&m->listeners, n) {
		struct listener *l = list_entry(n, struct listener, node);

		loop_fd_clear(&l->watch);
		close(l->fd);
		list_remove(&l->node);
		mem_free(l);
	}
}

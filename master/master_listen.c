/* SPDX-License-Identifier: ISC */
/* master_listen.c - the sockets bound to the addresses that the configuration names, and the one for local submission. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/listen.h"
#include "master/master.h"

enum { BIND_STEP_MS = 50 };

static enum status address_make(const struct conf_listener *from, struct listen_address *out, struct err *err)
{
	*out = (struct listen_address){ .port = from->port, .tls = from->tls };
	snprintf(out->address, sizeof out->address, "%.*s", STR_FMT(from->ip));
	out->sa.any.sa_family = from->v6 ? AF_INET6 : AF_INET;
	if (from->v6) {
		out->sa.v6.sin6_port = htons(from->port);
		out->sa_len = sizeof out->sa.v6;
	} else {
		out->sa.v4.sin_port = htons(from->port);
		out->sa_len = sizeof out->sa.v4;
	}
	if (inet_pton(from->v6 ? AF_INET6 : AF_INET, out->address, from->v6 ? (void *)&out->sa.v6.sin6_addr : (void *)&out->sa.v4.sin_addr) != 1)
		return err_set(err, ST_ERROR, "local_interfaces: %s", out->address);
	return ST_OK;
}

static bool same_address(const struct listen_address *a, const struct listen_address *b)
{
	return a->sa_len == b->sa_len && memcmp(&a->sa, &b->sa, a->sa_len) == 0;
}

/* ---- sockets ---- */

static int socket_bind(const struct listen_address *at, int backlog)
{
	int fd = socket(at->sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, code;
	int fastopen = backlog > 0 ? backlog : 1;

	if (fd < 0)
		return -1;
	/* v6only: "::" and "0.0.0.0" are two listeners, as in the default of local_interfaces. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
	    (at->sa.any.sa_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0) &&
	    bind(fd, &at->sa.any, at->sa_len) == 0 && listen(fd, backlog) == 0) {
		/* Whether it is so, and with which keys, the kernel's own settings say (net.ipv4.tcp_fastopen). */
		setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &fastopen, sizeof fastopen);
		return fd;
	}
	code = errno;
	close(fd);
	errno = code;
	return -1;
}

static int socket_open(const struct listen_address *at, int backlog, uint64_t until_ms)
{
	struct timespec step = { 0, BIND_STEP_MS * 1000000L };

	for (;;) {
		int fd = socket_bind(at, backlog);

		if (fd >= 0 || errno != EADDRINUSE || clock_ms() >= until_ms)
			return fd;
		nanosleep(&step, NULL);
	}
}

static struct listener *listener_find(struct master *m, const struct listen_address *at)
{
	list_each(&m->listeners, n) {
		struct listener *l = list_entry(n, struct listener, node);

		if (!l->submit && same_address(&l->at, at))
			return l;
	}
	return NULL;
}

static void listener_free(struct listener *l)
{
	list_remove(&l->node);
	close(l->fd);
	mem_free(l);
}

static bool is_any(const struct listen_address *at)
{
	return at->sa.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&at->sa.v6.sin6_addr);
}

static enum status listener_want(struct master *m, const struct listen_address *at, int backlog, uint64_t until_ms, struct err *err)
{
	struct listener *l = listener_find(m, at);
	int fd;

	if (l) {
		l->wanted = true;
		l->tls_next = at->tls;
		listen(l->fd, backlog);
		return ST_OK;
	}
	fd = socket_open(at, backlog, until_ms);
	if (fd < 0 && is_any(at) && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		return ST_OK; /* a machine without IPv6, and the default list */
	if (fd < 0)
		return err_set(err, ST_ERROR, "listening on [%s]:%u: %s", at->address, at->port, strerror(errno));
	l = mem_new(sizeof *l);
	l->at = *at;
	l->fd = fd;
	l->wanted = l->fresh = true;
	l->tls_next = at->tls;
	list_push(&m->listeners, &l->node);
	return ST_OK;
}

enum status listeners_prepare(struct master *m, const struct conf *conf, uint64_t retry_ms, struct err *err)
{
	struct arena a = ARENA_INIT;
	struct conf_listener *list;
	uint64_t until = clock_ms() + retry_ms;
	uint32_t n = 0;
	enum status st = conf_listeners_get(conf, &a, &list, &n, err);

	list_each(&m->listeners, node) {
		struct listener *l = list_entry(node, struct listener, node);

		l->fresh = false;
		l->wanted = l->submit;
	}
	for (uint32_t i = 0; !st && i < n; i++) {
		struct listen_address at;

		st = address_make(&list[i], &at, err);
		if (!st)
			st = listener_want(m, &at, (int)conf->main.smtp_connect_backlog, until, err);
	}
	arena_clear(&a);
	if (st)
		listeners_rollback(m);
	return st;
}

void listeners_commit(struct master *m)
{
	list_each_safe(&m->listeners, n) {
		struct listener *l = list_entry(n, struct listener, node);

		l->fresh = false;
		l->at.tls = l->tls_next; /* the new smtpd processes are told */
		if (!l->wanted)
			listener_free(l);
	}
}

void listeners_rollback(struct master *m)
{
	list_each_safe(&m->listeners, n) {
		struct listener *l = list_entry(n, struct listener, node);

		if (l->fresh)
			listener_free(l);
		else
			l->wanted = true;
	}
}

enum status submit_open(struct master *m, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct listener *l;
	int fd;

	if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/submit", m->run) >= sizeof sa.sun_path)
		return err_set(err, ST_ERROR, "run_directory \"%s\" is too long for a Unix socket", m->run);
	unlink(sa.sun_path); /* the lock says that nobody listens there */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || chmod(sa.sun_path, 0666) < 0 || listen(fd, 1024) < 0) {
		err_set(err, ST_ERROR, "%s: %s", sa.sun_path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return ST_ERROR;
	}
	l = mem_new(sizeof *l);
	l->fd = fd;
	l->submit = l->wanted = true;
	snprintf(l->at.address, sizeof l->at.address, "%s", "submit");
	list_push(&m->listeners, &l->node);
	return ST_OK;
}

void listeners_close(struct master *m)
{
	list_each_safe(&m->listeners, n)
		listener_free(list_entry(n, struct listener, node));
}

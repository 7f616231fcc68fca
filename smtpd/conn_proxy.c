/* SPDX-License-Identifier: ISC */
/* Reads the header of a proxy, and not one octet more: what follows may be a TLS handshake. */
#include <errno.h>
#include <string.h>

#include "smtpd/smtpd.h"

void conn_proxy_end(struct conn *c)
{
	mem_free(c->proxy);
	c->proxy = NULL;
}

/* Takes octets that were looked at before. */
static void take(struct conn *c, size_t n)
{
	while (n) {
		ssize_t k = recv(c->fd, c->proxy->octets + c->proxy->n, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return;
		c->proxy->n += (size_t)k;
		n -= (size_t)k;
	}
}

void conn_proxy_read(struct conn *c)
{
	struct proxy_header h;
	enum proxy_verdict verdict;
	ssize_t n;

	if (!c->proxy)
		c->proxy = mem_new(sizeof *c->proxy);
	n = recv(c->fd, c->proxy->octets + c->proxy->n, sizeof c->proxy->octets - c->proxy->n, MSG_PEEK);
	if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		conn_proxy_end(c);
		c->eof = true;
		session_on_eof(&c->session, n < 0 ? strerror(errno) : NULL);
		return;
	}
	verdict = proxy_header_parse(c->proxy->octets, c->proxy->n + (size_t)n, &h);
	if (verdict == PROXY_MORE) {
		take(c, (size_t)n);
		return;
	}
	if (verdict == PROXY_DONE)
		take(c, h.size - c->proxy->n);
	conn_proxy_end(c);
	session_on_proxy(&c->session, verdict == PROXY_DONE ? &h : NULL, h.why);
}

/* SPDX-License-Identifier: ISC */
/* Reads the header of a proxy, and not one octet more: what follows may be a TLS handshake. */
#include <errno.h>
#include <string.h>

#include "smtpd/smtpd.h"

enum { STEP = 2048 /* octets looked at in one go: most headers are far smaller, the largest comes in many */ };

void conn_proxy_end(struct conn *c)
{
	buf_clear(&c->proxy);
}

/* Takes octets that were looked at before. */
static void take(struct conn *c, size_t n)
{
	while (n) {
		char *room = buf_room(&c->proxy, n);
		ssize_t k = room ? recv(c->fd, room, n, 0) : 0;

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return;
		c->proxy.len += (size_t)k;
		n -= (size_t)k;
	}
}

void conn_proxy_read(struct conn *c)
{
	struct proxy_header h;
	enum proxy_verdict verdict;
	char *room = buf_room(&c->proxy, STEP);
	ssize_t n = recv(c->fd, room, STEP, MSG_PEEK);

	if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		conn_proxy_end(c);
		c->eof = true;
		session_on_eof(&c->session, n < 0 ? strerror(errno) : NULL);
		return;
	}
	verdict = proxy_header_parse((const uint8_t *)c->proxy.p, c->proxy.len + (size_t)n, &h);
	if (verdict == PROXY_MORE) {
		take(c, (size_t)n);
		return;
	}
	if (verdict == PROXY_DONE)
		take(c, h.size - c->proxy.len);
	conn_proxy_end(c);
	session_on_proxy(&c->session, verdict == PROXY_DONE ? &h : NULL, h.why);
}

/* SPDX-License-Identifier: ISC */
/* A connection as a socket: recv() and send() with TLS between. */
#include <errno.h>

#include "common/tls/tls.h"

static ssize_t result(enum tls_io io, size_t n, bool *broken)
{
	if (n)
		return (ssize_t)n;
	if (io == TLS_CLOSED)
		return 0;
	if (io == TLS_WANT_READ || io == TLS_WANT_WRITE) {
		errno = EAGAIN;
		return -1;
	}
	*broken = true;
	errno = ECONNRESET;
	return -1;
}

/* A record at a time is what the library gives: several of them are one read of ours. */
ssize_t tls_recv(struct tls_conn *c, char *p, size_t n, size_t room, struct tls_socket *s)
{
	size_t at = 0, done;
	enum tls_io io;

	do {
		io = tls_read(c, p + at, n - at, &done, NULL);
		at += done;
	} while (io == TLS_DONE && done && n - at >= room);
	s->write_for_read = io == TLS_WANT_WRITE;
	return result(io, at, &s->broken);
}

ssize_t tls_send(struct tls_conn *c, const char *p, size_t n, struct tls_socket *s)
{
	size_t done;
	enum tls_io io;

	if (s->broken) {
		errno = EPIPE;
		return -1;
	}
	io = tls_write(c, p, n, &done, NULL);
	/* Renegotiation is off, so it never waits for input; if it did, the peer is none of ours. */
	return result(io == TLS_WANT_READ || io == TLS_CLOSED ? TLS_FAILED : io, done, &s->broken);
}

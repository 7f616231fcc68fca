/* SPDX-License-Identifier: ISC */
#include "policyd/dovecot_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"

void dovecot_conn_init(struct dovecot_conn *c)
{
	c->fd = -1;
	c->ssl = NULL;
	c->in_len = 0;
}

void dovecot_conn_adopt(struct dovecot_conn *c, int fd)
{
	dovecot_conn_init(c);
	c->fd = fd;
}

void dovecot_conn_close(struct dovecot_conn *c)
{
	if (c->ssl)
		SSL_free(c->ssl);
	if (c->fd >= 0)
		close(c->fd);
	explicit_bzero(c->in, c->in_len);
	dovecot_conn_init(c);
}

int dovecot_conn_take(struct dovecot_conn *c)
{
	int fd = c->fd;

	c->fd = -1;
	dovecot_conn_close(c);
	return fd;
}

static bool fd_wait(int fd, short what, uint64_t until_ms)
{
	for (;;) {
		struct pollfd p = { fd, what, 0 };
		uint64_t now = clock_ms();
		int n = poll(&p, 1, now < until_ms ? (int)(until_ms - now) : 0);

		if (n > 0)
			return true;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

/* ---- TLS ---- */

static const char *tls_words(void)
{
	unsigned long e = ERR_get_error();
	const char *words = e ? ERR_reason_error_string(e) : NULL;

	return words ? words : "connection lost";
}

/* What an SSL function said: ST_OK to try it again. */
static enum status tls_wait(struct dovecot_conn *c, int rc, uint64_t until_ms, const char *what, struct err *err)
{
	int e = SSL_get_error(c->ssl, rc);

	if (e == SSL_ERROR_ZERO_RETURN)
		return err_set(err, ST_FAIL, "authentication socket read error or premature eof");
	if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
		return err_set(err, ST_DEFER, "%s with Dovecot's authentication socket: %s", what, tls_words());
	return fd_wait(c->fd, e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until_ms) ? ST_OK :
		err_set(err, ST_DEFER, "%s with Dovecot's authentication socket: timeout", what);
}

static bool name_is_ip(const char *name)
{
	unsigned char ip[16];

	return inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1;
}

static enum status tls_begin(struct dovecot_conn *c, const struct dovecot_target *t, uint64_t until_ms, struct err *err)
{
	char name[256];
	long verify;
	int rc;

	ERR_clear_error();
	c->ssl = SSL_new(t->tls);
	if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || t->tls_name.len >= sizeof name)
		return err_set(err, ST_DEFER, "TLS with Dovecot's authentication socket: %s", tls_words());
	memcpy(name, t->tls_name.p, t->tls_name.len);
	name[t->tls_name.len] = '\0';
	if (name_is_ip(name) ? !X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), name)
		: !SSL_set1_host(c->ssl, name) || !SSL_set_tlsext_host_name(c->ssl, name))
		return err_set(err, ST_ERROR, "TLS with Dovecot's authentication socket: \"%s\" is no name for a certificate", name);
	while ((rc = SSL_connect(c->ssl)) <= 0) {
		verify = SSL_get_verify_result(c->ssl);
		if (verify != X509_V_OK)
			return err_set(err, ST_DEFER, "TLS with Dovecot's authentication socket: certificate for %s: %s", name, X509_verify_cert_error_string(verify));
		if (tls_wait(c, rc, until_ms, "TLS handshake", err))
			return ST_DEFER;
	}
	return ST_OK;
}

/* ---- connecting ---- */

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static socklen_t address_make(const struct dovecot_target *t, union address *out)
{
	char ip[64];

	memset(out, 0, sizeof *out);
	if (t->path.len) {
		if (t->path.len >= sizeof out->un.sun_path)
			return 0;
		out->un.sun_family = AF_UNIX;
		memcpy(out->un.sun_path, t->path.p, t->path.len);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + t->path.len + 1);
	}
	if (!t->ip.len || t->ip.len >= sizeof ip)
		return 0;
	memcpy(ip, t->ip.p, t->ip.len);
	ip[t->ip.len] = '\0';
	if (inet_pton(AF_INET, ip, &out->in.sin_addr) == 1) {
		out->in.sin_family = AF_INET;
		out->in.sin_port = htons(t->port);
		return sizeof out->in;
	}
	if (inet_pton(AF_INET6, ip, &out->in6.sin6_addr) == 1) {
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons(t->port);
		return sizeof out->in6;
	}
	return 0;
}

static enum status connect_wait(int fd, uint64_t until_ms)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (!fd_wait(fd, POLLOUT, until_ms)) {
		errno = ETIMEDOUT;
		return ST_DEFER;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && !error)
		return ST_OK;
	errno = error ? error : errno;
	return ST_DEFER;
}

enum status dovecot_conn_open(struct dovecot_conn *c, const struct dovecot_target *t, struct err *err)
{
	uint64_t until = clock_ms() + (t->timeout_ms < DOVECOT_CONNECT_MS ? t->timeout_ms : DOVECOT_CONNECT_MS);
	union address to;
	socklen_t len = address_make(t, &to);

	dovecot_conn_init(c);
	if (!len)
		return err_set(err, ST_DEFER, "Dovecot's authentication socket: not a path or an address");
	c->fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0 || (connect(c->fd, &to.sa, len) < 0 && (errno != EINPROGRESS || connect_wait(c->fd, until)))) {
		err_set(err, ST_DEFER, "cannot connect to Dovecot's authentication socket %.*s%s%.0d: %s", STR_FMT(t->path.len ? t->path : t->ip),
			t->path.len ? "" : " port ", t->path.len ? 0 : t->port, strerror(errno));
		dovecot_conn_close(c);
		return ST_DEFER;
	}
	if (t->tls && tls_begin(c, t, until, err)) {
		dovecot_conn_close(c);
		return err && err->status == ST_ERROR ? ST_ERROR : ST_DEFER;
	}
	return ST_OK;
}

/* ---- octets ---- */

enum status dovecot_conn_send(struct dovecot_conn *c, struct str octets, uint64_t until_ms, struct err *err)
{
	while (octets.len) {
		ssize_t n;

		if (c->ssl) {
			ERR_clear_error();
			n = SSL_write(c->ssl, octets.p, (int)octets.len);
			if (n <= 0 && tls_wait(c, (int)n, until_ms, "writing", err))
				return err->status;
		} else {
			n = send(c->fd, octets.p, octets.len, MSG_NOSIGNAL);
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				return err_set(err, errno == EPIPE || errno == ECONNRESET ? ST_FAIL : ST_DEFER, "authentication socket write error: %s", strerror(errno));
			if (n < 0 && !fd_wait(c->fd, POLLOUT, until_ms))
				return err_set(err, ST_DEFER, "authentication socket takes nothing: timeout");
		}
		if (n > 0)
			octets = str_from(octets, (size_t)n);
	}
	return ST_OK;
}

static enum status more_read(struct dovecot_conn *c, uint64_t until_ms, struct err *err)
{
	size_t room = sizeof c->in - c->in_len;
	ssize_t n;

	if (c->ssl) {
		ERR_clear_error();
		n = SSL_read(c->ssl, c->in + c->in_len, (int)room);
		if (n <= 0)
			return tls_wait(c, (int)n, until_ms, "reading", err);
	} else {
		n = recv(c->fd, c->in + c->in_len, room, 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return err_set(err, ST_FAIL, "authentication socket read error or premature eof");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return err_set(err, ST_DEFER, "authentication socket read error: %s", strerror(errno));
		if (n < 0)
			return fd_wait(c->fd, POLLIN, until_ms) ? ST_OK : err_set(err, ST_DEFER, "authentication socket is silent: timeout");
	}
	c->in_len += (size_t)n;
	return ST_OK;
}

enum status dovecot_conn_line(struct dovecot_conn *c, uint64_t until_ms, struct str *out, struct err *err)
{
	char *end;

	while (!(end = memchr(c->in, '\n', c->in_len))) {
		enum status st;

		if (c->in_len == sizeof c->in)
			return err_set(err, ST_ERROR, "authentication socket protocol line too long");
		st = more_read(c, until_ms, err);
		if (!st && clock_ms() >= until_ms)
			st = err_set(err, ST_DEFER, "authentication socket is slow: timeout");
		if (st)
			return st;
	}
	*out = str_taint(str_make(c->in, (size_t)(end - c->in)));
	return ST_OK;
}

void dovecot_conn_next(struct dovecot_conn *c, struct str line)
{
	size_t used = line.len + 1u;

	c->in_len -= used;
	memmove(c->in, c->in + used, c->in_len);
	explicit_bzero(c->in + c->in_len, used);
}

bool dovecot_conn_quiet(const struct dovecot_conn *c)
{
	struct pollfd p = { c->fd, POLLIN, 0 };

	return c->fd >= 0 && !c->in_len && (!c->ssl || !SSL_pending(c->ssl)) && poll(&p, 1, 0) == 0;
}

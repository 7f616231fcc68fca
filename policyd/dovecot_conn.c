/* SPDX-License-Identifier: ISC */
#include "policyd/dovecot_conn.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "policyd/stream.h"

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
	return stream_wait(c->fd, e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until_ms) ? ST_OK :
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

enum status dovecot_conn_open(struct dovecot_conn *c, const struct dovecot_target *t, struct err *err)
{
	uint64_t until = clock_ms() + (t->timeout_ms < DOVECOT_CONNECT_MS ? t->timeout_ms : DOVECOT_CONNECT_MS);

	dovecot_conn_init(c);
	if (stream_open(t->path, t->ip, t->port, until, &c->fd, err))
		return err_prefix(err, "cannot connect to Dovecot's authentication socket %.*s%s%.0d", STR_FMT(t->path.len ? t->path : t->ip),
			t->path.len ? "" : " port ", t->path.len ? 0 : t->port);
	if (t->tls && tls_begin(c, t, until, err)) {
		dovecot_conn_close(c);
		return err && err->status == ST_ERROR ? ST_ERROR : ST_DEFER;
	}
	return ST_OK;
}

/* ---- octets ---- */

enum status dovecot_conn_send(struct dovecot_conn *c, struct str octets, uint64_t until_ms, struct err *err)
{
	if (!c->ssl)
		return stream_send(c->fd, octets, until_ms, err) ? err_prefix(err, "authentication socket write error") : ST_OK;
	while (octets.len) {
		int n;

		ERR_clear_error();
		n = SSL_write(c->ssl, octets.p, (int)octets.len);
		if (n <= 0 && tls_wait(c, n, until_ms, "writing", err))
			return err->status;
		if (n > 0)
			octets = str_from(octets, (size_t)n);
	}
	return ST_OK;
}

static enum status more_read(struct dovecot_conn *c, uint64_t until_ms, struct err *err)
{
	size_t room = sizeof c->in - c->in_len;
	size_t got;

	if (c->ssl) {
		int n;

		ERR_clear_error();
		n = SSL_read(c->ssl, c->in + c->in_len, (int)room);
		if (n <= 0)
			return tls_wait(c, n, until_ms, "reading", err);
		got = (size_t)n;
	} else {
		enum status st = stream_read(c->fd, c->in + c->in_len, room, &got, until_ms, err);

		if (st)
			return st == ST_FAIL ? err_set(err, ST_FAIL, "authentication socket read error or premature eof") :
				err_prefix(err, "authentication socket is silent");
	}
	c->in_len += got;
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

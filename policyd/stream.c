/* SPDX-License-Identifier: ISC */
#include "policyd/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"

bool stream_wait(int fd, short what, uint64_t until_ms)
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

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static socklen_t address_make(struct str path, struct str ip_text, uint16_t port, union address *out)
{
	char ip[64];

	memset(out, 0, sizeof *out);
	if (path.len) {
		if (path.len >= sizeof out->un.sun_path)
			return 0;
		out->un.sun_family = AF_UNIX;
		memcpy(out->un.sun_path, path.p, path.len);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
	}
	if (!ip_text.len || ip_text.len >= sizeof ip)
		return 0;
	memcpy(ip, ip_text.p, ip_text.len);
	ip[ip_text.len] = '\0';
	if (inet_pton(AF_INET, ip, &out->in.sin_addr) == 1) {
		out->in.sin_family = AF_INET;
		out->in.sin_port = htons(port);
		return sizeof out->in;
	}
	if (inet_pton(AF_INET6, ip, &out->in6.sin6_addr) == 1) {
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons(port);
		return sizeof out->in6;
	}
	return 0;
}

/* 0, or errno. */
static int connect_wait(int fd, uint64_t until_ms)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (!stream_wait(fd, POLLOUT, until_ms))
		return ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

enum status stream_open(struct str path, struct str ip, uint16_t port, uint64_t until_ms, int *fd_out, struct err *err)
{
	union address to;
	socklen_t len = address_make(path, ip, port, &to);
	int fd, error = 0;

	*fd_out = -1;
	if (!len)
		return err_set(err, ST_DEFER, "not a path or an address");
	fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, ST_DEFER, "%s", strerror(errno));
	if (connect(fd, &to.sa, len) < 0)
		error = errno == EINPROGRESS ? connect_wait(fd, until_ms) : errno;
	if (error) {
		close(fd);
		return err_set(err, ST_DEFER, "%s", strerror(error));
	}
	*fd_out = fd;
	return ST_OK;
}

enum status stream_send(int fd, struct str octets, uint64_t until_ms, struct err *err)
{
	while (octets.len) {
		ssize_t n = send(fd, octets.p, octets.len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return err_set(err, errno == EPIPE || errno == ECONNRESET ? ST_FAIL : ST_DEFER, "%s", strerror(errno));
		if (n < 0 && !stream_wait(fd, POLLOUT, until_ms))
			return err_set(err, ST_DEFER, "timeout");
		if (n > 0)
			octets = str_from(octets, (size_t)n);
	}
	return ST_OK;
}

enum status stream_read(int fd, char *p, size_t n, size_t *got_out, uint64_t until_ms, struct err *err)
{
	*got_out = 0;
	while (!*got_out) {
		ssize_t k = recv(fd, p, n, 0);

		if (k == 0 || (k < 0 && errno == ECONNRESET))
			return err_set(err, ST_FAIL, "closed by the other side");
		if (k < 0 && errno != EAGAIN && errno != EINTR)
			return err_set(err, ST_DEFER, "%s", strerror(errno));
		if (k < 0 && !stream_wait(fd, POLLIN, until_ms))
			return err_set(err, ST_DEFER, "timeout");
		if (k > 0)
			*got_out = (size_t)k;
	}
	return ST_OK;
}

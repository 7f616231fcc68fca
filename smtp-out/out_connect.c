/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- addresses ---- */

union out_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static socklen_t addr_read(union out_addr *a, struct str ip, uint16_t port)
{
	char text[64];

	memset(a, 0, sizeof *a);
	if (!ip.len || ip.len >= sizeof text)
		return 0;
	memcpy(text, ip.p, ip.len);
	text[ip.len] = '\0';
	if (inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons(port);
		return sizeof a->in;
	}
	if (inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons(port);
		return sizeof a->in6;
	}
	return 0;
}

static socklen_t addr_path(union out_addr *a, struct str path)
{
	memset(a, 0, sizeof *a);
	if (!path.len || path.len >= sizeof a->un.sun_path)
		return 0;
	a->un.sun_family = AF_UNIX;
	memcpy(a->un.sun_path, path.p, path.len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
}

/* ---- sockets ---- */

static void socket_prepare(int fd, const union out_addr *to, const struct out_options *o)
{
	int one = 1, tos = o->tos;

	if (to->sa.sa_family == AF_UNIX)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (o->keepalive)
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	if (tos >= 0 && to->sa.sa_family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
	if (tos >= 0 && to->sa.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
}

static bool socket_bind(int fd, const union out_addr *to, const struct out_options *o)
{
	struct str ip = STR_NULL;
	union out_addr from;
	socklen_t len;
	int one = 1;

	if (to->sa.sa_family != AF_UNIX)
		ip = out_interface_for(o->interface, to->sa.sa_family);
	if (!ip.len)
		return true;
	len = addr_read(&from, ip, 0);
#ifdef IP_BIND_ADDRESS_NO_PORT
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
#endif
	return len && bind(fd, &from.sa, len) == 0;
}

/* ---- verdicts ---- */

/* errno of connect() in the terms of retry rules. */
struct smtp_verdict out_connect_verdict(struct arena *a, int error)
{
	struct smtp_verdict v = {
		.result = DELIVERY_DEFERRED, .error = RETRY_OTHER, .stage = "initial connection", .host_error = true, .status = STR_LIT("4.4.1"),
		.text = str_printf(a, "%s", strerror(error)), .error_no = error,
	};

	if (error == ECONNREFUSED)
		v.error = RETRY_REFUSED;
	else if (error == ETIMEDOUT)
		v.error = RETRY_TIMEOUT_CONNECT;
	return v;
}

/* No descriptor, no port, no address of ours: the host can't help it. */
static struct smtp_verdict verdict_ours(struct arena *a, const char *what, int error)
{
	return (struct smtp_verdict){
		.result = DELIVERY_DEFERRED, .error = RETRY_OTHER, .stage = "initial connection", .status = STR_LIT("4.3.0"),
		.text = str_printf(a, "%s: %s", what, strerror(error)), .error_no = error,
	};
}

/* ---- connecting ---- */

/* With a cookie of an earlier connection the data goes with the SYN; without, the kernel asks for one on the way. As connect(). */
static int connect_fast(int fd, const union out_addr *to, socklen_t len, struct out_fast *fast)
{
	ssize_t n = sendto(fd, fast->n ? fast->p : "", fast->n, MSG_FASTOPEN | MSG_NOSIGNAL, &to->sa, len);

	if (n < 0 && (errno == EOPNOTSUPP || errno == EPROTONOSUPPORT || errno == EINVAL)) /* the kernel's settings say no */
		return connect(fd, &to->sa, len);
	fast->sent = n > 0 ? (size_t)n : 0;
	return n < 0 ? -1 : 0;
}

static int connect_start(const struct out_options *o, const union out_addr *to, socklen_t len, struct out_fast *fast, struct arena *a,
	struct smtp_verdict *v)
{
	int fd;

	if (!len) {
		*v = out_connect_verdict(a, EADDRNOTAVAIL);
		v->text = STR_LIT("this is no address");
		return -1;
	}
	fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		*v = errno == EAFNOSUPPORT ? out_connect_verdict(a, errno) : verdict_ours(a, "socket", errno);
		return -1;
	}
	socket_prepare(fd, to, o);
	if (!socket_bind(fd, to, o)) {
		*v = verdict_ours(a, "the transport's interface", errno);
		close(fd);
		return -1;
	}
	if ((fast ? connect_fast(fd, to, len, fast) : connect(fd, &to->sa, len)) < 0 && errno != EINPROGRESS) {
		*v = errno == EAGAIN ? verdict_ours(a, "connect", errno) : out_connect_verdict(a, errno);
		close(fd);
		return -1;
	}
	return fd;
}

int out_connect_to(const struct out_options *o, struct str ip, uint16_t port, struct out_fast *fast, struct arena *a, struct smtp_verdict *v)
{
	union out_addr to;
	socklen_t len = addr_read(&to, ip, port);

	return connect_start(o, &to, len, fast, a, v);
}

int out_connect_socket(const struct out_options *o, struct arena *a, struct smtp_verdict *v)
{
	union out_addr to;
	socklen_t len = addr_path(&to, o->socket);

	return connect_start(o, &to, len, NULL, a, v);
}

/* Without data nothing in the kernel tells; but the greeting that is here with the connection came behind the SYN,ACK. */
enum out_fastopen out_connect_fastopen(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof info;
	int waiting = 0;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_options & TCPI_OPT_SYN_DATA)
		return OUT_FASTOPEN_DATA;
	return ioctl(fd, FIONREAD, &waiting) == 0 && waiting > 0 ? OUT_FASTOPEN_USED : OUT_FASTOPEN_TRIED;
}

bool out_connect_end(int fd, struct arena *a, struct smtp_verdict *v)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		*v = out_connect_verdict(a, error);
	return !error;
}

void out_connect_local(int fd, char ip[46], uint16_t *port)
{
	union out_addr a;
	socklen_t len = sizeof a;

	if (getsockname(fd, &a.sa, &len) < 0)
		return;
	if (a.sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a.in.sin_addr, ip, 46);
		*port = ntohs(a.in.sin_port);
	} else if (a.sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a.in6.sin6_addr, ip, 46);
		*port = ntohs(a.in6.sin6_port);
	}
}

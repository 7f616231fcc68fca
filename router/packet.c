/* SPDX-License-Identifier: ISC */
/* packet.c - one datagram for udpsend: sent and forgotten. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "router/router.h"

static bool address_make(const struct ipc_lookup_ask *ask, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
	char ip[INET6_ADDRSTRLEN];
	uint64_t port;

	memset(out, 0, sizeof *out);
	if (!str_u64(ask->options, 65535, &port) || !port || ask->file.len >= sizeof ip)
		return false;
	memcpy(ip, ask->file.p, ask->file.len);
	ip[ask->file.len] = '\0';
	if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		*len = sizeof *v4;
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	*len = sizeof *v6;
	return inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1;
}

enum status router_packet(const struct ipc_lookup_ask *ask, struct err *err)
{
	struct sockaddr_storage to;
	socklen_t len;
	ssize_t n = -1;
	int fd, error;

	if (!address_make(ask, &to, &len))
		return err_set(err, ST_ERROR, "no address and port");
	fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, len) == 0)
		n = send(fd, ask->key.p ? ask->key.p : "", ask->key.len, MSG_NOSIGNAL);
	error = errno;
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)ask->key.len ? ST_OK : err_set(err, ST_FAIL, "%s", strerror(error));
}

/* SPDX-License-Identifier: ISC */
#include "common/ipc/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union fd_room {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
};

void fds_close(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

enum status frame_add(struct buf *out, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, unsigned n_fds,
	struct err *err)
{
	size_t start = out->len;
	struct frame_head head = { 0, type->number, (uint8_t)n_fds, answer ? FRAME_ANSWER : 0, request };
	enum status st;

	if (n_fds > type->fds)
		return err_set(err, ST_ERROR, "%s: %u descriptors, at most %u", type->name, n_fds, type->fds);
	buf_add(out, &head, sizeof head);
	st = ipc_encode(type, msg, out, err);
	if (!st && out->len - start > IPC_FRAME_MAX)
		st = err_set(err, ST_ERROR, "%s: a frame of %zu octets, at most %d", type->name, out->len - start, IPC_FRAME_MAX);
	if (st) {
		out->len = start;
		return st;
	}
	head.length = (uint32_t)(out->len - start);
	memcpy(out->p + start, &head, sizeof head);
	return ST_OK;
}

enum status frame_head_read(struct str data, unsigned fds_left, struct frame_head *out, const struct ipc_type **type_out, struct err *err)
{
	if (data.len < sizeof *out)
		return err_set(err, ST_ERROR, "a frame of %u octets", data.len);
	memcpy(out, data.p, sizeof *out);
	if (out->length < sizeof *out || out->length > data.len || out->length > IPC_FRAME_MAX)
		return err_set(err, ST_ERROR, "a frame that says %u octets in a packet with %u left", out->length, data.len);
	*type_out = ipc_type_find(out->message);
	if (!*type_out)
		return err_set(err, ST_ERROR, "message %u is not known", out->message);
	if (out->fds > (*type_out)->fds || out->fds > fds_left)
		return err_set(err, ST_ERROR, "%s with %u descriptors", (*type_out)->name, out->fds);
	return ST_OK;
}

ssize_t packet_read(int fd, char *p, size_t size, int fds[static IPC_FDS_MAX], unsigned *n_fds_out)
{
	union fd_room room;
	struct iovec iov = { p, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof room };
	ssize_t n;

	*n_fds_out = 0;
	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), k * sizeof(int)); /* the room above holds no more */
		*n_fds_out = (unsigned)k;
	}
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		fds_close(fds, *n_fds_out);
		*n_fds_out = 0;
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

ssize_t packet_write(int fd, const char *p, size_t n, const int *fds, unsigned n_fds)
{
	union fd_room room;
	struct iovec iov = { (void *)(uintptr_t)p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (n_fds) {
		m.msg_control = &room;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		memset(&room, 0, sizeof room);
		room.head.cmsg_level = SOL_SOCKET;
		room.head.cmsg_type = SCM_RIGHTS;
		room.head.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(&room.head), fds, sizeof(int) * n_fds);
	}
	do
		sent = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return sent;
}

/* SPDX-License-Identifier: ISC */
/* blocking.c - channels for those that do one thing at a time: pool workers and the command. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/frame.h"

enum { PAIR_BUFFER = 1024 * 1024 };

bool ipc_pair(int fds_out[2], struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds_out) < 0) {
		err_set(err, ST_ERROR, "socketpair: %s", strerror(errno));
		return false;
	}
	for (int i = 0; i < 2; i++) {
		int size = PAIR_BUFFER;

		if (setsockopt(fds_out[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
			setsockopt(fds_out[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	}
	return true;
}

/* Waits for the descriptor; false when the time is over. */
static bool fd_wait(int fd, short what, uint64_t start, int timeout_ms)
{
	for (;;) {
		struct pollfd p = { fd, what, 0 };
		int left = -1, n;

		if (timeout_ms >= 0) {
			uint64_t gone = clock_ms() - start;

			left = gone >= (uint64_t)timeout_ms ? 0 : timeout_ms - (int)gone;
		}
		n = poll(&p, 1, left);
		if (n > 0)
			return true;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

enum status ipc_recv(int fd, struct ipc_packet *packet, int timeout_ms, struct err *err)
{
	uint64_t start = clock_ms();

	fds_close(packet->fds + packet->fd_at, packet->n_fds - packet->fd_at);
	packet->n_fds = packet->fd_at = 0;
	packet->at = 0;
	buf_reset(&packet->data);
	for (;;) {
		ssize_t n = packet_read(fd, buf_room(&packet->data, IPC_FRAME_MAX), IPC_FRAME_MAX, packet->fds, &packet->n_fds);

		if (n > 0) {
			packet->data.len = (size_t)n;
			return ST_OK;
		}
		if (n == 0)
			return err_set(err, ST_FAIL, "the peer has closed the channel");
		if (errno == ECONNRESET)
			continue; /* told once; what the peer had sent comes behind */
		if (errno != EAGAIN)
			return err_set(err, ST_ERROR, "reading from the channel: %s", strerror(errno));
		if (timeout_ms == 0 || !fd_wait(fd, POLLIN, start, timeout_ms))
			return err_set(err, ST_DEFER, "nothing came within %d ms", timeout_ms);
	}
}

enum status ipc_packet_next(struct ipc_packet *packet, struct arena *a, struct ipc_in *in, struct err *err)
{
	struct str rest = str_from(buf_str(&packet->data), packet->at);
	struct frame_head head;
	enum status st;
	void *msg;

	*in = (struct ipc_in){ .arena = a, .fds = IPC_NO_FDS };
	if (!rest.len)
		return ST_FAIL;
	st = frame_head_read(rest, packet->n_fds - packet->fd_at, &head, &in->type, err);
	if (st)
		return st;
	msg = arena_alloc(a, in->type->size);
	st = ipc_decode(in->type, str_sub(rest, sizeof head, head.length - sizeof head), a, msg, err);
	if (st)
		return st;
	for (unsigned i = 0; i < head.fds; i++)
		in->fds[i] = packet->fds[packet->fd_at++];
	packet->at += head.length;
	in->request = head.request;
	in->msg = msg;
	return ST_OK;
}

void ipc_packet_clear(struct ipc_packet *packet)
{
	fds_close(packet->fds + packet->fd_at, packet->n_fds - packet->fd_at);
	packet->n_fds = packet->fd_at = 0;
	buf_clear(&packet->data);
}

enum status ipc_frame_add(struct buf *packet, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, struct err *err)
{
	return frame_add(packet, type, request, answer, msg, 0, err);
}

static enum status packet_send(int fd, const struct buf *packet, int *fds, unsigned n_fds, int timeout_ms, struct err *err)
{
	uint64_t start = clock_ms();
	enum status st = ST_OK;

	while (packet_write(fd, packet->p, packet->len, fds, n_fds) < 0) {
		if (errno != EAGAIN) {
			st = err_set(err, errno == EPIPE || errno == ECONNRESET ? ST_FAIL : ST_ERROR, "writing to the channel: %s", strerror(errno));
			break;
		}
		if (!fd_wait(fd, POLLOUT, start, timeout_ms)) {
			st = err_set(err, ST_DEFER, "the peer took nothing within %d ms", timeout_ms);
			break;
		}
	}
	fds_close(fds, n_fds);
	return st;
}

enum status ipc_send_packet(int fd, const struct buf *packet, int timeout_ms, struct err *err)
{
	return packet_send(fd, packet, NULL, 0, timeout_ms, err);
}

enum status ipc_send(int fd, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, const int *fds, unsigned n_fds,
	int timeout_ms, struct err *err)
{
	struct buf packet = BUF_INIT;
	int own[IPC_FDS_MAX];
	enum status st;

	bug_on(n_fds > IPC_FDS_MAX);
	if (n_fds)
		memcpy(own, fds, n_fds * sizeof *own);
	st = frame_add(&packet, type, request, answer, msg, n_fds, err);
	if (st)
		fds_close(own, n_fds);
	else
		st = packet_send(fd, &packet, own, n_fds, timeout_ms, err);
	buf_clear(&packet);
	return st;
}

static enum status call(int fd, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds, const struct ipc_type *want,
	struct arena *a, void *answer_out, int *fd_out, int timeout_ms, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	uint64_t request = clock_us(), start = clock_ms();
	struct ipc_in in;
	enum status st = ipc_send(fd, type, request, false, msg, fds, n_fds, timeout_ms, err);

	while (!st) {
		uint64_t gone = clock_ms() - start;

		st = ipc_recv(fd, &packet, timeout_ms < 0 ? -1 : gone >= (uint64_t)timeout_ms ? 0 : timeout_ms - (int)gone, err);
		if (st)
			break;
		st = ipc_packet_next(&packet, a, &in, err);
		if (st)
			break;
		if (fd_out && in.request == request && in.type == want) {
			*fd_out = in.fds[0];
			in.fds[0] = -1;
		}
		fds_close(in.fds, IPC_FDS_MAX);
		if (in.request != request) /* a late answer to a question given up before */
			continue;
		if (in.type == &ipc_type_ctl_lost)
			st = err_set(err, ST_DEFER, "the worker that was asked was lost");
		else if (in.type != want)
			st = err_set(err, ST_ERROR, "%s came in place of %s", in.type->name, want->name);
		else
			memcpy(answer_out, in.msg, want->size);
		break;
	}
	ipc_packet_clear(&packet);
	return st;
}

enum status ipc_call(int fd, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds, const struct ipc_type *want,
	struct arena *a, void *answer_out, int timeout_ms, struct err *err)
{
	return call(fd, type, msg, fds, n_fds, want, a, answer_out, NULL, timeout_ms, err);
}

enum status ipc_call_fd(int fd, const struct ipc_type *type, const void *msg, const struct ipc_type *want, struct arena *a, void *answer_out,
	int *fd_out, int timeout_ms, struct err *err)
{
	*fd_out = -1;
	return call(fd, type, msg, NULL, 0, want, a, answer_out, fd_out, timeout_ms, err);
}

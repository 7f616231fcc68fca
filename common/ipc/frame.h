/* SPDX-License-Identifier: ISC */
/* frame.h - heads of frames, and the sending and receiving of packets: what channel.c and blocking.c share.
 * Used by:    common/ipc only.
 * Errors:     as enum status; a peer's malformed packet is ST_ERROR. */
#ifndef IPC_FRAME_H
#define IPC_FRAME_H

#include <sys/types.h>

#include "common/ipc/channel.h"

enum { FRAME_ANSWER = 1 };

struct frame_head {
	uint32_t length;     /* with the head */
	uint16_t message;
	uint8_t fds, flags;
	uint64_t request;
};
_Static_assert(sizeof(struct frame_head) == IPC_HEAD, "the head has no padding");

/* Appends a frame; ST_ERROR (out as before) when the message breaks its limits or IPC_FRAME_MAX. */
enum status frame_add(struct buf *out, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, unsigned n_fds,
	struct err *err);
/* The head at data's start, checked against what is left of the packet. */
enum status frame_head_read(struct str data, unsigned fds_left, struct frame_head *out, const struct ipc_type **type_out, struct err *err);
/* One recvmsg(): octets, 0 at the end, -1 with errno (EAGAIN ...; EMSGSIZE when the packet did not fit). All descriptors that came
 * are in fds, close-on-exec. */
ssize_t packet_read(int fd, char *p, size_t size, int fds[static IPC_FDS_MAX], unsigned *n_fds_out);
/* Octets sent or -1 with errno. Closes nothing. */
ssize_t packet_write(int fd, const char *p, size_t n, const int *fds, unsigned n_fds);
void fds_close(int *fds, unsigned n);

#endif

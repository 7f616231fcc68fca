/* SPDX-License-Identifier: ISC */
/* channel.h - frames over a Unix SEQPACKET socket pair: questions, answers, notices, descriptors.
 * Used by:    every daemon. Event-loop daemons use struct channel; pool workers and the command use ipc_send()/ipc_recv().
 * Owns:       a channel owns its socket, its open questions and what waits to be sent. A handler's message lives until the
 *             handler returns (copy with ipc_copy()); descriptors that arrive belong to the handler: it closes them or keeps
 *             them; those it leaves in fds[] (not set to -1) are closed when it returns. A descriptor that is sent is given
 *             away: it is closed here once the kernel has it, or on error.
 * Packets:    one packet carries one or more frames. Frames sent during a turn of the loop are put together into as few
 *             packets as fit, in order, when the turn ends; a frame with descriptors is a packet of its own. On a channel to a
 *             pool at most `pack` frames ride together, so that questions spread over its workers.
 * Hostility:  the peer may have been taken over. A malformed frame, a message that is not in the handlers' table, an answer
 *             to nothing, more than the limit waiting: the channel is closed with a reason, never the process.
 * Errors:     an open question of a closed channel is answered with NULL and ST_DEFER. */
#ifndef IPC_CHANNEL_H
#define IPC_CHANNEL_H

#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/event/loop.h"
#include "common/ipc/codec.h"

struct channel;

/* A message that came in. */
struct ipc_in {
	struct channel *channel;
	const struct ipc_type *type;
	uint64_t request;        /* answer with channel_answer(channel, request, ...) if the asker waits; 0: a notice */
	const void *msg;         /* struct ipc_NAME */
	struct arena *arena;     /* where it was decoded; reset after the handler */
	int fds[IPC_FDS_MAX];    /* -1: none */
	bool keep;               /* in a reply function: set to keep the question open, for an answer in several parts */
};

/* A daemon's whole interface to one kind of peer, on one page: rows, ended by a zero number. */
struct ipc_handler {
	enum ipc_message number;
	void (*fn)(void *owner, struct ipc_in *in);
};

typedef void ipc_reply_fn(void *arg, struct ipc_in *in /* NULL: no answer will come */, const struct err *err);

struct channel_spec {
	const char *peer;                    /* for messages: "qmgr", "policyd/2" */
	const struct ipc_handler *handlers;  /* what this peer may send besides answers */
	void *owner;
	void (*closed)(void *owner, struct channel *ch, const char *why); /* called once, from the loop; then free it */
	unsigned pack;                       /* frames in one packet, at most; 0: as many as fit */
	size_t queue_max;                    /* octets that may wait to be sent before the channel is closed; 0: 64 MB */
};

struct channel *channel_open(struct loop *loop, int fd, const struct channel_spec *spec); /* takes fd */
void channel_free(struct channel *ch);   /* open questions get NULL; nothing is called for the channel afterwards */
bool channel_is_open(const struct channel *ch);
size_t channel_queued(const struct channel *ch);   /* octets waiting to be sent */
unsigned channel_questions(const struct channel *ch); /* open ones */
void channel_send(struct channel *ch, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds);
/* Asks; the reply comes once, with `want` decoded, or NULL after deadline_ms (0: none), on loss or refusal. Returns the request id
 * (never 0). ctl_lost for it is delivered as in->type == &ipc_type_ctl_lost; the question is then over. */
uint64_t channel_ask(struct channel *ch, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, uint64_t deadline_ms, ipc_reply_fn *fn, void *arg);
void channel_cancel(struct channel *ch, uint64_t request); /* the reply function is not called any more; a late answer is dropped */
void channel_answer(struct channel *ch, uint64_t request, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds);
void channel_flush(struct channel *ch);

/* ---- blocking use, for pool workers and the command ---- */

struct ipc_packet {             /* one packet as read; frames are taken off with ipc_packet_next() */
	struct buf data;
	size_t at;
	int fds[IPC_FDS_MAX];
	unsigned n_fds, fd_at;
};
/* ST_OK; ST_FAIL when the peer has closed; ST_DEFER when nothing came in time (timeout_ms < 0: for ever); ST_ERROR. */
enum status ipc_recv(int fd, struct ipc_packet *packet, int timeout_ms, struct err *err);
/* The next frame, decoded into *msg_out from the arena; ST_FAIL at the end of the packet. */
enum status ipc_packet_next(struct ipc_packet *packet, struct arena *a, struct ipc_in *in_out, struct err *err);
void ipc_packet_clear(struct ipc_packet *packet);
/* One frame, one packet; waits while the socket is full, up to timeout_ms. Descriptors are given away. */
enum status ipc_send(int fd, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, const int *fds, unsigned n_fds,
	int timeout_ms, struct err *err);
/* Several answers of one packet's questions may go back in one packet: build, then send. */
enum status ipc_frame_add(struct buf *packet, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, struct err *err);
enum status ipc_send_packet(int fd, const struct buf *packet, int timeout_ms, struct err *err);
/* Asks and waits for `want`; other frames that come meanwhile are refused (ST_ERROR). */
enum status ipc_call(int fd, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds, const struct ipc_type *want,
	struct arena *a, void *answer_out, int timeout_ms, struct err *err);
/* The same for an answer that may bring a descriptor: the caller's to close; -1: none. */
enum status ipc_call_fd(int fd, const struct ipc_type *type, const void *msg, const struct ipc_type *want, struct arena *a, void *answer_out,
	int *fd_out, int timeout_ms, struct err *err);
/* A connected pair, close-on-exec, non-blocking, with buffers large enough for a frame. */
bool ipc_pair(int fds_out[2], struct err *err);

#endif

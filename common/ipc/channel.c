/* SPDX-License-Identifier: ISC */
#include "common/ipc/channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/frame.h"

enum {
	PACKET_SOFT_MAX = 60 * 1024,      /* a packet of several frames is closed at this size */
	PACKET_FRAMES_MAX = 64,
	SEND_BATCH = 16,                  /* packets in one sendmmsg() */
	READS_A_TURN = 32,
	QUEUE_DEFAULT = 64 * 1024 * 1024,
	QUESTION_SLOTS = 16,
};

struct packet_out {
	uint32_t len;
	uint16_t frames;
	uint8_t n_fds;
	int fds[IPC_FDS_MAX];
};

struct question {
	struct question *next;            /* in its slot, or in the list of free ones */
	uint64_t id;
	const struct ipc_type *want;
	ipc_reply_fn *fn;
	void *arg;
	struct channel *channel;
	struct loop_timer deadline;
};

struct channel {
	struct loop *loop;
	struct channel_spec spec;
	struct loop_fd watch;
	struct loop_hook hook;
	int fd;                           /* -1: closed */
	bool busy, freed, closing;        /* in a handler; free when it returns; closed() is under way */
	struct err why;
	struct buf in;                    /* one packet */
	struct arena arena;
	bool secret;                      /* a password is in out: overwritten when it has gone */
	struct buf out;                   /* packets, one behind the other */
	size_t out_at;
	struct packet_out *packets;
	uint32_t n_packets, packets_at, cap_packets;
	bool open_packet;                 /* the last one takes more frames */
	struct question **slots;          /* by id */
	uint32_t n_slots, n_questions;
	struct question *spare;
	uint64_t last_id;
};

static void channel_fd_event(void *arg, unsigned ready);
static void channel_hook(void *arg);

struct channel *channel_open(struct loop *loop, int fd, const struct channel_spec *spec)
{
	struct channel *ch = mem_new(sizeof *ch);

	ch->loop = loop;
	ch->spec = *spec;
	if (!ch->spec.queue_max)
		ch->spec.queue_max = QUEUE_DEFAULT;
	if (!ch->spec.pack || ch->spec.pack > PACKET_FRAMES_MAX)
		ch->spec.pack = PACKET_FRAMES_MAX;
	ch->fd = fd;
	ch->n_slots = QUESTION_SLOTS;
	ch->slots = mem_new(ch->n_slots * sizeof *ch->slots);
	loop_fd_init(&ch->watch, loop, fd, channel_fd_event, ch);
	loop_hook_add(loop, &ch->hook, channel_hook, ch);
	loop_fd_set(&ch->watch, LOOP_READ);
	return ch;
}

/* ---- questions ---- */

static void questions_grow(struct channel *ch)
{
	uint32_t n = ch->n_slots * 2;
	struct question **slots = mem_new(n * sizeof *slots);

	for (uint32_t i = 0; i < ch->n_slots; i++)
		for (struct question *q = ch->slots[i], *next; q; q = next) {
			next = q->next;
			q->next = slots[q->id & (n - 1)];
			slots[q->id & (n - 1)] = q;
		}
	mem_free(ch->slots);
	ch->slots = slots;
	ch->n_slots = n;
}

static struct question *question_find(struct channel *ch, uint64_t id)
{
	struct question *q = ch->slots[id & (ch->n_slots - 1)];

	while (q && q->id != id)
		q = q->next;
	return q;
}

static void question_drop(struct channel *ch, struct question *q)
{
	struct question **at = &ch->slots[q->id & (ch->n_slots - 1)];

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	loop_timer_stop(&q->deadline);
	ch->n_questions--;
	q->next = ch->spare;
	ch->spare = q;
}

static void question_end(struct channel *ch, struct question *q, const struct err *err)
{
	ipc_reply_fn *fn = q->fn;
	void *arg = q->arg;

	question_drop(ch, q);
	if (fn)
		fn(arg, NULL, err);
}

static void question_late(void *arg)
{
	struct question *q = arg;
	struct channel *ch = q->channel;
	struct err err;

	err_set(&err, ST_DEFER, "%s did not answer in time", ch->spec.peer);
	question_end(ch, q, &err);
}

static void questions_end(struct channel *ch, const struct err *err)
{
	for (uint32_t i = 0; i < ch->n_slots; i++)
		while (ch->slots[i])
			question_end(ch, ch->slots[i], err);
}

/* ---- closing ---- */

static void channel_release(struct channel *ch)
{
	for (uint32_t i = 0; i < ch->n_packets; i++)
		if (i >= ch->packets_at)
			fds_close(ch->packets[i].fds, ch->packets[i].n_fds);
	for (uint32_t i = 0; i < ch->n_slots; i++) /* asked while the channel was being given up */
		while (ch->slots[i])
			question_drop(ch, ch->slots[i]);
	for (struct question *q = ch->spare, *next; q; q = next) {
		next = q->next;
		mem_free(q);
	}
	mem_free(ch->slots);
	mem_free(ch->packets);
	buf_clear(&ch->in);
	buf_clear(&ch->out);
	arena_clear(&ch->arena);
	mem_free(ch);
}

static void channel_shut(struct channel *ch)
{
	if (ch->fd < 0)
		return;
	loop_fd_clear(&ch->watch);
	close(ch->fd);
	ch->fd = -1;
}

static void channel_tell(void *arg)
{
	struct channel *ch = arg;
	struct err why = ch->why;

	ch->closing = false;
	if (ch->freed) {
		channel_release(ch);
		return;
	}
	ch->busy = true;
	questions_end(ch, &why);
	if (!ch->freed && ch->spec.closed)
		ch->spec.closed(ch->spec.owner, ch, why.text);
	ch->busy = false;
	if (ch->freed)
		channel_release(ch);
}

static void channel_break(struct channel *ch, const char *what)
{
	if (ch->fd < 0)
		return;
	err_set(&ch->why, ST_DEFER, "%s: %s", ch->spec.peer, what);
	channel_shut(ch);
	ch->closing = true;
	loop_defer(ch->loop, channel_tell, ch);
}

void channel_free(struct channel *ch)
{
	struct err err;

	if (!ch || ch->freed)
		return;
	channel_flush(ch);
	ch->freed = true;
	channel_shut(ch);
	loop_hook_remove(&ch->hook);
	err_set(&err, ST_DEFER, "%s: the channel was given up", ch->spec.peer);
	questions_end(ch, &err);
	if (!ch->busy && !ch->closing)
		channel_release(ch);
}

bool channel_is_open(const struct channel *ch) { return ch->fd >= 0; }
size_t channel_queued(const struct channel *ch) { return ch->out.len - ch->out_at; }
unsigned channel_questions(const struct channel *ch) { return ch->n_questions; }

/* ---- sending ---- */

static struct packet_out *packet_new(struct channel *ch)
{
	if (ch->n_packets == ch->cap_packets) {
		ch->cap_packets = ch->cap_packets ? ch->cap_packets * 2 : 16;
		ch->packets = mem_resize(ch->packets, ch->cap_packets * sizeof *ch->packets);
	}
	ch->packets[ch->n_packets] = (struct packet_out){ 0 };
	return &ch->packets[ch->n_packets++];
}

/* Puts a frame into the queue; descriptors become ours. False: refused (the text is in *err) or the channel is closed. */
static bool frame_queue(struct channel *ch, const struct ipc_type *type, uint64_t request, bool answer, const void *msg, const int *fds,
	unsigned n_fds, struct err *err)
{
	int own[IPC_FDS_MAX];
	struct packet_out *p;
	size_t before = ch->out.len;

	bug_on(n_fds > IPC_FDS_MAX);
	if (n_fds)
		memcpy(own, fds, n_fds * sizeof *own);
	if (ch->fd < 0) {
		fds_close(own, n_fds);
		err_set(err, ST_DEFER, "%s: the channel is closed", ch->spec.peer);
		return false;
	}
	ch->secret |= type == &ipc_type_auth_ask;
	if (frame_add(&ch->out, type, request, answer, msg, n_fds, err)) {
		fds_close(own, n_fds);
		return false;
	}
	p = ch->open_packet ? &ch->packets[ch->n_packets - 1] : NULL;
	if (!p || n_fds || p->frames >= ch->spec.pack || p->len + (ch->out.len - before) > PACKET_SOFT_MAX)
		p = packet_new(ch);
	p->len += (uint32_t)(ch->out.len - before);
	p->frames++;
	p->n_fds = (uint8_t)n_fds;
	if (n_fds)
		memcpy(p->fds, own, n_fds * sizeof *own);
	ch->open_packet = !n_fds;
	if (channel_queued(ch) > ch->spec.queue_max)
		channel_break(ch, "too much waits to be sent to it");
	return true;
}

/* Sends up to SEND_BATCH packets; how many went, -1 with errno. */
static int packets_write(struct channel *ch)
{
	struct mmsghdr m[SEND_BATCH] = { 0 };
	struct iovec iov[SEND_BATCH];
	unsigned n = 0;
	size_t at = ch->out_at;
	int sent;

	for (uint32_t i = ch->packets_at; i < ch->n_packets && n < SEND_BATCH && !ch->packets[i].n_fds; i++, n++) {
		iov[n] = (struct iovec){ ch->out.p + at, ch->packets[i].len };
		m[n].msg_hdr.msg_iov = &iov[n];
		m[n].msg_hdr.msg_iovlen = 1;
		at += ch->packets[i].len;
	}
	if (n < 2) { /* with descriptors, or alone */
		struct packet_out *p = &ch->packets[ch->packets_at];

		if (packet_write(ch->fd, ch->out.p + ch->out_at, p->len, p->fds, p->n_fds) < 0)
			return -1;
		fds_close(p->fds, p->n_fds);
		p->n_fds = 0;
		return 1;
	}
	do
		sent = sendmmsg(ch->fd, m, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return sent;
}

static void output_drop(struct channel *ch)
{
	for (uint32_t i = ch->packets_at; i < ch->n_packets; i++)
		fds_close(ch->packets[i].fds, ch->packets[i].n_fds);
	ch->packets_at = ch->n_packets = 0;
	ch->out_at = 0;
	buf_reset(&ch->out);
	loop_fd_set(&ch->watch, LOOP_READ);
}

void channel_flush(struct channel *ch)
{
	ch->open_packet = false;
	while (ch->fd >= 0 && ch->packets_at < ch->n_packets) {
		int n = packets_write(ch);

		if (n < 0 && errno == EAGAIN) {
			loop_fd_set(&ch->watch, LOOP_READ | LOOP_WRITE);
			break;
		}
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			output_drop(ch); /* its last words are still to be read; behind them is the end */
			return;
		}
		if (n < 0) {
			channel_break(ch, strerror(errno));
			return;
		}
		for (; n; n--)
			ch->out_at += ch->packets[ch->packets_at++].len;
	}
	if (ch->packets_at == ch->n_packets) {
		ch->packets_at = ch->n_packets = 0;
		ch->out_at = 0;
		if (ch->secret && ch->out.p)
			explicit_bzero(ch->out.p, ch->out.cap);
		ch->secret = false;
		if (ch->out.cap > 4 * PACKET_SOFT_MAX)
			buf_clear(&ch->out);
		buf_reset(&ch->out);
		if (ch->fd >= 0)
			loop_fd_set(&ch->watch, LOOP_READ);
	} else if (ch->out_at > ch->out.len / 2) {
		buf_drop(&ch->out, ch->out_at);
		ch->out_at = 0;
		memmove(ch->packets, ch->packets + ch->packets_at, (ch->n_packets - ch->packets_at) * sizeof *ch->packets);
		ch->n_packets -= ch->packets_at;
		ch->packets_at = 0;
	}
}

static void channel_hook(void *arg)
{
	struct channel *ch = arg;

	if (ch->packets_at < ch->n_packets && !(ch->watch.want & LOOP_WRITE))
		channel_flush(ch);
}

void channel_send(struct channel *ch, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds)
{
	struct err err = ERR_INIT;

	if (!frame_queue(ch, type, 0, false, msg, fds, n_fds, &err) && err.status == ST_ERROR)
		channel_break(ch, err.text);
}

void channel_answer(struct channel *ch, uint64_t request, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds)
{
	struct err err = ERR_INIT;

	if (!request) {
		int own[IPC_FDS_MAX];

		if (n_fds)
			memcpy(own, fds, n_fds * sizeof *own);
		fds_close(own, n_fds);
		return;
	}
	if (!frame_queue(ch, type, request, true, msg, fds, n_fds, &err) && err.status == ST_ERROR)
		channel_break(ch, err.text);
}

uint64_t channel_ask(struct channel *ch, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, uint64_t deadline_ms, ipc_reply_fn *fn, void *arg)
{
	struct err err = ERR_INIT;
	struct question *q = ch->spare;
	uint64_t id = ++ch->last_id;
	bool queued = frame_queue(ch, type, id, false, msg, fds, n_fds, &err);

	if (q)
		ch->spare = q->next;
	else
		q = mem_new(sizeof *q);
	*q = (struct question){ .id = id, .want = want, .fn = fn, .arg = arg, .channel = ch };
	if (ch->n_questions >= ch->n_slots)
		questions_grow(ch);
	q->next = ch->slots[id & (ch->n_slots - 1)];
	ch->slots[id & (ch->n_slots - 1)] = q;
	ch->n_questions++;
	/* A question that can't be sent is answered like any other: later, from the loop. */
	if (!queued)
		loop_timer_start(&q->deadline, ch->loop, 0, question_late, q);
	else if (deadline_ms)
		loop_timer_start(&q->deadline, ch->loop, deadline_ms, question_late, q);
	return id;
}

void channel_cancel(struct channel *ch, uint64_t request)
{
	struct question *q = question_find(ch, request);

	if (q)
		question_drop(ch, q);
}

/* ---- receiving ---- */

static const struct ipc_handler *handler_find(const struct channel *ch, unsigned number)
{
	for (const struct ipc_handler *h = ch->spec.handlers; h && h->number; h++)
		if (h->number == number)
			return h;
	return NULL;
}

/* False: the channel is broken. */
static bool answer_take(struct channel *ch, struct ipc_in *in)
{
	struct question *q = question_find(ch, in->request);
	ipc_reply_fn *fn;

	if (!q) {
		if (in->request <= ch->last_id)
			return true; /* late: cancelled or timed out */
		channel_break(ch, "it answered what was not asked");
		return false;
	}
	if (in->type != q->want && in->type != &ipc_type_ctl_lost) {
		channel_break(ch, "it answered with the wrong message");
		return false;
	}
	fn = q->fn;
	q->fn = NULL; /* a function that gives up the channel is not called again for the same question */
	fn(q->arg, in, NULL);
	/* The function may have cancelled it, or ended the channel's questions. */
	q = question_find(ch, in->request);
	if (q && in->keep)
		q->fn = fn;
	else if (q)
		question_drop(ch, q);
	return true;
}

static bool frame_take(struct channel *ch, struct str data, const struct frame_head *head, const struct ipc_type *type, int *fds)
{
	struct ipc_in in = { .channel = ch, .type = type, .request = head->request, .arena = &ch->arena, .fds = IPC_NO_FDS };
	const struct ipc_handler *h = NULL;
	struct err err = ERR_INIT;
	bool ok = true;
	void *msg;

	for (unsigned i = 0; i < head->fds; i++) {
		in.fds[i] = fds[i];
		fds[i] = -1;
	}
	if (!(head->flags & FRAME_ANSWER) && !(h = handler_find(ch, head->message))) {
		char text[128];

		snprintf(text, sizeof text, "it may not send %s", type->name);
		channel_break(ch, text);
		fds_close(in.fds, IPC_FDS_MAX);
		return false;
	}
	msg = arena_alloc(&ch->arena, type->size);
	in.msg = msg;
	if (ipc_decode(type, data, &ch->arena, msg, &err)) {
		channel_break(ch, err.text);
		ok = false;
	} else if (h) {
		h->fn(ch->spec.owner, &in);
	} else {
		ok = answer_take(ch, &in);
	}
	fds_close(in.fds, IPC_FDS_MAX);
	arena_reset(&ch->arena);
	return ok && ch->fd >= 0 && !ch->freed;
}

static void packet_take(struct channel *ch, size_t n, int *fds, unsigned n_fds)
{
	struct str rest = str_make(ch->in.p, n);
	unsigned fd_at = 0;

	while (rest.len) {
		const struct ipc_type *type;
		struct frame_head head;
		struct err err = ERR_INIT;

		if (frame_head_read(rest, n_fds - fd_at, &head, &type, &err)) {
			channel_break(ch, err.text);
			break;
		}
		if (!frame_take(ch, str_sub(rest, sizeof head, head.length - sizeof head), &head, type, fds + fd_at))
			break;
		fd_at += head.fds;
		rest = str_from(rest, head.length);
	}
	fds_close(fds, n_fds);
}

static void channel_fd_event(void *arg, unsigned ready)
{
	struct channel *ch = arg;

	ch->busy = true;
	if (ready & LOOP_WRITE)
		channel_flush(ch);
	for (int i = 0; i < READS_A_TURN && ch->fd >= 0 && !ch->freed && (ready & LOOP_READ); i++) {
		int fds[IPC_FDS_MAX];
		unsigned n_fds;
		/* Only the pages that a packet touches become real memory. */
		ssize_t n = packet_read(ch->fd, buf_room(&ch->in, IPC_FRAME_MAX), IPC_FRAME_MAX, fds, &n_fds);

		if (n > 0) {
			packet_take(ch, (size_t)n, fds, n_fds);
		} else if (n == 0) {
			channel_break(ch, "it has closed the channel");
		} else if (errno == ECONNRESET) {
			continue; /* told once, of what we sent and it did not read; what it sent comes behind */
		} else if (errno == EAGAIN) {
			break;
		} else {
			channel_break(ch, strerror(errno));
		}
	}
	ch->busy = false;
	if (ch->freed && !ch->closing)
		channel_release(ch);
}

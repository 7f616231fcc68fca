/* SPDX-License-Identifier: ISC */
/* What happens to a message once it is accepted. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/spool/priv.h"

/* ---- recording ---- */

static void records_add(struct spool *spool, struct spool_msg *msg, uint32_t first_seq, struct str framed, spool_done_fn *fn, void *arg)
{
	struct journal_entry entry = { .type = JOURNAL_RECORDS, .salt = msg->salt, .seq = first_seq };
	struct batch *b = batch_room(spool, framed.len);
	size_t payload;

	memcpy(entry.id, msg->id, sizeof entry.id);
	payload = journal_entry_open(&b->data, &entry);
	buf_add_str(&b->data, framed);
	journal_entry_close(&b->data, payload);
	batch_item_add(b, ITEM_RECORDS, msg, payload, fn, arg);
}

enum status spool_record(struct spool *spool, struct spool_msg *msg, const struct ipc_spool_record *records, uint32_t n, spool_done_fn *fn,
	void *arg, struct err *err)
{
	size_t piece_max = spool->seg_size / 4, start, piece, before;
	uint32_t seq = msg->seq, first;
	enum status st = ST_OK;

	if (msg->state != SPOOL_LIVE || !n)
		return err_set(err, ST_ERROR, "message %s: nothing can be recorded", msg->id);
	if (!msg->pending)
		msg->pending = mem_new(sizeof *msg->pending);
	before = start = msg->pending->len;
	for (uint32_t i = 0; i < n && !st; i++) {
		size_t len = msg->pending->len;

		st = spool_record_encode(msg->pending, msg->salt, ++seq, &records[i], err);
		if (!st && msg->pending->len - len > piece_max)
			st = err_set(err, ST_ERROR, "message %s: a record of %zu octets is too large for the journal", msg->id, msg->pending->len - len);
	}
	if (!st && msg->file_end + msg->pending->len > SPOOL_HEAD + msg->content + msg->envelope + SPOOL_TAIL_MAX)
		st = err_set(err, ST_ERROR, "message %s: too many records", msg->id);
	if (st) {
		msg->pending->len = before;
		return st;
	}
	/* Pieces that the journal can take; the last one reports. */
	for (first = msg->seq + 1, piece = start; first <= seq;) {
		struct str payload, rest = str_from(buf_str(msg->pending), piece);
		uint32_t k = 0;
		size_t len = 0;

		do
			len += spool_record_frame(str_from(rest, len), msg->salt, first + k++, &payload);
		while (first + k <= seq && len + SPOOL_RECORD_HEAD + 8 < piece_max / 2);
		records_add(spool, msg, first, str_sub(rest, 0, len), first + k > seq ? fn : NULL, arg);
		first += k;
		piece += len;
	}
	spool->stats.records += n;
	msg->seq = seq;
	return ST_OK;
}

void spool_finish(struct spool *spool, struct spool_msg *msg)
{
	bug_on(msg->state != SPOOL_LIVE);
	spool->stats.finishes++;
	finish_add(spool, msg);
	msg_forget(spool, msg);
}

/* ---- reading ---- */

int spool_open_reader(struct spool *spool, struct spool_msg *msg, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	struct spool_head head;
	unsigned char image[SPOOL_HEAD];
	uint32_t crc;
	enum status st = ST_OK;
	int fd;

	if (msg->state != SPOOL_LIVE) {
		err_set(err, ST_DEFER, "message %s is not in the queue", msg->id);
		return -1;
	}
	if (!msg->file_end)
		return young_open(spool, msg, err);
	fd = fs->open(fs->arg, spool->shard_fd[msg->shard], msg->id, O_RDONLY, 0);
	if (fd < 0) {
		err_set(err, errno == ENOENT ? ST_ERROR : ST_DEFER, "queue/%02x/%s: %s", msg->shard, msg->id, strerror(errno));
		return -1;
	}
	if (!msg->unchecked)
		return fd;
	/* Read back after a start: what the disk has kept is compared once. */
	if (spool_fs_read(fs, fd, image, sizeof image, 0) || spool_head_decode(image, &head) != SPOOL_HEAD_COMPLETE)
		st = err_set(err, ST_ERROR, "queue/%02x/%s: the head can't be read", msg->shard, msg->id);
	else
		st = spool_content_crc(fs, fd, head.content, &crc, err);
	if (!st && crc != head.content_crc)
		st = err_set(err, ST_ERROR, "queue/%02x/%s: the content is damaged", msg->shard, msg->id);
	if (st) {
		if (st == ST_FAIL && err)
			err->status = ST_ERROR;
		fs->close(fs->arg, fd);
		return -1;
	}
	msg->unchecked = false;
	return fd;
}

static enum status settled_read(struct spool *spool, const struct spool_msg *msg, struct buf *out, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	int fd = fs->open(fs->arg, spool->shard_fd[msg->shard], msg->id, O_RDONLY, 0);
	uint64_t at = SPOOL_HEAD + msg->content;
	size_t n = (size_t)(msg->file_end - at);
	unsigned char image[SPOOL_HEAD];
	struct spool_head head;
	enum status st = ST_OK;

	if (fd < 0)
		return err_set(err, errno == ENOENT ? ST_ERROR : ST_DEFER, "queue/%02x/%s: %s", msg->shard, msg->id, strerror(errno));
	if (spool_fs_read(fs, fd, image, sizeof image, 0) || spool_fs_read(fs, fd, buf_room(out, n), n, (off_t)at))
		st = err_set(err, errno == EPIPE ? ST_ERROR : ST_DEFER, "queue/%02x/%s: can't read it: %s", msg->shard, msg->id, strerror(errno));
	else
		out->len += n;
	fs->close(fs->arg, fd);
	if (!st && (spool_head_decode(image, &head) != SPOOL_HEAD_COMPLETE || head.salt != msg->salt || head.envelope != msg->envelope ||
	    spool_crc(0, out->p, msg->envelope) != head.envelope_crc))
		st = err_set(err, ST_ERROR, "queue/%02x/%s: head or envelope is damaged", msg->shard, msg->id);
	return st;
}

enum status spool_load(struct spool *spool, struct spool_msg *msg, struct arena *a, struct spool_loaded *out, struct err *err)
{
	struct buf image = BUF_INIT;
	struct spool_head head;
	enum status st;
	size_t end;

	memset(out, 0, sizeof *out);
	out->msg = msg;
	if (msg->state != SPOOL_LIVE)
		return err_set(err, ST_ERROR, "message %s is not in the queue", msg->id);
	if (msg->file_end)
		st = settled_read(spool, msg, &image, err);
	else
		st = young_read(spool, msg, false, &head, NULL, &image, err);
	if (!st) {
		if (msg->pending)
			buf_add(&image, msg->pending->p, msg->pending->len);
		out->envelope = arena_alloc(a, sizeof *out->envelope);
		st = ipc_decode(&ipc_type_spool_envelope, str_make(image.p, msg->envelope), a, out->envelope, err);
	}
	if (!st)
		st = spool_records_decode(str_from(buf_str(&image), msg->envelope), msg->salt, 1, a, &out->records, &out->n_records, &end, err);
	if (!st && out->n_records != msg->seq)
		st = err_set(err, ST_ERROR, "queue/%02x/%s: record %u is damaged", msg->shard, msg->id, out->n_records + 1);
	buf_clear(&image);
	return st == ST_FAIL ? ST_ERROR : st;
}

/* SPDX-License-Identifier: ISC */
/* What is durable only in the journal becomes durable in the messages' own files: in the background when it has waited long
 * enough, sooner when the journal runs short of segments. Then a segment may be used again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/spool/priv.h"

static struct file_job *file_job_of(struct spool_job *job)
{
	return (struct file_job *)(void *)((char *)job - offsetof(struct file_job, job));
}

enum status young_read(struct spool *spool, const struct spool_msg *msg, bool content, struct spool_head *head_out, struct buf *content_out,
	struct buf *envelope_out, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	int fd = spool->seg[msg->segment].fd;
	off_t at = (off_t)msg->place;
	unsigned char head[SPOOL_HEAD];
	int bad;

	bad = spool_fs_read(fs, fd, head, sizeof head, at) || spool_fs_read(fs, fd, buf_room(envelope_out, msg->envelope), msg->envelope,
		at + SPOOL_HEAD + (off_t)msg->content);
	if (!bad && content) {
		bad = spool_fs_read(fs, fd, buf_room(content_out, msg->content), msg->content, at + SPOOL_HEAD);
		content_out->len += bad ? 0 : msg->content;
	}
	if (bad)
		return err_set(err, ST_DEFER, "journal/%02u: can't read %s: %s", msg->segment, msg->id, strerror(errno));
	envelope_out->len += msg->envelope;
	if (spool_head_decode(head, head_out) != SPOOL_HEAD_COMPLETE || head_out->salt != msg->salt ||
	    spool_crc(0, envelope_out->p + envelope_out->len - msg->envelope, msg->envelope) != head_out->envelope_crc ||
	    (content && spool_crc(0, content_out->p + content_out->len - msg->content, msg->content) != head_out->content_crc))
		return err_set(err, ST_ERROR, "journal/%02u: %s is damaged there", msg->segment, msg->id);
	return ST_OK;
}

int memory_file(const char *name, struct err *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		err_set(err, ST_DEFER, "memfd_create: %s", strerror(errno));
	return fd;
}

int young_open(struct spool *spool, struct spool_msg *msg, struct err *err)
{
	struct buf content = BUF_INIT, envelope = BUF_INIT;
	struct spool_head head;
	int fd = -1;

	if (msg->fd >= 0) {
		fd = fcntl(msg->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			err_set(err, ST_DEFER, "message %s: dup: %s", msg->id, strerror(errno));
		return fd;
	}
	if (!young_read(spool, msg, true, &head, &content, &envelope, err))
		fd = memory_file(msg->id, err);
	if (fd >= 0 && spool_fs_write(&spool_fs_real, fd, content.p, content.len, SPOOL_CONTENT_OFFSET)) {
		err_set(err, ST_DEFER, "message %s: no memory for its content: %s", msg->id, strerror(errno));
		close(fd);
		fd = -1;
	}
	if (fd >= 0)
		fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
	buf_clear(&content);
	buf_clear(&envelope);
	return fd;
}

bool settle_fill(struct spool *spool, struct file_item *item)
{
	struct spool_msg *msg = item->msg;

	if (!msg->file_end) {
		if (young_read(spool, msg, true, &item->head, &item->content, &item->tail, &item->err)) {
			item->status = item->err.status;
			return false;
		}
		item->write_head = item->make = item->trim = true;
		item->tail_at = SPOOL_HEAD + msg->content;
		msg->named = true;
	} else {
		item->tail_at = msg->file_end;
	}
	if (msg->pending) {
		buf_add(&item->tail, msg->pending->p, msg->pending->len);
		item->settled = (uint32_t)msg->pending->len;
	}
	return true;
}

static void settle_failed(struct spool *spool, struct file_item *item)
{
	struct spool_msg *msg = item->msg;

	/* It stays durable in the journal, first in its list as it was. */
	list_push_front(&spool->seg[msg->segment].messages, &msg->node);
	msg->later = NO_SEGMENT;
	if (item->sync_failed) {
		spool_break(spool, item->err.text, item->error);
		return;
	}
	spool->retry_ms = clock_ms() + RETRY_MS;
	if (item->error == ENOSPC || item->error == EDQUOT)
		health_set(spool, SPOOL_FULL, item->err.text);
	else
		spool_trouble_report(spool, SPOOL_IO, item->id, item->err.text);
}

/* The file has what it was given. */
static void settle_item_done(struct spool *spool, struct file_item *item)
{
	struct spool_msg *msg = item->msg;

	msg->settling = false;
	if (msg->state == SPOOL_GONE) {
		msg_release(spool, msg);
		return;
	}
	if (item->status) {
		settle_failed(spool, item);
		return;
	}
	spool->stats.settled++;
	msg->file_end = item->tail_at + item->tail.len;
	msg_fd_close(spool, msg);
	if (msg->pending) {
		buf_drop(msg->pending, item->settled);
		if (!msg->pending->len) {
			buf_clear(msg->pending);
			mem_free(msg->pending);
			msg->pending = NULL;
		}
	}
	if (msg->later != NO_SEGMENT)
		segment_list_add(spool, msg, msg->later);
	msg->later = NO_SEGMENT;
}

static void settle_done(struct spool *spool, struct spool_job *job)
{
	struct file_job *fj = file_job_of(job);
	bool ok = false;

	if (spool->crossed) {
		file_job_drop(spool, fj);
		return;
	}
	spool->settle_jobs--;
	for (uint32_t i = 0; i < fj->n; i++) {
		struct file_item *item = &fj->items[i];

		spool->seg[item->msg->segment].settling--;
		ok |= !item->status;
		settle_item_done(spool, item);
	}
	if (ok && spool->health == SPOOL_FULL && clock_ms() > spool->retry_ms)
		health_set(spool, SPOOL_GOOD, "");
	file_job_free(fj);
}

/* ---- choosing ---- */

static void settle_take(struct spool *spool, struct segment *s, uint64_t older_than_ms, struct file_job **fj)
{
	unsigned looked = 0;

	list_each_safe(&s->messages, n) {
		struct spool_msg *msg = list_entry(n, struct spool_msg, node);
		struct file_item *item;

		if (msg->since_ms > older_than_ms || (*fj && (*fj)->n >= SETTLE_BATCH) || ++looked > 4 * SETTLE_BATCH)
			return;
		if (msg->waiting) /* what is not yet durable in the journal does not go into the file */
			continue;
		list_remove(n);
		if (msg->file_end && !msg->pending)
			continue; /* nothing that the file does not have */
		if (!*fj)
			*fj = file_job_new(settle_done);
		item = file_job_add(*fj, msg);
		settle_fill(spool, item);
		msg->settling = true;
		msg->later = NO_SEGMENT;
		s->settling++;
	}
}

/* ---- segments used up ---- */

struct retire_job {
	struct spool_job job;
	uint32_t segment;
	uint64_t dirs;
	int error;
};

static void retire_run(struct spool *spool, struct spool_job *job)
{
	struct retire_job *rj = (struct retire_job *)(void *)job;

	for (unsigned d = 0; d < SHARDS && !rj->error; d++)
		if (rj->dirs & 1ull << d && spool->fs->fsync(spool->fs->arg, spool->shard_fd[d]))
			rj->error = errno;
}

static void retire_done(struct spool *spool, struct spool_job *job)
{
	struct retire_job *rj = (struct retire_job *)(void *)job;
	struct segment *s = &spool->seg[rj->segment];

	if (rj->error && !spool->crossed) {
		s->state = SEG_USED;
		spool_break(spool, "queue: fsync of a directory", rj->error);
	} else {
		s->state = SEG_RETIRED;
		s->retired = spool->next_batch;
		spool->tail = (spool->tail + 1) % spool->n_seg;
	}
	mem_free(rj);
}

static void retire_turn(struct spool *spool)
{
	struct segment *s = &spool->seg[spool->tail];
	struct retire_job *rj;

	if (spool->tail == spool->cur || s->state != SEG_USED || !list_empty(&s->messages) || s->settling || s->unlinks)
		return;
	rj = mem_new(sizeof *rj);
	_Static_assert(offsetof(struct retire_job, job) == 0, "cast");
	rj->job.run = retire_run;
	rj->job.done = retire_done;
	rj->segment = spool->tail;
	rj->dirs = s->gone;
	s->state = SEG_RETIRING;
	job_submit(spool, LANE_FILES, &rj->job);
}

static unsigned segments_free(const struct spool *spool)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < spool->n_seg; i++)
		n += spool->seg[i].state == SEG_FREE || spool->seg[i].state == SEG_RETIRED;
	return n;
}

void settle_turn(struct spool *spool)
{
	uint64_t now = clock_ms();
	struct file_job *fj = NULL;

	if (spool->health == SPOOL_BROKEN || now < spool->retry_ms)
		return;
	retire_turn(spool);
	if (spool->settle_jobs >= SETTLE_JOBS)
		return;
	if (segments_free(spool) < spool->n_seg / 2 && spool->tail != spool->cur) {
		segments_grow(spool);
		settle_take(spool, &spool->seg[spool->tail], UINT64_MAX, &fj);
	}
	for (uint32_t i = 0; i < spool->n_seg && now >= spool->opt.settle_ms; i++)
		settle_take(spool, &spool->seg[(spool->tail + i) % spool->n_seg], now - spool->opt.settle_ms, &fj);
	if (fj) {
		spool->settle_jobs++;
		job_submit(spool, LANE_FILES, &fj->job);
	} else if (spool->health == SPOOL_FULL && !spool->settle_jobs) {
		health_set(spool, SPOOL_GOOD, ""); /* what did not fit has been delivered: nothing is left to try with */
	}
}

/* Everything that only the journal has, now, on this thread; no job may be under way. For the end and for spool_check(). */
bool settle_all(struct spool *spool, struct err *err)
{
	bool good = true;

	for (uint32_t i = 0; i < spool->n_seg; i++) {
		struct segment *s = &spool->seg[i];

		while (!list_empty(&s->messages)) {
			struct file_job *fj = file_job_new(NULL);

			while (!list_empty(&s->messages) && fj->n < SETTLE_BATCH) {
				struct list *n = s->messages.next;
				struct spool_msg *msg = list_entry(n, struct spool_msg, node);

				list_remove(n);
				if (msg->file_end && !msg->pending)
					continue;
				msg->settling = true;
				settle_fill(spool, file_job_add(fj, msg));
			}
			file_job_run(spool, &fj->job);
			for (uint32_t k = 0; k < fj->n; k++) {
				struct file_item *item = &fj->items[k];

				if (item->status && good) {
					err_set(err, item->status, "%s", item->err.text);
					good = false;
				}
				item->sync_failed = false; /* the caller sees it in the result */
				settle_item_done(spool, item);
			}
			file_job_free(fj);
			if (!good)
				return false;
		}
	}
	return good;
}

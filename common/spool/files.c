/* SPDX-License-Identifier: ISC */
/* Messages' own files: many at a time are written, the kernel is asked to begin, and only then is each waited for, so that the
 * waits are for one another's work. Directories last, each once. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/spool/priv.h"

struct file_job *file_job_new(void (*done)(struct spool *spool, struct spool_job *job))
{
	struct file_job *fj = mem_new(sizeof *fj);

	fj->job.run = file_job_run;
	fj->job.done = done;
	return fj;
}

struct file_item *file_job_add(struct file_job *fj, struct spool_msg *msg)
{
	struct file_item *item;

	if (fj->n == fj->cap) {
		fj->cap = fj->cap ? fj->cap * 2 : 8;
		fj->items = mem_resize(fj->items, fj->cap * sizeof *fj->items);
	}
	item = &fj->items[fj->n++];
	memset(item, 0, sizeof *item);
	item->fd = item->from_fd = -1;
	item->msg = msg;
	if (msg) {
		memcpy(item->id, msg->id, sizeof item->id);
		item->shard = msg->shard;
	}
	return item;
}

void file_job_free(struct file_job *fj)
{
	for (uint32_t i = 0; i < fj->n; i++) {
		buf_clear(&fj->items[i].tail);
		buf_clear(&fj->items[i].content);
	}
	mem_free(fj->items);
	mem_free(fj);
}

void file_job_drop(struct spool *spool, struct file_job *fj)
{
	for (uint32_t i = 0; i < fj->n; i++) {
		fj->items[i].msg->settling = false;
		msg_release(spool, fj->items[i].msg);
	}
	file_job_free(fj);
}

static void item_fail(struct file_item *item, const char *what)
{
	item->error = errno;
	item->status = err_set(&item->err, errno == ENOENT ? ST_FAIL : ST_DEFER, "queue/%02x/%s: %s: %s", item->shard, item->id, what,
		strerror(errno));
}

/* From another file, checked on the way (or its checksum found, with item->crc). */
static bool content_copy(const struct spool_fs *fs, struct file_item *item)
{
	enum { PIECE = 128 * 1024 };
	uint64_t left = item->head.content;
	uint32_t want = item->head.content_crc;
	off_t at = SPOOL_CONTENT_OFFSET;
	uint32_t crc = 0;
	char *p = mem_new(PIECE);
	bool ok = true;

	while (left && ok) {
		size_t n = left < PIECE ? (size_t)left : PIECE;

		if (spool_fs_read(&spool_fs_real, item->from_fd, p, n, at)) {
			item->status = err_set(&item->err, errno == EPIPE ? ST_FAIL : ST_DEFER, "can't read the content: %s", strerror(errno));
			ok = false;
		} else if (spool_fs_write(fs, item->fd, p, n, at)) {
			item_fail(item, "write");
			ok = false;
		}
		crc = spool_crc(crc, p, n);
		at += (off_t)n;
		left -= n;
	}
	mem_free(p);
	item->head.content_crc = crc;
	if (ok && !item->crc && crc != want) {
		item->status = err_set(&item->err, ST_FAIL, "the content is damaged");
		ok = false;
	}
	return ok;
}

static void item_write(struct spool *spool, struct file_item *item)
{
	const struct spool_fs *fs = spool->fs;
	unsigned char head[SPOOL_HEAD];

	item->fd = fs->open(fs->arg, spool->shard_fd[item->shard], item->id, O_RDWR | (item->make ? O_CREAT : 0), 0600);
	if (item->fd < 0) {
		item_fail(item, "open");
		return;
	}
	if (item->content.len && spool_fs_write(fs, item->fd, item->content.p, item->content.len, SPOOL_CONTENT_OFFSET)) {
		item_fail(item, "write");
		return;
	}
	if (item->from_fd >= 0 && !content_copy(fs, item))
		return;
	if (item->crc && item->from_fd < 0) {
		item->status = spool_content_crc(fs, item->fd, item->head.content, &item->head.content_crc, &item->err);
		if (item->status) {
			item->status = ST_DEFER;
			return;
		}
	}
	if (item->tail.len && spool_fs_write(fs, item->fd, item->tail.p, item->tail.len, (off_t)item->tail_at)) {
		item_fail(item, "write");
		return;
	}
	if (item->trim && fs->ftruncate(fs->arg, item->fd, (off_t)(item->tail_at + item->tail.len))) {
		item_fail(item, "truncate");
		return;
	}
	if (item->write_head) {
		spool_head_encode(&item->head, SPOOL_HEAD_COMPLETE, head);
		if (spool_fs_write(fs, item->fd, head, sizeof head, 0)) {
			item_fail(item, "write");
			return;
		}
	}
	fs->writeback(fs->arg, item->fd);
}

void file_job_run(struct spool *spool, struct spool_job *job)
{
	struct file_job *fj = (struct file_job *)(void *)((char *)job - offsetof(struct file_job, job));
	const struct spool_fs *fs = spool->fs;
	uint64_t dirs = 0;

	for (uint32_t i = 0; i < fj->n; i++)
		if (!fj->items[i].status)
			item_write(spool, &fj->items[i]);
	for (uint32_t i = 0; i < fj->n; i++) {
		struct file_item *item = &fj->items[i];

		if (!item->status && fs->fdatasync(fs->arg, item->fd)) {
			item_fail(item, "fdatasync");
			item->sync_failed = true;
		}
		if (!item->status && item->write_head)
			dirs |= 1ull << item->shard;
		if (item->fd >= 0)
			fs->close(fs->arg, item->fd);
		item->fd = -1;
	}
	for (unsigned d = 0; d < SHARDS; d++) {
		if (!(dirs & 1ull << d) || !fs->fsync(fs->arg, spool->shard_fd[d]))
			continue;
		for (uint32_t i = 0; i < fj->n; i++)
			if (fj->items[i].shard == d && !fj->items[i].status) {
				item_fail(&fj->items[i], "fsync of its directory");
				fj->items[i].status = ST_DEFER;
				fj->items[i].sync_failed = true;
			}
	}
}

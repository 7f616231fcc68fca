/* SPDX-License-Identifier: ISC */
/* What administrators ask for: a copy of a message, a message out of the way. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/spool/priv.h"

/* The whole file in memory: its head, content and envelope may be in the journal, its last records here. */
static enum status image_write(struct spool *spool, struct spool_msg *msg, int to, struct err *err)
{
	struct file_item item = { .msg = msg, .from_fd = -1 };
	bool named = msg->named;
	unsigned char head[SPOOL_HEAD];
	char piece[16384];
	enum status st = ST_OK;
	int from = -1;

	if (!settle_fill(spool, &item)) {
		*err = item.err;
		st = item.status;
	}
	msg->named = named; /* nothing was written for it */
	if (!st && msg->file_end && (from = spool_open_reader(spool, msg, err)) < 0)
		st = err->status;
	for (uint64_t at = 0; !st && from >= 0 && at < msg->file_end;) {
		size_t n = msg->file_end - at < sizeof piece ? (size_t)(msg->file_end - at) : sizeof piece;

		if (spool_fs_read(spool->fs, from, piece, n, (off_t)at) || spool_fs_write(&spool_fs_real, to, piece, n, (off_t)at))
			st = err_set(err, ST_DEFER, "message %s: can't copy it: %s", msg->id, strerror(errno));
		at += n;
	}
	if (!st && (spool_fs_write(&spool_fs_real, to, item.content.p, item.content.len, SPOOL_CONTENT_OFFSET) ||
	    spool_fs_write(&spool_fs_real, to, item.tail.p, item.tail.len, (off_t)item.tail_at)))
		st = err_set(err, ST_DEFER, "no memory for a copy: %s", strerror(errno));
	if (!st && item.write_head) {
		spool_head_encode(&item.head, SPOOL_HEAD_COMPLETE, head);
		if (spool_fs_write(&spool_fs_real, to, head, sizeof head, 0))
			st = err_set(err, ST_DEFER, "no memory for a copy: %s", strerror(errno));
	}
	if (from >= 0)
		close(from);
	buf_clear(&item.tail);
	buf_clear(&item.content);
	return st;
}

int spool_export(struct spool *spool, struct spool_msg *msg, struct err *err)
{
	int fd;

	if (msg->state != SPOOL_LIVE) {
		err_set(err, ST_DEFER, "message %s is not accepted yet", msg->id);
		return -1;
	}
	if (msg->file_end && !msg->pending && !msg->settling)
		return spool_open_reader(spool, msg, err);
	fd = memory_file(msg->id, err);
	if (fd < 0)
		return -1;
	if (image_write(spool, msg, fd, err)) {
		close(fd);
		return -1;
	}
	fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	return fd;
}

/* ---- out of the way ---- */

static void reason_write(struct spool *spool, const char *name, const char *reason)
{
	const struct spool_fs *fs = spool->fs;
	char path[300];
	int fd;

	snprintf(path, sizeof path, "%.250s.reason", name);
	fd = fs->open(fs->arg, spool->damaged_fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return;
	/* For people; the file itself is what matters. */
	if (!spool_fs_write(fs, fd, reason, strlen(reason), 0))
		spool_fs_write(fs, fd, "\n", 1, (off_t)strlen(reason));
	fs->close(fs->arg, fd);
}

enum status file_set_aside(struct spool *spool, unsigned shard, const char *name, const char *reason, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	char to[280], path[300];

	snprintf(to, sizeof to, "%.250s", name);
	for (unsigned i = 1; i < 1000 && !faccessat(spool->damaged_fd, to, F_OK, 0); i++)
		snprintf(to, sizeof to, "%.250s.%u", name, i);
	snprintf(path, sizeof path, "queue/%02x/%.250s", shard, name);
	reason_write(spool, to, reason);
	if (fs->rename(fs->arg, spool->shard_fd[shard], name, spool->damaged_fd, to))
		return err_set(err, ST_DEFER, "%s: can't move it to damaged/: %s", path, strerror(errno));
	if (fs->fsync(fs->arg, spool->damaged_fd) || fs->fsync(fs->arg, spool->shard_fd[shard]))
		return err_set(err, ST_DEFER, "damaged: fsync: %s", strerror(errno));
	spool_trouble_report(spool, SPOOL_DAMAGED, path, reason);
	return ST_OK;
}

enum status spool_set_aside(struct spool *spool, struct spool_msg *msg, const char *reason, struct err *err)
{
	enum status st;

	if (msg->state != SPOOL_LIVE || msg->waiting || msg->settling)
		return err_set(err, ST_DEFER, "message %s is being written", msg->id);
	if (!msg->file_end || msg->pending) {
		/* As complete as it can be made; if even that fails, what there is moves away. */
		struct file_job *fj = file_job_new(NULL);
		struct file_item *item = file_job_add(fj, msg);

		settle_fill(spool, item);
		file_job_run(spool, &fj->job);
		file_job_free(fj);
	}
	st = file_set_aside(spool, msg->shard, msg->id, reason, err);
	if (!st)
		spool_finish(spool, msg);
	return st;
}

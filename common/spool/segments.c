/* SPDX-License-Identifier: ISC */
/* The journal's segments: made, opened, and one more when the rest are short. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/base/clock.h"
#include "common/spool/priv.h"

static enum status segment_make(struct spool *spool, const char *name, int fd, struct err *err)
{
	enum { PIECE = 1024 * 1024 };
	const struct spool_fs *fs = spool->fs;
	char *zeros = mem_new(PIECE);
	enum status st = ST_OK;

	/* Written, not only allocated, so that a later fdatasync() has no metadata to write. Not every file system can fallocate. */
	fs->fallocate(fs->arg, fd, (off_t)spool->seg_size);
	for (uint32_t at = 0; at < spool->seg_size && !st; at += PIECE)
		if (spool_fs_write(fs, fd, zeros, spool->seg_size - at < PIECE ? spool->seg_size - at : PIECE, (off_t)at))
			st = err_set(err, errno == ENOSPC ? ST_DEFER : ST_ERROR, "%s/journal/%s: %s", spool->dir, name, strerror(errno));
	mem_free(zeros);
	if (!st && fs->fsync(fs->arg, fd))
		st = err_set(err, ST_ERROR, "%s/journal/%s: fsync: %s", spool->dir, name, strerror(errno));
	return st;
}

/* Those that are there are used as they are; the configured number and size hold for a new journal. */
static unsigned segments_count(struct spool *spool)
{
	unsigned n = 0;
	struct stat st;
	char name[16];

	for (; n < SEGMENTS_MAX; n++) {
		snprintf(name, sizeof name, "%02u", n);
		if (fstatat(spool->journal_fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
			break;
		if (!n && st.st_size >= 16 * JOURNAL_ALIGN && st.st_size <= INT32_MAX && st.st_size % JOURNAL_ALIGN == 0)
			spool->seg_size = (uint32_t)st.st_size;
	}
	return n;
}

enum status segments_open(struct spool *spool, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	unsigned have;

	spool->seg_size = spool->opt.segment_size;
	have = segments_count(spool);
	spool->n_seg = have >= 4 ? have : spool->opt.segments;
	spool->seg = mem_new(SEGMENTS_MAX * sizeof *spool->seg);
	for (uint32_t i = 0; i < SEGMENTS_MAX; i++) {
		list_init(&spool->seg[i].messages);
		spool->seg[i].fd = -1;
	}
	for (uint32_t i = 0; i < spool->n_seg; i++) {
		struct segment *s = &spool->seg[i];
		struct stat st;
		char name[16];

		snprintf(name, sizeof name, "%02u", i);
		s->fd = fs->open(fs->arg, spool->journal_fd, name, O_RDWR | O_CREAT, 0600);
		if (s->fd < 0 || fstat(s->fd, &st))
			return err_set(err, ST_ERROR, "%s/journal/%s: %s", spool->dir, name, strerror(errno));
		if (st.st_size < (off_t)spool->seg_size) {
			enum status made = segment_make(spool, name, s->fd, err);

			if (made)
				return made;
		}
	}
	if (fs->fsync(fs->arg, spool->journal_fd))
		return err_set(err, ST_ERROR, "%s/journal: fsync: %s", spool->dir, strerror(errno));
	if (spool->opt.small_max > spool->seg_size / 16)
		spool->opt.small_max = spool->seg_size / 16;
	return ST_OK;
}

/* ---- one more ---- */

struct grow_job {
	struct spool_job job;
	uint32_t number;
	int fd;
};

static void grow_run(struct spool *spool, struct spool_job *job)
{
	struct grow_job *gj = (struct grow_job *)(void *)job;
	const struct spool_fs *fs = spool->fs;
	char name[16];

	_Static_assert(offsetof(struct grow_job, job) == 0, "cast");
	snprintf(name, sizeof name, "%02u", gj->number);
	gj->fd = fs->open(fs->arg, spool->journal_fd, name, O_RDWR | O_CREAT, 0600);
	if (gj->fd < 0)
		return;
	if (!segment_make(spool, name, gj->fd, NULL) && !fs->fsync(fs->arg, spool->journal_fd))
		return;
	/* No harm: there is less room for young messages. */
	fs->unlink(fs->arg, spool->journal_fd, name);
	fs->close(fs->arg, gj->fd);
	gj->fd = -1;
}

static void grow_done(struct spool *spool, struct spool_job *job)
{
	struct grow_job *gj = (struct grow_job *)(void *)job;

	spool->seg[gj->number].fd = gj->fd;
	spool->grow = gj->fd >= 0 ? GROW_READY : GROW_NO;
	spool->grow_ms = gj->fd >= 0 ? 0 : clock_ms() + GROW_MS;
	mem_free(gj);
}

/* Segments are never given back: on a small disk they would take the place of messages. */
static bool grow_has_room(const struct spool *spool)
{
	struct statvfs fs;

	return fstatvfs(spool->journal_fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize >= (uint64_t)GROW_SPARE * spool->seg_size;
}

void segments_grow(struct spool *spool)
{
	struct grow_job *gj;

	if (spool->grow != GROW_NO || spool->n_seg >= spool->opt.segments_max || clock_ms() < spool->grow_ms)
		return;
	if (!grow_has_room(spool)) {
		spool->grow_ms = clock_ms() + GROW_MS;
		return;
	}
	gj = mem_new(sizeof *gj);
	gj->job.run = grow_run;
	gj->job.done = grow_done;
	gj->number = spool->n_seg;
	gj->fd = -1;
	spool->grow = GROW_JOB;
	job_submit(spool, LANE_FILES, &gj->job);
}

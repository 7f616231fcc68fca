/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/spool/priv.h"

/* ---- small things that all files use ---- */

bool spool_id_valid(struct str id)
{
	if (id.len < 6 || id.len > SPOOL_ID_MAX)
		return false;
	for (uint32_t i = 0; i < id.len; i++)
		if (!ascii_is_alnum(id.p[i]) && (id.p[i] != '-' || !i))
			return false;
	return true;
}

uint8_t shard_of(struct str id)
{
	return (uint8_t)(spool_crc(0, id.p, id.len) % SHARDS);
}

struct spool_msg *msg_new(struct spool *spool, struct str id)
{
	struct spool_msg *msg = mem_new(sizeof *msg);

	memcpy(msg->id, id.p, id.len);
	msg->shard = shard_of(id);
	msg->fd = msg->grown_fd = -1;
	msg->later = NO_SEGMENT;
	hash_put(&spool->by_id, str_of(msg->id), msg);
	spool->stats.messages++;
	return msg;
}

void msg_forget(struct spool *spool, struct spool_msg *msg)
{
	hash_remove(&spool->by_id, str_of(msg->id));
	list_remove(&msg->node);
	msg->node = (struct list){ NULL, NULL };
	msg->state = SPOOL_GONE;
	spool->stats.messages--;
	msg_fd_close(spool, msg);
}

void msg_fd_close(struct spool *spool, struct spool_msg *msg)
{
	if (msg->grown_fd >= 0)
		spool->fs->close(spool->fs->arg, msg->grown_fd);
	msg->grown_fd = -1;
	if (msg->fd < 0)
		return;
	spool->fs->close(spool->fs->arg, msg->fd);
	msg->fd = -1;
	msg->memory = false;
	if (msg->kept)
		spool->young_fds--;
	msg->kept = false;
}

static void msg_free(struct spool_msg *msg)
{
	if (msg->pending)
		buf_clear(msg->pending);
	mem_free(msg->pending);
	mem_free(msg);
}

void msg_release(struct spool *spool, struct spool_msg *msg)
{
	(void)spool;
	if (msg->state == SPOOL_GONE && !msg->waiting && !msg->settling)
		msg_free(msg);
}

void spool_trouble_report(struct spool *spool, int kind, const char *path, const char *text)
{
	struct spool_trouble trouble = { .path = path, .text = text };

	trouble.kind = kind;
	if (kind == SPOOL_DAMAGED)
		spool->stats.damaged++;
	if (kind == SPOOL_FOREIGN)
		spool->stats.foreign++;
	if (spool->opt.trouble)
		spool->opt.trouble(spool->opt.arg, &trouble);
}

void health_set(struct spool *spool, enum spool_health health, const char *text)
{
	bool change = spool->health != health;

	if (spool->health == SPOOL_BROKEN && health == SPOOL_FULL)
		return;
	spool->health = health;
	snprintf(spool->health_text, sizeof spool->health_text, "%s", text);
	if (change && spool->opt.health && !spool->crossed)
		spool->opt.health(spool->opt.arg, health, spool->health_text);
}

enum spool_health spool_health(const struct spool *spool, const char **text_out)
{
	if (text_out)
		*text_out = spool->health_text;
	return spool->health;
}

struct spool_msg *spool_find(struct spool *spool, struct str id)
{
	return hash_get(&spool->by_id, id);
}

void spool_stats_get(const struct spool *spool, struct spool_stats *out)
{
	*out = spool->stats;
	out->segments = spool->n_seg;
	out->segments_free = 0;
	for (uint32_t i = 0; i < spool->n_seg; i++)
		out->segments_free += spool->seg[i].state == SEG_FREE || spool->seg[i].state == SEG_RETIRED;
}

enum status spool_space(struct spool *spool, uint64_t *free_kb_out, uint64_t *free_inodes_out, struct err *err)
{
	struct statvfs vfs;

	if (fstatvfs(spool->dir_fd, &vfs))
		return err_set(err, ST_DEFER, "%s: statvfs: %s", spool->dir, strerror(errno));
	*free_kb_out = (uint64_t)vfs.f_bavail * vfs.f_frsize / 1024;
	*free_inodes_out = vfs.f_files ? vfs.f_favail : UINT64_MAX; /* some file systems do not count them */
	return ST_OK;
}

/* ---- turning ---- */

void spool_turn(struct spool *spool, bool wait)
{
	jobs_collect(spool, wait);
	if (spool->direct) {
		struct file_job *fj = spool->direct;

		spool->direct = NULL;
		job_submit(spool, LANE_FILES, &fj->job);
	}
	settle_turn(spool);
	ring_turn(spool);
}

static void spool_on_wake(void *arg, unsigned ready)
{
	(void)ready;
	jobs_collect(arg, false);
}

static void spool_on_hook(void *arg)
{
	struct spool *spool = arg;

	if (spool->direct || !list_empty(&spool->batches))
		spool_turn(spool, false);
}

static void spool_on_timer(void *arg)
{
	struct spool *spool = arg;

	spool_turn(spool, false);
	loop_timer_start(&spool->timer, spool->loop, 250, spool_on_timer, spool);
}

/* ---- opening ---- */

/* Directories are synced at every start: an earlier one may have been cut off between making and syncing them. */

static enum status dir_open(struct spool *spool, int at, const char *name, int *fd_out, struct err *err)
{
	const struct spool_fs *fs = spool->fs;

	if (fs->mkdir(fs->arg, at, name, 0700) && errno != EEXIST)
		return err_set(err, ST_ERROR, "%s/%s: can't make the directory: %s", spool->dir, name, strerror(errno));
	*fd_out = fs->open(fs->arg, at, name, O_RDONLY | O_DIRECTORY, 0);
	if (*fd_out < 0)
		return err_set(err, ST_ERROR, "%s/%s: %s", spool->dir, name, strerror(errno));
	return ST_OK;
}

static enum status dir_sync_above(struct spool *spool, bool made, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	int fd = fs->open(fs->arg, spool->dir_fd, "..", O_RDONLY | O_DIRECTORY, 0);
	bool bad = fd < 0 || fs->fsync(fs->arg, fd);

	bad = bad && made; /* what an administrator has made may be out of our reach */
	if (bad)
		err_set(err, ST_ERROR, "%s/..: fsync: %s", spool->dir, strerror(errno));
	if (fd >= 0)
		fs->close(fs->arg, fd);
	return bad ? ST_ERROR : ST_OK;
}

static enum status dirs_open(struct spool *spool, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	bool made = !fs->mkdir(fs->arg, AT_FDCWD, spool->dir, 0700);
	enum status st;

	if (!made && errno != EEXIST)
		return err_set(err, ST_ERROR, "%s: can't make the directory: %s", spool->dir, strerror(errno));
	spool->dir_fd = fs->open(fs->arg, AT_FDCWD, spool->dir, O_RDONLY | O_DIRECTORY, 0);
	if (spool->dir_fd < 0)
		return err_set(err, ST_ERROR, "%s: %s", spool->dir, strerror(errno));
	if ((st = dir_sync_above(spool, made, err)))
		return st;
	spool->lock_fd = fs->open(fs->arg, spool->dir_fd, "lock", O_RDWR | O_CREAT, 0600);
	if (spool->lock_fd < 0)
		return err_set(err, ST_ERROR, "%s/lock: %s", spool->dir, strerror(errno));
	if (flock(spool->lock_fd, LOCK_EX | LOCK_NB))
		return err_set(err, ST_DEFER, "%s: another queue manager has this spool", spool->dir);
	if ((st = dir_open(spool, spool->dir_fd, "queue", &spool->queue_fd, err)) ||
	    (st = dir_open(spool, spool->dir_fd, "journal", &spool->journal_fd, err)) ||
	    (st = dir_open(spool, spool->dir_fd, "damaged", &spool->damaged_fd, err)))
		return st;
	for (unsigned i = 0; i < SHARDS; i++) {
		char name[4];

		snprintf(name, sizeof name, "%02x", i);
		if ((st = dir_open(spool, spool->queue_fd, name, &spool->shard_fd[i], err)))
			return st;
	}
	if (fs->fsync(fs->arg, spool->dir_fd) || fs->fsync(fs->arg, spool->queue_fd))
		return err_set(err, ST_ERROR, "%s: fsync: %s", spool->dir, strerror(errno));
	return ST_OK;
}

static void options_take(struct spool *spool, const struct spool_options *options)
{
	struct spool_options *o = &spool->opt;

	*o = *options;
	if (!o->segment_size)
		o->segment_size = 8 * 1024 * 1024;
	if (o->segments < 4)
		o->segments = 4;
	if (o->segments > SEGMENTS_MAX)
		o->segments = SEGMENTS_MAX;
	if (!o->segments_max)
		o->segments_max = 16;
	if (o->segments_max > SEGMENTS_MAX)
		o->segments_max = SEGMENTS_MAX;
	if (o->segment_size < 16 * JOURNAL_ALIGN)
		o->segment_size = 16 * JOURNAL_ALIGN;
	o->segment_size = o->segment_size / JOURNAL_ALIGN * JOURNAL_ALIGN;
	if (!o->small_max)
		o->small_max = SPOOL_SMALL_MAX;
	if (!o->young_fds)
		o->young_fds = 4096;
	if (!o->settle_ms)
		o->settle_ms = 5000;
	spool->dir = mem_strdup(o->dir);
	o->dir = spool->dir;
	spool->fs = o->fs ? o->fs : &spool_fs_real;
	spool->loop = o->loop;
}

static void spool_free(struct spool *spool)
{
	const struct spool_fs *fs = spool->fs;
	struct list *n;
	struct str key;
	uint32_t pos = 0;
	struct spool_msg *msg;

	if (spool->loop) {
		loop_timer_stop(&spool->timer);
		loop_hook_remove(&spool->hook);
		loop_fd_clear(&spool->wake);
	}
	scan_free(spool);
	if (spool->direct)
		file_job_drop(spool, spool->direct);
	while ((n = list_first(&spool->batches))) {
		list_remove(n);
		batch_drop(spool, list_entry(n, struct batch, node));
	}
	batch_free(spool->spare);
	while ((msg = hash_next(&spool->by_id, &pos, &key))) {
		msg_fd_close(spool, msg);
		msg_free(msg);
	}
	hash_clear(&spool->by_id);
	for (uint32_t i = 0; spool->seg && i < SEGMENTS_MAX; i++)
		if (spool->seg[i].fd >= 0)
			fs->close(fs->arg, spool->seg[i].fd);
	mem_free(spool->seg);
	for (unsigned i = 0; i < SHARDS; i++)
		if (spool->shard_fd[i] >= 0)
			fs->close(fs->arg, spool->shard_fd[i]);
	for (unsigned i = 0; i < 5; i++) {
		int fd = (const int[]){ spool->queue_fd, spool->journal_fd, spool->damaged_fd, spool->dir_fd, spool->lock_fd }[i];

		if (fd >= 0)
			fs->close(fs->arg, fd);
	}
	if (spool->event_fd >= 0)
		close(spool->event_fd);
	pthread_mutex_destroy(&spool->mutex);
	mem_free(spool->dir);
	mem_free(spool);
}

static struct spool *spool_new(const struct spool_options *options)
{
	struct spool *spool = mem_new(sizeof *spool);

	options_take(spool, options);
	list_init(&spool->batches);
	spool->dir_fd = spool->lock_fd = spool->queue_fd = spool->journal_fd = spool->damaged_fd = spool->event_fd = -1;
	for (unsigned i = 0; i < SHARDS; i++)
		spool->shard_fd[i] = -1;
	return spool;
}

enum status spool_open(struct spool **out, const struct spool_options *options, struct err *err)
{
	struct spool *spool = spool_new(options);
	enum status st;

	*out = NULL;
	if ((st = jobs_start(spool, err)) || (st = dirs_open(spool, err)) || (st = segments_open(spool, err)) ||
	    (st = journal_replay(spool, err))) {
		spool->crossed = true;
		jobs_stop(spool, false);
		spool->loop = NULL;
		spool_free(spool);
		return st;
	}
	if (spool->loop) {
		loop_fd_init(&spool->wake, spool->loop, spool->event_fd, spool_on_wake, spool);
		loop_fd_set(&spool->wake, LOOP_READ);
		loop_hook_add(spool->loop, &spool->hook, spool_on_hook, spool);
		loop_timer_start(&spool->timer, spool->loop, 250, spool_on_timer, spool);
	}
	*out = spool;
	return ST_OK;
}

/* ---- ending ---- */

static void spool_drain(struct spool *spool)
{
	/* What is asked for in callbacks is waited for too, within reason. */
	for (unsigned turn = 0; turn < 10000; turn++) {
		spool_turn(spool, true);
		if (!spool->jobs && !spool->direct && (list_empty(&spool->batches) || spool->health == SPOOL_BROKEN))
			return;
	}
}

void spool_close(struct spool *spool)
{
	struct err err = ERR_INIT;

	if (!spool)
		return;
	spool_drain(spool);
	if (!settle_all(spool, &err))
		spool_trouble_report(spool, SPOOL_IO, spool->dir, err.text);
	else if (spool->health != SPOOL_BROKEN && list_empty(&spool->batches))
		ring_end(spool);
	spool->crossed = true;
	jobs_stop(spool, true);
	jobs_collect(spool, false);
	spool_free(spool);
}

void spool_drop(struct spool *spool)
{
	if (!spool)
		return;
	spool->crossed = true;
	jobs_stop(spool, false);
	jobs_collect(spool, false);
	spool_free(spool);
}

enum status spool_check(struct spool *spool, struct err *err)
{
	struct segment *next;
	char *zeros;
	bool bad;

	while (spool->jobs)
		jobs_collect(spool, true);
	if (!settle_all(spool, err))
		return ST_DEFER;
	for (unsigned d = 0; d < SHARDS; d++)
		if (spool->fs->fsync(spool->fs->arg, spool->shard_fd[d]))
			return err_set(err, ST_DEFER, "queue/%02x: fsync: %s", d, strerror(errno));
	/* The journal goes on in the next segment, which must show that it can be written. */
	next = &spool->seg[(spool->cur + 1) % spool->n_seg];
	zeros = mem_new(JOURNAL_ALIGN);
	bad = spool_fs_write(spool->fs, next->fd, zeros, JOURNAL_ALIGN, 0) || spool->fs->fdatasync(spool->fs->arg, next->fd);
	mem_free(zeros);
	if (bad)
		return err_set(err, ST_DEFER, "journal/%02u: %s", (spool->cur + 1) % spool->n_seg, strerror(errno));
	for (uint32_t i = 0; i < spool->n_seg; i++) {
		spool->seg[i].state = SEG_FREE;
		spool->seg[i].unlinks = 0;
	}
	spool->cur = spool->tail = (spool->cur + 1) % spool->n_seg;
	spool->restart = true;
	spool->retry_ms = 0;
	health_set(spool, SPOOL_GOOD, "");
	return ST_OK;
}

/* SPDX-License-Identifier: ISC */
/* Goes through queue/ in slices. After the journal's replay every message that was accepted has a complete file; whatever else is
 * there is a leftover, damaged, or not ours. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/spool/priv.h"

struct spool_scan {
	unsigned shard;
	DIR *dir;
	struct arena arena;
	bool foreign_done;
};

void scan_free(struct spool *spool)
{
	if (!spool->scan)
		return;
	if (spool->scan->dir)
		closedir(spool->scan->dir);
	arena_clear(&spool->scan->arena);
	mem_free(spool->scan);
	spool->scan = NULL;
}

static void foreign_report(struct spool *spool, const char *dir, const char *name, const char *what)
{
	char path[300];

	snprintf(path, sizeof path, "%.20s/%.250s", dir, name);
	spool_trouble_report(spool, SPOOL_FOREIGN, path, what);
}

/* Names in queue/ that are none of our subdirectories. */
static void scan_top(struct spool *spool)
{
	int fd = openat(spool->dir_fd, "queue", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(dir))) {
		unsigned n;
		char end;

		if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
			continue;
		if (strlen(e->d_name) != 2 || sscanf(e->d_name, "%2x%c", &n, &end) != 1 || n >= SHARDS)
			foreign_report(spool, "queue", e->d_name, "not of the spool; left alone");
	}
	closedir(dir);
}

static void file_remove(struct spool *spool, unsigned shard, const char *name)
{
	if (!spool->fs->unlink(spool->fs->arg, spool->shard_fd[shard], name))
		spool->stats.leftovers++;
}

static void file_damaged(struct spool *spool, unsigned shard, const char *name, const char *reason)
{
	struct err err = ERR_INIT;

	if (file_set_aside(spool, shard, name, reason, &err))
		spool_trouble_report(spool, SPOOL_IO, name, err.text);
}

static bool file_all_zero(int fd, uint64_t size)
{
	char p[4096];

	for (uint64_t at = 0; at < size;) {
		ssize_t n = pread(fd, p, sizeof p, (off_t)at);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			if (p[i])
				return false;
		at += (uint64_t)n;
	}
	return true;
}

/* A file without a complete head: what is left of a message that was never accepted goes, everything else is kept aside. */
static bool file_leftover(struct spool *spool, int fd, uint64_t size)
{
	unsigned char image[SPOOL_HEAD];
	struct spool_head head;

	if (!size)
		return true;
	if (size >= SPOOL_HEAD && !spool_fs_read(spool->fs, fd, image, sizeof image, 0) && spool_head_decode(image, &head) == SPOOL_HEAD_NEW)
		return true;
	return file_all_zero(fd, size);
}

static struct spool_msg *msg_found(struct spool *spool, const char *name, const struct spool_file *file)
{
	struct spool_msg *msg = msg_new(spool, str_of(name));

	msg->state = SPOOL_LIVE;
	msg->content = file->head.content;
	msg->envelope = file->head.envelope;
	msg->salt = file->head.salt;
	msg->seq = file->seq;
	msg->file_end = file->end;
	msg->unchecked = msg->named = true;
	return msg;
}

static void scan_file(struct spool *spool, unsigned shard, const char *name, void (*fn)(void *arg, const struct spool_loaded *loaded), void *arg)
{
	struct spool_scan *scan = spool->scan;
	const struct spool_fs *fs = spool->fs;
	struct err err = ERR_INIT;
	struct spool_file file;
	struct spool_loaded loaded;
	enum status st;
	char dir[12];
	int fd;

	snprintf(dir, sizeof dir, "queue/%02x", shard);
	if (!spool_id_valid(str_of(name)) || shard_of(str_of(name)) != shard) {
		foreign_report(spool, dir, name, "no message of this directory; left alone");
		return;
	}
	if (spool_find(spool, str_of(name)))
		return;
	fd = fs->open(fs->arg, spool->shard_fd[shard], name, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0) {
		if (errno != ENOENT)
			foreign_report(spool, dir, name, strerror(errno));
		return;
	}
	arena_reset(&scan->arena);
	st = spool_file_read(fs, fd, false, &scan->arena, &file, &err);
	if (!st && file.end != file.size)
		st = err_set(&err, ST_FAIL, "damaged from octet %llu on", (unsigned long long)file.end);
	if (!st && !str_is(file.envelope->id, name))
		st = err_set(&err, ST_FAIL, "the envelope is for another message");
	if (st == ST_FAIL) {
		struct stat info;

		if (fstat(fd, &info) || !S_ISREG(info.st_mode))
			foreign_report(spool, dir, name, "no regular file; left alone");
		else if (file_leftover(spool, fd, (uint64_t)info.st_size))
			file_remove(spool, shard, name);
		else
			file_damaged(spool, shard, name, err.text);
	} else if (st) {
		char path[64];

		snprintf(path, sizeof path, "%s/%s", dir, name);
		spool_trouble_report(spool, SPOOL_IO, path, err.text);
	}
	fs->close(fs->arg, fd);
	if (st)
		return;
	loaded = (struct spool_loaded){ .envelope = file.envelope, .records = file.records, .n_records = file.n_records };
	loaded.msg = msg_found(spool, name, &file);
	fn(arg, &loaded);
}

/* The next subdirectory; false at the end. */
static bool scan_dir_next(struct spool *spool)
{
	struct spool_scan *scan = spool->scan;
	char name[12];
	int fd;

	while (!scan->dir && scan->shard < SHARDS) {
		snprintf(name, sizeof name, "queue/%02x", scan->shard);
		fd = openat(spool->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		scan->dir = fd >= 0 ? fdopendir(fd) : NULL;
		if (!scan->dir) {
			spool_trouble_report(spool, SPOOL_IO, name, strerror(errno));
			if (fd >= 0)
				close(fd);
			scan->shard++;
		}
	}
	return scan->dir;
}

enum status spool_scan_next(struct spool *spool, unsigned budget, void (*fn)(void *arg, const struct spool_loaded *loaded), void *arg,
	struct err *err)
{
	(void)err;
	if (!spool->scan) {
		spool->scan = mem_new(sizeof *spool->scan);
		scan_top(spool);
	}
	while (budget) {
		struct spool_scan *scan = spool->scan;
		struct dirent *e;

		if (!scan_dir_next(spool)) {
			spool->scanned = true;
			return ST_FAIL;
		}
		e = readdir(scan->dir);
		if (!e) {
			closedir(scan->dir);
			scan->dir = NULL;
			scan->shard++;
			continue;
		}
		if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
			continue;
		scan_file(spool, scan->shard, e->d_name, fn, arg);
		budget--;
	}
	return ST_OK;
}

/* SPDX-License-Identifier: ISC */
#include "common/spool/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int real_open(void *arg, int dir_fd, const char *path, int flags, mode_t mode)
{
	(void)arg;
	return openat(dir_fd, path, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, mode);
}

static int real_close(void *arg, int fd)
{
	(void)arg;
	return close(fd);
}

static ssize_t real_pread(void *arg, int fd, void *p, size_t n, off_t at)
{
	(void)arg;
	return pread(fd, p, n, at);
}

static ssize_t real_pwrite(void *arg, int fd, const void *p, size_t n, off_t at)
{
	(void)arg;
	return pwrite(fd, p, n, at);
}

static int real_ftruncate(void *arg, int fd, off_t size)
{
	(void)arg;
	return ftruncate(fd, size);
}

static int real_fallocate(void *arg, int fd, off_t size)
{
	(void)arg;
	return fallocate(fd, 0, 0, size);
}

static int real_writeback(void *arg, int fd)
{
	(void)arg;
	return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int real_fdatasync(void *arg, int fd)
{
	(void)arg;
	return fdatasync(fd);
}

static int real_fsync(void *arg, int fd)
{
	(void)arg;
	return fsync(fd);
}

static int real_unlink(void *arg, int dir_fd, const char *path)
{
	(void)arg;
	return unlinkat(dir_fd, path, 0);
}

static int real_rename(void *arg, int dir_fd, const char *from, int to_dir_fd, const char *to)
{
	(void)arg;
	return renameat(dir_fd, from, to_dir_fd, to);
}

static int real_mkdir(void *arg, int dir_fd, const char *path, mode_t mode)
{
	(void)arg;
	return mkdirat(dir_fd, path, mode);
}

const struct spool_fs spool_fs_real = {
	.open = real_open, .close = real_close, .pread = real_pread, .pwrite = real_pwrite, .ftruncate = real_ftruncate,
	.fallocate = real_fallocate, .writeback = real_writeback, .fdatasync = real_fdatasync, .fsync = real_fsync,
	.unlink = real_unlink, .rename = real_rename, .mkdir = real_mkdir,
};

int spool_fs_read(const struct spool_fs *fs, int fd, void *p, size_t n, off_t at)
{
	char *to = p;

	while (n) {
		ssize_t k = fs->pread(fs->arg, fd, to, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k == 0)
			errno = EPIPE;
		if (k <= 0)
			return -1;
		to += k;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

int spool_fs_write(const struct spool_fs *fs, int fd, const void *p, size_t n, off_t at)
{
	const char *from = p;

	while (n) {
		ssize_t k = fs->pwrite(fs->arg, fd, from, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k == 0)
			errno = ENOSPC;
		if (k <= 0)
			return -1;
		from += k;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queuefile/queuefile.h"

enum { MODE = 0640 };

enum status directory_open(const char *path, int *fd_out, struct err *err)
{
	struct stat st;

	*fd_out = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd_out < 0)
		return err_set(err, ST_DEFER, "open %s: %s", path, strerror(errno == ENOTDIR ? ENOTDIR : errno));
	if (fstat(*fd_out, &st) == 0 && st.st_nlink == 0)
		err_set(err, ST_DEFER, "open %s: it was removed since the start; if it is there again: bulkhead reload", path);
	else if (flock(*fd_out, LOCK_EX) == 0)
		return ST_OK;
	else
		err_set(err, ST_DEFER, "lock %s: %s", path, strerror(errno));
	close(*fd_out);
	*fd_out = -1;
	return err->status;
}

enum status out_begin(struct out_file *f, int dir, const char *directory, struct str id, const char *suffix, struct err *err)
{
	f->dir = dir;
	f->directory = directory;
	snprintf(f->name, sizeof f->name, "%.*s%s", STR_FMT(str_sub(id, 0, 32)), suffix);
	snprintf(f->temporary, sizeof f->temporary, ".%s.new", f->name);
	unlinkat(dir, f->temporary, 0); /* of one that was killed */
	f->fd = openat(dir, f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, MODE);
	if (f->fd < 0)
		return err_set(err, ST_DEFER, "create %s/%s: %s", directory, f->temporary, strerror(errno));
	fchmod(f->fd, MODE);
	return ST_OK;
}

enum status out_add(int fd, const void *p, size_t n, struct err *err)
{
	const char *at = p;

	while (n) {
		ssize_t got = write(fd, at, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_set(err, ST_DEFER, "%s", strerror(got ? errno : ENOSPC));
		at += got;
		n -= (size_t)got;
	}
	return ST_OK;
}

enum status out_sync(struct out_file *f, struct err *err)
{
	return fsync(f->fd) == 0 ? ST_OK : err_set(err, ST_DEFER, "sync %s/%s: %s", f->directory, f->temporary, strerror(errno));
}

enum status out_name(struct out_file *f, struct err *err)
{
	if (renameat(f->dir, f->temporary, f->dir, f->name) < 0)
		return err_set(err, ST_DEFER, "rename %s/%s: %s", f->directory, f->temporary, strerror(errno));
	f->temporary[0] = '\0';
	return ST_OK;
}

void out_end(struct out_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->fd >= 0 && f->temporary[0])
		unlinkat(f->dir, f->temporary, 0);
	f->fd = -1;
}

enum status there_read(int dir, const char *name, size_t most, struct buf *out, struct err *err)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = 0;
	char *p;

	if (fd < 0)
		return errno == ENOENT ? ST_FAIL : err_set(err, ST_DEFER, "open %s: %s", name, strerror(errno));
	while (out->len < most && (p = buf_room(out, 65536)) && (n = read(fd, p, 65536)) > 0)
		out->len += (size_t)n;
	close(fd);
	return n < 0 ? err_set(err, ST_DEFER, "read %s: %s", name, strerror(errno)) : ST_OK;
}

/* SPDX-License-Identifier: ISC */
/* fs.h - the system calls by which a spool changes what is on the disk, in one table that tests replace.
 * Used by:    common/spool; tests record calls (crash states) and inject failures through it.
 * Owns:       nothing. Called from the loop's thread and from the spool's own threads at the same time.
 * Errors:     as the system calls: -1 and errno. pread and pwrite may be short. */
#ifndef SPOOL_FS_H
#define SPOOL_FS_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

struct spool_fs {
	int (*open)(void *arg, int dir_fd, const char *path, int flags, mode_t mode);
	int (*close)(void *arg, int fd);
	ssize_t (*pread)(void *arg, int fd, void *p, size_t n, off_t at);
	ssize_t (*pwrite)(void *arg, int fd, const void *p, size_t n, off_t at);
	int (*ftruncate)(void *arg, int fd, off_t size);
	int (*fallocate)(void *arg, int fd, off_t size);
	int (*writeback)(void *arg, int fd);          /* asks the kernel to begin writing; promises nothing */
	int (*fdatasync)(void *arg, int fd);
	int (*fsync)(void *arg, int fd);              /* directories too */
	int (*unlink)(void *arg, int dir_fd, const char *path);
	int (*rename)(void *arg, int dir_fd, const char *from, int to_dir_fd, const char *to);
	int (*mkdir)(void *arg, int dir_fd, const char *path, mode_t mode);
	void *arg;
};

extern const struct spool_fs spool_fs_real;

/* Whole pieces, in spite of short calls and EINTR: 0, or -1 with errno; a pread that meets the end of the file sets EPIPE. */
int spool_fs_read(const struct spool_fs *fs, int fd, void *p, size_t n, off_t at);
int spool_fs_write(const struct spool_fs *fs, int fd, const void *p, size_t n, off_t at);

#endif

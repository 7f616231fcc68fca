/* SPDX-License-Identifier: ISC */
/* master_dirs.c - directories that must be there, and the lock that keeps a second master away. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "master/master.h"

/* All of a path, parents with 0755; ST_OK when it is there. */
static enum status path_make(const char *path, mode_t mode, struct err *err)
{
	char part[MASTER_PATH_MAX];
	struct stat st;

	if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part || part[0] != '/')
		return err_set(err, ST_ERROR, "\"%s\" is no absolute path", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return err_set(err, ST_ERROR, "making %s: %s", part, strerror(errno));
		*p = '/';
	}
	if (mkdir(part, mode) == 0)
		return chmod(part, mode) < 0 ? err_set(err, ST_ERROR, "%s: %s", part, strerror(errno)) : ST_OK;
	if (errno != EEXIST || stat(part, &st) < 0)
		return err_set(err, ST_ERROR, "making %s: %s", part, strerror(errno));
	return S_ISDIR(st.st_mode) ? ST_OK : err_set(err, ST_ERROR, "%s is no directory", part);
}

/* A directory that belongs to one daemon alone. */
static enum status own_make(const struct master *m, const char *path, const char *service, struct err *err)
{
	struct stat st;
	uid_t uid;
	gid_t gid;
	int fd;

	if (path_make(path, 0700, err))
		return err->status;
	if (!m->privileged)
		return ST_OK;
	if (service_user(service_find(str_of(service)), m->conf, &uid, &gid, err))
		return err->status;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(err, ST_ERROR, "%s: %s", path, strerror(errno));
	} else if (st.st_uid != uid && st.st_uid != 0) {
		err_set(err, ST_ERROR, "%s belongs to uid %u, not to %s (uid %u)", path, (unsigned)st.st_uid, service, (unsigned)uid);
	} else if ((st.st_uid != uid && fchown(fd, uid, gid) < 0) || ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0)) {
		err_set(err, ST_ERROR, "%s: %s", path, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return err->status;
}

static enum status log_dir_make(const struct master *m, struct err *err)
{
	char path[MASTER_PATH_MAX];
	char *slash;

	if (!m->log_path[0])
		return ST_OK;
	snprintf(path, sizeof path, "%s", m->log_path);
	slash = strrchr(path, '/');
	if (path[0] != '/' || slash == path)
		return path[0] == '/' ? ST_OK : err_set(err, ST_ERROR, "log_file_path = %s: an absolute path is needed", path);
	*slash = '\0';
	return path_make(path, 0750, err);
}

enum status dirs_make(struct master *m, struct err *err)
{
	char part[MASTER_PATH_MAX + 16];

	if (path_make(m->run, 0755, err) || log_dir_make(m, err))
		return err->status;
	snprintf(part, sizeof part, "%s/empty", m->run);
	if (path_make(part, 0555, err))
		return err->status;
	snprintf(part, sizeof part, "%s/root", m->run);
	if (path_make(part, 0755, err))
		return err->status;
	if (own_make(m, m->spool, "qmgr", err))
		return err_prefix(err, "spool_directory");
	if (own_make(m, m->hints, "router", err))
		return err_prefix(err, "hints_directory");
	return ST_OK;
}

enum status lock_take(struct master *m, struct err *err)
{
	char path[MASTER_PATH_MAX + 16], pid[32];
	int n;

	snprintf(path, sizeof path, "%s/master.pid", m->run);
	m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (m->lock_fd < 0)
		return err_set(err, ST_ERROR, "%s: %s", path, strerror(errno));
	if (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		close(m->lock_fd);
		m->lock_fd = -1;
		return err_set(err, ST_ERROR, "already running: another master holds %s", path);
	}
	n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
	if (ftruncate(m->lock_fd, 0) < 0 || pwrite(m->lock_fd, pid, (size_t)n, 0) != n)
		return err_set(err, ST_ERROR, "%s: %s", path, strerror(errno));
	return ST_OK;
}

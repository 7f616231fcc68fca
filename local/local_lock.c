/* SPDX-License-Identifier: ISC */
#include "local/local_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "local/local_maildir.h"

enum { POLL_MS = 50 };

/* One try: 1 taken, 0 somebody has it, -1 with errno. */
static int lockfile_try(const struct local_job *job, struct local_lockfile *lock, const char *hitch)
{
	struct stat st;
	int fd = open(hitch, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, job->options->lockfile_mode);
	int taken, error;

	if (fd < 0)
		return -1;
	taken = link(hitch, lock->path) == 0;
	error = taken ? 0 : errno;
	/* A link may have been made though its answer got lost (NFS). */
	if (fstat(fd, &st) == 0 && !taken && st.st_nlink == 2)
		taken = 1;
	close(fd);
	unlink(hitch);
	lock->dev = st.st_dev;
	lock->ino = st.st_ino;
	if (taken || error == EEXIST)
		return taken;
	errno = error;
	return -1;
}

static void lockfile_expire(const struct local_job *job, const char *path)
{
	struct stat st;

	if (job->options->lockfile_timeout_s > 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		clock_wall() - st.st_ctime > job->options->lockfile_timeout_s)
		unlink(path);
}

bool local_lockfile_take(const struct local_job *job, const char *file, struct local_lockfile *lock, struct local_fault *f)
{
	char hitch[LOCAL_PATH_MAX + 64 + LOCAL_NAME_SIZE], name[LOCAL_NAME_SIZE];
	static unsigned counter; /* makes names unique within this process */

	snprintf(lock->path, sizeof lock->path, "%s.lock", file);
	for (unsigned tries = 0; tries < job->options->lock_retries; tries++) {
		int got;

		if (tries) {
			lockfile_expire(job, lock->path);
			local_sleep_ms(job->options->lock_interval_ms);
		}
		local_maildir_name(name, job->host, clock_wall_us(), ++counter);
		snprintf(hitch, sizeof hitch, "%s.%s", lock->path, name);
		got = lockfile_try(job, lock, hitch);
		if (got > 0)
			return true;
		if (got < 0) {
			int error = errno;
			char path[sizeof lock->path];

			memcpy(path, lock->path, sizeof path);
			lock->path[0] = '\0';
			return local_fault_errno(f, error, "cannot create lock file %s", path);
		}
	}
	lock->path[0] = '\0';
	return local_fault_set(f, RETRY_OTHER, "4.2.0", "failed to lock mailbox %s (lock file)", file);
}

void local_lockfile_drop(struct local_lockfile *lock)
{
	struct stat st;

	/* One that somebody took for stale and made anew is not ours any more. */
	if (lock->path[0] && lstat(lock->path, &st) == 0 && st.st_dev == lock->dev && st.st_ino == lock->ino)
		unlink(lock->path);
	lock->path[0] = '\0';
}

static bool fcntl_try(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_SETLK, &l) == 0;
}

static bool flock_try(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static enum status lock_wait(bool (*try)(int fd), int fd, uint64_t wait_ms)
{
	uint64_t end = clock_ms() + wait_ms;

	while (!try(fd)) {
		if (errno != EAGAIN && errno != EACCES && errno != EWOULDBLOCK && errno != EINTR)
			return ST_ERROR;
		if (clock_ms() >= end)
			return ST_DEFER;
		local_sleep_ms(POLL_MS);
	}
	return ST_OK;
}

enum status local_fd_lock(const struct local_options *o, int fd)
{
	enum status st = o->use_fcntl ? lock_wait(fcntl_try, fd, o->lock_fcntl_ms) : ST_OK;

	if (!st && o->use_flock)
		st = lock_wait(flock_try, fd, o->lock_flock_ms);
	return st;
}

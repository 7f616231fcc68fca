/* SPDX-License-Identifier: ISC */
/* local_mbox.c - a message is appended to a mailbox file, under locks, whole or not at all (specification, section 26.3). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local/local.h"
#include "local/local_lock.h"

enum { OPEN_TRIES = 10 }; /* the file comes and goes */

static bool mailbox_parents(const struct local_job *job, const char *path, struct local_fault *f)
{
	char dir[LOCAL_PATH_MAX + 1];
	const char *slash = strrchr(path, '/');

	if (slash == path)
		return true;
	snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
	return access(dir, F_OK) == 0 || local_directory_make(job, dir, f);
}

/* What is there must be a plain file of ours. */
static bool mailbox_check(const struct local_job *job, const char *path, const struct stat *st, struct local_fault *f)
{
	const struct local_options *o = job->options;

	if (!S_ISREG(st->st_mode))
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s is not a regular file%s", path, S_ISLNK(st->st_mode) ? " (symlink)" : "");
	if (o->check_owner && st->st_uid != geteuid())
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s has the wrong uid (%ld != %ld)", path, (long)st->st_uid, (long)geteuid());
	if (o->check_group && st->st_gid != getegid())
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s has the wrong gid (%ld != %ld)", path, (long)st->st_gid, (long)getegid());
	if (st->st_nlink > 1)
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s has several names (hard links)", path);
	return true;
}

static bool mode_adjust(const struct local_job *job, int fd, const char *path, const struct stat *st, struct local_fault *f)
{
	mode_t have = st->st_mode & 07777, want = job->options->mode;

	if (have == want)
		return true;
	if ((have & want) != want && job->options->mode_fail_narrower)
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s has the wrong mode %04o (%04o expected)", path, (unsigned)have, (unsigned)want);
	if (have & ~want && st->st_uid == geteuid() && fchmod(fd, have & want) < 0)
		return local_fault_errno(f, errno, "chmod of mailbox %s", path);
	return true;
}

static int mailbox_open_old(const struct local_job *job, const char *path, const struct stat *before, bool link, struct local_fault *f)
{
	int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (link ? 0 : O_NOFOLLOW));
	struct stat st;
	int error;

	if (fd < 0) {
		error = errno;
		if (error != ENOENT)
			local_fault_errno(f, error, "cannot open mailbox %s", path);
		errno = error;
		return -1;
	}
	errno = 0;
	if (fstat(fd, &st) < 0)
		local_fault_errno(f, errno, "mailbox %s", path);
	else if (st.st_ino != before->st_ino || st.st_dev != before->st_dev || st.st_uid != before->st_uid)
		local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s was exchanged while it was opened", path);
	else if (mailbox_check(job, path, &st, f) && mode_adjust(job, fd, path, &st, f))
		return fd;
	close(fd);
	errno = EINVAL;
	return -1;
}

/* -1 with *f, but for EEXIST in errno. */
static int mailbox_create(const struct local_job *job, const char *path, int flags, bool *made_out, struct local_fault *f)
{
	const struct local_options *o = job->options;
	int fd, error;

	if (o->file_must_exist) {
		local_fault_errno(f, ENOENT, "mailbox %s", path);
		errno = ENOENT;
		return -1;
	}
	if (!local_may_create(job, path, f)) {
		errno = EACCES;
		return -1;
	}
	fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | flags, o->mode);
	error = errno;
	if (fd >= 0) {
		fchmod(fd, o->mode);
		*made_out = true;
	} else if (error != EEXIST) {
		local_fault_errno(f, error, "cannot create mailbox %s", path);
	}
	errno = error;
	return fd;
}

/* Opens or creates the mailbox. *made_out: created. */
static int mailbox_open(const struct local_job *job, const char *path, bool *made_out, struct local_fault *f)
{
	const struct local_options *o = job->options;

	for (unsigned tries = 0; tries < OPEN_TRIES; tries++) {
		struct stat st;
		bool link = false;
		int fd;

		if (lstat(path, &st) == 0) {
			if (S_ISLNK(st.st_mode) && o->allow_symlink) {
				link = true;
				if (o->check_owner && st.st_uid != geteuid()) {
					local_fault_set(f, RETRY_OTHER, "4.2.0", "symlink %s has the wrong owner", path);
					return -1;
				}
				if (stat(path, &st) < 0 && errno != ENOENT) {
					local_fault_errno(f, errno, "mailbox %s", path);
					return -1;
				}
				if (S_ISLNK(st.st_mode)) /* it leads to what is not there yet */
					return mailbox_create(job, path, 0, made_out, f);
			}
			if (!mailbox_check(job, path, &st, f))
				return -1;
			fd = mailbox_open_old(job, path, &st, link, f);
			if (fd >= 0 || errno != ENOENT) {
				*made_out = false;
				return fd;
			}
			continue;
		}
		if (errno != ENOENT) {
			local_fault_errno(f, errno, "mailbox %s", path);
			return -1;
		}
		fd = mailbox_create(job, path, O_EXCL | O_NOFOLLOW, made_out, f);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	local_fault_set(f, RETRY_OTHER, "4.2.0", "mailbox %s comes and goes", path);
	return -1;
}

/* allow_fifo: whoever reads at the other end gets the message; there is nothing to lock, to measure, or to take back. */
static bool fifo_deliver(struct local_job *job, const char *path, const struct stat *before, struct local_fault *f)
{
	const struct local_options *o = job->options;
	uint64_t written = 0;
	struct stat st;
	int fd, off = 0;
	bool ok;

	if (o->check_owner && before->st_uid != geteuid())
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "named pipe %s has the wrong uid (%ld != %ld)", path, (long)before->st_uid, (long)geteuid());
	if (o->check_group && before->st_gid != getegid())
		return local_fault_set(f, RETRY_OTHER, "4.2.0", "named pipe %s has the wrong gid (%ld != %ld)", path, (long)before->st_gid, (long)getegid());
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0)
		return local_fault_errno(f, errno, "while opening named pipe %s%s", path, errno == ENXIO ? " (could mean no process is reading it)" : "");
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_ino != before->st_ino || st.st_dev != before->st_dev)
		ok = local_fault_set(f, RETRY_OTHER, "4.2.0", "named pipe %s was exchanged while it was opened", path);
	else if (ioctl(fd, FIONBIO, &off) < 0) /* a reader that is slow is waited for; one that goes away is an error */
		ok = local_fault_errno(f, errno, "named pipe %s", path);
	else
		ok = local_message_write(job, fd, &written, f);
	close(fd);
	return ok;
}

/* Open and locked. Without a time-out the file is closed while we wait, as a lock over NFS wants it. */
static int mailbox_take(const struct local_job *job, const char *path, bool *made_out, struct local_fault *f)
{
	bool made = false;

	*made_out = false;
	for (unsigned tries = 0; tries < job->options->lock_retries; tries++) {
		struct stat open_st, path_st;
		int fd;

		if (tries)
			local_sleep_ms(job->options->lock_interval_ms);
		fd = mailbox_open(job, path, &made, f);
		if (fd < 0)
			return -1;
		*made_out |= made;
		switch (local_fd_lock(job->options, fd)) {
		case ST_OK:
			/* Somebody may have put another file in its place while we waited. */
			if (fstat(fd, &open_st) == 0 && stat(path, &path_st) == 0 && open_st.st_ino == path_st.st_ino && open_st.st_dev == path_st.st_dev)
				return fd;
			break;
		case ST_DEFER:
			break;
		case ST_FAIL:
		case ST_ERROR:
			local_fault_errno(f, errno, "cannot lock mailbox %s", path);
			close(fd);
			return -1;
		}
		close(fd);
	}
	local_fault_set(f, RETRY_OTHER, "4.2.0", "failed to lock mailbox %s (%s)", path, job->options->use_fcntl ? "fcntl" : "flock");
	return -1;
}

/* Takes back what was written: length and times are as before, and durably so. */
static void mailbox_restore(int fd, const struct stat *before)
{
	const struct timespec times[2] = { before->st_atim, before->st_mtim };

	if (ftruncate(fd, before->st_size) == 0) {
		futimens(fd, times);
		fsync(fd);
	}
}

static bool mailbox_append(const struct local_job *job, int fd, const char *path, struct local_fault *f)
{
	struct stat st;
	uint64_t written = 0;

	if (fstat(fd, &st) < 0)
		return local_fault_errno(f, errno, "mailbox %s", path);
	if (!local_quota_check_file(job, (uint64_t)st.st_size, job->now_us / 1000000 - st.st_atime, f))
		return false;
	if (local_message_write(job, fd, &written, f)) {
		if (fsync(fd) == 0)
			return true;
		local_fault_errno(f, errno, "while writing to %s", path);
	}
	mailbox_restore(fd, &st);
	return false;
}

bool local_mbox_deliver(struct local_job *job, struct local_fault *f)
{
	const char *path = job->options->file.p;
	struct local_lockfile lock = { .path = "" };
	struct stat st;
	bool ok, made;
	int fd;

	job->store = job->options->file;
	if (!strcmp(path, "/dev/null"))
		return true;
	if (job->options->allow_fifo && lstat(path, &st) == 0 && S_ISFIFO(st.st_mode))
		return fifo_deliver(job, path, &st, f);
	if (!mailbox_parents(job, path, f))
		return false;
	if (job->options->use_lockfile && !local_lockfile_take(job, path, &lock, f))
		return false;
	fd = mailbox_take(job, path, &made, f);
	ok = fd >= 0 && mailbox_append(job, fd, path, f);
	if (ok && made) {
		char dir[LOCAL_PATH_MAX + 1];
		const char *slash = strrchr(path, '/');

		snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
		local_directory_sync(dir);
	}
	if (fd >= 0)
		close(fd);
	local_lockfile_drop(&lock);
	return ok;
}

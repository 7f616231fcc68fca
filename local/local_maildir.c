/* SPDX-License-Identifier: ISC */
/* local_maildir.c - a message becomes a file: in a maildir, or in a plain directory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "local/local.h"
#include "local/local_maildir.h"

enum {
	NAME_MAX_LEN = 255,
	LEFTOVER_S = 36 * 3600,    /* a file in tmp that is older was left by a crash */
	LEFTOVER_SCAN_S = 3600,    /* tmp is looked through so often, at most */
	LEFTOVER_DIRS = 256,
	LEFTOVER_FILES = 10000,    /* names looked at in one scan */
};

/* ---- names ---- */

/* A host name that may stand in a file name and does not begin flags. */
static void host_write(char *out, size_t size, const char *host)
{
	size_t at = 0;

	for (; *host && at + 5 < size; host++) {
		if (*host == '/' || *host == ':' || (unsigned char)*host <= ' ')
			at += (size_t)snprintf(out + at, size - at, "\\%03o", (unsigned char)*host);
		else
			out[at++] = *host;
	}
	out[at] = '\0';
}

void local_maildir_name(char out[LOCAL_NAME_SIZE], const char *host, int64_t now_us, unsigned counter)
{
	char safe[128];

	host_write(safe, sizeof safe, host);
	snprintf(out, LOCAL_NAME_SIZE, "%lld.M%06lldP%ldQ%u.%s", (long long)(now_us / 1000000), (long long)(now_us % 1000000), (long)getpid(),
		counter, safe);
}

/* A name as the administrator wrote it: printing characters but the slash. The mark stands for what is known only now. */
static size_t name_write(char *out, size_t size, struct str text, uint64_t late)
{
	size_t at = 0;

	for (uint32_t i = 0; i < text.len && at + 24 < size; i++)
		if (text.p[i] == CONF_LATE_MARK)
			at += (size_t)snprintf(out + at, size - at, "%llu", (unsigned long long)late);
		else if ((unsigned char)text.p[i] > ' ' && (unsigned char)text.p[i] < 0x7f && text.p[i] != '/')
			out[at++] = text.p[i];
	out[at] = '\0';
	return at;
}

/* What stands behind a maildir file's name: a colon comes in front of a letter or digit. */
static void tag_write(char *out, size_t size, struct str tag, uint64_t octets)
{
	size_t n = name_write(out + 1, size - 1, tag, octets);

	out[0] = ':';
	if (!ascii_is_alnum(out[1]))
		memmove(out, out + 1, n + 1);
}

/* ---- directories ---- */

enum { MAILDIR_PARTS = 3 };
static const char *const parts[MAILDIR_PARTS] = { "tmp", "new", "cur" };

static bool maildir_is_whole(const char *dir)
{
	char path[LOCAL_PATH_MAX + 64];

	for (size_t i = 0; i < MAILDIR_PARTS; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
		if (access(path, F_OK) < 0)
			return false;
	}
	return true;
}

static bool maildir_make(const struct local_job *job, const char *dir, struct local_fault *f)
{
	char path[LOCAL_PATH_MAX + 64];

	for (size_t i = 0; i < MAILDIR_PARTS; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
		if (!local_directory_make(job, path, f))
			return false;
	}
	return true;
}

/* maildirfolder marks a folder below the maildir itself (Maildir++). */
static bool folder_mark(const struct local_job *job, const char *dir, struct local_fault *f)
{
	struct str pattern = job->options->folder_regex;
	char path[LOCAL_PATH_MAX + 64];
	int fd;

	if (!pattern.len)
		return true;
	switch (local_regex_match(pattern, dir, NULL)) {
	case LOCAL_REGEX_BAD:
		return local_fault_set(f, RETRY_OTHER, "4.3.5", "maildirfolder_create_regex is no regular expression");
	case LOCAL_REGEX_NO:
		return true;
	case LOCAL_REGEX_YES:
		break;
	}
	snprintf(path, sizeof path, "%s/maildirfolder", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return local_fault_errno(f, errno, "cannot create %s", path);
	close(fd);
	return true;
}

/* Removes what crashes left in tmp; now and then. */
static void leftovers_remove(const char *dir, int64_t now_s)
{
	static struct { uint64_t dir; int64_t at; } seen[LEFTOVER_DIRS]; /* a worker is one process; a cache and nothing else */
	uint64_t hash = 1469598103934665603ULL;
	char path[LOCAL_PATH_MAX + 64];
	struct dirent *e;
	unsigned files = 0;
	DIR *d;

	for (const char *p = dir; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211ULL;
	if (seen[hash % LEFTOVER_DIRS].dir == hash && now_s - seen[hash % LEFTOVER_DIRS].at < LEFTOVER_SCAN_S)
		return;
	seen[hash % LEFTOVER_DIRS].dir = hash;
	seen[hash % LEFTOVER_DIRS].at = now_s;
	snprintf(path, sizeof path, "%s/tmp", dir);
	d = opendir(path);
	if (!d)
		return;
	while ((e = readdir(d)) && files++ < LEFTOVER_FILES) {
		struct stat st;

		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode) && st.st_uid == geteuid() && now_s - st.st_ctime > LEFTOVER_S && now_s - st.st_atime > LEFTOVER_S)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
}

/* ---- delivery ---- */

/* Opens a new file, dir and sub and its name put together; makes directories that are missing. -1 with *f. */
static int file_create(const struct local_job *job, const char *dir, const char *sub, char name[LOCAL_NAME_SIZE], bool maildir, struct local_fault *f)
{
	static unsigned counter; /* makes names unique within this process */
	char path[LOCAL_PATH_MAX + 64 + LOCAL_NAME_SIZE];
	bool made = false;

	for (unsigned tries = 0; tries <= job->options->maildir_retries;) {
		int fd;

		local_maildir_name(name, job->host, tries ? clock_wall_us() : job->now_us, ++counter);
		snprintf(path, sizeof path, "%s%s%s", dir, sub, name);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, job->options->mode);
		if (fd >= 0) {
			fchmod(fd, job->options->mode);
			return fd;
		}
		if (errno == ENOENT && !made) {
			made = true;
			if (!(maildir ? maildir_make(job, dir, f) : local_directory_make(job, dir, f)))
				return -1;
		} else if (errno == EEXIST) {
			tries++;
		} else {
			local_fault_errno(f, errno, "cannot create %s", path);
			return -1;
		}
	}
	local_fault_set(f, RETRY_OTHER, "4.3.0", "no unique name found in %s%s", dir, sub);
	return -1;
}

/* Names the finished file; never replaces another one. */
static int file_name_finally(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (link(from, to) == 0) {
		unlink(from);
		return 0;
	}
	return errno == EPERM || errno == ENOTSUP ? rename(from, to) : -1; /* a file system without links: names are unique */
}

static bool file_finish(int fd, const char *from, const char *to, const char *dir, struct local_fault *f)
{
	if (fsync(fd) < 0)
		return local_fault_errno(f, errno, "while writing to %s", from);
	if (file_name_finally(from, to) < 0)
		return local_fault_errno(f, errno, "cannot rename %s to %s", from, to);
	if (!local_directory_sync(dir)) {
		int error = errno;

		unlink(to);
		return local_fault_errno(f, error, "cannot sync %s", dir);
	}
	return true;
}

bool local_maildir_deliver(struct local_job *job, struct local_fault *f)
{
	const char *dir = job->options->directory.p;
	char name[LOCAL_NAME_SIZE], tag[160], from[LOCAL_PATH_MAX + 64 + LOCAL_NAME_SIZE], to[LOCAL_PATH_MAX + 64 + LOCAL_NAME_SIZE + 160];
	char new_dir[LOCAL_PATH_MAX + 64];
	struct local_quota quota = { 0, 0, NULL };
	uint64_t written = 0;
	bool ok;
	int fd;

	job->store = job->options->directory;
	snprintf(new_dir, sizeof new_dir, "%s/new", dir);
	if (!maildir_is_whole(dir) && !maildir_make(job, dir, f))
		return false;
	if (!folder_mark(job, dir, f) || !local_quota_check(job, &quota, f))
		return false;
	leftovers_remove(dir, job->now_us / 1000000);
	fd = file_create(job, dir, "/tmp/", name, true, f);
	if (fd < 0)
		return false;
	snprintf(from, sizeof from, "%s/tmp/%s", dir, name);
	ok = local_message_write(job, fd, &written, f);
	if (ok) {
		tag_write(tag, sizeof tag, job->options->maildir_tag, written);
		if (strlen(name) + strlen(tag) > NAME_MAX_LEN)
			tag[0] = '\0';
		snprintf(to, sizeof to, "%s/%s%s", new_dir, name, tag);
		ok = file_finish(fd, from, to, new_dir, f);
	}
	if (!ok)
		unlink(from);
	close(fd);
	if (ok)
		local_quota_note(job, &quota, written);
	return ok;
}

/* "q" and the time in base 62, a hyphen, the inode: the default of directory_file. */
static void newfile_name(char out[LOCAL_NAME_SIZE], int64_t now_s, ino_t inode)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	char base[7];

	for (int i = 5; i >= 0; i--, now_s /= 62)
		base[i] = digits[now_s % 62];
	base[6] = '\0';
	snprintf(out, LOCAL_NAME_SIZE, "q%s-%llu", base, (unsigned long long)inode);
}

bool local_newfile_deliver(struct local_job *job, struct local_fault *f)
{
	const char *dir = job->options->directory.p;
	char name[LOCAL_NAME_SIZE], last[LOCAL_NAME_SIZE], from[LOCAL_PATH_MAX + 64 + LOCAL_NAME_SIZE], to[LOCAL_PATH_MAX + 64 + LOCAL_NAME_SIZE];
	struct local_quota quota = { 0, 0, NULL };
	uint64_t written = 0;
	struct stat st;
	bool ok;
	int fd;

	job->store = job->options->directory;
	if (access(dir, F_OK) < 0 && !local_directory_make(job, dir, f))
		return false;
	if (!local_quota_check(job, &quota, f))
		return false;
	fd = file_create(job, dir, "/.tmp.", name, false, f);
	if (fd < 0)
		return false;
	snprintf(from, sizeof from, "%s/.tmp.%s", dir, name);
	ok = local_message_write(job, fd, &written, f);
	if (ok && fstat(fd, &st) < 0)
		ok = local_fault_errno(f, errno, "%s", from);
	if (ok) {
		if (!job->options->directory_file.len)
			newfile_name(last, job->now_us / 1000000, st.st_ino);
		else if (!name_write(last, sizeof last, job->options->directory_file, st.st_ino) || !strcmp(last, ".") || !strcmp(last, ".."))
			ok = local_fault_set(f, RETRY_OTHER, "4.3.5", "directory_file gives no name for a file");
	}
	if (ok) {
		snprintf(to, sizeof to, "%s/%s", dir, last);
		ok = file_finish(fd, from, to, dir, f);
	}
	if (!ok)
		unlink(from);
	close(fd);
	return ok;
}

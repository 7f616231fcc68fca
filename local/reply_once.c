/* SPDX-License-Identifier: ISC */
/* reply_once.c - who got an answer when. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local/local_reply.h"

enum { STAMP = 12 /* digits of a time, so that it can be replaced where it stands */, SIZE_DEFAULT = 16 * 1024 * 1024, WHO_MAX = 1000 };

int reply_file_open(const char *path, int flags, mode_t mode)
{
	int fd;

	flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	fd = open(path, flags | O_CREAT | O_EXCL, mode);
	if (fd >= 0)
		fchmod(fd, mode);
	return fd < 0 && errno == EEXIST ? open(path, flags) : fd;
}

static int once_open(const char *path, mode_t mode, struct local_fault *f)
{
	int fd = reply_file_open(path, O_RDWR, mode);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;

	if (fd < 0) {
		local_fault_errno(f, errno, "cannot open %s (once)", path);
		return -1;
	}
	if (fcntl(fd, F_SETLKW, &lock) < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		local_fault_errno(f, S_ISREG(st.st_mode) ? errno : EINVAL, "cannot use %s (once)", path);
		close(fd);
		return -1;
	}
	return fd;
}

static bool once_read(int fd, struct buf *all)
{
	char room[16384];
	ssize_t n;

	while ((n = read(fd, room, sizeof room)) > 0)
		if (!buf_add(all, room, (size_t)n))
			return true; /* longer than we would write it: what is behind counts as not there */
	return n == 0;
}

/* The line of this address: where it begins, and when it was. */
static bool once_find(struct str all, struct str who, size_t *at_out, int64_t *when_out)
{
	struct str rest = all, line;

	while (str_split(&rest, '\n', &line)) {
		uint64_t when;

		if (line.len <= STAMP + 1 || line.p[STAMP] != ' ' || !str_u64(str_sub(line, 0, STAMP), INT64_MAX, &when))
			continue;
		if (str_eqi(str_from(line, STAMP + 1), who)) {
			*at_out = (size_t)(line.p - all.p);
			*when_out = (int64_t)when;
			return true;
		}
	}
	return false;
}

static bool write_at(int fd, const char *p, size_t n, off_t at)
{
	while (n) {
		ssize_t got = pwrite(fd, p, n, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
		at += got;
	}
	return true;
}

/* Behind the others; where it is full the oldest lines make room. */
static bool once_append(int fd, struct buf *all, uint64_t size_max, struct str who, int64_t now_s)
{
	char head[STAMP + 2];
	size_t need = STAMP + 2 + who.len, drop = 0;
	struct buf line = BUF_INIT;
	bool ok;

	snprintf(head, sizeof head, "%0*lld ", STAMP, (long long)now_s);
	if (all->len && all->p[all->len - 1] != '\n')
		buf_addc(&line, '\n'); /* a line that a crash cut short */
	buf_adds(&line, head);
	buf_add_str(&line, who);
	buf_addc(&line, '\n');
	while (all->len - drop + need > size_max && drop < all->len) {
		const char *end = memchr(all->p + drop, '\n', all->len - drop);

		drop = end ? (size_t)(end - all->p) + 1 : all->len;
	}
	if (!drop) {
		ok = write_at(fd, line.p, line.len, (off_t)all->len);
		if (!ok && ftruncate(fd, (off_t)all->len) < 0)
			ok = false;
	} else {
		struct buf whole = BUF_INIT;

		buf_add(&whole, all->p + drop, all->len - drop);
		buf_add(&whole, line.p, line.len);
		ok = write_at(fd, whole.p, whole.len, 0) && ftruncate(fd, (off_t)whole.len) == 0;
		buf_clear(&whole);
	}
	buf_clear(&line);
	return ok;
}

bool reply_once(const char *path, mode_t mode, uint64_t size_max, struct str who, int64_t now_s, int64_t repeat_s, bool *due_out, struct local_fault *f)
{
	uint64_t most = size_max ? size_max : SIZE_DEFAULT;
	struct buf all = BUF_LIMIT(most + SIZE_DEFAULT);
	char stamp[STAMP + 2];
	int64_t when;
	size_t at;
	bool ok;
	int fd = once_open(path, mode, f);

	if (fd < 0)
		return false;
	who = str_sub(who, 0, WHO_MAX);
	*due_out = false;
	ok = once_read(fd, &all) || !local_fault_errno(f, errno, "cannot read %s (once)", path);
	if (ok && once_find(buf_str(&all), who, &at, &when)) {
		*due_out = repeat_s > 0 && now_s - when >= repeat_s;
		snprintf(stamp, sizeof stamp, "%0*lld", STAMP, (long long)now_s);
		if (*due_out && !write_at(fd, stamp, STAMP, (off_t)at))
			ok = local_fault_errno(f, errno, "while writing to %s (once)", path);
	} else if (ok) {
		*due_out = true;
		if (!once_append(fd, &all, most, who, now_s))
			ok = local_fault_errno(f, errno ? errno : EIO, "while writing to %s (once)", path);
	}
	buf_clear(&all);
	close(fd);
	return ok;
}

/* SPDX-License-Identifier: ISC */
/* The way to the file is gone by descriptors, so that nobody puts a link in the place of what was looked at. */
#include "router/owner_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 4 * 1024 * 1024 /* octets */, MAY_READ = 4, MAY_PASS = 1 };

struct walk {
	const struct file_owner *who;
	struct arena *a;
	struct str path;
	int fd;               /* the directory reached; O_PATH */
	bool links_of_root;   /* others' are not followed here */
};

void file_owner_of(const struct stat *st, struct file_owner *out)
{
	*out = (struct file_owner){ st->st_uid == 0, st->st_uid, st->st_gid };
}

/* By the permissions alone: of other groups of his nothing is known here. */
static bool permitted(const struct file_owner *who, const struct stat *st, mode_t right)
{
	mode_t mode = st->st_uid == who->uid ? st->st_mode >> 6 : st->st_gid == who->gid ? st->st_mode >> 3 : st->st_mode;

	return who->anybody || (mode & right) == right;
}

static enum status refused(const struct walk *w, struct str part, const char *why, struct err *err)
{
	return err_set(err, ST_ERROR, "%.*s: %.*s: %s", STR_FMT(str_sub(w->path, 0, 300)), STR_FMT(str_sub(part, 0, 100)), why);
}

static enum status trouble(const struct walk *w, int error, struct err *err)
{
	enum status st = error == ENOENT || error == ENOTDIR ? ST_FAIL : error == EACCES || error == EPERM || error == ELOOP ? ST_ERROR : ST_DEFER;

	return err_set(err, st, "%.*s: %s", STR_FMT(str_sub(w->path, 0, 300)), strerror(error));
}

/* Opens one part; a symbolic link is followed where root made it, or where nobody minds. */
static enum status part_open(const struct walk *w, struct str part, int flags, int *fd_out, struct stat *st, struct err *err)
{
	const char *name = str_cstr(w->a, part);
	bool follow = w->who->anybody && !w->links_of_root;
	int error;

	*fd_out = -1;
	if (!follow) {
		if (fstatat(w->fd, name, st, AT_SYMLINK_NOFOLLOW))
			return trouble(w, errno, err);
		if (S_ISLNK(st->st_mode) && st->st_uid != 0)
			return refused(w, part, "a symbolic link that is not root's", err);
		follow = S_ISLNK(st->st_mode);
	}
	*fd_out = openat(w->fd, name, flags | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
	if (*fd_out >= 0 && fstat(*fd_out, st) == 0)
		return ST_OK;
	error = errno;
	if (*fd_out >= 0)
		close(*fd_out);
	*fd_out = -1;
	return trouble(w, error, err);
}

static enum status directory_enter(struct walk *w, struct str part, struct err *err)
{
	struct stat st;
	int fd;
	enum status s = part_open(w, part, O_PATH | O_DIRECTORY, &fd, &st, err);

	if (s)
		return s;
	close(w->fd);
	w->fd = fd;
	return permitted(w->who, &st, MAY_PASS) ? ST_OK : refused(w, part, "the owner of the file that names it may not pass here", err);
}

static enum status content_read(const struct walk *w, int fd, const struct stat *st, struct str *out, struct err *err)
{
	char *p = arena_alloc(w->a, (size_t)st->st_size + 1);
	size_t n = 0;

	while (n < (size_t)st->st_size) {
		ssize_t got = read(fd, p + n, (size_t)st->st_size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return trouble(w, errno, err);
		if (!got)
			break;
		n += (size_t)got;
	}
	*out = str_make(p, n);
	return ST_OK;
}

static enum status file_open(const struct walk *w, struct str part, struct str *out, struct file_owner *owner_out, struct err *err)
{
	struct stat st;
	int fd;
	enum status s = part_open(w, part, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd, &st, err);

	if (s)
		return s;
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		s = refused(w, part, S_ISREG(st.st_mode) ? "it is too long" : "it is no regular file", err);
	else if (!permitted(w->who, &st, MAY_READ))
		s = refused(w, part, "the owner of the file that names it may not read it", err);
	else
		s = content_read(w, fd, &st, out, err);
	close(fd);
	file_owner_of(&st, owner_out);
	return s;
}

enum status owner_file_read(struct arena *a, struct str path, const struct file_owner *who, struct str below, struct str *out,
	struct file_owner *owner_out, struct err *err)
{
	struct walk w = { .who = who, .a = a, .path = path };
	struct str rest = path, part;
	enum status st = ST_OK;

	if (memchr(path.p, 0, path.len))
		return err_set(err, ST_ERROR, "a zero octet in the path");
	w.fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w.fd < 0)
		return trouble(&w, errno, err);
	while (below.len > 1 && below.p[below.len - 1] == '/')
		below.len--;
	while (!st && str_split(&rest, '/', &part)) {
		while (rest.len && rest.p[0] == '/')
			rest = str_from(rest, 1);
		if (!part.len || str_is(part, "."))
			continue;
		if (str_is(part, "..") && !who->anybody)
			st = refused(&w, part, "not upwards", err);
		w.links_of_root = below.len && part.p >= path.p + below.len;
		if (!st && rest.len)
			st = directory_enter(&w, part, err);
		else if (!st) {
			st = file_open(&w, part, out, owner_out, err);
			close(w.fd);
			return st;
		}
	}
	close(w.fd);
	return st ? st : err_set(err, ST_ERROR, "%.*s: no file's name", STR_FMT(str_sub(path, 0, 300)));
}

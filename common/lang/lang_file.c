/* SPDX-License-Identifier: ISC */
/* Files on this process' own disk. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/lang/lang.h"

static enum status file_error(struct err *err, struct str path, const char *doing)
{
	enum status st = errno == ENOENT || errno == ENOTDIR ? ST_FAIL : errno == EACCES || errno == EPERM || errno == ELOOP ? ST_ERROR : ST_DEFER;

	return err_set(err, st, "%s \"%.*s\": %s", doing, STR_FMT(str_sub(path, 0, 200)), strerror(errno));
}

enum status lang_file_read(void *ctx, struct arena *a, struct str path, struct lang_file *out, struct err *err)
{
	struct stat sb;
	size_t got = 0;
	char *p;
	int fd;
	enum status st = ST_OK;

	(void)ctx;
	*out = (struct lang_file){ STR_NULL };
	fd = open(str_cstr(a, path), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return file_error(err, path, "opening");
	if (fstat(fd, &sb))
		st = file_error(err, path, "opening");
	else if (!S_ISREG(sb.st_mode))
		st = err_set(err, ST_ERROR, "\"%.*s\" is not a regular file", STR_FMT(str_sub(path, 0, 200)));
	else if (sb.st_size > LANG_FILE_MAX)
		st = err_set(err, ST_ERROR, "\"%.*s\" is larger than %d octets", STR_FMT(str_sub(path, 0, 200)), LANG_FILE_MAX);
	if (!st) {
		p = arena_alloc(a, (size_t)sb.st_size + 1);
		while (got < (size_t)sb.st_size) {
			ssize_t k = read(fd, p + got, (size_t)sb.st_size - got);

			if (k < 0 && errno == EINTR)
				continue;
			if (k < 0) {
				st = file_error(err, path, "reading");
				break;
			}
			if (!k)
				break;
			got += (size_t)k;
		}
		out->content = str_make(p, got);
	}
	close(fd);
	return st;
}

/* "-rwxr-xr-x" */
static void mode_format(mode_t mode, char out[11])
{
	static const char letters[] = "rwxrwxrwx";
	static const struct { mode_t type; char letter; } types[] = {
		{ S_IFDIR, 'd' }, { S_IFLNK, 'l' }, { S_IFCHR, 'c' }, { S_IFBLK, 'b' }, { S_IFIFO, 'p' }, { S_IFSOCK, 's' },
	};

	out[0] = '-';
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if ((mode & S_IFMT) == types[i].type)
			out[0] = types[i].letter;
	for (int i = 0; i < 9; i++)
		out[i + 1] = mode & (0400u >> i) ? letters[i] : '-';
	if (mode & S_ISUID)
		out[3] = out[3] == 'x' ? 's' : 'S';
	if (mode & S_ISGID)
		out[6] = out[6] == 'x' ? 's' : 'S';
	if (mode & S_ISVTX)
		out[9] = out[9] == 'x' ? 't' : 'T';
	out[10] = '\0';
}

enum status lang_file_stat(void *ctx, struct arena *a, struct str path, struct str *out, struct err *err)
{
	struct stat sb;
	char smode[11];

	(void)ctx;
	*out = STR_NULL;
	if (stat(str_cstr(a, path), &sb))
		return file_error(err, path, "looking at");
	mode_format(sb.st_mode, smode);
	*out = str_printf(a, "mode=%04o smode=%s inode=%llu device=%llu links=%lu uid=%lu gid=%lu size=%lld atime=%lld mtime=%lld ctime=%lld",
		(unsigned)sb.st_mode & 077777, /* as Exim: a directory shows */ smode, (unsigned long long)sb.st_ino, (unsigned long long)sb.st_dev, (unsigned long)sb.st_nlink,
		(unsigned long)sb.st_uid, (unsigned long)sb.st_gid, (long long)sb.st_size, (long long)sb.st_atim.tv_sec, (long long)sb.st_mtim.tv_sec,
		(long long)sb.st_ctim.tv_sec);
	return ST_OK;
}

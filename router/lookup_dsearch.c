/* SPDX-License-Identifier: ISC */
/* lookup_dsearch.c - whether a directory has an entry of this name. Specification, section 9.3: ret=full, filter=. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "router/lookup_drivers.h"

struct dsearch {
	int fd;
	uint64_t dev, ino;
	char *path;
};

static enum status dsearch_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct arena a = ARENA_INIT;
	char *path = str_cstr(&a, file);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dsearch *d;
	struct stat st;

	(void)env;
	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(err, ST_DEFER, "failed to open %s for directory search: %s", path, strerror(errno));
		arena_clear(&a);
		if (fd >= 0)
			close(fd);
		return ST_DEFER;
	}
	d = mem_new(sizeof *d);
	*d = (struct dsearch){ fd, (uint64_t)st.st_dev, (uint64_t)st.st_ino, mem_strdup(path) };
	arena_clear(&a);
	*handle_out = d;
	return ST_OK;
}

/* Another directory has the name now, or none. */
static bool dsearch_changed(void *handle)
{
	const struct dsearch *d = handle;
	struct stat st;

	return stat(d->path, &st) < 0 || (uint64_t)st.st_dev != d->dev || (uint64_t)st.st_ino != d->ino;
}

static void dsearch_close(void *handle)
{
	struct dsearch *d = handle;

	close(d->fd);
	mem_free(d->path);
	mem_free(d);
}

static enum status dsearch_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	char *name = str_cstr(a, key);
	struct stat st;

	(void)env;
	if (str_find(key, '/') >= 0 || str_find(key, '\0') >= 0)
		return err_set(err, ST_DEFER, "dsearch: the key \"%.*s\" contains a slash or a NUL", STR_FMT(str_sub(key, 0, 100)));
	if (!key.len || strlen(name) > NAME_MAX)
		return ST_FAIL;
	if (fstatat(((struct dsearch *)handle)->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENAMETOOLONG ? ST_FAIL :
			err_set(err, ST_DEFER, "dsearch: %.*s/%s: %s", STR_FMT(file), name, strerror(errno));
	if ((lookup_option(options, "filter=file") && !S_ISREG(st.st_mode)) || (lookup_option(options, "filter=dir") && !S_ISDIR(st.st_mode)) ||
	    (lookup_option(options, "filter=subdir") && (!S_ISDIR(st.st_mode) || !strcmp(name, ".") || !strcmp(name, ".."))))
		return ST_FAIL;
	*out = (struct lookup_result){ .ttl_s = LOOKUP_TTL_FILE,
		.value = lookup_option(options, "ret=full") ? str_printf(a, "%.*s/%s", STR_FMT(file), name) : str_dup(a, key) };
	out->value.tainted = false; /* it is the directory's word now */
	return ST_OK;
}

const struct lookup_driver lookup_driver_dsearch = { "dsearch", dsearch_open, dsearch_changed, dsearch_find, dsearch_close, NULL };

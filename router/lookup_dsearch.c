/* SPDX-License-Identifier: ISC */
/* lookup_dsearch.c - whether a directory has an entry of this name. Specification, section 9.3: ret=full, filter=. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "router/lookup_drivers.h"

static enum status dsearch_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct arena a = ARENA_INIT;
	char *path = str_cstr(&a, file);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), *handle;

	(void)env;
	if (fd < 0)
		err_set(err, ST_DEFER, "failed to open directory %s: %s", path, strerror(errno));
	arena_clear(&a);
	if (fd < 0)
		return ST_DEFER;
	handle = mem_new(sizeof *handle);
	*handle = fd;
	*handle_out = handle;
	return ST_OK;
}

static void dsearch_close(void *handle)
{
	close(*(int *)handle);
	mem_free(handle);
}

static bool option_has(struct str options, const char *what)
{
	struct str one;

	while (str_split(&options, ',', &one))
		if (str_is(str_trim(one), what))
			return true;
	return false;
}

static enum status dsearch_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	char *name = str_cstr(a, key);
	struct stat st;

	(void)env;
	if (str_find(key, '/') >= 0 || str_find(key, '\0') >= 0)
		return err_set(err, ST_ERROR, "dsearch: the key \"%.*s\" contains a slash or a NUL", STR_FMT(str_sub(key, 0, 100)));
	if (!key.len || strlen(name) > NAME_MAX)
		return ST_FAIL;
	if (fstatat(*(int *)handle, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENAMETOOLONG ? ST_FAIL :
			err_set(err, ST_DEFER, "dsearch: %.*s/%s: %s", STR_FMT(file), name, strerror(errno));
	if ((option_has(options, "filter=file") && !S_ISREG(st.st_mode)) || (option_has(options, "filter=dir") && !S_ISDIR(st.st_mode)) ||
	    (option_has(options, "filter=subdir") && (!S_ISDIR(st.st_mode) || !strcmp(name, ".") || !strcmp(name, ".."))))
		return ST_FAIL;
	*out = (struct lookup_result){ .key = str_dup(a, key),
		.value = option_has(options, "ret=full") ? str_printf(a, "%.*s/%s", STR_FMT(file), name) : str_dup(a, key) };
	out->value.tainted = out->key.tainted = false; /* it is the directory's word now */
	return ST_OK;
}

const struct lookup_driver lookup_driver_dsearch = { "dsearch", dsearch_open, NULL, dsearch_find, dsearch_close, NULL };

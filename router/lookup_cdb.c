/* SPDX-License-Identifier: ISC */
/* lookup_cdb.c - constant databases, through libcdb's calls that read: a file that somebody cuts short gives an error, where one that
 * is mapped would end the worker. */
#include "gen/have.h"
#include "router/lookup_drivers.h"

#if HAVE_CDB
#include <cdb.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cdb_file {
	int fd;
	char *path;
	struct lookup_stamp stamp;
};

static void cdb_close(void *handle)
{
	struct cdb_file *f = handle;

	close(f->fd);
	mem_free(f->path);
	mem_free(f);
}

static enum status cdb_open(void *env, struct str file, void **handle_out, struct err *err)
{
	char *path = mem_memdup(file.p, file.len);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct lookup_stamp stamp;
	struct cdb_file *f;
	struct stat st;

	(void)env;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 2048 || !lookup_stamp_get(fd, &stamp)) {
		err_set(err, ST_DEFER, "cdb: %s: %s", path, fd < 0 ? strerror(errno) : "no cdb file");
		if (fd >= 0)
			close(fd);
		mem_free(path);
		return ST_DEFER;
	}
	f = mem_new(sizeof *f);
	*f = (struct cdb_file){ fd, path, stamp };
	*handle_out = f;
	return ST_OK;
}

static bool cdb_changed(void *handle)
{
	struct cdb_file *f = handle;

	return lookup_stamp_differs(f->path, &f->stamp);
}

static enum status cdb_key_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct cdb_file *f = handle;
	unsigned len = 0;
	char *value;
	int rc;

	(void)env, (void)options;
	out->ttl_s = LOOKUP_TTL_FILE;
	rc = cdb_seek(f->fd, key.p, key.len, &len);
	if (rc == 0)
		return ST_FAIL;
	if (rc < 0)
		return err_set(err, ST_DEFER, "cdb: %.*s: %s", STR_FMT(file), errno == EPROTO ? "damaged or cut short" : strerror(errno));
	if (len > LOOKUP_VALUE_MAX)
		return err_set(err, ST_DEFER, "cdb: %.*s: a value of %u octets: %d are allowed", STR_FMT(file), len, LOOKUP_VALUE_MAX);
	value = arena_alloc(a, (size_t)len + 1);
	if (len && cdb_bread(f->fd, value, (int)len) < 0)
		return err_set(err, ST_DEFER, "cdb: %.*s: damaged or cut short", STR_FMT(file));
	out->value = str_make(value, len);
	return ST_OK;
}

const struct lookup_driver lookup_driver_cdb = { "cdb", cdb_open, cdb_changed, cdb_key_find, cdb_close, NULL };
#else
const struct lookup_driver lookup_driver_cdb = { "cdb", NULL, NULL, lookup_absent, NULL, NULL };
#endif

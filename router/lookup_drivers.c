/* SPDX-License-Identifier: ISC */
#include "router/lookup_servers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct lookup_driver *const lookup_drivers[] = {
	&lookup_driver_lsearch, &lookup_driver_iplsearch, &lookup_driver_dsearch, &lookup_driver_lmdb, &lookup_driver_redis,
	&lookup_driver_dnsdb, &lookup_driver_cdb, &lookup_driver_json, &lookup_driver_passwd, &lookup_driver_sqlite,
	&lookup_driver_pgsql, &lookup_driver_mysql, &lookup_driver_psl, &lookup_driver_regdom,
	&lookup_driver_dbm, &lookup_driver_dbmnz, &lookup_driver_dbmjz, NULL,
};

enum status lookup_absent(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	(void)env, (void)handle, (void)file, (void)key, (void)options, (void)a, (void)out;
	return err_set(err, ST_ERROR, "not built in: its library was not there when Bulkhead was compiled");
}

const struct lookup_driver *lookup_driver_find(const char *name)
{
	for (size_t i = 0; lookup_drivers[i]; i++)
		if (!strcmp(lookup_drivers[i]->name, name))
			return lookup_drivers[i];
	return NULL;
}

void lookup_env_clear(struct lookup_env *env)
{
	for (size_t i = 0; lookup_drivers[i]; i++)
		if (lookup_drivers[i]->tidy)
			lookup_drivers[i]->tidy(env);
	conns_free(env->conns);
	env->conns = NULL;
}

static void stamp_from(const struct stat *st, struct lookup_stamp *out)
{
	*out = (struct lookup_stamp){ (uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size,
		(int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec };
}

bool lookup_stamp_get(int fd, struct lookup_stamp *out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	stamp_from(&st, out);
	return true;
}

bool lookup_stamp_path(const char *path, struct lookup_stamp *out)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	stamp_from(&st, out);
	return true;
}

bool lookup_stamp_differs(const char *path, const struct lookup_stamp *stamp)
{
	struct lookup_stamp now;

	if (!lookup_stamp_path(path, &now))
		return true;
	return memcmp(&now, stamp, sizeof now) != 0;
}

enum status lookup_file_read(struct str path, struct arena *a, struct str *text_out, struct lookup_stamp *stamp_out, struct err *err)
{
	char *name = str_cstr(a, path), *text;
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	size_t at = 0;

	if (fd < 0)
		return err_set(err, ST_DEFER, "failed to open %s: %s", name, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > LOOKUP_FILE_MAX || !lookup_stamp_get(fd, stamp_out)) {
		close(fd);
		return err_set(err, ST_DEFER, "%s is no regular file of at most %d octets", name, LOOKUP_FILE_MAX);
	}
	text = arena_alloc(a, (size_t)st.st_size + 1);
	while (at < (size_t)st.st_size) {
		ssize_t n = read(fd, text + at, (size_t)st.st_size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_set(err, ST_DEFER, "reading %s: %s", name, strerror(errno));
			close(fd);
			return ST_DEFER;
		}
		if (n == 0)
			break;
		at += (size_t)n;
	}
	close(fd);
	*text_out = str_make(text, at);
	return ST_OK;
}

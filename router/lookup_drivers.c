/* SPDX-License-Identifier: ISC */
#include "router/lookup_drivers.h"

#include <string.h>
#include <sys/stat.h>

const struct lookup_driver *const lookup_drivers[] = {
	&lookup_driver_lsearch, &lookup_driver_iplsearch, &lookup_driver_dsearch, &lookup_driver_lmdb, &lookup_driver_redis,
	&lookup_driver_dnsdb, NULL,
};

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

bool lookup_stamp_differs(const char *path, const struct lookup_stamp *stamp)
{
	struct lookup_stamp now;
	struct stat st;

	if (stat(path, &st) < 0)
		return true;
	stamp_from(&st, &now);
	return memcmp(&now, stamp, sizeof now) != 0;
}

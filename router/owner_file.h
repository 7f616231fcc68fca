/* SPDX-License-Identifier: ISC */
/* owner_file.h - reads a file that another file names, with no more rights than the owner of that one has.
 * Used by:    the redirect driver, for :include: in forward files and lists. The router can read more than users may.
 * Owns:       nothing; the text goes into the caller's arena.
 * Errors:     ST_FAIL there is no such file; ST_ERROR it is no regular file, too long, or not for this owner; ST_DEFER the rest. */
#ifndef ROUTER_OWNER_FILE_H
#define ROUTER_OWNER_FILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

struct file_owner {
	bool anybody;        /* root, or the configuration: what the router may read, he may */
	uid_t uid;
	gid_t gid;
};

/* An absolute path. *owner_out: the file's own, for what it names in its turn. `below` (may be empty): a directory behind which symbolic
 * links are root's or none, whoever asks. */
enum status owner_file_read(struct arena *a, struct str path, const struct file_owner *who, struct str below, struct str *out,
	struct file_owner *owner_out, struct err *err);

struct stat;
void file_owner_of(const struct stat *st, struct file_owner *out);

#endif

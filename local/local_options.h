/* SPDX-License-Identifier: ISC */
/* local_options.h - a plan for the appendfile transport, read and checked.
 * Used by:    local_delivery.c and the stores.
 * Owns:       nothing; texts are in the caller's arena.
 * Errors:     ST_ERROR with the option that can't be used: the delivery is deferred. */
#ifndef LOCAL_OPTIONS_H
#define LOCAL_OPTIONS_H

#include <sys/types.h>

#include "common/base/err.h"
#include "common/ipc/codec.h"

enum { LOCAL_PATH_MAX = 3000 };

struct local_options {
	struct str file, directory;      /* one of them; absolute, no "..", zero-terminated */
	bool maildir;
	struct str maildir_tag, directory_file, create_file, home;
	struct str message_prefix, message_suffix, check_string, escape_string;
	bool has_prefix;                 /* message_prefix was set */
	bool create_directory, file_must_exist;
	bool allow_fifo, check_owner, check_group, allow_symlink, mode_fail_narrower;
	bool use_lockfile, use_fcntl, use_flock;
	bool bsmtp, crlf;
	bool headers_only, body_only, return_path_add, delivery_date_add, envelope_to_add;
	mode_t mode, directory_mode, lockfile_mode;
	unsigned lock_retries, maildir_retries;
	uint64_t lock_interval_ms, lock_fcntl_ms, lock_flock_ms;
	int64_t lockfile_timeout_s;
	/* quota */
	uint64_t quota, quota_files;     /* 0: none */
	bool quota_no_check, files_no_check, quota_inclusive, size_file;
	struct str quota_directory, quota_size_regex, quota_directory_regex, folder_regex;
	uint64_t warn_at;                /* octets; 0: never */
	struct str warn_message;
	bool has_size, has_count;
	uint64_t mailbox_size, mailbox_count;
};

enum status local_options_read(const struct ipc_plan *plan, struct arena *a, struct local_options *out, struct err *err);
/* Absolute, no ".." component, no control octet, not too long. */
bool local_path_is_safe(struct str path);
/* "10M", "1.5G", "500K/no_check". */
enum status local_quota_parse(struct str text, uint64_t *out, bool *no_check, struct err *err);

#endif

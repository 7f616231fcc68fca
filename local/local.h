/* SPDX-License-Identifier: ISC */
/* local.h - what the stores share: the message, where it goes, and what went wrong.
 * Used by:    local's own files and the tests.
 * Owns:       struct local_job is its caller's, on the stack of one delivery; `path` and texts are in its arena.
 * Errors:     a store that can't be written is an outcome, not a status: struct local_fault says what, why and how to retry.
 *             Every fault is temporary; nothing partial is left behind. */
#ifndef LOCAL_H
#define LOCAL_H

#include "common/conf/option.h"
#include "common/ipc/enums.h"
#include "common/mail/edit.h"
#include "local/local_options.h"

struct local_fault {
	enum retry_error error;
	char status[8];             /* enhanced status */
	int error_no;               /* 0: none */
	uint64_t quota_age;         /* as in struct ipc_outcome */
	struct err err;             /* text */
};

struct local_job {
	const struct local_options *options;
	const struct ipc_deliver *msg;
	struct str sender;
	struct edit_piece *pieces;  /* the message: header and body */
	uint32_t n_pieces;
	int fd;                     /* its content */
	uint64_t size;              /* octets, about: as received, CRLF ends */
	const char *host;           /* our name */
	char *scratch;              /* LOCAL_SCRATCH octets */
	int64_t now_us;             /* since 1970 */
	struct arena *arena;
	struct str store;           /* out: what was written */
	uint64_t *size_before;      /* out, where it became known: octets in the store before this message; NULL: not wanted */
	uint64_t *size_written;     /* out: octets of this one there; NULL: not wanted */
	/* In place of write(2), for a store that is no file. */
	ssize_t (*write)(void *arg, const char *p, size_t n);
	void *write_arg;
};
enum { LOCAL_SCRATCH = 64 * 1024 };

/* Sets the fault from an errno: quota and space are told apart. Returns false, for `return`. */
bool local_fault_errno(struct local_fault *f, int error_no, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool local_fault_set(struct local_fault *f, enum retry_error error, const char *status, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The message as its options want it: sender, pieces, size. */
bool local_message_begin(struct local_job *job, const struct ipc_plan *plan, struct local_fault *f);
/* Writes the message with prefix and suffix. *written_out: octets. */
bool local_message_write(const struct local_job *job, int out_fd, uint64_t *written_out, struct local_fault *f);
/* The plan's options into a driver's struct and the generic one. */
enum status local_plan_options(const struct ipc_plan *plan, const struct conf_table *table, void *own, struct conf_opts_transport *generic,
	struct arena *a, struct err *err);
/* Makes the directory and those above it, as create_directory, create_file and directory_mode say. */
bool local_directory_make(const struct local_job *job, const char *path, struct local_fault *f);
/* create_file: whether something may be made there. */
bool local_may_create(const struct local_job *job, const char *path, struct local_fault *f);
bool local_directory_sync(const char *path);
void local_sleep_ms(uint64_t ms);

/* A pattern (PCRE) on a text. *capture_out, if given: the first group as a number, UINT64_MAX if there is none. */
enum local_regex { LOCAL_REGEX_NO, LOCAL_REGEX_YES, LOCAL_REGEX_BAD };
enum local_regex local_regex_match(struct str pattern, const char *subject, uint64_t *capture_out);

/* The stores. */
bool local_maildir_deliver(struct local_job *job, struct local_fault *f);
bool local_newfile_deliver(struct local_job *job, struct local_fault *f);  /* directory without maildir_format */
bool local_mbox_deliver(struct local_job *job, struct local_fault *f);

/* Quota of a directory, before delivery; then, with maildirsize, the note of what was added. */
struct local_quota {
	uint64_t size, files;       /* in the directory now */
	char *size_file;            /* path of maildirsize; NULL: not used */
};
bool local_quota_check(const struct local_job *job, struct local_quota *q, struct local_fault *f);
void local_quota_note(const struct local_job *job, const struct local_quota *q, uint64_t size);
/* For a file: its size is known. */
bool local_quota_check_file(const struct local_job *job, uint64_t size, int64_t read_age_s, struct local_fault *f);

/* The whole delivery: reads the plan, chooses the store. Returns false with *f. */
bool local_deliver(struct local_job *job, const struct ipc_plan *plan, struct local_fault *f);

#endif

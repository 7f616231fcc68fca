/* SPDX-License-Identifier: ISC */
/* queuefile.h - messages are copied out for another program, all or nothing.
 * Used by:    queuefile's own files and the tests.
 * Owns:       nothing beyond one hand-over; texts are in the caller's arena.
 * Invariant:  under its name a file is whole and durable; ID-D is there before ID-H. A message that is there already with other
 *             recipients keeps them.
 * Errors:     ST_DEFER with "OP PATH: ERROR": nothing under the names of the message was changed, and it is tried again. */
#ifndef QUEUEFILE_H
#define QUEUEFILE_H

#include "common/daemon/pool.h"
#include "common/ipc/codec.h"

struct handover {
	const struct ipc_deliver *msg;
	int fd;                     /* the message */
	const char *directory;
	const char *login;          /* for messages that came from no login here */
	struct arena *arena;
};

/* Both files' text; recipients_old: lines of a hand-over that is there already, to be kept (may be empty). */
enum status exim_header_make(const struct handover *h, struct str recipients_old, struct buf *out, struct err *err);
/* The recipients' lines of an -H file; ST_FAIL when it is none. */
enum status exim_recipients_find(struct str header, struct str *lines_out, struct err *err);
enum status exim_body_write(const struct handover *h, int out_fd, struct err *err);

enum status handover_exim(const struct handover *h, struct err *err);
enum status handover_bulkhead(const struct handover *h, struct err *err);

/* ---- files (handover_file.c) ---- */

struct out_file {
	int dir, fd;
	char name[48], temporary[56];
	const char *directory;
};
/* Opens the directory, and holds it for this process alone until it is closed. */
enum status directory_open(const char *path, int *fd_out, struct err *err);
enum status out_begin(struct out_file *f, int dir, const char *directory, struct str id, const char *suffix, struct err *err);
enum status out_sync(struct out_file *f, struct err *err);      /* all is written */
enum status out_name(struct out_file *f, struct err *err);      /* under its name from now on */
void out_end(struct out_file *f);                               /* the temporary file goes, if it is still there */
enum status out_add(int fd, const void *p, size_t n, struct err *err);
/* What stands there under a name; ST_FAIL: nothing. */
enum status there_read(int dir, const char *name, size_t most, struct buf *out, struct err *err);

extern const struct pool_spec queuefile_spec;

#endif

/* SPDX-License-Identifier: ISC */
/* local_reply.h - an answer to a message is put together (specification, chapter 27).
 * Used by:    local_daemon.c, tests.
 * Owns:       the descriptor that reply_make() gives is the caller's: sealed memory with the whole answer, CRLF line ends.
 * Invariant:  no answer to a report (null sender), nor to what says that it was made by a machine: answers never answer each other.
 * Standards:  RFC 3834. */
#ifndef LOCAL_REPLY_H
#define LOCAL_REPLY_H

#include "local/local.h"

enum { REPLY_RECIPIENTS_MAX = 512, REPLY_FILE_MAX = 1024 * 1024 };

struct reply {
	int fd;                           /* -1: none is to be sent, and that is fine */
	struct ipc_recipient *recipients;
	uint32_t n_recipients;
};

/* job: fd, msg, arena, scratch, now_us, host. False: a fault; nothing was recorded. */
bool reply_make(struct local_job *job, const struct ipc_plan *plan, uint64_t return_limit, struct str qualify, struct reply *out, struct local_fault *f);

/* The message that tells a mailbox's owner that it grew beyond quota_warn_threshold: text has header fields, To: among them, an empty
 * line and the body. */
bool reply_warning(struct local_job *job, struct str text, struct str transport, struct str qualify, struct reply *out, struct local_fault *f);

/* A file of the transport's own; made with this mode, whatever the umask, if it is not there. -1 with errno. */
int reply_file_open(const char *path, int flags, mode_t mode);

/* Who got an answer when: a file of lines "SECONDS ADDRESS". *due_out: one is to be sent now, and this is recorded. */
bool reply_once(const char *path, mode_t mode, uint64_t size_max, struct str who, int64_t now_s, int64_t repeat_s, bool *due_out, struct local_fault *f);

#endif

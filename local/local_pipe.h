/* SPDX-License-Identifier: ISC */
/* local_pipe.h - a message is given to a program (specification, chapter 29).
 * Used by:    pipe_daemon.c, tests.
 * Owns:       nothing; output and texts are in the job's arena.
 * Invariant:  the command gets its own process group, standard input, output and error, and no other descriptor; when its time is
 *             over or it writes too much the whole group is killed. What it was given is the whole message, or it was killed.
 * Errors:     how it ended is an outcome: struct pipe_end says what becomes of the delivery. */
#ifndef LOCAL_PIPE_H
#define LOCAL_PIPE_H

#include "local/local.h"

struct pipe_options {
	struct local_options text;       /* what of it concerns the message's text */
	struct ipc_strs argv, environment;
	struct str path, directory, transport, temp_errors;
	bool freeze_exec_fail, freeze_signal, ignore_status, log_defer, log_fail, log_output, return_output, return_fail_output;
	bool permit_coredump, restrict_to_path, timeout_defer;
	uint64_t max_output;             /* octets */
	int64_t timeout_s;               /* 0: none */
	mode_t umask;
};

enum status pipe_options_read(const struct ipc_plan *plan, struct arena *a, struct pipe_options *out, struct err *err);

struct pipe_end {
	enum delivery_result result;
	bool freeze, internal;           /* as in struct ipc_outcome */
	char status[8];
	struct str text;                 /* for the log */
	struct str output;               /* for the report; empty: none */
	struct str log_line;             /* first line of the output, to be logged; empty: none */
};

/* job: fd, msg, arena, scratch, now_us. */
void pipe_deliver(struct local_job *job, const struct ipc_plan *plan, struct pipe_end *end);

/* A wait status in words, and what it means. Exit codes 64 to 78 are those of sysexits.h, 126 and 127 a shell's. */
void pipe_status_judge(const struct pipe_options *o, int wait_status, struct arena *a, struct pipe_end *end);

#endif

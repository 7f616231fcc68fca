/* SPDX-License-Identifier: ISC */
/* program.h - a program that is run, in its own process group, with a time limit and bounded output.
 * Used by:    local's processes for commands: pipe (local_pipe.c), query (query_daemon.c).
 * Owns:       struct program owns descriptors and output from program_start() to program_clear(); the spec is lent.
 * Invariant:  the program gets standard input, output and error (one pipe), and no other descriptor; when its time is over the whole group
 *             is killed, and likewise when the process that runs it ends. It is always waited for.
 * Errors:     program_start(): ST_ERROR and errno. How the program ended is in the struct. */
#ifndef DAEMON_PROGRAM_H
#define DAEMON_PROGRAM_H

#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/str.h"

struct program_spec {
	const char *path;          /* of the file; no search */
	char **argv, **env;
	int64_t timeout_s;         /* 0: none */
	uint64_t max_output;       /* octets that are kept */
	bool output_cut;           /* what is beyond is thrown away; else the program is killed */
	mode_t umask;
	bool permit_coredump;
};

struct program {
	const struct program_spec *spec;
	pid_t pid;
	int pid_fd, in, out, exec; /* its end; its input (-1: closed); its output; whether it could be executed */
	uint64_t until_ms;         /* 0: no limit */
	struct buf output;
	bool too_much, too_late, ended;
	/* behind program_finish() */
	int status;                /* of waitpid() */
	int exec_error;            /* errno of an execve() that failed; 0: it was executed */
};

/* In a child, before it executes something: every signal does what it does by default, and none is blocked. */
void program_signals_reset(void);
/* Starts it in the present directory. On failure there is nothing to clear. */
enum status program_start(struct program *p, const struct program_spec *spec, struct err *err);
/* As write(): arg is the struct program. A program that reads no more gets no more, which is no error: it is judged by how it ends. */
ssize_t program_write(void *arg, const char *octets, size_t n);
void program_kill(struct program *p);
/* Closes its input and waits until it has ended; what it wrote until then is in `output`. */
void program_finish(struct program *p);
void program_clear(struct program *p);

#endif

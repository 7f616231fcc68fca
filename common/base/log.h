/* SPDX-License-Identifier: ISC */
/* log.h - the main, reject and panic logs, as files and to syslog.
 * Used by:    daemons, through the object that the skeleton gives them. Libraries return errors instead of logging.
 * Owns:       the descriptors given to log_open_fds(). Lines are collected and written whole, with one write() a turn of
 *             the event loop (log_flush()), at once when the collection passes 32 KB.
 *             To syslog each line goes at once.
 * Errors:     a log that can't be written is counted and tried again with the next line; mail goes on. A syslog that is slower than
 *             we are loses lines, since nobody waits for it: they are counted, too.
 * A descriptor is O_APPEND; several daemons write the same file, a line is never split. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

enum log_target {
	LOG_MAIN = 1,
	LOG_REJECT = 2,
	LOG_PANIC = 4,
	LOG_TARGETS = 3, /* how many there are */
	LOG_TO_SYSLOG = 3,  /* index of its descriptor, behind theirs */
	LOG_FDS = 4,
};

struct log_syslog {
	bool on;
	bool stamp, pid;              /* our own time in the line; the process's number behind the name */
	bool twice;                   /* a line for two logs goes there twice */
	int facility;                 /* as syslog(3) numbers it */
	char name[32];
};

struct log {
	int fd[LOG_FDS];              /* main, reject, panic: -1: stderr for panic and nothing for the others; syslog's socket */
	struct buf pending[LOG_TARGETS];
	bool ascii;                   /* print_topbitchars is unset: nothing but ASCII is written */
	bool millisec, zone, utc, pid; /* form of the stamp, from log_selector and log_timezone */
	struct log_syslog syslog;
	uint64_t lost;                /* lines that could not be written */
};

void log_init(struct log *log);
void log_set_fd(struct log *log, unsigned i, int fd); /* i: 0 main, 1 reject, 2 panic, LOG_TO_SYSLOG; takes fd, closes the one before */
/* "STAMP [PID] TEXT\n" to every target of the mask. Control and 8-bit octets that are no valid UTF-8 (all, with `ascii`) come out as \ooo; a line is
 * cut at 8 KB. */
void log_line(struct log *log, unsigned targets, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void log_vline(struct log *log, unsigned targets, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
void log_text(struct log *log, unsigned targets, struct str text);
void log_flush(struct log *log);
void log_clear(struct log *log);

/* A line that can repeat: true if it may be written now; at most one a period per place. *skipped_out counts those left out since. */
struct log_limit {
	uint64_t next_ms;
	uint32_t skipped;
};
bool log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint32_t period_ms, uint32_t *skipped_out);

#endif

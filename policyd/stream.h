/* SPDX-License-Identifier: ISC */
/* stream.h - a stream socket to a local service, with deadlines.
 * Used by:    dovecot_conn.c, scan.c.
 * Owns:       nothing; descriptors are the caller's, non-blocking.
 * Errors:     ST_DEFER with the system's words, or "timeout"; ST_FAIL where the other side has closed. */
#ifndef POLICYD_STREAM_H
#define POLICYD_STREAM_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

/* To the Unix socket `path`, or, when that is empty, to an address and a port. Deadlines are those of clock_ms(). */
enum status stream_open(struct str path, struct str ip, uint16_t port, uint64_t until_ms, int *fd_out, struct err *err);
bool stream_wait(int fd, short what, uint64_t until_ms); /* poll()'s POLLIN, POLLOUT; false: the time is over */
enum status stream_send(int fd, struct str octets, uint64_t until_ms, struct err *err);
/* At least one octet. */
enum status stream_read(int fd, char *p, size_t n, size_t *got_out, uint64_t until_ms, struct err *err);

#endif

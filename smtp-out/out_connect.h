/* SPDX-License-Identifier: ISC */
/* out_connect.h - from a host of a plan to a connected socket: addresses, options, binding, and what a refused connection means.
 * Used by:    out_conn.c.
 * Owns:       nothing; a descriptor given is the caller's.
 * Errors:     verdicts in the terms of retry rules, their texts in the caller's arena. */
#ifndef OUT_CONNECT_H
#define OUT_CONNECT_H

#include "smtp-out/smtp_out.h"
#include "smtp-out/smtp_result.h"

/* Begins to connect to the host, or with NULL to the Unix socket of the options. Writable when it has succeeded or failed,
 * which out_connect_end() tells. -1: *v says why not. */
int out_connect_start(const struct out_options *o, const struct ipc_host *h, struct arena *a, struct smtp_verdict *v);
/* False: *v says why not. */
bool out_connect_end(int fd, struct arena *a, struct smtp_verdict *v);
/* connect_timeout is over. */
struct smtp_verdict out_connect_late(struct arena *a);
/* Notes our end of the connection; not of a Unix socket. */
void out_connect_local(int fd, char ip[46], uint16_t *port);

#endif

/* SPDX-License-Identifier: ISC */
/* out_connect.h - from a host of a plan to a connected socket: addresses, options, binding, and what a refused connection means.
 * Used by:    out_conn.c, out_socks.c.
 * Owns:       nothing; a descriptor given is the caller's.
 * Errors:     verdicts in the terms of retry rules, their texts in the caller's arena. */
#ifndef OUT_CONNECT_H
#define OUT_CONNECT_H

#include "smtp-out/smtp_out.h"
#include "smtp-out/smtp_result.h"

/* Of TCP Fast Open. */
enum out_fastopen { OUT_FASTOPEN_NOT, OUT_FASTOPEN_TRIED, OUT_FASTOPEN_USED, OUT_FASTOPEN_DATA /* the first segment's data was taken */ };
struct out_fast {
	const char *p;       /* goes with the first segment, where there is a cookie from an earlier connection */
	size_t n, sent;      /* octets of it; how many did */
};

/* Begins to connect to this address, or to the Unix socket of the options. Writable when it has succeeded or failed, which out_connect_end()
 * tells. fast: NULL: without Fast Open. -1: *v says why not. */
int out_connect_to(const struct out_options *o, struct str ip, uint16_t port, struct out_fast *fast, struct arena *a, struct smtp_verdict *v);
int out_connect_socket(const struct out_options *o, struct arena *a, struct smtp_verdict *v);
/* False: *v says why not. */
bool out_connect_end(int fd, struct arena *a, struct smtp_verdict *v);
/* What an errno of connect() means; ETIMEDOUT: connect_timeout is over. */
struct smtp_verdict out_connect_verdict(struct arena *a, int error);
/* Whether Fast Open was of use, once connected. */
enum out_fastopen out_connect_fastopen(int fd);
/* Notes our end of the connection; not of a Unix socket. */
void out_connect_local(int fd, char ip[46], uint16_t *port);

#endif

/* SPDX-License-Identifier: ISC */
/* socks5.h - the client's side of a SOCKS5 dialogue, without descriptor, clock or event library.
 * Used by:    out_socks.c, which joins it to a socket; unit tests and the fuzz target drive it directly.
 * Owns:       nothing on the heap; socks5_clear() forgets the password, which was copied into `out`.
 * Orders:     METHOD, then LOGIN if the proxy was offered user name and password, then REPLY in three parts: HEAD, NAME (the
 *             length of an address that is a name), BOUND; THROUGH.
 * Shell:      sends out[0..out_len) after socks5_begin() and after every input, calling socks5_sent() for what went; reads no more than
 *             socks5_wants() octets at a time, so that of what the target says behind the reply nothing is taken.
 * Errors:     in `result` and `why`; PROXY_FAILED says that this proxy is of no use, TARGET_FAILED that the target is out of reach.
 * Standards:  RFC 1928, 1929. */
#ifndef SOCKS5_H
#define SOCKS5_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	SOCKS5_IN_MAX = 257,  /* the longest part of a reply: a name of 255 octets and the port */
	SOCKS5_OUT_MAX = 513, /* version, name and password with their lengths */
};

enum socks5_state { SOCKS5_METHOD, SOCKS5_LOGIN, SOCKS5_HEAD, SOCKS5_NAME, SOCKS5_BOUND, SOCKS5_END };

enum socks5_result {
	SOCKS5_BUSY,
	SOCKS5_THROUGH,       /* the connection is the target's now */
	SOCKS5_PROXY_FAILED,  /* try another proxy */
	SOCKS5_TARGET_FAILED, /* the proxy has done its work, the target can't be reached */
};

struct socks5_target {
	uint8_t address[16];
	uint16_t port;
	bool v6;
};

struct socks5 {
	struct socks5_target target;
	struct str user, pass;       /* lent; user empty: no login */
	const char *why;             /* with a failure, a constant text */
	int error_no;                /* with SOCKS5_TARGET_FAILED: what connect() would have said; 0: nothing that it says */
	uint16_t need, got;          /* octets of the part that is read */
	uint16_t out_len, out_at;
	uint8_t state, result;
	uint8_t in[SOCKS5_IN_MAX], out[SOCKS5_OUT_MAX];
};

/* user and pass: up to 255 octets each; user empty: without login. */
void socks5_begin(struct socks5 *s, const struct socks5_target *target, struct str user, struct str pass);
size_t socks5_wants(const struct socks5 *s); /* 0: nothing */
/* n is at most socks5_wants(). */
enum socks5_result socks5_input(struct socks5 *s, const uint8_t *p, size_t n);
/* The proxy has closed the connection. */
enum socks5_result socks5_closed(struct socks5 *s);
void socks5_sent(struct socks5 *s, size_t n);
/* What is being done, for the log. */
const char *socks5_doing(const struct socks5 *s);
/* Has the proxy taken us, so that what it does now is for the target? */
bool socks5_asked(const struct socks5 *s);
void socks5_clear(struct socks5 *s);

#endif

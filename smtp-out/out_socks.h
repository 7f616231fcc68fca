/* SPDX-License-Identifier: ISC */
/* out_socks.h - a connection to a host through one of several SOCKS5 proxies (docs/SMTP.md).
 * Used by:    out_conn.c.
 * Owns:       its socket, until `done` is given it. Options are lent until out_socks_free().
 * Limits:     a proxy's tmo= bounds its connection and its own answers; what it does for the target has the caller's connect_timeout, or
 *             SOCKS_ASKED_MS where there is none.
 * Errors:     a proxy that is of no use makes room for the next one; one that says that the target can't be reached ends the attempt. The
 *             verdict names proxies and reasons, never a login.
 * Standards:  RFC 1928, 1929. */
#ifndef OUT_SOCKS_H
#define OUT_SOCKS_H

#include "common/conf/proxies.h"
#include "smtp-out/out_connect.h"

enum { SOCKS_ASKED_MS = 130 * 1000 /* about what the system takes to give up a connection */ };

struct out_socks;
/* fd: connected to the target, the receiver's from now on; -1: out_socks_verdict() says why not. Never called within out_socks_start(). May
 * free. */
typedef void out_socks_done(void *arg, int fd);

/* To the target at this address, through o->proxies, of which there is at least one. */
struct out_socks *out_socks_start(struct loop *loop, const struct out_options *o, struct str ip, uint16_t port, out_socks_done *done, void *arg);
void out_socks_free(struct out_socks *s); /* NULL is fine; gives up what is under way */
/* The one that is used, or was tried last. */
const struct conf_proxy *out_socks_proxy(const struct out_socks *s);
uint32_t out_socks_failures(const struct out_socks *s); /* proxies that were of no use */
struct smtp_verdict out_socks_verdict(const struct out_socks *s, struct arena *a);
/* connect_timeout is over. */
struct smtp_verdict out_socks_late(const struct out_socks *s, struct arena *a);

/* In which order they are tried: by priority, and among equals drawn by weight; as they stand where neither is said of any. random(arg, n) gives
 * one of 0 .. n - 1. */
void out_socks_order(const struct conf_proxies *proxies, uint32_t (*random)(void *arg, uint32_t n), void *arg, uint8_t order[CONF_PROXIES_MAX]);

#endif

/* SPDX-License-Identifier: ISC */
/* out_hint.h - what is remembered of hosts from one connection to the next: TLS sessions (space `tls`), EHLO replies (`ehlo`). Router keeps it.
 * Used by:    out_tls.c, out_early.c.
 * Owns:       open questions, until they are answered, cancelled or too old; the channel to router, which is asked of master when first wanted.
 * Errors:     none: a memory that is out of reach knows nothing. */
#ifndef OUT_HINT_H
#define OUT_HINT_H

#include "smtp-out/smtp_out.h"

enum { OUT_HINT_MS = 1000, OUT_HINTS_MAX = 10000 /* questions at a time */ };

typedef void out_hint_fn(void *arg, struct str value); /* p NULL: nothing is known */

/* fn(arg) is called once, later, from the loop, after OUT_HINT_MS at the latest; never from within. NULL: too many are open, fn will not be called. */
struct out_hint *out_hint_get(struct smtp_out *so, const char *space, struct str key, out_hint_fn *fn, void *arg);
/* The same, and the entry is gone: of two that take it one gets it. */
struct out_hint *out_hint_take(struct smtp_out *so, const char *space, struct str key, out_hint_fn *fn, void *arg);
void out_hint_cancel(struct out_hint *q); /* NULL is fine */
/* Without an answer. expire_s: seconds until it is forgotten. */
void out_hint_put(struct smtp_out *so, const char *space, struct str key, struct str value, uint64_t expire_s);
void out_hint_remove(struct smtp_out *so, const char *space, struct str key);

/* What an option of the transport comes to, with $item and the host known; at once NULL where there is no channel yet: it is asked for, for the
 * next time. fn gets p NULL where it can't be expanded, or not in time. */
struct out_hint *out_hint_expand(struct smtp_out *so, struct str text, const struct ipc_host *host, struct str item, out_hint_fn *fn, void *arg);

/* For out_daemon.c. */
void out_hint_opened(struct smtp_out *so, struct channel *router);
void out_hint_closed(struct smtp_out *so);
void out_hint_clear(struct smtp_out *so);

#endif

/* SPDX-License-Identifier: ISC */
/* out_dane.h - DANE with a host of a plan: whether it may be tried at all, and what its TLS then is. The table is in docs/DANE.md.
 * Used by:    out_tls.c.
 * Owns:       nothing; texts are in the caller's arena.
 * Errors:     a verdict on the host; a state of the router's that nobody knows counts as a question that failed.
 * Standards:  RFC 6698, 7671, 7672. What the router found is in struct ipc_host. */
#ifndef OUT_DANE_H
#define OUT_DANE_H

#include "common/tls/tls.h"
#include "smtp-out/out_plan.h"
#include "smtp-out/smtp_result.h"

/* Sets out->dane. Where the records are to be verified TLS is a must, and most of what other options say of TLS does not hold. */
void out_dane_decide(const struct out_tls_options *o, const struct ipc_host *h, struct out_tls_host *out);
/* No DANE, for this message, but where hosts_require_dane demands it (RFC 8689 section 4.2.2). */
void out_dane_waive(const struct ipc_host *h, struct out_tls_host *t);
/* True: this host is not to be tried, and *v says why. */
bool out_dane_refuses(const struct ipc_host *h, const struct out_tls_host *t, struct arena *a, struct smtp_verdict *v);
void out_dane_peer_fill(const struct ipc_host *h, struct arena *a, struct tls_peer *peer);
/* What the log should have of this host, and nothing else tells; NULL: nothing. */
const char *out_dane_remark(const struct ipc_host *h, const struct out_tls_host *t, struct arena *a);

#endif

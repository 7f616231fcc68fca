/* SPDX-License-Identifier: ISC */
/* tls_shelf.h - contexts that are kept: one for each set of options and names of files, for as long as keyd says that the files are as they were.
 * Used by:    smtpd, smtp-out: one for each process.
 * Owns:       its contexts; tls_shelf_get() lends one until the next call, and connections count it for themselves.
 * Errors:     as tls_keyd.h and tls_ctx_new(). Trouble with a file that was fine before is keyd's to tell: what is here serves on.
 * Limits:     TLS_SHELF_MAX contexts; the one that was used longest ago goes. Blocks for as long as keyd's answers take. */
#ifndef TLS_TLS_SHELF_H
#define TLS_TLS_SHELF_H

#include "common/base/hash.h"
#include "common/tls/tls.h"
#include "common/tls/tls_keyd.h"

enum {
	TLS_SHELF_MAX = 512,
	TLS_SHELF_LOOK_MS = 1000, /* keyd is asked no oftener whether files have changed */
};

/* Names of files, lent; empty: none. */
struct tls_files {
	struct tls_trio {
		struct str cert, key, ocsp; /* cert empty: the self-signed one */
	} certs[TLS_CERTS_MAX];
	unsigned n_certs;
	struct str anchors;  /* "system": the system's */
	struct str crl;
	struct str dh;
};

struct tls_shelf {
	struct hash by_key;
	struct tls_keyd *keyd;       /* lent */
	uint32_t opened;             /* keyd->opened when the contexts were made */
	uint8_t tickets[2][TLS_TICKET_KEY];
	bool tickets_made, tickets_before;
};

void tls_shelf_init(struct tls_shelf *s, struct tls_keyd *keyd);
void tls_shelf_clear(struct tls_shelf *s);
/* o: all but what the files give: certificates, anchors, revocations, a Diffie-Hellman group. NULL: *err says why. */
struct tls_ctx *tls_shelf_get(struct tls_shelf *s, const struct tls_options *o, const struct tls_files *f, uint64_t now_ms, struct err *err);
/* For all contexts of servers, those to come as well. TLS_TICKET_KEY octets each; before may be empty. Others are not taken. */
void tls_shelf_tickets(struct tls_shelf *s, struct str now, struct str before);

#endif

/* SPDX-License-Identifier: ISC */
/* tls_keyd.h - questions to keyd: certificates, public files, signatures. docs/TLS.md tells why.
 * Used by:    smtpd, smtp-out: one struct for each process; the daemon's peer row for keyd is raw, its opened() calls tls_keyd_open().
 * Owns:       the channel's descriptor.
 * Errors:     ST_DEFER: keyd is not there, or did not answer in time. Where it died, master starts another and a new channel comes by
 *             itself; where it is only slow, the owner asks for one when tls_keyd_wanted() says so, so that a keyd that hangs does not
 *             hold up its askers again and again. ST_FAIL, ST_ERROR: keyd's own, with its text. Blocks for TLS_KEYD_MS at most. */
#ifndef TLS_TLS_KEYD_H
#define TLS_TLS_KEYD_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum {
	TLS_KEYD_MS = 2000,
	TLS_KEYD_PAUSE_MS = 5000, /* without a channel, before another is asked for */
};

struct tls_keyd {
	int fd;              /* -1: none */
	uint32_t opened;     /* counts channels: another keyd knows none of the numbers that the one before gave */
	bool directory;      /* what tls_keyd_file() gave last is of a directory's files */
	uint64_t lost_ms;    /* when the channel was given up, by clock_ms(); 0: it was not */
};
#define TLS_KEYD_INIT { -1, 0, false, 0 }

void tls_keyd_open(struct tls_keyd *k, int fd);      /* takes fd in place of the one before */
void tls_keyd_close(struct tls_keyd *k);
bool tls_keyd_wanted(struct tls_keyd *k);            /* ask master for a channel now: it was given up a while ago (true once a pause) */

/* Texts in the arena. key: for tls_cert.key, with tls_keyd_sign() and the struct as sign_ctx. */
struct tls_keyd_cert {
	struct str chain_pem, ocsp_der, key;
	uint64_t version;
};
enum status tls_keyd_cert(struct tls_keyd *k, struct arena *a, struct str cert, struct str key, struct str ocsp, struct tls_keyd_cert *out, struct err *err);
/* version: of the copy that is there; unchanged and out->p NULL when it is still good. "system": the system's trust anchors. */
enum status tls_keyd_file(struct tls_keyd *k, struct arena *a, struct str file, uint64_t *version, struct str *out, struct err *err);
/* Fits tls_cert.sign. */
enum status tls_keyd_sign(void *keyd, struct str key, bool raw, struct str octets, struct buf *signature, struct err *err);

#endif

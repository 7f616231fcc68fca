/* SPDX-License-Identifier: ISC */
/* scram.h - SCRAM as the client: the messages of RFC 5802 as text, before base64. No channel binding.
 * Used by:    smtp-out, for AUTH.
 * Owns:       its texts; scram_clear() overwrites them, and what was computed from the password.
 * Limits:     a server's salt and iteration count are bounded on both sides: the work is done at once, in the caller's event loop, and
 *             too few iterations would hand the password to whoever plays the server.
 * Errors:     ST_FAIL with what is wrong with the server's message: whoever it is, the password is not for it.
 * Standards:  RFC 5802, 7677. Names and passwords are sent as they are, without SASLprep, which for ASCII changes nothing. */
#ifndef MAIL_SCRAM_H
#define MAIL_SCRAM_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	SCRAM_ITERATIONS_MIN = 4096,   /* RFC 7677, section 4 */
	SCRAM_ITERATIONS_MAX = 100000, /* some 40 ms */
	SCRAM_SALT_MAX = 256,          /* octets */
	SCRAM_MESSAGE_MAX = 2000,      /* octets of a message of the server */
	SCRAM_NONCE_OCTETS = 18,
	SCRAM_DIGEST_MAX = 32,
};

enum scram_step { SCRAM_BEGUN, SCRAM_PROVED, SCRAM_CONFIRMED };

struct scram {
	const char *digest;            /* OpenSSL's name: "SHA1", "SHA256" */
	struct buf header, first;      /* gs2-header, client-first-message-bare */
	struct buf nonce;
	uint8_t signature[SCRAM_DIGEST_MAX]; /* the server's, as it must be */
	uint8_t step;                  /* enum scram_step */
};

/* The digest of SCRAM-SHA-1 or SCRAM-SHA-256, in any case of letters; NULL: another mechanism. */
const char *scram_digest(struct str mechanism);
/* authz: empty for none. nonce: STR_NULL to draw one. */
void scram_begin(struct scram *s, const char *digest, struct str user, struct str authz, struct str nonce);
void scram_first(const struct scram *s, struct buf *out);
/* The server's first message, and the answer to it. */
enum status scram_prove(struct scram *s, struct str message, struct str password, struct buf *out, struct err *err);
/* The server's last message: does it know the password, too? */
enum status scram_confirm(struct scram *s, struct str message, struct err *err);
void scram_clear(struct scram *s);

#endif

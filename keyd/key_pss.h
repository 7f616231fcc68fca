/* SPDX-License-Identifier: ISC */
/* key_pss.h - whether octets are padded as RSA-PSS has it, which is what TLS signs.
 * Used by:    key_store.c: the bare operation of RSA is a signature, and as well a decryption: it is done on nothing but such octets, of
 *             which none is anybody's ciphertext.
 * Standards:  RFC 8017, section 9.1.2; RFC 8446, section 4.2.3: SHA-256, SHA-384, SHA-512, a salt as long as the digest. */
#ifndef KEYD_KEY_PSS_H
#define KEYD_KEY_PSS_H

#include "common/base/str.h"

/* octets: as long as a key of so many bits. */
bool key_pss_padded(struct str octets, unsigned bits);

#endif

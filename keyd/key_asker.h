/* SPDX-License-Identifier: ISC */
/* key_asker.h - what one who asks may have: the certificates that are its business, and signatures with the keys of those alone.
 * Used by:    keyd.c, one for each channel; its unit test.
 * Owns:       the numbers of the keys that were given out by the channel. Those of others can be guessed. */
#ifndef KEYD_KEY_ASKER_H
#define KEYD_KEY_ASKER_H

#include "common/conf/conf.h"
#include "common/ipc/codec.h"

struct key_asker {
	uint64_t *keys;
	size_t n, room;
};

/* smtp-out: only what a transport names as tls_certificate and tls_privatekey; of what is expanded, the part in front of the first expansion.
 * smtpd, whose names policyd gives: any. */
bool key_asker_may(const struct conf *conf, const char *peer, const struct ipc_cert_ask *ask);
void key_asker_give(struct key_asker *a, uint64_t key);
bool key_asker_has(const struct key_asker *a, uint64_t key);
void key_asker_clear(struct key_asker *a);

#endif

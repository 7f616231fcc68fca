/* SPDX-License-Identifier: ISC */
/* keyd.h - keyd as a daemon: holds private keys, signs with them, hands out what is public. docs/TLS.md tells who asks what.
 * Used by:    main.c, tests.
 * Owns:       the skeleton owns the daemon; its state is a struct key_store. */
#ifndef KEYD_KEYD_H
#define KEYD_KEYD_H

#include "common/daemon/daemon.h"

extern const struct daemon_spec keyd_spec;

#endif

/* SPDX-License-Identifier: ISC */
/* load.h - the load of the machine over the last minute.
 * Used by:    smtpd (queue_only_load, smtp_load_reserve), qmgr (deliver_queue_load_max), $load_average.
 * Errors:     false when the kernel does not say. A system call without a file: no daemon's filter forbids it. */
#ifndef BASE_LOAD_H
#define BASE_LOAD_H

#include <stdbool.h>
#include <stdint.h>

enum { LOAD_NO_LIMIT = 0xffffffff, LOAD_LOOK_MS = 1000 /* whoever needs it often looks no more often than that */ };

bool load_average(uint32_t *thousandths_out);

#endif

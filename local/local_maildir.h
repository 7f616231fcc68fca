/* SPDX-License-Identifier: ISC */
/* local_maildir.h - names of files in maildirs.
 * Used by:    local_maildir.c, local_lock.c, tests.
 * Invariant:  a name is unique on this host: time, process, and a number within the process. */
#ifndef LOCAL_MAILDIR_H
#define LOCAL_MAILDIR_H

#include <stdint.h>

enum { LOCAL_NAME_SIZE = 256 };

/* "1700000000.M123456P77Q1.host" */
void local_maildir_name(char out[LOCAL_NAME_SIZE], const char *host, int64_t now_us, unsigned counter);

#endif

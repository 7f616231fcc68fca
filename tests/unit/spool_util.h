/* SPDX-License-Identifier: ISC */
/* spool_util.h - what the tests of the spool share: a scratch directory, messages whose content follows from their id, a table of
 * what a scan finds.
 * Used by:    tests/unit/spool_*_test.c. */
#ifndef SPOOL_UTIL_H
#define SPOOL_UTIL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/enums.h"
#include "common/spool/format.h"
#include "common/spool/journal.h"
#include "common/spool/spool.h"

static inline void scratch_remove(const char *path)
{
	char command[500];

	snprintf(command, sizeof command, "rm -rf '%s'", path);
	assert_int_equal(system(command), 0);
}

/* In memory where the machine has that: these tests are about states, not about a disk. */
static inline char *scratch_make(const char *name)
{
	static char path[200];

	snprintf(path, sizeof path, "%s/bulkhead-%s-%d", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", name, (int)getpid());
	scratch_remove(path);
	return path;
}

/* Content that follows from a number, with a given length. */
static inline void content_fill(char *p, size_t n, unsigned seed)
{
	uint64_t x = seed * 2654435761u + 12345;

	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = (char)(x >> 56);
	}
}

static inline void id_make(char *out, unsigned number)
{
	snprintf(out, SPOOL_ID_MAX + 1, "1vMxyz-%06u-AB", number);
}

static inline struct ipc_spool_envelope envelope_make(struct arena *a, const char *id, uint64_t content, unsigned n_rcpt)
{
	struct ipc_spool_envelope e = { .id = str_dup(a, str_of(id)), .content = content, .received_us = 1234567 };

	e.facts = arena_alloc(a, sizeof *e.facts);
	e.facts->sender = STR_LIT("sender@example.org");
	e.facts->has_sender = true;
	e.facts->helo = STR_LIT("client.example.org");
	e.recipients = arena_alloc(a, n_rcpt * sizeof *e.recipients);
	e.n_recipients = n_rcpt;
	for (unsigned i = 0; i < n_rcpt; i++) {
		e.recipients[i].addr = str_printf(a, "rcpt%u@example.net", i);
		e.recipients[i].index = i;
	}
	return e;
}

static inline struct ipc_spool_record record_make(unsigned recipient, unsigned result)
{
	static struct ipc_outcome outcome[4];

	outcome[result & 3] = (struct ipc_outcome){ .recipient = recipient, .result = result, .code = 250, .text = STR_LIT("OK queued") };
	return (struct ipc_spool_record){ .kind = SPOOL_RESULT, .recipient = recipient, .outcome = &outcome[result & 3], .when_us = 99 };
}

#endif

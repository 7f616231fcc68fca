/* SPDX-License-Identifier: ISC */
/* journal.h - the form of the journal: segments of batches of entries; reading it back after a crash.
 * Used by:    the spool only.
 * Owns:       nothing; a batch is built in the caller's buffer and written with one pwrite().
 * Invariant:  a batch begins at a multiple of JOURNAL_ALIGN, so that no octet that is durable is ever written again; batches are
 *             numbered without a gap through all segments and for ever, so that an old one is never taken for a new one.
 * Errors:     a batch that is cut off or damaged is as if it had not been written: nobody was told that it was durable. */
#ifndef SPOOL_JOURNAL_H
#define SPOOL_JOURNAL_H

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/spool/fs.h"
#include "common/spool/spool.h"

enum {
	JOURNAL_ALIGN = 4096,
	JOURNAL_BATCH_HEAD = 32,
	JOURNAL_ENTRY_HEAD = 40,
};

enum journal_entry_type {
	JOURNAL_VOID,         /* nothing: a commit that failed */
	JOURNAL_COMMIT = 1,   /* a whole message: payload is its file, head, content and envelope */
	JOURNAL_PRESENT,      /* the message's own file is durable (large messages); forget a finish of an earlier one of this id */
	JOURNAL_RECORDS,      /* framed records, `seq` is the first one's number, `salt` that of the message */
	JOURNAL_FINISH,       /* the message is done: its file is to be removed */
	JOURNAL_TYPES_END
};

struct journal_entry {
	uint32_t type, length;   /* of the payload */
	uint32_t salt, seq;
	char id[SPOOL_ID_MAX + 1];
};

/* Begins a batch in out (empty); entries are appended with journal_entry_open(), payload by the caller, journal_entry_close(). */
void journal_batch_open(struct buf *out);
size_t journal_entry_open(struct buf *out, const struct journal_entry *entry);     /* returns the payload's place */
void journal_entry_close(struct buf *out, size_t payload);                         /* sets the length, fills up to 8 */
/* Checksum; fills up to JOURNAL_ALIGN. `oldest`: batches before it are not needed any more. `restart`: numbers may be missing before it. */
void journal_batch_close(struct buf *out, uint64_t number, uint64_t oldest, bool restart);

struct journal_batch {
	uint64_t number, oldest;
	uint32_t octets;         /* with head and filling */
	uint32_t used;           /* without the filling */
	bool restart;
	const char *p;
};
/* The batch at the start of data; false: none. */
bool journal_batch_read(struct str data, struct journal_batch *out);
/* Steps through a batch's entries; *at starts at 0. false at the end. *payload_out lends. Hostile lengths end it. */
bool journal_entry_next(const struct journal_batch *batch, uint32_t *at, struct journal_entry *entry_out, struct str *payload_out);

#endif

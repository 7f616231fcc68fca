/* SPDX-License-Identifier: ISC */
/* spool.h - messages kept so that a power cut loses none: one file a message, durability by the batch.
 * Used by:    qmgr, which alone writes a spool; the command reads single files (format.h). docs/SPOOL.md has the states.
 * Owns:       the spool directory, its lock, two threads and every struct spool_msg. A message is released by spool_finish() or
 *             spool_abort(), not by its owner. Callbacks come from the loop (and from
 *             spool_turn(), spool_check() and spool_close()), never from within the call that asked.
 * Invariant:  when a commit's callback says ST_OK, the message survives a power cut until spool_finish(). Entries become durable
 *             in the order of the calls: what is recorded before is durable whenever what is recorded after is.
 * Errors:     ST_DEFER: not now (no space, journal full, the disk failed: the message is not accepted); ST_ERROR: somebody must
 *             repair something; texts name the path. After a failed sync the spool is SPOOL_BROKEN: every commit is refused
 *             until spool_check() has succeeded. */
#ifndef SPOOL_SPOOL_H
#define SPOOL_SPOOL_H

#include "common/base/err.h"
#include "common/base/list.h"
#include "common/base/str.h"
#include "common/event/loop.h"
#include "common/ipc/codec.h"

enum {
	SPOOL_ID_MAX = 23,                     /* octets of a message id: letters, digits, '-' */
	SPOOL_SMALL_MAX = 128 * 1024,          /* content up to this goes through the journal, unless configured */
	SPOOL_MEMORY_MAX = 128 * 1024,         /* content that grows past this should get a file (spool_grow()) */
	SPOOL_CONTENT_OFFSET = 64,             /* where the content begins in the message's file */
	SPOOL_ENVELOPE_MAX = 48 * 1024 * 1024, /* octets of an encoded envelope */
	SPOOL_RECORD_MAX = 256 * 1024,         /* octets of one encoded record */
	SPOOL_TAIL_MAX = 256 * 1024 * 1024,    /* octets of all records of a message */
};

struct spool;
struct spool_fs;  /* fs.h: the system calls, replaceable by tests */

/* A message of the spool. The first part is for reading by everybody, except that `owner` is its owner's to set. */
struct spool_msg {
	char id[SPOOL_ID_MAX + 1];
	void *owner;               /* free for the queue manager */
	uint64_t content;          /* octets of content; it begins at SPOOL_CONTENT_OFFSET of the file; 0 before the commit */
	uint8_t state;             /* enum spool_msg_state */
	/* the spool's own */
	uint8_t shard;
	bool settling, unchecked, failed;
	bool kept;                 /* fd is one of those that count for young_fds */
	bool named;                /* has, or may have, a file in queue/ */
	bool memory;               /* the content is in memory */
	uint16_t segment, later;   /* whose list `node` is in; where to go after settling */
	uint32_t waiting;          /* entries that are not yet durable */
	uint32_t envelope, salt;   /* octets of the envelope; what the records' checksums begin with */
	uint32_t seq;              /* number of the last record */
	int fd, grown_fd;          /* the content while it is received or young, the file that it moves to; -1 */
	struct list node;          /* in the list of its segment, while something of it is durable only in the journal */
	struct buf *pending;       /* records that the file does not have */
	uint64_t file_end;         /* octets of the file up to the last record it has; 0: young, only the journal has it all */
	uint64_t place;            /* while young: where in its segment the message is */
	uint64_t since_ms;         /* when it came into its list */
};

enum spool_msg_state {
	SPOOL_NEW = 1,   /* created, content being written, not yet accepted */
	SPOOL_COMMITTING,
	SPOOL_LIVE,      /* durable */
	SPOOL_GONE,      /* finished or aborted */
};

enum spool_health {
	SPOOL_GOOD,
	SPOOL_FULL,    /* no room for new messages: answer 452; turns good by itself */
	SPOOL_BROKEN,  /* a write or sync failed: no new messages before spool_check() */
};

/* What an administrator must hear. */
struct spool_trouble {
	enum { SPOOL_DAMAGED /* file moved to damaged/ */, SPOOL_FOREIGN /* not ours, left alone */, SPOOL_IO /* a system call failed */,
		SPOOL_JOURNAL /* part of the journal can't be read */ } kind;
	const char *path;  /* within the spool directory */
	const char *text;
};

struct spool_options {
	const char *dir;            /* the spool directory; made if it is missing */
	struct loop *loop;
	uint32_t small_max;         /* content up to this goes through the journal; 0: SPOOL_SMALL_MAX */
	uint32_t segment_size;      /* octets of a journal segment; 0: 8 MB */
	uint32_t segments;          /* how many to begin with, at least 4; 0: 4 */
	uint32_t segments_max;      /* how many there may be when they are needed; 0: 16 */
	uint32_t settle_ms;         /* age at which a message's own file is made, in the background; 0: 5000 */
	uint32_t young_fds;         /* descriptors that may be kept for accepted messages without a file; 0: 4096 */
	bool inline_io;             /* no threads: everything is done within spool_turn(); for tests */
	const struct spool_fs *fs;  /* NULL: the real one */
	void (*trouble)(void *arg, const struct spool_trouble *trouble);          /* may be NULL; may come from within any call */
	void (*health)(void *arg, enum spool_health health, const char *text);    /* on each change, from the loop; may be NULL */
	void *arg;
};

/* A message as read back: all lent from the arena. */
struct spool_loaded {
	struct spool_msg *msg;
	struct ipc_spool_envelope *envelope;
	struct ipc_spool_record *records;     /* in the order they were made */
	uint32_t n_records;
};

typedef void spool_done_fn(void *arg, struct spool_msg *msg, enum status status, const struct err *err);

/* ---- start and end ---- */

/* Locks the directory (ST_DEFER when another process has it), makes what is missing, reads the journal and brings the files that it
 * covers up to date. Messages found in the journal are then known; the rest comes from spool_scan_next(). */
enum status spool_open(struct spool **out, const struct spool_options *options, struct err *err);
/* Goes through the directory, at most `budget` files a call; fn is called for every message alive at the start that it has not yet
 * been called for, those of the journal first. Damaged files are set aside, leftovers removed. ST_OK: more to come; ST_FAIL: done.
 * New messages may be created, committed and finished meanwhile. */
enum status spool_scan_next(struct spool *spool, unsigned budget, void (*fn)(void *arg, const struct spool_loaded *loaded), void *arg,
	struct err *err);
/* Waits for what was asked for, makes every file complete and durable, stops the threads, frees everything. Callbacks are not
 * called any more for what did not complete: nothing may be answered then. */
void spool_close(struct spool *spool);
/* As a crash would: stops the threads and frees, writes nothing. For tests. */
void spool_drop(struct spool *spool);

/* ---- intake ---- */

/* A new message. The caller hands *fd_out to smtpd, which writes the content from octet SPOOL_CONTENT_OFFSET on. *read_fd_out (if not
 * NULL): the same for policyd. spool_create() keeps it in memory, as a message that ends up in the journal needs no file of its own; both
 * descriptors can write until the content is sealed (fcntl F_SEAL_FUTURE_WRITE), by smtpd before it asks policyd, at the latest by the
 * commit. spool_create_file() makes a file at once, and *read_fd_out is read-only: for messages known to be large (over small_max).
 * ST_DEFER: no space or not good; ST_FAIL: the id exists. */
enum status spool_create(struct spool *spool, const char *id, struct spool_msg **msg_out, int *fd_out, int *read_fd_out, struct err *err);
enum status spool_create_file(struct spool *spool, const char *id, struct spool_msg **msg_out, int *fd_out, int *read_fd_out,
	struct err *err);
/* An empty file for a message in memory that grows large. Its writer copies the content so far and goes on there; spool_grown() then
 * says that the file is what counts. A commit that comes before still finds everything in memory. */
enum status spool_grow(struct spool *spool, struct spool_msg *msg, int *fd_out, int *read_fd_out, struct err *err);
void spool_grown(struct spool *spool, struct spool_msg *msg);
/* Makes it durable with `envelope` (id and content must be set; encoded before the call returns), then calls fn. If the call itself
 * or the callback does not say ST_OK the message is still the caller's, to be given to spool_abort() (not before the callback). */
enum status spool_commit(struct spool *spool, struct spool_msg *msg, const struct ipc_spool_envelope *envelope, spool_done_fn *fn, void *arg,
	struct err *err);
/* A message made here (reports): create, write and commit in one; the content is copied. */
enum status spool_submit(struct spool *spool, const char *id, struct str content, const struct ipc_spool_envelope *envelope,
	struct spool_msg **msg_out, spool_done_fn *fn, void *arg, struct err *err);
void spool_abort(struct spool *spool, struct spool_msg *msg);

/* ---- life ---- */

/* Appends records; durable with the next batch, then fn (may be NULL) is called. Before the commit's callback: an error of the caller.
 * Never fails for lack of disk space; ST_ERROR when a record breaks its limits. While the spool is broken they are kept in memory. */
enum status spool_record(struct spool *spool, struct spool_msg *msg, const struct ipc_spool_record *records, uint32_t n, spool_done_fn *fn,
	void *arg, struct err *err);
/* All recipients are done: the message is removed and msg released. A report about it must have been committed (callback) before. */
void spool_finish(struct spool *spool, struct spool_msg *msg);
/* A read-only descriptor, -1 on error: ST_DEFER, or ST_ERROR when the file is damaged (the content is compared with its checksum the
 * first time after a start). */
int spool_open_reader(struct spool *spool, struct spool_msg *msg, struct err *err);
/* Envelope and records, from wherever they are. */
enum status spool_load(struct spool *spool, struct spool_msg *msg, struct arena *a, struct spool_loaded *out, struct err *err);
struct spool_msg *spool_find(struct spool *spool, struct str id);   /* NULL: not here (or not yet scanned) */

/* ---- the administrator ---- */

/* A read-only descriptor of the complete message file, all records included, wherever they are now (show, export); -1 on error. */
int spool_export(struct spool *spool, struct spool_msg *msg, struct err *err);
/* Takes a message file from elsewhere (fd is lent until fn is called): everything is checked, the content copied. `id` is the name
 * it gets: its own or a new one. ST_FAIL in fn: not a valid message file. */
enum status spool_import(struct spool *spool, const char *id, int fd, struct spool_msg **msg_out, spool_done_fn *fn, void *arg, struct err *err);
/* Moves the file to damaged/ and releases msg: for a message that nothing can be done with (spool_open_reader() or spool_load() said
 * ST_ERROR). ST_DEFER while something of it is on its way to the disk: try again. */
enum status spool_set_aside(struct spool *spool, struct spool_msg *msg, const char *reason, struct err *err);

/* ---- state ---- */

enum status spool_space(struct spool *spool, uint64_t *free_kb_out, uint64_t *free_inodes_out, struct err *err);
enum spool_health spool_health(const struct spool *spool, const char **text_out);
/* After SPOOL_BROKEN: writes what is in memory to the files, tries the journal; on success the spool is good again. */
enum status spool_check(struct spool *spool, struct err *err);
void spool_turn(struct spool *spool, bool wait); /* gives collected work to the threads; the loop does it at the end of each turn */

struct spool_stats {
	uint64_t messages, commits, records, finishes, batches, batch_octets, settled, large, damaged, foreign, leftovers, recovered;
	uint32_t segments_free, segments;
};
void spool_stats_get(const struct spool *spool, struct spool_stats *out);
bool spool_id_valid(struct str id);

#endif

/* SPDX-License-Identifier: ISC */
/* priv.h - what the spool's own files share.
 * Used by:    common/spool only.
 * Threads:    the loop's thread owns everything but a job under way: that belongs to the thread that runs it. One thread writes
 *             the journal, one does all other waiting for the disk.
 * Order:      a segment of the journal is written over only when no message is durable through it alone (its list is empty) and
 *             the removals that it tells of are durable; always the oldest first, so that a finish outlives its commit. */
#ifndef SPOOL_PRIV_H
#define SPOOL_PRIV_H

#include <pthread.h>

#include "common/base/hash.h"
#include "common/spool/format.h"
#include "common/spool/journal.h"
#include "common/spool/spool.h"

enum {
	SHARDS = 64,              /* subdirectories of queue/; a mask of them fits 64 bits */
	SEGMENTS_MAX = 256,
	SETTLE_BATCH = 128,       /* messages in one job */
	SETTLE_JOBS = 2,          /* under way at a time */
	RETRY_MS = 2000,          /* after the disk was full */
	GROW_MS = 60000,          /* the same, for one more segment */
	GROW_SPARE = 16,          /* segments that must fit into the free space before one more is made */
};

#define NO_SEGMENT UINT16_MAX

/* ---- jobs ---- */

struct spool_job {
	struct list node;
	void (*run)(struct spool *spool, struct spool_job *job);  /* on its thread */
	void (*done)(struct spool *spool, struct spool_job *job); /* on the loop's; frees the job */
};

struct spool_lane {           /* one thread and what waits for it */
	struct spool *spool;
	struct list jobs;
	pthread_t thread;
	pthread_cond_t wake;
	bool running, stop;
};

enum lane { LANE_JOURNAL, LANE_FILES, LANES };

void job_submit(struct spool *spool, enum lane lane, struct spool_job *job);
bool jobs_collect(struct spool *spool, bool wait);   /* runs done() of what is finished; true if there was something */
enum status jobs_start(struct spool *spool, struct err *err);
void jobs_stop(struct spool *spool, bool finish);    /* finish: runs what waits first */

/* ---- the journal as it is written ---- */

enum item_type { ITEM_COMMIT, ITEM_PRESENT, ITEM_RECORDS, ITEM_FINISH };

struct batch_item {
	struct spool_msg *msg;
	spool_done_fn *fn;
	void *arg;
	enum item_type type;
	uint32_t payload;         /* its place in the batch */
};

struct batch {
	struct spool_job job;
	struct list node;
	struct buf data;
	struct batch_item *items;
	uint32_t n_items, cap_items;
	uint64_t number;
	uint32_t at;              /* place in the segment */
	uint16_t segment;
	int fd;
	int error;                /* errno of the call that failed */
	const char *what;
};

enum segment_state { SEG_FREE, SEG_RETIRED /* free once a later batch says so */, SEG_RETIRING, SEG_USED };

struct file_job;

struct segment {
	int fd;
	enum segment_state state;
	struct list messages;     /* durable only here and later, in the order that they came */
	uint64_t first;           /* its first batch */
	uint64_t gone;            /* shards with removals that are told here */
	uint32_t used;            /* octets */
	uint32_t unlinks;         /* removals not yet made */
	uint32_t settling;        /* messages taken off the list by a job */
	uint64_t retired;         /* SEG_RETIRED: the first batch that tells so */
};

struct spool {
	struct spool_options opt;
	const struct spool_fs *fs;
	struct loop *loop;
	struct loop_fd wake;
	struct loop_hook hook;
	struct loop_timer timer;
	char *dir;
	int dir_fd, lock_fd, queue_fd, journal_fd, damaged_fd, shard_fd[SHARDS];
	struct hash by_id;
	struct spool_stats stats;

	struct segment *seg;
	uint32_t n_seg, seg_size, cur, tail;
	uint64_t next_batch, durable_batch;
	enum { GROW_NO, GROW_JOB, GROW_READY } grow; /* one more segment */
	uint64_t grow_ms;         /* not before */
	bool restart;             /* say so in the next batch */
	struct list batches;      /* collecting; the last one is open */
	struct batch *flying, *spare;
	struct file_job *direct; /* commits for the files' thread, collected during a turn */
	unsigned settle_jobs;
	uint64_t retry_ms;        /* no settling before: the disk was full; 0 */
	bool crossed;             /* callbacks are not called any more */
	bool scanned;             /* by_id has every message */
	uint32_t young_fds;

	enum spool_health health;
	char health_text[256];

	pthread_mutex_t mutex;
	struct spool_lane lanes[LANES];
	struct list done;
	unsigned jobs;            /* submitted, done() not yet called */
	int event_fd;
	bool signalled;

	struct spool_scan *scan;
};

/* ring.c */
/* The open batch with room for `octets` more. */
struct batch *batch_room(struct spool *spool, size_t octets);
void batch_item_add(struct batch *b, enum item_type type, struct spool_msg *msg, size_t payload, spool_done_fn *fn, void *arg);
void batch_free(struct batch *b);
void batch_drop(struct spool *spool, struct batch *b);  /* at the end: nobody is told */
uint64_t journal_room(const struct spool *spool);   /* octets that may be written before something must be settled */
void ring_turn(struct spool *spool);
void ring_end(struct spool *spool);

/* segments.c */
enum status segments_open(struct spool *spool, struct err *err);
void segments_grow(struct spool *spool);            /* one more, if there may be */
void finish_add(struct spool *spool, struct spool_msg *msg);
void segment_list_add(struct spool *spool, struct spool_msg *msg, uint16_t segment);

/* files.c: messages' own files, written and synced by a job */
struct file_item {
	struct spool_msg *msg;
	char id[SPOOL_ID_MAX + 1];
	uint8_t shard;
	bool write_head;
	bool crc;                 /* compute the content's checksum for the head */
	bool make;                /* the file is not there */
	bool trim;                /* cut off what is behind the tail */
	int fd, from_fd;          /* from_fd: copy the content from there and compare its checksum; -1 */
	uint64_t tail_at;
	struct spool_head head;
	struct buf tail;          /* envelope and records, or records */
	struct buf content;       /* to be written, if any */
	uint32_t settled;         /* octets of pending that are in tail */
	spool_done_fn *fn;
	void *arg;
	enum status status;
	bool sync_failed;
	int error;                /* errno, where a call failed */
	struct err err;
};
struct file_job {
	struct spool_job job;
	struct file_item *items;
	uint32_t n, cap;
};
struct file_job *file_job_new(void (*done)(struct spool *spool, struct spool_job *job));
struct file_item *file_job_add(struct file_job *fj, struct spool_msg *msg);
void file_job_run(struct spool *spool, struct spool_job *job);
void file_job_free(struct file_job *fj);
void file_job_drop(struct spool *spool, struct file_job *fj);  /* at the end: nobody is told */

/* settle.c */
void settle_turn(struct spool *spool);
bool settle_fill(struct spool *spool, struct file_item *item);   /* from journal and memory; false: item->err */
bool settle_all(struct spool *spool, struct err *err);           /* now, on this thread: everything that is durable in the journal alone */
int memory_file(const char *name, struct err *err);              /* -1 on error */
int young_open(struct spool *spool, struct spool_msg *msg, struct err *err); /* the content, sealed, as a descriptor; -1 on error */
enum status young_read(struct spool *spool, const struct spool_msg *msg, bool content, struct spool_head *head_out, struct buf *content_out,
	struct buf *envelope_out, struct err *err);

/* recover.c */
enum status journal_replay(struct spool *spool, struct err *err);
/* scan.c */
void scan_free(struct spool *spool);
enum status file_set_aside(struct spool *spool, unsigned shard, const char *name, const char *reason, struct err *err);

/* spool.c */
void spool_trouble_report(struct spool *spool, int kind, const char *path, const char *text);
void spool_break(struct spool *spool, const char *what, int error);
void health_set(struct spool *spool, enum spool_health health, const char *text);
uint8_t shard_of(struct str id);
struct spool_msg *msg_new(struct spool *spool, struct str id);
void msg_release(struct spool *spool, struct spool_msg *msg); /* frees it when it is gone and nobody waits */
void msg_forget(struct spool *spool, struct spool_msg *msg);  /* out of the index */
void msg_fd_close(struct spool *spool, struct spool_msg *msg);

#endif

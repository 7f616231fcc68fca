/* SPDX-License-Identifier: ISC */
/* The journal as it is written: entries are collected into batches, one batch is under way at a time, and segments are used in
 * turn. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/spool/priv.h"

enum { BATCH_MAX = 4 * 1024 * 1024, BATCH_KEEP = 1024 * 1024 };

/* ---- collecting ---- */

static struct batch *batch_of(struct spool_job *job)
{
	return (struct batch *)(void *)((char *)job - offsetof(struct batch, job));
}

static void batch_run(struct spool *spool, struct spool_job *job);
static void batch_done(struct spool *spool, struct spool_job *job);

static struct batch *batch_new(struct spool *spool)
{
	struct batch *b = spool->spare;

	spool->spare = NULL;
	if (!b)
		b = mem_new(sizeof *b);
	b->job.run = batch_run;
	b->job.done = batch_done;
	b->n_items = 0;
	b->error = 0;
	buf_reset(&b->data);
	journal_batch_open(&b->data);
	list_push(&spool->batches, &b->node);
	return b;
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	buf_clear(&b->data);
	mem_free(b->items);
	mem_free(b);
}

void batch_drop(struct spool *spool, struct batch *b)
{
	for (uint32_t i = 0; i < b->n_items; i++) {
		b->items[i].msg->waiting--;
		msg_release(spool, b->items[i].msg);
	}
	batch_free(b);
}

static void batch_recycle(struct spool *spool, struct batch *b)
{
	if (spool->spare || b->data.cap > BATCH_KEEP)
		batch_free(b);
	else
		spool->spare = b;
}

struct batch *batch_room(struct spool *spool, size_t octets)
{
	size_t max = spool->seg_size / 2 < BATCH_MAX ? spool->seg_size / 2 : BATCH_MAX;
	struct list *last = list_empty(&spool->batches) ? NULL : spool->batches.prev;
	struct batch *b = last ? list_entry(last, struct batch, node) : NULL;

	if (!b || b->data.len + octets + JOURNAL_ENTRY_HEAD + 8 > max)
		b = batch_new(spool);
	return b;
}

void batch_item_add(struct batch *b, enum item_type type, struct spool_msg *msg, size_t payload, spool_done_fn *fn, void *arg)
{
	if (b->n_items == b->cap_items) {
		b->cap_items = b->cap_items ? b->cap_items * 2 : 64;
		b->items = mem_resize(b->items, b->cap_items * sizeof *b->items);
	}
	b->items[b->n_items++] = (struct batch_item){ .msg = msg, .fn = fn, .arg = arg, .type = type, .payload = (uint32_t)payload };
	msg->waiting++;
}

void finish_add(struct spool *spool, struct spool_msg *msg)
{
	struct journal_entry entry = { .type = JOURNAL_FINISH };
	struct batch *b = batch_room(spool, 0);
	size_t payload;

	memcpy(entry.id, msg->id, sizeof entry.id);
	payload = journal_entry_open(&b->data, &entry);
	journal_entry_close(&b->data, payload);
	batch_item_add(b, ITEM_FINISH, msg, payload, NULL, NULL);
}

/* ---- segments ---- */

void segment_list_add(struct spool *spool, struct spool_msg *msg, uint16_t segment)
{
	msg->segment = segment;
	msg->since_ms = clock_ms();
	list_push(&spool->seg[segment].messages, &msg->node);
}

uint64_t journal_room(const struct spool *spool)
{
	uint64_t room = spool->seg_size - spool->seg[spool->cur].used;

	for (uint32_t i = 1; i < spool->n_seg; i++) {
		const struct segment *s = &spool->seg[(spool->cur + i) % spool->n_seg];

		if (s->state != SEG_FREE && s->state != SEG_RETIRED)
			break;
		room += spool->seg_size;
	}
	list_each(&spool->batches, n) {
		size_t octets = list_entry(n, struct batch, node)->data.len;

		room -= octets < room ? octets : room;
	}
	return room;
}

/* The segment for a batch of that many octets: the current one or the next; false: everything must wait for settling. */
static bool segment_choose(struct spool *spool, size_t octets)
{
	struct segment *s = &spool->seg[spool->cur];
	uint32_t next;

	if (s->used + octets <= spool->seg_size && s->state == SEG_USED)
		return true;
	/* A new one takes its place in the order behind the last. */
	if (spool->grow == GROW_READY && spool->cur == spool->n_seg - 1) {
		spool->n_seg++;
		spool->grow = GROW_NO;
	}
	next = (spool->cur + 1) % spool->n_seg;
	if (s->state == SEG_USED) {
		s = &spool->seg[next];
		if (s->state == SEG_RETIRED && s->retired <= spool->durable_batch)
			s->state = SEG_FREE;
		/* A retired one that no batch has yet told of is safe too; only a later reader might wonder where its batches are. */
		if (s->state != SEG_FREE && s->state != SEG_RETIRED)
			return false;
		spool->cur = next;
	}
	s->state = SEG_USED;
	s->first = spool->next_batch;
	s->used = 0;
	s->gone = 0;
	return true;
}

static void batch_place(struct spool *spool, struct batch *b)
{
	struct segment *s = &spool->seg[spool->cur];

	b->segment = (uint16_t)spool->cur;
	b->at = s->used;
	b->fd = s->fd;
	s->used += (uint32_t)b->data.len;
	for (uint32_t i = 0; i < b->n_items; i++) {
		struct batch_item *item = &b->items[i];
		struct spool_msg *msg = item->msg;

		switch (item->type) {
		case ITEM_COMMIT:
			msg->place = (uint64_t)b->at + item->payload;
			segment_list_add(spool, msg, b->segment);
			break;
		case ITEM_RECORDS:
			if (msg->state == SPOOL_GONE)
				break;
			if (msg->settling) {
				if (msg->later == NO_SEGMENT)
					msg->later = b->segment;
			} else if (!list_linked(&msg->node)) {
				segment_list_add(spool, msg, b->segment);
			}
			break;
		case ITEM_FINISH:
			if (!msg->named)
				break;
			s->gone |= 1ull << msg->shard;
			s->unlinks++;
			break;
		case ITEM_PRESENT:
			break;
		}
	}
}

void ring_turn(struct spool *spool)
{
	struct list *n = list_first(&spool->batches);
	struct batch *b;
	size_t octets;

	if (spool->flying || !n || spool->health == SPOOL_BROKEN)
		return;
	b = list_entry(n, struct batch, node);
	if (!b->n_items) {
		list_remove(n);
		batch_recycle(spool, b);
		return;
	}
	octets = (b->data.len + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN;
	if (!segment_choose(spool, octets))
		return;
	list_remove(n);
	b->number = spool->next_batch++;
	journal_batch_close(&b->data, b->number, spool->seg[spool->tail].state == SEG_USED || spool->seg[spool->tail].state == SEG_RETIRING ?
		spool->seg[spool->tail].first : b->number, spool->restart);
	spool->restart = false;
	batch_place(spool, b);
	spool->flying = b;
	job_submit(spool, LANE_JOURNAL, &b->job);
}

/* Everything is in the files: says so, which spares the next start the journal. Without room or on an error that is not said. */
void ring_end(struct spool *spool)
{
	struct segment *s = &spool->seg[spool->cur];
	const struct spool_fs *fs = spool->fs;
	struct buf b = BUF_INIT;
	uint64_t gone = 0;

	for (uint32_t i = 0; i < spool->n_seg; i++)
		gone |= spool->seg[i].gone;
	for (unsigned d = 0; d < SHARDS; d++)
		if (gone & 1ull << d && fs->fsync(fs->arg, spool->shard_fd[d]))
			return;
	if (s->state != SEG_USED || s->used + JOURNAL_ALIGN > spool->seg_size)
		return;
	journal_batch_open(&b);
	journal_batch_close(&b, spool->next_batch, spool->next_batch, spool->restart);
	if (!spool_fs_write(fs, s->fd, b.p, b.len, s->used))
		fs->fdatasync(fs->arg, s->fd);
	buf_clear(&b);
}

static void batch_run(struct spool *spool, struct spool_job *job)
{
	struct batch *b = batch_of(job);
	const struct spool_fs *fs = spool->fs;

	if (spool_fs_write(fs, b->fd, b->data.p, b->data.len, b->at)) {
		b->error = errno ? errno : EIO;
		b->what = "write";
	} else if (fs->fdatasync(fs->arg, b->fd)) {
		b->error = errno ? errno : EIO;
		b->what = "fdatasync";
	}
}

/* ---- removals ---- */

struct unlink_job {
	struct spool_job job;
	uint32_t n;
	uint16_t segment;
	struct {
		char id[SPOOL_ID_MAX + 1];
		uint8_t shard;
	} names[];
};

static struct unlink_job *unlink_job_of(struct spool_job *job)
{
	return (struct unlink_job *)(void *)((char *)job - offsetof(struct unlink_job, job));
}

static void unlink_run(struct spool *spool, struct spool_job *job)
{
	struct unlink_job *uj = unlink_job_of(job);

	for (uint32_t i = 0; i < uj->n; i++)
		spool->fs->unlink(spool->fs->arg, spool->shard_fd[uj->names[i].shard], uj->names[i].id);
}

static void unlink_done(struct spool *spool, struct spool_job *job)
{
	struct unlink_job *uj = unlink_job_of(job);

	spool->seg[uj->segment].unlinks -= uj->n;
	mem_free(uj);
}

static void batch_unlink(struct spool *spool, const struct batch *b)
{
	struct unlink_job *uj = NULL;

	for (uint32_t i = 0; i < b->n_items; i++) {
		if (b->items[i].type != ITEM_FINISH || !b->items[i].msg->named)
			continue;
		if (!uj) {
			uj = mem_new(sizeof *uj + (b->n_items - i) * sizeof uj->names[0]);
			uj->job.run = unlink_run;
			uj->job.done = unlink_done;
			uj->segment = b->segment;
		}
		memcpy(uj->names[uj->n].id, b->items[i].msg->id, sizeof uj->names[0].id);
		uj->names[uj->n++].shard = b->items[i].msg->shard;
	}
	if (uj)
		job_submit(spool, LANE_FILES, &uj->job);
}

/* ---- a batch is durable, or is not ---- */

/* The content in memory serves the first delivery; when there are too many, the journal serves. */
static void commit_keep(struct spool *spool, struct spool_msg *msg)
{
	if (msg->fd < 0)
		return;
	if (msg->file_end || spool->young_fds >= spool->opt.young_fds) {
		msg_fd_close(spool, msg);
		return;
	}
	msg->kept = true;
	spool->young_fds++;
}

static void item_done(struct spool *spool, struct batch_item *item, enum status status, const struct err *err)
{
	struct spool_msg *msg = item->msg;

	if (item->type == ITEM_COMMIT || item->type == ITEM_PRESENT) {
		msg->state = status ? SPOOL_NEW : SPOOL_LIVE;
		msg->failed = status != ST_OK;
		if (status) {
			list_remove(&msg->node);
			msg->node = (struct list){ NULL, NULL };
		} else {
			spool->stats.commits++;
			commit_keep(spool, msg);
		}
	}
	if (item->fn && !spool->crossed)
		item->fn(item->arg, msg, status, err);
	msg->waiting--;
	msg_release(spool, msg);
}

/* Takes the commits out of a batch, so that none that was refused can come back by itself; the rest is kept. */
static void batch_refuse(struct batch *b, struct batch_item **refused, uint32_t *n)
{
	const uint32_t type = JOURNAL_VOID;
	uint32_t kept = 0;

	*refused = mem_resize(*refused, (*n + b->n_items) * sizeof **refused);
	for (uint32_t i = 0; i < b->n_items; i++) {
		struct batch_item item = b->items[i];

		if (item.type == ITEM_COMMIT || item.type == ITEM_PRESENT) {
			memcpy(b->data.p + item.payload - JOURNAL_ENTRY_HEAD + offsetof(struct journal_entry, type), &type, sizeof type);
			(*refused)[(*n)++] = item;
		} else {
			b->items[kept++] = item;
		}
	}
	b->n_items = kept;
}

static void batches_refuse(struct spool *spool)
{
	struct batch_item *refused = NULL;
	uint32_t n = 0;
	struct err err = ERR_INIT;

	err_set(&err, ST_DEFER, "%s", spool->health_text);
	list_each(&spool->batches, node)
		batch_refuse(list_entry(node, struct batch, node), &refused, &n);
	for (uint32_t i = 0; i < n; i++)
		item_done(spool, &refused[i], ST_DEFER, &err);
	mem_free(refused);
}

static void batch_done(struct spool *spool, struct spool_job *job)
{
	struct batch *b = batch_of(job);

	spool->flying = NULL;
	if (spool->crossed) {
		batch_drop(spool, b);
		return;
	}
	if (b->error) {
		int error = b->error;
		char what[64];

		/* What it told of removals did not happen yet. */
		for (uint32_t i = 0; i < b->n_items; i++)
			if (b->items[i].type == ITEM_FINISH && b->items[i].msg->named)
				spool->seg[b->segment].unlinks--;
		list_push_front(&spool->batches, &b->node);
		snprintf(what, sizeof what, "journal/%02u: %s", b->segment, b->what);
		b->error = 0;
		spool_break(spool, what, error);
		return;
	}
	spool->durable_batch = b->number;
	spool->stats.batches++;
	spool->stats.batch_octets += b->data.len;
	batch_unlink(spool, b);
	for (uint32_t i = 0; i < b->n_items; i++)
		item_done(spool, &b->items[i], ST_OK, NULL);
	batch_recycle(spool, b);
}

void spool_break(struct spool *spool, const char *what, int error)
{
	char text[160];

	snprintf(text, sizeof text, "%s failed: %s; no new mail until the spool has been checked", what, strerror(error));
	spool_trouble_report(spool, SPOOL_IO, what, text);
	health_set(spool, SPOOL_BROKEN, text);
	batches_refuse(spool);
}

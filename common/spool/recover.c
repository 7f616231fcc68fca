/* SPDX-License-Identifier: ISC */
/* After a start: the journal is read, and every message that it covers gets a complete, durable file of its own. The journal is
 * not changed meanwhile, so a crash during recovery is followed by the same recovery. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/spool/priv.h"

/* ---- reading the journal ---- */

struct found {               /* a batch */
	uint64_t number, oldest;
	uint32_t segment, at;
	bool restart;
};

struct trail {               /* what the journal says of one message */
	char id[SPOOL_ID_MAX + 1];
	bool commit, finished, torn;
	uint8_t shard;
	uint32_t segment, length;  /* commit: its payload */
	uint64_t at;
	uint32_t salt;
	uint32_t first_seq, n_records;
	struct buf records;
};

struct replay {
	struct spool *spool;
	struct found *found;
	size_t n_found, cap_found;
	struct hash trails;
	char *data;              /* a segment */
};

static void found_add(struct replay *r, const struct journal_batch *b, uint32_t segment, uint32_t at)
{
	if (r->n_found == r->cap_found) {
		r->cap_found = r->cap_found ? r->cap_found * 2 : 256;
		r->found = mem_resize(r->found, r->cap_found * sizeof *r->found);
	}
	r->found[r->n_found++] = (struct found){ b->number, b->oldest, segment, at, b->restart };
}

static enum status segment_read(struct replay *r, uint32_t segment, struct err *err)
{
	struct spool *spool = r->spool;

	if (spool_fs_read(spool->fs, spool->seg[segment].fd, r->data, spool->seg_size, 0))
		return err_set(err, ST_ERROR, "%s/journal/%02u: can't read it: %s", spool->dir, segment, strerror(errno));
	return ST_OK;
}

static int found_cmp(const void *a, const void *b)
{
	uint64_t x = ((const struct found *)a)->number, y = ((const struct found *)b)->number;

	return x < y ? -1 : x > y;
}

static enum status batches_find(struct replay *r, struct err *err)
{
	for (uint32_t s = 0; s < r->spool->n_seg; s++) {
		enum status st = segment_read(r, s, err);

		if (st)
			return st;
		for (uint32_t at = 0; at < r->spool->seg_size;) {
			struct journal_batch b;

			if (journal_batch_read(str_make(r->data + at, r->spool->seg_size - at), &b)) {
				found_add(r, &b, s, at);
				at += b.octets;
			} else {
				at += JOURNAL_ALIGN;
			}
		}
	}
	if (r->n_found)
		qsort(r->found, r->n_found, sizeof *r->found, found_cmp);
	return ST_OK;
}

/* Leaves only what the newest batch says is needed; tells of what is missing there. */
static void batches_choose(struct replay *r)
{
	uint64_t oldest = r->n_found ? r->found[r->n_found - 1].oldest : 0, expect = oldest;
	size_t from = 0;
	char text[120];

	while (from < r->n_found && r->found[from].number < oldest)
		from++;
	for (size_t i = from; i < r->n_found; i++) {
		if (r->found[i].number != expect && !r->found[i].restart) {
			snprintf(text, sizeof text, "batches %llu to %llu are missing or damaged", (unsigned long long)expect,
				(unsigned long long)r->found[i].number - 1);
			spool_trouble_report(r->spool, SPOOL_JOURNAL, "journal", text);
		}
		expect = r->found[i].number + 1;
	}
	if (from)
		memmove(r->found, r->found + from, (r->n_found - from) * sizeof *r->found);
	r->n_found -= from;
}

static struct trail *trail_get(struct replay *r, const char *id)
{
	struct trail *t = hash_get(&r->trails, str_of(id));

	if (!t) {
		t = mem_new(sizeof *t);
		memcpy(t->id, id, strlen(id));
		t->shard = shard_of(str_of(id));
		hash_put(&r->trails, str_of(t->id), t);
	}
	return t;
}

static void trail_reset(struct trail *t)
{
	t->commit = t->finished = t->torn = false;
	t->first_seq = t->n_records = 0;
	buf_reset(&t->records);
}

static void trail_records(struct trail *t, const struct journal_entry *e, struct str payload)
{
	uint32_t n, next = t->first_seq + t->n_records;
	size_t span;

	if (t->finished)
		return;
	if (!t->n_records) {
		t->first_seq = next = e->seq;
		t->salt = e->salt;
	}
	if (e->salt != t->salt || e->seq > next) {
		t->torn = true; /* a batch between is lost */
		return;
	}
	span = spool_records_span(payload, e->salt, e->seq, &n);
	if (span != payload.len)
		t->torn = true;
	if (e->seq != next) /* written again after a failed batch */
		return;
	buf_add(&t->records, payload.p, span);
	t->n_records += n;
}

static void entry_take(struct replay *r, const struct found *f, const struct journal_entry *e, struct str payload)
{
	struct trail *t;

	if (e->type == JOURNAL_VOID || e->type >= JOURNAL_TYPES_END || !spool_id_valid(str_of(e->id)))
		return;
	t = trail_get(r, e->id);
	switch ((enum journal_entry_type)e->type) {
	case JOURNAL_COMMIT:
		trail_reset(t);
		t->commit = true;
		t->segment = f->segment;
		t->at = (uint64_t)(payload.p - r->data);
		t->length = payload.len;
		break;
	case JOURNAL_PRESENT:
		trail_reset(t);
		break;
	case JOURNAL_RECORDS:
		trail_records(t, e, payload);
		break;
	case JOURNAL_FINISH:
		trail_reset(t);
		t->finished = true;
		break;
	case JOURNAL_VOID:
	case JOURNAL_TYPES_END:
		break;
	}
}

static enum status batches_replay(struct replay *r, struct err *err)
{
	uint32_t loaded = UINT32_MAX;

	for (size_t i = 0; i < r->n_found; i++) {
		const struct found *f = &r->found[i];
		struct journal_batch b;
		struct journal_entry e;
		struct str payload;
		uint32_t at = 0;

		if (f->segment != loaded) {
			enum status st = segment_read(r, f->segment, err);

			if (st)
				return st;
			loaded = f->segment;
		}
		if (!journal_batch_read(str_make(r->data + f->at, r->spool->seg_size - f->at), &b))
			return err_set(err, ST_ERROR, "%s/journal/%02u reads differently the second time", r->spool->dir, f->segment);
		while (journal_entry_next(&b, &at, &e, &payload))
			entry_take(r, f, &e, payload);
	}
	return ST_OK;
}

/* ---- bringing the files up to date ---- */

/* What the file has that holds: head, envelope, content, records. */
struct have {
	int fd;
	uint64_t size, end;
	uint32_t seq;
	struct spool_head head;
	bool complete;
};

static void file_look(struct spool *spool, const struct trail *t, struct have *out)
{
	const struct spool_fs *fs = spool->fs;
	struct arena a = ARENA_INIT;
	struct spool_file file;

	memset(out, 0, sizeof *out);
	out->fd = fs->open(fs->arg, spool->shard_fd[t->shard], t->id, O_RDONLY, 0);
	if (out->fd < 0)
		return;
	if (!spool_file_read(fs, out->fd, t->commit, &a, &file, NULL)) {
		out->complete = true;
		out->head = file.head;
		out->size = file.size;
		out->end = file.end;
		out->seq = file.seq;
	}
	arena_clear(&a);
	fs->close(fs->arg, out->fd);
}

static enum status commit_read(struct spool *spool, const struct trail *t, struct buf *out, struct spool_head *head, struct err *err)
{
	if (t->length < SPOOL_HEAD)
		return err_set(err, ST_FAIL, "the journal's entry is malformed");
	if (spool_fs_read(spool->fs, spool->seg[t->segment].fd, buf_room(out, t->length), t->length, (off_t)t->at))
		return err_set(err, ST_ERROR, "%s/journal/%02u: can't read it", spool->dir, t->segment);
	out->len = t->length;
	if (spool_head_decode((const unsigned char *)out->p, head) != SPOOL_HEAD_COMPLETE || head->content > t->length - SPOOL_HEAD ||
	    head->content + head->envelope + SPOOL_HEAD != t->length)
		return err_set(err, ST_FAIL, "the journal's entry is malformed");
	return ST_OK;
}

static void trail_trouble(struct spool *spool, const struct trail *t, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "queue/%02x/%s", t->shard, t->id);
	spool_trouble_report(spool, SPOOL_JOURNAL, path, text);
}

/* Sets down what is to be written for one message, if anything. */
static enum status trail_apply(struct spool *spool, struct trail *t, struct file_job *fj, uint64_t *dirs, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	struct file_item *item;
	struct spool_head head;
	struct have have;
	uint32_t skip;
	size_t from = 0;
	struct str payload;

	if (t->finished) {
		if (!fs->unlink(fs->arg, spool->shard_fd[t->shard], t->id))
			*dirs |= 1ull << t->shard;
		return ST_OK;
	}
	if (!t->commit && !t->n_records)
		return ST_OK;
	if (t->torn)
		trail_trouble(spool, t, "some of its records are missing from the journal");
	file_look(spool, t, &have);
	item = file_job_add(fj, NULL);
	memcpy(item->id, t->id, sizeof item->id);
	item->shard = t->shard;
	if (t->commit) {
		struct buf image = BUF_INIT;
		enum status st = commit_read(spool, t, &image, &head, err);

		if (st == ST_FAIL)
			trail_trouble(spool, t, "the journal's entry is malformed");
		if (!st && (!have.complete || have.head.salt != head.salt)) {
			item->make = item->write_head = true;
			item->head = head;
			buf_add(&item->content, image.p + SPOOL_HEAD, head.content);
			buf_add(&item->tail, image.p + SPOOL_HEAD + head.content, head.envelope);
			item->tail_at = SPOOL_HEAD + head.content;
			have.seq = 0;
			have.end = have.size = item->tail_at + head.envelope;
			have.complete = true;
			have.head = head;
		}
		buf_clear(&image);
		if (st) {
			fj->n--;
			return st == ST_FAIL ? ST_OK : st;
		}
		item->write_head = true; /* its directory entry may not be durable */
		item->head = have.head;
		*dirs |= 1ull << t->shard;
	}
	/* No file: it was removed, and only the end of the story is lost. A damaged one is for the scan. */
	if (!have.complete || (t->n_records && (have.head.salt != t->salt || t->first_seq > have.seq + 1)) ||
	    (have.end < have.size && t->first_seq + t->n_records <= have.seq + 1 && !item->make)) {
		if (have.complete && t->n_records)
			trail_trouble(spool, t, "the journal's records do not continue those of the file");
		buf_clear(&item->tail);
		buf_clear(&item->content);
		fj->n--;
		return ST_OK;
	}
	skip = t->n_records ? have.seq + 1 - t->first_seq : 0;
	for (uint32_t i = 0; i < skip && i < t->n_records; i++)
		from += spool_record_frame(str_from(buf_str(&t->records), from), t->salt, t->first_seq + i, &payload);
	if (!item->make)
		item->tail_at = have.end;
	if (t->records.len > from)
		buf_add(&item->tail, t->records.p + from, t->records.len - from);
	item->trim = item->make || item->tail.len || have.end < have.size;
	spool->stats.recovered++;
	return ST_OK;
}

static enum status files_write(struct spool *spool, struct file_job *fj, struct err *err)
{
	enum status st = ST_OK;

	file_job_run(spool, &fj->job);
	for (uint32_t i = 0; i < fj->n; i++) {
		if (fj->items[i].status && !st)
			st = err_set(err, ST_ERROR, "%s/%s", spool->dir, fj->items[i].err.text);
		buf_clear(&fj->items[i].tail);
		buf_clear(&fj->items[i].content);
	}
	fj->n = 0;
	return st;
}

static enum status trails_apply(struct replay *r, struct err *err)
{
	struct spool *spool = r->spool;
	struct file_job *fj = file_job_new(NULL);
	enum status st = ST_OK;
	uint64_t dirs = 0;
	uint32_t pos = 0;
	struct trail *t;
	struct str key;

	while (!st && (t = hash_next(&r->trails, &pos, &key))) {
		st = trail_apply(spool, t, fj, &dirs, err);
		if (!st && fj->n >= SETTLE_BATCH)
			st = files_write(spool, fj, err);
	}
	if (!st)
		st = files_write(spool, fj, err);
	for (unsigned d = 0; d < SHARDS && !st; d++)
		if (dirs & 1ull << d && spool->fs->fsync(spool->fs->arg, spool->shard_fd[d]))
			st = err_set(err, ST_ERROR, "%s/queue/%02x: fsync: %s", spool->dir, d, strerror(errno));
	file_job_free(fj);
	return st;
}

static void replay_clear(struct replay *r)
{
	uint32_t pos = 0;
	struct trail *t;
	struct str key;

	while ((t = hash_next(&r->trails, &pos, &key))) {
		buf_clear(&t->records);
		mem_free(t);
	}
	hash_clear(&r->trails);
	mem_free(r->found);
	mem_free(r->data);
}

enum status journal_replay(struct spool *spool, struct err *err)
{
	struct replay r = { .spool = spool, .data = mem_new(spool->seg_size), .trails = HASH_INIT };
	enum status st;

	st = batches_find(&r, err);
	if (!st) {
		/* Numbers and segments go on where they were; the oldest segment is written over first. */
		spool->next_batch = r.n_found ? r.found[r.n_found - 1].number + 1 : 1;
		spool->cur = spool->tail = r.n_found ? (r.found[r.n_found - 1].segment + 1) % spool->n_seg : 0;
		spool->restart = true;
		batches_choose(&r);
		st = batches_replay(&r, err);
	}
	if (!st)
		st = trails_apply(&r, err);
	replay_clear(&r);
	return st;
}

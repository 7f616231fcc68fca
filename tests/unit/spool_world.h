/* SPDX-License-Identifier: ISC */
/* spool_world.h - a spool in a scratch directory, and what it reports.
 * Used by:    tests/unit/spool_test.c, spool_fault_test.c. */
#ifndef SPOOL_WORLD_H
#define SPOOL_WORLD_H

#include "tests/unit/spool_util.h"

struct seen {
	struct {
		char id[SPOOL_ID_MAX + 1];
		struct spool_msg *msg;
		uint32_t n_records;
		char dump[600];
	} v[4000];
	unsigned n;
};

struct world {
	struct spool *spool;
	char *dir;
	struct spool_options opt;
	unsigned done, failed, troubles, damaged, foreign, health_changes;
	enum spool_health health;
	char last_error[ERR_TEXT_MAX], last_trouble[800];
	struct arena arena;
	struct seen seen;
};

static inline void on_trouble(void *arg, const struct spool_trouble *t)
{
	struct world *w = arg;

	w->troubles++;
	w->damaged += t->kind == SPOOL_DAMAGED;
	w->foreign += t->kind == SPOOL_FOREIGN;
	snprintf(w->last_trouble, sizeof w->last_trouble, "%s: %s", t->path, t->text);
}

static inline void on_health(void *arg, enum spool_health health, const char *text)
{
	struct world *w = arg;

	(void)text;
	w->health = health;
	w->health_changes++;
}

static inline void on_done(void *arg, struct spool_msg *msg, enum status status, const struct err *err)
{
	struct world *w = arg;

	(void)msg;
	if (status) {
		w->failed++;
		snprintf(w->last_error, sizeof w->last_error, "%s", err->text);
	} else {
		w->done++;
	}
}

static inline void world_open(struct world *w)
{
	struct err err = ERR_INIT;

	if (spool_open(&w->spool, &w->opt, &err))
		fail_msg("open: %s", err.text);
}

static inline struct world *world_new(const char *name, bool inline_io)
{
	struct world *w = calloc(1, sizeof *w);

	w->dir = strdup(scratch_make(name));
	w->opt = (struct spool_options){ .dir = w->dir, .segment_size = 1024 * 1024, .segments = 4, .segments_max = inline_io ? 4 : 7, .inline_io = inline_io, .trouble = on_trouble,
		.health = on_health, .arg = w };
	world_open(w);
	return w;
}

static inline void world_free(struct world *w)
{
	spool_close(w->spool);
	scratch_remove(w->dir);
	arena_clear(&w->arena);
	free(w->dir);
	free(w);
}

/* Turns until so many callbacks have come in all. */
static inline void wait_for(struct world *w, unsigned n)
{
	uint64_t until = clock_ms() + 20000;

	while (w->done + w->failed < n && clock_ms() < until)
		spool_turn(w->spool, true);
	assert_int_equal(w->done + w->failed, n);
}

static inline void on_seen(void *arg, const struct spool_loaded *loaded)
{
	struct world *w = arg;
	unsigned i = w->seen.n++;
	struct buf dump = BUF_INIT;

	assert_true(i < 4000);
	snprintf(w->seen.v[i].id, sizeof w->seen.v[i].id, "%s", loaded->msg->id);
	w->seen.v[i].msg = loaded->msg;
	w->seen.v[i].n_records = loaded->n_records;
	ipc_dump(&ipc_type_spool_envelope, loaded->envelope, &dump);
	snprintf(w->seen.v[i].dump, sizeof w->seen.v[i].dump, "%s", buf_cstr(&dump));
	buf_clear(&dump);
}

static inline void scan_all(struct world *w)
{
	struct err err = ERR_INIT;
	enum status st;

	w->seen.n = 0;
	while ((st = spool_scan_next(w->spool, 7, on_seen, w, &err)) == ST_OK)
		;
	assert_int_equal(st, ST_FAIL);
}

static inline struct spool_msg *begin(struct world *w, unsigned number, size_t size)
{
	struct err err = ERR_INIT;
	char id[SPOOL_ID_MAX + 1], *p = malloc(size + 1);
	struct spool_msg *msg;
	int fd, read_fd;

	id_make(id, number);
	if ((number % 4 == 3 ? spool_create_file : spool_create)(w->spool, id, &msg, &fd, &read_fd, &err))
		fail_msg("create: %s", err.text);
	content_fill(p, size, number);
	assert_int_equal(pwrite(fd, p, size, SPOOL_CONTENT_OFFSET), size);
	if (number % 4 == 3)
		assert_true(write(read_fd, p, 1) < 0);
	close(fd);
	close(read_fd);
	free(p);
	return msg;
}

static inline struct spool_msg *commit(struct world *w, unsigned number, size_t size, unsigned n_rcpt)
{
	struct spool_msg *msg = begin(w, number, size);
	struct ipc_spool_envelope e = envelope_make(&w->arena, msg->id, size, n_rcpt);
	struct err err = ERR_INIT;

	if (spool_commit(w->spool, msg, &e, on_done, w, &err))
		fail_msg("commit: %s", err.text);
	return msg;
}

static inline void content_check(struct world *w, struct spool_msg *msg, unsigned number)
{
	struct err err = ERR_INIT;
	int fd = spool_open_reader(w->spool, msg, &err);
	char *got = malloc(msg->content + 1), *want = malloc(msg->content + 1);

	if (fd < 0)
		fail_msg("reader: %s", err.text);
	assert_int_equal(pread(fd, got, msg->content, SPOOL_CONTENT_OFFSET), msg->content);
	content_fill(want, msg->content, number);
	assert_memory_equal(got, want, msg->content);
	assert_true(write(fd, "x", 1) < 0);
	close(fd);
	free(got);
	free(want);
}

static inline void record(struct world *w, struct spool_msg *msg, unsigned recipient, unsigned result)
{
	struct ipc_spool_record r = record_make(recipient, result);
	struct err err = ERR_INIT;

	if (spool_record(w->spool, msg, &r, 1, on_done, w, &err))
		fail_msg("record: %s", err.text);
}

static inline unsigned records_of(struct world *w, struct spool_msg *msg)
{
	struct spool_loaded loaded;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	unsigned n;

	if (spool_load(w->spool, msg, &a, &loaded, &err))
		fail_msg("load %s: %s", msg->id, err.text);
	assert_string_equal(loaded.envelope->id.p, msg->id);
	n = loaded.n_records;
	arena_clear(&a);
	return n;
}

static inline unsigned number_of(const char *id)
{
	return (unsigned)atoi(id + 7);
}

#endif

/* SPDX-License-Identifier: ISC */
/* The spool from outside: messages come in, live, end; stops and starts; damage; a full and a broken disk. */
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

static void on_trouble(void *arg, const struct spool_trouble *t)
{
	struct world *w = arg;

	w->troubles++;
	w->damaged += t->kind == SPOOL_DAMAGED;
	w->foreign += t->kind == SPOOL_FOREIGN;
	snprintf(w->last_trouble, sizeof w->last_trouble, "%s: %s", t->path, t->text);
}

static void on_health(void *arg, enum spool_health health, const char *text)
{
	struct world *w = arg;

	(void)text;
	w->health = health;
	w->health_changes++;
}

static void on_done(void *arg, struct spool_msg *msg, enum status status, const struct err *err)
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

static void world_open(struct world *w)
{
	struct err err = ERR_INIT;

	if (spool_open(&w->spool, &w->opt, &err))
		fail_msg("open: %s", err.text);
}

static struct world *world_new(const char *name, bool inline_io)
{
	struct world *w = calloc(1, sizeof *w);

	w->dir = strdup(scratch_make(name));
	w->opt = (struct spool_options){ .dir = w->dir, .segment_size = 1024 * 1024, .segments = 4, .inline_io = inline_io, .trouble = on_trouble,
		.health = on_health, .arg = w };
	world_open(w);
	return w;
}

static void world_free(struct world *w)
{
	spool_close(w->spool);
	scratch_remove(w->dir);
	arena_clear(&w->arena);
	free(w->dir);
	free(w);
}

/* Turns until so many callbacks have come in all. */
static void wait_for(struct world *w, unsigned n)
{
	uint64_t until = clock_ms() + 20000;

	while (w->done + w->failed < n && clock_ms() < until)
		spool_turn(w->spool, true);
	assert_int_equal(w->done + w->failed, n);
}

static void on_seen(void *arg, const struct spool_loaded *loaded)
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

static void scan_all(struct world *w)
{
	struct err err = ERR_INIT;
	enum status st;

	w->seen.n = 0;
	while ((st = spool_scan_next(w->spool, 7, on_seen, w, &err)) == ST_OK)
		;
	assert_int_equal(st, ST_FAIL);
}

static struct spool_msg *begin(struct world *w, unsigned number, size_t size)
{
	struct err err = ERR_INIT;
	char id[SPOOL_ID_MAX + 1], *p = malloc(size + 1);
	struct spool_msg *msg;
	int fd, read_fd;

	id_make(id, number);
	if (spool_create(w->spool, id, &msg, &fd, &read_fd, &err))
		fail_msg("create: %s", err.text);
	content_fill(p, size, number);
	assert_int_equal(pwrite(fd, p, size, SPOOL_CONTENT_OFFSET), size);
	assert_true(write(read_fd, p, 1) < 0);
	close(fd);
	close(read_fd);
	free(p);
	return msg;
}

static struct spool_msg *commit(struct world *w, unsigned number, size_t size, unsigned n_rcpt)
{
	struct spool_msg *msg = begin(w, number, size);
	struct ipc_spool_envelope e = envelope_make(&w->arena, msg->id, size, n_rcpt);
	struct err err = ERR_INIT;

	if (spool_commit(w->spool, msg, &e, on_done, w, &err))
		fail_msg("commit: %s", err.text);
	return msg;
}

static void content_check(struct world *w, struct spool_msg *msg, unsigned number)
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

static void record(struct world *w, struct spool_msg *msg, unsigned recipient, unsigned result)
{
	struct ipc_spool_record r = record_make(recipient, result);
	struct err err = ERR_INIT;

	if (spool_record(w->spool, msg, &r, 1, on_done, w, &err))
		fail_msg("record: %s", err.text);
}

static unsigned records_of(struct world *w, struct spool_msg *msg)
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

static unsigned number_of(const char *id)
{
	return (unsigned)atoi(id + 7);
}

/* ---- life ---- */

static void life(bool inline_io)
{
	struct world *w = world_new("life", inline_io);
	struct spool_msg *small[50], *big;
	struct spool_stats stats;

	for (unsigned i = 0; i < 50; i++)
		small[i] = commit(w, i, i * 40, 1 + i % 3);
	big = commit(w, 100, 700000, 2);
	wait_for(w, 51);
	assert_int_equal(w->failed, 0);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(small[i]->state, SPOOL_LIVE);
		content_check(w, small[i], i);
		assert_int_equal(records_of(w, small[i]), 0);
	}
	content_check(w, big, 100);
	for (unsigned i = 0; i < 25; i++)
		record(w, small[i], 0, DELIVERY_OK);
	record(w, big, 1, DELIVERY_DEFERRED);
	record(w, big, 1, DELIVERY_OK);
	wait_for(w, 51 + 27);
	assert_int_equal(records_of(w, small[3]), 1);
	assert_int_equal(records_of(w, big), 2);
	for (unsigned i = 0; i < 10; i++)
		spool_finish(w->spool, small[i]);
	assert_null(spool_find(w->spool, STR_LIT("1vMxyz-000003-AB")));
	assert_ptr_equal(spool_find(w->spool, STR_LIT("1vMxyz-000013-AB")), small[13]);
	spool_close(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 41);
	for (unsigned i = 0; i < w->seen.n; i++) {
		unsigned n = number_of(w->seen.v[i].id), want = n == 100 ? 2 : n < 25 ? 1 : 0;

		assert_true(n >= 10);
		if (w->seen.v[i].n_records != want)
			fail_msg("%s: %u records, want %u", w->seen.v[i].id, w->seen.v[i].n_records, want);
		assert_non_null(strstr(w->seen.v[i].dump, "sender@example.org"));
		content_check(w, w->seen.v[i].msg, n);
		record(w, w->seen.v[i].msg, 0, DELIVERY_FAILED);
		assert_int_equal(records_of(w, w->seen.v[i].msg), want + 1);
	}
	wait_for(w, 51 + 27 + 41);
	assert_int_equal(w->failed, 0);
	for (unsigned i = 0; i < w->seen.n; i++)
		spool_finish(w->spool, w->seen.v[i].msg);
	spool_close(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 0);
	assert_int_equal(w->troubles, 0);
	spool_stats_get(w->spool, &stats);
	assert_int_equal(stats.messages, 0);
	world_free(w);
}

static void test_life(void **state)
{
	(void)state;
	life(true);
	life(false);
}

/* A process that dies loses nothing that was confirmed: the journal has it. */
static void crash(bool inline_io)
{
	struct world *w = world_new("crash", inline_io);
	struct spool_msg *msg[40];

	for (unsigned i = 0; i < 40; i++)
		msg[i] = commit(w, i, 3000, 2);
	begin(w, 50, 100); /* never committed */
	wait_for(w, 40);
	for (unsigned i = 0; i < 20; i++)
		record(w, msg[i], 0, DELIVERY_OK);
	wait_for(w, 60);
	for (unsigned i = 0; i < 5; i++)
		spool_finish(w->spool, msg[i]);
	record(w, msg[30], 0, DELIVERY_OK);
	wait_for(w, 61);
	spool_drop(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 35);
	for (unsigned i = 0; i < w->seen.n; i++) {
		unsigned n = number_of(w->seen.v[i].id);

		assert_int_equal(w->seen.v[i].n_records, n < 20 || n == 30);
		content_check(w, w->seen.v[i].msg, n);
	}
	assert_int_equal(w->troubles, 0);
	world_free(w);
}

static void test_crash(void **state)
{
	(void)state;
	crash(true);
	crash(false);
}

/* Many more messages than the journal can hold: segments are settled and used again; crashes in between. */
static void wrap(bool inline_io)
{
	struct world *w = world_new("wrap", inline_io);
	unsigned total = 0, alive = 0;
	struct spool_stats stats;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 600; i++, total++) {
			struct spool_msg *msg = commit(w, total, 6000, 1);

			if (i % 10 == 9 || round == 2) {
				wait_for(w, w->done + w->failed + (i % 10 == 9 ? 10 : 1) - (round == 2 ? (i % 10 == 9 ? 9 : 0) : 0));
				record(w, msg, 0, DELIVERY_DEFERRED);
				wait_for(w, w->done + 1);
			}
			if (round == 2 && i % 3 == 0)
				spool_finish(w->spool, msg);
			else
				alive++;
		}
		spool_stats_get(w->spool, &stats);
		assert_true(stats.settled + stats.large > 0);
		if (round == 1)
			spool_drop(w->spool);
		else
			spool_close(w->spool);
		world_open(w);
		scan_all(w);
		assert_int_equal(w->seen.n, alive);
		for (unsigned k = 0; k < w->seen.n; k += 17)
			content_check(w, w->seen.v[k].msg, number_of(w->seen.v[k].id));
	}
	assert_int_equal(w->troubles, 0);
	world_free(w);
}

static void test_wrap(void **state)
{
	(void)state;
	wrap(true);
	wrap(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life), cmocka_unit_test(test_crash), cmocka_unit_test(test_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

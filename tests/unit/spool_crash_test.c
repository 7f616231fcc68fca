/* SPDX-License-Identifier: ISC */
/* Crash states: a random workload's file-system calls are recorded; for every prefix of them, what a power cut could leave is made
 * in several ways and recovered. Whatever had been confirmed must be there, whole; nothing may be there in part.
 *   SPOOL_CRASH_SEED    repeats a run (the seed is printed)
 *   SPOOL_CRASH_RUNS    how many runs (default 6)
 *   SPOOL_CRASH_STEPS   steps of the workload in each (default 60); every third run is five times as
 *                       long, and looks at one prefix in six */
#include "tests/unit/spool_record_fs.h"

enum { MESSAGES_MAX = 4000, RECORDS_MAX = 8 };

struct fate {               /* of a message: numbers of operations, 0: not yet */
	struct spool_msg *msg;
	size_t size, begun, submitted, committed, finished, removed, aborted;
	unsigned n_recorded, n_rcpt;
	size_t recorded[RECORDS_MAX];
};

struct run {
	struct recorder rec;
	struct spool *spool;
	char live[280], scratch[240], base[200];
	bool child;
	struct fate *fate;
	unsigned n, seed;
	struct arena arena;
	struct spool_stats stats;
	unsigned long states, nested, found;
};

static unsigned rnd(struct run *run, unsigned n)
{
	return (unsigned)rand_r(&run->seed) % n;
}

/* ---- the workload ---- */

static size_t event(struct run *run)
{
	size_t n;

	pthread_mutex_lock(&run->rec.mutex);
	rec_add(&run->rec, OP_EVENT, 0);
	n = run->rec.n_ops;
	pthread_mutex_unlock(&run->rec.mutex);
	return n;
}

static unsigned number_of(const char *id)
{
	return (unsigned)atoi(id + 7);
}

static void on_commit(void *arg, struct spool_msg *msg, enum status status, const struct err *err)
{
	struct run *run = arg;

	if (status)
		fail_msg("commit of %s: %s", msg->id, err->text);
	run->fate[number_of(msg->id)].committed = event(run);
}

static void on_record(void *arg, struct spool_msg *msg, enum status status, const struct err *err)
{
	struct run *run = arg;
	struct fate *f = &run->fate[number_of(msg->id)];
	unsigned i = 0;

	(void)err;
	assert_int_equal(status, ST_OK);
	while (f->recorded[i])
		i++;
	f->recorded[i] = event(run);
}

static void step_begin(struct run *run)
{
	static const unsigned sizes[] = { 0, 1, 300, 2000, 3900, 9000, 30000 };
	struct fate *f = &run->fate[run->n];
	struct ipc_spool_envelope e;
	struct err err = ERR_INIT;
	char id[SPOOL_ID_MAX + 1], *p;
	int fd;

	id_make(id, run->n++);
	f->size = sizes[rnd(run, 7)] + rnd(run, 50);
	f->n_rcpt = 1 + rnd(run, 3);
	f->begun = event(run);
	if ((rnd(run, 4) ? spool_create : spool_create_file)(run->spool, id, &f->msg, &fd, NULL, &err))
		fail_msg("create: %s", err.text);
	p = malloc(f->size + 1);
	content_fill(p, f->size, run->n - 1);
	for (size_t at = 0; at < f->size; at += 8000)
		rec_pwrite(&run->rec, fd, p + at, f->size - at < 8000 ? f->size - at : 8000, (off_t)(SPOOL_CONTENT_OFFSET + at));
	close(fd);
	if (f->msg->memory && rnd(run, 6) == 0) {
		if (spool_grow(run->spool, f->msg, &fd, NULL, &err))
			fail_msg("grow: %s", err.text);
		if (rnd(run, 3)) { /* else the commit comes before the writer has moved */
			rec_pwrite(&run->rec, fd, p, f->size, SPOOL_CONTENT_OFFSET);
			spool_grown(run->spool, f->msg);
		}
		close(fd);
	}
	free(p);
	if (rnd(run, 12) == 0) {
		f->aborted = event(run);
		spool_abort(run->spool, f->msg);
		f->msg = NULL;
		return;
	}
	e = envelope_make(&run->arena, id, f->size, f->n_rcpt);
	f->submitted = event(run);
	if (spool_commit(run->spool, f->msg, &e, on_commit, run, &err))
		fail_msg("commit: %s", err.text);
}

static struct fate *live_pick(struct run *run)
{
	for (unsigned tries = 0; tries < 20 && run->n; tries++) {
		struct fate *f = &run->fate[rnd(run, run->n)];

		if (f->msg && f->committed && !f->finished)
			return f;
	}
	return NULL;
}

static void step_record(struct run *run)
{
	struct fate *f = live_pick(run);
	struct ipc_spool_record r;
	struct err err = ERR_INIT;

	if (!f || f->n_recorded == RECORDS_MAX)
		return;
	r = record_make(f->n_recorded, DELIVERY_DEFERRED);
	f->n_recorded++;
	if (spool_record(run->spool, f->msg, &r, 1, on_record, run, &err))
		fail_msg("record: %s", err.text);
}

static void step_finish(struct run *run)
{
	struct fate *f = live_pick(run);

	if (!f)
		return;
	f->finished = event(run);
	spool_finish(run->spool, f->msg);
	f->msg = NULL;
}

/* In a branch: what survived goes on, with as many records as are there. */
static void on_alive(void *arg, const struct spool_loaded *loaded)
{
	struct run *run = arg;
	struct fate *f = &run->fate[number_of(loaded->msg->id)];
	struct err err = ERR_INIT;
	int fd = spool_open_reader(run->spool, loaded->msg, &err);

	assert_true(!f->removed);
	if (fd < 0) {
		assert_true(!f->committed);
		assert_int_equal(spool_set_aside(run->spool, loaded->msg, err.text, &err), ST_OK);
		return;
	}
	close(fd);
	f->n_recorded = loaded->n_records;
	for (unsigned i = 0; i < RECORDS_MAX; i++)
		f->recorded[i] = i < f->n_recorded ? event(run) : 0;
	f->committed = event(run);
	f->finished = 0;
	f->msg = loaded->msg;
}

static void work(struct run *run, unsigned steps, bool inline_io)
{
	struct spool_options opt = { .dir = run->live, .segment_size = 64 * 1024, .segments = 4, .segments_max = 4 + rnd(run, 3), .settle_ms = rnd(run, 2) ? 1 + rnd(run, 4) : 1000000, .inline_io = inline_io,
		.fs = &run->rec.fs };
	struct err err = ERR_INIT;

	if (spool_open(&run->spool, &opt, &err))
		fail_msg("open: %s", err.text);
	while (spool_scan_next(run->spool, 100, on_alive, run, &err) == ST_OK)
		;
	for (unsigned i = 0; i < steps; i++) {
		unsigned burst = rnd(run, 6);

		for (unsigned k = 0; k <= burst; k++) {
			unsigned what = rnd(run, 10);

			if (what < 4 && run->n < MESSAGES_MAX)
				step_begin(run);
			else if (what < 7)
				step_record(run);
			else
				step_finish(run);
		}
		spool_turn(run->spool, rnd(run, 2));
		if (rnd(run, 3) == 0)
			usleep(1000);
	}
	for (unsigned i = 0; i < 5; i++)
		spool_turn(run->spool, true);
	spool_stats_get(run->spool, &run->stats);
	/* An orderly end, cut off too, or none. */
	(rnd(run, 2) ? spool_drop : spool_close)(run->spool);
}

/* ---- what must hold ---- */

struct check {
	struct run *run;
	struct spool *spool;
	size_t prefix;
	const char *how;
	bool *there;
	char trouble[600];
	unsigned troubles;
};

/* A removal is made only when the finish that ordered it is durable. */
static void removals_find(struct run *run, size_t from)
{
	for (size_t i = from; i < run->rec.n_ops; i++) {
		const struct op *op = &run->rec.ops[i];

		if (op->type == OP_UNLINK && strlen(op->data) > 8 && !strncmp(op->data, "1vMxyz-", 7))
			run->fate[number_of(op->data)].removed = i + 1;
	}
}

#define CHECK(c, cond, ...) do { if (!(cond)) check_fail(c, #cond, __VA_ARGS__); } while (0)
static void check_fail(struct check *c, const char *what, const char *id)
{
	fail_msg("after %zu operations (%s), message %s: %s does not hold; last trouble: %s", c->prefix, c->how, id, what, c->trouble);
}

static void on_trouble(void *arg, const struct spool_trouble *t)
{
	struct check *c = arg;
	const char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path;

	snprintf(c->trouble, sizeof c->trouble, "%s: %s", t->path, t->text);
	/* Only what nobody was told of may be set aside. */
	if (t->kind == SPOOL_DAMAGED && !strncmp(name, "1vMxyz-", 7)) {
		const struct fate *f = &c->run->fate[number_of(name)];

		if (!f->committed || f->committed > c->prefix)
			return;
	}
	c->troubles++;
}

static bool content_same(struct check *c, struct spool_msg *msg, const struct fate *f)
{
	struct err err = ERR_INIT;
	int fd = spool_open_reader(c->spool, msg, &err);
	char *got, *want;
	bool same;

	if (fd < 0) {
		snprintf(c->trouble, sizeof c->trouble, "%s", err.text);
		return false;
	}
	got = malloc(f->size + 1);
	want = malloc(f->size + 1);
	content_fill(want, f->size, (unsigned)(f - c->run->fate));
	same = msg->content == f->size && pread(fd, got, f->size, SPOOL_CONTENT_OFFSET) == (ssize_t)f->size && !memcmp(got, want, f->size);
	if (!same)
		fail_msg("after %zu operations (%s), message %s would be delivered with a wrong content", c->prefix, c->how, msg->id);
	close(fd);
	free(got);
	free(want);
	return same;
}

static void on_found(void *arg, const struct spool_loaded *loaded)
{
	struct check *c = arg;
	const char *id = loaded->msg->id;
	unsigned number = number_of(id), durable = 0;
	const struct fate *f = &c->run->fate[number];

	CHECK(c, number < c->run->n, id);
	CHECK(c, !c->there[number], id);
	CHECK(c, f->begun <= c->prefix, id);
	CHECK(c, f->submitted && f->submitted <= c->prefix, id);
	CHECK(c, !f->removed || f->removed > c->prefix, id);
	CHECK(c, !f->aborted, id);
	if (!content_same(c, loaded->msg, f)) {
		struct err err = ERR_INIT;

		CHECK(c, !f->committed || f->committed > c->prefix, id);
		CHECK(c, spool_set_aside(c->spool, loaded->msg, "damaged", &err) == ST_OK, id);
		return;
	}
	c->there[number] = true;
	CHECK(c, loaded->envelope->n_recipients == f->n_rcpt, id);
	while (durable < RECORDS_MAX && f->recorded[durable] && f->recorded[durable] <= c->prefix)
		durable++;
	CHECK(c, loaded->n_records >= durable && loaded->n_records <= f->n_recorded, id);
	for (unsigned i = 0; i < loaded->n_records; i++)
		CHECK(c, loaded->records[i].recipient == i && loaded->records[i].outcome, id);
}

static void check_state(struct run *run, const char *dir, size_t prefix, const char *how, const struct spool_fs *fs)
{
	struct check c = { .run = run, .prefix = prefix, .how = how, .there = calloc(run->n + 1, 1) };
	struct spool_options opt = { .dir = dir, .segment_size = 64 * 1024, .segments = 4, .segments_max = 4, .inline_io = true, .trouble = on_trouble, .arg = &c,
		.fs = fs };
	struct err err = ERR_INIT;

	if (spool_open(&c.spool, &opt, &err))
		fail_msg("after %zu operations (%s): %s", prefix, how, err.text);
	while (spool_scan_next(c.spool, 100, on_found, &c, &err) == ST_OK)
		;
	for (unsigned i = 0; i < run->n; i++) {
		const struct fate *f = &run->fate[i];
		char id[SPOOL_ID_MAX + 1];

		id_make(id, i);
		if (f->committed && f->committed <= prefix && (!f->finished || f->finished > prefix))
			CHECK(&c, c.there[i], id);
		run->found += c.there[i];
	}
	if (c.troubles)
		fail_msg("after %zu operations (%s): %s", prefix, how, c.trouble);
	free(c.there);
	spool_drop(c.spool);
	run->states++;
}

static void tree_remove(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir))) {
		char inner[600];

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
		if (unlink(inner) && errno == EISDIR)
			tree_remove(inner);
	}
	closedir(dir);
	rmdir(path);
}

/* What is in `path` becomes the durable beginning of a recorder's story. */
static void adopt(struct recorder *r, int above, const char *path, const char *name)
{
	struct stat st;
	int object;
	struct op *op;

	assert_int_equal(lstat(path, &st), 0);
	object = rec_object_new(r, S_ISDIR(st.st_mode), st.st_ino);
	op = rec_add(r, OP_LINK, above);
	op->target = object;
	op->data = strdup(name);
	if (S_ISDIR(st.st_mode)) {
		DIR *dir = opendir(path);
		struct dirent *e;

		while ((e = readdir(dir))) {
			char inner[600];

			if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
				continue;
			snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
			adopt(r, object, inner, e->d_name);
		}
		closedir(dir);
	} else {
		int fd = open(path, O_RDONLY);

		op = rec_add(r, OP_WRITE, object);
		op->data = malloc((size_t)st.st_size + 1);
		op->length = (uint32_t)st.st_size;
		assert_int_equal(pread(fd, op->data, op->length, 0), op->length);
		close(fd);
	}
	rec_add(r, OP_SYNC, object);
}

static void replay_some(struct run *run, size_t from, unsigned every);

static size_t earlier(size_t when, size_t prefix)
{
	return when && when <= prefix ? 1 : 0;
}

/* Life goes on after a crash, in a branch of its own, and is cut off again: in the recovery or later. */
static void branch(struct run *parent, size_t prefix)
{
	struct run *run = calloc(1, sizeof *run);
	size_t from;

	run->seed = (unsigned)rand_r(&parent->seed);
	run->child = true;
	run->fate = calloc(MESSAGES_MAX, sizeof *run->fate);
	for (; run->n < parent->n && earlier(parent->fate[run->n].begun, prefix); run->n++) {
		struct fate *f = &run->fate[run->n];

		*f = parent->fate[run->n];
		f->msg = NULL;
		f->begun = 1;
		f->submitted = earlier(f->submitted, prefix);
		f->committed = earlier(f->committed, prefix);
		f->finished = earlier(f->finished, prefix);
		f->removed = earlier(f->removed, prefix);
		f->aborted = earlier(f->aborted, prefix);
		for (unsigned i = 0; i < RECORDS_MAX; i++)
			f->recorded[i] = earlier(f->recorded[i], prefix);
	}
	snprintf(run->base, sizeof run->base, "%.150s/branch", parent->base);
	snprintf(run->live, sizeof run->live, "%s/spool", parent->scratch);
	snprintf(run->scratch, sizeof run->scratch, "%s", run->base);
	recorder_init(&run->rec);
	if (!access(run->live, F_OK))
		adopt(&run->rec, 0, run->live, "spool");
	rec_add(&run->rec, OP_SYNC, 0);
	from = run->rec.n_ops;
	work(run, rnd(run, 4) ? 4 : 40, rnd(run, 2));
	removals_find(run, from);
	replay_some(run, from, 1 + (unsigned)(run->rec.n_ops - from) / 8);
	parent->nested += run->states;
	recorder_clear(&run->rec);
	arena_clear(&run->arena);
	free(run->fate);
	free(run);
}

static void replay_some(struct run *run, size_t from, unsigned every)
{
	static const char *const names[CUTS] = { "nothing unsynced kept", "everything kept", "a random part kept" };
	struct disk disk;

	disk_init(&disk, &run->rec);
	for (size_t prefix = 0; prefix <= run->rec.n_ops; prefix++) {
		if (prefix)
			disk_apply(&disk, prefix - 1);
		if (prefix < from || (every > 1 && rnd(run, every)))
			continue;
		if (prefix && run->rec.ops[prefix - 1].type == OP_EVENT && prefix < run->rec.n_ops)
			continue; /* the same disk as before; the next one asks for more */
		for (int cut = 0; cut < CUTS; cut++) {
			char dir[280];

			tree_remove(run->scratch);
			disk_materialise(&disk, 0, run->scratch, (enum cut)cut, &run->seed);
			if (!run->child && rnd(run, 40) == 0) {
				branch(run, prefix);
				continue;
			}
			snprintf(dir, sizeof dir, "%s/spool", run->scratch);
			check_state(run, dir, prefix, names[cut], NULL);
		}
	}
	tree_remove(run->scratch);
	disk_clear(&disk);
}

/* every: one in so many prefixes is looked at. */
static void one_run(unsigned seed, unsigned steps, unsigned every, bool inline_io, const char *base)
{
	struct run *run = calloc(1, sizeof *run);

	print_message("seed %u, %u steps, %s\n", seed, steps, inline_io ? "one thread" : "threads");
	run->seed = seed;
	run->fate = calloc(MESSAGES_MAX, sizeof *run->fate);
	snprintf(run->base, sizeof run->base, "%.150s", base);
	snprintf(run->live, sizeof run->live, "%.150s/live/spool", base);
	snprintf(run->scratch, sizeof run->scratch, "%.150s/scratch", base);
	assert_int_equal(mkdir(base, 0700), 0);
	{
		char above[200];

		snprintf(above, sizeof above, "%.150s/live", base);
		assert_int_equal(mkdir(above, 0700), 0);
	}
	recorder_init(&run->rec);
	work(run, steps, inline_io);
	removals_find(run, 0);
	replay_some(run, 0, every);
	print_message("  %lu commits, %lu of them by their own file, %lu settled, %lu records, %lu finished; %lu KB of journal in %u segments\n",
		(unsigned long)run->stats.commits, (unsigned long)run->stats.large, (unsigned long)run->stats.settled,
		(unsigned long)run->stats.records, (unsigned long)run->stats.finishes, (unsigned long)run->stats.batch_octets / 1024, run->stats.segments);
	print_message("  %u messages, %zu operations; %lu states and %lu of a second crash recovered, %lu messages found in them\n", run->n,
		run->rec.n_ops, run->states, run->nested, run->found);
	recorder_clear(&run->rec);
	arena_clear(&run->arena);
	free(run->fate);
	free(run);
	tree_remove(base);
}

static unsigned env_number(const char *name, unsigned otherwise)
{
	const char *v = getenv(name);

	return v ? (unsigned)strtoul(v, NULL, 10) : otherwise;
}

static void test_crash_states(void **state)
{
	unsigned runs = env_number("SPOOL_CRASH_RUNS", 6), steps = env_number("SPOOL_CRASH_STEPS", 60);
	unsigned seed = env_number("SPOOL_CRASH_SEED", (unsigned)clock_wall_us());
	char *base = strdup(scratch_make("crash"));

	(void)state;
	for (unsigned i = 0; i < runs; i++)
		one_run(seed + i, i % 3 == 2 ? steps * 5 : steps, i % 3 == 2 ? 6 : 1, i % 2 == 0, base);
	free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_crash_states) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

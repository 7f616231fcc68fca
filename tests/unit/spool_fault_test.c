/* SPDX-License-Identifier: ISC */
/* The spool on a full disk and on a broken one: failures injected through the table of system calls. */
#include "common/spool/priv.h"
#include "tests/unit/spool_world.h"

enum { SEGMENT = 256 * 1024 };

struct faults {
	struct spool_fs fs;
	struct {
		_Atomic int write, open, sync, dir_sync;  /* errno to give, 0: none */
		bool short_writes;
		_Atomic long room;                   /* octets that may still be written, -1: no limit */
	} now;
};

static ssize_t faulty_pwrite(void *arg, int fd, const void *p, size_t n, off_t at)
{
	struct faults *f = arg;
	struct stat st;

	if (f->now.write) {
		errno = f->now.write;
		return -1;
	}
	if (f->now.room >= 0 && !fstat(fd, &st) && st.st_size != SEGMENT) { /* the journal is allocated */
		if (!f->now.room) {
			errno = ENOSPC;
			return -1;
		}
		n = n < (size_t)f->now.room ? n : (size_t)f->now.room;
		f->now.room -= (long)n;
	}
	if (f->now.short_writes && n > 1)
		n = n / 2;
	return pwrite(fd, p, n, at);
}

static ssize_t faulty_pread(void *arg, int fd, void *p, size_t n, off_t at)
{
	struct faults *f = arg;

	return pread(fd, p, f->now.short_writes && n > 1 ? n / 2 : n, at);
}

static int faulty_open(void *arg, int dir_fd, const char *path, int flags, mode_t mode)
{
	struct faults *f = arg;

	if (f->now.open && (flags & O_CREAT)) {
		errno = f->now.open;
		return -1;
	}
	return spool_fs_real.open(NULL, dir_fd, path, flags, mode);
}

static int faulty_fdatasync(void *arg, int fd)
{
	struct faults *f = arg;

	(void)fd;
	errno = f->now.sync;
	return f->now.sync ? -1 : 0;
}

static int faulty_fsync(void *arg, int fd)
{
	struct faults *f = arg;

	(void)fd;
	errno = f->now.dir_sync;
	return f->now.dir_sync ? -1 : 0;
}

static struct world *faulty_new(const char *name, struct faults *f, bool inline_io)
{
	struct world *w = calloc(1, sizeof *w);

	f->fs = spool_fs_real;
	f->fs.pwrite = faulty_pwrite;
	f->fs.pread = faulty_pread;
	f->fs.open = faulty_open;
	f->fs.fdatasync = faulty_fdatasync;
	f->fs.fsync = faulty_fsync;
	f->fs.arg = f;
	memset(&f->now, 0, sizeof f->now);
	f->now.room = -1;
	w->dir = strdup(scratch_make(name));
	w->opt = (struct spool_options){ .dir = w->dir, .segment_size = SEGMENT, .segments = 4, .segments_max = 4, .inline_io = inline_io, .trouble = on_trouble,
		.health = on_health, .arg = w, .fs = &f->fs, .settle_ms = 1 };
	world_open(w);
	return w;
}

static void test_short_calls(void **state)
{
	struct faults f;
	struct world *w = faulty_new("short", &f, true);

	(void)state;
	f.now.short_writes = true;
	for (unsigned i = 0; i < 30; i++)
		commit(w, i, i * 700, 2);
	wait_for(w, 30);
	assert_int_equal(w->failed, 0);
	usleep(3000);
	spool_turn(w->spool, false);
	spool_drop(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 30);
	for (unsigned i = 0; i < 30; i++)
		content_check(w, w->seen.v[i].msg, number_of(w->seen.v[i].id));
	world_free(w);
}

/* No space for files: commits of small messages still have the journal; then new ones are refused, results are kept, and finishing
 * goes on. Space again: everything by itself. */
static void test_full(void **state)
{
	struct faults f;
	struct world *w = faulty_new("full", &f, true);
	struct spool_msg *msg[10], *large, *no;
	struct ipc_spool_envelope e;
	struct err err = ERR_INIT;
	unsigned done;
	int fd;

	(void)state;
	w->spool->opt.settle_ms = 60000; /* not before there is no room */
	for (unsigned i = 0; i < 10; i++)
		msg[i] = commit(w, i, 1000, 1);
	wait_for(w, 10);
	large = begin(w, 20, 200000);
	f.now.open = ENOSPC;
	assert_int_equal(spool_create_file(w->spool, "1vMxyz-000050-AB", &no, &fd, NULL, &err), ST_DEFER);
	assert_non_null(strstr(err.text, "No space"));
	f.now.open = 0;
	f.now.room = 0;
	e = envelope_make(&w->arena, large->id, 200000, 1);
	assert_int_equal(spool_commit(w->spool, large, &e, on_done, w, &err), ST_OK);
	wait_for(w, 11);
	assert_int_equal(w->failed, 1);
	assert_non_null(strstr(w->last_error, "No space"));
	spool_abort(w->spool, large);
	w->spool->opt.settle_ms = 1;
	for (unsigned i = 0; i < 500 && w->health != SPOOL_FULL; i++) { /* settles, in vain */
		usleep(2000);
		spool_turn(w->spool, false);
	}
	assert_int_equal(w->health, SPOOL_FULL);
	assert_int_equal(spool_create(w->spool, "1vMxyz-000051-AB", &no, &fd, NULL, &err), ST_DEFER);
	done = w->done;
	for (unsigned i = 0; i < 5; i++)
		record(w, msg[i], 0, DELIVERY_OK);
	wait_for(w, done + w->failed + 5);
	assert_int_equal(w->health, SPOOL_FULL);
	for (unsigned i = 0; i < 3; i++)
		spool_finish(w->spool, msg[i]);
	f.now.room = -1;
	for (unsigned i = 0; i < 400 && w->health == SPOOL_FULL; i++) {
		usleep(10000);
		spool_turn(w->spool, false);
	}
	assert_int_equal(w->health, SPOOL_GOOD);
	spool_drop(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 7);
	assert_int_equal(w->damaged, 0);
	world_free(w);
}

/* The journal's sync fails: all who waited are refused, no more is taken, what was recorded is kept; after the check all is well. */
static void broken(bool inline_io, bool at_write)
{
	struct faults f;
	struct world *w = faulty_new("broken", &f, inline_io);
	struct spool_msg *msg[10], *bad[5], *no;
	struct err err = ERR_INIT;
	int fd;

	w->opt.settle_ms = 1000000;
	for (unsigned i = 0; i < 10; i++)
		msg[i] = commit(w, i, 1000, 1);
	wait_for(w, 10);
	*(at_write ? &f.now.write : &f.now.sync) = EIO;
	for (unsigned i = 0; i < 5; i++) {
		f.now.write = 0;
		bad[i] = commit(w, 20 + i, 1000, 1);
		f.now.write = at_write ? EIO : 0;
		record(w, msg[i], 0, DELIVERY_OK);
	}
	while (w->failed < 5)
		spool_turn(w->spool, true);
	assert_int_equal(w->done, 10); /* nobody was told that a record is durable */
	assert_int_equal(w->health, SPOOL_BROKEN);
	assert_true(w->troubles > 0);
	assert_non_null(strstr(w->last_error, "Input/output error"));
	for (unsigned i = 0; i < 5; i++)
		spool_abort(w->spool, bad[i]);
	assert_int_equal(spool_create(w->spool, "1vMxyz-000050-AB", &no, &fd, NULL, &err), ST_DEFER);
	spool_finish(w->spool, msg[9]);
	for (unsigned i = 0; i < 20; i++)
		spool_turn(w->spool, false);
	assert_int_equal(w->done, 10);
	assert_int_equal(spool_check(w->spool, &err), ST_DEFER);
	assert_int_equal(w->health, SPOOL_BROKEN);
	f.now.write = f.now.sync = 0;
	if (spool_check(w->spool, &err))
		fail_msg("check: %s", err.text);
	assert_int_equal(w->health, SPOOL_GOOD);
	wait_for(w, 10 + 5 + 5);
	assert_int_equal(w->done, 15);
	commit(w, 40, 1000, 1);
	wait_for(w, 21);
	spool_drop(w->spool);
	w->troubles = 0;
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 10);
	for (unsigned i = 0; i < w->seen.n; i++) {
		unsigned n = number_of(w->seen.v[i].id);

		assert_true(n < 9 || n == 40);
		assert_int_equal(w->seen.v[i].n_records, n < 5);
	}
	assert_int_equal(w->troubles, 0);
	world_free(w);
}

static void test_broken(void **state)
{
	(void)state;
	broken(true, false);
	broken(false, false);
	broken(true, true);
	broken(false, true);
}

/* A large message's own file can't be synced: it is refused, and the spool is to be checked. */
static void test_broken_file(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct faults f;
		struct world *w = faulty_new("brokenfile", &f, i);
		struct err err = ERR_INIT;
		struct spool_msg *msg = commit(w, 1, 200000, 1);

		*(i ? &f.now.dir_sync : &f.now.sync) = EIO;
		wait_for(w, 1);
		assert_int_equal(w->failed, 1);
		assert_int_equal(w->health, SPOOL_BROKEN);
		f.now.sync = f.now.dir_sync = 0;
		spool_abort(w->spool, msg);
		assert_int_equal(spool_check(w->spool, &err), ST_OK);
		commit(w, 2, 200000, 1);
		wait_for(w, 2);
		assert_int_equal(w->failed, 1);
		spool_close(w->spool);
		world_open(w);
		scan_all(w);
		assert_int_equal(w->seen.n, 1);
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_calls), cmocka_unit_test(test_full), cmocka_unit_test(test_broken), cmocka_unit_test(test_broken_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

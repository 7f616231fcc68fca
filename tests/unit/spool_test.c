/* SPDX-License-Identifier: ISC */
/* The spool from outside: messages come in, live, end; stops and starts; files cut off, changed, and not ours. */
#include "tests/unit/spool_world.h"

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
	unsigned total = 0, alive = 0, wanted = 0;
	struct spool_stats stats;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 600; i++, total++) {
			struct spool_msg *msg = commit(w, total, 6000, 1);

			wanted++;
			if (i % 10 == 9 || round == 2) {
				wait_for(w, wanted);
				record(w, msg, 0, DELIVERY_DEFERRED);
				wait_for(w, ++wanted);
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

/* ---- the form of files ---- */

static char *file_image(struct world *w, size_t *size_out, unsigned n_records)
{
	struct spool_msg *msg = commit(w, 7, 500, 2);
	struct err err = ERR_INIT;
	struct stat st;
	char *image;
	int fd;

	wait_for(w, w->done + w->failed + 1);
	for (unsigned i = 0; i < n_records; i++)
		record(w, msg, i, DELIVERY_DEFERRED);
	wait_for(w, w->done + w->failed + n_records);
	fd = spool_export(w->spool, msg, &err);
	if (fd < 0)
		fail_msg("export: %s", err.text);
	assert_int_equal(fstat(fd, &st), 0);
	image = malloc((size_t)st.st_size);
	*size_out = (size_t)st.st_size;
	assert_int_equal(pread(fd, image, *size_out, 0), *size_out);
	assert_true(pwrite(fd, "x", 1, 0) < 0);
	close(fd);
	spool_finish(w->spool, msg);
	spool_turn(w->spool, true);
	spool_turn(w->spool, true);
	return image;
}

/* Puts a file where message 7 belongs and lets the spool find it. */
static void place(struct world *w, const char *image, size_t size)
{
	char path[400];
	int fd;

	spool_close(w->spool);
	snprintf(path, sizeof path, "%s/queue/%02x/1vMxyz-000007-AB", w->dir, spool_crc(0, "1vMxyz-000007-AB", 16) % 64);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, image, size), size);
	close(fd);
	w->troubles = w->damaged = w->foreign = 0;
	/* The journal still tells that the message is finished, which would remove it: this is about the file alone. */
	snprintf(path, sizeof path, "%s/journal", w->dir);
	scratch_remove(path);
	world_open(w);
	scan_all(w);
}

static void damaged_clear(struct world *w)
{
	char command[400];

	snprintf(command, sizeof command, "rm -f %.200s/damaged/*", w->dir);
	assert_int_equal(system(command), 0);
}

/* Every place where a file can end: whole up to a record's end it is a message with fewer records, otherwise it is set aside (or, below
 * the size of a head, is nothing at all). */
static void test_truncation(void **state)
{
	struct world *w = world_new("cut", true);
	size_t size, tail;
	char *image;
	struct spool_head head;

	(void)state;
	image = file_image(w, &size, 3);
	assert_int_equal(spool_head_decode((unsigned char *)image, &head), SPOOL_HEAD_COMPLETE);
	tail = SPOOL_HEAD + head.content + head.envelope;
	for (size_t n = 0; n <= size; n += n < tail - 3 && n > 70 ? 13 : 1) {
		struct str records = str_make(image + tail, n > tail ? n - tail : 0);
		uint32_t whole;
		bool sound = n >= tail && spool_records_span(records, head.salt, 1, &whole) == records.len;

		place(w, image, n);
		if (w->seen.n != sound || (sound && w->seen.v[0].n_records != whole))
			fail_msg("cut to %zu of %zu: %u messages, want %d; %s", n, size, w->seen.n, sound, w->last_trouble);
		if (!sound && w->damaged != (n > 0))
			fail_msg("cut to %zu of %zu: %u set aside; %s", n, size, w->damaged, w->last_trouble);
		damaged_clear(w);
	}
	free(image);
	world_free(w);
}

/* Every octet of a file changed: the message is set aside, when it is found or when its content is first wanted. */
static void test_bit_flips(void **state)
{
	struct world *w = world_new("flip", true);
	unsigned seed = 1;
	struct spool_head head;
	size_t size;
	char *image;

	(void)state;
	image = file_image(w, &size, 2);
	assert_int_equal(spool_head_decode((unsigned char *)image, &head), SPOOL_HEAD_COMPLETE);
	for (size_t i = 0; i < size; i++) {
		char flip = (char)(1 << rand_r(&seed) % 8);
		struct err err = ERR_INIT;

		if (i > 100 && i < SPOOL_HEAD + head.content && i % 29)
			continue;
		image[i] ^= flip;
		place(w, image, size);
		if (w->seen.n) {
			if (i < SPOOL_HEAD || i >= SPOOL_HEAD + head.content)
				fail_msg("octet %zu of %zu changed: accepted", i, size);
			assert_int_equal(spool_open_reader(w->spool, w->seen.v[0].msg, &err), -1);
			assert_int_equal(err.status, ST_ERROR);
			assert_int_equal(spool_set_aside(w->spool, w->seen.v[0].msg, err.text, &err), ST_OK);
		}
		if (w->damaged != 1)
			fail_msg("octet %zu of %zu changed: %u set aside", i, size, w->damaged);
		damaged_clear(w);
		image[i] ^= flip;
	}
	free(image);
	world_free(w);
}

static void put_file(struct world *w, const char *name, const char *data, size_t n)
{
	char path[400];
	int fd;

	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, n), n);
	close(fd);
}

static bool is_there(struct world *w, const char *name)
{
	char path[400];

	snprintf(path, sizeof path, "%.200s/%.100s", w->dir, name);
	return !access(path, F_OK);
}

/* What is not ours stays where it is; everything else goes on. */
static void test_foreign(void **state)
{
	struct world *w = world_new("foreign", false);
	char path[400], zeros[5000] = { 0 };

	(void)state;
	commit(w, 1, 100, 1);
	wait_for(w, 1);
	spool_close(w->spool);
	put_file(w, "queue/README", "x", 1);
	put_file(w, "queue/00/core.1234", "x", 1);
	put_file(w, "queue/00/1vMxyz-000001-AB.bak", "x", 1);
	put_file(w, "journal/notes", "x", 1);
	snprintf(path, sizeof path, "queue/%02x/1vMxyz-000008-AB", spool_crc(0, "1vMxyz-000008-AB", 16) % 64);
	put_file(w, path, zeros, sizeof zeros); /* what some file systems leave of a file that was not synced */
	snprintf(path, sizeof path, "%s/queue/%02x/1vMxyz-000009-AB", w->dir, spool_crc(0, "1vMxyz-000009-AB", 16) % 64);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 1);
	assert_int_equal(w->foreign, 4);
	assert_int_equal(w->damaged, 0);
	assert_true(is_there(w, "queue/README") && is_there(w, "queue/00/core.1234") && is_there(w, "queue/00/1vMxyz-000001-AB.bak"));
	snprintf(path, sizeof path, "queue/%02x/1vMxyz-000008-AB", spool_crc(0, "1vMxyz-000008-AB", 16) % 64);
	assert_false(is_there(w, path));
	world_free(w);
}

/* ---- the administrator ---- */

static void test_export_import(void **state)
{
	struct world *w = world_new("export", false);
	struct err err = ERR_INIT;
	struct spool_msg *young, *large, *copy;
	int fd;

	(void)state;
	young = commit(w, 1, 4000, 3);
	large = commit(w, 2, 900000, 3);
	wait_for(w, 2);
	record(w, young, 0, DELIVERY_OK);
	record(w, large, 1, DELIVERY_OK);
	wait_for(w, 4);
	for (int i = 0; i < 2; i++) {
		struct spool_msg *msg = i ? large : young;

		fd = spool_export(w->spool, msg, &err);
		if (fd < 0)
			fail_msg("export: %s", err.text);
		assert_int_equal(spool_import(w->spool, msg->id, fd, &copy, on_done, w, &err), ST_FAIL);
		if (spool_import(w->spool, i ? "1vMxyz-000012-AB" : "1vMxyz-000011-AB", fd, &copy, on_done, w, &err))
			fail_msg("import: %s", err.text);
		wait_for(w, 5 + 2 * (unsigned)i);
		assert_int_equal(w->failed, 0);
		close(fd);
		content_check(w, copy, i ? 2 : 1);
		assert_int_equal(records_of(w, copy), 1);
		record(w, copy, 2, DELIVERY_OK);
	}
	/* Exported, removed, and taken back under its own name: the removal that the journal tells of is of before. */
	fd = spool_export(w->spool, young, &err);
	spool_finish(w->spool, young);
	while (spool_import(w->spool, "1vMxyz-000001-AB", fd, &copy, on_done, w, &err))
		spool_turn(w->spool, true);
	wait_for(w, 9);
	close(fd);
	spool_drop(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 4);
	assert_int_equal(w->troubles, 0);
	world_free(w);
}

static void test_set_aside(void **state)
{
	struct world *w = world_new("aside", false);
	struct err err = ERR_INIT;
	struct spool_msg *msg = commit(w, 1, 100, 1);

	(void)state;
	wait_for(w, 1);
	assert_int_equal(spool_set_aside(w->spool, msg, "it kills workers", &err), ST_OK);
	assert_true(is_there(w, "damaged/1vMxyz-000001-AB") && is_there(w, "damaged/1vMxyz-000001-AB.reason"));
	spool_close(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 0);
	world_free(w);
}

static void test_lock(void **state)
{
	struct world *w = world_new("lock", false);
	struct spool *second;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(spool_open(&second, &w->opt, &err), ST_DEFER);
	assert_non_null(strstr(err.text, "another queue manager"));
	world_free(w);
}

/* Calls that break the rules are refused with a reason. */
static void test_refusals(void **state)
{
	struct world *w = world_new("refuse", true);
	struct err err = ERR_INIT;
	struct spool_msg *msg, *other;
	struct ipc_spool_envelope e;
	struct ipc_spool_record r = record_make(0, DELIVERY_OK);
	int fd;

	(void)state;
	assert_int_equal(spool_create(w->spool, "../../etc/x", &msg, &fd, NULL, &err), ST_ERROR);
	assert_int_equal(spool_create(w->spool, "", &msg, &fd, NULL, &err), ST_ERROR);
	assert_int_equal(spool_create(w->spool, "a-very-long-name-that-does-not-fit", &msg, &fd, NULL, &err), ST_ERROR);
	msg = begin(w, 1, 100);
	assert_int_equal(spool_create(w->spool, msg->id, &other, &fd, NULL, &err), ST_FAIL);
	assert_int_equal(spool_record(w->spool, msg, &r, 1, on_done, w, &err), ST_ERROR);
	e = envelope_make(&w->arena, msg->id, 101, 1);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR); /* the size is not that of the file */
	e = envelope_make(&w->arena, "1vMxyz-000002-AB", 100, 1);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR);
	e = envelope_make(&w->arena, msg->id, 100, 1);
	e.ret = STR_LIT("far too long for RET");
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR);
	e.ret = STR_NULL;
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_OK);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR);
	wait_for(w, 1);
	r.text = str_make(calloc(1, 5000), 5000);
	assert_int_equal(spool_record(w->spool, msg, &r, 1, on_done, w, &err), ST_ERROR);
	free((void *)(uintptr_t)r.text.p);
	assert_int_equal(records_of(w, msg), 0);
	world_free(w);
}

/* A writer that keeps its content open to change, or that announces what it never wrote. */
static void test_hostile_writer(void **state)
{
	struct world *w = world_new("hostile", true);
	struct err err = ERR_INIT;
	struct ipc_spool_envelope e;
	struct spool_msg *msg;
	char id[SPOOL_ID_MAX + 1];
	int fd, reader;

	(void)state;
	id_make(id, 1);
	assert_int_equal(spool_create(w->spool, id, &msg, &fd, NULL, &err), ST_OK);
	assert_int_equal(pwrite(fd, "Subject: x\r\n", 12, SPOOL_CONTENT_OFFSET), 12);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
	e = envelope_make(&w->arena, id, 12, 1);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "sealed by somebody else"));
	spool_abort(w->spool, msg);
	close(fd);
	id_make(id, 2);
	err = (struct err)ERR_INIT;
	assert_int_equal(spool_create(w->spool, id, &msg, &fd, NULL, &err), ST_OK);
	assert_int_equal(pwrite(fd, "x", 1, SPOOL_CONTENT_OFFSET + (off_t)999999999999), 1);
	e = envelope_make(&w->arena, id, 1000000000000, 1);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "holes"));
	spool_abort(w->spool, msg);
	close(fd);
	/* a file that can still be written to; as soon as it can't, it is taken */
	id_make(id, 3);
	assert_int_equal(spool_create_file(w->spool, id, &msg, &fd, &reader, &err), ST_OK);
	assert_int_equal(pwrite(fd, "Subject: x\r\n", 12, SPOOL_CONTENT_OFFSET), 12);
	e = envelope_make(&w->arena, id, 12, 1);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "can still write"));
	close(fd);
	assert_int_equal(spool_commit(w->spool, msg, &e, on_done, w, &err), ST_OK);
	wait_for(w, 1);
	close(reader);
	world_free(w);
}

/* Thousands of recipients do not fit a journal entry; many records in one call are cut into pieces. */
static void test_large_envelope(void **state)
{
	struct world *w = world_new("rcpt", false);
	struct spool_msg *msg = commit(w, 1, 100, 20000);
	struct ipc_spool_record *r = calloc(20000, sizeof *r);
	struct err err = ERR_INIT;

	(void)state;
	wait_for(w, 1);
	assert_int_equal(w->done, 1);
	for (unsigned i = 0; i < 20000; i++)
		r[i] = record_make(i, DELIVERY_OK);
	for (unsigned i = 0; i < 20000; i += 500)
		assert_int_equal(spool_record(w->spool, msg, r + i, 500, i + 500 == 20000 ? on_done : NULL, w, &err), ST_OK);
	wait_for(w, 2);
	assert_int_equal(records_of(w, msg), 20000);
	spool_drop(w->spool);
	world_open(w);
	scan_all(w);
	assert_int_equal(w->seen.n, 1);
	assert_int_equal(w->seen.v[0].n_records, 20000);
	free(r);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life), cmocka_unit_test(test_crash), cmocka_unit_test(test_wrap), cmocka_unit_test(test_truncation),
		cmocka_unit_test(test_bit_flips), cmocka_unit_test(test_foreign), cmocka_unit_test(test_export_import),
		cmocka_unit_test(test_set_aside), cmocka_unit_test(test_lock), cmocka_unit_test(test_refusals), cmocka_unit_test(test_hostile_writer),
		cmocka_unit_test(test_large_envelope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

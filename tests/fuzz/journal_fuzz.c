/* SPDX-License-Identifier: ISC */
/* A spool whose journal is anything: it opens, every message that it gives can be read, and a second start finds the same. The input
 * is cut into batches whose checksums are made right, or written as it is. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/spool/journal.h"
#include "common/spool/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEGMENT = 64 * 1024, SEGMENTS = 4 };

struct found {
	struct spool *spool;
	unsigned n, records;
};

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

static void on_found(void *arg, const struct spool_loaded *loaded)
{
	struct found *f = arg;
	struct arena a = ARENA_INIT;
	struct spool_loaded again;
	struct err err = ERR_INIT;
	int fd = spool_open_reader(f->spool, loaded->msg, &err);

	f->n++;
	f->records += loaded->n_records;
	if (fd >= 0)
		close(fd);
	if (spool_load(f->spool, loaded->msg, &a, &again, &err) || again.n_records != loaded->n_records)
		abort();
	arena_clear(&a);
}

static void on_trouble(void *arg, const struct spool_trouble *t)
{
	(void)arg;
	if (getenv("SPOOL_TRACE"))
		fprintf(stderr, "%s: %s\n", t->path, t->text);
}

static struct found start(const char *dir)
{
	struct spool_options opt = { .dir = dir, .trouble = on_trouble, .segment_size = SEGMENT, .segments = SEGMENTS, .inline_io = true };
	struct found f = { 0 };
	struct err err = ERR_INIT;

	if (spool_open(&f.spool, &opt, &err))
	{
		/* No content of the journal may keep a spool shut. */
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	while (spool_scan_next(f.spool, 1000, on_found, &f, &err) == ST_OK)
		;
	return f;
}

/* Octet: how long, in 256ths of the rest, the next batch is; the rest of it: its entries. */
static void batches_write(int fd, const uint8_t *data, size_t size)
{
	off_t at = 0;

	for (uint64_t number = 1; size > 2 && at < SEGMENT; number++) {
		size_t n = (size - 1) * (data[0] + 1u) / 256;
		struct buf b = BUF_INIT;

		n = n < 30000 ? n : 30000;
		journal_batch_open(&b);
		buf_add(&b, data + 1, n);
		journal_batch_close(&b, number + (data[0] == 77), 1, false);
		if (at + (off_t)b.len <= SEGMENT && pwrite(fd, b.p, b.len, at) < 0)
			abort();
		at += (off_t)b.len;
		buf_clear(&b);
		data += n + 1;
		size -= n + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char dir[64], path[100];
	struct found one, two;

	if (size < 2 || size > SEGMENT)
		return 0;
	snprintf(dir, sizeof dir, "/dev/shm/bulkhead-fuzz-%d", (int)getpid());
	tree_remove(dir);
	mkdir(dir, 0700);
	snprintf(path, sizeof path, "%s/journal", dir);
	mkdir(path, 0700);
	for (int i = 0; i < SEGMENTS; i++) {
		int fd;

		snprintf(path, sizeof path, "%s/journal/%02d", dir, i);
		fd = open(path, O_RDWR | O_CREAT, 0600);
		if (fd < 0 || ftruncate(fd, SEGMENT))
			abort();
		if (i == 0 && data[0] & 1)
			batches_write(fd, data + 1, size - 1);
		else if (i == 0 && pwrite(fd, data + 1, size - 1, 0) < 0)
			abort();
		close(fd);
	}
	one = start(dir);
	spool_drop(one.spool);
	two = start(dir);
	spool_close(two.spool);
	if (one.n != two.n || one.records != two.records) {
		fprintf(stderr, "%u messages with %u records, then %u with %u\n", one.n, one.records, two.n, two.records);
		abort();
	}
	tree_remove(dir);
	return 0;
}

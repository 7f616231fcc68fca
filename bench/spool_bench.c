/* SPDX-License-Identifier: ISC */
/* How fast the spool is, alone: messages committed a second with so many waiting at a time, then each recorded and finished; or left in
 * the queue; then how long a scan takes.
 *   spool_bench DIRECTORY [SECONDS [SIZE]]
 *   spool_bench DIRECTORY fill COUNT [SIZE]      leaves a queue
 *   spool_bench DIRECTORY scan                   reads one, and removes it
 * Prints a line a case: messages a second, CPU microseconds a message (user and system), octets of journal a batch. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/enums.h"
#include "common/spool/spool.h"

struct bench {
	struct loop *loop;
	struct spool *spool;
	struct ipc_spool_envelope envelope;
	struct ipc_spool_record record;
	struct ipc_outcome outcome;
	char *content;
	size_t size;
	unsigned long number, done, limit;
	uint64_t until;
	bool keep, stop;
	unsigned waiting;
};

static void start_one(struct bench *b);

static void on_recorded(void *arg, struct spool_msg *msg, enum status status, const struct err *err)
{
	struct bench *b = arg;

	(void)err;
	if (status)
		exit(1);
	spool_finish(b->spool, msg);
	b->done++;
	start_one(b);
}

static void on_committed(void *arg, struct spool_msg *msg, enum status status, const struct err *err)
{
	struct bench *b = arg;
	struct err e = ERR_INIT;
	int fd;

	if (status) {
		fprintf(stderr, "%s\n", err->text);
		exit(1);
	}
	if (b->keep) {
		b->done++;
		start_one(b);
		return;
	}
	/* As a delivery does: a descriptor for the agent, its result, the end. */
	fd = spool_open_reader(b->spool, msg, &e);
	if (fd < 0 || spool_record(b->spool, msg, &b->record, 1, NULL, NULL, &e)) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	close(fd);
	on_recorded(b, msg, ST_OK, NULL);
}

static void start_one(struct bench *b)
{
	struct err err = ERR_INIT;
	struct spool_msg *msg;
	char id[SPOOL_ID_MAX + 1];
	int fd;

	if (clock_ms() >= b->until || b->number >= b->limit) {
		if (!--b->waiting)
			b->stop = true;
		return;
	}
	snprintf(id, sizeof id, "1bench-%06x-%02x", (unsigned)(b->number >> 8) & 0xffffff, (unsigned)(b->number & 0xff));
	b->number++;
	if (spool_create(b->spool, id, &msg, &fd, NULL, &err) || pwrite(fd, b->content, b->size, SPOOL_CONTENT_OFFSET) != (ssize_t)b->size) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	close(fd);
	b->envelope.id = str_of(id);
	b->envelope.content = b->size;
	if (spool_commit(b->spool, msg, &b->envelope, on_committed, b, &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
}

static double cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void bench_open(struct bench *b, const char *dir)
{
	struct spool_options opt = { .dir = dir, .loop = b->loop };
	struct err err = ERR_INIT;

	if (spool_open(&b->spool, &opt, &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
}

static void run_case(struct bench *b, const char *what, unsigned waiting, unsigned seconds)
{
	struct spool_stats before, after;
	double cpu = cpu_us();
	uint64_t start = clock_us();
	unsigned long done = b->done;
	double s;

	spool_stats_get(b->spool, &before);
	b->until = clock_ms() + seconds * 1000u;
	b->waiting = waiting;
	b->stop = false;
	for (unsigned i = 0; i < waiting; i++)
		start_one(b);
	while (!b->stop)
		loop_turn(b->loop, true);
	s = (double)(clock_us() - start) / 1e6;
	spool_stats_get(b->spool, &after);
	done = b->done - done;
	printf("%-12s %6zu octets %4u waiting %8.0f/s  %6.1f us CPU each  %6.1f in a batch  %lu settled %lu direct\n", what, b->size, waiting,
		(double)done / s, (cpu_us() - cpu) / (double)done, (double)done / (double)(after.batches - before.batches),
		(unsigned long)(after.settled - before.settled), (unsigned long)(after.large - before.large));
	fflush(stdout);
}

static void on_scanned(void *arg, const struct spool_loaded *loaded)
{
	struct bench *b = arg;

	if (!b->done++)
		b->until = clock_us();
	(void)loaded;
}

static void on_remove(void *arg, const struct spool_loaded *loaded)
{
	struct bench *b = arg;

	b->done++;
	spool_finish(b->spool, loaded->msg);
}

static size_t rss_kb(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long size = 0, rss = 0;

	if (f && fscanf(f, "%lu %lu", &size, &rss) != 2)
		rss = 0;
	if (f)
		fclose(f);
	return rss * 4;
}

static void run_queue(struct bench *b, const char *dir)
{
	struct err err = ERR_INIT;
	uint64_t start;
	size_t rss;

	rss = rss_kb();
	bench_open(b, dir);
	b->done = 0;
	start = clock_us();
	while (spool_scan_next(b->spool, 1000, on_scanned, b, &err) == ST_OK)
		;
	printf("scan         %lu messages in %.2f s, the first after %.1f ms; %.0f octets of memory each\n", b->done,
		(double)(clock_us() - start) / 1e6, (double)(b->until - start) / 1e3, ((double)rss_kb() - (double)rss) * 1024 / (double)b->done);
	spool_close(b->spool);
	bench_open(b, dir);
	b->done = 0;
	start = clock_us();
	while (spool_scan_next(b->spool, 1000, on_remove, b, &err) == ST_OK)
		spool_turn(b->spool, false);
	spool_close(b->spool);
	printf("remove       %lu messages in %.2f s\n", b->done, (double)(clock_us() - start) / 1e6);
}

int main(int argc, char **argv)
{
	static const unsigned waiting[] = { 1, 8, 32, 128 };
	struct bench b = { .size = argc > 3 && argv[2][0] < 'a' ? (size_t)atol(argv[3]) : 5000, .limit = ~0ul };
	unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 2;
	struct ipc_facts facts = { .client_ip = STR_LIT("192.0.2.1"), .helo = STR_LIT("client.example.org"), .protocol = STR_LIT("esmtp"),
		.sender = STR_LIT("sender@example.org"), .has_sender = true };
	struct ipc_recipient rcpt = { .addr = STR_LIT("recipient@example.net") };
	struct ipc_edit edit = { .op = EDIT_ADD_TOP, .text = STR_LIT("Received: from client.example.org ([192.0.2.1])\r\n"
		"\tby mail.example.net with esmtp (Bulkhead)\r\n\tid 1bench-00000000-00; Sat, 21 Nov 2026 09:00:00 +0000\r\n") };

	if (argc < 2) {
		fprintf(stderr, "usage: spool_bench DIRECTORY [SECONDS [SIZE]]\n");
		return 64;
	}
	b.loop = loop_new();
	b.content = mem_new(b.size + 1);
	memset(b.content, 'x', b.size);
	b.outcome = (struct ipc_outcome){ .result = DELIVERY_OK, .code = 250, .text = STR_LIT("OK id=1abcde-000000-00") };
	b.record = (struct ipc_spool_record){ .kind = SPOOL_RESULT, .outcome = &b.outcome, .host = STR_LIT("mx.example.net"), .ip = STR_LIT("192.0.2.2") };
	b.envelope = (struct ipc_spool_envelope){ .facts = &facts, .recipients = &rcpt, .n_recipients = 1, .edits = &edit, .n_edits = 1,
		.received_us = 1 };
	if (argc > 2 && !strcmp(argv[2], "scan")) {
		run_queue(&b, argv[1]);
		loop_free(b.loop);
		return 0;
	}
	bench_open(&b, argv[1]);
	if (argc > 3 && !strcmp(argv[2], "fill")) {
		b.limit = (unsigned long)atol(argv[3]);
		b.size = argc > 4 ? (size_t)atol(argv[4]) : b.size;
		b.keep = true;
		run_case(&b, "fill", 64, 3600);
		spool_close(b.spool);
		loop_free(b.loop);
		return 0;
	}
	for (unsigned i = 0; i < sizeof waiting / sizeof *waiting; i++)
		run_case(&b, "through", waiting[i], seconds);
	b.keep = true;
	for (unsigned i = 0; i < sizeof waiting / sizeof *waiting; i++)
		run_case(&b, "kept", waiting[i], seconds);
	spool_close(b.spool);
	run_queue(&b, argv[1]);
	loop_free(b.loop);
	return 0;
}

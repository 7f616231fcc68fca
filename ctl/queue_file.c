/* SPDX-License-Identifier: ISC */
/* queue_file.c - the file behind a message of the queue: shown to people, or copied out whole. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/enums.h"
#include "common/spool/format.h"
#include "ctl/queue.h"

enum { COPY_SIZE = 65536 };

static void fact_print(const char *name, struct str value)
{
	if (value.len)
		printf("%-14s %.*s\n", name, STR_FMT(value));
}

static void envelope_print(struct ctl *ctl, const struct ipc_spool_envelope *e)
{
	const struct ipc_facts *f = e->facts;

	printf("%-14s %s\n", "received", ctl_time(&ctl->arena, e->received_us / 1000000));
	if (f) {
		fact_print("client", f->client_ip);
		fact_print("client name", f->client_name);
		fact_print("helo", f->helo);
		fact_print("protocol", f->protocol);
		fact_print("user", f->ident);
		fact_print("authenticated", f->auth_id);
	}
	fact_print("envelope id", e->envid);
	for (uint32_t i = 0; i < e->n_edits; i++)
		printf("%-14s %.*s%s", edit_op_name(e->edits[i].op) ? edit_op_name(e->edits[i].op) : "?", STR_FMT(e->edits[i].text),
			e->edits[i].op == EDIT_REMOVE ? "\n" : "");
}

static bool content_print(const struct spool_file *file, int fd)
{
	uint64_t at = 0;
	char b[COPY_SIZE];

	while (at < file->head.content) {
		uint64_t want = file->head.content - at;
		ssize_t n = pread(fd, b, want < sizeof b ? (size_t)want : sizeof b, (off_t)(SPOOL_CONTENT_OFFSET + at));

		if (n <= 0)
			return false;
		fwrite(b, 1, (size_t)n, stdout);
		at += (uint64_t)n;
	}
	return true;
}

int queue_show(struct ctl *ctl, const struct ipc_queue_row *row, int fd)
{
	struct spool_file file;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	int code = CTL_OK;

	if (spool_file_read(&spool_fs_real, fd, false, &a, &file, &err)) {
		code = ctl_fail(CTL_DATA, "the message's file: %s", err.text);
	} else {
		putchar('\n');
		if (row->next_try)
			printf("%-14s %s, tried %llu times\n", "looked at next", ctl_time(&ctl->arena, row->next_try), (unsigned long long)row->tries);
		envelope_print(ctl, file.envelope);
		putchar('\n');
		if (!content_print(&file, fd))
			code = ctl_fail(CTL_IOERR, "the message's file is cut short");
	}
	arena_clear(&a);
	return code;
}

int queue_export(const struct ipc_queue_row *row, int fd, const char *path)
{
	int to = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : STDOUT_FILENO;
	off_t at = 0;
	char b[COPY_SIZE];
	ssize_t n;

	if (to < 0)
		return ctl_fail(CTL_IOERR, "%s: %s", path, strerror(errno));
	while ((n = pread(fd, b, sizeof b, at)) > 0) {
		for (ssize_t done = 0, k; done < n; done += k)
			if ((k = write(to, b + done, (size_t)(n - done))) < 0)
				return ctl_fail(CTL_IOERR, "%s: %s", path ? path : "standard output", strerror(errno));
		at += n;
	}
	if (n < 0 || (path && (fsync(to) < 0 || close(to) < 0)))
		return ctl_fail(CTL_IOERR, "%s: %s", path ? path : "standard output", strerror(errno));
	if (path)
		printf("%.*s is in %s\n", STR_FMT(row->id), path);
	return CTL_OK;
}

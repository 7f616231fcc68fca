/* SPDX-License-Identifier: ISC */
/* handover.c - the files of a message appear in the directory, whole. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ipc/enums.h"
#include "common/spool/format.h"
#include "common/spool/fs.h"
#include "queuefile/queuefile.h"

enum { THERE_MAX = 16 * 1024 * 1024, CHUNK = 64 * 1024 };

static enum status written(enum status st, const struct out_file *f, struct err *err)
{
	return st == ST_OK ? ST_OK : err_prefix(err, "write %s/%s", f->directory, f->temporary);
}

static enum status exim_head_write(const struct handover *h, struct out_file *f, struct err *err)
{
	struct buf there = BUF_LIMIT(THERE_MAX), text = BUF_INIT;
	struct str old = STR_NULL;
	enum status st = there_read(f->dir, f->name, THERE_MAX - CHUNK, &there, err);

	if (st == ST_OK && exim_recipients_find(buf_str(&there), &old, err) != ST_OK)
		st = err_set(err, ST_DEFER, "read %s/%s: it is there already, and no file of ours", f->directory, f->name);
	if (st == ST_FAIL) {
		err_clear(err);
		st = ST_OK;
	}
	if (st == ST_OK)
		st = exim_header_make(h, old, &text, err);
	if (st == ST_OK)
		st = written(out_add(f->fd, text.p, text.len, err), f, err);
	buf_clear(&text);
	buf_clear(&there);
	return st;
}

/* The body first: no scanner sees a header without its body. */
static enum status files_name(struct out_file *body, struct out_file *head, struct err *err)
{
	struct stat st;
	bool was_there = fstatat(body->dir, body->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	enum status got = out_name(body, err);

	if (got == ST_OK)
		got = out_name(head, err);
	if (got != ST_OK && !body->temporary[0] && !was_there)
		unlinkat(body->dir, body->name, 0);
	if (got == ST_OK && fsync(body->dir) < 0)
		got = err_set(err, ST_DEFER, "sync %s: the directory can't be made durable", body->directory);
	return got;
}

enum status handover_exim(const struct handover *h, struct err *err)
{
	struct out_file body = { .fd = -1 }, head = { .fd = -1 };
	int dir;
	enum status st = directory_open(h->directory, &dir, err);

	if (st != ST_OK)
		return st;
	st = out_begin(&body, dir, h->directory, h->msg->id, "-D", err);
	if (st == ST_OK)
		st = written(exim_body_write(h, body.fd, err), &body, err);
	if (st == ST_OK)
		st = out_sync(&body, err);
	if (st == ST_OK)
		st = out_begin(&head, dir, h->directory, h->msg->id, "-H", err);
	if (st == ST_OK)
		st = exim_head_write(h, &head, err);
	if (st == ST_OK)
		st = out_sync(&head, err);
	if (st == ST_OK)
		st = files_name(&body, &head, err);
	out_end(&head);
	out_end(&body);
	close(dir);
	return st;
}

/* ---- our own format ---- */

static enum status content_copy(const struct handover *h, struct out_file *f, uint32_t *crc_out, struct err *err)
{
	char *room = arena_alloc(h->arena, CHUNK);
	uint32_t crc = 0;

	for (uint64_t at = 0; at < h->msg->content;) {
		size_t n = h->msg->content - at < CHUNK ? (size_t)(h->msg->content - at) : CHUNK;

		if (spool_fs_read(&spool_fs_real, h->fd, room, n, (off_t)(h->msg->offset + at)))
			return err_set(err, ST_DEFER, "read the message");
		if (out_add(f->fd, room, n, err))
			return written(err->status, f, err);
		crc = spool_crc(crc, room, n);
		at += n;
	}
	*crc_out = crc;
	return ST_OK;
}

/* Recipients that an earlier hand-over of this message brought are kept. */
static void recipients_join(const struct handover *h, const struct spool_file *there, struct ipc_spool_envelope *env)
{
	const struct ipc_deliver *m = h->msg;
	uint32_t old = there->envelope ? there->envelope->n_recipients : 0;

	env->recipients = arena_alloc(h->arena, (m->n_recipients + old) * sizeof *env->recipients);
	for (uint32_t i = 0; i < old; i++)
		env->recipients[env->n_recipients++] = there->envelope->recipients[i];
	for (uint32_t i = 0; i < m->n_recipients; i++) {
		bool known = false;

		for (uint32_t k = 0; k < old; k++)
			known |= str_eq(env->recipients[k].addr, m->recipients[i].addr);
		if (known)
			continue;
		env->recipients[env->n_recipients] = m->recipients[i];
		env->recipients[env->n_recipients].index = env->n_recipients;
		if (m->facts && m->facts->has_sender && !str_eq(m->sender, m->facts->sender))
			env->recipients[env->n_recipients].errors_to = m->sender;
		env->n_recipients++;
	}
}

static enum status envelope_make(const struct handover *h, struct out_file *f, struct buf *out, struct err *err)
{
	const struct ipc_deliver *m = h->msg;
	struct ipc_facts *facts = m->facts ? m->facts : arena_alloc(h->arena, sizeof *facts);
	struct ipc_spool_envelope env = { .id = m->id, .received_us = m->received * 1000000, .facts = facts, .edits = m->edits, .n_edits = m->n_edits,
		.content = m->content, .header_size = m->header_size, .flags = m->flags, .content_8bit = m->content_8bit, .longest_line = m->longest_line,
		.ret = m->ret, .envid = m->envid };
	struct spool_file there = { .envelope = NULL };
	int fd = openat(f->dir, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (!m->facts) {
		facts->sender = m->sender;
		facts->has_sender = true;
	}
	if (fd >= 0) {
		enum status st = spool_file_read(&spool_fs_real, fd, false, h->arena, &there, err);

		close(fd);
		if (st != ST_OK)
			return err_set(err, ST_DEFER, "read %s/%s: it is there already, and no file of ours", f->directory, f->name);
	}
	recipients_join(h, &there, &env);
	return ipc_encode(&ipc_type_spool_envelope, &env, out, err);
}

static enum status bulkhead_write(const struct handover *h, struct out_file *f, struct err *err)
{
	unsigned char head[SPOOL_HEAD] = { 0 };
	struct spool_head fields = { .content = h->msg->content };
	struct buf envelope = BUF_INIT;
	enum status st = written(out_add(f->fd, head, sizeof head, err), f, err);

	if (st == ST_OK)
		st = content_copy(h, f, &fields.content_crc, err);
	if (st == ST_OK)
		st = envelope_make(h, f, &envelope, err);
	if (st == ST_OK) {
		fields.envelope = (uint32_t)envelope.len;
		fields.envelope_crc = spool_crc(0, envelope.p, envelope.len);
		spool_head_encode(&fields, SPOOL_HEAD_COMPLETE, head);
		st = written(out_add(f->fd, envelope.p, envelope.len, err), f, err);
	}
	buf_clear(&envelope);
	if (st == ST_OK && pwrite(f->fd, head, sizeof head, 0) != (ssize_t)sizeof head)
		st = err_set(err, ST_DEFER, "write %s/%s", f->directory, f->temporary);
	return st;
}

enum status handover_bulkhead(const struct handover *h, struct err *err)
{
	struct out_file f = { .fd = -1 };
	int dir;
	enum status st = directory_open(h->directory, &dir, err);

	if (st != ST_OK)
		return st;
	st = out_begin(&f, dir, h->directory, h->msg->id, "", err);
	if (st == ST_OK)
		st = bulkhead_write(h, &f, err);
	if (st == ST_OK)
		st = out_sync(&f, err);
	if (st == ST_OK)
		st = out_name(&f, err);
	if (st == ST_OK && fsync(dir) < 0)
		st = err_set(err, ST_DEFER, "sync %s: the directory can't be made durable", h->directory);
	out_end(&f);
	close(dir);
	return st;
}

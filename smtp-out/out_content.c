/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_content.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void out_content_rewind(struct out_content *c)
{
	c->at = 0;
	c->piece_at = 0;
	c->dots = (struct smtp_dots)SMTP_DOTS_INIT;
	c->ended = false;
}

enum status out_content_init(struct out_content *c, const struct out_content_spec *spec, struct arena *a, struct err *err)
{
	uint64_t header = spec->edit.header_size;
	struct edit_result r = { NULL, 0, 0 };
	struct edit_piece *v;

	memset(c, 0, sizeof *c);
	out_content_rewind(c);
	c->fd = spec->edit.fd;
	c->base = spec->edit.offset;
	if (header > spec->content)
		return err_set(err, ST_DEFER, "the header is larger than the message");
	if (!spec->body_only) {
		enum status st = edit_apply(&spec->edit, a, &r, err);

		if (st)
			return st;
	}
	v = arena_alloc(a, (r.n + 1) * sizeof *v);
	if (r.n)
		memcpy(v, r.v, r.n * sizeof *v);
	c->v = v;
	c->n = r.n;
	c->size = r.size;
	if (spec->headers_only || spec->content == header)
		return ST_OK;
	c->size += spec->content - header;
	/* Where the header's end and the body lie side by side they are read as one. */
	if (r.n && !v[r.n - 1].text && v[r.n - 1].offset + v[r.n - 1].len == header)
		v[r.n - 1].len += spec->content - header;
	else
		v[c->n++] = (struct edit_piece){ NULL, header, spec->content - header };
	return ST_OK;
}

static bool is_8bit(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] > 127)
			return true;
	return false;
}

enum status out_content_header_8bit(const struct out_content *c, uint64_t header_size, char *scratch, struct err *err)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct edit_piece *p = &c->v[i];
		uint64_t end = p->offset + p->len < header_size ? p->offset + p->len : header_size;

		if (p->text && is_8bit(p->text, p->len))
			return ST_OK;
		for (uint64_t at = p->offset; !p->text && at < end;) {
			ssize_t n = pread(c->fd, scratch, end - at < OUT_SCRATCH ? end - at : OUT_SCRATCH, (off_t)(c->base + at));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return err_set(err, ST_DEFER, "%s", n ? strerror(errno) : "the file is too short");
			if (is_8bit(scratch, (size_t)n))
				return ST_OK;
			at += (uint64_t)n;
		}
	}
	return ST_FAIL;
}

static enum status content_read(struct out_content *c, const struct edit_piece *p, struct buf *out, size_t want, char *scratch, struct err *err)
{
	uint64_t left = p->len - c->piece_at;
	ssize_t n = pread(c->fd, scratch, left < want ? left : want, (off_t)(c->base + p->offset + c->piece_at));

	if (n < 0 && errno == EINTR)
		return ST_OK;
	if (n < 0)
		return err_set(err, ST_DEFER, "%s", strerror(errno));
	if (!n)
		return err_set(err, ST_DEFER, "the file is too short");
	smtp_dots_add(&c->dots, scratch, (size_t)n, out);
	c->piece_at += (uint64_t)n;
	return ST_OK;
}

enum status out_content_fill(struct out_content *c, struct buf *out, size_t want, char *scratch, struct err *err)
{
	size_t goal = out->len + want;

	if (want > OUT_SCRATCH)
		want = OUT_SCRATCH;
	while (c->at < c->n && out->len < goal) {
		const struct edit_piece *p = &c->v[c->at];

		if (p->text) {
			smtp_dots_add(&c->dots, p->text, p->len, out);
			c->piece_at = p->len;
		} else {
			enum status st = content_read(c, p, out, want, scratch, err);

			if (st)
				return st;
		}
		if (c->piece_at == p->len) {
			c->at++;
			c->piece_at = 0;
		}
	}
	if (c->at == c->n && !c->ended) {
		smtp_dots_end(&c->dots, out);
		c->ended = true;
	}
	return ST_OK;
}

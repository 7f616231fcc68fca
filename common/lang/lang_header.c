/* SPDX-License-Identifier: ISC */
#include "common/lang/lang_header.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mail/edit.h"
#include "common/mail/header.h"

struct header_cache {
	struct str text;        /* CRLF or LF ends, with the final empty line, if any */
	uint64_t body_offset, size;
	struct message_counts counts;
	bool counted;
};

static enum status message_pread(struct eval *ev, char *to, size_t n, uint64_t from, size_t *got_out, struct err *err)
{
	size_t got = 0;

	while (got < n) {
		ssize_t k = pread(ev->message_fd, to + got, n - got, (off_t)(ev->facts->offset + from + got));

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set(err, ST_DEFER, "reading the message: %s", strerror(errno));
		if (k == 0)
			break;
		got += (size_t)k;
	}
	*got_out = got;
	return ST_OK;
}

/* Where the body begins, when nobody has said so. */
static enum status message_body_find(struct eval *ev, uint64_t size, uint64_t *out, struct err *err)
{
	size_t want = size < EVAL_HEADER_MAX ? (size_t)size : EVAL_HEADER_MAX, got;
	char *p = mem_try(want + 1);
	bool closed;
	enum status st;

	if (!p)
		return err_set(err, ST_DEFER, "out of memory");
	st = message_pread(ev, p, want, 0, &got, err);
	if (!st)
		*out = header_end(str_make(p, got), &closed);
	mem_free(p);
	return st;
}

static enum status cache_fill(struct eval *ev, struct header_cache **out, struct err *err)
{
	struct header_cache *c = ev->headers;
	struct edit_input in = { .edits = ev->facts->edits, .n_edits = ev->facts->n_edits, .fd = ev->message_fd,
		.offset = ev->facts->offset };
	struct stat sb;
	enum status st = ST_OK;

	if (!c) {
		c = arena_alloc(ev->arena, sizeof *c);
		ev->deps |= DEP_SESSION;
		if (ev->message_fd >= 0) {
			if (fstat(ev->message_fd, &sb))
				return err_set(err, ST_DEFER, "the message: %s", strerror(errno));
			c->size = (uint64_t)sb.st_size > ev->facts->offset ? (uint64_t)sb.st_size - ev->facts->offset : 0;
			/* A spool file goes on behind the content. */
			if (ev->facts->size && ev->facts->size < c->size && ev->facts->body_offset)
				c->size = ev->facts->size;
			c->body_offset = ev->body_offset ? ev->body_offset : ev->facts->body_offset;
			if (!c->body_offset)
				st = message_body_find(ev, c->size, &c->body_offset, err);
			if (!st && c->body_offset > EVAL_HEADER_MAX)
				st = err_set(err, ST_ERROR, "the message's header is larger than %d octets", EVAL_HEADER_MAX);
			in.header_size = c->body_offset;
			in.flags = ev->facts->flags;
			if (!st)
				st = edit_text(&in, ev->arena, &c->text, err);
			if (st)
				return st;
		}
		ev->headers = c;
	}
	*out = c;
	return ST_OK;
}

/* LF for CRLF. */
static void add_lines(struct buf *b, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (s.p[i] != '\r' || i + 1 >= s.len || s.p[i + 1] != '\n')
			buf_addc(b, s.p[i]);
}

static bool holds_addresses(struct str name)
{
	static const char *const names[] = { "from", "sender", "to", "cc", "bcc", "reply-to" };

	if (str_beginsi(name, "resent-"))
		name = str_from(name, 7);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (str_isi(name, names[i]))
			return true;
	return false;
}

static void value_add(struct buf *b, struct str value, enum header_form form, bool addresses)
{
	struct str s = form == HEADER_RAW ? value : str_trim(value);

	if (form == HEADER_LIST) {
		struct buf lines = BUF_LIMIT(HEADER_VALUE_MAX);

		add_lines(&lines, value);
		lang_split_add(b, ':', buf_str(&lines), !b->len);
		buf_clear(&lines);
		return;
	}
	if (form == HEADER_RAW) {
		/* As it stands in the message, with its last line end. */
		add_lines(b, s);
		if (!b->len || b->p[b->len - 1] != '\n')
			buf_addc(b, '\n');
		return;
	}
	if (!s.len)
		return;
	if (b->len)
		buf_adds(b, addresses ? ",\n" : "\n");
	add_lines(b, s);
}

enum status header_value(struct eval *ev, struct str name, enum header_form form, struct str *out, struct err *err)
{
	struct header_cache *c;
	struct header_scan scan;
	struct header_field f;
	struct buf b = BUF_LIMIT(HEADER_VALUE_MAX);
	enum status st = cache_fill(ev, &c, err);

	*out = STR_NULL;
	if (st)
		return st;
	header_scan_init(&scan, c->text);
	while (header_scan_next(&scan, &f))
		if (str_eqi(f.name, name))
			value_add(&b, f.value, form, holds_addresses(name));
	if (b.len) {
		*out = str_dup(ev->arena, buf_str(&b));
		if (form == HEADER_DECODED || form == HEADER_BASIC)
			*out = header_decode_words(ev->arena, *out, form == HEADER_DECODED ? header_charset(ev) : NULL);
		out->tainted = true;
	}
	buf_clear(&b);
	return ST_OK;
}

enum status header_exists(struct eval *ev, struct str name, bool *yes, struct err *err)
{
	struct header_cache *c;
	struct header_scan scan;
	struct header_field f;
	enum status st = cache_fill(ev, &c, err);

	*yes = false;
	if (st)
		return st;
	header_scan_init(&scan, c->text);
	while (!*yes && header_scan_next(&scan, &f))
		*yes = str_eqi(f.name, name);
	return ST_OK;
}

enum status header_whole(struct eval *ev, struct str *out, struct err *err)
{
	struct header_cache *c;
	struct header_scan scan;
	struct header_field f;
	struct buf b = BUF_LIMIT(EVAL_HEADER_MAX);
	enum status st = cache_fill(ev, &c, err);

	*out = STR_NULL;
	if (st)
		return st;
	header_scan_init(&scan, c->text);
	while (header_scan_next(&scan, &f))
		add_lines(&b, f.raw);
	*out = str_dup(ev->arena, buf_str(&b));
	out->tainted = true;
	buf_clear(&b);
	return ST_OK;
}

enum status body_place(struct eval *ev, uint64_t *from_out, uint64_t *size_out, struct err *err)
{
	struct header_cache *c;
	enum status st = cache_fill(ev, &c, err);

	*from_out = st ? 0 : ev->facts->offset + c->body_offset;
	*size_out = !st && c->size > c->body_offset ? c->size - c->body_offset : 0;
	return st;
}

enum status body_size(struct eval *ev, uint64_t *out, struct err *err)
{
	uint64_t from;

	return body_place(ev, &from, out, err);
}

enum status body_part(struct eval *ev, uint32_t max, bool end, struct str *out, struct err *err)
{
	struct header_cache *c;
	enum status st = cache_fill(ev, &c, err);
	uint64_t size, from;
	size_t got;
	char *p;

	*out = STR_NULL;
	if (st || ev->message_fd < 0)
		return st;
	if (max > BODY_VISIBLE_MAX)
		max = BODY_VISIBLE_MAX;
	size = c->size > c->body_offset ? c->size - c->body_offset : 0;
	if (size < max)
		max = (uint32_t)size;
	from = end ? c->size - max : c->body_offset;
	p = arena_alloc(ev->arena, max + 1);
	st = message_pread(ev, p, max, from, &got, err);
	if (!st)
		*out = str_taint(str_make(p, got));
	return st;
}

enum status message_count(struct eval *ev, struct message_counts *out, struct err *err)
{
	enum { CHUNK = 65536 };
	struct header_cache *c;
	struct message_counts n = { 0 };
	enum status st = cache_fill(ev, &c, err);
	uint64_t line = 0;
	char *chunk;

	*out = n;
	if (st || ev->message_fd < 0)
		return st;
	chunk = c->counted ? NULL : arena_alloc(ev->arena, CHUNK);
	for (uint64_t at = 0; !c->counted && at < c->size;) {
		uint64_t want = c->size - at < CHUNK ? c->size - at : CHUNK;
		size_t got;

		st = message_pread(ev, chunk, (size_t)want, at, &got, err);
		if (st || !got)
			break;
		for (size_t i = 0; i < got; i++) {
			bool body = at + i >= c->body_offset;

			if (chunk[i] == '\n') {
				n.lines++;
				n.body_lines += body;
				line = 0;
				continue;
			}
			n.body_zeros += body && !chunk[i];
			line += chunk[i] != '\r';
			if (line > n.longest)
				n.longest = line;
		}
		at += got;
	}
	if (st)
		return st;
	if (!c->counted)
		c->counts = n;
	c->counted = true;
	*out = c->counts;
	return ST_OK;
}

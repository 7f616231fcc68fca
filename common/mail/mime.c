/* SPDX-License-Identifier: ISC */
/* One pass over the lines, with a stack of the multiparts that are open. A line that is a boundary of one of them ends all that is inside
 * of it, whether that has ended properly or not. */
#include "common/mail/mime.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { READ_SIZE = 32768, LINE_KEPT = 1024 /* octets of a line that are looked at: fields are longer, and come in pieces */ };

struct level {
	struct mime_part *part;
	bool had_child;
};

struct walk {
	struct mime_tree *tree;
	const struct mime_source *source;
	uint64_t end;
	struct level levels[MIME_DEPTH_MAX];
	unsigned n_levels;
	struct mime_part *now;           /* the part in whose header or body we are; NULL: between parts */
	unsigned numbered, attached;
	bool in_header;
	struct buf header;
	enum status limit;
	struct err *err;
	/* reading */
	char *p;
	size_t have, used;
	uint64_t at;                     /* of p[used] */
};

const char *mime_anomaly_text(enum mime_anomaly a)
{
	switch (a) {
	case MIME_FINE:
		break;
	case MIME_BROKEN_QP:
		return "Broken Quoted-Printable encoding detected";
	case MIME_BROKEN_BASE64:
		return "Broken BASE64 encoding detected";
	case MIME_BROKEN_HEADER:
		return "MIME header or boundary too long";
	}
	return NULL;
}

enum status mime_read(const struct mime_source *s, uint64_t at, char *p, size_t n, size_t *got_out, struct err *err)
{
	size_t got = 0;

	if (at >= s->size)
		n = 0;
	else if (n > s->size - at)
		n = (size_t)(s->size - at);
	if (s->fd < 0 && n)
		memcpy(p, s->memory + at, n);
	while (s->fd >= 0 && got < n) {
		ssize_t r = pread(s->fd, p + got, n - got, (off_t)(s->offset + at + got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_set(err, ST_DEFER, "MIME: the message could not be read: %s", strerror(errno));
		if (r == 0)
			break;
		got += (size_t)r;
	}
	*got_out = s->fd < 0 ? n : got;
	return ST_OK;
}

/* ---- fields ---- */

/* The next field of a header, its value unfolded; lines that are no fields are passed over, as mail programs do. */
static bool field_next(struct arena *a, struct str *rest, struct str *name_out, struct str *value_out)
{
	struct str line;

	while (str_split(rest, '\n', &line)) {
		struct buf value = BUF_LIMIT(MIME_HEADER_MAX);
		ptrdiff_t colon = str_find(line, ':');

		if (colon < 0 || ascii_is_space(line.p[0]))
			continue;
		*name_out = str_trim(str_sub(line, 0, (size_t)colon));
		buf_add_str(&value, str_trim(str_from(line, (size_t)colon + 1)));
		while (rest->len && (rest->p[0] == ' ' || rest->p[0] == '\t') && str_split(rest, '\n', &line)) {
			if (line.len && line.p[line.len - 1] == '\r')
				line.len--;
			buf_add_str(&value, line);
		}
		*value_out = str_taint(str_trim(str_dup(a, buf_str(&value))));
		buf_clear(&value);
		return true;
	}
	return false;
}

/* Lower case, without blanks. */
static struct str normal(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.len; i++)
		if (!ascii_is_space(s.p[i]))
			p[n++] = ascii_lower(s.p[i]);
	return (struct str){ p, n, true };
}

/* Up to the first parameter, comment or blank; comments may stand before it. */
static struct str token(struct arena *a, struct str value)
{
	uint32_t i = 0;

	while (value.len && value.p[0] == '(' && str_find(value, ')') >= 0)
		value = str_trim(str_from(value, (size_t)str_find(value, ')') + 1));
	while (i < value.len && value.p[i] != ';' && value.p[i] != '(' && !ascii_is_space(value.p[i]))
		i++;
	return normal(a, str_sub(value, 0, i));
}

static enum mime_encoding encoding_of(struct str s)
{
	if (str_is(s, "base64"))
		return MIME_BASE64;
	return str_is(s, "quoted-printable") ? MIME_QUOTED_PRINTABLE : MIME_IDENTITY;
}

/* Either name in either field, since mail programs take either; that of Content-Disposition: is the better one (RFC 2183). */
static void filename_read(struct arena *a, struct str value, const char *first, const char *second, struct str *out)
{
	if (!mime_param(a, value, first, out))
		mime_param(a, value, second, out);
}

static void field_disposition(struct arena *a, struct str value, struct mime_part *part)
{
	part->disposition = token(a, value);
	filename_read(a, value, "filename", "name", &part->filename);
}

static void field_type(struct arena *a, struct str value, struct mime_part *part)
{
	part->typed = true;
	part->type = token(a, value);
	part->charset = part->boundary = STR_NULL;
	mime_param(a, value, "charset", &part->charset);
	mime_param(a, value, "boundary", &part->boundary);
	filename_read(a, value, "name", "filename", &part->type_name);
}

static void field_encoding(struct arena *a, struct str value, struct mime_part *part) { part->transfer_encoding = token(a, value); }
static void field_description(struct arena *a, struct str value, struct mime_part *part) { part->description = normal(a, value); }
static void field_id(struct arena *a, struct str value, struct mime_part *part) { part->id = normal(a, value); }

static const struct {
	const char *name;
	void (*fn)(struct arena *a, struct str value, struct mime_part *part);
} fields[] = {
	{ "Content-Disposition", field_disposition }, { "Content-Type", field_type }, { "Content-Transfer-Encoding", field_encoding },
	{ "Content-Description", field_description }, { "Content-ID", field_id },
};

/* A field that comes twice: the last one counts. */
static void fields_read(struct arena *a, struct str header, struct mime_part *part)
{
	struct str name, value;

	while (field_next(a, &header, &name, &value))
		for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
			if (str_isi(name, fields[i].name))
				fields[i].fn(a, value, part);
	if (!part->filename.len)
		part->filename = part->type_name;
	part->multipart = str_begins(part->type, "multipart/");
	part->message = str_is(part->type, "message/rfc822") || str_is(part->type, "message/global");
	/* A multipart is not encoded, whatever it says: its parts are found in it as it is. */
	part->encoding = part->multipart ? MIME_IDENTITY : encoding_of(part->transfer_encoding);
}

/* ---- the walk ---- */

static bool all_cover(const struct mime_part *multipart)
{
	return str_is(multipart->type, "multipart/alternative") || str_is(multipart->type, "multipart/related");
}

static void part_begin(struct walk *w, uint64_t at)
{
	struct level *l = w->n_levels ? &w->levels[w->n_levels - 1] : NULL;
	struct mime_part *part;

	if (w->tree->n >= MIME_PARTS_MAX) {
		w->now = NULL;
		w->limit = err_set(w->err, ST_FAIL, "more than %d MIME parts", MIME_PARTS_MAX);
		return;
	}
	part = arena_alloc(w->tree->arena, sizeof *part);
	part->source = w->source;
	part->body = part->end = at;
	part->number = w->numbered++;
	part->attached = w->attached;
	part->cover_letter = !l || (l->part->cover_letter && (all_cover(l->part) || !l->had_child));
	if (l)
		l->had_child = true;
	if (w->tree->last)
		w->tree->last->next = part;
	else
		w->tree->first = part;
	w->tree->last = part;
	w->tree->n++;
	w->now = part;
	w->in_header = true;
	buf_reset(&w->header);
	w->header.full = false;
}

static void header_ended(struct walk *w, uint64_t at)
{
	struct mime_part *part = w->now;

	w->in_header = false;
	part->body = part->end = at;
	fields_read(w->tree->arena, buf_str(&w->header), part);
	if (w->header.full || part->boundary.len > MIME_BOUNDARY_MAX)
		part->anomaly = MIME_BROKEN_HEADER;
	if (!part->multipart || !part->boundary.len || part->boundary.len > MIME_BOUNDARY_MAX)
		return;
	if (w->n_levels == MIME_DEPTH_MAX) {
		w->limit = err_set(w->err, ST_FAIL, "MIME multiparts nested deeper than %d", MIME_DEPTH_MAX);
		return;
	}
	w->levels[w->n_levels++] = (struct level){ part, false };
	w->now = NULL;
}

/* Parts end at `at`: the one at hand and the multiparts above level n. */
static void parts_end(struct walk *w, unsigned n, uint64_t at)
{
	if (w->now && w->in_header)
		header_ended(w, at);
	if (w->now)
		w->now->end = at;
	w->now = NULL;
	while (w->n_levels > n)
		w->levels[--w->n_levels].part->end = at;
}

static bool boundary_stands(struct str line, struct str boundary)
{
	return line.len >= 2 + boundary.len && memcmp(line.p + 2, boundary.p, boundary.len) == 0;
}

/* Whether the line is a boundary: of which level, and whether its last. Blanks may stand behind it. */
static bool line_is_boundary(const struct walk *w, struct str line, unsigned *level, bool *last)
{
	if (line.len < 3 || line.p[0] != '-' || line.p[1] != '-')
		return false;
	for (unsigned i = w->n_levels; i-- > 0;) {
		struct str b = w->levels[i].part->boundary, rest;

		if (!boundary_stands(line, b)) /* blanks at its end are none of a boundary's, and nobody would miss them */
			while (b.len && ascii_is_space(b.p[b.len - 1]))
				b.len--;
		if (!boundary_stands(line, b))
			continue;
		rest = str_from(line, 2 + b.len);
		*last = str_begins(rest, "--");
		if (!*last && str_trim(rest).len)
			continue;
		*level = i;
		return true;
	}
	return false;
}

/* A line, or as much of it as is kept; whole: it begins here. `next` is where the next begins. */
static void line_take(struct walk *w, struct str line, bool begins, uint64_t at, uint64_t next)
{
	unsigned level;
	bool last;

	if (begins && line_is_boundary(w, line, &level, &last)) {
		parts_end(w, level + 1, at);
		if (last) /* what follows, up to the outer boundary, is the multipart's own */
			w->now = w->levels[w->n_levels = level].part;
		else
			part_begin(w, next);
		return;
	}
	if (!w->now || !w->in_header)
		return;
	if (begins && !str_trim(line).len)
		header_ended(w, next);
	else
		buf_add_str(&w->header, line);
}

/* The next line of at most LINE_KEPT octets, its end included. */
static enum status line_next(struct walk *w, struct str *out)
{
	char *end;
	size_t got;

	if (w->have - w->used < LINE_KEPT && w->at + (w->have - w->used) < w->end) {
		uint64_t from = w->at + (w->have - w->used);
		size_t room;

		memmove(w->p, w->p + w->used, w->have - w->used);
		w->have -= w->used;
		w->used = 0;
		room = READ_SIZE - w->have;
		if (mime_read(w->source, from, w->p + w->have, w->end - from < room ? (size_t)(w->end - from) : room, &got, w->err))
			return ST_DEFER;
		if (!got)
			w->end = from;
		w->have += got;
	}
	got = w->have - w->used < LINE_KEPT ? w->have - w->used : LINE_KEPT;
	end = got ? memchr(w->p + w->used, '\n', got) : NULL;
	*out = str_make(w->p + w->used, end ? (size_t)(end - (w->p + w->used)) + 1 : got);
	w->used += out->len;
	w->at += out->len;
	return ST_OK;
}

/* One message: its part and all that are in it. */
static enum status message_walk(struct mime_tree *t, const struct mime_source *source, uint64_t from, uint64_t end, unsigned attached, struct err *err)
{
	struct walk w = { .tree = t, .source = source, .end = end, .attached = attached, .header = BUF_LIMIT(MIME_HEADER_MAX), .err = err, .at = from };
	bool begins = true;
	struct str line;
	enum status st;

	w.p = mem_new(READ_SIZE);
	part_begin(&w, from);
	while (!(st = w.limit)) {
		uint64_t at = w.at;

		st = line_next(&w, &line);
		if (st || !line.len)
			break;
		line_take(&w, line, begins, at, w.at);
		begins = line.p[line.len - 1] == '\n';
	}
	parts_end(&w, 0, w.at);
	mem_free(w.p);
	buf_clear(&w.header);
	return st;
}

/* ---- attached messages ---- */

static enum status attached_walk(struct mime_tree *t, const struct mime_part *part, struct err *err)
{
	struct mime_source *s;
	enum mime_anomaly anomaly;
	struct buf *memory;
	uint64_t size, sum = 0;
	enum status st;

	if (part->attached >= MIME_ATTACHED_MAX)
		return err_set(err, ST_FAIL, "messages attached to messages deeper than %d", MIME_ATTACHED_MAX);
	if (part->encoding == MIME_IDENTITY)
		return message_walk(t, part->source, part->body, part->end, part->attached + 1, err);
	for (unsigned i = 0; i < t->n_unpacked; i++)
		sum += t->unpacked[i].len;
	if (t->n_unpacked == MIME_ATTACHED_MAX)
		return err_set(err, ST_FAIL, "more than %d attached messages that are encoded", MIME_ATTACHED_MAX);
	memory = &t->unpacked[t->n_unpacked++];
	*memory = (struct buf)BUF_LIMIT(MIME_UNPACKED_MAX - sum);
	st = mime_part_decode(part, memory, &size, &anomaly, err);
	if (!st && size > memory->len)
		st = err_set(err, ST_FAIL, "attached messages of more than %d octets", MIME_UNPACKED_MAX);
	if (st)
		return st;
	s = arena_alloc(t->arena, sizeof *s);
	*s = (struct mime_source){ .fd = -1, .memory = memory->p, .size = memory->len };
	return message_walk(t, s, 0, s->size, part->attached + 1, err);
}

enum status mime_parse(struct mime_tree *t, struct arena *a, const struct mime_source *source, struct err *err)
{
	enum status st;

	*t = (struct mime_tree){ .arena = a };
	st = message_walk(t, source, 0, source->size, 0, err);
	for (struct mime_part *p = t->first; p && !st; p = p->next)
		if (p->message)
			st = attached_walk(t, p, err);
	return st;
}

void mime_clear(struct mime_tree *t)
{
	for (unsigned i = 0; i < t->n_unpacked; i++)
		buf_clear(&t->unpacked[i]);
	t->n_unpacked = 0;
}

/* ---- decoding a part ---- */

static void decoded_keep(struct buf *keep, const char *p, size_t n)
{
	size_t room = keep->max > keep->len ? keep->max - keep->len : 0;

	if (n > room)
		n = room;
	if (n)
		buf_add(keep, p, n);
}

enum status mime_part_decode(const struct mime_part *part, struct buf *keep, uint64_t *size_out, enum mime_anomaly *anomaly_out, struct err *err)
{
	struct mime_decoder d = { .encoding = part->encoding };
	char *in = mem_new(READ_SIZE), *out = mem_new(2 * READ_SIZE + 8);
	uint64_t at = part->body;
	enum status st = ST_OK;
	size_t got, made;

	*size_out = 0;
	while (at < part->end) {
		size_t want = part->end - at < READ_SIZE ? (size_t)(part->end - at) : READ_SIZE;

		st = mime_read(part->source, at, in, want, &got, err);
		if (st || !got)
			break;
		made = mime_decode(&d, in, got, out);
		decoded_keep(keep, out, made);
		*size_out += made;
		at += got;
	}
	made = mime_decode_end(&d, out);
	decoded_keep(keep, out, made);
	*size_out += made;
	*anomaly_out = !d.broken ? MIME_FINE : part->encoding == MIME_BASE64 ? MIME_BROKEN_BASE64 : MIME_BROKEN_QP;
	mem_free(in);
	mem_free(out);
	return st;
}

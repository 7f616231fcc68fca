/* SPDX-License-Identifier: ISC */
#include "common/mail/edit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/mail/header.h"

/* The header as a list of parts, while it is being edited. */
struct part {
	struct part *next;
	struct edit_piece piece;
	struct str name;         /* of the field; NULL for a run that nobody looks into */
	bool own;                /* from the content */
	uint64_t at;             /* ... where it began there */
	uint32_t edit;           /* number of the edit that added it + 1 */
};

struct editor {
	const struct edit_input *in;
	struct arena *arena;
	struct part *head, *tail;
	struct part *after_received; /* the last part put behind the Received: block, so that order is kept */
};

static bool edits_need_fields(const struct edit_input *in)
{
	for (uint32_t i = 0; i < in->n_edits; i++)
		if (in->edits[i].op == EDIT_REMOVE || in->edits[i].op == EDIT_ADD_AFTER_RECEIVED || in->edits[i].op == EDIT_ADD_START_RFC ||
		    in->edits[i].op == EDIT_REPLACE)
			return true;
	return in->headers_remove.n > 0 || in->n_rewrites;
}

static struct part *part_new(struct editor *e, const char *text, uint64_t offset, uint64_t len)
{
	struct part *p = arena_alloc(e->arena, sizeof *p);

	p->piece = (struct edit_piece){ text, offset, len };
	return p;
}

static void part_append(struct editor *e, struct part *p)
{
	if (e->tail)
		e->tail->next = p;
	else
		e->head = p;
	e->tail = p;
}

static void part_insert(struct editor *e, struct part *after, struct part *p)
{
	struct part **slot = after ? &after->next : &e->head;

	p->next = *slot;
	*slot = p;
	if (!p->next)
		e->tail = p;
}

static struct part *text_part(struct editor *e, struct str text)
{
	struct part *p;
	ptrdiff_t colon = str_find(text, ':');

	if (!text.len)
		return NULL;
	p = part_new(e, text.p, 0, text.len);
	p->name = str_trim(str_sub(text, 0, colon < 0 ? 0 : (size_t)colon));
	return p;
}

static bool name_is(struct str name, const char *want)
{
	return name.p && str_isi(name, want);
}

/* The last part of the topmost block of Received: fields; NULL if there is none. */
static struct part *received_block_end(struct editor *e)
{
	struct part *p = e->head;

	while (p && !name_is(p->name, "Received"))
		p = p->next;
	while (p && p->next && name_is(p->next->name, "Received"))
		p = p->next;
	return p;
}

/* The last of the Received: and Resent- fields that the header begins with. */
static struct part *trace_end(struct editor *e)
{
	struct part *last = NULL;

	for (struct part *p = e->head; p && (name_is(p->name, "Received") || (p->name.p && str_beginsi(p->name, "Resent-"))); p = p->next)
		last = p;
	return last;
}

static bool name_matches(struct str name, struct str list)
{
	struct str item;

	while (str_split(&list, ':', &item)) {
		item = str_trim(item);
		if (!item.len || !name.p)
			continue;
		if (item.p[item.len - 1] == '*' ? name.len >= item.len - 1 && str_eqi(str_sub(name, 0, item.len - 1), str_sub(item, 0, item.len - 1)) :
		    str_eqi(name, item))
			return true;
	}
	return false;
}

static void fields_remove(struct editor *e, struct str names, bool own_only)
{
	struct part **slot = &e->head;

	e->tail = NULL;
	while (*slot) {
		if ((!own_only || (*slot)->own) && name_matches((*slot)->name, names)) {
			if (e->after_received == *slot)
				e->after_received = NULL;
			*slot = (*slot)->next;
		} else {
			e->tail = *slot;
			slot = &(*slot)->next;
		}
	}
}

bool edit_replace_parse(struct str text, bool *added_out, uint64_t *at_out, struct str *field_out)
{
	ptrdiff_t blank;

	*added_out = text.len && text.p[0] == 'e';
	if (*added_out)
		text = str_from(text, 1);
	blank = str_find(text, ' ');
	if (blank <= 0 || !str_u64(str_sub(text, 0, (size_t)blank), UINT32_MAX, at_out))
		return false;
	*field_out = str_from(text, (size_t)blank + 1);
	return true;
}

/* The field keeps its place and stays one of the content: it can be removed, or replaced once more. */
static void field_replace(struct editor *e, struct str text)
{
	struct str field;
	uint64_t at;
	bool added;

	if (!edit_replace_parse(text, &added, &at, &field) || !field.len)
		return;
	for (struct part *p = e->head; p; p = p->next)
		if (added ? p->edit == at + 1 : p->own && p->at == at) {
			p->piece = (struct edit_piece){ field.p, 0, field.len };
			return;
		}
}

static void edit_one(struct editor *e, const struct ipc_edit *edit, uint32_t number)
{
	struct part *p;

	if (edit->op == EDIT_REPLACE) {
		field_replace(e, edit->text);
		return;
	}
	if (edit->op == EDIT_REMOVE) {
		fields_remove(e, edit->text, true);
		return;
	}
	if (!(p = text_part(e, edit->text)))
		return;
	p->edit = number + 1;
	if (edit->op == EDIT_ADD_TOP) {
		part_insert(e, NULL, p);
	} else if (edit->op == EDIT_ADD_AFTER_RECEIVED) {
		part_insert(e, e->after_received ? e->after_received : received_block_end(e), p);
		e->after_received = p;
	} else if (edit->op == EDIT_ADD_START_RFC) {
		part_insert(e, trace_end(e), p);
	} else {
		part_append(e, p);
	}
}

static enum status header_read(const struct edit_input *in, struct arena *a, struct str *out, struct err *err)
{
	char *p;
	size_t got = 0;

	if (in->header.p || !in->header_size) {
		*out = in->header;
		return ST_OK;
	}
	if (in->header_size > EDIT_HEADER_MAX)
		return err_set(err, ST_ERROR, "header of %llu octets is too large to be edited", (unsigned long long)in->header_size);
	p = arena_alloc(a, in->header_size + 1);
	while (got < in->header_size) {
		ssize_t n = pread(in->fd, p + got, in->header_size - got, (off_t)(in->offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, ST_DEFER, "cannot read the message's header: %s", n ? strerror(errno) : "the file is too short");
		got += (size_t)n;
	}
	*out = str_taint(str_make(p, got));
	return ST_OK;
}

/* The content's part of the header without the empty line, as one run or as fields. */
static enum status content_parts(struct editor *e, uint64_t size, struct err *err)
{
	struct header_scan scan;
	struct header_field field;
	struct str text;
	struct part *p;
	enum status st;

	if (!size)
		return ST_OK;
	if (!edits_need_fields(e->in)) {
		part_append(e, part_new(e, NULL, 0, size));
		return ST_OK;
	}
	if ((st = header_read(e->in, e->arena, &text, err)))
		return st;
	header_scan_init(&scan, str_sub(text, 0, size));
	while (header_scan_next(&scan, &field)) {
		p = part_new(e, NULL, field.at, field.raw.len);
		p->name = field.name;
		p->own = true;
		p->at = field.at;
		part_append(e, p);
	}
	/* Smtpd and we agree on what a header is; should a file say otherwise, the rest still goes out. */
	if (scan.at < size)
		part_append(e, part_new(e, NULL, scan.at, size - scan.at));
	return ST_OK;
}

static void pieces_collect(struct editor *e, struct edit_result *out)
{
	uint32_t n = 0;

	for (struct part *p = e->head; p; p = p->next)
		n++;
	out->v = arena_alloc(e->arena, (n + 1) * sizeof *out->v);
	out->n = 0;
	out->size = 0;
	for (struct part *p = e->head; p; p = p->next) {
		struct edit_piece *last = out->n ? &out->v[out->n - 1] : NULL;

		out->size += p->piece.len;
		if (last && !last->text && !p->piece.text && last->offset + last->len == p->piece.offset)
			last->len += p->piece.len;
		else
			out->v[out->n++] = p->piece;
	}
}

static struct str field_ended(struct arena *a, struct str text)
{
	text = header_crlf(a, text);
	if (!text.len || text.p[text.len - 1] == '\n')
		return text;
	return str_printf(a, "%.*s\r\n", STR_FMT(text));
}

enum status edit_apply(const struct edit_input *in, struct arena *a, struct edit_result *out, struct err *err)
{
	struct editor e = { .in = in, .arena = a };
	bool closed = !(in->flags & MSG_HEADER_OPEN) && in->header_size >= 2;
	uint64_t size = closed ? in->header_size - 2 : in->header_size;
	enum status st;

	if ((st = content_parts(&e, size, err)))
		return st;
	for (uint32_t i = 0; i < in->n_edits; i++)
		edit_one(&e, &in->edits[i], i);
	for (uint32_t i = 0; i < in->n_rewrites; i++)
		if (in->rewrites[i].op == EDIT_REPLACE)
			field_replace(&e, in->rewrites[i].text);
	for (uint32_t i = 0; i < in->headers_remove.n; i++)
		fields_remove(&e, in->headers_remove.v[i], false);
	for (uint32_t i = in->n_prepend; i; i--) {
		struct part *p = text_part(&e, in->prepend[i - 1]);

		if (p)
			part_insert(&e, NULL, p);
	}
	for (uint32_t i = 0; i < in->headers_add.n; i++) {
		struct part *p = text_part(&e, field_ended(a, in->headers_add.v[i]));

		if (p)
			part_append(&e, p);
	}
	part_append(&e, closed ? part_new(&e, NULL, size, 2) : part_new(&e, "\r\n", 0, 2));
	pieces_collect(&e, out);
	return ST_OK;
}

enum status edit_text(const struct edit_input *in, struct arena *a, struct str *out, struct err *err)
{
	struct edit_input with = *in;
	struct edit_result result;
	enum status st;
	size_t n = 0;
	char *p;

	if ((st = header_read(in, a, &with.header, err)) || (st = edit_apply(&with, a, &result, err)))
		return st;
	p = arena_alloc(a, result.size + 1);
	for (uint32_t i = 0; i < result.n; i++) {
		memcpy(p + n, result.v[i].text ? result.v[i].text : with.header.p + result.v[i].offset, result.v[i].len);
		n += result.v[i].len;
	}
	*out = str_taint(str_make(p, n));
	return ST_OK;
}

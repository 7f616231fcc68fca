/* SPDX-License-Identifier: ISC */
/* On the wire a field is: u8 tag, u8 kind, value. Numbers are LEB128 (signed ones zigzag); a text is its length (LEB128)
 * and its octets; a struct is a u32 length and its fields; lists are a u32 length, then the elements, texts or structs. */
#include "common/ipc/codec.h"

#include <string.h>

enum { DEPTH_MAX = 8 };

#define FIELD(obj, f, type) ((type *)(void *)((char *)(obj) + (f)->offset))
#define FIELD_C(obj, f, type) ((type const *)(const void *)((const char *)(obj) + (f)->offset))

/* ---- encoding ---- */

static void put_varint(struct buf *out, uint64_t v)
{
	unsigned char b[10];
	size_t n = 0;

	do {
		b[n] = (unsigned char)(v & 0x7f);
		v >>= 7;
		if (v)
			b[n] |= 0x80;
		n++;
	} while (v);
	buf_add(out, b, n);
}

static void put_head(struct buf *out, const struct ipc_field *f)
{
	char b[2] = { (char)f->tag, (char)f->kind };

	buf_add(out, b, 2);
}

/* Room for a length that is not yet known. */
static size_t length_open(struct buf *out)
{
	buf_add(out, "\0\0\0", 4);
	return out->len;
}

static void length_close(struct buf *out, size_t start)
{
	uint32_t n = (uint32_t)(out->len - start);

	if (!out->full)
		memcpy(out->p + start - 4, &n, 4);
}

static enum status encode_fields(const struct ipc_type *type, const void *obj, struct buf *out, int depth, struct err *err);

static enum status encode_list(const struct ipc_type *type, const struct ipc_field *f, const void *obj, struct buf *out, int depth,
	struct err *err)
{
	const char *v = *FIELD_C(obj, f, const char *);
	uint32_t n = *(const uint32_t *)(const void *)((const char *)obj + f->count_offset);
	size_t start;

	if (!n)
		return ST_OK;
	if (n > f->limit)
		return err_set(err, ST_ERROR, "%s.%s: %u elements, at most %u", type->name, f->name, n, f->limit);
	put_head(out, f);
	start = length_open(out);
	for (uint32_t i = 0; i < n; i++) {
		size_t item = length_open(out);
		enum status st = encode_fields(f->type, v + i * f->type->size, out, depth + 1, err);

		if (st)
			return st;
		length_close(out, item);
	}
	length_close(out, start);
	return ST_OK;
}

static enum status encode_strs(const struct ipc_type *type, const struct ipc_field *f, const struct ipc_strs *v, struct buf *out,
	struct err *err)
{
	size_t start;

	if (!v->n)
		return ST_OK;
	if (v->n > f->limit)
		return err_set(err, ST_ERROR, "%s.%s: %u texts, at most %u", type->name, f->name, v->n, f->limit);
	put_head(out, f);
	start = length_open(out);
	for (uint32_t i = 0; i < v->n; i++) {
		if (v->v[i].len > IPC_STRS_ITEM_MAX)
			return err_set(err, ST_ERROR, "%s.%s: a text of %u octets, at most %u", type->name, f->name, v->v[i].len,
				(unsigned)IPC_STRS_ITEM_MAX);
		put_varint(out, v->v[i].len);
		buf_add_str(out, v->v[i]);
	}
	length_close(out, start);
	return ST_OK;
}

static enum status encode_field(const struct ipc_type *type, const struct ipc_field *f, const void *obj, struct buf *out, int depth,
	struct err *err)
{
	switch (f->kind) {
	case IPC_U64: {
		uint64_t v = *FIELD_C(obj, f, uint64_t);

		if (!v)
			return ST_OK;
		if (f->limit && v > f->limit)
			return err_set(err, ST_ERROR, "%s.%s: %llu, at most %u", type->name, f->name, (unsigned long long)v, f->limit);
		put_head(out, f);
		put_varint(out, v);
		return ST_OK;
	}
	case IPC_I64: {
		int64_t v = *FIELD_C(obj, f, int64_t);

		if (!v)
			return ST_OK;
		put_head(out, f);
		put_varint(out, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
		return ST_OK;
	}
	case IPC_FLAG:
		if (*FIELD_C(obj, f, bool))
			put_head(out, f);
		return ST_OK;
	case IPC_STR: {
		struct str v = *FIELD_C(obj, f, struct str);

		if (!v.p)
			return ST_OK;
		if (v.len > f->limit)
			return err_set(err, ST_ERROR, "%s.%s: %u octets, at most %u", type->name, f->name, v.len, f->limit);
		put_head(out, f);
		put_varint(out, v.len);
		buf_add_str(out, v);
		return ST_OK;
	}
	case IPC_STRS:
		return encode_strs(type, f, FIELD_C(obj, f, struct ipc_strs), out, err);
	case IPC_SUB: {
		const void *v = *FIELD_C(obj, f, const void *);
		enum status st;
		size_t start;

		if (!v)
			return ST_OK;
		put_head(out, f);
		start = length_open(out);
		st = encode_fields(f->type, v, out, depth + 1, err);
		length_close(out, start);
		return st;
	}
	case IPC_LIST:
		return encode_list(type, f, obj, out, depth, err);
	}
	return ST_OK;
}

static enum status encode_fields(const struct ipc_type *type, const void *obj, struct buf *out, int depth, struct err *err)
{
	size_t n;
	const struct ipc_field *f = type->fields(&n);

	if (depth > DEPTH_MAX)
		return err_set(err, ST_ERROR, "%s: nested too deeply", type->name);
	for (size_t i = 0; i < n; i++) {
		enum status st = encode_field(type, &f[i], obj, out, depth, err);

		if (st)
			return st;
	}
	return ST_OK;
}

enum status ipc_encode(const struct ipc_type *type, const void *obj, struct buf *out, struct err *err)
{
	size_t before = out->len;
	enum status st = encode_fields(type, obj, out, 0, err);

	if (!st && out->full)
		st = err_set(err, ST_ERROR, "%s: too large", type->name);
	if (st)
		out->len = before;
	return st;
}

/* ---- decoding ---- */

struct in {
	const unsigned char *p, *end;
	struct arena *arena;
	struct err *err;
	int depth;
};

static bool get_varint(struct in *in, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && in->p < in->end; shift += 7) {
		unsigned char c = *in->p++;

		if (shift == 63 && c > 1)
			return false;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*out = v;
			return true;
		}
	}
	return false;
}

/* A piece with a u32 length. */
static bool get_piece(struct in *in, struct in *piece_out)
{
	uint32_t n;

	if (in->end - in->p < 4)
		return false;
	memcpy(&n, in->p, 4);
	in->p += 4;
	if ((size_t)(in->end - in->p) < n)
		return false;
	*piece_out = *in;
	piece_out->end = in->p + n;
	in->p += n;
	return true;
}

static bool get_text(struct in *in, uint64_t limit, struct str *out)
{
	uint64_t n;

	if (!get_varint(in, &n) || n > limit || n > (size_t)(in->end - in->p))
		return false;
	*out = (struct str){ arena_memdup(in->arena, in->p, n), (uint32_t)n, true };
	in->p += n;
	return true;
}

static bool decode_fields(const struct ipc_type *type, struct in *in, void *obj);

static bool decode_fail(struct in *in, const struct ipc_type *type, const struct ipc_field *f, const char *what)
{
	if (!in->err || !in->err->text[0]) /* the innermost place is the useful one */
		err_set(in->err, ST_ERROR, "%s%s%s: %s", type->name, f ? "." : "", f ? f->name : "", what);
	return false;
}

static bool decode_strs(const struct ipc_type *type, const struct ipc_field *f, struct in *in, struct ipc_strs *out)
{
	struct in piece, count;
	uint32_t n = 0;

	if (!get_piece(in, &piece))
		return decode_fail(in, type, f, "length beyond the frame");
	for (count = piece; count.p < count.end; n++) {
		uint64_t len;

		if (!get_varint(&count, &len) || len > IPC_STRS_ITEM_MAX || len > (size_t)(count.end - count.p))
			return decode_fail(in, type, f, "bad text in the list");
		count.p += len;
	}
	if (n > f->limit)
		return decode_fail(in, type, f, "too many texts");
	out->v = arena_alloc(in->arena, n * sizeof *out->v);
	for (out->n = 0; out->n < n; out->n++)
		if (!get_text(&piece, IPC_STRS_ITEM_MAX, &out->v[out->n]))
			return decode_fail(in, type, f, "bad text in the list");
	return true;
}

static bool decode_list(const struct ipc_type *type, const struct ipc_field *f, struct in *in, void *obj)
{
	struct in piece, count, item;
	uint32_t n = 0, *n_out = (uint32_t *)(void *)((char *)obj + f->count_offset);
	char *v;

	if (!get_piece(in, &piece))
		return decode_fail(in, type, f, "length beyond the frame");
	for (count = piece; count.p < count.end; n++)
		if (!get_piece(&count, &item))
			return decode_fail(in, type, f, "element beyond the list");
	if (n > f->limit)
		return decode_fail(in, type, f, "too many elements");
	v = arena_alloc(in->arena, n * f->type->size);
	*FIELD(obj, f, void *) = v;
	for (*n_out = 0; *n_out < n; (*n_out)++) {
		get_piece(&piece, &item);
		item.depth++;
		if (!decode_fields(f->type, &item, v + *n_out * f->type->size))
			return decode_fail(in, type, f, "bad element");
	}
	return true;
}

static bool decode_field(const struct ipc_type *type, const struct ipc_field *f, struct in *in, void *obj)
{
	uint64_t n;

	switch (f->kind) {
	case IPC_U64:
		if (!get_varint(in, &n) || (f->limit && n > f->limit))
			return decode_fail(in, type, f, "number out of range");
		*FIELD(obj, f, uint64_t) = n;
		return true;
	case IPC_I64:
		if (!get_varint(in, &n))
			return decode_fail(in, type, f, "bad number");
		*FIELD(obj, f, int64_t) = (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
		return true;
	case IPC_FLAG:
		*FIELD(obj, f, bool) = true;
		return true;
	case IPC_STR:
		if (!get_text(in, f->limit, FIELD(obj, f, struct str)))
			return decode_fail(in, type, f, "text too long or beyond the frame");
		return true;
	case IPC_STRS:
		return decode_strs(type, f, in, FIELD(obj, f, struct ipc_strs));
	case IPC_SUB: {
		struct in piece;
		void *part;

		if (!get_piece(in, &piece))
			return decode_fail(in, type, f, "length beyond the frame");
		part = arena_alloc(in->arena, f->type->size);
		*FIELD(obj, f, void *) = part;
		piece.depth++;
		return decode_fields(f->type, &piece, part) || decode_fail(in, type, f, "bad part");
	}
	case IPC_LIST:
		return decode_list(type, f, in, obj);
	}
	return decode_fail(in, type, f, "unknown kind");
}

/* Passes over a field of a version that knows more than we do. */
static bool skip_field(struct in *in, unsigned kind)
{
	struct in piece;
	uint64_t n;

	switch (kind) {
	case IPC_U64:
	case IPC_I64:
		return get_varint(in, &n);
	case IPC_FLAG:
		return true;
	case IPC_STR:
		if (!get_varint(in, &n) || n > (size_t)(in->end - in->p))
			return false;
		in->p += n;
		return true;
	case IPC_STRS:
	case IPC_SUB:
	case IPC_LIST:
		return get_piece(in, &piece);
	default:
		return false;
	}
}

static bool decode_fields(const struct ipc_type *type, struct in *in, void *obj)
{
	size_t n_rows, at = 0;
	const struct ipc_field *rows = type->fields(&n_rows);
	uint64_t seen[4] = { 0 };

	if (in->depth > DEPTH_MAX)
		return decode_fail(in, type, NULL, "nested too deeply");
	while (in->p < in->end) {
		const struct ipc_field *f = NULL;
		unsigned tag, kind;

		if (in->end - in->p < 2)
			return decode_fail(in, type, NULL, "cut off");
		tag = *in->p++;
		kind = *in->p++;
		/* Fields come in the order of the rows, so the search mostly ends at once. */
		for (size_t i = 0; i < n_rows && !f; i++, at = at + 1 < n_rows ? at + 1 : 0)
			if (rows[at].tag == tag)
				f = &rows[at];
		if (!f) {
			if (!skip_field(in, kind))
				return decode_fail(in, type, NULL, "bad unknown field");
			continue;
		}
		if (f->kind != kind)
			return decode_fail(in, type, f, "wrong kind");
		if (seen[tag >> 6] & (1ULL << (tag & 63)))
			return decode_fail(in, type, f, "given twice");
		seen[tag >> 6] |= 1ULL << (tag & 63);
		if (!decode_field(type, f, in, obj))
			return false;
	}
	return true;
}

enum status ipc_decode(const struct ipc_type *type, struct str data, struct arena *a, void *obj, struct err *err)
{
	struct err own = ERR_INIT;
	struct in in = { .p = (const unsigned char *)data.p, .arena = a, .err = &own };

	memset(obj, 0, type->size);
	if (!data.len)
		return ST_OK;
	in.end = in.p + data.len;
	if (!decode_fields(type, &in, obj))
		return err_set(err, ST_ERROR, "%s", own.text);
	return ST_OK;
}

/* ---- copying and showing ---- */

void ipc_copy(const struct ipc_type *type, const void *from, void *to, struct arena *a)
{
	size_t n;
	const struct ipc_field *f = type->fields(&n);

	memcpy(to, from, type->size);
	for (; n; n--, f++) {
		switch (f->kind) {
		case IPC_STR: {
			struct str *s = FIELD(to, f, struct str);

			if (s->p)
				*s = str_dup(a, *s);
			break;
		}
		case IPC_STRS: {
			struct ipc_strs *v = FIELD(to, f, struct ipc_strs);
			struct str *copy = v->n ? arena_alloc(a, v->n * sizeof *copy) : NULL;

			for (uint32_t i = 0; i < v->n; i++)
				copy[i] = str_dup(a, v->v[i]);
			v->v = copy;
			break;
		}
		case IPC_SUB:
		case IPC_LIST: {
			const char *old = *FIELD_C(from, f, const char *);
			uint32_t k = f->kind == IPC_LIST ? *(const uint32_t *)(const void *)((const char *)from + f->count_offset) : old ? 1 : 0;
			char *copy = k ? arena_alloc(a, k * f->type->size) : NULL;

			for (uint32_t i = 0; i < k; i++)
				ipc_copy(f->type, old + i * f->type->size, copy + i * f->type->size, a);
			*FIELD(to, f, void *) = copy;
			break;
		}
		case IPC_U64:
		case IPC_I64:
		case IPC_FLAG:
			break;
		}
	}
}

static void dump_text(struct str s, struct buf *out)
{
	buf_addc(out, '"');
	for (uint32_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			buf_printf(out, "\\%03o", c);
		else
			buf_addc(out, (char)c);
	}
	buf_addc(out, '"');
}

static void dump_fields(const struct ipc_type *type, const void *obj, struct buf *out)
{
	size_t n;
	const struct ipc_field *f = type->fields(&n);
	const char *gap = "";

	buf_addc(out, '{');
	for (; n; n--, f++) {
		size_t mark = out->len;

		buf_printf(out, "%s%s=", gap, f->name);
		switch (f->kind) {
		case IPC_U64:
			if (*FIELD_C(obj, f, uint64_t)) {
				buf_printf(out, "%llu", (unsigned long long)*FIELD_C(obj, f, uint64_t));
				goto shown;
			}
			break;
		case IPC_I64:
			if (*FIELD_C(obj, f, int64_t)) {
				buf_printf(out, "%lld", (long long)*FIELD_C(obj, f, int64_t));
				goto shown;
			}
			break;
		case IPC_FLAG:
			if (*FIELD_C(obj, f, bool)) {
				buf_adds(out, "yes");
				goto shown;
			}
			break;
		case IPC_STR:
			if (FIELD_C(obj, f, struct str)->p) {
				dump_text(*FIELD_C(obj, f, struct str), out);
				goto shown;
			}
			break;
		case IPC_STRS: {
			const struct ipc_strs *v = FIELD_C(obj, f, struct ipc_strs);

			buf_addc(out, '[');
			for (uint32_t i = 0; i < v->n; i++) {
				buf_adds(out, i ? " " : "");
				dump_text(v->v[i], out);
			}
			buf_addc(out, ']');
			if (v->n)
				goto shown;
			break;
		}
		case IPC_SUB:
			if (*FIELD_C(obj, f, const void *)) {
				dump_fields(f->type, *FIELD_C(obj, f, const void *), out);
				goto shown;
			}
			break;
		case IPC_LIST: {
			uint32_t k = *(const uint32_t *)(const void *)((const char *)obj + f->count_offset);

			buf_addc(out, '[');
			for (uint32_t i = 0; i < k; i++)
				dump_fields(f->type, *FIELD_C(obj, f, const char *) + (size_t)i * f->type->size, out);
			buf_addc(out, ']');
			if (k)
				goto shown;
			break;
		}
		}
		out->len = mark; /* absent */
		continue;
shown:
		gap = " ";
	}
	buf_addc(out, '}');
}

void ipc_dump(const struct ipc_type *type, const void *obj, struct buf *out)
{
	buf_adds(out, type->name);
	dump_fields(type, obj, out);
}

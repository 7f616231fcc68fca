/* SPDX-License-Identifier: ISC */
/* On the disk, little endian:
 *   head    magic[16], u64 content, u32 envelope, u32 content crc, u32 envelope crc, zeros, u32 checksum of the 60 octets before
 *   record  u32 length of the payload, u32 checksum, u32 seq, u32 0; payload, filled up to 8 with zeros */
#include "common/spool/format.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char magic_complete[17] = "Bulkhead mail 1\n", magic_new[17] = "Bulkhead new  1\n";

struct head_image {
	char magic[16];
	uint64_t content;
	uint32_t envelope, content_crc, envelope_crc;
	char zero[24];
	uint32_t crc;
};
_Static_assert(sizeof(struct head_image) == SPOOL_HEAD, "no padding");

struct record_image {
	uint32_t length, crc, seq, zero;
};
_Static_assert(sizeof(struct record_image) == SPOOL_RECORD_HEAD, "no padding");

void spool_head_encode(struct spool_head *head, enum spool_head_kind kind, unsigned char out[static SPOOL_HEAD])
{
	struct head_image image = { .content = head->content, .envelope = head->envelope, .content_crc = head->content_crc,
		.envelope_crc = head->envelope_crc };

	memcpy(image.magic, kind == SPOOL_HEAD_COMPLETE ? magic_complete : magic_new, sizeof image.magic);
	image.crc = head->salt = spool_crc(0, &image, offsetof(struct head_image, crc));
	memcpy(out, &image, sizeof image);
}

enum spool_head_kind spool_head_decode(const unsigned char in[static SPOOL_HEAD], struct spool_head *out)
{
	static const unsigned char zeros[SPOOL_HEAD];
	struct head_image image;

	memset(out, 0, sizeof *out);
	memcpy(&image, in, sizeof image);
	if (!memcmp(in, zeros, sizeof zeros))
		return SPOOL_HEAD_ZERO;
	if (image.crc != spool_crc(0, &image, offsetof(struct head_image, crc)))
		return SPOOL_HEAD_BAD;
	if (!memcmp(image.magic, magic_new, sizeof image.magic))
		return SPOOL_HEAD_NEW;
	if (memcmp(image.magic, magic_complete, sizeof image.magic) || image.envelope > SPOOL_ENVELOPE_MAX || image.content > INT64_MAX / 2)
		return SPOOL_HEAD_BAD;
	*out = (struct spool_head){ image.content, image.envelope, image.content_crc, image.envelope_crc, image.crc };
	return SPOOL_HEAD_COMPLETE;
}

/* ---- records ---- */

static uint32_t record_crc(uint32_t salt, const struct record_image *image, const char *payload)
{
	uint32_t crc = spool_crc(salt, &image->length, sizeof image->length);

	crc = spool_crc(crc, &image->seq, sizeof image->seq);
	return spool_crc(crc, payload, image->length);
}

enum status spool_record_encode(struct buf *out, uint32_t salt, uint32_t seq, const struct ipc_spool_record *record, struct err *err)
{
	size_t start = out->len;
	struct record_image image = { .seq = seq };
	enum status st;

	buf_add(out, &image, sizeof image);
	st = ipc_encode(&ipc_type_spool_record, record, out, err);
	if (!st && out->len - start > SPOOL_RECORD_MAX)
		st = err_set(err, ST_ERROR, "a record of %zu octets, at most %d", out->len - start, SPOOL_RECORD_MAX);
	if (st) {
		out->len = start;
		return st;
	}
	image.length = (uint32_t)(out->len - start - sizeof image);
	image.crc = record_crc(salt, &image, out->p + start + sizeof image);
	memcpy(out->p + start, &image, sizeof image);
	buf_add(out, "\0\0\0\0\0\0\0", (8 - image.length % 8) % 8);
	return ST_OK;
}

size_t spool_record_frame(struct str data, uint32_t salt, uint32_t seq, struct str *payload_out)
{
	static const char zeros[8];
	struct record_image image;
	size_t whole;

	if (data.len < sizeof image)
		return 0;
	memcpy(&image, data.p, sizeof image);
	if (image.length > SPOOL_RECORD_MAX || image.seq != seq || image.zero)
		return 0;
	whole = sizeof image + (image.length + 7) / 8 * 8;
	if (whole > data.len || record_crc(salt, &image, data.p + sizeof image) != image.crc)
		return 0;
	if (memcmp(data.p + sizeof image + image.length, zeros, whole - sizeof image - image.length))
		return 0;
	*payload_out = str_make(data.p + sizeof image, image.length);
	return whole;
}

size_t spool_records_span(struct str data, uint32_t salt, uint32_t first_seq, uint32_t *n_out)
{
	size_t at = 0, k;
	struct str payload;

	for (*n_out = 0; (k = spool_record_frame(str_from(data, at), salt, first_seq + *n_out, &payload)) > 0; at += k)
		(*n_out)++;
	return at;
}

enum status spool_records_decode(struct str data, uint32_t salt, uint32_t first_seq, struct arena *a, struct ipc_spool_record **out,
	uint32_t *n_out, size_t *end_out, struct err *err)
{
	size_t at = 0;
	uint32_t n;
	struct str payload;

	*end_out = spool_records_span(data, salt, first_seq, &n);
	*out = arena_alloc(a, n * sizeof **out);
	for (*n_out = 0; *n_out < n; (*n_out)++) {
		at += spool_record_frame(str_from(data, at), salt, first_seq + *n_out, &payload);
		if (ipc_decode(&ipc_type_spool_record, payload, a, &(*out)[*n_out], err)) {
			err_prefix(err, "record %u", first_seq + *n_out);
			return ST_FAIL;
		}
	}
	return ST_OK;
}

/* ---- a file ---- */

enum status spool_content_crc(const struct spool_fs *fs, int fd, uint64_t content, uint32_t *out, struct err *err)
{
	enum { PIECE = 128 * 1024 };
	size_t size = content < PIECE ? (size_t)content : PIECE;
	char *p = mem_new(size);
	off_t at = SPOOL_CONTENT_OFFSET;
	int error = 0;

	for (*out = 0; content && !error; content -= size, at += (off_t)size) {
		if (size > content)
			size = (size_t)content;
		if (spool_fs_read(fs, fd, p, size, at))
			error = errno;
		else
			*out = spool_crc(*out, p, size);
	}
	mem_free(p);
	if (error == EPIPE)
		return err_set(err, ST_FAIL, "the content is cut off");
	if (error)
		return err_set(err, ST_DEFER, "can't read the content: %s", strerror(error));
	return ST_OK;
}

static enum status file_head_read(const struct spool_fs *fs, int fd, struct spool_file *out, struct err *err)
{
	unsigned char head[SPOOL_HEAD];
	struct stat st;

	if (fstat(fd, &st))
		return err_set(err, ST_DEFER, "fstat: %s", strerror(errno));
	out->size = (uint64_t)st.st_size;
	if (!S_ISREG(st.st_mode))
		return err_set(err, ST_FAIL, "no regular file");
	if (out->size < SPOOL_HEAD)
		return err_set(err, ST_FAIL, "too short for a head");
	if (spool_fs_read(fs, fd, head, sizeof head, 0))
		return err_set(err, errno == EPIPE ? ST_FAIL : ST_DEFER, "can't read the head: %s", strerror(errno));
	switch (spool_head_decode(head, &out->head)) {
	case SPOOL_HEAD_COMPLETE:
		break;
	case SPOOL_HEAD_NEW:
		return err_set(err, ST_FAIL, "the message was not accepted, or is complete only in the journal");
	case SPOOL_HEAD_ZERO:
	case SPOOL_HEAD_BAD:
		return err_set(err, ST_FAIL, "the head is damaged");
	}
	if (out->head.content > out->size - SPOOL_HEAD || out->head.envelope > out->size - SPOOL_HEAD - out->head.content)
		return err_set(err, ST_FAIL, "the file is cut off: %llu octets, head and envelope want %llu", (unsigned long long)out->size,
			(unsigned long long)(SPOOL_HEAD + out->head.content + out->head.envelope));
	return ST_OK;
}

enum status spool_file_read(const struct spool_fs *fs, int fd, bool check_content, struct arena *a, struct spool_file *out, struct err *err)
{
	uint64_t at, n;
	enum status st;
	size_t end;
	char *p;

	memset(out, 0, sizeof *out);
	st = file_head_read(fs, fd, out, err);
	if (st)
		return st;
	at = SPOOL_HEAD + out->head.content;
	n = out->size - at;
	if (n > (uint64_t)SPOOL_ENVELOPE_MAX + SPOOL_TAIL_MAX)
		return err_set(err, ST_FAIL, "%llu octets of envelope and records are too many", (unsigned long long)n);
	p = mem_try(n);
	if (!p)
		return err_set(err, ST_DEFER, "no memory for %llu octets of envelope and records", (unsigned long long)n);
	if (spool_fs_read(fs, fd, p, n, (off_t)at)) {
		st = err_set(err, errno == EPIPE ? ST_FAIL : ST_DEFER, "can't read envelope and records: %s", strerror(errno));
		goto out;
	}
	if (spool_crc(0, p, out->head.envelope) != out->head.envelope_crc) {
		st = err_set(err, ST_FAIL, "the envelope is damaged");
		goto out;
	}
	out->envelope = arena_alloc(a, sizeof *out->envelope);
	if (ipc_decode(&ipc_type_spool_envelope, str_make(p, out->head.envelope), a, out->envelope, err)) {
		st = err_set(err, ST_FAIL, "the envelope is malformed");
		goto out;
	}
	if (out->envelope->content != out->head.content) {
		st = err_set(err, ST_FAIL, "head and envelope differ in the size of the content");
		goto out;
	}
	st = spool_records_decode(str_make(p + out->head.envelope, n - out->head.envelope), out->head.salt, 1, a, &out->records,
		&out->n_records, &end, err);
	out->seq = out->n_records;
	out->end = at + out->head.envelope + end;
	if (!st && check_content) {
		uint32_t crc;

		st = spool_content_crc(fs, fd, out->head.content, &crc, err);
		if (!st && crc != out->head.content_crc)
			st = err_set(err, ST_FAIL, "the content is damaged");
	}
out:
	mem_free(p);
	return st;
}

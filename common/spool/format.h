/* SPDX-License-Identifier: ISC */
/* format.h - the form of a message's file: head, content, envelope, records. docs/SPOOL.md describes it octet by octet.
 * Used by:    the spool; the command, which shows and exports a file through a descriptor.
 * Owns:       nothing.
 * Invariant:  what decodes has the checksums that its head promised; the file may be hostile.
 * Errors:     ST_FAIL: no complete, undamaged message file (the text says what is wrong); ST_DEFER: it could not be read. */
#ifndef SPOOL_FORMAT_H
#define SPOOL_FORMAT_H

#include "common/spool/fs.h"
#include "common/spool/spool.h"

enum {
	SPOOL_HEAD = 64,         /* octets of the head */
	SPOOL_RECORD_HEAD = 16,  /* octets before each record; the whole is filled up to a multiple of 8 */
};
_Static_assert((int)SPOOL_HEAD == (int)SPOOL_CONTENT_OFFSET, "the content follows the head");

enum spool_head_kind {
	SPOOL_HEAD_NEW = 1,      /* being received: never answered, or covered by the journal */
	SPOOL_HEAD_COMPLETE,     /* envelope and records follow the content */
	SPOOL_HEAD_ZERO,         /* all zero */
	SPOOL_HEAD_BAD,          /* anything else */
};

struct spool_head {
	uint64_t content;        /* octets */
	uint32_t envelope;       /* octets */
	uint32_t content_crc, envelope_crc;
	uint32_t salt;           /* checksum of the head itself; those of the records begin with it */
};

/* Sets head->salt. */
void spool_head_encode(struct spool_head *head, enum spool_head_kind kind, unsigned char out[static SPOOL_HEAD]);
enum spool_head_kind spool_head_decode(const unsigned char in[static SPOOL_HEAD], struct spool_head *out);

/* Appends a framed record. seq counts from 1. */
enum status spool_record_encode(struct buf *out, uint32_t salt, uint32_t seq, const struct ipc_spool_record *record, struct err *err);
/* The frame at data's start: its whole length, 0 when it is cut off, damaged or not number seq. */
size_t spool_record_frame(struct str data, uint32_t salt, uint32_t seq, struct str *payload_out);
/* Every whole frame of data, decoded, from number first_seq on; *end_out: octets that they take. ST_FAIL when a record is undamaged yet
 * means nothing. */
enum status spool_records_decode(struct str data, uint32_t salt, uint32_t first_seq, struct arena *a, struct ipc_spool_record **out,
	uint32_t *n_out, size_t *end_out, struct err *err);
/* The same without decoding: how many whole frames there are. */
size_t spool_records_span(struct str data, uint32_t salt, uint32_t first_seq, uint32_t *n_out);

/* A file, as far as it holds. */
struct spool_file {
	struct spool_head head;
	uint64_t size;           /* of the file */
	uint64_t end;            /* where the last whole record ends; less than size: damage or an unfinished write behind it */
	struct ipc_spool_envelope *envelope;
	struct ipc_spool_record *records;
	uint32_t n_records;
	uint32_t seq;            /* number of the last record */
};
/* Reads head, envelope and records from fd. The content's checksum is compared only with check_content. Damage behind the last
 * whole record is left to the caller (end < size). */
enum status spool_file_read(const struct spool_fs *fs, int fd, bool check_content, struct arena *a, struct spool_file *out, struct err *err);
/* The checksum of a file's content. */
enum status spool_content_crc(const struct spool_fs *fs, int fd, uint64_t content, uint32_t *out, struct err *err);

uint32_t spool_crc(uint32_t crc, const void *p, size_t n);   /* CRC-32C; 0 to begin with */

#endif

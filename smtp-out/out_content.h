/* SPDX-License-Identifier: ISC */
/* out_content.h - a message's octets as they go out: header with its edits, body, final dot.
 * Used by:    out_conn.c.
 * Owns:       nothing: the descriptor is the delivery's, pieces are in its arena.
 * Errors:     ST_DEFER when the file can't be read or is shorter than the message says. */
#ifndef OUT_CONTENT_H
#define OUT_CONTENT_H

#include "common/mail/edit.h"
#include "smtp-out/smtp_dots.h"

enum { OUT_SCRATCH = 64 * 1024 }; /* octets that are read at once */

struct out_content {
	int fd;
	uint64_t base;                /* octet of the file at which the content begins */
	const struct edit_piece *v;   /* header, then the body */
	uint32_t n, at;
	uint64_t piece_at;            /* octets of v[at] done */
	struct smtp_dots dots;
	bool ended;                   /* the final dot has been produced */
	uint64_t size;                /* octets of all pieces */
};

struct out_content_spec {
	struct edit_input edit;       /* with fd and header_size */
	uint64_t content;             /* octets of the content in the file */
	bool headers_only, body_only;
};

enum status out_content_init(struct out_content *c, const struct out_content_spec *spec, struct arena *a, struct err *err);
/* Has the header, as it will be sent, octets over 127? header_size: of the content in the file. ST_OK yes, ST_FAIL no. */
enum status out_content_header_8bit(const struct out_content *c, uint64_t header_size, char *scratch, struct err *err);
void out_content_rewind(struct out_content *c);
/* Appends about `want` octets (more by what dots double), or all that is left and the end. scratch: OUT_SCRATCH octets. */
enum status out_content_fill(struct out_content *c, struct buf *out, size_t want, char *scratch, struct err *err);

#endif

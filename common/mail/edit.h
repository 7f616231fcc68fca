/* SPDX-License-Identifier: ISC */
/* edit.h - a message's header as it goes out: the received octets, the edits made at reception, the transport's changes.
 * Used by:    smtp-out, local, queuefile (to send), policyd and router ($message_headers), qmgr (reports).
 * Owns:       pieces lend the edits' texts and the caller's strings; the list is in the caller's arena.
 * Invariant:  the received octets are never changed, only left out. Exactly one empty line ends the result, also where the
 *             content's header has none (MSG_HEADER_OPEN).
 * Cost:       unless a field must be found (remove, after Received, start of the RFC fields) the content is not read at all.
 * Errors:     ST_DEFER when the content can't be read, ST_ERROR for a header that is larger than EDIT_HEADER_MAX. */
#ifndef MAIL_EDIT_H
#define MAIL_EDIT_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/ipc/codec.h"
#include "common/ipc/enums.h"

enum { EDIT_HEADER_MAX = 8 * 1024 * 1024 }; /* octets of a content's header that will be read */

struct edit_piece {
	const char *text;           /* NULL: octets of the content */
	uint64_t offset;            /* in the content, when text is NULL */
	uint64_t len;               /* octets, never 0 */
};

struct edit_input {
	const struct ipc_edit *edits;   /* in the order made */
	uint32_t n_edits;
	const struct ipc_edit *rewrites; /* then a transport's: EDIT_REPLACE of fields, of the content or of those that `edits` added */
	uint32_t n_rewrites;
	struct ipc_strs headers_add;    /* the transport's: fields to add at the end; line ends are supplied where missing */
	struct ipc_strs headers_remove; /* names; a colon-separated list in one string is fine; also removes what edits added */
	const struct str *prepend;      /* further fields for the top (Return-path:, Envelope-to:, Delivery-date:), before all others */
	uint32_t n_prepend;
	int fd;                         /* the content; -1 when `header` is given */
	uint64_t offset;                /* octet of the file at which it begins; pieces count from there */
	struct str header;              /* the content's header in memory, header_size octets; or NULL */
	uint64_t header_size;           /* octets of the content's header with its empty line */
	uint64_t flags;                 /* enum msg_flag: MSG_HEADER_OPEN counts */
};

struct edit_result {
	struct edit_piece *v;           /* the whole header with the empty line at its end; the body is [header_size, content) */
	uint32_t n;
	uint64_t size;                  /* octets of all pieces */
};

/* The text of an EDIT_REPLACE taken apart: "AT FIELD"; or "eN FIELD", the field that edit number N added. */
bool edit_replace_parse(struct str text, bool *added_out, uint64_t *at_out, struct str *field_out);
enum status edit_apply(const struct edit_input *in, struct arena *a, struct edit_result *out, struct err *err);
/* The whole as one text, content pieces read in; for headers that must be in memory anyway. */
enum status edit_text(const struct edit_input *in, struct arena *a, struct str *out, struct err *err);

#endif

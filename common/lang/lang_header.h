/* SPDX-License-Identifier: ISC */
/* lang_header.h - header fields and body of the message that an evaluation is about.
 * Used by:    $h_..., def:h_..., $message_headers, $message_body and their kin.
 * Owns:       what was read, in the context's arena; it is read once, when first needed, with pread().
 * Errors:     no message: empty, ST_OK. ST_DEFER: it could not be read. */
#ifndef LANG_LANG_HEADER_H
#define LANG_LANG_HEADER_H

#include "common/lang/expand_tree.h"

enum { HEADER_VALUE_MAX = 65536 /* octets of one $h_ */, BODY_VISIBLE_MAX = 65536 };

enum status header_value(struct eval *ev, struct str name, enum header_form form, struct str *out, struct err *err);
enum status header_exists(struct eval *ev, struct str name, bool *yes, struct err *err);
/* The whole header with the edits made so far, lines ended by LF; no empty line. */
enum status header_whole(struct eval *ev, struct str *out, struct err *err);
/* Part of the body: up to max octets from its start, or of its end. */
enum status body_part(struct eval *ev, uint32_t max, bool end, struct str *out, struct err *err);
/* Where the body lies in the message's descriptor. */
enum status body_place(struct eval *ev, uint64_t *from_out, uint64_t *size_out, struct err *err);
enum status body_size(struct eval *ev, uint64_t *out, struct err *err);

struct message_counts {
	uint64_t lines;         /* of header and body */
	uint64_t body_lines, body_zeros;
	uint64_t longest;       /* octets of the longest line, its end apart */
};
/* Reads the whole message, once. */
enum status message_count(struct eval *ev, struct message_counts *out, struct err *err);

/* headers_charset: what texts from header fields are in, "UTF-8" unless the configuration says otherwise. */
const char *header_charset(struct eval *ev);
/* RFC 2047: encoded words into this charset (NULL: the octets as they are); what is no word, or can't be said in it, stays. */
struct str header_decode_words(struct arena *a, struct str s, const char *charset);
struct str header_encode_words(struct arena *a, struct str s, const char *charset);

#endif

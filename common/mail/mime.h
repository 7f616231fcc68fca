/* SPDX-License-Identifier: ISC */
/* mime.h - the MIME parts of a message: found in one pass over its content, decoded when asked for.
 * Used by:    the MIME stage of ACLs (lang/acl_mime.c).
 * Owns:       parts and texts live in the tree's arena; attached messages that had to be decoded in its own memory, until mime_clear().
 * Invariant:  parts stand in the order of their place in the message; those of attached messages (message/rfc822) come behind all
 *             parts of the message they are attached to. Nothing is written anywhere.
 * Errors:     ST_DEFER when the content can't be read, ST_FAIL beyond a limit below (the parts found so far are there).
 * Standards:  RFC 2045, RFC 2046 (a boundary of an outer multipart ends the inner ones), RFC 2231, RFC 2183. */
#ifndef MAIL_MIME_H
#define MAIL_MIME_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	MIME_PARTS_MAX = 1000,           /* of a message and all that are attached to it */
	MIME_DEPTH_MAX = 40,             /* multiparts in each other */
	MIME_ATTACHED_MAX = 20,          /* messages in each other */
	MIME_HEADER_MAX = 65536,         /* octets of a part's header that are looked at */
	MIME_BOUNDARY_MAX = 250,
	MIME_UNPACKED_MAX = 64 << 20,    /* octets of attached messages that are encoded, in sum */
};

enum mime_encoding { MIME_IDENTITY, MIME_BASE64, MIME_QUOTED_PRINTABLE };

/* How bad an anomaly is: Exim's numbers for what is wrong in an encoding. */
enum mime_anomaly { MIME_FINE = 0, MIME_BROKEN_QP = 1, MIME_BROKEN_BASE64 = 2, MIME_BROKEN_HEADER = 3 };
const char *mime_anomaly_text(enum mime_anomaly a);

/* Where octets are read: a descriptor, by pread() from `offset` on, or memory. */
struct mime_source {
	int fd;                          /* -1: memory */
	uint64_t offset, size;
	const char *memory;
};

struct mime_part {
	struct mime_part *next;
	const struct mime_source *source;
	uint64_t body, end;              /* of the source; the line end before a boundary belongs to the part */
	unsigned number;                 /* in its message, from 0 */
	unsigned attached;               /* how many messages are around it, beside the first */
	bool multipart, cover_letter;
	bool message;                    /* message/rfc822 */
	bool typed;                      /* it has a Content-Type: */
	enum mime_encoding encoding;
	enum mime_anomaly anomaly;
	struct str type;                 /* lower case, without parameters */
	struct str boundary, charset;    /* as written */
	struct str filename;             /* as written: RFC 2231 percent-decoded, octets as they are; or perhaps encoded words */
	struct str type_name;            /* likewise, of Content-Type: alone */
	struct str disposition, transfer_encoding, description, id; /* lower case, without blanks */
};

struct mime_tree {
	struct arena *arena;
	struct mime_part *first, *last;
	unsigned n;
	struct buf unpacked[MIME_ATTACHED_MAX];
	unsigned n_unpacked;
};

/* Parses the whole. A message without Content-Type: has its one part too, of type empty. */
enum status mime_parse(struct mime_tree *t, struct arena *a, const struct mime_source *source, struct err *err);
void mime_clear(struct mime_tree *t);

/* Decodes a part: its first octets, up to keep->max, are appended to keep; *size_out is the whole size. Line ends come out as LF, but
 * for base64. What is broken is said in *anomaly_out, and decoded as well as it can be. */
enum status mime_part_decode(const struct mime_part *part, struct buf *keep, uint64_t *size_out, enum mime_anomaly *anomaly_out, struct err *err);
/* Octets of a source; fewer than n at its end only. */
enum status mime_read(const struct mime_source *s, uint64_t at, char *p, size_t n, size_t *got_out, struct err *err);

/* mime_param.c. A parameter of a field's value, RFC 2231 forms before the plain one; false when it has none. */
bool mime_param(struct arena *a, struct str value, const char *name, struct str *out);

/* mime_decode.c: octet by octet. */
struct mime_decoder {
	enum mime_encoding encoding;
	uint32_t bits;
	unsigned n_bits;
	char held[2];                    /* quoted-printable: = and what came behind it */
	unsigned n_held;
	bool cr, soft, padded, broken;
};
/* Appends what n octets give to out, which must have room for n + 4. */
size_t mime_decode(struct mime_decoder *d, const char *p, size_t n, char *out);
size_t mime_decode_end(struct mime_decoder *d, char *out);

#endif

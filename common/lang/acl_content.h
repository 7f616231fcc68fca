/* SPDX-License-Identifier: ISC */
/* acl_content.h - the MIME part at hand and the answers of scanners, during one question. Inside of the ACL engine.
 * Owns:       the state lives in the evaluation's arena. */
#ifndef LANG_ACL_CONTENT_H
#define LANG_ACL_CONTENT_H

#include "common/lang/eval.h"
#include "common/mail/mime.h"

enum { CONTENT_DECODED_MAX = 32768 /* octets of a decoded part that mime_regex looks at */ };

struct content_scan;
struct content_state {
	const struct mime_part *part;    /* NULL: not in a MIME stage */
	bool decoded;
	struct str text;                 /* decoded, its beginning */
	unsigned files;                  /* parts decoded so far: their numbers */
	struct content_scan *scans;      /* answers to keep */
	char *line;                      /* regex: where it reads; for one condition after the other */
};

struct content_state *content_state(struct eval *ev);
static inline const struct mime_part *content_part(const struct eval *ev) { return ev->content ? ev->content->part : NULL; }
static inline struct str content_decoded(const struct eval *ev) { return ev->content ? ev->content->text : STR_NULL; }
/* Decodes the part, once; sets its variables. name: for $mime_decoded_filename; empty: the default one. */
enum status content_decode(struct eval *ev, struct str name, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* scan.h - a message shown to a scanner for malware or spam, and what it says (specification, sections 45.1 to 45.3).
 * Used by:    policyd_services.c; policyd_scan_test.c and policyd_scan_fuzz.c for what reads answers.
 * Owns:       a talk is over when its scanner has answered; texts are in the question's arena.
 * Invariant:  nothing outlasts its deadline, and nothing that a scanner sends is longer than SCAN_ANSWER_MAX.
 * Errors:     ST_DEFER with the server and the cause: down, slow, closed early, or its answer makes no sense.
 *
 * The scanner is given the message as it would be delivered: fields X-Envelope-From: and X-Envelope-To:, our Received:, the header with
 * the changes of ACLs that have run, the body as received. */
#ifndef POLICYD_SCAN_H
#define POLICYD_SCAN_H

#include "common/lang/lang.h"
#include "policyd/policyd.h"

enum {
	SCAN_CONNECT_MS = 10000,
	SCAN_ALL_MS = 240000,            /* for all scans of one question: smtpd waits five minutes */
	SCAN_ANSWER_MAX = 262144,        /* octets of an answer */
	SCAN_REPORT_MAX = 32768,         /* octets of $spam_report */
};

/* What is shown: text, then octets of a descriptor. */
struct scan_content {
	struct str head;
	int fd;
	uint64_t from, len;
};

struct scan_talk {
	struct arena *arena;
	const struct lang_scan *ask;
	struct scan_content content;
	int fd;                          /* to the scanner */
	uint64_t until_ms;
};

typedef enum status scan_protocol_fn(struct scan_talk *t, struct lang_scan_answer *out, struct err *err);
scan_protocol_fn scan_clamd, scan_spamd, scan_rspamd;

/* For the protocols. */
enum status scan_send(struct scan_talk *t, struct str octets, struct err *err);
/* The content; with chunks, each of its pieces behind its length, and a length of zero at its end (clamd's INSTREAM). */
enum status scan_send_content(struct scan_talk *t, bool chunks, struct err *err);
/* All until the scanner closes, or, to_nul, what stands before a NUL. */
enum status scan_read_all(struct scan_talk *t, bool to_nul, struct str *out, struct err *err);

enum status scan_clamd_read(struct str text, struct lang_scan_answer *out, struct err *err);
enum status scan_spamd_read(struct arena *a, struct str text, bool rspamd, struct lang_scan_answer *out, struct err *err);

/* lang_services.scan */
enum status policyd_scan(void *ctx, struct arena *a, const struct lang_scan *ask, struct lang_scan_answer *out, struct err *err);

#endif

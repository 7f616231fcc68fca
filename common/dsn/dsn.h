/* SPDX-License-Identifier: ISC */
/* dsn.h - delivery status notifications as text: failure, delay and success reports.
 * Used by:    qmgr, which decides when one is due and whom it is for.
 * Owns:       nothing; texts are lent, the report is appended to the caller's buffer.
 * Hostility:  addresses, answers of servers, banners, ENVID and ORCPT are strangers' words: control octets are replaced, long
 *             texts cut, fields folded, so that no text can begin a field, a part or a line of its own.
 * Errors:     only the buffer's own (`full`).
 * Standards:  RFC 3461, RFC 3464, RFC 6522 (multipart/report), RFC 6533 (with `utf8`). */
#ifndef DSN_DSN_H
#define DSN_DSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

enum {
	DSN_DIAGNOSTIC_MAX = 950,     /* octets of a Diagnostic-Code before "[truncated]" */
	DSN_EXTRA_MAX = 1023,         /* octets of one of the X- fields */
	DSN_FAILED_A_FIELD = 50,      /* addresses in one X-Failed-Recipients: field */
	DSN_FOLD = 78,                /* octets of a line before it is folded */
	DSN_LINE_MAX = 998,           /* octets of a line without CRLF, RFC 5322 section 2.1.1 */
};

enum dsn_kind { DSN_FAILED_REPORT = 1, DSN_DELAYED_REPORT, DSN_SUCCESS_REPORT, DSN_KINDS_END };

enum dsn_action { DSN_ACTION_FAILED = 1, DSN_ACTION_DELAYED, DSN_ACTION_DELIVERED, DSN_ACTION_RELAYED, DSN_ACTION_EXPANDED, DSN_ACTIONS_END };

/* What part three returns. */
enum dsn_return { DSN_RETURN_HEADERS = 1, DSN_RETURN_ALL };

struct dsn_recipient {
	struct str addr;              /* Final-Recipient */
	struct str parent;            /* the address that the sender gave, where addr came of it; may be empty */
	struct str orcpt;             /* as received: type;xtext; may be empty */
	enum dsn_action action;
	struct str status;            /* x.y.z; empty or malformed: the action's x.0.0 */
	struct str host, ip;          /* Remote-MTA; empty: no host took part */
	unsigned port;                /* 25 and 0 are not shown */
	struct str diagnostic;        /* the server's words, "550 5.1.1 no such user"; empty: none */
	struct str error;             /* our whole error text; for people and X-Exim-Diagnostic */
	struct str greeting, helo;    /* the server's banner and its answer to EHLO, where known */
	struct str note;              /* success: "relayed to non-DSN-aware mailer" ... */
	struct str output;            /* failure: what a command wrote about it; lines end in LF; may be empty */
	int64_t retry_until;          /* delay: seconds since 1970; 0: not said */
};

struct dsn_report {
	enum dsn_kind kind;
	struct str id;                /* spool id of the message reported on */
	struct str own_id;            /* spool id of the report */
	struct str host;              /* our name: Reporting-MTA, Message-ID */
	struct str from;              /* content of From: */
	struct str reply_to;          /* errors_reply_to; may be empty */
	struct str to;                /* whom the report goes to */
	struct str references;        /* Message-ID of the message, with brackets; may be empty */
	struct str envid;             /* as received, xtext; may be empty */
	struct str text;              /* bounce_message_text: added to the first part; may be empty */
	/* The administrator's own words, lines ended by LF, in place of the usual ones; each may be empty. They may hold strangers' words. */
	struct str head;              /* header fields: in place of Subject: */
	struct str intro;             /* beginning of the first part; text is left out, and when the message came */
	struct str last;              /* failure: what introduces the output of commands; delay: end of the first part */
	int64_t arrived, now;         /* seconds since 1970 */
	enum dsn_return what;
	bool limited;                 /* more was asked for than is returned */
	bool extra;                   /* dsn_extra_info */
	bool utf8;                    /* who gets it takes UTF-8: the message was marked as needing SMTPUTF8. Otherwise addresses have an ASCII form */
	bool eightbit;                /* what is returned has octets over 127 */
	bool header_8bit;             /* its header has */
	const struct dsn_recipient *rcpt;
	size_t n_rcpt;
};

/* Appends all that stands before the returned message or header. *header_out (may be NULL): octets of the report's own header, with
 * its empty line. The caller appends the returned part, in whole CRLF lines, then dsn_report_end(). */
bool dsn_report_begin(const struct dsn_report *r, struct buf *out, size_t *header_out);
bool dsn_report_end(const struct dsn_report *r, struct buf *out);
/* Appends a header with lines longer than limit octets cut; what is after its empty line is left out. 0: no limit. */
bool dsn_header_add(struct buf *out, struct str header, size_t limit);

/* xtext (RFC 3461 section 4) to octets. False when it is malformed or holds what may not stand in a field. */
bool dsn_xtext_decode(struct buf *out, struct str xtext);
/* "5.1.1" taken from an answer "550 5.1.1 ..." or "550-5.1.1 ...", else NULL text. */
struct str dsn_status_find(struct str answer);
bool dsn_status_valid(struct str status);

#endif

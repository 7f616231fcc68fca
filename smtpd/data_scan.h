/* SPDX-License-Identifier: ISC */
/* data_scan.h - the data of a message as they come in: where they end, what is kept, what is wrong with them.
 * Used by:    session_data.c; nobody else reads what a client sends after DATA.
 * Owns:       nothing of the input; texts of the header that the log wants are copied into its own small buffers.
 * Invariant:  only CR LF ends a line and only CR LF "." CR LF ends the data. What is kept is what the client meant: one dot is
 *             taken off lines that begin with one, nothing else is changed.
 * Errors:     faults are collected in `faults`; scanning goes on to the end of the data, so that the dialogue stays in step. Only
 *             DATA_FALSE_END must end the session: the client may believe that its data have ended, and what follows may be
 *             commands in its eyes or text in those of somebody who fooled it.
 *             Of chunks (BDAT) the length is known: there no dot ends anything or is taken off, all else is the same.
 * Standards:  RFC 5321 sections 2.3.8, 4.1.1.4, 4.5.2; RFC 5322 section 2.1. */
#ifndef SMTPD_DATA_SCAN_H
#define SMTPD_DATA_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/str.h"

enum data_fault {
	DATA_BARE_LF = 1 << 0,
	DATA_BARE_CR = 1 << 1,
	DATA_NUL = 1 << 2,
	DATA_FALSE_END = 1 << 3,     /* a dot alone on a line whose ends are not both CR LF */
	DATA_HEADER_SIZE = 1 << 4,   /* header_maxsize */
	DATA_HEADER_LINE = 1 << 5,   /* header_line_maxsize */
	DATA_SIZE = 1 << 6,          /* message_size_limit */
};

enum {
	DATA_CAPTURE_MAX = 1000,     /* octets of a field's value that the log may show */
	DATA_LINE_HEAD = 256,        /* octets of a header line that must be here before it is looked at */
	DATA_IOV_MAX = 64,           /* pieces given out by one call */
};

/* Fields that the reception looks at. */
enum data_field {
	DATA_FIELD_OTHER, DATA_FIELD_RECEIVED, DATA_FIELD_MESSAGE_ID, DATA_FIELD_SUBJECT, DATA_FIELD_DATE, DATA_FIELD_FROM,
	DATA_FIELD_SENDER, DATA_FIELD_RETURN_PATH, DATA_FIELD_ENVELOPE_TO, DATA_FIELD_DELIVERY_DATE, DATA_FIELD_RESENT, DATA_FIELD_TLS_REQUIRED, DATA_FIELDS
};

struct data_limits {
	uint64_t size;               /* octets of content; 0: none */
	uint64_t header;             /* octets of the header; 0: none */
	uint64_t header_line;        /* octets of one field; 0: none */
	bool fromline;               /* a line "From " in front of the header is left out; otherwise it is no header, and the body begins */
};

struct data_scan {
	struct data_limits limits;
	uint64_t kept;               /* octets of content so far */
	uint64_t header_size;        /* known once !in_header */
	uint64_t longest;            /* longest line, without CR LF */
	uint64_t line;               /* octets of the present line so far */
	uint64_t field_size;         /* octets of the present header field */
	uint32_t received;           /* Received: fields */
	uint32_t fields;             /* 1 << enum data_field: seen */
	unsigned faults;             /* enum data_fault */
	bool in_header, header_closed; /* closed: an empty line ended the header */
	bool line_start;             /* the next octet begins a line */
	bool after_bare;             /* the line before ended in a bare LF */
	bool eightbit;
	bool header_8bit;            /* octets over 127 in the header */
	bool done;
	bool counted;                /* BDAT: the length is known, a dot is a dot; data_scan_end() ends the data */
	bool ending;
	uint8_t field;               /* enum data_field of the present field */
	uint32_t tls_required_n;     /* TLS-Required: fields */
	struct buf message_id, subject, tls_required;
};

void data_scan_init(struct data_scan *d, const struct data_limits *limits);
void data_scan_clear(struct data_scan *d);

/* Takes what it can of p[0..n) and gives the pieces to keep, which lend from p. Returns how many octets were taken; the rest must
 * come again with more behind it (or there was no more room in iov: then *n_iov is DATA_IOV_MAX). Stops behind the end of the data
 * with d->done. */
size_t data_scan_take(struct data_scan *d, const char *p, size_t n, struct iovec iov[DATA_IOV_MAX], unsigned *n_iov);

/* Takes the rest, which nothing follows (BDAT): at most DATA_LINE_HEAD octets that data_scan_take() left. A last line without an end gets CR LF. */
size_t data_scan_end(struct data_scan *d, const char *p, size_t n, struct iovec iov[DATA_IOV_MAX], unsigned *n_iov);

#endif

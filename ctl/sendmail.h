/* SPDX-License-Identifier: ISC */
/* sendmail.h - a message on its way from standard input to smtpd.
 * Used by:    sendmail.c, submission.c and their test.
 * Errors:     exit codes of sysexits.h: 64 usage, 65 bad message or addresses, 67 no such user, 69 refused for good,
 *             74 reading or writing, 75 try again later, 77 not permitted. */
#ifndef CTL_SENDMAIL_H
#define CTL_SENDMAIL_H

#include "ctl/ctl.h"

enum {
	SUBMISSION_HEADER_MAX = 1024 * 1024, /* octets of header that -t reads for addresses; as header_maxsize's default */
	SUBMISSION_RCPT_MAX = 50000,
};

struct submission {
	char mode;                   /* letter behind -b */
	bool dot_ends;               /* a line with a single dot ends the message (no -i) */
	bool from_header;            /* -t */
	bool utf8;                 /* -O SMTPUTF8=yes */
	bool verbose;
	char report;                 /* -oe letter: p print; all end with an exit code and a line on stderr */
	const char *sender, *full_name, *conf_path, *notify, *ret, *envid;
	const char *const *recipients;
	size_t n_recipients;
};

int submission_connect(struct ctl *ctl);
int submission_send(struct ctl *ctl, const struct submission *s, int fd);
bool submission_relay(int fd, int in, int out);

/* Lines of the message as SMTP wants them: CRLF ends, dots doubled, no lone CR or LF; Bcc: dropped with -t. Pure, for the test:
 * `text` is the whole message, `end_out` where it ended (a lone dot, or its end). */
void submission_convert(struct str text, bool dot_ends, bool drop_bcc, struct buf *out, size_t *end_out);
/* The addresses of To:, Cc:, Bcc: (or the Resent- ones where there are any). ST_FAIL names the field that can't be read. */
enum status submission_addresses(struct arena *a, struct str text, struct ipc_strs *out, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* dovecot_line.h - the lines of Dovecot's authentication protocol, version 1: what a server says, taken apart.
 * Used by:    dovecot_conn.c, auth_dovecot.c, the fuzz target.
 * Owns:       nothing; texts are in the line, or in the caller's arena where they had to be unescaped.
 * Errors:     ST_ERROR with the words of the log for whatever is not as the protocol has it. The server is not trusted: it may be another
 *             program altogether.
 *
 * Server:  VERSION major minor; MECH name flags...; SPID pid; CUID number; COOKIE hex; DONE.    Later: OK, FAIL, CONT with the id.
 * Client:  VERSION major minor; CPID number; AUTH id mechanism parameters...; CONT id base64.   Fields are separated by TAB. */
#ifndef POLICYD_DOVECOT_LINE_H
#define POLICYD_DOVECOT_LINE_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	DOVECOT_LINE_MAX = 8192,
	DOVECOT_GREETING_MAX = 256,      /* lines before DONE */
	DOVECOT_MECHS_MAX = 2000,        /* octets of names */
};

struct dovecot_greeting {
	bool version, mech, pid, done;
	unsigned lines;
	char mechs[DOVECOT_MECHS_MAX];   /* " PLAIN LOGIN " */
};
/* Takes one line, without its LF; g is zeroed before the first. */
enum status dovecot_greeting_line(struct dovecot_greeting *g, struct str line, struct err *err);
bool dovecot_has_mech(const struct dovecot_greeting *g, struct str mechanism);

enum dovecot_kind { DOVECOT_OK, DOVECOT_FAIL, DOVECOT_CONT };
struct dovecot_reply {
	enum dovecot_kind kind;
	struct str user;                 /* unescaped, in the arena; empty: none was named */
	struct str data;                 /* CONT: base64 */
	struct str reason;               /* FAIL */
	bool temp;                       /* FAIL: cannot know now */
};
enum status dovecot_reply_line(struct arena *a, struct str line, uint64_t id, struct dovecot_reply *out, struct err *err);

#endif

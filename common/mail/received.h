/* SPDX-License-Identifier: ISC */
/* received.h - our own Received: field, in the default form of Exim's received_header_text.
 * Used by:    smtpd (and qmgr for reports).
 * Owns:       the result is in the caller's arena.
 * Errors:     none: every text of a stranger has been checked before, and is left out here when it has control octets.
 * Standards:  RFC 5321 section 4.4. */
#ifndef MAIL_RECEIVED_H
#define MAIL_RECEIVED_H

#include "common/base/mem.h"
#include "common/ipc/codec.h"

struct received {
	const struct ipc_facts *facts;
	struct str hostname;        /* primary_hostname */
	struct str software;        /* "Bulkhead 0.1": stands where Exim's name does */
	struct str message_id;
	struct str recipient;       /* for ...; empty when there are several */
	int64_t wall_s;             /* time of reception */
	bool utc;
	bool utf8;                  /* addresses that are not ASCII may stand here: the header is not ASCII anyway. Otherwise they are left out */
	bool log_port;              /* the client's port behind its address (log_selector incoming_port) */
};

/* "Received: from ...;\r\n\tDATE\r\n", folded. */
struct str received_format(struct arena *a, const struct received *r);
/* The administrator's text and the date as one field: line ends as in mail, and nothing that would end the header. */
struct str received_given(struct arena *a, struct str text, int64_t wall_s, bool utc);
/* $sender_fullhost: "name (helo) [ip]"; without log_port "[ip]", with it "[ip]:port". */
struct str received_fullhost(struct arena *a, const struct ipc_facts *facts, bool log_port);
/* $sender_rcvhost: "name ([ip] helo=... ident=...)" or "[ip] (helo=...)". */
struct str received_rcvhost(struct arena *a, const struct ipc_facts *facts, bool log_port);

#endif

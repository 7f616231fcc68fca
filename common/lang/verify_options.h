/* SPDX-License-Identifier: ISC */
/* verify_options.h - what may stand behind `verify = recipient/...`, `sender/...` and `header_sender/...`.
 * Used by:    the verify condition, which waits and words the reply; router, which routes and calls out.
 * Owns:       nothing; addresses are parts of the text.
 * Errors:     ST_ERROR with the option that is unknown, malformed, or not for this kind of verification.
 * Standards:  specification, sections 44.45 to 44.49. */
#ifndef LANG_VERIFY_OPTIONS_H
#define LANG_VERIFY_OPTIONS_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	CALLOUT_COMMAND_S = 30,      /* for each reply of the server */
	CALLOUT_WAIT_PARTS = 4,      /* maxwait, in such times */
	CALLOUT_TIME_MAX_S = 200,    /* for a whole callout, whatever is asked for: with routing less than the five minutes that clients wait */
};

enum verify_kind { VERIFY_RECIPIENT = 1, VERIFY_SENDER = 2, VERIFY_HEADER = 4 };

struct verify_options {
	bool defer_ok, no_details, success_on_redirect, callout;
	/* of the callout */
	bool callout_defer_ok, no_cache, random, use_sender, use_postmaster, hold, postmaster, fullpostmaster;
	struct str mailfrom, postmaster_mailfrom;
	uint32_t command_s, connect_s, maxwait_s;
};

/* text: as written after the first slash. */
enum status verify_options_parse(struct str text, enum verify_kind kind, struct verify_options *out, struct err *err);
/* The longest time that the callout takes: a host that was begun before maxwait has one command's time more. */
uint32_t verify_callout_limit_s(const struct verify_options *o);

#endif

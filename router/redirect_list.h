/* SPDX-License-Identifier: ISC */
/* redirect_list.h - what redirects: the items of alias data and forward files.
 * Used by:    driver_redirect.c, its test and fuzz target.
 * Owns:       texts are in the caller's arena or lent from the data.
 * Errors:     a malformed item comes out as REDIRECT_BAD with the reason as its text; the scan goes on behind it.
 * Standards:  specification, sections 22.4 to 22.6; addresses by RFC 5322. */
#ifndef ROUTER_REDIRECT_LIST_H
#define ROUTER_REDIRECT_LIST_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum redirect_kind {
	REDIRECT_ADDRESS,     /* text: local@domain, or only a local part */
	REDIRECT_FILE, REDIRECT_DIRECTORY /* with its slash */, REDIRECT_PIPE /* without the bar */, REDIRECT_NOWHERE /* /dev/null */,
	REDIRECT_INCLUDE,     /* text: the path */
	REDIRECT_FAIL, REDIRECT_DEFER, /* text: why */
	REDIRECT_BLACKHOLE, REDIRECT_UNKNOWN,
	REDIRECT_BAD,         /* text: what is wrong */
};

struct redirect_item {
	enum redirect_kind kind;
	struct str text;
	bool backslash;       /* \local: to be qualified with the parent's domain */
};

struct redirect_scan {
	struct str rest;
};
#define REDIRECT_SCAN(data) ((struct redirect_scan){ (data) })
/* The next item; false at the end. Comments and empty items are passed over. */
bool redirect_next(struct redirect_scan *scan, struct arena *a, struct redirect_item *out);

/* "550 5.7.1 text" of :fail:, "451 ..." of :defer:: takes the codes off when they fit the digit ('4', '5'); status_out may come out empty.
 * A code that does not fit stays in the text. */
void redirect_codes_take(struct str *text, char digit, struct str *status_out);
/* forbid_smtp_code: takes off any three digits and enhanced code, whatever they say. */
void redirect_codes_drop(struct str *text);

#endif

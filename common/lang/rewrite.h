/* SPDX-License-Identifier: ISC */
/* rewrite.h - rewriting rules: those of the rewrite section and those of a transport's headers_rewrite.
 * Used by:    policyd (envelope and header at reception), router (children of redirections, transports), the command (rewrite).
 * Owns:       compiled rules live in the arena they were compiled into (the section's: the language's); results in the context's arena.
 * Invariant:  what comes out is an address with a domain, or what went in. Rules are applied in order, each to what those before made.
 * Errors:     compiling: ST_ERROR. Applying never fails: what goes wrong is logged (main and panic log), and the address stays as it was
 *             before the rule.
 * Standards:  Exim's specification, chapter 31. */
#ifndef LANG_REWRITE_H
#define LANG_REWRITE_H

#include "common/lang/eval.h"

enum {
	REWRITE_REPEAT_MAX = 10,      /* flag R, after the first time */
	REWRITE_EDITS_MAX = 100,      /* fields of one message that are rewritten */
};

/* Where an address stands. */
enum rewrite_kind {
	REWRITE_SENDER = 1,           /* Sender:, and so on; also their Resent- forms */
	REWRITE_FROM = 2,
	REWRITE_TO = 4,
	REWRITE_CC = 8,
	REWRITE_BCC = 16,
	REWRITE_REPLY_TO = 32,
	REWRITE_ENV_FROM = 64,
	REWRITE_ENV_TO = 128,
	REWRITE_SMTP_FROM = 256,      /* the argument of MAIL or RCPT, before anything else looks at it (flag S) */
	REWRITE_SMTP_TO = 512,
	REWRITE_HEADERS = 63,
	REWRITE_ENVELOPE = 192,
	REWRITE_SMTP = 768,
};

struct rewrite;                   /* rules, compiled */

/* The rules of the rewrite section; compiled when first asked for. NULL in *out: there are none. */
enum status rewrite_rules(struct lang *lang, const struct rewrite **out, struct err *err);
/* Rules of headers_rewrite: a list, each item like a line of the section. The flags E F T S are refused. */
enum status rewrite_compile(struct lang *lang, struct arena *a, struct str list, struct conf_place place, const struct rewrite **out, struct err *err);
/* Kinds of addresses that a rule may touch; 0 for NULL. */
unsigned rewrite_kinds(const struct rewrite *rules);

/* By the section's rules: the address, or another one (a sender may become empty: p is not NULL). An address without domain and the
 * empty address come back as they are. */
struct str rewrite_address(struct eval *ev, enum rewrite_kind kind, struct str address);
struct str rewrite_address_by(struct eval *ev, const struct rewrite *rules, enum rewrite_kind kind, struct str address);
/* The argument of MAIL or RCPT: what came in, or an address without brackets. */
struct str rewrite_smtp(struct eval *ev, enum rewrite_kind kind, struct str argument);

/* One address item of a header field ("Name <a@b> (comment)"); domain: for an address without one, empty: it is left alone.
 * False: nothing changed. */
bool rewrite_item(struct eval *ev, const struct rewrite *rules, enum rewrite_kind kind, struct str item, struct str domain, struct str *out);
/* A whole field, "Name: value" with its line end. False: it is not one of those that have addresses, or nothing changed. */
bool rewrite_header(struct eval *ev, const struct rewrite *rules, struct str field, bool qualify_sender, bool qualify_recipient, struct str *out);
/* All fields of a header: the replaced ones as edits (EDIT_REPLACE), in the context's arena. */
struct ipc_edit *rewrite_headers(struct eval *ev, const struct rewrite *rules, struct str header, bool qualify_sender, bool qualify_recipient,
	uint32_t *n_out);
/* What is done to addresses of fields as they leave. */
struct rewrite_change {
	struct str from, to;          /* domains: a router took another one in its place */
};
struct rewrite_wish {
	const struct rewrite_change *changes; /* first these, in order */
	uint32_t n_changes;
	const struct rewrite *rules;  /* then a transport's; NULL: none */
	const struct ipc_edit *before; /* what was made of this header already; NULL: nothing */
	uint32_t n_before;
};
/* The fields as the message's own edits (in the facts) leave them and `before` has made of them, for struct edit_input's rewrites; all
 * of `before` is in the result. */
struct ipc_edit *rewrite_outgoing(struct eval *ev, const struct rewrite_wish *wish, struct str header, uint32_t *n_out);
/* The content's header, as it is in the file; nothing without a message. ST_DEFER: it can't be read; ST_ERROR: too large. */
enum status rewrite_header_read(struct eval *ev, struct str *out, struct err *err);
/* The kind of a field's addresses by its name; 0: it has none. */
unsigned rewrite_field_kind(struct str name);
const char *rewrite_kind_name(enum rewrite_kind kind); /* "from:", "env-to" */

#endif

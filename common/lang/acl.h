/* SPDX-License-Identifier: ISC */
/* acl.h - access control lists: compiled at load, run at each point of an SMTP dialogue.
 * Used by:    policyd, the command (session), master (checks).
 * Owns:       compiled ACLs live in the language's arena.
 * Errors:     compiling: ST_ERROR with place: unknown names with the nearest, wrong stage, syntax.
 *             Running: the verdict has it all; ST_DEFER and ST_ERROR of conditions become ACL_DEFER with a text for the log. */
#ifndef LANG_ACL_H
#define LANG_ACL_H

#include "common/ipc/enums.h"
#include "common/lang/expand.h"

enum {
	ACL_NESTING_MAX = 20,
	ACL_DELAY_MAX_MS = 3600000,
	ACL_REPLY_MAX = 8192,        /* octets of a reply's text */
	ACL_EDITS_MAX = 256,         /* header changes of one run */
	ACL_ARGS_MAX = 9,
};

/* From the configuration's statements; kept under its name in the language. */
enum status acl_compile(struct lang *lang, const struct conf_acl *conf_acl, struct acl **out, struct err *err);
/* By name; ST_FAIL when there is none. */
enum status acl_named(struct lang *lang, struct str name, struct acl **out, struct err *err);
/* The value of an acl_... option after expansion: a name, an absolute path, or statements in line. Compiled ones are kept. */
enum status acl_find(struct eval *ev, struct str value, struct acl **out, struct err *err);

/* The option that holds the ACL of a stage, or an unset text. */
const struct conf_text *acl_option(const struct conf *conf, enum acl_stage stage);

/* Runs the ACL of ev->stage with ev's facts: fills in the whole answer (verdict, code, text, variables, edits, flags, delay, name;
 * no settings). A stage without an ACL: accept, or deny for rcpt, vrfy, expn, etrn. Texts are in ev's arena. */
void acl_stage_run(struct eval *ev, struct ipc_acl_answer *out);
/* Before the data ACL: the ACL of ACL_MIME or ACL_NOTSMTP_MIME for each part of a message that has a Content-Type:, if there is such an
 * ACL. True: all were accepted, go on (out->delay_ms counts). False: *out is the whole answer. */
bool acl_mime_run(struct eval *ev, enum acl_stage stage, struct ipc_acl_answer *out);
/* One ACL. *message_out and *log_out may be empty. */
enum acl_verdict acl_run(struct eval *ev, const struct acl *acl, struct str *message_out, struct str *log_out, struct err *err);
/* Is the name that HELO gave the client's? ST_FAIL: no; ST_DEFER: nobody can tell now. What was found is kept in ev. */
enum status acl_helo_verify(struct eval *ev, struct err *err);
/* Splits "550 5.7.1 text" by the default class of the verdict: the code is taken off when its first digit is right, else it is left
 * out and *wrong_out set. The enhanced code stays in the text. */
struct str acl_reply_split(struct str text, char want_first, unsigned *code_out, bool *wrong_out);

/* For the manual: a row of a kind, where it may stand, and what it means. */
enum acl_page { ACL_PAGE_VERBS, ACL_PAGE_CONDITIONS, ACL_PAGE_MODIFIERS, ACL_PAGE_CONTROLS, ACL_PAGE_VERIFY, ACL_PAGES };
struct acl_page_row {
	const char *name, *what, *pending;
	uint32_t stages;              /* 1 << enum acl_stage; 0: everywhere */
	bool later;
};
bool acl_page_at(enum acl_page page, size_t i, struct acl_page_row *out);
bool acl_verify_at(size_t i, struct acl_page_row *out);

bool acl_condition_at(size_t i, struct lang_row *out);   /* conditions and modifiers */
bool acl_control_at(size_t i, struct lang_row *out);
bool acl_verb_at(size_t i, struct lang_row *out);
#endif

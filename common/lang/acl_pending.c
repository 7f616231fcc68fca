/* SPDX-License-Identifier: ISC */
/* Conditions of features that this build has not got yet, but whose configurations must load: each load warns of them, and a statement
 * that reaches one is deferred, since neither answer would be true. */
#include "common/lang/acl_row.h"

enum acl_rc acl_pending(struct acl_state *s, const char *what, struct err *err)
{
	(void)s;
	err_set(err, ST_DEFER, "\"%s\" is not served in this build", what);
	return RC_DEFER;
}

static enum acl_rc run_pending(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)text;
	return acl_pending(s, item->row->name, err);
}

/* A modifier only prepares what a condition would use. */
static enum acl_rc run_nothing(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)s, (void)item, (void)text, (void)err;
	return RC_OK;
}

static enum status compile_pending(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	(void)c, (void)from, (void)err;
	item->pending = item->row->modifier ? "does nothing" : "defers the statement";
	return ST_OK;
}

#define STAGES_SENDER (STAGES_MESSAGE & ~STAGES_NOT_SMTP)
const struct acl_item_row acl_items_pending[] = {
	{ "bmi_optin", true, SHAPE_TEXT, STAGE(ACL_RCPT), 0, run_nothing, compile_pending, false, "rules of the Brightmail scanner for this recipient" },
	{ "dcc", false, SHAPE_TEXT, STAGES_CONTENT, 0, run_pending, compile_pending, false, "the DCC calls the message bulk" },
	{ "dkim_signers", false, SHAPE_TEXT, STAGE(ACL_DKIM), 0, run_pending, compile_pending, false, "the DKIM signer is in the list" },
	{ "dkim_status", false, SHAPE_TEXT, STAGES_CONTENT, 0, run_pending, compile_pending, false, "the DKIM result is in the list" },
	{ "dmarc_status", false, SHAPE_TEXT, STAGES_CONTENT, 0, run_pending, compile_pending, false, "the DMARC result is in the list" },
	{ "spf", false, SHAPE_TEXT, STAGES_SENDER, 0, run_pending, compile_pending, false, "the SPF result is in the list" },
	{ "spf_guess", false, SHAPE_TEXT, STAGES_SENDER, 0, run_pending, compile_pending, false, "the SPF result, guessed, is in the list" },
	{ NULL }
};

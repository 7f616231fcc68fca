/* SPDX-License-Identifier: ISC */
/* The control modifier. */
#include <string.h>

#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"
#include "common/mail/address.h"

enum {
	STAGES_RECEIVING = STAGE(ACL_MAIL) | STAGE(ACL_RCPT) | STAGE(ACL_PREDATA) | STAGE(ACL_DATA) | STAGE(ACL_MIME) | STAGE(ACL_DKIM) | STAGE(ACL_PRDR)
		| STAGES_NOT_SMTP,
	STAGES_BEFORE_DATA = STAGE(ACL_MAIL) | STAGE(ACL_RCPT) | STAGE(ACL_PREDATA),
};

/* $local_part with the letters as they came, or in lower case again. */
static enum acl_rc local_part_case(struct acl_state *s, bool caseful)
{
	struct str local, domain;

	if (!address_split(s->ev->facts->recipient, &local, &domain))
		local = s->ev->facts->recipient;
	s->ev->caseful_local_part = caseful;
	s->ev->slot[EV_local_part] = str_taint(caseful ? local : str_lower(s->ev->arena, local));
	return RC_OK;
}

static enum acl_rc control_caseful(struct acl_state *s, struct str option, struct err *err)
{
	(void)option;
	(void)err;
	return local_part_case(s, true);
}

static enum acl_rc control_caselower(struct acl_state *s, struct str option, struct err *err)
{
	(void)option;
	(void)err;
	return local_part_case(s, false);
}

const struct acl_control_row acl_controls[] = {
	{ "caseful_local_part", STAGE(ACL_RCPT), 0, 0, false, NULL, control_caseful, false, "$local_part keeps its capitals" },
	{ "caselower_local_part", STAGE(ACL_RCPT), 0, 0, false, NULL, control_caselower, false, "$local_part is in lower case again" },
	{ "enforce_sync", STAGES_SMTP, MSG_ENFORCE_SYNC, MSG_NO_ENFORCE_SYNC, false, NULL, NULL, false, "clients must wait for their turn" },
	{ "no_enforce_sync", STAGES_SMTP, MSG_NO_ENFORCE_SYNC, MSG_ENFORCE_SYNC, false, NULL, NULL, false, "clients need not wait for their turn" },
	{ "fakereject", STAGES_RECEIVING & ~STAGES_NOT_SMTP, MSG_FAKE_REJECT, MSG_FAKE_DEFER, true, "fake_text", NULL, false,
		"the message is accepted, the client hears 550" },
	{ "fakedefer", STAGES_RECEIVING & ~STAGES_NOT_SMTP, MSG_FAKE_DEFER, MSG_FAKE_REJECT, true, "fake_text", NULL, false,
		"the message is accepted, the client hears 450" },
	{ "freeze", STAGES_RECEIVING, MSG_FREEZE, 0, true, "freeze", NULL, false, "the message is queued frozen" },
	{ "queue", STAGES_RECEIVING, MSG_QUEUE, 0, true, "queue_only", NULL, false, "the message waits for a queue run" },
	{ "queue_only", STAGES_RECEIVING, MSG_QUEUE, 0, false, NULL, NULL, false, "older name of queue" },
	{ "no_delay_flush", STAGES_SMTP, MSG_NO_DELAY_FLUSH, 0, false, NULL, NULL, false, "replies are not sent before a delay" },
	{ "no_callout_flush", STAGES_SMTP, 0, 0, false, NULL, NULL, false, "no effect: replies are never held back, and so go out before a callout" },
	{ "no_multiline_responses", STAGES_SMTP, MSG_NO_MULTILINE, 0, false, NULL, NULL, false, "replies have one line" },
	{ "no_pipelining", STAGES_SMTP, MSG_NO_PIPELINING, 0, false, NULL, NULL, false, "PIPELINING is not offered" },
	{ "submission", STAGES_BEFORE_DATA, MSG_SUBMISSION, 0, true, "submission", NULL, false, "the message comes from a user's mail program" },
	{ "suppress_local_fixups", STAGES_BEFORE_DATA | STAGE(ACL_NOTSMTP_START), MSG_NO_FIXUPS, 0, false, NULL, NULL, false,
		"nothing is mended in a local message" },
	{ "allow_auth_unadvertised", STAGE(ACL_CONNECT) | STAGE(ACL_HELO), 0, 0, false, NULL, NULL, true, "AUTH may be used though it was not offered" },
	{ "bmi_run", STAGES_RECEIVING, 0, 0, false, NULL, NULL, false, "the Brightmail scanner is run", "does nothing" },
	{ "cutthrough_delivery", STAGE(ACL_RCPT), 0, 0, true, NULL, NULL, true, "delivery while the message arrives" },
	{ "debug", STAGES_ALL, 0, 0, true, NULL, NULL, true, "a debug log for this session" },
	{ "dkim_disable_verify", STAGES_SMTP, 0, 0, false, NULL, NULL, false, "no DKIM check of this message; none is made in this build" },
	{ "dmarc_disable_verify", STAGES_SMTP, 0, 0, false, NULL, NULL, false, "no DMARC check of this message; none is made in this build" },
	{ "dmarc_enable_forensic", STAGES_SMTP, 0, 0, false, NULL, NULL, false, "DMARC failure reports", "does nothing" },
	{ "dscp", STAGES_SMTP, 0, 0, true, NULL, NULL, true, "class of service of the connection" },
	{ "error", STAGES_ALL, 0, 0, false, NULL, NULL, true, "an error, for tests" },
	{ "no_mbox_unspool", STAGES_RECEIVING, 0, 0, false, NULL, NULL, true, "scanned copies are kept" },
	{ "requiretls", STAGES_RECEIVING, 0, 0, false, NULL, NULL, true, "REQUIRETLS for the message" },
	{ "utf8_downconvert", STAGES_RECEIVING, 0, 0, true, NULL, NULL, true, "addresses in ASCII form" },
	{ "wellknown", STAGES_SMTP, 0, 0, true, NULL, NULL, true, "a file of well-known content" },
	{ NULL }
};

static enum status control_parse(struct lang *lang, struct str text, const struct acl_control_row **out, struct str *option, struct err *err)
{
	ptrdiff_t slash = str_find(text, '/');
	struct str name = str_trim(slash < 0 ? text : str_sub(text, 0, (size_t)slash));

	*option = slash < 0 ? STR_NULL : str_from(text, (size_t)slash + 1);
	*out = hash_get(&lang->acl_controls, name);
	if (!*out) {
		char word[CONF_NAME_MAX + 1];
		const char *near = NULL;
		unsigned best = name.len / 3 + 2;
		uint32_t len = name.len < CONF_NAME_MAX ? name.len : CONF_NAME_MAX;

		if (len)
			memcpy(word, name.p, len);
		word[len] = '\0';
		for (const struct acl_control_row *r = acl_controls; r->name; r++) {
			unsigned d = str_distance(word, r->name);

			if (d < best) {
				best = d;
				near = r->name;
			}
		}
		return err_set(err, ST_ERROR, "unknown control \"%s\"%s%s%s", word, near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	if ((*out)->later)
		return err_set(err, ST_ERROR, "control \"%s\" is known to Exim, not implemented", (*out)->name);
	if (slash >= 0 && !(*out)->takes_option)
		return err_set(err, ST_ERROR, "control \"%s\" takes no option", (*out)->name);
	return ST_OK;
}

static enum status compile_control(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	const struct acl_control_row *row;
	struct str option, text = from->value.text;
	ptrdiff_t slash = str_find(text, '/');
	enum status st;

	/* The name is checked at load where it stands there plainly; its option may still be expanded. */
	if (str_find(slash < 0 ? text : str_sub(text, 0, (size_t)slash), '$') >= 0)
		return ST_OK;
	st = control_parse(c->lang, text, &row, &option, err);
	if (st)
		return st;
	item->stages &= row->stages;
	item->pending = row->pending;
	return ST_OK;
}

static enum acl_rc mod_control(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct acl_control_row *row;
	struct str option;
	enum status st = control_parse(s->ev->lang, text, &row, &option, err);

	(void)item;
	if (st)
		return RC_ERROR;
	if (s->stage && !(row->stages & STAGE(s->stage))) {
		err_set(err, ST_ERROR, "\"control = %s\" can't be used in the %s ACL", row->name, acl_stage_name(s->stage));
		return RC_ERROR;
	}
	s->ev->flags = (s->ev->flags | row->set) & ~row->clear;
	s->ev->flags_off = (s->ev->flags_off | row->clear) & ~row->set;
	if (row->result && option.len)
		acl_result_set(s, row->result, option);
	return row->fn ? row->fn(s, option, err) : RC_OK;
}

const struct acl_item_row acl_items_control[] = {
	{ "control", true, SHAPE_TEXT, STAGES_ALL, 0, mod_control, compile_control, false, "changes how the session or the message is handled" },
	{ NULL }
};

const struct acl_item_row acl_items_later[] = {
	{ "decode", false, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "a MIME part is decoded into a file" },
	{ "malware", false, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "a virus scanner objects" },
	{ "mime_regex", false, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "a MIME part matches a regular expression" },
	{ "queue", true, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "the message goes to a named queue" },
	{ "regex", false, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "the content matches a regular expression" },
	{ "spam", false, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "a spam scanner objects" },
	{ "udpsend", true, SHAPE_TEXT, STAGES_ALL, 0, NULL, NULL, true, "sends a packet" },
	{ NULL }
};

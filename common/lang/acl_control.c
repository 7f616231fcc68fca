/* SPDX-License-Identifier: ISC */
/* The control modifier. */
#include <string.h>

#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"
#include "common/mail/address.h"

enum {
	STAGES_RECEIVING = STAGE(ACL_MAIL) | STAGE(ACL_RCPT) | STAGE(ACL_PREDATA) | STAGE(ACL_DATA) | STAGE(ACL_MIME) | STAGE(ACL_DKIM) | STAGE(ACL_PRDR)
		| STAGE(ACL_NOTSMTP) | STAGE(ACL_NOTSMTP_MIME),
	STAGES_FAKE = STAGES_RECEIVING & ~(STAGES_NOT_SMTP | STAGE(ACL_PREDATA)),
	STAGES_BEFORE_DATA = STAGE(ACL_MAIL) | STAGE(ACL_RCPT) | STAGE(ACL_PREDATA),
};

/* $local_part with the letters as they came, or in lower case again. */
static enum acl_rc local_part_case(struct acl_state *s, bool caseful)
{
	struct str local, domain;

	if (!address_split(s->ev->facts->recipient, &local, &domain))
		local = s->ev->facts->recipient;
	local = address_local_unquote(s->ev->arena, local);
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

static enum acl_rc control_error(struct acl_state *s, struct str option, struct err *err)
{
	(void)s;
	(void)option;
	err_set(err, ST_ERROR, "control = error");
	return RC_ERROR;
}

/* What an option of a control may be; the whole text behind the first slash. */
static bool option_words(struct str option, const char *const *words)
{
	struct str word;

	while (option.len && str_split(&option, '/', &word)) {
		size_t i = 0;

		while (words[i] && !str_is(word, words[i]) && !(words[i][strlen(words[i]) - 1] == '=' && str_begins(word, words[i])))
			i++;
		if (!words[i])
			return false;
		/* A name may have slashes in it. */
		if (!strcmp(words[i], "name="))
			return true;
	}
	return true;
}

static bool option_freeze(struct str option) { return option_words(option, (const char *const[]){ "no_tell", NULL }); }
static bool option_queue(struct str option) { return option_words(option, (const char *const[]){ "only", "first_pass_route", NULL }); }
static bool option_submission(struct str option) { return option_words(option, (const char *const[]){ "sender_retain", "domain=", "name=", NULL }); }
static bool option_debug(struct str option)
{
	return option_words(option, (const char *const[]){ "tag=", "opts=", "stop", "kill", "pretrigger=", "trigger=", NULL });
}
static bool option_cutthrough(struct str option) { return option_words(option, (const char *const[]){ "defer=spool", "defer=pass", NULL }); }
static bool option_any(struct str option) { (void)option; return true; }

static enum acl_rc control_debug(struct acl_state *s, struct str option, struct err *err)
{
	bool stop = option_words(option, (const char *const[]){ "stop", "kill", NULL }) && option.len;

	(void)err;
	s->ev->flags = stop ? s->ev->flags & ~(uint64_t)MSG_DEBUG : s->ev->flags | MSG_DEBUG;
	s->ev->flags_off = stop ? s->ev->flags_off | MSG_DEBUG : s->ev->flags_off & ~(uint64_t)MSG_DEBUG;
	s->ev->trace = !stop;
	return RC_OK;
}

static void flags_set(struct eval *ev, uint64_t set, uint64_t clear)
{
	ev->flags = (ev->flags | set) & ~clear;
	ev->flags_off = (ev->flags_off | clear) & ~set;
}

/* Nobody is told only where every one of the message's controls says so. */
static enum acl_rc control_freeze(struct acl_state *s, struct str option, struct err *err)
{
	bool told = s->ev->flags & MSG_FREEZE && !(s->ev->flags & MSG_NO_TELL), quiet = str_is(option, "no_tell") && !told;

	(void)err;
	flags_set(s->ev, quiet ? MSG_FREEZE | MSG_NO_TELL : MSG_FREEZE, quiet || !(s->ev->flags & MSG_NO_TELL) ? 0 : MSG_NO_TELL);
	return RC_OK;
}

static enum acl_rc control_queue(struct acl_state *s, struct str option, struct err *err)
{
	(void)err;
	flags_set(s->ev, str_is(option, "first_pass_route") ? MSG_FIRST_PASS : MSG_QUEUE, 0);
	return RC_OK;
}

static bool option_downconvert(struct str option) { return !option.len || str_is(option, "1") || str_is(option, "0") || str_is(option, "-1"); }

static enum acl_rc control_downconvert(struct acl_state *s, struct str option, struct err *err)
{
	uint64_t both = MSG_UTF8_CONVERT | MSG_UTF8_CONVERT_IF, set = str_is(option, "0") ? 0 : str_is(option, "-1") ? MSG_UTF8_CONVERT_IF : MSG_UTF8_CONVERT;

	(void)err;
	flags_set(s->ev, set, both & ~set);
	return RC_OK;
}

const struct acl_control_row acl_controls[] = {
	{ "allow_auth_unadvertised", STAGE(ACL_CONNECT) | STAGE(ACL_HELO), MSG_AUTH_UNADVERTISED, 0, NULL, NULL, NULL, false,
		"the client may use AUTH though it was not offered to it" },
	{ "bmi_run", STAGES_RECEIVING, 0, 0, NULL, NULL, NULL, false, "the Brightmail scanner is run", "does nothing" },
	{ "caseful_local_part", STAGE(ACL_RCPT), 0, 0, NULL, NULL, control_caseful, false, "$local_part keeps its capitals in the rest of the ACL" },
	{ "caselower_local_part", STAGE(ACL_RCPT), 0, 0, NULL, NULL, control_caselower, false, "$local_part is in lower case again" },
	{ "cutthrough_delivery", STAGE(ACL_RCPT), 0, 0, option_cutthrough, NULL, NULL, false,
		"accepted for the sake of Exim's configurations, without effect: a message is always made durable before it is delivered", "does nothing" },
	{ "debug", STAGES_ALL, 0, 0, option_debug, NULL, control_debug, false,
		"the ACLs of the rest of the session say in the main log what their statements and conditions do; /stop ends it, other options have no effect" },
	{ "dkim_disable_verify", STAGES_BEFORE_DATA | STAGE(ACL_CONNECT) | STAGE(ACL_HELO), 0, 0, NULL, NULL, NULL, false, "no DKIM check of this message; none is made in this build" },
	{ "dmarc_disable_verify", STAGES_BEFORE_DATA | STAGE(ACL_CONNECT) | STAGE(ACL_HELO), 0, 0, NULL, NULL, NULL, false, "no DMARC check of this message; none is made in this build" },
	{ "dmarc_enable_forensic", STAGES_RECEIVING, 0, 0, NULL, NULL, NULL, false, "DMARC failure reports", "does nothing" },
	{ "dscp", STAGES_SMTP, 0, 0, option_any, NULL, NULL, false,
		"accepted for the sake of Exim's configurations, without effect: the connection keeps its class of service", "does nothing" },
	{ "enforce_sync", STAGES_SMTP, MSG_ENFORCE_SYNC, MSG_NO_ENFORCE_SYNC, NULL, NULL, NULL, false,
		"from now on this client must wait for replies where SMTP asks for it" },
	{ "error", STAGES_ALL, 0, 0, NULL, NULL, control_error, false, "the ACL ends with an error, for tests" },
	{ "fakedefer", STAGES_FAKE, MSG_FAKE_DEFER, MSG_FAKE_REJECT, option_any, "!fake_text", NULL, false,
		"the message is accepted, but the client hears 450 and the text given" },
	{ "fakereject", STAGES_FAKE, MSG_FAKE_REJECT, MSG_FAKE_DEFER, option_any, "!fake_text", NULL, false,
		"the message is accepted, but the client hears 550 and the text given" },
	{ "freeze", STAGES_RECEIVING, 0, 0, option_freeze, NULL, control_freeze, false,
		"the message is queued, and frozen; with /no_tell those whom freeze_tell names are not told" },
	{ "no_callout_flush", STAGES_SMTP, MSG_NO_CALLOUT_FLUSH, 0, NULL, NULL, NULL, false, "replies to commands that came before the greeting are held back even while a question takes its time" },
	{ "no_delay_flush", STAGES_SMTP, MSG_NO_DELAY_FLUSH, 0, NULL, NULL, NULL, false, "replies that wait are not sent before a delay" },
	{ "no_enforce_sync", STAGES_SMTP, MSG_NO_ENFORCE_SYNC, MSG_ENFORCE_SYNC, NULL, NULL, NULL, false,
		"this client need not wait for replies any more" },
	{ "no_mbox_unspool", STAGES_RECEIVING, 0, 0, NULL, NULL, NULL, true, "scanned copies are kept" },
	{ "no_multiline_responses", STAGES_SMTP, MSG_NO_MULTILINE, 0, NULL, NULL, NULL, false, "refusals have one line" },
	{ "no_pipelining", STAGES_SMTP, MSG_NO_PIPELINING, 0, NULL, NULL, NULL, false, "PIPELINING is not offered to this client" },
	{ "queue", STAGES_RECEIVING, 0, 0, option_queue, NULL, control_queue, false,
		"the message waits for the next queue run; with /first_pass_route it is routed and delivered here, and only what goes by SMTP waits" },
	{ "queue_only", STAGES_RECEIVING, MSG_QUEUE, 0, NULL, NULL, NULL, false, "older name of queue" },
	{ "requiretls", STAGES_RECEIVING, MSG_REQUIRETLS, 0, NULL, NULL, NULL, false,
		"the message goes on over verified TLS to servers that promise the same, or not at all (RFC 8689), whether its sender asked for that or not" },
	{ "submission", STAGES_BEFORE_DATA, MSG_SUBMISSION, 0, option_submission, "!submission", NULL, false,
		"the message comes from a user's mail program: it gets the header fields that it lacks, and a true Sender:" },
	{ "suppress_local_fixups", STAGES_BEFORE_DATA | STAGE(ACL_NOTSMTP_START), MSG_NO_FIXUPS, 0, NULL, NULL, NULL, false,
		"a message from this machine keeps its header as it is" },
	{ "utf8_downconvert", STAGE(ACL_RCPT) | STAGE(ACL_VRFY), 0, 0, option_downconvert, NULL, control_downconvert, false,
		"addresses that are not ASCII are sent on in ASCII forms (A-labels): always (/1, or no option), never (/0), to hosts without SMTPUTF8 (/-1); for transports whose utf8_downconvert is empty" },
	{ "wellknown", STAGES_SMTP, 0, 0, option_any, NULL, NULL, true, "a file of well-known content" },
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
	if (slash >= 0 && !(*out)->option)
		return err_set(err, ST_ERROR, "control \"%s\" takes no option", (*out)->name);
	/* What is expanded is checked when it is known. */
	if (slash >= 0 && str_find(*option, '$') < 0 && !(*out)->option(*option))
		return err_set(err, ST_ERROR, "control \"%s\" has no option \"%.*s\"", (*out)->name, STR_FMT(str_sub(*option, 0, 60)));
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
	item->what = arena_printf(c->arena, "control=%s", row->name);
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
		err_set(err, ST_ERROR, "cannot use \"control=%s\" in the %s ACL; %s", row->name, acl_stage_name(s->stage),
			acl_stages_words(s->ev->arena, row->stages));
		return RC_ERROR;
	}
	s->ev->flags = (s->ev->flags | row->set) & ~row->clear;
	s->ev->flags_off = (s->ev->flags_off | row->clear) & ~row->set;
	/* The option lives as long as the message: with its variables, under a name that no configuration can give. */
	if (row->result && option.len && eval_var_set(s->ev, &s->ev->acl_m, str_of(row->result), option, err))
		return RC_ERROR;
	return row->fn ? row->fn(s, option, err) : RC_OK;
}

/* There is one queue. A text that comes out empty names it. */
static enum acl_rc mod_queue(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)item;
	if (!str_trim(text).len)
		return RC_OK;
	err_set(err, ST_ERROR, "queue: there are no named queues, so none is called \"%.*s\"; control = queue keeps a message for the next queue run",
		STR_FMT(expand_quote(s->ev, text)));
	return RC_ERROR;
}

static enum status compile_queue(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	(void)c;
	if (!item->x->is_constant || !str_trim(from->value.text).len)
		return ST_OK;
	return err_set(err, ST_ERROR, "there are no named queues; control = queue keeps a message for the next queue run");
}

const struct acl_item_row acl_items_control[] = {
	{ "queue", true, SHAPE_TEXT, STAGES_RECEIVING, 0, mod_queue, compile_queue, false,
		"the queue that the message goes to; there is one only, which has no name" },
	{ "control", true, SHAPE_TEXT, STAGES_ALL, 0, mod_control, compile_control, false, "changes how the session or the message is handled" },
	{ NULL }
};

const struct acl_item_row acl_items_later[] = {
	{ NULL }
};

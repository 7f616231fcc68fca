/* SPDX-License-Identifier: ISC */
/* Modifiers: message, log_message, logwrite, set, delay, continue, log_reject_target, add_header, remove_header. */
#include <string.h>

#include "common/base/log.h"
#include "common/lang/acl_row.h"
#include "common/mail/header.h"

/* ---- texts: taken up by the runner ---- */

static enum acl_rc mod_continue(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)s;
	(void)item;
	(void)text;
	(void)err;
	return RC_OK;
}

static const struct { const char *name; unsigned target; } log_names[] = { { "main", LOG_MAIN }, { "reject", LOG_REJECT }, { "panic", LOG_PANIC } };

static bool log_targets(struct acl_state *s, struct str list, char sep, unsigned *out)
{
	struct str word;

	(void)s;
	*out = 0;
	while (str_split(&list, sep, &word)) {
		unsigned target = 0;

		word = str_trim(word);
		for (size_t i = 0; i < sizeof log_names / sizeof *log_names; i++)
			if (str_is(word, log_names[i].name))
				target = log_names[i].target;
		if (!target && word.len)
			return false;
		*out |= target;
	}
	return true;
}

/* ":main,reject: text" */
static enum acl_rc mod_logwrite(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)err;
	unsigned targets = LOG_MAIN;
	struct str t = text;

	(void)item;
	while (t.len && ascii_is_space(t.p[0]))
		t = str_from(t, 1);
	if (t.len && t.p[0] == ':') {
		ptrdiff_t end = str_find(str_from(t, 1), ':');

		/* A word that is not known is no reason to refuse a message. */
		if (end < 0 || !log_targets(s, str_sub(t, 1, (size_t)end), ',', &targets)) {
			acl_log(s, LOG_MAIN | LOG_PANIC, str_printf(s->ev->arena, "logwrite: main, reject and panic may stand between the colons in \"%.*s\"",
				STR_FMT(expand_quote(s->ev, text))));
			if (end < 0)
				return RC_OK;
		}
		if (!targets)
			targets = LOG_MAIN;
		t = str_from(t, (size_t)end + 2);
		while (t.len && ascii_is_space(t.p[0]))
			t = str_from(t, 1);
	}
	if (t.len)
		acl_log(s, targets, t);
	return RC_OK;
}

static enum acl_rc mod_log_reject_target(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	unsigned targets;

	(void)item;
	if (!log_targets(s, text, ':', &targets)) {
		err_set(err, ST_ERROR, "log_reject_target: main, reject and panic are known, not \"%.*s\"", STR_FMT(expand_quote(s->ev, text)));
		return RC_ERROR;
	}
	s->no_reject_log = !targets;
	s->reject_targets = targets;
	return RC_OK;
}

/* ---- set ---- */

static enum status compile_set(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	struct str name = from->argument;
	bool good = (str_begins(name, "acl_c") || str_begins(name, "acl_m")) && name.len > 5 && (ascii_is_digit(name.p[5]) || name.p[5] == '_');

	for (uint32_t i = 0; good && i < name.len; i++)
		good = ascii_is_alnum(name.p[i]) || name.p[i] == '_';
	if (!good)
		return err_set(err, ST_ERROR, "\"%.*s\": variables that can be set are acl_c... and acl_m..., followed by a digit or _", STR_FMT(name));
	item->argument = str_dup(c->arena, str_from(name, 4));
	return ST_OK;
}

static enum acl_rc mod_set(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct eval_vars *vars = item->argument.p[0] == 'c' ? &s->ev->acl_c : &s->ev->acl_m;

	if (text.len > 65536) {
		err_set(err, ST_ERROR, "set: value of %u octets; 65536 are allowed", text.len);
		return RC_ERROR;
	}
	return acl_rc_of(eval_var_set(s->ev, vars, item->argument, text, err));
}

/* A delay that is written out is looked at when the configuration is read. */
static enum status compile_delay(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	int64_t seconds;

	(void)c, (void)from;
	if (!item->x->is_constant)
		return ST_OK;
	return conf_time_parse(str_trim(item->x->constant), &seconds, err);
}

static enum acl_rc mod_delay(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	int64_t seconds;

	(void)item;
	if (conf_time_parse(str_trim(text), &seconds, err) || seconds < 0) {
		err_set(err, ST_ERROR, "delay: \"%.*s\" is no time", STR_FMT(expand_quote(s->ev, text)));
		return RC_ERROR;
	}
	if (seconds > ACL_DELAY_MAX_MS / 1000)
		seconds = ACL_DELAY_MAX_MS / 1000;
	s->delay_ms += (uint64_t)seconds * 1000;
	return RC_OK;
}

/* ---- header fields ---- */

static bool edit_known(const struct acl_state *s, enum edit_op op, struct str text)
{
	const struct ipc_facts *f = s->ev->facts;

	for (uint32_t i = 0; i < s->ev->n_edits; i++)
		if (s->ev->edits[i].op == op && str_eq(s->ev->edits[i].text, text))
			return true;
	/* What stages before the data asked for twice is added once. */
	if (STAGE(s->stage) & STAGES_CONTENT)
		return false;
	for (uint32_t i = 0; i < f->n_edits; i++)
		if (f->edits[i].op == op && str_eq(f->edits[i].text, text))
			return true;
	return false;
}

void acl_edit_add(struct acl_state *s, enum edit_op op, struct str text)
{
	struct eval *ev = s->ev;

	if (ev->n_edits == ev->edits_room) {
		struct ipc_edit *v = arena_alloc(ev->arena, sizeof *v * (ev->edits_room + 8));

		if (ev->n_edits)
			memcpy(v, ev->edits, sizeof *v * ev->n_edits);
		ev->edits = v;
		ev->edits_room += 8;
	}
	ev->edits[ev->n_edits++] = (struct ipc_edit){ .op = op, .text = text };
}

static const struct { const char *word; enum edit_op op; } positions[] = {
	{ ":at_start:", EDIT_ADD_TOP }, { ":after_received:", EDIT_ADD_AFTER_RECEIVED }, { ":at_start_rfc:", EDIT_ADD_START_RFC }, { ":at_end:", EDIT_ADD_END },
};

static bool field_like(struct str text)
{
	uint32_t i = 0;

	while (i < text.len && (unsigned char)text.p[i] > ' ' && (unsigned char)text.p[i] < 0x7f && text.p[i] != ':')
		i++;
	return i && i < text.len && text.p[i] == ':';
}

static enum acl_rc header_add(struct acl_state *s, struct str text, struct err *err)
{
	enum edit_op op = EDIT_ADD_END;

	while (text.len && ascii_is_space(text.p[0]))
		text = str_from(text, 1);
	for (size_t i = 0; i < sizeof positions / sizeof *positions; i++)
		if (str_begins(text, positions[i].word)) {
			op = positions[i].op;
			text = str_from(text, str_of(positions[i].word).len);
			break;
		}
	while (text.len && ascii_is_space(text.p[0]))
		text = str_from(text, 1);
	while (text.len && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r'))
		text.len--;
	if (!text.len)
		return RC_OK;
	if (memchr(text.p, 0, text.len)) {
		err_set(err, ST_ERROR, "add_header: a NUL in \"%.*s\"", STR_FMT(expand_quote(s->ev, text)));
		return RC_ERROR;
	}
	text = str_printf(s->ev->arena, "%s%.*s\r\n", field_like(text) ? "" : "X-ACL-Warn: ", STR_FMT(text));
	/* A CR by itself is no line end of the configuration's. */
	for (uint32_t i = 0; i + 2 < text.len; i++)
		if (text.p[i] == '\r' && text.p[i + 1] != '\n')
			((char *)(uintptr_t)text.p)[i] = ' ';
	text = header_crlf(s->ev->arena, text);
	if (!header_text_valid(text)) {
		err_set(err, ST_ERROR, "add_header: \"%.*s\" can't be a header field", STR_FMT(expand_quote(s->ev, text)));
		return RC_ERROR;
	}
	if (edit_known(s, op, text))
		return RC_OK;
	if (s->ev->n_edits >= ACL_EDITS_MAX) {
		err_set(err, ST_ERROR, "more than %d header changes", ACL_EDITS_MAX);
		return RC_ERROR;
	}
	acl_edit_add(s, op, text);
	return RC_OK;
}

/* A newline that no blank follows ends a field. */
enum acl_rc acl_headers_add(struct acl_state *s, struct str text, struct err *err)
{
	enum acl_rc rc = RC_OK;
	uint32_t from = 0;

	for (uint32_t i = 0; rc == RC_OK && i <= text.len; i++) {
		if (i < text.len && (text.p[i] != '\n' || (i + 1 < text.len && (text.p[i + 1] == ' ' || text.p[i + 1] == '\t'))))
			continue;
		rc = header_add(s, str_sub(text, from, i - from), err);
		from = i + 1;
	}
	return rc;
}

static enum acl_rc mod_add_header(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)item;
	return acl_headers_add(s, text, err);
}

static enum acl_rc mod_remove_header(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_split split = LANG_SPLIT(text);
	struct str name;

	(void)item;
	while (lang_split_next(&split, s->ev->arena, &name)) {
		if (!name.len)
			continue;
		if (!header_name_valid(name)) {
			err_set(err, ST_ERROR, "remove_header: \"%.*s\" is no header name", STR_FMT(expand_quote(s->ev, name)));
			return RC_ERROR;
		}
		if (edit_known(s, EDIT_REMOVE, name))
			continue;
		if (s->ev->n_edits >= ACL_EDITS_MAX) {
			err_set(err, ST_ERROR, "more than %d header changes", ACL_EDITS_MAX);
			return RC_ERROR;
		}
		acl_edit_add(s, EDIT_REMOVE, name);
	}
	return RC_OK;
}

enum { STAGES_EDIT = STAGES_MESSAGE };

/* message and log_message are compiled like any text; the runner keeps them for later instead of expanding them here. */
const struct acl_item_row acl_items_message[] = {
	{ "message", true, SHAPE_TEXT, STAGES_ALL, 0, mod_continue, NULL, false, "text of the reply; may begin with its code" },
	{ "log_message", true, SHAPE_TEXT, STAGES_ALL, 0, mod_continue, NULL, false, "text for the log" },
	{ "logwrite", true, SHAPE_TEXT, STAGES_ALL, 0, mod_logwrite, NULL, false, "writes a line to the log at once" },
	{ "log_reject_target", true, SHAPE_TEXT, STAGES_ALL, 0, mod_log_reject_target, NULL, false, "logs that a rejection goes to" },
	{ "set", true, SHAPE_TEXT, STAGES_ALL, 0, mod_set, compile_set, false, "sets a variable acl_c... or acl_m..." },
	{ "continue", true, SHAPE_TEXT, STAGES_ALL, 0, mod_continue, NULL, false, "expands its text, for what that does" },
	{ "delay", true, SHAPE_TEXT, STAGES_ALL & ~STAGE(ACL_NOTQUIT), 0, mod_delay, compile_delay, false, "waits before the reply" },
	{ "add_header", true, SHAPE_TEXT, STAGES_EDIT, 0, mod_add_header, NULL, false, "adds header fields, at a position" },
	{ "remove_header", true, SHAPE_TEXT, STAGES_EDIT, 0, mod_remove_header, NULL, false, "removes header fields by name" },
	{ NULL }
};

/* SPDX-License-Identifier: ISC */
/* Texts that a message gets besides what its ACL says: its Received:, parts of its Message-ID:, the full name of who submitted it. */
#include "policyd/policyd.h"

#include <string.h>

#include "common/conf/option.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_regex.h"
#include "common/lang/rewrite.h"

/* One more is one row; smtpd reads them by name. */
enum { TEXT_RECEIVED, TEXT_ID_DOMAIN, TEXT_ID_TEXT, TEXT_FULL_NAME, TEXT_FROM, TEXTS };
static const struct {
	const char *name, *option;
	size_t offset;          /* of a struct conf_text in the main options */
	bool submitted;         /* only where a message is completed: submitted here, or by control = submission */
	bool set_only;          /* the default is smtpd's own work */
} rows[TEXTS] = {
	[TEXT_RECEIVED] = { "received_header", "received_header_text", offsetof(struct conf_opts_main, received_header_text), false, true },
	[TEXT_ID_DOMAIN] = { "message_id_domain", "message_id_header_domain", offsetof(struct conf_opts_main, message_id_header_domain), true, false },
	[TEXT_ID_TEXT] = { "message_id_text", "message_id_header_text", offsetof(struct conf_opts_main, message_id_header_text), true, false },
	[TEXT_FULL_NAME] = { "full_name", "gecos_name", offsetof(struct conf_opts_main, gecos_name), true, false },
	[TEXT_FROM] = { "from", NULL, 0, true, false },
};

struct policyd_texts {
	struct expansion *x[TEXTS];
	struct regex *gecos;    /* gecos_pattern; NULL: unset */
};

enum status policyd_message_compile(struct policyd *p, struct err *err)
{
	struct policyd_texts *t = arena_alloc(lang_arena(p->lang), sizeof *t);
	const struct conf_text *pattern = &p->conf->main.gecos_pattern;

	p->texts = t;
	for (size_t i = 0; i < TEXTS; i++) {
		const struct conf_text *text = (const struct conf_text *)(const void *)((const char *)&p->conf->main + rows[i].offset);

		if (rows[i].option && text->text.len && (text->set || !rows[i].set_only) && lang_compile(p->lang, text->text, text->place, &t->x[i], err) != ST_OK)
			return err_prefix(err, "%s", rows[i].option);
	}
	if (pattern->text.len && !(t->gecos = regex_new(pattern->text, 0, err)))
		return err_prefix(err, "gecos_pattern");
	return ST_OK;
}

void policyd_message_free(struct policyd *p)
{
	if (p->texts && p->texts->gecos)
		regex_free(p->texts->gecos);
}

/* What the password file says, with & for the login; or what gecos_name makes of it (specification, section 48.18). */
static struct str full_name(struct policyd *p, struct eval *ev)
{
	const struct ipc_facts *f = ev->facts;
	struct buf b = BUF_LIMIT(1024);
	struct err err = ERR_INIT;
	struct str name = f->full_name;

	if (!name.len) {
		struct regex_match match;

		for (size_t i = 0; i < f->gecos.len; i++) {
			if (f->gecos.p[i] != '&')
				buf_addc(&b, f->gecos.p[i]);
			else if (f->ident.len)
				buf_printf(&b, "%c%.*s", ascii_upper(f->ident.p[0]), STR_FMT(str_from(f->ident, 1)));
		}
		name = str_taint(str_dup(ev->arena, buf_str(&b)));
		buf_clear(&b);
		if (p->texts->gecos && p->texts->x[TEXT_FULL_NAME] && regex_match(p->texts->gecos, name, 0, &match, NULL) == ST_OK) {
			struct str made;

			for (int i = 0; i < match.n; i++)
				ev->num[i] = match.group[i];
			ev->n_num = match.n;
			if (expand(ev, p->texts->x[TEXT_FULL_NAME], &made, &err) == ST_OK)
				name = made;
		}
	}
	name = str_trim(name);
	for (size_t i = 0; i < name.len; i++) /* what prints is quoted by who writes the field */
		if ((unsigned char)name.p[i] < 32 || (unsigned char)name.p[i] > 126)
			return header_encode_words(ev->arena, name, "UTF-8");
	return name;
}

/* The address of a From: that smtpd adds, as the rewriting rules want it; empty: as it would be anyway. */
static struct str from_address(struct eval *ev)
{
	const struct ipc_facts *f = ev->facts;
	struct str address = str_taint(f->sender.len ? f->sender : f->auth_sender), made;
	const struct rewrite *rules;

	if (!address.len || rewrite_rules(ev->lang, &rules, NULL) || !(rewrite_kinds(rules) & REWRITE_FROM))
		return STR_NULL;
	made = rewrite_address_by(ev, rules, REWRITE_FROM, address);
	return str_eq(made, address) ? STR_NULL : made;
}

static enum status text_run(struct policyd *p, struct eval *ev, size_t i, struct str *out, struct err *err)
{
	*out = STR_NULL;
	if (i == TEXT_FULL_NAME) {
		*out = full_name(p, ev);
		return ST_OK;
	}
	if (i == TEXT_FROM) {
		*out = from_address(ev);
		return ST_OK;
	}
	return p->texts->x[i] ? expand(ev, p->texts->x[i], out, err) : ST_OK;
}

struct str policyd_received_text(struct policyd *p, struct eval *ev)
{
	struct err err = ERR_INIT;
	struct str text;

	return text_run(p, ev, TEXT_RECEIVED, &text, &err) == ST_OK ? text : STR_NULL;
}

void policyd_message_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	struct ipc_pair *v = arena_alloc(ev->arena, TEXTS * sizeof *v);
	const struct ipc_facts *f = ev->facts;
	bool submitted = f->local || (f->flags & MSG_SUBMISSION) || (out->flags & MSG_SUBMISSION);

	out->settings = v;
	for (size_t i = 0; i < TEXTS; i++) {
		struct err err = ERR_INIT;
		struct str text;
		enum status st;

		if (rows[i].submitted && !submitted)
			continue;
		st = text_run(p, ev, i, &text, &err);
		if (st != ST_OK && st != ST_FAIL && p->worker)
			worker_log(p->worker, LOG_MAIN | LOG_PANIC, "%s: %s; the default is used", rows[i].option, err.text);
		if (st == ST_OK && text.len)
			v[out->n_settings++] = (struct ipc_pair){ .name = str_of(rows[i].name), .value = text, .tainted = text.tainted };
	}
}

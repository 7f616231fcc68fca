/* SPDX-License-Identifier: ISC */
/* What a submitted message lacks: Date:, Message-ID:, From:, and the Sender: that tells who really sent it (specification, sections
 * 48.13 to 48.17). Messages of other hosts are left as they came. */
#include <string.h>

#include "common/mail/addrlist.h"
#include "common/mail/date.h"
#include "common/mail/edit.h"
#include "common/mail/header.h"
#include "smtpd/session_priv.h"

static enum status header_get(struct session *s, struct str *out, struct err *err)
{
	struct txn *t = s->txn;
	char *p;
	enum status st;

	if (t->scan.header_size > EDIT_HEADER_MAX)
		return err_set(err, ST_ERROR, "header too large to be looked at");
	p = arena_alloc(&t->arena, t->scan.header_size + 1);
	if (t->scan.header_size && (st = s->server->ops->read(s, p, t->scan.header_size, 0, err)))
		return st;
	*out = str_taint(str_make(p, t->scan.header_size));
	return ST_OK;
}

bool local_unqualified(struct session *s)
{
	static const char *const names[] = { "From", "To", "Cc", "Sender", "Reply-To", "Bcc" };
	struct header_scan scan;
	struct header_field field;
	struct str header;
	struct err err = ERR_INIT;

	if (s->txn->file != FILE_OPEN || header_get(s, &header, &err))
		return false;
	header_scan_init(&scan, header);
	while (header_scan_next(&scan, &field)) {
		struct str name = str_beginsi(field.name, "Resent-") ? str_from(field.name, 7) : field.name;
		bool known = false;
		struct addrlist list;

		for (size_t i = 0; i < sizeof names / sizeof *names; i++)
			known |= str_isi(name, names[i]);
		if (!known || addrlist_parse(field.value, ADDR_LENIENT | ADDR_UTF8 | ADDR_EMPTY, &s->txn->arena, &list, NULL))
			continue;
		for (uint32_t i = 0; i < list.n; i++)
			if (list.v[i].addr.len && str_find(list.v[i].addr, '@') < 0)
				return true;
	}
	return false;
}

static void field_add(struct txn *t, struct str text)
{
	txn_edit_add(t, EDIT_ADD_END, text);
}

/* What control = submission was given. */
struct submission {
	bool on, retain, has_domain;
	struct str domain, name;
};

static void submission_get(struct session *s, struct submission *out)
{
	struct str rest = policy_kept(s, "!submission"), word;

	*out = (struct submission){ .on = !s->local && (s->txn->flags & MSG_SUBMISSION) };
	while (out->on && rest.len) {
		/* A name takes all that follows. */
		if (str_begins(rest, "name=")) {
			out->name = str_from(rest, 5);
			return;
		}
		str_split(&rest, '/', &word);
		if (str_begins(word, "domain=")) {
			out->has_domain = true;
			out->domain = str_from(word, 7);
		} else if (str_is(word, "sender_retain")) {
			out->retain = true;
		}
	}
}

/* The address that a submitter has: login at qualify_domain, or what the client authenticated as. */
static struct str submitter(struct session *s, const struct submission *sub)
{
	struct arena *a = &s->txn->arena;
	struct ipc_facts f;
	struct str domain = sub->has_domain ? sub->domain : s->server->settings.qualify_domain;

	if (s->local)
		return s->ident ? str_printf(a, "%.*s@%.*s", STR_FMT(address_local_quote(a, str_of(s->ident))), STR_FMT(s->server->settings.qualify_domain)) : STR_NULL;
	session_facts(s, &f);
	if (!sub->on || !f.auth_id.len)
		return STR_NULL;
	return domain.len ? str_printf(a, "%.*s@%.*s", STR_FMT(address_local_quote(a, f.auth_id)), STR_FMT(domain)) : str_dup(a, f.auth_id);
}

/* Is the only author the submitter? */
static bool from_is(struct session *s, struct str value, struct str who)
{
	struct arena *a = &s->txn->arena;
	struct addrlist list;

	if (addrlist_parse(value, ADDR_LENIENT | ADDR_UTF8, a, &list, NULL) || list.n != 1)
		return false;
	if (str_find(list.v[0].addr, '@') < 0)
		return str_eq(list.v[0].addr, str_of(s->ident));
	return address_same(a, list.v[0].addr, who);
}

static void sender_fix(struct session *s, const struct submission *sub, struct str header, struct str who)
{
	struct settings *set = &s->server->settings;
	struct txn *t = s->txn;
	struct header_field from;
	bool check = sub->on || set->from_check;

	if (sub->on ? sub->retain : !s->local || s->trusted || !who.len)
		return;
	if ((sub->on || !set->sender_retain) && (t->scan.fields & 1u << DATA_FIELD_SENDER))
		txn_edit_add(t, EDIT_REMOVE, STR_LIT("Sender"));
	if (!who.len || !check || !header_find(header, "From", 0, &from) || from_is(s, from.value, who))
		return;
	field_add(t, str_printf(&t->arena, "Sender: %.*s\r\n", STR_FMT(addrlist_format(&t->arena, sub->name, who))));
	/* Whoever is named as the sender gets what comes back. */
	if (sub->on && t->sender.len)
		t->sender = who;
}

enum status local_fixups(struct session *s, struct err *err)
{
	struct txn *t = s->txn;
	struct arena *a = &t->arena;
	struct submission sub;
	struct str header, who;
	const char *resent = t->scan.fields & 1u << DATA_FIELD_RESENT ? "Resent-" : "";
	struct header_field field;
	char date[DATE_TEXT];
	enum status st = header_get(s, &header, err);

	if (st)
		return st;
	submission_get(s, &sub);
	who = submitter(s, &sub);
	if (!header_find(header, "Message-ID", 0, &field))
		field_add(t, str_printf(a, "Message-Id: <E%s@%.*s>\r\n", t->id, STR_FMT(s->server->settings.hostname)));
	if (!header_find(header, arena_printf(a, "%sFrom", resent), 0, &field)) {
		struct str from = t->sender.len ? t->sender : who;

		if (from.len)
			field_add(t, str_printf(a, "%sFrom: %.*s\r\n", resent, STR_FMT(sub.on ? addrlist_format(a, sub.name, from) : from)));
	}
	sender_fix(s, &sub, header, who);
	if (!header_find(header, arena_printf(a, "%sDate", resent), 0, &field)) {
		date_format(date, s->server->wall_us / 1000000, s->server->settings.utc);
		field_add(t, str_printf(a, "%sDate: %s\r\n", resent, date));
	}
	return txn_edits_full(t) ? err_set(err, ST_ERROR, "too many header changes") : ST_OK;
}

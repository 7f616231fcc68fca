/* SPDX-License-Identifier: ISC */
/* What a submitted message lacks: Date:, Message-ID:, From:, and the Sender: that tells who really sent it (specification, sections
 * 48.13 to 48.17). Messages of other hosts are left as they came. */
#include <string.h>

#include "common/conf/option.h"
#include "common/mail/addrlist.h"
#include "common/mail/affix.h"
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

/* Octets of the local part that the first match in a list of affixes takes. */
static size_t affix_length(struct arena *a, struct str list, struct str local, size_t (*match)(struct str local, struct str affix, size_t *wild_out))
{
	struct conf_list_walk walk = CONF_LIST_WALK(list);
	struct str item;
	size_t n = 0, wild;

	while (!n && list.len && conf_list_next(&walk, a, &item))
		if (item.len)
			n = match(local, item, &wild);
	return n;
}

/* Without what local_from_prefix and local_from_suffix allow around the login. */
static struct str affixes_drop(struct session *s, struct str addr)
{
	struct arena *a = &s->txn->arena;
	struct settings *set = &s->server->settings;
	struct str local, domain;

	if (!s->local || (!set->from_prefixes.len && !set->from_suffixes.len) || !address_split(addr, &local, &domain))
		return addr;
	local = str_from(local, affix_length(a, set->from_prefixes, local, affix_prefix));
	local = str_sub(local, 0, local.len - affix_length(a, set->from_suffixes, local, affix_suffix));
	return str_printf(a, "%.*s@%.*s", STR_FMT(local), STR_FMT(domain));
}

/* The only author, as it stands there; empty: there are several, or it can't be read. */
static struct str from_only(struct session *s, struct str value)
{
	struct addrlist list;

	if (addrlist_parse(value, ADDR_LENIENT | ADDR_UTF8, &s->txn->arena, &list, NULL) || list.n != 1)
		return STR_NULL;
	return list.v[0].addr;
}

static bool is_bare_login(struct session *s, struct str addr)
{
	return addr.len && s->ident && str_eq(addr, str_of(s->ident));
}

/* Is the only author the submitter? */
static bool from_is(struct session *s, struct str value, struct str who)
{
	struct str addr = from_only(s, value);

	if (!addr.len || str_find(addr, '@') < 0)
		return is_bare_login(s, addr);
	return address_same(&s->txn->arena, addr, who) || address_same(&s->txn->arena, affixes_drop(s, addr), who);
}

/* The name that goes with the submitter's address; encoded already where it comes from policyd. */
static struct str submitter_name(const struct session *s, const struct submission *sub)
{
	return sub->on ? sub->name : s->txn->texts.full_name;
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
	field_add(t, str_printf(&t->arena, "Sender: %.*s\r\n", STR_FMT(addrlist_format(&t->arena, submitter_name(s, sub), who))));
	/* Whoever is named as the sender gets what comes back. */
	if (sub->on && t->sender.len)
		t->sender = who;
}

/* What may not stand in a part of a message id becomes a hyphen. */
static struct str id_part(struct arena *a, struct str text, const char *more)
{
	char *p = arena_alloc(a, text.len + 1);

	for (size_t i = 0; i < text.len; i++)
		p[i] = ascii_is_alnum(text.p[i]) || (text.p[i] && strchr(more, text.p[i])) ? text.p[i] : '-';
	return str_make(p, text.len);
}

static void message_id_add(struct session *s, const char *resent)
{
	struct txn *t = s->txn;
	struct arena *a = &t->arena;
	struct str text = str_sub(id_part(a, t->texts.id_text, "!#$%&'*+-/=?^_`{|}~."), 0, 200);
	struct str domain = t->texts.id_domain.len ? str_sub(id_part(a, t->texts.id_domain, "-."), 0, ADDR_DOMAIN_MAX) : s->server->settings.hostname;

	field_add(t, str_printf(a, "%sMessage-Id: <E%s%s%.*s@%.*s>\r\n", resent, t->id, text.len ? "." : "", STR_FMT(text), STR_FMT(domain)));
}

/* Without From:, or with nothing but the login in it (as old programs write it; a name beside it is kept): the submitter with name
 * and address. */
static void from_fix(struct session *s, const struct submission *sub, struct str header, const char *resent, struct str who)
{
	struct txn *t = s->txn;
	const char *name = arena_printf(&t->arena, "%sFrom", resent);
	struct str from = t->sender.len ? t->sender : who;
	struct header_field field;
	struct address rewritten;

	if (header_find(header, name, 0, &field)) {
		if (!t->local_message || !s->ident || !str_eqi(str_trim(field.value), str_of(s->ident)))
			return;
		from = who;
		txn_edit_add(t, EDIT_REMOVE, str_of(name));
	}
	/* Rewriting rules hold for it, too; what came is checked like any address that comes from outside. */
	if (t->texts.from.len && (t->sender.len || s->local) && address_parse(t->texts.from, ADDR_LITERALS | ADDR_LENIENT | ADDR_UTF8, &rewritten, NULL) == ST_OK)
		from = t->texts.from;
	if (from.len)
		field_add(t, str_printf(&t->arena, "%s: %.*s\r\n", name, STR_FMT(addrlist_format(&t->arena, submitter_name(s, sub), from))));
}

void local_utf8_mark(struct session *s)
{
	struct txn *t = s->txn;
	struct err err = ERR_INIT;
	struct str header;

	if (!s->local || !t->scan.header_8bit || t->flags & MSG_SMTPUTF8 || !utf8_offered(s) || t->file != FILE_OPEN)
		return;
	if (!header_get(s, &header, &err) && address_utf8_valid(header))
		t->flags |= MSG_SMTPUTF8;
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
	if (!header_find(header, arena_printf(a, "%sMessage-ID", resent), 0, &field))
		message_id_add(s, resent);
	from_fix(s, &sub, header, resent, who);
	sender_fix(s, &sub, header, who);
	if (!header_find(header, arena_printf(a, "%sDate", resent), 0, &field)) {
		date_format(date, s->server->wall_us / 1000000, s->server->settings.utc);
		field_add(t, str_printf(a, "%sDate: %s\r\n", resent, date));
	}
	return txn_edits_full(t) ? err_set(err, ST_ERROR, "too many header changes") : ST_OK;
}

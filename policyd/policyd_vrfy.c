/* SPDX-License-Identifier: ISC */
/* policyd_vrfy.c - what VRFY and EXPN are told once their ACLs have accepted: router verifies the address, or redirects it once. The
 * verdict stays "accept"; text is the reply, code 0 means 250. */
#include <string.h>

#include "common/mail/addrlist.h"
#include "common/mail/address.h"
#include "policyd/policyd.h"

/* The argument, without the parameter of RFC 6531. */
static struct str argument_take(const struct ipc_facts *facts, bool *utf8_out)
{
	ptrdiff_t at = str_find(facts->command, ' ');
	struct str argument = at < 0 ? STR_NULL : str_trim(str_from(facts->command, (size_t)at)), last;

	at = str_rfind(argument, ' ');
	last = at < 0 ? STR_NULL : str_from(argument, (size_t)at + 1);
	*utf8_out = str_isi(last, "SMTPUTF8");
	return *utf8_out ? str_trim(str_sub(argument, 0, (size_t)at)) : argument;
}

static void tell(struct ipc_acl_answer *out, unsigned code, struct str text)
{
	out->code = code;
	out->text = str_sub(text, 0, 8000);
	out->log_text = STR_NULL;
}

static bool is_ascii(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

static struct str about(struct eval *ev, struct str address, const char *what)
{
	return str_printf(ev->arena, "<%.*s> %s", STR_FMT(address), what);
}

static bool address_take(struct eval *ev, const struct ipc_facts *facts, struct str *out, bool *utf8_out, struct err *err)
{
	struct str argument = argument_take(facts, utf8_out);
	struct addrlist_item item;

	if (!argument.len)
		return !err_set(err, ST_FAIL, "empty address");
	if (addrlist_item_parse(argument, ADDR_LENIENT | ADDR_UTF8 | ADDR_LITERALS, ev->arena, &item, err) != ST_OK)
		return false;
	if (!item.addr.len)
		return !err_set(err, ST_FAIL, "no address");
	*out = item.addr;
	return true;
}

bool policyd_vrfy_begin(struct eval *ev, struct ipc_facts *facts, struct ipc_acl_answer *out)
{
	struct str address, local, domain;
	struct err err = ERR_INIT;
	bool utf8;

	if (!address_take(ev, facts, &address, &utf8, &err)) {
		*out = (struct ipc_acl_answer){ .verdict = ACL_ACCEPT, .code = 501, .text = str_of(arena_strdup(ev->arena, err.text)) };
		return false;
	}
	if (!address_split(address, &local, &domain) || !domain.len) {
		if (!str_isi(address, "postmaster")) {
			*out = (struct ipc_acl_answer){ .verdict = ACL_ACCEPT, .code = 501,
				.text = str_printf(ev->arena, "%.*s: recipient address must contain a domain", STR_FMT(address)) };
			return false;
		}
		address = str_printf(ev->arena, "%.*s@%.*s", STR_FMT(address), STR_FMT(lang_qualify_recipient(ev->lang)));
	}
	facts->recipient = str_taint(str_sub(address, 0, 1000));
	facts->smtputf8 |= utf8;
	return true;
}

static enum status router_ask(struct policyd *p, struct eval *ev, const struct ipc_facts *facts, bool expn, struct str address,
	struct ipc_verify_answer *found, struct err *err)
{
	const struct lang_services *services = lang_services(p->lang);
	struct ipc_facts whole = *facts;
	struct ipc_verify_ask ask = { .addr = address, .expn = expn, .facts = &whole };

	return services->verify ? services->verify(services->ctx, ev->arena, &ask, found, err) : err_set(err, ST_ERROR, "nobody can tell here");
}

/* What can't be known now: the reason is the log's, unless it is meant for clients. */
static void tell_later(struct eval *ev, struct str address, struct str text, const struct err *err, struct ipc_acl_answer *out)
{
	tell(out, 451, text.len ? str_printf(ev->arena, "<%.*s> %.*s", STR_FMT(address), STR_FMT(text)) :
		str_printf(ev->arena, "Cannot resolve <%.*s> at this time", STR_FMT(address)));
	out->log_text = str_of(arena_strdup(ev->arena, err->text));
}

void policyd_vrfy_answer(struct policyd *p, struct eval *ev, const struct ipc_facts *facts, struct ipc_acl_answer *out)
{
	struct ipc_verify_answer found = { 0 };
	struct str address = facts->recipient;
	struct err err = ERR_INIT;
	enum status st = router_ask(p, ev, facts, false, address, &found, &err);

	if (st == ST_OK)
		tell(out, 0, about(ev, address, "is deliverable"));
	else if (st == ST_FAIL)
		tell(out, 550, str_printf(ev->arena, "<%.*s> %.*s", STR_FMT(address), STR_FMT(found.text.len ? found.text : STR_LIT("Unrouteable address"))));
	else
		tell_later(ev, address, found.text, &err, out);
	if (!facts->smtputf8 && !is_ascii(out->text))
		tell(out, 252, STR_LIT("Cannot VRFY user without SMTPUTF8, but will accept message and attempt delivery"));
}

void policyd_expn_answer(struct policyd *p, struct eval *ev, const struct ipc_facts *facts, struct ipc_acl_answer *out)
{
	struct ipc_verify_answer found = { 0 };
	struct err err = ERR_INIT;
	struct str address;
	enum status st;
	bool utf8;

	if (!address_take(ev, facts, &address, &utf8, &err)) {
		tell(out, 501, str_of(arena_strdup(ev->arena, err.text)));
		return;
	}
	st = router_ask(p, ev, facts, true, address, &found, &err);
	if (st == ST_OK)
		tell(out, 0, found.text);
	else if (st == ST_FAIL) /* the text of :fail: is not for lists */
		tell(out, 550, about(ev, address, "is undeliverable"));
	else
		tell_later(ev, address, STR_NULL, &err, out);
	if (!utf8 && !is_ascii(out->text))
		tell(out, 550, STR_LIT("The answer needs SMTPUTF8"));
}

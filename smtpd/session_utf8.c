/* SPDX-License-Identifier: ISC */
/* SMTPUTF8 (RFC 6531): who may use octets over 127, and where. */
#include "common/mail/alabel.h"
#include "smtpd/session_priv.h"

bool utf8_offered(const struct session *s)
{
	return s->server->settings.eightbit && (s->esmtp || s->local) && session_client(s)->flags & CLIENT_UTF8;
}

const char *utf8_param(struct session *s, struct str value)
{
	(void)value;
	if (!utf8_offered(s))
		return "SMTPUTF8 used when not advertised";
	s->txn->flags |= MSG_SMTPUTF8;
	return NULL;
}

/* Why there is no A-label form, which alone can be looked up; NULL: there is. */
static const char *domain_wrong(struct session *s, struct str domain)
{
	struct err err = ERR_INIT;
	struct str alabels;

	if (alabel_domain_encode(&s->server->scratch, domain, &alabels, &err))
		return arena_strdup(&s->server->scratch, err.text);
	return alabels.len > ADDR_DOMAIN_MAX || !address_domain_valid(alabels, ADDR_LENIENT) ? "malformed domain" : NULL;
}

/* RFC 6531 section 3.7.1 has A-labels in EHLO; U-labels are for those who asked for them. */
bool utf8_helo_valid(struct session *s, struct str name)
{
	return s->server->settings.utf8_domains && !address_is_ascii(name) && address_domain_valid(name, ADDR_UTF8) && !domain_wrong(s, name);
}

const char *utf8_address_wrong(struct session *s, const struct address *addr, const char **esc_out)
{
	if (!addr->utf8)
		return NULL;
	if (s->local && utf8_offered(s)) /* programs of this machine need not know the parameter */
		s->txn->flags |= MSG_SMTPUTF8;
	if (!(s->txn->flags & MSG_SMTPUTF8) && (!s->server->settings.utf8_domains || !address_is_ascii(addr->local))) {
		*esc_out = "5.6.7";
		return "an address that is not ASCII needs SMTPUTF8";
	}
	return address_is_ascii(addr->domain) ? NULL : domain_wrong(s, addr->domain);
}

bool utf8_argument_valid(struct session *s, struct str args)
{
	ptrdiff_t blank = str_rfind(args, ' ');
	bool said = blank > 0 && str_isi(str_from(args, (size_t)blank + 1), "SMTPUTF8");

	if (said && !utf8_offered(s)) {
		reply_syntax(s, 501, "5.5.4", "SMTPUTF8 used when not advertised");
		return false;
	}
	if (address_is_ascii(args))
		return true;
	if (!address_utf8_valid(args))
		reply_syntax(s, 501, "5.1.3", "malformed UTF-8 in address");
	else if (!said)
		reply_syntax(s, 501, "5.6.7", "an address that is not ASCII needs SMTPUTF8");
	return said && address_utf8_valid(args);
}

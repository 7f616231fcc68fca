/* SPDX-License-Identifier: ISC */
/* REQUIRETLS, and its counterpart in the header, TLS-Required: No (RFC 8689). */
#include "smtpd/session_priv.h"

bool requiretls_offered(const struct session *s)
{
	return s->tls_active && s->esmtp && session_client(s)->flags & CLIENT_REQUIRETLS;
}

const char *requiretls_param(struct session *s, struct str value)
{
	(void)value;
	s->txn->flags |= MSG_REQUIRETLS;
	return NULL;
}

static bool is_removed(const struct txn *t)
{
	for (uint32_t i = 0; i < t->n_edits; i++)
		if (t->edits[i].op == EDIT_REMOVE && str_isi(str_trim(t->edits[i].text), "TLS-Required"))
			return true;
	return false;
}

uint64_t requiretls_waived(struct session *s)
{
	const struct txn *t = s->txn;

	if (!t->scan.tls_required_n || t->flags & MSG_REQUIRETLS || is_removed(t))
		return 0;
	if (t->scan.tls_required_n == 1 && str_isi(str_trim(buf_str(&t->scan.tls_required)), "No"))
		return MSG_TLS_OPTIONAL;
	session_logf(s, LOG_MAIN, "TLS-Required: is without effect: %s", t->scan.tls_required_n > 1 ? "there is more than one" : "its value is not \"No\"");
	return 0;
}

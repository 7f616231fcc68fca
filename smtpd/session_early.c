/* SPDX-License-Identifier: ISC */
/* PIPECONNECT: a client that knows us may send its EHLO, and what it will allow, before we have said a word, and again behind the handshake
 * of TLS. The greeting may have crossed such a group on the way, so that the first EHLO may have more behind it in any case. */
#include "smtpd/session_priv.h"

/* Who need not wait for replies anyway is not told of it. Octets behind a PROXY header that failed are nobody's commands. */
static bool is_allowed(const struct session *s)
{
	return !s->local && !s->proxy_failed && session_sync_wanted(s) && session_client(s)->flags & CLIENT_PIPELINING && session_client(s)->flags & CLIENT_PIPECONNECT &&
		!(s->flags & MSG_NO_PIPELINING);
}

bool early_offered(const struct session *s)
{
	return session_pipelining(s) && is_allowed(s);
}

bool early_greeting(struct session *s)
{
	if (!is_allowed(s))
		return false;
	s->early_used = s->early_held = true;
	return true;
}

void early_begin(struct session *s)
{
	s->early_group = false;
	s->early_open = is_allowed(s);
}

/* Whatever is said to this EHLO, the commands behind it get their replies. */
bool early_permits(struct session *s, const struct verb *v, bool more)
{
	bool open = s->early_open;

	s->early_open = false;
	if (v->check == verb_ehlo || v->check == verb_helo)
		s->early_group = open && more && v->check == verb_ehlo;
	if (v->check == verb_ehlo && s->early_group) {
		s->early_used = s->early_held = true;
		return true;
	}
	return s->early_group && more && v->flags & VERB_SYNC_PLAIN;
}

bool session_holds(const struct session *s)
{
	if (!s->early_held)
		return false;
	return s->state == SESSION_ASK || s->state == SESSION_AUTH_ASK || s->state == SESSION_FILE;
}

struct str early_log(const struct session *s)
{
	static const struct str texts[2][3] = {
		{ STR_LIT("L-"), STR_LIT("L.-"), STR_LIT("L*-") }, { STR_LIT("L"), STR_LIT("L."), STR_LIT("L*") },
	};

	if (s->local || !session_pipelining(s))
		return STR_NULL;
	return texts[s->pipelined][s->early_used ? 2 : early_offered(s) ? 1 : 0];
}

/* Of the connection's first message, as Exim has it. */
struct str early_fastopen_log(struct session *s)
{
	static const struct str texts[] = { STR_LIT(""), STR_LIT("TFO"), STR_LIT("TFO*") };
	struct str text = texts[s->fastopen];

	s->fastopen = 0;
	return text;
}

/* SPDX-License-Identifier: ISC */
/* PRDR (draft-hall-prdr): behind the data 353, then a reply for each recipient that RCPT accepted, in that order, then one for the
 * message. Who is refused goes; those whom RCPT discarded get their reply, too, since the client counts it. */
#include <string.h>

#include "smtpd/session_priv.h"

enum prdr_place { PLACE_DISCARDED, PLACE_KEPT, PLACE_REFUSED };

static void prdr_next(struct session *s);

const char *param_prdr(struct session *s, struct str value)
{
	(void)value;
	s->txn->flags |= MSG_PRDR;
	return NULL;
}

bool prdr_offered(const struct session *s)
{
	return s->server->settings.prdr;
}

void prdr_accepted(struct txn *t, bool kept)
{
	if (t->flags & MSG_PRDR)
		buf_addc(&t->prdr_places, kept ? PLACE_KEPT : PLACE_DISCARDED);
}

/* As the client named it. */
static struct str recipient_said(const struct ipc_recipient *r)
{
	return r->parent.len ? r->parent : r->addr;
}

/* The ACL has been run for all: those refused go. */
static void recipients_sort(struct txn *t)
{
	uint32_t from = 0, to = 0;

	for (size_t i = 0; i < t->prdr_places.len; i++) {
		if (t->prdr_places.p[i] == PLACE_DISCARDED)
			continue;
		if (t->prdr_places.p[i] == PLACE_KEPT) {
			t->rcpts[to] = t->rcpts[from];
			t->rcpts[to].index = to;
			to++;
		}
		from++;
	}
	t->n_rcpts = to;
}

static void prdr_end(struct session *s)
{
	struct txn *t = s->txn;

	recipients_sort(t);
	t->recipient = STR_NULL;
	if (t->n_rcpts || t->prdr_discarded || !t->prdr_refused) {
		data_judge(s);
		return;
	}
	replyf(s, t->prdr_deferred ? 450 : 550, t->prdr_deferred ? "4.7.1" : "5.7.1", "id=%s message rejected for all recipients", t->id);
	session_transaction_end(s);
}

static void prdr_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct txn *t = s->txn;
	const struct ipc_recipient *r = &t->rcpts[t->prdr_rcpt];
	struct ipc_acl_answer own = *answer;
	bool defer = own.verdict == ACL_DEFER, good = own.verdict == ACL_ACCEPT || own.verdict == ACL_DISCARD;

	if (!own.text.len)
		own.text = str_printf(&s->server->scratch, "PRDR R=<%.*s> %s", STR_FMT(recipient_said(r)), good ? "acceptance" : defer ? "temporary refusal" : "refusal");
	if (defer && !own.code)
		own.code = 450;
	if (good) {
		reply(s, policy_code(&own, 250), "2.1.5", own.text);
	} else if (!policy_accepts(s, &own, "PRDR", str_printf(&s->server->scratch, "<%.*s>", STR_FMT(recipient_said(r)))) && own.verdict == ACL_DROP) {
		return;
	}
	if (own.verdict != ACL_ACCEPT) {
		t->prdr_places.p[t->prdr_at] = PLACE_REFUSED;
		t->prdr_discarded |= own.verdict == ACL_DISCARD;
		t->prdr_refused |= !good;
		t->prdr_deferred |= defer;
	}
	t->prdr_at++;
	t->prdr_rcpt++;
	prdr_next(s);
}

static void prdr_next(struct session *s)
{
	struct txn *t = s->txn;

	for (; t->prdr_at < t->prdr_places.len && t->prdr_places.p[t->prdr_at] == PLACE_DISCARDED; t->prdr_at++) {
		t->prdr_discarded = true;
		reply(s, 250, "2.1.5", STR_LIT("PRDR acceptance"));
	}
	if (t->prdr_at == t->prdr_places.len) {
		prdr_end(s);
		return;
	}
	t->recipient = t->rcpts[t->prdr_rcpt].addr;
	policy_ask(s, ACL_PRDR, prdr_proceed);
}

bool prdr_begin(struct session *s)
{
	struct txn *t = s->txn;

	if (!(t->flags & MSG_PRDR))
		return false;
	if (t->n_rcpts < 2 || !policy_has(s, ACL_PRDR)) { /* it is as if it had not been asked for (specification, section 44.9) */
		t->flags &= ~(uint64_t)MSG_PRDR;
		return false;
	}
	reply(s, 353, NULL, STR_LIT("PRDR content analysis beginning"));
	prdr_next(s);
	return true;
}

/* SPDX-License-Identifier: ISC */
/* Frozen messages: how they come to be, and what the clock does to them. */
#include "qmgr/qmgr.h"

void message_flags_record(struct qmgr *q, struct message *m, struct str by)
{
	struct ipc_spool_record rec = { .kind = SPOOL_FLAGS, .when_us = qmgr_now_us(q), .flags = m->flags, .by = by };
	struct err err = ERR_INIT;

	if (spool_record(q->spool, m->file, &rec, 1, NULL, NULL, &err))
		log_message(q, m, "could not record its flags: %s", err.text);
}

/* auto_thaw is not for reports; nor for what an administrator froze. */
static bool thaws_alone(const struct qmgr *q, const struct message *m)
{
	return q->set->auto_thaw > 0 && !m->null_sender && !(m->flags & MSG_FROZEN_ADMIN);
}

/* When something must be looked at again: the earliest of the limits for frozen messages. */
static uint32_t frozen_next(const struct qmgr *q, const struct message *m)
{
	const struct settings *s = q->set;
	int64_t at = INT64_MAX;

	if (s->timeout_frozen >= 0)
		at = m->received + s->timeout_frozen; /* its age, however long it has been frozen */
	if (thaws_alone(q, m) && m->frozen_at + s->auto_thaw < at)
		at = m->frozen_at + s->auto_thaw;
	if (m->null_sender && s->ignore_bounce_errors >= 0 && m->received + s->ignore_bounce_errors < at)
		at = m->received + s->ignore_bounce_errors;
	return at >= TRY_NEVER ? TRY_NEVER : (uint32_t)at;
}

/* why: for the log, in brackets where not empty; NULL: it was frozen before. */
void message_freeze(struct qmgr *q, struct message *m, const char *why)
{
	if ((m->state == M_ACTIVE || m->state == M_COMMITTING) && m->active)
		active_free(q, m->active);
	list_remove(&m->queue);
	dest_unwait(q, m);
	if (!m->frozen_at || why)
		m->frozen_at = qmgr_now(q);
	if (why) {
		m->flags |= MSG_FREEZE;
		message_flags_record(q, m, STR_NULL);
		log_message(q, m, *why ? "Frozen (%s)" : "Frozen%s", why);
	}
	message_state_set(q, m, M_FROZEN);
	timer_set(q, m, frozen_next(q, m));
}

static void message_thaw(struct qmgr *q, struct message *m, const char *by)
{
	m->flags &= ~(uint64_t)(MSG_FREEZE | MSG_FROZEN_ADMIN);
	message_flags_record(q, m, str_of(by));
	log_message(q, m, "Unfrozen by %s", by);
	message_ready(q, m, false);
}

void message_frozen_due(struct qmgr *q, struct message *m, uint32_t now)
{
	const struct settings *s = q->set;

	if (s->timeout_frozen >= 0 && m->received + s->timeout_frozen <= now) {
		log_message(q, m, "cancelled by timeout_frozen_after");
		if (m->null_sender) {
			message_complete(q, m);
			return;
		}
		m->cancel = CANCEL_FROZEN;
		m->flags &= ~(uint64_t)(MSG_FREEZE | MSG_FROZEN_ADMIN);
		message_flags_record(q, m, STR_NULL);
		message_ready(q, m, false);
		return;
	}
	if (m->null_sender && s->ignore_bounce_errors >= 0 && m->received + s->ignore_bounce_errors <= now)
		message_thaw(q, m, "errmsg timer");
	else if (thaws_alone(q, m) && m->frozen_at + s->auto_thaw <= now)
		message_thaw(q, m, "auto-thaw");
	else
		timer_set(q, m, frozen_next(q, m) > now ? frozen_next(q, m) : now + 60);
}

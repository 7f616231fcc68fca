/* SPDX-License-Identifier: ISC */
/* Which delivery is next. Every decision costs the same however much waits: heads of lists are taken, tails are appended to. */
#include "qmgr/qmgr.h"

static uint32_t class_limit(const struct qmgr *q, enum agent_class class)
{
	return class == AGENT_SMTP ? q->set->remote_max : q->set->local_max;
}

void schedule_dest(struct qmgr *q, struct dest *d)
{
	bool ready = d->queued && d->busy < d->window && !q->draining;

	if (ready && !list_linked(&d->ready)) {
		list_push(&q->class[d->class].ready, &d->ready);
		qmgr_pump(q);
	} else if (!ready && list_linked(&d->ready)) {
		list_remove(&d->ready);
	}
}

/* False: no agent for it now; one is on its way, and will call again. */
static bool dest_start(struct qmgr *q, struct dest *d)
{
	struct lane *lane = list_entry(list_first(&d->lanes), struct lane, node);
	struct conn *conn = conn_idle_take(q, lane);
	struct agent *agent = NULL;
	struct delivery *delivery;

	list_remove(&lane->node); /* to the end: the next lane's turn comes after this one's */
	list_push(&d->lanes, &lane->node);
	if (conn)
		agent = conn->agent;
	else if (agent_for(q, lane, &agent))
		return false;
	delivery = lane_take(q, lane);
	deliver_send(q, delivery, agent, conn);
	return true;
}

static void class_pump(struct qmgr *q, enum agent_class class)
{
	struct qmgr_class *c = &q->class[class];
	struct list *n;

	while (c->busy < class_limit(q, class) && (n = list_first(&c->ready))) {
		struct dest *d = list_entry(n, struct dest, ready);

		list_remove(n);
		if (d->load->most && d->load->busy >= d->load->most) {
			list_push(&d->load->waiting, &d->ready);
			continue;
		}
		d->refs++;
		if (dest_start(q, d))
			schedule_dest(q, d);
		dest_unref(q, d);
	}
}

void schedule_pump(struct qmgr *q)
{
	if (q->draining)
		return;
	for (unsigned i = 0; i < AGENT_CLASSES; i++)
		class_pump(q, (enum agent_class)i);
}

struct delivery *schedule_next(struct qmgr *q, struct lane *lane)
{
	struct dest *d = lane->dest;
	struct qmgr_class *c = &q->class[d->class];

	if (q->draining || !lane->queued || d->busy >= d->window || (d->load->most && d->load->busy >= d->load->most))
		return NULL;
	/* Others wait for the place that has become free: they come first. */
	if (c->busy + 1 >= class_limit(q, d->class) && !list_empty(&c->ready) && list_first(&c->ready) != &d->ready)
		return NULL;
	if (d->busy + 1 >= d->window && list_first(&d->lanes) != &lane->node)
		return NULL;
	list_remove(&lane->node);
	list_push(&d->lanes, &lane->node);
	return lane_take(q, lane);
}

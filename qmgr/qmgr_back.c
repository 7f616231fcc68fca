/* SPDX-License-Identifier: ISC */
/* Remote deliveries that are held back: where one message may have just so many at a time (remote_max_parallel), or its domains have an
 * order (remote_sort_domains). They stand in the message's own list, in that order, and enter their lanes as others come to an end;
 * until then no destination knows of them. Each keeps its lane alive. */
#include "qmgr/qmgr.h"

bool back_wanted(const struct qmgr *q, const struct plan_part *p, const struct leaf *leaf)
{
	return p->class == AGENT_SMTP && !p->lmtp && (q->set->remote_parallel || leaf->l->order);
}

struct delivery *back_last(struct active *a, const struct plan_part *p, struct str sender, uint64_t order)
{
	for (struct list *n = a->back.prev; n != &a->back; n = n->prev) {
		struct delivery *d = list_entry(n, struct delivery, node);

		if (d->order == order && d->plan->lane == p->lane && d->plan->hash == p->hash && d->n < p->most && str_eq(d->sender, sender))
			return d;
	}
	return NULL;
}

void back_add(struct active *a, struct delivery *d)
{
	struct list *after = a->back.prev;

	while (after != &a->back && list_entry(after, struct delivery, node)->order > d->order)
		after = after->prev;
	list_push_front(after, &d->node); /* behind it */
	d->plan->lane->busy++;
}

static struct delivery *back_take(struct active *a)
{
	struct list *n = list_first(&a->back);

	if (!n)
		return NULL;
	list_remove(n);
	return list_entry(n, struct delivery, node);
}

void back_release(struct qmgr *q, struct active *a)
{
	while (!q->set->remote_parallel || a->remote_out < q->set->remote_parallel) {
		struct delivery *d = back_take(a);

		if (!d)
			return;
		d->counted = true;
		a->remote_out++;
		lane_add(q, d->plan->lane, a, d);
		d->plan->lane->busy--;
	}
}

void back_drop(struct qmgr *q, struct active *a, bool settle)
{
	struct delivery *d;

	while ((d = back_take(a))) {
		struct lane *lane = d->plan->lane;

		for (struct leaf *leaf = d->leaves; settle && leaf; leaf = leaf->in_delivery)
			leaf_withdraw(q, a, leaf);
		lane->busy--;
		lane_release(q, lane);
	}
}

/* SPDX-License-Identifier: ISC */
/* Shadow transports (specification, chapter 24): the message once more, after a local delivery that worked. The recipients are settled
 * before it begins, and whatever becomes of it changes nothing for them; only their lines in the log wait, since they end in what became
 * of the shadow, and the message stays until its content is no longer read. */
#include "qmgr/qmgr.h"

struct line {
	struct line *next;
	struct leaf *leaf;
	struct str head, tail;
};

struct shadow {
	struct list node;           /* q->shadows */
	const struct plan_part *of;
	struct delivery *delivery;  /* NULL: not begun */
	struct line *lines, **lines_last;
};

bool shadow_hold(struct qmgr *q, struct delivery *d, struct leaf *leaf, const struct log_delivery *log)
{
	struct active *a = d->a;
	struct shadow *s = d->holds;
	struct line *line;

	if (!d->plan->shadow_name.len) {
		if (d->plan->shadow_error.len && log->first)
			log_message(q, a->m, "%.*s", STR_FMT(d->plan->shadow_error));
		return false;
	}
	if (!s) {
		s = d->holds = arena_alloc(&a->arena, sizeof *s);
		s->of = d->plan;
		s->lines_last = &s->lines;
		list_push(&q->shadows, &s->node);
	}
	line = arena_alloc(&a->arena, sizeof *line);
	line->leaf = leaf;
	if (!d->plan->no_log)
		log_delivered_keep(q, log, &a->arena, &line->head, &line->tail);
	*s->lines_last = line;
	s->lines_last = &line->next;
	return true;
}

static void lines_write(struct qmgr *q, struct shadow *s, struct str error)
{
	for (struct line *l = s->lines; l; l = l->next)
		if (l->head.len)
			log_delivered_kept(q, l->head, s->of->shadow_name, error, l->tail);
	s->lines = NULL;
	list_remove(&s->node);
}

void shadow_start(struct qmgr *q, struct delivery *d)
{
	struct shadow *s = d->holds;
	struct active *a = d->a;
	struct plan_part *p = NULL;
	struct ipc_plan plan;
	struct err err = ERR_INIT;

	if (q->draining || !s->of->shadow.len) {
		lines_write(q, s, q->draining ? STR_LIT("not run: shutting down") : s->of->shadow_error);
		return;
	}
	if (!ipc_decode(&ipc_type_plan, s->of->shadow, &a->arena, &plan, &err))
		p = plan_part_new(q, a, &plan);
	if (!p || p->class == AGENT_SMTP) {
		if (p)
			p->lane->busy--;
		lines_write(q, s, STR_LIT("the router's plan for it can't be used"));
		return;
	}
	s->delivery = delivery_new(q, a, p, p->has_return_path ? p->return_path : d->sender, d->order);
	s->delivery->shadow = s;
	for (struct line *l = s->lines; l; l = l->next)
		delivery_append(s->delivery, l->leaf);
	lane_add(q, p->lane, a, s->delivery);
	p->lane->busy--;
}

void shadow_end(struct qmgr *q, struct delivery *d, struct str error)
{
	lines_write(q, d->shadow, error);
}

/* What the agent said of the first recipient that it did not deliver to. */
void shadow_result(struct qmgr *q, struct delivery *d, const struct ipc_delivered *msg)
{
	struct str error = msg->n_outcomes ? STR_NULL : STR_LIT("the agent did not say what became of it");

	for (uint32_t i = 0; i < msg->n_outcomes; i++)
		if (!error.len && msg->outcomes[i].result != DELIVERY_OK)
			error = msg->outcomes[i].text.len ? msg->outcomes[i].text : STR_LIT("it failed");
	shadow_end(q, d, error);
}

void shadows_drain(struct qmgr *q)
{
	struct list *n, *next;

	for (n = q->shadows.next; n != &q->shadows; n = next) {
		struct shadow *s = list_entry(n, struct shadow, node);

		next = n->next;
		if (!s->delivery || !s->delivery->agent)
			lines_write(q, s, STR_LIT("not run: shutting down"));
	}
}

/* SPDX-License-Identifier: ISC */
/* When deferred messages are due: a heap by second, with each message's place kept in the message. */
#include "qmgr/qmgr.h"

#include <string.h>

static void heap_put(struct qmgr *q, uint32_t i, struct message *m)
{
	q->heap[i] = m;
	m->slot = i + 1;
}

static void heap_up(struct qmgr *q, uint32_t i, struct message *m)
{
	for (; i && m->next_try < q->heap[(i - 1) / 2]->next_try; i = (i - 1) / 2)
		heap_put(q, i, q->heap[(i - 1) / 2]);
	heap_put(q, i, m);
}

static void heap_down(struct qmgr *q, uint32_t i, struct message *m)
{
	for (uint32_t child; (child = 2 * i + 1) < q->n_heap; i = child) {
		if (child + 1 < q->n_heap && q->heap[child + 1]->next_try < q->heap[child]->next_try)
			child++;
		if (m->next_try <= q->heap[child]->next_try)
			break;
		heap_put(q, i, q->heap[child]);
	}
	heap_put(q, i, m);
}

static void heap_remove(struct qmgr *q, struct message *m)
{
	uint32_t i = m->slot - 1;
	struct message *last = q->heap[--q->n_heap];

	m->slot = 0;
	if (last == m)
		return;
	if (i && last->next_try < q->heap[(i - 1) / 2]->next_try)
		heap_up(q, i, last);
	else
		heap_down(q, i, last);
}

void timer_set(struct qmgr *q, struct message *m, uint32_t when)
{
	if (m->slot)
		heap_remove(q, m);
	m->next_try = when;
	if (when == TRY_NEVER)
		return;
	if (q->n_heap == q->cap_heap) {
		q->cap_heap = q->cap_heap ? q->cap_heap + q->cap_heap / 2 : 1024;
		q->heap = mem_resize(q->heap, q->cap_heap * sizeof *q->heap);
	}
	heap_up(q, q->n_heap++, m);
}

struct message *timer_due(struct qmgr *q, uint32_t now)
{
	struct message *m;

	if (!q->n_heap || q->heap[0]->next_try > now)
		return NULL;
	m = q->heap[0];
	heap_remove(q, m);
	return m;
}

uint32_t timer_next(const struct qmgr *q)
{
	return q->n_heap ? q->heap[0]->next_try : TRY_NEVER;
}

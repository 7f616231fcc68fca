/* SPDX-License-Identifier: ISC */
/* Destinations, the lanes through them, and the jobs in a lane. Messages take turns within a lane, lanes within a destination,
 * destinations within their class: neither a bulk mailing nor a slow host holds up anything else. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>

enum { KEY_MAX = 1200 };

static struct str key_own(struct str s) { return str_make(mem_memdup(s.p ? s.p : "", s.len), s.len); }

static struct str key_join(char out[static KEY_MAX], struct str a, struct str b)
{
	size_t n = 0, la = a.len < KEY_MAX / 2 - 1 ? a.len : KEY_MAX / 2 - 1, lb = b.len < KEY_MAX / 2 ? b.len : KEY_MAX / 2;

	if (la)
		memcpy(out, a.p, la);
	n = la;
	out[n++] = '\n';
	if (lb)
		memcpy(out + n, b.p, lb);
	return str_make(out, n + lb);
}

/* ---- destinations ---- */

static struct load *load_get(struct qmgr *q, struct str transport)
{
	struct load *load = hash_get(&q->loads, transport);

	if (load)
		return load;
	load = mem_new(sizeof *load);
	load->name = key_own(transport);
	list_init(&load->waiting);
	hash_put(&q->loads, load->name, load);
	return load;
}

void load_landed(struct qmgr *q, struct load *load)
{
	struct list *n = list_first(&load->waiting);

	load->busy--;
	if (!n)
		return;
	list_remove(n);
	schedule_dest(q, list_entry(n, struct dest, ready));
}

struct dest *dest_get(struct qmgr *q, struct str transport, struct str name, enum agent_class class)
{
	char text[KEY_MAX];
	struct str key = key_join(text, transport, name);
	struct dest *d = hash_get(&q->dests, key);

	if (d)
		return d;
	d = mem_new(sizeof *d);
	d->key = key_own(key);
	d->name = str_from(d->key, (size_t)str_find(d->key, '\n') + 1);
	d->class = class;
	d->load = load_get(q, transport);
	d->window = q->set->concurrency_first;
	list_init(&d->lanes);
	list_init(&d->waiting);
	hash_put(&q->dests, d->key, d);
	return d;
}

static void dest_release(struct qmgr *q, struct dest *d)
{
	if (d->refs)
		return;
	list_remove(&d->ready);
	hash_remove(&q->dests, d->key);
	mem_free((char *)(uintptr_t)d->key.p);
	mem_free(d);
}

void dest_unref(struct qmgr *q, struct dest *d)
{
	bug_on(!d->refs);
	d->refs--;
	dest_release(q, d);
}

void dest_wait(struct dest *d, struct message *m, bool parked)
{
	d->refs++;
	d->n_waiting++;
	d->n_parked += parked;
	m->dest = d;
	list_remove(&m->queue);
	if (parked)
		list_push_front(&d->waiting, &m->queue); /* they are ready as soon as there is room */
	else
		list_push(&d->waiting, &m->queue);
}

void dest_unwait(struct qmgr *q, struct message *m)
{
	struct dest *d = m->dest;

	if (!d)
		return;
	list_remove(&m->queue);
	m->dest = NULL;
	d->n_waiting--;
	d->n_parked -= m->state == M_PARKED;
	dest_unref(q, d);
}

void dest_wake(struct qmgr *q, struct dest *d, uint32_t most)
{
	struct list *n;

	d->refs++;
	while (most-- && (n = list_first(&d->waiting)))
		message_wake(q, list_entry(n, struct message, queue), false);
	dest_unref(q, d);
}

/* Not read from disk only to be put back: they wait for the host like all others. */
static void dest_defer_parked(struct qmgr *q, struct dest *d)
{
	struct list *n;

	d->refs++;
	while (d->n_parked && (n = list_first(&d->waiting))) {
		struct message *m = list_entry(n, struct message, queue);

		dest_unwait(q, m);
		dest_wait(d, m, false);
		message_defer(q, m, d->dead_until + qmgr_random(q) % 8);
	}
	dest_unref(q, d);
}

void dests_unpark(struct qmgr *q)
{
	uint32_t pos = 0, now = qmgr_now(q);
	struct dest *d;

	while ((d = hash_next(&q->dests, &pos, NULL))) {
		if (!d->n_parked)
			continue;
		if (d->dead_until > now)
			dest_defer_parked(q, d);
		else if (d->queued < LANE_QUEUE_MAX / 2)
			dest_wake(q, d, LANE_QUEUE_MAX / 2);
	}
}

/* One more for each windowful that worked; half when the host itself failed. */
void dest_result(struct qmgr *q, struct dest *d, bool worked)
{
	if (!worked) {
		d->window = d->window > 1 ? d->window / 2 : 1;
		d->successes = 0;
		return;
	}
	d->dead_until = 0;
	if (d->window < q->set->concurrency_max && ++d->successes >= d->window) {
		d->window++;
		d->successes = 0;
	}
	if (d->n_waiting > d->n_parked)
		dest_wake(q, d, WAKE_BATCH);
}

/* ---- lanes ---- */

struct lane *lane_get(struct qmgr *q, struct dest *d, const struct ipc_plan *plan)
{
	char text[2 * KEY_MAX];
	struct str key;
	struct lane *lane;
	size_t n = d->key.len;

	memcpy(text, d->key.p, n);
	text[n++] = '\n';
	if (plan->key.len)
		memcpy(text + n, plan->key.p, plan->key.len); /* at most 512, as declared */
	key = str_make(text, n + plan->key.len);
	lane = hash_get(&q->lanes, key);
	if (lane)
		return lane;
	lane = mem_new(sizeof *lane);
	lane->key = key_own(key);
	lane->dest = d;
	lane->uid = plan->uid;
	lane->gid = plan->gid;
	lane->user = key_own(plan->user);
	lane->initgroups = plan->initgroups;
	list_init(&lane->jobs);
	list_init(&lane->idle);
	d->refs++;
	hash_put(&q->lanes, lane->key, lane);
	return lane;
}

void lane_release(struct qmgr *q, struct lane *lane)
{
	struct dest *d = lane->dest;

	if (lane->queued || lane->busy || lane->conns)
		return;
	list_remove(&lane->node);
	hash_remove(&q->lanes, lane->key);
	mem_free((char *)(uintptr_t)lane->key.p);
	mem_free((char *)(uintptr_t)lane->user.p);
	mem_free(lane);
	dest_unref(q, d);
}

/* ---- jobs ---- */

static struct job *job_find(struct lane *lane, struct active *a)
{
	list_each(&a->jobs, n) {
		struct job *job = list_entry(n, struct job, of_message);

		if (job->lane == lane)
			return job;
	}
	return NULL;
}

static struct job *job_get(struct lane *lane, struct active *a)
{
	struct job *job = job_find(lane, a);

	if (job)
		return job;
	job = arena_alloc(&a->arena, sizeof *job);
	job->lane = lane;
	job->a = a;
	list_init(&job->deliveries);
	list_push(&lane->jobs, &job->node);
	list_push(&a->jobs, &job->of_message);
	return job;
}

static void lane_grew(struct qmgr *q, struct lane *lane, struct active *a)
{
	lane->queued++;
	lane->dest->queued++;
	a->deliveries++;
	if (!list_linked(&lane->node))
		list_push(&lane->dest->lanes, &lane->node);
	schedule_dest(q, lane->dest);
}

static void lane_shrank(struct lane *lane)
{
	lane->dest->queued--;
	if (!--lane->queued)
		list_remove(&lane->node);
}

void lane_add(struct qmgr *q, struct lane *lane, struct active *a, struct delivery *d)
{
	list_push(&job_get(lane, a)->deliveries, &d->node);
	lane_grew(q, lane, a);
}

void lane_add_front(struct qmgr *q, struct lane *lane, struct active *a, struct delivery *d)
{
	struct job *job = job_get(lane, a);

	list_push_front(&job->deliveries, &d->node);
	list_remove(&job->node);
	list_push_front(&lane->jobs, &job->node);
	lane_grew(q, lane, a);
}

struct delivery *lane_last(struct lane *lane, struct active *a)
{
	struct job *job = job_find(lane, a);

	return job && !list_empty(&job->deliveries) ? list_entry(job->deliveries.prev, struct delivery, node) : NULL;
}

static void job_end(struct job *job)
{
	list_remove(&job->node);
	list_remove(&job->of_message);
}

struct delivery *lane_take(struct qmgr *q, struct lane *lane)
{
	struct list *n = list_first(&lane->jobs);
	struct delivery *d;
	struct job *job;

	if (!n)
		return NULL;
	job = list_entry(n, struct job, node);
	d = list_entry(list_first(&job->deliveries), struct delivery, node);
	list_remove(&d->node);
	list_remove(&job->node);
	if (list_empty(&job->deliveries))
		job_end(job);
	else
		list_push(&lane->jobs, &job->node); /* its next one waits until the others had their turn */
	lane_shrank(lane);
	if (lane->dest->n_parked && lane->dest->queued < LANE_QUEUE_MAX / 2)
		dest_wake(q, lane->dest, 2);
	return d;
}

void lane_flush(struct qmgr *q, struct lane *lane, const struct leaf_end *end)
{
	struct delivery *d;

	lane->busy++; /* keeps it */
	while ((d = lane_take(q, lane))) {
		struct active *a = d->a;

		deliver_settle_all(q, d, end);
		delivery_over(d);
		active_step(q, a);
	}
	lane->busy--;
	schedule_dest(q, lane->dest);
	lane_release(q, lane);
}

void active_withdraw(struct qmgr *q, struct active *a)
{
	struct list *n;

	a->withdrawn = true;
	back_drop(q, a, true);
	while ((n = list_first(&a->jobs))) {
		struct job *job = list_entry(n, struct job, of_message);

		list_each(&job->deliveries, k) {
			struct delivery *d = list_entry(k, struct delivery, node);

			if (d->shadow)
				shadow_end(q, d, STR_LIT("not run: the message was withdrawn"));
			for (struct leaf *leaf = d->shadow ? NULL : d->leaves; leaf; leaf = leaf->in_delivery)
				leaf_withdraw(q, a, leaf);
		}
		job_drop(q, job);
	}
}

void job_drop(struct qmgr *q, struct job *job)
{
	struct lane *lane = job->lane;
	struct list *n;

	while ((n = list_first(&job->deliveries))) {
		list_remove(n);
		lane_shrank(lane);
		delivery_over(list_entry(n, struct delivery, node));
	}
	job_end(job);
	schedule_dest(q, lane->dest);
	lane_release(q, lane);
}

void destinations_free(struct qmgr *q)
{
	uint32_t pos = 0;
	struct lane *lane;
	struct load *load;
	struct dest *d;

	while ((lane = hash_next(&q->lanes, &pos, NULL))) {
		lane->queued = lane->busy = lane->conns = 0; /* what was in flight stays unanswered */
		lane_release(q, lane);
	}
	pos = 0;
	while ((d = hash_next(&q->dests, &pos, NULL))) {
		d->refs = 0;
		dest_release(q, d);
	}
	hash_clear(&q->lanes);
	hash_clear(&q->dests);
	pos = 0;
	while ((load = hash_next(&q->loads, &pos, NULL))) {
		mem_free((char *)(uintptr_t)load->name.p);
		mem_free(load);
	}
	hash_clear(&q->loads);
}

/* SPDX-License-Identifier: ISC */
/* Agents (processes that deliver) and the connections that they keep open for a next message. */
#include "qmgr/qmgr.h"

#include <string.h>

enum { LOCAL_BUSY_MAX = 32 /* deliveries given to one local pool at a time */ };

static const char *const class_peers[AGENT_CLASSES] = { [AGENT_SMTP] = "smtp-out", [AGENT_LOCAL] = "local", [AGENT_PIPE] = "pipe", [AGENT_QUEUEFILE] = "queuefile" };

/* ---- connections ---- */

struct conn *conn_find(struct agent *agent, uint64_t number)
{
	list_each(&agent->conns, n) {
		struct conn *c = list_entry(n, struct conn, node);

		if (c->number == number)
			return c;
	}
	return NULL;
}

struct conn *conn_idle_take(struct qmgr *q, struct lane *lane)
{
	struct list *n = list_first(&lane->idle);
	struct conn *c;

	if (!n)
		return NULL;
	c = list_entry(n, struct conn, idle);
	list_remove(&c->idle);
	list_remove(&c->age);
	q->n_idle_conns--;
	return c;
}

void conn_keep(struct qmgr *q, struct conn *c)
{
	c->idle_ms = loop_now(q->loop);
	list_push_front(&c->lane->idle, &c->idle);
	list_push(&q->idle_conns, &c->age);
	if (++q->n_idle_conns > CONNS_IDLE_MAX)
		conn_close(q, list_entry(list_first(&q->idle_conns), struct conn, age), true);
}

void conn_close(struct qmgr *q, struct conn *c, bool tell)
{
	struct lane *lane = c->lane;

	if (tell && c->agent->link) {
		struct ipc_conn_close msg = { .connection = c->number };

		channel_send(c->agent->link->channel, &ipc_type_conn_close, &msg, NULL, 0);
	}
	if (list_linked(&c->age))
		q->n_idle_conns--;
	list_remove(&c->age);
	list_remove(&c->idle);
	list_remove(&c->node);
	mem_free(c);
	lane->conns--;
	lane_release(q, lane);
}

void conns_expire(struct qmgr *q, uint64_t now_ms)
{
	struct list *n;

	while ((n = list_first(&q->idle_conns))) {
		struct conn *c = list_entry(n, struct conn, age);

		if (c->idle_ms + CONN_IDLE_MS > now_ms)
			return;
		conn_close(q, c, true);
	}
}

void agent_on_conn_closed(void *owner, struct ipc_in *in)
{
	struct daemon_link *link = owner;
	struct agent *agent = link->state;
	const struct ipc_conn_closed *msg = in->msg;
	struct conn *c = agent ? conn_find(agent, msg->connection) : NULL;

	/* One that a delivery was just sent to: the agent opens another, the plan went along. */
	if (c && list_linked(&c->age))
		conn_close(agent->q, c, false);
}

/* ---- agents ---- */

static struct agent *agent_new(struct qmgr *q, enum agent_class class, uint64_t uid, uint64_t gid)
{
	struct agent *agent = mem_new(sizeof *agent);

	agent->q = q;
	agent->class = class;
	agent->uid = uid;
	agent->gid = gid;
	list_init(&agent->conns);
	list_init(&agent->stalled);
	list_push_front(&q->class[class].agents, &agent->node);
	return agent;
}

static void agent_free(struct agent *agent)
{
	struct list *n;

	while ((n = list_first(&agent->stalled)))
		list_remove(n); /* whoever calls looks at all destinations again */
	while ((n = list_first(&agent->conns)))
		conn_close(agent->q, list_entry(n, struct conn, node), false);
	list_remove(&agent->node);
	mem_free(agent);
}

/* All destinations of the class may have waited for it. */
static void class_wake(struct qmgr *q, enum agent_class class)
{
	uint32_t pos = 0;
	struct dest *d;

	while ((d = hash_next(&q->dests, &pos, NULL)))
		if (d->class == class)
			schedule_dest(q, d);
	qmgr_pump(q);
}

/* Its idle connections are of no use to anybody else, and keep it from finishing. */
static void agent_retire(struct agent *agent)
{
	agent->old = true;
	list_each_safe(&agent->conns, n) {
		struct conn *c = list_entry(n, struct conn, node);

		if (list_linked(&c->age))
			conn_close(agent->q, c, true);
	}
}

static enum status agent_smtp(struct qmgr *q, struct agent **out)
{
	struct agent *best = NULL;

	list_each(&q->class[AGENT_SMTP].agents, n) {
		struct agent *agent = list_entry(n, struct agent, node);

		if (agent->link && !agent->old && channel_is_open(agent->link->channel) && (!best || agent->busy < best->busy))
			best = agent;
	}
	*out = best;
	return best ? ST_OK : ST_DEFER;
}

static bool agent_fits(const struct agent *agent, const struct lane *lane)
{
	return agent->uid == lane->uid && agent->gid == lane->gid && str_is(lane->initgroups ? lane->user : STR_LIT(""), agent->groups_of);
}

static void groups_set(struct agent *agent, struct str user)
{
	size_t n = user.len < sizeof agent->groups_of - 1 ? user.len : sizeof agent->groups_of - 1;

	memset(agent->groups_of, 0, sizeof agent->groups_of);
	if (n)
		memcpy(agent->groups_of, user.p, n);
}

enum status agent_for(struct qmgr *q, struct lane *lane, struct agent **out)
{
	enum agent_class class = lane->dest->class;
	struct agent *agent;

	if (class == AGENT_SMTP)
		return agent_smtp(q, out);
	list_each(&q->class[class].agents, n) {
		agent = list_entry(n, struct agent, node);
		if (!agent_fits(agent, lane) || agent->old)
			continue;
		if (!agent->link || !channel_is_open(agent->link->channel) || agent->busy >= LOCAL_BUSY_MAX) {
			list_push(&agent->stalled, &lane->dest->ready); /* asked for, dying, or full */
			return ST_DEFER;
		}
		*out = agent;
		return ST_OK;
	}
	agent = agent_new(q, class, lane->uid, lane->gid);
	agent->cookie = ++q->cookie;
	groups_set(agent, lane->initgroups ? lane->user : STR_NULL);
	if (q->env.need)
		q->env.need(q->env.arg, class_peers[class], agent->cookie, lane->uid, lane->gid, lane->user, lane->initgroups);
	list_push(&agent->stalled, &lane->dest->ready);
	return ST_DEFER;
}

void agent_landed(struct agent *agent)
{
	struct list *n = list_first(&agent->stalled);

	agent->busy--;
	agent->idle_ms = loop_now(agent->q->loop);
	if (!n)
		return;
	list_remove(n);
	schedule_dest(agent->q, list_entry(n, struct dest, ready));
}

void agent_opened(struct qmgr *q, enum agent_class class, struct daemon_link *link)
{
	struct agent *agent = NULL;

	list_each(&q->class[class].agents, n) {
		struct agent *other = list_entry(n, struct agent, node);

		if (other->link && other->link->generation < link->generation)
			agent_retire(other);
		if (!other->link && link->cookie && other->cookie == link->cookie)
			agent = other;
	}
	if (!agent) {
		agent = agent_new(q, class, link->uid, link->gid);
		groups_set(agent, str_of(link->user));
	}
	agent->link = link;
	agent->idle_ms = loop_now(q->loop);
	link->state = agent;
	while (!list_empty(&agent->stalled))
		list_remove(list_first(&agent->stalled));
	class_wake(q, class);
}

void agent_closed(struct daemon_link *link)
{
	struct agent *agent = link->state;
	struct qmgr *q;
	enum agent_class class;

	if (!agent)
		return;
	q = agent->q;
	class = agent->class;
	link->state = NULL;
	agent_free(agent);
	class_wake(q, class);
}

static void dest_refuse(struct qmgr *q, struct dest *d, const struct agent *agent, struct str text)
{
	struct leaf_end end = { .result = DELIVERY_DEFERRED, .internal = true, .text = text, .status = STR_LIT("4.3.0"),
		.next_try = qmgr_now(q) + INTERNAL_RETRY_S * 5 };

	for (struct list *n = d->lanes.next, *next; n != &d->lanes; n = next) {
		struct lane *lane = list_entry(n, struct lane, node);

		next = n->next;
		if (agent_fits(agent, lane))
			lane_flush(q, lane, &end);
	}
}

/* Master will not give a process under this uid (never_users, no such transport): its deliveries wait. */
void agent_refused(struct qmgr *q, uint64_t cookie, struct str text)
{
	for (unsigned class = 0; class < AGENT_CLASSES; class++)
		list_each_safe(&q->class[class].agents, n) {
			struct agent *agent = list_entry(n, struct agent, node);
			uint32_t pos = 0;
			struct dest *d;

			if (agent->link || agent->cookie != cookie)
				continue;
			while ((d = hash_next(&q->dests, &pos, NULL)))
				if (d->class == agent->class && d->queued) {
					d->refs++;
					dest_refuse(q, d, agent, text);
					dest_unref(q, d);
				}
			agent_free(agent);
			class_wake(q, (enum agent_class)class);
			return;
		}
}

/* The pool ends by itself when nobody is left who might ask it. */
void agents_expire(struct qmgr *q, uint64_t now_ms)
{
	for (unsigned class = AGENT_LOCAL; class <= AGENT_PIPE; class++)
		list_each_safe(&q->class[class].agents, n) {
			struct agent *agent = list_entry(n, struct agent, node);
			struct daemon_link *link = agent->link;

			if (!link || agent->busy || !list_empty(&agent->stalled) || now_ms < agent->idle_ms + AGENT_IDLE_MS)
				continue;
			link->state = NULL;
			agent_free(agent);
			daemon_link_close(link);
		}
}

void agents_free(struct qmgr *q)
{
	struct list *n;

	for (unsigned class = 0; class < AGENT_CLASSES; class++)
		while ((n = list_first(&q->class[class].agents))) {
			struct agent *agent = list_entry(n, struct agent, node);

			if (agent->link)
				agent->link->state = NULL;
			agent->link = NULL;
			agent_free(agent);
		}
}

/* SPDX-License-Identifier: ISC */
/* master_tickets.c - keys of TLS session tickets: random, in memory only, the same for every smtpd process, through reloads and restarts.
 * A key makes tickets for tls_ticket_key_time, and is taken as long again. */
#include <stdlib.h>
#include <string.h>

#include "master/master.h"

static void tickets_make(struct master *m)
{
	if (m->tickets_made) {
		memcpy(m->tickets[1], m->tickets[0], sizeof m->tickets[1]);
		m->tickets_before = true;
	}
	arc4random_buf(m->tickets[0], sizeof m->tickets[0]);
	m->tickets_made = true;
}

static void on_time(void *arg)
{
	struct master *m = arg;

	tickets_make(m);
	list_each(&m->children, n)
		child_tickets_send(list_entry(n, struct child, node));
	tickets_start(m);
}

void tickets_start(struct master *m)
{
	if (!m->tickets_made)
		tickets_make(m);
	loop_timer_start(&m->tickets_timer, m->loop, (uint64_t)m->conf->main.tls_ticket_key_time * 1000, on_time, m);
}

void child_tickets_send(struct child *c)
{
	const struct master *m = c->m;
	struct ipc_ctl_tickets msg = { .now = str_make((const char *)m->tickets[0], sizeof m->tickets[0]) };

	if (!c->service->listens || !c->control || !m->tickets_made)
		return;
	if (m->tickets_before)
		msg.before = str_make((const char *)m->tickets[1], sizeof m->tickets[1]);
	channel_send(c->control, &ipc_type_ctl_tickets, &msg, NULL, 0);
}

void tickets_clear(struct master *m)
{
	loop_timer_stop(&m->tickets_timer);
	explicit_bzero(m->tickets, sizeof m->tickets);
}

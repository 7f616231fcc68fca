/* SPDX-License-Identifier: ISC */
/* daemon.c - the life of a daemon, and what master says to it on its control channel. */
#include "common/daemon/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/log_conf.h"
#include "common/conf/view.h"
#include "common/daemon/filter.h"
#include "common/daemon/impl.h"
#include "common/daemon/jail.h"

enum {
	RETIRE_LOOK_MS = 50,         /* how often a channel that is to be closed is looked at */
	TERM_DEADLINE_MS = 5000,     /* SIGTERM by hand */
	ORPHAN_DEADLINE_MS = 10000,  /* master is gone */
	STATUS_PAIRS_MAX = 128,
};

static const struct {
	enum daemon_exit code;
	const char *text;
} exits[] = {
	{ DAEMON_EXIT_OK, "finished" },
	{ DAEMON_EXIT_USAGE, "was not given the arguments that it needs" },
	{ DAEMON_EXIT_START, "could not start" },
	{ DAEMON_EXIT_SOFTWARE, "stopped itself because of a defect" },
	{ DAEMON_EXIT_MEMORY, "had no memory or descriptors left" },
	{ DAEMON_EXIT_CHANNEL, "lost its control channel" },
	{ DAEMON_EXIT_JAIL, "could not set up its protection" },
	{ DAEMON_EXIT_VIEW, "could not load its configuration" },
};

const char *daemon_exit_text(int code)
{
	for (size_t i = 0; i < sizeof exits / sizeof *exits; i++)
		if (exits[i].code == (enum daemon_exit)code)
			return exits[i].text;
	return NULL;
}

/* ---- saying things ---- */

void daemon_log(struct daemon *d, unsigned targets, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_line(&d->log, targets, "%s: %s", d->name, text);
}

void daemon_fail(struct daemon *d, int code, const char *fmt, ...)
{
	char text[1024];
	struct ipc_ctl_failed msg = { .text = STR_NULL };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "bulkhead %s: %s\n", d->name, text);
	fflush(stderr);
	if (d->impl->control && channel_is_open(d->impl->control)) {
		msg.text = str_of(text);
		channel_send(d->impl->control, &ipc_type_ctl_failed, &msg, NULL, 0);
		channel_flush(d->impl->control);
	}
	log_flush(&d->log);
	_exit(code);
}

void daemon_ready(struct daemon *d)
{
	static const struct ipc_ctl_ready msg;

	if (d->impl->ready || d->impl->finished)
		return;
	d->impl->ready = true;
	channel_send(d->impl->control, &ipc_type_ctl_ready, &msg, NULL, 0);
}

void daemon_finish(struct daemon *d)
{
	d->impl->finished = true;
	loop_stop(d->loop);
}

void daemon_need(struct daemon *d, const char *peer, uint64_t cookie, uid_t uid, gid_t gid, const char *user, bool initgroups)
{
	struct ipc_ctl_need msg = {
		.peer = str_of(peer), .cookie = cookie, .uid = (uint64_t)uid + 1, .gid = (uint64_t)gid + 1, .user = str_of(user), .initgroups = initgroups
	};

	channel_send(d->impl->control, &ipc_type_ctl_need, &msg, NULL, 0);
}

void daemon_need_any(struct daemon *d, const char *peer, uint64_t cookie)
{
	struct ipc_ctl_need msg = { .peer = str_of(peer), .cookie = cookie };

	channel_send(d->impl->control, &ipc_type_ctl_need, &msg, NULL, 0);
}

/* ---- links ---- */

static const struct daemon_peer *peer_find(const struct daemon *d, struct str name)
{
	for (const struct daemon_peer *p = d->spec->peers; p && p->name; p++)
		if (str_is(name, p->name))
			return p;
	return NULL;
}

static void link_free(struct daemon_link *l)
{
	list_remove(&l->node);
	channel_free(l->channel);
	if (l->fd >= 0)
		close(l->fd);
	mem_free(l);
}

static void link_closed(void *owner, struct channel *ch, const char *why)
{
	struct daemon_link *l = owner;

	(void)ch;
	if (l->peer->closed)
		l->peer->closed(l, why);
	link_free(l);
}

static void links_retired_close(void *arg)
{
	struct daemon *d = arg;
	unsigned left = 0;

	list_each_safe(&d->links, n) {
		struct daemon_link *l = list_entry(n, struct daemon_link, node);

		if (l->retired && channel_questions(l->channel))
			left++;
		else if (l->retired)
			link_closed(l, l->channel, "a newer one is there");
	}
	if (left)
		loop_timer_start(&d->impl->retire, d->loop, RETIRE_LOOK_MS, links_retired_close, d);
}

/* Peers that are only asked: the older channel goes when its last question is answered. */
static void links_retire(struct daemon *d, const struct daemon_link *newer)
{
	list_each(&d->links, n) {
		struct daemon_link *l = list_entry(n, struct daemon_link, node);

		if (l != newer && l->peer == newer->peer && l->number == newer->number && !l->retired) {
			l->retired = true;
			loop_timer_start(&d->impl->retire, d->loop, 0, links_retired_close, d);
		}
	}
}

static void link_open(struct daemon_link *l)
{
	struct daemon *d = l->daemon;
	struct channel_spec spec = {
		.peer = l->name, .handlers = l->peer->handlers, .owner = l, .closed = link_closed, .pack = l->peer->pack, .queue_max = l->peer->queue_max
	};

	if (l->peer->raw) {
		list_remove(&l->node);
		l->peer->opened(l);
		link_free(l);
		return;
	}
	l->channel = channel_open(d->loop, l->fd, &spec);
	l->fd = -1;
	if (l->peer->retire)
		links_retire(d, l);
	if (l->peer->opened)
		l->peer->opened(l);
}

struct daemon_link *daemon_link_find(struct daemon *d, const char *peer)
{
	for (struct list *n = d->links.prev; n != &d->links; n = n->prev) {
		struct daemon_link *l = list_entry(n, struct daemon_link, node);

		if (!strcmp(l->peer->name, peer) && !l->retired && l->channel && channel_is_open(l->channel))
			return l;
	}
	return NULL;
}

void daemon_link_close(struct daemon_link *l)
{
	link_free(l);
}

/* ---- drain ---- */

static void drain_late(void *arg)
{
	struct daemon *d = arg;

	daemon_log(d, LOG_MAIN, "the time to finish is over: stopping now");
	daemon_finish(d);
}

static void drain_begin(struct daemon *d, uint64_t deadline_ms)
{
	struct daemon_impl *i = d->impl;
	uint64_t at = loop_now(d->loop) + deadline_ms;

	if (i->finished || (d->draining && i->drain_at <= at))
		return;
	i->drain_at = at;
	loop_timer_start(&i->deadline, d->loop, deadline_ms, drain_late, d);
	d->draining = true;
	if (!i->started || !d->spec->drain)
		daemon_finish(d);
	else
		d->spec->drain(d, deadline_ms);
}

/* ---- what master says ---- */

static int fd_take(struct ipc_in *in, unsigned i)
{
	int fd = in->fds[i];

	in->fds[i] = -1;
	return fd;
}

static void logs_take(struct daemon *d, struct ipc_in *in, unsigned from)
{
	for (unsigned i = 0; i < LOG_FDS; i++)
		if (in->fds[from + i] >= 0)
			log_set_fd(&d->log, i, fd_take(in, from + i));
}

static void on_start(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_start *m = in->msg;

	if (d->impl->view_fd >= 0 || d->impl->started || in->fds[0] < 0)
		daemon_fail(d, DAEMON_EXIT_CHANNEL, "master sent ctl_start twice, or without its descriptors");
	d->impl->view_fd = fd_take(in, 0);
	logs_take(d, in, 1);
	d->number = (unsigned)m->number;
	d->generation = m->generation;
	snprintf(d->impl->instance, sizeof d->impl->instance, "%.*s", STR_FMT(m->instance));
}

static void listener_hand(struct daemon *d, struct daemon_pending_listener *p)
{
	struct daemon_listener l = { .fd = p->fd, .address = p->address, .port = p->port, .tls = p->tls, .submit = p->submit };

	if (d->spec->listener && !d->draining)
		d->spec->listener(d, &l);
	else
		close(p->fd);
	list_remove(&p->node);
	mem_free(p);
}

static void on_listener(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_listener *m = in->msg;
	struct daemon_pending_listener *p;

	if (in->fds[0] < 0)
		return;
	p = mem_new(sizeof *p);
	p->fd = fd_take(in, 0);
	snprintf(p->address, sizeof p->address, "%.*s", STR_FMT(m->address));
	p->port = (unsigned)m->port;
	p->tls = m->tls;
	p->submit = m->submit;
	list_push(&d->impl->listeners, &p->node);
	if (d->impl->started)
		listener_hand(d, p);
}

static void on_channel(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_channel *m = in->msg;
	const struct daemon_peer *peer = peer_find(d, m->peer);
	struct daemon_link *l;

	if (!peer || in->fds[0] < 0) {
		daemon_log(d, LOG_MAIN | LOG_PANIC, "master offered a channel to \"%.*s\", which this daemon has no use for", STR_FMT(m->peer));
		return;
	}
	l = mem_new(sizeof *l);
	l->daemon = d;
	l->peer = peer;
	l->fd = fd_take(in, 0);
	l->number = (unsigned)m->number;
	l->generation = m->generation;
	l->cookie = m->cookie;
	l->uid = m->uid;
	snprintf(l->user, sizeof l->user, "%.*s", STR_FMT(str_sub(m->user, 0, sizeof l->user - 1)));
	l->gid = m->gid;
	if (m->number)
		snprintf(l->name, sizeof l->name, "%s/%u", peer->name, l->number);
	else
		snprintf(l->name, sizeof l->name, "%s", peer->name);
	list_push(&d->links, &l->node);
	if (d->impl->started)
		link_open(l);
}

/* The view's options that the skeleton itself obeys. */
static enum filter_mode conf_apply(struct daemon *d)
{
	const struct conf_opts_main *m = &d->conf->main;

	log_conf_apply(d->conf, &d->log, NULL); /* master has checked it */
	return str_is(m->seccomp.text, "off") ? FILTER_OFF : str_is(m->seccomp.text, "log") ? FILTER_LOG : FILTER_ENFORCE;
}

static void view_load(struct daemon *d)
{
	struct err err = ERR_INIT;
	struct conf *conf;

	if (conf_view_load(d->impl->view_fd, &conf, &err))
		daemon_fail(d, DAEMON_EXIT_VIEW, "the view of the configuration: %s", err.text);
	close(d->impl->view_fd);
	d->impl->view_fd = -1;
	d->impl->conf = conf;
	d->conf = conf;
}

static void on_go(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	struct daemon_impl *i = d->impl;
	struct err err = ERR_INIT;
	enum filter_mode mode;
	enum status st;

	(void)in;
	if (i->started || i->view_fd < 0)
		daemon_fail(d, DAEMON_EXIT_CHANNEL, "master sent ctl_go twice, or before ctl_start");
	view_load(d);
	mode = conf_apply(d);
	if (filter_enter(d->spec->sys | (d->spec->sys_for ? d->spec->sys_for(d->conf) : 0), d->spec->sys_more, mode, &err))
		daemon_fail(d, DAEMON_EXIT_JAIL, "%s", err.text);
	st = d->spec->start ? d->spec->start(d, &err) : ST_OK;
	if (st && (st != ST_DEFER || err.text[0]))
		daemon_fail(d, DAEMON_EXIT_START, "%s", err.text[0] ? err.text : "could not start");
	i->started = true;
	list_each_safe(&d->links, n)
		link_open(list_entry(n, struct daemon_link, node));
	list_each_safe(&i->listeners, n)
		listener_hand(d, list_entry(n, struct daemon_pending_listener, node));
	if (!st)
		daemon_ready(d);
}

static void on_view(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_view *m = in->msg;
	struct err err = ERR_INIT;
	struct conf *conf = NULL;

	if (!d->impl->started || !d->spec->view)
		err_set(&err, ST_ERROR, "%s takes no new view in place", d->spec->name);
	else if (!conf_view_load(in->fds[0], &conf, &err))
		d->spec->view(d, conf, &err);
	if (err.status) {
		struct ipc_ctl_failed failed = { .text = str_of(err.text) };

		conf_free(conf);
		daemon_log(d, LOG_MAIN | LOG_PANIC, "the new configuration was not taken: %s", err.text);
		channel_send(d->impl->control, &ipc_type_ctl_failed, &failed, NULL, 0);
		return;
	}
	conf_free(d->impl->conf);
	d->impl->conf = conf;
	d->conf = conf;
	d->generation = m->generation;
	conf_apply(d);
}

static void on_drain(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_drain *m = in->msg;

	d->drain_idle = m->idle;
	drain_begin(d, m->deadline_ms);
}

static void on_logs(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;

	logs_take(d, in, 0);
	if (d->impl->started && d->spec->logs)
		d->spec->logs(d);
}

static void on_tickets(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_tickets *m = in->msg;

	if (d->impl->started && d->spec->session_key && m->sessions.len)
		d->spec->session_key(d, m->sessions);
	if (d->impl->started && d->spec->tickets && m->now.len)
		d->spec->tickets(d, m->now, m->before);
}

static void on_refused(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	const struct ipc_ctl_refused *m = in->msg;

	if (d->impl->started && d->spec->refused)
		d->spec->refused(d, m->cookie, m->text);
}

struct daemon_status {
	struct arena *arena;
	struct ipc_pair *pairs;
	uint32_t n;
};

void daemon_note(struct daemon_status *out, const char *name, const char *fmt, ...)
{
	struct ipc_pair *p = &out->pairs[out->n];
	va_list ap;

	if (out->n == STATUS_PAIRS_MAX)
		return;
	out->n++;
	p->name = str_of(arena_strdup(out->arena, name));
	va_start(ap, fmt);
	p->value = str_of(arena_vprintf(out->arena, fmt, ap));
	va_end(ap);
}

void daemon_count(struct daemon_status *out, const char *name, uint64_t value)
{
	daemon_note(out, name, "%llu", (unsigned long long)value);
}

static void on_status(void *owner, struct ipc_in *in)
{
	struct daemon *d = owner;
	struct ipc_pair pairs[STATUS_PAIRS_MAX];
	struct daemon_status status = { .arena = in->arena, .pairs = pairs };
	struct ipc_ctl_status m = { 0 };

	memset(pairs, 0, sizeof pairs);
	if (d->impl->started && d->spec->status)
		d->spec->status(d, &status);
	if (d->log.lost)
		daemon_count(&status, "log_lines_lost", d->log.lost);
	m.counters = pairs;
	m.n_counters = status.n;
	channel_answer(d->impl->control, in->request, &ipc_type_ctl_status, &m, NULL, 0);
}

static const struct ipc_handler control_handlers[] = {
	{ IPC_ctl_start, on_start },
	{ IPC_ctl_listener, on_listener },
	{ IPC_ctl_channel, on_channel },
	{ IPC_ctl_go, on_go },
	{ IPC_ctl_view, on_view },
	{ IPC_ctl_drain, on_drain },
	{ IPC_ctl_logs, on_logs },
	{ IPC_ctl_refused, on_refused },
	{ IPC_ctl_tickets, on_tickets },
	{ IPC_ctl_status_ask, on_status },
	{ 0, NULL },
};

static void control_closed(void *owner, struct channel *ch, const char *why)
{
	struct daemon *d = owner;

	(void)ch;
	if (!d->impl->started)
		_exit(DAEMON_EXIT_CHANNEL);
	daemon_log(d, LOG_MAIN, "%s: finishing", why);
	drain_begin(d, ORPHAN_DEADLINE_MS);
}

/* ---- life ---- */

static void on_term(void *arg, int signo)
{
	(void)signo;
	drain_begin(arg, TERM_DEADLINE_MS);
}

static void turn_end(void *arg)
{
	struct daemon *d = arg;

	log_flush(&d->log);
}

static bool signals_set(struct daemon *d)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	return sigaction(SIGPIPE, &ignore, NULL) == 0 && sigaction(SIGHUP, &ignore, NULL) == 0 && sigaction(SIGINT, &ignore, NULL) == 0 &&
	       loop_signal(d->loop, SIGTERM, on_term, d);
}

static void daemon_clear(struct daemon *d)
{
	list_each_safe(&d->links, n)
		link_free(list_entry(n, struct daemon_link, node));
	list_each_safe(&d->impl->listeners, n) {
		struct daemon_pending_listener *p = list_entry(n, struct daemon_pending_listener, node);

		close(p->fd);
		list_remove(n);
		mem_free(p);
	}
	loop_timer_stop(&d->impl->deadline);
	loop_timer_stop(&d->impl->retire);
	channel_free(d->impl->control);
	d->impl->control = NULL;
	loop_hook_remove(&d->impl->hook);
	loop_turn(d->loop, false); /* what was deferred */
	loop_free(d->loop);
	conf_free(d->impl->conf);
	if (d->impl->view_fd >= 0)
		close(d->impl->view_fd);
	log_flush(&d->log);
	log_clear(&d->log);
}

int daemon_main(const struct daemon_spec *spec, int argc, char **argv)
{
	static const char by_hand[] = "started by master, not by hand; see bulkhead(1)";
	struct jail_limits limits = { spec->limits.memory_mb, spec->limits.files, spec->limits.processes, spec->limits.cores };
	struct daemon_impl impl = { .view_fd = -1 };
	struct daemon d = { .spec = spec, .impl = &impl };
	struct channel_spec control = { .peer = "master", .handlers = control_handlers, .owner = &d, .closed = control_closed };
	struct err err = ERR_INIT;
	struct jail jail;
	enum status st = jail_parse(argc, argv, &jail, &err);

	if (st) {
		fprintf(stderr, "bulkhead %s (%s): %s\n", spec->name, spec->what, st == ST_FAIL ? by_hand : err.text);
		return DAEMON_EXIT_USAGE;
	}
	snprintf(d.name, sizeof d.name, "%s", jail.name);
	d.unprivileged = jail.unprivileged;
	list_init(&d.links);
	list_init(&impl.listeners);
	log_init(&d.log);
	if (jail_enter(&jail, &limits, &err))
		daemon_fail(&d, DAEMON_EXIT_JAIL, "%s", err.text);
	d.loop = loop_new();
	if (!d.loop || !signals_set(&d))
		daemon_fail(&d, DAEMON_EXIT_MEMORY, "no event loop: %s", strerror(errno));
	impl.control = channel_open(d.loop, JAIL_CONTROL_FD, &control);
	loop_hook_add(d.loop, &impl.hook, turn_end, &d);
	loop_run(d.loop);
	if (impl.started && spec->stop)
		spec->stop(&d);
	daemon_clear(&d);
	return DAEMON_EXIT_OK;
}

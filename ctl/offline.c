/* SPDX-License-Identifier: ISC */
#include "ctl/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/conf/view.h"
#include "common/daemon/jail.h"

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Under another login than ours: root's alone. */
static bool is_other(const struct offline_daemon *d)
{
	return d->uid != getuid();
}

static bool is_query(const struct offline_daemon *d)
{
	return !strcmp(d->name, "query");
}

static _Noreturn void child_run(struct ctl *ctl, const struct offline_daemon *d, int control)
{
	struct jail jail = { .name = arena_printf(&ctl->arena, "%s/1", d->name), .root = "/", .unprivileged = !is_other(d), .uid = d->uid, .gid = d->gid };
	char *path = arena_printf(&ctl->arena, "%s/%s", ctl_libexec(ctl), is_query(d) ? "local" : d->name);
	const char *zone = getenv("TZ") ? arena_strdup(&ctl->arena, getenv("TZ")) : NULL;

	if (control == JAIL_CONTROL_FD)
		fcntl(control, F_SETFD, 0);
	else if (dup2(control, JAIL_CONTROL_FD) < 0)
		_exit(CTL_OSERR);
	if (is_query(d)) { /* its programs get what they get from master: nothing of the caller's own */
		clearenv();
		setenv("PATH", "/usr/bin:/bin", 1);
		if (zone)
			setenv("TZ", zone, 1);
	}
	execv(path, jail_format(&jail, path, &ctl->arena));
	ctl_fail(CTL_OSERR, "%s: %s", path, strerror(errno));
	_exit(CTL_OSERR);
}

/* What master would send first: view and logs. */
static enum status start_send(struct ctl *ctl, struct offline_daemon *d, const int logs[3], struct err *err)
{
	struct ipc_ctl_start start = { .name = str_printf(&ctl->arena, "%s/1", d->name), .generation = 1, .number = 1, .unprivileged = !is_other(d) };
	int fds[1 + LOG_FDS] = { -1, logs[0], logs[1], logs[2], -1 };

	for (int i = 1; i < 1 + LOG_FDS; i++)
		if (fds[i] < 0)
			fds[i] = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (conf_view_make(ctl->conf, d->see, &fds[0], err)) {
		for (int i = 1; i < 1 + LOG_FDS; i++)
			fd_close(&fds[i]);
		return ST_ERROR;
	}
	return ipc_send(d->control, &ipc_type_ctl_start, 0, false, &start, fds, 1 + LOG_FDS, OFFLINE_START_MS, err);
}

static enum status daemon_start(struct ctl *ctl, struct offline_daemon *d, const int logs[3], struct err *err)
{
	int control[2];

	if (!ipc_pair(control, err))
		return ST_ERROR;
	fflush(NULL);
	d->pid = fork();
	if (d->pid == 0)
		child_run(ctl, d, control[1]);
	close(control[1]);
	d->control = control[0];
	if (d->pid < 0)
		return err_set(err, ST_ERROR, "fork: %s", strerror(errno));
	return start_send(ctl, d, logs, err);
}

enum status offline_daemon_start(struct ctl *ctl, struct offline_daemon *d, const char *name, uint32_t see, const int logs[3], struct err *err)
{
	*d = (struct offline_daemon){ .name = name, .see = see, .uid = getuid(), .gid = getgid(), .pid = -1, .control = -1 };
	return daemon_start(ctl, d, logs, err);
}

enum status offline_daemon_channel(struct offline_daemon *d, const char *peer, uint64_t cookie, int fd, struct err *err)
{
	struct ipc_ctl_channel channel = { .peer = str_of(peer), .number = 1, .generation = 1, .cookie = cookie };

	return ipc_send(d->control, &ipc_type_ctl_channel, 0, false, &channel, &fd, 1, OFFLINE_START_MS, err);
}

enum status offline_daemon_go(struct offline_daemon *d, struct err *err)
{
	struct ipc_ctl_go go = { };

	return ipc_send(d->control, &ipc_type_ctl_go, 0, false, &go, NULL, 0, OFFLINE_START_MS, err);
}

enum status offline_daemon_read(struct offline_daemon *d, struct arena *a, int timeout_ms, offline_need_fn *need, void *arg, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	enum status st = ipc_recv(d->control, &packet, timeout_ms, err);
	struct ipc_in in;

	while (!st && (st = ipc_packet_next(&packet, a, &in, err)) == ST_OK) {
		if (in.type == &ipc_type_ctl_ready)
			d->ready = true;
		else if (in.type == &ipc_type_ctl_failed)
			d->failed = str_cstr(a, ((const struct ipc_ctl_failed *)in.msg)->text);
		else if (in.type == &ipc_type_ctl_need && need)
			need(arg, d, in.msg);
	}
	if (st == ST_FAIL && packet.data.len)
		st = ST_OK; /* the end of the packet, not of the channel */
	if (st == ST_FAIL)
		err_set(err, ST_FAIL, "%s ended", d->name);
	ipc_packet_clear(&packet);
	return d->failed ? err_set(err, ST_ERROR, "%s", d->failed) : st;
}

void offline_daemon_stop(struct offline_daemon *d)
{
	fd_close(&d->control); /* it ends when its master is gone */
	if (d->pid > 0) {
		kill(d->pid, SIGTERM);
		waitpid(d->pid, NULL, 0);
	}
	d->pid = -1;
}

/* ---- a router alone ---- */

static enum status router_bring_up(struct ctl *ctl, struct offline_daemon *d, int far, struct err *err)
{
	const int logs[3] = { -1, -1, fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) };
	enum status st = offline_daemon_start(ctl, d, "router", V_ROUTER, logs, err);

	if (st)
		close(far);
	else
		st = offline_daemon_channel(d, "ctl", 0, far, err);
	if (!st)
		st = offline_daemon_go(d, err);
	while (!st && !d->ready)
		st = offline_daemon_read(d, &ctl->arena, OFFLINE_START_MS, NULL, NULL, err);
	return st ? err_set(err, ST_ERROR, "starting a router: %s", err->text[0] ? arena_strdup(&ctl->arena, err->text) : "it ended") : ST_OK;
}

enum status offline_start(struct ctl *ctl, struct offline *o, struct err *err)
{
	int channel[2];
	enum status st;

	*o = (struct offline){ .router = { .pid = -1, .control = -1 }, .channel = -1 };
	if (!ipc_pair(channel, err))
		return ST_ERROR;
	o->channel = channel[0];
	st = router_bring_up(ctl, &o->router, channel[1], err);
	if (st)
		offline_stop(o);
	return st;
}

struct waiting {
	struct ctl *ctl;
	struct offline *o;
};

static void on_need(void *arg, struct offline_daemon *d, const struct ipc_ctl_need *need)
{
	struct waiting *w = arg;

	offline_query_serve(w->ctl, &w->o->queries, d, need);
}

enum status offline_wait(struct ctl *ctl, struct offline *o, int timeout_ms, struct err *err)
{
	struct waiting w = { ctl, o };

	for (;;) {
		struct pollfd fds[] = { { o->channel, POLLIN, 0 }, { o->router.control, POLLIN, 0 } };
		int n = poll(fds, 2, timeout_ms);

		if (n < 0 && errno != EINTR)
			return err_set(err, ST_ERROR, "poll: %s", strerror(errno));
		if (n == 0)
			return err_set(err, ST_ERROR, "the router does not answer");
		if (n > 0 && fds[0].revents)
			return ST_OK;
		if (n > 0 && fds[1].revents && offline_daemon_read(&o->router, &ctl->arena, 0, on_need, &w, err) && err->status != ST_DEFER)
			return err->status;
	}
}

enum status offline_call(struct ctl *ctl, struct offline *o, const struct ipc_type *type, const void *msg, const int *fds, unsigned n_fds,
	const struct ipc_type *want, void *answer_out, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	struct ipc_in in;
	enum status st = ipc_send(o->channel, type, 1, false, msg, fds, n_fds, OFFLINE_ASK_MS, err);

	if (!st)
		st = offline_wait(ctl, o, OFFLINE_ASK_MS, err);
	if (!st)
		st = ipc_recv(o->channel, &packet, OFFLINE_ASK_MS, err);
	if (!st)
		st = ipc_packet_next(&packet, &ctl->arena, &in, err);
	if (!st && in.type != want)
		st = err_set(err, ST_ERROR, "the router answered with %s", in.type->name);
	if (!st)
		memcpy(answer_out, in.msg, want->size);
	ipc_packet_clear(&packet);
	return st == ST_FAIL ? err_set(err, ST_ERROR, "the router ended") : st;
}

void offline_stop(struct offline *o)
{
	fd_close(&o->channel);
	offline_daemon_stop(&o->router);
	offline_queries_stop(&o->queries);
}

/* ---- query processes ---- */

static struct offline_daemon *query_find(struct offline_queries *q, uid_t uid, gid_t gid)
{
	for (unsigned i = 0; i < q->n; i++)
		if (q->v[i].uid == uid && q->v[i].gid == gid)
			return &q->v[i];
	return NULL;
}

/* A channel to it, and its life begins if that had not yet. What it says when it can't start is on stderr. */
static enum status query_channel(struct ctl *ctl, struct offline_queries *q, uid_t uid, gid_t gid, int far, struct err *err)
{
	const int logs[3] = { -1, -1, fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) };
	struct offline_daemon *d = query_find(q, uid, gid);
	enum status st = ST_OK;

	if (d) {
		close(logs[2]);
		return offline_daemon_channel(d, "router", 0, far, err);
	}
	if (q->n == OFFLINE_QUERIES_MAX)
		st = err_set(err, ST_DEFER, "programs of more than %d logins", OFFLINE_QUERIES_MAX);
	if (st == ST_OK) {
		d = &q->v[q->n++];
		*d = (struct offline_daemon){ .name = "query", .see = V_QUERY, .uid = uid, .gid = gid, .pid = -1, .control = -1 };
		st = daemon_start(ctl, d, logs, err);
	} else {
		close(logs[2]);
	}
	if (st) {
		close(far);
		return st;
	}
	st = offline_daemon_channel(d, "router", 0, far, err);
	return st ? st : offline_daemon_go(d, err);
}

static enum status query_give(struct ctl *ctl, struct offline_queries *q, struct offline_daemon *router, const struct ipc_ctl_need *need, struct err *err)
{
	struct ipc_ctl_channel channel = { .peer = need->peer, .number = 1, .generation = 1, .cookie = need->cookie, .uid = need->uid, .gid = need->gid };
	uid_t uid = (uid_t)(need->uid - 1);
	int pair[2];
	enum status st;

	if (!str_is(need->peer, "query"))
		return err_set(err, ST_FAIL, "not here");
	if (!need->uid || !need->gid || need->uid > INT32_MAX || need->gid > INT32_MAX || (uid != getuid() && geteuid()))
		return err_set(err, ST_FAIL, "a program of another login can't be run here");
	if (!uid && !getuid())
		return err_set(err, ST_FAIL, "no program runs as root");
	if (!ipc_pair(pair, err))
		return ST_ERROR;
	st = query_channel(ctl, q, uid, (gid_t)(need->gid - 1), pair[1], err);
	if (st) {
		close(pair[0]);
		return st;
	}
	return ipc_send(router->control, &ipc_type_ctl_channel, 0, false, &channel, &pair[0], 1, OFFLINE_START_MS, err);
}

void offline_query_serve(struct ctl *ctl, struct offline_queries *q, struct offline_daemon *router, const struct ipc_ctl_need *need)
{
	struct ipc_ctl_refused no = { .cookie = need->cookie };
	struct err err = ERR_INIT;

	if (query_give(ctl, q, router, need, &err) == ST_OK)
		return;
	no.text = str_of(err.text);
	ipc_send(router->control, &ipc_type_ctl_refused, 0, false, &no, NULL, 0, OFFLINE_START_MS, NULL);
}

void offline_queries_stop(struct offline_queries *q)
{
	while (q->n)
		offline_daemon_stop(&q->v[--q->n]);
}

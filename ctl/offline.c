/* SPDX-License-Identifier: ISC */
#include "ctl/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

static _Noreturn void child_run(struct ctl *ctl, const char *name, int control)
{
	struct jail jail = { .name = arena_printf(&ctl->arena, "%s/1", name), .unprivileged = true, .uid = getuid(), .gid = getgid() };
	char *path = arena_printf(&ctl->arena, "%s/%s", ctl_libexec(ctl), name);

	if (control == JAIL_CONTROL_FD)
		fcntl(control, F_SETFD, 0);
	else if (dup2(control, JAIL_CONTROL_FD) < 0)
		_exit(CTL_OSERR);
	execv(path, jail_format(&jail, path, &ctl->arena));
	ctl_fail(CTL_OSERR, "%s: %s", path, strerror(errno));
	_exit(CTL_OSERR);
}

/* What master would send first: view and logs. */
static enum status start_send(struct ctl *ctl, struct offline_daemon *d, const int logs[3], struct err *err)
{
	struct ipc_ctl_start start = { .name = str_printf(&ctl->arena, "%s/1", d->name), .generation = 1, .number = 1, .unprivileged = true };
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

enum status offline_daemon_start(struct ctl *ctl, struct offline_daemon *d, const char *name, uint32_t see, const int logs[3], struct err *err)
{
	int control[2];

	*d = (struct offline_daemon){ .name = name, .see = see, .pid = -1, .control = -1 };
	if (!ipc_pair(control, err))
		return ST_ERROR;
	fflush(NULL);
	d->pid = fork();
	if (d->pid == 0)
		child_run(ctl, name, control[1]);
	close(control[1]);
	d->control = control[0];
	if (d->pid < 0)
		return err_set(err, ST_ERROR, "fork: %s", strerror(errno));
	return start_send(ctl, d, logs, err);
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
	struct offline_daemon d;
	int channel[2];
	enum status st;

	*o = (struct offline){ -1, -1, -1 };
	if (!ipc_pair(channel, err))
		return ST_ERROR;
	st = router_bring_up(ctl, &d, channel[1], err);
	*o = (struct offline){ d.pid, d.control, channel[0] };
	if (st)
		offline_stop(o);
	return st;
}

void offline_stop(struct offline *o)
{
	struct offline_daemon d = { .pid = o->pid, .control = o->control };

	fd_close(&o->channel);
	offline_daemon_stop(&d);
	o->control = -1;
	o->pid = -1;
}

/* SPDX-License-Identifier: ISC */
#include "ctl/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/conf/view.h"
#include "common/daemon/jail.h"

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static _Noreturn void child_run(struct ctl *ctl, int control)
{
	struct jail jail = { .name = "router/1", .unprivileged = true, .uid = getuid(), .gid = getgid() };
	char *path = arena_printf(&ctl->arena, "%s/router", ctl_libexec(ctl));

	if (control == JAIL_CONTROL_FD)
		fcntl(control, F_SETFD, 0);
	else if (dup2(control, JAIL_CONTROL_FD) < 0)
		_exit(CTL_OSERR);
	execv(path, jail_format(&jail, path, &ctl->arena));
	ctl_fail(CTL_OSERR, "%s: %s", path, strerror(errno));
	_exit(CTL_OSERR);
}

/* What master would send: view and logs, the channel that the questions come through, "go". */
static enum status control_send(struct ctl *ctl, struct offline *o, int far, struct err *err)
{
	struct ipc_ctl_start start = { .name = STR_LIT("router/1"), .generation = 1, .number = 1, .unprivileged = true };
	struct ipc_ctl_channel channel = { .peer = STR_LIT("qmgr"), .number = 1, .generation = 1 };
	struct ipc_ctl_go go = { };
	int view, fds[4];
	enum status st;

	if (conf_view_make(ctl->conf, V_ROUTER, &view, err)) {
		close(far);
		return ST_ERROR;
	}
	fds[0] = view;
	fds[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
	fds[2] = open("/dev/null", O_WRONLY | O_CLOEXEC);
	fds[3] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	st = ipc_send(o->control, &ipc_type_ctl_start, 0, false, &start, fds, 4, OFFLINE_START_MS, err);
	if (st)
		close(far);
	else
		st = ipc_send(o->control, &ipc_type_ctl_channel, 0, false, &channel, &far, 1, OFFLINE_START_MS, err);
	return st ? st : ipc_send(o->control, &ipc_type_ctl_go, 0, false, &go, NULL, 0, OFFLINE_START_MS, err);
}

static enum status ready_wait(struct ctl *ctl, struct offline *o, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	bool ready = false;
	enum status st = ST_OK;

	while (!st && !ready) {
		struct ipc_in in;

		st = ipc_recv(o->control, &packet, OFFLINE_START_MS, err);
		while (!st && (st = ipc_packet_next(&packet, &ctl->arena, &in, err)) == ST_OK) {
			if (in.type == &ipc_type_ctl_ready)
				ready = true;
			else if (in.type == &ipc_type_ctl_failed)
				st = err_set(err, ST_ERROR, "%.*s", STR_FMT(((const struct ipc_ctl_failed *)in.msg)->text));
		}
		if (st == ST_FAIL && (ready || packet.at == packet.data.len))
			st = packet.data.len ? ST_OK : err_set(err, ST_ERROR, "it ended while starting");
	}
	ipc_packet_clear(&packet);
	return st;
}

enum status offline_start(struct ctl *ctl, struct offline *o, struct err *err)
{
	int control[2], channel[2];
	enum status st;

	*o = (struct offline){ -1, -1, -1 };
	if (!ipc_pair(control, err))
		return ST_ERROR;
	if (!ipc_pair(channel, err)) {
		close(control[0]);
		close(control[1]);
		return ST_ERROR;
	}
	fflush(NULL);
	o->pid = fork();
	if (o->pid == 0)
		child_run(ctl, control[1]);
	close(control[1]);
	o->control = control[0];
	o->channel = channel[0];
	if (o->pid < 0) {
		close(channel[1]);
		st = err_set(err, ST_ERROR, "fork: %s", strerror(errno));
	} else {
		st = control_send(ctl, o, channel[1], err);
	}
	if (!st)
		st = ready_wait(ctl, o, err);
	if (st) {
		offline_stop(o);
		err_prefix(err, "starting a router");
	}
	return st;
}

void offline_stop(struct offline *o)
{
	fd_close(&o->channel);
	fd_close(&o->control); /* the router ends when its master is gone */
	if (o->pid > 0) {
		kill(o->pid, SIGTERM);
		waitpid(o->pid, NULL, 0);
	}
	o->pid = -1;
}

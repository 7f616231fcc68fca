/* SPDX-License-Identifier: ISC */
/* ctl_master.c - questions to a running master, through its control socket. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/ctl.h"

int ctl_connect(struct ctl *ctl, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *run = ctl_run_directory(ctl);
	int fd;

	if (!run) {
		err_set(err, ST_ERROR, "no run directory");
		return -1;
	}
	if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/control", run) >= sizeof sa.sun_path) {
		err_set(err, ST_ERROR, "run_directory \"%s\" is too long for a Unix socket", run);
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			err_set(err, ST_DEFER, "not running (nobody listens on %s)", sa.sun_path);
		else
			err_set(err, ST_ERROR, "%s: %s", sa.sun_path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

enum status ctl_ask(struct ctl *ctl, const char *verb, const char *argument, struct ipc_cmd_answer *out, int *fd_out, int timeout_ms,
	struct err *err)
{
	struct ipc_cmd_ask ask = { .verb = str_of(verb), .argument = str_of(argument) };
	struct ipc_packet packet = { .data = BUF_INIT };
	struct ipc_in in;
	enum status st;
	int fd = ctl_connect(ctl, err);

	*out = (struct ipc_cmd_answer){ 0 };
	if (fd_out)
		*fd_out = -1;
	if (fd < 0)
		return err->status;
	st = ipc_send(fd, &ipc_type_cmd_ask, 1, false, &ask, NULL, 0, timeout_ms, err);
	if (!st)
		st = ipc_recv(fd, &packet, timeout_ms, err);
	if (!st)
		st = ipc_packet_next(&packet, &ctl->arena, &in, err);
	if (!st && in.type != &ipc_type_cmd_answer)
		st = err_set(err, ST_ERROR, "%s came from master in place of an answer", in.type->name);
	if (!st) {
		memcpy(out, in.msg, sizeof *out);
		if (fd_out)
			*fd_out = in.fds[0];
		else if (in.fds[0] >= 0)
			close(in.fds[0]);
		if (out->status)
			st = err_set(err, (enum status)out->status, "%.*s", STR_FMT(out->text));
	} else {
		err_prefix(err, "asking master to %s", verb);
	}
	ipc_packet_clear(&packet);
	close(fd);
	return st;
}

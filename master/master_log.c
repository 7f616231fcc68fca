/* SPDX-License-Identifier: ISC */
/* master_log.c - opens the logs, also again after they were moved away, and hands them out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "master/master.h"

static const char *const names[LOG_TARGETS] = { "main", "reject", "panic" };

/* log_file_path with one %s in it, and no other %. */
static enum status path_fill(const char *pattern, const char *name, char *out, size_t size, struct err *err)
{
	const char *at = strstr(pattern, "%s");

	if (!at || strchr(pattern, '%') != at || strchr(at + 1, '%'))
		return err_set(err, ST_ERROR, "log_file_path = %s: needs one %%s, for main, reject and panic, and no other %%", pattern);
	if ((size_t)snprintf(out, size, "%.*s%s%s", (int)(at - pattern), pattern, name, at + 2) >= size)
		return err_set(err, ST_ERROR, "log_file_path is too long");
	return ST_OK;
}

/* A log that is written nowhere has this. */
static int null_open(void)
{
	return open("/dev/null", O_WRONLY | O_CLOEXEC);
}

static int file_open(const struct master *m, const char *name, struct err *err)
{
	char path[MASTER_PATH_MAX];
	int fd;

	if (!m->log_path[0])
		return null_open();
	if (path_fill(m->log_path, name, path, sizeof path, err))
		return -1;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
	if (fd < 0)
		err_set(err, ST_ERROR, "log %s: %s", path, strerror(errno));
	return fd;
}

/* Connected here once, for all: jailed daemons can't reach it. */
static int syslog_open(const struct master *m, struct err *err)
{
	struct str path = m->conf->main.syslog_socket.text;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	if (!m->log.syslog.on)
		return null_open();
	if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%.*s", STR_FMT(path)) >= sizeof sa.sun_path) {
		err_set(err, ST_ERROR, "syslog_socket is too long");
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
		return fd;
	err_set(err, ST_ERROR, "log_file_path has syslog, but %s: %s", sa.sun_path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

enum status logs_open(struct master *m, struct err *err)
{
	int fds[LOG_FDS];
	unsigned n = 0;

	for (; n < LOG_FDS; n++) {
		fds[n] = n == LOG_TO_SYSLOG ? syslog_open(m, err) : file_open(m, names[n], err);
		if (fds[n] < 0)
			break;
	}
	if (n < LOG_FDS) {
		while (n)
			close(fds[--n]);
		return ST_ERROR;
	}
	for (unsigned i = 0; i < LOG_FDS; i++)
		log_set_fd(&m->log, i, fds[i]);
	return ST_OK;
}

bool logs_dup(const struct master *m, int fds_out[LOG_FDS])
{
	for (unsigned i = 0; i < LOG_FDS; i++) {
		fds_out[i] = fcntl(m->log.fd[i], F_DUPFD_CLOEXEC, 0);
		if (fds_out[i] >= 0)
			continue;
		while (i)
			close(fds_out[--i]);
		return false;
	}
	return true;
}

enum status logs_reopen(struct master *m, struct err *err)
{
	static const struct ipc_ctl_logs msg;

	if (logs_open(m, err))
		return ST_ERROR;
	list_each(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);
		int fds[LOG_FDS];

		if (c->control && logs_dup(m, fds))
			channel_send(c->control, &ipc_type_ctl_logs, &msg, fds, LOG_FDS);
	}
	return ST_OK;
}

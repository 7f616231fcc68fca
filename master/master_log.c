/* SPDX-License-Identifier: ISC */
/* master_log.c - opens the logs, also again after they were moved away, and hands them out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "master/master.h"

static const struct {
	enum log_target target;
	const char *name;
} logs[LOG_TARGETS] = { { LOG_MAIN, "main" }, { LOG_REJECT, "reject" }, { LOG_PANIC, "panic" } };

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

static enum status logs_get(const struct master *m, int fds_out[LOG_TARGETS], struct err *err)
{
	unsigned n = 0;

	for (; n < LOG_TARGETS; n++) {
		char path[MASTER_PATH_MAX];

		if (path_fill(m->log_path, logs[n].name, path, sizeof path, err))
			break;
		fds_out[n] = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);
		if (fds_out[n] < 0) {
			err_set(err, ST_ERROR, "log %s: %s", path, strerror(errno));
			break;
		}
	}
	if (n == LOG_TARGETS)
		return ST_OK;
	while (n)
		close(fds_out[--n]);
	return ST_ERROR;
}

enum status logs_open(struct master *m, struct err *err)
{
	int fds[LOG_TARGETS];

	if (logs_get(m, fds, err))
		return ST_ERROR;
	for (unsigned i = 0; i < LOG_TARGETS; i++)
		log_set_fd(&m->log, logs[i].target, fds[i]);
	return ST_OK;
}

bool logs_dup(const struct master *m, int fds_out[LOG_TARGETS])
{
	for (unsigned i = 0; i < LOG_TARGETS; i++) {
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
		int fds[LOG_TARGETS];

		if (c->control && logs_dup(m, fds))
			channel_send(c->control, &ipc_type_ctl_logs, &msg, fds, LOG_TARGETS);
	}
	return ST_OK;
}

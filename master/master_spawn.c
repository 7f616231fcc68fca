/* SPDX-License-Identifier: ISC */
/* master_spawn.c - a daemon's process: fork, namespace, exec with its jail's arguments; then the first messages. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/view.h"
#include "common/daemon/daemon.h"
#include "common/daemon/jail.h"
#include "common/daemon/program.h"
#include "master/master.h"

/* Which directory it is chrooted into. With a namespace refused: no directory of its own, but still "/". */
static void root_choose(struct child *c)
{
	struct master *m = c->m;

	c->root[0] = '\0';
	if (!m->privileged)
		return;
	if (root_is_empty(m, c)) {
		snprintf(c->root, sizeof c->root, "%.4000s/empty", m->run);
		return;
	}
	switch (c->service->root) {
	case ROOT_EMPTY: /* was above */
		break;
	case ROOT_SPOOL:
		snprintf(c->root, sizeof c->root, "%s", m->spool);
		break;
	case ROOT_HOST:
		snprintf(c->root, sizeof c->root, "/");
		break;
	case ROOT_TABLES:
	case ROOT_STORE:
	case ROOT_HANDOVER:
	case ROOT_KEYS:
	case ROOT_SOCKETS:
		if (root_has_namespace(m, c))
			snprintf(c->root, sizeof c->root, "%.4000s/root", m->run);
		else
			snprintf(c->root, sizeof c->root, "/");
		break;
	}
}

/* Only what the administrator wants is passed on. */
static char **environment_make(const struct master *m, struct arena *a)
{
	const struct conf_opts_main *o = &m->conf->main;
	char **env = arena_alloc(a, 256 * sizeof *env);
	struct conf_list_walk keep = CONF_LIST_WALK(o->keep_environment.text), add = CONF_LIST_WALK(o->add_environment.text);
	struct str item;
	unsigned n = 0;

	env[n++] = arena_strdup(a, "PATH=/usr/bin:/bin");
	if (o->timezone.text.len)
		env[n++] = arena_printf(a, "TZ=%.*s", STR_FMT(o->timezone.text));
	else if (getenv("TZ"))
		env[n++] = arena_printf(a, "TZ=%s", getenv("TZ"));
	/* The sanitizers' options, for builds that have them. */
	for (const char *const *name = (const char *const[]){ "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", NULL }; *name; name++)
		if (getenv(*name))
			env[n++] = arena_printf(a, "%s=%s", *name, getenv(*name));
	while (n < 120 && conf_list_next(&keep, a, &item)) {
		const char *value = item.len ? getenv(str_cstr(a, item)) : NULL;

		if (value)
			env[n++] = arena_printf(a, "%.*s=%s", STR_FMT(item), value);
	}
	while (n < 250 && conf_list_next(&add, a, &item))
		if (str_find(item, '=') > 0)
			env[n++] = str_cstr(a, item);
	return env;
}

/* Says why over the control channel that the daemon would have had. */
_Noreturn static void exec_failed(const char *text)
{
	struct ipc_ctl_failed msg = { .text = str_of(text) };

	ipc_send(JAIL_CONTROL_FD, &ipc_type_ctl_failed, 0, false, &msg, NULL, 0, 1000, NULL);
	_exit(DAEMON_EXIT_JAIL);
}

_Noreturn static void child_exec(const struct child *c, const char *path, char **argv, char **env, int control, bool namespaced)
{
	const struct master *m = c->m;
	struct err err = ERR_INIT;
	int null, log;

	/* 0 and 1 lead nowhere; 2 to the panic log, unless somebody is watching. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	log = m->foreground ? -1 : m->log.fd[2];
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || (log >= 0 && dup2(log, STDERR_FILENO) < 0))
		_exit(DAEMON_EXIT_MEMORY);
	if (control == JAIL_CONTROL_FD)
		fcntl(control, F_SETFD, 0);
	else if (dup2(control, JAIL_CONTROL_FD) < 0)
		_exit(DAEMON_EXIT_CHANNEL);
	program_signals_reset();
	umask(077);
	if (chdir("/") < 0)
		exec_failed("chdir");
	if (namespaced && root_enter(m, c, &err)) {
		if (err.status == ST_DEFER)
			err_prefix(&err, NAMESPACE_REFUSED);
		exec_failed(err.text);
	}
	execve(path, argv, env);
	snprintf(err.text, sizeof err.text, "%s: %s", path, strerror(errno));
	exec_failed(err.text);
}

const struct conf *child_conf(const struct child *c)
{
	return c->pending && c->m->next_conf ? c->m->next_conf : c->m->conf; /* pending without next_conf: a restart */
}

static enum status start_send(struct child *c, struct err *err)
{
	struct master *m = c->m;
	struct ipc_ctl_start start = {
		.name = str_of(c->name), .generation = c->generation, .number = c->number, .unprivileged = !m->privileged
	};
	int fds[1 + LOG_FDS];

	if (conf_view_make(child_conf(c), c->service->see, &fds[0], err))
		return err->status;
	if (!logs_dup(m, fds + 1)) {
		close(fds[0]);
		return err_set(err, ST_ERROR, "no descriptors for the logs: %s", strerror(errno));
	}
	channel_send(c->control, &ipc_type_ctl_start, &start, fds, 1 + LOG_FDS);
	return ST_OK;
}

/* Supplementary groups, as initgroups wants them; those of the group database now. */
static void child_groups(const struct child *c, struct jail *jail)
{
	int n = JAIL_GROUPS_MAX;

	if (!c->groups_of[0] || jail->unprivileged)
		return;
	if (getgrouplist(c->groups_of, c->gid, jail->groups, &n) < 0) {
		master_log(c->m, LOG_MAIN, "%s: %s is in more than %d groups; the rest are left out", c->name, c->groups_of, JAIL_GROUPS_MAX);
		n = JAIL_GROUPS_MAX;
	}
	jail->n_groups = 0;
	for (int i = 0; i < n; i++)
		if (jail->groups[i]) /* never root's */
			jail->groups[jail->n_groups++] = jail->groups[i];
}

enum status child_spawn(struct child *c, struct err *err)
{
	static const struct ipc_ctl_go go;
	struct master *m = c->m;
	struct channel_spec spec = { .peer = c->name, .handlers = child_handlers, .owner = c, .closed = child_control_closed };
	struct jail jail = { .name = c->name, .uid = c->uid, .gid = c->gid, .unprivileged = !m->privileged };
	struct arena a = ARENA_INIT;
	const char *path = arena_printf(&a, "%s/%s", m->libexec, c->service->program ? c->service->program : c->service->name);
	bool namespaced = root_has_namespace(m, c);
	sigset_t all, before;
	char **argv, **env;
	int pair[2];
	pid_t pid;

	root_choose(c);
	child_groups(c, &jail);
	jail.root = c->root[0] ? c->root : NULL;
	argv = jail_format(&jail, path, &a);
	env = environment_make(m, &a);
	if (!ipc_pair(pair, err)) {
		arena_clear(&a);
		return err->status;
	}
	log_flush(&m->log);
	/* No signal may reach the child while it still has our handlers. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_exec(c, path, argv, env, pair[1], namespaced);
	sigprocmask(SIG_SETMASK, &before, NULL);
	arena_clear(&a);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_set(err, ST_ERROR, "fork: %s", strerror(errno));
	}
	c->pid = pid;
	c->control = channel_open(m->loop, pair[0], &spec);
	c->started_ms = clock_ms();
	c->ready_ms = 0;
	c->killed = false;
	child_state_set(c, CHILD_STARTING);
	if (start_send(c, err)) {
		kill(pid, SIGKILL); /* its end is noticed like any other */
		return err->status;
	}
	if (!c->pending)
		child_listeners_send(c);
	child_connect_all(c);
	channel_send(c->control, &ipc_type_ctl_go, &go, NULL, 0);
	child_tickets_send(c);
	needs_serve(c);
	return ST_OK;
}

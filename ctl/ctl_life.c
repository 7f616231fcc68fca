/* SPDX-License-Identifier: ISC */
/* ctl_life.c - start, stop, reload, restart, logs, status. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"

enum { ASK_MS = 10 * 1000, SLOW_ASK_MS = 150 * 1000 };

static int ctl_say(struct ctl *ctl, const char *verb, const char *argument, int timeout_ms)
{
	struct ipc_cmd_answer answer;
	struct err err = ERR_INIT;
	enum status st = ctl_ask(ctl, verb, argument, &answer, NULL, timeout_ms, &err);

	if (st && answer.text.len) /* of any length: all errors of a configuration */
		fprintf(stderr, "bulkhead: %.*s\n", STR_FMT(answer.text));
	else if (st)
		ctl_fail(CTL_FAILED, "%s", err.text);
	else if (answer.text.len)
		printf("%.*s\n", STR_FMT(answer.text));
	return !st ? CTL_OK : st == ST_DEFER ? CTL_UNAVAILABLE : st == ST_FAIL ? CTL_CONFIG : CTL_FAILED;
}

int ctl_start(struct ctl *ctl, int argc, char **argv)
{
	bool foreground = argc > 1 && !strcmp(argv[1], "-f");
	const char *args[CTL_MACROS_MAX * 2 + 8];
	struct err err = ERR_INIT;
	size_t n = 0;
	pid_t pid;
	int fd, status;

	if (argc > 1 + foreground)
		return ctl_fail(CTL_USAGE, "start takes -f or nothing");
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	fd = ctl_connect(ctl, &err);
	if (fd >= 0) {
		close(fd);
		return ctl_fail(CTL_FAILED, "already running (%s/control answers)", ctl_run_directory(ctl));
	}
	args[n++] = arena_printf(&ctl->arena, "%s/master", ctl_libexec(ctl));
	args[n++] = "-C";
	args[n++] = ctl->conf_path;
	for (unsigned i = 0; i < ctl->n_macros; i++) {
		args[n++] = "-D";
		args[n++] = ctl->macros[i];
	}
	if (foreground)
		args[n++] = "-F";
	args[n] = NULL;
	fflush(NULL);
	if (foreground) {
		execv(args[0], (char **)(uintptr_t)args);
		return ctl_fail(CTL_OSERR, "%s: %s", args[0], strerror(errno));
	}
	/* master goes into the background by itself once all daemons are ready, and says on stderr why if they are not. */
	pid = fork();
	if (pid == 0) {
		execv(args[0], (char **)(uintptr_t)args);
		ctl_fail(CTL_OSERR, "%s: %s", args[0], strerror(errno));
		_exit(CTL_OSERR);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return ctl_fail(CTL_OSERR, "%s", strerror(errno));
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return ctl_fail(CTL_SOFTWARE, "master was ended by signal %d", WTERMSIG(status));
}

int ctl_stop(struct ctl *ctl, int argc, char **argv)
{
	(void)argv;
	return argc > 1 ? ctl_fail(CTL_USAGE, "stop takes nothing") : ctl_say(ctl, "stop", NULL, SLOW_ASK_MS);
}

int ctl_reload(struct ctl *ctl, int argc, char **argv)
{
	(void)argv;
	return argc > 1 ? ctl_fail(CTL_USAGE, "reload takes nothing") : ctl_say(ctl, "reload", NULL, SLOW_ASK_MS);
}

int ctl_restart(struct ctl *ctl, int argc, char **argv)
{
	return argc != 2 ? ctl_fail(CTL_USAGE, "restart takes the name of a daemon") : ctl_say(ctl, "restart", argv[1], SLOW_ASK_MS);
}

int ctl_logs(struct ctl *ctl, int argc, char **argv)
{
	(void)argv;
	return argc > 1 ? ctl_fail(CTL_USAGE, "logs takes nothing") : ctl_say(ctl, "logs", NULL, ASK_MS);
}

static json_t *counters_json(const struct ipc_pair *v, uint32_t n)
{
	json_t *o = json_object();

	for (uint32_t i = 0; i < n; i++) {
		uint64_t number;
		char name[256 + 1];

		snprintf(name, sizeof name, "%.*s", STR_FMT(v[i].name));
		json_object_set_new(o, name, str_u64(v[i].value, UINT64_MAX, &number) ? json_integer((json_int_t)number) : ctl_json_str(v[i].value));
	}
	return o;
}

static json_t *daemon_json(const struct ipc_daemon *d)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", ctl_json_str(d->name));
	json_object_set_new(o, "pid", json_integer((json_int_t)d->pid));
	json_object_set_new(o, "uid", json_integer((json_int_t)d->uid));
	json_object_set_new(o, "root", d->root.len ? ctl_json_str(d->root) : json_null());
	json_object_set_new(o, "generation", json_integer((json_int_t)d->generation));
	json_object_set_new(o, "state", ctl_json_str(d->state));
	json_object_set_new(o, "restarts", json_integer((json_int_t)d->restarts));
	json_object_set_new(o, "since", json_integer((json_int_t)d->since));
	json_object_set_new(o, "trouble", d->text.len ? ctl_json_str(d->text) : json_null());
	json_object_set_new(o, "counters", counters_json(d->counters, d->n_counters));
	return o;
}

static void daemon_print(struct ctl *ctl, const struct ipc_daemon *d)
{
	printf("%-14.*s %-9.*s pid %-8llu uid %-6llu up %-5s", STR_FMT(d->name), STR_FMT(d->state), (unsigned long long)d->pid,
		(unsigned long long)d->uid, ctl_age(&ctl->arena, time(NULL) - d->since));
	if (d->restarts)
		printf(" restarts %llu", (unsigned long long)d->restarts);
	printf("  root %.*s\n", STR_FMT(d->root.len ? d->root : str_of("(none)")));
	for (uint32_t i = 0; i < d->n_counters; i++)
		printf("%s%.*s %.*s", i ? ", " : "               ", STR_FMT(d->counters[i].name), STR_FMT(d->counters[i].value));
	if (d->n_counters)
		putchar('\n');
	if (d->text.len)
		printf("               last trouble: %.*s\n", STR_FMT(d->text));
}

int ctl_status(struct ctl *ctl, int argc, char **argv)
{
	struct ipc_cmd_answer answer;
	struct err err = ERR_INIT;
	enum status st;

	if (argc > 1 && !strcmp(argv[1], "--json"))
		ctl->json = true;
	else if (argc > 1)
		return ctl_fail(CTL_USAGE, "status takes --json or nothing");
	st = ctl_ask(ctl, "status", NULL, &answer, NULL, ASK_MS, &err);
	if (st)
		return ctl_fail(st == ST_DEFER ? CTL_UNAVAILABLE : CTL_FAILED, "%s", err.text);
	if (ctl->json) {
		json_t *o = json_object(), *v = json_array();

		for (uint32_t i = 0; i < answer.n_daemons; i++)
			json_array_append_new(v, daemon_json(&answer.daemons[i]));
		json_object_set_new(o, "note", answer.text.len ? ctl_json_str(answer.text) : json_null());
		json_object_set_new(o, "daemons", v);
		ctl_json_print(o);
		return CTL_OK;
	}
	if (answer.text.len)
		printf("%.*s\n", STR_FMT(answer.text));
	for (uint32_t i = 0; i < answer.n_daemons; i++)
		daemon_print(ctl, &answer.daemons[i]);
	return CTL_OK;
}

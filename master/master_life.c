/* SPDX-License-Identifier: ISC */
/* master_life.c - master itself: arguments, start, background, signals, end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/log_conf.h"
#include "master/master.h"

/* sysexits.h numbers, as the command gives them. */
enum { EXIT_USAGE = 64, EXIT_START = 69, EXIT_OSERR = 71, EXIT_CONFIG = 78 };

enum { BIND_RETRY_MS = 5000 /* the sockets of a master that was killed are given up by its daemons in this time */ };

static const char usage[] = "usage: master -C FILE [-D NAME=VALUE]... [-F] [-L DIRECTORY]\n"
	"       -C  configuration    -D  macro    -F  stay in the foreground    -L  where the daemons' executables are\n"
	"master is started by `bulkhead start`; see bulkhead(1) and master(8).\n";

/* ---- saying ---- */

void master_log(struct master *m, unsigned targets, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		log_line(&m->log, targets, "master: %s", line);
}

void master_note(struct master *m, const char *fmt, ...)
{
	size_t used = strlen(m->notes);
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (strstr(m->notes, text))
		return;
	snprintf(m->notes + used, sizeof m->notes - used, "%s%s", used ? "; " : "", text);
	master_log(m, LOG_MAIN, "warning: %s", text);
}

/* Tells whoever started us, and lets go of his terminal. */
static void background_tell(struct master *m, int code)
{
	unsigned char octet = (unsigned char)code;

	if (m->background_fd >= 0) {
		(void)!write(m->background_fd, &octet, 1);
		close(m->background_fd);
		m->background_fd = -1;
	}
}

static void terminal_leave(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	close(null);
}

static int start_refused(struct master *m, int code, const char *text)
{
	fprintf(stderr, "bulkhead: %s\n", text);
	fflush(stderr);
	background_tell(m, code);
	return code;
}

void master_start_failed(struct master *m, const char *why)
{
	m->exit_code = start_refused(m, EXIT_START, why);
	m->stopping = true;
	loop_stop(m->loop);
}

void master_started(struct master *m)
{
	m->started = true;
	master_log(m, LOG_MAIN, "Bulkhead is ready, generation %llu, process %d", (unsigned long long)m->generation, (int)getpid());
	sd_notify_send("READY=1");
	log_flush(&m->log); /* whoever waits for us may look there at once */
	if (!m->foreground) {
		background_tell(m, 0);
		terminal_leave();
	}
}

/* ---- signals ---- */

static void on_signal(void *arg, int signo)
{
	struct master *m = arg;
	struct err err = ERR_INIT;

	if (signo == SIGHUP)
		reload_begin(m, NULL);
	else if (signo == SIGUSR1 && logs_reopen(m, &err))
		master_log(m, LOG_MAIN | LOG_PANIC, "%s", err.text);
	else if (signo == SIGTERM || signo == SIGINT)
		stop_begin(m);
}

static void reap(void *arg)
{
	children_reap(arg);
}

static void on_child(void *arg, int signo)
{
	struct master *m = arg;

	(void)signo;
	loop_timer_start(&m->reap_timer, m->loop, 0, reap, m); /* in the next turn, after its last words */
}

static bool signals_set(struct master *m)
{
	static const int ours[] = { SIGHUP, SIGUSR1, SIGTERM, SIGINT };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (!loop_signal(m->loop, ours[i], on_signal, m))
			return false;
	return loop_signal(m->loop, SIGCHLD, on_child, m) && sigaction(SIGPIPE, &ignore, NULL) == 0;
}

/* ---- start ---- */

static bool arguments_parse(struct master *m, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "C:D:FL:")) != -1) {
		char *eq;

		if (c == 'C') {
			m->conf_path = optarg;
		} else if (c == 'F') {
			m->foreground = true;
		} else if (c == 'L') {
			m->libexec = optarg;
		} else if (c == 'D' && (eq = strchr(optarg, '=')) && m->n_defines < MASTER_MACROS_MAX) {
			*eq = '\0';
			m->defines[m->n_defines++] = (struct conf_define){ optarg, eq + 1 };
		} else {
			return false;
		}
	}
	return m->conf_path && optind == argc;
}

/* The parent waits for one octet: the exit code. It prints nothing, we still have its stderr. */
static enum status background_go(struct master *m, struct err *err)
{
	int fds[2];
	pid_t pid;

	if (m->foreground)
		return ST_OK;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, ST_ERROR, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return err_set(err, ST_ERROR, "fork: %s", strerror(errno));
	if (pid > 0) {
		unsigned char code = EXIT_START;
		ssize_t n;

		close(fds[1]);
		do
			n = read(fds[0], &code, 1);
		while (n < 0 && errno == EINTR);
		if (n != 1)
			fprintf(stderr, "bulkhead: master ended before it was ready; see the panic log\n");
		_exit(n == 1 ? code : EXIT_START);
	}
	close(fds[0]);
	m->background_fd = fds[1];
	setsid();
	return ST_OK;
}

static enum status path_take(struct str s, const char *option, char out[MASTER_PATH_MAX], struct err *err)
{
	if (!s.len || s.p[0] != '/' || s.len >= MASTER_PATH_MAX - 64 || memchr(s.p, '\0', s.len))
		return err_set(err, ST_ERROR, "%s = %.*s: an absolute path is needed", option, STR_FMT(s));
	memcpy(out, s.p, s.len);
	out[s.len] = '\0';
	while (s.len > 1 && out[s.len - 1] == '/')
		out[--s.len] = '\0';
	return ST_OK;
}

static enum status paths_take(struct master *m, struct err *err)
{
	const struct conf_opts_main *o = &m->conf->main;
	struct arena a = ARENA_INIT;
	struct str path;
	bool to_syslog;
	enum status st = ST_OK;

	log_conf_places(m->conf, &a, &path, &to_syslog);
	m->log_path[0] = '\0';
	if (path.len)
		st = path_take(path, "log_file_path", m->log_path, err);
	arena_clear(&a);
	if (st || path_take(o->spool_directory.text, "spool_directory", m->spool, err) ||
	    path_take(o->run_directory.text, "run_directory", m->run, err) || path_take(o->hints_directory.text, "hints_directory", m->hints, err))
		return ST_ERROR;
	return ST_OK;
}

/* Executables are beside ours, unless -L says otherwise. */
static enum status libexec_find(struct master *m, struct err *err)
{
	char path[MASTER_PATH_MAX];
	ssize_t n;

	if (m->libexec) {
		if (m->libexec[0] != '/')
			return err_set(err, ST_ERROR, "-L %s: an absolute path is needed", m->libexec);
		return ST_OK;
	}
	n = readlink("/proc/self/exe", path, sizeof path - 1);
	if (n <= 0)
		return err_set(err, ST_ERROR, "/proc/self/exe: %s", strerror(errno));
	path[n] = '\0';
	*strrchr(path, '/') = '\0';
	m->libexec = mem_strdup(path);
	m->libexec_own = true;
	return ST_OK;
}

static void limits_raise(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void protection_say(struct master *m)
{
	if (!m->privileged)
		master_note(m, "not started by root: all daemons run under uid %u, without chroot and without protection from each other",
			(unsigned)getuid());
	if (!str_is(m->conf->main.seccomp.text, "enforce"))
		master_note(m, "seccomp = %.*s: system calls of the daemons are not restricted", STR_FMT(m->conf->main.seccomp.text));
	if (m->privileged && str_is(m->conf->main.namespaces.text, "off"))
		master_note(m, "namespaces = off: router and local see all files that their uid may read");
}

static enum status users_check(const struct master *m, struct err *err)
{
	for (const struct service *s = services; m->privileged && s->name; s++) {
		uid_t uid;
		gid_t gid;

		if (!s->on_demand && service_is_wanted(s, m->conf) && service_user(s, m->conf, &uid, &gid, err))
			return ST_ERROR;
	}
	return ST_OK;
}

static enum status master_prepare(struct master *m, struct err *err)
{
	m->conf->generation = m->generation;
	if (m->conf->main.timezone.text.len) {
		struct arena a = ARENA_INIT;

		setenv("TZ", str_cstr(&a, m->conf->main.timezone.text), 1);
		arena_clear(&a);
	}
	tzset();
	if (log_conf_apply(m->conf, &m->log, err))
		return ST_ERROR;
	if (libexec_find(m, err) || paths_take(m, err) || users_check(m, err) || dirs_make(m, err) || lock_take(m, err) || logs_open(m, err))
		return ST_ERROR;
	protection_say(m);
	if (listeners_prepare(m, m->conf, BIND_RETRY_MS, err))
		return ST_ERROR;
	listeners_commit(m);
	if (submit_open(m, err) || control_open(m, err))
		return ST_ERROR;
	return ST_OK;
}

static void turn_end(void *arg)
{
	struct master *m = arg;

	log_flush(&m->log);
}

static void start_begin(void *arg)
{
	tickets_start(arg);
	generation_start(arg);
}

static void master_clear(struct master *m)
{
	char path[MASTER_PATH_MAX + 16];
	static const char *const files[] = { "control", "submit", "master.pid" };

	for (size_t i = 0; i < sizeof files / sizeof *files && m->lock_fd >= 0; i++) {
		snprintf(path, sizeof path, "%s/%s", m->run, files[i]);
		unlink(path);
	}
	list_each_safe(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->pid)
			kill(c->pid, SIGKILL);
		child_free(c);
	}
	control_jobs_stopped(m);
	loop_turn(m->loop, false); /* sends what was answered */
	control_close(m);
	listeners_close(m);
	loop_hook_remove(&m->hook);
	loop_timer_stop(&m->reap_timer);
	loop_timer_stop(&m->start_timer);
	tickets_clear(m);
	loop_turn(m->loop, false);
	loop_free(m->loop);
	conf_free(m->conf);
	conf_free(m->next_conf);
	log_flush(&m->log);
	log_clear(&m->log);
	if (m->libexec_own)
		mem_free((void *)(uintptr_t)m->libexec);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
}

int master_main(int argc, char **argv)
{
	struct master m = { .lock_fd = -1, .background_fd = -1, .control_fd = -1, .generation = 1, .privileged = geteuid() == 0 };
	struct buf problems = BUF_INIT;
	struct err err = ERR_INIT;

	if (!arguments_parse(&m, argc, argv)) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	list_init(&m.children);
	list_init(&m.listeners);
	list_init(&m.needs);
	list_init(&m.control_jobs);
	list_init(&m.clients);
	log_init(&m.log);
	umask(022);
	close_range(STDERR_FILENO + 1, ~0u, 0); /* what the caller left open is none of the daemons' business */
	m.start_ms = clock_ms();
	if (config_read(&m, &m.conf, &problems)) {
		fprintf(stderr, "%s\n", buf_cstr(&problems));
		buf_clear(&problems);
		return EXIT_CONFIG;
	}
	if (problems.len)
		fprintf(stderr, "%s\n", buf_cstr(&problems)); /* warnings */
	buf_clear(&problems);
	if (background_go(&m, &err))
		return start_refused(&m, EXIT_OSERR, err.text);
	limits_raise();
	m.loop = loop_new();
	if (!m.loop || !signals_set(&m))
		return start_refused(&m, EXIT_OSERR, "no event loop");
	loop_hook_add(m.loop, &m.hook, turn_end, &m);
	if (master_prepare(&m, &err)) {
		m.exit_code = start_refused(&m, EXIT_START, err.text);
	} else {
		loop_timer_start(&m.start_timer, m.loop, 0, start_begin, &m);
		loop_run(m.loop);
		master_log(&m, LOG_MAIN, m.exit_code ? "the start failed" : "stopped");
	}
	if (!m.started && !m.exit_code)
		background_tell(&m, EXIT_START);
	master_clear(&m);
	return m.exit_code;
}

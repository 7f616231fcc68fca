/* SPDX-License-Identifier: ISC */
#include "local/local_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/option.h"

enum { PIPE_CHUNK = 16384, FILES = 1024, ENV_EXTRA = 8, EXEC_FAILED = 127, OUTPUT_RETURNED_MAX = 60000, COMMAND_SHOWN = 400 };

/* A command that runs. */
struct run {
	const struct pipe_options *o;
	pid_t pid;
	int pid_fd, in, out, exec; /* its end; its input (-1: closed); its output; whether it could be executed */
	uint64_t until_ms;         /* 0: no limit */
	struct buf output;
	bool too_much, too_late, ended;
};

/* ---- what it is started with ---- */

static char **argv_make(const struct local_job *job, const struct pipe_options *o)
{
	char **v = arena_alloc(job->arena, (o->argv.n + job->msg->n_recipients * o->argv.n + 1) * sizeof *v);
	uint32_t n = 0;

	for (uint32_t i = 0; i < o->argv.n; i++) {
		if (!str_is(o->argv.v[i], "$pipe_addresses")) {
			v[n++] = str_cstr(job->arena, o->argv.v[i]);
			continue;
		}
		for (uint32_t k = 0; k < job->msg->n_recipients; k++) {
			const struct ipc_recipient *r = &job->msg->recipients[k];
			v[n++] = str_cstr(job->arena, str_begins(r->addr, "|") && r->parent.len ? r->parent : r->addr);
		}
	}
	v[n] = NULL;
	return v;
}

static bool env_has(const struct ipc_strs *env, const char *name)
{
	size_t n = strlen(name);

	for (uint32_t i = 0; i < env->n; i++)
		if (env->v[i].len > n && !memcmp(env->v[i].p, name, n) && env->v[i].p[n] == '=')
			return true;
	return false;
}

static char **env_make(const struct local_job *job, const struct pipe_options *o)
{
	const struct ipc_recipient *r = &job->msg->recipients[0];
	char **v = arena_alloc(job->arena, (o->environment.n + ENV_EXTRA + 1) * sizeof *v);
	uint32_t n = 0;

	for (uint32_t i = 0; i < o->environment.n; i++)
		v[n++] = str_cstr(job->arena, o->environment.v[i]);
	v[n++] = arena_printf(job->arena, "MESSAGE_ID=%.*s", STR_FMT(job->msg->id));
	v[n++] = arena_printf(job->arena, "SENDER=%.*s", STR_FMT(job->sender));
	v[n++] = arena_printf(job->arena, "PATH=%.*s", STR_FMT(o->path));
	v[n++] = arena_strdup(job->arena, "SHELL=/bin/sh");
	if (job->msg->n_recipients == 1 && !env_has(&o->environment, "RECIPIENT") && !str_begins(r->addr, "|"))
		v[n++] = arena_printf(job->arena, "RECIPIENT=%.*s", STR_FMT(r->addr));
	v[n] = NULL;
	return v;
}

/* The file that is run: as named, or the first of that name on path. */
static const char *program_find(const struct local_job *job, const struct pipe_options *o)
{
	struct str command = o->argv.v[0], path = o->path, dir;
	const char *name;

	if (command.p[0] == '/' || (str_find(command, '/') >= 0 && !o->restrict_to_path))
		return str_cstr(job->arena, command);
	while (str_split(&path, ':', &dir)) {
		struct stat st;

		name = arena_printf(job->arena, "%.*s/%.*s", STR_FMT(dir.len ? dir : STR_LIT(".")), STR_FMT(command));
		if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
			return name;
	}
	return NULL;
}

/* ---- the child ---- */

_Noreturn static void child_fail(int report, int error)
{
	ssize_t n = write(report, &error, sizeof error);

	(void)n;
	_exit(EXEC_FAILED);
}

static void child_signals(void)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_limits(const struct pipe_options *o)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur > FILES) {
		r.rlim_cur = FILES; /* programs that close all they may have would be at it for long */
		setrlimit(RLIMIT_NOFILE, &r);
	}
	if (getrlimit(RLIMIT_CORE, &r) == 0) {
		r.rlim_cur = o->permit_coredump ? r.rlim_max : 0;
		if (!o->permit_coredump)
			r.rlim_max = 0;
		setrlimit(RLIMIT_CORE, &r);
	}
}

/* In the new process: in, out and report are its ends. Descriptors from 3 on are closed, report by exec itself. */
_Noreturn static void child_exec(const struct pipe_options *o, const char *program, char **argv, char **env, int in, int out, int report)
{
	/* Above the three, so that nothing is overwritten on the way. */
	in = fcntl(in, F_DUPFD, 10);
	out = fcntl(out, F_DUPFD, 10);
	report = fcntl(report, F_DUPFD, 10);
	if (in < 0 || out < 0 || report < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || dup2(report, 3) < 0)
		_exit(EXEC_FAILED);
	close_range(4, ~0U, 0);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* whoever runs it has to judge it: its end is the command's */
	if (getppid() == 1)
		_exit(EXEC_FAILED);
	child_signals();
	child_limits(o);
	umask(o->umask);
	execve(program, argv, env);
	child_fail(3, errno);
}

/* ---- running ---- */

static bool pipe_make(int fd[2])
{
	return pipe2(fd, O_CLOEXEC) == 0;
}

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool directory_enter(const struct pipe_options *o, struct arena *a, struct local_fault *f)
{
	const char *dir = o->directory.len ? str_cstr(a, o->directory) : "/";

	if (chdir(dir) == 0)
		return true;
	return local_fault_errno(f, errno, "failed to chdir to %s", dir);
}

static bool run_start(struct run *r, const struct local_job *job, const char *program, struct local_fault *f)
{
	char **argv = argv_make(job, r->o), **env = env_make(job, r->o);
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, exec[2] = { -1, -1 };
	bool ok = pipe_make(in) && pipe_make(out) && pipe_make(exec);

	if (ok && fcntl(in[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(out[0], F_SETFL, O_NONBLOCK) == 0)
		r->pid = fork();
	else
		r->pid = -1;
	if (r->pid == 0)
		child_exec(r->o, program, argv, env, in[0], out[1], exec[1]);
	if (r->pid < 0)
		local_fault_errno(f, errno, "no process for the command");
	fd_close(&in[0]);
	fd_close(&out[1]);
	fd_close(&exec[1]);
	r->in = in[1];
	r->out = out[0];
	r->exec = exec[0];
	if (r->pid > 0) {
		setpgid(r->pid, r->pid); /* whichever of us is first */
		r->pid_fd = pidfd_open(r->pid, 0);
		if (r->pid_fd >= 0)
			return true;
		local_fault_errno(f, errno, "pidfd");
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
		r->pid = -1;
	}
	fd_close(&r->in);
	fd_close(&r->out);
	fd_close(&r->exec);
	return false;
}

static void run_kill(struct run *r)
{
	kill(-r->pid, SIGKILL);
	kill(r->pid, SIGKILL);
	fd_close(&r->in);
}

/* What the command wrote; false when it closed its output. */
static bool output_take(struct run *r)
{
	char room[4096];
	ssize_t n;

	while ((n = read(r->out, room, sizeof room)) > 0) {
		size_t left = r->o->max_output > r->output.len ? (size_t)(r->o->max_output - r->output.len) : 0;

		buf_add(&r->output, room, (size_t)n < left ? (size_t)n : left);
		if ((size_t)n > left) {
			r->too_much = true;
			run_kill(r);
			return false;
		}
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static int time_left(const struct run *r)
{
	uint64_t now = clock_ms();

	if (!r->until_ms)
		return -1;
	return now >= r->until_ms ? 0 : r->until_ms - now > 1000000 ? 1000000 : (int)(r->until_ms - now);
}

/* Waits for one of the three things that may happen. write: there is something to write. False: the command is not to go on. */
static bool run_wait(struct run *r, bool write, bool *writable_out)
{
	struct pollfd p[] = {
		{ write ? r->in : -1, POLLOUT, 0 }, { r->out, POLLIN, 0 }, { r->pid_fd, POLLIN, 0 },
	};
	int left = time_left(r), n = left ? poll(p, 3, left) : 0;

	*writable_out = false;
	if (n == 0 && (r->until_ms && clock_ms() >= r->until_ms)) {
		r->too_late = true;
		run_kill(r);
		return false;
	}
	if (p[1].revents && !output_take(r))
		fd_close(&r->out);
	if (r->too_much)
		return false;
	r->ended |= p[2].revents != 0;
	*writable_out = p[0].revents != 0;
	return true;
}

/* As write(), for local_message_write(): a command that reads no more gets no more, and is judged by how it ends. */
static ssize_t run_write(void *arg, const char *p, size_t n)
{
	struct run *r = arg;
	bool writable;
	ssize_t got;

	while (r->in >= 0) {
		if (!run_wait(r, true, &writable))
			break;
		if (!writable) {
			if (r->ended)
				break;
			continue;
		}
		got = write(r->in, p, n < PIPE_CHUNK ? n : PIPE_CHUNK);
		if (got > 0)
			return got;
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			break;
	}
	fd_close(&r->in);
	return (ssize_t)n;
}

/* Until it has ended, and what it wrote until then is read. */
static void run_finish(struct run *r)
{
	bool writable;

	fd_close(&r->in);
	while (!r->ended && run_wait(r, false, &writable))
		;
	if (r->out >= 0 && !r->too_much && !r->too_late)
		output_take(r);
	fd_close(&r->out);
}

/* errno of an execve() that failed; 0: it was executed. */
static int exec_error(struct run *r)
{
	int error = 0;

	if (read(r->exec, &error, sizeof error) != (ssize_t)sizeof error)
		error = 0;
	fd_close(&r->exec);
	return error;
}

/* ---- judging ---- */

static const struct { int code; const char *text; } exits[] = {
	{ EX_USAGE, "usage error" }, { EX_DATAERR, "error in input data" }, { EX_NOINPUT, "input file not found" }, { EX_NOUSER, "no such user" },
	{ EX_NOHOST, "no such host" }, { EX_UNAVAILABLE, "service or program unavailable" }, { EX_SOFTWARE, "internal software error" },
	{ EX_OSERR, "internal operating system error" }, { EX_OSFILE, "system file missing" }, { EX_CANTCREAT, "can't create output file" },
	{ EX_IOERR, "input/output error" }, { EX_TEMPFAIL, "temporary error" }, { EX_PROTOCOL, "protocol error" },
	{ EX_NOPERM, "permission denied" }, { EX_CONFIG, "local configuration error" },
	{ 126, "a shell could not run it" }, { EXEC_FAILED, "unable to exec or command does not exist" },
};

static const char *exit_text(int code)
{
	for (size_t i = 0; i < sizeof exits / sizeof *exits; i++)
		if (exits[i].code == code)
			return exits[i].text;
	return NULL;
}

static bool is_temporary(struct str list, int code, struct arena *a)
{
	struct conf_list_walk walk = CONF_LIST_WALK(list);
	struct str item;
	uint64_t n;

	while (conf_list_next(&walk, a, &item))
		if (str_is(item, "*") || (str_u64(item, 255, &n) && (int)n == code))
			return true;
	return false;
}

static void end_set(struct pipe_end *end, enum delivery_result result, const char *status, struct str text)
{
	end->result = result;
	end->internal = result == DELIVERY_FAILED;
	end->text = text;
	snprintf(end->status, sizeof end->status, "%s", status);
}

static struct str command_text(const struct pipe_options *o, struct arena *a)
{
	struct buf b = BUF_LIMIT(COMMAND_SHOWN);
	struct str out;

	for (uint32_t i = 0; i < o->argv.n && !b.full; i++)
		buf_printf(&b, "%s%.*s", i ? " " : "", STR_FMT(o->argv.v[i]));
	out = str_dup(a, buf_str(&b));
	buf_clear(&b);
	return out;
}

void pipe_status_judge(const struct pipe_options *o, int status, struct arena *a, struct pipe_end *end)
{
	struct str command = command_text(o, a);
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	const char *what = WIFEXITED(status) ? exit_text(code) : NULL;

	end_set(end, DELIVERY_OK, "2.0.0", STR_NULL);
	if (WIFEXITED(status) && !code)
		return;
	if (WIFSIGNALED(status)) {
		const char *name = strsignal(WTERMSIG(status));

		end_set(end, DELIVERY_FAILED, "5.3.0", str_printf(a, "Child process of %.*s transport (running command \"%.*s\") was terminated by signal %d (%s)",
			STR_FMT(o->transport), STR_FMT(command), WTERMSIG(status), name ? name : "?"));
		if (o->freeze_signal) {
			end_set(end, DELIVERY_DEFERRED, "4.3.0", end->text);
			end->freeze = true;
		} else if (o->ignore_status) {
			end_set(end, DELIVERY_OK, "2.0.0", STR_NULL);
		}
		return;
	}
	if (o->ignore_status)
		return;
	end_set(end, DELIVERY_FAILED, code == EX_NOUSER ? "5.1.1" : code == EX_NOHOST ? "5.1.2" : code == EX_NOPERM ? "5.7.1" : "5.3.0",
		str_printf(a, "Child process of %.*s transport returned %d%s%s%s from command: %.*s", STR_FMT(o->transport), code,
			what ? " (could mean " : "", what ? what : "", what ? ")" : "", STR_FMT(command)));
	if (!o->return_output && is_temporary(o->temp_errors, code, a))
		end_set(end, DELIVERY_DEFERRED, "4.3.0", end->text);
}

/* The first line that holds anything. */
static struct str output_line(struct str output, struct arena *a)
{
	struct str line;

	output = str_trim(output);
	return str_split(&output, '\n', &line) ? str_dup(a, str_sub(str_trim(line), 0, 1000)) : STR_NULL;
}

static void output_judge(const struct run *r, const struct local_job *job, struct pipe_end *end)
{
	const struct pipe_options *o = r->o;
	struct str output = buf_str(&r->output);
	bool is_report = !job->msg->sender.len;

	if (!output.len)
		return;
	if ((o->log_output) || (o->log_fail && end->result == DELIVERY_FAILED) || (o->log_defer && end->result == DELIVERY_DEFERRED))
		end->log_line = output_line(output, job->arena);
	if (o->return_output && !is_report && !r->too_late && !end->freeze) {
		if (end->result != DELIVERY_FAILED)
			end_set(end, DELIVERY_FAILED, "5.3.0", str_printf(job->arena, "%.*s transport: the command wrote something (return_output)", STR_FMT(o->transport)));
	}
	if (end->result == DELIVERY_FAILED && (o->return_output || o->return_fail_output) && !is_report)
		end->output = str_dup(job->arena, str_sub(output, 0, OUTPUT_RETURNED_MAX));
}

static void run_judge(struct run *r, const struct local_job *job, int status, int exec, bool wrote, const struct local_fault *f, struct pipe_end *end)
{
	const struct pipe_options *o = r->o;
	struct str command = command_text(o, job->arena);

	if (exec) { /* the program could not even be begun */
		end_set(end, DELIVERY_FAILED, "5.3.0", str_printf(job->arena, "Child process of %.*s transport returned %d (could mean %s) from command: "
			"%.*s: %s", STR_FMT(o->transport), EXEC_FAILED, exit_text(EXEC_FAILED), STR_FMT(command), strerror(exec)));
		if (o->freeze_exec_fail) {
			end_set(end, DELIVERY_DEFERRED, "4.3.0", end->text);
			end->freeze = true;
		} else if (o->ignore_status) {
			end_set(end, DELIVERY_OK, "2.0.0", STR_NULL);
		} else if (is_temporary(o->temp_errors, EXEC_FAILED, job->arena) || exec == ENOMEM || exec == EAGAIN || exec == EMFILE || exec == ENFILE) {
			end_set(end, DELIVERY_DEFERRED, "4.3.0", end->text);
		}
	} else if (!wrote) { /* our own fault: killed before it could take half of a message for a whole one */
		end_set(end, DELIVERY_DEFERRED, f->status, str_of(f->err.text));
	} else if (r->too_late) {
		end_set(end, o->timeout_defer ? DELIVERY_DEFERRED : DELIVERY_FAILED, o->timeout_defer ? "4.3.0" : "5.3.0",
			str_printf(job->arena, "pipe delivery process timed out: %.*s", STR_FMT(command)));
	} else if (r->too_much) {
		end_set(end, DELIVERY_FAILED, "5.3.0", str_printf(job->arena, "Too much output from pipe - killed: %.*s", STR_FMT(command)));
	} else {
		pipe_status_judge(o, status, job->arena, end);
	}
	output_judge(r, job, end);
}

static void run_all(struct run *r, struct local_job *job, const char *program, struct pipe_end *end)
{
	struct local_fault f = { .error = RETRY_NONE };
	uint64_t written;
	bool wrote;
	int status = 0, exec;

	if (!run_start(r, job, program, &f)) {
		end_set(end, DELIVERY_DEFERRED, f.status, str_dup(job->arena, str_of(f.err.text)));
		return;
	}
	r->until_ms = r->o->timeout_s ? clock_ms() + (uint64_t)r->o->timeout_s * 1000 : 0;
	job->write = run_write;
	job->write_arg = r;
	wrote = local_message_write(job, -1, &written, &f);
	if (!wrote)
		run_kill(r);
	run_finish(r);
	if (r->too_late || r->too_much)
		run_kill(r);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	exec = exec_error(r);
	close(r->pid_fd);
	run_judge(r, job, status, exec, wrote, &f, end);
	buf_clear(&r->output);
}

void pipe_deliver(struct local_job *job, const struct ipc_plan *plan, struct pipe_end *end)
{
	struct pipe_options *o = arena_alloc(job->arena, sizeof *o);
	struct run r = { .o = o, .pid = -1, .pid_fd = -1, .in = -1, .out = -1, .exec = -1, .output = BUF_INIT };
	struct local_fault f = { .error = RETRY_NONE };
	const char *program;
	struct err err;

	memset(end, 0, sizeof *end);
	if (pipe_options_read(plan, job->arena, o, &err)) {
		end_set(end, DELIVERY_DEFERRED, "4.3.5", str_dup(job->arena, str_of(err.text)));
		return;
	}
	job->options = &o->text;
	if (!local_message_begin(job, plan, &f) || !directory_enter(o, job->arena, &f)) {
		end_set(end, DELIVERY_DEFERRED, f.status, str_dup(job->arena, str_of(f.err.text)));
		return;
	}
	job->store = command_text(o, job->arena);
	program = program_find(job, o);
	if (program) {
		run_all(&r, job, program, end);
		return;
	}
	end_set(end, o->freeze_exec_fail ? DELIVERY_DEFERRED : DELIVERY_FAILED, o->freeze_exec_fail ? "4.3.0" : "5.3.0",
		str_printf(job->arena, "\"%.*s\" command not found for %.*s transport", STR_FMT(o->argv.v[0]), STR_FMT(o->transport)));
	end->freeze = o->freeze_exec_fail;
}

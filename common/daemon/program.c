/* SPDX-License-Identifier: ISC */
#include "common/daemon/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { CHUNK = 16384, READS = 64 /* before the clock is looked at again */, FILES = 1024, EXEC_FAILED = 127, POLL_MAX_MS = 1000000 };

/* ---- the child ---- */

_Noreturn static void child_fail(int report, int error)
{
	ssize_t n = write(report, &error, sizeof error);

	(void)n;
	_exit(EXEC_FAILED);
}

void program_signals_reset(void)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_limits(const struct program_spec *spec)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur > FILES) {
		r.rlim_cur = FILES; /* programs that close all they may have would be at it for long */
		setrlimit(RLIMIT_NOFILE, &r);
	}
	if (getrlimit(RLIMIT_CORE, &r) == 0) {
		r.rlim_cur = spec->permit_coredump ? r.rlim_max : 0;
		if (!spec->permit_coredump)
			r.rlim_max = 0;
		setrlimit(RLIMIT_CORE, &r);
	}
}

/* In the new process: in, out and report are its ends. Descriptors from 3 on are closed, report by exec itself. */
_Noreturn static void child_exec(const struct program_spec *spec, int in, int out, int report)
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
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* whoever runs it has to judge it: its end is the program's */
	if (getppid() == 1)
		_exit(EXEC_FAILED);
	program_signals_reset();
	child_limits(spec);
	umask(spec->umask);
	execve(spec->path, spec->argv, spec->env);
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

static void fds_close(struct program *p)
{
	fd_close(&p->in);
	fd_close(&p->out);
	fd_close(&p->exec);
	fd_close(&p->pid_fd);
}

/* A child that can't be watched is none. */
static enum status pid_watch(struct program *p, struct err *err)
{
	int error;

	setpgid(p->pid, p->pid); /* whichever of us is first */
	p->pid_fd = pidfd_open(p->pid, 0);
	if (p->pid_fd >= 0)
		return ST_OK;
	error = errno;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	p->pid = -1;
	errno = error;
	return err_set(err, ST_ERROR, "pidfd: %s", strerror(error));
}

enum status program_start(struct program *p, const struct program_spec *spec, struct err *err)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, exec[2] = { -1, -1 }, error;
	enum status st = ST_OK;

	*p = (struct program){ .spec = spec, .pid = -1, .pid_fd = -1, .in = -1, .out = -1, .exec = -1, .output = BUF_INIT };
	if (pipe_make(in) && pipe_make(out) && pipe_make(exec) && fcntl(in[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(out[0], F_SETFL, O_NONBLOCK) == 0)
		p->pid = fork();
	if (p->pid == 0)
		child_exec(spec, in[0], out[1], exec[1]);
	if (p->pid < 0)
		st = err_set(err, ST_ERROR, "no process: %s", strerror(errno));
	error = errno;
	fd_close(&in[0]);
	fd_close(&out[1]);
	fd_close(&exec[1]);
	p->in = in[1];
	p->out = out[0];
	p->exec = exec[0];
	if (st == ST_OK) {
		st = pid_watch(p, err);
		error = errno;
	}
	if (st != ST_OK) {
		fds_close(p);
		errno = error;
		return st;
	}
	p->until_ms = spec->timeout_s ? clock_ms() + (uint64_t)spec->timeout_s * 1000 : 0;
	return ST_OK;
}

void program_kill(struct program *p)
{
	kill(-p->pid, SIGKILL);
	kill(p->pid, SIGKILL);
	fd_close(&p->in);
}

/* What the program wrote; false when it closed its output. */
static bool output_take(struct program *p)
{
	char room[4096];
	ssize_t n = 0;

	for (unsigned i = 0; i < READS && (n = read(p->out, room, sizeof room)) > 0; i++) {
		size_t left = p->spec->max_output > p->output.len ? (size_t)(p->spec->max_output - p->output.len) : 0;

		buf_add(&p->output, room, (size_t)n < left ? (size_t)n : left);
		if ((size_t)n > left && !p->spec->output_cut) {
			p->too_much = true;
			program_kill(p);
			return false;
		}
	}
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static int time_left(const struct program *p)
{
	uint64_t now = clock_ms();

	if (!p->until_ms)
		return -1;
	return now >= p->until_ms ? 0 : p->until_ms - now > POLL_MAX_MS ? POLL_MAX_MS : (int)(p->until_ms - now);
}

/* Waits for one of the three things that may happen. write: there is something to write. False: the program is not to go on. */
static bool program_wait(struct program *p, bool write, bool *writable_out)
{
	struct pollfd fds[] = {
		{ write ? p->in : -1, POLLOUT, 0 }, { p->out, POLLIN, 0 }, { p->pid_fd, POLLIN, 0 },
	};
	int left = time_left(p), n = left ? poll(fds, 3, left) : 0;

	*writable_out = false;
	if (n == 0 && (p->until_ms && clock_ms() >= p->until_ms)) {
		p->too_late = true;
		program_kill(p);
		return false;
	}
	if (fds[1].revents && !output_take(p))
		fd_close(&p->out);
	if (p->too_much)
		return false;
	p->ended |= fds[2].revents != 0;
	*writable_out = fds[0].revents != 0;
	return true;
}

ssize_t program_write(void *arg, const char *octets, size_t n)
{
	struct program *p = arg;
	bool writable;
	ssize_t got;

	while (p->in >= 0) {
		if (!program_wait(p, true, &writable))
			break;
		if (!writable) {
			if (p->ended)
				break;
			continue;
		}
		got = write(p->in, octets, n < CHUNK ? n : CHUNK);
		if (got > 0)
			return got;
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			break;
	}
	fd_close(&p->in);
	return (ssize_t)n;
}

static int exec_error(struct program *p)
{
	int error = 0;

	if (read(p->exec, &error, sizeof error) != (ssize_t)sizeof error)
		error = 0;
	return error;
}

void program_finish(struct program *p)
{
	bool writable;

	fd_close(&p->in);
	while (!p->ended && program_wait(p, false, &writable))
		;
	if (p->out >= 0 && !p->too_much && !p->too_late)
		output_take(p);
	if (p->too_late || p->too_much)
		program_kill(p);
	while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
		;
	p->exec_error = exec_error(p);
	fds_close(p);
}

void program_clear(struct program *p)
{
	fds_close(p);
	buf_clear(&p->output);
}

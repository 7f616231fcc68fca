/* SPDX-License-Identifier: ISC */
#include "local/local_pipe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/conf/option.h"
#include "common/daemon/program.h"

enum { ENV_EXTRA = 8, EXEC_FAILED = 127, OUTPUT_RETURNED_MAX = 60000, COMMAND_SHOWN = 400 };

/* A command that runs. */
struct run {
	const struct pipe_options *o;
	struct program_spec spec;
	struct program program;
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

static bool directory_enter(const struct pipe_options *o, struct arena *a, struct local_fault *f)
{
	const char *dir = o->directory.len ? str_cstr(a, o->directory) : "/";
	int error;

	if (chdir(dir) == 0)
		return true;
	error = errno;
	local_fault_set(f, RETRY_OTHER, "4.3.0", "failed to chdir to %s: %s", dir, strerror(error)); /* commands see the whole machine */
	f->error_no = error;
	return false;
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
	struct str output = buf_str(&r->program.output);
	bool is_report = !job->msg->sender.len;

	if (!output.len)
		return;
	if ((o->log_output) || (o->log_fail && end->result == DELIVERY_FAILED) || (o->log_defer && end->result == DELIVERY_DEFERRED))
		end->log_line = output_line(output, job->arena);
	if (o->return_output && !is_report && !r->program.too_late && !end->freeze) {
		if (end->result != DELIVERY_FAILED)
			end_set(end, DELIVERY_FAILED, "5.3.0", str_printf(job->arena, "%.*s transport: the command wrote something (return_output)", STR_FMT(o->transport)));
	}
	if (end->result == DELIVERY_FAILED && (o->return_output || o->return_fail_output) && !is_report)
		end->output = str_dup(job->arena, str_sub(output, 0, OUTPUT_RETURNED_MAX));
}

static void run_judge(const struct run *r, const struct local_job *job, bool wrote, const struct local_fault *f, struct pipe_end *end)
{
	const struct pipe_options *o = r->o;
	int exec = r->program.exec_error;
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
	} else if (r->program.too_late) {
		end_set(end, o->timeout_defer ? DELIVERY_DEFERRED : DELIVERY_FAILED, o->timeout_defer ? "4.3.0" : "5.3.0",
			str_printf(job->arena, "pipe delivery process timed out: %.*s", STR_FMT(command)));
	} else if (r->program.too_much) {
		end_set(end, DELIVERY_FAILED, "5.3.0", str_printf(job->arena, "Too much output from pipe - killed: %.*s", STR_FMT(command)));
	} else {
		pipe_status_judge(o, r->program.status, job->arena, end);
	}
	output_judge(r, job, end);
}

static void run_all(struct run *r, struct local_job *job, const char *path, struct pipe_end *end)
{
	struct local_fault f = { .error = RETRY_NONE };
	struct err err = ERR_INIT;
	uint64_t written;
	bool wrote;

	r->spec = (struct program_spec){ .path = path, .argv = argv_make(job, r->o), .env = env_make(job, r->o), .timeout_s = r->o->timeout_s,
		.max_output = r->o->max_output, .umask = r->o->umask, .permit_coredump = r->o->permit_coredump };
	if (program_start(&r->program, &r->spec, &err)) {
		end_set(end, DELIVERY_DEFERRED, "4.3.0", str_dup(job->arena, str_of(err.text)));
		return;
	}
	job->write = program_write;
	job->write_arg = &r->program;
	wrote = local_message_write(job, -1, &written, &f);
	if (!wrote)
		program_kill(&r->program);
	program_finish(&r->program);
	run_judge(r, job, wrote, &f, end);
	program_clear(&r->program);
}

void pipe_deliver(struct local_job *job, const struct ipc_plan *plan, struct pipe_end *end)
{
	struct pipe_options *o = arena_alloc(job->arena, sizeof *o);
	struct run r = { .o = o };
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

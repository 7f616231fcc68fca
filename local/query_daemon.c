/* SPDX-License-Identifier: ISC */
/* query_daemon.c - a pool under one uid that runs the programs of queryprogram routers and of ${run}. It sees the machine as that uid
 * does, and no message. Router says what is wanted and with which words; what may be run is in our own view. */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/conf/command.h"
#include "common/conf/conf.h"
#include "common/daemon/program.h"
#include "local/local_daemon.h"
#include "local/query.h"

enum { WORKERS_MAX = 16, ALONE_MS = 10 * 1000, OUTPUT_MAX = 1023, RUN_OUTPUT_MAX = 64 * 1024, EXIT_NOT_RUN = 127 /* as shells have it */ };

/* ---- what may be run ---- */

static bool user_is_ours(struct str user, struct arena *a)
{
	const struct passwd *pw;
	uint64_t uid;

	if (str_u64(user, UINT32_MAX, &uid))
		return uid == geteuid();
	pw = getpwnam(str_cstr(a, user));
	return pw && pw->pw_uid == geteuid();
}

enum status query_allow(const struct conf *conf, const struct ipc_program_ask *ask, bool unprivileged, struct arena *a,
	const struct conf_opts_router_queryprogram **out, struct err *err)
{
	const struct conf_instance *r = conf_instance_find(conf, CONF_ROUTERS, ask->router);
	const struct conf_opts_router_queryprogram *o = r ? CONF_OWN(r, router_queryprogram) : NULL;
	struct command_words words;

	if (!o)
		return err_set(err, ST_ERROR, "there is no queryprogram router \"%.*s\"", STR_FMT(ask->router));
	if (!unprivileged && !user_is_ours(str_trim(o->command_user.text), a))
		return err_set(err, ST_ERROR, "the program of router %.*s runs under another login", STR_FMT(ask->router));
	if (command_split(o->command.text, a, &words, err) != ST_OK)
		return err->status;
	if (words.v[0].p[0] != '/' || str_find(words.v[0], '$') >= 0 || !command_fits(&words, ask->argv.v, ask->argv.n))
		return err_set(err, ST_ERROR, "that is not the command of router %.*s", STR_FMT(ask->router));
	*out = o;
	return ST_OK;
}

enum status query_run_allow(const struct conf *conf, const struct ipc_program_ask *ask, bool unprivileged, struct arena *a, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(conf->main.run_commands.text);
	struct str path;

	if (!ask->argv.n)
		return err_set(err, ST_ERROR, "run: no command");
	if (!unprivileged && !user_is_ours(str_trim(conf->main.run_user.text), a))
		return err_set(err, ST_ERROR, "run: programs of ${run} run under another login");
	while (conf_list_next(&walk, a, &path))
		if (path.len && path.p[0] == '/' && str_eq(path, ask->argv.v[0]))
			return ST_OK;
	return err_set(err, ST_ERROR, "run: \"%.*s\" is not in run_commands", STR_FMT(str_sub(ask->argv.v[0], 0, 200)));
}

/* ---- running ---- */

struct query_job {
	const char *directory;
	int64_t timeout_s;         /* the option's; 0: none */
	uint64_t output_max;
	bool output_cut;
	bool is_run;               /* ${run}: a program that can't be run has a code, and too much is too much */
};

static void end_judge(const struct program *p, const struct query_job *job, bool own_time, struct arena *a, struct ipc_program_answer *out)
{
	if (p->exec_error && job->is_run) {
		out->code = EXIT_NOT_RUN;
	} else if (p->exec_error) {
		out->text = str_printf(a, "%s: %s", p->spec->path, strerror(p->exec_error));
	} else if (p->too_late) {
		out->too_late = true;
		out->own_time = own_time;
	} else if (p->too_much) {
		out->too_much = true;
	} else if (WIFSIGNALED(p->status)) {
		out->signal = (uint64_t)WTERMSIG(p->status);
	} else {
		out->code = (uint64_t)WEXITSTATUS(p->status);
	}
	out->output = str_dup(a, buf_str(&p->output));
}

static enum status query_run(struct worker *w, const struct query_job *job, const struct ipc_program_ask *ask, struct ipc_program_answer *out,
	struct err *err)
{
	bool own_time = job->timeout_s && (!ask->limit_s || (uint64_t)job->timeout_s <= ask->limit_s);
	struct program_spec spec = { .env = environ, .max_output = job->output_max, .output_cut = job->output_cut, .umask = 077,
		.timeout_s = own_time ? job->timeout_s : (int64_t)ask->limit_s };
	struct arena *a = &w->arena;
	struct program p;

	spec.argv = arena_alloc(a, (ask->argv.n + 1) * sizeof *spec.argv);
	for (uint32_t i = 0; i < ask->argv.n; i++)
		spec.argv[i] = str_cstr(a, ask->argv.v[i]);
	spec.argv[ask->argv.n] = NULL;
	spec.path = spec.argv[0];
	if (chdir(job->directory) < 0)
		return err_set(err, ST_ERROR, "current_directory %s: %s", job->directory, strerror(errno));
	if (program_start(&p, &spec, err) != ST_OK)
		return err->status;
	program_finish(&p);
	end_judge(&p, job, own_time, a, out);
	if (p.exec_error && job->is_run)
		worker_log(w, LOG_MAIN, "run: %s: %s", spec.path, strerror(p.exec_error));
	program_clear(&p);
	return ST_OK;
}

/* What our own view says of it. */
static enum status job_make(struct worker *w, const struct ipc_program_ask *ask, struct query_job *job, struct err *err)
{
	const struct conf_opts_router_queryprogram *o;

	if (!ask->router.len) {
		*job = (struct query_job){ .directory = "/", .output_max = RUN_OUTPUT_MAX, .is_run = true };
		return query_run_allow(w->conf, ask, w->unprivileged, &w->arena, err);
	}
	if (query_allow(w->conf, ask, w->unprivileged, &w->arena, &o, err) != ST_OK)
		return err->status;
	*job = (struct query_job){ .directory = str_cstr(&w->arena, o->current_directory.text), .timeout_s = o->timeout, .output_max = OUTPUT_MAX,
		.output_cut = true };
	return ST_OK;
}

static void on_ask(struct worker *w, struct ipc_in *in)
{
	const struct ipc_program_ask *ask = in->msg;
	struct ipc_program_answer out = { .code = 0 };
	struct query_job job;
	struct err err = ERR_INIT;

	if (job_make(w, ask, &job, &err) != ST_OK) {
		worker_log(w, LOG_MAIN | LOG_PANIC, "refused: %s", err.text);
		out.text = str_of(err.text);
	} else if (query_run(w, &job, ask, &out, &err) != ST_OK) {
		out.text = str_of(err.text);
	}
	worker_answer(w, in, &ipc_type_program_answer, &out, NULL, 0);
}

/* No worker is stuck: the time-out ends what takes too long. */
static void pool_size_set(const struct conf *conf, struct pool_size *out)
{
	(void)conf;
	out->min = 1;
	out->max = WORKERS_MAX;
	out->stuck_ms = 0;
	out->alone_ms = ALONE_MS;
}

static const struct pool_handler router_handlers[] = {
	{ IPC_program_ask, on_ask },
	{ 0, NULL },
};

static const struct pool_peer peers[] = {
	{ "router", router_handlers },
	{ NULL, NULL },
};

const struct pool_spec query_daemon_spec = {
	.name = "query",
	.what = "runs the programs of queryprogram routers and of ${run}, under one uid",
	.see = V_QUERY,
	.sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE | DAEMON_SYS_EXEC,
	.peers = peers,
	.drain_when_idle = true,
	.size = pool_size_set,
};

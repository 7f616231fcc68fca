/* SPDX-License-Identifier: ISC */
#include "local/local_daemon.h"

#include <sys/utsname.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/conf.h"
#include "local/local.h"
#include "local/local_reply.h"

enum { WORKERS_MAX = 8, STUCK_MS = 30 * 60 * 1000, ALONE_MS = 10 * 1000, LOST_MAX = 3 };

struct local_worker {
	char *scratch;
	char *host;
	uint64_t return_limit;
	struct str qualify;
};

static enum status worker_start(struct worker *w, struct err *err)
{
	struct local_worker *s = mem_new(sizeof *s);
	struct str name = w->conf->main.primary_hostname.text;
	struct utsname uts;

	if (!name.len) {
		if (uname(&uts) < 0)
			return err_set(err, ST_ERROR, "this machine has no name; set primary_hostname");
		name = str_of(uts.nodename);
	}
	s->host = mem_memdup(name.p, name.len);
	s->scratch = mem_new(LOCAL_SCRATCH);
	s->return_limit = (uint64_t)w->conf->main.bounce_return_size_limit;
	s->qualify = w->conf->main.qualify_domain.text.len ? w->conf->main.qualify_domain.text : str_of(s->host);
	w->state = s;
	return ST_OK;
}

static void worker_stop(struct worker *w)
{
	struct local_worker *s = w->state;

	mem_free(s->host);
	mem_free(s->scratch);
	mem_free(s);
}

/* The plan says under which uid it is to be done; master has started us under it. */
static bool uid_check(const struct worker *w, const struct ipc_plan *plan, struct local_fault *f)
{
	if (w->unprivileged || !plan->uid || plan->uid - 1 == geteuid())
		return true;
	return local_fault_set(f, RETRY_OTHER, "4.3.0", "this process runs under uid %ld, not %ld", (long)geteuid(), (long)(plan->uid - 1));
}

static void delivered_fill(struct worker *w, const struct local_job *job, const struct local_fault *f, bool ok, struct ipc_delivered *out)
{
	const struct ipc_deliver *m = job->msg;

	out->delivery = m->delivery;
	out->store = job->store;
	out->bytes = ok ? job->size : 0;
	out->outcomes = arena_alloc(&w->arena, m->n_recipients * sizeof *out->outcomes);
	out->n_outcomes = m->n_recipients;
	for (uint32_t i = 0; i < m->n_recipients; i++)
		out->outcomes[i] = ok
			? (struct ipc_outcome){ .recipient = m->recipients[i].index, .result = DELIVERY_OK, .status = STR_LIT("2.0.0") }
			: (struct ipc_outcome){
				.recipient = m->recipients[i].index, .result = DELIVERY_DEFERRED, .status = str_of(f->status), .text = str_of(f->err.text),
				.stage = STR_LIT("delivery"), .error = f->error, .error_no = (uint64_t)f->error_no,
				.quota_age = f->quota_age,
			};
}

/* The message took the mailbox beyond its threshold: its owner is told. What goes wrong with that is logged, and no more. */
static void warning_look(struct worker *w, struct local_job *job, const struct ipc_plan *plan, uint64_t before, uint64_t written, struct reply *reply)
{
	const struct local_worker *s = w->state;
	const struct local_options *o = job->options;
	struct local_fault f = { .error = RETRY_NONE };

	if (!o->warn_at || before == UINT64_MAX || before > o->warn_at || before + written <= o->warn_at)
		return;
	if (!reply_warning(job, o->warn_message, plan->transport, s->qualify, reply, &f))
		worker_log(w, LOG_MAIN | LOG_PANIC, "%.*s: %s", STR_FMT(job->msg->id), f.err.text);
}

static bool store_deliver(struct worker *w, struct local_job *job, const struct ipc_plan *plan, struct reply *reply, struct local_fault *f)
{
	uint64_t before = UINT64_MAX, written = 0;

	job->size_before = &before;
	job->size_written = &written;
	if (!local_deliver(job, plan, f))
		return false;
	warning_look(w, job, plan, before, written, reply);
	return true;
}

static void on_deliver(struct worker *w, struct ipc_in *in)
{
	const struct local_worker *s = w->state;
	const struct ipc_deliver *m = in->msg;
	struct local_fault fault = { .error = RETRY_NONE };
	struct local_job job = {
		.msg = m, .fd = in->fds[0], .host = s->host, .scratch = s->scratch, .now_us = clock_wall_us(), .arena = &w->arena,
	};
	struct ipc_delivered out = { 0 };
	struct reply reply = { .fd = -1 };
	struct ipc_plan plan;
	struct err err;
	bool ok = false;

	if (m->attempt >= LOST_MAX)
		local_fault_set(&fault, RETRY_OTHER, "4.3.0", "workers were lost with this delivery %u times", (unsigned)m->attempt);
	else if (ipc_decode(&ipc_type_plan, m->plan, &w->arena, &plan, &err))
		local_fault_set(&fault, RETRY_OTHER, "4.3.0", "%s", err.text);
	else
		ok = uid_check(w, &plan, &fault) && (str_is(plan.driver, "autoreply")
			? reply_make(&job, &plan, s->return_limit, s->qualify, &reply, &fault) : store_deliver(w, &job, &plan, &reply, &fault));
	delivered_fill(w, &job, &fault, ok, &out);
	out.reply_to = reply.recipients;
	out.n_reply_to = reply.fd >= 0 ? reply.n_recipients : 0;
	worker_answer(w, in, &ipc_type_delivered, &out, &reply.fd, reply.fd >= 0);
}

static void pool_size_set(const struct conf *conf, struct pool_size *out)
{
	(void)conf;
	out->min = 1;
	out->max = WORKERS_MAX;
	out->stuck_ms = STUCK_MS; /* locks are waited for */
	out->alone_ms = ALONE_MS;
}

static const struct pool_handler qmgr_handlers[] = {
	{ IPC_deliver, on_deliver },
	{ 0, NULL },
};

static const struct pool_peer peers[] = {
	{ "qmgr", qmgr_handlers },
	{ NULL, NULL },
};

/* A reply is handed over as sealed memory. */
static const char *const sys_more[] = { "memfd_create", NULL };

const struct pool_spec local_daemon_spec = {
	.name = "local",
	.what = "writes maildirs and mailboxes, and replies, under one uid",
	.see = V_LOCAL,
	.sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE,
	.sys_more = sys_more,
	.peers = peers,
	.drain_when_idle = true,
	.size = pool_size_set,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
};

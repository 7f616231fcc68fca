/* SPDX-License-Identifier: ISC */
/* pipe_daemon.c - local's other kind: a pool under one uid that runs commands. It sees the machine as that uid does. */
#include "local/local_daemon.h"

#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/conf.h"
#include "local/local_pipe.h"

enum { WORKERS_MAX = 16, LOST_MAX = 3, ALONE_MS = 10 * 1000 };

static enum status worker_start(struct worker *w, struct err *err)
{
	(void)err;
	w->state = mem_new(LOCAL_SCRATCH);
	return ST_OK;
}

static void worker_stop(struct worker *w)
{
	mem_free(w->state);
}

static void end_text(struct pipe_end *end, enum delivery_result result, const char *text)
{
	*end = (struct pipe_end){ .result = result, .status = "4.3.0", .text = str_of(text) };
}

static void answer(struct worker *w, struct ipc_in *in, const struct local_job *job, const struct pipe_end *end)
{
	const struct ipc_deliver *m = in->msg;
	struct ipc_pair line = { .name = STR_LIT("output"), .value = end->log_line };
	struct ipc_delivered out = { .delivery = m->delivery, .store = str_sub(job->store, 0, 4000), .output = end->output,
		.bytes = end->result == DELIVERY_OK ? job->size : 0, .n_outcomes = m->n_recipients };

	if (end->log_line.len) {
		out.log = &line;
		out.n_log = 1;
	}
	out.outcomes = arena_alloc(&w->arena, m->n_recipients * sizeof *out.outcomes);
	for (uint32_t i = 0; i < m->n_recipients; i++)
		out.outcomes[i] = (struct ipc_outcome){ .recipient = m->recipients[i].index, .result = end->result, .status = str_of(end->status),
			.text = str_sub(end->text, 0, 4000), .stage = STR_LIT("delivery"), .error = end->result == DELIVERY_OK ? RETRY_NONE : RETRY_OTHER,
			.freeze = end->freeze, .internal = end->internal };
	worker_answer(w, in, &ipc_type_delivered, &out, NULL, 0);
}

static void on_deliver(struct worker *w, struct ipc_in *in)
{
	const struct ipc_deliver *m = in->msg;
	struct local_job job = { .msg = m, .fd = in->fds[0], .scratch = w->state, .now_us = clock_wall_us(), .arena = &w->arena };
	struct ipc_plan plan;
	struct pipe_end end;
	struct err err;

	if (m->attempt >= LOST_MAX)
		end_text(&end, DELIVERY_DEFERRED, "workers were lost with this delivery several times");
	else if (!m->n_recipients || ipc_decode(&ipc_type_plan, m->plan, &w->arena, &plan, &err))
		end_text(&end, DELIVERY_DEFERRED, "the plan of the delivery can't be read");
	else if (!w->unprivileged && plan.uid && plan.uid - 1 != geteuid())
		end_text(&end, DELIVERY_DEFERRED, "this process runs under another uid");
	else
		pipe_deliver(&job, &plan, &end);
	answer(w, in, &job, &end);
}

/* No worker is stuck: the transport's own time-out ends what takes too long. */
static void pool_size_set(const struct conf *conf, struct pool_size *out)
{
	(void)conf;
	out->min = 1;
	out->max = WORKERS_MAX;
	out->stuck_ms = 0;
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

const struct pool_spec pipe_daemon_spec = {
	.name = "pipe",
	.what = "runs commands that get a message, under one uid",
	.see = V_LOCAL,
	.sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE | DAEMON_SYS_EXEC,
	.limits = { .cores = true },
	.peers = peers,
	.drain_when_idle = true,
	.size = pool_size_set,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
};

/* SPDX-License-Identifier: ISC */
#include "queuefile/queuefile.h"

#include "common/conf/conf.h"
#include "common/ipc/enums.h"
#include "common/mail/msgid.h"

enum { WORKERS_MAX = 8, STUCK_MS = 10 * 60 * 1000, LOST_MAX = 3, PATH_LONGEST = 4000 };

static enum status plan_read(const struct ipc_plan *plan, struct arena *a, struct conf_opts_transport_queuefile *o, struct err *err)
{
	conf_opts_init(&conf_table_transport_queuefile, o);
	for (uint32_t i = 0; i < plan->n_options; i++) {
		enum status st = conf_opts_set(&conf_table_transport_queuefile, o, a, plan->options[i].name, plan->options[i].value, err);

		if (st != ST_OK && st != ST_FAIL) /* generic options mean nothing here */
			return st;
	}
	if (!str_begins(o->directory.text, "/") || o->directory.text.len > PATH_LONGEST || str_has_ctl(o->directory.text))
		return err_set(err, ST_DEFER, "open %.*s: no absolute path", STR_FMT(str_sub(o->directory.text, 0, 200)));
	return ST_OK;
}

static enum status deliver(struct worker *w, struct ipc_in *in, struct ipc_plan *plan, struct err *err)
{
	const struct ipc_deliver *m = in->msg;
	struct handover h = { .msg = m, .fd = in->fds[0], .login = "bulkhead", .arena = &w->arena };
	struct conf_opts_transport_queuefile o;
	enum status st;

	if (m->attempt >= LOST_MAX)
		return err_set(err, ST_DEFER, "workers were lost with this delivery several times");
	if (ipc_decode(&ipc_type_plan, m->plan, &w->arena, plan, err))
		return err->status;
	if (h.fd < 0 || !msgid_valid(m->id) || m->header_size > m->content)
		return err_set(err, ST_DEFER, "the delivery is incomplete");
	st = plan_read(plan, &w->arena, &o, err);
	if (st == ST_OK) {
		h.directory = str_cstr(&w->arena, o.directory.text);
		st = str_is(o.format.text, "bulkhead") ? handover_bulkhead(&h, err) : handover_exim(&h, err);
	}
	return st == ST_OK ? ST_OK : err_prefix(err, "queuefile transport %.*s", STR_FMT(plan->transport));
}

static void on_deliver(struct worker *w, struct ipc_in *in)
{
	const struct ipc_deliver *m = in->msg;
	struct ipc_plan plan = { .transport = STR_NULL };
	struct ipc_delivered out = { .delivery = m->delivery, .n_outcomes = m->n_recipients };
	struct err err = ERR_INIT;
	bool ok = deliver(w, in, &plan, &err) == ST_OK;

	if (!ok)
		worker_log(w, LOG_PANIC, "%.*s: %s", STR_FMT(m->id), err.text);
	out.bytes = ok ? m->content : 0;
	out.outcomes = arena_alloc(&w->arena, (m->n_recipients + 1) * sizeof *out.outcomes);
	for (uint32_t i = 0; i < m->n_recipients; i++)
		out.outcomes[i] = (struct ipc_outcome){ .recipient = m->recipients[i].index, .result = ok ? DELIVERY_OK : DELIVERY_DEFERRED,
			.status = ok ? STR_LIT("2.0.0") : STR_LIT("4.3.0"), .text = ok ? STR_NULL : str_of(err.text), .stage = STR_LIT("delivery"),
			.error = ok ? RETRY_NONE : RETRY_OTHER };
	worker_answer(w, in, &ipc_type_delivered, &out, NULL, 0);
}

static enum status worker_start(struct worker *w, struct err *err)
{
	(void)w;
	(void)err;
	return ST_OK;
}

static void pool_size_set(const struct conf *conf, struct pool_size *out)
{
	(void)conf;
	out->min = 1;
	out->max = WORKERS_MAX;
	out->stuck_ms = STUCK_MS;
}

static const struct pool_handler qmgr_handlers[] = {
	{ IPC_deliver, on_deliver },
	{ 0, NULL },
};

static const struct pool_peer peers[] = {
	{ "qmgr", qmgr_handlers },
	{ NULL, NULL },
};

const struct pool_spec queuefile_spec = {
	.name = "queuefile",
	.what = "copies messages out to directories for other programs",
	.see = V_QUEUEFILE,
	.sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE,
	.peers = peers,
	.drain_when_idle = true,
	.size = pool_size_set,
	.worker_start = worker_start,
};

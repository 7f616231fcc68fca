/* SPDX-License-Identifier: ISC */
/* The queue manager as a daemon: whom it talks to, and how it begins and ends. */
#include <string.h>
#include <sys/resource.h>

#include "common/conf/conf.h"
#include "common/daemon/daemon.h"
#include "qmgr/qmgr.h"

enum {
	DRAIN_LOOK_MS = 20,
	DRAIN_MOST_MS = 10000, /* deliveries that hang longer are made again after the next start */
	FILES = 65536,
};

struct qmgr_daemon {
	struct qmgr *q;
	struct daemon *d;
	struct loop_timer drain;
	uint64_t drain_until;
};

static struct qmgr *queue_of(struct daemon_link *link) { return ((struct qmgr_daemon *)link->daemon->state)->q; }

/* ---- peers ---- */

static void smtpd_opened(struct daemon_link *link) { intake_opened(queue_of(link), link); }
static void smtpd_closed(struct daemon_link *link, const char *why) { (void)why; intake_closed(link); }
static void router_opened(struct daemon_link *link) { route_router_add(queue_of(link), link->channel, link->generation); }
static void router_closed(struct daemon_link *link, const char *why) { (void)why; route_router_gone(queue_of(link), link->channel); }
static void smtp_out_opened(struct daemon_link *link) { agent_opened(queue_of(link), AGENT_SMTP, link); }
static void local_opened(struct daemon_link *link) { agent_opened(queue_of(link), AGENT_LOCAL, link); }
static void pipe_opened(struct daemon_link *link) { agent_opened(queue_of(link), AGENT_PIPE, link); }
static void queuefile_opened(struct daemon_link *link) { agent_opened(queue_of(link), AGENT_QUEUEFILE, link); }
static void agent_gone(struct daemon_link *link, const char *why) { (void)why; agent_closed(link); }
static void ctl_opened(struct daemon_link *link) { queue_cmd_opened(queue_of(link), link); }
static void ctl_closed(struct daemon_link *link, const char *why) { (void)why; queue_cmd_closed(link); }

static const struct ipc_handler agent_handlers[] = {
	{ IPC_conn_closed, agent_on_conn_closed },
	{ 0, NULL },
};

static const struct daemon_peer peers[] = {
	{ .name = "smtpd", .handlers = intake_handlers, .opened = smtpd_opened, .closed = smtpd_closed },
	{ .name = "router", .pack = 8, .retire = true, .opened = router_opened, .closed = router_closed },
	{ .name = "smtp-out", .handlers = agent_handlers, .opened = smtp_out_opened, .closed = agent_gone },
	{ .name = "local", .pack = 1, .opened = local_opened, .closed = agent_gone },
	{ .name = "pipe", .pack = 1, .opened = pipe_opened, .closed = agent_gone },
	{ .name = "queuefile", .pack = 1, .opened = queuefile_opened, .closed = agent_gone },
	{ .name = "ctl", .handlers = queue_cmd_handlers, .opened = ctl_opened, .closed = ctl_closed },
	{ .name = NULL },
};

/* ---- life ---- */

static void need(void *arg, const char *peer, uint64_t cookie, uint64_t uid, uint64_t gid, struct str user, bool initgroups)
{
	struct qmgr_daemon *qd = arg;
	char name[65];

	memset(name, 0, sizeof name);
	memcpy(name, user.p ? user.p : "", user.len < sizeof name - 1 ? user.len : sizeof name - 1);
	if (uid)
		daemon_need(qd->d, peer, cookie, (uid_t)(uid - 1), gid ? (gid_t)(gid - 1) : (gid_t)-1, name, initgroups);
	else
		daemon_need_any(qd->d, peer, cookie);
}

/* Spool directory as this process sees it: it is the root of its jail where there is one. */
static const char *spool_dir(const struct daemon *d, struct arena *a)
{
	return d->unprivileged ? str_cstr(a, d->conf->main.spool_directory.text) : "/";
}

static enum status start(struct daemon *d, struct err *err)
{
	struct qmgr_daemon *qd = mem_new(sizeof *qd);
	struct qmgr_env env = { .loop = d->loop, .log = &d->log, .need = need, .arg = qd };
	struct arena a = ARENA_INIT;
	struct settings *set;
	struct spool_options options = { .dir = spool_dir(d, &a) };

	qd->d = d;
	d->state = qd;
	if (settings_from_conf(d->conf, &set, err)) {
		arena_clear(&a);
		return err->status;
	}
	qd->q = qmgr_new(&env, set);
	if (qmgr_open(qd->q, &options, err))
		err_prefix(err, "spool %s", options.dir);
	arena_clear(&a);
	return err->status == ST_DEFER ? ST_ERROR : err->status; /* another process has it: master tries again */
}

static enum status view(struct daemon *d, const struct conf *conf, struct err *err)
{
	struct qmgr_daemon *qd = d->state;
	struct settings *set;

	if (settings_from_conf(conf, &set, err))
		return err->status;
	qmgr_settings(qd->q, set);
	return ST_OK;
}

static void drain_look(void *arg)
{
	struct qmgr_daemon *qd = arg;

	if (qmgr_is_idle(qd->q) || loop_now(qd->d->loop) >= qd->drain_until)
		daemon_finish(qd->d);
	else
		loop_timer_start(&qd->drain, qd->d->loop, DRAIN_LOOK_MS, drain_look, qd);
}

static void drain(struct daemon *d, uint64_t deadline_ms)
{
	struct qmgr_daemon *qd = d->state;

	qmgr_drain(qd->q);
	qd->drain_until = loop_now(d->loop) + (deadline_ms < DRAIN_MOST_MS ? deadline_ms : DRAIN_MOST_MS);
	drain_look(qd);
}

static void stop(struct daemon *d)
{
	struct qmgr_daemon *qd = d->state;

	if (!qd)
		return;
	loop_timer_stop(&qd->drain);
	if (qd->q) {
		qmgr_stop(qd->q);
		list_each_safe(&d->links, n) {
			struct daemon_link *link = list_entry(n, struct daemon_link, node);

			link->peer->closed(link, "");
			daemon_link_close(link);
		}
		qmgr_free(qd->q);
	}
	mem_free(qd);
	d->state = NULL;
}

static void status(struct daemon *d, struct daemon_status *out)
{
	struct qmgr_daemon *qd = d->state;
	const char *name;
	uint64_t value;

	for (unsigned i = 0; value = qmgr_counter(qd->q, i, &name), name; i++)
		daemon_count(out, name, value);
}

static void refused(struct daemon *d, uint64_t cookie, struct str text)
{
	agent_refused(((struct qmgr_daemon *)d->state)->q, cookie, text);
}

/* The spool's two threads; exported files are handed out as sealed memory. */
static const char *const sys_more[] = { "clone", "memfd_create", NULL };

static const struct daemon_spec spec = {
	.name = "qmgr",
	.what = "owns the queue: keeps, schedules, retries and reports",
	.see = V_QMGR,
	.peers = peers,
	.sys = DAEMON_SYS_READ | DAEMON_SYS_WRITE,
	.sys_more = sys_more,
	.limits = { .files = FILES, .processes = true },
	.start = start,
	.view = view,
	.drain = drain,
	.stop = stop,
	.status = status,
	.refused = refused,
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}

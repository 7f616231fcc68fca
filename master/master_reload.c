/* SPDX-License-Identifier: ISC */
/* master_reload.c - generations: the first, the next by reload, replacing one service, and the orderly end of all.
 *
 * A reload starts the services that are replaced beside the running ones. Until all of them are ready nothing else changes; if one
 * can't start, they are all killed and everything stays. Then, in one turn: qmgr gets the new view and channels to the new router
 * and smtp-out, the new smtpd processes get channel and listeners, the old ones are told to drain. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/view.h"
#include "master/master.h"

enum { STAGE_MIN_MS = 2000 };

static bool group_find(struct str name, gid_t *out)
{
	char text[64], room[8192];
	struct group gr, *found = NULL;
	uint64_t n;

	if (str_u64(name, INT32_MAX, &n)) {
		*out = (gid_t)n;
		return n > 0;
	}
	snprintf(text, sizeof text, "%.*s", STR_FMT(str_sub(name, 0, sizeof text - 1)));
	if (getgrnam_r(text, &gr, room, sizeof room, &found) || !found || !found->gr_gid)
		return false;
	*out = found->gr_gid;
	return true;
}

/* keyd reads keys by its groups, too (ssl-cert, say), where its user has a name. */
static void groups_take(struct child *c, const struct conf *conf)
{
	char room[4096];
	struct passwd pw, *found = NULL;

	snprintf(c->groups_of, sizeof c->groups_of, "%.*s%s", STR_FMT(conf->main.daemon_user_prefix.text), c->service->name);
	if (getpwnam_r(c->groups_of, &pw, room, sizeof room, &found) || !found || found->pw_uid != c->uid)
		c->groups_of[0] = '\0';
}

static struct child *service_child_new(struct master *m, const struct service *s, unsigned number, uint64_t generation, const struct conf *conf,
	struct err *err)
{
	struct child *c;
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (m->privileged && service_user(s, conf, &uid, &gid, err))
		return NULL;
	if (m->privileged && s->root == ROOT_HANDOVER && conf->main.group_handover.text.len && !group_find(conf->main.group_handover.text, &gid)) {
		err_set(err, ST_ERROR, "group_handover: there is no group \"%.*s\", or it is root's", STR_FMT(conf->main.group_handover.text));
		return NULL;
	}
	c = child_new(m, s, number, generation);
	c->uid = uid;
	c->gid = gid;
	if (m->privileged && s->root == ROOT_KEYS)
		groups_take(c, conf);
	return c;
}

void generation_start(struct master *m)
{
	struct err err = ERR_INIT;

	for (const struct service *s = services; s->name; s++)
		for (unsigned i = 1; i <= service_count(s, m->conf); i++)
			if (!service_child_new(m, s, i, m->generation, m->conf, &err)) {
				master_start_failed(m, err.text);
				return;
			}
	/* All at once: each connects to those that are there already. */
	list_each_safe(&m->children, n)
		child_start(list_entry(n, struct child, node));
}

/* ---- the next generation ---- */

bool reload_running(const struct master *m)
{
	list_each(&m->children, n)
		if (list_entry(n, struct child, node)->pending)
			return true;
	return false;
}

/* Takes what waits back: nothing has changed. */
static void pending_drop(struct master *m)
{
	list_each_safe(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (!c->pending)
			continue;
		c->pending = false;
		c->leaving = true;
		c->dropped = true;
		if (c->pid)
			kill(c->pid, SIGKILL);
		else
			child_free(c);
	}
	if (m->next_conf) {
		conf_free(m->next_conf);
		m->next_conf = NULL;
		listeners_rollback(m);
	}
}

static void reload_end(struct master *m, enum status st, const char *text)
{
	struct control_job *job = m->reload_job;

	m->reload_job = NULL;
	if (st)
		master_log(m, LOG_MAIN | LOG_PANIC, "reload: %s; everything stays as it was", text);
	control_job_done(job, st, text);
	sd_notify_send("READY=1");
}

void reload_failed(struct master *m, const struct child *c)
{
	char text[1024];

	snprintf(text, sizeof text, "%s %s", c->name, c->trouble);
	pending_drop(m);
	reload_end(m, ST_ERROR, text);
}

static void drain_old(struct master *m, const struct service *only, uint64_t deadline_ms)
{
	list_each_safe(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);
		bool replaced = only ? c->service == only : !c->service->stays;

		if (c->pending || c->leaving || !replaced)
			continue;
		c->leaving = true;
		if (c->pid)
			child_drain(c, deadline_ms, only != NULL);
		else
			child_free(c);
	}
}

static void qmgr_view_send(struct master *m)
{
	struct ipc_ctl_view msg = { .generation = m->generation };

	list_each(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);
		struct err err = ERR_INIT;
		int fd;

		if (!c->service->stays)
			continue;
		c->generation = m->generation;
		if (!c->control)
			continue;
		if (conf_view_make(m->conf, c->service->see, &fd, &err))
			master_log(m, LOG_MAIN | LOG_PANIC, "no view for %s: %s", c->name, err.text);
		else
			channel_send(c->control, &ipc_type_ctl_view, &msg, &fd, 1);
	}
}

/* Puts what waits in force. */
static void pending_commit(struct master *m)
{
	const struct service *only = NULL;

	if (m->next_conf) {
		conf_free(m->conf);
		m->conf = m->next_conf;
		m->next_conf = NULL;
		m->generation++;
		listeners_commit(m);
		qmgr_view_send(m);
	} else {
		list_each(&m->children, n)
			if (list_entry(n, struct child, node)->pending)
				only = list_entry(n, struct child, node)->service;
	}
	/* The old ones are no peers any more before the new ones are connected, and give up listening only after these have begun. */
	drain_old(m, only, (uint64_t)m->conf->main.reload_drain_timeout * 1000);
	list_each(&m->children, n)
		list_entry(n, struct child, node)->pending = false;
	list_each(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->generation != m->generation || c->leaving || c->service->stays || !c->control || (only && c->service != only) ||
		    c->service->on_demand)
			continue;
		if (only) {
			child_connect_all(c);
		} else {
			/* Those of one generation are connected to each other already. */
			list_each(&m->children, k) {
				struct child *q = list_entry(k, struct child, node);
				struct err err = ERR_INIT;

				for (const struct service_link *row = service_links; q->service->stays && row->from; row++) {
					if (row->on_need)
						continue;
					if (!strcmp(row->from, q->service->name) && !strcmp(row->to, c->service->name))
						child_connect(q, c, 0, &err);
					else if (!strcmp(row->to, q->service->name) && !strcmp(row->from, c->service->name))
						child_connect(c, q, 0, &err);
				}
			}
		}
		child_listeners_send(c);
	}
	list_each(&m->children, n)
		needs_serve(list_entry(n, struct child, node));
}

void reload_look(struct master *m)
{
	bool any = false, all = true, every = true;

	list_each(&m->children, n) {
		const struct child *c = list_entry(n, struct child, node);

		any = any || c->pending;
		if (c->pending)
			all = all && c->state == CHILD_READY;
		else if (!c->service->on_demand)
			every = every && c->state == CHILD_READY;
	}
	if (any && all) {
		bool reload = m->next_conf != NULL;

		pending_commit(m);
		if (reload)
			master_log(m, LOG_MAIN, "generation %llu is in force: the configuration was reloaded", (unsigned long long)m->generation);
		reload_end(m, ST_OK, reload ? m->reload_says : "");
	} else if (!any && every && !m->started && !m->stopping) {
		master_started(m);
	}
}

void reload_begin(struct master *m, struct control_job *job)
{
	struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	struct conf *next;

	if (reload_running(m) || !m->started || m->stopping) {
		control_job_done(job, ST_DEFER, m->stopping ? "stopping" : "a start, reload or restart is under way");
		return;
	}
	m->reload_job = job;
	sd_notify_send("RELOADING=1");
	if (config_read(m, &next, &text)) {
		reload_end(m, ST_FAIL, buf_cstr(&text));
		buf_clear(&text);
		return;
	}
	m->next_conf = next;
	next->generation = m->generation + 1;
	snprintf(m->reload_says, sizeof m->reload_says, "%s", buf_cstr(&text));
	buf_reset(&text);
	config_changes_check(m, next, &text);
	if (text.len) {
		size_t n = strlen(m->reload_says);

		master_log(m, LOG_MAIN, "reload: %s", buf_cstr(&text));
		snprintf(m->reload_says + n, sizeof m->reload_says - n, "%s%s", n ? "\n" : "", buf_cstr(&text));
	}
	if (listeners_prepare(m, next, 0, &err)) {
		conf_free(next);
		m->next_conf = NULL;
		reload_end(m, ST_ERROR, err.text);
		buf_clear(&text);
		return;
	}
	for (const struct service *s = services; s->name; s++)
		for (unsigned i = 1; !s->stays && i <= service_count(s, next); i++) {
			struct child *c = service_child_new(m, s, i, next->generation, next, &err);

			if (c)
				c->pending = true;
			else
				master_log(m, LOG_MAIN | LOG_PANIC, "%s", err.text);
		}
	buf_clear(&text);
	list_each_safe(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->pending && !c->pid && child_spawn(c, &err)) {
			snprintf(c->trouble, sizeof c->trouble, "can't be started: %s", err.text);
			reload_failed(m, c);
			return;
		}
	}
}

/* ---- one service ---- */

void restart_begin(struct master *m, struct str name, struct control_job *job)
{
	const struct service *s = service_find(name);
	struct err err = ERR_INIT;

	if (!s) {
		err_set(&err, ST_ERROR, "there is no daemon %.*s: router, policyd, keyd, smtp-out, qmgr, smtpd or local", STR_FMT(name));
		control_job_done(job, err.status, err.text);
		return;
	}
	if (reload_running(m) || !m->started || m->stopping) {
		control_job_done(job, ST_DEFER, m->stopping ? "stopping" : "a start, reload or restart is under way");
		return;
	}
	master_log(m, LOG_MAIN, "%s is restarted by command", s->name);
	if (s->stays || s->on_demand) { /* the next one starts when this one has ended, or is needed */
		list_each(&m->children, n) {
			struct child *c = list_entry(n, struct child, node);

			if (c->service == s && c->pid && c->state != CHILD_DRAINING)
				child_drain(c, (uint64_t)m->conf->main.shutdown_timeout * 1000, false);
		}
		control_job_done(job, ST_OK, "");
		return;
	}
	m->reload_job = job;
	for (unsigned i = 1; i <= service_count(s, m->conf); i++) {
		struct child *c = service_child_new(m, s, i, m->generation, m->conf, &err);

		if (c)
			c->pending = true;
	}
	list_each_safe(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->pending && !c->pid && child_spawn(c, &err)) {
			snprintf(c->trouble, sizeof c->trouble, "can't be started: %s", err.text);
			reload_failed(m, c);
			return;
		}
	}
}

/* ---- the end of all ---- */

static bool stage_running(const struct master *m, unsigned stage)
{
	list_each(&m->children, n) {
		const struct child *c = list_entry(n, struct child, node);

		if (c->service->stop_stage == stage)
			return true;
	}
	return false;
}

/* shutdown_timeout is for all stages together; the later ones have little to do once nothing comes in. */
static uint64_t stage_time(const struct master *m)
{
	uint64_t now = clock_ms();

	return m->stop_at_ms > now + STAGE_MIN_MS ? m->stop_at_ms - now : STAGE_MIN_MS;
}

static void stage_drain(struct master *m, unsigned stage)
{
	list_each_safe(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->service->stop_stage != stage)
			continue;
		c->leaving = true;
		if (c->pid)
			child_drain(c, stage_time(m), false);
		else
			child_free(c);
	}
}

void stop_look(struct master *m)
{
	if (!m->stopping)
		return;
	while (m->stop_stage < STOP_STAGES && !stage_running(m, m->stop_stage)) {
		m->stop_stage++;
		if (m->stop_stage < STOP_STAGES)
			stage_drain(m, m->stop_stage);
	}
	if (m->stop_stage == STOP_STAGES)
		loop_stop(m->loop);
}

void stop_begin(struct master *m)
{
	if (m->stopping)
		return;
	master_log(m, LOG_MAIN, "stopping");
	sd_notify_send("STOPPING=1");
	if (reload_running(m)) {
		pending_drop(m);
		reload_end(m, ST_DEFER, "stopping");
	}
	tickets_stop(m);
	m->stopping = true;
	m->stop_at_ms = clock_ms() + (uint64_t)m->conf->main.shutdown_timeout * 1000;
	stage_drain(m, 0);
	stop_look(m);
}

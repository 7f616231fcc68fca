/* SPDX-License-Identifier: ISC */
/* master_service.c - what there is to run: the tables of services and of channels between them, users, back-off. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "master/master.h"

const struct service services[] = {
	{ "keyd", V_KEYD, ROOT_KEYS, 6, CONF_NO_FIELD, .stop_stage = 3 },
	{ "router", V_ROUTER, ROOT_TABLES, 2, CONF_NO_FIELD, .stop_stage = 3 },
	{ "policyd", V_POLICYD, ROOT_SOCKETS, 1, CONF_NO_FIELD, .stop_stage = 1 },
	{ "smtp-out", V_SMTP_OUT, ROOT_SOCKETS, 4, CONF_INDEX(main, smtp_out_processes), .stop_stage = 1 },
	{ "qmgr", V_QMGR, ROOT_SPOOL, 3, CONF_NO_FIELD, .stays = true, .stop_stage = 2 },
	{ "smtpd", V_SMTPD, ROOT_EMPTY, 0, CONF_INDEX(main, smtpd_processes), .listens = true, .stop_stage = 0 },
	{ "local", V_LOCAL, ROOT_STORE, -1, CONF_NO_FIELD, .on_demand = true, .stop_stage = 1 },
	{ "pipe", V_LOCAL, ROOT_HOST, -1, CONF_NO_FIELD, .on_demand = true, .stop_stage = 1, .program = "local" },
	{ "query", V_QUERY, ROOT_HOST, -1, CONF_NO_FIELD, .on_demand = true, .stop_stage = 3, .program = "local" },
	{ "queuefile", V_QUEUEFILE, ROOT_HANDOVER, 5, CONF_NO_FIELD, .stop_stage = 1, .driver = "queuefile" },
	{ NULL },
};

const struct service_link service_links[] = {
	{ "smtpd", "policyd", false },
	{ "smtpd", "qmgr", false },
	{ "smtpd", "keyd", false },
	{ "smtp-out", "keyd", false },
	{ "qmgr", "router", false },
	{ "qmgr", "smtp-out", false },
	{ "policyd", "router", true },
	{ "router", "smtp-out", true },
	{ "smtp-out", "router", true },
	{ "router", "query", true },
	{ "qmgr", "local", true },
	{ "qmgr", "pipe", true },
	{ "qmgr", "queuefile", true },
	{ NULL, NULL, false },
};

const struct service *service_find(struct str name)
{
	for (const struct service *s = services; s->name; s++)
		if (str_is(name, s->name))
			return s;
	return NULL;
}

bool service_is_wanted(const struct service *s, const struct conf *conf)
{
	const struct conf_instances *t = &conf->of[CONF_TRANSPORTS];

	for (uint32_t i = 0; s->driver && i < t->n; i++)
		if (t->v[i].driver && !strcmp(t->v[i].driver->name, s->driver))
			return true;
	return !s->driver;
}

unsigned service_count(const struct service *s, const struct conf *conf)
{
	const struct conf_option *row;
	int64_t n;

	if (s->on_demand || !service_is_wanted(s, conf))
		return 0;
	if (s->count == CONF_NO_FIELD)
		return 1;
	row = &conf_table_main.rows[s->count];
	memcpy(&n, (const char *)&conf->main + row->offset, sizeof n);
	return n < 1 ? 1 : (unsigned)n;
}

uint64_t backoff_next(uint64_t last_ms, uint64_t ready_ms, uint64_t max_ms)
{
	uint64_t next = last_ms < BACKOFF_MIN_MS ? BACKOFF_MIN_MS : last_ms * 2;

	if (ready_ms >= READY_LONG_MS)
		return 0;
	return next > max_ms ? max_ms : next;
}

enum status service_user(const struct service *s, const struct conf *conf, uid_t *uid_out, gid_t *gid_out, struct err *err)
{
	struct str prefix = conf->main.daemon_user_prefix.text;
	char name[128], room[4096];
	struct passwd pw, *found = NULL;

	snprintf(name, sizeof name, "%.*s%s", STR_FMT(prefix), s->name);
	if (prefix.len && getpwnam_r(name, &pw, room, sizeof room, &found) == 0 && found && found->pw_uid && found->pw_gid) {
		*uid_out = found->pw_uid;
		*gid_out = found->pw_gid;
		return ST_OK;
	}
	if (conf->main.daemon_uid_base == CONF_NONE)
		return err_set(err, ST_ERROR, "no user %s for %s: create the users of the daemons (systemd-sysusers, or useradd --system), or set "
			"daemon_uid_base to the first of ten unused uids", name, s->name);
	*uid_out = (uid_t)conf->main.daemon_uid_base + (uid_t)s->uid_offset;
	*gid_out = (gid_t)*uid_out;
	return ST_OK;
}

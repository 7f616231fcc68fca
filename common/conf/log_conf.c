/* SPDX-License-Identifier: ISC */
#include "common/conf/log_conf.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

void log_conf_places(const struct conf *conf, struct arena *a, struct str *path_out, bool *syslog_out)
{
	struct conf_list_walk walk = CONF_LIST_WALK(conf->main.log_file_path.text);
	struct str item;
	bool empty = false;

	*path_out = STR_NULL;
	*syslog_out = false;
	while (conf_list_next(&walk, a, &item)) {
		if (str_is(item, "syslog"))
			*syslog_out = true;
		else if (!item.len)
			empty = true;
		else if (!path_out->len)
			*path_out = item;
	}
	/* An empty item stands for the place that is built in. */
	if (!path_out->len && (empty || !*syslog_out))
		*path_out = STR_LIT("/var/log/bulkhead/%slog");
}

static int facility(struct str name)
{
	static const struct { const char *name; int facility; } known[] = {
		{ "mail", LOG_MAIL }, { "user", LOG_USER }, { "news", LOG_NEWS }, { "uucp", LOG_UUCP }, { "daemon", LOG_DAEMON }, { "local0", LOG_LOCAL0 },
		{ "local1", LOG_LOCAL1 }, { "local2", LOG_LOCAL2 }, { "local3", LOG_LOCAL3 }, { "local4", LOG_LOCAL4 }, { "local5", LOG_LOCAL5 },
		{ "local6", LOG_LOCAL6 }, { "local7", LOG_LOCAL7 },
	};

	if (!name.len)
		return LOG_MAIL >> 3;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (str_isi(name, known[i].name))
			return known[i].facility >> 3;
	return -1;
}

enum status log_conf_apply(const struct conf *conf, struct log *log, struct err *err)
{
	const struct conf_opts_main *m = &conf->main;
	struct str selector = m->log_selector.text, path;
	struct arena a = ARENA_INIT;
	int where = facility(m->syslog_facility.text);

	log->millisec = str_find_str(selector, STR_LIT("+millisec")) >= 0;
	log->pid = str_find_str(selector, STR_LIT("+pid")) >= 0;
	log->ascii = !m->print_topbitchars;
	log->zone = m->log_timezone;
	log->utc = str_isi(m->timezone.text, "UTC");
	log_conf_places(conf, &a, &path, &log->syslog.on);
	arena_clear(&a);
	if (where < 0)
		return err_set(err, ST_ERROR, "syslog_facility = %.*s: must be mail, user, news, uucp, daemon or local0 to local7", STR_FMT(m->syslog_facility.text));
	log->syslog.facility = where;
	log->syslog.stamp = m->syslog_timestamp;
	log->syslog.pid = m->syslog_pid;
	log->syslog.twice = m->syslog_duplication;
	snprintf(log->syslog.name, sizeof log->syslog.name, "%.*s", STR_FMT(m->syslog_processname.text));
	return ST_OK;
}

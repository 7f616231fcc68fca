/* SPDX-License-Identifier: ISC */
/* Variables of this host and its configuration, and the time. */
#include "common/lang/expand_tree.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/load.h"
#include "common/base/version.h"
#include "common/lang/lang_priv.h"
#include "common/mail/date.h"

static enum status var_primary_hostname(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = lang_primary_hostname(ev->lang);
	return ST_OK;
}

static enum status var_qualify_domain(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = lang_qualify_domain(ev->lang);
	return ST_OK;
}

static enum status var_qualify_recipient(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = lang_qualify_recipient(ev->lang);
	return ST_OK;
}

static enum status var_smtp_active_hostname(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	const struct conf *conf = ev->lang->conf;
	enum status st = ST_OK;

	(void)name;
	if (conf && conf->main.smtp_active_hostname.text.p)
		st = expand_text(ev, conf->main.smtp_active_hostname.text, out, err);
	if (st == ST_FAIL || (!st && !out->len)) {
		*out = lang_primary_hostname(ev->lang);
		st = ST_OK;
	}
	return st;
}

static enum status var_spool_directory(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->lang->conf)
		*out = ev->lang->conf->main.spool_directory.text;
	return ST_OK;
}

static enum status var_bounce_size(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->lang->conf)
		*out = str_printf(ev->arena, "%lld", (long long)ev->lang->conf->main.bounce_return_size_limit);
	return ST_OK;
}

static enum status var_config_file(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->lang->conf && ev->lang->conf->n_files)
		*out = ev->lang->conf->files[0];
	return ST_OK;
}

static enum status var_config_dir(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	enum status st = var_config_file(ev, name, out, err);
	ptrdiff_t slash = str_rfind(*out, '/');

	*out = slash > 0 ? str_sub(*out, 0, (size_t)slash) : STR_NULL;
	return st;
}

static enum status var_pid(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%d", (int)getpid());
	return ST_OK;
}

static enum status var_version(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)ev;
	(void)name;
	(void)err;
	*out = STR_LIT(BULKHEAD_VERSION);
	return ST_OK;
}

static enum status var_compile_date(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	static const char date[] = BULKHEAD_BUILT; /* Nov  1 2026 */
	int day = (date[4] == ' ' ? 0 : date[4] - '0') * 10 + date[5] - '0';

	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%02d-%.3s-%.4s %s", day, date, date + 7, date + 12);
	return ST_OK;
}

static enum status var_compile_number(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)ev;
	(void)name;
	(void)err;
	*out = STR_LIT("1");
	return ST_OK;
}

static enum status var_uid(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%u", (unsigned)geteuid());
	return ST_OK;
}

static enum status var_gid(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%u", (unsigned)getegid());
	return ST_OK;
}

static enum status var_path(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)ev;
	(void)name;
	(void)err;
	*out = STR_LIT("/usr/sbin/bulkhead");
	return ST_OK;
}

static enum status var_load_average(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	uint32_t load;

	(void)name;
	if (!load_average(&load))
		return err_set(err, ST_ERROR, "the load of the machine can't be learnt");
	*out = str_printf(ev->arena, "%u", load);
	return ST_OK;
}

static enum status var_localhost_number(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	const struct conf *conf = ev->lang->conf;

	(void)name;
	*out = STR_LIT("0");
	return conf && conf->main.localhost_number.text.len ? expand_text(ev, conf->main.localhost_number.text, out, err) : ST_OK;
}

/* ---- figures that qmgr told, some seconds ago ---- */

static void house_value(struct eval *ev, uint64_t n, const char *unknown, struct str *out)
{
	*out = n ? str_printf(ev->arena, "%llu", (unsigned long long)n - 1) : str_of(unknown);
}

#define VAR_HOUSE(field, unknown) \
	static enum status var_##field(struct eval *ev, struct str name, struct str *out, struct err *err) \
	{ \
		(void)name; \
		(void)err; \
		house_value(ev, ev->facts->house ? ev->facts->house->field : 0, unknown, out); \
		return ST_OK; \
	}
VAR_HOUSE(queue_size, "")
VAR_HOUSE(spool_space, "-1")
VAR_HOUSE(spool_inodes, "-1")
VAR_HOUSE(log_space, "-1")
VAR_HOUSE(log_inodes, "-1")

/* ---- time ---- */

static enum status var_tod_full(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	char text[DATE_TEXT];
	size_t n = date_format(text, clock_wall(), false);

	(void)name;
	(void)err;
	*out = str_dup(ev->arena, str_make(text, n));
	return ST_OK;
}

#define VAR_TOD(name_, format, utc) \
	static enum status var_##name_(struct eval *ev, struct str name, struct str *out, struct err *err) \
	{ \
		char text[CLOCK_TEXT]; \
		time_t now = (time_t)clock_wall(); \
		struct tm tm; \
		(void)name; \
		(void)err; \
		if (utc) \
			gmtime_r(&now, &tm); \
		else \
			localtime_r(&now, &tm); \
		*out = str_dup(ev->arena, str_make(text, strftime(text, sizeof text, format, &tm))); \
		return ST_OK; \
	}
VAR_TOD(tod_log, "%Y-%m-%d %H:%M:%S", false)
VAR_TOD(tod_logfile, "%Y%m%d", false)
VAR_TOD(tod_zone, "%z", false)
VAR_TOD(tod_zulu, "%Y%m%d%H%M%SZ", true)
VAR_TOD(tod_bsdinbox, "%a %b %e %H:%M:%S %Y", false)

static enum status var_tod_epoch(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%lld", (long long)clock_wall());
	return ST_OK;
}

static enum status var_tod_epoch_l(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%lld", (long long)clock_wall_us());
	return ST_OK;
}

const struct var_row exp_vars_world[] = {
	{ "primary_hostname", VAR_FN, 0, 0, false, NULL, var_primary_hostname, "name of this host" },
	{ "qualify_domain", VAR_FN, 0, 0, false, NULL, var_qualify_domain, "domain put to unqualified senders" },
	{ "qualify_recipient", VAR_FN, 0, 0, false, NULL, var_qualify_recipient, "domain put to unqualified recipients" },
	{ "smtp_active_hostname", VAR_FN, 0, 0, false, NULL, var_smtp_active_hostname, "name by which this host speaks in the session" },
	{ "spool_directory", VAR_FN, 0, 0, false, NULL, var_spool_directory, "where messages are kept" },
	{ "bounce_return_size_limit", VAR_FN, 0, 0, false, NULL, var_bounce_size, "octets of a returned message" },
	{ "return_size_limit", VAR_FN, 0, 0, false, NULL, var_bounce_size, "older name of bounce_return_size_limit" },
	{ "config_file", VAR_FN, 0, 0, false, NULL, var_config_file, "the configuration file" },
	{ "config_dir", VAR_FN, 0, 0, false, NULL, var_config_dir, "directory of the configuration file" },
	{ "pid", VAR_FN, DEP_TIME, 0, false, NULL, var_pid, "process that evaluates" },
	{ "version_number", VAR_FN, 0, 0, false, NULL, var_version, "version of this software" },
	{ "tod_full", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_full, "date and time as in a message" },
	{ "tod_log", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_log, "date and time as in the log" },
	{ "tod_logfile", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_logfile, "date as in the name of a daily file" },
	{ "tod_zone", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_zone, "offset of the local time" },
	{ "tod_zulu", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_zulu, "date and time in UTC, digits and Z" },
	{ "tod_bsdinbox", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_bsdinbox, "date and time as a mailbox separates messages" },
	{ "tod_epoch", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_epoch, "seconds since 1970" },
	{ "compile_date", VAR_FN, 0, 0, false, NULL, var_compile_date, "when this software was built" },
	{ "compile_number", VAR_FN, 0, 0, false, NULL, var_compile_number, "number of the build: always 1" },
	{ "exim_gid", VAR_FN, 0, 0, false, NULL, var_gid, "gid of the process that evaluates" },
	{ "exim_path", VAR_FN, 0, 0, false, NULL, var_path, "path of the command, which takes the place of Exim's program" },
	{ "exim_uid", VAR_FN, 0, 0, false, NULL, var_uid, "uid of the process that evaluates" },
	{ "exim_version", VAR_FN, 0, 0, false, NULL, var_version, "as version_number: the version of this software" },
	{ "load_average", VAR_FN, DEP_TIME, 0, false, NULL, var_load_average, "load of the machine over a minute, times 1000" },
	{ "log_inodes", VAR_FN, DEP_TIME, 0, false, NULL, var_log_inodes, "free inodes where logs are kept; -1 where they are not known" },
	{ "log_space", VAR_FN, DEP_TIME, 0, false, NULL, var_log_space, "free kilobytes where logs are kept; -1 where they are not known" },
	{ "queue_size", VAR_FN, DEP_TIME, 0, false, NULL, var_queue_size, "number of messages in the queue, some seconds ago; empty where it is not known" },
	{ "spool_inodes", VAR_FN, DEP_TIME, 0, false, NULL, var_spool_inodes, "free inodes of the spool; -1 where they are not known" },
	{ "spool_space", VAR_FN, DEP_TIME, 0, false, NULL, var_spool_space, "free kilobytes of the spool; -1 where they are not known" },
	{ "localhost_number", VAR_FN, 0, 0, false, NULL, var_localhost_number, "number of this host (option localhost_number)" },
	{ "tod_epoch_l", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_epoch_l, "microseconds since 1970" },
	{ NULL }
};

#define LATER(name, what) { name, VAR_LATER, 0, 0, false, NULL, NULL, what }
const struct var_row exp_vars_later[] = {
	LATER("atrn_host", "host that asked for its mail by ATRN"),
	LATER("atrn_mode", "how ATRN was asked for"),
	LATER("csa_status", "result of a client SMTP authorization"),
	LATER("ldap_dn", "name that the last LDAP lookup found"),
	LATER("local_scan_data", "text of the local scan function"),
	{ NULL }
};

/* SPDX-License-Identifier: ISC */
/* Options that depend on the client, evaluated when it connects: texts that are expanded, and host lists, which become yes or no. The answer
 * says how long they hold, by what was looked at on the way. */
#include "policyd/policyd.h"

#include <string.h>

#include "common/lang/lang_list.h"
#include "policyd/policyd_auth.h"

#define SETTING(option, list) { #option, offsetof(struct conf_opts_main, option), list }

struct setting_row {
	const char *name;
	size_t offset;          /* of a struct conf_text in the main options */
	bool list;
};

/* One more is one row. smtpd reads them by name. */
static const struct setting_row rows[] = {
	SETTING(smtp_active_hostname, false),
	SETTING(smtp_banner, false),
	SETTING(message_size_limit, false),
	SETTING(smtp_accept_max_per_host, false),
	SETTING(smtp_accept_max_per_connection, false),
	SETTING(smtp_receive_timeout, false),
	SETTING(host_reject_connection, true),
	SETTING(hosts_connection_nolog, true),
	SETTING(hosts_require_helo, true),
	SETTING(helo_accept_junk_hosts, true),
	SETTING(helo_verify_hosts, true),
	SETTING(helo_try_verify_hosts, true),
	SETTING(pipelining_advertise_hosts, true),
	SETTING(pipelining_connect_advertise_hosts, true),
	SETTING(dsn_advertise_hosts, true),
	SETTING(chunking_advertise_hosts, true),
	SETTING(limits_advertise_hosts, true),
	SETTING(hosts_xclient, true),
	SETTING(smtputf8_advertise_hosts, true),
	SETTING(tls_advertise_requiretls, true),
	SETTING(sender_unqualified_hosts, true),
	SETTING(recipient_unqualified_hosts, true),
	SETTING(smtp_accept_max_nonmail_hosts, true),
	SETTING(smtp_reserve_hosts, true),
	SETTING(ignore_fromline_hosts, true),
	SETTING(smtp_ratelimit_hosts, true),
};
enum { ROWS = sizeof rows / sizeof *rows, LOOKUP = ROWS, PROXY, COMPILED };

struct policyd_setting {
	struct expansion *x;
	struct lang_list *list;
};

size_t policyd_setting_count(void) { return ROWS; }
const char *policyd_setting_name(size_t i) { return i < ROWS ? rows[i].name : NULL; }

static const struct conf_text *setting_text(const struct conf *conf, const struct setting_row *row)
{
	return (const struct conf_text *)(const void *)((const char *)&conf->main + row->offset);
}

enum status policyd_settings_compile(struct policyd *p, struct err *err)
{
	struct policyd_setting *v = arena_alloc(lang_arena(p->lang), sizeof *v * COMPILED);
	enum status st = ST_OK;

	for (size_t i = 0; !st && i < ROWS; i++) {
		const struct conf_text *text = setting_text(p->conf, &rows[i]);

		if (rows[i].list)
			st = lang_list_compile(p->lang, LIST_HOST, text->text, text->place, &v[i].list, err);
		else if (text->text.len)
			st = lang_compile(p->lang, text->text, text->place, &v[i].x, err);
		if (st)
			err_prefix(err, "%s", rows[i].name);
	}
	/* host_lookup is not told to smtpd: it is obeyed here. hosts_proxy is asked before all else. */
	if (!st)
		st = lang_list_compile(p->lang, LIST_HOST, p->conf->main.host_lookup.text, p->conf->main.host_lookup.place, &v[LOOKUP].list, err);
	if (!st)
		st = lang_list_compile(p->lang, LIST_HOST, p->conf->main.hosts_proxy.text, p->conf->main.hosts_proxy.place, &v[PROXY].list, err);
	p->settings = v;
	return st;
}

/* False: could not be told; then nothing is remembered. */
static bool setting_run(struct policyd *p, struct eval *ev, size_t i, struct str *value, struct err *err)
{
	const struct policyd_setting *s = &p->settings[i];
	enum status st;

	*value = STR_NULL;
	if (rows[i].list) {
		st = lang_client_match(ev, s->list, NULL, err);
		*value = st ? STR_LIT("no") : STR_LIT("yes");
		return st == ST_OK || st == ST_FAIL;
	}
	if (!s->x)
		return true;
	/* The time in the banner is filled in by smtpd, connection by connection. */
	st = expand_leaving(ev, s->x, "tod_full", value, err);
	if (st)
		*value = STR_NULL;
	return st == ST_OK || st == ST_FAIL;
}

bool policyd_setting_yes(struct policyd *p, struct eval *ev, const char *list)
{
	struct err err = ERR_INIT;
	struct str value;

	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].list && !strcmp(rows[i].name, list))
			return ev->facts->client_ip.len && setting_run(p, ev, i, &value, &err) && str_is(value, "yes");
	return false;
}

static void setting_failed(struct policyd *p, const char *name, const struct err *err)
{
	if (p->worker)
		worker_log(p->worker, LOG_MAIN, "%s: %s; the default is used", name, err->text);
}

/* The client's name, where host_lookup asks for it; that it can't be found is no fault. */
static void name_lookup(struct policyd *p, struct eval *ev)
{
	struct err err = ERR_INIT;

	if (ev->facts->client_ip.len && lang_client_match(ev, p->settings[LOOKUP].list, NULL, &err) == ST_OK)
		eval_client_name(ev, &err);
}

static void cache_decide(struct policyd *p, struct eval *ev, bool all_known, struct ipc_acl_answer *out)
{
	/* An ACL is asked each time, and so is a name that can't be known now. */
	bool each = !all_known || acl_option(p->conf, ACL_CONNECT)->text.len || ev->name_deferred || ev->deps & DEP_SESSION;

	out->cache_scope = each ? 0 : ev->deps & DEP_CLIENT ? 1 : 2;
	out->cache_ms = each ? 0 : ev->deps & DEP_TIME ? POLICYD_CACHE_TIME_MS : ev->deps & DEP_WORLD ? POLICYD_CACHE_WORLD_MS : POLICYD_CACHE_MS;
}

/* The mechanisms, or that they can be told at EHLO only. */
static void auth_setting(struct policyd *p, struct eval *ev, struct ipc_pair *v, struct ipc_acl_answer *out)
{
	bool later;
	struct str offer = policyd_auth_offer(p, ev, &later);

	v[out->n_settings++] = later ? (struct ipc_pair){ .name = STR_LIT("auth_later"), .value = STR_LIT("yes") } :
		(struct ipc_pair){ .name = STR_LIT("auth"), .value = offer };
}

void policyd_settings_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	struct ipc_pair *v = arena_alloc(ev->arena, sizeof *v * (ROWS + 1 + POLICYD_TLS_MAX));
	bool all_known = true;

	ev->deps = 0;
	name_lookup(p, ev);
	for (size_t i = 0; i < ROWS; i++) {
		struct err err = ERR_INIT;
		struct str value;

		if (!setting_run(p, ev, i, &value, &err)) {
			all_known = false;
			setting_failed(p, rows[i].name, &err);
			if (!rows[i].list)
				continue;
		}
		/* An option that is not set is not told: smtpd has the default. */
		if (!rows[i].list && !value.len)
			continue;
		v[out->n_settings++] = (struct ipc_pair){ .name = str_of(rows[i].name), .value = value, .tainted = value.tainted };
	}
	auth_setting(p, ev, v, out);
	all_known &= policyd_tls_run(p, ev, false, v, &out->n_settings);
	out->settings = v;
	cache_decide(p, ev, all_known, out);
}

void policyd_proxy_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	struct ipc_pair *v = arena_alloc(ev->arena, sizeof *v);
	struct err err = ERR_INIT;
	enum status st = lang_client_match(ev, p->settings[PROXY].list, NULL, &err);

	*out = (struct ipc_acl_answer){ .verdict = st == ST_OK || st == ST_FAIL ? ACL_ACCEPT : ACL_DEFER, .settings = v, .n_settings = 1 };
	*v = (struct ipc_pair){ .name = STR_LIT("hosts_proxy"), .value = st == ST_OK ? STR_LIT("yes") : STR_LIT("no") };
	if (out->verdict == ACL_DEFER)
		out->log_text = str_of(arena_strdup(ev->arena, err.text));
}

/* SPDX-License-Identifier: ISC */
/* From the view of the configuration to plain values. */
#include "qmgr/settings.h"

#include <string.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/mail/addrlist.h"

enum { WARN_MAX = 64, TELL_MAX = 100 };

static void text_take(struct settings *s, struct str *out, const struct conf_text *t)
{
	if (t->text.len)
		*out = str_dup(&s->arena, t->text);
}

static enum status warn_take(struct settings *s, const struct conf_text *t, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(t->text);
	uint32_t at[WARN_MAX];
	struct str item;
	int64_t time;

	s->n_warn = 0;
	while (s->n_warn < WARN_MAX && conf_list_next(&walk, &s->arena, &item)) {
		if (!item.len)
			continue;
		if (conf_time_parse(item, &time, err))
			return err_prefix(err, "delay_warning");
		if (!time) { /* "0s": never */
			s->n_warn = 0;
			return ST_OK;
		}
		if (time > UINT32_MAX / 2 || (s->n_warn && time <= at[s->n_warn - 1]))
			return err_set(err, ST_ERROR, "delay_warning: the times must rise");
		at[s->n_warn++] = (uint32_t)time;
	}
	s->warn_at = arena_memdup(&s->arena, at, s->n_warn * sizeof *at);
	return ST_OK;
}

static enum status tell_take(struct settings *s, const struct conf *conf, struct err *err)
{
	struct addrlist list;

	if (!conf->main.freeze_tell.text.len)
		return ST_OK;
	if (addrlist_parse(conf->main.freeze_tell.text, ADDR_UTF8, &s->arena, &list, err))
		return err_prefix(err, "freeze_tell");
	s->freeze_tell = arena_alloc(&s->arena, (list.n + 1) * sizeof *s->freeze_tell);
	for (; s->n_freeze_tell < list.n && s->n_freeze_tell < TELL_MAX; s->n_freeze_tell++) {
		struct str addr = list.v[s->n_freeze_tell].addr;

		if (str_find(addr, '@') < 0)
			addr = str_printf(&s->arena, "%.*s@%.*s", STR_FMT(addr), STR_FMT(s->qualify_domain));
		s->freeze_tell[s->n_freeze_tell] = str_dup(&s->arena, addr);
	}
	return ST_OK;
}

static uint32_t seconds(int64_t v) { return v < 0 ? 0 : v > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)v; }

static void retry_take(struct settings *s, const struct conf *conf)
{
	s->retry = arena_alloc(&s->arena, (conf->n_retry + 1) * sizeof *s->retry);
	s->n_retry = conf->n_retry;
	for (uint32_t i = 0; i < conf->n_retry; i++) {
		const struct conf_retry *from = &conf->retry[i];
		struct retry_rule *to = &s->retry[i];

		*to = (struct retry_rule){ .error = from->error, .code_min = from->code_min, .code_max = from->code_max, .via = from->via,
			.quota_age = from->quota_age, .n = from->n };
		to->steps = arena_alloc(&s->arena, (from->n + 1) * sizeof *to->steps);
		for (uint32_t k = 0; k < from->n; k++)
			to->steps[k] = (struct retry_step){ from->steps[k].kind, seconds(from->steps[k].cutoff), seconds(from->steps[k].interval),
				seconds(from->steps[k].factor) };
	}
}

static enum status settings_fill(struct settings *s, const struct conf *conf, struct err *err)
{
	const struct conf_opts_main *m = &conf->main;

	text_take(s, &s->host, &m->primary_hostname);
	s->qualify_domain = s->host;
	text_take(s, &s->qualify_domain, &m->qualify_domain);
	text_take(s, &s->dsn_from, &m->dsn_from);
	text_take(s, &s->errors_reply_to, &m->errors_reply_to);
	text_take(s, &s->bounce_text, &m->bounce_message_text);
	text_take(s, &s->bounce_auth, &m->bounce_sender_authentication);
	s->ask_failure = m->bounce_message_file.text.len || m->errors_copy.text.len;
	s->ask_delay = m->warn_message_file.text.len > 0;
	text_take(s, &s->warning_condition, &m->delay_warning_condition);
	s->return_body = m->bounce_return_body && m->bounce_return_message;
	s->extra_info = m->dsn_extra_info;
	s->return_size_max = m->bounce_return_size_limit > 0 ? (uint64_t)m->bounce_return_size_limit : 0;
	s->return_line_max = seconds(m->bounce_return_linesize_limit);
	s->retry_interval_max = seconds(m->retry_interval_max);
	s->retry_data_expire = seconds(m->retry_data_expire);
	s->timeout_frozen = m->timeout_frozen_after > 0 ? m->timeout_frozen_after : -1;
	s->ignore_bounce_errors = m->ignore_bounce_errors_after;
	s->auto_thaw = m->auto_thaw > 0 ? m->auto_thaw : -1;
	s->queue_only = m->queue_only;
	s->queue_interval = m->queue_interval > 0 ? seconds(m->queue_interval) : 30 * 60;
	s->space_kb = m->check_spool_space / 1024;
	s->inodes = m->check_spool_inodes;
	if (conf_main_meta(conf, deliver_queue_load_max)->set)
		s->load_max = seconds(m->deliver_queue_load_max);
	s->log_kb = m->check_log_space / 1024;
	s->log_inodes = m->check_log_inodes;
	s->concurrency_first = seconds(m->destination_concurrency_start);
	s->concurrency_max = seconds(m->destination_concurrency);
	if (s->concurrency_first > s->concurrency_max)
		s->concurrency_first = s->concurrency_max;
	s->remote_max = seconds(m->delivery_max);
	if (conf_main_meta(conf, remote_max_parallel)->set)
		s->remote_parallel = m->remote_max_parallel > 1 ? seconds(m->remote_max_parallel) : 1;
	retry_take(s, conf);
	if (tell_take(s, conf, err))
		return err->status;
	if (warn_take(s, &m->delay_warning, err))
		return err->status;
	return log_selector_parse(m->log_selector.text, &s->log, err);
}

enum status settings_from_conf(const struct conf *conf, struct settings **out, struct err *err)
{
	struct settings *s = settings_new();

	if (settings_fill(s, conf, err)) {
		settings_free(s);
		return err->status;
	}
	*out = s;
	return ST_OK;
}

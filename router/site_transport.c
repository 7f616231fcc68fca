/* SPDX-License-Identifier: ISC */
/* site_transport.c - the transports: which of their options travel with a plan, and what they depend on. */
#include <string.h>

#include "router/route_command.h"
#include "router/route_reply.h"
#include "common/lang/rewrite.h"
#include "router/router.h"
#include "router/site_impl.h"

/* Options that the router itself uses up; all others that are set travel to the agent. */
static const char *const used_here[] = {
	"driver", "user", "group", "headers_add", "headers_remove", "home_directory", "current_directory", "return_path",
	"message_size_limit", "debug_print", "event_action", "shadow_condition", "shadow_transport", "headers_rewrite", "initgroups",
	"hosts", "hosts_override", "hosts_randomize", "fallback_hosts", "port", "dnssec_request_domains", "dnssec_require_domains",
	"hosts_try_dane", "hosts_require_dane",
	"dns_qualify_single", "dns_search_parents", "gethostbyname", "multi_domain", "batch_id", "authenticated_sender", "quota_warn_message",
	"allow_commands", "command", "environment", "force_command", "pipe_as_creator", "use_shell", "disable_logging", "max_parallel",
	"to", "cc", "bcc", "log", "once", "text", "file_expand", "never_mail",
	"rcpt_include_affixes", "address_retry_include_sender", "delay_after_cutoff", "retry_include_ip_address", "retry_use_local_part", NULL,
};

static const struct { const char *name; uint16_t port; } services[] = {
	{ "smtp", 25 }, { "lmtp", 24 }, { "smtps", 465 }, { "ssmtp", 465 }, { "submissions", 465 }, { "submission", 587 },
};

uint16_t port_parse(struct str text)
{
	uint64_t n;

	text = str_trim(text);
	if (str_u64(text, 65535, &n))
		return (uint16_t)n;
	for (size_t i = 0; i < sizeof services / sizeof *services; i++)
		if (str_isi(text, services[i].name))
			return services[i].port;
	return 0;
}

static bool is_used_here(const char *name)
{
	for (size_t i = 0; used_here[i]; i++)
		if (!strcmp(used_here[i], name))
			return true;
	return false;
}

/* Unset options are the agent's table's defaults, but for those whose default only an expansion can tell. */
static bool is_wanted(const struct conf_table *table, const struct conf_option *row, const struct conf_meta *meta)
{
	if (table == &conf_table_transport_autoreply && !strcmp(row->name, "file"))
		return false; /* appendfile's of that name is an ordinary one */
	if (row->offset == CONF_NO_FIELD || is_used_here(row->name))
		return false;
	return meta->set || ((row->flags & F_REUSE) && (row->flags & F_EXP_R) && row->fallback && strchr(row->fallback, '$'));
}

/* The agent fills in what is not known yet; misuse was refused when the configuration was loaded. */
static enum status late_make(struct site *site, const struct conf_option *row, const struct conf_text *t, struct expansion **out, struct err *err)
{
	static const struct { const char *option, *variable; } rows[] = { { "maildir_tag", "message_size" }, { "directory_file", "inode" },
		{ "helo_data", "sending_ip_address" } };
	struct conf_text marked = *t;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (!strcmp(row->name, rows[i].option) && !conf_late_mark(t->text, rows[i].variable, &site->arena, &marked.text)) {
			if (!conf_late_guarded(t->text, rows[i].variable, &site->arena))
				return err_set(err, ST_ERROR, "%s: $%s within ${...}", row->name, rows[i].variable);
			marked = *t;
		}
	return site_text(site, &marked, out, err);
}

static enum status option_make(struct site *site, const struct conf_option *row, const void *opts, struct site_option *out, struct err *err)
{
	const struct conf_text *t = (const struct conf_text *)((const char *)opts + row->offset);

	out->row = row;
	out->name = str_of(row->name);
	/* Asked for by the agent, when it knows $item. */
	if (row->kind < CONF_TEXT || !strcmp(row->name, "host_name_extract") || !(row->flags & F_EXP_R) || (row->flags & F_REPEAT)) {
		conf_opts_get(row, opts, &site->arena, &out->constant);
		return ST_OK;
	}
	if (row->kind == CONF_HOSTS)
		return site_list(site, LIST_HOST, t, &out->hosts, err);
	return late_make(site, row, t, &out->x, err);
}

static enum status table_make(struct site *site, const struct conf_table *table, const void *opts, const struct conf_meta *meta,
	struct site_transport *out, struct err *err)
{
	for (uint32_t i = 0; i < table->n; i++) {
		if (!is_wanted(table, &table->rows[i], &meta[i]))
			continue;
		if (option_make(site, &table->rows[i], opts, &out->options[out->n_options], err) != ST_OK)
			return err->status;
		out->n_options++;
	}
	return ST_OK;
}

/* Constant expansions are made now, so that a plan of constants is put together once. */
static void constants_fold(struct site_transport *t)
{
	t->constant = true;
	for (uint32_t i = 0; i < t->n_options; i++) {
		struct site_option *o = &t->options[i];
		if (o->x && expansion_is_constant(o->x) && !memchr(expansion_text(o->x).p, '\\', expansion_text(o->x).len)) {
			o->constant = expansion_text(o->x);
			o->x = NULL;
		}
		t->constant = t->constant && !o->x && !o->hosts;
	}
}

/* Lists that are asked while the plan is made. */
static enum status smtp_lists_make(struct site *site, struct site_transport *t, struct err *err)
{
	static const struct conf_text unset;
	const struct conf_opts_transport_smtp *o = t->smtp;

	t->try_dane_all = str_is(str_trim(o->hosts_try_dane.text), "*");
	if (site_list(site, LIST_HOST, t->try_dane_all ? &unset : &o->hosts_try_dane, &t->try_dane, err) != ST_OK ||
		site_list(site, LIST_HOST, &o->hosts_require_dane, &t->require_dane, err) != ST_OK ||
		site_list(site, LIST_DOMAIN, str_is(o->dnssec_request_domains.text, "*") ? &unset : &o->dnssec_request_domains, &t->dnssec_request, err) != ST_OK)
		return err->status;
	return site_list(site, LIST_DOMAIN, &o->dnssec_require_domains, &t->dnssec_require, err);
}

static enum status smtp_make(struct site *site, struct site_transport *t, struct err *err)
{
	const struct conf_opts_transport_smtp *o = t->smtp;

	if (smtp_lists_make(site, t, err) != ST_OK || site_text(site, &o->hosts, &t->hosts, err) != ST_OK || site_text(site, &o->port, &t->port, err) != ST_OK ||
		site_text(site, &o->multi_domain, &t->multi_domain, err) != ST_OK ||
		site_text(site, &o->retry_include_ip_address, &t->retry_ip, err) != ST_OK)
		return err->status;
	if (site_text(site, &o->authenticated_sender, &t->auth_sender, err) != ST_OK)
		return err->status;
	if (t->hosts && expansion_is_constant(t->hosts)) {
		t->has_hosts_fixed = true;
		if (host_items_parse(o->hosts.text, &site->arena, &t->hosts_fixed, err) != ST_OK)
			return site_wrong(site, o->hosts.place, err);
	}
	if (o->fallback_hosts.text.len && host_items_parse(o->fallback_hosts.text, &site->arena, &t->fallback, err) != ST_OK)
		return site_wrong(site, o->fallback_hosts.place, err);
	if (!t->port)
		t->port_fixed = str_is(o->protocol.text, "lmtp") ? 24 : str_is(o->protocol.text, "smtps") ? 465 : 25;
	else if (expansion_is_constant(t->port) && !(t->port_fixed = port_parse(o->port.text))) {
		err_set(err, ST_ERROR, "port \"%.*s\" is neither a number nor a known service", STR_FMT(o->port.text));
		return site_wrong(site, o->port.place, err);
	}
	return ST_OK;
}

static enum status texts_make(struct site *site, struct site_transport *t, struct err *err)
{
	const struct conf_opts_transport *o = t->o;
	const struct {
		const struct conf_text *t;
		struct expansion **out;
	} texts[] = {
		{ &o->user, &t->user }, { &o->group, &t->group }, { &o->home_directory, &t->home },
		{ &o->current_directory, &t->directory }, { &o->max_parallel, &t->max_parallel }, { &o->return_path, &t->return_path },
		{ &o->message_size_limit, &t->size_limit }, { &o->shadow_condition, &t->shadow_condition },
		{ t->lmtp ? &t->lmtp->batch_id : t->appendfile ? &t->appendfile->batch_id : t->pipe ? &t->pipe->batch_id : NULL, &t->batch_id },
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (texts[i].t && site_text(site, texts[i].t, texts[i].out, err) != ST_OK)
			return err->status;
	if (t->size_limit && expansion_is_constant(t->size_limit) && str_is(o->message_size_limit.text, "0"))
		t->size_limit = NULL;
	return ST_OK;
}

/* The owner of a mailbox is warned only where a threshold is set; only then its message is worth expanding. */
static enum status warning_make(struct site *site, struct site_transport *t, struct err *err)
{
	const struct conf_opts_transport_appendfile *o = t->appendfile;
	uint32_t row = CONF_INDEX(transport_appendfile, quota_warn_message);

	if (!o || !o->quota_warn_threshold.set)
		return ST_OK;
	return option_make(site, &conf_table_transport_appendfile.rows[row], o, &t->options[t->n_options++], err);
}

enum status site_transport_make(struct site *site, const struct conf_instance *conf, struct site_transport *t, struct err *err)
{
	const struct conf_table *table = conf->driver->table;

	t->conf = conf;
	t->o = conf->generic;
	t->pending = conf_instance_pending(conf, CONF_TRANSPORTS);
	t->smtp = CONF_OWN(conf, transport_smtp);
	t->lmtp = CONF_OWN(conf, transport_lmtp);
	t->appendfile = CONF_OWN(conf, transport_appendfile);
	t->pipe = CONF_OWN(conf, transport_pipe);
	t->autoreply = CONF_OWN(conf, transport_autoreply);
	t->options = arena_alloc(&site->arena, (conf_table_transport.n + table->n + 1) * sizeof *t->options);
	if (table_make(site, &conf_table_transport, conf->generic, conf->generic_meta, t, err) != ST_OK ||
		table_make(site, table, conf->own, conf->own_meta, t, err) != ST_OK || warning_make(site, t, err) != ST_OK ||
		texts_make(site, t, err) != ST_OK || (t->smtp && smtp_make(site, t, err) != ST_OK) ||
		site_items_all(site, &t->o->headers_add, '\n', SITE_HEADERS_MAX, &t->headers_add, err) != ST_OK ||
		site_items_all(site, &t->o->headers_remove, ':', SITE_REMOVES_MAX, &t->headers_remove, err) != ST_OK)
		return err->status;
	t->reads_message = site_reads_message(&conf_table_transport, conf->generic) || site_reads_message(table, conf->own);
	if (t->pipe && site_command_make(site, t, err) != ST_OK)
		return err->status;
	if (t->autoreply && site_reply_make(site, t, err) != ST_OK)
		return err->status;
	if (t->o->headers_rewrite.text.len &&
	    rewrite_compile(site->router->lang, &site->arena, t->o->headers_rewrite.text, t->o->headers_rewrite.place, &t->rewrite, err))
		return err_prefix(err, "headers_rewrite");
	t->reads_message |= t->rewrite != NULL;
	constants_fold(t);
	t->constant = t->constant && !t->rewrite && !t->headers_add.n && !t->headers_remove.n && !t->return_path && !t->size_limit && !t->user && !t->group && !t->max_parallel &&
		!t->home && !t->hosts && !t->auth_sender && t->smtp && t->port_fixed && (!t->multi_domain || expansion_is_constant(t->multi_domain)) && (!t->retry_ip || expansion_is_constant(t->retry_ip)) &&
		!t->try_dane && !t->require_dane;
	if (t->constant && str_is(t->smtp->multi_domain.text, "false"))
		t->constant = false;
	return ST_OK;
}

/* Once all transports are made: a shadow is another one of them. */
void site_shadows_make(struct site *site)
{
	for (uint32_t i = 0; i < site->n_transports; i++) {
		struct site_transport *t = &site->transports[i];

		if (t->o->shadow_transport.text.len)
			t->shadow = site_transport_find(site, str_trim(t->o->shadow_transport.text));
	}
	for (uint32_t i = 0; i < site->n_transports; i++)
		if (site->transports[i].shadow)
			site->transports[i].reads_message |= site->transports[i].shadow->reads_message;
}

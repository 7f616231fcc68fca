/* SPDX-License-Identifier: ISC */
/* site.c - the routers of the configuration, made ready. */
#include "router/site.h"

#include <string.h>

#include "router/router.h"
#include "router/site_impl.h"

const struct router_driver *const router_drivers[] = {
	&router_accept, &router_dnslookup, &router_ipliteral, &router_manualroute, &router_queryprogram, &router_redirect, NULL,
};

enum status site_wrong(struct site *site, struct conf_place place, struct err *err)
{
	struct str where = conf_place_format(site->router->conf, place, &site->arena);

	return where.len ? err_prefix(err, "%.*s", STR_FMT(where)) : err->status;
}

enum status site_text(struct site *site, const struct conf_text *t, struct expansion **out, struct err *err)
{
	*out = NULL;
	if (!t->text.p)
		return ST_OK;
	if (lang_compile(site->router->lang, t->text, t->place, out, err) != ST_OK)
		return site_wrong(site, t->place, err);
	return ST_OK;
}

enum status site_list(struct site *site, enum lang_list_kind kind, const struct conf_text *t, struct lang_list **out, struct err *err)
{
	*out = NULL;
	if (!t->text.p)
		return ST_OK;
	if (lang_list_compile(site->router->lang, kind, t->text, t->place, out, err) != ST_OK)
		return site_wrong(site, t->place, err);
	return ST_OK;
}

/* ---- does it read the message ---- */

static bool name_follows(struct str s, const char *const *names)
{
	for (; *names; names++)
		if (str_begins(s, *names))
			return true;
	return false;
}

bool text_reads_message(struct str text)
{
	static const char *const names[] = { "h_", "rh_", "bh_", "lh_", "header_", "rheader_", "bheader_", "lheader_", "message_body",
		"message_headers", "body_linecount", "body_zerocount", "message_linecount", "received_count", "reply_address", NULL };

	/* $h_..., ${h_..., def:h_... */
	for (uint32_t i = 0; i < text.len; i++) {
		struct str rest = str_from(text, i + 1);
		if (text.p[i] == '$')
			rest = str_begins(rest, "{") ? str_from(rest, 1) : rest;
		else if (text.p[i] == 'd' && str_begins(rest, "ef:"))
			rest = str_from(rest, 3);
		else
			continue;
		if (name_follows(rest, names))
			return true;
	}
	return false;
}

static bool value_reads_message(const struct conf_option *row, const void *opts)
{
	const char *field = (const char *)opts + row->offset;
	const struct conf_texts *many;

	if (row->offset == CONF_NO_FIELD || row->kind < CONF_TEXT)
		return false;
	if (!(row->flags & F_REPEAT))
		return text_reads_message(((const struct conf_text *)field)->text);
	many = (const struct conf_texts *)field;
	for (uint32_t i = 0; i < many->n; i++)
		if (text_reads_message(many->v[i].text))
			return true;
	return false;
}

bool site_reads_message(const struct conf_table *table, const void *opts)
{
	for (uint32_t i = 0; i < table->n; i++)
		if (value_reads_message(&table->rows[i], opts))
			return true;
	return false;
}

/* ---- lists whose items are expanded one by one ---- */

enum status site_items(struct site *site, struct str text, struct conf_place place, char sep, uint32_t max, struct site_texts *out, struct err *err)
{
	struct arena *a = &site->arena;
	struct str trimmed = str_trim(text), item;
	bool own = trimmed.len > 1 && trimmed.p[0] == '<' && !ascii_is_alnum(trimmed.p[1]) && trimmed.p[1] != ' ';
	struct lang_split split = LANG_SPLIT(text);
	struct buf v = BUF_INIT;

	if (!own)
		split.sep = sep;
	for (uint32_t i = 0; i < out->n; i++)
		buf_add(&v, &out->v[i], sizeof *out->v);
	while (lang_split_next(&split, a, &item)) {
		struct expansion *x;
		if (!item.len)
			continue;
		if (v.len / sizeof x >= max) {
			buf_clear(&v);
			err_set(err, ST_ERROR, "more than %u items", max);
			return site_wrong(site, place, err);
		}
		if (lang_compile(site->router->lang, item, place, &x, err) != ST_OK) {
			buf_clear(&v);
			return site_wrong(site, place, err);
		}
		buf_add(&v, &x, sizeof x);
	}
	out->n = (uint32_t)(v.len / sizeof *out->v);
	out->v = v.len ? arena_memdup(a, v.p, v.len) : NULL;
	buf_clear(&v);
	return ST_OK;
}

enum status site_items_all(struct site *site, const struct conf_texts *t, char sep, uint32_t max, struct site_texts *out, struct err *err)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (site_items(site, t->v[i].text, t->v[i].place, sep, max, out, err) != ST_OK)
			return err->status;
	return ST_OK;
}

/* ---- routers ---- */

static enum status conditions_make(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_texts *t = &r->o->condition;

	r->condition.v = t->n ? arena_alloc(&site->arena, t->n * sizeof *r->condition.v) : NULL;
	for (uint32_t i = 0; i < t->n; i++)
		if (site_text(site, &t->v[i], &r->condition.v[i], err) != ST_OK)
			return err->status;
	r->condition.n = t->n;
	return ST_OK;
}

/* "r_name = value", semicolons between several. */
static enum status set_add(struct site *site, struct site_router *r, struct str item, struct conf_place place, struct err *err)
{
	ptrdiff_t at = str_find(item, '=');
	struct str name = str_trim(str_sub(item, 0, at < 0 ? 0 : (size_t)at));
	struct site_set *more;

	if (at < 0 || !str_begins(name, "r_") || name.len < 3) {
		err_set(err, ST_ERROR, "set must be \"r_NAME = value\", not \"%.*s\"", STR_FMT(item));
		return site_wrong(site, place, err);
	}
	more = arena_alloc(&site->arena, (r->n_sets + 1) * sizeof *more);
	if (r->n_sets)
		memcpy(more, r->sets, r->n_sets * sizeof *more);
	r->sets = more;
	more[r->n_sets].name = str_dup(&site->arena, str_from(name, 2));
	if (lang_compile(site->router->lang, str_trim(str_from(item, (size_t)at + 1)), place, &more[r->n_sets].value, err) != ST_OK)
		return site_wrong(site, place, err);
	r->n_sets++;
	return ST_OK;
}

static enum status sets_make(struct site *site, struct site_router *r, struct err *err)
{
	for (uint32_t i = 0; i < r->o->set.n; i++) {
		const struct conf_text *t = &r->o->set.v[i];
		struct lang_split split = LANG_SPLIT(t->text);
		struct str item;
		if (!(t->text.len && t->text.p[0] == '<'))
			split.sep = ';';
		while (lang_split_next(&split, &site->arena, &item))
			if (item.len && set_add(site, r, str_dup(&site->arena, item), t->place, err) != ST_OK)
				return err->status;
	}
	return ST_OK;
}

static void affixes_make(struct site *site, const struct conf_text *t, struct str **out, uint32_t *n_out)
{
	struct lang_split split = LANG_SPLIT(t->text);
	struct buf v = BUF_INIT;
	struct str item;

	while (t->text.len && lang_split_next(&split, &site->arena, &item))
		if (item.len) {
			item = str_dup(&site->arena, item);
			buf_add(&v, &item, sizeof item);
		}
	*n_out = (uint32_t)(v.len / sizeof item);
	*out = v.len ? arena_memdup(&site->arena, v.p, v.len) : NULL;
	buf_clear(&v);
}

static enum status self_make(struct site *site, struct site_router *r, struct err *err)
{
	static const struct { const char *word; enum self_action action; } words[] = {
		{ "freeze", SELF_FREEZE }, { "defer", SELF_DEFER }, { "fail", SELF_FAIL }, { "send", SELF_SEND }, { "pass", SELF_PASS },
	};
	struct str s = str_trim(r->o->self.text);

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (str_is(s, words[i].word)) {
			r->self = words[i].action;
			return ST_OK;
		}
	if (str_begins(s, "reroute:")) {
		r->self = SELF_REROUTE;
		s = str_trim(str_from(s, 8));
		r->reroute_rewrite = str_begins(s, "rewrite:");
		if (r->reroute_rewrite)
			s = str_trim(str_from(s, 8));
		r->reroute_to = s;
		if (s.len)
			return ST_OK;
	}
	err_set(err, ST_ERROR, "self must be freeze, defer, fail, send, pass or reroute: DOMAIN");
	return site_wrong(site, r->o->self.place, err);
}

static enum status reference_make(struct site *site, const struct conf_text *t, const struct site_router **out, struct err *err)
{
	const struct conf_instance *found;

	if (!t->text.len)
		return ST_OK;
	found = conf_instance_find(site->router->conf, CONF_ROUTERS, t->text);
	if (!found) {
		err_set(err, ST_ERROR, "there is no router \"%.*s\"", STR_FMT(t->text));
		return site_wrong(site, t->place, err);
	}
	*out = &site->routers[found->index];
	return ST_OK;
}

static enum status references_make(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router *o = r->o;

	if (reference_make(site, &o->pass_router, &r->pass_to, err) != ST_OK || reference_make(site, &o->redirect_router, &r->redirect_to, err) != ST_OK)
		return err->status;
	if (r->pass_to && r->pass_to->index <= r->index) {
		err_set(err, ST_ERROR, "pass_router must name a router further down");
		return site_wrong(site, o->pass_router.place, err);
	}
	if (r->transport && expansion_is_constant(r->transport)) {
		r->transport_fixed = site_transport_find(site, o->transport.text);
		if (!r->transport_fixed) {
			err_set(err, ST_ERROR, "there is no transport \"%.*s\"", STR_FMT(o->transport.text));
			return site_wrong(site, o->transport.place, err);
		}
	}
	if (!o->fallback_hosts.text.len)
		return ST_OK;
	return host_items_parse(o->fallback_hosts.text, &site->arena, &r->fallback, err) == ST_OK ? ST_OK :
		site_wrong(site, o->fallback_hosts.place, err);
}

static enum status lists_make(struct site *site, struct site_router *r, struct err *err)
{
	static const struct conf_text unset;
	const struct conf_opts_router *o = r->o;
	const struct {
		enum lang_list_kind kind;
		const struct conf_text *t;
		struct lang_list **out;
	} lists[] = {
		{ LIST_DOMAIN, &o->domains, &r->domains }, { LIST_LOCALPART, &o->local_parts, &r->local_parts },
		{ LIST_ADDRESS, &o->senders, &r->senders }, { LIST_HOST, &o->ignore_target_hosts, &r->ignore_hosts },
		{ LIST_DOMAIN, &o->dnssec_require_domains, &r->dnssec_require },
		{ LIST_DOMAIN, str_is(o->dnssec_request_domains.text, "*") ? &unset : &o->dnssec_request_domains, &r->dnssec_request },
	};

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		if (site_list(site, lists[i].kind, lists[i].t, lists[i].out, err) != ST_OK)
			return err->status;
	return ST_OK;
}

static enum status texts_make(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router *o = r->o;
	const struct {
		const struct conf_text *t;
		struct expansion **out;
	} texts[] = {
		{ &o->address_data, &r->address_data }, { &o->cannot_route_message, &r->cannot_route }, { &o->debug_print, &r->debug_print },
		{ &o->errors_to, &r->errors_to }, { &o->user, &r->user }, { &o->group, &r->group }, { &o->router_home_directory, &r->home },
		{ &o->transport_home_directory, &r->transport_home }, { &o->transport_current_directory, &r->transport_directory }, { &o->more, &r->more }, { &o->unseen, &r->unseen },
		{ &o->transport, &r->transport }, { &o->translate_ip_address, &r->translate },
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (site_text(site, texts[i].t, texts[i].out, err) != ST_OK)
			return err->status;
	return ST_OK;
}

/* `whole` sets both of its parts; what is written later holds. */
static bool part_is(const struct conf_meta *whole, bool whole_value, const struct conf_meta *part, bool part_value)
{
	bool part_holds = !whole->set || (part->set && (part->place.file != whole->place.file || part->place.line > whole->place.line));

	return part_holds ? part_value : whole_value;
}

static void modes_make(struct site_router *r)
{
	const struct conf_meta *m = r->conf->generic_meta;
	const struct conf_opts_router *o = r->o;
	const struct conf_meta *verify = &m[CONF_INDEX(router, verify)], *fail = &m[CONF_INDEX(router, fail_verify)];

	r->verify_recipient = part_is(verify, o->verify, &m[CONF_INDEX(router, verify_recipient)], o->verify_recipient);
	r->verify_sender = part_is(verify, o->verify, &m[CONF_INDEX(router, verify_sender)], o->verify_sender);
	r->fail_recipient = part_is(fail, o->fail_verify, &m[CONF_INDEX(router, fail_verify_recipient)], o->fail_verify_recipient);
	r->fail_sender = part_is(fail, o->fail_verify, &m[CONF_INDEX(router, fail_verify_sender)], o->fail_verify_sender);
}

static bool constant_or_unset(const struct expansion *x)
{
	return !x || expansion_is_constant(x);
}

static enum status router_make(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router *o = r->o;

	for (size_t i = 0; router_drivers[i]; i++)
		if (router_drivers[i]->table == r->conf->driver->table)
			r->driver = router_drivers[i];
	if (!r->driver)
		return err_set(err, ST_ERROR, "driver %s does not work here", r->conf->driver->name);
	r->log_as_local = r->conf->generic_meta[CONF_INDEX(router, log_as_local)].set ? o->log_as_local : r->driver == &router_accept;
	modes_make(r);
	affixes_make(site, &o->local_part_prefix, &r->prefixes, &r->n_prefixes);
	affixes_make(site, &o->local_part_suffix, &r->suffixes, &r->n_suffixes);
	if (lists_make(site, r, err) != ST_OK || texts_make(site, r, err) != ST_OK || conditions_make(site, r, err) != ST_OK ||
		sets_make(site, r, err) != ST_OK || self_make(site, r, err) != ST_OK ||
		site_items(site, o->require_files.text, o->require_files.place, ':', UINT32_MAX, &r->require_files, err) != ST_OK ||
		site_items_all(site, &o->headers_add, '\n', SITE_HEADERS_MAX, &r->headers_add, err) != ST_OK ||
		site_items_all(site, &o->headers_remove, ':', SITE_REMOVES_MAX, &r->headers_remove, err) != ST_OK)
		return err->status;
	if (references_make(site, r, err) != ST_OK)
		return err->status;
	r->reads_message = site_reads_message(&conf_table_router, o) || site_reads_message(r->conf->driver->table, r->conf->own);
	r->plain = !r->headers_add.n && !r->headers_remove.n && !r->errors_to && constant_or_unset(r->user) && constant_or_unset(r->group) &&
		constant_or_unset(r->transport_home) && constant_or_unset(r->transport_directory) && constant_or_unset(r->home) && !o->check_local_user && r->transport_fixed;
	return r->driver->compile ? r->driver->compile(site, r, err) : ST_OK;
}

/* ---- all of it ---- */

static enum status retry_make(struct site *site, struct err *err)
{
	const struct conf *conf = site->router->conf;

	site->retry = arena_alloc(&site->arena, (conf->n_retry + 1) * sizeof *site->retry);
	for (uint32_t i = 0; i < conf->n_retry; i++) {
		struct site_retry *out = &site->retry[i];
		struct conf_text t = conf->retry[i].pattern;
		out->number = str_printf(&site->arena, "%u", i);
		if (!str_is(t.text, "*")) {
			/* one item of an address list, whatever is in it: a separator that it can't contain */
			t.text = str_printf(&site->arena, "<\001 %.*s", STR_FMT(t.text));
			if (site_list(site, LIST_ADDRESS, &t, &out->pattern, err) != ST_OK)
				return err->status;
		}
		if (conf->retry[i].senders.set && site_list(site, LIST_ADDRESS, &conf->retry[i].senders, &out->senders, err) != ST_OK)
			return err->status;
		site->n_retry++;
	}
	return ST_OK;
}

enum status site_new(struct router *router, struct site **out, struct err *err)
{
	struct site *site = mem_new(sizeof *site);
	const struct conf *conf = router->conf;
	const struct conf_instances *routers = &conf->of[CONF_ROUTERS], *transports = &conf->of[CONF_TRANSPORTS];

	*out = site;
	site->router = router;
	router->site = site;
	site->transports = arena_alloc(&site->arena, (transports->n + 1) * sizeof *site->transports);
	site->n_transports = transports->n;
	for (uint32_t i = 0; i < transports->n; i++)
		if (site_transport_make(site, &transports->v[i], &site->transports[i], err) != ST_OK)
			return err_prefix(err, "transport %.*s", STR_FMT(transports->v[i].name));
	site_shadows_make(site);
	if (site_auths_make(site, conf, err) != ST_OK)
		return err->status;
	site->routers = arena_alloc(&site->arena, (routers->n + 1) * sizeof *site->routers);
	for (uint32_t i = 0; i < routers->n; i++) {
		site->routers[i].conf = &routers->v[i];
		site->routers[i].pending = conf_instance_pending(&routers->v[i], CONF_ROUTERS);
		site->routers[i].o = routers->v[i].generic;
		site->routers[i].index = i;
	}
	site->n_routers = routers->n;
	for (uint32_t i = 0; i < routers->n; i++)
		if (router_make(site, &site->routers[i], err) != ST_OK)
			return err_prefix(err, "router %.*s", STR_FMT(routers->v[i].name));
	if (site_queue_make(site, err) != ST_OK ||
		site_text(site, &conf->main.callout_random_local_part, &site->random_local_part, err) != ST_OK)
		return err->status;
	return retry_make(site, err);
}

void site_free(struct site *site)
{
	if (!site)
		return;
	arena_clear(&site->arena);
	mem_free(site);
}

const struct site_transport *site_transport_find(const struct site *site, struct str name)
{
	const struct conf_instance *found = conf_instance_find(site->router->conf, CONF_TRANSPORTS, name);

	return found ? &site->transports[found->index] : NULL;
}

/* SPDX-License-Identifier: ISC */
/* route_queue.c - what waits though nothing is wrong with it: hold_domains, queue_domains, queue_smtp_domains, queue_only_file; and the
 * order of a message's remote deliveries, remote_sort_domains. qmgr, which never expands anything, is told the outcome. */
#include <string.h>
#include <sys/stat.h>

#include "router/route.h"

enum { SORT_MAX = 1000 /* items of remote_sort_domains */ };

/* Each item is a list of its own, so that the place of the one that matches is known. */
static enum status sort_build(struct lang *lang, struct arena *a, struct str text, struct site_sort *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(text);
	struct str item;

	out->n = 0;
	out->v = arena_alloc(a, SORT_MAX * sizeof *out->v);
	while (text.len && lang_split_next(&split, a, &item)) {
		if (out->n == SORT_MAX)
			return err_set(err, ST_ERROR, "remote_sort_domains: more than %d items", SORT_MAX);
		/* a separator that no item contains */
		if (lang_list_build(lang, a, LIST_DOMAIN, str_printf(a, "<\001 %.*s", STR_FMT(item)), false, &out->v[out->n], err) != ST_OK)
			return err_prefix(err, "remote_sort_domains");
		out->n++;
	}
	return ST_OK;
}

enum status site_queue_make(struct site *site, struct err *err)
{
	const struct conf_opts_main *o = &site->router->conf->main;
	struct site_queue *q = &site->queue;

	if (site_list(site, LIST_DOMAIN, &o->hold_domains, &q->hold, err) != ST_OK ||
		site_list(site, LIST_DOMAIN, &o->queue_domains, &q->domains, err) != ST_OK ||
		site_list(site, LIST_DOMAIN, &o->queue_smtp_domains, &q->smtp_domains, err) != ST_OK ||
		site_text(site, &o->remote_sort_domains, &q->sort_text, err) != ST_OK)
		return err->status;
	q->only_files = o->queue_only_file.text;
	if (q->sort_text && expansion_is_constant(q->sort_text)) {
		struct str text;
		struct eval ev;
		enum status st;

		eval_init(&ev, site->router->lang, &site->arena);
		st = expand(&ev, q->sort_text, &text, err);
		if (st == ST_OK)
			st = sort_build(site->router->lang, &site->arena, text, &q->sort, err);
		eval_clear(&ev);
		q->sort_text = NULL;
		return st == ST_FAIL ? ST_OK : st != ST_OK ? site_wrong(site, o->remote_sort_domains.place, err) : ST_OK;
	}
	return ST_OK;
}

/* ---- files that stop deliveries ---- */

/* Once for each question: the files may come and go. */
static void only_files_look(struct route *rt)
{
	struct lang_split split = LANG_SPLIT(rt->site->queue.only_files);
	struct str item;

	if (rt->only_looked)
		return;
	rt->only_looked = true;
	while (split.rest.len && lang_split_next(&split, rt->a, &item)) {
		bool smtp = str_begins(item, "smtp");
		struct stat st;

		if (smtp)
			item = str_from(item, 4);
		if (item.len && stat(str_cstr(rt->a, item), &st) == 0)
			*(smtp ? &rt->only_smtp : &rt->only_all) = true;
	}
}

/* ---- what waits ---- */

static bool domain_is(struct route *rt, const struct lang_list *list, const struct addr *addr, struct err *err)
{
	return list && lang_domain_match(rt->ev, list, addr->domain, NULL, err) != ST_FAIL;
}

static void wait_end(struct route *rt, struct addr *addr, enum leaf_wait wait, const struct err *err, const char *text)
{
	/* What can't be known now is an ordinary deferral. */
	leaf_end(rt, addr, NULL, ROUTE_DEFER, false, STR_NULL, err->status ? err->text : text);
	if (!err->status)
		rt->leaves[rt->n_leaves - 1].wait = wait;
}

bool addr_waits(struct route *rt, struct addr *addr)
{
	const struct site_queue *q = &rt->site->queue;
	struct err err = ERR_INIT;

	if (rt->mode != MODE_DELIVER || rt->forced)
		return false;
	addr_enter(rt, addr, NULL);
	if (domain_is(rt, q->hold, addr, &err)) {
		wait_end(rt, addr, WAIT_HELD, &err, "domain is held");
		return true;
	}
	err_clear(&err);
	if (!rt->arrival)
		return false;
	only_files_look(rt);
	if (rt->only_all) {
		wait_end(rt, addr, WAIT_QUEUED, &err, "a file of queue_only_file exists");
		return true;
	}
	if (domain_is(rt, q->domains, addr, &err)) {
		wait_end(rt, addr, WAIT_QUEUED, &err, "domain is in queue_domains");
		return true;
	}
	return false;
}

/* ---- remote deliveries ---- */

static const struct site_sort *sort_get(struct route *rt)
{
	const struct site_queue *q = &rt->site->queue;
	struct err err = ERR_INIT;
	struct str text;

	if (!q->sort_text)
		return &q->sort;
	if (!rt->sort) {
		rt->sort = arena_alloc(rt->a, sizeof *rt->sort);
		if (route_expand(rt, q->sort_text, &text, &err) != ST_OK || sort_build(rt->r->lang, rt->a, text, rt->sort, &err) != ST_OK)
			rt->sort->n = 0; /* mail goes all the same, in any order */
		if (err.status == ST_ERROR || err.status == ST_DEFER)
			router_log(rt->r, LOG_MAIN, "remote_sort_domains: %s", err.text);
	}
	return rt->sort;
}

void leaf_remote(struct route *rt, const struct addr *addr, struct ipc_leaf *l)
{
	const struct site_queue *q = &rt->site->queue;
	const struct site_sort *sort;
	struct err err = ERR_INIT;

	if (rt->mode != MODE_DELIVER)
		return;
	sort = sort_get(rt);
	for (uint32_t i = 0; i < sort->n && !l->order; i++)
		if (lang_domain_match(rt->ev, sort->v[i], addr->domain, NULL, &err) == ST_OK)
			l->order = i + 1;
	if (sort->n && !l->order)
		l->order = sort->n + 1;
	if (!rt->arrival || rt->forced)
		return;
	only_files_look(rt);
	err_clear(&err);
	if (rt->only_smtp || rt->facts->flags & MSG_FIRST_PASS || (q->smtp_domains && lang_domain_match(rt->ev, q->smtp_domains, addr->domain, NULL, &err) == ST_OK))
		l->wait = WAIT_QUEUED;
}

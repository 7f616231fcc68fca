/* SPDX-License-Identifier: ISC */
/* report.c - the administrator's words for reports (bounce_message_file, warn_message_file) and who gets copies (errors_copy), for
 * qmgr, which reads no files and expands nothing. Specification, chapter 50. */
#include <string.h>

#include "common/base/clock.h"
#include "common/lang/expand.h"
#include "common/mail/addrlist.h"
#include "router/router.h"
#include "router/site.h"

enum { ITEMS = 3 /* those that count; a file for failures may have three more */, COPIES_MAX = 64, ITEM_OCTETS_MAX = 32768, HEAD_OCTETS_MAX = 8192 };

struct report {
	struct router *r;
	struct eval ev;
	struct arena *a;
	const struct ipc_report_ask *ask;
	struct ipc_report_answer *out;
};

/* Something can't be had: the usual words, and the log says so. */
static void report_complain(struct report *p, const char *option, const char *text)
{
	struct str before = p->out->text;

	p->out->text = str_sub(str_printf(p->a, "%.*s%s%s: %s", STR_FMT(before), before.len ? "; " : "", option, text), 0, 1000);
}

/* "60 minutes", "3 hours". */
static struct str delay_text(struct arena *a, uint64_t s)
{
	return s < 2 * 3600 ? str_printf(a, "%llu minutes", (unsigned long long)s / 60) : str_printf(a, "%llu hours", (unsigned long long)s / 3600);
}

/* ---- the texts ---- */

/* Up to a line of just four asterisks, or the end. */
static struct str item_take(struct str *rest)
{
	struct str all = *rest, line;

	while (str_split(rest, '\n', &line)) {
		if (line.len && line.p[line.len - 1] == '\r')
			line.len--;
		if (str_is(line, "****"))
			return str_sub(all, 0, (size_t)(line.p - all.p));
	}
	*rest = STR_NULL;
	return all;
}

static void file_expand(struct report *p, const char *option, struct str path)
{
	struct str *items[ITEMS] = { &p->out->head, &p->out->intro, &p->out->last }, rest;
	struct lang_file file;
	struct err err = ERR_INIT;

	if (path.tainted || !str_begins(path, "/")) {
		report_complain(p, option, path.tainted ? "the path holds text from a stranger" : "not an absolute path");
		return;
	}
	if (lang_file_read(NULL, p->a, path, &file, &err) != ST_OK) {
		report_complain(p, option, err.text);
		return;
	}
	rest = file.content;
	for (unsigned i = 0; i < ITEMS && rest.len; i++) {
		struct str text = item_take(&rest);

		if (!text.len)
			continue;
		if (expand_text(&p->ev, text, items[i], &err) != ST_OK) {
			*items[i] = STR_NULL;
			report_complain(p, option, err.text);
			err_clear(&err);
		}
		*items[i] = str_sub(*items[i], 0, i ? ITEM_OCTETS_MAX : HEAD_OCTETS_MAX);
	}
}

static void texts_make(struct report *p)
{
	const struct conf_opts_main *o = &p->r->conf->main;
	bool failure = p->ask->kind == REPORT_FAILURE;
	const struct conf_text *option = failure ? &o->bounce_message_file : &o->warn_message_file;
	const char *name = failure ? "bounce_message_file" : "warn_message_file";
	struct err err = ERR_INIT;
	struct str path;
	enum status st;

	if (!option->text.len)
		return;
	st = expand_text(&p->ev, option->text, &path, &err);
	if (st == ST_OK)
		file_expand(p, name, str_trim(path));
	else if (st != ST_FAIL)
		report_complain(p, name, err.text);
}

/* ---- copies ---- */

/* The pattern, in quotes or up to a blank; the addresses behind it. */
static void copy_split(struct str item, struct str *pattern, struct str *addresses)
{
	uint32_t i = 0;

	item = str_trim(item);
	if (str_begins(item, "\"")) {
		for (i = 1; i < item.len && item.p[i] != '"'; i++)
			;
		*pattern = str_sub(item, 1, i - 1);
		*addresses = str_trim(str_from(item, i < item.len ? i + 1 : i));
		return;
	}
	while (i < item.len && !ascii_is_space(item.p[i]))
		i++;
	*pattern = str_sub(item, 0, i);
	*addresses = str_trim(str_from(item, i));
}

static enum status copies_add(struct report *p, struct str addresses, struct err *err)
{
	struct ipc_strs *out = &p->out->copies;
	struct addrlist list;
	enum status st;

	eval_set_address(&p->ev, p->ask->to);
	st = expand_text(&p->ev, addresses, &addresses, err);
	if (st != ST_OK)
		return st == ST_FAIL ? ST_OK : st;
	st = addrlist_parse(addresses, ADDR_UTF8, p->a, &list, err);
	if (st != ST_OK)
		return ST_ERROR;
	out->v = arena_alloc(p->a, COPIES_MAX * sizeof *out->v);
	for (uint32_t i = 0; i < list.n && out->n < COPIES_MAX; i++) {
		struct str addr = list.v[i].addr;

		if (str_find(addr, '@') < 0)
			addr = str_printf(p->a, "%.*s@%.*s", STR_FMT(addr), STR_FMT(lang_qualify_recipient(p->r->lang)));
		if (addr.len <= 1024)
			out->v[out->n++] = addr;
	}
	return ST_OK;
}

/* The first item whose pattern fits decides. */
static enum status copies_find(struct report *p, struct err *err)
{
	struct lang_split split = LANG_SPLIT(p->r->conf->main.errors_copy.text);
	struct str item, pattern, addresses;

	while (split.rest.len && lang_split_next(&split, p->a, &item)) {
		struct lang_list *list;
		enum status st;

		copy_split(item, &pattern, &addresses);
		if (!pattern.len || !addresses.len)
			continue;
		/* one item of an address list, whatever is in it: a separator that it can't contain */
		st = lang_list_build(p->r->lang, p->a, LIST_ADDRESS, str_printf(p->a, "<\001 %.*s", STR_FMT(pattern)), true, &list, err);
		if (st == ST_OK)
			st = lang_address_match(&p->ev, list, p->ask->to, NULL, err);
		if (st == ST_OK)
			return copies_add(p, addresses, err);
		if (st != ST_FAIL)
			return st;
	}
	return ST_OK;
}

void router_report(struct router *r, struct arena *a, const struct ipc_report_ask *ask, int message_fd, struct ipc_report_answer *out)
{
	static const struct ipc_facts nothing;
	struct report p = { .r = r, .a = a, .ask = ask, .out = out };
	struct err err = ERR_INIT;
	enum status st = ST_OK;

	memset(out, 0, sizeof *out);
	eval_init(&p.ev, r->lang, a);
	eval_facts(&p.ev, ask->facts ? ask->facts : &nothing);
	p.ev.message_fd = message_fd;
	r->program_until_ms = clock_ms() + ROUTER_PROGRAM_MS;
	if (ask->kind == REPORT_FAILURE) {
		st = copies_find(&p, &err);
		memset(p.ev.slot, 0, sizeof p.ev.slot);
		eval_set(&p.ev, EV_bounce_recipient, ask->to);
	} else {
		eval_set(&p.ev, EV_warn_message_delay, delay_text(a, ask->delay_s));
		eval_set(&p.ev, EV_warn_message_recipients, ask->to);
	}
	if (st == ST_OK || st == ST_DEFER)
		out->status = st;
	else
		report_complain(&p, "errors_copy", err.text);
	if (st == ST_DEFER)
		report_complain(&p, "errors_copy", err.text);
	else
		texts_make(&p);
	eval_clear(&p.ev);
}

/* SPDX-License-Identifier: ISC */
#include "router/route_reply.h"

#include <string.h>

#include "common/mail/addrlist.h"

enum status site_reply_make(struct site *site, struct site_transport *t, struct err *err)
{
	const struct conf_opts_transport_autoreply *o = t->autoreply;
	struct site_reply *r = arena_alloc(&site->arena, sizeof *r);
	const struct {
		const struct conf_text *t;
		struct expansion **out;
	} texts[] = {
		{ &o->to, &r->to }, { &o->cc, &r->cc }, { &o->bcc, &r->bcc }, { &o->file, &r->file }, { &o->log, &r->log }, { &o->once, &r->once },
		{ &o->text, &r->text },
	};

	t->reply = r;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (site_text(site, texts[i].t, texts[i].out, err) != ST_OK)
			return err->status;
	return site_list(site, LIST_ADDRESS, &o->never_mail, &r->never, err);
}

static void option_add(struct ipc_plan *plan, const char *name, struct str value)
{
	plan->options[plan->n_options++] = (struct ipc_pair){ .name = str_of(name), .value = value };
}

/* Unset, empty and a forced failure are the same: *out is empty. */
static enum status text_expand(struct route *rt, const struct expansion *x, const char *name, struct str *out, struct err *err)
{
	enum status st;

	*out = STR_NULL;
	if (!x)
		return ST_OK;
	st = route_expand(rt, x, out, err);
	if (st == ST_OK)
		return ST_OK;
	*out = STR_NULL;
	return st == ST_FAIL ? (err_clear(err), ST_OK) : err_prefix(err, "%s", name);
}

/* The addresses of a list that never_mail does not hold. */
static enum status recipients_make(struct route *rt, const struct site_reply *r, const struct expansion *x, const char *name, struct ipc_plan *plan,
	struct err *err)
{
	struct str value, rest, item;
	struct buf b = BUF_INIT;
	enum status st = text_expand(rt, x, name, &value, err);

	rest = value;
	while (st == ST_OK && addrlist_item_next(&rest, &item)) {
		struct addrlist_item parsed;
		struct err bad;

		item = str_trim(item);
		if (!item.len || str_is(item, "<>"))
			continue;
		if (addrlist_item_parse(item, ADDR_UNQUALIFIED | ADDR_UTF8 | ADDR_LITERALS, rt->a, &parsed, &bad) != ST_OK) {
			st = err_set(err, ST_ERROR, "%s: \"%.*s\": %s", name, STR_FMT(str_sub(item, 0, 200)), bad.text);
			break;
		}
		st = r->never ? lang_address_match(rt->ev, r->never, parsed.addr, NULL, err) : ST_FAIL;
		if (st == ST_FAIL)
			buf_printf(&b, "%s%.*s", b.len ? ", " : "", STR_FMT(item));
		st = st == ST_FAIL || st == ST_OK ? ST_OK : err_prefix(err, "never_mail");
	}
	if (st == ST_OK) {
		err_clear(err);
		if (b.len)
			option_add(plan, name, str_dup(rt->a, buf_str(&b)));
	}
	buf_clear(&b);
	return st;
}

static enum status path_make(struct route *rt, const struct expansion *x, const char *name, struct str *out, struct err *err)
{
	enum status st = text_expand(rt, x, name, out, err);

	*out = str_trim(*out);
	if (st != ST_OK || !out->len)
		return st;
	if (out->tainted || out->p[0] != '/' || memchr(out->p, 0, out->len))
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is %s", name, STR_FMT(str_sub(*out, 0, 200)), out->tainted ? "tainted" : "no absolute path");
	return ST_OK;
}

/* With file_expand the text is made here, whole. */
static enum status text_make(struct route *rt, const struct site_transport *t, struct ipc_plan *plan, struct err *err)
{
	struct str text, path, more;
	struct lang_file file;
	enum status st = text_expand(rt, t->reply->text, "text", &text, err);

	if (st == ST_OK)
		st = path_make(rt, t->reply->file, "file", &path, err);
	if (st != ST_OK)
		return st;
	if (path.len && t->autoreply->file_expand) {
		st = lang_file_read(NULL, rt->a, path, &file, err);
		if (st == ST_OK)
			st = expand_text(rt->ev, file.content, &more, err);
		else if (t->autoreply->file_optional)
			st = ST_FAIL;
		else if (st == ST_FAIL)
			st = err_set(err, ST_DEFER, "there is no file %.*s", STR_FMT(path));
		if (st != ST_OK && st != ST_FAIL)
			return err_prefix(err, "file");
		if (st == ST_OK)
			text = str_printf(rt->a, "%.*s%.*s", STR_FMT(text), STR_FMT(more));
		err_clear(err);
	} else if (path.len) {
		option_add(plan, "file", path);
	}
	if (text.len)
		option_add(plan, "text", text);
	return ST_OK;
}

static enum status path_option(struct route *rt, const struct expansion *x, const char *name, struct ipc_plan *plan, struct err *err)
{
	struct str path;
	enum status st = path_make(rt, x, name, &path, err);

	if (st == ST_OK && path.len)
		option_add(plan, name, path);
	return st;
}

enum status route_reply(struct route *rt, const struct site_transport *t, struct ipc_plan *plan, struct err *err)
{
	const struct site_reply *r = t->reply;
	enum status st = recipients_make(rt, r, r->to, "to", plan, err);

	if (st == ST_OK)
		st = recipients_make(rt, r, r->cc, "cc", plan, err);
	if (st == ST_OK)
		st = recipients_make(rt, r, r->bcc, "bcc", plan, err);
	if (st == ST_OK)
		st = text_make(rt, t, plan, err);
	if (st == ST_OK)
		st = path_option(rt, r->log, "log", plan, err);
	return st == ST_OK ? path_option(rt, r->once, "once", plan, err) : st;
}

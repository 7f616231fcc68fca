/* SPDX-License-Identifier: ISC */
/* driver_redirect.c - turns an address into others: aliases, forward files (specification, chapter 22). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/lang/rewrite.h"
#include "common/mail/address.h"
#include "router/owner_file.h"
#include "router/redirect.h"
#include "router/redirect_list.h"
#include "router/route.h"

enum { INCLUDE_DEPTH_MAX = 10, INCLUDES_MAX = 200 /* files that one redirection reads */, ERRORS_MAX = 16384 /* octets of what syntax_errors_to is told */, FILE_MAX = 4 * 1024 * 1024 /* octets of a forward file or list */ };

struct own {
	const struct conf_opts_router_redirect *o;
	struct expansion *data, *file, *qualify, *file_transport, *directory_transport, *pipe_transport, *errors_to, *errors_text;
	bool check_owner, check_group;
	struct str *owners, *owngroups;
	uint32_t n_owners, n_owngroups;
};

static void words_make(struct site *site, struct str list, struct str **out, uint32_t *n_out)
{
	struct lang_split split = LANG_SPLIT(list);
	struct str item;

	while (list.len && lang_split_next(&split, &site->arena, &item)) {
		struct str *more = arena_alloc(&site->arena, (*n_out + 1) * sizeof *more);
		if (*n_out)
			memcpy(more, *out, *n_out * sizeof *more);
		more[(*n_out)++] = str_dup(&site->arena, item);
		*out = more;
	}
}

static enum status redirect_compile(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router_redirect *o = CONF_OWN(r->conf, router_redirect);
	const struct conf_meta *meta = r->conf->own_meta;
	struct own *own = arena_alloc(&site->arena, sizeof *own);

	own->o = o;
	r->own = own;
	if (o->data.set == o->file.set)
		return err_set(err, ST_ERROR, "exactly one of data and file must be set");
	if (r->transport)
		return err_set(err, ST_ERROR, "a redirect router has no transport of its own (file_transport, pipe_transport)");
	if (o->one_time && (r->headers_add.n || r->headers_remove.n || (r->unseen && r->o->unseen.set)))
		return err_set(err, ST_ERROR, "one_time excludes headers_add, headers_remove and unseen");
	if (o->qualify_preserve_domain && o->qualify_domain.set)
		return err_set(err, ST_ERROR, "qualify_preserve_domain and qualify_domain exclude each other");
	if (site_text(site, &o->data, &own->data, err) != ST_OK || site_text(site, &o->file, &own->file, err) != ST_OK ||
		site_text(site, &o->qualify_domain, &own->qualify, err) != ST_OK ||
		site_text(site, &o->file_transport, &own->file_transport, err) != ST_OK ||
		site_text(site, &o->directory_transport, &own->directory_transport, err) != ST_OK ||
		site_text(site, &o->pipe_transport, &own->pipe_transport, err) != ST_OK ||
		site_text(site, &o->syntax_errors_to, &own->errors_to, err) != ST_OK ||
		site_text(site, &o->syntax_errors_text, &own->errors_text, err) != ST_OK)
		return err->status;
	words_make(site, o->owners.text, &own->owners, &own->n_owners);
	words_make(site, o->owngroups.text, &own->owngroups, &own->n_owngroups);
	own->check_owner = meta[CONF_INDEX(router_redirect, check_owner)].set ? o->check_owner : r->o->check_local_user || own->n_owners;
	own->check_group = meta[CONF_INDEX(router_redirect, check_group)].set ? o->check_group :
		(r->o->check_local_user && !(o->modemask & 020)) || own->n_owngroups;
	return ST_OK;
}

/* ---- where the data comes from ---- */

static bool owner_fits(struct route *rt, const struct own *own, const struct addr *addr, uid_t uid)
{
	struct user user;
	uint64_t n;

	if (addr->has_user && addr->uid == uid)
		return true;
	for (uint32_t i = 0; i < own->n_owners; i++) {
		if (str_u64(own->owners[i], UINT32_MAX, &n) ? n == uid : users_find(rt->r->users, own->owners[i], &user, NULL) == ST_OK && user.uid == uid)
			return true;
	}
	return false;
}

static bool group_fits(struct route *rt, const struct own *own, const struct addr *addr, gid_t gid)
{
	uint64_t n;

	if (addr->has_user && addr->gid == gid)
		return true;
	for (uint32_t i = 0; i < own->n_owngroups; i++)
		if (users_group(rt->r->users, own->owngroups[i], &n, NULL) == ST_OK && n == gid)
			return true;
	return false;
}

static enum status file_allowed(struct route *rt, const struct own *own, const struct addr *addr, const struct stat *st, const char *path,
	struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, ST_DEFER, "%s is no regular file", path);
	if (st->st_mode & (mode_t)own->o->modemask & 07777)
		return err_set(err, ST_DEFER, "%s: bad mode 0%o: 0%o is not allowed (modemask)", path, (unsigned)st->st_mode & 07777,
			(unsigned)(st->st_mode & (mode_t)own->o->modemask & 07777));
	if (own->check_owner && !owner_fits(rt, own, addr, st->st_uid))
		return err_set(err, ST_DEFER, "%s: bad owner, uid %u", path, (unsigned)st->st_uid);
	if (own->check_group && !group_fits(rt, own, addr, st->st_gid))
		return err_set(err, ST_DEFER, "%s: bad group, gid %u", path, (unsigned)st->st_gid);
	if (st->st_size > FILE_MAX)
		return err_set(err, ST_DEFER, "%s is longer than %d octets", path, FILE_MAX);
	return ST_OK;
}

/* The file is not there. Where its directory is not there either, a file system may be missing: nobody knows. */
static enum status file_absent(const struct own *own, struct arena *a, const char *path, int error, struct err *err)
{
	struct str dir = str_of(path);
	struct stat st;

	if (error == EACCES && own->o->ignore_eacces)
		return ST_FAIL;
	if (error == ENOTDIR && own->o->ignore_enotdir)
		return ST_FAIL;
	if (error == EACCES)
		return err_set(err, ST_DEFER, "%s: %s for router's user, uid %u (ignore_eacces passes over such files)", path, strerror(error), (unsigned)geteuid());
	if (error != ENOENT)
		return err_set(err, ST_DEFER, "%s: %s", path, strerror(error));
	dir = str_sub(dir, 0, (size_t)str_rfind(dir, '/'));
	if (!own->o->ignore_enotdir && dir.len && stat(str_cstr(a, dir), &st))
		return err_set(err, ST_DEFER, "%.*s: %s: is a file system missing?", STR_FMT(dir), strerror(errno));
	return ST_FAIL;
}

/* ST_FAIL: there is none. */
static enum status file_read(struct route *rt, const struct own *own, const struct addr *addr, const char *path, struct str *out, struct file_owner *owner,
	struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	enum status s;
	size_t n = 0;
	char *p;

	if (fd < 0)
		return file_absent(own, rt->a, path, errno, err);
	s = fstat(fd, &st) ? err_set(err, ST_DEFER, "%s: %s", path, strerror(errno)) : file_allowed(rt, own, addr, &st, path, err);
	if (s == ST_OK) {
		file_owner_of(&st, owner);
		p = arena_alloc(rt->a, (size_t)st.st_size + 1);
		while (n < (size_t)st.st_size) {
			ssize_t got = read(fd, p + n, (size_t)st.st_size - n);
			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				s = err_set(err, ST_DEFER, "%s: %s", path, strerror(errno));
			if (got <= 0)
				break;
			n += (size_t)got;
		}
		*out = str_make(p, n);
	}
	close(fd);
	return s;
}

/* *owner: whose words it is. */
static enum status data_get(struct route *rt, const struct own *own, const struct addr *addr, struct str *out, struct file_owner *owner, struct err *err)
{
	struct str path;
	enum status st;

	*owner = (struct file_owner){ .anybody = true };

	if (own->data) {
		st = route_expand(rt, own->data, out, err);
		return st == ST_OK || st == ST_FAIL ? st : err_prefix(err, "data");
	}
	st = route_expand(rt, own->file, &path, err);
	if (st == ST_FAIL)
		return st;
	if (st != ST_OK)
		return err_prefix(err, "file");
	path = str_trim(path);
	if (path.tainted)
		return err_set(err, ST_ERROR, "file: the path \"%.*s\" is tainted, since it holds text from a stranger; use $home or $local_part_data",
			STR_FMT(path));
	if (!path.len || path.p[0] != '/' || memchr(path.p, 0, path.len))
		return err_set(err, ST_ERROR, "file: \"%.*s\" is no absolute path", STR_FMT(path));
	return file_read(rt, own, addr, str_cstr(rt->a, path), out, owner, err);
}

/* ---- what the items do ---- */

struct work {
	struct route *rt;
	struct addr *addr;
	const struct site_router *r;
	const struct own *own;
	struct driver_out *out;
	struct hash seen;            /* addresses made, once each */
	uint32_t made, skipped, includes;
	struct buf errors;           /* what syntax_errors_to is told */
	bool enough;                 /* the rest of the data does not count */
	bool over;                   /* the verdict is in `verdict` */
	enum verdict verdict;
};

static enum verdict work_end(struct work *w, enum verdict verdict)
{
	w->over = true;
	w->verdict = verdict;
	return verdict;
}

static enum status forbidden(const char *what, const char *option, struct err *err)
{
	return err_set(err, ST_ERROR, "%s is not permitted in this router (%s)", what, option);
}

static enum status qualify(struct work *w, const struct redirect_item *item, struct str *out, struct err *err)
{
	struct route *rt = w->rt;
	struct str local, domain = lang_qualify_recipient(rt->r->lang), text = item->text;
	enum status st;

	*out = text;
	if (address_split(text, &local, &domain) && domain.len)
		return ST_OK;
	domain = lang_qualify_recipient(rt->r->lang);
	if (item->backslash || w->own->o->qualify_preserve_domain) {
		domain = w->addr->domain;
	} else if (w->own->qualify) {
		st = route_expand(rt, w->own->qualify, &domain, err);
		if (st != ST_OK)
			return st == ST_FAIL ? st : err_prefix(err, "qualify_domain");
	}
	*out = str_printf(rt->a, "%.*s@%.*s", STR_FMT(text), STR_FMT(domain));
	out->tainted = true;
	return ST_OK;
}

static bool is_ancestor(struct route *rt, const struct addr *addr, struct str text)
{
	struct str local, domain;

	address_split(text, &local, &domain);
	for (const struct addr *p = addr->parent; p; p = p->parent)
		if (str_eqi(p->domain, domain) && str_eqi(p->local, address_local_unquote(rt->a, local)))
			return true;
	return false;
}

static enum status item_address(struct work *w, const struct redirect_item *item, struct err *err)
{
	struct str text;
	enum status st = qualify(w, item, &text, err);

	if (st == ST_FAIL) {
		work_end(w, RT_DECLINE);
		return ST_OK;
	}
	if (st != ST_OK)
		return st;
	if (text.len > 1000)
		return err_set(err, ST_ERROR, "an address of more than 1000 octets");
	if (w->own->o->rewrite)
		text = rewrite_address(w->rt->ev, REWRITE_ENV_TO, text);
	if (w->own->o->check_ancestor && is_ancestor(w->rt, w->addr, text))
		text = w->addr->text;
	if (hash_get(&w->seen, text))
		return ST_OK;
	text = str_dup(w->rt->a, text);
	hash_put(&w->seen, text, w);
	w->made++;
	return route_child(w->rt, w->addr, w->r, KIND_ADDRESS, text, NULL, err);
}

static enum status item_transport(struct work *w, struct expansion *x, const char *option, const char *what, const struct site_transport **out,
	struct err *err)
{
	struct str name;
	enum status st;

	if (!x)
		return err_set(err, ST_ERROR, "delivery to %s is refused: %s is not set", what, option);
	st = route_expand(w->rt, x, &name, err);
	if (st != ST_OK) {
		err_prefix(err, "%s", option);
		return st == ST_FAIL ? err_set(err, ST_ERROR, "%s: forced failure", option) : st;
	}
	if (name.tainted)
		return err_set(err, ST_ERROR, "%s: the name is tainted", option);
	*out = site_transport_find(w->rt->site, str_trim(name));
	return *out ? ST_OK : err_set(err, ST_ERROR, "%s: there is no transport \"%.*s\"", option, STR_FMT(name));
}

static enum status item_path(struct work *w, const struct redirect_item *item, struct err *err)
{
	const struct conf_opts_router_redirect *o = w->own->o;
	const struct site_transport *t = NULL;
	bool pipe = item->kind == REDIRECT_PIPE, dir = item->kind == REDIRECT_DIRECTORY;
	enum status st;

	/* an address that leads there exists, and verifies, all the same */
	if (!route_is_verify(w->rt) && (o->one_time || (pipe ? o->forbid_pipe : o->forbid_file)))
		return forbidden(pipe ? "a pipe" : "a file", o->one_time ? "one_time" : pipe ? "forbid_pipe" : "forbid_file", err);
	if (item->kind != REDIRECT_NOWHERE && !(route_is_verify(w->rt))) {
		st = item_transport(w, pipe ? w->own->pipe_transport : dir ? w->own->directory_transport : w->own->file_transport,
			pipe ? "pipe_transport" : dir ? "directory_transport" : "file_transport", pipe ? "a pipe" : dir ? "a directory" : "a file", &t, err);
		if (st != ST_OK)
			return st;
	}
	w->made++;
	return route_child(w->rt, w->addr, w->r, pipe ? KIND_PIPE : dir ? KIND_DIRECTORY : KIND_FILE, str_dup(w->rt->a, item->text), t, err);
}

/* :fail: and :defer:, with their texts and codes. */
static enum status item_refusal(struct work *w, const struct redirect_item *item, struct err *err)
{
	const struct conf_opts_router_redirect *o = w->own->o;
	struct str text = item->text, status = STR_NULL;
	bool fail = item->kind == REDIRECT_FAIL;

	if (fail && !o->allow_fail)
		return forbidden(":fail:", "allow_fail", err);
	if (!fail && !o->allow_defer)
		return forbidden(":defer:", "allow_defer", err);
	redirect_codes_take(&text, fail ? '5' : '4', &status);
	if (!o->forbid_smtp_code) {
		/* the code stays in the text: it is the reply's when an ACL verifies the address */
		w->out->status = status;
		text = item->text;
	} else {
		redirect_codes_drop(&text);
	}
	w->out->told = true;
	err_set(err, fail ? ST_FAIL : ST_DEFER, "%.*s", STR_FMT(text));
	if (!text.len)
		err_set(err, err->status, fail ? "address is refused" : "address is deferred");
	work_end(w, fail ? RT_FAIL : RT_DEFER);
	return ST_OK;
}

static enum status item_verdict(struct work *w, const struct redirect_item *item, struct err *err)
{
	if (item->kind == REDIRECT_BLACKHOLE && w->own->o->forbid_blackhole)
		return forbidden(":blackhole:", "forbid_blackhole", err);
	if (item->kind == REDIRECT_UNKNOWN && w->made) {
		w->enough = true; /* what stands before it holds */
		return ST_OK;
	}
	work_end(w, item->kind == REDIRECT_BLACKHOLE ? RT_DISCARD : RT_DECLINE);
	return ST_OK;
}

static enum status data_work(struct work *w, struct str data, const struct file_owner *owner, unsigned depth, struct err *err);

static enum status item_include(struct work *w, struct str path, const struct file_owner *owner, unsigned depth, struct err *err)
{
	struct str dir = w->own->o->include_directory.text, text;
	struct file_owner next;
	enum status st;

	if (w->own->o->forbid_include)
		return forbidden(":include:", "forbid_include", err);
	if (path.tainted)
		return err_set(err, ST_ERROR, ":include: the path \"%.*s\" is tainted (it comes from a stranger)", STR_FMT(path));
	if (!path.len || path.p[0] != '/')
		return err_set(err, ST_ERROR, ":include: \"%.*s\" is no absolute path", STR_FMT(path));
	if (dir.len && str_find_str(path, STR_LIT("/../")) >= 0)
		return err_set(err, ST_ERROR, ":include: %.*s: with \"..\" it may leave %.*s (include_directory)", STR_FMT(path), STR_FMT(dir));
	if (dir.len && !(path.len > dir.len && str_eq(str_sub(path, 0, dir.len), dir) && (path.p[dir.len] == '/' || dir.p[dir.len - 1] == '/')))
		return err_set(err, ST_ERROR, ":include: %.*s is not in %.*s (include_directory)", STR_FMT(path), STR_FMT(dir));
	if (depth == INCLUDE_DEPTH_MAX)
		return err_set(err, ST_ERROR, ":include: more than %d files in one another", INCLUDE_DEPTH_MAX);
	/* Each may name many more. */
	if (w->includes++ == INCLUDES_MAX)
		return err_set(err, ST_ERROR, ":include: more than %d files", INCLUDES_MAX);
	st = owner_file_read(w->rt->a, path, owner, dir, &text, &next, err);
	if (st == ST_OK)
		st = data_work(w, text, &next, depth + 1, err);
	else if (st == ST_FAIL)
		st = err_set(err, ST_DEFER, "there is no file %.*s", STR_FMT(path));
	return st == ST_OK ? ST_OK : err_prefix(err, ":include:");
}

static enum status item_bad(struct work *w, const struct redirect_item *item, struct err *err)
{
	if (!w->own->o->skip_syntax_errors)
		return err_set(err, ST_ERROR, "syntax error in redirection data: %.*s", STR_FMT(item->text));
	w->skipped++;
	buf_printf(&w->errors, "  %.*s\n", STR_FMT(item->text));
	if (w->skipped <= 20)
		router_log(w->rt->r, LOG_MAIN, "router %.*s: %.*s: skipped in redirection data: %.*s", STR_FMT(w->r->conf->name), STR_FMT(w->addr->text),
			STR_FMT(item->text));
	return ST_OK;
}

static enum status data_work(struct work *w, struct str data, const struct file_owner *owner, unsigned depth, struct err *err)
{
	struct redirect_scan scan = REDIRECT_SCAN(data);
	struct redirect_item item;
	enum status st = ST_OK;

	while (st == ST_OK && !w->over && !w->enough && redirect_next(&scan, w->rt->a, &item)) {
		switch (item.kind) {
		case REDIRECT_ADDRESS: st = item_address(w, &item, err); break;
		case REDIRECT_FILE:
		case REDIRECT_DIRECTORY:
		case REDIRECT_NOWHERE:
		case REDIRECT_PIPE: st = item_path(w, &item, err); break;
		case REDIRECT_INCLUDE: st = item_include(w, item.text, owner, depth, err); break;
		case REDIRECT_FAIL:
		case REDIRECT_DEFER: st = item_refusal(w, &item, err); break;
		case REDIRECT_BLACKHOLE:
		case REDIRECT_UNKNOWN: st = item_verdict(w, &item, err); break;
		case REDIRECT_BAD: st = item_bad(w, &item, err); break;
		}
	}
	return st;
}

/* Children of a redirection that came to nothing are taken out of the queue again. */
struct mark {
	struct addr **end;
	uint32_t n;
};

static void mark_return(struct route *rt, const struct mark *m)
{
	*m->end = NULL;
	rt->queue_end = m->end;
	rt->n_addrs = m->n;
}

static bool is_filter(struct str data)
{
	return str_beginsi(data, "#exim filter") || str_beginsi(data, "# exim filter") || str_beginsi(data, "#sieve filter") ||
		str_beginsi(data, "# sieve filter");
}

/* The message to syntax_errors_to; only when mail is really on its way. */
static void errors_tell(struct work *w)
{
	struct route *rt = w->rt;
	struct str to = w->own->o->syntax_errors_to.text, head = STR_NULL;
	struct err err = ERR_INIT;
	struct ipc_notice *n;

	if (!w->own->errors_to || rt->mode != MODE_DELIVER || rt->nested || rt->n_notices == ROUTE_NOTICES_MAX)
		return;
	if (route_expand(rt, w->own->errors_to, &to, &err) != ST_OK || (w->own->errors_text &&
		route_expand(rt, w->own->errors_text, &head, &err) == ST_ERROR)) {
		router_log(rt->r, LOG_MAIN | LOG_PANIC, "router %.*s: syntax_errors_to, syntax_errors_text: %s", STR_FMT(w->r->conf->name), err.text);
		return;
	}
	n = &rt->notices[rt->n_notices++];
	n->to = str_sub(str_trim(to), 0, 1024);
	if (str_find(n->to, '@') < 0)
		n->to = str_printf(rt->a, "%.*s@%.*s", STR_FMT(n->to), STR_FMT(lang_qualify_recipient(rt->r->lang)));
	n->text = str_printf(rt->a, "%.*s%sThe following error(s) have been detected in the redirection data of\n%.*s (router %.*s):\n\n%.*s",
		STR_FMT(str_sub(head, 0, ROUTE_NOTICE_TEXT_MAX / 4)), head.len ? "\n\n" : "", STR_FMT(str_sub(w->addr->text, 0, 1000)),
		STR_FMT(w->r->conf->name), STR_FMT(buf_str(&w->errors)));
}

/* RT_DECLINE: the data makes nothing. */
static enum verdict data_run(struct route *rt, struct addr *addr, const struct site_router *r, const struct own *own, struct str data,
	const struct file_owner *owner, struct driver_out *out, struct err *err)
{
	struct mark mark = { rt->queue_end, rt->n_addrs };
	struct work w = { .rt = rt, .addr = addr, .r = r, .own = own, .out = out, .errors = BUF_LIMIT(ERRORS_MAX) };
	enum status st = ST_OK;

	if (is_filter(data))
		st = err_set(err, ST_ERROR, "the data is a filter: Exim and Sieve filters are not implemented");
	if (st == ST_OK && !route_is_verify(rt))
		st = route_delivery_options(rt, addr, r, err);
	if (st == ST_OK) {
		addr->one_time |= own->o->one_time;
		addr->hide_child |= own->o->hide_child_in_errmsg;
		st = data_work(&w, data, owner, 0, err);
		hash_clear(&w.seen);
		if (st == ST_OK && w.skipped)
			errors_tell(&w);
		buf_clear(&w.errors);
	}
	if (st != ST_OK || w.over || !w.made)
		mark_return(rt, &mark);
	if (st != ST_OK)
		return RT_DEFER;
	if (w.over)
		return w.verdict;
	if (!w.made)
		err_clear(err);
	return w.made ? RT_REDIRECT : RT_DECLINE;
}

static enum verdict redirect_run(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	struct file_owner owner;
	struct str data;
	enum status st = data_get(rt, r->own, addr, &data, &owner, err);

	if (st == ST_OK)
		return data_run(rt, addr, r, r->own, data, &owner, out, err);
	if (st != ST_FAIL)
		return RT_DEFER;
	err_clear(err);
	return RT_DECLINE;
}

enum verdict redirect_text(struct route *rt, struct addr *addr, const struct site_router *r, struct str data, struct driver_out *out, struct err *err)
{
	static const struct conf_opts_router_redirect may = { .allow_fail = true, .forbid_blackhole = true, .forbid_file = true,
		.forbid_include = true, .forbid_pipe = true, .rewrite = true };
	static const struct own own = { .o = &may };
	static const struct file_owner nobodys = { .anybody = true }; /* no files are included */
	enum verdict verdict = data_run(rt, addr, r, &own, data, &nobodys, out, err);

	if (verdict == RT_DECLINE) {
		err_set(err, ST_ERROR, "no addresses supplied");
		verdict = RT_DEFER;
	}
	if (verdict == RT_DEFER)
		err_prefix(err, "error in redirect data");
	return verdict;
}

const struct router_driver router_redirect = { &conf_table_router_redirect, redirect_compile, redirect_run, true };

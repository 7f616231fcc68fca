/* SPDX-License-Identifier: ISC */
/* route_pre.c - whether a router runs for an address: its preconditions, in the order of the specification's section 3.12. */
#include "router/route.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mail/affix.h"

struct check {
	struct route *rt;
	struct addr *addr;
	const struct site_router *r;
};

/* ---- affixes ---- */

static enum status check_affixes(const struct check *c, struct err *err)
{
	struct addr *addr = c->addr;
	const struct site_router *r = c->r;
	struct str local = r->o->caseful_local_part ? addr->local : addr->local_lower;
	size_t n = 0, wild;

	for (uint32_t i = 0; i < r->n_prefixes && !n; i++)
		n = affix_prefix(local, r->prefixes[i], &wild);
	if (n) {
		addr->prefix = str_sub(local, 0, n);
		addr->prefix_v = str_sub(local, 0, wild);
		local = str_from(local, n);
	} else if (r->n_prefixes && !r->o->local_part_prefix_optional) {
		return err_set(err, ST_FAIL, "no prefix in local_part_prefix matches");
	}
	n = 0;
	for (uint32_t i = 0; i < r->n_suffixes && !n; i++)
		n = affix_suffix(local, r->suffixes[i], &wild);
	if (n) {
		addr->suffix = str_from(local, local.len - n);
		addr->suffix_v = str_from(local, local.len - wild);
		local = str_sub(local, 0, local.len - n);
	} else if (r->n_suffixes && !r->o->local_part_suffix_optional) {
		return err_set(err, ST_FAIL, "no suffix in local_part_suffix matches");
	}
	addr->lp = local;
	return ST_OK;
}

/* ---- what the router is for ---- */

static enum status check_mode(const struct check *c, struct err *err)
{
	const struct conf_opts_router *o = c->r->o;
	enum route_mode mode = c->rt->mode;

	if (mode == MODE_VERIFY_RECIPIENT && !c->r->verify_recipient)
		return err_set(err, ST_FAIL, "not for verifying recipients (no_verify_recipient)");
	if (mode == MODE_VERIFY_SENDER && !c->r->verify_sender)
		return err_set(err, ST_FAIL, "not for verifying senders (no_verify_sender)");
	if ((mode == MODE_TEST || mode == MODE_EXPN) && !o->address_test) /* EXPN is a test of an address, too */
		return err_set(err, ST_FAIL, "not for address tests (no_address_test)");
	if (mode == MODE_EXPN && !o->expn)
		return err_set(err, ST_FAIL, "not for EXPN (no_expn)");
	if (o->verify_only && !route_is_verify(c->rt))
		return err_set(err, ST_FAIL, "for verification only (verify_only)");
	addr_enter(c->rt, c->addr, c->r);
	return ST_OK;
}

/* ---- lists ---- */

static enum status list_result(enum status st, const char *option, struct err *err)
{
	if (st == ST_OK)
		return ST_OK;
	if (st == ST_FAIL)
		return err_set(err, ST_FAIL, "%s does not match", option);
	return err_prefix(err, "%s", option);
}

static enum status check_domains(const struct check *c, struct err *err)
{
	struct lang_list_match match = { STR_NULL, STR_NULL };
	enum status st;

	if (!c->r->domains)
		return ST_OK;
	st = lang_domain_match(c->rt->ev, c->r->domains, c->addr->domain, &match, err);
	if (st == ST_OK) {
		c->addr->domain_data = match.data;
		eval_set(c->rt->ev, EV_domain_data, match.data);
	}
	return list_result(st, "domains", err);
}

static enum status check_local_parts(const struct check *c, struct err *err)
{
	struct lang_list_match match = { STR_NULL, STR_NULL };
	enum status st;

	if (!c->r->local_parts)
		return ST_OK;
	st = lang_local_part_match(c->rt->ev, c->r->local_parts, c->addr->lp, c->r->o->caseful_local_part, &match, err);
	if (st == ST_OK) {
		c->addr->local_part_data = match.data;
		eval_set(c->rt->ev, EV_local_part_data, match.data);
	}
	return list_result(st, "local_parts", err);
}

static enum status check_senders(const struct check *c, struct err *err)
{
	struct lang_list_match match = { STR_NULL, STR_NULL };
	enum status st;

	if (!c->r->senders)
		return ST_OK;
	st = lang_address_match(c->rt->ev, c->r->senders, c->rt->facts->sender, &match, err);
	if (st == ST_OK)
		eval_set(c->rt->ev, EV_sender_data, match.data);
	return list_result(st, "senders", err);
}

/* ---- logins ---- */

static enum status check_user(const struct check *c, struct err *err)
{
	struct addr *addr = c->addr;
	struct eval *ev = c->rt->ev;
	struct str name = addr->lp;
	uint64_t max = (uint64_t)c->rt->r->conf->main.max_username_length;
	struct user user;
	enum status st;

	if (!c->r->o->check_local_user)
		return ST_OK;
	/* a name longer than max_username_length is nobody's */
	st = max && name.len > max ? ST_FAIL : users_find(c->rt->r->users, name, &user, err);
	if (st == ST_FAIL)
		return err_set(err, ST_FAIL, "the local part is no login (check_local_user)");
	if (st != ST_OK)
		return err_prefix(err, "check_local_user");
	addr->has_user = true;
	addr->uid = user.uid;
	addr->gid = user.gid;
	addr->user = str_dup(c->rt->a, user.name); /* the table may be read anew */
	addr->home = str_dup(c->rt->a, user.home);
	if (!addr->local_part_data.p)
		addr->local_part_data = addr->user;
	eval_set(ev, EV_local_part_data, addr->local_part_data);
	eval_set(ev, EV_home, addr->home);
	eval_set(ev, EV_local_user_uid, str_printf(c->rt->a, "%llu", (unsigned long long)user.uid));
	eval_set(ev, EV_local_user_gid, str_printf(c->rt->a, "%llu", (unsigned long long)user.gid));
	return ST_OK;
}

static enum status check_home(const struct check *c, struct err *err)
{
	struct str value;
	enum status st;

	if (!c->r->home)
		return ST_OK;
	st = route_expand(c->rt, c->r->home, &value, err);
	if (st == ST_FAIL)
		return ST_OK;
	if (st != ST_OK)
		return err_prefix(err, "router_home_directory");
	eval_set(c->rt->ev, EV_home, value);
	c->addr->router_home = value;
	return ST_OK;
}

/* ---- files ---- */

/* Whose access counts, once an item of require_files named a user. */
struct file_user {
	bool named;
	uint64_t uid, gid;
};

struct file_check {
	bool negated, lenient;   /* "!", "+" */
	struct str path;
	const struct file_user *user;
};

/* The permissions alone are looked at, like Exim does: "x" of the directories, "r" of the file. */
static bool mode_allows(const struct stat *st, const struct file_user *u, unsigned bit)
{
	unsigned shift = st->st_uid == u->uid ? 6 : st->st_gid == u->gid ? 3 : 0;

	return u->uid == 0 || st->st_mode & (bit << shift);
}

/* EACCES where the user may not read it, else what stat() says. */
static int file_error(const struct check *c, const struct file_check *f)
{
	struct stat st;

	for (uint32_t i = 1; f->user->named && i < f->path.len; i++) {
		if (f->path.p[i] != '/')
			continue;
		if (stat(str_cstr(c->rt->a, str_sub(f->path, 0, i)), &st))
			return errno;
		if (S_ISDIR(st.st_mode) && !mode_allows(&st, f->user, 01))
			return EACCES;
	}
	if (stat(str_cstr(c->rt->a, f->path), &st))
		return errno;
	return f->user->named && !mode_allows(&st, f->user, 04) ? EACCES : 0;
}

static enum status file_exists(const struct check *c, const struct file_check *f, bool *out, struct err *err)
{
	int error;

	if (f->path.tainted)
		return err_set(err, ST_ERROR, "the path \"%.*s\" is tainted (it comes from a stranger)", STR_FMT(f->path));
	if (f->path.p[0] != '/' || memchr(f->path.p, 0, f->path.len))
		return err_set(err, ST_ERROR, "\"%.*s\" is no absolute path", STR_FMT(f->path));
	error = file_error(c, f);
	*out = !error;
	if (!error || error == ENOENT || (error == EACCES && f->lenient))
		return ST_OK;
	return err_set(err, ST_DEFER, "%.*s: %s", STR_FMT(f->path), strerror(error));
}

/* "user" or "user,group". */
static enum status file_user_set(const struct check *c, struct str item, struct file_user *out, struct err *err)
{
	ptrdiff_t comma = str_find(item, ',');
	struct str name = str_trim(str_sub(item, 0, comma < 0 ? item.len : (size_t)comma));
	struct user user = { .gid = 0 };
	enum status st = ST_OK;
	bool number = str_u64(name, UINT32_MAX, &out->uid);

	if (!number) {
		st = users_find(c->rt->r->users, name, &user, err);
		if (st == ST_FAIL)
			st = err_set(err, ST_DEFER, "there is no login \"%.*s\"", STR_FMT(name));
	}
	if (st != ST_OK)
		return st;
	if (!number)
		out->uid = user.uid;
	out->gid = user.gid;
	out->named = true;
	if (comma < 0)
		return number ? err_set(err, ST_DEFER, "\"%.*s\": a user by number needs a group behind it (user,group)", STR_FMT(name)) : ST_OK;
	st = users_group(c->rt->r->users, str_trim(str_from(item, (size_t)comma + 1)), &out->gid, err);
	return st == ST_FAIL ? err_set(err, ST_DEFER, "there is no group \"%.*s\"", STR_FMT(str_from(item, (size_t)comma + 1))) : st;
}

static enum status file_check_item(const struct check *c, struct str item, struct file_user *user, struct err *err)
{
	struct file_check f = { false, false, item, user };
	bool exists = false;
	enum status st;

	while (f.path.len && (f.path.p[0] == '!' || f.path.p[0] == '+')) {
		f.negated |= f.path.p[0] == '!';
		f.lenient |= f.path.p[0] == '+';
		f.path = str_trim(str_from(f.path, 1));
	}
	if (!f.path.len)
		return ST_OK;
	if (str_find(f.path, '/') < 0)
		return file_user_set(c, f.path, user, err);
	st = file_exists(c, &f, &exists, err);
	if (st == ST_OK && exists == f.negated)
		return err_set(err, ST_FAIL, "%.*s %s", STR_FMT(f.path), exists ? "exists" : "does not exist");
	return st;
}

static enum status check_files(const struct check *c, struct err *err)
{
	struct file_user user = { false, 0, 0 };

	for (uint32_t i = 0; i < c->r->require_files.n; i++) {
		struct str item;
		enum status st = route_expand(c->rt, c->r->require_files.v[i], &item, err);
		if (st == ST_FAIL)
			continue;
		if (st == ST_OK)
			st = file_check_item(c, str_trim(item), &user, err);
		if (st != ST_OK)
			return err_prefix(err, "require_files");
	}
	return ST_OK;
}

/* ---- condition ---- */

static enum status check_condition(const struct check *c, struct err *err)
{
	for (uint32_t i = 0; i < c->r->condition.n; i++) {
		struct str value;
		enum status st = route_expand(c->rt, c->r->condition.v[i], &value, err);
		if (st == ST_DEFER || st == ST_ERROR)
			return err_prefix(err, "condition");
		if (st == ST_FAIL || !value.len || str_is(value, "0") || str_isi(value, "no") || str_isi(value, "false"))
			return err_set(err, ST_FAIL, "condition is false");
	}
	return ST_OK;
}

static enum status show_debug(const struct check *c, struct err *err)
{
	struct str text;

	(void)err;
	if (c->rt->trace_on && c->r->debug_print && route_expand(c->rt, c->r->debug_print, &text, NULL) == ST_OK)
		route_trace(c->rt, "%.*s", STR_FMT(text));
	return ST_OK;
}

/* One more precondition is one more row. */
static enum status (*const checks[])(const struct check *c, struct err *err) = {
	check_affixes, check_mode, check_domains, check_local_parts, check_user, check_home, show_debug, check_senders, check_files,
	check_condition,
};

enum status route_preconditions(struct route *rt, struct addr *addr, const struct site_router *r, struct err *err)
{
	const struct check c = { rt, addr, r };

	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
		enum status st = checks[i](&c, err);
		if (st != ST_OK)
			return st;
	}
	return ST_OK;
}

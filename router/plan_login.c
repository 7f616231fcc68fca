/* SPDX-License-Identifier: ISC */
/* plan_login.c - under which login a local delivery runs, and in which directories. */
#include <string.h>

#include "router/plan_impl.h"

struct login {
	bool has_uid, has_gid, gid_of_name;
	uint64_t uid, gid;         /* gid: that of the named user */
	struct str name;
};

static enum status login_find(struct making *m, const struct expansion *x, const char *option, struct login *out, struct err *err)
{
	struct str value;
	struct user user;
	bool got;
	enum status st = plan_expand(m, x, option, &value, &got, err);

	if (st != ST_OK || !got)
		return st;
	value = str_trim(value);
	out->name = value;
	out->has_uid = true;
	out->gid_of_name = false;
	if (str_u64(value, UINT32_MAX, &out->uid))
		return ST_OK;
	st = users_find(m->rt->r->users, value, &user, err);
	if (st != ST_OK) {
		err_prefix(err, "%s", option);
		return st == ST_FAIL ? err_set(err, ST_ERROR, "%s: there is no login \"%.*s\"", option, STR_FMT(value)) : st;
	}
	out->uid = user.uid;
	out->gid = user.gid;
	out->gid_of_name = true;
	return ST_OK;
}

static enum status group_find(struct making *m, const struct expansion *x, uint64_t *gid, bool *got, struct err *err)
{
	struct str value;
	enum status st = plan_expand(m, x, "group", &value, got, err);

	if (st != ST_OK || !*got)
		return st;
	st = users_group(m->rt->r->users, str_trim(value), gid, err);
	return st == ST_FAIL ? err_set(err, ST_ERROR, "group: there is no group \"%.*s\"", STR_FMT(value)) : st;
}

/* pipe_as_creator: whoever submitted the message here. */
static void creator_take(struct making *m, struct login *out, uint64_t *gid, bool *got)
{
	const struct ipc_facts *f = m->rt->facts;

	if (!f->local || !f->uid || !f->gid)
		return;
	*out = (struct login){ .has_uid = true, .uid = f->uid - 1, .name = f->ident };
	if (!*got)
		*gid = f->gid - 1;
	*got = true;
}

/* The order of preference of the specification's section 23.2. */
enum status plan_login(struct making *m, struct err *err)
{
	struct login of_router = { false, false, false, 0, 0, STR_NULL }, of_transport = of_router, *chosen = &of_router;
	uint64_t gid = 0;
	bool got = false;
	enum status st;

	if (!plan_is_local(m->t))
		return ST_OK;
	if (m->addr->has_user)
		of_router = (struct login){ true, true, true, m->addr->uid, m->addr->gid, m->addr->user };
	st = login_find(m, m->r->user, "user", &of_router, err);
	if (st == ST_OK)
		st = login_find(m, m->t->user, "user", &of_transport, err);
	if (st == ST_OK && m->t->group)
		st = group_find(m, m->t->group, &gid, &got, err);
	if (st == ST_OK && !got && m->r->group)
		st = group_find(m, m->r->group, &gid, &got, err);
	if (st != ST_OK)
		return st;
	if (m->t->pipe && m->t->pipe->pipe_as_creator && !of_transport.has_uid)
		creator_take(m, &of_router, &gid, &got);
	if (of_transport.has_uid)
		chosen = &of_transport;
	if (!chosen->has_uid)
		return m->rt->r->unprivileged ? ST_OK : err_set(err, ST_ERROR, "no login to deliver as: set user in the transport or the router, or "
			"check_local_user in the router");
	if (!got && (of_router.gid_of_name || of_transport.gid_of_name)) {
		gid = of_router.gid_of_name ? of_router.gid : of_transport.gid;
		got = true;
	}
	if (!got)
		return err_set(err, ST_ERROR, "user is a number, so group must be set, too");
	m->plan.uid = chosen->uid + 1;
	m->plan.gid = gid + 1;
	m->plan.user = str_sub(str_dup(m->rt->a, chosen->name), 0, 64);
	m->plan.initgroups = chosen == &of_transport ? m->t->o->initgroups : m->r->o->initgroups;
	return ST_OK;
}

enum status plan_home(struct making *m, struct err *err)
{
	struct str value = m->addr->home.p ? m->addr->home : m->addr->router_home;
	bool got;
	enum status st;

	if (!plan_is_local(m->t))
		return ST_OK;
	st = plan_expand(m, m->r->transport_home, "transport_home_directory", &value, &got, err);
	if (st == ST_OK)
		st = plan_expand(m, m->t->home, "home_directory", &value, &got, err);
	m->plan.home = value;
	eval_set(m->rt->ev, EV_home, value);
	return st;
}

/* Absolute, and no text of a stranger's; none: the home directory. */
enum status plan_directory(struct making *m, struct err *err)
{
	struct str value = m->plan.home;
	bool got;
	enum status st;

	if (!plan_is_local(m->t))
		return ST_OK;
	st = plan_expand(m, m->r->transport_directory, "transport_current_directory", &value, &got, err);
	if (st == ST_OK)
		st = plan_expand(m, m->t->directory, "current_directory", &value, &got, err);
	if (st != ST_OK || !value.len)
		return st;
	if (value.tainted || value.p[0] != '/' || value.len > 4000 || memchr(value.p, 0, value.len))
		return err_set(err, ST_ERROR, "current_directory: \"%.*s\" is %s", STR_FMT(str_sub(value, 0, 200)), value.tainted ? "tainted" : "no absolute path");
	m->plan.directory = value;
	return ST_OK;
}

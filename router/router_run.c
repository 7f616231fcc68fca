/* SPDX-License-Identifier: ISC */
/* router_run.c - programs are run by query processes; what they need is gathered here: whose login, how long. And ${run}, for expansions
 * here and in policyd. */
#include "common/base/clock.h"
#include "router/router.h"
#include "router/route.h"

enum status router_login_find(struct router *r, const char *prefix, const struct conf_text *user_option, const struct conf_text *group_option,
	struct worker_login *out, struct err *err)
{
	struct str name = str_trim(user_option->text), group_name = str_trim(group_option->text);
	struct user user = { .name = STR_NULL };
	uint64_t uid, gid = 0;
	enum status st = ST_OK;

	if (str_u64(name, UINT32_MAX, &uid)) {
		if (!group_name.len)
			st = err_set(err, ST_ERROR, "%s_user is a number: %s_group is needed", prefix, prefix);
	} else {
		st = users_find(r->users, name, &user, err);
		uid = user.uid;
		gid = user.gid;
		if (st == ST_FAIL)
			st = err_set(err, ST_ERROR, "%s_user: there is no login %.*s", prefix, STR_FMT(name));
	}
	if (st == ST_OK && group_name.len) {
		st = users_group(r->users, group_name, &gid, err);
		if (st == ST_FAIL)
			st = err_set(err, ST_ERROR, "%s_group: there is no group %.*s", prefix, STR_FMT(group_name));
	}
	*out = (struct worker_login){ (uid_t)uid, (gid_t)gid };
	return st;
}

enum status router_program_limit(const struct router *r, struct ipc_program_ask *ask, struct err *err)
{
	uint64_t now = clock_ms(), left;

	if (now + 1000 >= r->program_until_ms)
		return err_set(err, ST_DEFER, "programs took too long, all together");
	left = (r->program_until_ms - now) / 1000;
	if (!ask->limit_s || ask->limit_s > left)
		ask->limit_s = left;
	return ST_OK;
}

enum status router_run_service(void *ctx, struct arena *a, const struct ipc_program_ask *asked, struct ipc_program_answer *out, struct err *err)
{
	struct router *r = ctx;
	struct ipc_program_ask ask = *asked;
	struct worker_login login;

	(void)a;
	if (!r->program)
		return err_set(err, ST_DEFER, "programs can't be run here");
	if (router_login_find(r, "run", &r->conf->main.run_user, &r->conf->main.run_group, &login, err) != ST_OK ||
	    router_program_limit(r, &ask, err) != ST_OK)
		return err->status;
	return r->program(r->program_ctx, &login, &ask, out, (int)ask.limit_s * 1000 + ROUTER_PROGRAM_GRACE_MS, err);
}

void router_run_asked(struct router *r, struct arena *a, const struct ipc_program_ask *asked, struct ipc_program_answer *out)
{
	struct ipc_program_ask ask = { .argv = asked->argv, .limit_s = asked->limit_s }; /* programs of routers are not policyd's business */
	struct err err = ERR_INIT;

	*out = (struct ipc_program_answer){ .code = 0 };
	r->program_until_ms = clock_ms() + ROUTER_PROGRAM_MS;
	if (router_run_service(r, a, &ask, out, &err) != ST_OK)
		*out = (struct ipc_program_answer){ .text = str_of(arena_strdup(a, err.text)) };
}

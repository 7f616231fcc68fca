/* SPDX-License-Identifier: ISC */
/* master_channel.c - who may talk to whom: makes the channels, at start and on request. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "master/master.h"

/* ---- listeners ---- */

void child_listeners_send(struct child *c)
{
	if (!c->service->listens || !c->control)
		return;
	list_each(&c->m->listeners, n) {
		struct listener *l = list_entry(n, struct listener, node);
		struct ipc_ctl_listener msg = { .address = str_of(l->at.address), .port = l->at.port, .tls = l->at.tls, .submit = l->submit };
		int fd;

		if (!l->wanted)
			continue;
		fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			master_log(c->m, LOG_MAIN | LOG_PANIC, "no descriptor for a listener of %s: %s", c->name, strerror(errno));
			return;
		}
		channel_send(c->control, &ipc_type_ctl_listener, &msg, &fd, 1);
	}
}

/* ---- channels ---- */

static void end_send(struct child *to, const struct child *peer, uint64_t cookie, int fd)
{
	struct ipc_ctl_channel msg = {
		.peer = str_of(peer->service->name), .number = peer->number, .generation = peer->generation, .cookie = cookie
	};

	if (peer->service->on_demand) {
		msg.uid = (uint64_t)peer->uid + 1;
		msg.gid = (uint64_t)peer->gid + 1;
		msg.user = str_of(peer->groups_of);
	}
	channel_send(to->control, &ipc_type_ctl_channel, &msg, &fd, 1);
}

bool child_connect(struct child *from, struct child *to, uint64_t cookie, struct err *err)
{
	int pair[2];

	if (!from->control || !to->control) {
		err_set(err, ST_DEFER, "%s is not there", from->control ? to->name : from->name);
		return false;
	}
	if (!ipc_pair(pair, err))
		return false;
	end_send(from, to, cookie, pair[0]);
	end_send(to, from, 0, pair[1]);
	return true;
}

/* Whether these two belong together: the same generation, or one of the present one and a service that lives through reloads. */
static bool match(const struct child *a, const struct child *b)
{
	if (a->pending != b->pending || a->state == CHILD_DRAINING || b->state == CHILD_DRAINING)
		return false;
	return a->generation == b->generation || a->service->stays || b->service->stays;
}

void child_connect_all(struct child *c)
{
	struct err err = ERR_INIT;

	for (const struct service_link *row = service_links; row->from; row++) {
		bool from = !strcmp(row->from, c->service->name), to = !strcmp(row->to, c->service->name);

		if (row->on_need || (!from && !to))
			continue;
		list_each(&c->m->children, n) {
			struct child *other = list_entry(n, struct child, node);

			if (!other->control || strcmp(other->service->name, from ? row->to : row->from) != 0 || !match(c, other))
				continue;
			if (!child_connect(from ? c : other, from ? other : c, 0, &err))
				master_log(c->m, LOG_MAIN | LOG_PANIC, "no channel from %s to %s: %s", c->name, other->name, err.text);
		}
	}
}

/* The one that serves this asker: of its own generation if it lives, else of the present one. NULL: none now. */
static struct child *provider_find(struct master *m, const struct service *s, const struct child *asker)
{
	struct child *found = NULL;

	list_each(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->service != s || !c->control || s->on_demand)
			continue;
		if (c->generation == asker->generation && c->pending == asker->pending && c->state != CHILD_DRAINING)
			return c;
		if (c->generation == asker->generation && c->pending == asker->pending && asker->state == CHILD_DRAINING)
			return c;
		if (!c->pending && !c->leaving)
			found = c;
	}
	return asker->pending ? NULL : found;
}

void peers_reconnect(const struct child *dead)
{
	struct err err = ERR_INIT;

	for (const struct service_link *row = service_links; row->from; row++) {
		if (row->on_need || strcmp(row->to, dead->service->name) != 0)
			continue;
		list_each(&dead->m->children, n) {
			struct child *c = list_entry(n, struct child, node);
			struct child *provider;

			if (c->state != CHILD_DRAINING || !c->control || strcmp(c->service->name, row->from) != 0 || c->generation != dead->generation)
				continue;
			provider = provider_find(dead->m, dead->service, c);
			if (provider && provider != dead)
				child_connect(c, provider, 0, &err);
		}
	}
}

/* ---- requests ---- */

static void refuse(struct child *asker, uint64_t cookie, const char *text)
{
	struct ipc_ctl_refused msg = { .cookie = cookie, .text = str_of(text) };

	master_log(asker->m, LOG_MAIN | LOG_PANIC, "%s asked for a channel and was refused: %s", asker->name, text);
	if (asker->control)
		channel_send(asker->control, &ipc_type_ctl_refused, &msg, NULL, 0);
}

/* Who is given a channel at start may also ask for one, having lost it. */
static bool may_ask(const struct child *asker, const struct service *s)
{
	for (const struct service_link *row = service_links; row->from; row++)
		if (!strcmp(row->from, asker->service->name) && !strcmp(row->to, s->name))
			return true;
	return false;
}

enum { NAME_ROOM = 64, ENTRY_ROOM = 16384 };

static bool name_take(struct str name, char out[NAME_ROOM])
{
	if (name.len >= NAME_ROOM)
		return false;
	memcpy(out, name.p, name.len);
	out[name.len] = '\0';
	return true;
}

static bool user_is(struct str name, uid_t uid)
{
	char text[NAME_ROOM], room[ENTRY_ROOM];
	struct passwd pw, *found = NULL;
	uint64_t n;

	if (str_u64(name, UINT32_MAX, &n))
		return n == uid;
	return name_take(name, text) && getpwnam_r(text, &pw, room, sizeof room, &found) == 0 && found && found->pw_uid == uid;
}

static bool group_is(struct str name, gid_t gid)
{
	char text[NAME_ROOM], room[ENTRY_ROOM];
	struct group gr, *found = NULL;
	uint64_t n;

	if (str_u64(name, UINT32_MAX, &n))
		return n == gid;
	return name_take(name, text) && getgrnam_r(text, &gr, room, sizeof room, &found) == 0 && found && found->gr_gid == gid;
}

/* The group of that login. */
static bool user_group_is(struct str name, gid_t gid)
{
	char text[NAME_ROOM], room[ENTRY_ROOM];
	struct passwd pw, *found = NULL;

	return name_take(name, text) && getpwnam_r(text, &pw, room, sizeof room, &found) == 0 && found && found->pw_gid == gid;
}

/* Root, the daemons themselves and never_users deliver nothing. */
static bool uid_allowed(const struct master *m, uint64_t uid, uint64_t gid, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(m->conf->main.never_users.text);
	struct arena a = ARENA_INIT;
	bool ok = true;
	struct str item;

	if (!uid || !gid || uid > INT32_MAX || gid > INT32_MAX)
		return !err_set(err, ST_FAIL, "no delivery under uid %llu, gid %llu", (unsigned long long)uid, (unsigned long long)gid);
	if (!m->privileged)
		return uid == getuid() || !err_set(err, ST_FAIL, "no delivery under uid %llu: Bulkhead does not run as root", (unsigned long long)uid);
	while (ok && conf_list_next(&walk, &a, &item))
		if (item.len && user_is(item, (uid_t)uid))
			ok = !err_set(err, ST_FAIL, "no delivery under uid %llu: it is in never_users", (unsigned long long)uid);
	arena_clear(&a);
	for (const struct service *s = services; ok && s->name; s++) {
		uid_t own;
		gid_t group;

		if (!s->on_demand && !service_user(s, m->conf, &own, &group, NULL) && own == uid)
			ok = !err_set(err, ST_FAIL, "no delivery under uid %llu: it is %s's", (unsigned long long)uid, s->name);
	}
	return ok;
}

static bool ids_equal(const struct child *c, const struct need *need)
{
	return c->uid == need->uid && c->gid == need->gid && !strcmp(c->groups_of, need->groups_of);
}

/* Whether some transport of that kind may run under this uid. What an expansion says, or a login that a router finds, may be any. */
static bool user_fits(const struct conf_text *user, uid_t uid)
{
	return str_find(user->text, '$') >= 0 || user_is(str_trim(user->text), uid);
}

static bool router_fits(const struct conf *conf, uid_t uid)
{
	const struct conf_instances *r = &conf->of[CONF_ROUTERS];

	for (uint32_t i = 0; i < r->n; i++) {
		const struct conf_opts_router *o = r->v[i].generic;

		if (o->check_local_user || (o->user.set && user_fits(&o->user, uid)))
			return true;
	}
	return false;
}

static bool transport_fits(const struct conf *conf, const struct conf_instance *t, bool pipe, uid_t uid)
{
	const struct conf_opts_transport_pipe *p = CONF_OWN(t, transport_pipe);
	const struct conf_opts_transport *o = t->generic;

	if (!t->driver || (p != NULL) != pipe || (!p && t->driver->table != &conf_table_transport_appendfile &&
		t->driver->table != &conf_table_transport_autoreply))
		return false;
	return o->user.set ? user_fits(&o->user, uid) : (p && p->pipe_as_creator) || router_fits(conf, uid);
}

static bool group_named(const struct conf_text *group, gid_t gid)
{
	struct str name = str_trim(group->text);

	return group->set && (str_find(name, '$') >= 0 || group_is(name, gid));
}

/* A group that the uid's login has anyway. */
static bool group_own(uid_t uid, gid_t gid)
{
	struct passwd pw, *found = NULL;
	gid_t groups[256];
	char room[ENTRY_ROOM];
	int n = sizeof groups / sizeof *groups;

	if (getpwuid_r(uid, &pw, room, sizeof room, &found) || !found)
		return false;
	if (getgrouplist(pw.pw_name, pw.pw_gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* The transport's group, a router's, or one of the login's own: no other, or a queue manager that was taken over could read what belongs to
 * the groups shadow or disk. */
static bool group_fits(const struct conf *conf, const struct conf_instance *t, uid_t uid, gid_t gid)
{
	const struct conf_instances *r = &conf->of[CONF_ROUTERS];
	const struct conf_opts_transport *o = t->generic;

	if (group_named(&o->group, gid) || group_own(uid, gid))
		return true;
	for (uint32_t i = 0; i < r->n; i++)
		if (group_named(&((const struct conf_opts_router *)r->v[i].generic)->group, gid))
			return true;
	return false;
}

static bool delivery_configured(const struct master *m, const struct service *s, const struct need *need, struct err *err)
{
	const struct conf *confs[] = { m->conf, m->next_conf };
	bool user = false;

	for (size_t c = 0; c < sizeof confs / sizeof *confs; c++)
		for (uint32_t i = 0; confs[c] && i < confs[c]->of[CONF_TRANSPORTS].n; i++) {
			const struct conf_instance *t = &confs[c]->of[CONF_TRANSPORTS].v[i];

			if (!transport_fits(confs[c], t, !strcmp(s->name, "pipe"), need->uid))
				continue;
			user = true;
			if (group_fits(confs[c], t, need->uid, need->gid))
				return true;
		}
	if (user)
		return !err_set(err, ST_FAIL, "no delivery under gid %u: no transport or router has that group, and uid %u is not in it",
			(unsigned)need->gid, (unsigned)need->uid);
	return !err_set(err, ST_FAIL, "no delivery under uid %u: no transport for %s has that user", (unsigned)need->uid, s->name);
}

static bool login_is(const struct conf_text *user, const struct conf_text *group, uid_t uid, gid_t gid)
{
	return user_is(str_trim(user->text), uid) && (group->set ? group_is(str_trim(group->text), gid) : user_group_is(str_trim(user->text), gid));
}

/* Whether a queryprogram router, or ${run}, has exactly that user and group. */
static bool query_fits(const struct conf *conf, uid_t uid, gid_t gid)
{
	const struct conf_instances *r = &conf->of[CONF_ROUTERS];

	if (conf->main.run_commands.text.len && login_is(&conf->main.run_user, &conf->main.run_group, uid, gid))
		return true;
	for (uint32_t i = 0; i < r->n; i++) {
		const struct conf_opts_router_queryprogram *o = CONF_OWN(&r->v[i], router_queryprogram);

		if (o && login_is(&o->command_user, &o->command_group, uid, gid))
			return true;
	}
	return false;
}

static bool ids_configured(const struct master *m, const struct service *s, const struct need *need, struct err *err)
{
	if (!m->privileged)
		return true;
	if (strcmp(s->name, "query") != 0)
		return delivery_configured(m, s, need, err);
	if (query_fits(m->conf, need->uid, need->gid) || (m->next_conf && query_fits(m->next_conf, need->uid, need->gid)))
		return true;
	return !err_set(err, ST_FAIL, "no program under uid %u, gid %u: no queryprogram router has that command_user and command_group, nor ${run} that run_user and run_group",
		(unsigned)need->uid, (unsigned)need->gid);
}

static struct child *local_find(struct master *m, const struct need *need)
{
	list_each(&m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (c->service == need->service && ids_equal(c, need) && c->state != CHILD_DRAINING && !c->leaving)
			return c;
	}
	return NULL;
}

static struct child *local_start(struct master *m, const struct need *need, struct err *err)
{
	unsigned n_locals = 0;
	struct child *c;

	list_each(&m->children, n)
		n_locals += list_entry(n, struct child, node)->service->on_demand;
	if (n_locals >= MASTER_LOCALS_MAX) {
		err_set(err, ST_DEFER, "deliveries under %u uids are under way already", n_locals);
		return NULL;
	}
	c = child_new(m, need->service, ++m->next_local, m->generation);
	c->uid = need->uid;
	c->gid = need->gid;
	memcpy(c->groups_of, need->groups_of, sizeof c->groups_of);
	return c;
}

static void need_free(struct need *need)
{
	list_remove(&need->node);
	mem_free(need);
}

static bool need_serve(struct need *need, struct child *c)
{
	struct err err = ERR_INIT;

	if (!child_connect(need->asker, c, need->cookie, &err))
		return false;
	need_free(need);
	return true;
}

static bool need_fits(const struct need *need, const struct child *c)
{
	if (need->service != c->service || !c->control)
		return false;
	return c->service->on_demand ? ids_equal(c, need) : provider_find(c->m, c->service, need->asker) == c;
}

void needs_serve(struct child *c)
{
	list_each_safe(&c->m->needs, n) {
		struct need *need = list_entry(n, struct need, node);

		if (need_fits(need, c))
			need_serve(need, c);
	}
}

bool needs_wait_for(const struct child *c)
{
	list_each(&c->m->needs, n) {
		const struct need *need = list_entry(n, struct need, node);

		if (need->service == c->service && ids_equal(c, need))
			return true;
	}
	return false;
}

void needs_drop(const struct child *asker)
{
	list_each_safe(&asker->m->needs, n)
		if (list_entry(n, struct need, node)->asker == asker)
			need_free(list_entry(n, struct need, node));
}

static unsigned needs_count(const struct master *m)
{
	unsigned count = 0;

	list_each(&m->needs, n)
		count++;
	return count;
}

void need_take(struct child *asker, const struct ipc_ctl_need *msg)
{
	struct master *m = asker->m;
	const struct service *s = service_find(msg->peer);
	struct need wish = { .asker = NULL }, *need;
	struct err err = ERR_INIT;
	struct child *c;

	if (!s || !may_ask(asker, s)) {
		refuse(asker, msg->cookie, "it may not talk to that daemon");
		return;
	}
	if (needs_count(m) >= MASTER_NEEDS_MAX) {
		refuse(asker, msg->cookie, "too many requests wait");
		return;
	}
	if (s->on_demand) {
		wish.uid = (uid_t)(msg->uid - 1);
		wish.gid = (gid_t)(msg->gid - 1);
		if (!msg->uid || !msg->gid || !uid_allowed(m, msg->uid - 1, msg->gid - 1, &err) || !ids_configured(m, s, &wish, &err)) {
			refuse(asker, msg->cookie, err.text[0] ? err.text : "a uid and a gid are needed");
			return;
		}
	}
	need = mem_new(sizeof *need);
	need->asker = asker;
	need->service = s;
	need->cookie = msg->cookie;
	if (s->on_demand) {
		need->uid = wish.uid;
		need->gid = wish.gid;
		if (msg->initgroups && user_is(msg->user, need->uid) && !ascii_is_digit(msg->user.p[0]))
			snprintf(need->groups_of, sizeof need->groups_of, "%.*s", STR_FMT(str_sub(msg->user, 0, sizeof need->groups_of - 1)));
	}
	list_push(&m->needs, &need->node);
	c = s->on_demand ? local_find(m, need) : provider_find(m, s, asker);
	if (c && c->control && need_serve(need, c))
		return;
	if (c || !s->on_demand) /* waits for its restart */
		return;
	c = local_start(m, need, &err);
	if (c) {
		child_start(c); /* serves the need */
		return;
	}
	need_free(need);
	refuse(asker, msg->cookie, err.text);
}

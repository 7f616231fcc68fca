/* SPDX-License-Identifier: ISC */
/* master_control.c - the control socket: what the command may ask, who may ask it, and the answers that take time. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "master/master.h"

enum { CLIENTS_MAX = 64, STRANGERS_MAX = 16, GROUPS_MAX = 256, STATUS_WAIT_MS = 2000, TEXT_MAX = 8000 };

struct control_client {
	struct list node;
	struct master *m;
	struct channel *channel;
	struct ucred who;
	bool allowed;
};

struct control_job {
	struct list node;              /* in master.control_jobs */
	struct master *m;
	struct control_client *client; /* NULL: gone */
	uint64_t request;
	bool stop;                     /* waits for the end of all */
	/* status */
	struct arena arena;
	struct ipc_daemon *daemons;
	uint32_t n_daemons, open;
};

/* A question to one daemon. */
struct status_part {
	struct control_job *job;
	uint32_t at;
};

/* ---- jobs ---- */

static struct control_job *job_new(struct control_client *client, uint64_t request)
{
	struct control_job *job = mem_new(sizeof *job);

	job->m = client->m;
	job->client = client;
	job->request = request;
	list_push(&client->m->control_jobs, &job->node);
	return job;
}

static void job_answer(struct control_job *job, const struct ipc_cmd_answer *answer, const int *fds, unsigned n_fds)
{
	if (job->client)
		channel_answer(job->client->channel, job->request, &ipc_type_cmd_answer, answer, fds, n_fds);
	else if (n_fds)
		close(fds[0]);
	list_remove(&job->node);
	arena_clear(&job->arena);
	mem_free(job);
}

void control_job_done(struct control_job *job, enum status st, const char *text)
{
	struct ipc_cmd_answer answer = { .status = st, .text = str_of(text) };

	if (!job)
		return;
	answer.text = str_sub(answer.text, 0, TEXT_MAX);
	job_answer(job, &answer, NULL, 0);
}

void control_jobs_stopped(struct master *m)
{
	list_each_safe(&m->control_jobs, n) {
		struct control_job *job = list_entry(n, struct control_job, node);

		control_job_done(job, job->stop ? ST_OK : ST_DEFER, job->stop ? "" : "stopping");
	}
}

/* ---- status ---- */

static void status_done(struct control_job *job)
{
	struct ipc_cmd_answer answer = { .text = str_of(job->m->notes), .daemons = job->daemons, .n_daemons = job->n_daemons };

	job_answer(job, &answer, NULL, 0);
}

static void on_status(void *arg, struct ipc_in *in, const struct err *err)
{
	struct status_part *part = arg;
	struct control_job *job = part->job;
	struct ipc_daemon *d = &job->daemons[part->at];

	(void)err;
	if (in && in->type == &ipc_type_ctl_status) {
		struct ipc_ctl_status *copy = arena_alloc(&job->arena, sizeof *copy);

		ipc_copy(&ipc_type_ctl_status, in->msg, copy, &job->arena);
		d->counters = copy->counters;
		d->n_counters = copy->n_counters;
	} else if (!d->text.len) {
		d->text = STR_LIT("does not say how it does");
	}
	mem_free(part);
	if (--job->open == 0)
		status_done(job);
}

static void daemon_fill(struct control_job *job, struct ipc_daemon *d, const struct child *c)
{
	d->name = str_of(arena_strdup(&job->arena, c->name));
	d->pid = (uint64_t)c->pid;
	d->uid = c->uid;
	d->root = str_of(arena_strdup(&job->arena, c->root));
	d->generation = c->generation;
	d->state = str_of(child_state_name(c));
	d->restarts = c->restarts;
	d->since = c->since;
	d->text = str_of(arena_strdup(&job->arena, c->trouble));
}

static void master_fill(struct control_job *job, struct ipc_daemon *d)
{
	struct master *m = job->m;

	d->name = STR_LIT("master");
	d->pid = (uint64_t)getpid();
	d->uid = getuid();
	d->generation = m->generation;
	d->state = m->stopping ? STR_LIT("draining") : m->started ? STR_LIT("ready") : STR_LIT("starting");
	d->since = clock_wall() - (int64_t)((clock_ms() - m->start_ms) / 1000);
}

static void do_status(struct control_job *job, struct str argument)
{
	static const struct ipc_ctl_status_ask ask;
	struct master *m = job->m;
	uint32_t n = 1, at = 1;

	(void)argument;
	list_each(&m->children, node)
		n++;
	if (n > 512) /* as many as the message takes */
		n = 512;
	job->daemons = arena_alloc(&job->arena, n * sizeof *job->daemons);
	job->n_daemons = n;
	master_fill(job, &job->daemons[0]);
	job->open = 1; /* until all are asked */
	list_each(&m->children, node) {
		struct child *c = list_entry(node, struct child, node);
		struct status_part *part;

		if (at == n)
			break;
		daemon_fill(job, &job->daemons[at], c);
		if (c->control && c->ready_ms) {
			part = mem_new(sizeof *part);
			*part = (struct status_part){ job, at };
			job->open++;
			channel_ask(c->control, &ipc_type_ctl_status_ask, &ask, NULL, 0, &ipc_type_ctl_status, STATUS_WAIT_MS, on_status, part);
		}
		at++;
	}
	if (--job->open == 0)
		status_done(job);
}

/* ---- the other verbs ---- */

static void do_reload(struct control_job *job, struct str argument)
{
	(void)argument;
	master_log(job->m, LOG_MAIN, "reload by command of uid %u", (unsigned)job->client->who.uid);
	reload_begin(job->m, job);
}

static void do_stop(struct control_job *job, struct str argument)
{
	struct master *m = job->m;

	(void)argument;
	job->stop = true;
	master_log(m, LOG_MAIN, "stop by command of uid %u", (unsigned)job->client->who.uid);
	stop_begin(m);
}

static void do_restart(struct control_job *job, struct str argument)
{
	restart_begin(job->m, argument, job);
}

static void do_logs(struct control_job *job, struct str argument)
{
	struct err err = ERR_INIT;
	enum status st = logs_reopen(job->m, &err);

	(void)argument;
	control_job_done(job, st, err.text);
}

/* A channel of the command's own to a daemon; it is told who is at the other end. */
static void do_channel(struct control_job *job, struct str argument)
{
	struct ipc_ctl_channel msg = {
		.peer = STR_LIT("ctl"), .uid = (uint64_t)job->client->who.uid + 1, .gid = (uint64_t)job->client->who.gid + 1
	};
	struct ipc_cmd_answer answer = { .status = ST_OK };
	struct child *found = NULL;
	struct err err = ERR_INIT;
	int pair[2];

	list_each(&job->m->children, n) {
		struct child *c = list_entry(n, struct child, node);

		if (str_is(argument, c->service->name) && c->control && !c->pending && !c->leaving && c->state != CHILD_DRAINING)
			found = c;
	}
	if (!str_is(argument, "qmgr") && !str_is(argument, "router")) {
		control_job_done(job, ST_ERROR, "a channel to qmgr or router can be had");
	} else if (!found) {
		control_job_done(job, ST_DEFER, "that daemon does not run now");
	} else if (!ipc_pair(pair, &err)) {
		control_job_done(job, ST_DEFER, err.text);
	} else {
		channel_send(found->control, &ipc_type_ctl_channel, &msg, &pair[1], 1);
		job_answer(job, &answer, &pair[0], 1);
	}
}

static const struct {
	const char *verb;
	void (*fn)(struct control_job *job, struct str argument);
} verbs[] = {
	{ "status", do_status }, { "reload", do_reload }, { "stop", do_stop }, { "restart", do_restart }, { "logs", do_logs },
	{ "channel", do_channel },
};

/* ---- clients ---- */

static void on_ask(void *owner, struct ipc_in *in)
{
	struct control_client *client = owner;
	const struct ipc_cmd_ask *m = in->msg;
	struct control_job *job;

	if (!in->request)
		return;
	job = job_new(client, in->request);
	if (!client->allowed) {
		control_job_done(job, ST_ERROR, "permission denied: for root, master's own user and admin_groups only");
		return;
	}
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (str_is(m->verb, verbs[i].verb)) {
			verbs[i].fn(job, m->argument);
			return;
		}
	control_job_done(job, ST_ERROR, "master does not know that");
}

static const struct ipc_handler control_handlers[] = { { IPC_cmd_ask, on_ask }, { 0, NULL } };

static void client_free(struct control_client *client)
{
	list_each(&client->m->control_jobs, n) {
		struct control_job *job = list_entry(n, struct control_job, node);

		if (job->client == client)
			job->client = NULL;
	}
	list_remove(&client->node);
	channel_free(client->channel);
	mem_free(client);
}

static void on_client_closed(void *owner, struct channel *ch, const char *why)
{
	(void)ch;
	(void)why;
	client_free(owner);
}

static bool group_admits(const struct master *m, gid_t gid)
{
	struct conf_list_walk walk = CONF_LIST_WALK(m->conf->main.admin_groups.text);
	struct arena a = ARENA_INIT;
	bool found = false;
	struct str item;

	while (!found && conf_list_next(&walk, &a, &item)) {
		struct group gr, *known = NULL;
		char room[8192];
		uint64_t n;

		if (str_u64(item, UINT32_MAX, &n))
			found = n == gid;
		else if (item.len && getgrnam_r(str_cstr(&a, item), &gr, room, sizeof room, &known) == 0 && known)
			found = known->gr_gid == gid;
	}
	arena_clear(&a);
	return found;
}

static bool client_allowed(const struct master *m, int fd, const struct ucred *who)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof groups;

	if (who->uid == 0 || who->uid == getuid() || group_admits(m, who->gid))
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof groups[0]; i++)
		if (group_admits(m, groups[i]))
			return true;
	return false;
}

static void on_accept(void *arg, unsigned ready)
{
	struct master *m = arg;
	struct channel_spec spec = { .peer = "command", .handlers = control_handlers, .closed = on_client_closed };
	struct control_client *client;
	struct ucred who;
	socklen_t len = sizeof who;
	unsigned n_clients = 0;
	bool allowed;
	int fd = accept4(m->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)ready;
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
		close(fd);
		return;
	}
	/* Those who may not ask anything are counted apart: they keep nobody out who may. */
	allowed = client_allowed(m, fd, &who);
	list_each(&m->clients, n)
		n_clients += list_entry(n, struct control_client, node)->allowed == allowed;
	if (n_clients >= (allowed ? CLIENTS_MAX : STRANGERS_MAX)) {
		close(fd);
		return;
	}
	client = mem_new(sizeof *client);
	client->m = m;
	client->who = who;
	client->allowed = allowed;
	spec.owner = client;
	client->channel = channel_open(m->loop, fd, &spec);
	list_push(&m->clients, &client->node);
}

/* ---- the socket ---- */

enum status control_open(struct master *m, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/control", m->run) >= sizeof sa.sun_path)
		return err_set(err, ST_ERROR, "run_directory \"%s\" is too long for a Unix socket", m->run);
	unlink(sa.sun_path); /* the lock says that nobody answers there */
	m->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->control_fd < 0 || bind(m->control_fd, (struct sockaddr *)&sa, sizeof sa) < 0 || chmod(sa.sun_path, 0666) < 0 ||
	    listen(m->control_fd, 16) < 0)
		return err_set(err, ST_ERROR, "%s: %s", sa.sun_path, strerror(errno));
	loop_fd_init(&m->control_watch, m->loop, m->control_fd, on_accept, m);
	if (!loop_fd_set(&m->control_watch, LOOP_READ))
		return err_set(err, ST_ERROR, "%s: can't be watched", sa.sun_path);
	return ST_OK;
}

void control_close(struct master *m)
{
	list_each_safe(&m->clients, n)
		client_free(list_entry(n, struct control_client, node));
	list_each_safe(&m->control_jobs, n)
		control_job_done(list_entry(n, struct control_job, node), ST_DEFER, "");
	if (m->control_fd >= 0) {
		loop_fd_clear(&m->control_watch);
		close(m->control_fd);
		m->control_fd = -1;
	}
}

/* SPDX-License-Identifier: ISC */
/* master_child.c - the life of a child: started, ready, drained, dead, started again. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/daemon/daemon.h"
#include "master/master.h"

static void on_restart(void *arg);

struct child *child_new(struct master *m, const struct service *s, unsigned number, uint64_t generation)
{
	struct child *c = mem_new(sizeof *c);

	c->m = m;
	c->service = s;
	c->number = number;
	c->generation = generation;
	c->uid = getuid();
	c->gid = getgid();
	snprintf(c->name, sizeof c->name, "%s/%u", s->name, number);
	c->state = CHILD_WAITING;
	c->since = clock_wall();
	list_push(&m->children, &c->node);
	return c;
}

void child_free(struct child *c)
{
	needs_drop(c);
	loop_timer_stop(&c->timer);
	list_remove(&c->node);
	channel_free(c->control);
	mem_free(c);
}

const char *child_state_name(const struct child *c)
{
	static const char *const names[] = { "waiting", "starting", "ready", "draining" };

	return names[c->state];
}

static void child_kill(struct child *c, const char *why)
{
	if (!c->pid)
		return;
	snprintf(c->trouble, sizeof c->trouble, "%s", why);
	c->killed = true;
	kill(c->pid, SIGKILL);
}

static void on_late(void *arg)
{
	struct child *c = arg;

	child_kill(c, c->state == CHILD_STARTING ? "was not ready in time" : "did not finish in time");
}

void child_state_set(struct child *c, enum child_state state)
{
	c->state = state;
	c->since = clock_wall();
	loop_timer_stop(&c->timer);
	if (state == CHILD_STARTING)
		loop_timer_start(&c->timer, c->m->loop, START_TIMEOUT_MS, on_late, c);
}

void child_drain(struct child *c, uint64_t deadline_ms, bool idle)
{
	struct ipc_ctl_drain msg = { .deadline_ms = deadline_ms, .idle = idle };

	if (!c->pid)
		return;
	if (c->control)
		channel_send(c->control, &ipc_type_ctl_drain, &msg, NULL, 0);
	child_state_set(c, CHILD_DRAINING);
	loop_timer_start(&c->timer, c->m->loop, deadline_ms + KILL_GRACE_MS, on_late, c);
}

/* ---- what it says ---- */

static void on_ready(void *owner, struct ipc_in *in)
{
	struct child *c = owner;

	(void)in;
	if (c->state != CHILD_STARTING)
		return;
	c->ready_ms = clock_ms();
	child_state_set(c, CHILD_READY);
	reload_look(c->m);
}

static void on_failed(void *owner, struct ipc_in *in)
{
	struct child *c = owner;
	const struct ipc_ctl_failed *m = in->msg;

	snprintf(c->trouble, sizeof c->trouble, "%.*s", STR_FMT(m->text));
	if (c->state == CHILD_READY) /* a new view that it did not take */
		master_log(c->m, LOG_MAIN | LOG_PANIC, "%s: %s", c->name, c->trouble);
	if (str_begins(str_of(c->trouble), NAMESPACE_REFUSED)) {
		c->m->namespaces_fail = true;
		if (!str_is(c->m->conf->main.namespaces.text, "require"))
			master_note(c->m, "mount namespaces are refused by this system: router and local see all files that their uid may read, and smtp-out may reach all sockets, if LMTP is used");
	}
}

static void on_need(void *owner, struct ipc_in *in)
{
	need_take(owner, in->msg);
}

const struct ipc_handler child_handlers[] = {
	{ IPC_ctl_ready, on_ready },
	{ IPC_ctl_failed, on_failed },
	{ IPC_ctl_need, on_need },
	{ 0, NULL },
};

void child_control_closed(void *owner, struct channel *ch, const char *why)
{
	struct child *c = owner;

	channel_free(ch);
	c->control = NULL;
	(void)why;
	/* It ends, or is of no use any more. */
	if (c->pid)
		loop_timer_start(&c->timer, c->m->loop, KILL_GRACE_MS, on_late, c);
}

/* ---- its end ---- */

static void end_format(const struct child *c, int status, char out[640])
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0, sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	const char *abbrev = sig ? sigabbrev_np(sig) : NULL, *text = daemon_exit_text(code);

	if (c->killed)
		snprintf(out, 640, "%.600s and was killed", c->trouble);
	else if (sig == SIGSYS)
		snprintf(out, 640, "was killed by seccomp (SIGSYS): it made a system call that it may not make");
	else if (sig)
		snprintf(out, 640, "was killed by SIG%s", abbrev ? abbrev : "?");
	else if (code && c->trouble[0] && !c->ready_ms)
		snprintf(out, 640, "could not start: %.600s", c->trouble);
	else
		snprintf(out, 640, "ended with code %d%s%s", code, text ? ": it " : "", text ? text : "");
}

void child_start(struct child *c)
{
	struct err err = ERR_INIT;

	if (!child_spawn(c, &err))
		return;
	snprintf(c->trouble, sizeof c->trouble, "%s", err.text);
	master_log(c->m, LOG_MAIN | LOG_PANIC, "%s can't be started: %s", c->name, err.text);
	if (c->pid)
		return;
	c->delay_ms = backoff_next(c->delay_ms, 0, (uint64_t)c->m->conf->main.restart_delay_max * 1000);
	child_state_set(c, CHILD_WAITING);
	loop_timer_start(&c->timer, c->m->loop, c->delay_ms, on_restart, c);
}

static void on_restart(void *arg)
{
	struct child *c = arg;

	if (c->service->on_demand && !needs_wait_for(c)) {
		child_free(c);
		return;
	}
	c->restarts++;
	child_start(c);
}

/* Whether the first start of all is spoilt by this end: not if it may be another's leftovers that will soon be gone. */
static bool start_spoilt(const struct child *c, int status)
{
	bool again = WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_EXIT_START;

	if (c->m->started || c->service->on_demand)
		return false;
	return !again || clock_ms() - c->m->start_ms > START_RETRY_MS;
}

static void child_gone(struct child *c, int status)
{
	struct master *m = c->m;
	uint64_t ready = c->ready_ms ? clock_ms() - c->ready_ms : 0;
	bool orderly = WIFEXITED(status) && WEXITSTATUS(status) == 0 && (c->state == CHILD_DRAINING || c->service->on_demand);
	char how[640], again[64] = "";
	struct err err = ERR_INIT;

	end_format(c, status, how);
	channel_free(c->control);
	c->control = NULL;
	needs_drop(c);
	if (c->pending) {
		snprintf(c->trouble, sizeof c->trouble, "%s", how);
		c->pid = 0;
		reload_failed(m, c);
		return;
	}
	c->leaving = c->leaving || m->stopping || (orderly && c->service->on_demand && !needs_wait_for(c));
	if (str_begins(str_of(how), "could not start: " NAMESPACE_REFUSED) && !str_is(m->conf->main.namespaces.text, "require")) {
		c->pid = 0;
		child_start(c); /* without it: said once, in the notes */
		return;
	}
	if (start_spoilt(c, status)) {
		c->pid = 0;
		snprintf(err.text, sizeof err.text, "%s %.400s", c->name, how);
		master_log(m, LOG_MAIN | LOG_PANIC, "%s", err.text);
		master_start_failed(m, err.text);
		return;
	}
	if (!c->leaving) {
		c->delay_ms = orderly ? 0 : backoff_next(c->delay_ms, ready, (uint64_t)m->conf->main.restart_delay_max * 1000);
		snprintf(again, sizeof again, "; it is started again in %llu ms", (unsigned long long)c->delay_ms);
	}
	if (!orderly && !c->dropped) {
		snprintf(c->trouble, sizeof c->trouble, "%s", how);
		master_log(m, LOG_MAIN | LOG_PANIC, "%s (pid %d) %s%s", c->name, (int)c->pid, how, again);
	}
	c->pid = 0;
	if (c->leaving) {
		if (!orderly)
			peers_reconnect(c);
		child_free(c);
		stop_look(m);
		return;
	}
	child_state_set(c, CHILD_WAITING);
	loop_timer_start(&c->timer, m->loop, c->delay_ms, on_restart, c);
}

void children_reap(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		list_each(&m->children, n) {
			struct child *c = list_entry(n, struct child, node);

			if (c->pid != pid)
				continue;
			child_gone(c, status);
			break;
		}
}

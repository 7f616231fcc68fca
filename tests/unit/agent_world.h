/* SPDX-License-Identifier: ISC */
/* agent_world.h - a delivery agent as a real process under its filter, with the test as master and as qmgr.
 * Used by:    local_daemon_test.c, smtp_out_daemon_test.c. */
#ifndef AGENT_WORLD_H
#define AGENT_WORLD_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "common/conf/view.h"
#include "common/daemon/jail.h"
#include "common/ipc/channel.h"

struct agent {
	pid_t pid;
	int control, client;
	struct arena arena;
};

static int agent_view(uint32_t see)
{
	static const char text[] = "primary_hostname = test.example\nseccomp = "
#if defined(__SANITIZE_ADDRESS__)
		"off\n";
#else
		"enforce\n";
#endif
	struct conf_source source = { .path = "test.conf", .text = text, .text_len = sizeof text - 1 };
	struct err err = ERR_INIT;
	struct conf *conf;
	int fd;

	assert_int_equal(conf_read(&source, &conf), ST_OK);
	if (conf_view_make(conf, see, &fd, &err))
		fail_msg("%s", err.text);
	conf_free(conf);
	return fd;
}

static void agent_send(struct agent *a, int to, const struct ipc_type *type, const void *msg, const int *fds, unsigned n)
{
	struct err err = ERR_INIT;

	(void)a;
	if (ipc_send(to, type, to == a->client ? 1 : 0, false, msg, fds, n, 1000, &err))
		fail_msg("%s", err.text);
}

static bool agent_wait(struct agent *a, int from, const struct ipc_type *type, void *out)
{
	struct ipc_packet p = { .data = BUF_INIT };
	uint64_t until = clock_ms() + 5000;
	struct err err = ERR_INIT;
	struct ipc_in one;
	bool found = false;

	while (!found && clock_ms() < until && !ipc_recv(from, &p, (int)(until - clock_ms()), &err))
		while (!ipc_packet_next(&p, &a->arena, &one, &err))
			if (one.type == type && !found) {
				found = true;
				memcpy(out, one.msg, type->size);
			}
	ipc_packet_clear(&p);
	return found;
}

/* run: the daemon's main() in a child. */
static void agent_begin(struct agent *a, const char *name, uint32_t see, int (*run)(int argc, char **argv))
{
	static const struct ipc_ctl_go go;
	struct ipc_ctl_start start = { .name = str_of(name), .number = 1, .generation = 1, .unprivileged = true };
	struct ipc_ctl_channel channel = { .peer = STR_LIT("qmgr"), .number = 1, .generation = 1 };
	struct ipc_ctl_ready ready;
	struct err err = ERR_INIT;
	int pair[2], qmgr[2], fds[4];

	memset(a, 0, sizeof *a);
	assert_true(ipc_pair(pair, &err));
	fflush(NULL);
	a->pid = fork();
	if (a->pid == 0) {
		char *argv[] = { (char *)(uintptr_t)name, (char *)"--name", (char *)(uintptr_t)name, (char *)"--unprivileged", NULL };

		if (pair[1] != JAIL_CONTROL_FD)
			dup2(pair[1], JAIL_CONTROL_FD);
		else
			fcntl(pair[1], F_SETFD, 0);
		if (pair[0] != JAIL_CONTROL_FD)
			close(pair[0]);
		_exit(run(4, argv));
	}
	close(pair[1]);
	a->control = pair[0];
	fds[0] = agent_view(see);
	for (int i = 1; i < 4; i++)
		fds[i] = open("/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC);
	agent_send(a, a->control, &ipc_type_ctl_start, &start, fds, 4); /* no syslog */
	assert_true(ipc_pair(qmgr, &err));
	a->client = qmgr[0];
	agent_send(a, a->control, &ipc_type_ctl_channel, &channel, &qmgr[1], 1);
	agent_send(a, a->control, &ipc_type_ctl_go, &go, NULL, 0);
	assert_true(agent_wait(a, a->control, &ipc_type_ctl_ready, &ready));
}

/* Drains it; it must end by itself, and well. */
static void agent_end(struct agent *a)
{
	struct ipc_ctl_drain drain = { .deadline_ms = 10000 };
	int status = -1;

	agent_send(a, a->control, &ipc_type_ctl_drain, &drain, NULL, 0);
	for (int i = 0; i < 400 && waitpid(a->pid, &status, WNOHANG) == 0; i++)
		usleep(20000);
	if (status == -1) {
		kill(a->pid, SIGKILL);
		waitpid(a->pid, NULL, 0);
	}
	close(a->client);
	close(a->control);
	arena_clear(&a->arena);
	assert_int_equal(status, 0);
}

/* Delivers one small message by this plan. */
static struct ipc_delivered agent_deliver(struct agent *a, const struct ipc_plan *plan)
{
	static const char content[] = "From: a@x\r\n\r\nhello\r\n.dot\r\n";
	struct ipc_recipient rcpt = { .addr = STR_LIT("u@y"), .index = 3 };
	struct ipc_edit edits[] = {
		{ .op = EDIT_ADD_TOP, .text = STR_LIT("Received: here\r\n") }, { .op = EDIT_REMOVE, .text = STR_LIT("X-None") },
	};
	struct ipc_deliver m = {
		.delivery = 9, .sender = STR_LIT("s@x"), .recipients = &rcpt, .n_recipients = 1, .edits = edits, .n_edits = 2,
		.content = sizeof content - 1, .header_size = 13,
	};
	struct ipc_delivered out;
	struct buf encoded = BUF_INIT;
	struct err err;
	int fd = memfd_create("m", MFD_CLOEXEC);

	assert_int_equal(write(fd, content, sizeof content - 1), sizeof content - 1);
	assert_int_equal(ipc_encode(&ipc_type_plan, plan, &encoded, &err), ST_OK);
	m.plan = buf_str(&encoded);
	agent_send(a, a->client, &ipc_type_deliver, &m, &fd, 1);
	buf_clear(&encoded);
	if (!agent_wait(a, a->client, &ipc_type_delivered, &out))
		fail_msg("no answer");
	assert_int_equal(out.delivery, 9);
	assert_int_equal(out.n_outcomes, 1);
	assert_int_equal(out.outcomes[0].recipient, 3);
	return out;
}

#endif

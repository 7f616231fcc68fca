/* SPDX-License-Identifier: ISC */
/* The shell around sessions: real sockets, a policyd and a qmgr at the other ends of real channels, all in one loop. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "smtpd/smtpd.h"

struct peer {
	struct channel *channel;      /* the far end */
	struct daemon_link link;      /* smtpd's end */
};

struct world {
	struct daemon d;
	struct conf *conf;
	struct smtpd *m;
	struct peer policyd, qmgr;
	int listener, log[2], file;
	uint16_t port;
	char path[64];
	unsigned commits, aborts, asks;
	uint64_t content;
	struct buf recipients;
	bool policyd_silent, lose, qmgr_silent;
	uint64_t limit;               /* of the file in memory; 0: a file */
	bool full;                    /* no file for what grows */
	unsigned grown, moved;
	uint64_t silent_request;
};

static const struct daemon_peer *peer_row(const char *name)
{
	const struct daemon_peer *p = smtpd_spec.peers;

	while (strcmp(p->name, name))
		p++;
	return p;
}

static void on_acl_ask(void *owner, struct ipc_in *in)
{
	struct world *w = owner;
	const struct ipc_acl_ask *ask = in->msg;
	struct ipc_pair settings[] = { { .name = STR_LIT("message_size_limit"), .value = STR_LIT("1000000") } };
	struct ipc_acl_answer answer = { .verdict = ACL_ACCEPT };
	struct ipc_ctl_lost lost = { .request = in->request, .text = STR_LIT("killed") };

	w->asks++;
	w->silent_request = in->request;
	if (w->policyd_silent)
		return;
	if (w->lose) {
		w->lose = false;
		channel_answer(in->channel, in->request, &ipc_type_ctl_lost, &lost, NULL, 0);
		return;
	}
	if (ask->stage == ACL_CONNECT) {
		answer.settings = settings;
		answer.n_settings = 1;
		answer.cache_scope = 2;
	}
	if (ask->stage == ACL_DATA)
		assert_true(in->fds[0] >= 0);
	channel_answer(in->channel, in->request, &ipc_type_acl_answer, &answer, NULL, 0);
}

static void on_begin(void *owner, struct ipc_in *in)
{
	struct world *w = owner;
	const struct ipc_msg_begin *begin = in->msg;
	struct ipc_msg_file file = { .id = STR_LIT("16IOWa-00019l-00"), .offset = 100, .limit = begin->id.len ? 0 : w->limit };
	struct ipc_msg_file none = { .status = ST_DEFER };
	int fds[2] = { memfd_create("message", MFD_CLOEXEC), -1 };

	if (w->qmgr_silent)
		return;
	w->grown += begin->id.len > 0;
	if (begin->id.len && w->full) {
		close(fds[0]);
		channel_answer(in->channel, in->request, &ipc_type_msg_file, &none, NULL, 0);
		return;
	}
	fds[1] = dup(fds[0]);
	if (w->file >= 0)
		close(w->file);
	w->file = dup(fds[0]);
	channel_answer(in->channel, in->request, &ipc_type_msg_file, &file, fds, 2);
}

static void on_moved(void *owner, struct ipc_in *in)
{
	(void)in;
	((struct world *)owner)->moved++;
}

static void on_recipients(void *owner, struct ipc_in *in)
{
	struct world *w = owner;
	const struct ipc_msg_recipients *more = in->msg;

	for (uint32_t i = 0; i < more->n_recipients; i++)
		buf_printf(&w->recipients, "%.*s ", STR_FMT(more->recipients[i].addr));
}

static void on_commit(void *owner, struct ipc_in *in)
{
	struct world *w = owner;
	const struct ipc_msg_commit *commit = in->msg;
	struct ipc_msg_committed done = { .id = commit->id };

	w->commits++;
	w->content = commit->content;
	for (uint32_t i = 0; i < commit->n_recipients; i++)
		buf_printf(&w->recipients, "%.*s ", STR_FMT(commit->recipients[i].addr));
	channel_answer(in->channel, in->request, &ipc_type_msg_committed, &done, NULL, 0);
}

static void on_abort(void *owner, struct ipc_in *in)
{
	(void)in;
	((struct world *)owner)->aborts++;
}

static const struct ipc_handler policyd_handlers[] = { { IPC_acl_ask, on_acl_ask }, { 0, NULL } };
static const struct ipc_handler qmgr_handlers[] = { { IPC_msg_begin, on_begin }, { IPC_msg_recipients, on_recipients }, { IPC_msg_commit, on_commit },
	{ IPC_msg_abort, on_abort }, { IPC_msg_moved, on_moved }, { 0, NULL } };

static void far_closed(void *owner, struct channel *ch, const char *why)
{
	(void)owner, (void)ch, (void)why;
}

static void near_closed(void *owner, struct channel *ch, const char *why)
{
	struct daemon_link *link = owner;

	(void)ch;
	link->peer->closed(link, why);
}

static void peer_open(struct world *w, struct peer *p, const char *name, const struct ipc_handler *handlers)
{
	const struct daemon_peer *row = peer_row(name);
	struct channel_spec near = { .peer = name, .handlers = row->handlers, .owner = &p->link, .closed = near_closed, .pack = row->pack };
	struct channel_spec far = { .peer = "smtpd", .handlers = handlers, .owner = w, .closed = far_closed };
	int fds[2];
	struct err err = ERR_INIT;

	assert_true(ipc_pair(fds, &err));
	p->link = (struct daemon_link){ .daemon = &w->d, .peer = row, .fd = -1 };
	p->channel = channel_open(w->d.loop, fds[0], &far);
	p->link.channel = channel_open(w->d.loop, fds[1], &near);
	row->opened(&p->link);
}

static void turn(struct world *w)
{
	/* Something is always due: the timer keeps a turn from waiting for ever. */
	for (int i = 0; i < 12; i++)
		loop_turn(w->d.loop, false);
}

/* The far end goes; smtpd notices; its own end is freed as the skeleton would. */
static void peer_close(struct world *w, struct peer *p)
{
	channel_free(p->channel);
	turn(w);
	channel_free(p->link.channel);
}

static struct world *world_new(const char *options)
{
	static const char base[] = "primary_hostname = mx.example\nacl_smtp_rcpt = accept\n";
	struct world *w = mem_new(sizeof *w);
	char *text = mem_new(sizeof base + strlen(options) + 1);
	struct conf_source source = { .path = "test", .text = text };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	struct err err = ERR_INIT;

	strcpy(text, base);
	strcat(text, options);
	source.text_len = strlen(text);
	if (conf_read(&source, &w->conf))
		fail_msg("configuration: %.*s", STR_FMT(w->conf->problems[0].text));
	mem_free(text);
	w->file = -1;
	w->d.spec = &smtpd_spec;
	w->d.loop = loop_new();
	w->d.conf = w->conf;
	list_init(&w->d.links);
	log_init(&w->d.log);
	assert_int_equal(pipe2(w->log, O_CLOEXEC | O_NONBLOCK), 0);
	log_set_fd(&w->d.log, 0, w->log[1]);
	assert_int_equal(smtpd_spec.start(&w->d, &err), ST_OK);
	w->m = w->d.state;
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(listen(w->listener, 100), 0);
	getsockname(w->listener, (struct sockaddr *)&at, &len);
	w->port = ntohs(at.sin_port);
	smtpd_spec.listener(&w->d, &(struct daemon_listener){ .fd = w->listener, .address = "127.0.0.1", .port = w->port });
	peer_open(w, &w->policyd, "policyd", policyd_handlers);
	peer_open(w, &w->qmgr, "qmgr", qmgr_handlers);
	return w;
}

static void world_free(struct world *w)
{
	smtpd_spec.stop(&w->d);
	turn(w);
	channel_free(w->policyd.channel);
	channel_free(w->policyd.link.channel);
	channel_free(w->qmgr.channel);
	channel_free(w->qmgr.link.channel);
	log_clear(&w->d.log);
	close(w->log[0]);
	if (w->file >= 0)
		close(w->file);
	loop_free(w->d.loop);
	conf_free(w->conf);
	buf_clear(&w->recipients);
	mem_free(w);
}

static int client(struct world *w)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	return fd;
}

/* Reads until a line "CODE " has come. */
static void expect(struct world *w, int fd, const char *code)
{
	char text[65536] = "";
	size_t n = 0;

	for (int tries = 0; tries < 400; tries++) {
		ssize_t got = recv(fd, text + n, sizeof text - n - 1, MSG_DONTWAIT);
		char *line;

		if (got == 0)
			break;
		n += got > 0 ? (size_t)got : 0;
		text[n] = 0;
		line = strstr(text, code);
		if (line && (line == text || line[-1] == '\n') && strchr(line, '\n'))
			return;
		turn(w);
		if (got < 0)
			poll(NULL, 0, 1);
	}
	fail_msg("\"%s\" did not come, but \"%s\"", code, text);
}

static void say(struct world *w, int fd, const char *text, const char *code)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	expect(w, fd, code);
}

static bool closed(struct world *w, int fd)
{
	char c[4096];

	for (int tries = 0; tries < 400; tries++) {
		ssize_t n = recv(fd, c, sizeof c, MSG_DONTWAIT);

		if (n == 0)
			return true;
		turn(w);
		if (n < 0)
			poll(NULL, 0, 1);
	}
	return false;
}

#define ENVELOPE "MAIL FROM:<a@b.example>\r\nRCPT TO:<r@x.example>\r\n"

static void envelope(struct world *w, int fd)
{
	say(w, fd, "MAIL FROM:<a@b.example>\r\n", "250 ");
	say(w, fd, "RCPT TO:<r@x.example>\r\n", "250 ");
}

static void test_messages(void **state)
{
	struct world *w = world_new("");
	int fd = client(w);
	char content[64] = "";

	(void)state;
	expect(w, fd, "220 mx.example");
	say(w, fd, "EHLO c.example\r\n", "250 HELP");
	for (unsigned i = 1; i < 4; i++) {
		envelope(w, fd);
		say(w, fd, "DATA\r\n", "354 ");
		assert_true(send(fd, "Subject: x\r\n\r\n..\r\n", 18, 0) == 18);
		turn(w);
		say(w, fd, "hello\r\n.\r\n", "250 2.0.0 OK id=");
		assert_int_equal(w->commits, i);
		assert_int_equal(w->content, 24);
		assert_int_equal(pread(w->file, content, 24, 100), 24);
		assert_string_equal(content, "Subject: x\r\n\r\n.\r\nhello\r\n");
	}
	assert_string_equal(buf_cstr(&w->recipients), "r@x.example r@x.example r@x.example ");
	say(w, fd, "QUIT\r\n", "221 ");
	assert_true(closed(w, fd));
	assert_int_equal(w->m->n_conns, 0);
	close(fd);
	world_free(w);
}

/* limit: the message begins in memory, and a file is asked for when it passes that; full: there is none. */
static void large(uint64_t limit, bool full)
{
	struct world *w = world_new("acl_smtp_data = accept\n");
	int fd = client(w);
	static char line[1002], back[1002];
	size_t total = 0;

	w->limit = limit;
	w->full = full;
	memset(line, 'x', 1000);
	strcpy(line + 998, "\r\n");
	expect(w, fd, "220 ");
	say(w, fd, "EHLO c.example\r\n", "250 HELP");
	envelope(w, fd);
	say(w, fd, "DATA\r\n", "354 ");
	for (int i = 0; i < 900; i++, total += 1000) {
		size_t at = 0;

		while (at < 1000) {
			ssize_t n = send(fd, line + at, 1000 - at, MSG_DONTWAIT);

			at += n > 0 ? (size_t)n : 0;
			turn(w);
		}
	}
	say(w, fd, ".\r\n", full ? "452 " : "250 2.0.0 OK");
	assert_int_equal(w->grown, limit != 0);
	assert_int_equal(w->moved, limit && !full);
	if (!full) {
		assert_int_equal(w->content, total);
		for (unsigned i = 0; i < 900; i++) {
			assert_int_equal(pread(w->file, back, 1000, 100 + i * 1000), 1000);
			assert_memory_equal(back, line, 1000);
		}
	}
	close(fd);
	turn(w);
	world_free(w);
}

static void test_large(void **state)
{
	(void)state;
	large(0, false);
	large(131072, false);
	large(131072, true);
}

/* Policyd and qmgr go away and come back in the middle. */
static void test_restarts(void **state)
{
	struct world *w = world_new("");
	int fd = client(w);

	(void)state;
	expect(w, fd, "220 ");
	say(w, fd, "EHLO c.example\r\n", "250 HELP");
	w->policyd_silent = true;
	assert_true(send(fd, ENVELOPE, strlen(ENVELOPE), 0) > 0);
	expect(w, fd, "250 ");
	assert_true(send(fd, "NOOP", 4, 0) > 0); /* what can't be taken yet is not watched for */
	turn(w);
	assert_int_equal(list_entry(w->m->conns.next, struct conn, node)->watch.want, 0);
	peer_close(w, &w->policyd);
	turn(w);
	w->policyd_silent = false;
	peer_open(w, &w->policyd, "policyd", policyd_handlers);
	expect(w, fd, "250 2.1.5 Accepted");
	say(w, fd, "\r\n", "250 2.0.0 OK");
	peer_close(w, &w->qmgr); /* the file is lost before the data */
	assert_true(send(fd, "DATA\r\n", 6, 0) > 0);
	turn(w);
	peer_open(w, &w->qmgr, "qmgr", qmgr_handlers);
	expect(w, fd, "354 ");
	say(w, fd, "x\r\n.\r\n", "250 2.0.0 OK");

	w->lose = true; /* a worker dies */
	envelope(w, fd);
	say(w, fd, "DATA\r\n", "354 ");
	assert_true(send(fd, "x\r\n", 3, 0) > 0);
	turn(w);
	peer_close(w, &w->qmgr); /* and qmgr within the data */
	peer_open(w, &w->qmgr, "qmgr", qmgr_handlers);
	say(w, fd, ".\r\n", "451 4.3.0");
	envelope(w, fd);
	say(w, fd, "RSET\r\n", "250 2.0.0");
	assert_int_equal(w->aborts, 1);

	w->qmgr_silent = true; /* a file that comes when nobody wants it */
	envelope(w, fd);
	say(w, fd, "RSET\r\n", "250 2.0.0");
	close(fd);
	turn(w);
	assert_int_equal(w->m->n_conns, 0);
	world_free(w);
}

static void test_limits(void **state)
{
	struct world *w = world_new("smtp_accept_max = 2\n");
	int one = client(w), two, three;

	(void)state;
	expect(w, one, "220 ");
	two = client(w);
	expect(w, two, "220 ");
	three = client(w);
	expect(w, three, "421 4.3.2");
	assert_true(closed(w, three));
	close(one);
	turn(w);
	close(three);
	three = client(w);
	expect(w, three, "220 ");
	close(two);
	close(three);
	turn(w);
	world_free(w);
}

static void test_drain(void **state)
{
	struct world *w = world_new("");
	int fd = client(w), busy = client(w);

	(void)state;
	expect(w, fd, "220 ");
	expect(w, busy, "220 ");
	say(w, busy, "EHLO c.example\r\n", "250 HELP");
	envelope(w, busy);
	say(w, busy, "DATA\r\n", "354 ");
	smtpd_spec.drain(&w->d, 400);
	expect(w, fd, "421 ");
	assert_true(closed(w, fd));
	close(fd);
	assert_int_equal(w->m->n_conns, 1); /* a message under way is finished */
	say(w, busy, "x\r\n.\r\n", "250 2.0.0 OK");
	close(busy);
	world_free(w);
}

/* What an idle session costs in user space. */
static void test_memory(void **state)
{
	enum { N = 400 };
	struct world *w = world_new("smtp_accept_max = 1000\n");
	static int fds[N];
	struct mallinfo2 before, after;

	(void)state;
	fds[0] = client(w);
	expect(w, fds[0], "220 ");
	say(w, fds[0], "EHLO c.example\r\n", "250 HELP");
	before = mallinfo2();
	for (int i = 1; i < N; i++) {
		fds[i] = client(w);
		expect(w, fds[i], "220 ");
		say(w, fds[i], "EHLO c.example\r\n", "250 HELP");
		envelope(w, fds[i]);
		say(w, fds[i], "RSET\r\n", "250 ");
	}
	after = mallinfo2();
	print_message("an idle session: %zu octets of heap, %zu of them in the connection\n", (after.uordblks - before.uordblks) / (N - 1), sizeof(struct conn));
	if (before.uordblks && (after.uordblks - before.uordblks) / (N - 1) > 2560)
		fail_msg("an idle session costs %zu octets", (after.uordblks - before.uordblks) / (N - 1));
	for (int i = 0; i < N; i++)
		close(fds[i]);
	turn(w);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages), cmocka_unit_test(test_large), cmocka_unit_test(test_restarts), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_drain), cmocka_unit_test(test_memory),
	};

	smtpd_prepare();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

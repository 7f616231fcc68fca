/* SPDX-License-Identifier: ISC */
/* The agent as a whole, with a channel in front and small servers behind, all in one loop. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "smtp-out/smtp_out.h"

enum { HOSTS = 3, RESULTS = 8, DEADLINE_MS = 30000 };

/* ---- a server: fixed replies, and what it received ---- */

struct server {
	struct loop *loop;
	struct loop_fd listener;
	int fd;
	unsigned port, accepted, dropped;
	char path[64];
	/* what it says; NULL: the usual; "": closes instead */
	const char *banner, *ehlo, *mail, *rcpt, *rcpt2, *data, *dot;
	const char *postmaster;    /* to RCPT TO:<postmaster@... */
	bool close_after_dot;      /* the connection that waits dies */
	bool slow;                 /* small receive buffer, reads little at a time */
	struct buf got;            /* contents, one behind the other, as on the wire */
	struct buf commands;
};

struct peer {
	struct server *s;
	struct loop_fd watch;
	struct buf in;
	bool content, close_now;
	unsigned rcpts;
};

static void peer_free(void *arg)
{
	mem_free(arg);
}

static void peer_end(struct peer *p)
{
	if (p->watch.fd < 0)
		return;
	loop_fd_clear(&p->watch);
	close(p->watch.fd);
	p->watch.fd = -1;
	buf_clear(&p->in);
	loop_defer(p->s->loop, peer_free, p);
}

static void peer_say(struct peer *p, const char *text, const char *usual)
{
	char line[400];
	int n = snprintf(line, sizeof line, "%s\r\n", text ? text : usual);

	if (text && !*text)
		p->close_now = true;
	else
		assert_int_equal(send(p->watch.fd, line, (size_t)n, MSG_NOSIGNAL), n);
	if (text && !strncmp(text, "421", 3))
		p->close_now = true;
}

static void peer_command(struct peer *p, struct str line)
{
	struct server *s = p->s;

	buf_add_str(&s->commands, line);
	buf_addc(&s->commands, '|');
	if (str_begins(line, "EHLO") || str_begins(line, "LHLO") || str_begins(line, "HELO")) {
		peer_say(p, s->ehlo, "250-server\r\n250-8BITMIME\r\n250 PIPELINING");
	} else if (str_begins(line, "MAIL")) {
		p->rcpts = 0;
		peer_say(p, s->mail, "250 ok");
	} else if (s->postmaster && str_begins(line, "RCPT TO:<postmaster@")) {
		peer_say(p, s->postmaster, NULL);
	} else if (str_begins(line, "RCPT")) {
		peer_say(p, p->rcpts++ ? s->rcpt2 : s->rcpt, "250 ok");
	} else if (str_begins(line, "DATA")) {
		peer_say(p, s->data, "354 go");
		p->content = !s->data;
	} else if (str_begins(line, "QUIT")) {
		peer_say(p, NULL, "221 bye");
		p->close_now = true;
	} else {
		peer_say(p, NULL, "250 ok");
	}
}

/* False when more octets are needed. */
static bool peer_step(struct peer *p)
{
	struct str in = buf_str(&p->in);
	ptrdiff_t at;

	if (p->content) {
		at = str_begins(in, ".\r\n") ? 0 : str_find_str(in, STR_LIT("\r\n.\r\n"));
		if (at < 0)
			return false;
		at += at || !str_begins(in, ".\r\n") ? 5 : 3;
		buf_add(&p->s->got, p->in.p, (size_t)at);
		buf_drop(&p->in, (size_t)at);
		p->content = false;
		peer_say(p, p->s->dot, "250 queued \"so\"");
		p->close_now |= p->s->close_after_dot;
		return true;
	}
	at = str_find_str(in, STR_LIT("\r\n"));
	if (at < 0)
		return false;
	peer_command(p, str_sub(in, 0, (size_t)at));
	if (p->watch.fd >= 0)
		buf_drop(&p->in, (size_t)at + 2);
	return true;
}

static void peer_event(void *arg, unsigned ready)
{
	struct peer *p = arg;
	size_t size = p->s->slow ? 2000 : 65536;
	char *room;
	ssize_t n;

	(void)ready;
	if (p->watch.fd < 0)
		return;
	room = buf_room(&p->in, size);
	n = recv(p->watch.fd, room, size, 0);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			peer_end(p);
		return;
	}
	p->in.len += (size_t)n;
	while (!p->close_now && peer_step(p))
		;
	if (p->close_now) {
		p->s->dropped++;
		peer_end(p);
	}
}

static void server_accept(void *arg, unsigned ready)
{
	struct server *s = arg;
	int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct peer *p;

	(void)ready;
	if (fd < 0)
		return;
	s->accepted++;
	p = mem_new(sizeof *p);
	p->s = s;
	loop_fd_init(&p->watch, s->loop, fd, peer_event, p);
	loop_fd_set(&p->watch, LOOP_READ);
	peer_say(p, s->banner, "220 server");
	if (p->close_now)
		peer_end(p);
}

static void server_open(struct server *s, struct loop *loop, const char *path)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t len = sizeof in;
	int size = 4096;

	s->loop = loop;
	s->fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->slow)
		setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (path) {
		snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
		assert_int_equal(bind(s->fd, (void *)&un, sizeof un), 0);
	} else {
		assert_int_equal(bind(s->fd, (void *)&in, sizeof in), 0);
		assert_int_equal(getsockname(s->fd, (void *)&in, &len), 0);
		s->port = ntohs(in.sin_port);
	}
	assert_int_equal(listen(s->fd, 16), 0);
	loop_fd_init(&s->listener, loop, s->fd, server_accept, s);
	loop_fd_set(&s->listener, LOOP_READ);
}

static void server_close(struct server *s)
{
	if (s->fd <= 0)
		return;
	loop_fd_clear(&s->listener);
	close(s->fd);
	s->fd = -1;
	buf_clear(&s->got);
	buf_clear(&s->commands);
}

/* ---- the world ---- */

struct world {
	struct loop *loop;
	struct smtp_out *so;
	struct channel *front, *agent;
	struct server servers[HOSTS];
	unsigned n_servers;
	const char *options[8][2];
	const char *helo[HOSTS];   /* helo_data of a host's own; NULL: the plan's */
	struct arena arena;
	struct ipc_delivered results[RESULTS];
	struct ipc_callout_answer callout;
	unsigned n_results, n_closed;
	uint64_t closed;
	bool drained;
};

static void on_deliver(void *owner, struct ipc_in *in)
{
	struct world *w = owner;

	smtp_out_deliver(w->so, in);
}

static void on_close(void *owner, struct ipc_in *in)
{
	struct world *w = owner;

	smtp_out_conn_close(w->so, in);
}

static void on_closed(void *owner, struct ipc_in *in)
{
	struct world *w = owner;

	w->n_closed++;
	w->closed = ((const struct ipc_conn_closed *)in->msg)->connection;
}

static void on_result(void *arg, struct ipc_in *in, const struct err *err)
{
	struct world *w = arg;

	if (!in)
		fail_msg("no answer: %s", err->text);
	assert_true(w->n_results < RESULTS);
	ipc_copy(&ipc_type_delivered, in->msg, &w->results[w->n_results++], &w->arena);
}

static void on_callout(void *owner, struct ipc_in *in)
{
	struct world *w = owner;

	smtp_out_callout(w->so, in);
}

static const struct ipc_handler agent_handlers[] = {
	{ IPC_deliver, on_deliver }, { IPC_conn_close, on_close }, { IPC_callout_ask, on_callout }, { 0, NULL }
};
static const struct ipc_handler front_handlers[] = { { IPC_conn_closed, on_closed }, { 0, NULL } };

static void world_open(struct world *w)
{
	struct channel_spec agent = { .peer = "qmgr", .handlers = agent_handlers, .owner = w };
	struct channel_spec front = { .peer = "smtp-out", .handlers = front_handlers, .owner = w };
	struct err err;
	int fds[2];

	w->loop = loop_new();
	w->so = smtp_out_new(w->loop, STR_LIT("me.example"), STR_NULL);
	assert_true(ipc_pair(fds, &err));
	w->front = channel_open(w->loop, fds[0], &front);
	w->agent = channel_open(w->loop, fds[1], &agent);
	for (unsigned i = 0; i < w->n_servers; i++)
		server_open(&w->servers[i], w->loop, *w->servers[i].path ? w->servers[i].path : NULL);
}

static void world_close(struct world *w)
{
	smtp_out_free(w->so);
	channel_free(w->front);
	channel_free(w->agent);
	for (int i = 0; i < 20; i++)
		loop_turn(w->loop, false);
	for (unsigned i = 0; i < w->n_servers; i++)
		server_close(&w->servers[i]);
	for (int i = 0; i < 3; i++)
		loop_turn(w->loop, false);
	loop_free(w->loop);
	arena_clear(&w->arena);
}

static void nudge(void *arg)
{
	(void)arg;
}

/* Turns the loop until *n has reached `want`; fails after DEADLINE_MS. */
static void world_wait(struct world *w, const unsigned *n, unsigned want)
{
	uint64_t end = clock_ms() + DEADLINE_MS;
	struct loop_timer tick = { 0 };

	while (*n < want) {
		if (clock_ms() > end)
			fail_msg("waited in vain: %u of %u", *n, want);
		loop_timer_start(&tick, w->loop, 20, nudge, NULL);
		loop_turn(w->loop, true);
	}
	loop_timer_stop(&tick);
}

static void world_idle(struct world *w, uint64_t ms)
{
	uint64_t end = clock_ms() + ms;
	struct loop_timer tick = { 0 };

	while (clock_ms() < end) {
		loop_timer_start(&tick, w->loop, 5, nudge, NULL);
		loop_turn(w->loop, true);
	}
	loop_timer_stop(&tick);
}

static int content_make(struct str content)
{
	int fd = memfd_create("message", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content.p, content.len), content.len);
	return fd;
}

/* The plan of all servers, in order, each a preference of its own; with `path` the first is a Unix socket. */
static struct str plan_make(struct world *w, const char *driver)
{
	struct ipc_host hosts[HOSTS];
	struct ipc_pair options[8], own[HOSTS];
	struct ipc_plan plan = { .transport = STR_LIT("remote"), .driver = str_of(driver), .options = options, .hosts = hosts };
	struct buf out = BUF_INIT;
	struct err err;
	struct str s;

	memset(hosts, 0, sizeof hosts);
	memset(options, 0, sizeof options);
	for (unsigned i = 0; i < w->n_servers && strcmp(driver, "lmtp"); i++) {
		hosts[i].name = str_printf(&w->arena, "h%u.example", i);
		hosts[i].ip = STR_LIT("127.0.0.1");
		hosts[i].port = w->servers[i].port;
		hosts[i].group = i;
		if (w->helo[i]) {
			own[i] = (struct ipc_pair){ .name = STR_LIT("helo_data"), .value = str_of(w->helo[i]) };
			hosts[i].options = &own[i];
			hosts[i].n_options = 1;
		}
		plan.n_hosts++;
	}
	for (unsigned i = 0; i < 8 && w->options[i][0]; i++) {
		options[i].name = str_of(w->options[i][0]);
		options[i].value = str_of(w->options[i][1]);
		plan.n_options++;
	}
	assert_int_equal(ipc_encode(&ipc_type_plan, &plan, &out, &err), ST_OK);
	s = str_dup(&w->arena, buf_str(&out));
	buf_clear(&out);
	return s;
}

#define HEADER "From: a@x\r\n\r\n"
#define BODY "hello\r\n.dot\r\n..\r\nend"
#define WIRE "Received: here\r\nFrom: a@x\r\n\r\nhello\r\n..dot\r\n...\r\nend\r\n.\r\n"

static void deliver(struct world *w, struct str plan, struct str content, unsigned n_rcpts, uint64_t connection)
{
	struct ipc_recipient rcpts[3] = { { .addr = STR_LIT("r0@y"), .index = 10 }, { .addr = STR_LIT("r1@y"), .index = 11 }, { .addr = STR_LIT("r2@y"), .index = 12 } };
	struct ipc_edit edit = { .op = EDIT_ADD_TOP, .text = STR_LIT("Received: here\r\n") };
	struct ipc_deliver m = {
		.delivery = 77, .id = STR_LIT("1abcde-000000-00"), .sender = STR_LIT("s@x"), .recipients = rcpts, .n_recipients = n_rcpts, .plan = plan,
		.edits = &edit, .n_edits = 1, .content = content.len, .header_size = sizeof HEADER - 1, .connection = connection,
	};
	int fd = content_make(content);

	channel_ask(w->front, &ipc_type_deliver, &m, &fd, 1, &ipc_type_delivered, 0, on_result, w);
}

static const struct ipc_delivered *deliver_wait(struct world *w, unsigned n_rcpts, uint64_t connection)
{
	deliver(w, connection ? STR_NULL : plan_make(w, "smtp"), STR_LIT(HEADER BODY), n_rcpts, connection);
	world_wait(w, &w->n_results, w->n_results + 1);
	return &w->results[w->n_results - 1];
}

static void outcome_check(const struct ipc_delivered *d, unsigned i, const char *want)
{
	char got[256];
	const struct ipc_outcome *o = &d->outcomes[i];

	assert_true(i < d->n_outcomes);
	assert_int_equal(o->recipient, 10 + i);
	snprintf(got, sizeof got, "%s %u %s%s %u", delivery_result_name(o->result), (unsigned)o->code, retry_error_name(o->error),
		o->host_error ? " host" : "", (unsigned)o->host);
	if (strcmp(got, want))
		fail_msg("got \"%s\", want \"%s\" (%.*s)", got, want, STR_FMT(o->text));
}

/* ---- cases ---- */

static void test_delivered(void **state)
{
	struct world w = { .n_servers = 1 };
	const struct ipc_delivered *d;

	(void)state;
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	outcome_check(d, 0, "delivered 250 none 1");
	assert_true(str_is(buf_str(&w.servers[0].got), WIRE));
	assert_true(str_is(d->host, "h0.example"));
	assert_true(str_is(d->local_ip, "127.0.0.1"));
	assert_int_equal(d->port, w.servers[0].port);
	assert_int_equal(d->n_hosts, 1);
	assert_int_equal(d->hosts[0].error, RETRY_NONE);
	assert_int_equal(d->sequence, 1);
	assert_true(d->connection != 0);
	assert_int_equal(d->n_log, 2 + (d->n_log > 2 && str_is(d->log[2].name, "TFO"))); /* where the kernel has a cookie of an earlier connection */
	assert_true(str_is(d->log[1].value, "\"250 queued \\\"so\\\"\""));
	assert_true(str_is(buf_str(&w.servers[0].commands), "EHLO me.example|MAIL FROM:<s@x>|RCPT TO:<r0@y>|DATA|"));
	world_close(&w);
}

static void test_reuse(void **state)
{
	struct world w = { .n_servers = 1 };
	const struct ipc_delivered *d;
	struct ipc_conn_close end;

	(void)state;
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	for (unsigned i = 2; i < 5; i++) {
		d = deliver_wait(&w, 2, d->connection);
		outcome_check(d, 1, "delivered 250 none 1");
		assert_int_equal(d->sequence, i);
	}
	assert_int_equal(w.servers[0].accepted, 1);
	end.connection = d->connection;
	channel_send(w.front, &ipc_type_conn_close, &end, NULL, 0);
	world_wait(&w, &w.servers[0].dropped, 1);
	assert_true(str_ends(buf_str(&w.servers[0].commands), "QUIT|"));
	world_idle(&w, 20);
	assert_int_equal(w.so->n_conns, 0);
	assert_int_equal(w.n_closed, 0);
	world_close(&w);
}

static void test_connection_max_messages(void **state)
{
	struct world w = { .n_servers = 1, .options = { { "connection_max_messages", "2" } } };
	const struct ipc_delivered *d;

	(void)state;
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	assert_true(d->connection != 0);
	d = deliver_wait(&w, 1, d->connection);
	assert_int_equal(d->connection, 0);
	world_wait(&w, &w.servers[0].dropped, 1);
	world_close(&w);
}

/* The connection dies while it waits: qmgr is told; a deliver that names it all the same gets a new one. */
static void test_waiting_dies(void **state)
{
	struct world w = { .n_servers = 1 };
	const struct ipc_delivered *d;

	(void)state;
	w.servers[0].close_after_dot = true;
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	assert_true(d->connection != 0);
	world_wait(&w, &w.n_closed, 1);
	assert_int_equal(w.closed, d->connection);
	w.servers[0].close_after_dot = false;
	d = deliver_wait(&w, 1, d->connection);
	outcome_check(d, 0, "delivered 250 none 1");
	assert_int_equal(w.servers[0].accepted, 2);
	assert_int_equal(d->sequence, 1);
	world_close(&w);
}

/* The same, but the loss shows only when MAIL has been sent. */
static void test_reused_dies(void **state)
{
	struct world w = { .n_servers = 1 };
	const struct ipc_delivered *d;
	unsigned accepted;

	(void)state;
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	w.servers[0].mail = "421 idle for too long";
	accepted = w.servers[0].accepted;
	deliver(&w, STR_NULL, STR_LIT(HEADER BODY), 1, d->connection);
	world_wait(&w, &w.servers[0].dropped, 1);
	w.servers[0].mail = NULL;
	world_wait(&w, &w.n_results, 2);
	outcome_check(&w.results[1], 0, "delivered 250 none 1");
	assert_int_equal(w.servers[0].accepted, accepted + 1);
	world_close(&w);
}

static void test_unknown_connection(void **state)
{
	struct world w = { .n_servers = 1 };

	(void)state;
	world_open(&w);
	outcome_check(deliver_wait(&w, 1, 999), 0, "deferred 0 other 0");
	world_close(&w);
}

/* What the first host does, and what comes of it with a second one that takes all. */
static const struct {
	const char *name;
	struct server first;
	const char *want[2];   /* outcomes of the two recipients */
	unsigned hosts;        /* tried */
	const char *host_error;
} failovers[] = {
	{ "refuses the connection", { .path = "closed" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "refused" },
	{ "banner 554", { .banner = "554 no" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "other" },
	{ "closes at once", { .banner = "" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "lost_connection" },
	{ "closes at EHLO", { .ehlo = "" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "lost_connection" },
	{ "MAIL 451", { .mail = "451 later" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "none" },
	{ "MAIL 550", { .mail = "550 no" }, { "failed 550 other 1", "failed 550 other 1" }, 1, "none" },
	{ "closes at MAIL", { .mail = "" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "lost_connection" },
	{ "one recipient 550", { .rcpt = "550 no" }, { "failed 550 other 1", "delivered 250 none 1" }, 1, "none" },
	{ "one recipient 450", { .rcpt = "450 later" }, { "delivered 250 none 2", "delivered 250 none 1" }, 2, "none" },
	{ "closes at the second RCPT", { .rcpt2 = "" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "lost_connection" },
	{ "DATA 451", { .data = "451 later" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "none" },
	{ "dot 554", { .dot = "554 spam" }, { "failed 554 other 1", "failed 554 other 1" }, 1, "none" },
	{ "dot 451", { .dot = "451 later" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "none" },
	{ "closes at the dot", { .dot = "" }, { "delivered 250 none 2", "delivered 250 none 2" }, 2, "none" },
};

static void test_failover(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof failovers / sizeof *failovers; i++) {
		struct world w = { .n_servers = 2 };
		const struct ipc_delivered *d;

		print_message("  %s\n", failovers[i].name);
		w.servers[0] = failovers[i].first;
		if (*w.servers[0].path) { /* a port that was just given back */
			w.servers[0].path[0] = '\0';
			world_open(&w);
			loop_fd_clear(&w.servers[0].listener);
			close(w.servers[0].fd);
			w.servers[0].fd = -1;
		} else {
			world_open(&w);
		}
		d = deliver_wait(&w, 2, 0);
		outcome_check(d, 0, failovers[i].want[0]);
		outcome_check(d, 1, failovers[i].want[1]);
		assert_int_equal(d->n_hosts, failovers[i].hosts);
		assert_string_equal(retry_error_name(d->hosts[0].error), failovers[i].host_error);
		world_close(&w);
	}
}

/* 5xx from the last host that is left is a failure, from others not. */
static void test_all_refuse(void **state)
{
	struct world w = { .n_servers = 2 };

	(void)state;
	w.servers[0].banner = "554 no";
	w.servers[1].banner = "554 never";
	world_open(&w);
	outcome_check(deliver_wait(&w, 1, 0), 0, "failed 554 other host 2");
	world_close(&w);
	memset(&w, 0, sizeof w);
	w.n_servers = 2;
	w.servers[0].banner = "554 no";
	w.servers[1].banner = "";
	world_open(&w);
	outcome_check(deliver_wait(&w, 1, 0), 0, "deferred 0 lost_connection host 2");
	world_close(&w);
}

/* A host's own options come before those of the plan. */
static void test_host_options(void **state)
{
	struct world w = { .n_servers = 2, .options = { { "helo_data", "common.example" } }, .helo = { "first.example" } };

	(void)state;
	w.servers[0].mail = "451 later";
	world_open(&w);
	outcome_check(deliver_wait(&w, 1, 0), 0, "delivered 250 none 2");
	assert_non_null(memmem(w.servers[0].commands.p, w.servers[0].commands.len, "EHLO first.example", 18));
	assert_non_null(memmem(w.servers[1].commands.p, w.servers[1].commands.len, "EHLO common.example", 19));
	world_close(&w);
}

static void test_hosts_max_try(void **state)
{
	struct world w = { .n_servers = 3, .options = { { "hosts_max_try_hardlimit", "2" } } };

	(void)state;
	w.servers[0].banner = w.servers[1].banner = "";
	world_open(&w);
	outcome_check(deliver_wait(&w, 1, 0), 0, "deferred 0 lost_connection host 2");
	assert_int_equal(w.servers[2].accepted, 0);
	world_close(&w);
}

static void test_timeout(void **state)
{
	struct world w = { .n_servers = 1, .options = { { "command_timeout", "1s" } } };
	const struct ipc_delivered *d;

	(void)state;
	w.servers[0].ehlo = "250-half"; /* and no end */
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	outcome_check(d, 0, "deferred 0 timeout host 1");
	assert_true(str_is(d->outcomes[0].text, "SMTP timeout after EHLO me.example"));
	world_close(&w);
}

static void test_idle_timeout(void **state)
{
	struct world w = { .n_servers = 1, .options = { { "connection_idle_timeout", "1s" } } };
	const struct ipc_delivered *d;

	(void)state;
	world_open(&w);
	d = deliver_wait(&w, 1, 0);
	world_wait(&w, &w.n_closed, 1);
	assert_int_equal(w.closed, d->connection);
	world_wait(&w, &w.servers[0].dropped, 1);
	assert_true(str_ends(buf_str(&w.servers[0].commands), "QUIT|"));
	world_close(&w);
}

/* A large message to a slow reader: octet for octet, and not all of it in memory. */
static void test_large(void **state)
{
	enum { LINES = 60000 };
	struct world w = { .n_servers = 1 };
	struct buf content = BUF_INIT, want = BUF_INIT;
	const struct ipc_delivered *d;

	(void)state;
	w.servers[0].slow = true;
	world_open(&w);
	buf_adds(&content, HEADER);
	buf_adds(&want, "Received: here\r\n" HEADER);
	for (unsigned i = 0; i < LINES; i++) {
		buf_printf(&content, "%s line %u of it \x80\xff\r\n", i % 3 ? "" : ".", i);
		buf_printf(&want, "%s line %u of it \x80\xff\r\n", i % 3 ? "" : "..", i);
	}
	buf_adds(&want, ".\r\n");
	deliver(&w, plan_make(&w, "smtp"), buf_str(&content), 1, 0);
	world_wait(&w, &w.n_results, 1);
	d = &w.results[0];
	outcome_check(d, 0, "delivered 250 none 1");
	assert_true(str_eq(buf_str(&w.servers[0].got), buf_str(&want)));
	assert_true(d->bytes > want.len);
	buf_clear(&content);
	buf_clear(&want);
	world_close(&w);
}

static void test_file_too_short(void **state)
{
	struct world w = { .n_servers = 2 };
	struct ipc_recipient rcpt = { .addr = STR_LIT("r0@y"), .index = 10 };
	struct ipc_deliver m = { .sender = STR_LIT("s@x"), .recipients = &rcpt, .n_recipients = 1, .content = 100000, .header_size = sizeof HEADER - 1 };
	int fd = content_make(STR_LIT(HEADER BODY));

	(void)state;
	world_open(&w);
	m.plan = plan_make(&w, "smtp");
	channel_ask(w.front, &ipc_type_deliver, &m, &fd, 1, &ipc_type_delivered, 0, on_result, &w);
	world_wait(&w, &w.n_results, 1);
	outcome_check(&w.results[0], 0, "deferred 0 other 1");
	assert_int_equal(w.servers[0].got.len, 0);
	assert_int_equal(w.servers[1].accepted, 0);
	world_close(&w);
}

static void test_lmtp_socket(void **state)
{
	char path[64];
	struct world w = { .n_servers = 1, .options = { { "socket", path } } };
	const struct ipc_delivered *d;

	(void)state;
	snprintf(path, sizeof path, "/tmp/smtp_out_test.%ld", (long)getpid());
	memcpy(w.servers[0].path, path, sizeof path);
	w.servers[0].dot = "250 one\r\n452 2 is full";
	unlink(path);
	world_open(&w);
	deliver(&w, plan_make(&w, "lmtp"), STR_LIT(HEADER BODY), 2, 0);
	world_wait(&w, &w.n_results, 1);
	d = &w.results[0];
	outcome_check(d, 0, "delivered 250 none 0");
	outcome_check(d, 1, "deferred 452 data_4xx 0");
	assert_true(str_is(d->store, path));
	assert_true(str_begins(buf_str(&w.servers[0].commands), "LHLO me.example|"));
	unlink(path);
	world_close(&w);
}

static void test_bad_plans(void **state)
{
	static const struct { const char *option, *value, *driver, *text; } cases[] = {
		{ "port", "nonsense", "smtp", "port" }, { "no_such_option", "1", "smtp", "no_such_option" },
		{ "command_timeout", "soon", "smtp", "command_timeout" }, { "socket", "relative", "lmtp", "absolute" },
		{ NULL, NULL, "appendfile", "appendfile" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct world w = { .n_servers = 1, .options = { { cases[i].option, cases[i].value } } };

		world_open(&w);
		deliver(&w, plan_make(&w, cases[i].driver), STR_LIT(HEADER BODY), 1, 0);
		world_wait(&w, &w.n_results, 1);
		outcome_check(&w.results[0], 0, "deferred 0 other 0");
		if (str_find_str(w.results[0].outcomes[0].text, str_of(cases[i].text)) < 0)
			fail_msg("%s: \"%.*s\"", cases[i].text, STR_FMT(w.results[0].outcomes[0].text));
		world_close(&w);
	}
}

static void on_drained(void *arg)
{
	struct world *w = arg;

	w->drained = true;
}

static void test_drain(void **state)
{
	struct world w = { .n_servers = 1 };

	(void)state;
	world_open(&w);
	deliver_wait(&w, 1, 0);
	smtp_out_drain(w.so, on_drained, &w);
	assert_false(w.drained);
	world_wait(&w, &w.n_closed, 1);
	world_idle(&w, 50);
	assert_true(w.drained);
	world_close(&w);
}

/* The queue manager dies: nothing of it goes on. */
static void test_channel_lost(void **state)
{
	struct world w = { .n_servers = 1 };

	(void)state;
	w.servers[0].mail = "250-not yet";
	world_open(&w);
	deliver(&w, plan_make(&w, "smtp"), STR_LIT(HEADER BODY), 1, 0);
	world_wait(&w, &w.servers[0].accepted, 1);
	world_idle(&w, 20);
	assert_int_equal(w.so->n_deliveries, 1);
	smtp_out_channel_closed(w.so, w.agent);
	assert_int_equal(w.so->n_deliveries, 0);
	assert_int_equal(w.so->n_conns, 0);
	channel_cancel(w.front, 1);
	smtp_out_free(w.so);
	channel_free(w.agent);
	w.so = smtp_out_new(w.loop, STR_LIT("x"), STR_NULL);
	w.agent = NULL;
	w.n_results = 0;
	channel_free(w.front);
	w.front = NULL;
	world_close(&w);
}

/* ---- callouts ---- */

static void on_callout_result(void *arg, struct ipc_in *in, const struct err *err)
{
	struct world *w = arg;

	if (!in)
		fail_msg("no answer: %s", err->text);
	ipc_copy(&ipc_type_callout_answer, in->msg, &w->callout, &w->arena);
	w->n_results++;
}

#define HELLO "EHLO me.example|MAIL FROM:<>|"

/* What the first server says (a second one refuses all recipients), what is asked, what comes of it: status, stage, code, random, recipient,
 * postmaster; and what the servers heard. */
static const struct callout_case {
	const char *name;
	struct server first;
	struct ipc_callout_ask ask;
	const char *want, *sent, *commands;
	unsigned second;              /* how often the second server was asked */
	const char *driver_option[2];
} callouts[] = {
	{ "taken", { .fd = 0 }, { .end_ms = 0 }, "ok 5 0 0 1 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|QUIT|", 0, { NULL } },
	{ "refused", { .rcpt = "550 5.1.1 no" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|QUIT|", 0, { NULL } },
	{ "later", { .rcpt = "450 later" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|QUIT|", 1, { NULL } },
	{ "closing", { .rcpt = "421 bye" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|", 1, { NULL } },
	{ "closed at RCPT", { .rcpt = "" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|", 1, { NULL } },
	{ "closed at the banner", { .banner = "" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", "", 1, { NULL } },
	{ "closed at EHLO", { .ehlo = "" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", "EHLO me.example|", 1, { NULL } },
	{ "nonsense", { .rcpt = "hello" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|", 1, { NULL } },
	{ "354 to RCPT", { .rcpt = "354 go" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|", 1, { NULL } },
	{ "half a reply", { .rcpt = "250-and" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|", 1, { NULL } },
	{ "banner refuses", { .banner = "554 no" }, { .end_ms = 0 }, "fail 1 554 0 0 0", "initial connection", "QUIT|", 0, { NULL } },
	{ "EHLO and HELO refused", { .ehlo = "550 no" }, { .end_ms = 0 }, "fail 2 550 0 0 0", "HELO me.example", "EHLO me.example|HELO me.example|QUIT|", 0, { NULL } },
	{ "MAIL refused", { .mail = "550 no" }, { .end_ms = 0 }, "fail 3 550 0 0 0", "MAIL FROM:<>", HELLO "QUIT|", 0, { NULL } },
	{ "MAIL deferred", { .mail = "450 no" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", HELLO "QUIT|", 1, { NULL } },
	{ "with a sender", { .fd = 0 }, { .sender = STR_LIT("s@x") }, "ok 5 0 0 1 0", "RCPT TO:<u@y>", "EHLO me.example|MAIL FROM:<s@x>|RCPT TO:<u@y>|QUIT|", 0, { NULL } },
	{ "random taken", { .fd = 0 }, { .random = STR_LIT("z@y"), .postmaster = STR_LIT("postmaster@y") }, "ok 4 0 1 0 0", "RCPT TO:<z@y>",
		HELLO "RCPT TO:<z@y>|QUIT|", 0, { NULL } },
	{ "random refused", { .rcpt = "550 no" }, { .random = STR_LIT("z@y") }, "fail 5 550 2 2 0", "RCPT TO:<u@y>",
		HELLO "RCPT TO:<z@y>|RSET|MAIL FROM:<>|RCPT TO:<u@y>|QUIT|", 0, { NULL } },
	{ "random deferred", { .rcpt = "450 no" }, { .random = STR_LIT("z@y") }, "fail 5 550 2 2 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<z@y>|QUIT|", 1, { NULL } },
	{ "postmaster", { .fd = 0 }, { .postmaster = STR_LIT("postmaster@y"), .postmaster_sender = STR_LIT("p@x") }, "ok 6 0 0 1 1", "RCPT TO:<postmaster@y>",
		HELLO "RCPT TO:<u@y>|RSET|MAIL FROM:<p@x>|RCPT TO:<postmaster@y>|QUIT|", 0, { NULL } },
	{ "not pipelined, no SIZE", { .ehlo = "250-s\r\n250-SIZE 10\r\n250-DSN\r\n250 PIPELINING" }, { .end_ms = 0 }, "ok 5 0 0 1 0", "RCPT TO:<u@y>",
		HELLO "RCPT TO:<u@y>|QUIT|", 0, { NULL } },
	{ "no SMTPUTF8", { .fd = 0 }, { .addr = STR_LIT("\xc3\xbc@y"), .utf8 = true }, "fail 5 0 0 2 0", "RCPT TO:<\xc3\xbc@y>", "EHLO me.example|QUIT|", 0,
		{ "utf8_downconvert", "0" } },
	{ "no SMTPUTF8, converted", { .fd = 0 }, { .addr = STR_LIT("\xc3\xbc@y"), .utf8 = true }, "ok 5 0 0 1 0", "RCPT TO:<xn--tda@y>", HELLO "RCPT TO:<xn--tda@y>|QUIT|", 0,
		{ NULL } },
	{ "unspeakable", { .fd = 0 }, { .addr = STR_LIT("a\r\nDATA@y") }, "fail 1 0 0 0 0", "", "", 0, { NULL } },
	{ "unspeakable sender", { .fd = 0 }, { .sender = STR_LIT("a>\r\nDATA") }, "fail 1 0 0 0 0", "", "", 0, { NULL } },
	{ "no time for a second host", { .rcpt = "450 later" }, { .maxwait_ms = 1 }, "defer 5 450 0 0 0", "RCPT TO:<u@y>", HELLO "RCPT TO:<u@y>|QUIT|", 0, { NULL } },
	{ "the time is over", { .rcpt = "250-and" }, { .end_ms = 100 }, "defer 5 0 0 0 0", "", HELLO "RCPT TO:<u@y>|", 0, { NULL } },
	{ "LMTP", { .rcpt = "550 no" }, { .end_ms = 0 }, "fail 5 550 0 2 0", "RCPT TO:<u@y>", "LHLO me.example|MAIL FROM:<>|RCPT TO:<u@y>|QUIT|", 0, { "protocol", "lmtp" } },
};

static void test_callouts(void **state)
{
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < sizeof callouts / sizeof *callouts; i++) {
		const struct callout_case *c = &callouts[i];
		struct world w = { .n_servers = 2, .options = { { "command_timeout", "1s" }, { c->driver_option[0], c->driver_option[1] } } };
		struct ipc_callout_ask m = c->ask;
		char got[64];

		w.servers[0] = c->first;
		w.servers[1].rcpt = "550 second";
		world_open(&w);
		m.plan = plan_make(&w, "smtp");
		if (!m.addr.len)
			m.addr = STR_LIT("u@y");
		m.end_ms = m.end_ms ? m.end_ms : DEADLINE_MS;
		m.maxwait_ms = m.maxwait_ms == 1 ? 0 : DEADLINE_MS;
		channel_ask(w.front, &ipc_type_callout_ask, &m, NULL, 0, &ipc_type_callout_answer, 0, on_callout_result, &w);
		world_wait(&w, &w.n_results, 1);
		world_idle(&w, 10);
		snprintf(got, sizeof got, "%s %u %u %u %u %u", status_name((enum status)w.callout.status), (unsigned)w.callout.stage, (unsigned)w.callout.code,
			(unsigned)w.callout.random, (unsigned)w.callout.recipient, (unsigned)w.callout.postmaster);
		if (strcmp(got, c->want) || !str_is(w.callout.sent, c->sent) || !str_is(buf_str(&w.servers[0].commands), c->commands) ||
			w.servers[1].accepted != c->second || w.so->n_deliveries || w.so->n_conns) {
			print_error("%s: got %s sent \"%.*s\" commands %.*s second %u (%.*s) left %u %u\n  want %s sent \"%s\" commands %s second %u\n", c->name, got,
				STR_FMT(w.callout.sent), STR_FMT(buf_str(&w.servers[0].commands)), w.servers[1].accepted, STR_FMT(w.callout.text), w.so->n_deliveries,
				w.so->n_conns, c->want, c->sent, c->commands, c->second);
			bad++;
		}
		world_close(&w);
	}
	assert_int_equal(bad, 0);
}

/* Postmaster refused, then asked without a domain: each RCPT in a transaction of its own. */
static void test_callout_fullpostmaster(void **state)
{
	struct world w = { .n_servers = 1 };
	struct ipc_callout_ask m = { .addr = STR_LIT("u@y"), .postmaster = STR_LIT("postmaster@y"), .fullpostmaster = true, .end_ms = DEADLINE_MS, .maxwait_ms = 1000 };

	(void)state;
	world_open(&w);
	w.servers[0].postmaster = "550 none";
	m.plan = plan_make(&w, "smtp");
	channel_ask(w.front, &ipc_type_callout_ask, &m, NULL, 0, &ipc_type_callout_answer, 0, on_callout_result, &w);
	world_wait(&w, &w.n_results, 1);
	assert_int_equal(w.callout.status, ST_OK);
	assert_int_equal(w.callout.recipient, 1);
	assert_int_equal(w.callout.postmaster, 1);
	assert_true(str_is(w.callout.sent, "RCPT TO:<postmaster>"));
	assert_true(str_is(w.callout.ip, "127.0.0.1"));
	assert_int_equal(w.callout.port, w.servers[0].port);
	world_close(&w);
}

static void test_callout_bad_plan(void **state)
{
	struct world w = { .n_servers = 1 };
	struct ipc_callout_ask m = { .addr = STR_LIT("u@y"), .plan = STR_LIT("nonsense"), .end_ms = 1000 };

	(void)state;
	world_open(&w);
	channel_ask(w.front, &ipc_type_callout_ask, &m, NULL, 0, &ipc_type_callout_answer, 0, on_callout_result, &w);
	world_wait(&w, &w.n_results, 1);
	assert_int_equal(w.callout.status, ST_DEFER);
	assert_true(w.callout.text.len > 0);
	world_close(&w);
}

/* The router's worker dies in the middle: the connection is closed. */
static void test_callout_abandoned(void **state)
{
	struct world w = { .n_servers = 1 };
	struct ipc_callout_ask m = { .addr = STR_LIT("u@y"), .end_ms = DEADLINE_MS, .maxwait_ms = 1000 };

	(void)state;
	w.servers[0].mail = "250-not yet";
	world_open(&w);
	m.plan = plan_make(&w, "smtp");
	channel_ask(w.front, &ipc_type_callout_ask, &m, NULL, 0, &ipc_type_callout_answer, 0, on_callout_result, &w);
	world_wait(&w, &w.servers[0].accepted, 1);
	world_idle(&w, 20);
	assert_int_equal(w.so->n_deliveries, 1);
	smtp_out_channel_closed(w.so, w.agent);
	assert_int_equal(w.so->n_deliveries, 0);
	assert_int_equal(w.so->n_conns, 0);
	channel_cancel(w.front, 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delivered), cmocka_unit_test(test_reuse), cmocka_unit_test(test_connection_max_messages),
		cmocka_unit_test(test_waiting_dies), cmocka_unit_test(test_reused_dies), cmocka_unit_test(test_unknown_connection),
		cmocka_unit_test(test_failover), cmocka_unit_test(test_all_refuse), cmocka_unit_test(test_hosts_max_try), cmocka_unit_test(test_host_options),
		cmocka_unit_test(test_timeout), cmocka_unit_test(test_idle_timeout), cmocka_unit_test(test_large),
		cmocka_unit_test(test_file_too_short), cmocka_unit_test(test_lmtp_socket), cmocka_unit_test(test_bad_plans),
		cmocka_unit_test(test_drain), cmocka_unit_test(test_channel_lost), cmocka_unit_test(test_callouts),
		cmocka_unit_test(test_callout_fullpostmaster), cmocka_unit_test(test_callout_bad_plan), cmocka_unit_test(test_callout_abandoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

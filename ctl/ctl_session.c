/* SPDX-License-Identifier: ISC */
/* ctl_session.c - a fake SMTP session (as exim -bh): smtpd, policyd and router of the command's own, the client played on standard
 * input and output. The command is their master and their queue manager (session_queue.c): nothing is ever delivered or kept.
 *
 *   stdin, stdout <--> socket pair <--> smtpd --> policyd --> router
 *                                         |
 *                                         +--> session_queue.c       logs of all: a pipe, shown on stderr */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/conf/view.h"
#include "common/mail/msgid.h"
#include "ctl/session.h"

enum { SESSION_READ = 65536, SESSION_BACKLOG = 1024 * 1024 /* octets of input that wait for smtpd */ };

enum { D_ROUTER, D_POLICYD, D_SMTPD, DAEMONS };

struct fake {
	struct ctl *ctl;
	struct offline_daemon daemon[DAEMONS];
	struct offline_queries queries;
	struct session_queue queue;
	struct ipc_session_client who;
	int client, logs;          /* our ends; -1: closed */
	struct buf to_client, log_rest;
	bool last_cr, input_end, done;
	const char *error;
	char hints[64];            /* a directory for this session's counters */
};

/* ---- the log ---- */

/* "2026-11-21 14:00:00 TEXT": the time says nothing here. Traces of ACLs begin with ">>>", those of a message behind its id. */
static void log_show(struct str line)
{
	struct str text = line;
	ptrdiff_t trace;

	if (text.len > 20 && text.p[4] == '-' && text.p[13] == ':' && text.p[16] == ':') {
		ptrdiff_t blank = str_find(str_from(text, 11), ' ');

		text = str_from(text, 11 + (size_t)(blank < 0 ? 0 : blank + 1));
	}
	trace = str_find_str(text, STR_LIT(">>> "));
	if (trace == 0 || trace == MSGID_SIZE)
		fprintf(stderr, "%.*s\n", STR_FMT(str_from(text, (size_t)trace)));
	else if (str_find_str(text, STR_LIT(": master: it has closed the channel")) < 0) /* how they end */
		fprintf(stderr, "LOG: %.*s\n", STR_FMT(text));
}

static void logs_read(struct fake *f)
{
	char text[SESSION_READ];
	ssize_t n;

	while ((n = read(f->logs, text, sizeof text)) > 0) {
		struct str rest;
		ptrdiff_t end;

		buf_add(&f->log_rest, text, (size_t)n);
		rest = buf_str(&f->log_rest);
		while ((end = str_find(rest, '\n')) >= 0) {
			log_show(str_sub(rest, 0, (size_t)end));
			rest = str_from(rest, (size_t)end + 1);
		}
		buf_drop(&f->log_rest, f->log_rest.len - rest.len);
	}
	fflush(stderr);
}

/* ---- the daemons ---- */

static void fail(struct fake *f, struct err *err)
{
	if (!f->error)
		f->error = arena_strdup(&f->ctl->arena, err->text);
	f->done = true;
}

/* policyd's worker wants a router, router's a process for a program; whatever else a daemon asks for does not exist here. */
static void on_need(void *arg, struct offline_daemon *d, const struct ipc_ctl_need *need)
{
	struct fake *f = arg;
	struct err err = ERR_INIT;
	int pair[2];

	if (str_is(need->peer, "query")) {
		offline_query_serve(f->ctl, &f->queries, d, need);
		return;
	}
	if (!str_is(need->peer, "router")) {
		struct ipc_ctl_refused no = { .cookie = need->cookie, .text = STR_LIT("not in a fake session") };

		ipc_send(d->control, &ipc_type_ctl_refused, 0, false, &no, NULL, 0, OFFLINE_START_MS, &err);
		return;
	}
	if (!ipc_pair(pair, &err) || offline_daemon_channel(&f->daemon[D_ROUTER], "policyd", 0, pair[0], &err) ||
	    offline_daemon_channel(d, "router", need->cookie, pair[1], &err))
		fail(f, &err);
}

static void daemon_read(struct fake *f, int i)
{
	struct err err = ERR_INIT;

	if (offline_daemon_read(&f->daemon[i], &f->ctl->arena, 0, on_need, f, &err) == ST_OK || err.status == ST_DEFER)
		return;
	err_prefix(&err, "%s", f->daemon[i].name);
	fail(f, &err);
}

static enum status daemon_start(struct fake *f, int i, const char *name, uint32_t see, int log, struct err *err)
{
	/* What goes to the reject and panic log as well is shown once. */
	const int logs[3] = { fcntl(log, F_DUPFD_CLOEXEC, 3), -1, -1 };
	enum status st = offline_daemon_start(f->ctl, &f->daemon[i], name, see, logs, err);

	return st ? err_prefix(err, "starting %s", name) : ST_OK;
}

static enum status ready_wait(struct fake *f, int i, struct err *err)
{
	while (!f->daemon[i].ready && !f->done) {
		enum status st = offline_daemon_read(&f->daemon[i], &f->ctl->arena, OFFLINE_START_MS, on_need, f, err);

		if (st)
			return err_set(err, ST_ERROR, "starting %s: %s", f->daemon[i].name, arena_strdup(&f->ctl->arena, err->text));
	}
	return ST_OK;
}

/* router, policyd with a router, smtpd with a policyd and a queue. */
static enum status daemons_start(struct fake *f, int log, struct err *err)
{
	int policy[2], session[2], socket_pair[2];
	enum status st = daemon_start(f, D_ROUTER, "router", V_ROUTER, log, err);

	if (!st)
		st = offline_daemon_go(&f->daemon[D_ROUTER], err);
	if (!st)
		st = ready_wait(f, D_ROUTER, err);
	if (!st)
		st = daemon_start(f, D_POLICYD, "policyd", V_POLICYD, log, err);
	if (!st && !ipc_pair(policy, err))
		st = ST_ERROR;
	if (!st)
		st = offline_daemon_channel(&f->daemon[D_POLICYD], "smtpd", 0, policy[0], err);
	if (!st)
		st = offline_daemon_go(&f->daemon[D_POLICYD], err);
	if (!st)
		st = ready_wait(f, D_POLICYD, err);
	if (!st)
		st = daemon_start(f, D_SMTPD, "smtpd", V_SMTPD, log, err);
	if (!st)
		st = offline_daemon_channel(&f->daemon[D_SMTPD], "policyd", 0, policy[1], err);
	if (!st)
		st = session_queue_open(&f->queue, &f->daemon[D_SMTPD], err);
	if (!st && !ipc_pair(session, err))
		st = ST_ERROR;
	if (!st)
		st = offline_daemon_channel(&f->daemon[D_SMTPD], "session", 0, session[1], err);
	if (!st)
		st = offline_daemon_go(&f->daemon[D_SMTPD], err);
	if (!st)
		st = ready_wait(f, D_SMTPD, err);
	if (!st && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socket_pair))
		st = err_set(err, ST_ERROR, "socketpair: %s", strerror(errno));
	if (st)
		return st;
	f->client = socket_pair[0];
	return ipc_send(session[0], &ipc_type_session_client, 0, false, &f->who, &socket_pair[1], 1, OFFLINE_START_MS, err);
}

/* ---- the client ---- */

/* People type lines that end in LF; SMTP's end in CR LF. */
static void input_add(struct fake *f, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n' && !f->last_cr)
			buf_addc(&f->to_client, '\r');
		buf_addc(&f->to_client, p[i]);
		f->last_cr = p[i] == '\r';
	}
}

static void input_read(struct fake *f)
{
	char text[SESSION_READ];
	ssize_t n = read(STDIN_FILENO, text, sizeof text);

	if (n > 0)
		input_add(f, text, (size_t)n);
	else if (n == 0 || errno != EINTR)
		f->input_end = true;
}

static void client_write(struct fake *f)
{
	while (f->to_client.len) {
		ssize_t n = send(f->client, f->to_client.p, f->to_client.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) /* it has closed; what it said comes behind */
			buf_clear(&f->to_client);
		else
			buf_drop(&f->to_client, (size_t)n);
	}
	if (f->input_end)
		shutdown(f->client, SHUT_WR);
}

static void client_read(struct fake *f)
{
	char text[SESSION_READ];
	ssize_t n = recv(f->client, text, sizeof text, 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		f->done = true;
		return;
	}
	logs_read(f); /* what led to this reply */
	fwrite(text, 1, (size_t)n, stdout);
	fflush(stdout);
}

/* ---- the loop ---- */

static void turn(struct fake *f)
{
	struct err err = ERR_INIT;
	struct pollfd fds[DAEMONS + 4];
	int k = 0, queue, logs, client, input = -1;

	for (int i = 0; i < DAEMONS; i++)
		fds[k++] = (struct pollfd){ f->daemon[i].control, POLLIN, 0 };
	fds[queue = k++] = (struct pollfd){ f->queue.fd, POLLIN, 0 };
	fds[logs = k++] = (struct pollfd){ f->logs, POLLIN, 0 };
	fds[client = k++] = (struct pollfd){ f->client, (short)(POLLIN | (f->to_client.len ? POLLOUT : 0)), 0 };
	if (!f->input_end && f->to_client.len < SESSION_BACKLOG)
		fds[input = k++] = (struct pollfd){ STDIN_FILENO, POLLIN, 0 };
	if (poll(fds, (nfds_t)k, -1) < 0)
		return;
	if (fds[logs].revents)
		logs_read(f);
	if (fds[queue].revents && session_queue_read(&f->queue, &err))
		fail(f, &err);
	for (int i = 0; i < DAEMONS; i++)
		if (fds[i].revents)
			daemon_read(f, i);
	if (input >= 0 && fds[input].revents) {
		input_read(f);
		client_write(f);
	}
	if (fds[client].revents & POLLOUT)
		client_write(f);
	if (fds[client].revents & (POLLIN | POLLHUP | POLLERR))
		client_read(f);
}

/* "192.0.2.1", "192.0.2.1.25", "2001:db8::1", "[2001:db8::1]:25" or "[2001:db8::1].25" */
static bool host_port_parse(struct ctl *ctl, const char *text, struct str *ip, uint64_t *port)
{
	unsigned char octets[16];
	const char *end;
	struct str rest = STR_NULL;

	if (text[0] == '[' && (end = strchr(text, ']'))) {
		*ip = str_make(text + 1, (size_t)(end - text) - 1);
		rest = str_of(end + 1);
	} else if (strchr(text, ':')) {
		*ip = str_of(text);
	} else {
		unsigned dots = 0;

		for (end = text; *end && !(*end == ':' || (*end == '.' && dots == 3)); end++)
			dots += *end == '.';
		*ip = str_make(text, (size_t)(end - text));
		rest = str_of(end);
	}
	if (rest.len && ((rest.p[0] != '.' && rest.p[0] != ':') || !str_u64(str_from(rest, 1), 65535, port)))
		return false;
	text = str_cstr(&ctl->arena, *ip);
	return inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, octets) == 1;
}

/* Counters and what else is remembered: this session's own, so that trying things out changes nothing. */
static bool hints_begin(struct fake *f)
{
	struct conf_opts_main *m = &f->ctl->conf->main;

	strcpy(f->hints, "/tmp/bulkhead-session-XXXXXX");
	if (!mkdtemp(f->hints)) {
		f->hints[0] = 0;
		return false;
	}
	m->hints.text = STR_LIT("lmdb");
	m->hints_directory.text = str_of(f->hints);
	m->policyd_workers_min = m->policyd_workers_max = 1;
	m->router_workers_min = 1;
	m->smtpd_processes = 1;
	return true;
}

static void hints_end(struct fake *f)
{
	static const char *const files[] = { "hints.mdb", "hints.mdb-lock" };
	char path[128];

	if (!f->hints[0])
		return;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "%s/%s", f->hints, files[i]);
		unlink(path);
	}
	rmdir(f->hints);
}

static int session_run(struct fake *f)
{
	struct err err = ERR_INIT;
	int logs[2];

	if (!hints_begin(f) || pipe2(logs, O_CLOEXEC))
		return ctl_fail(CTL_OSERR, "session: %s", strerror(errno));
	fcntl(logs[0], F_SETFL, O_NONBLOCK);
	f->logs = logs[0];
	fprintf(stdout, "\n**** SMTP session as if from host %.*s: nothing is delivered\n\n", STR_FMT(f->who.ip));
	fflush(stdout);
	if (daemons_start(f, logs[1], &err))
		fail(f, &err);
	close(logs[1]);
	while (!f->done)
		turn(f);
	for (int i = DAEMONS - 1; i >= 0; i--) /* what they still have to say comes with their end */
		if (f->daemon[i].name)
			offline_daemon_stop(&f->daemon[i]);
	offline_queries_stop(&f->queries);
	logs_read(f);
	hints_end(f);
	session_queue_close(&f->queue);
	buf_clear(&f->to_client);
	buf_clear(&f->log_rest);
	return f->error ? ctl_fail(CTL_SOFTWARE, "session: %s", f->error) : CTL_OK;
}

int ctl_session(struct ctl *ctl, int argc, char **argv)
{
	struct fake f = { .ctl = ctl, .client = -1, .logs = -1, .queue = { .fd = -1 } };
	const char *host = NULL, *interface = NULL, *helo = NULL;

	f.queue.arena = &ctl->arena;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--trace"))
			f.who.trace = f.queue.show = true;
		else if ((!strcmp(argv[i], "--interface") || !strcmp(argv[i], "-oMi")) && i + 1 < argc)
			interface = argv[++i];
		else if (!strcmp(argv[i], "--helo") && i + 1 < argc)
			helo = argv[++i];
		else if (argv[i][0] == '-' || host)
			return ctl_fail(CTL_USAGE, "session: %s is not known; --trace, --interface IP.PORT, --helo NAME and one IP address are", argv[i]);
		else
			host = argv[i];
	}
	if (!host || !host_port_parse(ctl, host, &f.who.ip, &f.who.port))
		return ctl_fail(CTL_USAGE, "session wants the client's address: 192.0.2.1, 192.0.2.1.PORT or [2001:db8::1].PORT");
	f.who.server_ip = strchr(host, ':') ? STR_LIT("::1") : STR_LIT("127.0.0.1");
	f.who.server_port = 25;
	if (interface && !host_port_parse(ctl, interface, &f.who.server_ip, &f.who.server_port))
		return ctl_fail(CTL_USAGE, "session: %s is no address of an interface", interface);
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	if (helo) {
		input_add(&f, "EHLO ", 5);
		input_add(&f, helo, strlen(helo));
		input_add(&f, "\n", 1);
	}
	return session_run(&f);
}

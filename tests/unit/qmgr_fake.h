/* SPDX-License-Identifier: ISC */
/* qmgr_fake.h - a queue manager with stand-ins for all its peers in one loop, and a clock that tests set.
 * Used by:    tests/unit/qmgr_*_test.c, tests/fuzz/qmgr_*_fuzz.c.
 * Owns:       struct fake owns everything, a scratch spool included. */
#ifndef TESTS_QMGR_FAKE_H
#define TESTS_QMGR_FAKE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qmgr/qmgr.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* not every test needs every stand-in */

enum { FAKE_PEERS = 4, FAKE_LOG = 4 << 20, FAKE_SENT_MAX = 20000 };

/* A delivery as an agent saw it. */
struct fake_sent {
	char id[SPOOL_ID_MAX + 1], sender[128], first[128], key[64];
	unsigned n;
	uint64_t connection, delivery;
	uint64_t request;
	unsigned agent;
	char *recipients; /* one a line */
};

struct fake_link {
	struct daemon_link link;
	struct channel *far;     /* the stand-in's end */
	struct fake *f;
	unsigned number;
};

struct fake {
	struct loop *loop;
	struct log log;
	int log_fd;
	struct daemon daemon;
	struct qmgr *q;
	struct settings *set;
	char dir[64];
	int64_t now_us;
	uint32_t load;
	struct fake_link smtpd, router, agents[FAKE_PEERS], local, ctl;
	/* intake */
	char id[SPOOL_ID_MAX + 1];
	int fd;
	uint64_t status;
	unsigned committed, refused;
	bool closed;
	struct ipc_house house;  /* as last told */
	/* agents */
	struct fake_sent *sent;
	unsigned n_sent, answered;
	bool hold;               /* deliveries are not answered before fake_answer() */
	bool up;                 /* down... is delivered, too */
	bool keep;               /* connections are kept open */
	uint64_t next_connection;
	unsigned closes;
	/* router */
	unsigned routed, max_rcpt, router_lost;
	bool route_hold;
	bool ask_failure;                  /* setting of each queue that is made */
	unsigned report_asks, report_lost; /* questions for words; those that are lost first */
	struct ipc_report_answer words;    /* what is answered */
	char report_to[128];               /* of the last question, with its kind and delay */
	const char *key;         /* NULL: the domain */
	const char *told_of;     /* the host that an agent has something to tell of; NULL: that of the delivery */
	/* the command */
	unsigned rows, ends;
	struct ipc_queue_end end;
	char end_text[256];
	char last_row[256];
	int row_fd;
	unsigned needs;
	uint64_t need_cookie;
};

static int64_t fake_wall(void *arg) { return ((struct fake *)arg)->now_us; }
static uint32_t fake_load(void *arg) { return ((struct fake *)arg)->load; }

static int fake_rm(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void fake_need(void *arg, const char *peer, uint64_t cookie, uint64_t uid, uint64_t gid, struct str user, bool initgroups)
{
	struct fake *f = arg;

	(void)peer, (void)uid, (void)gid, (void)user, (void)initgroups;
	f->needs++;
	f->need_cookie = cookie;
}

/* ---- the router ---- */

static struct str fake_domain(struct str addr) { return str_from(addr, (size_t)(str_rfind(addr, '@') + 1)); }

/* What happens is in the domain's name: fail.*, defer.*, hole.*, alias.* (two children at a.test, b.test), local.*, held.* (unless it is
 * forced), queued.* and pass.* (not on arrival; the latter is routed), o1.* to o9.* (with this place among remote deliveries), else smtp. */
static void fake_route(struct fake *f, struct ipc_in *in)
{
	static struct str rules[1] = { { "0", 1, false } };
	const struct ipc_route_ask *ask = in->msg;
	struct ipc_leaf leaves[2 * 64];
	struct ipc_plan plans[2 * 64];
	struct ipc_host hosts[2 * 64];
	struct ipc_route_answer answer = { .leaves = leaves, .plans = plans };

	memset(leaves, 0, sizeof leaves);
	memset(plans, 0, sizeof plans);
	memset(hosts, 0, sizeof hosts);
	for (uint32_t i = 0; i < ask->n_recipients; i++) {
		struct str addr = ask->recipients[i].addr, domain = fake_domain(addr);
		unsigned copies = str_begins(domain, "alias.") ? 2 : 1;

		for (unsigned k = 0; k < copies; k++) {
			struct ipc_leaf *l = &leaves[answer.n_leaves++];
			struct ipc_plan *p = &plans[answer.n_plans];

			*l = (struct ipc_leaf){ .recipient = i, .outcome = ROUTE_DELIVER, .addr = addr, .plan = answer.n_plans, .router = STR_LIT("r1"),
				.retry_rules = { rules, 1 } };
			if (copies == 2) {
				l->addr = k ? STR_LIT("y@b.test") : STR_LIT("x@a.test");
				l->parents = addr;
				domain = fake_domain(l->addr);
			}
			if (str_begins(domain, "fail.")) {
				l->outcome = ROUTE_FAIL;
				l->text = STR_LIT("Unknown user");
				l->status = STR_LIT("5.1.1");
			} else if (str_begins(domain, "defer.")) {
				l->outcome = ROUTE_DEFER;
				l->text = STR_LIT("host lookup did not complete");
			} else if (str_begins(domain, "held.") && !ask->forced) {
				l->outcome = ROUTE_DEFER;
				l->wait = WAIT_HELD;
				l->text = STR_LIT("domain is held");
			} else if (str_begins(domain, "queued.") && ask->arrival && !ask->forced) {
				l->outcome = ROUTE_DEFER;
				l->wait = WAIT_QUEUED;
				l->text = STR_LIT("domain is in queue_domains");
			} else if (str_begins(domain, "hole.")) {
				l->outcome = ROUTE_DISCARD;
			} else {
				bool local = str_begins(domain, "local.");

				l->wait = str_begins(domain, "pass.") && ask->arrival && !ask->forced ? WAIT_QUEUED : WAIT_NO;
				l->order = domain.len > 2 && domain.p[0] == 'o' && ascii_is_digit(domain.p[1]) ? (uint64_t)(domain.p[1] - '0') : 0;
				hosts[answer.n_plans] = (struct ipc_host){ .name = domain, .ip = STR_LIT("192.0.2.1"), .port = 25, .mx = true, .retry_rules = { rules, 1 } };
				*p = (struct ipc_plan){ .transport = local ? STR_LIT("t_local") : STR_LIT("t_smtp"), .driver = local ? STR_LIT("appendfile") : STR_LIT("smtp"),
					.router = STR_LIT("r1"), .hosts = &hosts[answer.n_plans], .n_hosts = local ? 0 : 1, .key = f->key ? str_of(f->key) : domain,
					.destination = domain, .max_rcpt = f->max_rcpt, .uid = local ? 1001 : 0, .gid = local ? 1001 : 0 };
				answer.n_plans++;
			}
		}
	}
	f->routed++;
	channel_answer(in->channel, in->request, &ipc_type_route_answer, &answer, NULL, 0);
}

static void fake_on_route(void *owner, struct ipc_in *in)
{
	struct fake_link *l = owner;

	if (l->f->router_lost) {
		struct ipc_ctl_lost lost = { .request = in->request, .text = STR_LIT("killed") };

		l->f->router_lost--;
		channel_answer(in->channel, in->request, &ipc_type_ctl_lost, &lost, NULL, 0);
		return;
	}
	if (!l->f->route_hold)
		fake_route(l->f, in);
}

static void fake_on_hint(void *owner, struct ipc_in *in)
{
	struct ipc_hint_answer answer = { .status = ST_DEFER };

	(void)owner;
	channel_answer(in->channel, in->request, &ipc_type_hint_answer, &answer, NULL, 0);
}

static void fake_on_expand(void *owner, struct ipc_in *in)
{
	struct ipc_expand_answer answer = { .status = ST_OK, .text = STR_LIT("yes") };

	(void)owner;
	channel_answer(in->channel, in->request, &ipc_type_expand_answer, &answer, NULL, 0);
}

/* ---- agents ---- */

/* The local part says what becomes of a recipient: r550..., r451... (RCPT), d451... (DATA), down... (host), else delivered. */
static void fake_outcome(struct str addr, struct ipc_outcome *o)
{
	static const struct {
		const char *prefix;
		struct ipc_outcome o;
	} rows[] = {
		{ "r550", { .result = DELIVERY_FAILED, .code = 550, .error = RETRY_OTHER, .stage = { "RCPT TO", 7, false },
			.text = { "550 5.1.1 no such user", 22, false }, .status = { "5.1.1", 5, false } } },
		{ "r451", { .result = DELIVERY_DEFERRED, .code = 451, .error = RETRY_RCPT_4XX, .stage = { "RCPT TO", 7, false }, .text = { "451 later", 9, false } } },
		{ "d451", { .result = DELIVERY_DEFERRED, .code = 451, .error = RETRY_DATA_4XX, .stage = { "DATA", 4, false }, .text = { "451 busy", 8, false } } },
		{ "down", { .result = DELIVERY_DEFERRED, .error = RETRY_REFUSED, .stage = { "connect", 7, false }, .text = { "Connection refused", 18, false }, .host_error = true } },
	};

	*o = (struct ipc_outcome){ .result = DELIVERY_OK, .code = 250, .text = STR_LIT("250 ok") };
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (str_begins(addr, rows[i].prefix)) {
			uint64_t recipient = o->recipient;

			*o = rows[i].o;
			o->recipient = recipient;
		}
}

static void fake_answer_one(struct fake *f, struct fake_sent *s)
{
	static struct str rules[1] = { { "0", 1, false } };
	struct fake_link *l = s->agent == FAKE_PEERS ? &f->local : &f->agents[s->agent];
	struct ipc_outcome *outcomes = calloc(s->n, sizeof *outcomes);
	struct str rest = str_of(s->recipients), line;
	struct ipc_host_state host = { .name = str_of(f->told_of ? f->told_of : s->key), .ip = STR_LIT("192.0.2.1"), .port = 25,
		.retry_rules = { rules, 1 } };
	struct ipc_delivered msg = { .delivery = s->delivery, .outcomes = outcomes, .n_outcomes = s->n, .host = str_of(s->key), .ip = STR_LIT("192.0.2.1"),
		.port = 25, .hosts = &host, .n_hosts = s->agent == FAKE_PEERS ? 0 : 1 };
	bool down = false;

	for (uint32_t i = 0; i < s->n && str_split(&rest, '\n', &line); i++) {
		fake_outcome(f->up ? STR_LIT("u") : line, &outcomes[i]);
		outcomes[i].recipient = i;
		down |= outcomes[i].host_error;
	}
	if (down) {
		host.error = RETRY_REFUSED;
		host.text = STR_LIT("Connection refused");
	} else if (f->keep && s->agent != FAKE_PEERS) {
		msg.connection = s->connection ? s->connection : ++f->next_connection;
	}
	f->answered++;
	channel_answer(l->far, s->request, &ipc_type_delivered, &msg, NULL, 0);
	free(outcomes);
}

static void fake_on_deliver(void *owner, struct ipc_in *in)
{
	struct fake_link *l = owner;
	struct fake *f = l->f;
	const struct ipc_deliver *msg = in->msg;
	struct fake_sent *s = &f->sent[f->n_sent < FAKE_SENT_MAX - 1 ? f->n_sent++ : f->n_sent];
	struct buf all = BUF_INIT;
	struct ipc_plan plan;
	struct arena a = ARENA_INIT;

	snprintf(s->id, sizeof s->id, "%.*s", STR_FMT(msg->id));
	snprintf(s->sender, sizeof s->sender, "%.*s", STR_FMT(msg->sender));
	snprintf(s->first, sizeof s->first, "%.*s", STR_FMT(msg->recipients[0].addr));
	if (!ipc_decode(&ipc_type_plan, msg->plan, &a, &plan, NULL))
		snprintf(s->key, sizeof s->key, "%.*s", STR_FMT(plan.destination));
	arena_clear(&a);
	for (uint32_t i = 0; i < msg->n_recipients; i++)
		buf_printf(&all, "%.*s\n", STR_FMT(msg->recipients[i].addr));
	s->recipients = strdup(buf_cstr(&all));
	buf_clear(&all);
	s->n = msg->n_recipients;
	s->connection = msg->connection;
	s->delivery = msg->delivery;
	s->request = in->request;
	s->agent = l->number;
	if (!f->hold)
		fake_answer_one(f, s);
}

static void fake_on_conn_close(void *owner, struct ipc_in *in)
{
	(void)in;
	((struct fake_link *)owner)->f->closes++;
}

static void fake_on_report(void *owner, struct ipc_in *in)
{
	struct fake *f = ((struct fake_link *)owner)->f;
	const struct ipc_report_ask *ask = in->msg;
	struct ipc_ctl_lost lost = { .request = in->request, .text = STR_LIT("killed") };

	f->report_asks++;
	snprintf(f->report_to, sizeof f->report_to, "%.*s %u %u %d", STR_FMT(ask->to), (unsigned)ask->kind, (unsigned)ask->delay_s, in->fds[0] >= 0);
	if (f->report_lost) {
		f->report_lost--;
		channel_answer(in->channel, in->request, &ipc_type_ctl_lost, &lost, NULL, 0);
		return;
	}
	channel_answer(in->channel, in->request, &ipc_type_report_answer, &f->words, NULL, 0);
}

/* ---- intake and command ---- */

static void fake_on_intake(void *owner, struct ipc_in *in)
{
	const struct ipc_intake *msg = in->msg;
	struct fake *f = ((struct fake_link *)owner)->f;

	f->closed = msg->closed;
	if (msg->house)
		f->house = *msg->house;
}

static void fake_on_file(void *arg, struct ipc_in *in, const struct err *err)
{
	struct fake *f = arg;
	const struct ipc_msg_file *msg = in ? in->msg : NULL;

	(void)err;
	f->status = msg ? msg->status : ST_DEFER;
	if (f->status)
		return;
	snprintf(f->id, sizeof f->id, "%.*s", STR_FMT(msg->id));
	f->fd = in->fds[0];
	in->fds[0] = -1;
}

static void fake_on_committed(void *arg, struct ipc_in *in, const struct err *err)
{
	struct fake *f = arg;
	const struct ipc_msg_committed *msg = in ? in->msg : NULL;

	(void)err;
	f->status = msg ? msg->status : ST_DEFER;
	if (f->status)
		f->refused++;
	else
		f->committed++;
}

/* ---- joining ---- */

static const struct ipc_handler fake_router_handlers[] = { { IPC_route_ask, fake_on_route }, { IPC_hint_ask, fake_on_hint }, { IPC_expand_ask, fake_on_expand },
	{ IPC_report_ask, fake_on_report }, { 0, NULL } };
static const struct ipc_handler fake_agent_handlers[] = { { IPC_deliver, fake_on_deliver }, { IPC_conn_close, fake_on_conn_close }, { 0, NULL } };
static const struct ipc_handler fake_smtpd_handlers[] = { { IPC_intake, fake_on_intake }, { 0, NULL } };
static const struct ipc_handler fake_agent_side[] = { { IPC_conn_closed, agent_on_conn_closed }, { 0, NULL } };

static void fake_link_closed(void *owner, struct channel *ch, const char *why)
{
	struct daemon_link *link = owner;

	(void)why;
	if (link->peer && link->peer->closed)
		link->peer->closed(link, "");
	channel_free(ch);
	link->channel = NULL;
}

static void fake_far_closed(void *owner, struct channel *ch, const char *why)
{
	(void)why;
	channel_free(ch);
	((struct fake_link *)owner)->far = NULL;
}

static void fake_closed_smtpd(struct daemon_link *link, const char *why) { (void)why; intake_closed(link); }
static void fake_closed_agent(struct daemon_link *link, const char *why) { (void)why; agent_closed(link); }
static void fake_closed_ctl(struct daemon_link *link, const char *why) { (void)why; queue_cmd_closed(link); }
static void fake_closed_router(struct daemon_link *link, const char *why)
{
	(void)why;
	route_router_gone(((struct fake *)link->daemon->state)->q, link->channel);
}

static const struct daemon_peer fake_peers[] = {
	{ .name = "smtpd", .closed = fake_closed_smtpd }, { .name = "router", .closed = fake_closed_router },
	{ .name = "smtp-out", .closed = fake_closed_agent }, { .name = "ctl", .closed = fake_closed_ctl },
};

static void fake_join(struct fake *f, struct fake_link *l, const struct daemon_peer *peer, const struct ipc_handler *near, const struct ipc_handler *far)
{
	struct channel_spec spec = { .peer = peer->name, .handlers = near, .owner = &l->link, .closed = fake_link_closed };
	struct channel_spec far_spec = { .peer = "qmgr", .handlers = far, .owner = l, .closed = fake_far_closed };
	int fds[2];

	if (!ipc_pair(fds, NULL))
		abort();
	l->f = f;
	l->link.daemon = &f->daemon;
	l->link.peer = peer;
	l->link.generation = 1;
	l->link.channel = channel_open(f->loop, fds[0], &spec);
	l->far = channel_open(f->loop, fds[1], &far_spec);
}

static void fake_agent_join(struct fake *f, unsigned i)
{
	f->agents[i].number = i;
	fake_join(f, &f->agents[i], &fake_peers[2], fake_agent_side, fake_agent_handlers);
	agent_opened(f->q, AGENT_SMTP, &f->agents[i].link);
}

static void fake_local_join(struct fake *f)
{
	f->local.number = FAKE_PEERS;
	fake_join(f, &f->local, &fake_peers[2], NULL, fake_agent_handlers);
	f->local.link.cookie = f->need_cookie;
	f->local.link.uid = f->local.link.gid = 1001;
	agent_opened(f->q, AGENT_LOCAL, &f->local.link);
}

static void fake_router_join(struct fake *f)
{
	fake_join(f, &f->router, &fake_peers[1], NULL, fake_router_handlers);
	route_router_add(f->q, f->router.link.channel, 1);
}

/* A rule "* * F,1d,10m" and the defaults. */
static struct settings *fake_settings(void)
{
	struct settings *s = settings_new();

	s->n_retry = 1;
	s->retry = arena_alloc(&s->arena, sizeof *s->retry);
	s->retry[0].quota_age = -1;
	s->retry[0].n = 1;
	s->retry[0].steps = arena_alloc(&s->arena, sizeof *s->retry[0].steps);
	s->retry[0].steps[0] = (struct retry_step){ 'F', 86400, 600, 0 };
	s->host = STR_LIT("mx.example");
	s->qualify_domain = STR_LIT("example");
	s->space_kb = 1;
	s->inodes = 1;
	return s;
}

static void fake_spool_open(struct fake *f)
{
	struct spool_options o = { .dir = f->dir, .inline_io = true, .segment_size = 1 << 20, .segments = 4 };
	struct err err = ERR_INIT;

	if (qmgr_open(f->q, &o, &err)) {
		fprintf(stderr, "spool: %s\n", err.text);
		abort();
	}
}

static void fake_queue_new(struct fake *f)
{
	struct qmgr_env env = { .loop = f->loop, .log = &f->log, .wall_us = fake_wall, .load = fake_load, .need = fake_need, .arg = f };

	f->set = fake_settings();
	f->set->ask_failure = f->ask_failure;
	f->q = qmgr_new(&env, f->set);
	fake_spool_open(f);
	fake_join(f, &f->smtpd, &fake_peers[0], intake_handlers, fake_smtpd_handlers);
	intake_opened(f->q, &f->smtpd.link);
	fake_router_join(f);
}

static void fake_start(struct fake *f)
{
	memset(f, 0, sizeof *f);
	f->loop = loop_new();
	log_init(&f->log);
	f->log_fd = memfd_create("log", 0);
	log_set_fd(&f->log, 0, dup(f->log_fd));
	log_set_fd(&f->log, 2, dup(f->log_fd));
	snprintf(f->dir, sizeof f->dir, "/tmp/qmgr-test-XXXXXX");
	if (!mkdtemp(f->dir))
		abort();
	f->now_us = INT64_C(1800000000) * 1000000;
	f->sent = calloc(FAKE_SENT_MAX, sizeof *f->sent);
	f->daemon.state = f;
	f->fd = f->row_fd = -1;
	fake_queue_new(f);
}

static void fake_turns(struct fake *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		f->now_us += 10;
		spool_turn(f->q->spool, false);
		loop_turn(f->loop, false);
	}
}

static void fake_unlink(struct fake_link *l)
{
	if (l->link.channel)
		fake_link_closed(&l->link, l->link.channel, "");
	if (l->far)
		channel_free(l->far);
	l->far = NULL;
}

static void fake_queue_end(struct fake *f)
{
	qmgr_stop(f->q);
	fake_unlink(&f->ctl);
	fake_unlink(&f->smtpd);
	fake_unlink(&f->router);
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		fake_unlink(&f->agents[i]);
	fake_unlink(&f->local);
	loop_turn(f->loop, false);
	qmgr_free(f->q);
	f->q = NULL;
	loop_turn(f->loop, false);
}

static void fake_stop(struct fake *f)
{
	fake_queue_end(f);
	loop_free(f->loop);
	log_flush(&f->log);
	log_clear(&f->log);
	close(f->log_fd);
	if (f->fd >= 0)
		close(f->fd);
	for (unsigned i = 0; i < f->n_sent; i++)
		free(f->sent[i].recipients);
	free(f->sent);
	nftw(f->dir, fake_rm, 16, FTW_DEPTH | FTW_PHYS);
}

/* As after a crash of the process: nothing is closed in order but the descriptors. */
static void fake_restart(struct fake *f)
{
	fake_queue_end(f);
	fake_queue_new(f);
	fake_turns(f, 3);
}

/* Asks for a file and writes content into it. */
static bool fake_begin(struct fake *f, const char *content)
{
	struct ipc_msg_begin begin = { 0 };

	f->id[0] = 0;
	channel_ask(f->smtpd.far, &ipc_type_msg_begin, &begin, NULL, 0, &ipc_type_msg_file, 0, fake_on_file, f);
	for (unsigned i = 0; i < 20 && !f->id[0]; i++)
		fake_turns(f, 1);
	if (!f->id[0])
		return false;
	if (pwrite(f->fd, content, strlen(content), SPOOL_CONTENT_OFFSET) < 0)
		abort();
	close(f->fd);
	f->fd = -1;
	return true;
}

static const char fake_content[] = "Subject: x\r\nFrom: a@b\r\n\r\nHello\r\n";

struct fake_mail {
	const char *sender, *const *rcpt;
	unsigned n, notify;
	uint64_t flags;
	const char *content, *ret, *envid, *orcpt, *helo, *auth_id, *dn, *peercert;
};

static void fake_commit(struct fake *f, const struct fake_mail *mail)
{
	const char *content = mail->content ? mail->content : fake_content;
	struct ipc_facts facts = { .sender = str_of(mail->sender), .has_sender = true, .client_ip = STR_LIT("192.0.2.9"), .helo = str_of(mail->helo ? mail->helo : "client.test"),
		.protocol = STR_LIT("esmtp"), .auth_id = str_of(mail->auth_id) };
	struct ipc_pair tls[] = { { .name = STR_LIT("DN"), .value = str_of(mail->dn) }, { .name = STR_LIT("peercert"), .value = str_of(mail->peercert) } };
	struct ipc_recipient *rcpt = calloc(mail->n + 1, sizeof *rcpt);
	struct ipc_edit edit = { .op = EDIT_ADD_TOP, .text = STR_LIT("Received: from client.test\r\n") };
	const char *body = strstr(content, "\r\n\r\n");
	struct ipc_msg_commit commit = { .id = str_of(f->id), .facts = &facts, .recipients = rcpt, .edits = &edit, .n_edits = 1,
		.content = strlen(content), .header_size = body ? (uint64_t)(body + 4 - content) : strlen(content), .flags = mail->flags, .ret = str_of(mail->ret),
		.envid = str_of(mail->envid), .header_message_id = STR_LIT("m1@b"), .longest_line = 40 };

	facts.tls = tls;
	facts.n_tls = mail->dn || mail->peercert ? 2 : 0;
	for (unsigned i = 0; i < mail->n; i++)
		rcpt[i] = (struct ipc_recipient){ .addr = str_of(mail->rcpt[i]), .index = i, .notify = mail->notify, .orcpt = str_of(mail->orcpt) };
	for (unsigned at = 0; mail->n - at > 512; at += 512) {
		struct ipc_msg_recipients part = { .id = str_of(f->id), .recipients = rcpt + at, .n_recipients = 512 };

		channel_send(f->smtpd.far, &ipc_type_msg_recipients, &part, NULL, 0);
		commit.recipients_sent += 512;
	}
	commit.recipients = rcpt + commit.recipients_sent;
	commit.n_recipients = mail->n - (unsigned)commit.recipients_sent;
	channel_ask(f->smtpd.far, &ipc_type_msg_commit, &commit, NULL, 0, &ipc_type_msg_committed, 0, fake_on_committed, f);
	free(rcpt);
}

/* A whole message in; true: it was accepted. */
static bool fake_mail(struct fake *f, const struct fake_mail *mail)
{
	unsigned before = f->committed, refused = f->refused;

	if (!fake_begin(f, mail->content ? mail->content : fake_content))
		return false;
	fake_commit(f, mail);
	for (unsigned i = 0; i < 50 && f->committed == before && f->refused == refused; i++)
		fake_turns(f, 1);
	return f->committed > before;
}

static bool fake_mail_one(struct fake *f, const char *sender, const char *rcpt)
{
	const char *const v[] = { rcpt };
	struct fake_mail mail = { .sender = sender, .rcpt = v, .n = 1 };

	return fake_mail(f, &mail);
}

static char *fake_log_text(struct fake *f)
{
	static char text[FAKE_LOG];
	ssize_t n;

	log_flush(&f->log);
	n = pread(f->log_fd, text, sizeof text - 1, 0);
	text[n > 0 ? n : 0] = 0;
	return text;
}

static unsigned fake_log_count(struct fake *f, const char *what)
{
	unsigned n = 0;

	for (const char *p = fake_log_text(f); (p = strstr(p, what)); p += strlen(what))
		n++;
	return n;
}

/* Moves the clock and lets what is due happen. */
static void fake_pass(struct fake *f, int64_t seconds)
{
	f->now_us += seconds * 1000000;
	qmgr_on_time(f->q);
	fake_turns(f, 12);
}

#endif

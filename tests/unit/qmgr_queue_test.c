/* SPDX-License-Identifier: ISC */
/* What lives on: restarts, reports, retry over days, frozen messages; the administrator's commands; a hostile smtpd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/qmgr_fake.h"

/* ---- restarts ---- */

/* Several recipients with different ends; what is done is done, the rest is tried again after a restart, at its time. */
static void test_restart(void **state)
{
	static const char *const v[] = { "u@a.test", "r451@a.test", "u@fail.test", "down@b.test" };
	struct fake_mail mail = { .sender = "s@x.test", .rcpt = v, .n = 4 };
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	assert_true(fake_mail(&f, &mail));
	fake_turns(&f, 40);
	assert_int_equal(fake_log_count(&f, "=> u@a.test"), 1);
	assert_int_equal(fake_log_count(&f, "=> s@x.test"), 1); /* the report */
	assert_int_equal(f.q->n_messages, 1);
	fake_restart(&f);
	fake_agent_join(&f, 0);
	assert_int_equal(f.q->n_messages, 1);
	assert_int_equal(f.q->n_state[M_DEFERRED], 1);
	f.up = true;
	fake_pass(&f, 700);
	assert_int_equal(fake_log_count(&f, "=> u@a.test"), 1);
	assert_int_equal(fake_log_count(&f, "=> s@x.test"), 1);
	assert_int_equal(fake_log_count(&f, "=> r451@a.test"), 1);
	assert_int_equal(fake_log_count(&f, "=> down@b.test"), 1);
	assert_int_equal(f.q->n_messages, 0);
	fake_restart(&f);
	fake_turns(&f, 20);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* A message that was being routed or delivered when the process ended is taken up again. */
static void test_restart_in_flight(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.hold = true;
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	f.route_hold = true;
	fake_turns(&f, 10);
	assert_true(fake_mail_one(&f, "s@x.test", "u@b.test"));
	assert_int_equal(f.n_sent, 1);
	f.hold = f.route_hold = false;
	fake_restart(&f);
	fake_agent_join(&f, 0);
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_messages, 0);
	assert_int_equal(f.n_sent, 3);
	fake_stop(&f);
}

/* ---- retry ---- */

static const struct long_case {
	const char *name, *rcpt;
	unsigned days;
	const char *log;
	unsigned warnings, reports;
} long_cases[] = {
	{ "host down for ever", "down@a.test", 2, "retry timeout exceeded", 0, 1 },
	{ "4xx for ever", "r451@a.test", 2, "retry timeout exceeded", 0, 1 },
	{ "DATA 4xx for ever", "d451@a.test", 2, "retry timeout exceeded", 0, 1 },
	{ "unroutable for ever", "u@defer.test", 2, "retry timeout exceeded", 0, 1 },
};

static void test_long(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof long_cases / sizeof *long_cases; i++) {
		const struct long_case *c = &long_cases[i];
		struct fake f;

		fake_start(&f);
		f.set->n_warn = 0;
		fake_agent_join(&f, 0);
		assert_true(fake_mail_one(&f, "s@x.test", c->rcpt));
		for (unsigned t = 0; t < c->days * 24 * 4 && f.q->n_messages; t++)
			fake_pass(&f, 900);
		if (!strstr(fake_log_text(&f), c->log) || f.q->n_messages || fake_log_count(&f, "<= <> R=") != c->reports)
			fail_msg("%s: %u messages left, %u reports, log:\n%.3000s", c->name, f.q->n_messages, fake_log_count(&f, "<= <> R="), fake_log_text(&f));
		fake_stop(&f);
	}
}

/* The sender is told of the delay, once a step, and not for reports or NOTIFY=NEVER. */
static void test_delay(void **state)
{
	static const struct { const char *name, *sender; unsigned notify; unsigned want; } cases[] = {
		{ "plain", "s@x.test", 0, 2 }, { "never", "s@x.test", DSN_NEVER, 0 }, { "failure only", "s@x.test", DSN_FAILURE, 0 },
		{ "delay", "s@x.test", DSN_DELAY, 2 }, { "report", "", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		static const char *const v[] = { "down@a.test" };
		struct fake_mail mail = { .sender = cases[i].sender, .rcpt = v, .n = 1, .notify = cases[i].notify };
		struct fake f;

		fake_start(&f);
		f.set->n_warn = 1;
		f.set->warn_at[0] = 4 * 3600;
		fake_agent_join(&f, 0);
		assert_true(fake_mail(&f, &mail));
		for (unsigned t = 0; t < 10 * 4; t++)
			fake_pass(&f, 900);
		if (fake_log_count(&f, "<= <> R=") != cases[i].want)
			fail_msg("%s: got %u warnings, want %u; log:\n%.3000s", cases[i].name, fake_log_count(&f, "<= <> R="), cases[i].want, fake_log_text(&f));
		fake_stop(&f);
	}
}

/* ---- reports ---- */

static const struct notify_case {
	const char *name, *rcpt;
	unsigned notify;
	unsigned reports;
	const char *subject;    /* in the report's content */
} notify_cases[] = {
	{ "failure", "u@fail.test", 0, 1, "Subject: Mail delivery failed" },
	{ "failure asked for", "u@fail.test", DSN_FAILURE, 1, "Subject: Mail delivery failed" },
	{ "failure not wanted", "u@fail.test", DSN_SUCCESS, 0, NULL },
	{ "never", "u@fail.test", DSN_NEVER, 0, NULL },
	{ "success", "u@a.test", DSN_SUCCESS, 1, "Action: relayed" },
	{ "success not asked for", "u@a.test", DSN_FAILURE, 0, NULL },
	{ "expanded", "u@alias.test", DSN_SUCCESS, 1, "Action: expanded" },
	{ "black hole", "u@hole.test", DSN_SUCCESS, 1, "Action: delivered" },
};

static void test_notify(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof notify_cases / sizeof *notify_cases; i++) {
		const struct notify_case *c = &notify_cases[i];
		const char *const v[] = { c->rcpt };
		struct fake_mail mail = { .sender = "s@held.test", .rcpt = v, .n = 1, .notify = c->notify };
		struct fake f;
		unsigned reports;

		fake_start(&f);
		fake_agent_join(&f, 0);
		assert_true(fake_mail(&f, &mail));
		fake_turns(&f, 8);
		f.hold = true;
		fake_turns(&f, 30);
		reports = fake_log_count(&f, "<= <> R=");
		if (reports != c->reports)
			fail_msg("%s: %u reports, want %u; log:\n%s", c->name, reports, c->reports, fake_log_text(&f));
		fake_stop(&f);
	}
}

/* The report itself, as it lies in the spool. */
static void test_report_text(void **state)
{
	static const char *const v[] = { "u@fail.test" };
	static const struct { const char *name, *ret; const char *content; const char *want[4], *never; } cases[] = {
		{ "full", "FULL", NULL, { "Content-Type: message/rfc822", "\r\n\r\nHello\r\n", "Received: from client.test\r\n", "Final-Recipient: rfc822;u@fail.test" }, "X-Exim-DSN-Information" },
		{ "headers", "HDRS", NULL, { "Content-Type: text/rfc822-headers", "Subject: x\r\n", "Original-Envelope-Id: e 1", "Original-Recipient: rfc822;o@fail.test" }, "Hello" },
		{ "default", "", NULL, { "Content-Type: message/rfc822", "Status: 5.1.1", "X-Failed-Recipients: u@fail.test", NULL }, "X-Exim-DSN-Information" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct fake_mail mail = { .sender = "s@held.test", .rcpt = v, .n = 1, .ret = cases[i].ret, .envid = "e+201", .orcpt = "rfc822;o@fail.test" };
		struct arena a = ARENA_INIT;
		struct message *m = NULL;
		struct spool_loaded loaded;
		struct fake f;
		char text[8192];
		ssize_t n;
		int fd;

		fake_start(&f); /* without an agent: the report stays */
		assert_true(fake_mail(&f, &mail));
		fake_turns(&f, 20);
		list_each(&f.q->messages, node)
			m = list_entry(node, struct message, node);
		if (!m || !m->null_sender)
			fail_msg("%s: no report; log:\n%s", cases[i].name, fake_log_text(&f));
		assert_int_equal(spool_load(f.q->spool, m->file, &a, &loaded, NULL), ST_OK);
		fd = spool_open_reader(f.q->spool, m->file, NULL);
		n = pread(fd, text, sizeof text - 1, SPOOL_CONTENT_OFFSET);
		close(fd);
		assert_true(n > 0 && loaded.envelope->content < sizeof text);
		text[loaded.envelope->content] = 0;
		for (size_t k = 0; k < 4 && cases[i].want[k]; k++)
			if (!strstr(text, cases[i].want[k]))
				fail_msg("%s: want \"%s\" in\n%s", cases[i].name, cases[i].want[k], text);
		if (strstr(text, cases[i].never))
			fail_msg("%s: \"%s\" should not be in\n%s", cases[i].name, cases[i].never, text);
		assert_true(str_is(loaded.envelope->recipients[0].addr, "s@held.test"));
		assert_int_equal(loaded.envelope->recipients[0].notify, DSN_NEVER);
		arena_clear(&a);
		fake_stop(&f);
	}
}

/* Killed between the failure and its report: the report is made after the start. */
static void test_report_survives(void **state)
{
	static const char *const v[] = { "u@fail.test", "down@b.test" };
	struct fake_mail mail = { .sender = "s@x.test", .rcpt = v, .n = 2 };
	struct fake f;

	(void)state;
	fake_start(&f);
	f.hold = true;
	fake_agent_join(&f, 0);
	assert_true(fake_mail(&f, &mail));
	fake_turns(&f, 20); /* u@fail.test has failed, down@b.test is in flight: the round is open */
	assert_int_equal(fake_log_count(&f, "** u@fail.test"), 1);
	assert_int_equal(fake_log_count(&f, "<= <> R="), 0);
	fake_restart(&f);
	f.hold = false;
	fake_agent_join(&f, 0);
	fake_turns(&f, 40);
	assert_int_equal(fake_log_count(&f, "<= <> R="), 1);
	assert_int_equal(fake_log_count(&f, "** u@fail.test"), 1);
	fake_restart(&f);
	fake_agent_join(&f, 0);
	fake_turns(&f, 40);
	assert_int_equal(fake_log_count(&f, "<= <> R="), 1); /* and only once */
	fake_stop(&f);
}

/* ---- frozen ---- */

static void test_frozen(void **state)
{
	static const char *const v[] = { "u@a.test" };
	static const struct { const char *name, *sender; int64_t timeout, thaw, ignore; const char *rcpt, *log; unsigned reports, left; } cases[] = {
		{ "stays", "s@x.test", -1, -1, -1, "u@a.test", "Frozen", 0, 1 },
		{ "timed out: returned", "s@x.test", 86400, -1, -1, "u@a.test", "cancelled by timeout_frozen_after", 1, 0 },
		{ "timed out: a report is dropped", "", 86400, -1, -1, "u@a.test", "cancelled by timeout_frozen_after", 0, 0 },
		{ "thaws", "s@x.test", -1, 3600, -1, "u@a.test", "Unfrozen by auto-thaw", 0, 0 },
		{ "a report does not thaw", "", -1, 3600, -1, "u@a.test", "Frozen", 0, 1 },
		{ "report tried once more", "", -1, -1, 7200, "u@fail.test", "error ignored", 0, 0 },
	};

	(void)state;
	(void)v;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *const rcpt[] = { cases[i].rcpt };
		struct fake_mail mail = { .sender = cases[i].sender, .rcpt = rcpt, .n = 1, .flags = MSG_FREEZE };
		struct fake f;

		fake_start(&f);
		f.set->timeout_frozen = cases[i].timeout;
		f.set->auto_thaw = cases[i].thaw;
		f.set->ignore_bounce_errors = cases[i].ignore;
		fake_agent_join(&f, 0);
		assert_true(fake_mail(&f, &mail));
		fake_turns(&f, 10);
		assert_int_equal(f.q->n_state[M_FROZEN], 1);
		for (unsigned t = 0; t < 30; t++)
			fake_pass(&f, 3600);
		if (!strstr(fake_log_text(&f), cases[i].log) || f.q->n_messages != cases[i].left || fake_log_count(&f, "<= <> R=") != cases[i].reports)
			fail_msg("%s: %u left, %u reports; log:\n%s", cases[i].name, f.q->n_messages, fake_log_count(&f, "<= <> R="), fake_log_text(&f));
		fake_stop(&f);
	}
}

/* timeout_frozen_after counts from the message's arrival, not from its freezing. */
static void test_frozen_age(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->timeout_frozen = 7200;
	f.set->ignore_bounce_errors = 864000;
	assert_true(fake_mail_one(&f, "", "u@defer.test"));
	fake_turns(&f, 10);
	fake_pass(&f, 5000);
	message_freeze(f.q, list_entry(list_first(&f.q->messages), struct message, node), "for a test");
	fake_pass(&f, 2000);
	assert_int_equal(f.q->n_messages, 1);
	fake_pass(&f, 300);
	assert_int_equal(fake_log_count(&f, "cancelled by timeout_frozen_after"), 1);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* A message that kills the router's workers is set aside. */
static void test_router_lost(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	f.router_lost = LOST_MAX - 1;
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_messages, 0);
	f.router_lost = LOST_MAX;
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_state[M_FROZEN], 1);
	assert_int_equal(f.router_lost, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test")); /* others go on */
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_messages, 1);
	fake_stop(&f);
}

/* Without a router everything waits, and goes when one is there again. */
static void test_router_restart(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	f.route_hold = true;
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 10);
	channel_free(f.router.far);
	f.router.far = NULL;
	fake_turns(&f, 10);
	assert_true(fake_mail_one(&f, "s@x.test", "u@b.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.q->n_messages, 2);
	f.route_hold = false;
	fake_router_join(&f);
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* ---- the command ---- */

static void on_row(struct fake *f, const struct ipc_queue_row *row)
{
	snprintf(f->last_row, sizeof f->last_row, "%.*s <%.*s> %.*s %u", STR_FMT(row->id), STR_FMT(row->sender), STR_FMT(row->state), row->n_recipients);
	f->rows++;
}

static void on_end(struct fake *f, const struct ipc_queue_end *end)
{
	f->end = *end;
	snprintf(f->end_text, sizeof f->end_text, "%.*s", STR_FMT(end->text));
	f->ends++;
}

static void on_ctl_row(void *owner, struct ipc_in *in)
{
	struct fake *f = ((struct fake_link *)owner)->f;

	on_row(f, in->msg);
	if (f->row_fd >= 0)
		close(f->row_fd);
	f->row_fd = in->fds[0];
	in->fds[0] = -1;
}

static void on_ctl_end(void *owner, struct ipc_in *in) { on_end(((struct fake_link *)owner)->f, in->msg); }

static const struct ipc_handler ctl_handlers[] = { { IPC_queue_row, on_ctl_row }, { IPC_queue_end, on_ctl_end }, { 0, NULL } };

static void ctl_join(struct fake *f)
{
	fake_join(f, &f->ctl, &fake_peers[3], queue_cmd_handlers, ctl_handlers);
	queue_cmd_opened(f->q, &f->ctl.link);
}

/* Notices, so that rows are handled like any message. */
static unsigned ctl_ask(struct fake *f, struct ipc_queue_ask *ask, int fd)
{
	unsigned before = f->ends;

	f->rows = 0;
	f->end_text[0] = 0;
	channel_send(f->ctl.far, &ipc_type_queue_ask, ask, &fd, fd >= 0 ? 1 : 0);
	for (unsigned i = 0; i < 200 && f->ends == before; i++)
		fake_turns(f, 1);
	return f->ends > before ? (unsigned)f->end.count : 9999;
}

static unsigned ctl_verb(struct fake *f, const char *verb, const char *id)
{
	struct str ids[1] = { str_of(id) };
	struct ipc_queue_ask ask = { .verb = str_of(verb), .ids = { ids, id ? 1 : 0 }, .by = STR_LIT("root") };

	return ctl_ask(f, &ask, -1);
}

static const struct select_case {
	const char *name;
	struct ipc_queue_ask ask;
	unsigned want;
} select_cases[] = {
	{ "all", { .verb = { "list", 4, 0 } }, 4 },
	{ "sender", { .verb = { "list", 4, 0 }, .sender = { "*@x.test", 8, 0 } }, 3 },
	{ "recipient", { .verb = { "list", 4, 0 }, .recipient = { "down@A.test", 11, 0 } }, 3 },
	{ "destination", { .verb = { "list", 4, 0 }, .destination = { "b.test", 6, 0 } }, 1 },
	{ "state", { .verb = { "list", 4, 0 }, .state = { "deferred", 8, 0 } }, 4 },
	{ "no such state", { .verb = { "list", 4, 0 }, .state = { "frozen", 6, 0 } }, 0 },
	{ "older", { .verb = { "count", 5, 0 }, .older_s = 3600 }, 0 },
	{ "younger", { .verb = { "count", 5, 0 }, .younger_s = 3600 }, 4 },
	{ "limit", { .verb = { "list", 4, 0 }, .limit = 2 }, 2 },
	{ "two selectors", { .verb = { "list", 4, 0 }, .sender = { "s@x.test", 8, 0 }, .recipient = { "*@b.test", 8, 0 } }, 1 },
};

static void test_select(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	ctl_join(&f);
	assert_true(fake_mail_one(&f, "s@x.test", "down@a.test"));
	assert_true(fake_mail_one(&f, "s@x.test", "down@b.test"));
	assert_true(fake_mail_one(&f, "t@x.test", "down@a.test"));
	assert_true(fake_mail_one(&f, "s@y.test", "down@a.test"));
	fake_turns(&f, 30);
	for (size_t i = 0; i < sizeof select_cases / sizeof *select_cases; i++) {
		struct ipc_queue_ask ask = select_cases[i].ask;
		unsigned got = ctl_ask(&f, &ask, -1);

		if (got != select_cases[i].want || (str_is(ask.verb, "list") && f.rows != got))
			fail_msg("%s: got %u, %u rows, want %u (%s)", select_cases[i].name, got, f.rows, select_cases[i].want, f.end_text);
	}
	assert_int_equal(ctl_verb(&f, "burn", NULL), 0);
	assert_string_equal(f.end_text, "unknown verb");
	assert_int_equal(ctl_verb(&f, "stats", NULL), 4);
	assert_int_equal(ctl_verb(&f, "remove", NULL), 4); /* the command asks its user before it leaves out all selectors */
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

static void test_commands(void **state)
{
	struct fake f;
	char id[SPOOL_ID_MAX + 1];

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	ctl_join(&f);
	assert_true(fake_mail_one(&f, "s@x.test", "down@a.test"));
	strcpy(id, f.id);
	fake_turns(&f, 30);
	assert_int_equal(ctl_verb(&f, "hold", id), 1);
	assert_int_equal(f.q->n_state[M_HELD], 1);
	fake_restart(&f); /* it is still held */
	fake_agent_join(&f, 0);
	ctl_join(&f);
	assert_int_equal(f.q->n_state[M_HELD], 1);
	fake_pass(&f, 7200);
	assert_int_equal(f.n_sent, 1);
	assert_int_equal(ctl_verb(&f, "show", id), 1);
	assert_int_equal(f.rows, 1);
	assert_true(strstr(f.last_row, "held 1") != NULL);
	assert_true(f.row_fd >= 0);
	close(f.row_fd);
	f.row_fd = -1;
	assert_int_equal(ctl_verb(&f, "release", id), 1);
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 2);
	assert_int_equal(f.q->n_state[M_DEFERRED], 1);
	assert_int_equal(ctl_verb(&f, "retry", NULL), 1); /* whatever the retry times say */
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 3);
	assert_int_equal(ctl_verb(&f, "bounce", id), 1);
	fake_turns(&f, 30);
	assert_int_equal(fake_log_count(&f, "cancelled by root"), 1);
	assert_int_equal(fake_log_count(&f, "** down@a.test"), 1);
	assert_int_equal(fake_log_count(&f, "<= <> R="), 1);
	assert_int_equal(f.q->n_messages, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "down@b.test"));
	fake_turns(&f, 20);
	assert_int_equal(ctl_verb(&f, "remove", f.id), 1);
	assert_int_equal(f.q->n_messages, 0);
	assert_int_equal(ctl_verb(&f, "remove", id), 0);
	assert_true(strstr(f.end_text, "no such message") != NULL);
	fake_stop(&f);
}

/* Hold and remove while the message is being delivered. */
static void test_commands_in_flight(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.hold = true;
	fake_agent_join(&f, 0);
	ctl_join(&f);
	assert_true(fake_mail_one(&f, "s@x.test", "r451@a.test"));
	fake_turns(&f, 10);
	assert_int_equal(ctl_verb(&f, "hold", f.id), 1);
	assert_int_equal(f.q->n_state[M_ACTIVE], 1);
	fake_answer_one(&f, &f.sent[0]);
	fake_turns(&f, 10);
	assert_int_equal(f.q->n_state[M_HELD], 1);
	assert_int_equal(ctl_verb(&f, "release", f.id), 1);
	fake_pass(&f, 1200);
	assert_int_equal(f.n_sent, 2);
	assert_int_equal(ctl_verb(&f, "remove", f.id), 1);
	assert_int_equal(f.q->n_messages, 1);
	fake_answer_one(&f, &f.sent[1]);
	fake_turns(&f, 10);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* Out of one queue, into another. */
static void test_export_import(void **state)
{
	struct ipc_queue_ask ask = { .verb = STR_LIT("import"), .by = STR_LIT("root") };
	struct fake f;
	int fd;

	(void)state;
	fake_start(&f);
	ctl_join(&f);
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 5);
	fake_unlink(&f.router);
	fake_restart(&f);
	ctl_join(&f);
	assert_int_equal(ctl_verb(&f, "hold", f.id), 1);
	fake_turns(&f, 10);
	assert_int_equal(ctl_verb(&f, "export", f.id), 1);
	fd = f.row_fd;
	f.row_fd = -1;
	assert_true(fd >= 0);
	assert_int_equal(ctl_verb(&f, "remove", f.id), 1);
	assert_int_equal(f.q->n_messages, 0);
	fake_agent_join(&f, 0);
	if (ctl_ask(&f, &ask, fd) != 1)
		fail_msg("not imported: %s", f.end_text);
	fake_turns(&f, 10);
	if (f.q->n_state[M_HELD] == 1) { /* as it was exported */
		struct ipc_queue_ask release = { .verb = STR_LIT("release"), .state = STR_LIT("held"), .by = STR_LIT("root") };

		assert_int_equal(ctl_ask(&f, &release, -1), 1);
	}
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_messages, 0);
	assert_int_equal(fake_log_count(&f, "=> u@a.test"), 1);
	fake_stop(&f);
}

/* ---- a hostile smtpd ---- */

static void test_hostile_commit(void **state)
{
	static const char *const good[] = { "u@a.test" }, *const evil[] = { "u@a.test\r\nDATA" }, *const empty[] = { "" };
	static const struct { const char *name; struct fake_mail mail; } cases[] = {
		{ "line end in a recipient", { .sender = "s@x.test", .rcpt = evil, .n = 1 } },
		{ "line end in the sender", { .sender = "s@x.test\r\nX", .rcpt = good, .n = 1 } },
		{ "empty recipient", { .sender = "s@x.test", .rcpt = empty, .n = 1 } },
		{ "no recipients", { .sender = "s@x.test", .rcpt = good, .n = 0 } },
		{ "control in ENVID", { .sender = "s@x.test", .rcpt = good, .n = 1, .envid = "a\tb" } },
	};
	struct fake f;

	(void)state;
	fake_start(&f);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (fake_mail(&f, &cases[i].mail))
			fail_msg("%s: accepted", cases[i].name);
	assert_int_equal(f.q->n_messages, 0);
	/* A message that is not there, one that was committed already, and more content than was written. */
	strcpy(f.id, "1abcde-000001-AB");
	fake_commit(&f, &(struct fake_mail){ .sender = "s", .rcpt = good, .n = 1 });
	fake_turns(&f, 10);
	assert_int_equal(f.refused, 6);
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_commit(&f, &(struct fake_mail){ .sender = "s@x.test", .rcpt = good, .n = 1 });
	fake_turns(&f, 10);
	assert_int_equal(f.refused, 7);
	assert_true(fake_begin(&f, "Subject: short\r\n\r\n"));
	fake_commit(&f, &(struct fake_mail){ .sender = "s@x.test", .rcpt = good, .n = 1, .content = "Subject: much longer than what was written\r\n\r\nbody\r\n" });
	fake_turns(&f, 10);
	assert_int_equal(f.refused, 8);
	/* Gone in the middle of a message: nothing stays behind. */
	assert_true(fake_begin(&f, fake_content));
	assert_int_equal(f.q->n_state[M_INTAKE], 1);
	channel_free(f.smtpd.far);
	f.smtpd.far = NULL;
	fake_turns(&f, 10);
	assert_int_equal(f.q->n_state[M_INTAKE], 0);
	fake_stop(&f);
}

/* The gate: closed for lack of space, open again. */
static void test_gate(void **state)
{
	struct ipc_msg_begin begin = { 0 };
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_turns(&f, 3);
	assert_false(f.closed);
	f.set->space_kb = INT64_MAX / 4;
	intake_check(f.q);
	fake_turns(&f, 3);
	assert_true(f.closed);
	f.status = 0;
	channel_ask(f.smtpd.far, &ipc_type_msg_begin, &begin, NULL, 0, &ipc_type_msg_file, 0, fake_on_file, &f);
	fake_turns(&f, 5);
	assert_int_equal(f.status, ST_DEFER);
	f.set->space_kb = 1;
	intake_check(f.q);
	fake_turns(&f, 3);
	assert_false(f.closed);
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_in_flight),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_report_text),
		cmocka_unit_test(test_report_survives),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_frozen_age),
		cmocka_unit_test(test_router_lost),
		cmocka_unit_test(test_router_restart),
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_commands_in_flight),
		cmocka_unit_test(test_export_import),
		cmocka_unit_test(test_hostile_commit),
		cmocka_unit_test(test_gate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

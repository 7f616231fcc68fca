/* SPDX-License-Identifier: ISC */
/* Fairness, concurrency, connections, dead hosts: scenarios with stand-in agents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/qmgr_fake.h"

static void mail_bulk(struct fake *f, unsigned n, const char *domain)
{
	char (*text)[64] = calloc(n, sizeof *text);
	const char **v = calloc(n, sizeof *v);
	struct fake_mail mail = { .sender = "list@x.test", .rcpt = v, .n = n };

	for (unsigned i = 0; i < n; i++) {
		snprintf(text[i], sizeof text[i], "u%u@%s", i, domain);
		v[i] = text[i];
	}
	if (!fake_mail(f, &mail))
		fail_msg("the bulk mailing was not accepted");
	free(v);
	free(text);
}

/* Answers held deliveries, the oldest first, until none is left; returns how many. */
static unsigned answer_all(struct fake *f)
{
	unsigned n = 0;

	while (f->answered < f->n_sent) {
		fake_answer_one(f, &f->sent[f->answered]);
		fake_turns(f, 6);
		n++;
	}
	return n;
}

/* A single message to the same destination as a mailing of 2,000 recipients waits for what is in flight, not for the mailing. */
static void test_bulk_and_single(void **state)
{
	struct fake f;
	unsigned at;

	(void)state;
	fake_start(&f);
	f.hold = true;
	f.max_rcpt = 1;
	fake_agent_join(&f, 0);
	mail_bulk(&f, 2000, "big.test");
	fake_turns(&f, 100);
	assert_int_equal(f.n_sent, f.set->concurrency_first);
	assert_true(fake_mail_one(&f, "s@x.test", "single@big.test"));
	fake_turns(&f, 30);
	for (at = 0; at < 200; at++) {
		unsigned i = f.answered;

		if (i >= f.n_sent || !strncmp(f.sent[i].first, "single", 6))
			break;
		fake_answer_one(&f, &f.sent[i]);
		fake_turns(&f, 4);
	}
	if (at > f.set->concurrency_first * 2 + 4)
		fail_msg("the single message came after %u of the mailing's", at);
	answer_all(&f);
	fake_turns(&f, 50);
	assert_int_equal(f.q->n_messages, 0);
	assert_int_equal(f.n_sent, 2001);
	fake_stop(&f);
}

/* Recipients of one message and plan share a delivery, up to the transport's limit, across the router's answers. */
static void test_grouping(void **state)
{
	static const struct { unsigned n, most, want; } cases[] = { { 1, 0, 1 }, { 64, 0, 1 }, { 500, 100, 5 }, { 1000, 1, 1000 }, { 130, 100, 2 } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct fake f;

		fake_start(&f);
		f.max_rcpt = cases[i].most;
		mail_bulk(&f, cases[i].n, "big.test");
		fake_turns(&f, 60); /* all is routed before there is an agent */
		fake_agent_join(&f, 0);
		fake_turns(&f, 400);
		if (f.n_sent != cases[i].want || f.q->n_messages)
			fail_msg("%u recipients, %u at most: %u deliveries, want %u; %u messages left", cases[i].n, cases[i].most, f.n_sent, cases[i].want,
				f.q->n_messages);
		fake_stop(&f);
	}
}

/* Two hosts, one of them hung: the other's mail flows. */
static void test_hung_destination(void **state)
{
	struct fake f;
	unsigned slow = 0, fast = 0;

	(void)state;
	fake_start(&f);
	f.hold = true;
	f.set->remote_max = 30;
	fake_agent_join(&f, 0);
	for (unsigned i = 0; i < 40; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "u@slow.test"));
	for (unsigned i = 0; i < 40; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "u@fast.test"));
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < f.n_sent; i++)
			if (f.sent[i].request && !strcmp(f.sent[i].key, "fast.test")) {
				fake_answer_one(&f, &f.sent[i]);
				f.sent[i].request = 0;
				fast++;
			}
		fake_turns(&f, 6);
	}
	for (unsigned i = 0; i < f.n_sent; i++)
		slow += !strcmp(f.sent[i].key, "slow.test");
	assert_int_equal(slow, f.set->concurrency_first);
	assert_int_equal(fast, 40);
	fake_stop(&f);
}

/* The window grows while a host takes mail. */
static void test_window_grows(void **state)
{
	struct fake f;
	struct dest *d;

	(void)state;
	fake_start(&f);
	f.max_rcpt = 1;
	f.set->concurrency_first = 2;
	f.set->concurrency_max = 6;
	fake_agent_join(&f, 0);
	f.hold = true;
	mail_bulk(&f, 100, "big.test");
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 2);
	d = dest_get(f.q, STR_LIT("t_smtp"), STR_LIT("big.test"), AGENT_SMTP);
	for (unsigned i = 0; i < 60; i++) {
		fake_answer_one(&f, &f.sent[f.answered]);
		fake_turns(&f, 4);
		if (d->busy > d->window || d->window > 6)
			fail_msg("%u in flight, window %u", d->busy, d->window);
	}
	assert_int_equal(d->window, 6);
	assert_int_equal(f.n_sent - f.answered, 6);
	fake_stop(&f);
}

/* An open connection takes the next message at once, is closed when nothing comes, and never serves another key. */
static void test_connection(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.keep = f.hold = true;
	f.set->concurrency_first = 1;
	f.set->concurrency_max = 1;
	fake_agent_join(&f, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	assert_true(fake_mail_one(&f, "s@x.test", "u@b.test"));
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 2); /* a window of one for each host */
	assert_int_equal(answer_all(&f), 4);
	for (unsigned i = 0; i < 4; i++)
		if (!strcmp(f.sent[i].key, "a.test"))
			assert_int_equal(f.sent[i].connection, i == 0 ? 0 : 1);
		else
			assert_int_equal(f.sent[i].connection, 0);
	assert_int_equal(f.q->n_idle_conns, 2);
	assert_true(fake_mail_one(&f, "s@x.test", "u@b.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.sent[4].connection, 2);
	answer_all(&f);
	conns_expire(f.q, loop_now(f.loop) + CONN_IDLE_MS + 1);
	fake_turns(&f, 5);
	assert_int_equal(f.closes, 2);
	assert_int_equal(f.q->n_idle_conns, 0);
	assert_int_equal(f.q->lanes.used, 0); /* nothing is kept for hosts that nothing waits for */
	assert_int_equal(f.q->dests.used, 0);
	fake_stop(&f);
}

/* One message finds out that a host is down; the others wait without a try, and one of them is the probe when its time comes. */
static void test_dead_host(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->concurrency_first = 1;
	fake_agent_join(&f, 0);
	f.hold = true;
	for (unsigned i = 0; i < 20; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "down@a.test"));
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 1);
	f.hold = false;
	answer_all(&f);
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 1);
	assert_int_equal(f.q->n_state[M_DEFERRED], 20);
	assert_int_equal(fake_log_count(&f, "retry time not reached for any host"), 19);
	assert_true(fake_mail_one(&f, "s@x.test", "new@a.test")); /* a new message does not try either */
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 1);
	fake_pass(&f, 590);
	assert_int_equal(f.n_sent, 1);
	fake_pass(&f, 20);
	fake_pass(&f, 1);
	if (f.n_sent != 2)
		fail_msg("%u tries after the retry time, want 2", f.n_sent);
	/* It is up again: all follow the probe's success. */
	assert_int_equal(f.q->n_state[M_DEFERRED], 21);
	for (unsigned i = 0; i < 30; i++)
		fake_pass(&f, 60);
	assert_true(f.n_sent >= 3);
	fake_stop(&f);
}

static void test_dead_host_recovers(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "down@a.test"));
	fake_turns(&f, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 20);
	assert_int_equal(f.n_sent, 1);
	assert_int_equal(f.q->n_state[M_DEFERRED], 21);
	f.up = true;
	for (unsigned i = 0; i < 4; i++)
		fake_pass(&f, 200);
	fake_pass(&f, 10);
	fake_turns(&f, 60);
	if (f.q->n_messages)
		fail_msg("%u messages left; log:\n%s", f.q->n_messages, fake_log_text(&f));
	fake_stop(&f);
}

/* More than a lane may hold: the rest leaves memory and comes back. */
static void test_parking(void **state)
{
	enum { N = LANE_QUEUE_MAX + 300 };
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->concurrency_first = f.set->concurrency_max = 1;
	f.hold = true;
	fake_agent_join(&f, 0);
	for (unsigned i = 0; i < N; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 20);
	if (f.q->n_state[M_PARKED] < 200)
		fail_msg("%u parked, %u active, %u ready, %u deferred", f.q->n_state[M_PARKED], f.q->n_state[M_ACTIVE], f.q->n_state[M_READY], f.q->n_state[M_DEFERRED]);
	f.hold = false;
	while (f.answered < f.n_sent)
		fake_answer_one(&f, &f.sent[f.answered]);
	fake_turns(&f, 4000);
	assert_int_equal(f.q->n_messages, 0);
	assert_int_equal(f.n_sent, N);
	fake_stop(&f);
}

/* A host that dies with more waiting for it than a lane holds: all wait for its time, none is stuck. */
static void test_parking_dead_host(void **state)
{
	enum { N = 2 * LANE_QUEUE_MAX + 600 };
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->concurrency_first = f.set->concurrency_max = 1;
	f.hold = true;
	fake_agent_join(&f, 0);
	for (unsigned i = 0; i < N; i++)
		assert_true(fake_mail_one(&f, "s@x.test", "down@a.test"));
	fake_turns(&f, 20);
	assert_true(f.q->n_state[M_PARKED] > 1000);
	f.hold = false;
	fake_answer_one(&f, &f.sent[0]);
	fake_turns(&f, 100);
	dests_unpark(f.q);
	for (unsigned i = 0; i < 60 && f.q->n_state[M_DEFERRED] < N; i++) {
		fake_turns(&f, 40);
		if (f.q->n_state[M_PARKED])
			dests_unpark(f.q);
	}
	if (f.q->n_state[M_DEFERRED] != N)
		fail_msg("%u deferred of %u, %u parked, %u active", f.q->n_state[M_DEFERRED], (unsigned)N, f.q->n_state[M_PARKED], f.q->n_state[M_ACTIVE]);
	assert_int_equal(f.n_sent, 1);
	f.up = true;
	for (unsigned i = 0; i < 40 && f.q->n_messages; i++) {
		fake_pass(&f, 100);
		fake_turns(&f, 300);
		if (f.q->n_state[M_PARKED])
			dests_unpark(f.q);
	}
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* An agent dies: what it had goes to another at once; a message that it happens to again and again waits. */
static void test_agent_lost(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.hold = true;
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "u@a.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 1);
	for (unsigned i = 1; i < LOST_MAX; i++) {
		fake_agent_join(&f, i % FAKE_PEERS);
		channel_free(f.agents[i - 1].far);
		f.agents[i - 1].far = NULL;
		fake_turns(&f, 10);
		assert_int_equal(f.n_sent, i + 1);
	}
	channel_free(f.agents[LOST_MAX - 1].far);
	f.agents[LOST_MAX - 1].far = NULL;
	fake_turns(&f, 10);
	assert_int_equal(f.q->n_state[M_DEFERRED], 1);
	assert_int_equal(fake_log_count(&f, "set aside"), 1);
	f.hold = false;
	fake_agent_join(&f, 3);
	fake_pass(&f, 15);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* A local delivery asks for its process, waits for it, and is deferred when there will be none. */
static void test_local(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	assert_true(fake_mail_one(&f, "s@x.test", "u@local.test"));
	fake_turns(&f, 20);
	assert_int_equal(f.needs, 1);
	fake_local_join(&f);
	fake_turns(&f, 20);
	assert_int_equal(f.q->n_messages, 0);
	assert_int_equal(fake_log_count(&f, "=> u <u@local.test> R=r1 T=t_local"), 1);
	fake_unlink(&f.local);
	assert_true(fake_mail_one(&f, "s@x.test", "u@local.test"));
	fake_turns(&f, 20);
	assert_int_equal(f.needs, 2);
	agent_refused(f.q, f.need_cookie, STR_LIT("uid 0 is never used"));
	fake_turns(&f, 20);
	assert_int_equal(f.q->n_state[M_DEFERRED], 1);
	assert_int_equal(fake_log_count(&f, "uid 0 is never used"), 1);
	fake_stop(&f);
}

/* More mailboxes than a process takes deliveries at a time: each gets its turn as places become free. */
static void test_local_many(void **state)
{
	enum { N = 300 };
	struct fake f;

	(void)state;
	fake_start(&f);
	f.hold = true;
	for (unsigned i = 0; i < N; i++) {
		char rcpt[64];

		snprintf(rcpt, sizeof rcpt, "u@local.%u.test", i);
		assert_true(fake_mail_one(&f, "s@x.test", rcpt));
	}
	fake_turns(&f, 20);
	assert_int_equal(f.needs, 1);
	fake_local_join(&f);
	fake_turns(&f, 10);
	assert_true(f.n_sent > 0 && f.n_sent < 100);
	assert_int_equal(answer_all(&f), N);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bulk_and_single),
		cmocka_unit_test(test_grouping),
		cmocka_unit_test(test_hung_destination),
		cmocka_unit_test(test_window_grows),
		cmocka_unit_test(test_connection),
		cmocka_unit_test(test_dead_host),
		cmocka_unit_test(test_dead_host_recovers),
		cmocka_unit_test(test_parking),
		cmocka_unit_test(test_parking_dead_host),
		cmocka_unit_test(test_agent_lost),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_local_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* What waits though nothing is wrong with it, and deliveries of one message that wait for each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/qmgr_fake.h"

/* ---- held, and queued ---- */

static const struct wait_case {
	const char *name, *rcpt[2];
	uint64_t flags;
	unsigned sent, sent_later;  /* deliveries on arrival; when the queue run has come, too */
	const char *log;            /* at the end */
} wait_cases[] = {
	{ "held", { "u@held.test", "v@a.test" }, 0, 1, 1, "== u@held.test R=r1 defer (-23): domain is held\n" },
	{ "queued", { "u@queued.test", "v@a.test" }, 0, 1, 2, "== u@queued.test R=r1 defer (-1): domain is in queue_domains\n" },
	{ "routed, then queued", { "u@pass.test", "v@a.test" }, 0, 1, 2, "== u@pass.test R=r1 T=t_smtp defer (-1): first-pass only routing due to " },
	{ "the whole message was queued", { "u@queued.test", "v@pass.test" }, MSG_QUEUE, 0, 2, "Completed" },
};

static void test_waiting(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof wait_cases / sizeof *wait_cases; i++) {
		const struct wait_case *c = &wait_cases[i];
		struct fake_mail mail = { .sender = "s@x.test", .rcpt = c->rcpt, .n = 2, .flags = c->flags };
		struct fake f;

		fake_start(&f);
		f.set->queue_interval = 1800;
		fake_agent_join(&f, 0);
		assert_true(fake_mail(&f, &mail));
		fake_turns(&f, 30);
		if (f.n_sent != c->sent)
			fail_msg("%s: %u deliveries on arrival, want %u:\n%s", c->name, f.n_sent, c->sent, fake_log_text(&f));
		fake_pass(&f, 1700);
		if (f.n_sent != c->sent)
			fail_msg("%s: %u deliveries before the queue run:\n%s", c->name, f.n_sent, fake_log_text(&f));
		fake_pass(&f, 200);
		if (f.n_sent != c->sent_later)
			fail_msg("%s: %u deliveries with the queue run, want %u:\n%s", c->name, f.n_sent, c->sent_later, fake_log_text(&f));
		if (!strstr(fake_log_text(&f), c->log))
			fail_msg("%s: want \"%s\", got:\n%s", c->name, c->log, fake_log_text(&f));
		fake_stop(&f);
	}
}

/* It waits however long, but no longer than mail ever does; without retry rules, too. An administrator's word lets it go. */
static void test_held_long(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "u@held.test"));
	fake_turns(&f, 30);
	for (unsigned i = 0; i < 40; i++)
		fake_pass(&f, 2000);
	assert_int_equal(fake_log_count(&f, "** u@held.test"), 0);
	assert_true(fake_log_count(&f, "domain is held") > 20);
	for (unsigned i = 0; i < 6; i++)
		fake_pass(&f, 2000);
	assert_int_equal(fake_log_count(&f, "** u@held.test R=r1: domain is held: retry timeout exceeded"), 1);
	assert_int_equal(fake_log_count(&f, "=> s@x.test"), 1);
	fake_stop(&f);

	fake_start(&f);
	f.set->n_retry = 0;
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@x.test", "u@held.test"));
	fake_turns(&f, 30);
	fake_pass(&f, 10 * 86400);
	assert_int_equal(fake_log_count(&f, "**"), 0);
	assert_int_equal(f.n_sent, 1); /* a warning of the delay */
	message_wake(f.q, list_entry(list_first(&f.q->messages), struct message, node), true);
	fake_turns(&f, 30);
	assert_int_equal(f.n_sent, 2);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* After a restart what was queued still waits, and counts as never tried. */
static void test_queued_restart(void **state)
{
	const char *rcpt[] = { "u@queued.test", "v@pass.test" };
	struct fake_mail mail = { .sender = "s@x.test", .rcpt = rcpt, .n = 2 };
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	assert_true(fake_mail(&f, &mail));
	fake_turns(&f, 30);
	fake_restart(&f);
	fake_agent_join(&f, 1);
	fake_pass(&f, 1000);
	assert_int_equal(f.n_sent, 0);
	fake_pass(&f, 1000);
	assert_int_equal(f.n_sent, 2);
	assert_int_equal(f.q->n_messages, 0);
	fake_stop(&f);
}

/* deliver_queue_load_max: what is deferred waits while the load is high; new mail and forced mail go. */
static void test_load(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->load_max = 4000;
	f.load = 4001;
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "", "down@a.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 1);
	fake_pass(&f, 700);
	fake_pass(&f, 60);
	assert_int_equal(f.n_sent, 1);
	assert_int_equal(fake_log_count(&f, "no deferred message is tried: load average 4.00"), 1);
	f.load = 4000;
	f.q->load_ms = 0; /* it was looked at long ago */
	fake_pass(&f, 60);
	assert_int_equal(f.n_sent, 2);
	f.load = 9000;
	f.q->load_ms = 0;
	fake_pass(&f, 2000);
	assert_int_equal(f.n_sent, 2);
	message_wake(f.q, list_entry(list_first(&f.q->messages), struct message, node), true);
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 3);
	fake_stop(&f);
}

/* retry_data_expire: what was learnt of a host longer ago holds nothing up any more. */
static void test_retry_data_expire(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->retry_data_expire = 300; /* shorter than the rule's ten minutes */
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "", "down@a.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 1);
	f.now_us += 200 * INT64_C(1000000);
	assert_true(fake_mail_one(&f, "", "u@a.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 1);
	f.now_us += 101 * INT64_C(1000000);
	assert_true(fake_mail_one(&f, "", "v@a.test"));
	fake_turns(&f, 10);
	assert_true(f.n_sent >= 2);
	assert_string_equal(f.sent[1].first, "v@a.test");
	fake_stop(&f);
}

/* ---- one message's deliveries ---- */

static void answer_next(struct fake *f)
{
	unsigned next = f->answered;

	assert_true(next < f->n_sent);
	fake_answer_one(f, &f->sent[next]);
	fake_turns(f, 5);
}

static const struct parallel_case {
	const char *name;
	uint32_t most;
	const char *rcpt[5];
	const char *order;          /* first recipients of the deliveries in the order in which they went out */
	unsigned at_once;
} parallel_cases[] = {
	{ "no limit", 0, { "u@a.test", "u@b.test", "u@c.test", "u@d.test", "u@e.test" }, "u@a.test u@b.test u@c.test u@d.test u@e.test ", 5 },
	{ "one", 1, { "u@a.test", "u@b.test", "u@c.test", "u@d.test", "u@e.test" }, "u@a.test u@b.test u@c.test u@d.test u@e.test ", 1 },
	{ "two", 2, { "u@a.test", "u@b.test", "u@a.test", "v@b.test", "u@e.test" }, "u@a.test u@b.test u@e.test ", 2 },
	{ "in order", 1, { "u@o3.test", "u@o2.test", "u@o1.test", "v@o2.test", "u@o1.x.test" }, "u@o1.test u@o1.x.test u@o2.test u@o3.test ", 1 },
	{ "in order, no limit", 0, { "u@o5.test", "u@o4.test", "u@o3.test", "u@o2.test", "u@o1.test" },
		"u@o1.test u@o2.test u@o3.test u@o4.test u@o5.test ", 5 },
	{ "refused ones count, too", 1, { "r550@a.test", "down@b.test", "d451@c.test", "u@d.test", "u@e.test" },
		"r550@a.test down@b.test d451@c.test u@d.test u@e.test ", 1 },
};

static void test_parallel(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof parallel_cases / sizeof *parallel_cases; i++) {
		const struct parallel_case *c = &parallel_cases[i];
		struct fake_mail mail = { .sender = "", .rcpt = c->rcpt, .n = 5 };
		struct buf order = BUF_INIT;
		struct fake f;

		fake_start(&f);
		f.set->remote_parallel = c->most;
		f.hold = true;
		fake_agent_join(&f, 0);
		assert_true(fake_mail(&f, &mail));
		fake_turns(&f, 10);
		if (f.n_sent != c->at_once)
			fail_msg("%s: %u at once, want %u", c->name, f.n_sent, c->at_once);
		while (f.answered < f.n_sent) {
			answer_next(&f);
			if (f.n_sent - f.answered > c->at_once)
				fail_msg("%s: %u at once", c->name, f.n_sent - f.answered);
		}
		for (unsigned k = 0; k < f.n_sent; k++)
			buf_printf(&order, "%s ", f.sent[k].first);
		if (strcmp(buf_cstr(&order), c->order))
			fail_msg("%s: went in the order %s\nwant %s", c->name, buf_cstr(&order), c->order);
		buf_clear(&order);
		assert_int_equal(f.q->n_window, 0);
		fake_stop(&f);
	}
}

/* Another message is not held up by one that has reached its limit; a lost agent, a withdrawal and the end leave nothing behind. */
static void test_parallel_others(void **state)
{
	const char *rcpt[] = { "u@a.test", "u@b.test", "u@c.test" };
	struct fake_mail mail = { .sender = "s@x.test", .rcpt = rcpt, .n = 3 };
	struct message *m;
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->remote_parallel = 1;
	f.hold = true;
	fake_agent_join(&f, 0);
	assert_true(fake_mail(&f, &mail));
	fake_turns(&f, 10);
	assert_true(fake_mail_one(&f, "s@x.test", "v@b.test"));
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 2);
	fake_agent_join(&f, 1);
	channel_free(f.agents[0].far); /* both are lost, and go again */
	f.agents[0].far = NULL;
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 4);
	m = list_entry(list_first(&f.q->messages), struct message, node);
	m->active->want = WANT_HOLD;
	active_withdraw(f.q, m->active);
	f.answered = 2;
	answer_next(&f);
	answer_next(&f);
	fake_turns(&f, 10);
	assert_int_equal(f.n_sent, 4);
	assert_int_equal(m->state, M_HELD);
	assert_int_equal(f.q->n_window, 0);
	assert_int_equal(f.q->n_messages, 1);
	fake_stop(&f);

	fake_start(&f);
	f.set->remote_parallel = 1;
	f.hold = true;
	fake_agent_join(&f, 0);
	assert_true(fake_mail(&f, &mail));
	fake_turns(&f, 10);
	fake_stop(&f); /* with deliveries that never began */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waiting), cmocka_unit_test(test_held_long), cmocka_unit_test(test_queued_restart), cmocka_unit_test(test_load), cmocka_unit_test(test_retry_data_expire),
		cmocka_unit_test(test_parallel), cmocka_unit_test(test_parallel_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

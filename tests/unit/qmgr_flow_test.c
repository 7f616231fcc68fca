/* SPDX-License-Identifier: ISC */
/* Messages through the whole queue manager, with stand-ins for the other daemons. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/qmgr_fake.h"

/* One message to each kind of recipient: what the log says, and what is left in the queue. */
static const struct flow_case {
	const char *name, *sender, *rcpt;
	const char *log[4];
	unsigned left;          /* messages in the queue afterwards, reports included */
	unsigned deliveries;
} flow_cases[] = {
	{ "delivered", "s@x.test", "u@a.test", { "=> u@a.test R=r1 T=t_smtp H=a.test [192.0.2.1] C=\"250 ok\"", "Completed" }, 0, 1 },
	{ "refused", "s@x.test", "r550@a.test", { "** r550@a.test R=r1 T=t_smtp H=a.test [192.0.2.1]: SMTP error from remote mail server after RCPT TO: 550 5.1.1 no such user",
		"<= <> R=", "=> s@x.test", "Completed" }, 0, 2 },
	{ "later", "s@x.test", "r451@a.test", { "== r451@a.test R=r1 T=t_smtp defer (-44) H=a.test [192.0.2.1]: SMTP error from remote mail server after RCPT TO: 451 later" }, 1, 1 },
	{ "host down", "s@x.test", "down@a.test", { "== down@a.test R=r1 T=t_smtp defer (111): Connection refused H=a.test [192.0.2.1]\n" }, 1, 1 },
	{ "data refused for now", "s@x.test", "d451@a.test", { "== d451@a.test R=r1 T=t_smtp defer (-46)" }, 1, 1 },
	{ "unroutable", "s@x.test", "u@fail.test", { "** u@fail.test R=r1: Unknown user", "<= <> R=", "=> s@x.test" }, 0, 1 },
	{ "routing deferred", "s@x.test", "u@defer.test", { "== u@defer.test R=r1 defer (-1): host lookup did not complete" }, 1, 0 },
	{ "black hole", "s@x.test", "u@hole.test", { "=> :blackhole: <u@hole.test> R=r1", "Completed" }, 0, 0 },
	{ "alias", "s@x.test", "u@alias.test", { "=> x@a.test <u@alias.test>", "=> y@b.test <u@alias.test>", "Completed" }, 0, 2 },
	{ "bounce of a bounce", "", "u@fail.test", { "** u@fail.test R=r1: Unknown user", "Frozen (delivery error message)" }, 1, 0 },
};

static void test_flow(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof flow_cases / sizeof *flow_cases; i++) {
		const struct flow_case *c = &flow_cases[i];
		struct fake f;

		fake_start(&f);
		fake_agent_join(&f, 0);
		if (!fake_mail_one(&f, c->sender, c->rcpt))
			fail_msg("%s: not accepted: status %u, id %s\n%s", c->name, (unsigned)f.status, f.id, fake_log_text(&f));
		fake_turns(&f, 30);
		for (size_t k = 0; k < 4 && c->log[k]; k++)
			if (!strstr(fake_log_text(&f), c->log[k]))
				fail_msg("%s: want \"%s\" in the log, got:\n%s", c->name, c->log[k], fake_log_text(&f));
		if (f.q->n_messages != c->left)
			fail_msg("%s: %u messages left, want %u; log:\n%s", c->name, f.q->n_messages, c->left, fake_log_text(&f));
		if (f.n_sent != c->deliveries)
			fail_msg("%s: %u deliveries, want %u", c->name, f.n_sent, c->deliveries);
		fake_stop(&f);
	}
}

/* smtpd was taken over: nothing that it says ends a line in the log, in a command or in a file that is handed over. */
static void test_hostile(void **state)
{
	static const char *const good[] = { "u@a.test" }, *const bad[] = { "u@a.test", "x@a.test>\r\nDATA" };
	static const struct fake_mail mails[] = {
		{ .sender = "s@x.test", .rcpt = good, .n = 1, .auth_id = "someone" }, { .sender = "s@x.test\r\nRCPT TO:<y@z>", .rcpt = good, .n = 1 },
		{ .sender = "s@x.test", .rcpt = bad, .n = 2 }, { .sender = "s@x.test", .rcpt = good, .n = 1, .helo = "a\n-local" },
		{ .sender = "s@x.test", .rcpt = good, .n = 1, .auth_id = "a\n1abc <= forged" }, { .sender = "s@x.test", .rcpt = good, .n = 1, .envid = "a\nb" },
		{ .sender = "s@x.test", .rcpt = good, .n = 1, .orcpt = "rfc822;a\r\nb" },
		{ .sender = "s@x.test", .rcpt = good, .n = 1, .dn = "CN=a\n1abc <= forged" },
		{ .sender = "s@x.test", .rcpt = good, .n = 1, .dn = "CN=a", .peercert = "-----BEGIN\n-----END\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof mails / sizeof *mails; i++) {
		struct fake f;

		fake_start(&f);
		fake_agent_join(&f, 0);
		if (fake_mail(&f, &mails[i]) != (i == 0 || mails[i].peercert))
			fail_msg("%zu: %s", i, fake_log_text(&f));
		fake_turns(&f, 30);
		assert_int_equal(f.q->n_messages, 0);
		fake_stop(&f);
	}
}

/* smtp-out was taken over: of hosts that it was not sent to it teaches nothing, neither that they are down nor that they are back. */
static void test_hostile_agent(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	fake_agent_join(&f, 0);
	f.told_of = "c.test";
	assert_true(fake_mail_one(&f, "s@x.test", "down@a.test"));
	fake_turns(&f, 30);
	assert_int_equal(f.n_sent, 1);
	assert_int_equal(f.q->n_retry, 0);
	f.told_of = NULL;
	assert_true(fake_mail_one(&f, "s@x.test", "down@c.test"));
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_retry, 1);
	f.told_of = "c.test";
	assert_true(fake_mail_one(&f, "s@x.test", "u@b.test"));
	fake_turns(&f, 30);
	assert_int_equal(f.n_sent, 3);
	assert_int_equal(f.q->n_retry, 1);
	fake_stop(&f);
}

/* The fields that log_selector adds, in the order of Exim's lines. */
static const struct log_case {
	const char *name, *selector, *rcpt, *want;
} log_cases[] = {
	{ "arrival", "", "u@a.test", " <= s@x.test H=(client.test) [192.0.2.9] P=esmtp S=32 id=m1@b\n" },
	{ "arrival, no id", "-msg_id", "u@a.test", " <= s@x.test H=(client.test) [192.0.2.9] P=esmtp S=32\n" },
	{ "arrival, all about the envelope", "+8bitmime +received_sender +received_recipients", "u@a.test",
		" S=32 M8S=0 id=m1@b from <s@x.test> for u@a.test\n" },
	{ "delivery, sender and return path", "+sender_on_delivery +return_path_on_delivery", "u@a.test",
		" => u@a.test F=<s@x.test> P=<s@x.test> R=r1 T=t_smtp H=a.test [192.0.2.1] C=\"250 ok\"\n" },
	{ "delivery, size and port", "+delivery_size +outgoing_port -smtp_confirmation", "u@a.test", " => u@a.test R=r1 T=t_smtp S=32 H=a.test [192.0.2.1]:25\n" },
	{ "delivery, times", "+queue_time +deliver_time -smtp_confirmation", "u@a.test", " H=a.test [192.0.2.1] QT=0s DT=0s\n" },
	{ "delivery, times with milliseconds", "+queue_time +deliver_time +millisec -smtp_confirmation", "u@a.test", " H=a.test [192.0.2.1] QT=0.000s DT=0.000s\n" },
	{ "completed, time", "+queue_time_overall", "u@a.test", " Completed QT=0s\n" },
	{ "alias", "", "u@alias.test", " => x@a.test <u@alias.test> R=r1" },
	{ "failure, sender", "+sender_on_delivery", "u@fail.test", " ** u@fail.test F=<s@x.test> R=r1: Unknown user\n" },
	{ "report", "", "u@fail.test", " U=bulkhead P=local S=" },
};

static void test_log(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof log_cases / sizeof *log_cases; i++) {
		const struct log_case *c = &log_cases[i];
		struct err err = ERR_INIT;
		struct fake f;

		fake_start(&f);
		assert_int_equal(log_selector_parse(str_of(c->selector), &f.set->log, &err), ST_OK);
		fake_agent_join(&f, 0);
		assert_true(fake_mail_one(&f, "s@x.test", c->rcpt));
		fake_turns(&f, 30);
		if (!strstr(fake_log_text(&f), c->want))
			fail_msg("%s: want \"%s\" in the log, got:\n%s", c->name, c->want, fake_log_text(&f));
		fake_stop(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flow), cmocka_unit_test(test_hostile), cmocka_unit_test(test_hostile_agent),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

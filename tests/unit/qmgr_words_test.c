/* SPDX-License-Identifier: ISC */
/* Reports with the administrator's words and copies, which the router knows; and who is told that a message is frozen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/qmgr_fake.h"

/* The first message made here, with its envelope; text is of the caller. */
static bool own_read(struct fake *f, struct arena *a, struct spool_loaded *loaded, char *text, size_t room)
{
	list_each(&f->q->messages, n) {
		struct message *m = list_entry(n, struct message, node);
		ssize_t got;
		int fd;

		if (!m->null_sender || !(m->flags & MSG_LOCAL))
			continue;
		assert_int_equal(spool_load(f->q->spool, m->file, a, loaded, NULL), ST_OK);
		fd = spool_open_reader(f->q->spool, m->file, NULL);
		got = pread(fd, text, room - 1, SPOOL_CONTENT_OFFSET);
		close(fd);
		text[got > 0 && (size_t)got > loaded->envelope->content ? loaded->envelope->content : got > 0 ? (size_t)got : 0] = 0;
		return true;
	}
	return false;
}

/* ---- words and copies ---- */

static const struct words_case {
	const char *name, *rcpt;
	bool ask_failure, ask_delay;
	unsigned lost;               /* of the questions */
	const char *head, *intro, *copies[3];
	const char *question;        /* of the last one: whom for, kind, delay, content */
	unsigned asks;
	const char *want[3], *to;    /* in the report; its recipients */
} words_cases[] = {
	{ "nothing is set", "u@fail.test", false, false, 0, "Subject: mine\n", "Mine\n", { NULL }, "", 0, { "Subject: Mail delivery failed" }, "s@defer.test " },
	{ "failure", "u@fail.test", true, false, 0, "Subject: mine\n", "Mine\n", { NULL }, "s@defer.test 1 0 1", 1, { "\r\nSubject: mine\r\n", "\r\nMine\r\n", "u@fail.test" }, "s@defer.test " },
	{ "copies", "u@fail.test", true, false, 0, "", "", { "x@c.test", "y\n@c.test", "nonsense@" }, "s@defer.test 1 0 1", 1, { "\r\nTo: s@defer.test\r\n" }, "s@defer.test x@c.test " },
	{ "the router dies", "u@fail.test", true, false, 2, "Subject: mine\n", "", { NULL }, "s@defer.test 1 0 1", 3, { "\r\nSubject: mine\r\n" }, "s@defer.test " },
	{ "and again", "u@fail.test", true, false, 3, "Subject: mine\n", "", { "x@c.test" }, "s@defer.test 1 0 1", 3, { "Subject: Mail delivery failed" }, "s@defer.test " },
	{ "delay", "down@a.test", true, true, 0, "Subject: slow\n", "", { NULL }, "s@defer.test 2 3600 1", 1, { "\r\nSubject: slow\r\n", "down@a.test" }, "s@defer.test " },
	{ "delay, not asked for", "down@a.test", true, false, 0, "Subject: slow\n", "", { NULL }, "", 0, { "Subject: Warning: message" }, "s@defer.test " },
};

static void test_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof words_cases / sizeof *words_cases; i++) {
		const struct words_case *c = &words_cases[i];
		struct str copies[3];
		struct arena a = ARENA_INIT;
		struct spool_loaded loaded;
		struct buf to = BUF_INIT;
		char text[8192];
		struct fake f;

		fake_start(&f);
		f.set->ask_failure = c->ask_failure;
		f.set->ask_delay = c->ask_delay;
		f.set->warn_at[0] = 3600;
		f.set->bounce_auth = STR_LIT("daemon@mx.test");
		f.report_lost = c->lost;
		for (unsigned k = 0; k < 3 && c->copies[k]; k++)
			copies[f.words.copies.n++] = str_of(c->copies[k]);
		f.words.copies.v = copies;
		f.words.head = str_of(c->head);
		f.words.intro = str_of(c->intro);
		if (str_begins(str_of(c->rcpt), "down"))
			fake_agent_join(&f, 0);
		assert_true(fake_mail_one(&f, "s@defer.test", c->rcpt)); /* the report stays */
		fake_turns(&f, 30);
		if (c->rcpt[0] == 'd')
			fake_pass(&f, 4000);
		if (f.report_asks != c->asks || strcmp(f.report_to, c->question))
			fail_msg("%s: %u questions, the last \"%s\"; want %u, \"%s\"\n%s", c->name, f.report_asks, f.report_to, c->asks, c->question, fake_log_text(&f));
		if (!own_read(&f, &a, &loaded, text, sizeof text))
			fail_msg("%s: no report:\n%s", c->name, fake_log_text(&f));
		for (unsigned k = 0; k < 3 && c->want[k]; k++)
			if (!strstr(text, c->want[k]))
				fail_msg("%s: want \"%s\" in\n%s", c->name, c->want[k], text);
		for (uint32_t k = 0; k < loaded.envelope->n_recipients; k++)
			buf_printf(&to, "%.*s ", STR_FMT(loaded.envelope->recipients[k].addr));
		if (strcmp(buf_cstr(&to), c->to))
			fail_msg("%s: goes to %s, want %s", c->name, buf_cstr(&to), c->to);
		assert_true(str_is(loaded.envelope->facts->auth_sender, "daemon@mx.test"));
		buf_clear(&to);
		arena_clear(&a);
		fake_stop(&f);
	}
}

/* The copies can't be known now: the report waits, and is made later; nothing is lost by a restart meanwhile. */
static void test_words_later(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->ask_failure = true;
	f.ask_failure = true;
	f.words.status = ST_DEFER;
	f.words.text = STR_LIT("errors_copy: the database is down");
	assert_true(fake_mail_one(&f, "s@b.test", "u@fail.test"));
	fake_turns(&f, 30);
	assert_int_equal(f.q->n_messages, 1);
	assert_true(fake_log_count(&f, "its report: errors_copy: the database is down") >= 1);
	fake_restart(&f);
	fake_pass(&f, 10);
	assert_int_equal(fake_log_count(&f, "<= <>"), 0);
	f.words = (struct ipc_report_answer){ 0 };
	fake_pass(&f, 400);
	assert_int_equal(fake_log_count(&f, "<= <>"), 1);
	fake_stop(&f);
}

/* No router is there when the report is due: it is made later. */
static void test_no_router(void **state)
{
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->ask_failure = true;
	f.report_lost = 1;
	f.hold = true;
	fake_agent_join(&f, 0);
	assert_true(fake_mail_one(&f, "s@b.test", "r550@a.test"));
	fake_turns(&f, 10);
	fake_unlink(&f.router);
	fake_answer_one(&f, &f.sent[0]);
	fake_turns(&f, 10);
	assert_int_equal(fake_log_count(&f, "<= <>"), 0);
	fake_router_join(&f);
	fake_pass(&f, 400);
	assert_int_equal(fake_log_count(&f, "<= <>"), 1);
	fake_stop(&f);
}

/* ---- frozen ---- */

static const struct tell_case {
	const char *name, *sender, *rcpt;
	uint64_t flags;
	bool want;
	const char *text[3];
} tell_cases[] = {
	{ "frozen by an ACL", "s@x.test", "u@a.test", MSG_FREEZE, true, { "\r\nSubject: Message frozen on arrival\r\n", " was frozen on arrival by ACL.\r\nThe sender is <s@x.test>.\r\n",
		"\r\n  u@a.test\r\n" } },
	{ "a report from elsewhere", "", "u@fail.test", 0, true, { "\r\nSubject: Message frozen\r\n", " has been frozen (delivery error message).\r\nThe sender is <>.\r\n", "  u@fail.test" } },
	{ "no_tell", "s@x.test", "u@a.test", MSG_FREEZE | MSG_NO_TELL, false, { NULL } },
	{ "a report of ours", "", "u@fail.test", MSG_LOCAL, false, { NULL } },
	{ "not frozen", "s@x.test", "u@defer.test", 0, false, { NULL } },
};

static void test_freeze_tell(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof tell_cases / sizeof *tell_cases; i++) {
		const struct tell_case *c = &tell_cases[i];
		const char *rcpt[] = { c->rcpt };
		struct fake_mail mail = { .sender = c->sender, .rcpt = rcpt, .n = 1, .flags = c->flags };
		struct str tell[] = { STR_LIT("root@b.test"), STR_LIT("joe@b.test") };
		struct arena a = ARENA_INIT;
		struct spool_loaded loaded;
		char text[8192];
		struct fake f;

		fake_start(&f);
		f.set->freeze_tell = tell;
		f.set->n_freeze_tell = 2;
		assert_true(fake_mail(&f, &mail));
		fake_turns(&f, 30);
		if ((f.q->n_messages == 2) != c->want)
			fail_msg("%s: %u messages:\n%s", c->name, f.q->n_messages, fake_log_text(&f));
		if (c->want) {
			for (struct list *n = f.q->messages.next; n != &f.q->messages; n = n->next)
				assert_true(own_read(&f, &a, &loaded, text, sizeof text));
			for (unsigned k = 0; k < 3 && c->text[k]; k++)
				if (!strstr(text, c->text[k]))
					fail_msg("%s: want \"%s\" in\n%s", c->name, c->text[k], text);
			assert_int_equal(loaded.envelope->n_recipients, 2);
			assert_true(strstr(text, "To: root@b.test,\r\n\tjoe@b.test\r\n") != NULL);
		}
		/* what is told can be frozen itself without being told of */
		f.set->n_freeze_tell = 0;
		arena_clear(&a);
		fake_stop(&f);
	}
}

/* Nobody takes the telling: it is frozen in its turn, and that is the end of it. */
static void test_tell_no_loop(void **state)
{
	struct str tell[] = { STR_LIT("gone@fail.test") };
	struct fake f;

	(void)state;
	fake_start(&f);
	f.set->freeze_tell = tell;
	f.set->n_freeze_tell = 1;
	assert_true(fake_mail_one(&f, "", "u@fail.test"));
	fake_turns(&f, 100);
	assert_int_equal(f.q->n_messages, 2);
	assert_int_equal(f.q->n_state[M_FROZEN], 2);
	f.set->n_freeze_tell = 0;
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words), cmocka_unit_test(test_words_later), cmocka_unit_test(test_no_router), cmocka_unit_test(test_freeze_tell),
		cmocka_unit_test(test_tell_no_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

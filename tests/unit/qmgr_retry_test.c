/* SPDX-License-Identifier: ISC */
/* Retry rules: which one holds, and the times it gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "qmgr/qmgr.h"

/* F,2h,15m; G,16h,1h,1.5; F,4d,6h: the default rule. */
static struct retry_step steps_default[] = { { 'F', 7200, 900, 0 }, { 'G', 57600, 3600, 1500 }, { 'F', 345600, 21600, 0 } };
static const struct retry_rule rule_default = { .quota_age = -1, .steps = steps_default, .n = 3 };
static struct retry_step steps_h[] = { { 'H', 86400, 600, 2000 } };
static const struct retry_rule rule_h = { .quota_age = -1, .steps = steps_h, .n = 1 };
static struct retry_step steps_huge[] = { { 'G', 0x7fffffff, 1000000, 1000000 } };
static const struct retry_rule rule_huge = { .quota_age = -1, .steps = steps_huge, .n = 1 };
static const struct retry_rule rule_empty = { .quota_age = -1 };

static const struct next_case {
	const char *name;
	const struct retry_rule *rule;
	uint32_t first, last, next, now, max, random;
	uint32_t want;          /* seconds from now */
	bool expired;
} next_cases[] = {
	{ "first failure", &rule_default, 1000, 0, 0, 1000, 86400, 0, 900, false },
	{ "still fixed", &rule_default, 1000, 7000, 7900, 8100, 86400, 0, 900, false },
	{ "geometric begins", &rule_default, 1000, 7300, 8200, 8200, 86400, 0, 3600, false },
	{ "geometric grows", &rule_default, 1000, 8200, 11800, 11800, 86400, 0, 5400, false },
	{ "grows by the real gap when a try came early", &rule_default, 1000, 8200, 17200, 11900, 86400, 0, 5550, false },
	{ "grows by the meant gap when a try came late", &rule_default, 1000, 8200, 11800, 20000, 86400, 0, 5400, false },
	{ "last step", &rule_default, 1000, 50000, 60000, 60000, 86400, 0, 21600, false },
	{ "just before the last cutoff", &rule_default, 1000, 340000, 346599, 346599, 86400, 0, 21600, false },
	{ "past the last cutoff", &rule_default, 1000, 340000, 346600, 346600, 86400, 0, 21600, true },
	{ "limited by retry_interval_max", &rule_default, 1000, 50000, 60000, 60000, 3600, 0, 3600, false },
	{ "clock went back", &rule_default, 5000, 5000, 5900, 1000, 86400, 0, 900, false },
	{ "random, lowest", &rule_h, 1000, 1000, 2200, 2200, 86400, 0, 600, false },
	{ "random, highest", &rule_h, 1000, 1000, 2200, 2200, 86400, 0xffffffff, 2400, false },
	{ "random, first", &rule_h, 1000, 0, 0, 1000, 86400, 0xffffffff, 600, false },
	{ "no overflow", &rule_huge, 1000, 1000, 0x7fffff00, 0x7fffff00, 86400, 0, 86400, false },
	{ "no step at all", &rule_empty, 1000, 0, 0, 1000, 86400, 0, 0, true },
	{ "no rule", NULL, 1000, 0, 0, 1000, 86400, 0, 0, true },
};

static void test_next(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof next_cases / sizeof *next_cases; i++) {
		const struct next_case *c = &next_cases[i];
		bool expired;
		uint32_t got = retry_next(c->rule, c->first, c->last, c->next, c->now, c->max, c->random, &expired) - c->now;

		if (got != c->want || expired != c->expired)
			fail_msg("%s: got %u%s, want %u%s", c->name, got, expired ? " expired" : "", c->want, c->expired ? " expired" : "");
	}
}

static const struct retry_rule rules[] = {
	{ .error = RETRY_QUOTA, .quota_age = 7 * 86400 },                                      /* 0: quota_7d */
	{ .error = RETRY_RCPT_4XX, .code_min = 450, .code_max = 459, .quota_age = -1 },        /* 1: rcpt_45x */
	{ .error = RETRY_REFUSED, .via = 'A', .quota_age = -1 },                               /* 2: refused_A */
	{ .error = RETRY_TIMEOUT, .quota_age = -1 },                                           /* 3: timeout */
	{ .error = RETRY_NONE, .quota_age = -1 },                                              /* 4: * */
};

static const struct find_case {
	const char *name, *numbers;
	struct retry_fault fault;
	int want; /* -1: none */
} find_cases[] = {
	{ "any", "0 1 2 3 4", { RETRY_OTHER, 0, 0, -1 }, 4 },
	{ "quota, mailbox read long ago", "0 1 2 3 4", { RETRY_QUOTA, 0, 0, 8 * 86400 }, 0 },
	{ "quota, mailbox read lately", "0 1 2 3 4", { RETRY_QUOTA, 0, 0, 86400 }, 4 },
	{ "quota, not known", "0 1 2 3 4", { RETRY_QUOTA, 0, 0, -1 }, 4 },
	{ "code in range", "0 1 2 3 4", { RETRY_RCPT_4XX, 452, 0, -1 }, 1 },
	{ "code out of range", "0 1 2 3 4", { RETRY_RCPT_4XX, 421, 0, -1 }, 4 },
	{ "refused by a host that is no MX", "0 1 2 3 4", { RETRY_REFUSED, 0, 'A', -1 }, 2 },
	{ "refused by an MX", "0 1 2 3 4", { RETRY_REFUSED, 0, 'M', -1 }, 4 },
	{ "connect timeout is a timeout", "0 1 2 3 4", { RETRY_TIMEOUT_CONNECT, 0, 'M', -1 }, 3 },
	{ "only those whose pattern fits", "0 2", { RETRY_OTHER, 0, 0, -1 }, -1 },
	{ "numbers that do not exist", "77 x 4294967296 -1", { RETRY_OTHER, 0, 0, -1 }, -1 },
	{ "none", "", { RETRY_OTHER, 0, 0, -1 }, -1 },
};

static void test_find(void **state)
{
	struct settings s = { .retry = (struct retry_rule *)(uintptr_t)rules, .n_retry = sizeof rules / sizeof *rules };

	(void)state;
	for (size_t i = 0; i < sizeof find_cases / sizeof *find_cases; i++) {
		const struct find_case *c = &find_cases[i];
		struct str rest = str_of(c->numbers), v[8];
		struct ipc_strs numbers = { v, 0 };
		const struct retry_rule *rule;
		int got;

		while (rest.len && str_split(&rest, ' ', &v[numbers.n]))
			numbers.n++;
		rule = retry_rule_find(&s, numbers, &c->fault);
		got = rule ? (int)(rule - rules) : -1;
		if (got != c->want)
			fail_msg("%s: got rule %d, want %d", c->name, got, c->want);
	}
}

/* The heap against a plain sort, with removals in between. */
static void test_timer(void **state)
{
	enum { N = 2000 };
	struct qmgr *q = mem_new(sizeof *q);
	struct message *m = mem_new(N * sizeof *m);
	uint32_t last = 0, n = 0, random = 12345;

	(void)state;
	for (int i = 0; i < N; i++) {
		random = random * 1103515245 + 12345;
		timer_set(q, &m[i], 1 + random % 5000);
	}
	for (int i = 0; i < N; i += 3) {
		random = random * 1103515245 + 12345;
		timer_set(q, &m[i], i % 2 ? TRY_NEVER : 1 + random % 5000);
	}
	for (struct message *one; (one = timer_due(q, 2500)); n++) {
		assert_true(one->next_try >= last && one->next_try <= 2500);
		last = one->next_try;
	}
	assert_true(timer_next(q) > 2500);
	for (struct message *one; (one = timer_due(q, 5000)); n++) {
		assert_true(one->next_try >= last);
		last = one->next_try;
	}
	assert_int_equal(n, N - N / 6 - (N % 6 > 3));
	mem_free(q->heap);
	mem_free(q);
	mem_free(m);
}

static void test_wild(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool want;
	} cases[] = {
		{ "*", "", true }, { "*", "a@b", true }, { "a@b", "A@B", true }, { "a@b", "a@bc", false }, { "*@b.test", "x@b.test", true },
		{ "*@b.test", "x@bb.test", false }, { "a*c*e", "abcde", true }, { "a*c*e", "abde", false }, { "**", "x", true }, { "", "", true },
		{ "", "x", false }, { "*aab", "aaaaaaaab", true }, { "<>", "<>", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (queue_wild_match(str_of(cases[i].pattern), str_of(cases[i].text)) != cases[i].want)
			fail_msg("\"%s\" against \"%s\": want %d", cases[i].pattern, cases[i].text, cases[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_next),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_wild),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* The scanners of option values, strings and lists; every row of every option table. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/conf/listen.h"
#include "common/conf/log_selector.h"
#include "common/conf/reader.h"
#include "common/conf/slowing.h"

typedef enum status parse(struct str s, int64_t *out, struct err *err);

static const struct {
	parse *parse;
	const char *text;
	enum status status;
	int64_t want;
} numbers[] = {
	{ conf_int_parse, "0", ST_OK, 0 }, { conf_int_parse, "42", ST_OK, 42 }, { conf_int_parse, " 42 ", ST_OK, 42 },
	{ conf_int_parse, "0x1F", ST_OK, 31 }, { conf_int_parse, "010", ST_OK, 8 }, { conf_int_parse, "50M", ST_OK, 50 * 1024 * 1024 },
	{ conf_int_parse, "10k", ST_OK, 10240 }, { conf_int_parse, "2G", ST_OK, INT64_C(2) << 30 }, { conf_int_parse, "1T", ST_OK, INT64_C(1) << 40 },
	{ conf_int_parse, "-1", ST_OK, -1 }, { conf_int_parse, "+7", ST_OK, 7 }, { conf_int_parse, "9223372036854775807", ST_OK, INT64_MAX },
	{ conf_int_parse, "9223372036854775808", ST_ERROR, 0 }, { conf_int_parse, "9223372036854775807K", ST_ERROR, 0 },
	{ conf_int_parse, "", ST_ERROR, 0 }, { conf_int_parse, "08", ST_ERROR, 0 }, { conf_int_parse, "0x", ST_ERROR, 0 },
	{ conf_int_parse, "12X", ST_ERROR, 0 }, { conf_int_parse, "12KK", ST_ERROR, 0 }, { conf_int_parse, "12 K", ST_ERROR, 0 },
	{ conf_int_parse, "ten", ST_ERROR, 0 }, { conf_int_parse, "K", ST_ERROR, 0 },
	{ conf_octal_parse, "0660", ST_OK, 0660 }, { conf_octal_parse, "660", ST_OK, 0660 }, { conf_octal_parse, "0", ST_OK, 0 },
	{ conf_octal_parse, "0680", ST_ERROR, 0 }, { conf_octal_parse, "", ST_ERROR, 0 }, { conf_octal_parse, "7K", ST_ERROR, 0 },
	{ conf_fixed_parse, "3", ST_OK, 3000 }, { conf_fixed_parse, "3.5", ST_OK, 3500 }, { conf_fixed_parse, "0.125", ST_OK, 125 },
	{ conf_fixed_parse, "1.", ST_OK, 1000 }, { conf_fixed_parse, "1.0625", ST_ERROR, 0 }, { conf_fixed_parse, ".5", ST_ERROR, 0 },
	{ conf_fixed_parse, "1,5", ST_ERROR, 0 }, { conf_fixed_parse, "9223372036854775807", ST_ERROR, 0 },
	{ conf_time_parse, "0s", ST_OK, 0 }, { conf_time_parse, "90m", ST_OK, 5400 }, { conf_time_parse, "3h50m", ST_OK, 13800 },
	{ conf_time_parse, "1w2d3h4m5s", ST_OK, 604800 + 2 * 86400 + 3 * 3600 + 4 * 60 + 5 }, { conf_time_parse, "10", ST_ERROR, 0 },
	{ conf_time_parse, "", ST_ERROR, 0 }, { conf_time_parse, "1h 2m", ST_ERROR, 0 }, { conf_time_parse, "1y", ST_ERROR, 0 },
	{ conf_time_parse, "h", ST_ERROR, 0 }, { conf_time_parse, "99999999999999999w", ST_ERROR, 0 },
};

static const struct {
	const char *text;
	bool ok;
	uint32_t delays[4];       /* of commands 2, 3, 4, 100 */
} slowings[] = {
	{ "2,0.5s,2,4m", true, { 0, 500, 1000, 240000 } }, { "2, 0.5s, 1.05, 4m", true, { 0, 500, 525, 56797 } }, { "", true, { 0, 0, 0, 0 } },
	{ "0,1s,1,1s", true, { 1000, 1000, 1000, 1000 } }, { "3,10s,1.5,1h", true, { 0, 0, 10000, 3600000 } }, { "1,2s,0,5s", true, { 2000, 0, 0, 0 } },
	{ "2,0.5s,2", false, { 0 } }, { "2,0.5s,2,4m,9", false, { 0 } }, { "x,0.5s,2,4m", false, { 0 } }, { "2,0.5,2,4m", false, { 0 } },
	{ "2,1s,-1,4m", false, { 0 } }, { "-2,1s,1,4m", false, { 0 } }, { "2,1s,1,2h", false, { 0 } }, { "2,1s,1,", false, { 0 } },
};

static void test_slowing(void **state)
{
	static const uint32_t nth[] = { 2, 3, 4, 100 };

	(void)state;
	for (size_t i = 0; i < sizeof slowings / sizeof *slowings; i++) {
		struct conf_slowing s;

		if ((conf_slowing_parse(str_of(slowings[i].text), &s, NULL) == ST_OK) != slowings[i].ok)
			fail_msg("\"%s\"", slowings[i].text);
		for (size_t k = 0; slowings[i].ok && k < sizeof nth / sizeof *nth; k++)
			if (conf_slowing_delay(&s, nth[k]) != slowings[i].delays[k])
				fail_msg("\"%s\", command %u: %u ms", slowings[i].text, nth[k], conf_slowing_delay(&s, nth[k]));
	}
}

static void test_numbers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		int64_t got = 0;
		struct err err = ERR_INIT;
		enum status st = numbers[i].parse(str_of(numbers[i].text), &got, &err);
		if (st != numbers[i].status || got != numbers[i].want)
			fail_msg("\"%s\": got %s %lld (%s), want %s %lld", numbers[i].text, status_name(st), (long long)got, err.text,
				status_name(numbers[i].status), (long long)numbers[i].want);
		if (st != ST_OK && !err.text[0])
			fail_msg("\"%s\": refused without a word", numbers[i].text);
	}
}

static void test_booleans(void **state)
{
	static const struct {
		const char *text;
		int want; /* -1: refused */
	} cases[] = { { "yes", 1 }, { "true", 1 }, { "no", 0 }, { "false", 0 }, { "YES", 1 }, { " no ", 0 }, { "1", -1 }, { "", -1 }, { "on", -1 } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool b = false;
		int got = conf_bool_parse(str_of(cases[i].text), &b, NULL) == ST_OK ? b : -1;
		if (got != cases[i].want)
			fail_msg("\"%s\": got %d, want %d", cases[i].text, got, cases[i].want);
	}
}

static void test_times_format(void **state)
{
	static const struct {
		int64_t seconds;
		const char *want;
	} cases[] = { { 0, "0s" }, { 59, "59s" }, { 3600, "1h" }, { 90000, "1d1h" }, { 694861, "1w1d1h1m1s" } };
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		conf_time_format(text, cases[i].seconds);
		assert_string_equal(text, cases[i].want);
	}
}

static void test_strings(void **state)
{
	static const struct {
		const char *text;
		bool word;
		const char *want; /* NULL: refused */
		const char *rest;
	} cases[] = {
		{ "plain text \\n", false, "plain text \\n", "" }, { "one two", true, "one", " two" }, { "\"quoted \"", false, "quoted ", "" },
		{ "\"a\\tb\\nc\\rd\"", false, "a\tb\nc\rd", "" }, { "\"\\101\\x41\\\\\\\"\\q\"", false, "AA\\\"q", "" },
		{ "\"\\1014\"", false, "A4", "" }, { "\"\\x414\"", false, "A4", "" }, { "\"open", false, NULL, NULL },
		{ "\"open\\\"", false, NULL, NULL }, { "\"a\" b", false, "a", " b" }, { "", false, "", "" }, { "in\"side\"", false, "in\"side\"", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct str s = str_of(cases[i].text), got;
		struct err err = ERR_INIT;
		enum status st = conf_string_take(&s, cases[i].word, &a, &got, &err);
		if (!cases[i].want ? st != ST_ERROR : st != ST_OK || !str_is(got, cases[i].want) || !str_is(s, cases[i].rest))
			fail_msg("%s: got %s \"%.*s\" rest \"%.*s\"", cases[i].text, status_name(st), STR_FMT(got), STR_FMT(s));
		arena_clear(&a);
	}
}

static void test_lists(void **state)
{
	static const struct {
		const char *text, *want; /* items, each with | behind it */
	} cases[] = {
		{ "", "" }, { "   ", "" }, { "a", "a|" }, { "a:b", "a|b|" }, { " a : b ", "a|b|" }, { "a:b:", "a|b|" }, { "a : : b", "a||b|" },
		{ ":", "|" }, { " : a", "|a|" }, { "a::b", "a:b|" }, { "127.0.0.1 : ::::1", "127.0.0.1|::1|" }, { "<; 127.0.0.1 ; ::1", "127.0.0.1|::1|" },
		{ "<, a,,b , c", "a,b|c|" }, { "<\n a\n\nb c \n", "a||b c|" }, { "<a b:c", "<a b|c|" }, { "<; ;", "|" }, { "<;", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct buf got = BUF_INIT;
		struct conf_list_walk walk = CONF_LIST_WALK(str_of(cases[i].text));
		struct str item;
		while (conf_list_next(&walk, &a, &item))
			buf_printf(&got, "%.*s|", STR_FMT(item));
		if (strcmp(buf_cstr(&got), cases[i].want))
			fail_msg("\"%s\": got \"%s\", want \"%s\"", cases[i].text, buf_cstr(&got), cases[i].want);
		buf_clear(&got);
		arena_clear(&a);
	}
}

/* Every row: a default that its own scanner takes, a canonical name for each alias, words for people, no name twice. */
static void test_rows(void **state)
{
	(void)state;
	for (unsigned t = 0; conf_tables[t]; t++) {
		const struct conf_table *table = conf_tables[t];
		struct arena a = ARENA_INIT;
		void *opts = mem_new(table->size + 1);
		struct hash seen = HASH_INIT;
		conf_opts_init(table, opts);
		for (const struct conf_option *o = table->rows; o->name; o++) {
			struct err err = ERR_INIT;
			struct str text;
			if (hash_put(&seen, str_of(o->name), opts))
				fail_msg("%s: %s stands twice", table->name, o->name);
			if (!o->what || !*o->what || o->what[strlen(o->what) - 1] == '.' || strpbrk(o->what, "\n\t"))
				fail_msg("%s: %s: its line for the manual", table->name, o->name);
			if (o->flags & F_ALIAS && !conf_option_find(table, str_of(o->name)))
				fail_msg("%s: alias %s of nothing", table->name, o->name);
			if (o->offset == CONF_NO_FIELD)
				continue;
			if (!(o->see & V_ALL))
				fail_msg("%s: %s: nobody may see it", table->name, o->name);
			if (!o->fallback)
				continue;
			if (conf_opts_set(table, opts, &a, str_of(o->name), str_of(o->fallback), &err) != ST_OK)
				fail_msg("%s: default of %s: %s", table->name, o->name, err.text);
			if (!conf_opts_get(o, opts, &a, &text) || conf_opts_set(table, opts, &a, str_of(o->name), text, &err) != ST_OK)
				fail_msg("%s: %s does not read what it writes: %s", table->name, o->name, err.text);
		}
		hash_clear(&seen);
		mem_free(opts);
		arena_clear(&a);
	}
}

static void test_set(void **state)
{
	static const struct {
		const struct conf_table *table;
		const char *name, *value;
		enum status want;
		const char *words; /* in the message */
	} cases[] = {
		{ &conf_table_transport_smtp, "max_rcpt", "7", ST_OK, NULL }, { &conf_table_transport_smtp, "protocol", "lmtp", ST_OK, NULL },
		{ &conf_table_transport_smtp, "protocol", "uucp", ST_ERROR, "smtp|lmtp|smtps" }, { &conf_table_transport_smtp, "nosuch", "1", ST_FAIL, "nosuch" },
		{ &conf_table_transport_smtp, "command_timeout", "0s", ST_ERROR, "1s to 1d" }, { &conf_table_router, "self", "reroute: x.example", ST_OK, NULL },
		{ &conf_table_transport_smtp, "size_addition", "-1", ST_OK, NULL }, { &conf_table_transport_smtp, "size_addition", "-2", ST_ERROR, "-1 to" },
		{ &conf_table_main, "delay_warning", "4h:8h:24h", ST_OK, NULL }, { &conf_table_main, "delay_warning", "8h:4h", ST_ERROR, "increase" },
		{ &conf_table_main, "delay_warning", "", ST_OK, NULL }, { &conf_table_main, "message_size_limit", "50Q", ST_ERROR, "integer" },
		{ &conf_table_main, "message_size_limit", "${if x {1}{2}}", ST_OK, NULL }, { &conf_table_main, "spool_directory", "spool", ST_ERROR, "absolute" },
		{ &conf_table_main, "check_spool_space", "-1", ST_ERROR, "0 or more" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		void *opts = mem_new(cases[i].table->size + 1);
		enum status st;
		conf_opts_init(cases[i].table, opts);
		st = conf_opts_set(cases[i].table, opts, &a, str_of(cases[i].name), str_of(cases[i].value), &err);
		if (st != cases[i].want || (cases[i].words && !strstr(err.text, cases[i].words)))
			fail_msg("%s = %s: got %s (%s), want %s", cases[i].name, cases[i].value, status_name(st), err.text, status_name(cases[i].want));
		mem_free(opts);
		arena_clear(&a);
	}
}

static void test_endpoints(void **state)
{
	static const struct {
		const char *text, *ip; /* NULL: refused */
		unsigned port;
	} cases[] = {
		{ "127.0.0.1", "127.0.0.1", 0 }, { "127.0.0.1.25", "127.0.0.1", 25 }, { "[127.0.0.1]:2525", "127.0.0.1", 2525 }, { "::0", "::", 0 },
		{ "::1.26", "::1", 26 }, { "[::1]", "::1", 0 }, { "[::1]:465", "::1", 465 }, { "::ffff:1.2.3.4", "::ffff:1.2.3.4", 0 },
		{ "::ffff:1.2.3.4.25", "::ffff:1.2.3.4", 25 }, { "localhost", NULL, 0 }, { "127.0.0.1.", NULL, 0 }, { "127.0.0.1.65536", NULL, 0 },
		{ "127.0.0.1.0", NULL, 0 }, { "[::1", NULL, 0 }, { "[::1]25", NULL, 0 }, { "", NULL, 0 }, { "1.2.3", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena a = ARENA_INIT;
		struct str ip = STR_NULL;
		uint16_t port = 0;
		bool v6;
		enum status st = conf_endpoint_parse(str_of(cases[i].text), &a, &ip, &v6, &port, NULL);
		if (cases[i].ip ? st != ST_OK || !str_is(ip, cases[i].ip) || port != cases[i].port : st == ST_OK)
			fail_msg("\"%s\": got %s %.*s port %u", cases[i].text, status_name(st), STR_FMT(ip), port);
		arena_clear(&a);
	}
}

static void test_log_selector(void **state)
{
	uint64_t bits;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(log_selector_parse(STR_NULL, &bits, &err), ST_OK);
	assert_true(bits & LOG_SEL(queue_run));
	assert_false(bits & LOG_SEL(subject));
	assert_int_equal(log_selector_parse(STR_LIT("+subject -queue_run\t+ pid"), &bits, &err), ST_OK);
	assert_true(bits & LOG_SEL(subject) && bits & LOG_SEL(pid));
	assert_false(bits & LOG_SEL(queue_run));
	assert_int_equal(log_selector_parse(STR_LIT("+all -8bitmime"), &bits, &err), ST_OK);
	assert_true(bits & LOG_SEL(unknown_in_list));
	assert_false(bits & LOG_SEL(8bitmime));
	assert_int_equal(log_selector_parse(STR_LIT("+subjekt"), &bits, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "did you mean \"subject\""));
	assert_int_equal(log_selector_parse(STR_LIT("subject"), &bits, &err), ST_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slowing),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_booleans), cmocka_unit_test(test_times_format), cmocka_unit_test(test_strings),
		cmocka_unit_test(test_lists), cmocka_unit_test(test_rows), cmocka_unit_test(test_set), cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_log_selector),
	};

	return cmocka_run_group_tests_name("conf_value", tests, NULL, NULL);
}

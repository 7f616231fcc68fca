/* SPDX-License-Identifier: ISC */
/* Every file in conf/ is read and checked without an error or a warning. Run from the top of the source tree. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <glob.h>
#include <cmocka.h>

#include "common/conf/read.h"
#include "common/conf/show.h"
#include "common/conf/view.h"

/* The quick start's file has places to fill in. */
static void fill(struct buf *text)
{
	static const char *const rows[][2] = {
		{ "@DIR@", "/tmp/quickstart" }, { "@DOMAIN@", "one.example" }, { "@PORT@", "2525" }, { "@NEXT@", "2526" }, { "@USER@", "nobody" },
	};
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < text->len;) {
		size_t k = 0, n = sizeof rows / sizeof *rows;
		const char *end = text->p[i] == '@' ? memchr(text->p + i + 1, '@', text->len - i - 1) : NULL;
		while (k < n && strncmp(text->p + i, rows[k][0], strlen(rows[k][0])))
			k++;
		if (k < n) {
			buf_adds(&out, rows[k][1]);
			i += strlen(rows[k][0]);
		} else if (end && (size_t)(end - text->p) - i < 20 && strspn(text->p + i + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == (size_t)(end - text->p) - i - 1 &&
			   end > text->p + i + 1) {
			i = (size_t)(end - text->p) + 1;
		} else {
			buf_addc(&out, text->p[i++]);
		}
	}
	buf_clear(text);
	*text = out;
}

/* What show writes is a configuration again, and the same one. */
static void shown_check(const struct conf *conf, const char *path)
{
	const struct conf_show hows[] = { { .secrets = true }, { .secrets = true, .set_only = true }, { .secrets = true, .places = true } };

	for (size_t i = 0; i < sizeof hows / sizeof *hows; i++) {
		struct buf first = BUF_INIT, second = BUF_INIT;
		struct conf_show plain = { .secrets = true, .set_only = hows[i].set_only };
		struct conf_source source = { .path = path, .isolated = true };
		struct conf *again;

		conf_show(conf, &hows[i], &first);
		source.text = buf_cstr(&first);
		source.text_len = first.len;
		if (conf_read(&source, &again) != ST_OK)
			fail_msg("%s, shown: %.*s", path, STR_FMT(again->problems[0].text));
		conf_show(again, &hows[i], &second);
		if (!hows[i].places)
			assert_string_equal(buf_cstr(&first), buf_cstr(&second));
		first.len = second.len = 0;
		conf_show(conf, &plain, &first);
		conf_show(again, &plain, &second);
		assert_string_equal(buf_cstr(&first), buf_cstr(&second));
		conf_free(again);
		buf_clear(&first);
		buf_clear(&second);
	}
}

static void sample_load(const char *path)
{
	struct buf text = BUF_INIT;
	struct conf *conf, *view;
	struct conf_source source = { .path = path, .isolated = true };
	struct arena a = ARENA_INIT;
	char block[4096];
	size_t n;
	FILE *f = fopen(path, "r");
	int fd;

	assert_non_null(f);
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		buf_add(&text, block, n);
	fclose(f);
	fill(&text);
	source.text = buf_cstr(&text);
	source.text_len = text.len;
	conf_read(&source, &conf);
	conf_check(conf, NULL);
	for (uint32_t i = 0; i < conf->n_problems; i++) {
		struct str s = conf_problem_format(conf, &conf->problems[i], &a);
		print_error("%.*s\n", STR_FMT(s));
	}
	if (conf->n_problems)
		fail_msg("%s: %u problems", path, conf->n_problems);
	if (!conf->n_acls || !conf->of[CONF_ROUTERS].n || !conf->of[CONF_TRANSPORTS].n || !conf->n_retry)
		fail_msg("%s: a part is missing", path);
	assert_int_equal(conf_view_make(conf, V_ROUTER, &fd, NULL), ST_OK);
	assert_int_equal(conf_view_load(fd, &view, NULL), ST_OK);
	assert_int_equal(view->of[CONF_ROUTERS].n, conf->of[CONF_ROUTERS].n);
	shown_check(conf, path);
	conf_free(view);
	conf_free(conf);
	buf_clear(&text);
	arena_clear(&a);
}

static void test_show(void **state)
{
	static const char good[] = "primary_hostname = x.example\nhide redis_servers = 127.0.0.1/0/sesame\nsmtp_banner = \" a\\nb\\\\ \"\n"
		"smtp_accept_max = 7\nbegin retry\n\"a b\" rcpt_45x senders=: F,1h,5m\n* quota_7d G,1d,1h,1.5\n";
	static const struct { const char *name; bool found; const char *want; } cases[] = {
		{ "smtp_accept_max", true, "smtp_accept_max = 7\n" },
		{ "smtp_banner", true, "smtp_banner = \" a\\nb\\\\ \"\n" },
		{ "redis_servers", true, "hide redis_servers = " SHOW_HIDDEN "\n" },
		{ "nothing", false, "" },
		{ "+nothing", false, "" },
	};
	struct conf_source source = { .text = good, .text_len = sizeof good - 1, .path = "t", .isolated = true };
	struct conf_show how = { 0 };
	struct buf out = BUF_INIT;
	struct conf *conf;

	(void)state;
	assert_int_equal(conf_read(&source, &conf), ST_OK);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		out.len = 0;
		assert_int_equal(conf_show_one(conf, &how, str_of(cases[i].name), &out), cases[i].found);
		assert_string_equal(buf_cstr(&out), cases[i].want);
	}
	out.len = 0;
	conf_show(conf, &how, &out);
	assert_null(strstr(buf_cstr(&out), "sesame"));
	assert_non_null(strstr(buf_cstr(&out), "\"a b\"  rcpt_45x  senders=:  F,1h,5m\n*  quota_1w  G,1d,1h,1.500\n"));
	shown_check(conf, "t");
	buf_clear(&out);
	conf_free(conf);
}

static void test_samples(void **state)
{
	glob_t files;

	(void)state;
	assert_int_equal(glob("conf/*.conf", 0, NULL, &files), 0);
	assert_true(files.gl_pathc >= 5);
	for (size_t i = 0; i < files.gl_pathc; i++)
		sample_load(files.gl_pathv[i]);
	globfree(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_samples), cmocka_unit_test(test_show) };

	return cmocka_run_group_tests_name("conf_samples", tests, NULL, NULL);
}

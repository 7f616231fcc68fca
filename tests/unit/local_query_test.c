/* SPDX-License-Identifier: ISC */
/* What a query process runs for a router, and what it refuses; how a program is run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "common/conf/view.h"
#include "common/daemon/program.h"
#include "local/query.h"

static const char text[] =
	"primary_hostname = mail.example\n"
	"run_commands = <; /bin/ask ; /bin/with:colon\nrun_user = %u\nrun_group = 8\n"
	"begin routers\n"
	"ours:\n driver = queryprogram\n command = /bin/ask plain \"${if eq{1}{1}{x}}\" 'a b' a\\\\x41\n command_user = %u\n command_group = 8\n transport = t\n"
	"bare:\n driver = queryprogram\n command = /bin/ask\n command_user = %u\n command_group = 8\n transport = t\n"
	"theirs:\n driver = queryprogram\n command = /bin/ask\n command_user = 1\n command_group = 8\n transport = t\n"
	"other:\n driver = accept\n transport = t\n"
	"begin transports\nt:\n driver = smtp\n";

static const struct {
	const char *name, *router;
	const char *words[6];
	bool unprivileged;
	const char *want;   /* a part of why not; NULL: it runs */
} cases[] = {
	{ "as configured", "ours", { "/bin/ask", "plain", "x", "a b", "anything" }, false, NULL },
	{ "what is expanded may be anything", "ours", { "/bin/ask", "plain", "; rm -rf /", "a b", "" }, false, NULL },
	{ "another program", "ours", { "/bin/sh", "plain", "x", "a b", "anything" }, false, "not the command" },
	{ "another plain word", "ours", { "/bin/ask", "-x", "x", "a b", "anything" }, false, "not the command" },
	{ "another quoted word", "ours", { "/bin/ask", "plain", "x", "a", "anything" }, false, "not the command" },
	{ "a word more", "ours", { "/bin/ask", "plain", "x", "a b", "anything", "more" }, false, "not the command" },
	{ "a word fewer", "ours", { "/bin/ask", "plain", "x", "a b" }, false, "not the command" },
	{ "no words", "bare", { NULL }, false, "not the command" },
	{ "without words", "bare", { "/bin/ask" }, false, NULL },
	{ "a word where there is none", "bare", { "/bin/ask", "x" }, false, "not the command" },
	{ "another login's", "theirs", { "/bin/ask" }, false, "under another login" },
	{ "all is one login's", "theirs", { "/bin/ask" }, true, NULL },
	{ "another kind of router", "other", { "/bin/ask" }, false, "no queryprogram router \"other\"" },
	{ "no router", "nobody", { "/bin/ask" }, false, "no queryprogram router \"nobody\"" },
};

/* As the process sees it. */
static struct conf *view_of(uint32_t see, unsigned run_user)
{
	char full[2000];
	struct conf_source source = { .path = "test.conf", .text = full };
	struct err err = ERR_INIT;
	struct conf *conf, *view;
	int fd;

	source.text_len = (size_t)snprintf(full, sizeof full, text, run_user, (unsigned)geteuid(), (unsigned)geteuid());
	assert_int_equal(conf_read(&source, &conf), ST_OK);
	if (conf_view_make(conf, see, &fd, &err) || conf_view_load(fd, &view, &err))
		fail_msg("%s", err.text);
	conf_free(conf);
	close(fd);
	return view;
}

static void test_allow(void **state)
{
	struct conf *conf = view_of(V_QUERY, geteuid());

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct conf_opts_router_queryprogram *o = NULL;
		struct ipc_program_ask ask = { .router = str_of(cases[i].router) };
		struct str words[6];
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		enum status st;

		ask.argv.v = words;
		for (; ask.argv.n < 6 && cases[i].words[ask.argv.n]; ask.argv.n++)
			words[ask.argv.n] = str_of(cases[i].words[ask.argv.n]);
		st = query_allow(conf, &ask, cases[i].unprivileged, &a, &o, &err);
		if (cases[i].want ? st == ST_OK || !strstr(err.text, cases[i].want) : st != ST_OK || !o)
			fail_msg("%s: %s \"%s\"", cases[i].name, status_name(st), err.text);
		arena_clear(&a);
	}
	conf_free(conf);
}

/* ${run}: the listed programs with any words, under run_user. */
static void test_run_allow(void **state)
{
	static const struct {
		const char *words[3];
		bool other, unprivileged;
		const char *want;
	} rows[] = {
		{ { "/bin/ask" }, false, false, NULL },
		{ { "/bin/ask", "-x; y" }, false, false, NULL },
		{ { "/bin/with:colon" }, false, false, NULL },
		{ { "/bin/sh", "/bin/ask" }, false, false, "\"/bin/sh\" is not in run_commands" },
		{ { "/bin/ask " }, false, false, "is not in run_commands" },
		{ { "/bin/as" }, false, false, "is not in run_commands" },
		{ { "" }, false, false, "is not in run_commands" },
		{ { NULL }, false, false, "no command" },
		{ { "/bin/ask" }, true, false, "under another login" },
		{ { "/bin/ask" }, true, true, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct conf *conf = view_of(V_QUERY, geteuid() + (rows[i].other ? 1 : 0));
		struct ipc_program_ask ask = { .limit_s = 1 };
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		struct str words[3];
		enum status st;

		ask.argv.v = words;
		for (; ask.argv.n < 3 && rows[i].words[ask.argv.n]; ask.argv.n++)
			words[ask.argv.n] = str_of(rows[i].words[ask.argv.n]);
		st = query_run_allow(conf, &ask, rows[i].unprivileged, &a, &err);
		if (rows[i].want ? st == ST_OK || !strstr(err.text, rows[i].want) : st != ST_OK)
			fail_msg("row %zu: %s \"%s\"", i, status_name(st), err.text);
		arena_clear(&a);
		conf_free(conf);
	}
}

/* It sees its routers' options, and nothing of others'. */
static void test_view(void **state)
{
	struct conf *conf = view_of(V_QUERY, geteuid());
	const struct conf_opts_router_queryprogram *o = CONF_OWN(conf_instance_find(conf, CONF_ROUTERS, STR_LIT("ours")), router_queryprogram);

	(void)state;
	assert_non_null(o);
	assert_true(str_begins(o->command.text, "/bin/ask "));
	assert_int_equal(o->timeout, 3600);
	assert_int_equal(conf->of[CONF_TRANSPORTS].n, 0);
	assert_int_equal(((const struct conf_opts_router *)conf_instance_find(conf, CONF_ROUTERS, STR_LIT("other"))->generic)->transport.text.len, 0);
	conf_free(conf);
}

static const struct {
	const char *name, *script;
	bool cut;
	uint64_t max;
	int64_t timeout_s;
	const char *output;
	int code;                   /* exit code; -1: too late, -2: too much */
} programs[] = {
	{ "output and code", "echo out; echo err >&2; exit 3", false, 100, 0, "out\nerr\n", 3 },
	{ "input ends", "wc -c", false, 100, 0, "0\n", 0 },
	{ "just enough", "printf 12345", false, 5, 0, "12345", 0 },
	{ "too much", "printf 123456; exec sleep 1000", false, 5, 0, "12345", -2 },
	{ "cut", "printf 123456; exit 4", true, 5, 0, "12345", 4 },
	{ "it writes for ever", "exec yes", true, 6, 1, "y\ny\ny\n", -1 },
	{ "too late", "echo x; exec sleep 1000", false, 100, 1, "x\n", -1 },
	{ "the group, too", "sleep 1000 & echo x; wait", false, 100, 1, "x\n", -1 },
	{ "a child that stays holds nothing up", "sleep 20 & echo x", false, 100, 0, "x\n", 0 },
};

static void test_programs(void **state)
{
	static char path[] = "/bin/sh", option[] = "-c", *env[] = { NULL };

	(void)state;
	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
		char *argv[] = { path, option, strdup(programs[i].script), NULL };
		struct program_spec spec = { .path = path, .argv = argv, .env = env, .timeout_s = programs[i].timeout_s, .max_output = programs[i].max,
			.output_cut = programs[i].cut, .umask = 077 };
		uint64_t began = clock_ms();
		struct err err = ERR_INIT;
		struct program p;

		if (program_start(&p, &spec, &err))
			fail_msg("%s: %s", programs[i].name, err.text);
		program_finish(&p);
		if (p.exec_error || strcmp(buf_cstr(&p.output), programs[i].output) || clock_ms() - began > 60000 ||
		    (programs[i].code == -1 ? !p.too_late : programs[i].code == -2 ? !p.too_much :
			p.too_late || p.too_much || !WIFEXITED(p.status) || WEXITSTATUS(p.status) != programs[i].code))
			fail_msg("%s: status 0x%x, late %d, much %d, \"%s\"", programs[i].name, (unsigned)p.status, p.too_late, p.too_much, buf_cstr(&p.output));
		program_clear(&p);
		free(argv[2]);
	}
}

static void test_no_program(void **state)
{
	static char path[] = "/nonexistent/program", *argv[] = { path, NULL }, *env[] = { NULL };
	struct program_spec spec = { .path = path, .argv = argv, .env = env, .max_output = 10 };
	struct err err = ERR_INIT;
	struct program p;

	(void)state;
	assert_int_equal(program_start(&p, &spec, &err), ST_OK);
	program_finish(&p);
	assert_int_equal(p.exec_error, 2 /* ENOENT */);
	program_clear(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow), cmocka_unit_test(test_run_allow), cmocka_unit_test(test_view), cmocka_unit_test(test_programs), cmocka_unit_test(test_no_program),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("query", tests, NULL, NULL);
}

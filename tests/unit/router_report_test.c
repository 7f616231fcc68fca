/* SPDX-License-Identifier: ISC */
/* Words of reports and addresses of copies, as the router finds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf/read.h"
#include "router/router.h"

static char dir[] = "/tmp/router-report-XXXXXX";

static const struct file {
	const char *name, *text;
} files[] = {
	{ "full", "Subject: to $bounce_recipient\nX-Size: $bounce_return_size_limit\n****\nDear ${local_part:$sender_address},\n$h_subject:\n****\nIt said\n****\nno\n****\nno\n****\n" },
	{ "crlf", "Subject: x\r\n****\r\nHello\r\n****\r\nEnd\r\n" },
	{ "empty", "****\n****\n" },
	{ "short", "Subject: only" },
	{ "broken", "Subject: $no_such\n****\n${if eq{a}{b}{x}fail}\n****\nThird\n" },
	{ "warn", "Subject: $warn_message_delay\n****\n$warn_message_recipients\n****\nbye $bounce_recipient\n" },
};

static const struct one {
	const char *name, *options, *to;
	enum report_kind kind;
	unsigned delay_s;
	const char *want;    /* status|head|intro|last|copies|text; a text that ends in * may go on */
} cases[] = {
	{ "nothing", "", "s@x.example", REPORT_FAILURE, 0, "0|||||" },
	{ "a whole file", "bounce_message_file = DIR/full\n", "s@x.example", REPORT_FAILURE, 0,
		"0|Subject: to s@x.example\nX-Size: 102400\n|Dear sender,\nhello\n|It said\n||" },
	{ "another for warnings", "bounce_message_file = DIR/full\n", "s@x.example", REPORT_DELAY, 60, "0|||||" },
	{ "a warning", "warn_message_file = DIR/warn\n", "s@x.example", REPORT_DELAY, 3600, "0|Subject: 60 minutes\n|s@x.example\n|bye \n||" },
	{ "after some hours", "warn_message_file = DIR/warn\n", "s@x.example", REPORT_DELAY, 7200, "0|Subject: 2 hours\n|s@x.example\n|bye \n||" },
	{ "line ends of another system", "bounce_message_file = DIR/crlf\n", "s@x.example", REPORT_FAILURE, 0, "0|Subject: x\r\n|Hello\r\n|End\r\n||" },
	{ "empty items", "bounce_message_file = DIR/empty\n", "s@x.example", REPORT_FAILURE, 0, "0|||||" },
	{ "one item", "bounce_message_file = DIR/short\n", "s@x.example", REPORT_FAILURE, 0, "0|Subject: only||||" },
	{ "items that can't be expanded", "bounce_message_file = DIR/broken\n", "s@x.example", REPORT_FAILURE, 0,
		"0|||Third\n||bounce_message_file: *" },
	{ "no such file", "bounce_message_file = DIR/nothing\n", "s@x.example", REPORT_FAILURE, 0, "0|||||bounce_message_file: opening \"DIR/nothing\": No such file or directory" },
	{ "a stranger names the file", "bounce_message_file = DIR/$sender_address_local_part\n", "s@x.example", REPORT_FAILURE, 0,
		"0|||||bounce_message_file: the path holds text from a stranger" },
	{ "a path that is chosen", "bounce_message_file = DIR/${if match_domain{$sender_address_domain}{from.example}{short}{full}}\n", "s@x.example", REPORT_FAILURE, 0,
		"0|Subject: only||||" },
	{ "a path that is not", "bounce_message_file = ${if eq{a}{b}{x}fail}\n", "s@x.example", REPORT_FAILURE, 0, "0|||||" },
	/* copies */
	{ "copies", "errors_copy = s@x.example a@c.example, b@c.example : s@x.example late@c.example\n", "s@x.example", REPORT_FAILURE, 0, "0||||a@c.example,b@c.example|" },
	{ "no pattern fits", "errors_copy = s@y.example a@c.example\n", "s@x.example", REPORT_FAILURE, 0, "0|||||" },
	{ "none for warnings", "errors_copy = *@x.example a@c.example\n", "s@x.example", REPORT_DELAY, 0, "0|||||" },
	{ "wildcard", "errors_copy = *@y.example a@c.example : *@x.example $local_part-copy@$domain\n", "Sam@x.example", REPORT_FAILURE, 0,
		"0||||sam-copy@x.example|" },
	{ "captured", "errors_copy = \\N^(.*)-bounces@(.*)$\\N owner-$1@$2\n", "list-bounces@x.example", REPORT_FAILURE, 0, "0||||owner-list@x.example|" },
	{ "a quoted pattern", "errors_copy = *@y.example b@c.example : \"*@x.example\"   a@c.example\n", "s@x.example", REPORT_FAILURE, 0, "0||||a@c.example|" },
	{ "without a domain", "errors_copy = * postmaster\n", "s@x.example", REPORT_FAILURE, 0, "0||||postmaster@mx.example|" },
	{ "to nobody", "errors_copy = * ${if eq{$domain}{y.example}{a@c.example}fail}\n", "s@x.example", REPORT_FAILURE, 0, "0|||||" },
	{ "nonsense", "errors_copy = * a@@b\n", "s@x.example", REPORT_FAILURE, 0, "0|||||errors_copy: *" },
	{ "both", "errors_copy = * a@c.example\nbounce_message_file = DIR/short\n", "s@x.example", REPORT_FAILURE, 0, "0|Subject: only|||a@c.example|" },
};

static char *filled(const char *text)
{
	struct buf b = BUF_INIT;

	for (; *text; text++) {
		if (!strncmp(text, "DIR", 3)) {
			buf_adds(&b, dir);
			text += 2;
		} else {
			buf_addc(&b, *text);
		}
	}
	buf_addc(&b, 0);
	return b.p;
}

static struct conf *conf_make(const char *options)
{
	struct conf_source source = { .path = "test" };
	struct buf b = BUF_INIT;
	char *text = filled(options);
	struct conf *conf;

	buf_printf(&b, "primary_hostname = mx.example\ndns_resolvers = 127.0.0.1\n%s", text);
	source.text = b.p;
	source.text_len = b.len;
	if (conf_read(&source, &conf) != ST_OK)
		fail_msg("%s: not read", options);
	free(text);
	buf_clear(&b);
	return conf;
}

static void answer_text(struct buf *out, const struct ipc_report_answer *x)
{
	buf_printf(out, "%u|%.*s|%.*s|%.*s|", (unsigned)x->status, STR_FMT(x->head), STR_FMT(x->intro), STR_FMT(x->last));
	for (uint32_t i = 0; i < x->copies.n; i++)
		buf_printf(out, "%s%.*s", i ? "," : "", STR_FMT(x->copies.v[i]));
	buf_printf(out, "|%.*s", STR_FMT(x->text));
}

static void test_cases(void **state)
{
	static const char message[] = "Subject: hello\r\n\r\nbody\r\n";
	char path[100];
	int fd;

	(void)state;
	snprintf(path, sizeof path, "%s/message", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(write(fd, message, sizeof message - 1) == sizeof message - 1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct one *c = &cases[i];
		struct conf *conf = conf_make(c->options);
		struct ipc_facts facts = { .sender = str_taint(STR_LIT("sender@from.example")), .has_sender = true, .size = sizeof message - 1, .body_offset = 18 };
		struct ipc_report_ask ask = { .kind = c->kind, .facts = &facts, .to = str_taint(str_of(c->to)), .delay_s = c->delay_s };
		struct ipc_report_answer answer;
		char *want = filled(c->want);
		struct buf got = BUF_INIT;
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		struct router r;
		size_t n = strlen(want);

		if (router_open(&r, conf, NULL, NULL, &err) != ST_OK)
			fail_msg("%s: %s", c->name, err.text);
		router_report(&r, &a, &ask, fd, &answer);
		answer_text(&got, &answer);
		if (n && want[n - 1] == '*' ? strncmp(buf_cstr(&got), want, n - 1) != 0 : strcmp(buf_cstr(&got), want) != 0)
			fail_msg("%s:\n got %s\nwant %s", c->name, buf_cstr(&got), want);
		free(want);
		buf_clear(&got);
		arena_clear(&a);
		router_close(&r);
		conf_free(conf);
	}
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases) };
	int failed;

	if (!mkdtemp(dir))
		abort();
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char path[100];
		FILE *f;

		snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
		f = fopen(path, "w");
		fputs(files[i].text, f);
		fclose(f);
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed;
}

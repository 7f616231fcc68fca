/* SPDX-License-Identifier: ISC */
/* What the end of a command means, and who is answered when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "local/local_pipe.h"
#include "local/local_reply.h"

#define EXIT(n) ((n) << 8)

static const struct judged {
	const char *name;
	int status;
	const char *temp_errors;
	bool ignore, freeze_signal;
	enum delivery_result want;
	const char *code, *text; /* a part of it; NULL: none */
	bool freeze;
} judged[] = {
	{ "success", EXIT(0), "75:73", false, false, DELIVERY_OK, "2.0.0", NULL, false },
	{ "failure", EXIT(1), "75:73", false, false, DELIVERY_FAILED, "5.3.0", "returned 1 from command: prog x", false },
	{ "ignored", EXIT(1), "75:73", true, false, DELIVERY_OK, "2.0.0", NULL, false },
	{ "later", EXIT(75), "75:73", false, false, DELIVERY_DEFERRED, "4.3.0", "75 (could mean temporary error)", false },
	{ "later by the second", EXIT(73), " 75 : 73 ", false, false, DELIVERY_DEFERRED, "4.3.0", "can't create output file", false },
	{ "not in the list", EXIT(75), "1:2", false, false, DELIVERY_FAILED, "5.3.0", "temporary error", false },
	{ "all are temporary", EXIT(9), "*", false, false, DELIVERY_DEFERRED, "4.3.0", "returned 9", false },
	{ "an empty list", EXIT(75), "", false, false, DELIVERY_FAILED, "5.3.0", NULL, false },
	{ "ignored even if temporary", EXIT(75), "75", true, false, DELIVERY_OK, "2.0.0", NULL, false },
	{ "no such user", EXIT(67), "75", false, false, DELIVERY_FAILED, "5.1.1", "no such user", false },
	{ "no permission", EXIT(77), "75", false, false, DELIVERY_FAILED, "5.7.1", "permission denied", false },
	{ "not found", EXIT(127), "75", false, false, DELIVERY_FAILED, "5.3.0", "unable to exec or command does not exist", false },
	{ "signal", 9, "75", false, false, DELIVERY_FAILED, "5.3.0", "was terminated by signal 9", false },
	{ "signal, ignored", 9, "75", true, false, DELIVERY_OK, "2.0.0", NULL, false },
	{ "signal, frozen", 11, "75", true, true, DELIVERY_DEFERRED, "4.3.0", "signal 11", true },
	{ "signals are not exit codes", 9, "9:137:*", false, false, DELIVERY_FAILED, "5.3.0", "signal 9", false },
};

static void test_judge(void **state)
{
	struct str argv[] = { STR_LIT("prog"), STR_LIT("x") };

	(void)state;
	for (size_t i = 0; i < sizeof judged / sizeof *judged; i++) {
		const struct judged *t = &judged[i];
		struct pipe_options o = { .argv = { argv, 2 }, .transport = STR_LIT("t"), .temp_errors = str_of(t->temp_errors), .ignore_status = t->ignore,
			.freeze_signal = t->freeze_signal };
		struct arena a = ARENA_INIT;
		struct pipe_end end;

		memset(&end, 0, sizeof end);
		pipe_status_judge(&o, t->status, &a, &end);
		if (end.result != t->want || strcmp(end.status, t->code) || end.freeze != t->freeze ||
			(t->text && str_find_str(end.text, str_of(t->text)) < 0))
			fail_msg("%s: %d %s \"%.*s\"", t->name, (int)end.result, end.status, STR_FMT(end.text));
		assert_int_equal(end.internal, t->want == DELIVERY_FAILED);
		arena_clear(&a);
	}
}

static const struct once {
	const char *name, *before, *who;
	int64_t repeat;
	uint64_t size;
	bool due;
	const char *after;
} onces[] = {
	{ "nobody yet", NULL, "a@b", 0, 0, true, "000000005000 a@b\n" },
	{ "another", "000000001000 c@d\n", "a@b", 0, 0, true, "000000001000 c@d\n000000005000 a@b\n" },
	{ "known", "000000001000 a@b\n", "A@B", 0, 0, false, "000000001000 a@b\n" },
	{ "known, and due again", "000000000001 x@y\n000000001000 a@b\n", "a@b", 4000, 0, true, "000000000001 x@y\n000000005000 a@b\n" },
	{ "known, and not yet due", "000000001000 a@b\n", "a@b", 4001, 0, false, "000000001000 a@b\n" },
	{ "a name within another", "000000001000 aa@b\n", "a@b", 0, 0, true, "000000001000 aa@b\n000000005000 a@b\n" },
	{ "full: the oldest goes", "000000001000 c@d\n000000001001 e@f\n", "a@b", 0, 40, true, "000000001001 e@f\n000000005000 a@b\n" },
	{ "full: all go", "000000001000 c@d\n", "a@b", 0, 17, true, "000000005000 a@b\n" },
	{ "cut short by a crash", "000000001000 c@d\n0000000", "a@b", 0, 0, true, "000000001000 c@d\n0000000\n000000005000 a@b\n" },
	{ "nonsense is stepped over", "hello\n\n-00000001000 a@b\n", "a@b", 0, 0, true, "hello\n\n-00000001000 a@b\n000000005000 a@b\n" },
};

static void test_once(void **state)
{
	char path[] = "/tmp/local_once.XXXXXX", got[4096];

	(void)state;
	close(mkstemp(path));
	for (size_t i = 0; i < sizeof onces / sizeof *onces; i++) {
		const struct once *t = &onces[i];
		struct local_fault f = { .error = RETRY_NONE };
		bool due = !t->due;
		ssize_t n;
		int fd;

		unlink(path);
		if (t->before) {
			fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
			assert_int_equal(write(fd, t->before, strlen(t->before)), strlen(t->before));
			close(fd);
		}
		if (!reply_once(path, 0600, t->size, str_of(t->who), 5000, t->repeat, &due, &f))
			fail_msg("%s: %s", t->name, f.err.text);
		fd = open(path, O_RDONLY);
		n = read(fd, got, sizeof got - 1);
		got[n > 0 ? n : 0] = '\0';
		close(fd);
		if (due != t->due || strcmp(got, t->after))
			fail_msg("%s: %s \"%s\"", t->name, due ? "due" : "not due", got);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_judge), cmocka_unit_test(test_once) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

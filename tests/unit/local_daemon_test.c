/* SPDX-License-Identifier: ISC */
/* The pool as a process: everything that a delivery does must pass the filter of system calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sys/stat.h>

#include "tests/unit/agent_world.h"
#include "local/local_daemon.h"

static int run(int argc, char **argv)
{
	return pool_main(&local_daemon_spec, argc, argv);
}

static void test_stores(void **state)
{
	char top[] = "/tmp/local_daemon.XXXXXX", dir[64], file[64], command[96];
	struct ipc_pair options[8] = { { .name = STR_NULL } };
	struct ipc_plan plan = { .transport = STR_LIT("box"), .driver = STR_LIT("appendfile"), .options = options };
	struct ipc_delivered d;
	struct agent a;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(dir, sizeof dir, "%s/a/Maildir", top);
	snprintf(file, sizeof file, "%s/b/box", top);
	agent_begin(&a, "local/1", V_LOCAL, run);
	options[0] = (struct ipc_pair){ .name = STR_LIT("directory"), .value = str_of(dir) };
	options[1] = (struct ipc_pair){ .name = STR_LIT("maildir_format"), .value = STR_LIT("true") };
	options[2] = (struct ipc_pair){ .name = STR_LIT("quota"), .value = STR_LIT("1M") };
	options[3] = (struct ipc_pair){ .name = STR_LIT("maildir_use_size_file"), .value = STR_LIT("true") };
	options[4] = (struct ipc_pair){ .name = STR_LIT("delivery_date_add"), .value = STR_LIT("true") };
	plan.n_options = 5;
	for (int i = 0; i < 2; i++) {
		d = agent_deliver(&a, &plan);
		if (d.outcomes[0].result != DELIVERY_OK)
			fail_msg("%.*s", STR_FMT(d.outcomes[0].text));
	}
	assert_true(str_is(d.store, dir));
	snprintf(command, sizeof command, "test $(ls %s/new | wc -l) = 2", dir);
	assert_int_equal(system(command), 0);
	options[0] = (struct ipc_pair){ .name = STR_LIT("file"), .value = str_of(file) };
	options[1] = (struct ipc_pair){ .name = STR_LIT("use_flock_lock"), .value = STR_LIT("true") };
	options[2] = (struct ipc_pair){ .name = STR_LIT("use_fcntl_lock"), .value = STR_LIT("true") };
	plan.n_options = 3;
	for (int i = 0; i < 2; i++) {
		d = agent_deliver(&a, &plan);
		if (d.outcomes[0].result != DELIVERY_OK)
			fail_msg("%.*s", STR_FMT(d.outcomes[0].text));
	}
	assert_int_equal(stat(file, &st), 0);
	assert_true(st.st_size > 100);
	/* the whole of a failed one is taken back */
	options[3] = (struct ipc_pair){ .name = STR_LIT("quota"), .value = STR_LIT("10") };
	plan.n_options = 4;
	d = agent_deliver(&a, &plan);
	assert_int_equal(d.outcomes[0].result, DELIVERY_DEFERRED);
	assert_int_equal(d.outcomes[0].error, RETRY_QUOTA);
	assert_true(d.outcomes[0].quota_age > 0);
	agent_end(&a);
	snprintf(command, sizeof command, "rm -rf %s", top);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_stores) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

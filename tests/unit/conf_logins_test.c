/* SPDX-License-Identifier: ISC */
/* Logins and groups that this machine lacks; problems come in the order of the lines. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/conf/read.h"

static const char text[] =
	"acl_smtp_rcpt = accept\n"
	"trusted_users = root : nosuchone\n"
	"admin_groups = root : 4711 : nosuchgroup\n"
	"begin transports\n"
	"a:\n"
	" driver = appendfile\n"
	" file = /var/mail/x\n"
	" group = nosuchthree\n"
	" user = nosuchtwo\n"
	"b:\n"
	" driver = appendfile\n"
	" file = /var/mail/x\n"
	" user = $local_part_data\n"
	"begin retry\n"
	"* * F,1h,1m\n";

static struct conf *read_it(const char *what, bool isolated)
{
	struct conf_source source = { .path = "test", .text = what, .text_len = strlen(what), .isolated = isolated };
	struct conf *conf;

	if (conf_read(&source, &conf) == ST_OK)
		(void)conf_check(conf, NULL);
	return conf;
}

static unsigned about(const struct conf *conf, const char *what, enum conf_severity severity)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < conf->n_problems; i++)
		n += conf->problems[i].severity == severity && str_find_str(conf->problems[i].text, str_of(what)) >= 0;
	return n;
}

static void test_absent(void **state)
{
	struct conf *conf = read_it(text, false);

	(void)state;
	assert_int_equal(conf->n_errors, 0);
	assert_int_equal(about(conf, "option \"trusted_users\": there is no login \"nosuchone\"", CONF_WARNING), 1);
	assert_int_equal(about(conf, "option \"admin_groups\": there is no group \"nosuchgroup\"", CONF_WARNING), 1);
	assert_int_equal(about(conf, "transport a: option \"user\": there is no login \"nosuchtwo\"", CONF_WARNING), 1);
	assert_int_equal(about(conf, "transport a: option \"group\": there is no group \"nosuchthree\"", CONF_WARNING), 1);
	assert_int_equal(about(conf, "on this machine", CONF_WARNING), 4);
	for (uint32_t i = 1; i < conf->n_problems; i++)
		assert_true(conf->problems[i - 1].place.line <= conf->problems[i].place.line);
	conf_free(conf);
	conf = read_it(text, true);
	assert_int_equal(about(conf, "on this machine", CONF_WARNING), 0);
	conf_free(conf);
}

static void test_never_users(void **state)
{
	struct conf *conf = read_it("acl_smtp_rcpt = accept\nnever_users = root : rooot\n", false);

	(void)state;
	assert_int_equal(about(conf, "option \"never_users\": there is no login \"rooot\"", CONF_ERROR), 1);
	assert_int_equal(conf->n_errors, 1);
	conf_free(conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_absent), cmocka_unit_test(test_never_users) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

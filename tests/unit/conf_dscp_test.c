/* SPDX-License-Identifier: ISC */
/* Classes of service by name and number. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/conf/dscp.h"

static const struct {
	const char *text;
	int tos; /* -1: refused */
} cases[] = {
	{ "af11", 0x28 }, { "AF43", 0x98 }, { " ef ", 0xb8 }, { "cs0", 0 }, { "cs7", 0xe0 }, { "lowcost", 2 }, { "mincost", 2 }, { "throughput", 8 },
	{ "reliability", 4 }, { "lowdelay", 0x10 }, { "0", 0 }, { "46", 0xb8 }, { "0x2e", 0xb8 }, { "0x3F", 0xfc }, { "63", 0xfc },
	{ "64", -1 }, { "0x40", -1 }, { "-1", -1 }, { "af44", -1 }, { "", -1 }, { "ef ef", -1 }, { "1K", -1 },
};

static void test_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err = ERR_INIT;
		int16_t tos = -1;
		enum status st = conf_dscp_parse(str_of(cases[i].text), &tos, &err);

		if (tos != cases[i].tos)
			print_error("\"%s\"\n", cases[i].text);
		assert_int_equal(tos, cases[i].tos);
		assert_int_equal(st, cases[i].tos < 0 ? ST_ERROR : ST_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_values) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

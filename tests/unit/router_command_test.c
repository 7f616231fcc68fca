/* SPDX-License-Identifier: ISC */
/* A command's words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <string.h>

#include "router/route_command.h"

static const struct one {
	const char *text, *want; /* words, each in brackets; "!" and a part of the error */
} cases[] = {
	{ "/bin/cat", "[/bin/cat]" },
	{ "  a\tb \n c ", "[a][b][c]" },
	{ "a \"b c\" d", "[a][b c][d]" },
	{ "a 'b \\n c' d", "[a][b \\n c][d]" },
	{ "\"\\\"q\\\" \\\\ \\x41\\101\\t.\"", "[\"q\" \\ AA\t.]" },
	{ "a \"\" ''", "[a][][]" },
	{ "a\"b c\"", "[a\"b][c\"]" },
	{ "'a'b", "[a][b]" },
	{ "sh -c 'echo \"x\" | wc'", "[sh][-c][echo \"x\" | wc]" },
	{ "\"a\\", "!quote" },
	{ "'a", "!quote" },
	{ "a \"b", "!quote" },
	{ "", "!empty" },
	{ " \t", "!empty" },
};

static void test_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct one *t = &cases[i];
		struct arena a = ARENA_INIT;
		struct buf got = BUF_INIT;
		struct command_words words;
		struct err err = ERR_INIT;

		if (command_split(str_of(t->text), &a, &words, &err) == ST_OK) {
			for (uint32_t k = 0; k < words.n; k++)
				buf_printf(&got, "[%.*s]", STR_FMT(words.v[k]));
			assert_string_equal(buf_cstr(&got), t->want);
		} else if (t->want[0] != '!' || !strstr(err.text, t->want + 1)) {
			fail_msg("%s: %s", t->text, err.text);
		}
		buf_clear(&got);
		arena_clear(&a);
	}
}

static void test_bounds_and_taint(void **state)
{
	struct arena a = ARENA_INIT;
	struct command_words words;
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < COMMAND_WORDS_MAX + 1; i++)
		buf_adds(&b, "x ");
	assert_int_equal(command_split(buf_str(&b), &a, &words, &err), ST_ERROR);
	assert_int_equal(command_split(str_sub(buf_str(&b), 0, 2 * COMMAND_WORDS_MAX), &a, &words, &err), ST_OK);
	assert_int_equal(words.n, COMMAND_WORDS_MAX);
	assert_int_equal(command_split(str_taint(STR_LIT("a \"b\" c")), &a, &words, &err), ST_OK);
	for (uint32_t i = 0; i < words.n; i++)
		assert_true(words.v[i].tainted);
	buf_clear(&b);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_split), cmocka_unit_test(test_bounds_and_taint) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

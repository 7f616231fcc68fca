/* SPDX-License-Identifier: ISC */
/* Keys of session tickets: which one is known in which slot of time, and how they travel. */
#include <stdio.h>
#include <string.h>

#include "master/ticket_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECRET STR_LIT("0123456789abcdef")

/* "AB": the present key and the one before, each by its first letter; small: not shared; "-": none. */
static const char *shown(const struct ticket_keys *k)
{
	static char text[3];

	for (int i = 0; i < 2; i++)
		text[i] = !k->made[i] ? '-' : (char)(k->shared[i] ? k->key[i][0] : k->key[i][0] | 0x20);
	return text;
}

static void test_slots(void **state)
{
	static const struct { char what; int64_t slot; char key; const char *want; } cases[] = {
		{ 't', 7, 'A', "a-" },
		{ 's', 7, 'A', "A-" },    /* ours is the one of all */
		{ 't', 8, 'B', "bA" },    /* an hour later */
		{ 's', 8, 'C', "CA" },    /* somebody was first */
		{ 't', 9, 'D', "dC" },    /* two: the first one is gone */
		{ 's', 7, 'A', "dC" },    /* too late */
		{ 's', 10, 'E', "dC" },   /* too early */
		{ 's', 8, 'F', "dF" },
		{ 't', 12, 'G', "g-" },   /* slept for long: what was before is not taken */
		{ 's', 11, 'H', "gH" },   /* what the others had before */
		{ 't', 11, 'I', "i-" },   /* a clock that went back */
	};
	struct ticket_keys k = { .slot = { 0 } };
	uint8_t key[TICKET_KEY];
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		memset(key, cases[i].key, sizeof key);
		if (cases[i].what == 't')
			ticket_keys_turn(&k, cases[i].slot, key);
		else
			ticket_keys_share(&k, cases[i].slot, key);
		if (strcmp(shown(&k), cases[i].want)) {
			print_error("row %zu: got %s, want %s\n", i, shown(&k), cases[i].want);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
	memset(key, 'I', sizeof key);
	assert_false(ticket_keys_share(&k, 11, key)); /* nothing new */
	assert_true(k.shared[0]);
	ticket_keys_turn(&k, 12, NULL);
	memcpy(key, k.key[0], sizeof key);
	ticket_keys_turn(&k, 13, NULL);
	assert_memory_equal(k.key[1], key, sizeof key);
	assert_memory_not_equal(k.key[0], key, sizeof key);
	ticket_keys_clear(&k);
	assert_string_equal(shown(&k), "--");
}

static void test_wrapping(void **state)
{
	uint8_t key[TICKET_KEY], got[TICKET_KEY], one[TICKET_WRAPPED + 1] = { 0 }, two[TICKET_WRAPPED];
	char name[TICKET_SLOT_TEXT], other[TICKET_SLOT_TEXT];
	struct str text = str_make((char *)one, TICKET_WRAPPED);

	(void)state;
	for (size_t i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)i;
	ticket_slot_name(name, 3600, 480000);
	ticket_slot_name(other, 3600, 480001);
	assert_string_equal(name, "3600/480000");
	assert_true(ticket_wrap(SECRET, name, key, one) && ticket_wrap(SECRET, name, key, two));
	assert_memory_not_equal(one, two, sizeof two); /* a new nonce each time */
	for (size_t i = 0; i + 8 <= sizeof key; i++)
		assert_null(memmem(one, sizeof one, key + i, 8));
	assert_true(ticket_unwrap(SECRET, name, text, got));
	assert_memory_equal(got, key, sizeof key);
	assert_false(ticket_unwrap(SECRET, other, text, got));                        /* of another slot */
	assert_false(ticket_unwrap(STR_LIT("0123456789abcdeg"), name, text, got));   /* of another secret */
	assert_false(ticket_unwrap(STR_NULL, name, text, got));
	assert_false(ticket_wrap(STR_NULL, name, key, two));
	for (size_t i = 0; i <= TICKET_WRAPPED + 1; i++)
		if (i != TICKET_WRAPPED)
			assert_false(ticket_unwrap(SECRET, name, str_make((char *)one, i), got)); /* cut, or longer */
	memset(got, 7, sizeof got);
	for (size_t i = 0; i < TICKET_WRAPPED; i++) {
		one[i] ^= 1;
		assert_false(ticket_unwrap(SECRET, name, text, got));                 /* one bit is another */
		one[i] ^= 1;
	}
	assert_int_equal(got[0], 7); /* nothing comes out that is not vouched for */
	assert_true(ticket_unwrap(SECRET, name, text, got));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_slots), cmocka_unit_test(test_wrapping) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
#include "common/mail/msgid.h"

#include <string.h>

enum {
	SALTS = 56800,          /* 62^6 / 10^6, rounded down: a microsecond and a salt fill the middle six digits */
	TAILS = 62 * 62,
};
_Static_assert((int64_t)SALTS * 1000000 <= 62LL * 62 * 62 * 62 * 62 * 62, "six digits hold the microsecond and the salt");

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static void put(char *out, unsigned n, uint64_t v)
{
	while (n--) {
		out[n] = digits[v % 62];
		v /= 62;
	}
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : c >= 'a' && c <= 'z' ? c - 'a' + 36 : -1;
}

static uint64_t take(const char *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v * 62 + (uint64_t)digit(*p++);
	return v;
}

void msgid_gen_init(struct msgid_gen *gen, uint64_t random)
{
	*gen = (struct msgid_gen){ .last_us = 0, .salt = (uint32_t)(random % SALTS), .tail = (uint32_t)(random / SALTS % TAILS) };
}

void msgid_next(struct msgid_gen *gen, int64_t wall_us, char out[MSGID_SIZE])
{
	gen->last_us = wall_us > gen->last_us ? wall_us : gen->last_us + 1;
	put(out, 6, (uint64_t)gen->last_us / 1000000);
	out[6] = '-';
	put(out + 7, 6, (uint64_t)gen->last_us % 1000000 * SALTS + gen->salt);
	out[13] = '-';
	put(out + 14, 2, gen->tail);
	out[MSGID_LEN] = 0;
}

bool msgid_valid(struct str s)
{
	if (s.len != MSGID_LEN)
		return false;
	for (size_t i = 0; i < MSGID_LEN; i++)
		if (i == 6 || i == 13 ? s.p[i] != '-' : digit(s.p[i]) < 0)
			return false;
	return true;
}

int64_t msgid_time_us(struct str s)
{
	uint64_t us;

	if (!msgid_valid(s))
		return -1;
	us = take(s.p + 7, 6) / SALTS;
	return (int64_t)take(s.p, 6) * 1000000 + (int64_t)(us < 1000000 ? us : 0);
}

/* SPDX-License-Identifier: ISC */
/* msgid.h - ids of messages on the spool, in Exim's form: 1tEabc-000123-XY.
 * Used by:    qmgr, which alone makes them; whoever takes one from a person, a file name or another daemon checks it here.
 * Form:       six, six and two digits to base 62 (0-9 A-Z a-z), as up to Exim 4.96: Debian 12's exigrep and eximstats know no
 *             other. First the seconds since 1970; then microsecond * 56800 + salt; last two more digits of salt. The salt
 *             is drawn at random for each generator, so that ids of two nodes, or of one whose clock went back, differ.
 * Invariant:  a generator never repeats itself: each id's microsecond is later than the one before.
 * Errors:     none. */
#ifndef MAIL_MSGID_H
#define MAIL_MSGID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

enum {
	MSGID_LEN = 16,              /* characters */
	MSGID_SIZE = MSGID_LEN + 1,  /* with the final zero */
};

struct msgid_gen {
	int64_t last_us;             /* microsecond of the last id */
	uint32_t salt;               /* below 56800 */
	uint32_t tail;               /* below 62 * 62 */
};

/* random: 64 random bits. */
void msgid_gen_init(struct msgid_gen *gen, uint64_t random);
void msgid_next(struct msgid_gen *gen, int64_t wall_us, char out[MSGID_SIZE]);
bool msgid_valid(struct str s);
/* When it was made, microseconds since 1970; -1 if it is no id. Ids made by Exim give the second only. */
int64_t msgid_time_us(struct str s);

#endif

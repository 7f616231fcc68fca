/* SPDX-License-Identifier: ISC */
/* What a server says that may be no Dovecot at all: greeting lines, then replies to question 1. base64 comes back as it was. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/mail/base64.h"
#include "policyd/dovecot_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dovecot_greeting g = { .done = false };
	struct str rest = str_make((const char *)data, size), line;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	bool well = true;

	while (rest.len && str_split(&rest, '\n', &line)) {
		char *copy = mem_memdup(line.p, line.len); /* so that reading too far is seen */
		struct str own = str_make(copy, line.len);
		struct dovecot_reply r;
		struct buf plain = BUF_INIT, again = BUF_INIT;

		if (well && !g.done)
			well = dovecot_greeting_line(&g, own, &err) == ST_OK;
		bug_on(strlen(g.mechs) >= sizeof g.mechs);
		bug_on(g.lines > DOVECOT_GREETING_MAX + 1);
		if (dovecot_reply_line(&a, own, 1, &r, &err) == ST_OK) {
			bug_on(r.kind == DOVECOT_OK && !r.user.len);
			if (base64_decode(&plain, r.data)) {
				base64_encode(&again, buf_str(&plain));
				bug_on(!str_eq(buf_str(&again), r.data));
			}
		}
		dovecot_has_mech(&g, own);
		buf_clear(&plain);
		buf_clear(&again);
		mem_free(copy);
	}
	arena_clear(&a);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* What a server says in a SCRAM exchange: its first message and, behind a line feed, its last one. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/mail/scram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = str_make((const char *)data, size), first;
	struct scram s = { .digest = NULL };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (!str_split(&rest, '\n', &first))
		return 0;
	scram_begin(&s, "SHA256", STR_LIT("user"), STR_NULL, STR_LIT("nonce"));
	if (scram_prove(&s, first, STR_LIT("pencil"), &out, &err) == ST_OK)
		bug_on(!str_begins(buf_str(&out), "c=biws,r=nonce") || str_has_ctl(buf_str(&out)));
	else
		bug_on(out.len || !err.text[0]);
	bug_on(scram_confirm(&s, rest, &err) == ST_OK && s.step != SCRAM_CONFIRMED);
	scram_clear(&s);
	buf_clear(&out);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* A report with words from outside: the administrator's, into which strangers' have been expanded, addresses, answers of servers. Its header
 * must end where it is said to, no line may be too long, and no control octet may stand in it. Texts are separated by NUL. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/err.h"
#include "common/dsn/dsn.h"
#include "common/mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dsn_recipient rcpt = { .action = DSN_ACTION_FAILED };
	struct dsn_report r = { .id = STR_LIT("1abcde-000001-AB"), .own_id = STR_LIT("1abcde-000002-AB"), .host = STR_LIT("mx.example"),
		.from = STR_LIT("Daemon <d@mx.example>"), .to = STR_LIT("s@x.example"), .arrived = 1, .now = 7200, .what = DSN_RETURN_HEADERS, .extra = true,
		.rcpt = &rcpt, .n_rcpt = 1 };
	struct str *texts[] = { &r.head, &r.intro, &r.last, &rcpt.addr, &rcpt.parent, &rcpt.error, &rcpt.diagnostic, &rcpt.output, &rcpt.greeting, &r.envid,
		&rcpt.orcpt, &r.text }, rest, line;
	struct buf out = BUF_INIT;
	size_t header;

	if (!size || size > 1 << 16)
		return 0;
	r.kind = (enum dsn_kind)(1 + data[0] % 3);
	r.utf8 = data[0] & 64;
	rest = str_make((const char *)data + 1, size - 1);
	for (size_t i = 0; i < sizeof texts / sizeof *texts && rest.len; i++)
		str_split(&rest, '\0', texts[i]);
	dsn_report_begin(&r, &out, &header);
	dsn_report_end(&r, &out);
	bug_on(header != header_end(buf_str(&out), NULL));
	rest = buf_str(&out);
	while (str_split(&rest, '\n', &line)) {
		if (!rest.p && !line.len)
			break;
		bug_on(!line.len || line.p[line.len - 1] != '\r' || line.len - 1 > DSN_LINE_MAX);
		for (uint32_t i = 0; i + 1 < line.len; i++)
			bug_on((unsigned char)line.p[i] < ' ' && line.p[i] != '\t');
	}
	buf_clear(&out);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* Variables that get their value only while a message is delivered: $message_size in maildir_tag, $inode in directory_file,
 * $sending_ip_address in helo_data. They are not
 * there when the option is expanded, so a mark travels in their place, which the agent replaces. */
#include <string.h>

#include "common/conf/option.h"

static size_t name_len(struct str s, uint32_t at)
{
	uint32_t end = at;

	while (end < s.len && (ascii_is_alnum(s.p[end]) || s.p[end] == '_'))
		end++;
	return end - at;
}

bool conf_late_guarded(struct str text, const char *variable, struct arena *a)
{
	return str_find_str(text, str_printf(a, "def:%s", variable)) >= 0;
}

bool conf_late_mark(struct str text, const char *variable, struct arena *a, struct str *out)
{
	size_t n = strlen(variable);
	unsigned depth = 0;
	struct buf b = BUF_INIT;
	bool ok = true;

	for (uint32_t i = 0; i < text.len; i++) {
		uint32_t skip = 0;

		if (text.p[i] == '$' && (i == 0 || text.p[i - 1] != '\\')) {
			bool braces = i + 1 < text.len && text.p[i + 1] == '{';
			uint32_t at = i + 1 + braces;

			if (name_len(text, at) == n && !memcmp(text.p + at, variable, n) && (!braces || (at + n < text.len && text.p[at + n] == '}')))
				skip = (uint32_t)(at + n + braces - i);
		}
		if (!skip) {
			depth += text.p[i] == '{';
			depth -= text.p[i] == '}' && depth;
			buf_addc(&b, text.p[i]);
			continue;
		}
		ok = ok && !depth;
		buf_addc(&b, CONF_LATE_MARK);
		i += skip - 1;
	}
	*out = str_dup(a, buf_str(&b));
	buf_clear(&b);
	return ok;
}

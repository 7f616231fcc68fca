/* SPDX-License-Identifier: ISC */
#include "common/mail/affix.h"

size_t affix_prefix(struct str local, struct str prefix, size_t *wild_out)
{
	struct str tail;

	*wild_out = 0;
	if (prefix.p[0] != '*') {
		if (local.len < prefix.len || !str_eqi(str_sub(local, 0, prefix.len), prefix))
			return 0;
		return prefix.len;
	}
	tail = str_from(prefix, 1);
	if (!tail.len)
		return 0;
	/* the longest sequence for the asterisk */
	for (size_t at = local.len >= tail.len ? local.len - tail.len + 1 : 0; at-- > 0;)
		if (str_eqi(str_sub(local, at, tail.len), tail)) {
			*wild_out = at;
			return at + tail.len;
		}
	return 0;
}

size_t affix_suffix(struct str local, struct str suffix, size_t *wild_out)
{
	struct str head;

	*wild_out = 0;
	if (suffix.p[suffix.len - 1] != '*') {
		/* something must be left */
		if (local.len <= suffix.len || !str_eqi(str_from(local, local.len - suffix.len), suffix))
			return 0;
		return suffix.len;
	}
	head = str_sub(suffix, 0, suffix.len - 1);
	if (!head.len)
		return 0;
	for (size_t at = 0; at + head.len <= local.len; at++)
		if (str_eqi(str_sub(local, at, head.len), head)) {
			*wild_out = local.len - at - head.len;
			return local.len - at;
		}
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* Taking list texts apart and putting them together. */
#include "common/lang/lang_list.h"

#include <ctype.h>
#include <string.h>

static bool sep_is_control(char sep) { return (unsigned char)sep < ' ' || sep == 0x7f; }

static bool split_blank(char c, char sep) { return ascii_is_space(c) && c != sep; }

static void split_begin(struct lang_split *s)
{
	while (s->rest.len && ascii_is_space(s->rest.p[0]))
		s->rest = str_from(s->rest, 1);
	s->sep = ':';
	if (s->rest.len >= 2 && s->rest.p[0] == '<' && (ispunct((unsigned char)s->rest.p[1]) || iscntrl((unsigned char)s->rest.p[1]))) {
		s->sep = s->rest.p[1];
		s->rest = str_from(s->rest, 2);
	}
}

char lang_split_separator(struct str text)
{
	struct lang_split s = LANG_SPLIT(text);

	split_begin(&s);
	return s.sep;
}

/* Length of the item at the start of the text; *doubled_out when a doubled separator is in it. */
static uint32_t split_item_len(struct str s, char sep, bool *doubled_out)
{
	uint32_t i = 0;

	*doubled_out = false;
	/* A separator that is a control character is never doubled: two of them enclose an empty item. */
	if (sep_is_control(sep)) {
		const char *end = memchr(s.p, sep, s.len);

		return end ? (uint32_t)(end - s.p) : s.len;
	}
	while (i < s.len) {
		if (s.p[i] != sep) {
			i++;
		} else if (i + 1 < s.len && s.p[i + 1] == sep) {
			*doubled_out = true;
			i += 2;
		} else {
			break;
		}
	}
	return i;
}

static struct str split_undouble(struct arena *a, struct str item, char sep)
{
	char *p = arena_alloc(a, item.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < item.len; i++) {
		p[n++] = item.p[i];
		if (item.p[i] == sep)
			i++;
	}
	return (struct str){ p, n, item.tainted };
}

bool lang_split_next(struct lang_split *s, struct arena *a, struct str *item_out)
{
	struct str item;
	uint32_t len;
	bool doubled;

	if (!s->sep)
		split_begin(s);
	while (s->rest.len && split_blank(s->rest.p[0], s->sep))
		s->rest = str_from(s->rest, 1);
	/* The end; also what stands behind a final separator. */
	if (!s->rest.len)
		return false;
	len = split_item_len(s->rest, s->sep, &doubled);
	item = str_sub(s->rest, 0, len);
	s->rest = str_from(s->rest, len < s->rest.len ? len + 1 : len);
	while (item.len && ascii_is_space(item.p[item.len - 1]))
		item.len--;
	*item_out = doubled ? split_undouble(a, item, s->sep) : item;
	return true;
}

bool lang_split_add(struct buf *b, char sep, struct str item, bool first)
{
	if (!first && !buf_addc(b, sep))
		return false;
	/* An empty item would make a doubled separator, and so would one that begins with it; at the start of the list neither can. */
	if (!first && (!item.len || (item.p[0] == sep && !sep_is_control(sep))) && !buf_addc(b, ' '))
		return false;
	for (uint32_t i = 0; i < item.len; i++) {
		if (!buf_addc(b, item.p[i]))
			return false;
		if (item.p[i] == sep && !sep_is_control(sep) && !buf_addc(b, sep))
			return false;
	}
	return true;
}

/* SPDX-License-Identifier: ISC */
#include "common/conf/reader.h"

#include <string.h>

struct str conf_skip(struct str s)
{
	while (s.len && ascii_is_space(*s.p))
		s = str_from(s, 1);
	return s;
}

struct str conf_name_take(struct str *s)
{
	uint32_t n = 0;
	struct str name;

	while (n < s->len && (ascii_is_alnum(s->p[n]) || s->p[n] == '_'))
		n++;
	name = str_sub(*s, 0, n);
	*s = conf_skip(str_from(*s, n));
	return name;
}

bool conf_word_begins(struct str *s, const char *word)
{
	size_t n = strlen(word);

	if (!str_begins(*s, word) || (s->len > n && !ascii_is_space(s->p[n])))
		return false;
	*s = conf_skip(str_from(*s, n));
	return true;
}

const char *conf_hint(struct conf *conf, const char *nearest)
{
	return nearest ? arena_printf(&conf->arena, ": did you mean \"%s\"?", nearest) : "";
}

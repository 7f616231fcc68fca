/* SPDX-License-Identifier: ISC */
/* The regex condition: the message, line by line (specification, section 45.5). */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"

enum {
	REGEX_LINE_MAX = 32768,              /* octets of a line that are looked at; longer ones are looked at in pieces */
	REGEX_CONTENT_MAX = 64 << 20,        /* octets of a message that are looked at */
	REGEX_LIST_MAX = 100,
};

struct content_search {
	struct regex *v[REGEX_LIST_MAX];
	struct str pattern[REGEX_LIST_MAX];
	uint32_t n;
};

static enum status search_begin(struct acl_state *s, struct str list, struct content_search *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(list);
	struct str pattern;

	out->n = 0;
	while (lang_split_next(&split, s->ev->arena, &pattern)) {
		if (!pattern.len)
			continue;
		if (out->n == REGEX_LIST_MAX)
			return err_set(err, ST_ERROR, "regex: more than %d expressions", REGEX_LIST_MAX);
		if (eval_regex(s->ev, pattern, 0, &out->v[out->n], err))
			return ST_ERROR;
		out->pattern[out->n++] = pattern;
	}
	return ST_OK;
}

static enum status line_search(struct acl_state *s, const struct content_search *search, struct str line, struct err *err)
{
	struct regex_match m;

	if (line.len && line.p[line.len - 1] == '\r')
		line.len--;
	line.tainted = true;
	for (uint32_t i = 0; i < search->n; i++) {
		enum status st = regex_match(search->v[i], line, 0, &m, err);

		if (st == ST_FAIL)
			continue;
		if (st)
			return st;
		eval_set(s->ev, EV_regex_match_string, search->pattern[i]);
		for (int g = 1; g <= 9; g++)
			s->ev->slot[EV_regex1 + g - 1] = g < m.n ? str_taint(str_dup(s->ev->arena, m.group[g])) : STR_NULL;
		return ST_OK;
	}
	return eval_step(s->ev, 1 + line.len / 64, err) ? ST_ERROR : ST_FAIL;
}

/* The content in pieces of a line and more; what is no whole line yet is looked at with the next piece. */
static enum status content_search(struct acl_state *s, const struct content_search *search, struct err *err)
{
	char *p = arena_alloc(s->ev->arena, REGEX_LINE_MAX);
	uint64_t at = s->ev->facts->offset, read_all = 0;
	size_t have = 0;

	while (read_all < REGEX_CONTENT_MAX) {
		ssize_t n = pread(s->ev->message_fd, p + have, REGEX_LINE_MAX - have, (off_t)at);
		struct str rest;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, ST_DEFER, "regex: the message could not be read: %s", strerror(errno));
		at += (uint64_t)n;
		read_all += (uint64_t)n;
		have += (size_t)n;
		rest = str_make(p, have);
		while (rest.len) {
			ptrdiff_t end = str_find(rest, '\n');
			enum status st;

			if (end < 0 && n > 0 && rest.len < REGEX_LINE_MAX)
				break;
			st = line_search(s, search, end < 0 ? rest : str_sub(rest, 0, (size_t)end), err);
			if (st != ST_FAIL)
				return st;
			rest = str_from(rest, end < 0 ? rest.len : (size_t)end + 1);
		}
		if (n == 0)
			break;
		if (rest.len)
			memmove(p, rest.p, rest.len);
		have = rest.len;
	}
	return ST_FAIL;
}

static enum acl_rc cond_regex(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct content_search search;
	enum status st = search_begin(s, text, &search, err);

	(void)item;
	s->ev->deps |= DEP_SESSION;
	if (!st)
		st = s->ev->message_fd < 0 ? ST_FAIL : content_search(s, &search, err);
	return acl_rc_of(st);
}

const struct acl_item_row acl_items_regex[] = {
	{ "regex", false, SHAPE_TEXT, STAGE(ACL_DATA) | STAGE(ACL_MIME) | STAGE(ACL_PRDR) | STAGE(ACL_NOTSMTP) | STAGE(ACL_NOTSMTP_MIME), 0, cond_regex, NULL, false,
		"a line of the message matches one of the regular expressions" },
	{ NULL }
};

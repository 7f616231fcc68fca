/* SPDX-License-Identifier: ISC */
/* The regex condition: the message, or in the MIME stage the raw part, line by line (specification, section 45.5); mime_regex: the decoded
 * part. */
#include <string.h>

#include "common/lang/acl_content.h"
#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"

enum {
	REGEX_LINE_MAX = 32768,              /* octets of a line that are looked at; longer ones are looked at in pieces */
	REGEX_CONTENT_MAX = 64 << 20,        /* octets of a message that are looked at */
	REGEX_STEP = 512,                    /* octets that count as one step of evaluation */
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

static enum status text_search(struct acl_state *s, const struct content_search *search, struct str line, struct err *err)
{
	struct regex_match m;

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
	return ST_FAIL;
}

static enum status line_search(struct acl_state *s, const struct content_search *search, struct str line, struct err *err)
{
	if (line.len && line.p[line.len - 1] == '\r')
		line.len--;
	return text_search(s, search, line, err);
}

/* The content in pieces of a line and more; what is no whole line yet is looked at with the next piece. */
static enum status content_search(struct acl_state *s, const struct content_search *search, struct err *err)
{
	const struct mime_part *part = content_part(s->ev);
	struct mime_source whole = { .fd = s->ev->message_fd, .offset = s->ev->facts->offset, .size = UINT64_MAX };
	const struct mime_source *source = part ? part->source : &whole;
	struct content_state *c = content_state(s->ev);
	char *p = c->line ? c->line : arena_alloc(s->ev->arena, REGEX_LINE_MAX);
	uint64_t at = part ? part->body : 0, end = part ? part->end : UINT64_MAX, read_all = 0;
	size_t have = 0, n;

	c->line = p;
	while (read_all < REGEX_CONTENT_MAX) {
		size_t want = REGEX_LINE_MAX - have;
		struct str rest;

		if (mime_read(source, at, p + have, want < end - at ? want : (size_t)(end - at), &n, err))
			return err_prefix(err, "regex");
		if (eval_step(s->ev, 1 + (uint32_t)n / REGEX_STEP, err)) /* parts may stand in parts, and each is looked at */
			return ST_ERROR;
		at += n;
		read_all += n;
		have += n;
		rest = str_make(p, have);
		while (rest.len) {
			ptrdiff_t line_end = str_find(rest, '\n');
			enum status st;

			if (line_end < 0 && n > 0 && rest.len < REGEX_LINE_MAX)
				break;
			st = line_search(s, search, line_end < 0 ? rest : str_sub(rest, 0, (size_t)line_end), err);
			if (st != ST_FAIL)
				return st;
			rest = str_from(rest, line_end < 0 ? rest.len : (size_t)line_end + 1);
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

static enum acl_rc cond_mime_regex(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct content_search search;
	enum status st = search_begin(s, text, &search, err);

	(void)item;
	s->ev->deps |= DEP_SESSION;
	if (!st)
		st = content_decode(s->ev, STR_NULL, err);
	return acl_rc_of(st ? st : text_search(s, &search, content_decoded(s->ev), err));
}

const struct acl_item_row acl_items_regex[] = {
	{ "regex", false, SHAPE_TEXT, STAGE(ACL_DATA) | STAGE(ACL_MIME) | STAGE(ACL_PRDR) | STAGE(ACL_NOTSMTP) | STAGE(ACL_NOTSMTP_MIME), 0, cond_regex, NULL, false,
		"a line of the message, or in the ACLs for MIME parts of the raw part, matches one of the regular expressions" },
	{ "mime_regex", false, SHAPE_TEXT, STAGE(ACL_MIME) | STAGE(ACL_NOTSMTP_MIME), 0, cond_mime_regex, NULL, false,
		"the first 32768 octets of the decoded MIME part match one of the regular expressions" },
	{ NULL }
};

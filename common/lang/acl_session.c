/* SPDX-License-Identifier: ISC */
/* Conditions on the session and free ones: hosts, authenticated, encrypted, condition, acl; endpass. */
#include "common/lang/acl_row.h"

static enum acl_rc cond_hosts(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_list_match m;
	enum status st = lang_client_match(s->ev, item->list, &m, err);

	(void)text;
	if (!st)
		s->ev->slot[EV_host_data] = m.data;
	return acl_rc_of(st);
}

static enum acl_rc list_of_words(struct acl_state *s, const struct acl_item *item, struct str word, struct err *err)
{
	struct list_subject subject = { .text = word };

	s->ev->deps |= DEP_SESSION;
	return word.len ? acl_rc_of(lang_list_match(s->ev, item->list, &subject, NULL, err)) : RC_FAIL;
}

static enum acl_rc cond_authenticated(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)text;
	return list_of_words(s, item, s->ev->facts->auth_method, err);
}

static enum acl_rc cond_encrypted(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct ipc_facts *facts = s->ev->facts;

	(void)text;
	for (uint32_t i = 0; i < facts->n_tls; i++)
		if (str_is(facts->tls[i].name, "cipher"))
			return list_of_words(s, item, facts->tls[i].value, err);
	s->ev->deps |= DEP_SESSION;
	return RC_FAIL;
}

/* Empty, 0, no, false; yes, true, a number; anything else is somebody's mistake: defer. */
static enum acl_rc cond_condition(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct str t = str_trim(text);
	uint64_t n;

	(void)item;
	if (!t.len || str_isi(t, "no") || str_isi(t, "false"))
		return RC_FAIL;
	if (str_isi(t, "yes") || str_isi(t, "true"))
		return RC_OK;
	if (t.p[0] == '-')
		t = str_from(t, 1);
	if (str_u64(t, UINT64_MAX, &n))
		return n ? RC_OK : RC_FAIL;
	err_set(err, ST_ERROR, "condition: \"%.*s\" is neither true nor false", STR_FMT(expand_quote(s->ev, text)));
	return RC_DEFER;
}

/* ---- acl = name arg arg ---- */

struct acl_words {
	struct expansion *v[ACL_ARGS_MAX + 1];
	uint32_t n;
};

/* A backslash within quotes stands before a quote or another one; all else is left to the expansion. */
static struct str quoted_take(struct arena *a, struct str s, struct str *rest)
{
	char *p = arena_alloc(a, s.len);
	uint32_t i = 1, n = 0;

	for (; i < s.len && s.p[i] != '"'; i++) {
		if (s.p[i] == '\\' && i + 1 < s.len && s.p[i + 1] == '"')
			i++;
		p[n++] = s.p[i];
	}
	*rest = str_from(s, i < s.len ? i + 1 : i);
	return (struct str){ p, n, s.tainted };
}

/* Words end at blanks outside of braces; one that begins with a double quote ends at the next, and the quotes go. */
static struct str word_take(struct arena *a, struct str *rest)
{
	struct str s = str_trim(*rest);
	uint32_t i = 0, depth = 0;

	if (s.len && s.p[0] == '"')
		return quoted_take(a, s, rest);
	for (; i < s.len && (depth || !ascii_is_space(s.p[i])); i++) {
		if (s.p[i] == '\\' && i + 1 < s.len)
			i++;
		else if (s.p[i] == '{')
			depth++;
		else if (s.p[i] == '}' && depth)
			depth--;
	}
	*rest = str_from(s, i);
	return str_sub(s, 0, i);
}

static enum status compile_acl(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	struct acl_words *words = arena_alloc(c->arena, sizeof *words);
	struct str rest = from->value.text, word;
	enum status st = ST_OK;

	while (!st && (rest = str_trim(rest)).len) {
		word = word_take(c->arena, &rest);
		if (words->n > ACL_ARGS_MAX)
			return err_set(err, ST_ERROR, "more than %d arguments", ACL_ARGS_MAX);
		st = expansion_compile(c->lang, c->arena, word, &words->v[words->n++], err);
	}
	if (!st && !words->n)
		st = err_set(err, ST_ERROR, "the name of an ACL is missing");
	item->own = words;
	return st;
}

static enum acl_rc cond_acl(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct acl_words *words = item->own;
	struct str args[ACL_ARGS_MAX + 1];
	struct acl *acl;
	enum status st = ST_OK;

	(void)text;
	for (uint32_t i = 0; !st && i < words->n; i++)
		st = expansion_run(s->ev, words->v[i], &args[i], err);
	if (st == ST_FAIL)
		return RC_OK;
	if (!st)
		st = acl_find(s->ev, args[0], &acl, err);
	if (st)
		return st == ST_DEFER ? RC_DEFER : RC_ERROR;
	return acl_run_nested(s, acl, args + 1, words->n - 1, err);
}

const struct acl_item_row acl_items_session[] = {
	{ "hosts", false, SHAPE_LIST, STAGES_ALL & ~(STAGE(ACL_NOTSMTP) | STAGE(ACL_NOTSMTP_START)), LIST_HOST, cond_hosts, NULL, false,
		"the client is in the host list" },
	{ "authenticated", false, SHAPE_LIST, STAGES_SMTP & ~(STAGE(ACL_CONNECT) | STAGE(ACL_HELO)), LIST_STRING, cond_authenticated, NULL, false,
		"the client has authenticated, by an authenticator in the list" },
	{ "encrypted", false, SHAPE_LIST, STAGES_SMTP, LIST_STRING, cond_encrypted, NULL, false, "the connection is encrypted, by a cipher in the list" },
	{ "condition", false, SHAPE_TEXT, STAGES_ALL, 0, cond_condition, NULL, false, "the text expands to a truth" },
	{ "acl", false, SHAPE_OWN, STAGES_ALL, 0, cond_acl, compile_acl, false, "another ACL accepts; arguments may follow its name" },
	{ "endpass", true, SHAPE_NONE, STAGES_ALL, 0, NULL, NULL, false, "a condition that fails behind it denies" },
	{ NULL }
};

/* SPDX-License-Identifier: ISC */
#include "policyd/dovecot_line.h"

#include <string.h>

static bool field_next(struct str *rest, struct str *out)
{
	return rest->p && str_split(rest, '\t', out);
}

/* ---- greeting ---- */

static enum status take_version(struct dovecot_greeting *g, struct str rest, struct err *err)
{
	struct str major = STR_NULL;

	field_next(&rest, &major);
	if (!str_is(major, "1"))
		return err_set(err, ST_ERROR, "authentication socket protocol version mismatch (theirs is %.*s)", STR_FMT(str_sub(major, 0, 20)));
	g->version = true;
	return ST_OK;
}

static enum status take_mech(struct dovecot_greeting *g, struct str rest, struct err *err)
{
	struct str name = STR_NULL;
	size_t at = strlen(g->mechs);

	field_next(&rest, &name);
	if (!name.len || str_has_ctl(name) || str_find(name, ' ') >= 0)
		return err_set(err, ST_ERROR, "authentication socket protocol error, a mechanism without a name");
	g->mech = true;
	if (at + name.len + 3 > sizeof g->mechs)
		return ST_OK; /* more than anybody has */
	if (!at)
		g->mechs[at++] = ' ';
	memcpy(g->mechs + at, name.p, name.len);
	g->mechs[at + name.len] = ' ';
	g->mechs[at + name.len + 1] = '\0';
	return ST_OK;
}

static enum status take_number(struct dovecot_greeting *g, struct str rest, struct err *err)
{
	struct str number = STR_NULL;
	uint64_t n;

	field_next(&rest, &number);
	if (!g->mech)
		return err_set(err, ST_ERROR, "authentication socket type mismatch (connected to auth-master instead of auth-client)");
	if (!str_u64(number, UINT64_MAX / 2, &n))
		return err_set(err, ST_ERROR, "authentication socket protocol error, a process or connection id that is no number");
	g->pid = true;
	return ST_OK;
}

static enum status take_cookie(struct dovecot_greeting *g, struct str rest, struct err *err)
{
	struct str cookie = STR_NULL;

	(void)g;
	field_next(&rest, &cookie);
	for (uint32_t i = 0; i < cookie.len; i++)
		if (!memchr("0123456789abcdefABCDEF", cookie.p[i], 22))
			cookie.len = 0;
	return cookie.len ? ST_OK : err_set(err, ST_ERROR, "authentication socket protocol error, malformed cookie");
}

static enum status take_done(struct dovecot_greeting *g, struct str rest, struct err *err)
{
	(void)rest;
	if (!g->version || !g->mech || !g->pid)
		return err_set(err, ST_ERROR, "authentication socket protocol error, greeting without %s", !g->version ? "VERSION" : !g->mech ? "MECH" : "SPID");
	g->done = true;
	return ST_OK;
}

enum status dovecot_greeting_line(struct dovecot_greeting *g, struct str line, struct err *err)
{
	static const struct {
		const char *name;
		enum status (*take)(struct dovecot_greeting *g, struct str rest, struct err *err);
	} rows[] = {
		{ "VERSION", take_version }, { "MECH", take_mech }, { "SPID", take_number }, { "CUID", take_number }, { "COOKIE", take_cookie },
		{ "DONE", take_done },
	};
	struct str word = STR_NULL;

	if (++g->lines > DOVECOT_GREETING_MAX)
		return err_set(err, ST_ERROR, "authentication socket protocol error, the greeting does not end");
	field_next(&line, &word);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (str_is(word, rows[i].name))
			return rows[i].take(g, line, err);
	/* Lines of later minor versions are to be ignored; anything before VERSION is no Dovecot. */
	return g->version ? ST_OK : err_set(err, ST_ERROR, "authentication socket protocol error, the server does not begin with VERSION");
}

bool dovecot_has_mech(const struct dovecot_greeting *g, struct str mechanism)
{
	struct str rest = str_of(g->mechs), name;

	while (rest.len && str_split(&rest, ' ', &name))
		if (name.len && str_eqi(name, mechanism))
			return true;
	return false;
}

/* ---- replies ---- */

/* Octet 1 and a letter stand for what would break a line. */
static struct str unescape(struct arena *a, struct str s)
{
	static const char letters[] = "01tnr", octets[] = { '\0', '\1', '\t', '\n', '\r' };
	char *v = arena_alloc(a, s.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.len; i++) {
		const char *letter = s.p[i] == '\1' && i + 1 < s.len ? memchr(letters, s.p[i + 1], sizeof letters - 1) : NULL;

		v[n++] = letter ? octets[letter - letters] : s.p[i];
		i += letter != NULL;
	}
	return str_taint(str_make(v, n));
}

static void reply_field(struct arena *a, struct str field, struct dovecot_reply *out)
{
	if (str_begins(field, "user="))
		out->user = unescape(a, str_from(field, 5));
	else if (str_begins(field, "reason="))
		out->reason = unescape(a, str_from(field, 7));
	else if (str_is(field, "temp") || str_is(field, "code=temp_fail"))
		out->temp = true;
	else if (str_begins(field, "code=") && !out->reason.len)
		out->reason = unescape(a, str_from(field, 5));
}

enum status dovecot_reply_line(struct arena *a, struct str line, uint64_t id, struct dovecot_reply *out, struct err *err)
{
	static const char *const kinds[] = { [DOVECOT_OK] = "OK", [DOVECOT_FAIL] = "FAIL", [DOVECOT_CONT] = "CONT" };
	struct str word = STR_NULL, number = STR_NULL, field;
	size_t kind = 0;
	uint64_t n;

	memset(out, 0, sizeof *out);
	field_next(&line, &word);
	field_next(&line, &number);
	while (kind < 3 && !str_is(word, kinds[kind]))
		kind++;
	if (kind == 3)
		return err_set(err, ST_ERROR, "authentication socket protocol error, a reply that is none");
	if (!str_u64(number, UINT64_MAX / 2, &n) || n != id)
		return err_set(err, ST_ERROR, "authentication socket connection id mismatch");
	out->kind = (enum dovecot_kind)kind;
	if (out->kind == DOVECOT_CONT) {
		field_next(&line, &out->data);
		return ST_OK;
	}
	while (field_next(&line, &field))
		reply_field(a, field, out);
	if (out->kind == DOVECOT_OK && !out->user.len)
		return err_set(err, ST_ERROR, "authentication socket protocol error, username missing");
	return ST_OK;
}

/* SPDX-License-Identifier: ISC */
#include "common/conf/hints_url.h"

#define SCHEME "redis://"

static enum status wrong(struct err *err, const char *what)
{
	return err_set(err, ST_ERROR, "%swrite lmdb, or redis://[:PASSWORD@]HOST[:PORT][/DB]", what);
}

/* "[::1]:6379", "host:6379", "host" */
static enum status host_parse(struct str text, struct conf_hints *out, struct err *err)
{
	struct str port = STR_NULL;
	ptrdiff_t at;
	uint64_t n;

	out->host = text;
	if (text.len && text.p[0] == '[') {
		at = str_find(text, ']');
		if (at < 2 || ((size_t)at + 1 < text.len && text.p[at + 1] != ':'))
			return wrong(err, "the address in brackets is not whole: ");
		out->host = str_sub(text, 1, (size_t)at - 1);
		if ((size_t)at + 1 < text.len)
			port = str_from(text, (size_t)at + 2);
		else
			return ST_OK;
	} else if ((at = str_find(text, ':')) >= 0) {
		out->host = str_sub(text, 0, (size_t)at);
		port = str_from(text, (size_t)at + 1);
	} else {
		port = STR_LIT("6379");
	}
	if (!out->host.len)
		return wrong(err, "no host is named: ");
	if (!str_u64(port, 65535, &n) || !n)
		return wrong(err, "the port is no number from 1 to 65535: ");
	out->port = (unsigned)n;
	return ST_OK;
}

enum status conf_hints_parse(struct str text, struct conf_hints *out, struct err *err)
{
	struct str rest;
	ptrdiff_t at;
	uint64_t n;

	*out = (struct conf_hints){ .port = CONF_HINTS_PORT };
	if (str_is(text, "lmdb"))
		return ST_OK;
	if (!str_begins(text, SCHEME))
		return wrong(err, "");
	out->redis = true;
	rest = str_from(text, sizeof SCHEME - 1);
	at = str_rfind(rest, '@');
	if (at >= 0) {
		if (rest.p[0] != ':')
			return wrong(err, "the password follows a colon, without a user: ");
		out->password = str_sub(rest, 1, (size_t)at - 1);
		rest = str_from(rest, (size_t)at + 1);
	}
	at = str_find(rest, '/');
	if (at >= 0) {
		struct str database = str_from(rest, (size_t)at + 1);

		if (database.len && !str_u64(database, CONF_HINTS_DATABASE_MAX, &n))
			return wrong(err, "the database is no number: ");
		out->database = database.len ? (unsigned)n : 0;
		rest = str_sub(rest, 0, (size_t)at);
	}
	return host_parse(rest, out, err);
}

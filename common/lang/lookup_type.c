/* SPDX-License-Identifier: ISC */
/* The lookup types by name, how one is written, and the quoting of each. */
#include "common/lang/lookup.h"

#include <string.h>

#include "common/base/hash.h"

/* A backslash before blanks and backslashes: the words of a redis command. */
static enum status quote_redis(struct arena *a, struct str in, struct str *out, struct err *err)
{
	char *p = arena_alloc(a, 2 * (size_t)in.len + 1);
	uint32_t n = 0;

	(void)err;
	for (uint32_t i = 0; i < in.len; i++) {
		if (ascii_is_space(in.p[i]) || in.p[i] == '\\')
			p[n++] = '\\';
		p[n++] = in.p[i];
	}
	*out = (struct str){ p, n, in.tainted };
	return ST_OK;
}

/* SQL as sqlite has it: quotes doubled. */
static enum status quote_sqlite(struct arena *a, struct str in, struct str *out, struct err *err)
{
	char *p = arena_alloc(a, 2 * (size_t)in.len + 1);
	uint32_t n = 0;

	(void)err;
	for (uint32_t i = 0; i < in.len; i++) {
		if (in.p[i] == '\'')
			p[n++] = '\'';
		p[n++] = in.p[i];
	}
	*out = (struct str){ p, n, in.tainted };
	return ST_OK;
}

const struct lookup_type lookup_types[] = {
	{ "lsearch", LOOKUP_KEY, LOOKUP_FILE, NULL, "a text file, key and value a line" },
	{ "iplsearch", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_COLONS, NULL, "a text file whose keys are addresses and networks" },
	{ "dsearch", LOOKUP_KEY, LOOKUP_DIR, NULL, "an entry of a directory" },
	{ "lmdb", LOOKUP_KEY, LOOKUP_FILE, NULL, "an LMDB database" },
	{ "dnsdb", LOOKUP_QUERY, 0, NULL, "the DNS" },
	{ "redis", LOOKUP_QUERY, LOOKUP_SQL, quote_redis, "a Redis server" },
	{ "wildlsearch", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a text file whose keys are patterns, expanded" },
	{ "nwildlsearch", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a text file whose keys are patterns" },
	{ "cdb", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a constant database" },
	{ "json", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a file with a JSON object" },
	{ "passwd", LOOKUP_KEY, LOOKUP_LATER, NULL, "the password file" },
	{ "spf", LOOKUP_KEY, LOOKUP_LATER, NULL, "an SPF check" },
	{ "sqlite", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_OPTFILE | LOOKUP_LATER, quote_sqlite, "an SQLite database" },
	{ "dbm", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a DBM database" },
	{ "dbmnz", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a DBM database without zero octets" },
	{ "dbmjz", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "a DBM database of Cyrus SASL's keys" },
	{ "ibase", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "an Interbase database" },
	{ "ldap", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "an LDAP server" },
	{ "ldapdn", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "a name from an LDAP server" },
	{ "ldapm", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "several entries of an LDAP server" },
	{ "mysql", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "a MySQL database" },
	{ "nis", LOOKUP_KEY, LOOKUP_LATER, NULL, "a NIS map" },
	{ "nis0", LOOKUP_KEY, LOOKUP_LATER, NULL, "a NIS map whose keys end in zero" },
	{ "nisplus", LOOKUP_QUERY, LOOKUP_LATER, NULL, "a NIS+ table" },
	{ "nmh", LOOKUP_KEY, LOOKUP_LATER, NULL, "a notmuch database" },
	{ "oracle", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "an Oracle database" },
	{ "pgsql", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "a PostgreSQL database" },
	{ "psl", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "the list of public suffixes" },
	{ "readsock", LOOKUP_QUERY, LOOKUP_LATER, NULL, "what a socket answers" },
	{ "regdom", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_LATER, NULL, "the registered domain by the list of public suffixes" },
	{ "testdb", LOOKUP_QUERY, LOOKUP_LATER, NULL, "nothing, for tests" },
	{ "whoson", LOOKUP_QUERY, LOOKUP_LATER, NULL, "a whoson server" },
	{ NULL }
};

const struct lookup_type *lookup_type_find(struct str name)
{
	for (const struct lookup_type *t = lookup_types; t->name; t++)
		if (str_is(name, t->name))
			return t;
	return NULL;
}

const char *lookup_type_nearest(struct str name)
{
	char word[33];
	const char *near = NULL;
	unsigned best = name.len / 3 + 2;
	uint32_t len = name.len < sizeof word - 1 ? name.len : sizeof word - 1;

	if (len)
		memcpy(word, name.p, len);
	word[len] = '\0';
	for (const struct lookup_type *t = lookup_types; t->name; t++) {
		unsigned d = str_distance(word, t->name);

		if (d < best) {
			best = d;
			near = t->name;
		}
	}
	return near;
}

/* partial[N][-|(affix)] in front of a type. */
static enum status partial_parse(struct str *s, struct lookup_spec *out, struct err *err)
{
	struct str rest = str_from(*s, 7);
	uint32_t digits = 0;
	uint64_t n = 2;

	while (digits < rest.len && ascii_is_digit(rest.p[digits]))
		digits++;
	if (digits && !str_u64(str_sub(rest, 0, digits), LOOKUP_PARTIAL_MAX, &n))
		return err_set(err, ST_ERROR, "partial%.*s: too large a number", STR_FMT(str_sub(rest, 0, digits)));
	rest = str_from(rest, digits);
	out->partial = (int)n;
	out->affix = STR_LIT("*.");
	if (rest.len && rest.p[0] == '(') {
		ptrdiff_t end = str_find(rest, ')');

		if (end < 0)
			return err_set(err, ST_ERROR, "\")\" missing in lookup type \"%.*s\"", STR_FMT(str_sub(*s, 0, 60)));
		out->affix = str_sub(rest, 1, (size_t)end - 1);
		rest = str_from(rest, (size_t)end + 1);
		if (rest.len && rest.p[0] == '-')
			rest = str_from(rest, 1);
	} else if (rest.len && rest.p[0] == '-') {
		rest = str_from(rest, 1);
	} else {
		return err_set(err, ST_ERROR, "\"-\" expected behind \"partial\" in lookup type \"%.*s\"", STR_FMT(str_sub(*s, 0, 60)));
	}
	*s = rest;
	return ST_OK;
}

static void options_parse(struct lookup_spec *out)
{
	struct str rest = out->options, option;

	while (str_split(&rest, ',', &option)) {
		option = str_trim(option);
		if (str_is(option, "ret=key"))
			out->ret_key = true;
		else if (str_begins(option, "filter="))
			out->filter = str_from(option, 7);
		else if (str_is(option, "cache=no_rd"))
			out->no_cache_read = true;
		else if (str_is(option, "cache=no_wr"))
			out->no_cache_write = true;
		else if (str_is(option, "cache=no"))
			out->no_cache_read = out->no_cache_write = true;
	}
}

enum status lookup_spec_parse(struct str text, struct lookup_spec *out, struct err *err)
{
	struct str s = str_trim(text), name;
	ptrdiff_t comma;
	enum status st;

	*out = (struct lookup_spec){ .partial = -1 };
	if (str_begins(s, "partial")) {
		st = partial_parse(&s, out, err);
		if (st)
			return st;
	}
	comma = str_find(s, ',');
	name = comma < 0 ? s : str_sub(s, 0, (size_t)comma);
	if (comma >= 0)
		out->options = str_from(s, (size_t)comma + 1);
	options_parse(out);
	if (str_ends(name, "*@")) {
		out->star = out->star_at = true;
		name.len -= 2;
	} else if (str_ends(name, "*")) {
		out->star = true;
		name.len -= 1;
	}
	out->type = lookup_type_find(name);
	if (!out->type) {
		const char *near = lookup_type_nearest(name);

		return err_set(err, ST_ERROR, "unknown lookup type \"%.*s\"%s%s%s", STR_FMT(str_sub(name, 0, 60)), near ? ": did you mean \"" : "",
			near ? near : "", near ? "\"?" : "");
	}
	if (out->type->flags & LOOKUP_LATER)
		return err_set(err, ST_ERROR, "lookup type \"%s\" is known to Exim, not implemented", out->type->name);
	if (out->type->style == LOOKUP_QUERY && (out->partial >= 0 || out->star))
		return err_set(err, ST_ERROR, "\"%s\" is a query-style lookup: it has no partial matching and no defaults", out->type->name);
	return ST_OK;
}

enum status lookup_check(const struct lookup_spec *spec, struct str file, struct str key, struct err *err)
{
	const char *name = spec->type->name;

	if (spec->type->style == LOOKUP_QUERY) {
		if (key.tainted && spec->type->flags & LOOKUP_SQL)
			return err_set(err, ST_ERROR, "tainted query for %s: what came from outside must pass ${quote_%s:...}", name, name);
		return ST_OK;
	}
	if (file.tainted)
		return err_set(err, ST_ERROR, "tainted file name \"%.*s\" for %s", STR_FMT(str_sub(file, 0, 120)), name);
	if (!(spec->type->flags & (LOOKUP_FILE | LOOKUP_DIR)))
		return ST_OK;
	if (!file.len || file.p[0] != '/')
		return err_set(err, ST_ERROR, "absolute file name expected for \"%s\" lookup, not \"%.*s\"", name, STR_FMT(str_sub(file, 0, 120)));
	if (memchr(file.p, 0, file.len) || str_find_str(file, STR_LIT("/../")) >= 0 || str_ends(file, "/.."))
		return err_set(err, ST_ERROR, "file name \"%.*s\" is not allowed", STR_FMT(str_sub(file, 0, 120)));
	return ST_OK;
}

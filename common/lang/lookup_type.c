/* SPDX-License-Identifier: ISC */
/* The lookup types by name, how one is written, and the quoting of each. */
#include "common/lang/lookup.h"

#include <string.h>

#include "gen/have.h"

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

/* A backslash before quotes and backslashes, and a letter behind one for what ends a line or looks like nothing. */
static struct str quote_backslash(struct arena *a, struct str in, const char *quote)
{
	static const char from[] = "\n\t\r\b\"\\", to[] = "ntrb\"\\";
	char *p = arena_alloc(a, 2 * (size_t)in.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < in.len; i++) {
		const char *at = in.p[i] ? strchr(from, in.p[i]) : NULL;

		if (in.p[i] == '\'') {
			p[n++] = quote[0];
			p[n++] = quote[1];
			continue;
		}
		if (at)
			p[n++] = '\\';
		p[n++] = at ? to[at - from] : in.p[i];
	}
	return (struct str){ p, n, in.tainted };
}

static enum status quote_mysql(struct arena *a, struct str in, struct str *out, struct err *err)
{
	(void)err;
	*out = quote_backslash(a, in, "\\'");
	return ST_OK;
}

/* The quote doubled, which ends no string whether the server takes backslashes for escapes or not; the rest is exact in E'...'. */
static enum status quote_pgsql(struct arena *a, struct str in, struct str *out, struct err *err)
{
	(void)err;
	*out = quote_backslash(a, in, "''");
	return ST_OK;
}

enum { ABSENT_CDB = HAVE_CDB ? 0 : LOOKUP_ABSENT, ABSENT_SQLITE = HAVE_SQLITE ? 0 : LOOKUP_ABSENT, ABSENT_PGSQL = HAVE_PGSQL ? 0 : LOOKUP_ABSENT,
	ABSENT_MYSQL = HAVE_MYSQL ? 0 : LOOKUP_ABSENT, ABSENT_PSL = HAVE_PSL ? 0 : LOOKUP_ABSENT,
	ABSENT_DB = HAVE_DB ? 0 : LOOKUP_ABSENT };

const struct lookup_type lookup_types[] = {
	{ "lsearch", LOOKUP_KEY, LOOKUP_FILE, NULL,
		"a text file of lines with a key, a colon or blanks, and its value; lines that begin with a blank go on with the value. Letters of "
		"either case are the same. ret=full gives the key too" },
	{ "wildlsearch", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_PATTERNS, NULL,
		"a file like that of lsearch, but each key is expanded and then a pattern: ^ begins a regular expression, * stands for any beginning, and TYPE;FILE "
		"looks the key up there. The first line that matches counts" },
	{ "nwildlsearch", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_PATTERNS, NULL, "a file like that of wildlsearch, but the keys are not expanded" },
	{ "iplsearch", LOOKUP_KEY, LOOKUP_FILE | LOOKUP_COLONS, NULL,
		"a file like that of lsearch, but the keys are addresses and networks, those of IPv6 in double quotes; the first that holds the address counts" },
	{ "cdb", LOOKUP_KEY, LOOKUP_FILE | ABSENT_CDB, NULL, "a constant database, as cdb and tinycdb make it" },
	{ "dbm", LOOKUP_KEY, LOOKUP_FILE | ABSENT_DB, NULL,
		"a hash or B-tree of Berkeley DB, as exim_dbmbuild makes it, whose keys end in a zero octet. It is looked through once for damage "
		"whenever it has changed; more than 256 MB are refused" },
	{ "dbmnz", LOOKUP_KEY, LOOKUP_FILE | ABSENT_DB, NULL, "a file like that of dbm, but the keys have no zero octet behind them" },
	{ "dbmjz", LOOKUP_KEY, LOOKUP_FILE | ABSENT_DB, NULL,
		"a file like that of dbm, but the key is a list: its elements are looked up joined by zero octets, none behind the last, as in Cyrus SASL's sasldb2" },
	{ "dsearch", LOOKUP_KEY, LOOKUP_DIR, NULL,
		"a directory for an entry of the name: the value is its name, or its path with ret=full. filter=file, filter=dir and filter=subdir say which "
		"entries count" },
	{ "json", LOOKUP_KEY, LOOKUP_FILE, NULL,
		"a file that holds one JSON value: the key is a list of names of members and numbers of elements (from 0) that lead into it. "
		"Strings come without their quotes, objects and arrays as JSON" },
	{ "lmdb", LOOKUP_KEY, LOOKUP_FILE, NULL,
		"an LMDB file, or the directory of one. db=NAME names a database within it. put and del write, where lmdb_writable names the file: "
		"${lookup {<; KEY ; VALUE} lmdb,put {FILE}} and ${lookup {KEY} lmdb,del {FILE}} give OK" },
	{ "dnsdb", LOOKUP_QUERY, LOOKUP_STRANGERS, NULL, "the DNS, for TYPE=NAME, with modifiers and a separator before it; the answer is tainted" },
	{ "mysql", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_SERVERS | ABSENT_MYSQL, quote_mysql,
		"a MySQL or MariaDB server of mysql_servers, or of servers=LIST" },
	{ "passwd", LOOKUP_QUERY, 0, NULL, "/etc/passwd for a login: the value is its line, with * for name and password" },
	{ "pgsql", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_SERVERS | ABSENT_PGSQL, quote_pgsql, "a PostgreSQL server of pgsql_servers, or of servers=LIST" },
	{ "redis", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_SERVERS, quote_redis, "a Redis server of redis_servers, or of servers=LIST; the query is one command, and a cluster is followed to the node that has the key" },
	{ "sqlite", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_OPTFILE | ABSENT_SQLITE, quote_sqlite,
		"an SQLite file: that of file=PATH, or sqlite_dbfile; it is only read unless sqlite_writable says otherwise" },
	{ "psl", LOOKUP_QUERY, LOOKUP_OF_KEY | ABSENT_PSL, NULL, "the list of public suffixes for that of a domain: co.uk of a.b.co.uk" },
	{ "regdom", LOOKUP_QUERY, LOOKUP_OF_KEY | ABSENT_PSL, NULL, "the list of public suffixes for the registered domain: b.co.uk of a.b.co.uk" },
	{ "spf", LOOKUP_KEY, LOOKUP_LATER, NULL, "an SPF check" },
	{ "ibase", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "an Interbase database" },
	{ "ldap", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "an LDAP server" },
	{ "ldapdn", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "a name from an LDAP server" },
	{ "ldapm", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "several entries of an LDAP server" },
	{ "nis", LOOKUP_KEY, LOOKUP_LATER, NULL, "a NIS map" },
	{ "nis0", LOOKUP_KEY, LOOKUP_LATER, NULL, "a NIS map whose keys end in zero" },
	{ "nisplus", LOOKUP_QUERY, LOOKUP_LATER, NULL, "a NIS+ table" },
	{ "nmh", LOOKUP_KEY, LOOKUP_LATER, NULL, "a notmuch database" },
	{ "oracle", LOOKUP_QUERY, LOOKUP_SQL | LOOKUP_LATER, NULL, "an Oracle database" },
	{ "readsock", LOOKUP_QUERY, LOOKUP_LATER, NULL, "what a socket answers" },
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

struct str lookup_option_value(struct str options, const char *name)
{
	size_t n = strlen(name);
	struct str one;

	while (str_split(&options, ',', &one)) {
		one = str_trim(one);
		if (one.len > n && one.p[n] == '=' && str_begins(one, name))
			return str_from(one, n + 1);
	}
	return STR_NULL;
}

bool lookup_option(struct str options, const char *option)
{
	struct str one;

	while (str_split(&options, ',', &one))
		if (str_is(str_trim(one), option))
			return true;
	return false;
}

/* Options and the types that have them; NULL: all, "": all that look up keys. One that ends in = wants a value. */
static const struct { const char *option, *types; } options[] = {
	{ "cache=no_rd", NULL }, { "cache=no_wr", NULL }, { "cache=no", NULL }, { "ret=key", "" },
	{ "ret=full", "lsearch wildlsearch nwildlsearch iplsearch dsearch" },
	{ "filter=file", "dsearch" }, { "filter=dir", "dsearch" }, { "filter=subdir", "dsearch" },
	{ "db=", "lmdb" }, { "put", "lmdb" }, { "del", "lmdb" }, { "file=", "sqlite" }, { "servers=", "redis mysql pgsql" },
};

static bool word_among(const char *words, struct str word)
{
	struct str rest = str_of(words), one;

	while (str_split(&rest, ' ', &one))
		if (str_eq(one, word))
			return true;
	return false;
}

static bool option_is_known(const struct lookup_type *type, struct str option)
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		size_t n = strlen(options[i].option);

		if (options[i].option[n - 1] == '=' ? !(option.len > n && str_begins(option, options[i].option)) : !str_is(option, options[i].option))
			continue;
		if (!options[i].types || (!*options[i].types && type->style == LOOKUP_KEY) || word_among(options[i].types, str_of(type->name)))
			return true;
	}
	return false;
}

static enum status options_parse(struct lookup_spec *out, struct err *err)
{
	struct str rest = out->options, option;

	while (str_split(&rest, ',', &option)) {
		option = str_trim(option);
		if (option.len && !option_is_known(out->type, option))
			return err_set(err, ST_ERROR, "lookup type \"%s\" has no option \"%.*s\"", out->type->name, STR_FMT(str_sub(option, 0, 60)));
		if (str_is(option, "ret=key"))
			out->ret_key = true;
		else if (str_is(option, "ret=full"))
			out->ret_full = true;
		else if (str_begins(option, "filter="))
			out->filter = str_from(option, 7);
		else if (str_is(option, "cache=no_rd"))
			out->no_cache_read = true;
		else if (str_is(option, "cache=no_wr"))
			out->no_cache_write = true;
		else if (str_is(option, "cache=no"))
			out->no_cache_read = out->no_cache_write = true;
	}
	return ST_OK;
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
	if (out->type->flags & LOOKUP_ABSENT)
		return err_set(err, ST_ERROR, "lookup type \"%s\" was not built in: its library was not there when Bulkhead was compiled", out->type->name);
	if (out->type->style == LOOKUP_QUERY && (out->partial >= 0 || out->star))
		return err_set(err, ST_ERROR, "\"%s\" is a query-style lookup: it has no partial matching and no defaults", out->type->name);
	return options_parse(out, err);
}

void lookup_query_quoted(const struct lookup_spec *spec, struct str by, struct str *query)
{
	const char *prefix = spec->type->flags & LOOKUP_SERVERS ? "servers=" : spec->type->flags & LOOKUP_OPTFILE ? "/" : NULL;

	if (str_is(by, spec->type->name) && !(prefix && str_begins(str_trim(*query), prefix)))
		query->tainted = false;
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

/* SPDX-License-Identifier: ISC */
#include "common/conf/reader.h"

#include <string.h>

/* ---- the tables ---- */

#define TABLE(t, title, family) static const struct conf_option conf_rows_##t[] = {
#define TABLE_END(t) { NULL, CONF_BOOL, 0, 0, NULL, NULL, 0, 0, NULL, CONF_NO_FIELD } };
#define AT(f) offsetof(struct CONF_OPTS, f)
#define BOOL(f, fallback, see, flags, what) { #f, CONF_BOOL, (flags), (see), fallback, what, 0, 0, NULL, AT(f) },
#define NUM(f, kind, fallback, min, max, see, flags, what) { #f, CONF_##kind, (flags), (see), fallback, what, min, max, NULL, AT(f) },
#define TXT(f, kind, fallback, see, flags, what) { #f, CONF_##kind, (flags), (see), fallback, what, 0, 0, NULL, AT(f) },
#define WORD(f, fallback, words, see, flags, what) { #f, CONF_WORD, (flags), (see), fallback, what, 0, 0, words, AT(f) },
#define TXTS(f, kind, see, flags, what) { #f, CONF_##kind, (flags) | F_REPEAT, (see), NULL, what, 0, 0, NULL, AT(f) },
#define LATER(f, kind, what) { #f, CONF_##kind, F_LATER, V_MASTER, NULL, what, 0, 0, NULL, CONF_NO_FIELD },
#define IGNORED(f, kind, what) { #f, CONF_##kind, F_IGNORED, V_MASTER, NULL, what, 0, 0, NULL, CONF_NO_FIELD },
#define ALIAS(f, canonical) { #f, CONF_TEXT, F_ALIAS, V_MASTER, NULL, #canonical, 0, 0, NULL, CONF_NO_FIELD },
#include "common/conf/tables.def"
#include "common/conf/tables_undef.h"

#define TABLE(t, title, family) \
	const struct conf_table conf_table_##t = { #t, title, family, conf_rows_##t, sizeof conf_rows_##t / sizeof *conf_rows_##t - 1, \
		sizeof(struct conf_opts_##t) };
#define TABLE_END(t)
#define BOOL(f, ...)
#define NUM(f, ...)
#define TXT(f, ...)
#define WORD(f, ...)
#define TXTS(f, ...)
#define LATER(f, ...)
#define IGNORED(f, ...)
#define ALIAS(f, ...)
#include "common/conf/tables.def"
#include "common/conf/tables_undef.h"

const struct conf_table *const conf_tables[] = {
#define TABLE(t, title, family) &conf_table_##t,
#define TABLE_END(t)
#define BOOL(f, ...)
#define NUM(f, ...)
#define TXT(f, ...)
#define WORD(f, ...)
#define TXTS(f, ...)
#define LATER(f, ...)
#define IGNORED(f, ...)
#define ALIAS(f, ...)
#include "common/conf/tables.def"
#include "common/conf/tables_undef.h"
	NULL,
};

const struct conf_driver conf_drivers[] = {
#define DRIVER(class, name, table, what) { name, class, &conf_table_##table, false, what },
#define LATER_DRIVER(class, name, table, what) { name, class, &conf_table_##table, true, what },
#include "common/conf/drivers.def"
#undef DRIVER
#undef LATER_DRIVER
	{ NULL, CONF_CLASSES, NULL, false, NULL },
};

static const struct {
	const char *name;
	const struct conf_table *table;
} conf_class_rows[CONF_CLASSES] = {
	[CONF_ROUTERS] = { "router", &conf_table_router },
	[CONF_TRANSPORTS] = { "transport", &conf_table_transport },
	[CONF_AUTHENTICATORS] = { "authenticator", &conf_table_authenticator },
};

const struct conf_table *conf_class_table(enum conf_class class)
{
	return conf_class_rows[class].table;
}

const char *conf_class_name(enum conf_class class)
{
	return conf_class_rows[class].name;
}

const char *conf_kind_name(enum conf_kind kind)
{
	static const char *const names[CONF_KINDS] = {
		[CONF_BOOL] = "boolean", [CONF_INT] = "integer", [CONF_OCTAL] = "octal integer", [CONF_FIXED] = "fixed-point",
		[CONF_TIME] = "time", [CONF_TEXT] = "string", [CONF_WORD] = "word", [CONF_LIST] = "string list",
		[CONF_DOMAINS] = "domain list", [CONF_HOSTS] = "host list", [CONF_ADDRS] = "address list",
		[CONF_LOCALS] = "local part list", [CONF_TIMES] = "time list", [CONF_XBOOL] = "boolean, expanded",
		[CONF_XINT] = "integer, expanded", [CONF_XTIME] = "time, expanded", [CONF_XFIXED] = "fixed-point, expanded",
	};
	return names[kind];
}

/* ---- finding ---- */

const struct conf_driver *conf_driver_find(enum conf_class class, struct str name)
{
	for (const struct conf_driver *d = conf_drivers; d->name; d++)
		if (d->class == class && str_is(name, d->name))
			return d;
	return NULL;
}

const struct conf_option *conf_option_find(const struct conf_table *table, struct str name)
{
	for (const struct conf_option *o = table->rows; o->name; o++)
		if (str_is(name, o->name))
			return o->flags & F_ALIAS ? conf_option_find(table, str_of(o->what)) : o;
	return NULL;
}

const char *conf_nearest_pick(struct conf_nearest *n, const char *candidate)
{
	unsigned limit = (unsigned)strlen(n->word) / 3, d = str_distance(n->word, candidate);

	if (d <= limit && (!n->found || d < n->distance)) {
		n->found = candidate;
		n->distance = d;
	}
	return n->found;
}

const char *conf_option_nearest(const struct conf_table *table, struct str name)
{
	char word[65];
	struct conf_nearest n = { word, NULL, 0 };

	conf_nearest_begin(&n, word, sizeof word, name);
	for (const struct conf_option *o = table->rows; o->name; o++)
		conf_nearest_pick(&n, o->name);
	return n.found;
}

void conf_nearest_begin(struct conf_nearest *n, char *word, size_t size, struct str name)
{
	size_t len = name.len < size - 1 ? name.len : size - 1;

	if (len)
		memcpy(word, name.p, len);
	word[len] = '\0';
	*n = (struct conf_nearest){ word, NULL, 0 };
}

/* ---- values ---- */

static bool conf_kind_is_number(enum conf_kind kind)
{
	return kind == CONF_INT || kind == CONF_OCTAL || kind == CONF_FIXED || kind == CONF_TIME;
}

void conf_opts_init(const struct conf_table *table, void *opts)
{
	memset(opts, 0, table->size);
	for (const struct conf_option *o = table->rows; o->name; o++) {
		void *field = conf_field(o, opts);
		enum status st = ST_OK;

		if (o->offset == CONF_NO_FIELD || o->flags & F_REPEAT)
			continue;
		if (conf_kind_is_number(o->kind)) {
			*(int64_t *)field = CONF_NONE;
			if (o->fallback)
				st = conf_number_parse(o, str_of(o->fallback), field, NULL);
		} else if (o->kind == CONF_BOOL) {
			if (o->fallback)
				st = conf_bool_parse(str_of(o->fallback), field, NULL);
		} else if (o->fallback) {
			((struct conf_text *)field)->text = str_of(o->fallback);
		}
		bug_on(st != ST_OK); /* a default that its own row refuses; the unit test goes through all rows */
	}
}

enum status conf_option_store(const struct conf_option *o, void *opts, struct arena *a, struct str value, struct conf_place place,
	struct err *err)
{
	void *field = conf_field(o, opts);
	struct conf_text text = { STR_NULL, place, true };
	enum status st;

	bug_on(o->offset == CONF_NO_FIELD);
	if (conf_kind_is_number(o->kind))
		return conf_number_parse(o, value, field, err);
	if (o->kind == CONF_BOOL)
		return conf_bool_parse(value, field, err);
	st = conf_text_check(o, value, err);
	if (st != ST_OK)
		return st;
	text.text = str_make(arena_memdup(a, value.p ? value.p : "", value.len), value.len);
	if (o->flags & F_REPEAT) {
		struct conf_texts *all = field;
		all->v = conf_array_grow(a, all->v, all->n, sizeof *all->v);
		all->v[all->n++] = text;
	} else {
		*(struct conf_text *)field = text;
	}
	return ST_OK;
}

enum status conf_opts_set(const struct conf_table *table, void *opts, struct arena *a, struct str name, struct str value, struct err *err)
{
	const struct conf_option *o = conf_option_find(table, name);

	if (!o || o->offset == CONF_NO_FIELD)
		return err_set(err, ST_FAIL, "%s: no option \"%.*s\"", table->title, STR_FMT(name));
	if (conf_option_store(o, opts, a, value, (struct conf_place){ 0, 0 }, err) == ST_OK)
		return ST_OK;
	return err_prefix(err, "option \"%s\"", o->name);
}

bool conf_opts_get(const struct conf_option *o, const void *opts, struct arena *a, struct str *text_out)
{
	const void *field = conf_field(o, opts);

	if (o->offset == CONF_NO_FIELD)
		return false;
	if (o->kind == CONF_BOOL) {
		*text_out = str_of(*(const bool *)field ? "true" : "false");
		return true;
	}
	if (conf_kind_is_number(o->kind)) {
		int64_t n = *(const int64_t *)field;
		if (n == CONF_NONE && o->min >= 0)
			return false;
		*text_out = conf_number_format(o->kind, n, a);
		return true;
	}
	if (o->flags & F_REPEAT) {
		const struct conf_texts *all = field;
		if (!all->n)
			return false;
		*text_out = all->v[0].text;
		return true;
	}
	*text_out = ((const struct conf_text *)field)->text;
	return text_out->p != NULL;
}

void *conf_array_grow(struct arena *a, void *v, uint32_t n, size_t size)
{
	void *wider;

	if (n && (n < 8 || n & (n - 1))) /* room for 8, then for the next power of two */
		return v;
	wider = arena_alloc(a, (n ? (size_t)n * 2 : 8) * size);
	if (n)
		memcpy(wider, v, n * size);
	return wider;
}

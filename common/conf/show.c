/* SPDX-License-Identifier: ISC */
#include "common/conf/reader.h"
#include "common/conf/show.h"

#include <string.h>

struct show {
	const struct conf *conf;
	const struct conf_show *how;
	struct buf *out;
	struct arena scratch;
};

static void text_put(struct show *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void text_put(struct show *s, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = arena_vprintf(&s->scratch, fmt, ap);
	va_end(ap);
	buf_adds(s->out, text);
}

static void place_put(struct show *s, struct conf_place place, const char *indent)
{
	if (s->how->places && place.line)
		text_put(s, "%s# %.*s\n", indent, STR_FMT(conf_place_format(s->conf, place, &s->scratch)));
}

/* Would the bare text be read back as something else? A word ends at the first blank. */
static bool must_quote(struct str value, bool word)
{
	if (!value.len)
		return word;
	if (*value.p == '"' || str_trim(value).len != value.len || value.p[value.len - 1] == '\\')
		return true;
	for (uint32_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.p[i];
		if ((c < ' ' && c != '\t') || (word && (c == ' ' || c == '\t')))
			return true;
	}
	return false;
}

static void string_put(struct show *s, struct str value, bool word)
{
	bool quote = must_quote(value, word);

	if (!quote) {
		buf_add_str(s->out, value);
		return;
	}
	buf_addc(s->out, '"');
	for (uint32_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.p[i];
		if (c == '\n')
			buf_adds(s->out, "\\n");
		else if (c == '\t')
			buf_adds(s->out, "\\t");
		else if (c < ' ')
			text_put(s, "\\%03o", c);
		else if (c == '"' || c == '\\')
			text_put(s, "\\%c", c);
		else
			buf_addc(s->out, (char)c);
	}
	buf_addc(s->out, '"');
}

static void value_put(struct show *s, struct str value)
{
	string_put(s, value, false);
}

static void option_put(struct show *s, const struct conf_option *o, const struct conf_meta *meta, const void *opts, const char *indent)
{
	bool hidden = (meta->hide || o->flags & F_SECRET) && !s->how->secrets;
	const struct conf_texts *all = conf_field(o, opts);
	struct str value;

	if (o->offset == CONF_NO_FIELD || meta->unseen || (s->how->set_only && !meta->set))
		return;
	if (o->flags & F_REPEAT) {
		for (uint32_t i = 0; i < all->n; i++) {
			place_put(s, all->v[i].place, indent);
			text_put(s, "%s%s = ", indent, o->name);
			value_put(s, hidden ? STR_LIT(SHOW_HIDDEN) : all->v[i].text);
			buf_addc(s->out, '\n');
		}
		return;
	}
	if (!conf_opts_get(o, opts, &s->scratch, &value))
		return;
	place_put(s, meta->set ? meta->place : (struct conf_place){ 0, 0 }, indent);
	if (o->kind == CONF_BOOL) {
		text_put(s, "%s%s%s\n", indent, str_is(value, "true") ? "" : "no_", o->name);
		return;
	}
	text_put(s, "%s%s%s = ", indent, meta->hide ? "hide " : "", o->name);
	value_put(s, hidden && value.len ? STR_LIT(SHOW_HIDDEN) : value);
	buf_addc(s->out, '\n');
}

/* The driver's name has been written first, in whatever view. */
static void table_put(struct show *s, const struct conf_table *table, const struct conf_meta *meta, const void *opts, const char *indent)
{
	for (uint32_t i = 0; i < table->n; i++)
		if (strcmp(table->rows[i].name, "driver"))
			option_put(s, &table->rows[i], &meta[i], opts, indent);
}

static const char *const list_words[CONF_LIST_KINDS] = {
	[CONF_LIST_DOMAIN] = "domainlist", [CONF_LIST_HOST] = "hostlist", [CONF_LIST_ADDRESS] = "addresslist",
	[CONF_LIST_LOCALPART] = "localpartlist",
};

static void list_put(struct show *s, const struct conf_list *list)
{
	bool hidden = list->hide && !s->how->secrets;

	place_put(s, list->value.place, "");
	text_put(s, "%s%s%s %.*s = ", list->hide ? "hide " : "", list_words[list->kind], list->cache ? "_cache" : "", STR_FMT(list->name));
	value_put(s, hidden ? STR_LIT(SHOW_HIDDEN) : list->value.text);
	buf_addc(s->out, '\n');
}

static void acl_put(struct show *s, const struct conf_acl *acl)
{
	place_put(s, acl->place, "");
	text_put(s, "%.*s:\n", STR_FMT(acl->name));
	for (uint32_t i = 0; i < acl->n; i++) {
		const struct conf_statement *st = &acl->statements[i];
		place_put(s, st->place, "  ");
		text_put(s, "  %.*s\n", STR_FMT(st->verb));
		for (uint32_t k = 0; k < st->n; k++) {
			const struct conf_acl_item *item = &st->items[k];
			text_put(s, "    %s%.*s", item->negated ? "!" : "", STR_FMT(item->name));
			if (item->argument.len)
				text_put(s, " %.*s", STR_FMT(item->argument));
			if (item->value.set)
				text_put(s, " = ");
			if (item->value.set)
				value_put(s, item->value.text);
			buf_addc(s->out, '\n');
		}
	}
}

static void instance_put(struct show *s, enum conf_class class, const struct conf_instance *in)
{
	if (!in->driver)
		return;
	place_put(s, in->place, "");
	text_put(s, "%.*s:\n  driver = %s\n", STR_FMT(in->name), in->driver->name);
	table_put(s, conf_class_table(class), in->generic_meta, in->generic, "  ");
	table_put(s, in->driver->table, in->own_meta, in->own, "  ");
}

static const char *time_text(struct show *s, int64_t seconds)
{
	char text[32];

	conf_time_format(text, seconds);
	return arena_printf(&s->scratch, "%s", text);
}

static void retry_put(struct show *s, const struct conf_retry *r)
{
	place_put(s, r->place, "");
	string_put(s, r->pattern.text, true);
	text_put(s, "  %.*s", STR_FMT(conf_retry_error_format(r, &s->scratch)));
	if (r->senders.set) {
		text_put(s, "  senders=");
		string_put(s, r->senders.text, true);
	}
	for (uint32_t i = 0; i < r->n; i++) {
		const struct conf_retry_step *step = &r->steps[i];
		text_put(s, "%s %c,%s,%s", i ? ";" : " ", step->kind, time_text(s, step->cutoff), time_text(s, step->interval));
		if (step->factor)
			text_put(s, ",%lld.%03lld", (long long)step->factor / 1000, (long long)step->factor % 1000);
	}
	buf_addc(s->out, '\n');
}

static void rewrite_put(struct show *s, const struct conf_rewrite *r)
{
	place_put(s, r->place, "");
	string_put(s, r->pattern.text, true);
	text_put(s, "  ");
	string_put(s, r->replacement.text, true);
	text_put(s, "  %.*s\n", STR_FMT(r->flags));
}

void conf_show(const struct conf *conf, const struct conf_show *how, struct buf *out)
{
	static const char *const sections[CONF_CLASSES] = { "routers", "transports", "authenticators" };
	struct show s = { .conf = conf, .how = how, .out = out, .scratch = ARENA_INIT };

	table_put(&s, &conf_table_main, conf->main_meta, &conf->main, "");
	for (uint32_t i = 0; i < conf->n_lists; i++)
		list_put(&s, &conf->lists[i]);
	if (conf->n_acls)
		text_put(&s, "\nbegin acl\n");
	for (uint32_t i = 0; i < conf->n_acls; i++)
		acl_put(&s, &conf->acls[i]);
	for (unsigned class = 0; class < CONF_CLASSES; class++) {
		if (conf->of[class].n)
			text_put(&s, "\nbegin %s\n", sections[class]);
		for (uint32_t i = 0; i < conf->of[class].n; i++)
			instance_put(&s, (enum conf_class)class, &conf->of[class].v[i]);
	}
	if (conf->n_retry)
		text_put(&s, "\nbegin retry\n");
	for (uint32_t i = 0; i < conf->n_retry; i++)
		retry_put(&s, &conf->retry[i]);
	if (conf->n_rewrite)
		text_put(&s, "\nbegin rewrite\n");
	for (uint32_t i = 0; i < conf->n_rewrite; i++)
		rewrite_put(&s, &conf->rewrite[i]);
	arena_clear(&s.scratch);
}

bool conf_show_one(const struct conf *conf, const struct conf_show *how, struct str name, struct buf *out)
{
	struct conf_show one = *how;
	struct show s = { .conf = conf, .how = &one, .out = out, .scratch = ARENA_INIT };
	const struct conf_option *o = conf_option_find(&conf_table_main, name);
	bool found = o != NULL;

	one.set_only = false;
	if (o)
		option_put(&s, o, &conf->main_meta[o - conf_table_main.rows], &conf->main, "");
	for (unsigned kind = 0; name.len && *name.p == '+' && kind < CONF_LIST_KINDS; kind++) {
		const struct conf_list *list = conf_list_find(conf, (enum conf_list_kind)kind, str_from(name, 1));
		found |= list != NULL;
		if (list)
			list_put(&s, list);
	}
	for (unsigned class = 0; class < CONF_CLASSES; class++) {
		const struct conf_instance *in = conf_instance_find(conf, (enum conf_class)class, name);
		found |= in != NULL;
		if (in)
			instance_put(&s, (enum conf_class)class, in);
	}
	arena_clear(&s.scratch);
	return found;
}

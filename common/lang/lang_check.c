/* SPDX-License-Identifier: ISC */
/* What is checked when a configuration is loaded: everything that is expanded, matched or run is compiled once. */
#include <string.h>

#include "common/lang/acl_row.h"
#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"
#include "common/lang/scan_server.h"

static void check_problem(struct conf *conf, struct conf_place place, const char *what, const char *owner, const struct err *err)
{
	conf_problem_add(conf, CONF_ERROR, place, "%s%s%s: %s", what, owner ? " of " : "", owner ? owner : "", err->text);
}

static bool kind_list(enum conf_kind kind, enum lang_list_kind *out)
{
	static const struct { enum conf_kind kind; enum lang_list_kind list; } kinds[] = {
		{ CONF_DOMAINS, LIST_DOMAIN }, { CONF_HOSTS, LIST_HOST }, { CONF_ADDRS, LIST_ADDRESS }, { CONF_LOCALS, LIST_LOCALPART },
	};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (kinds[i].kind == kind) {
			*out = kinds[i].list;
			return true;
		}
	return false;
}

/* Older names of variables: taken, with a warning. */
void lang_names_check(struct conf *conf, struct conf_place place, struct str text)
{
	static const char *const old[][2] = {
		{ "proxy_host_address", "proxy_local_address" }, { "proxy_host_port", "proxy_local_port" },
		{ "proxy_target_address", "proxy_external_address" }, { "proxy_target_port", "proxy_external_port" },
	};

	for (size_t i = 0; i < sizeof old / sizeof *old; i++) {
		ptrdiff_t at = str_find_str(text, str_of(old[i][0]));
		size_t end = (size_t)at + strlen(old[i][0]);

		if (at > 0 && (text.p[at - 1] == '$' || text.p[at - 1] == '{' || text.p[at - 1] == ':') && (end == text.len || !(ascii_is_alnum(text.p[end]) || text.p[end] == '_')))
			conf_problem_add(conf, CONF_WARNING, place, "\"$%s\" is an older name: write $%s", old[i][0], old[i][1]);
	}
}

/* An ACL named plainly must be fit for the stage of the option. */
static enum status check_stage(struct lang *lang, struct conf *conf, const struct conf_text *text, const struct expansion *x, struct err *err)
{
	struct str name = x->is_constant ? str_trim(x->constant) : STR_NULL;
	struct acl *acl;
	struct lang_row verb;
	int stage = 1;

	while (stage < ACL_STAGES_END && acl_option(conf, (enum acl_stage)stage) != text)
		stage++;
	if (stage == ACL_STAGES_END || !name.len || name.p[0] == '/')
		return ST_OK;
	if (conf_acl_find(conf, name))
		return acl_named(lang, name, &acl, err) ? ST_OK /* it is checked by itself */ : acl_stage_check(acl, (enum acl_stage)stage, err);
	for (uint32_t i = 0; i < name.len; i++)
		if (ascii_is_space(name.p[i]))
			return ST_OK;
	for (size_t i = 0; acl_verb_at(i, &verb); i++)
		if (str_is(name, verb.name))
			return ST_OK;
	return err_set(err, ST_ERROR, "there is no ACL \"%.*s\"", STR_FMT(str_sub(name, 0, CONF_NAME_MAX)));
}

/* Lists of database servers: HOST/DATABASE/PASSWORD and the like. A server that can't be is told now, not with the first mail. */
static void check_servers(struct conf *conf, const struct conf_option *option, const struct conf_text *text)
{
	static const struct { const char *name; unsigned slashes; const char *example; } lists[] = {
		{ "redis_servers", 2, "127.0.0.1/10/" }, { "pgsql_servers", 3, "HOST/DATABASE/USER/PASSWORD" },
		{ "mysql_servers", 3, "HOST/DATABASE/USER/PASSWORD" },
	};
	struct lang_split split = LANG_SPLIT(text->text);
	struct arena scratch = ARENA_INIT;
	struct str item;
	size_t i = 0;

	while (i < sizeof lists / sizeof *lists && strcmp(option->name, lists[i].name))
		i++;
	while (i < sizeof lists / sizeof *lists && lang_split_next(&split, &scratch, &item)) {
		ptrdiff_t close = str_find(item, '(') >= 0 ? str_find(item, ')') : -1;
		unsigned n = 0;

		for (size_t k = close > 0 ? (size_t)close : 0; k < item.len; k++)
			n += item.p[k] == '/';
		if (item.len && n < lists[i].slashes) /* what it holds may be a password: only its beginning is told */
			conf_problem_add(conf, CONF_ERROR, text->place, "%s: incomplete server data: \"%.*s...\": %u slashes are required, as in %s", option->name,
				STR_FMT(str_sub(item, 0, str_find(item, '/') < 0 ? (item.len < 4 ? item.len : 4) : (size_t)str_find(item, '/'))),
				lists[i].slashes, lists[i].example);
	}
	arena_clear(&scratch);
}

/* Servers of scanners, where they are known before a message is there. */
static void check_scanners(struct conf *conf, const struct conf_option *option, const struct conf_text *text)
{
	bool spam = !strcmp(option->name, "spamd_address");
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;

	if ((spam || !strcmp(option->name, "av_scanner")) && !scan_text_expands(text->text) &&
		scan_servers_parse(&a, text->text, spam, arena_alloc(&a, sizeof(struct scan_servers)), &err) != ST_OK)
		conf_problem_add(conf, CONF_ERROR, text->place, "%s: %s", option->name, err.text);
	arena_clear(&a);
}

static void check_value(void *ctx, struct conf *conf, const struct conf_option *option, const char *owner, const struct conf_text *text)
{
	struct lang *lang = ctx;
	struct arena scratch = ARENA_INIT;
	struct err err = ERR_INIT;
	enum lang_list_kind kind;
	struct lang_list *list;
	struct expansion *x = NULL;
	enum status st;

	lang_names_check(conf, text->place, text->text);
	/* Defaults that the daemons build in C name variables of later stages: only what an administrator wrote is checked. */
	if (!text->text.len || !text->set)
		return;
	check_servers(conf, option, text);
	check_scanners(conf, option, text);
	lang_paths_check(conf, text->place, text->text);
	lang_store_check(conf, option, owner, text);
	lang_keys_check(conf, option, text);
	if (kind_list(option->kind, &kind))
		st = lang_list_build(lang, &scratch, kind, text->text, true, &list, &err);
	else if (option->flags & F_EXPANDED)
		st = expansion_compile(lang, &scratch, text->text, &x, &err);
	else
		st = ST_OK;
	if (!st && x && option->flags & F_ACL)
		st = check_stage(lang, conf, text, x, &err);
	if (st)
		check_problem(conf, text->place, option->name, owner, &err);
	arena_clear(&scratch);
}

static void check_list(void *ctx, struct conf *conf, const struct conf_list *list)
{
	struct lang_list *out;
	struct err err = ERR_INIT;

	lang_names_check(conf, list->value.place, list->value.text);
	lang_paths_check(conf, list->value.place, list->value.text);
	if (lang_list_named(ctx, (enum lang_list_kind)list->kind, list->name, &out, &err))
		conf_problem_add(conf, CONF_ERROR, list->value.place, "%s", err.text);
}

static void check_acl(void *ctx, struct conf *conf, const struct conf_acl *acl)
{
	acl_check(ctx, conf, acl);
}

/* One item of an address list, as the rules' patterns are. */
static enum status check_pattern(struct lang *lang, struct arena *a, struct str pattern, struct err *err)
{
	struct lang_list *list;

	return lang_list_build(lang, a, LIST_ADDRESS, str_printf(a, "<\001 %.*s", STR_FMT(pattern)), true, &list, err);
}

static void check_retry(void *ctx, struct conf *conf, const struct conf_retry *rule)
{
	struct arena scratch = ARENA_INIT;
	struct err err = ERR_INIT;
	struct lang_list *list;

	if (check_pattern(ctx, &scratch, rule->pattern.text, &err))
		check_problem(conf, rule->place, "pattern", "a retry rule", &err);
	else if (rule->senders.set && lang_list_build(ctx, &scratch, LIST_ADDRESS, rule->senders.text, true, &list, &err))
		check_problem(conf, rule->place, "senders", "a retry rule", &err);
	arena_clear(&scratch);
}

static void check_rewrite(void *ctx, struct conf *conf, const struct conf_rewrite *rule)
{
	struct arena scratch = ARENA_INIT;
	struct err err = ERR_INIT;
	struct expansion *x;

	if (str_find(rule->flags, 'S') >= 0 ? expansion_compile(ctx, &scratch, rule->pattern.text, &x, &err) :
	    check_pattern(ctx, &scratch, rule->pattern.text, &err))
		check_problem(conf, rule->place, "pattern", "a rewriting rule", &err);
	else if (expansion_compile(ctx, &scratch, rule->replacement.text, &x, &err))
		check_problem(conf, rule->place, "replacement", "a rewriting rule", &err);
	lang_paths_check(conf, rule->place, rule->pattern.text);
	lang_paths_check(conf, rule->place, rule->replacement.text);
	arena_clear(&scratch);
}

void lang_checks(struct lang *lang, struct conf_checks *out)
{
	*out = (struct conf_checks){ lang, check_value, check_list, check_acl, check_retry, check_rewrite };
}

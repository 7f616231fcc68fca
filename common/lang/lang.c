/* SPDX-License-Identifier: ISC */
#include "common/lang/lang.h"

#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"
#include "common/lang/rewrite.h"

struct lang *lang_new(const struct conf *conf, const struct lang_services *services)
{
	struct lang *lang = mem_new(sizeof *lang);

	lang->conf = conf;
	if (services)
		lang->services = *services;
	lang_rows_index(lang);
	lang_acl_index(lang);
	return lang;
}

void lang_texts_drop(struct lang *lang)
{
	hash_clear(&lang->texts);
	hash_clear(&lang->list_texts);
	arena_clear(&lang->texts_arena);
	lang->n_texts = 0;
}

void lang_free(struct lang *lang)
{
	if (!lang)
		return;
	lang_texts_drop(lang);
	lang_rows_clear(lang);
	hash_clear(&lang->acl_items);
	hash_clear(&lang->acl_controls);
	for (int i = 0; i < CONF_LIST_KINDS; i++)
		hash_clear(&lang->lists[i]);
	hash_clear(&lang->acls);
	hash_clear(&lang->acl_texts);
	regex_cache_clear(&lang->regexes);
	arena_clear(&lang->arena);
	mem_free(lang);
}

const struct conf *lang_conf(const struct lang *lang) { return lang->conf; }
const struct lang_services *lang_services(const struct lang *lang) { return &lang->services; }
struct arena *lang_arena(struct lang *lang) { return &lang->arena; }

struct str lang_primary_hostname(const struct lang *lang)
{
	return lang->conf ? lang->conf->main.primary_hostname.text : STR_NULL;
}

struct str lang_qualify_domain(const struct lang *lang)
{
	return lang->conf && lang->conf->main.qualify_domain.text.len ? lang->conf->main.qualify_domain.text : lang_primary_hostname(lang);
}

struct str lang_qualify_recipient(const struct lang *lang)
{
	return lang->conf && lang->conf->main.qualify_recipient.text.len ? lang->conf->main.qualify_recipient.text : lang_qualify_domain(lang);
}

enum status lang_load(struct lang *lang, struct err *err)
{
	const struct conf *conf = lang->conf;
	struct lang_list *list;
	struct acl *acl;
	const struct rewrite *rules;
	enum status st = ST_OK;

	for (uint32_t i = 0; !st && conf && i < conf->n_lists; i++)
		st = lang_list_named(lang, (enum lang_list_kind)conf->lists[i].kind, conf->lists[i].name, &list, err);
	for (uint32_t i = 0; !st && conf && i < conf->n_acls; i++)
		st = acl_named(lang, conf->acls[i].name, &acl, err);
	if (!st)
		st = rewrite_rules(lang, &rules, err);
	return st;
}

/* SPDX-License-Identifier: ISC */
#include "common/conf/reader.h"

#include <string.h>

struct conf *conf_new(void)
{
	struct conf *conf = mem_new(sizeof *conf);

	conf->seen_by = V_ALL;
	conf_opts_init(&conf_table_main, &conf->main);
	conf->main_meta = arena_alloc(&conf->arena, (conf_table_main.n + 1) * sizeof *conf->main_meta);
	for (uint32_t i = 0; i < conf_table_main.n; i++)
		conf->main_meta[i].hide = conf_table_main.rows[i].flags & F_SECRET;
	return conf;
}

void conf_free(struct conf *conf)
{
	if (!conf)
		return;
	for (unsigned i = 0; i < CONF_LIST_KINDS; i++)
		hash_clear(&conf->lists_by_name[i]);
	for (unsigned i = 0; i < CONF_CLASSES; i++)
		hash_clear(&conf->of[i].by_name);
	hash_clear(&conf->acls_by_name);
	arena_clear(&conf->arena);
	mem_free(conf);
}

/* The hashes hold index + 1: the arrays move while they grow. */
static void *index_value(uint32_t index)
{
	return (void *)(uintptr_t)(index + 1);
}

const struct conf_instance *conf_instance_find(const struct conf *conf, enum conf_class class, struct str name)
{
	uintptr_t at = (uintptr_t)hash_get(&conf->of[class].by_name, name);

	return at ? &conf->of[class].v[at - 1] : NULL;
}

const struct conf_list *conf_list_find(const struct conf *conf, enum conf_list_kind kind, struct str name)
{
	uintptr_t at = (uintptr_t)hash_get(&conf->lists_by_name[kind], name);

	return at ? &conf->lists[at - 1] : NULL;
}

const struct conf_acl *conf_acl_find(const struct conf *conf, struct str name)
{
	uintptr_t at = (uintptr_t)hash_get(&conf->acls_by_name, name);

	return at ? &conf->acls[at - 1] : NULL;
}

struct conf_instance *conf_instance_add(struct conf *conf, enum conf_class class, struct str name, struct conf_place place)
{
	struct conf_instances *all = &conf->of[class];
	struct conf_instance *i;

	all->v = conf_array_grow(&conf->arena, all->v, all->n, sizeof *all->v);
	i = &all->v[all->n];
	*i = (struct conf_instance){ .name = str_dup(&conf->arena, name), .place = place, .index = all->n };
	i->generic = arena_alloc(&conf->arena, conf_class_table(class)->size + 1);
	conf_opts_init(conf_class_table(class), i->generic);
	i->generic_meta = arena_alloc(&conf->arena, (conf_class_table(class)->n + 1) * sizeof *i->generic_meta);
	hash_put(&all->by_name, i->name, index_value(all->n++));
	return i;
}

void conf_instance_drive(struct conf *conf, struct conf_instance *i, const struct conf_driver *driver)
{
	i->driver = driver;
	i->own = arena_alloc(&conf->arena, driver->table->size + 1);
	conf_opts_init(driver->table, i->own);
	i->own_meta = arena_alloc(&conf->arena, (driver->table->n + 1) * sizeof *i->own_meta);
	for (uint32_t k = 0; k < driver->table->n; k++)
		i->own_meta[k].hide = driver->table->rows[k].flags & F_SECRET;
}

struct conf_list *conf_list_add(struct conf *conf, enum conf_list_kind kind, struct str name)
{
	struct conf_list *l;

	conf->lists = conf_array_grow(&conf->arena, conf->lists, conf->n_lists, sizeof *conf->lists);
	l = &conf->lists[conf->n_lists];
	*l = (struct conf_list){ .name = str_dup(&conf->arena, name), .kind = kind };
	hash_put(&conf->lists_by_name[kind], l->name, index_value(conf->n_lists++));
	return l;
}

struct conf_acl *conf_acl_add(struct conf *conf, struct str name, struct conf_place place)
{
	struct conf_acl *acl;

	conf->acls = conf_array_grow(&conf->arena, conf->acls, conf->n_acls, sizeof *conf->acls);
	acl = &conf->acls[conf->n_acls];
	*acl = (struct conf_acl){ .name = str_dup(&conf->arena, name), .place = place };
	hash_put(&conf->acls_by_name, acl->name, index_value(conf->n_acls++));
	return acl;
}

/* ---- problems and places ---- */

struct str conf_place_format(const struct conf *conf, struct conf_place place, struct arena *a)
{
	if (!place.line || place.file >= conf->n_files)
		return STR_NULL;
	return str_printf(a, "%.*s:%u", STR_FMT(conf->files[place.file]), place.line);
}

void conf_problem_add(struct conf *conf, enum conf_severity severity, struct conf_place place, const char *fmt, ...)
{
	va_list ap;
	const char *text;

	conf->n_errors += severity == CONF_ERROR;
	if (conf->n_problems >= CONF_PROBLEMS_MAX)
		return;
	conf->problems = conf_array_grow(&conf->arena, conf->problems, conf->n_problems, sizeof *conf->problems);
	va_start(ap, fmt);
	text = arena_vprintf(&conf->arena, fmt, ap);
	va_end(ap);
	conf->problems[conf->n_problems++] = (struct conf_problem){ severity, place, str_of(text) };
}

struct str conf_problem_format(const struct conf *conf, const struct conf_problem *p, struct arena *a)
{
	struct str place = conf_place_format(conf, p->place, a);

	return str_printf(a, "%.*s%s%s%.*s", STR_FMT(place), place.len ? ": " : "", p->severity == CONF_WARNING ? "warning: " : "",
		STR_FMT(p->text));
}

static const struct conf_option *table_pending(const struct conf_table *table, const struct conf_meta *meta)
{
	for (uint32_t i = 0; i < table->n; i++)
		if ((table->rows[i].flags & F_PENDING) == F_PENDING && meta[i].set)
			return &table->rows[i];
	return NULL;
}

const struct conf_option *conf_instance_pending(const struct conf_instance *instance, enum conf_class class)
{
	const struct conf_option *found = table_pending(conf_class_table(class), instance->generic_meta);

	return found ? found : table_pending(instance->driver->table, instance->own_meta);
}

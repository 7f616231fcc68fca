/* SPDX-License-Identifier: ISC */
/* Instances of drivers: routers, transports, authenticators (specification, section 6.23). */
#include "common/conf/reader.h"

#include <string.h>

/* Letters, digits, underscores and hyphens before a colon; false if the line begins no definition. */
static bool begins_definition(struct str line, struct str *name_out, struct str *rest_out)
{
	uint32_t n = 0;

	while (n < line.len && (ascii_is_alnum(line.p[n]) || line.p[n] == '_' || line.p[n] == '-'))
		n++;
	*name_out = str_sub(line, 0, n);
	*rest_out = conf_skip(str_from(line, n));
	if (!n || !rest_out->len || *rest_out->p != ':')
		return false;
	*rest_out = conf_skip(str_from(*rest_out, 1));
	return true;
}

static void definition_begin(struct conf *conf, struct conf_driver_reader *r, struct str name, struct str rest, struct conf_place place)
{
	const char *class = conf_class_name(r->class);
	const struct conf_instance *old = conf_instance_find(conf, r->class, name);

	r->broken = true;
	if (!ascii_is_alpha(*name.p) || name.len > CONF_NAME_MAX)
		conf_problem_add(conf, CONF_ERROR, place, "%s name \"%.*s\": must begin with a letter and have at most %d octets", class, STR_FMT(name),
			CONF_NAME_MAX);
	else if (old)
		conf_problem_add(conf, CONF_ERROR, place, "%s \"%.*s\": defined a second time (first at %.*s)", class, STR_FMT(name),
			STR_FMT(conf_place_format(conf, old->place, &conf->arena)));
	else if (conf->of[r->class].n >= CONF_INSTANCES_MAX)
		conf_problem_add(conf, CONF_ERROR, place, "more than %d %ss", CONF_INSTANCES_MAX, class);
	else
		r->broken = false;
	if (!r->broken && rest.len)
		conf_problem_add(conf, CONF_ERROR, place, "%s \"%.*s\": nothing may follow the colon", class, STR_FMT(name));
	r->current = r->broken ? NULL : conf_instance_add(conf, r->class, name, place);
}

void conf_driver_end(struct conf *conf, struct conf_driver_reader *r)
{
	if (r->current && !r->current->driver)
		conf_problem_add(conf, CONF_ERROR, r->current->place, "%s %.*s: has no usable \"driver = ...\"", conf_class_name(r->class),
			STR_FMT(r->current->name));
	r->current = NULL;
	r->broken = false;
}

/* "driver = NAME" has just been stored: give the instance its driver's options. */
static void driver_set(struct conf *conf, struct conf_driver_reader *r, struct str name, struct conf_place place)
{
	const struct conf_driver *d = conf_driver_find(r->class, name);
	const char *near = NULL;
	char typed[65];
	struct conf_nearest nearest;

	if (d && !d->later) {
		conf_instance_drive(conf, r->current, d);
		return;
	}
	conf_nearest_begin(&nearest, typed, sizeof typed, name);
	for (const struct conf_driver *k = conf_drivers; k->name; k++)
		if (k->class == r->class)
			near = conf_nearest_pick(&nearest, k->name);
	if (d)
		conf_problem_add(conf, CONF_ERROR, place, "%s %.*s: driver \"%s\": known to Exim, not implemented in this build", conf_class_name(r->class),
			STR_FMT(r->current->name), d->name);
	else
		conf_problem_add(conf, CONF_ERROR, place, "%s %.*s: unknown %s driver \"%s\"%s", conf_class_name(r->class), STR_FMT(r->current->name),
			conf_class_name(r->class), typed, conf_hint(conf, near));
	r->current = NULL; /* its options cannot be judged */
	r->broken = true;
}

/* The field "driver" of the generic options. */
static const struct conf_text *driver_text(const struct conf_instance *i, enum conf_class class)
{
	const struct conf_option *o = conf_option_find(conf_class_table(class), STR_LIT("driver"));

	return conf_field(o, i->generic);
}

void conf_driver_line(struct conf *conf, struct conf_driver_reader *r, struct str line, struct conf_place place)
{
	struct conf_target targets[2];
	struct str name, rest;
	const char *owner;

	if (begins_definition(line, &name, &rest)) {
		conf_driver_end(conf, r);
		definition_begin(conf, r, name, rest, place);
		return;
	}
	if (r->broken)
		return;
	if (!r->current) {
		conf_problem_add(conf, CONF_ERROR, place, "\"%.*s\": a %s must begin here: its name and a colon", STR_FMT(str_sub(line, 0, 80)),
			conf_class_name(r->class));
		r->broken = true;
		return;
	}
	owner = arena_printf(&conf->arena, "%s %.*s", conf_class_name(r->class), STR_FMT(r->current->name));
	targets[0] = (struct conf_target){ conf_class_table(r->class), r->current->generic, r->current->generic_meta };
	if (r->current->driver)
		targets[1] = (struct conf_target){ r->current->driver->table, r->current->own, r->current->own_meta };
	conf_option_line(conf, targets, r->current->driver ? 2 : 1, r->current->driver, owner, line, place);
	if (!r->current->driver && driver_text(r->current, r->class)->set)
		driver_set(conf, r, driver_text(r->current, r->class)->text, place);
}

static void hide_share(const struct conf_table *table, struct conf_meta *a, struct conf_meta *b)
{
	for (uint32_t i = 0; i < table->n; i++)
		a[i].hide = b[i].hide = a[i].hide || b[i].hide;
}

void conf_driver_hide(struct conf *conf)
{
	for (unsigned class = 0; class < CONF_CLASSES; class++) {
		const struct conf_instances *all = &conf->of[class];
		const struct conf_instance *first[32] = { NULL }; /* of each driver */
		/* to the first of each driver, then back to all */
		for (unsigned pass = 0; pass < 2; pass++)
			for (uint32_t i = 0; i < all->n; i++) {
				unsigned d = all->v[i].driver ? (unsigned)(all->v[i].driver - conf_drivers) : 32;
				if (d >= 32)
					continue;
				if (!first[d])
					first[d] = &all->v[i];
				hide_share(all->v[i].driver->table, first[d]->own_meta, all->v[i].own_meta);
				hide_share(conf_class_table((enum conf_class)class), first[d]->generic_meta, all->v[i].generic_meta);
			}
	}
}

/* SPDX-License-Identifier: ISC */
/* Logins and groups that the configuration names, and this machine lacks. They may be made later, so this is no error, but for
 * never_users: a slip there would let mail be delivered under the login that was meant. */
#include "common/conf/reader.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

enum { LOGIN_ROOM = 65536 };

/* Is it known that there is none? */
static bool login_absent(const char *name, bool group)
{
	char room[LOGIN_ROOM];
	struct passwd pw, *user = NULL;
	struct group gr, *found = NULL;

	if (group)
		return getgrnam_r(name, &gr, room, sizeof room, &found) == 0 && !found;
	return getpwnam_r(name, &pw, room, sizeof room, &user) == 0 && !user;
}

static void login_look(struct conf *conf, const struct conf_option *o, const char *owner, const struct conf_text *text, struct str name)
{
	bool digits = true, never = !strcmp(o->name, "never_users");
	char word[CONF_NAME_MAX + 1];

	for (uint32_t i = 0; i < name.len; i++)
		digits &= ascii_is_digit(name.p[i]);
	if (!name.len || digits || name.len >= sizeof word || str_find(name, '$') >= 0)
		return;
	memcpy(word, name.p, name.len);
	word[name.len] = '\0';
	if (login_absent(word, o->flags & F_GROUP))
		conf_problem_add(conf, never ? CONF_ERROR : CONF_WARNING, text->place, "%soption \"%s\": there is no %s \"%s\" on this machine", owner, o->name,
			o->flags & F_GROUP ? "group" : "login", word);
}

static void table_look(struct conf *conf, const struct conf_table *table, const void *opts, const char *owner)
{
	struct arena a = ARENA_INIT;

	for (const struct conf_option *o = table->rows; o->name; o++) {
		const struct conf_text *text = o->flags & (F_USER | F_GROUP) && o->offset != CONF_NO_FIELD ? conf_field(o, opts) : NULL;
		struct conf_list_walk walk;
		struct str item;

		if (!text || !text->set)
			continue;
		if (o->kind != CONF_LIST) {
			login_look(conf, o, owner, text, str_trim(text->text));
			continue;
		}
		walk = (struct conf_list_walk)CONF_LIST_WALK(text->text);
		while (str_find(text->text, '$') < 0 && conf_list_next(&walk, &a, &item))
			login_look(conf, o, owner, text, item);
	}
	arena_clear(&a);
}

void conf_logins_check(struct conf *conf)
{
	struct arena a = ARENA_INIT;

	table_look(conf, &conf_table_main, &conf->main, "");
	for (unsigned class = 0; class < CONF_CLASSES; class++)
		for (uint32_t i = 0; i < conf->of[class].n; i++) {
			const struct conf_instance *in = &conf->of[class].v[i];
			const char *owner = arena_printf(&a, "%s %.*s: ", conf_class_name((enum conf_class)class), STR_FMT(in->name));

			table_look(conf, conf_class_table((enum conf_class)class), in->generic, owner);
			if (in->driver)
				table_look(conf, in->driver->table, in->own, owner);
		}
	arena_clear(&a);
}

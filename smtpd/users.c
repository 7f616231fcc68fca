/* SPDX-License-Identifier: ISC */
#include "smtpd/users.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct user *)a)->id, y = ((const struct user *)b)->id;

	return x < y ? -1 : x > y;
}

static void add(struct users *u, struct user **v, uint32_t *n, uint32_t id, const char *name, const char *gecos)
{
	if (*n >= USERS_MAX || !*name || strlen(name) > 64)
		return;
	if (!(*n & (*n - 1)))
		*v = mem_resize(*v, (*n ? 2u * *n : 1u) * sizeof **v);
	(*v)[(*n)++] = (struct user){ id, arena_strdup(&u->arena, name), gecos && *gecos && strlen(gecos) <= 1024 ? arena_strdup(&u->arena, gecos) : NULL };
}

void users_load(struct users *u)
{
	struct passwd *pw;
	struct group *gr;

	memset(u, 0, sizeof *u);
	setpwent();
	while ((pw = getpwent()))
		add(u, &u->users, &u->n_users, pw->pw_uid, pw->pw_name, pw->pw_gecos);
	endpwent();
	setgrent();
	while ((gr = getgrent()))
		add(u, &u->groups, &u->n_groups, gr->gr_gid, gr->gr_name, NULL);
	endgrent();
	if (u->n_users)
		qsort(u->users, u->n_users, sizeof *u->users, by_id);
	if (u->n_groups)
		qsort(u->groups, u->n_groups, sizeof *u->groups, by_id);
}

static const struct user *user_find(const struct users *u, uint32_t uid)
{
	struct user key = { .id = uid };

	return u->n_users ? bsearch(&key, u->users, u->n_users, sizeof key, by_id) : NULL;
}

const char *users_name(const struct users *u, uint32_t uid)
{
	const struct user *found = user_find(u, uid);

	return found ? found->name : NULL;
}

const char *users_gecos(const struct users *u, uint32_t uid)
{
	const struct user *found = user_find(u, uid);

	return found ? found->gecos : NULL;
}

bool users_id(const struct users *u, struct str name, bool group, uint32_t *id_out)
{
	const struct user *v = group ? u->groups : u->users;
	uint32_t n = group ? u->n_groups : u->n_users;
	uint64_t number;

	if (str_u64(name, UINT32_MAX - 1, &number)) {
		*id_out = (uint32_t)number;
		return true;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (str_is(name, v[i].name)) {
			*id_out = v[i].id;
			return true;
		}
	}
	return false;
}

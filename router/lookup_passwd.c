/* SPDX-License-Identifier: ISC */
/* lookup_passwd.c - the line of a login in the password file, as this daemon sees it. Specification, section 9.4. */
#include "router/lookup_drivers.h"
#include "router/route.h"

static enum status passwd_find(void *arg, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;
	struct str rest;
	enum status st;

	(void)handle, (void)file, (void)options;
	out->ttl_s = 1;
	if (!env->users)
		return err_set(err, ST_DEFER, "passwd: no password file here");
	st = users_line(env->users, key, &rest, err);
	if (st)
		return st;
	/* Behind the password; what it was is told to nobody. */
	rest = str_from(rest, str_find(rest, ':') < 0 ? rest.len : (size_t)str_find(rest, ':'));
	out->value = str_printf(a, "*%.*s", STR_FMT(rest));
	return ST_OK;
}

const struct lookup_driver lookup_driver_passwd = { "passwd", NULL, NULL, passwd_find, NULL, NULL };

/* SPDX-License-Identifier: ISC */
/* lookup_psl.c - the public suffix of a domain, and the domain registered below it, by the list that libpsl carries. */
#include "gen/have.h"
#include "router/lookup_drivers.h"

#if HAVE_PSL
#include <libpsl.h>

static enum status psl_ask(const char *(*ask)(const psl_ctx_t *psl, const char *domain), struct str key, struct arena *a, struct lookup_result *out,
	struct err *err)
{
	const psl_ctx_t *list = psl_builtin();
	const char *found;

	out->ttl_s = LOOKUP_TTL_FILE;
	if (!list)
		return err_set(err, ST_DEFER, "libpsl has no list built in");
	if (!key.len || key.len > 253 || str_has_ctl(key))
		return ST_FAIL;
	found = ask(list, str_cstr(a, str_lower(a, key)));
	if (!found)
		return ST_FAIL;
	out->value = str_of(arena_strdup(a, found));
	return ST_OK;
}

static enum status psl_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	(void)env, (void)handle, (void)file, (void)options;
	return psl_ask(psl_unregistrable_domain, key, a, out, err);
}

static enum status regdom_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	(void)env, (void)handle, (void)file, (void)options;
	return psl_ask(psl_registrable_domain, key, a, out, err);
}

const struct lookup_driver lookup_driver_psl = { "psl", NULL, NULL, psl_find, NULL, NULL };
const struct lookup_driver lookup_driver_regdom = { "regdom", NULL, NULL, regdom_find, NULL, NULL };
#else
const struct lookup_driver lookup_driver_psl = { "psl", NULL, NULL, lookup_absent, NULL, NULL };
const struct lookup_driver lookup_driver_regdom = { "regdom", NULL, NULL, lookup_absent, NULL, NULL };
#endif

/* SPDX-License-Identifier: ISC */
#include "common/lang/lang_ask.h"

#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"

enum status lang_ask_lookup(struct eval *ev, const struct lookup_spec *spec, struct str type, struct str file, struct str key,
	struct ipc_lookup_answer *out, struct err *err)
{
	const struct lang_services *services = &ev->lang->services;
	struct ipc_lookup_ask ask = { .type = type, .file = file, .key = key };
	enum status st;

	*out = (struct ipc_lookup_answer){ 0 };
	st = lookup_check(spec, file, key, err);
	if (st)
		return st;
	if (!services->lookup)
		return err_set(err, ST_ERROR, "lookups can't be made here");
	/* An empty key is in no table. */
	if (spec->type->style == LOOKUP_KEY && !key.len)
		return ST_FAIL;
	ev->deps |= DEP_WORLD;
	st = eval_step(ev, 10, err);
	if (st)
		return st;
	st = services->lookup(services->ctx, ev->arena, &ask, out, err);
	if (st == ST_DEFER || st == ST_ERROR)
		err_prefix(err, "lookup of \"%.*s\" in %.*s", STR_FMT(expand_quote(ev, key)), STR_FMT(type));
	out->value.tainted = false;
	return st;
}

enum status lang_path_check(struct eval *ev, struct str path, struct err *err)
{
	if (path.tainted)
		return err_set(err, ST_ERROR, "tainted file name \"%.*s\"", STR_FMT(expand_quote(ev, path)));
	if (!path.len || path.p[0] != '/')
		return err_set(err, ST_ERROR, "file name \"%.*s\" is not absolute", STR_FMT(expand_quote(ev, path)));
	if (str_find(path, '\0') >= 0 || str_find_str(path, STR_LIT("/../")) >= 0 || str_ends(path, "/.."))
		return err_set(err, ST_ERROR, "file name \"%.*s\" is not allowed", STR_FMT(expand_quote(ev, path)));
	return ST_OK;
}

enum status lang_ask_file(struct eval *ev, struct str path, struct lang_file *out, struct err *err)
{
	const struct lang_services *services = &ev->lang->services;
	enum status st = lang_path_check(ev, path, err);

	*out = (struct lang_file){ STR_NULL };
	if (st)
		return st;
	if (!services->file)
		return err_set(err, ST_ERROR, "files can't be read here");
	ev->deps |= DEP_WORLD;
	return services->file(services->ctx, ev->arena, path, out, err);
}

enum status lang_ask_stat(struct eval *ev, struct str path, struct str *out, struct err *err)
{
	const struct lang_services *services = &ev->lang->services;
	enum status st = lang_path_check(ev, path, err);

	*out = STR_NULL;
	if (st)
		return st;
	if (!services->stat)
		return err_set(err, ST_ERROR, "files can't be looked at here");
	ev->deps |= DEP_WORLD;
	return services->stat(services->ctx, ev->arena, path, out, err);
}

enum status lang_ask_hosts(struct eval *ev, struct str name, const char *type, struct ipc_host_answer *out, struct err *err)
{
	const struct lang_services *services = &ev->lang->services;

	*out = (struct ipc_host_answer){ 0 };
	if (!services->host)
		return err_set(err, ST_ERROR, "hosts can't be looked up here");
	ev->deps |= DEP_WORLD;
	return services->host(services->ctx, ev->arena, name, type, out, err);
}

/* SPDX-License-Identifier: ISC */
#include "common/lang/lang_ask.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/lang/expand_tree.h"
#include "common/lang/lang_priv.h"
#include "common/mail/alabel.h"

/* Answers that may be given again within one evaluation: the same question there has the same answer, as everybody who writes a lookup
 * twice expects, and costs nothing. */
struct lookup_memo {
	struct lookup_memo *next;
	struct str type, file, key;
	struct ipc_lookup_answer answer;
	enum status st;
};
enum { LOOKUP_MEMOS_MAX = 64 };

static struct lookup_memo *memo_find(struct eval *ev, const struct ipc_lookup_ask *ask)
{
	for (struct lookup_memo *m = ev->lookups; m; m = m->next)
		if (str_eq(m->key, ask->key) && str_eq(m->file, ask->file) && str_eq(m->type, ask->type))
			return m;
	return NULL;
}

static void memo_put(struct eval *ev, const struct ipc_lookup_ask *ask, const struct ipc_lookup_answer *answer, enum status st)
{
	struct lookup_memo *m = memo_find(ev, ask);

	if (!m && ev->n_lookups < LOOKUP_MEMOS_MAX) {
		m = arena_alloc(ev->arena, sizeof *m);
		*m = (struct lookup_memo){ .next = ev->lookups, .type = str_dup(ev->arena, ask->type), .file = str_dup(ev->arena, ask->file),
			.key = str_dup(ev->arena, ask->key) };
		ev->lookups = m;
		ev->n_lookups++;
	}
	if (!m)
		return;
	m->answer = *answer;
	m->answer.value = str_dup(ev->arena, answer->value);
	m->answer.matched = str_dup(ev->arena, answer->matched);
	m->st = st;
}

/* A table of patterns is matched here: its keys are expanded and may be lookups. */
static enum status ask_patterns(struct eval *ev, const struct lookup_spec *spec, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out,
	struct err *err)
{
	struct lang_file table;
	enum status st;

	if (ev->depth > EVAL_DEPTH_MAX)
		return err_set(err, ST_ERROR, "lookups nested too deeply");
	st = lang_ask_file(ev, ask->file, &table, err);
	if (st == ST_FAIL)
		return err_set(err, ST_DEFER, "failed to open %.*s: no such file, or not in lookup_directories", STR_FMT(expand_quote(ev, ask->file)));
	if (st)
		return st;
	ev->depth++;
	st = lookup_wild(ev, spec, table.content, ask->key, out, err);
	ev->depth--;
	return st;
}

/* Without the options, among which passwords may be. */
static struct str type_plain(struct str type)
{
	ptrdiff_t comma = str_find(type, ',');

	return comma < 0 ? type : str_sub(type, 0, (size_t)comma);
}

/* slow_lookup_log: milliseconds, 0 for never. */
static void slow_log(struct eval *ev, const struct ipc_lookup_ask *ask, uint64_t began_ms)
{
	const struct lang_services *services = &ev->lang->services;
	int64_t limit = ev->lang->conf ? ev->lang->conf->main.slow_lookup_log : 0;
	uint64_t took = clock_ms() - began_ms;

	if (limit > 0 && services->log && took > (uint64_t)limit)
		services->log(services->ctx, LOG_MAIN, str_printf(ev->arena, "slow lookup: %.*s \"%.*s\" took %llu ms",
			STR_FMT(type_plain(ask->type)), STR_FMT(expand_quote(ev, ask->key)), (unsigned long long)took));
}

/* Tables and databases are the administrator's; the DNS is anybody's. */
static bool answer_is_tainted(const struct lookup_spec *spec, struct str key)
{
	return spec->type->flags & LOOKUP_STRANGERS || (spec->type->flags & LOOKUP_OF_KEY && key.tainted);
}

enum status lang_ask_lookup(struct eval *ev, const struct lookup_spec *spec, struct str type, struct str file, struct str key,
	struct ipc_lookup_answer *out, struct err *err)
{
	const struct lang_services *services = &ev->lang->services;
	struct ipc_lookup_ask ask = { .type = type, .file = file, .key = key };
	struct lookup_memo *memo;
	uint64_t began = clock_ms();
	enum status st;

	*out = (struct ipc_lookup_answer){ 0 };
	if (spec->type->style == LOOKUP_KEY && !(spec->type->flags & LOOKUP_DIR)) /* the names of files are octets */
		ask.key = key = utf8_nfc(ev->arena, key);
	st = lookup_check(spec, file, key, err);
	if (st)
		return st;
	if (!services->lookup)
		return err_set(err, ST_ERROR, "lookups can't be made here");
	/* An empty key is in no table, but the default is. */
	if (spec->type->style == LOOKUP_KEY && !key.len && !spec->star)
		return ST_FAIL;
	ev->deps |= DEP_WORLD;
	if (!spec->no_cache_read && (memo = memo_find(ev, &ask))) {
		*out = memo->answer;
		out->value.tainted = answer_is_tainted(spec, key);
		return memo->st;
	}
	st = eval_step(ev, EVAL_LOOKUP_STEPS, err);
	if (st)
		return st;
	st = spec->type->flags & LOOKUP_PATTERNS ? ask_patterns(ev, spec, &ask, out, err)
		: services->lookup(services->ctx, ev->arena, &ask, out, err);
	slow_log(ev, &ask, began);
	if (st == ST_DEFER || st == ST_ERROR)
		err_prefix(err, "lookup of \"%.*s\" in %.*s", STR_FMT(expand_quote(ev, key)), STR_FMT(type_plain(type)));
	out->value.tainted = answer_is_tainted(spec, key);
	if ((st == ST_OK || st == ST_FAIL) && out->keep && !spec->no_cache_write)
		memo_put(ev, &ask, out, st);
	return st;
}

enum status lang_path_check(struct eval *ev, struct str path, struct err *err)
{
	if (path.tainted)
		return err_set(err, ST_ERROR, "tainted file name \"%.*s\": use what a lookup gives (dsearch for names of files), $local_part_data, $domain_data or $value of inlist", STR_FMT(expand_quote(ev, path)));
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

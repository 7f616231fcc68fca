/* SPDX-License-Identifier: ISC */
#include "router/route_command.h"

#include <string.h>

#define WORD_ADDRESSES "$pipe_addresses"   /* the agent puts the recipients there */
#define WORD_PIPE "$address_pipe"          /* with force_command: the words of the redirection */

/* ---- at load ---- */

static bool is_later(struct str word, bool force)
{
	return str_is(word, WORD_ADDRESSES) || (force && str_is(word, WORD_PIPE));
}

static enum status words_compile(struct site *site, const struct conf_opts_transport_pipe *o, struct site_command *c, struct err *err)
{
	c->x = arena_alloc(&site->arena, c->words.n * sizeof *c->x);
	for (uint32_t i = 0; i < c->words.n; i++) {
		const struct conf_text word = { .text = c->words.v[i], .place = o->command.place, .set = true };
		if (!is_later(word.text, o->force_command) && word.text.len && site_text(site, &word, &c->x[i], err) != ST_OK)
			return err->status;
	}
	return ST_OK;
}

static enum status relations_check(struct site *site, const struct conf_instance *conf, const struct conf_opts_transport_pipe *o, struct err *err)
{
	const char *what = o->use_shell && o->restrict_to_path ? "use_shell and restrict_to_path exclude each other" :
		o->use_shell && o->allow_commands.text.len ? "use_shell and allow_commands exclude each other" :
		o->return_output && o->return_fail_output ? "return_output and return_fail_output exclude each other" :
		o->log_output && o->log_fail_output ? "log_output and log_fail_output exclude each other" : NULL;

	if (!what)
		return ST_OK;
	err_set(err, ST_ERROR, "transport %.*s: %s", STR_FMT(conf->name), what);
	return site_wrong(site, conf->place, err);
}

enum status site_command_make(struct site *site, struct site_transport *t, struct err *err)
{
	const struct conf_opts_transport_pipe *o = t->pipe;
	struct site_command *c = arena_alloc(&site->arena, sizeof *c);

	t->command = c;
	if (relations_check(site, t->conf, o, err) != ST_OK || site_text(site, &o->allow_commands, &c->allow, err) != ST_OK ||
		site_text(site, &o->environment, &c->environment, err) != ST_OK)
		return err->status;
	t->reads_message |= text_reads_message(o->command.text);
	if (!str_trim(o->command.text).len)
		return ST_OK;
	if (o->use_shell)
		return site_text(site, &o->command, &c->whole, err);
	if (command_split(o->command.text, &site->arena, &c->words, err) != ST_OK)
		return site_wrong(site, o->command.place, err);
	return words_compile(site, o, c, err);
}

/* ---- for one address ---- */

struct argv {
	struct str v[COMMAND_WORDS_MAX];
	uint32_t n;
};

static enum status argv_add(struct argv *out, struct str word, struct err *err)
{
	if (out->n == COMMAND_WORDS_MAX)
		return err_set(err, ST_ERROR, "the command has more than %d words", COMMAND_WORDS_MAX);
	if (word.tainted)
		return err_set(err, ST_ERROR, "\"%.*s\" in the command is tainted (it comes from a stranger); use $local_part_data or $domain_data",
			STR_FMT(str_sub(word, 0, 200)));
	if (word.len > IPC_STRS_ITEM_MAX || (word.len && memchr(word.p, 0, word.len)))
		return err_set(err, ST_ERROR, "a word of the command is too long or has a zero octet");
	out->v[out->n++] = word.p ? word : STR_LIT("");
	return ST_OK;
}

static enum status word_expand(struct route *rt, const struct expansion *x, struct str *out, struct err *err)
{
	enum status st = route_expand(rt, x, out, err);

	return st == ST_OK ? ST_OK : st == ST_FAIL ? err_set(err, ST_ERROR, "command: forced failure") : err_prefix(err, "command");
}

/* The words of the option; where they say so, those of the redirection among them. */
static enum status words_expand(struct route *rt, const struct addr *addr, const struct site_command *c, struct argv *out, struct err *err)
{
	enum status st = ST_OK;

	for (uint32_t i = 0; st == ST_OK && i < c->words.n; i++) {
		struct command_words inner;
		struct str value = c->words.v[i];

		if (c->x[i] && word_expand(rt, c->x[i], &value, err) != ST_OK)
			return err->status;
		if (c->x[i] || !str_is(c->words.v[i], WORD_PIPE)) {
			st = argv_add(out, value, err);
			continue;
		}
		st = addr->kind == KIND_PIPE ? command_split(addr->text, rt->a, &inner, err) : ST_OK;
		for (uint32_t k = 0; st == ST_OK && addr->kind == KIND_PIPE && k < inner.n; k++)
			st = argv_add(out, inner.v[k], err);
	}
	return st;
}

static enum status shell_words(struct route *rt, const struct site_command *c, struct str text, struct argv *out, struct err *err)
{
	if (!text.p && word_expand(rt, c->whole, &text, err) != ST_OK)
		return err->status;
	argv_add(out, STR_LIT("/bin/sh"), err);
	argv_add(out, STR_LIT("-c"), err);
	return argv_add(out, text, err);
}

static enum status argv_make(struct route *rt, const struct addr *addr, const struct site_transport *t, struct argv *out, struct err *err)
{
	const struct site_command *c = t->command;
	bool redirected = addr->kind == KIND_PIPE && !t->pipe->force_command;
	struct command_words words;
	enum status st;

	if (!redirected && !c->whole && !c->words.n)
		return err_set(err, ST_ERROR, "option \"command\" is not set");
	if (t->pipe->use_shell)
		return shell_words(rt, c, redirected ? addr->text : STR_NULL, out, err);
	if (!redirected)
		return words_expand(rt, addr, c, out, err);
	st = command_split(addr->text, rt->a, &words, err);
	for (uint32_t i = 0; st == ST_OK && i < words.n; i++)
		st = argv_add(out, words.v[i], err);
	return st;
}

/* allow_commands and restrict_to_path: permitted is what one of them permits; without either, all. */
static enum status command_permitted(struct route *rt, const struct site_transport *t, struct str command, struct err *err)
{
	struct str list = STR_NULL, item;
	struct lang_split walk;
	enum status st;

	if (t->command->allow) {
		st = route_expand(rt, t->command->allow, &list, err);
		if (st != ST_OK && st != ST_FAIL)
			return err_prefix(err, "allow_commands");
		walk = LANG_SPLIT(list);
		while (lang_split_next(&walk, rt->a, &item))
			if (str_eq(item, command))
				return ST_OK;
	}
	err_clear(err);
	if (t->pipe->restrict_to_path)
		return str_find(command, '/') < 0 ? ST_OK : err_set(err, ST_FAIL, "\"/\" found in \"%.*s\" (command for %.*s transport) - failed for "
			"security reasons", STR_FMT(str_sub(command, 0, 200)), STR_FMT(t->conf->name));
	if (t->command->allow)
		return err_set(err, ST_FAIL, "\"%.*s\" command not permitted by %.*s transport", STR_FMT(str_sub(command, 0, 200)), STR_FMT(t->conf->name));
	return ST_OK;
}

/* ---- environment ---- */

static void env_add(struct route *rt, struct ipc_strs *env, const char *name, struct str value)
{
	struct str *v = env->v;

	if (env->n < COMMAND_ENV_MAX && value.p && value.len < IPC_STRS_ITEM_MAX - 300)
		v[env->n++] = str_printf(rt->a, "%s=%.*s", name, STR_FMT(value));
}

static enum status env_more(struct route *rt, const struct site_command *c, struct ipc_strs *env, struct err *err)
{
	struct str list = STR_NULL, item;
	struct lang_split walk;
	enum status st;

	if (!c->environment)
		return ST_OK;
	st = route_expand(rt, c->environment, &list, err);
	if (st != ST_OK)
		return st == ST_FAIL ? err_set(err, ST_ERROR, "environment: forced failure") : err_prefix(err, "environment");
	walk = LANG_SPLIT(list);
	while (lang_split_next(&walk, rt->a, &item)) {
		if (!item.len)
			continue;
		if (env->n == COMMAND_ENV_MAX || item.len > IPC_STRS_ITEM_MAX || memchr(item.p, 0, item.len))
			return err_set(err, ST_ERROR, "environment: too much of it");
		env->v[env->n++] = item;
	}
	return ST_OK;
}

/* With several recipients possible in one run nothing is said of the one at hand: the agent does, when it is alone. */
static enum status env_make(struct route *rt, const struct addr *addr, const struct site_transport *t, struct str host, struct ipc_plan *plan,
	struct err *err)
{
	const struct eval *ev = rt->ev;
	const struct addr *who = addr->kind == KIND_PIPE && addr->parent ? addr->parent : addr;
	struct str local = who->lp.p ? who->lp : who->local, zone = lang_conf(rt->r->lang)->main.timezone.text;
	struct ipc_strs *env = &plan->environment;

	env->v = arena_alloc(rt->a, COMMAND_ENV_MAX * sizeof *env->v);
	if (t->pipe->batch_max <= 1) {
		env_add(rt, env, "LOCAL_PART", local);
		env_add(rt, env, "LOGNAME", local);
		env_add(rt, env, "USER", local);
		env_add(rt, env, "LOCAL_PART_PREFIX", who->prefix.p ? who->prefix : STR_LIT(""));
		env_add(rt, env, "LOCAL_PART_SUFFIX", who->suffix.p ? who->suffix : STR_LIT(""));
		env_add(rt, env, "DOMAIN", who->domain);
		env_add(rt, env, "RECIPIENT", who->text);
	}
	env_add(rt, env, "HOME", plan->home.len ? plan->home : eval_get(ev, EV_home));
	if (host.len)
		env_add(rt, env, "HOST", host);
	env_add(rt, env, "QUALIFY_DOMAIN", lang_qualify_domain(rt->r->lang));
	if (zone.len)
		env_add(rt, env, "TZ", zone);
	return env_more(rt, t->command, env, err);
}

enum status route_command(struct route *rt, const struct addr *addr, const struct site_transport *t, struct str host, struct ipc_plan *plan,
	struct err *err)
{
	struct argv *argv = arena_alloc(rt->a, sizeof *argv);
	enum status st = argv_make(rt, addr, t, argv, err);

	if (st != ST_OK)
		return st;
	if (!t->pipe->use_shell) {
		st = command_permitted(rt, t, argv->v[0], err);
		if (st != ST_OK)
			return st;
	}
	plan->argv = (struct ipc_strs){ argv->v, argv->n };
	return env_make(rt, addr, t, host, plan, err);
}

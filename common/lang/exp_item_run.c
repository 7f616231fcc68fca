/* SPDX-License-Identifier: ISC */
/* The item run: what a program says. None is started here: a query process does it, for router; which may be started is configured. */
#include "common/lang/expand_tree.h"

#include <string.h>

#include "common/conf/command.h"
#include "common/lang/lang_ask.h"

enum { RUN_OCTETS_MAX = 100 * 1024 /* of all words; below IPC_FRAME_MAX */ };

struct run_own {
	bool preexpand;            /* the text is expanded as one, then split */
	struct str text;           /* as written */
	struct command_words words;
	struct expansion **x;      /* for each word */
};

/* ---- at load ---- */

static bool run_listed(const struct conf *conf, struct arena *a, struct str program)
{
	struct conf_list_walk walk = CONF_LIST_WALK(conf->main.run_commands.text);
	struct str path;

	while (conf_list_next(&walk, a, &path))
		if (path.len && str_eq(path, program))
			return true;
	return false;
}

static enum status run_listed_check(const struct lang *lang, struct arena *a, struct str program, struct err *err)
{
	if (run_listed(lang_conf(lang), a, program))
		return ST_OK;
	return err_set(err, ST_ERROR, "run: \"%.*s\" is not in run_commands", STR_FMT(str_sub(program, 0, 200)));
}

static enum status parse_options(struct parser *p, struct run_own *own)
{
	while (parse_peek(p, ',')) {
		struct str word;

		p->at++;
		word = parse_word(p, "_");
		if (!str_is(word, "preexpand"))
			return parse_error(p, "unknown option \"%.*s\" of run (preexpand)", STR_FMT(str_sub(word, 0, 40)));
		own->preexpand = true;
	}
	return ST_OK;
}

static enum status parse_words(struct parser *p, struct run_own *own)
{
	struct err err = ERR_INIT;

	if (command_split(own->text, p->arena, &own->words, &err) != ST_OK)
		return parse_error(p, "run: %s", err.text);
	own->x = arena_alloc(p->arena, own->words.n * sizeof *own->x);
	for (uint32_t i = 0; i < own->words.n; i++)
		if (parse_text(p, own->words.v[i], &own->x[i], &err) != ST_OK)
			return parse_error(p, "word %u of the command: %s", i + 1, err.text);
	if (own->x[0]->is_constant && run_listed_check(p->lang, p->arena, own->x[0]->constant, &err) != ST_OK)
		return parse_error(p, "%s", err.text);
	return ST_OK;
}

static enum status parse_run(struct parser *p, struct call *call)
{
	struct run_own *own = arena_alloc(p->arena, sizeof *own);
	const struct conf *conf = lang_conf(p->lang);
	enum status st;

	call->own = own;
	if (!conf || !conf->main.run_commands.text.len)
		return parse_error(p, "item \"run\" may start no program: run_commands is not set");
	if (p->text.tainted)
		return parse_error(p, "item \"run\" in a stranger's text");
	st = parse_options(p, own);
	if (!st && own->preexpand)
		st = parse_braces(p, call, 1, 1);
	else if (!st)
		st = parse_brace_raw(p, &own->text);
	if (!st && !own->preexpand && !p->skipping)
		st = parse_words(p, own);
	return st ? st : parse_yes_no(p, call);
}

/* ---- the words ---- */

static enum status words_preexpanded(struct eval *ev, const struct call *call, struct ipc_strs *out, struct err *err)
{
	struct command_words words;
	struct str text;
	enum status st = expansion_run(ev, call->arg[0], &text, err);

	if (st)
		return st;
	if (text.tainted)
		return err_set(err, ST_ERROR, "run: with preexpand no part of the command may be tainted: \"%.*s\"", STR_FMT(expand_quote(ev, text)));
	if (command_split(text, ev->arena, &words, err) != ST_OK)
		return err_prefix(err, "run");
	*out = (struct ipc_strs){ .v = words.v, .n = words.n };
	return ST_OK;
}

static enum status words_each(struct eval *ev, const struct run_own *own, struct ipc_strs *out, struct err *err)
{
	out->n = own->words.n;
	out->v = arena_alloc(ev->arena, out->n * sizeof *out->v);
	for (uint32_t i = 0; i < out->n; i++) {
		enum status st = expansion_run(ev, own->x[i], &out->v[i], err);

		if (st)
			return err_prefix(err, "run: word %u of the command", i + 1);
	}
	if (out->v[0].tainted)
		return err_set(err, ST_ERROR, "run: the command's name is tainted: \"%.*s\"", STR_FMT(expand_quote(ev, out->v[0])));
	return ST_OK;
}

static enum status words_check(struct eval *ev, struct ipc_strs *words, bool *tainted, struct err *err)
{
	uint64_t octets = 0;

	*tainted = false;
	for (uint32_t i = 0; i < words->n; i++) {
		struct str *word = &words->v[i];

		if (word->len > IPC_STRS_ITEM_MAX || (word->len && memchr(word->p, 0, word->len)))
			return err_set(err, ST_ERROR, "run: word %u of the command is too long or has a zero octet", i + 1);
		octets += word->len;
		*tainted |= word->tainted;
		if (!word->p)
			*word = STR_LIT("");
	}
	if (octets > RUN_OCTETS_MAX)
		return err_set(err, ST_ERROR, "run: the command is longer than %d octets", RUN_OCTETS_MAX);
	return run_listed_check(ev->lang, ev->arena, words->v[0], err);
}

/* ---- asking, and what came of it ---- */

static enum status answer_judge(const struct ipc_program_ask *ask, const struct ipc_program_answer *answer, struct err *err)
{
	struct str program = ask->argv.v[0];

	if (answer->text.len)
		return err_set(err, ST_DEFER, "run: %.*s was not run: %.*s", STR_FMT(program), STR_FMT(answer->text));
	if (answer->too_late)
		return err_set(err, ST_DEFER, "run: %.*s timed out", STR_FMT(program));
	if (answer->too_much)
		return err_set(err, ST_ERROR, "run: %.*s wrote more than %u octets", STR_FMT(program), (unsigned)answer->output.len);
	if (answer->signal)
		return err_set(err, ST_DEFER, "run: %.*s was killed by signal %llu", STR_FMT(program), (unsigned long long)answer->signal);
	return ST_OK;
}

/* $value and $runrc stay as they are behind it. */
static enum status item_run(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	const struct run_own *own = call->own;
	const struct lang_services *services = lang_services(ev->lang);
	struct ipc_program_ask ask = { .limit_s = (uint64_t)lang_conf(ev->lang)->main.run_timeout };
	struct ipc_program_answer answer = { .code = 0 };
	bool tainted;
	enum status st = own->preexpand ? words_preexpanded(ev, call, &ask.argv, err) : words_each(ev, own, &ask.argv, err);

	(void)args;
	if (!st)
		st = words_check(ev, &ask.argv, &tainted, err);
	if (!st)
		st = eval_step(ev, EVAL_LOOKUP_STEPS, err);
	if (st)
		return st;
	if (!services->run)
		return err_set(err, ST_ERROR, "run: not available here");
	ev->deps |= DEP_WORLD | DEP_TIME;
	st = services->run(services->ctx, ev->arena, &ask, &answer, err);
	if (st)
		return st == ST_FAIL ? err_set(err, ST_DEFER, "run: no answer") : err_prefix(err, "run");
	st = answer_judge(&ask, &answer, err);
	if (st)
		return st;
	ev->slot[EV_value] = str_dup(ev->arena, answer.output);
	ev->slot[EV_value].tainted = tainted; /* an administrator's program, but it may say what it was told */
	ev->slot[EV_runrc] = str_printf(ev->arena, "%llu", (unsigned long long)answer.code);
	out->text = STR_NULL;
	if (!answer.code && !call->yes)
		out->text = ev->slot[EV_value];
	else if (!answer.code)
		return expansion_run(ev, call->yes, &out->text, err);
	else if (call->fail)
		return err_set(err, ST_FAIL, "\"run\" failed and \"fail\" requested");
	else if (call->no)
		return expansion_run(ev, call->no, &out->text, err);
	return ST_OK;
}

const struct item_row exp_items_run[] = {
	{ "run", 0, 0, ITEM_LAZY, item_run, parse_run,
		"what a program of run_commands writes, which runs under run_user; its code is $runrc, what it wrote $value in both strings and behind",
		.usage = "{command words}{yes}{no} or ,preexpand {command words}{yes}{no}" },
	{ NULL }
};

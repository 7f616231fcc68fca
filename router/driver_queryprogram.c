/* SPDX-License-Identifier: ISC */
/* driver_queryprogram.c - asks a program how to route (specification, chapter 21). It is run by a query process, under the router's
 * command_user; here its words are made, and what it said is read. */
#include <stdio.h>
#include <string.h>

#include "common/conf/command.h"
#include "common/lang/exp_text.h"
#include "router/redirect.h"
#include "router/route.h"

struct own {
	const struct conf_opts_router_queryprogram *o;
	struct command_words words;
	struct expansion **x;          /* for each word; NULL: as it stands */
};

static enum status option_wrong(struct site *site, const struct conf_text *t, struct err *err, const char *what)
{
	err_set(err, ST_ERROR, "%s", what);
	return site_wrong(site, t->place, err);
}

static enum status queryprogram_compile(struct site *site, struct site_router *r, struct err *err)
{
	const struct conf_opts_router_queryprogram *o = CONF_OWN(r->conf, router_queryprogram);
	struct own *own = arena_alloc(&site->arena, sizeof *own);

	own->o = o;
	r->own = own;
	if (!str_trim(o->command.text).len || !str_trim(o->command_user.text).len)
		return err_set(err, ST_ERROR, "command and command_user must be set");
	if (command_split(o->command.text, &site->arena, &own->words, err) != ST_OK)
		return site_wrong(site, o->command.place, err);
	/* what may be run under that login stands in the configuration */
	if (own->words.v[0].p[0] != '/' || str_find(own->words.v[0], '$') >= 0)
		return option_wrong(site, &o->command, err, "command: the program must be written out, as an absolute path");
	own->x = arena_alloc(&site->arena, own->words.n * sizeof *own->x);
	for (uint32_t i = 1; i < own->words.n; i++) {
		const struct conf_text word = { .text = own->words.v[i], .place = o->command.place, .set = true };

		if (word.text.len && site_text(site, &word, &own->x[i], err) != ST_OK)
			return err->status;
	}
	return ST_OK;
}

/* ---- asking ---- */

static enum status words_expand(struct route *rt, const struct own *own, struct ipc_strs *out, struct err *err)
{
	out->v = arena_alloc(rt->a, own->words.n * sizeof *out->v);
	out->n = own->words.n;
	for (uint32_t i = 0; i < own->words.n; i++) {
		struct str *word = &out->v[i];
		enum status st;

		*word = own->words.v[i];
		st = own->x[i] ? route_expand(rt, own->x[i], word, err) : ST_OK;
		if (st != ST_OK) {
			err_prefix(err, "command");
			return st == ST_FAIL ? err_set(err, ST_ERROR, "command: forced failure") : st;
		}
		if (word->tainted)
			return err_set(err, ST_ERROR, "command: \"%.*s\" is tainted (it comes from a stranger); use $local_part_data or $domain_data",
				STR_FMT(str_sub(*word, 0, 200)));
		if (word->len > IPC_STRS_ITEM_MAX || (word->len && memchr(word->p, 0, word->len)))
			return err_set(err, ST_ERROR, "command: a word is too long or has a zero octet");
		if (!word->p)
			*word = STR_LIT("");
	}
	return ST_OK;
}

static enum status program_ask(struct route *rt, const struct own *own, const struct site_router *r, struct ipc_program_answer *out, struct err *err)
{
	struct ipc_program_ask ask = { .router = r->conf->name };
	struct worker_login login;

	if (!rt->r->program)
		return err_set(err, ST_DEFER, "programs can't be run here");
	if (words_expand(rt, own, &ask.argv, err) != ST_OK || router_login_find(rt->r, "command", &own->o->command_user, &own->o->command_group, &login, err) != ST_OK || router_program_limit(rt->r, &ask, err) != ST_OK)
		return err->status;
	return rt->r->program(rt->r->program_ctx, &login, &ask, out, (int)ask.limit_s * 1000 + ROUTER_PROGRAM_GRACE_MS, err);
}

/* ---- what it said ---- */

/* RT_ACCEPT: it said something. */
static enum verdict answer_judge(const struct site_router *r, const struct ipc_program_answer *answer, struct err *err)
{
	if (answer->text.len)
		err_set(err, ST_DEFER, "the command was not run: %.*s", STR_FMT(answer->text));
	else if (answer->too_late)
		err_set(err, ST_DEFER, "command timed out");
	else if (answer->signal)
		err_set(err, ST_DEFER, "command killed by signal %llu", (unsigned long long)answer->signal);
	else if (answer->code)
		err_set(err, ST_DEFER, "command returned non-zero code %llu", (unsigned long long)answer->code);
	else
		return RT_ACCEPT;
	err_prefix(err, "%.*s router", STR_FMT(r->conf->name));
	return answer->too_late && answer->own_time ? RT_FREEZE : RT_DEFER;
}

/* The first line that says anything, without control characters: it may become part of a reply. */
static struct str line_take(struct arena *a, struct str output)
{
	struct str rest = str_trim(output), line = STR_NULL;
	char *p;

	str_split(&rest, '\n', &line);
	line = str_trim(line);
	if (!line.len)
		return line;
	p = arena_memdup(a, line.p, line.len);
	for (uint32_t i = 0; i < line.len; i++)
		if ((unsigned char)p[i] < 32 || p[i] == 127)
			p[i] = ' ';
	return str_make(p, line.len); /* what an administrator's program says is no stranger's text */
}

struct said {
	struct route *rt;
	struct addr *addr;
	const struct site_router *r;
	struct str rest;               /* behind the first word */
	struct driver_out *out;
};

static enum verdict wrong(struct err *err, const char *what, struct str value)
{
	err_set(err, ST_ERROR, "unknown %s \"%.*s\" yielded by command", what, STR_FMT(str_sub(value, 0, 200)));
	return RT_DEFER;
}

static enum verdict said_hosts(struct said *s, struct str list, unsigned flags, struct err *err)
{
	const struct hosts_wish wish = { .find_flags = flags, .find_failed = STR_LIT("defer"), .all_ignored = STR_LIT("defer"),
		.dnssec_request = s->r->dnssec_request, .dnssec_require = s->r->dnssec_require };
	const struct site_transport *t = s->out->transport;
	struct host_items items = { .n = 0 };

	if (list.len && host_items_parse(list, s->rt->a, &items, err) != ST_OK)
		return RT_DEFER;
	if (t && !t->smtp) {
		s->out->host_text = list;
		return RT_ACCEPT;
	}
	return items.n ? route_hosts(s->rt, s->addr, s->r, &items, &wish, s->out, err) : RT_ACCEPT;
}

static enum verdict said_accept(struct said *s, struct err *err)
{
	struct str transport, hosts = STR_NULL, lookup, data;
	unsigned flags = 0;

	if (text_keyed(s->rt->ev, s->rest, STR_LIT("data"), &data)) {
		s->addr->address_data = data;
		eval_set(s->rt->ev, EV_address_data, data);
	}
	if (text_keyed(s->rt->ev, s->rest, STR_LIT("lookup"), &lookup)) {
		if (!str_isi(lookup, "bydns") && !str_isi(lookup, "byname"))
			return wrong(err, "lookup type", lookup);
		flags = str_isi(lookup, "bydns") ? FIND_DNS_ONLY : 0;
	}
	if (text_keyed(s->rt->ev, s->rest, STR_LIT("transport"), &transport)) {
		s->out->transport = site_transport_find(s->rt->site, transport);
		if (!s->out->transport)
			return wrong(err, "transport name", transport);
	} else if ((s->r->transport || !route_is_verify(s->rt)) && route_transport(s->rt, s->r, &s->out->transport, err) != ST_OK) {
		return RT_DEFER;
	}
	text_keyed(s->rt->ev, s->rest, STR_LIT("hosts"), &hosts);
	return said_hosts(s, hosts, flags, err);
}

static enum verdict said_redirect(struct said *s, struct err *err)
{
	return redirect_text(s->rt, s->addr, s->r, s->rest, s->out, err);
}

/* Only the text behind the word is told. */
static enum verdict told(struct said *s, enum verdict verdict, struct err *err)
{
	if (s->rest.len)
		err_set(err, verdict == RT_FAIL ? ST_FAIL : ST_DEFER, "%.*s", STR_FMT(s->rest));
	return verdict;
}

static enum verdict said_fail(struct said *s, struct err *err) { return told(s, RT_FAIL, err); }
static enum verdict said_defer(struct said *s, struct err *err) { return told(s, RT_DEFER, err); }
static enum verdict said_freeze(struct said *s, struct err *err) { return told(s, RT_FREEZE, err); }

static enum verdict said_decline(struct said *s, struct err *err)
{
	(void)s;
	(void)err;
	return RT_DECLINE;
}

static enum verdict said_pass(struct said *s, struct err *err)
{
	(void)s;
	(void)err;
	return RT_PASS;
}

static const struct {
	const char *word;
	enum verdict (*run)(struct said *s, struct err *err);
} words[] = {
	{ "accept", said_accept }, { "decline", said_decline }, { "defer", said_defer }, { "fail", said_fail }, { "freeze", said_freeze },
	{ "pass", said_pass }, { "redirect", said_redirect },
};

static enum verdict line_work(struct said *s, struct str line, struct err *err)
{
	uint32_t n = 0;

	while (n < line.len && !ascii_is_space(line.p[n]))
		n++;
	s->rest = str_trim(str_from(line, n));
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (str_isi(str_sub(line, 0, n), words[i].word))
			return words[i].run(s, err);
	err_set(err, ST_ERROR, "bad command yield: %.*s", STR_FMT(str_sub(line, 0, 200)));
	return RT_DEFER;
}

static enum verdict queryprogram_run(struct route *rt, struct addr *addr, const struct site_router *r, struct driver_out *out, struct err *err)
{
	struct said said = { .rt = rt, .addr = addr, .r = r, .out = out };
	struct ipc_program_answer answer = { .code = 0 };
	enum verdict verdict;
	struct str line;

	if (program_ask(rt, r->own, r, &answer, err) != ST_OK)
		return RT_DEFER;
	verdict = answer_judge(r, &answer, err);
	if (verdict != RT_ACCEPT)
		return verdict;
	line = line_take(rt->a, answer.output);
	route_trace(rt, "  the command said: %.*s", STR_FMT(line));
	if (!line.len) {
		err_set(err, ST_ERROR, "%.*s router: command failed to return data", STR_FMT(r->conf->name));
		return RT_DEFER;
	}
	return line_work(&said, line, err);
}

const struct router_driver router_queryprogram = { &conf_table_router_queryprogram, queryprogram_compile, queryprogram_run, false };

/* SPDX-License-Identifier: ISC */
/* The rules: compiling them, and what they make of one address. */
#include "common/lang/rewrite_priv.h"

#include <string.h>

#include "common/base/log.h"
#include "common/conf/log_selector.h"
#include "common/conf/read.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_list.h"
#include "common/lang/lang_priv.h"
#include "common/mail/addrlist.h"

static const struct { char flag; unsigned kinds; } flag_kinds[] = {
	{ 'E', REWRITE_ENVELOPE }, { 'F', REWRITE_ENV_FROM }, { 'T', REWRITE_ENV_TO }, { 'b', REWRITE_BCC }, { 'c', REWRITE_CC }, { 'f', REWRITE_FROM },
	{ 'h', REWRITE_HEADERS }, { 'r', REWRITE_REPLY_TO }, { 's', REWRITE_SENDER }, { 't', REWRITE_TO }, { 'S', REWRITE_SMTP },
};

static const struct { enum rewrite_kind kind; const char *name; } kind_names[] = {
	{ REWRITE_SENDER, "sender:" }, { REWRITE_FROM, "from:" }, { REWRITE_TO, "to:" }, { REWRITE_CC, "cc:" }, { REWRITE_BCC, "bcc:" },
	{ REWRITE_REPLY_TO, "reply-to:" }, { REWRITE_ENV_FROM, "env-from" }, { REWRITE_ENV_TO, "env-to" }, { REWRITE_SMTP_FROM, "smtp sender" },
	{ REWRITE_SMTP_TO, "smtp recipient" },
};

const char *rewrite_kind_name(enum rewrite_kind kind)
{
	for (size_t i = 0; i < sizeof kind_names / sizeof *kind_names; i++)
		if (kind_names[i].kind == kind)
			return kind_names[i].name;
	return "?";
}

/* ---- compiling ---- */

static enum status rule_compile(struct lang *lang, struct arena *a, const struct conf_rewrite *from, unsigned number, unsigned all, struct rewrite_rule *out,
	struct err *err)
{
	/* One item, whatever is in it: a separator that nobody writes. */
	struct str list = str_printf(a, "<\001 %.*s", STR_FMT(from->pattern.text));
	enum status st;

	out->number = number;
	for (uint32_t i = 0; i < from->flags.len; i++) {
		char c = from->flags.p[i];

		for (size_t k = 0; k < sizeof flag_kinds / sizeof *flag_kinds; k++)
			if (flag_kinds[k].flag == c)
				out->kinds |= flag_kinds[k].kinds;
		out->quit |= c == 'q';
		out->qualify |= c == 'Q';
		out->repeat |= c == 'R';
		out->whole |= c == 'w';
	}
	if (!out->kinds)
		out->kinds = all;
	out->pattern_text = from->pattern.text;
	if (out->kinds & REWRITE_SMTP)
		st = expansion_compile(lang, a, from->pattern.text, &out->smtp, err);
	else
		st = lang_list_build(lang, a, LIST_ADDRESS, list, true, &out->pattern, err);
	if (st)
		return err_prefix(err, "pattern");
	out->stop = str_is(from->replacement.text, "*");
	if (!out->stop && (st = expansion_compile(lang, a, from->replacement.text, &out->replacement, err)))
		return err_prefix(err, "replacement");
	return ST_OK;
}

static enum status rules_compile(struct lang *lang, struct arena *a, const struct conf_rewrite *from, uint32_t n, unsigned all, const struct rewrite **out,
	struct err *err)
{
	struct rewrite *rules = arena_alloc(a, sizeof *rules);

	*out = NULL;
	if (!n)
		return ST_OK;
	rules->v = arena_alloc(a, n * sizeof *rules->v);
	for (; rules->n < n; rules->n++) {
		enum status st = rule_compile(lang, a, &from[rules->n], rules->n + 1, all, &rules->v[rules->n], err);

		if (st)
			return err_prefix(err, "rewriting rule %u", rules->n + 1);
		rules->kinds |= rules->v[rules->n].kinds;
	}
	*out = rules;
	return ST_OK;
}

enum status rewrite_rules(struct lang *lang, const struct rewrite **out, struct err *err)
{
	*out = lang->rewrite;
	if (lang->rewrite_compiled || !lang->conf)
		return ST_OK;
	if (rules_compile(lang, &lang->arena, lang->conf->rewrite, lang->conf->n_rewrite, REWRITE_HEADERS | REWRITE_ENVELOPE, out, err))
		return ST_ERROR;
	lang->rewrite = *out;
	lang->rewrite_compiled = true;
	return ST_OK;
}

enum status rewrite_compile(struct lang *lang, struct arena *a, struct str list, struct conf_place place, const struct rewrite **out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(list);
	struct conf_rewrite *v = NULL;
	uint32_t n = 0, room = 0;
	struct str item;

	while (lang_split_next(&split, a, &item)) {
		if (!item.len)
			continue;
		if (n == CONF_RULES_MAX)
			return err_set(err, ST_ERROR, "more than %d rules", CONF_RULES_MAX);
		if (n == room) {
			struct conf_rewrite *more = arena_alloc(a, (room = room ? room * 2 : 4) * sizeof *more);

			if (n)
				memcpy(more, v, n * sizeof *more);
			v = more;
		}
		if (conf_rewrite_parse(a, item, place, &v[n], err))
			return ST_ERROR;
		for (uint32_t i = 0; i < v[n].flags.len; i++)
			if (strchr("EFTS", v[n].flags.p[i]))
				return err_set(err, ST_ERROR, "flag %c is not for header fields", v[n].flags.p[i]);
		n++;
	}
	return rules_compile(lang, a, v, n, REWRITE_HEADERS, out, err);
}

unsigned rewrite_kinds(const struct rewrite *rules)
{
	return rules ? rules->kinds : 0;
}

/* ---- what is logged ---- */

static void rewrite_log(struct eval *ev, unsigned targets, struct str text)
{
	const struct lang_services *services = lang_services(ev->lang);

	if (services->log)
		services->log(services->ctx, targets, text);
}

static bool selected(const struct eval *ev)
{
	struct lang *lang = ev->lang;

	if (!lang->log_selector && lang->conf)
		log_selector_parse(lang->conf->main.log_selector.text, &lang->log_selector, NULL);
	return lang->log_selector & LOG_SEL(address_rewrite);
}

static void log_rewritten(struct eval *ev, struct str from, enum rewrite_kind kind, struct str to, const struct rewrite_rule *rule)
{
	if (selected(ev))
		rewrite_log(ev, LOG_MAIN, str_printf(ev->arena, "\"%.*s\" from %s rewritten as \"%.*s\" by rule %u", STR_FMT(from), rewrite_kind_name(kind),
			STR_FMT(to), rule->number));
}

/* ---- one address ---- */

static void address_enter(struct eval *ev, struct str address)
{
	struct str local, domain;

	if (!address_split(address, &local, &domain))
		domain = STR_NULL;
	eval_set(ev, EV_local_part, local);
	eval_set(ev, EV_domain, domain);
}

static enum status rule_matches(struct eval *ev, const struct rewrite_rule *rule, struct str address, struct err *err)
{
	/* Domains in lower case, local parts as they are. */
	struct list_subject subject = { .text = address_lower_domain(ev->arena, address), .caseful = true };
	enum status st;

	ev->n_num = 0;
	st = lang_list_match(ev, rule->pattern, &subject, NULL, err);
	if (st)
		return st;
	ev->num[0] = address;
	if (!ev->n_num)
		ev->n_num = 1;
	return ST_OK;
}

/* The phrase in front of the brackets may have octets that need encoding. */
static struct str whole_encode(struct eval *ev, struct str whole)
{
	ptrdiff_t angle = str_rfind(whole, '<');
	struct str phrase, encoded;
	bool bad = false;

	if (angle <= 0)
		return whole;
	phrase = str_trim(str_sub(whole, 0, (size_t)angle));
	for (uint32_t i = 0; i < phrase.len; i++)
		bad |= (unsigned char)phrase.p[i] > 126 || ((unsigned char)phrase.p[i] < 32 && phrase.p[i] != '\t');
	if (!bad)
		return whole;
	encoded = header_encode_words(ev->arena, phrase, header_charset(ev));
	return str_printf(ev->arena, "%.*s %.*s", STR_FMT(encoded), STR_FMT(str_from(whole, (size_t)angle)));
}

/* What the replacement gave, checked; false: it is not used. *whole_out: with name and brackets, for flag w. */
static bool result_take(struct eval *ev, const struct rewrite_rule *rule, enum rewrite_kind kind, struct str before, struct str text, struct str *address_out, struct str *whole_out)
{
	struct addrlist_item item;
	struct err err = ERR_INIT;

	if (kind & (REWRITE_ENV_FROM | REWRITE_SMTP_FROM) && str_is(str_trim(text), "<>")) { /* the sender may become the null sender */
		*address_out = *whole_out = (struct str){ "", 0, true };
		return true;
	}
	if (addrlist_item_parse(text, ADDR_LENIENT | ADDR_UTF8, ev->arena, &item, &err)) {
		rewrite_log(ev, LOG_MAIN | LOG_PANIC, str_printf(ev->arena, "Rewrite of %.*s yielded unparseable address: %s in address %.*s", STR_FMT(before),
			err.text, STR_FMT(str_sub(text, 0, 1024))));
		return false;
	}
	*whole_out = whole_encode(ev, text);
	if (!address_split(item.addr, &(struct str){ 0 }, &(struct str){ 0 })) {
		struct str domain = lang_qualify_recipient(ev->lang);

		if (!rule->qualify) {
			rewrite_log(ev, LOG_MAIN | LOG_PANIC, str_printf(ev->arena, "Rewrite of %.*s yielded unqualified address \"%.*s\"", STR_FMT(before),
				STR_FMT(str_sub(text, 0, 1024))));
			return false;
		}
		item.addr = str_printf(ev->arena, "%.*s@%.*s", STR_FMT(item.addr), STR_FMT(domain));
		*whole_out = item.addr;
	}
	item.addr.tainted = whole_out->tainted = true;
	if (item.addr.len > ADDR_LENIENT_MAX) {
		rewrite_log(ev, LOG_MAIN | LOG_PANIC, str_printf(ev->arena, "Rewrite of %.*s yielded an address of %u octets", STR_FMT(before), item.addr.len));
		return false;
	}
	*address_out = item.addr;
	return true;
}

enum step { STEP_NEXT, STEP_AGAIN, STEP_STOP };

struct work {
	enum rewrite_kind kind;
	struct str address, whole;
	bool changed;
};

static void expansion_failed(struct eval *ev, struct str text, const struct err *err)
{
	rewrite_log(ev, LOG_MAIN | LOG_PANIC, str_printf(ev->arena, "Expansion of %.*s failed while rewriting: %s", STR_FMT(str_sub(text, 0, 1024)), err->text));
}

static enum step rule_apply(struct eval *ev, const struct rewrite_rule *rule, struct work *w)
{
	struct str text, address, whole;
	struct err err = ERR_INIT;
	enum status st = rule_matches(ev, rule, w->address, &err);

	if (st == ST_DEFER || st == ST_ERROR)
		rewrite_log(ev, LOG_MAIN | LOG_PANIC, str_printf(ev->arena, "pattern \"%.*s\" could not be matched while rewriting: %s", STR_FMT(rule->pattern_text),
			err.text));
	if (st)
		return STEP_NEXT;
	if (rule->stop)
		return STEP_STOP;
	address_enter(ev, w->address);
	st = expand(ev, rule->replacement, &text, &err);
	if (st == ST_FAIL)
		return rule->quit ? STEP_STOP : STEP_NEXT;
	if (st) {
		expansion_failed(ev, expansion_text(rule->replacement), &err);
		return STEP_STOP;
	}
	if (!result_take(ev, rule, w->kind, w->address, text, &address, &whole))
		return STEP_STOP;
	log_rewritten(ev, w->address, w->kind, rule->whole && w->kind & REWRITE_HEADERS ? whole : address, rule);
	w->address = address;
	w->changed = true;
	if (rule->whole && w->kind & REWRITE_HEADERS)
		w->whole = whole;
	else if (w->whole.len) /* what an earlier rule put around it stays */
		w->whole = rewrite_item_put(ev->arena, w->whole, address);
	if (!address.len)
		return STEP_STOP;
	return rule->repeat ? STEP_AGAIN : rule->quit ? STEP_STOP : STEP_NEXT;
}

/* $0 and its kin, $local_part and $domain are put back: rewriting may happen in the middle of something else. */
struct saved { struct str local, domain, num[EVAL_NUMS]; int n; };

static void state_save(const struct eval *ev, struct saved *s)
{
	s->local = eval_get(ev, EV_local_part);
	s->domain = eval_get(ev, EV_domain);
	s->n = ev->n_num;
	memcpy(s->num, ev->num, sizeof *s->num * (size_t)s->n);
}

static void state_restore(struct eval *ev, const struct saved *s)
{
	eval_set(ev, EV_local_part, s->local);
	eval_set(ev, EV_domain, s->domain);
	ev->n_num = s->n;
	memcpy(ev->num, s->num, sizeof *s->num * (size_t)s->n);
}

bool rewrite_run(struct eval *ev, const struct rewrite *rules, enum rewrite_kind kind, struct str address, struct str *address_out, struct str *whole_out)
{
	struct work w = { .kind = kind, .address = address };
	struct saved saved;
	enum step step = STEP_NEXT;
	int repeats = 0;

	if (!rules || !(rules->kinds & kind) || !address.len || str_find(address, '@') < 0)
		return false;
	state_save(ev, &saved);
	for (uint32_t i = 0; i < rules->n && step != STEP_STOP; i++) {
		const struct rewrite_rule *rule = &rules->v[i];
		bool rewrote = false;

		if (!(rule->kinds & kind) || rule->smtp)
			continue;
		for (repeats = 0; (step = rule_apply(ev, rule, &w)) == STEP_AGAIN; repeats++) {
			rewrote = true;
			if (repeats == REWRITE_REPEAT_MAX) {
				rewrite_log(ev, LOG_MAIN | LOG_PANIC, STR_LIT("rewrite rule repeat ignored after 10 times"));
				break;
			}
		}
		if (rewrote && rule->quit)
			step = STEP_STOP;
	}
	state_restore(ev, &saved);
	*address_out = w.address;
	*whole_out = w.whole;
	return w.changed;
}

struct str rewrite_address_by(struct eval *ev, const struct rewrite *rules, enum rewrite_kind kind, struct str address)
{
	struct str out, whole;

	return rewrite_run(ev, rules, kind, address, &out, &whole) ? out : address;
}

struct str rewrite_address(struct eval *ev, enum rewrite_kind kind, struct str address)
{
	const struct rewrite *rules;

	return rewrite_rules(ev->lang, &rules, NULL) ? address : rewrite_address_by(ev, rules, kind, address);
}

/* ---- the argument of MAIL and RCPT ---- */

static enum step smtp_apply(struct eval *ev, const struct rewrite_rule *rule, enum rewrite_kind kind, struct str *text)
{
	struct str whole;
	struct err err = ERR_INIT;
	struct regex_match m;
	struct regex *re;
	struct str pattern, out;
	enum status st = expand(ev, rule->smtp, &pattern, &err);

	if (!st)
		st = eval_regex(ev, pattern, 0, &re, &err);
	if (!st)
		st = regex_match(re, *text, 0, &m, &err);
	if (st) {
		if (st != ST_FAIL)
			expansion_failed(ev, rule->pattern_text, &err);
		return STEP_NEXT;
	}
	if (rule->stop)
		return STEP_STOP;
	for (int i = 0; i < m.n; i++)
		ev->num[i] = m.group[i];
	ev->num[0] = *text;
	ev->n_num = m.n ? m.n : 1;
	st = expand(ev, rule->replacement, &out, &err);
	if (st == ST_FAIL)
		return rule->quit ? STEP_STOP : STEP_NEXT;
	if (st) {
		expansion_failed(ev, expansion_text(rule->replacement), &err);
		return STEP_STOP;
	}
	if (!result_take(ev, rule, kind, *text, out, &out, &whole))
		return STEP_STOP;
	log_rewritten(ev, *text, kind, out, rule);
	*text = out;
	return rule->repeat ? STEP_AGAIN : rule->quit ? STEP_STOP : STEP_NEXT;
}

struct str rewrite_smtp(struct eval *ev, enum rewrite_kind kind, struct str argument)
{
	const struct rewrite *rules;
	struct saved saved;
	enum step step = STEP_NEXT;

	if (rewrite_rules(ev->lang, &rules, NULL) || !(rewrite_kinds(rules) & kind))
		return argument;
	state_save(ev, &saved);
	eval_set(ev, EV_local_part, STR_NULL);
	eval_set(ev, EV_domain, STR_NULL);
	for (uint32_t i = 0; i < rules->n && step != STEP_STOP; i++) {
		const struct rewrite_rule *rule = &rules->v[i];

		if (!rule->smtp || !(rule->kinds & kind))
			continue;
		for (int repeats = 0; (step = smtp_apply(ev, rule, kind, &argument)) == STEP_AGAIN && repeats < REWRITE_REPEAT_MAX; repeats++)
			;
		if (step == STEP_AGAIN && rule->quit)
			step = STEP_STOP;
	}
	state_restore(ev, &saved);
	return argument;
}

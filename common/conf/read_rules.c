/* SPDX-License-Identifier: ISC */
/* Retry rules (specification, chapter 32) and rewriting rules (chapter 31). */
#include "common/conf/read.h"
#include "common/conf/reader.h"

#include <string.h>

/* ---- retry ---- */

static const struct {
	const char *name;
	enum retry_error error;
	char via;
	bool code; /* three characters of a reply code stand in place of "4xx" */
} retry_names[] = {
	{ "*", RETRY_NONE, 0, false }, { "auth_failed", RETRY_AUTH_FAILED, 0, false }, { "data_4xx", RETRY_DATA_4XX, 0, true },
	{ "mail_4xx", RETRY_MAIL_4XX, 0, true }, { "rcpt_4xx", RETRY_RCPT_4XX, 0, true }, { "lookup", RETRY_LOOKUP, 0, false },
	{ "lost_connection", RETRY_LOST_CONNECTION, 0, false }, { "refused", RETRY_REFUSED, 0, false },
	{ "refused_A", RETRY_REFUSED, 'A', false }, { "refused_MX", RETRY_REFUSED, 'M', false }, { "timeout", RETRY_TIMEOUT, 0, false },
	{ "timeout_A", RETRY_TIMEOUT, 'A', false }, { "timeout_MX", RETRY_TIMEOUT, 'M', false },
	{ "timeout_connect", RETRY_TIMEOUT_CONNECT, 0, false }, { "timeout_connect_A", RETRY_TIMEOUT_CONNECT, 'A', false },
	{ "timeout_connect_MX", RETRY_TIMEOUT_CONNECT, 'M', false }, { "tls_required", RETRY_TLS_REQUIRED, 0, false },
	{ "quota", RETRY_QUOTA, 0, false },
	{ "timeout_DNS", RETRY_TIMEOUT, 0, false }, /* has never meant more than timeout */
};
enum { RETRY_NAMES = sizeof retry_names / sizeof *retry_names };

/* "4xx", "45x", "452" into a range. */
static bool code_parse(struct str s, struct conf_retry *out)
{
	bool any1, any2;
	uint16_t base;

	if (s.len != 3 || s.p[0] != '4')
		return false;
	any1 = s.p[1] == 'x';
	any2 = s.p[2] == 'x';
	if ((!any1 && !ascii_is_digit(s.p[1])) || (!any2 && !ascii_is_digit(s.p[2])) || (any1 && !any2))
		return false;
	base = (uint16_t)(400 + (any1 ? 0 : (s.p[1] - '0') * 10) + (any2 ? 0 : s.p[2] - '0'));
	out->code_min = base;
	out->code_max = (uint16_t)(base + (any1 ? 99 : any2 ? 9 : 0));
	return true;
}

enum status conf_retry_error_parse(struct str s, struct conf_retry *out, struct err *err)
{
	char typed[65];
	const char *near = NULL;
	struct conf_nearest nearest;

	out->quota_age = -1;
	conf_nearest_begin(&nearest, typed, sizeof typed, s);
	for (unsigned i = 0; i < RETRY_NAMES; i++) {
		size_t len = strlen(retry_names[i].name);
		out->error = retry_names[i].error;
		out->via = retry_names[i].via;
		if (retry_names[i].code && s.len == len && !memcmp(s.p, retry_names[i].name, len - 3) && code_parse(str_from(s, len - 3), out))
			return ST_OK;
		if (!retry_names[i].code && str_is(s, retry_names[i].name))
			return ST_OK;
		near = conf_nearest_pick(&nearest, retry_names[i].name);
	}
	if (str_begins(s, "quota_")) {
		out->error = RETRY_QUOTA;
		out->via = 0;
		return conf_time_parse(str_from(s, 6), &out->quota_age, err);
	}
	return err_set(err, ST_ERROR, "unknown error name \"%s\"%s%s%s", typed, near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

struct str conf_retry_error_format(const struct conf_retry *r, struct arena *a)
{
	char time[32];

	for (unsigned i = 0; i < RETRY_NAMES; i++) {
		int stem = (int)strlen(retry_names[i].name) - 3;
		if (retry_names[i].error != r->error || retry_names[i].via != r->via)
			continue;
		if (retry_names[i].code)
			return r->code_max == r->code_min ? str_printf(a, "%.*s%u", stem, retry_names[i].name, r->code_min) :
				str_printf(a, "%.*s%s", stem, retry_names[i].name, r->code_max - r->code_min > 9 ? "4xx" :
				arena_printf(a, "%ux", r->code_min / 10));
		if (r->quota_age < 0)
			return str_of(retry_names[i].name);
	}
	conf_time_format(time, r->quota_age);
	return str_printf(a, "quota_%s", time);
}

/* One of "F,cutoff,interval", "G,cutoff,interval,factor", "H,...". */
static enum status step_parse(struct str s, struct conf_retry_step *out, struct err *err)
{
	struct str part[4];
	unsigned n = 0;
	enum status st;

	for (; n < 4 && str_split(&s, ',', &part[n]); n++)
		part[n] = str_trim(part[n]);
	out->kind = part[0].len == 1 ? ascii_upper(part[0].p[0]) : '?';
	if (out->kind != 'F' && out->kind != 'G' && out->kind != 'H')
		return err_set(err, ST_ERROR, "\"%.*s\": F, G or H must stand here", STR_FMT(part[0]));
	if (n != (out->kind == 'F' ? 3u : 4u) || s.p)
		return err_set(err, ST_ERROR, out->kind == 'F' ? "F: write F,CUTOFF,INTERVAL" : "%c: write %c,CUTOFF,INTERVAL,FACTOR", out->kind, out->kind);
	st = conf_time_parse(part[1], &out->cutoff, err);
	if (st == ST_OK)
		st = conf_time_parse(part[2], &out->interval, err);
	if (st == ST_OK && out->kind != 'F')
		st = conf_fixed_parse(part[3], &out->factor, err);
	if (st != ST_OK)
		return st;
	if (out->interval <= 0 || out->cutoff <= 0)
		return err_set(err, ST_ERROR, "%c: cutoff and interval must be more than nothing", out->kind);
	if (out->kind != 'F' && out->factor < 1000)
		return err_set(err, ST_ERROR, "%c: the factor must be 1 or more", out->kind);
	return ST_OK;
}

static enum status retry_parse(struct conf *conf, struct str s, struct conf_place place, struct conf_retry *out, struct err *err)
{
	struct arena *a = &conf->arena;
	struct str word, part;
	uint32_t n = 0;

	out->place = out->pattern.place = out->senders.place = place;
	out->pattern.set = true;
	if (conf_string_take(&s, true, a, &out->pattern.text, err) != ST_OK)
		return ST_ERROR;
	s = conf_skip(s);
	while (n < s.len && !ascii_is_space(s.p[n]))
		n++;
	word = str_sub(s, 0, n);
	s = conf_skip(str_from(s, n));
	if (!word.len)
		return err_set(err, ST_ERROR, "the name of an error or * must follow the pattern");
	if (conf_retry_error_parse(word, out, err) != ST_OK)
		return ST_ERROR;
	if (str_begins(s, "senders")) {
		s = conf_skip(str_from(s, 7));
		if (!s.len || *s.p != '=')
			return err_set(err, ST_ERROR, "\"=\" must follow \"senders\"");
		s = conf_skip(str_from(s, 1));
		out->senders.set = true;
		if (conf_string_take(&s, true, a, &out->senders.text, err) != ST_OK)
			return ST_ERROR;
		s = conf_skip(s);
	}
	while (str_split(&s, ';', &part)) {
		struct conf_retry_step step = { 0 };
		part = str_trim(part);
		if (!part.len)
			continue;
		if (out->n == 64)
			return err_set(err, ST_ERROR, "more than 64 steps");
		if (step_parse(part, &step, err) != ST_OK)
			return ST_ERROR;
		if (out->n && step.cutoff <= out->steps[out->n - 1].cutoff)
			conf_problem_add(conf, CONF_WARNING, place, "retry rule: a step's cutoff is not later than that of the step before: it is never used");
		out->steps = conf_array_grow(a, out->steps, out->n, sizeof *out->steps);
		out->steps[out->n++] = step;
	}
	return ST_OK;
}

void conf_retry_line(struct conf *conf, struct str line, struct conf_place place)
{
	struct conf_retry rule = { .quota_age = -1 };
	struct err err = ERR_INIT;

	if (conf->n_retry >= CONF_RULES_MAX) {
		conf_problem_add(conf, CONF_ERROR, place, "more than %d retry rules", CONF_RULES_MAX);
		return;
	}
	if (retry_parse(conf, line, place, &rule, &err) != ST_OK) {
		conf_problem_add(conf, CONF_ERROR, place, "retry rule: %s", err.text);
		return;
	}
	conf->retry = conf_array_grow(&conf->arena, conf->retry, conf->n_retry, sizeof *conf->retry);
	conf->retry[conf->n_retry++] = rule;
}

/* ---- rewrite ---- */

enum status conf_rewrite_parse(struct arena *a, struct str s, struct conf_place place, struct conf_rewrite *out, struct err *err)
{
	struct buf flags = BUF_LIMIT(256);
	enum status st = ST_OK;

	*out = (struct conf_rewrite){ .place = place };
	out->pattern = out->replacement = (struct conf_text){ STR_NULL, place, true };
	if (conf_string_take(&s, true, a, &out->pattern.text, err) != ST_OK)
		return ST_ERROR;
	s = conf_skip(s);
	if (!s.len)
		return err_set(err, ST_ERROR, "a replacement must follow the pattern; * for none");
	if (conf_string_take(&s, true, a, &out->replacement.text, err) != ST_OK)
		return ST_ERROR;
	for (s = conf_skip(s); st == ST_OK && s.len; s = str_from(s, 1)) {
		if (ascii_is_space(*s.p))
			continue;
		if (!strchr("EFTbcfhrstSqQRw", *s.p))
			st = err_set(err, ST_ERROR, "unknown flag \"%c\": there are E F T b c f h r s t S q Q R w", *s.p >= ' ' && *s.p < 127 ? *s.p : '?');
		else if (str_find(buf_str(&flags), *s.p) < 0)
			buf_addc(&flags, *s.p);
	}
	out->flags = str_dup(a, buf_str(&flags));
	if (st == ST_OK && str_find(out->flags, 'S') >= 0 && !str_begins(out->pattern.text, "^") && !str_begins(out->pattern.text, "\\N^"))
		st = err_set(err, ST_ERROR, "flag S needs a regular expression as pattern: it begins with ^");
	buf_clear(&flags);
	return st;
}

/* A rule without flags that say what is for all but arguments. */
static void rewrite_note(struct conf *conf, struct str flags)
{
	bool any = false, args = false, rcpt = false, data = false;

	for (uint32_t i = 0; i < flags.len; i++) {
		char c = flags.p[i];

		args |= c == 'S';
		rcpt |= c == 'E' || c == 'T';
		data |= strchr("EFbcfhrst", c) != NULL;
		any |= strchr("SETFbcfhrst", c) != NULL;
	}
	conf->rewrites_args |= args;
	conf->rewrites_rcpt |= rcpt || !any;
	conf->rewrites_data |= data || !any;
}

void conf_rewrite_line(struct conf *conf, struct str line, struct conf_place place)
{
	struct conf_rewrite rule = { 0 };
	struct err err = ERR_INIT;

	if (conf->n_rewrite >= CONF_RULES_MAX) {
		conf_problem_add(conf, CONF_ERROR, place, "more than %d rewriting rules", CONF_RULES_MAX);
		return;
	}
	if (conf_rewrite_parse(&conf->arena, line, place, &rule, &err) != ST_OK) {
		conf_problem_add(conf, CONF_ERROR, place, "rewriting rule: %s", err.text);
		return;
	}
	conf->rewrite = conf_array_grow(&conf->arena, conf->rewrite, conf->n_rewrite, sizeof *conf->rewrite);
	conf->rewrite[conf->n_rewrite++] = rule;
	rewrite_note(conf, rule.flags);
}

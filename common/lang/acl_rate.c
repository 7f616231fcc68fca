/* SPDX-License-Identifier: ISC */
/* ratelimit and seen: conditions about what happened before, kept in the hints (specification, sections 44.38 to 44.44). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"

/* ---- the hints ---- */

/* Hints are advice: without them the statement is passed over, and mail flows. */
static enum acl_rc hints_absent(struct acl_state *s, const char *condition, const struct err *why)
{
	acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "%s: %s: statement passed over", condition, why->text));
	acl_trace(s, "%s: %s", condition, why->text);
	return RC_NEVER;
}

static enum status hint_ask(struct acl_state *s, const struct ipc_hint_ask *ask, struct ipc_hint_answer *out, struct err *err)
{
	const struct lang_services *services = &s->ev->lang->services;

	*out = (struct ipc_hint_answer){ 0 };
	s->ev->deps |= DEP_SESSION | DEP_WORLD;
	if (!services->hint)
		return err_set(err, ST_DEFER, "there are no hints here");
	return services->hint(services->ctx, s->ev->arena, ask, out, err);
}

/* Arguments are separated by slashes; doubled ones are part of them. */
static bool argument_next(struct acl_state *s, struct lang_split *split, struct str *out)
{
	if (!split->rest.len || !lang_split_next(split, s->ev->arena, out))
		return false;
	*out = str_trim(*out);
	return true;
}

/* ---- ratelimit ---- */

enum rate_mode { RATE_NONE, RATE_CONN, RATE_MAIL, RATE_BYTE, RATE_RCPT, RATE_ADDR, RATE_CMD, RATE_MODES };
enum rate_update { UPDATE_NONE, UPDATE_LEAKY, UPDATE_STRICT, UPDATE_READONLY };
/* For how long a rate that was reckoned holds: asked twice, an event counts once. */
enum rate_life { LIFE_ACL, LIFE_MESSAGE, LIFE_CONNECTION };

enum {
	RATE_NAME_MAX = 200,
	STAGES_RATE_MAIL = STAGES_MESSAGE & ~STAGE(ACL_NOTSMTP_START),
	STAGES_RATE_RCPT = STAGE(ACL_RCPT) | STAGE(ACL_PREDATA) | STAGE(ACL_MIME) | STAGE(ACL_DKIM) | STAGE(ACL_DATA) | STAGE(ACL_PRDR),
	STAGES_RATE_CONN = STAGES_ALL & ~STAGES_NOT_SMTP,
};

static const struct {
	const char *name, *key;       /* key: how the mode is named in the hint's key */
	uint32_t stages;              /* elsewhere it is only read */
} rate_modes[RATE_MODES] = {
	[RATE_NONE] = { "", "", 0 },
	[RATE_CONN] = { "per_conn", "per_conn", STAGES_RATE_CONN },
	[RATE_MAIL] = { "per_mail", "per_mail", STAGES_RATE_MAIL },
	[RATE_BYTE] = { "per_byte", "per_mail", STAGES_RATE_MAIL },
	[RATE_RCPT] = { "per_rcpt", "per_rcpt", STAGES_RATE_RCPT },
	[RATE_ADDR] = { "per_addr", "per_rcpt", STAGE(ACL_RCPT) },
	[RATE_CMD] = { "per_cmd", "per_cmd", STAGES_ALL },
};

struct rate {
	double limit, count;
	int64_t period_s;
	enum rate_mode mode;
	enum rate_update update;
	bool has_count, has_unique;
	struct str unique, key;
};

static bool rate_error(struct err *err, const char *what)
{
	err_set(err, ST_ERROR, "error in arguments to \"ratelimit\" condition: %s", what);
	return false;
}

static bool decimal(struct str text, bool suffix, double *out)
{
	char copy[64], *end;

	text = str_trim(text);
	if (!text.len || text.len >= sizeof copy || !(ascii_is_digit(text.p[0]) || text.p[0] == '.'))
		return false;
	memcpy(copy, text.p, text.len);
	copy[text.len] = 0;
	*out = strtod(copy, &end);
	if (suffix && *end) {
		const char *units = "KMG", *unit = strchr(units, *end);

		if (!unit)
			return false;
		for (; unit >= units; unit--)
			*out *= 1024;
		end++;
	}
	return !*end && isfinite(*out) && *out >= 0;
}

/* A limit and a period that are written out are looked at when the configuration is read. */
static enum status compile_ratelimit(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	struct str rest = item->text;
	int64_t seconds;
	double limit;

	(void)c, (void)from;
	for (int i = 0; i < 2; i++) {
		ptrdiff_t slash = str_find(rest, '/');
		struct str word = str_trim(slash < 0 ? rest : str_sub(rest, 0, (size_t)slash));

		if (str_find(word, '$') >= 0 || str_find(word, '\\') >= 0)
			return ST_OK;
		if (i ? conf_time_parse(word, &seconds, err) || seconds <= 0 : !decimal(word, true, &limit))
			return err_set(err, ST_ERROR, "\"%.*s\" is no %s: write LIMIT / PERIOD / options / KEY", STR_FMT(word), i ? "time" : "number");
		rest = slash < 0 ? STR_NULL : str_from(rest, (size_t)slash + 1);
	}
	return ST_OK;
}

static bool mode_set(struct rate *r, enum rate_mode mode, struct err *err)
{
	if (r->mode)
		return rate_error(err, "conflicting per_* options");
	r->mode = mode;
	return true;
}

static bool update_set(struct rate *r, enum rate_update update, struct err *err)
{
	if (r->update)
		return rate_error(err, "conflicting update modes");
	r->update = update;
	return true;
}

/* One option; *known_out false: it begins the key. */
static bool rate_option(struct acl_state *s, struct rate *r, struct str word, bool *known_out, struct err *err)
{
	static const struct { const char *name; enum rate_update update; } updates[] = {
		{ "strict", UPDATE_STRICT }, { "leaky", UPDATE_LEAKY }, { "readonly", UPDATE_READONLY }, { "noupdate", UPDATE_READONLY },
	};

	*known_out = true;
	for (size_t i = 0; i < sizeof updates / sizeof *updates; i++)
		if (str_isi(word, updates[i].name))
			return update_set(r, updates[i].update, err);
	if (str_isi(word, "per_addr")) {
		if (r->has_unique)
			return rate_error(err, "conflicting options");
		r->unique = str_printf(s->ev->arena, "%.*s@%.*s", STR_FMT(s->ev->slot[EV_local_part]), STR_FMT(s->ev->slot[EV_domain]));
		r->has_unique = true;
	}
	for (int i = 1; i < RATE_MODES; i++)
		if (str_isi(word, rate_modes[i].name))
			return mode_set(r, (enum rate_mode)i, err);
	if (str_beginsi(word, "count=")) {
		if (r->has_count)
			return rate_error(err, "conflicting count= options");
		r->has_count = true;
		return decimal(str_from(word, 6), true, &r->count) || rate_error(err, "count= wants a number");
	}
	if (str_beginsi(word, "unique=")) {
		if (r->has_unique)
			return rate_error(err, "conflicting unique= options");
		r->has_unique = true;
		r->unique = str_from(word, 7);
		return true;
	}
	*known_out = false;
	return true;
}

static bool rate_parse(struct acl_state *s, struct str text, struct rate *r, struct str *limit, struct str *period, struct err *err)
{
	struct lang_split split = { text, '/' };
	struct str word;

	*r = (struct rate){ 0 };
	if (!argument_next(s, &split, limit) || !decimal(*limit, true, &r->limit))
		return rate_error(err, "the first is no number");
	if (!argument_next(s, &split, period) || conf_time_parse(*period, &r->period_s, err) || r->period_s <= 0)
		return rate_error(err, "the second is no time");
	while (argument_next(s, &split, &word)) {
		bool known;

		if (!rate_option(s, r, word, &known, err))
			return false;
		if (!known)
			r->key = r->key.len ? str_printf(s->ev->arena, "%.*s/%.*s", STR_FMT(r->key), STR_FMT(word)) : word;
	}
	if (!r->mode)
		r->mode = RATE_MAIL;
	if (!(rate_modes[r->mode].stages & STAGE(s->stage))) {
		if (s->stage && r->update && r->update != UPDATE_READONLY)
			return rate_error(err, arena_printf(s->ev->arena, "%s can only be read in the %s ACL", rate_modes[r->mode].name, acl_stage_name(s->stage)));
		r->update = UPDATE_READONLY;
	}
	if (!r->update)
		r->update = UPDATE_LEAKY;
	if (!r->key.len)
		r->key = s->ev->facts->client_ip;
	return true;
}

static double rate_count(const struct acl_state *s, const struct rate *r)
{
	if (r->has_count)
		return r->count;
	if (r->mode == RATE_BYTE)
		return (double)s->ev->facts->size;
	if (r->mode == RATE_RCPT && s->stage != ACL_RCPT)
		return (double)s->ev->facts->rcpt_accepted;
	return 1;
}

static enum rate_life rate_life(const struct acl_state *s, const struct rate *r)
{
	switch (r->mode) {
	case RATE_CONN:
		return LIFE_CONNECTION;
	case RATE_MAIL:
	case RATE_BYTE:
		return LIFE_MESSAGE;
	case RATE_RCPT:
		return s->stage == ACL_RCPT ? LIFE_ACL : LIFE_MESSAGE;
	case RATE_ADDR:
	case RATE_CMD:
	case RATE_NONE:
	case RATE_MODES:
		break;
	}
	return LIFE_ACL;
}

/* Where a reckoned rate is carried on: with the variables that live as long, under a name that no configuration can give. */
static struct eval_vars *rate_vars(struct acl_state *s, enum rate_life life)
{
	return life == LIFE_CONNECTION ? &s->ev->acl_c : life == LIFE_MESSAGE ? &s->ev->acl_m : &s->rates;
}

/* Short enough for a variable: of a long key the digest. */
static struct str rate_name(struct acl_state *s, struct str key)
{
	uint64_t sum = 14695981039346656037u; /* FNV-1a */

	if (key.len <= RATE_NAME_MAX)
		return str_printf(s->ev->arena, "!rate %.*s", STR_FMT(key));
	for (uint32_t i = 0; i < key.len; i++)
		sum = (sum ^ (unsigned char)key.p[i]) * 1099511628211u;
	return str_printf(s->ev->arena, "!rate %.*s %llx", RATE_NAME_MAX, key.p, (unsigned long long)sum);
}

static enum acl_rc rate_result(struct acl_state *s, const struct rate *r, struct str text)
{
	double rate = strtod(str_cstr(s->ev->arena, text), NULL);

	eval_set(s->ev, EV_sender_rate, str_printf(s->ev->arena, "%.1f", rate));
	acl_trace(s, "ratelimit: rate %.1f, limit %.1f", rate, r->limit);
	return rate < r->limit ? RC_FAIL : RC_OK;
}

static enum acl_rc cond_ratelimit(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct ipc_hint_answer answer;
	struct ipc_hint_ask ask = { .op = HINT_RATE, .space = STR_LIT("ratelimit"), .now_us = clock_wall_us() };
	struct str limit, period, known, name;
	struct eval_vars *vars;
	struct rate r;
	enum status st;

	(void)item;
	if (!rate_parse(s, text, &r, &limit, &period, err))
		return RC_ERROR;
	eval_set(s->ev, EV_sender_rate_limit, limit);
	eval_set(s->ev, EV_sender_rate_period, period);
	eval_set(s->ev, EV_sender_rate, STR_LIT("0.0"));
	ask.key = str_printf(s->ev->arena, "%lld/%s%s/%.*s", (long long)r.period_s, rate_modes[r.mode].key, r.has_unique ? "/unique" : "",
		STR_FMT(str_sub(r.key, 0, 900)));
	vars = rate_vars(s, rate_life(s, &r));
	name = rate_name(s, ask.key);
	if (r.update != UPDATE_READONLY && eval_var_get(vars, name, &known))
		return rate_result(s, &r, known);
	ask.value = str_printf(s->ev->arena, "%.17g %.17g %lld%s%s%s", rate_count(s, &r), r.limit, (long long)r.period_s,
		r.update == UPDATE_LEAKY ? " leaky" : "", r.update == UPDATE_READONLY ? " readonly" : "", r.has_unique ? " unique" : "");
	ask.unique = str_sub(r.unique, 0, 1024);
	st = hint_ask(s, &ask, &answer, err);
	if (st)
		return st == ST_ERROR ? RC_ERROR : hints_absent(s, "ratelimit", err);
	if (r.update != UPDATE_READONLY && eval_var_set(s->ev, vars, name, answer.value, err))
		return RC_ERROR;
	return rate_result(s, &r, answer.value);
}

/* ---- seen ---- */

enum { SEEN_REFRESH_S = 10 * 86400 };

struct seen {
	int64_t interval_s, refresh_s;
	bool before, readonly, write;
	struct str key;
};

static enum status seen_parse(struct acl_state *s, struct str text, struct seen *q, struct err *err)
{
	struct lang_split split = { text, '/' };
	struct str word;

	*q = (struct seen){ .refresh_s = SEEN_REFRESH_S, .key = s->ev->facts->client_ip };
	if (!argument_next(s, &split, &word))
		return err_set(err, ST_ERROR, "seen: a time is wanted");
	q->before = word.len && word.p[0] == '-';
	if (conf_time_parse(q->before ? str_from(word, 1) : word, &q->interval_s, err))
		return err_set(err, ST_ERROR, "seen: \"%.*s\" is no time", STR_FMT(expand_quote(s->ev, word)));
	while (argument_next(s, &split, &word)) {
		if (str_begins(word, "key="))
			q->key = str_from(word, 4);
		else if (str_is(word, "readonly"))
			q->readonly = true;
		else if (str_is(word, "write"))
			q->write = true;
		else if (!str_begins(word, "refresh=") || conf_time_parse(str_from(word, 8), &q->refresh_s, err))
			return err_set(err, ST_ERROR, "seen: unknown option \"%.*s\"", STR_FMT(expand_quote(s->ev, word)));
	}
	return ST_OK;
}

static void seen_put(struct acl_state *s, const struct seen *q, int64_t when)
{
	struct ipc_hint_ask ask = { .op = HINT_PUT, .space = STR_LIT("seen"), .key = str_sub(q->key, 0, 1024),
		.value = str_printf(s->ev->arena, "%lld", (long long)when), .expire_s = (uint64_t)(q->interval_s + 2 * q->refresh_s) };
	struct ipc_hint_answer answer;
	struct err err = ERR_INIT;

	if (hint_ask(s, &ask, &answer, &err))
		acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "seen: %s", err.text));
	acl_trace(s, "seen: %.*s is noted", STR_FMT(q->key));
}

static enum acl_rc cond_seen(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct ipc_hint_ask ask = { .op = HINT_GET, .space = STR_LIT("seen") };
	struct ipc_hint_answer answer;
	int64_t now = clock_wall(), test;
	uint64_t when = 0;
	struct seen q;
	enum status st;
	bool yes = false;

	(void)item;
	if (seen_parse(s, text, &q, err))
		return RC_ERROR;
	ask.key = str_sub(q.key, 0, 1024);
	st = hint_ask(s, &ask, &answer, err);
	if (st == ST_DEFER)
		return hints_absent(s, "seen", err);
	if (st == ST_ERROR)
		return RC_ERROR;
	test = now - q.interval_s;
	if (st == ST_OK && str_u64(answer.value, INT64_MAX, &when)) {
		yes = q.before ? (int64_t)when < test : (int64_t)when >= test;
		acl_trace(s, "seen: %.*s %llds ago", STR_FMT(q.key), (long long)(now - (int64_t)when));
	} else {
		st = ST_FAIL;
		acl_trace(s, "seen: %.*s never", STR_FMT(q.key));
	}
	if (q.readonly)
		return yes ? RC_OK : RC_FAIL;
	if (q.write || st == ST_FAIL || !q.before)
		seen_put(s, &q, now);
	else if (yes && (int64_t)when + q.refresh_s < now)
		seen_put(s, &q, test);
	return yes ? RC_OK : RC_FAIL;
}

const struct acl_item_row acl_items_rate[] = {
	{ "ratelimit", false, SHAPE_TEXT, STAGES_ALL, 0, cond_ratelimit, compile_ratelimit, false,
		"the rate of what is counted under a key has reached the limit: LIMIT / PERIOD / options / KEY" },
	{ "seen", false, SHAPE_TEXT, STAGES_ALL, 0, cond_seen, NULL, false,
		"the key was met within the time given, or, with a minus sign before it, for the first time before that: [-]TIME / options" },
	{ NULL }
};

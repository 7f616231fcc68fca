/* SPDX-License-Identifier: ISC */
#include "router/hints_rate.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT = 8 /* octets kept of an event's digest */ };
static const double NUMBER_MAX = 4e18, period_max = 1e12; /* fit for int64_t, the latter as microseconds */
static const double interval_least = 1e-9; /* of a period: events at the same instant, and clocks that went back */

struct rate_ask {
	double count, limit, period;
	bool leaky, readonly, unique;
};

struct rate_state {
	double rate;
	int64_t when_us, begin_us;
	struct str events;
	bool known;
};

static bool number(struct str *rest, double *out)
{
	struct str word;
	char text[64], *end;

	if (!str_split(rest, ' ', &word) || !word.len || word.len >= sizeof text)
		return false;
	snprintf(text, sizeof text, "%.*s", STR_FMT(word));
	*out = strtod(text, &end);
	return !*end && isfinite(*out) && fabs(*out) < NUMBER_MAX;
}

static bool ask_parse(const struct ipc_hint_ask *ask, struct rate_ask *out)
{
	struct str rest = ask->value, word;

	*out = (struct rate_ask){ 0 };
	if (!number(&rest, &out->count) || !number(&rest, &out->limit) || !number(&rest, &out->period) || out->period <= 0 || out->period > period_max || out->count < 0)
		return false;
	while (rest.len && str_split(&rest, ' ', &word)) {
		out->leaky |= str_is(word, "leaky");
		out->readonly |= str_is(word, "readonly");
		out->unique |= str_is(word, "unique");
	}
	return true;
}

static void state_parse(struct str stored, struct rate_state *out)
{
	struct str line, rest = stored;
	double when, begin;

	*out = (struct rate_state){ 0 };
	if (!stored.len || !str_split(&rest, '\n', &line) || !number(&line, &out->rate) || !number(&line, &when))
		return;
	out->known = true;
	out->when_us = (int64_t)when;
	if (!rest.len || !str_split(&rest, '\n', &line) || !number(&line, &begin) || rest.len % EVENT)
		return;
	out->begin_us = (int64_t)begin;
	out->events = rest;
}

static void event_digest(struct str event, unsigned char out[EVENT])
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_Digest(event.len ? event.p : "", event.len, sum, &len, EVP_sha256(), NULL);
	memcpy(out, sum, EVENT);
}

static bool event_known(struct str events, const unsigned char event[EVENT])
{
	for (size_t i = 0; i + EVENT <= events.len; i += EVENT)
		if (!memcmp(events.p + i, event, EVENT))
			return true;
	return false;
}

static double rate_next(const struct rate_state *s, const struct rate_ask *q, double count, int64_t now_us)
{
	double interval, fade;

	if (!s->known)
		return count;
	interval = (double)(now_us - s->when_us) / 1e6 / q->period;
	if (interval < interval_least)
		interval = interval_least;
	fade = exp(-interval);
	return fade * s->rate + (1 - fade) / interval * count;
}

bool hints_rate(const struct ipc_hint_ask *ask, struct str stored, struct arena *a, struct str *new_out, uint64_t *keep_s_out,
	struct ipc_hint_answer *out)
{
	struct rate_ask q;
	struct rate_state s;
	unsigned char event[EVENT];
	bool fresh = false, over;
	double count, rate;

	*new_out = STR_NULL;
	*keep_s_out = 0;
	if (!ask_parse(ask, &q))
		return false;
	state_parse(stored, &s);
	count = q.readonly ? 0 : q.count;
	if (q.unique && !q.readonly) {
		/* The whole set is forgotten with the period. */
		if (ask->now_us - s.begin_us >= (int64_t)(q.period * 1e6) || s.events.len / EVENT >= HINTS_RATE_EVENTS_MAX) {
			s.events = STR_NULL;
			s.begin_us = ask->now_us;
		}
		event_digest(ask->unique, event);
		fresh = !event_known(s.events, event);
		if (!fresh)
			count = 0;
	}
	rate = rate_next(&s, &q, count, ask->now_us);
	over = rate >= q.limit;
	out->value = str_printf(a, "%.17g", rate);
	out->amount = over;
	if (q.readonly || (over && q.leaky))
		return true;
	*new_out = str_printf(a, "%.17g %lld\n", rate, (long long)ask->now_us);
	if (q.unique)
		*new_out = str_printf(a, "%.*s%lld\n%.*s", STR_FMT(*new_out), (long long)s.begin_us, 0, "");
	if (q.unique && (s.events.len || fresh)) {
		size_t head = new_out->len, n = head + s.events.len + (fresh ? EVENT : 0);
		char *p = arena_alloc(a, n + 1);

		memcpy(p, new_out->p, head);
		if (s.events.len)
			memcpy(p + head, s.events.p, s.events.len);
		if (fresh)
			memcpy(p + head + s.events.len, event, EVENT);
		*new_out = str_make(p, n);
	}
	/* After so many periods less than a thousandth of an event is left. */
	*keep_s_out = (uint64_t)(q.period * (rate > 1 ? log(rate) + 7 : 7)) + 1;
	return true;
}

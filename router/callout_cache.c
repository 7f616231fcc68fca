/* SPDX-License-Identifier: ISC */
#include "router/callout_cache.h"

static bool is_fresh(const struct callout_fact *f, int64_t lasts_s, int64_t now_s)
{
	/* A clock that was set back makes no record immortal. */
	return f->known && f->when_s <= now_s + lasts_s && now_s - f->when_s < lasts_s;
}

static enum callout_known known_now(const struct callout_fact *f, int64_t negative_s, int64_t positive_s, int64_t now_s)
{
	return is_fresh(f, f->known == KNOWN_TAKEN ? positive_s : negative_s, now_s) ? f->known : KNOWN_NOTHING;
}

static void decide(struct callout_decision *out, enum status status, const char *failure, const char *text)
{
	out->decided = true;
	out->status = status;
	out->failure = failure;
	out->text = text;
}

void callout_cache_decide(const struct callout_wish *wish, const struct callout_domain *domain, const struct callout_fact *address,
	const struct callout_expire *expire, int64_t now_s, struct callout_decision *out)
{
	int64_t negative = expire->domain_negative_s, positive = expire->domain_positive_s;
	enum callout_known calls = known_now(&domain->calls, negative, positive, now_s);
	/* that a domain refuses nonsense is no failure: it is remembered for the longer time */
	enum callout_known random = known_now(&domain->random, positive, positive, now_s);
	enum callout_known postmaster = known_now(&domain->postmaster, negative, positive, now_s);
	enum callout_known known = known_now(address, expire->negative_s, expire->positive_s, now_s);

	*out = (struct callout_decision){ .random = wish->random && !random, .postmaster = wish->postmaster && !postmaster };
	if (calls == KNOWN_REFUSED || (calls == KNOWN_NULL_REFUSED && wish->null_sender))
		decide(out, ST_FAIL, "mail", "(result of an earlier callout reused).");
	else if (wish->random && random == KNOWN_TAKEN)
		decide(out, ST_OK, "random", NULL);
	else if (wish->postmaster && postmaster == KNOWN_REFUSED)
		decide(out, ST_FAIL, "postmaster", "(result of earlier verification reused).");
	else if (known == KNOWN_REFUSED && !out->random)
		decide(out, ST_FAIL, "recipient", "Previous (cached) callout verification failure");
	else if (known == KNOWN_TAKEN && !out->random && !out->postmaster)
		decide(out, ST_OK, NULL, NULL);
}

/* ---- as text: version, then what is known and since when ---- */

struct str callout_fact_format(struct arena *a, const struct callout_fact *f)
{
	return str_printf(a, "1 %u %lld", f->known, (long long)f->when_s);
}

struct str callout_domain_format(struct arena *a, const struct callout_domain *d)
{
	return str_printf(a, "1 %u %lld %u %lld %u %lld", d->calls.known, (long long)d->calls.when_s, d->random.known, (long long)d->random.when_s,
		d->postmaster.known, (long long)d->postmaster.when_s);
}

static bool facts_parse(struct str text, struct callout_fact **out, unsigned n)
{
	struct str word;
	uint64_t known, when;

	if (!str_split(&text, ' ', &word) || !str_is(word, "1"))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (!str_split(&text, ' ', &word) || !str_u64(word, KNOWN_NULL_REFUSED, &known) || !str_split(&text, ' ', &word) ||
			!str_u64(word, INT64_MAX / 4, &when))
			return false;
		*out[i] = (struct callout_fact){ (enum callout_known)known, (int64_t)when };
	}
	return !text.len;
}

void callout_fact_parse(struct str text, struct callout_fact *out)
{
	*out = (struct callout_fact){ KNOWN_NOTHING, 0 };
	if (!facts_parse(text, &out, 1))
		*out = (struct callout_fact){ KNOWN_NOTHING, 0 };
}

void callout_domain_parse(struct str text, struct callout_domain *out)
{
	static const struct callout_domain nothing;
	struct callout_fact *facts[] = { &out->calls, &out->random, &out->postmaster };

	*out = nothing;
	if (!facts_parse(text, facts, 3))
		*out = nothing;
}

/* SPDX-License-Identifier: ISC */
/* Retry rules: which one holds for a fault, and when it says to try again. Pure arithmetic. */
#include "qmgr/qmgr.h"

/* An error that a rule names, and the wider names that take it in too. */
static bool error_fits(enum retry_error rule, enum retry_error fault)
{
	if (rule == RETRY_NONE || rule == fault)
		return true;
	return rule == RETRY_TIMEOUT && fault == RETRY_TIMEOUT_CONNECT;
}

static bool rule_fits(const struct retry_rule *rule, const struct retry_fault *fault)
{
	if (!error_fits(rule->error, fault->error))
		return false;
	/* Where the answer's code is not known the general form of the rule holds alone. */
	if (rule->code_min && (fault->code < rule->code_min || fault->code > rule->code_max))
		return false;
	if (rule->via && rule->via != fault->via)
		return false;
	return rule->quota_age < 0 || (fault->quota_age >= 0 && fault->quota_age >= rule->quota_age);
}

const struct retry_rule *retry_rule_find(const struct settings *s, struct ipc_strs numbers, const struct retry_fault *fault)
{
	for (uint32_t i = 0; i < numbers.n; i++) {
		uint64_t number;

		if (!str_u64(numbers.v[i], UINT32_MAX, &number) || number >= s->n_retry)
			continue;
		if (rule_fits(&s->retry[number], fault))
			return &s->retry[number];
	}
	return NULL;
}

uint32_t retry_cutoff(const struct retry_rule *rule)
{
	return rule && rule->n ? rule->steps[rule->n - 1].cutoff : 0;
}

uint32_t retry_cutoff_longest(const struct settings *s)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < s->n_retry; i++)
		if (retry_cutoff(&s->retry[i]) > most)
			most = retry_cutoff(&s->retry[i]);
	return most;
}

static uint32_t step_interval(const struct retry_step *step, uint32_t last_gap, uint32_t random)
{
	uint64_t next;

	if (step->kind == 'F')
		return step->interval;
	next = (uint64_t)last_gap * step->factor / 1000;
	if (next > UINT32_MAX / 4)
		next = UINT32_MAX / 4;
	if (last_gap < step->interval || next < step->interval)
		return step->interval;
	if (step->kind == 'H') /* anywhere between the first interval and the one that G would give */
		return step->interval + (uint32_t)((next - step->interval + 1) * (uint64_t)random >> 32);
	return (uint32_t)next;
}

uint32_t retry_next(const struct retry_rule *rule, uint32_t first_failed, uint32_t last_try, uint32_t next_try, uint32_t now,
	uint32_t interval_max, uint32_t random, bool *expired_out)
{
	uint32_t failing = now > first_failed ? now - first_failed : 0, gap = 0, interval, i;

	*expired_out = false;
	if (!rule || !rule->n) {
		*expired_out = true;
		return now;
	}
	for (i = 0; i < rule->n && failing >= rule->steps[i].cutoff; i++)
		;
	if (i == rule->n) {
		*expired_out = true;
		i--;
	}
	/* The interval that was meant, or the real one when something made the try come early. */
	if (last_try && next_try > last_try && now > last_try)
		gap = next_try - last_try < now - last_try ? next_try - last_try : now - last_try;
	interval = step_interval(&rule->steps[i], gap, random);
	if (interval_max && interval > interval_max)
		interval = interval_max;
	return now + (interval ? interval : 1);
}

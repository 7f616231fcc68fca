/* SPDX-License-Identifier: ISC */
#include "common/conf/slowing.h"

#include "common/conf/option.h"

enum { SLOWING_MAX_MS = 3600 * 1000 };

/* Thousandths. */
static bool fraction(struct str text, double *out)
{
	int64_t v;

	if (conf_fixed_parse(text, &v, NULL) != ST_OK || v < 0)
		return false;
	*out = (double)v / 1000;
	return true;
}

/* "0.5s" as well as the usual "4m30s". */
static bool delay_parse(struct str text, double *out)
{
	int64_t seconds;

	if (conf_time_parse(text, &seconds, NULL) == ST_OK)
		*out = (double)seconds * 1000;
	else if (text.len < 2 || text.p[text.len - 1] != 's' || !fraction(str_sub(text, 0, text.len - 1), out))
		return false;
	else
		*out *= 1000;
	return *out <= SLOWING_MAX_MS;
}

enum status conf_slowing_parse(struct str text, struct conf_slowing *out, struct err *err)
{
	struct str part[4], rest = text;
	int64_t after;
	size_t n = 0;

	*out = (struct conf_slowing){ .on = false };
	if (!str_trim(text).len)
		return ST_OK;
	while (n < 4 && str_split(&rest, ',', &part[n])) {
		part[n] = str_trim(part[n]);
		n++;
	}
	if (n < 4 || rest.len || conf_int_parse(part[0], &after, NULL) != ST_OK || after < 0 || after > INT32_MAX || !delay_parse(part[1], &out->first_ms) ||
	    !fraction(part[2], &out->factor) || !delay_parse(part[3], &out->max_ms))
		return err_set(err, ST_ERROR, "\"%.*s\": must be a number of commands, a delay, a factor, and the longest delay (an hour at most), like 2,0.5s,1.05,4m",
			STR_FMT(str_sub(text, 0, 80)));
	out->after = (uint32_t)after;
	out->on = true;
	return ST_OK;
}

uint32_t conf_slowing_delay(const struct conf_slowing *s, uint32_t n)
{
	double ms = s->first_ms;

	if (!s->on || n <= s->after)
		return 0;
	for (uint32_t i = s->after + 1; i < n && ms < s->max_ms && ms > 0; i++) {
		ms *= s->factor;
		if (s->factor <= 1 && i - s->after > 10000)
			break;
	}
	return (uint32_t)(ms < s->max_ms ? ms : s->max_ms);
}

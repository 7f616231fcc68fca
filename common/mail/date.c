/* SPDX-License-Identifier: ISC */
#include "common/mail/date.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

/* Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March so that leap days come last. */
int64_t date_from_civil(int64_t year, unsigned month, unsigned day, unsigned hour, unsigned minute, unsigned second)
{
	int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return (era * 146097 + day_of_era - 719468) * 86400 + hour * 3600 + minute * 60 + second;
}

size_t date_format(char out[DATE_TEXT], int64_t wall_s, bool utc)
{
	time_t t = (time_t)wall_s;
	struct tm tm;
	long zone;
	int n;

	if (!(utc ? gmtime_r(&t, &tm) : localtime_r(&t, &tm)))
		memset(&tm, 0, sizeof tm);
	zone = utc ? 0 : tm.tm_gmtoff / 60;
	n = snprintf(out, DATE_TEXT, "%s, %02d %s %04ld %02d:%02d:%02d %c%02ld%02ld", days[tm.tm_wday % 7], tm.tm_mday, months[tm.tm_mon % 12],
		tm.tm_year + 1900L, tm.tm_hour, tm.tm_min, tm.tm_sec, zone < 0 ? '-' : '+', (zone < 0 ? -zone : zone) / 60 % 100,
		(zone < 0 ? -zone : zone) % 60);
	return n < 0 ? 0 : n >= DATE_TEXT ? DATE_TEXT - 1 : (size_t)n;
}

/* Blanks, folding and comments (nested, with quoted pairs). */
static bool space_skip(struct str *s)
{
	unsigned depth = 0;

	while (s->len) {
		char c = s->p[0];

		if (c == '(')
			depth++;
		else if (c == ')' && depth)
			depth--;
		else if (depth && c == '\\' && s->len > 1)
			*s = str_from(*s, 1);
		else if (!depth && !ascii_is_space(c))
			return true;
		*s = str_from(*s, 1);
	}
	return depth == 0;
}

static bool number_take(struct str *s, unsigned min_digits, unsigned max_digits, unsigned *out, unsigned *digits_out)
{
	unsigned n = 0, v = 0;

	while (n < s->len && n < max_digits + 1 && ascii_is_digit(s->p[n]))
		v = v * 10 + (unsigned)(s->p[n++] - '0');
	if (n < min_digits || n > max_digits)
		return false;
	*out = v;
	if (digits_out)
		*digits_out = n;
	*s = str_from(*s, n);
	return true;
}

static int word_take(struct str *s, const char (*words)[4], int n)
{
	for (int i = 0; i < n; i++) {
		if (str_beginsi(*s, words[i])) {
			*s = str_from(*s, 3);
			return i;
		}
	}
	return -1;
}

static bool char_take(struct str *s, char c)
{
	if (!s->len || s->p[0] != c)
		return false;
	*s = str_from(*s, 1);
	return true;
}

static bool zone_take(struct str *s, int *minutes_out)
{
	static const struct { char name[4]; int hours; } names[] = {
		{ "GMT", 0 }, { "UTC", 0 }, { "UT", 0 }, { "EST", -5 }, { "EDT", -4 }, { "CST", -6 }, { "CDT", -5 }, { "MST", -7 }, { "MDT", -6 },
		{ "PST", -8 }, { "PDT", -7 },
	};
	unsigned v;

	if (s->len && (s->p[0] == '+' || s->p[0] == '-')) {
		int sign = s->p[0] == '-' ? -1 : 1;

		*s = str_from(*s, 1);
		if (!number_take(s, 4, 4, &v, NULL) || v % 100 > 59)
			return false;
		*minutes_out = sign * (int)(v / 100 * 60 + v % 100);
		return true;
	}
	*minutes_out = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (str_beginsi(*s, names[i].name)) {
			*minutes_out = names[i].hours * 60;
			*s = str_from(*s, strlen(names[i].name));
			return true;
		}
	}
	/* A military letter says nothing that can be relied on: RFC 5322 section 4.3. */
	if (s->len && ascii_is_alpha(s->p[0])) {
		while (s->len && ascii_is_alpha(s->p[0]))
			*s = str_from(*s, 1);
		return true;
	}
	return s->len == 0;
}

static bool time_take(struct str *s, unsigned *hour, unsigned *minute, unsigned *second)
{
	*second = 0;
	if (!number_take(s, 1, 2, hour, NULL) || !space_skip(s) || !char_take(s, ':') || !space_skip(s) || !number_take(s, 2, 2, minute, NULL) ||
	    !space_skip(s))
		return false;
	if (char_take(s, ':') && (!space_skip(s) || !number_take(s, 2, 2, second, NULL)))
		return false;
	return space_skip(s) && *hour < 24 && *minute < 60 && *second <= 60;
}

bool date_parse(struct str s, int64_t *wall_s_out)
{
	static const unsigned char month_days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	unsigned day, year, digits, hour, minute, second;
	int month, zone;
	bool leap;

	if (!space_skip(&s))
		return false;
	if (word_take(&s, days, 7) >= 0 && (!space_skip(&s) || !char_take(&s, ',') || !space_skip(&s)))
		return false;
	if (!number_take(&s, 1, 2, &day, NULL) || !space_skip(&s) || (month = word_take(&s, months, 12)) < 0 || !space_skip(&s) ||
	    !number_take(&s, 2, 4, &year, &digits) || !space_skip(&s) || !time_take(&s, &hour, &minute, &second) || !zone_take(&s, &zone) ||
	    !space_skip(&s) || s.len)
		return false;
	if (digits == 2)
		year += year < 50 ? 2000 : 1900;
	else if (digits == 3)
		year += 1900;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (!year || !day || day > month_days[month] + (unsigned)(month == 1 && leap))
		return false;
	*wall_s_out = date_from_civil(year, (unsigned)month + 1, day, hour, minute, second) - zone * 60;
	return true;
}

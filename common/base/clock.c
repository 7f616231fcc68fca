/* SPDX-License-Identifier: ISC */
#include "common/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

uint64_t clock_us(void) { return (uint64_t)clock_read(CLOCK_MONOTONIC); }
uint64_t clock_ms(void) { return clock_us() / 1000; }
int64_t clock_wall_us(void) { return clock_read(CLOCK_REALTIME); }
int64_t clock_wall(void) { return clock_wall_us() / 1000000; }

size_t clock_log_format(char *out, int64_t wall_us, int millisec, int zone, int utc)
{
	time_t t = (time_t)(wall_us / 1000000);
	struct tm tm;
	size_t n;

	if (utc)
		gmtime_r(&t, &tm);
	else
		localtime_r(&t, &tm);
	n = strftime(out, CLOCK_TEXT, "%Y-%m-%d %H:%M:%S", &tm);
	if (millisec)
		n += (size_t)snprintf(out + n, CLOCK_TEXT - n, ".%03d", (int)(wall_us / 1000 % 1000));
	if (zone)
		n += strftime(out + n, CLOCK_TEXT - n, " %z", &tm);
	return n;
}

/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <time.h>

#include "ctl/ctl.h"

int ctl_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("bulkhead: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return code;
}

void ctl_json_print(json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(json);
}

json_t *ctl_json_str(struct str s)
{
	json_t *json = json_stringn(s.p ? s.p : "", s.len);
	struct buf b = BUF_INIT;

	if (json)
		return json;
	for (uint32_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] < 0x80)
			buf_addc(&b, s.p[i]);
		else
			buf_adds(&b, "\xef\xbf\xbd");
	}
	json = json_stringn(b.p ? b.p : "", b.len);
	buf_clear(&b);
	return json;
}

const char *ctl_age(struct arena *a, int64_t s)
{
	if (s < 0)
		s = 0;
	if (s < 3600)
		return arena_printf(a, "%dm", (int)(s / 60));
	if (s < 72 * 3600)
		return arena_printf(a, "%dh", (int)(s / 3600));
	return arena_printf(a, "%dd", (int)(s / 86400));
}

const char *ctl_size(struct arena *a, uint64_t n)
{
	static const char units[] = "KMGT";
	double v = (double)n;
	int u = -1;

	if (n < 1024)
		return arena_printf(a, "%d", (int)n);
	while (v >= 1024 && u < 3) {
		v /= 1024;
		u++;
	}
	return arena_printf(a, v < 10 ? "%.1f%c" : "%.0f%c", v, units[u]);
}

const char *ctl_time(struct arena *a, int64_t wall)
{
	time_t t = (time_t)wall;
	char text[64];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
	return arena_strdup(a, text);
}

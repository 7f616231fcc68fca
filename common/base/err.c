/* SPDX-License-Identifier: ISC */
#include "common/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void err_cut(char *text, int wanted)
{
	if (wanted >= ERR_TEXT_MAX)
		memcpy(text + ERR_TEXT_MAX - 4, "...", 4);
}

enum status err_vset(struct err *err, enum status status, const char *fmt, va_list ap)
{
	if (err) {
		err->status = status;
		err_cut(err->text, vsnprintf(err->text, sizeof err->text, fmt, ap));
	}
	return status;
}

enum status err_set(struct err *err, enum status status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(err, status, fmt, ap);
	va_end(ap);
	return status;
}

enum status err_prefix(struct err *err, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	va_list ap;
	int n;

	if (!err)
		return ST_ERROR;
	memcpy(old, err->text, sizeof old);
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if (n < ERR_TEXT_MAX)
		n += snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
	err_cut(err->text, n);
	return err->status;
}

void err_clear(struct err *err)
{
	err->status = ST_OK;
	err->text[0] = '\0';
}

const char *status_name(enum status status)
{
	switch (status) {
	case ST_OK: return "ok";
	case ST_FAIL: return "fail";
	case ST_DEFER: return "defer";
	case ST_ERROR: return "error";
	}
	return "?";
}

_Noreturn void bug_stop(const char *file, int line, const char *what)
{
	fprintf(stderr, "bulkhead: defect at %s:%d: %s\n", file, line, what);
	abort();
}

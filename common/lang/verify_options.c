/* SPDX-License-Identifier: ISC */
#include "common/lang/verify_options.h"

#include <stddef.h>

#include "common/conf/option.h"

enum option_shape { IS_FLAG, IS_TIME, IS_ADDRESS };

struct option_row {
	const char *name;
	enum option_shape shape;
	unsigned kinds;              /* enum verify_kind */
	size_t field;
	size_t also;                 /* a flag that it sets, too; 0: none (no row sets defer_ok, the first field, this way) */
};

#define AT(field) offsetof(struct verify_options, field)
enum { ANY = VERIFY_RECIPIENT | VERIFY_SENDER | VERIFY_HEADER };

static const struct option_row verify_rows[] = {
	{ "defer_ok", IS_FLAG, ANY, AT(defer_ok), 0 },
	{ "no_details", IS_FLAG, ANY, AT(no_details), 0 },
	{ "success_on_redirect", IS_FLAG, ANY, AT(success_on_redirect), 0 },
	{ "callout", IS_FLAG, ANY, AT(callout), 0 },
	{ "callout_defer_ok", IS_FLAG, ANY, AT(callout), AT(callout_defer_ok) },   /* the old way to write it */
	{ "check_postmaster", IS_FLAG, ANY, AT(callout), AT(postmaster) },
	{ NULL, IS_FLAG, 0, 0, 0 },
};

static const struct option_row callout_rows[] = {
	{ "connect", IS_TIME, ANY, AT(connect_s), 0 },
	{ "maxwait", IS_TIME, ANY, AT(maxwait_s), 0 },
	{ "defer_ok", IS_FLAG, ANY, AT(callout_defer_ok), 0 },
	{ "no_cache", IS_FLAG, ANY, AT(no_cache), 0 },
	{ "random", IS_FLAG, ANY, AT(random), 0 },
	{ "postmaster", IS_FLAG, ANY, AT(postmaster), 0 },
	{ "fullpostmaster", IS_FLAG, ANY, AT(fullpostmaster), AT(postmaster) },
	{ "postmaster_mailfrom", IS_ADDRESS, ANY, AT(postmaster_mailfrom), AT(postmaster) },
	{ "mailfrom", IS_ADDRESS, VERIFY_HEADER, AT(mailfrom), 0 },
	{ "use_sender", IS_FLAG, VERIFY_RECIPIENT, AT(use_sender), 0 },
	{ "use_postmaster", IS_FLAG, VERIFY_RECIPIENT, AT(use_postmaster), 0 },
	{ "hold", IS_FLAG, VERIFY_RECIPIENT, AT(hold), 0 },
	{ NULL, IS_FLAG, 0, 0, 0 },
};

static enum status time_take(struct str text, uint32_t *out, struct err *err)
{
	int64_t seconds;

	if (conf_time_parse(text, &seconds, err) || seconds < 1 || seconds > 86400)
		return err_set(err, ST_ERROR, "\"%.*s\" is no time from a second to a day", STR_FMT(str_sub(text, 0, 40)));
	*out = (uint32_t)seconds;
	return ST_OK;
}

static enum status address_take(struct str text, struct str *out, struct err *err)
{
	if (text.len > 1 && text.p[0] == '<' && text.p[text.len - 1] == '>')
		text = str_sub(text, 1, text.len - 2);
	for (uint32_t i = 0; i < text.len; i++)
		if ((unsigned char)text.p[i] <= ' ' || text.p[i] == 0x7f || text.p[i] == '<' || text.p[i] == '>')
			return err_set(err, ST_ERROR, "\"%.*s\" is no address", STR_FMT(str_sub(text, 0, 80)));
	if (text.len > 320)
		return err_set(err, ST_ERROR, "an address of %u octets", text.len);
	*out = text;
	return ST_OK;
}

/* NAME or NAME = VALUE, blanks around either. */
static bool word_split(struct str text, struct str *name, struct str *value)
{
	ptrdiff_t at = str_find(text, '=');

	*name = str_trim(at < 0 ? text : str_sub(text, 0, (size_t)at));
	*value = at < 0 ? STR_NULL : str_trim(str_from(text, (size_t)at + 1));
	return at >= 0;
}

static enum status row_take(const struct option_row *rows, struct str name, struct str value, bool valued, enum verify_kind kind,
	struct verify_options *out, struct err *err)
{
	const struct option_row *r = rows;
	char *base = (char *)out;
	enum status st = ST_OK;

	while (r->name && !str_is(name, r->name))
		r++;
	if (!r->name)
		return err_set(err, ST_ERROR, "unknown option \"%.*s\"", STR_FMT(str_sub(name, 0, 40)));
	if (!(r->kinds & kind))
		return err_set(err, ST_ERROR, "option \"%s\" is not for this kind of verification", r->name);
	if (valued != (r->shape != IS_FLAG))
		return err_set(err, ST_ERROR, "option \"%s\" %s", r->name, valued ? "takes no value" : "needs a value");
	if (r->shape == IS_TIME)
		st = time_take(value, (uint32_t *)(void *)(base + r->field), err);
	else if (r->shape == IS_ADDRESS)
		st = address_take(value, (struct str *)(void *)(base + r->field), err);
	else
		*(bool *)(void *)(base + r->field) = true;
	if (r->also)
		*(bool *)(void *)(base + r->also) = true;
	return st ? err_prefix(err, "%s", r->name) : ST_OK;
}

/* What stands behind callout=: a time, and options, with commas between. */
static enum status callout_parse(struct str text, enum verify_kind kind, struct verify_options *out, struct err *err)
{
	struct str part, name, value;
	enum status st = ST_OK;

	while (!st && str_split(&text, ',', &part)) {
		bool valued = word_split(part, &name, &value);

		if (!name.len)
			continue;
		if (ascii_is_digit(name.p[0]))
			st = valued ? err_set(err, ST_ERROR, "\"%.*s\" is no time", STR_FMT(str_sub(part, 0, 40))) : time_take(name, &out->command_s, err);
		else
			st = row_take(callout_rows, name, value, valued, kind, out, err);
		if (!st && str_is(name, "postmaster")) /* of postmaster and postmaster_mailfrom the last one counts */
			out->postmaster_mailfrom = STR_NULL;
	}
	return st ? err_prefix(err, "callout") : ST_OK;
}

enum status verify_options_parse(struct str text, enum verify_kind kind, struct verify_options *out, struct err *err)
{
	struct str part, name, value;
	enum status st = ST_OK;

	*out = (struct verify_options){ .command_s = CALLOUT_COMMAND_S };
	while (!st && str_split(&text, '/', &part)) {
		bool valued = word_split(part, &name, &value);

		if (!name.len)
			continue;
		if (str_is(name, "callout") && valued) {
			out->callout = true;
			st = callout_parse(value, kind, out, err);
		} else if (str_is(name, "quota")) {
			st = err_set(err, ST_ERROR, "option \"quota\" is known to Exim, not implemented");
		} else {
			st = row_take(verify_rows, name, value, valued, kind, out, err);
		}
	}
	if (!out->connect_s)
		out->connect_s = out->command_s;
	if (!out->maxwait_s)
		out->maxwait_s = out->command_s * CALLOUT_WAIT_PARTS;
	return st;
}

uint32_t verify_callout_limit_s(const struct verify_options *o)
{
	uint64_t all = (uint64_t)o->maxwait_s + (o->connect_s > o->command_s ? o->connect_s : o->command_s);

	return all < CALLOUT_TIME_MAX_S ? (uint32_t)all : CALLOUT_TIME_MAX_S;
}

/* SPDX-License-Identifier: ISC */
#include "common/conf/log_selector.h"

#include "common/conf/reader.h"

static const struct {
	const char *name, *what;
	bool on;
} rows[LOG_SELECTORS] = {
#define SELECTOR(name, on, what) { #name, what, on },
#include "common/conf/log_selector.def"
#undef SELECTOR
};

const char *log_selector_name(unsigned number)
{
	return rows[number].name;
}

const char *log_selector_what(unsigned number)
{
	return rows[number].what;
}

static uint64_t word_bits(struct str word)
{
	/* older names, still understood by the specification */
	static const char *const old[][2] = { { "incoming_host_port", "incoming_port" }, { "queue_time_total", "queue_time_overall" },
		{ "rejected_headers", "rejected_header" } };

	if (str_is(word, "all"))
		return LOG_SELECTORS == 64 ? UINT64_MAX : (UINT64_C(1) << LOG_SELECTORS % 64) - 1;
	for (unsigned i = 0; i < sizeof old / sizeof *old; i++)
		if (str_is(word, old[i][0]))
			word = str_of(old[i][1]);
	for (unsigned i = 0; i < LOG_SELECTORS; i++)
		if (str_is(word, rows[i].name))
			return UINT64_C(1) << i;
	return 0;
}

enum status log_selector_parse(struct str s, uint64_t *bits_out, struct err *err)
{
	uint64_t bits = 0;
	char typed[65];
	struct conf_nearest near;

	for (unsigned i = 0; i < LOG_SELECTORS; i++)
		bits |= rows[i].on ? UINT64_C(1) << i : 0;
	for (s = conf_skip(s); s.len; s = conf_skip(s)) {
		char sign = *s.p;
		uint64_t word;
		struct str name;
		if (sign != '+' && sign != '-')
			return err_set(err, ST_ERROR, "\"%.*s\": + or - must stand before each word", STR_FMT(s));
		s = conf_skip(str_from(s, 1));
		name = conf_name_take(&s);
		word = word_bits(name);
		if (!word) {
			conf_nearest_begin(&near, typed, sizeof typed, name);
			for (unsigned i = 0; i < LOG_SELECTORS; i++)
				conf_nearest_pick(&near, rows[i].name);
			return err_set(err, ST_ERROR, "unknown log selector \"%s\"%s%s%s", typed, near.found ? ": did you mean \"" : "",
				near.found ? near.found : "", near.found ? "\"?" : "");
		}
		bits = sign == '+' ? bits | word : bits & ~word;
	}
	*bits_out = bits;
	return ST_OK;
}

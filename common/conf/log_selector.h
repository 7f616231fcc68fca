/* SPDX-License-Identifier: ISC */
/* log_selector.h - the words of the option log_selector as bits.
 * Used by:    every daemon that writes log lines.
 * Errors:     ST_ERROR names the unknown word and the nearest known one. */
#ifndef CONF_LOG_SELECTOR_H
#define CONF_LOG_SELECTOR_H

#include "common/base/err.h"
#include "common/base/str.h"

/* LOG_SEL(smtp_connection) is its bit, LOG_SEL_smtp_connection its number. */
enum {
#define SELECTOR(name, on, what) LOG_SEL_##name,
#include "common/conf/log_selector.def"
#undef SELECTOR
	LOG_SELECTORS
};
_Static_assert(LOG_SELECTORS <= 64, "one bit each");
#define LOG_SEL(name) (UINT64_C(1) << LOG_SEL_##name)

/* "+name -name ..." applied to the default; "all" means each. text p NULL: the default. */
enum status log_selector_parse(struct str text, uint64_t *bits_out, struct err *err);
const char *log_selector_name(unsigned number);
const char *log_selector_what(unsigned number);

#endif

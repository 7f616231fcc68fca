/* SPDX-License-Identifier: ISC */
/* command.h - the words of an option that names a command (specification, section 29.3).
 * Used by:    router, for pipe transports and queryprogram routers; local, which checks what it is told to run.
 * Owns:       words are in the arena they were split into.
 * Errors:     ST_ERROR: a quote is missing, no word, too many. */
#ifndef CONF_COMMAND_H
#define CONF_COMMAND_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum { COMMAND_WORDS_MAX = 500 };

struct command_words {
	struct str *v;
	uint32_t n;
};

/* Blanks separate; "..." with backslash escapes; '...' as it stands. Taint is kept. */
enum status command_split(struct str text, struct arena *a, struct command_words *out, struct err *err);

/* Whether these can be the words of that option, expanded: as many, and equal where the option holds nothing to expand. */
bool command_fits(const struct command_words *option, const struct str *words, uint32_t n);

#endif

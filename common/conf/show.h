/* SPDX-License-Identifier: ISC */
/* show.h - a configuration written out as an administrator would write it: effective values, in the form that conf_read() reads.
 * Used by:    the command (config show), tests.
 * Owns:       the text goes into the caller's buffer.
 * Errors:     none; what may not be shown stands as SHOW_HIDDEN. */
#ifndef CONF_SHOW_H
#define CONF_SHOW_H

#include "common/base/str.h"
#include "common/conf/conf.h"

#define SHOW_HIDDEN "<value not displayable>"

struct conf_show {
	bool secrets;       /* values that are hidden or secret are written, too */
	bool set_only;      /* only what the administrator wrote: no defaults */
	bool places;        /* "# FILE:LINE" above each value that was written in a file */
};

/* All of it: main options, named lists, and the sections that are not empty. */
void conf_show(const struct conf *conf, const struct conf_show *how, struct buf *out);
/* One main option, named list (with its + ) or driver instance; false: there is none of that name. */
bool conf_show_one(const struct conf *conf, const struct conf_show *how, struct str name, struct buf *out);

#endif

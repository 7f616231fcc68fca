/* SPDX-License-Identifier: ISC */
/* The sections of the file, each line to its reader. */
#include "common/conf/reader.h"

#include <string.h>

enum section { SECTION_MAIN, SECTION_ACL, SECTION_ROUTERS, SECTION_TRANSPORTS, SECTION_AUTHENTICATORS, SECTION_RETRY, SECTION_REWRITE,
	SECTION_LOCAL_SCAN, SECTION_UNKNOWN, SECTIONS };

struct reader {
	struct conf *conf;
	struct conf_lines *lines;
	enum section section;
	struct conf_place seen[SECTIONS]; /* line 0: not yet */
	struct conf_driver_reader driver;
	struct conf_acl_reader acl;
};

static void line_main(struct reader *r, struct str line, struct conf_place place)
{
	if (conf_line_is_macro(line))
		conf_lines_define(r->lines, line, place);
	else
		conf_main_line(r->conf, line, place);
}

static void line_acl(struct reader *r, struct str line, struct conf_place place)
{
	if (!conf_line_is_macro(line)) {
		conf_acl_section_line(r->conf, &r->acl, line, place);
		return;
	}
	r->acl.acl = NULL; /* a macro ends the ACL before it */
	r->acl.broken = false;
	conf_lines_define(r->lines, line, place);
}

static void line_driver(struct reader *r, struct str line, struct conf_place place)
{
	if (!conf_line_is_macro(line)) {
		conf_driver_line(r->conf, &r->driver, line, place);
		return;
	}
	conf_driver_end(r->conf, &r->driver);
	conf_lines_define(r->lines, line, place);
}

static void line_retry(struct reader *r, struct str line, struct conf_place place)
{
	conf_retry_line(r->conf, line, place);
}

static void line_rewrite(struct reader *r, struct str line, struct conf_place place)
{
	conf_rewrite_line(r->conf, line, place);
}

static void line_drop(struct reader *r, struct str line, struct conf_place place)
{
	(void)r, (void)line, (void)place;
}

static const struct {
	const char *name;
	void (*line)(struct reader *r, struct str line, struct conf_place place);
	enum conf_class class;
} sections[SECTIONS] = {
	[SECTION_MAIN] = { NULL, line_main, 0 },
	[SECTION_ACL] = { "acl", line_acl, 0 },
	[SECTION_ROUTERS] = { "routers", line_driver, CONF_ROUTERS },
	[SECTION_TRANSPORTS] = { "transports", line_driver, CONF_TRANSPORTS },
	[SECTION_AUTHENTICATORS] = { "authenticators", line_driver, CONF_AUTHENTICATORS },
	[SECTION_RETRY] = { "retry", line_retry, 0 },
	[SECTION_REWRITE] = { "rewrite", line_rewrite, 0 },
	[SECTION_LOCAL_SCAN] = { "local_scan", line_drop, 0 },
	[SECTION_UNKNOWN] = { NULL, line_drop, 0 },
};

static void section_begin(struct reader *r, struct str name, struct conf_place place)
{
	const char *near = NULL;
	char typed[65];
	struct conf_nearest nearest;
	enum section next = SECTION_UNKNOWN;

	conf_driver_end(r->conf, &r->driver);
	r->driver = (struct conf_driver_reader){ 0 };
	r->acl = (struct conf_acl_reader){ 0 };
	conf_nearest_begin(&nearest, typed, sizeof typed, name);
	for (unsigned i = 0; i < SECTIONS; i++) {
		if (!sections[i].name)
			continue;
		if (str_is(name, sections[i].name))
			next = (enum section)i;
		near = conf_nearest_pick(&nearest, sections[i].name);
	}
	if (next == SECTION_UNKNOWN)
		conf_problem_add(r->conf, CONF_ERROR, place, "begin: unknown section \"%s\"%s", typed, conf_hint(r->conf, near));
	else if (next == SECTION_LOCAL_SCAN)
		conf_problem_add(r->conf, CONF_ERROR, place, "begin local_scan: known to Exim, not implemented in this build");
	else if (r->seen[next].line)
		conf_problem_add(r->conf, CONF_ERROR, place, "begin %s: a second time (first at %.*s)", typed,
			STR_FMT(conf_place_format(r->conf, r->seen[next], &r->conf->arena)));
	r->seen[next] = place;
	r->section = next;
	r->driver.class = sections[next].class;
}

enum status conf_read(const struct conf_source *source, struct conf **conf_out)
{
	struct reader r = { .conf = conf_new() };
	struct err err = ERR_INIT;
	struct str line, rest;
	struct conf_place place;
	enum status st;

	*conf_out = r.conf;
	r.lines = conf_lines_new(r.conf, source);
	st = conf_lines_open(r.lines, &err);
	if (st != ST_OK) {
		conf_problem_add(r.conf, CONF_ERROR, (struct conf_place){ 0, 0 }, "%s", err.text);
		conf_lines_free(r.lines);
		return st;
	}
	while (conf_lines_next(r.lines, &line, &place)) {
		rest = line;
		if (conf_word_begins(&rest, "begin"))
			section_begin(&r, str_trim(rest), place);
		else
			sections[r.section].line(&r, line, place);
	}
	conf_driver_end(r.conf, &r.driver);
	conf_lines_free(r.lines);
	conf_driver_hide(r.conf);
	if (!source->isolated)
		conf_machine_defaults(r.conf);
	conf_constants_expand(r.conf);
	if (!source->isolated)
		conf_logins_check(r.conf);
	return r.conf->n_errors ? ST_ERROR : ST_OK;
}

/* SPDX-License-Identifier: ISC */
/* master_config.c - reads the configuration, and says what a reload can't change. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/lang/lang.h"
#include "master/master.h"

enum { PROBLEMS_SHOWN = 20 };

/* Whoever may write the file is root. */
static enum status file_check(const struct master *m, struct buf *problems)
{
	struct stat st;

	if (stat(m->conf_path, &st) < 0) {
		buf_printf(problems, "%s: %s", m->conf_path, strerror(errno));
		return ST_ERROR;
	}
	if (!m->privileged || (st.st_uid == 0 && !(st.st_mode & S_IWOTH) && (!(st.st_mode & S_IWGRP) || st.st_gid == 0)))
		return ST_OK;
	buf_printf(problems, "%s must belong to root and be writable by nobody else: whoever writes it is root", m->conf_path);
	return ST_ERROR;
}

/* Everything that policyd and router will expand is compiled once here: an error is found before it is in force. */
static enum status language_check(struct conf *conf)
{
	struct lang *lang = lang_new(conf, NULL);
	struct conf_checks checks = { .ctx = NULL };
	enum status st;

	lang_checks(lang, &checks);
	st = conf_check(conf, &checks);
	lang_free(lang);
	return st;
}

/* Warnings are for a configuration that holds: with errors they would only hide them. */
static void problems_show(const struct conf *conf, enum conf_severity which, struct arena *a, struct buf *out)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < conf->n_problems; i++)
		if (conf->problems[i].severity == which && n++ < PROBLEMS_SHOWN)
			buf_printf(out, "%s%.*s", out->len ? "\n" : "", STR_FMT(conf_problem_format(conf, &conf->problems[i], a)));
	if (n > PROBLEMS_SHOWN)
		buf_printf(out, "\n... and %u more: bulkhead check-config shows all", n - PROBLEMS_SHOWN);
}

enum status config_read(struct master *m, struct conf **out, struct buf *problems)
{
	struct arena a = ARENA_INIT;
	struct conf_source source = { .path = m->conf_path, .defines = m->defines, .n_defines = m->n_defines, .families = lang_macro_families(&a) };
	enum status st;

	*out = NULL;
	if (file_check(m, problems))
		return ST_ERROR;
	st = conf_read(&source, out);
	if (!st)
		st = language_check(*out);
	problems_show(*out, st ? CONF_ERROR : CONF_WARNING, &a, problems);
	arena_clear(&a);
	if (st) {
		conf_free(*out);
		*out = NULL;
	}
	return st;
}

void config_changes_check(const struct master *m, const struct conf *next, struct buf *text)
{
	struct arena a = ARENA_INIT;

	for (uint32_t i = 0; i < conf_table_main.n; i++) {
		const struct conf_option *o = &conf_table_main.rows[i];
		struct str before = STR_NULL, after = STR_NULL;

		if (!(o->flags & F_RESTART) || o->offset == CONF_NO_FIELD)
			continue;
		conf_opts_get(o, &m->conf->main, &a, &before);
		conf_opts_get(o, &next->main, &a, &after);
		if (!str_eq(before, after))
			buf_printf(text, "%s%s has changed: that takes effect with stop and start", text->len ? "\n" : "", o->name);
	}
	arena_clear(&a);
}

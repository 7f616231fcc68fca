/* SPDX-License-Identifier: ISC */
/* ctl_trace.c - one message's whole life, from the main log: its lines, and those of the reports that were made about it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf/conf.h"
#include "common/conf/log_conf.h"
#include "ctl/ctl.h"

enum { TRACE_IDS_MAX = 64, TRACE_ID_MAX = 32 };

struct trace {
	char ids[TRACE_IDS_MAX][TRACE_ID_MAX + 1];
	unsigned n;
	unsigned lines;
};

static bool id_plausible(const char *s, size_t n)
{
	if (n < 16 || n > TRACE_ID_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!ascii_is_alnum(s[i]) && s[i] != '-')
			return false;
	return memchr(s, '-', n) != NULL;
}

/* Where the line speaks of one of the ids as a word of its own. */
static bool line_has(const struct trace *t, const char *line)
{
	for (unsigned i = 0; i < t->n; i++) {
		size_t n = strlen(t->ids[i]);

		for (const char *at = strstr(line, t->ids[i]); at; at = strstr(at + 1, t->ids[i]))
			if ((at == line || strchr(" =", at[-1])) && strchr(" \n:,)", at[n]))
				return true;
	}
	return false;
}

/* A report names the message it is about as R=ID: it belongs to the life of that one. */
static void line_learn(struct trace *t, const char *line)
{
	const char *arrow = strstr(line, " <= <> R=");
	const char *start = arrow;

	if (!arrow || t->n == TRACE_IDS_MAX)
		return;
	while (start > line && start[-1] != ' ')
		start--;
	if (id_plausible(start, (size_t)(arrow - start)))
		snprintf(t->ids[t->n++], sizeof t->ids[0], "%.*s", (int)(arrow - start), start);
}

static int trace_file(struct trace *t, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	if (!f)
		return errno;
	while (getline(&line, &size, f) > 0)
		if (line_has(t, line)) {
			line_learn(t, line);
			fputs(line, stdout);
			t->lines++;
		}
	free(line);
	fclose(f);
	return 0;
}

/* NULL: there is none. */
static const char *main_log(struct ctl *ctl, const struct conf *conf)
{
	struct str path;
	bool to_syslog;
	ptrdiff_t at;

	log_conf_places(conf, &ctl->arena, &path, &to_syslog);
	if (!path.len)
		return NULL;
	at = str_find_str(path, STR_LIT("%s"));
	return at < 0 ? str_cstr(&ctl->arena, path)
		: arena_printf(&ctl->arena, "%.*smain%.*s", (int)at, path.p, STR_FMT(str_from(path, (size_t)at + 2)));
}

int ctl_trace(struct ctl *ctl, int argc, char **argv)
{
	struct trace t = { .n = 0 };
	const struct conf *conf;
	const char *path;
	int e, old;

	if (argc != 2)
		return ctl_fail(CTL_USAGE, "trace takes one message id");
	if (!id_plausible(argv[1], strlen(argv[1])))
		return ctl_fail(CTL_USAGE, "\"%s\" is no message id; they look like 1tEabc-000123-XY", argv[1]);
	snprintf(t.ids[t.n++], sizeof t.ids[0], "%s", argv[1]);
	conf = ctl_conf(ctl);
	if (!conf)
		return CTL_CONFIG;
	path = main_log(ctl, conf);
	if (!path)
		return ctl_fail(CTL_UNAVAILABLE, "log_file_path names no file; with syslog, search there for %s", argv[1]);
	old = trace_file(&t, arena_printf(&ctl->arena, "%s.1", path)); /* yesterday's, where logs are rotated */
	e = trace_file(&t, path);
	if (e && old)
		return ctl_fail(CTL_NOPERM, "%s: %s", path, strerror(e));
	return t.lines ? CTL_OK : ctl_fail(CTL_FAILED, "%s is not in %s", argv[1], path);
}

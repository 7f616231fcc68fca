/* SPDX-License-Identifier: ISC */
/* ctl_config.c - reading the configuration for the command's own use, and check-config. */
#include <string.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/conf/read.h"
#include "common/lang/lang.h"
#include "ctl/config.h"
#include "ctl/ctl.h"
#include "ctl/offline.h"

#ifndef BULKHEAD_CONFIG
#define BULKHEAD_CONFIG "/etc/bulkhead/bulkhead.conf"
#endif
#ifndef BULKHEAD_LIBEXECDIR
#define BULKHEAD_LIBEXECDIR "/usr/local/libexec/bulkhead"
#endif

static unsigned problems_print(struct ctl *ctl, const struct conf *conf, enum conf_severity least)
{
	unsigned warnings = 0;

	for (uint32_t i = 0; i < conf->n_problems; i++) {
		struct str text = conf_problem_format(conf, &conf->problems[i], &ctl->arena);

		warnings += conf->problems[i].severity == CONF_WARNING;
		if (conf->problems[i].severity >= least)
			fprintf(stderr, "%.*s\n", STR_FMT(text));
	}
	return warnings;
}

static void source_fill(struct ctl *ctl, struct conf_source *source, struct conf_define defines[CTL_MACROS_MAX])
{
	if (!ctl->conf_path)
		ctl->conf_path = getenv("BULKHEAD_CONFIG") ? getenv("BULKHEAD_CONFIG") : BULKHEAD_CONFIG;
	*source = (struct conf_source){ .path = ctl->conf_path, .defines = defines, .n_defines = ctl->n_macros,
		.families = lang_macro_families(&ctl->arena) };
	for (unsigned i = 0; i < ctl->n_macros; i++) {
		const char *eq = strchr(ctl->macros[i], '=');

		defines[i].name = eq ? str_cstr(&ctl->arena, str_make(ctl->macros[i], (size_t)(eq - ctl->macros[i]))) : ctl->macros[i];
		defines[i].value = eq ? eq + 1 : "";
	}
}

struct conf *config_read(struct ctl *ctl, bool check)
{
	struct conf_define defines[CTL_MACROS_MAX];
	struct conf_source source;
	struct conf *conf;

	source_fill(ctl, &source, defines);
	conf_read(&source, &conf);
	if (check) {
		struct lang *lang = lang_new(conf, NULL);
		struct conf_checks checks = { .ctx = NULL };

		lang_checks(lang, &checks);
		conf_check(conf, &checks);
		lang_free(lang);
		if (!conf->n_errors)
			relay_try(conf);
	}
	return conf;
}

static struct conf *conf_load(struct ctl *ctl, bool check)
{
	struct conf *conf = config_read(ctl, false);

	if (check && !conf->n_errors) {
		conf_free(conf);
		conf = config_read(ctl, true);
	}
	if (conf->n_errors) {
		problems_print(ctl, conf, CONF_ERROR);
		ctl_fail(CTL_CONFIG, "%s: %u error%s", ctl->conf_path, conf->n_errors, conf->n_errors == 1 ? "" : "s");
		conf_free(conf);
		return NULL;
	}
	return conf;
}

const struct conf *ctl_conf(struct ctl *ctl)
{
	if (!ctl->conf)
		ctl->conf = conf_load(ctl, false);
	return ctl->conf;
}

/* What only the daemon itself sees: it is started with its view, as master would do, and says on standard error what it can't work with. */
static bool daemon_agrees(struct ctl *ctl, const char *name, uint32_t see)
{
	static const int logs[3] = { -1, -1, -1 };
	struct offline_daemon d;
	struct err err = ERR_INIT;
	enum status st = offline_daemon_start(ctl, &d, name, see, logs, &err);

	if (!st)
		st = offline_daemon_go(&d, &err);
	while (!st && !d.ready)
		st = offline_daemon_read(&d, &ctl->arena, OFFLINE_START_MS, NULL, NULL, &err);
	offline_daemon_stop(&d);
	if (st && !d.failed)
		fprintf(stderr, "warning: %s could not be started to look at it: %s\n", name, err.text);
	return !d.failed;
}

int ctl_check_config(struct ctl *ctl, int argc, char **argv)
{
	unsigned warnings;

	if (argc == 3 && !strcmp(argv[1], "--exim"))
		return ctl_migrate(ctl, argv[2]);
	if (argc > 1)
		return ctl_fail(CTL_USAGE, "check-config takes nothing but --exim FILE; our own file is named with -C before the verb");
	ctl->conf = conf_load(ctl, true);
	if (!ctl->conf)
		return CTL_CONFIG;
	keys_try(ctl->conf);
	warnings = problems_print(ctl, ctl->conf, CONF_WARNING);
	if (!daemon_agrees(ctl, "router", V_ROUTER) || !daemon_agrees(ctl, "policyd", V_POLICYD))
		return ctl_fail(CTL_CONFIG, "%s: 1 error", ctl->conf_path);
	printf("%s: no errors", ctl->conf_path);
	if (warnings)
		printf(", %u warning%s", warnings, warnings == 1 ? "" : "s");
	putchar('\n');
	return CTL_OK;
}

/* A file with errors still says where the running instance is, and that must be reached: to ask it, to stop it. */
const struct conf *ctl_conf_any(struct ctl *ctl)
{
	struct conf_define defines[CTL_MACROS_MAX];
	struct conf_source source;

	if (ctl->conf || ctl->conf_any)
		return ctl->conf ? ctl->conf : ctl->conf_any;
	/* Ordinary users may not be able to read it. */
	if (!ctl->conf_path && access(BULKHEAD_CONFIG, R_OK) < 0)
		return NULL;
	source_fill(ctl, &source, defines);
	conf_read(&source, &ctl->conf_any);
	return ctl->conf_any;
}

const char *ctl_run_directory(struct ctl *ctl)
{
	const struct conf *conf;

	if (ctl->run_directory)
		return ctl->run_directory;
	if (getenv("BULKHEAD_RUN"))
		return ctl->run_directory = getenv("BULKHEAD_RUN");
	conf = ctl_conf_any(ctl);
	if (!conf) /* the usual place is then the best guess */
		return ctl->run_directory = "/run/bulkhead";
	return ctl->run_directory = conf->main.run_directory.text.len ? str_cstr(&ctl->arena, conf->main.run_directory.text) : NULL;
}

const char *ctl_libexec(struct ctl *ctl)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	char *slash;

	if (getenv("BULKHEAD_LIBEXEC"))
		return getenv("BULKHEAD_LIBEXEC");
	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		if (slash && slash - path > 4 && !strncmp(slash - 4, "/bin", 4)) {
			const char *beside = arena_printf(&ctl->arena, "%.*s/libexec", (int)(slash - path - 4), path);

			if (!access(arena_printf(&ctl->arena, "%s/master", beside), X_OK))
				return beside;
		}
	}
	return BULKHEAD_LIBEXECDIR;
}

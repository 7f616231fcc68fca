/* SPDX-License-Identifier: ISC */
/* ctl_show.c - config show: what the configuration comes to, for all or as one daemon sees it. */
#include <string.h>
#include <unistd.h>

#include "common/conf/show.h"
#include "common/conf/view.h"
#include "ctl/ctl.h"

static const struct {
	const char *name;
	uint32_t see;
} daemons[] = {
	{ "master", V_MASTER }, { "smtpd", V_SMTPD }, { "policyd", V_POLICYD }, { "router", V_ROUTER }, { "qmgr", V_QMGR },
	{ "smtp-out", V_SMTP_OUT }, { "local", V_LOCAL }, { "query", V_QUERY }, { "queuefile", V_QUEUEFILE }, { "keyd", V_KEYD },
};
enum { DAEMONS = sizeof daemons / sizeof *daemons };

/* What the daemon is handed by master; the caller frees it. */
static struct conf *daemon_view(const struct conf *conf, const char *name)
{
	struct err err = ERR_INIT;
	struct conf *view = NULL;
	struct buf octets = BUF_INIT;
	unsigned i = 0;

	while (i < DAEMONS && strcmp(daemons[i].name, name))
		i++;
	if (i == DAEMONS) {
		ctl_fail(CTL_USAGE, "config show: there is no daemon \"%s\"", name);
		return NULL;
	}
	if (conf_view_encode(conf, daemons[i].see, &octets, &err) || conf_view_decode(buf_str(&octets), &view, &err)) {
		ctl_fail(CTL_SOFTWARE, "config show: %s", err.text);
		view = NULL;
	}
	buf_clear(&octets);
	return view;
}

static int config_show(struct ctl *ctl, int argc, char **argv)
{
	struct conf_show how = { .places = false };
	const struct conf *conf;
	struct conf *view = NULL;
	const char *daemon = NULL;
	struct buf out = BUF_INIT;
	int code = CTL_OK, i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--daemon") && i + 1 < argc)
			daemon = argv[++i];
		else if (!strcmp(argv[i], "--set"))
			how.set_only = true;
		else if (!strcmp(argv[i], "--places"))
			how.places = true;
		else if (!strcmp(argv[i], "--secrets"))
			how.secrets = true;
		else
			return ctl_fail(CTL_USAGE, "config show: \"%s\": there are --daemon NAME, --set, --places and --secrets, then names", argv[i]);
	}
	if (how.secrets && geteuid() != 0)
		return ctl_fail(CTL_NOPERM, "config show: --secrets is for root");
	conf = ctl_conf(ctl);
	if (!conf)
		return CTL_CONFIG;
	if (daemon) {
		conf = view = daemon_view(conf, daemon);
		if (!view)
			return CTL_USAGE;
	}
	if (i == argc)
		conf_show(conf, &how, &out);
	for (; i < argc; i++)
		if (!conf_show_one(conf, &how, str_of(argv[i]), &out))
			code = ctl_fail(CTL_FAILED, "config show: there is no main option, list (+name), router, transport or authenticator \"%s\"", argv[i]);
	fwrite(out.p ? out.p : "", 1, out.len, stdout);
	buf_clear(&out);
	conf_free(view);
	return code;
}

static const struct ctl_verb config_verbs[] = {
	{ "show", "[--daemon NAME] [--set] [--places] [NAME...]", "effective values; secrets are hidden", config_show },
	{ NULL, NULL, NULL, NULL }
};

int ctl_config(struct ctl *ctl, int argc, char **argv)
{
	if (argc < 2 || !strcmp(argv[1], "help")) {
		ctl_verbs_show(argc < 2 ? stderr : stdout, config_verbs, "bulkhead config");
		return argc < 2 ? CTL_USAGE : CTL_OK;
	}
	return ctl_verb_run(ctl, config_verbs, "bulkhead config", argc - 1, argv + 1);
}

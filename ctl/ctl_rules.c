/* SPDX-License-Identifier: ISC */
/* ctl_rules.c - what the rewriting rules make of addresses, and which retry rule holds, as `exim -brw` and `exim -brt` say it. */
#include <string.h>

#include "common/ipc/enums.h"
#include "ctl/offline.h"

static int rules_print(struct ctl *ctl, struct offline *o, const struct ipc_rules_ask *ask)
{
	struct ipc_rules_answer answer;
	struct err err = ERR_INIT;
	enum status st = offline_call(ctl, o, &ipc_type_rules_ask, ask, NULL, 0, &ipc_type_rules_answer, &answer, &err);

	if (st)
		return ctl_fail(CTL_SOFTWARE, "%s", err.text);
	for (uint32_t i = 0; i < answer.lines.n; i++)
		printf("%.*s\n", STR_FMT(answer.lines.v[i]));
	return answer.status == ST_OK ? CTL_OK : CTL_FAILED;
}

int ctl_rewrite(struct ctl *ctl, int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct offline o;
	int code = CTL_OK;

	if (argc < 2)
		return ctl_fail(CTL_USAGE, "rewrite wants addresses");
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	if (offline_start(ctl, &o, &err))
		return ctl_fail(CTL_SOFTWARE, "rewrite: %s", err.text);
	for (int i = 1; i < argc && !code; i++) {
		struct str arg = str_of(argv[i]);
		struct ipc_rules_ask ask = { .what = RULES_REWRITE, .args = { &arg, 1 } };

		if (!arg.p)
			arg = STR_LIT("");
		code = rules_print(ctl, &o, &ask);
	}
	offline_stop(&o);
	return code;
}

int ctl_retry_rule(struct ctl *ctl, int argc, char **argv)
{
	struct ipc_rules_ask ask = { .what = RULES_RETRY };
	struct err err = ERR_INIT;
	struct str args[3];
	struct offline o;
	int code;

	ask.args.v = args;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-f") && i + 1 < argc) {
			ask.sender = str_of(argv[++i]);
			ask.has_sender = true;
		} else if (argv[i][0] == '-' && argv[i][1]) {
			return ctl_fail(CTL_USAGE, "retry-rule: option %s is not known; -f SENDER is", argv[i]);
		} else if (ask.args.n < 3) {
			args[ask.args.n++] = str_of(argv[i]);
		} else {
			return ctl_fail(CTL_USAGE, "retry-rule: at most three arguments: ADDRESS|HOST [DOMAIN] [ERROR]");
		}
	}
	if (!ask.args.n)
		return ctl_fail(CTL_USAGE, "retry-rule wants an address or a host");
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	if (offline_start(ctl, &o, &err))
		return ctl_fail(CTL_SOFTWARE, "retry-rule: %s", err.text);
	code = rules_print(ctl, &o, &ask);
	offline_stop(&o);
	return code;
}

/* SPDX-License-Identifier: ISC */
/* The command: `bulkhead`, and what everyone knows as `sendmail` and `mailq`. */
#include <string.h>

#include "ctl/ctl.h"

static bool options_take(struct ctl *ctl, int *argc, char ***argv)
{
	for (; *argc > 1 && (*argv)[1][0] == '-'; (*argc)--, (*argv)++) {
		const char *a = (*argv)[1];
		bool more = *argc > 2;

		if (!strcmp(a, "--json")) {
			ctl->json = true;
			continue;
		}
		if (!strcmp(a, "--help") || !strcmp(a, "-h") || !more)
			return false;
		if (!strcmp(a, "-C"))
			ctl->conf_path = (*argv)[2];
		else if (!strcmp(a, "--run"))
			ctl->run_directory = (*argv)[2];
		else if (!strcmp(a, "-D") && ctl->n_macros < CTL_MACROS_MAX)
			ctl->macros[ctl->n_macros++] = (*argv)[2];
		else
			return false;
		(*argc)--;
		(*argv)++;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct ctl ctl = { .arena = ARENA_INIT };
	const char *name = strrchr(argv[0], '/');
	int code;

	name = name ? name + 1 : argv[0];
	if (!strcmp(name, "sendmail")) {
		code = ctl_sendmail(&ctl, argc, argv);
	} else if (!strcmp(name, "mailq")) {
		code = ctl_mailq(&ctl, argc, argv);
	} else if (argc < 2 || !options_take(&ctl, &argc, &argv) || argc < 2 || !strcmp(argv[1], "help")) {
		bool asked = argc > 1 && (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));

		ctl_verbs_show(asked ? stdout : stderr, ctl_verbs, "bulkhead");
		code = asked ? CTL_OK : CTL_USAGE;
	} else {
		code = ctl_verb_run(&ctl, ctl_verbs, "bulkhead", argc - 1, argv + 1);
	}
	if (fflush(stdout) || ferror(stdout))
		code = code ? code : CTL_IOERR;
	arena_clear(&ctl.arena);
	return code;
}

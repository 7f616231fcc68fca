/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "local/local_daemon.h"

/* One program, three kinds of process: master names it. */
static const struct {
	const char *name;
	const struct pool_spec *spec;
} kinds[] = {
	{ "pipe/", &pipe_daemon_spec }, { "query/", &query_daemon_spec },
};

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i++)
		for (size_t k = 0; !strcmp(argv[i], "--name") && k < sizeof kinds / sizeof *kinds; k++)
			if (!strncmp(argv[i + 1], kinds[k].name, strlen(kinds[k].name)))
				return pool_main(kinds[k].spec, argc, argv);
	return pool_main(&local_daemon_spec, argc, argv);
}

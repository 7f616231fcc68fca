/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "local/local_daemon.h"

/* One program, two kinds of process: master names it. */
int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--name") && !strncmp(argv[i + 1], "pipe/", 5))
			return pool_main(&pipe_daemon_spec, argc, argv);
	return pool_main(&local_daemon_spec, argc, argv);
}

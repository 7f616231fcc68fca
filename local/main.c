/* SPDX-License-Identifier: ISC */
#include "local/local_daemon.h"

int main(int argc, char **argv)
{
	return pool_main(&local_daemon_spec, argc, argv);
}

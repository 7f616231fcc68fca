/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_daemon.h"

int main(int argc, char **argv)
{
	return daemon_main(&out_daemon_spec, argc, argv);
}

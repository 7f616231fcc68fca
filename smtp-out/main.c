/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_daemon.h"
#include "smtp-out/smtp_auth.h"

int main(int argc, char **argv)
{
	smtp_auth_prepare();
	return daemon_main(&out_daemon_spec, argc, argv);
}

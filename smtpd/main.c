/* SPDX-License-Identifier: ISC */
#include "smtpd/smtpd.h"

int main(int argc, char **argv)
{
	smtpd_prepare();
	return daemon_main(&smtpd_spec, argc, argv);
}

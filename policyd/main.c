/* SPDX-License-Identifier: ISC */
#include "policyd/policyd.h"

int main(int argc, char **argv)
{
	policyd_prepare();
	return pool_main(&policyd_spec, argc, argv);
}

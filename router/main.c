/* SPDX-License-Identifier: ISC */
#include "router/router.h"

int main(int argc, char **argv)
{
	return pool_main(&router_spec, argc, argv);
}

/* SPDX-License-Identifier: ISC */
#include "queuefile/queuefile.h"

int main(int argc, char **argv)
{
	return pool_main(&queuefile_spec, argc, argv);
}

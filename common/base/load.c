/* SPDX-License-Identifier: ISC */
#include "common/base/load.h"

#include <sys/sysinfo.h>

bool load_average(uint32_t *thousandths_out)
{
	struct sysinfo info;

	if (sysinfo(&info))
		return false;
	*thousandths_out = (uint32_t)((unsigned long long)info.loads[0] * 1000 >> SI_LOAD_SHIFT);
	return true;
}

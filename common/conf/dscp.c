/* SPDX-License-Identifier: ISC */
#include "common/conf/dscp.h"

#include "common/conf/option.h"

enum { CODE_POINT_MAX = 0x3f };

enum status conf_dscp_parse(struct str s, int16_t *tos_out, struct err *err)
{
	static const struct { const char *name; uint8_t tos; } names[] = {
		{ "af11", 0x28 }, { "af12", 0x30 }, { "af13", 0x38 }, { "af21", 0x48 }, { "af22", 0x50 }, { "af23", 0x58 },
		{ "af31", 0x68 }, { "af32", 0x70 }, { "af33", 0x78 }, { "af41", 0x88 }, { "af42", 0x90 }, { "af43", 0x98 },
		{ "ef", 0xb8 }, { "cs0", 0 }, { "cs1", 0x20 }, { "cs2", 0x40 }, { "cs3", 0x60 }, { "cs4", 0x80 }, { "cs5", 0xa0 },
		{ "cs6", 0xc0 }, { "cs7", 0xe0 }, { "lowcost", 0x02 }, { "lowdelay", 0x10 }, { "throughput", 0x08 }, { "reliability", 0x04 }, { "mincost", 0x02 },
	};
	int64_t n;

	s = str_trim(s);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (str_isi(s, names[i].name)) {
			*tos_out = names[i].tos;
			return ST_OK;
		}
	if (conf_int_parse(s, &n, NULL) || n < 0 || n > CODE_POINT_MAX)
		return err_set(err, ST_ERROR, "\"%.*s\" is neither a number from 0 to 0x3f nor one of the names af11 to af43, cs0 to cs7, ef, lowcost, lowdelay, "
			"mincost, reliability and throughput", STR_FMT(str_sub(s, 0, 60)));
	*tos_out = (int16_t)(n << 2);
	return ST_OK;
}

/* SPDX-License-Identifier: ISC */
/* What scanners answer, and the options that name them. The first octet says which. */
#include <stdint.h>
#include <stdlib.h>

#include "common/lang/scan_server.h"
#include "policyd/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer_check(enum status st, const struct lang_scan_answer *a, const struct err *err)
{
	if (st != ST_OK && (st != ST_DEFER || !err->text[0]))
		abort();
	if (a->report.len > SCAN_REPORT_MAX || a->score.len > 32 || (st == ST_OK && a->found && a->name.p && !a->name.len))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lang_scan_answer answer = { 0 };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct scan_servers servers;
	struct str text;

	if (size < 1 || size > SCAN_ANSWER_MAX)
		return 0;
	text = str_make((const char *)data + 1, size - 1);
	switch (data[0] & 3) {
	case 0:
		answer_check(scan_clamd_read(text, &answer, &err), &answer, &err);
		break;
	case 1:
		answer_check(scan_spamd_read(&a, text, false, &answer, &err), &answer, &err);
		break;
	case 2:
		answer_check(scan_spamd_read(&a, text, true, &answer, &err), &answer, &err);
		break;
	case 3:
		if (scan_servers_parse(&a, text, size & 1, &servers, &err) == ST_OK && (!servers.n || servers.n > SCAN_SERVERS_MAX))
			abort();
		break;
	}
	arena_clear(&a);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* Redirection data and routing rules. */
#include <stddef.h>
#include <stdint.h>

#include "router/manual_rule.h"
#include "router/redirect_list.h"
#include "router/site.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = ARENA_INIT;
	struct str text = str_taint(str_make(arena_memdup(&a, data, size), size));
	struct redirect_scan scan = REDIRECT_SCAN(text);
	struct redirect_item item;
	struct manual_rule rule;
	struct host_items hosts;
	struct err err = ERR_INIT;

	while (redirect_next(&scan, &a, &item)) {
		struct str reason = item.text, status;
		if (item.kind == REDIRECT_FAIL) {
			redirect_codes_take(&reason, '5', &status);
			reason = item.text;
			redirect_codes_drop(&reason);
		}
	}
	manual_rule_parse(text, &a, &rule, &err);
	host_items_parse(text, &a, &hosts, &err);
	arena_clear(&a);
	return 0;
}

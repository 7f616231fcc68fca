/* SPDX-License-Identifier: ISC */
/* Paths and address lists. What is accepted must be accepted again alone, and must be fit for a command line. */
#include <stdint.h>
#include <stdlib.h>

#include "common/mail/address.h"
#include "common/mail/addrlist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct address addr, again;
	struct addrlist list;
	struct str in, rest, item;
	unsigned flags;

	if (!size || size > 65536)
		return 0;
	flags = data[0];
	in = str_make((const char *)data + 1, size - 1);
	if (address_path_parse(in, flags, &addr, &rest, &err) == ST_OK && addr.text.len) {
		struct str local, domain;

		if (str_has_ctl(addr.text) || address_parse(addr.text, flags | ADDR_UNQUALIFIED, &again, &err) != ST_OK)
			abort();
		if (address_split(addr.text, &local, &domain) != (addr.domain.p != NULL) || !str_eq(local, addr.local))
			abort();
		if (!address_same(&a, addr.text, address_lower_domain(&a, addr.text)))
			abort();
	}
	if (addrlist_parse(in, flags, &a, &list, &err) == ST_OK)
		for (uint32_t i = 0; i < list.n; i++)
			if (list.v[i].addr.len && address_parse(list.v[i].addr, flags | ADDR_UNQUALIFIED | ADDR_LITERALS, &addr, &err) != ST_OK)
				abort();
	for (rest = in; addrlist_item_next(&rest, &item);)
		;
	if (address_xtext_decode(&a, in, &item))
		address_xtext_encode(&a, item);
	arena_clear(&a);
	return 0;
}

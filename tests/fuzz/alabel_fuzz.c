/* SPDX-License-Identifier: ISC */
/* UTF-8 and IDNA from a stranger: whatever is converted comes back, and what is said to be ASCII is. */
#include <stdint.h>
#include <stdlib.h>

#include "common/mail/address.h"
#include "common/mail/alabel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = ARENA_INIT;
	struct str text = str_make((const char *)data, size), out, back;
	struct address addr;
	bool valid;

	if (size > 4096)
		return 0;
	valid = address_utf8_valid(text);
	if (!alabel_local_encode(&a, text, &out, NULL) && !address_is_ascii(text)) {
		want(address_is_ascii(out));
		want(!alabel_local_decode(&a, out, &back, NULL) && str_eq(back, text));
	}
	if (!alabel_local_decode(&a, text, &out, NULL))
		want(address_is_ascii(text));
	if (!alabel_domain_encode(&a, text, &out, NULL) && !address_is_ascii(text)) {
		want(address_is_ascii(out) && address_utf8_valid(text));
		want(!alabel_domain_encode(&a, out, &back, NULL) && str_eq(back, out));
	}
	if (alabel_domain_other(&a, text, &out))
		want(address_is_ascii(out) != address_is_ascii(text));
	alabel_domain_decode(&a, text, &out, NULL);
	out = utf8_nfc(&a, text);
	want(str_eq(utf8_nfc(&a, out), out));
	if (address_unitext_decode(&a, text, &out)) {
		want(address_utf8_valid(out));
		want(address_is_ascii(address_unitext_encode(&a, out, true)));
		want(address_unitext_decode(&a, address_unitext_encode(&a, out, true), &back) && str_eq(back, out));
		want(address_unitext_decode(&a, address_unitext_encode(&a, out, false), &back) && str_eq(back, out));
	}
	if (!address_parse(text, ADDR_UTF8, &addr, NULL))
		want(valid);
	arena_clear(&a);
	return 0;
}

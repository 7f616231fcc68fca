/* SPDX-License-Identifier: ISC */
/* A header from a stranger, with edits taken from the same input; dates; message ids. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mail/date.h"
#include "common/mail/edit.h"
#include "common/mail/header.h"
#include "common/mail/msgid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct str text = STR_LIT("X-Added: 1\r\n"), name = STR_LIT("Received"), names = STR_LIT("a:X-*");
	struct arena a = ARENA_INIT;
	struct header_scan scan;
	struct header_field field;
	struct ipc_edit edits[8];
	struct edit_input in = { .edits = edits, .fd = -1, .headers_remove = { NULL, 0 } };
	struct str out, all, remove = names;
	struct err err = ERR_INIT;
	size_t sum = 0, end;
	bool closed;
	int64_t t;

	if (size < 2 || size > 1 << 20)
		return 0;
	all = str_make((const char *)data + 2, size - 2);
	header_scan_init(&scan, all);
	while (header_scan_next(&scan, &field)) {
		if (field.at != sum || !field.name.len)
			abort();
		for (size_t i = 0; i < field.name.len; i++)
			if (!header_name_octet(field.name.p[i]))
				abort();
		sum += field.raw.len;
		date_parse(field.value, &t);
		header_msgid(field.value);
		header_unfold(&a, field.value);
		header_crlf(&a, field.raw);
	}
	end = header_end(all, &closed);
	if (end != scan.at || (!closed && end != sum))
		abort();
	for (unsigned i = 0; i < 8; i++)
		edits[i] = (struct ipc_edit){ .op = 1 + (data[0] + i * data[1]) % 5u, .text = text };
	for (unsigned i = 0; i < 8; i++)
		if (edits[i].op == EDIT_REMOVE)
			edits[i].text = name;
	in.n_edits = data[0] % 9u;
	in.header_size = end;
	in.header = end ? str_sub(all, 0, end) : STR_NULL;
	/* The flag and the empty line need not agree in a file from elsewhere. */
	in.flags = data[1] & 64 ? MSG_HEADER_OPEN : closed ? 0 : MSG_HEADER_OPEN;
	if (data[1] & 128)
		in.headers_remove = (struct ipc_strs){ &remove, 1 };
	if (edit_text(&in, &a, &out, &err) == ST_OK && (out.len < 2 || out.p[out.len - 1] != '\n'))
		if (closed || end < 2)
			abort();
	msgid_time_us(all);
	arena_clear(&a);
	return 0;
}

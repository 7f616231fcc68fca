/* SPDX-License-Identifier: ISC */
/* A packet from a daemon that was taken over; what decodes is encoded again and must come out the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipc_packet packet = { .data = BUF_INIT, .n_fds = 0 };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct ipc_in in;

	buf_add(&packet.data, data, size);
	while (packet.data.len && ipc_packet_next(&packet, &a, &in, &err) == ST_OK) {
		struct buf wire = BUF_INIT, one = BUF_INIT, two = BUF_INIT;
		void *back = arena_alloc(&a, in.type->size);

		if (ipc_encode(in.type, in.msg, &wire, &err) || ipc_decode(in.type, buf_str(&wire), &a, back, &err))
			abort();
		ipc_dump(in.type, in.msg, &one);
		ipc_dump(in.type, back, &two);
		if (one.len != two.len || memcmp(one.p, two.p, one.len))
			abort();
		buf_clear(&wire);
		buf_clear(&one);
		buf_clear(&two);
	}
	ipc_packet_clear(&packet);
	arena_clear(&a);
	return 0;
}

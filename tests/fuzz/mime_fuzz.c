/* SPDX-License-Identifier: ISC */
/* A message's MIME parts, and each of them decoded. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mail/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is found lies in the message, in order, within the limits; what is kept of it is no more than was asked for. */
static void part_check(const struct mime_part *p)
{
	struct buf keep = BUF_LIMIT(1000);
	enum mime_anomaly anomaly;
	struct err err = ERR_INIT;
	uint64_t made;

	if (p->body > p->end || p->end > p->source->size || p->attached > MIME_ATTACHED_MAX)
		abort();
	if (p->filename.len > MIME_HEADER_MAX || p->boundary.len > MIME_HEADER_MAX)
		abort();
	if (mime_part_decode(p, &keep, &made, &anomaly, &err) != ST_OK || keep.len > 1000 || keep.len > made || made > p->end - p->body)
		abort();
	if (p->encoding == MIME_IDENTITY && anomaly)
		abort();
	buf_clear(&keep);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mime_source source = { .fd = -1, .memory = (const char *)data, .size = size };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct mime_tree tree;
	const struct mime_part *p, *before = NULL;
	unsigned n = 0;

	if (size > 1 << 20)
		return 0;
	mime_parse(&tree, &a, &source, &err);
	for (p = tree.first; p; before = p, p = p->next) {
		n++;
		part_check(p);
		if (before && p->number && p->source == before->source && p->attached == before->attached && p->body < before->body)
			abort();
	}
	if (n != tree.n || n > MIME_PARTS_MAX || !n)
		abort();
	mime_clear(&tree);
	arena_clear(&a);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* On the disk, little endian:
 *   batch   u32 magic, u32 checksum of all that follows, u64 number, u64 oldest needed, u32 octets used with this head, u32 flags
 *   entry   u32 type, u32 length, u32 salt, u32 seq, id[24]; payload, filled up to 8 with zeros */
#include "common/spool/journal.h"

#include <endian.h>
#include <string.h>

#include "common/spool/format.h"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "journal and files are kept as this processor has them");

enum { BATCH_MAGIC = 0x314a4842 /* "BHJ1" */, BATCH_RESTART = 1 };

struct batch_head {
	uint32_t magic, crc;
	uint64_t number, oldest;
	uint32_t used, flags;
};
_Static_assert(sizeof(struct batch_head) == JOURNAL_BATCH_HEAD, "no padding");
_Static_assert(sizeof(struct journal_entry) == JOURNAL_ENTRY_HEAD, "no padding");

static void fill(struct buf *out, size_t align)
{
	size_t n = (align - out->len % align) % align;

	if (n)
		memset(buf_room(out, n), 0, n);
	out->len += n;
}

void journal_batch_open(struct buf *out)
{
	struct batch_head head = { .magic = BATCH_MAGIC };

	buf_add(out, &head, sizeof head);
}

size_t journal_entry_open(struct buf *out, const struct journal_entry *entry)
{
	buf_add(out, entry, sizeof *entry);
	return out->len;
}

void journal_entry_close(struct buf *out, size_t payload)
{
	uint32_t n = (uint32_t)(out->len - payload);

	memcpy(out->p + payload - JOURNAL_ENTRY_HEAD + offsetof(struct journal_entry, length), &n, sizeof n);
	fill(out, 8);
}

void journal_batch_close(struct buf *out, uint64_t number, uint64_t oldest, bool restart)
{
	struct batch_head head = { .magic = BATCH_MAGIC, .number = number, .oldest = oldest, .used = (uint32_t)out->len,
		.flags = restart ? BATCH_RESTART : 0 };

	memcpy(out->p, &head, sizeof head);
	head.crc = spool_crc(0, out->p + 8, out->len - 8);
	memcpy(out->p, &head, sizeof head);
	fill(out, JOURNAL_ALIGN);
}

bool journal_batch_read(struct str data, struct journal_batch *out)
{
	struct batch_head head;

	if (data.len < sizeof head)
		return false;
	memcpy(&head, data.p, sizeof head);
	if (head.magic != BATCH_MAGIC || head.used < sizeof head || head.used > data.len)
		return false;
	if (spool_crc(0, data.p + 8, head.used - 8) != head.crc)
		return false;
	*out = (struct journal_batch){ .number = head.number, .oldest = head.oldest, .used = head.used,
		.octets = (head.used + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN, .restart = head.flags & BATCH_RESTART, .p = data.p };
	return true;
}

bool journal_entry_next(const struct journal_batch *batch, uint32_t *at, struct journal_entry *entry_out, struct str *payload_out)
{
	uint32_t left;

	if (!*at)
		*at = JOURNAL_BATCH_HEAD;
	left = batch->used - *at;
	if (left < sizeof *entry_out)
		return false;
	memcpy(entry_out, batch->p + *at, sizeof *entry_out);
	left -= (uint32_t)sizeof *entry_out;
	if (entry_out->length > left || !memchr(entry_out->id, 0, sizeof entry_out->id))
		return false;
	*payload_out = str_make(batch->p + *at + sizeof *entry_out, entry_out->length);
	left = (entry_out->length + 7) / 8 * 8 < left ? (entry_out->length + 7) / 8 * 8 : left;
	*at += (uint32_t)sizeof *entry_out + left;
	return true;
}

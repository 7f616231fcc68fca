/* SPDX-License-Identifier: ISC */
/* A message file from elsewhere. The first octet chooses whether checksums are made right first, so that what they guard is reached
 * too. What is accepted must encode to the same envelope and records again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/spool/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A head that fits what follows; then each record's checksum. */
static void mend(char *p, size_t n)
{
	struct spool_head head = { 0 };
	size_t at;

	if (n < SPOOL_HEAD + 4)
		return;
	memcpy(&head.content, p + 16, 1);
	memcpy(&head.envelope, p + 24, 2);
	if (head.content + head.envelope > n - SPOOL_HEAD)
		return;
	at = SPOOL_HEAD + head.content + head.envelope;
	head.content_crc = spool_crc(0, p + SPOOL_HEAD, head.content);
	head.envelope_crc = spool_crc(0, p + SPOOL_HEAD + head.content, head.envelope);
	spool_head_encode(&head, SPOOL_HEAD_COMPLETE, (unsigned char *)p);
	for (uint32_t seq = 1; n - at >= SPOOL_RECORD_HEAD; seq++) {
		uint32_t length, crc, zero = 0;

		memcpy(&length, p + at, 4);
		length &= 0xff;
		memcpy(p + at, &length, 4);
		memcpy(p + at + 8, &seq, 4);
		memcpy(p + at + 12, &zero, 4);
		if (n - at < SPOOL_RECORD_HEAD + (length + 7) / 8 * 8)
			return;
		crc = spool_crc(head.salt, &length, 4);
		crc = spool_crc(crc, &seq, 4);
		crc = spool_crc(crc, p + at + SPOOL_RECORD_HEAD, length);
		memcpy(p + at + 4, &crc, 4);
		memset(p + at + SPOOL_RECORD_HEAD + length, 0, (8 - length % 8) % 8);
		at += SPOOL_RECORD_HEAD + (length + 7) / 8 * 8;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct spool_file file;
	char *p;
	int fd;

	if (!size || size > 65536)
		return 0;
	p = malloc(size);
	memcpy(p, data + 1, size - 1);
	if (data[0] & 1)
		mend(p, size - 1);
	fd = memfd_create("fuzz", 0);
	if (fd < 0 || write(fd, p, size - 1) != (ssize_t)size - 1)
		abort();
	if (spool_file_read(&spool_fs_real, fd, true, &a, &file, &err) == ST_OK) {
		struct buf out = BUF_INIT;
		struct ipc_spool_envelope back;

		if (file.end > file.size || file.end < SPOOL_HEAD + file.head.content + file.head.envelope)
			abort();
		if (ipc_encode(&ipc_type_spool_envelope, file.envelope, &out, &err) ||
		    ipc_decode(&ipc_type_spool_envelope, buf_str(&out), &a, &back, &err))
			abort();
		for (uint32_t i = 0; i < file.n_records; i++) {
			struct str payload;

			buf_reset(&out);
			if (spool_record_encode(&out, file.head.salt, i + 1, &file.records[i], &err) ||
			    spool_record_frame(buf_str(&out), file.head.salt, i + 1, &payload) != out.len)
				abort();
		}
		buf_clear(&out);
	} else if (err.status == ST_OK || !err.text[0]) {
		abort();
	}
	close(fd);
	free(p);
	arena_clear(&a);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* A remembered EHLO reply as the hints may hold it: what is parsed comes back the same when it is written and read again, and a client that goes
 * by it sends whole lines, takes any reply, and gives each recipient a result or asks for another connection. Input: the memory, LF, replies. */
#include <stdlib.h>
#include <string.h>

#include "smtp-out/smtp_early.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void lines_check(const struct buf *out)
{
	for (size_t i = 0; i < out->len; i++)
		if ((out->p[i] == '\n') != (i && out->p[i - 1] == '\r'))
			abort();
	if (out->len && out->p[out->len - 1] != '\n')
		abort();
}

static void talk(struct smtp_memory *memory, bool tls, const uint8_t *p, size_t n)
{
	const struct ipc_client_auth auth[] = {
		{ .name = STR_LIT("plain"), .mechanism = STR_LIT("PLAIN"), .driver = STR_LIT("plaintext"), .clear = true, .tls = true,
		  .send = { (struct str[]){ STR_LIT("x") }, 1 } },
		{ .name = STR_LIT("login"), .mechanism = STR_LIT("LOGIN"), .driver = STR_LIT("plaintext"), .clear = true, .tls = true },
	};
	struct smtp_profile profile = { .helo = STR_LIT("me"), .auth = auth, .n_auth = 2, .auth_try = memory->part[0].more, .try_chunking = true, .size_addition = 10 };
	struct arena a = ARENA_INIT;
	struct smtp_rcpt rcpts[2] = { { .addr = STR_LIT("r@x") }, { .addr = STR_LIT("s@x") } };
	struct smtp_txn txn = { .arena = &a, .sender = STR_LIT("a@b"), .size = 100, .eightbit = true, .rcpts = rcpts, .n_rcpts = 2 };
	struct smtp_client c;

	smtp_client_init(&c, &profile, &txn);
	c.memory = memory;
	c.tls_want = memory->part[0].size & 1 ? SMTP_TLS_TRY : SMTP_TLS_NO;
	if (tls) {
		smtp_client_tls_first(&c);
		smtp_client_tls_done(&c);
	} else {
		smtp_client_early(&c);
	}
	lines_check(&c.out);
	if (c.chunk_wanted)
		smtp_client_chunk_early(&c, 5);
	for (unsigned i = 0; i < 1000 && c.phase != SMTP_OVER && c.phase != SMTP_READY; i++) {
		if (c.phase == SMTP_BODY)
			smtp_client_body_sent(&c);
		else if (c.phase == SMTP_SHAKE)
			smtp_client_tls_done(&c);
		else if (n) {
			size_t part = n < 7 ? n : 7;

			smtp_client_input(&c, (const char *)p, part);
			p += part;
			n -= part;
		} else {
			smtp_client_lost(&c, SMTP_LOST_CLOSED, NULL);
		}
		smtp_client_sent(&c, c.out.len);
	}
	for (unsigned i = 0; i < 2; i++)
		if (!c.early_failed && !c.again_clear && !rcpts[i].result)
			abort();
	smtp_client_clear(&c);
	arena_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, '\n', size);
	size_t n = end ? (size_t)(end - data) : size;
	struct smtp_memory m, again;
	struct buf b = BUF_INIT;

	if (size > 65536)
		return 0;
	if (smtp_memory_parse(str_make((const char *)data, n), &m)) {
		smtp_memory_format(&m, &b);
		if (!smtp_memory_parse(buf_str(&b), &again) || memcmp(&m, &again, sizeof m))
			abort();
		buf_clear(&b);
		talk(&m, false, end ? end + 1 : data, end ? size - n - 1 : 0);
		talk(&again, true, end ? end + 1 : data, end ? size - n - 1 : 0);
	}
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* A session's entry as the hints may hold it: what is parsed is written again as it was, and offering it to a connection harms nothing. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/tls/tls.h"
#include "common/tls/tls_seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void offer(const struct tls_session *s)
{
	struct tls_options o = { .verify = TLS_VERIFY_TRY, .tickets = true };
	struct tls_peer peer = { .session = s };
	struct err err = ERR_INIT;
	struct tls_conn *c;
	struct tls_ctx *ctx;
	int pair[2];

	if (tls_ctx_new(&o, &ctx, &err) != ST_OK || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
		abort();
	c = tls_conn_new(ctx, pair[0], &peer, &err);
	if (!c || tls_handshake(c, &err) != TLS_WANT_READ)
		abort();
	tls_conn_free(c);
	tls_ctx_unref(ctx);
	close(pair[0]);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[TLS_SEAL_KEY] = { 1 };
	struct str text = str_make((const char *)data, size), out;
	struct arena a = ARENA_INIT;
	struct buf b = BUF_INIT;
	struct tls_session s, again;

	if (size > 65536)
		return 0;
	if (tls_unseal(key, STR_LIT("name"), text, &a, &out))
		abort(); /* nobody has this key */
	if (tls_session_parse(text, &s)) {
		tls_session_format(&b, &s);
		if (!tls_session_parse(buf_str(&b), &again) || !str_eq(s.der, again.der) || s.until != again.until || s.born != again.born || s.ocsp != again.ocsp ||
			s.verified != again.verified || s.dane != again.dane || s.once != again.once)
			abort();
		tls_session_serves(&s, &(struct tls_session_need){ .verified = true }, 1000);
		offer(&s);
	}
	buf_clear(&b);
	arena_clear(&a);
	return 0;
}

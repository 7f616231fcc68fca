/* SPDX-License-Identifier: ISC */
/* TLSA records as a zone may hold them: what we call usable is what the verification takes, and the other way round.
 * An input is records, each behind two octets of its length. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/tls/tls_tlsa.h"

enum { RECORDS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned records_read(const uint8_t *data, size_t size, struct str *wire)
{
	unsigned n = 0;

	while (size >= 2 && n < RECORDS) {
		size_t len = (size_t)data[0] << 8 | data[1];

		len = len < size - 2 ? len : size - 2;
		wire[n++] = str_make((const char *)data + 2, len);
		data += 2 + len;
		size -= 2 + len;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_options o = { .verify = TLS_VERIFY_NONE };
	struct str wire[RECORDS];
	struct tls_tlsa v[RECORDS];
	struct tls_peer peer = { .name = STR_LIT("mx.example.com"), .sni = STR_LIT("mx.example.com"), .tlsa = v };
	struct arena a = ARENA_INIT;
	struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	struct tls_conn *c;
	struct tls_ctx *ctx;
	unsigned n = records_read(data, size, wire), kept;
	int fd[2];

	kept = tls_tlsa_sort(wire, n);
	if (kept > n || kept > TLS_TLSA_MAX)
		abort();
	for (unsigned i = 0; i < kept; i++) {
		if (!tls_tlsa_parse(wire[i], &v[i]) || !tls_tlsa_usable(&v[i]) || !str_eq(tls_tlsa_format(&a, &v[i]), wire[i]))
			abort();
		if (i && str_cmp(wire[i - 1], wire[i]) >= 0)
			abort();
		tls_tlsa_show(wire[i], &text);
	}
	peer.n_tlsa = kept;
	if ((tls_tlsa_usages(v, kept) != 0) != (kept != 0))
		abort();
	if (kept && !tls_ctx_new(&o, &ctx, &err) && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd)) {
		c = tls_conn_new(ctx, fd[0], &peer, &err);
		if (!c)
			abort();
		tls_conn_free(c);
		tls_ctx_unref(ctx);
		close(fd[0]);
		close(fd[1]);
	}
	buf_clear(&text);
	arena_clear(&a);
	return 0;
}

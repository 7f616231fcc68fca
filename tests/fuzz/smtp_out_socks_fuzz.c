/* SPDX-License-Identifier: ISC */
/* What a SOCKS5 proxy says, in whatever pieces. The first octet chooses address family and login, the second how the rest is cut up. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "smtp-out/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct socks5_target target = { .port = 25 };
	enum socks5_result result = SOCKS5_BUSY;
	struct socks5 s;
	size_t cut;

	if (size < 2)
		return 0;
	target.v6 = data[0] & 1;
	cut = data[1] ? data[1] : 1;
	socks5_begin(&s, &target, data[0] & 2 ? STR_LIT("user") : STR_NULL, STR_LIT("secret"));
	for (data += 2, size -= 2; size && result == SOCKS5_BUSY;) {
		size_t n = cut < socks5_wants(&s) ? cut : socks5_wants(&s);

		bug_on(!n || socks5_wants(&s) > SOCKS5_IN_MAX || s.out_len > SOCKS5_OUT_MAX || !socks5_doing(&s));
		n = n < size ? n : size;
		socks5_sent(&s, (size_t)(s.out_len - s.out_at));
		result = socks5_input(&s, data, n);
		data += n;
		size -= n;
	}
	if (result == SOCKS5_BUSY)
		result = socks5_closed(&s);
	bug_on(result == SOCKS5_BUSY || (result == SOCKS5_THROUGH) != !s.why || socks5_wants(&s));
	bug_on(result != SOCKS5_TARGET_FAILED && s.error_no);
	socks5_clear(&s);
	return 0;
}

/* SPDX-License-Identifier: ISC */
/* A PROXY header from somebody who is no proxy: what is done stays so with more behind it, what is incomplete was so with less. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtpd/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header h, less;
	enum proxy_verdict verdict;

	if (!size || size > PROXY_HEADER_MAX)
		return 0;
	verdict = proxy_header_parse(data, size, &h);
	if (verdict == PROXY_DONE && (h.size > size || proxy_header_parse(data, h.size, &less) != PROXY_DONE || less.size != h.size))
		abort();
	if (verdict == PROXY_DONE && proxy_header_parse(data, h.size - 1, &less) != PROXY_MORE)
		abort();
	if (verdict == PROXY_MORE && (size == PROXY_HEADER_MAX || proxy_header_parse(data, size - 1, &less) != PROXY_MORE))
		abort();
	if (verdict == PROXY_BAD && !h.why)
		abort();
	return 0;
}

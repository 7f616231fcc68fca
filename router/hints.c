/* SPDX-License-Identifier: ISC */
#include <openssl/evp.h>
#include <string.h>

#include "router/hints_store.h"

struct str hints_key(struct arena *a, struct str space, struct str key)
{
	char *p = arena_alloc(a, HINTS_KEY_MAX + 1);
	size_t n = space.len;

	memcpy(p, space.p, n);
	p[n++] = ':';
	if (n + key.len <= HINTS_KEY_MAX) {
		if (key.len)
			memcpy(p + n, key.p, key.len);
		n += key.len;
	} else {
		unsigned char sum[EVP_MAX_MD_SIZE];
		unsigned len = 0;

		EVP_Digest(key.p, key.len, sum, &len, EVP_sha256(), NULL);
		p[n++] = '#';
		memcpy(p + n, sum, len);
		n += len;
	}
	return str_make(p, n);
}

bool hints_space_valid(struct str space)
{
	for (uint32_t i = 0; i < space.len; i++)
		if (!ascii_is_alnum(space.p[i]) && space.p[i] != '_')
			return false;
	return space.len && space.len <= HINTS_SPACE_MAX;
}

uint32_t hints_expire_s(uint64_t asked)
{
	return asked < UINT32_MAX ? (uint32_t)asked : UINT32_MAX;
}

void hints_do(struct hints *h, const struct ipc_hint_ask *ask, int64_t now, struct arena *a, struct ipc_hint_answer *out)
{
	*out = (struct ipc_hint_answer){ .status = ST_OK };
	if (hints_space_valid(ask->space) && hint_op_name(ask->op)) {
		h->store->run(h, ask, now, a, out);
		return;
	}
	out->status = ST_ERROR;
	out->text = STR_LIT("hints: no such operation or name space");
}

unsigned hints_expire(struct hints *h, int64_t now)
{
	return h->store->expire ? h->store->expire(h, now) : 0;
}

void hints_close(struct hints *h)
{
	if (h)
		h->store->close(h);
}

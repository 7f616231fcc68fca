/* SPDX-License-Identifier: ISC */
#include "common/base/hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/err.h"
#include "common/base/mem.h"

struct hash_slot {
	struct str key;
	void *value;    /* NULL: free */
	uint32_t sum;
};

static char hash_tomb; /* its address marks a removed entry */

static uint64_t hash_seed[2];
static pthread_once_t hash_seeded = PTHREAD_ONCE_INIT;

static void hash_seed_make(void)
{
	if (getrandom(hash_seed, sizeof hash_seed, 0) != sizeof hash_seed)
		abort();
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND(a, b, c, d) do { \
	a += b; b = ROTL(b, 13); b ^= a; a = ROTL(a, 32); c += d; d = ROTL(d, 16); d ^= c; \
	a += d; d = ROTL(d, 21); d ^= a; c += b; b = ROTL(b, 17); b ^= c; c = ROTL(c, 32); } while (0)

/* SipHash-1-3 (Aumasson, Bernstein): strong enough for tables. */
static uint64_t hash_sip(const unsigned char *p, size_t n, bool caseless)
{
	uint64_t a, b, c, d, m = 0;
	size_t left = n;

	pthread_once(&hash_seeded, hash_seed_make);
	a = hash_seed[0] ^ 0x736f6d6570736575ULL;
	b = hash_seed[1] ^ 0x646f72616e646f6dULL;
	c = hash_seed[0] ^ 0x6c7967656e657261ULL;
	d = hash_seed[1] ^ 0x7465646279746573ULL;
	for (;;) {
		size_t k = left < 8 ? left : 8;

		m = 0;
		for (size_t i = 0; i < k; i++)
			m |= (uint64_t)(unsigned char)(caseless ? ascii_lower((char)p[i]) : (char)p[i]) << (8 * i);
		if (k < 8)
			break;
		d ^= m;
		SIPROUND(a, b, c, d);
		a ^= m;
		p += 8;
		left -= 8;
	}
	m |= (uint64_t)n << 56;
	d ^= m;
	SIPROUND(a, b, c, d);
	a ^= m;
	c ^= 0xff;
	SIPROUND(a, b, c, d);
	SIPROUND(a, b, c, d);
	SIPROUND(a, b, c, d);
	return a ^ b ^ c ^ d;
}

uint64_t hash_bytes(const void *p, size_t n)
{
	return hash_sip(p, n, false);
}

static struct hash_slot *hash_find(const struct hash *h, struct str key, uint32_t sum, struct hash_slot **free_out)
{
	struct hash_slot *grave = NULL;

	for (uint32_t i = sum & (h->size - 1);; i = (i + 1) & (h->size - 1)) {
		struct hash_slot *s = &h->slots[i];

		if (!s->value) {
			if (free_out)
				*free_out = grave ? grave : s;
			return NULL;
		}
		if (s->value == &hash_tomb) {
			if (!grave)
				grave = s;
		} else if (s->sum == sum && (h->caseless ? str_eqi(s->key, key) : str_eq(s->key, key))) {
			return s;
		}
	}
}

static void hash_rebuild(struct hash *h, uint32_t size)
{
	struct hash_slot *old = h->slots;
	uint32_t old_size = h->size;

	h->slots = mem_new(sizeof *h->slots * size);
	h->size = size;
	h->dead = 0;
	for (uint32_t i = 0; i < old_size; i++) {
		struct hash_slot *to;

		if (!old[i].value || old[i].value == &hash_tomb)
			continue;
		hash_find(h, old[i].key, old[i].sum, &to);
		*to = old[i];
	}
	mem_free(old);
}

void *hash_get(const struct hash *h, struct str key)
{
	struct hash_slot *s;

	if (!h->used)
		return NULL;
	s = hash_find(h, key, (uint32_t)hash_sip((const void *)key.p, key.len, h->caseless), NULL);
	return s ? s->value : NULL;
}

void *hash_put(struct hash *h, struct str key, void *value)
{
	uint32_t sum = (uint32_t)hash_sip((const void *)key.p, key.len, h->caseless);
	struct hash_slot *s, *to = NULL;

	bug_on(!value);
	if ((h->used + h->dead + 1) * 4 >= h->size * 3)
		hash_rebuild(h, h->used * 2 < h->size && h->size ? h->size : h->size ? h->size * 2 : 16);
	s = hash_find(h, key, sum, &to);
	if (s) {
		void *before = s->value;

		s->value = value;
		return before;
	}
	if (to->value == &hash_tomb)
		h->dead--;
	*to = (struct hash_slot){ key, value, sum };
	h->used++;
	return NULL;
}

void *hash_remove(struct hash *h, struct str key)
{
	struct hash_slot *s;
	void *value;

	if (!h->used)
		return NULL;
	s = hash_find(h, key, (uint32_t)hash_sip((const void *)key.p, key.len, h->caseless), NULL);
	if (!s)
		return NULL;
	value = s->value;
	s->value = &hash_tomb;
	s->key = STR_NULL;
	h->used--;
	h->dead++;
	return value;
}

void hash_clear(struct hash *h)
{
	mem_free(h->slots);
	*h = (struct hash){ .caseless = h->caseless };
}

void *hash_next(const struct hash *h, uint32_t *pos, struct str *key_out)
{
	for (; *pos < h->size; (*pos)++) {
		struct hash_slot *s = &h->slots[*pos];

		if (s->value && s->value != &hash_tomb) {
			(*pos)++;
			if (key_out)
				*key_out = s->key;
			return s->value;
		}
	}
	return NULL;
}

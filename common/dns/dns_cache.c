/* SPDX-License-Identifier: ISC */
/* dns_cache.c - answers that still hold. */
#include "common/dns/dns_impl.h"

#include <string.h>

struct cache_entry {
	struct list recent;
	struct str key;
	uint64_t until_ms;
	enum status status;
	struct err err;
	struct dns_answer answer;
	size_t octets;
	_Alignas(16) char data[]; /* texts and rows */
};

/* Copies of an answer's parts are cut from one piece of memory. */
struct piece {
	char *p;
};

static size_t rounded(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

static void *piece_cut(struct piece *piece, const void *from, size_t n)
{
	void *to = piece->p;

	if (n)
		memcpy(to, from, n);
	piece->p += rounded(n);
	return to;
}

static size_t answer_octets(const struct dns_answer *x)
{
	size_t n = rounded(x->name.len) + rounded(x->n * sizeof *x->rows);

	for (uint32_t i = 0; i < x->n; i++) {
		const struct dns_row *r = &x->rows[i];
		n += rounded(r->owner.len) + rounded(r->data.len) + rounded(r->mail.len) + rounded(r->n_parts * sizeof *r->parts);
	}
	return n;
}

static void text_cut(struct piece *piece, struct str *s)
{
	if (s->len)
		s->p = piece_cut(piece, s->p, s->len);
}

/* The parts of a TXT row point into its data. */
static void answer_cut(struct piece *piece, const struct dns_answer *from, struct dns_answer *to)
{
	*to = *from;
	text_cut(piece, &to->name);
	to->rows = piece_cut(piece, from->rows, from->n * sizeof *from->rows);
	for (uint32_t i = 0; i < to->n; i++) {
		struct dns_row *r = &to->rows[i];
		const char *old = r->data.p;
		text_cut(piece, &r->owner);
		text_cut(piece, &r->data);
		text_cut(piece, &r->mail);
		r->parts = piece_cut(piece, r->parts, r->n_parts * sizeof *r->parts);
		for (uint32_t k = 0; k < r->n_parts; k++)
			if (r->parts[k].len)
				r->parts[k].p = r->data.p + (r->parts[k].p - old);
	}
}

void dns_cache_init(struct dns_cache *c, uint32_t max)
{
	memset(c, 0, sizeof *c);
	list_init(&c->recent);
	c->max = max;
}

static void entry_drop(struct dns_cache *c, struct cache_entry *e)
{
	hash_remove(&c->by_key, e->key);
	list_remove(&e->recent);
	c->n--;
	c->octets -= e->octets;
	mem_free(e);
}

void dns_cache_clear(struct dns_cache *c)
{
	list_each_safe(&c->recent, node)
		entry_drop(c, list_entry(node, struct cache_entry, recent));
	hash_clear(&c->by_key);
}

bool dns_cache_get(struct dns_cache *c, struct str key, uint64_t now_ms, struct arena *a, enum status *status_out, struct dns_answer *out,
	struct err *err)
{
	struct cache_entry *e = hash_get(&c->by_key, key);
	struct piece piece;
	uint64_t left;

	if (!e)
		return false;
	if (e->until_ms <= now_ms) {
		entry_drop(c, e);
		return false;
	}
	list_remove(&e->recent);
	list_push(&c->recent, &e->recent);
	piece.p = arena_alloc(a, answer_octets(&e->answer) + 1);
	answer_cut(&piece, &e->answer, out);
	out->cached = true;
	left = (e->until_ms - now_ms + 999) / 1000;
	if (left < out->ttl)
		out->ttl = (uint32_t)left;
	*status_out = e->status;
	if (e->status != ST_OK && err)
		*err = e->err;
	return true;
}

void dns_cache_put(struct dns_cache *c, struct str key, uint64_t until_ms, enum status status, const struct dns_answer *answer,
	const struct err *err)
{
	size_t octets = rounded(key.len) + answer_octets(answer);
	struct cache_entry *e = hash_get(&c->by_key, key);
	struct piece piece;

	if (e)
		entry_drop(c, e);
	if (octets > DNS_CACHE_OCTETS_MAX / 16 || !c->max)
		return;
	while (c->n && (c->n >= c->max || c->octets + octets > DNS_CACHE_OCTETS_MAX))
		entry_drop(c, list_entry(list_first(&c->recent), struct cache_entry, recent));
	e = mem_new(sizeof *e + octets);
	piece.p = e->data;
	e->key = str_make(piece_cut(&piece, key.p, key.len), key.len);
	e->until_ms = until_ms;
	e->status = status;
	if (status != ST_OK && err)
		e->err = *err;
	e->octets = sizeof *e + octets;
	answer_cut(&piece, answer, &e->answer);
	c->octets += e->octets;
	c->n++;
	list_push(&c->recent, &e->recent);
	hash_put(&c->by_key, e->key, e);
}

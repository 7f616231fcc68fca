/* SPDX-License-Identifier: ISC */
/* lookup_lsearch.c - text files of keys and data: lsearch (indexed once, whatever its name says) and iplsearch.
 * Specification, section 9.3. */
#include <arpa/inet.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/lang/text_table.h"
#include "common/mail/alabel.h"
#include "router/lookup_drivers.h"

/* ---- lsearch ---- */

struct entry {
	struct text_entry e;
	struct entry *next;        /* iplsearch: in the order of the file */
};

struct table {
	struct arena arena;
	char *path;
	struct lookup_stamp stamp;
	struct hash by_key;
	struct entry *first, **last;
};

static bool table_add(void *arg, const struct text_entry *entry)
{
	struct table *t = arg;
	struct entry *e = arena_alloc(&t->arena, sizeof *e);

	e->e = *entry;
	e->e.key = utf8_nfc(&t->arena, entry->key); /* as the keys that are asked for */
	if (!hash_get(&t->by_key, e->e.key)) /* the first occurrence is the one that counts */
		hash_put(&t->by_key, e->e.key, e);
	*t->last = e;
	t->last = &e->next;
	return true;
}

static void table_close(void *handle)
{
	struct table *t = handle;

	hash_clear(&t->by_key);
	arena_clear(&t->arena);
	mem_free(t);
}

static enum status table_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct table *t = mem_new(sizeof *t);
	struct str text;
	enum status st;

	(void)env;
	t->by_key = (struct hash)HASH_CASELESS;
	t->last = &t->first;
	t->path = str_cstr(&t->arena, file);
	st = lookup_file_read(file, &t->arena, &text, &t->stamp, err);
	if (st) {
		table_close(t);
		return st;
	}
	text_table_each(text, &t->arena, table_add, t);
	*handle_out = t;
	return ST_OK;
}

static bool table_changed(void *handle)
{
	struct table *t = handle;

	return lookup_stamp_differs(t->path, &t->stamp);
}

/* The entry as the options want it. */
static enum status entry_found(const struct entry *e, struct str options, struct arena *a, struct lookup_result *out)
{
	*out = (struct lookup_result){ .value = lookup_option(options, "ret=full") ? text_entry_full(a, &e->e) : str_dup(a, e->e.value),
		.ttl_s = LOOKUP_TTL_FILE };
	return ST_OK;
}

static enum status lsearch_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	const struct entry *e = hash_get(&((struct table *)handle)->by_key, key);

	(void)env, (void)file, (void)err;
	out->ttl_s = LOOKUP_TTL_FILE;
	return e ? entry_found(e, options, a, out) : ST_FAIL;
}

const struct lookup_driver lookup_driver_lsearch = { "lsearch", table_open, table_changed, lsearch_find, table_close, NULL };

/* ---- iplsearch ---- */

struct net {
	uint8_t addr[16];
	bool v6;
	unsigned bits;
};

static bool net_parse(struct str s, bool mask_too, struct net *out)
{
	ptrdiff_t slash = str_find(s, '/');
	struct str ip = slash < 0 ? s : str_sub(s, 0, (size_t)slash);
	char text[INET6_ADDRSTRLEN + 1];
	uint64_t bits;

	if (ip.len > INET6_ADDRSTRLEN || (slash >= 0 && !mask_too))
		return false;
	memcpy(text, ip.p, ip.len);
	text[ip.len] = '\0';
	out->v6 = str_find(ip, ':') >= 0;
	if (inet_pton(out->v6 ? AF_INET6 : AF_INET, text, out->addr) != 1)
		return false;
	bits = out->v6 ? 128 : 32;
	if (slash >= 0 && !str_u64(str_from(s, (size_t)slash + 1), bits, &bits))
		return false;
	out->bits = (unsigned)bits;
	return true;
}

static bool net_holds(const struct net *n, const struct net *ip)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (n->v6 != ip->v6 || memcmp(n->addr, ip->addr, whole))
		return false;
	return !rest || (n->addr[whole] ^ ip->addr[whole]) >> (8 - rest) == 0;
}

static enum status iplsearch_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct net ip, net;

	out->ttl_s = LOOKUP_TTL_FILE;
	if (str_is(key, "*"))
		return lsearch_find(env, handle, file, key, options, a, out, err);
	if (str_beginsi(key, "::ffff:") && net_parse(str_from(key, 7), false, &ip))
		key = str_from(key, 7); /* an IPv4 address in the clothes of IPv6 */
	if (!net_parse(key, false, &ip))
		return err_set(err, ST_ERROR, "iplsearch: the key \"%.*s\" is no IP address (in a host list, write net-iplsearch;FILE)", STR_FMT(str_sub(key, 0, 100)));
	for (const struct entry *e = ((struct table *)handle)->first; e; e = e->next)
		if (net_parse(e->e.key, true, &net) && net_holds(&net, &ip))
			return entry_found(e, options, a, out);
	return ST_FAIL;
}

const struct lookup_driver lookup_driver_iplsearch = { "iplsearch", table_open, table_changed, iplsearch_find, table_close, NULL };

/* SPDX-License-Identifier: ISC */
#include "router/dbm_pages.h"

#include <byteswap.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"

/* The first page, and the head of every page. */
enum { AT_NUMBER = 8, AT_MAGIC = 12, AT_PREV = 12, AT_NEXT = 16, AT_PAGE_SIZE = 20, AT_ENTRIES = 20, AT_FREE_FROM = 22, AT_CIPHER = 24,
	AT_TYPE = 25, AT_FLAGS = 26, AT_OFFSETS = 26, AT_LAST = 32, META_SIZE = 512, CHECKSUM_FLAG = 1, CHECKSUM_SIZE = 6 };
enum { PAGE_MIN = 512, PAGE_MAX = 65536 };
enum page_type { PAGE_FREE = 0, PAGE_OVERFLOW = 7, PAGE_HASH_META = 8, PAGE_BTREE_META = 9, PAGE_TYPES = 14 };
#define HASH_MAGIC 0x061561u
#define BTREE_MAGIC 0x053162u

/* What a page behind the first may be in a file of each kind. */
enum { IN_HASH = 1, IN_BTREE = 2 };
static const unsigned char pages_in[PAGE_TYPES] = {
	[PAGE_FREE] = IN_HASH | IN_BTREE, [2] = IN_HASH /* unsorted */, [3] = IN_HASH | IN_BTREE /* inner; of duplicates, in a hash */,
	[4] = IN_HASH | IN_BTREE, [5] = IN_BTREE, [6] = IN_HASH | IN_BTREE /* inner and leaf by number: duplicates */,
	[PAGE_OVERFLOW] = IN_HASH | IN_BTREE, [12] = IN_HASH | IN_BTREE /* leaf of duplicates */, [13] = IN_HASH,
};

struct pages {
	uint32_t size, n;             /* octets of a page, pages */
	unsigned head;                /* octets before the offsets */
	unsigned kind;
	bool swapped;                 /* the file was made on a machine of the other byte order */
};

static uint32_t u32_at(const struct pages *p, const unsigned char *page, unsigned at)
{
	uint32_t v;

	memcpy(&v, page + at, sizeof v);
	return p->swapped ? bswap_32(v) : v;
}

static uint16_t u16_at(const struct pages *p, const unsigned char *page, unsigned at)
{
	uint16_t v;

	memcpy(&v, page + at, sizeof v);
	return p->swapped ? bswap_16(v) : v;
}

static enum status meta_check(struct pages *p, const unsigned char *meta, uint64_t size, struct err *err)
{
	uint32_t magic;

	p->swapped = false;
	magic = u32_at(p, meta, AT_MAGIC);
	if (magic != HASH_MAGIC && magic != BTREE_MAGIC) {
		p->swapped = true;
		magic = u32_at(p, meta, AT_MAGIC);
	}
	if (magic != HASH_MAGIC && magic != BTREE_MAGIC)
		return err_set(err, ST_DEFER, "no hash and no B-tree of Berkeley DB");
	p->kind = magic == HASH_MAGIC ? IN_HASH : IN_BTREE;
	p->size = u32_at(p, meta, AT_PAGE_SIZE);
	if (p->size < PAGE_MIN || p->size > PAGE_MAX || (p->size & (p->size - 1)))
		return err_set(err, ST_DEFER, "damaged: pages of %u octets", p->size);
	if (size % p->size || size / p->size > UINT32_MAX || size / p->size != (uint64_t)u32_at(p, meta, AT_LAST) + 1)
		return err_set(err, ST_DEFER, "damaged or cut short: %" PRIu64 " octets for %" PRIu64 " pages of %u", size,
			(uint64_t)u32_at(p, meta, AT_LAST) + 1, p->size);
	p->n = (uint32_t)(size / p->size);
	/* Encrypted, or divided among several files: others' */
	if (meta[AT_CIPHER] || meta[AT_FLAGS] & ~CHECKSUM_FLAG || meta[AT_TYPE] != (p->kind == IN_HASH ? PAGE_HASH_META : PAGE_BTREE_META) ||
	    u32_at(p, meta, AT_NUMBER))
		return err_set(err, ST_DEFER, "of a kind that is not read here, or damaged");
	p->head = AT_OFFSETS + (meta[AT_FLAGS] & CHECKSUM_FLAG ? CHECKSUM_SIZE : 0);
	return ST_OK;
}

static bool page_is_sane(const struct pages *p, const unsigned char *page, uint32_t number)
{
	unsigned type = page[AT_TYPE], entries = u16_at(p, page, AT_ENTRIES);

	if (type >= PAGE_TYPES || !(pages_in[type] & p->kind))
		return false;
	if (type == PAGE_FREE && !u32_at(p, page, AT_NUMBER)) /* taken in advance, never used */
		return true;
	if (u32_at(p, page, AT_NUMBER) != number || u32_at(p, page, AT_NEXT) >= p->n)
		return false;
	if (type == PAGE_FREE)
		return true;
	if (type == PAGE_OVERFLOW) /* where other pages have the offset, its length */
		return u32_at(p, page, AT_PREV) < p->n && u16_at(p, page, AT_FREE_FROM) <= p->size - p->head;
	if (p->head + 2 * entries > p->size)
		return false;
	for (unsigned i = 0; i < entries; i++) {
		unsigned at = u16_at(p, page, p->head + 2 * i);

		if (at < p->head + 2 * entries || at >= p->size)
			return false;
	}
	return true;
}

static bool page_read(int fd, unsigned char *to, size_t n, uint64_t at)
{
	ssize_t got;

	while (n && ((got = pread(fd, to, n, (off_t)at)) > 0 || (got < 0 && errno == EINTR))) {
		if (got < 0)
			continue;
		to += got;
		at += (uint64_t)got;
		n -= (size_t)got;
	}
	return !n;
}

enum status dbm_pages_check(int fd, uint64_t size, struct err *err)
{
	unsigned char meta[META_SIZE], *page;
	struct pages p = { 0 };
	enum status st;

	if (size < sizeof meta || !page_read(fd, meta, sizeof meta, 0))
		return err_set(err, ST_DEFER, "no hash and no B-tree of Berkeley DB");
	st = meta_check(&p, meta, size, err);
	page = mem_new(PAGE_MAX);
	for (uint32_t i = 1; !st && i < p.n; i++)
		if (!page_read(fd, page, p.size, (uint64_t)i * p.size) || !page_is_sane(&p, page, i))
			st = err_set(err, ST_DEFER, "damaged: page %u", i);
	mem_free(page);
	return st;
}

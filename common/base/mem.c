/* SPDX-License-Identifier: ISC */
#include "common/base/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK = 4000, ARENA_ALIGN = _Alignof(max_align_t) };

struct arena_block {
	struct arena_block *next;
	size_t size, used;
	_Alignas(max_align_t) char data[];
};

static _Noreturn void mem_exhausted(size_t size)
{
	fprintf(stderr, "bulkhead: out of memory (%zu octets wanted)\n", size);
	abort();
}

void *mem_try(size_t size)
{
	return calloc(1, size ? size : 1);
}

void *mem_new(size_t size)
{
	void *p = mem_try(size);

	if (!p)
		mem_exhausted(size);
	return p;
}

void *mem_resize(void *p, size_t size)
{
	p = realloc(p, size ? size : 1);
	if (!p)
		mem_exhausted(size);
	return p;
}

void *mem_memdup(const void *p, size_t n)
{
	char *copy = malloc(n + 1);

	if (!copy)
		mem_exhausted(n);
	if (n)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

char *mem_strdup(const char *s)
{
	return mem_memdup(s, strlen(s));
}

void mem_free(void *p)
{
	free(p);
}

static void *arena_take(struct arena *a, size_t size, bool zero)
{
	struct arena_block *b = a->head;
	size_t want = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	void *p;

	if (want < size)
		mem_exhausted(size);
	if (!b || b->size - b->used < want) {
		size_t room = want > ARENA_BLOCK ? want : ARENA_BLOCK;

		b = malloc(sizeof *b + room);
		if (!b)
			mem_exhausted(room);
		b->size = room;
		b->used = 0;
		/* A large piece goes behind the current block, whose rest stays in use. */
		if (a->head && want > ARENA_BLOCK / 2) {
			b->next = a->head->next;
			a->head->next = b;
		} else {
			b->next = a->head;
			a->head = b;
		}
	}
	p = b->data + b->used;
	b->used += want;
	a->used += want;
	if (zero)
		memset(p, 0, size);
	return p;
}

void *arena_alloc(struct arena *a, size_t size)
{
	return arena_take(a, size, true);
}

void *arena_memdup(struct arena *a, const void *p, size_t n)
{
	char *copy = arena_take(a, n + 1, false);

	if (n)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_memdup(a, s, strlen(s));
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	va_list again;
	char *p;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		n = 0;
	p = arena_take(a, (size_t)n + 1, false);
	p[0] = '\0';
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return p;
}

void arena_reset(struct arena *a)
{
	struct arena_block *keep = NULL, *b = a->head, *next;

	for (; b; b = next) {
		next = b->next;
		if (!keep && b->size == ARENA_BLOCK)
			keep = b;
		else
			free(b);
	}
	if (keep) {
		keep->used = 0;
		keep->next = NULL;
	}
	a->head = keep;
	a->used = 0;
}

void arena_clear(struct arena *a)
{
	struct arena_block *b = a->head, *next;

	for (; b; b = next) {
		next = b->next;
		free(b);
	}
	a->head = NULL;
	a->used = 0;
}

void arena_wipe(struct arena *a)
{
	for (struct arena_block *b = a->head; b; b = b->next)
		explicit_bzero(b->data, b->size);
	arena_clear(a);
}

/* SPDX-License-Identifier: ISC */
/* mem.h - heap memory and arenas.
 * Used by:    everybody.
 * Owns:       an arena owns all that was allocated from it; it is freed or reset at one point (the end of a session,
 *             message, ACL run, configuration).
 * Errors:     mem_new() and arena_alloc() never return NULL: they call the out-of-memory hook, which ends the daemon.
 *             Whatever a stranger sizes is bounded by a named limit first, or uses mem_try(). */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

void *mem_new(size_t size);                         /* zeroed */
void *mem_try(size_t size);                         /* zeroed, NULL if there is none */
void *mem_resize(void *p, size_t size);             /* never NULL; new octets are not zeroed */
char *mem_strdup(const char *s);
void *mem_memdup(const void *p, size_t n);          /* with a zero octet behind the copy */
void mem_free(void *p);                             /* NULL is fine */

struct arena_block;
struct arena {
	struct arena_block *head;
	size_t used; /* octets handed out, for limits and statistics */
};
#define ARENA_INIT { NULL, 0 }

void *arena_alloc(struct arena *a, size_t size);    /* zeroed, aligned for any type */
char *arena_strdup(struct arena *a, const char *s);
void *arena_memdup(struct arena *a, const void *p, size_t n); /* with a zero octet behind the copy */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
void arena_reset(struct arena *a);                  /* keeps one block for the next unit of work */
void arena_wipe(struct arena *a);                   /* overwrites all that was allocated, then gives it back: for secrets */
void arena_clear(struct arena *a);                  /* gives all back */

#endif

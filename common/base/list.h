/* SPDX-License-Identifier: ISC */
/* list.h - intrusive doubly linked lists.
 * Used by:    everybody.
 * Owns:       nothing: the node lives in its object. A node is in one list at a time; list_remove() of one that is in
 *             none (initialised, or all zero) does nothing. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define list_entry(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))
#define list_each(head, n) for (struct list *n = (head)->next; n != (head); n = n->next)
/* The body may remove n, and nothing else, from the list. */
#define list_each_safe(head, n) \
	for (struct list *n = (head)->next, *n##_next = n->next; n != (head); n = n##_next, n##_next = n->next)

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline bool list_linked(const struct list *n) { return n->next && n->next != n; }
static inline void list_insert_after(struct list *at, struct list *n)
{
	n->next = at->next;
	n->prev = at;
	at->next->prev = n;
	at->next = n;
}
static inline void list_push(struct list *l, struct list *n) { list_insert_after(l->prev, n); } /* at the end */
static inline void list_push_front(struct list *l, struct list *n) { list_insert_after(l, n); }
static inline void list_remove(struct list *n)
{
	if (!n->next)
		return;
	n->next->prev = n->prev;
	n->prev->next = n->next;
	list_init(n);
}
static inline struct list *list_first(struct list *l) { return list_empty(l) ? NULL : l->next; }

#endif

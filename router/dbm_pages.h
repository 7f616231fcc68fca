/* SPDX-License-Identifier: ISC */
/* dbm_pages.h - whether the pages of a Berkeley DB file are what they say, each for itself.
 * Used by:    lookup_dbm.c, before libdb sees the file: libdb's own check goes on behind the first damage it finds, and can fall over it.
 * Owns:       nothing.
 * Errors:     ST_DEFER: no hash and no B-tree, or damaged; the text says where, without the file's name. */
#ifndef ROUTER_DBM_PAGES_H
#define ROUTER_DBM_PAGES_H

#include <stdint.h>

#include "common/base/err.h"

enum status dbm_pages_check(int fd, uint64_t size, struct err *err);

#endif

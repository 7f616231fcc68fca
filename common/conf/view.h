/* SPDX-License-Identifier: ISC */
/* view.h - the part of the configuration that a daemon may see, as a sealed memory file.
 * Used by:    master (makes), the daemon skeleton (loads).
 * Owns:       the caller owns the descriptor, and the struct conf loaded.
 * Invariant:  no octet of a value that the mask may not see is in the file. A loaded view knows every option, list, ACL,
 *             driver instance and rule that it may see, with its place; for the others meta.unseen is true.
 * Errors:     ST_ERROR: no memory file, or octets that are no view. Loading checks all bounds. */
#ifndef CONF_VIEW_H
#define CONF_VIEW_H

#include "common/conf/conf.h"

/* A memfd sealed against change, at offset 0, close-on-exec. see: one V_ bit, or several for an executable that is several. */
enum status conf_view_make(const struct conf *conf, uint32_t see, int *fd_out, struct err *err);
/* The same octets into a buffer. */
enum status conf_view_encode(const struct conf *conf, uint32_t see, struct buf *out, struct err *err);
/* Reads the whole file (which must be sealed); fd stays the caller's. */
enum status conf_view_load(int fd, struct conf **conf_out, struct err *err);
enum status conf_view_decode(struct str octets, struct conf **conf_out, struct err *err);

#endif

/* SPDX-License-Identifier: ISC */
/* queue.h - what the queue's verbs share, and their test sees.
 * Used by:    ctl_queue.c, queue_file.c.
 * Errors:     exit codes, after printing why. */
#ifndef CTL_QUEUE_H
#define CTL_QUEUE_H

#include "ctl/ctl.h"

bool queue_time_parse(const char *s, uint64_t *out);
/* Prints the file behind a listed message: envelope, edits, content. Does not close fd. */
int queue_show(struct ctl *ctl, const struct ipc_queue_row *row, int fd);
/* The file of a message that lies in the queue, for reading; -1 after printing why not. */
int queue_fetch(struct ctl *ctl, struct str id);
/* Copies the file to a path (made new, 0600) or standard output (NULL). Does not close fd. */
int queue_export(const struct ipc_queue_row *row, int fd, const char *path);

#endif

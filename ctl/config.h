/* SPDX-License-Identifier: ISC */
/* config.h - reading and judging a configuration, for the verbs about it.
 * Used by:    ctl_config.c, ctl_keys.c, ctl_migrate.c, ctl_relay.c.
 * Owns:       the caller frees what config_read() gives.
 * Errors:     problems are in the struct conf. */
#ifndef CTL_CONFIG_H
#define CTL_CONFIG_H

#include "common/conf/read.h"
#include "ctl/ctl.h"

/* The file of ctl->conf_path, with its problems, also when it has errors; check: with all that can be checked at load. */
struct conf *config_read(struct ctl *ctl, bool check);
/* check-config --exim PATH. */
int ctl_migrate(struct ctl *ctl, const char *path);
/* A warning for each way found in which a stranger may relay through this host. */
void relay_try(struct conf *conf);
/* A warning for each file of TLS that is not there, or that keyd may not read. */
void keys_try(struct conf *conf);

#endif

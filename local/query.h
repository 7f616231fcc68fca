/* SPDX-License-Identifier: ISC */
/* query.h - what a query process runs, and what it refuses to.
 * Used by:    query_daemon.c, its test.
 * Owns:       nothing; *out is the view's.
 * Errors:     ST_ERROR: router asked for what the configuration does not say. */
#ifndef LOCAL_QUERY_H
#define LOCAL_QUERY_H

#include "common/conf/conf.h"
#include "common/ipc/codec.h"

/* The command is that of a queryprogram router whose login is ours: its words are the option's, but for those that are expanded. */
enum status query_allow(const struct conf *conf, const struct ipc_program_ask *ask, bool unprivileged, struct arena *a,
	const struct conf_opts_router_queryprogram **out, struct err *err);
/* The same for ${run}: the program is one of run_commands, and run_user is our login. */
enum status query_run_allow(const struct conf *conf, const struct ipc_program_ask *ask, bool unprivileged, struct arena *a, struct err *err);

#endif

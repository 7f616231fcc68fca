/* SPDX-License-Identifier: ISC */
/* log_conf.h - what the configuration says of the logs.
 * Used by:    master and the skeleton of all daemons; the command, to find them.
 * Owns:       nothing.
 * Errors:     ST_ERROR with the option and what would be right. */
#ifndef CONF_LOG_CONF_H
#define CONF_LOG_CONF_H

#include "common/base/log.h"
#include "common/conf/conf.h"

/* The form of lines, and syslog's; the descriptors stay as they are. */
enum status log_conf_apply(const struct conf *conf, struct log *log, struct err *err);
/* log_file_path: the pattern of the files (STR_NULL: none are written), and whether syslog gets them. */
void log_conf_places(const struct conf *conf, struct arena *a, struct str *path_out, bool *syslog_out);

#endif

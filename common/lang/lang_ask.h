/* SPDX-License-Identifier: ISC */
/* lang_ask.h - questions to the services, with the checks that stand before them: taint, paths, limits. Inside of the language.
 * Errors:     ST_FAIL: not there; ST_DEFER; ST_ERROR, with what was asked in front. */
#ifndef LANG_LANG_ASK_H
#define LANG_LANG_ASK_H

#include "common/lang/eval.h"
#include "common/lang/lookup.h"

enum status lang_ask_lookup(struct eval *ev, const struct lookup_spec *spec, struct str type, struct str file, struct str key,
	struct ipc_lookup_answer *out, struct err *err);
enum status lang_ask_file(struct eval *ev, struct str path, struct lang_file *out, struct err *err);
enum status lang_ask_stat(struct eval *ev, struct str path, struct str *out, struct err *err);
enum status lang_ask_hosts(struct eval *ev, struct str name, const char *type, struct ipc_host_answer *out, struct err *err);
/* ST_ERROR unless absolute, untainted and without "..". */
enum status lang_path_check(struct eval *ev, struct str path, struct err *err);

#endif

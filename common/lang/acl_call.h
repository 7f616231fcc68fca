/* SPDX-License-Identifier: ISC */
/* acl_call.h - an ACL called from an expansion: ${acl{name}{arg}...}, acl{{name}{arg}...}, and the acl condition. Inside of the language. */
#ifndef LANG_ACL_CALL_H
#define LANG_ACL_CALL_H

#include "common/lang/eval.h"

/* args[0] is the name. $acl_arg1... are set during the call. *yes_out: accept; message_out: its message. ST_FAIL when it defers, as Exim
 * has it (a forced failure); ST_ERROR when there is no such ACL or it fails. */
enum status acl_call(struct eval *ev, const struct str *args, uint32_t n, bool *yes_out, struct str *message_out, struct err *err);

#endif

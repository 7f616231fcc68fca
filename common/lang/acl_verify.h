/* SPDX-License-Identifier: ISC */
/* acl_verify.h - the inside of the verify condition: what was asked for, and the rows that are asked of router.
 * Used by:    acl_verify.c, acl_verify_address.c. */
#ifndef LANG_ACL_VERIFY_H
#define LANG_ACL_VERIFY_H

#include "common/lang/acl_row.h"
#include "common/lang/verify_options.h"

struct verify_call {
	struct str address, options;         /* =ADDRESS; behind the first slash */
	bool has_address;
	struct verify_options parsed;        /* of rows with a kind */
};

enum acl_rc acl_verify_recipient(struct acl_state *s, const struct verify_call *call, struct err *err);
enum acl_rc acl_verify_sender(struct acl_state *s, const struct verify_call *call, struct err *err);
enum acl_rc acl_verify_header_sender(struct acl_state *s, const struct verify_call *call, struct err *err);

#endif

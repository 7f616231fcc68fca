/* SPDX-License-Identifier: ISC */
/* The variables that whoever evaluates sets himself: rows come from slots.def. */
#include "common/lang/expand_tree.h"

const struct var_row exp_vars_slots[] = {
#define SLOT(name, what) { #name, VAR_SLOT, 0, EV_##name, false, NULL, NULL, what },
#include "common/lang/slots.def"
#undef SLOT
	{ NULL }
};

const char *slot_absent(enum eval_slot slot)
{
	static const char *const values[EVAL_SLOTS] = {
		[EV_acl_narg] = "0", [EV_event_defer_errno] = "0", [EV_host_port] = "0", [EV_inode] = "0", [EV_local_user_gid] = "4294967295",
		[EV_local_user_uid] = "4294967295", [EV_mime_anomaly_level] = "0", [EV_mime_content_size] = "0", [EV_mime_is_coverletter] = "0",
		[EV_mime_is_multipart] = "0", [EV_mime_is_rfc822] = "0", [EV_mime_part_count] = "-1", [EV_runrc] = "0", [EV_sending_port] = "-1",
		[EV_tls_out_tlsa_usage] = "0",
	};

	return values[slot];
}

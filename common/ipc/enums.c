/* SPDX-License-Identifier: ISC */
#include "common/ipc/enums.h"

#include <stddef.h>

#define NAME_OF(table, i) ((i) < sizeof(table) / sizeof(*(table)) ? (table)[i] : NULL)

const char *acl_stage_name(uint64_t stage)
{
	static const char *const names[] = {
		[ACL_CONNECT] = "connect", [ACL_HELO] = "helo", [ACL_STARTTLS] = "starttls", [ACL_AUTH] = "auth",
		[ACL_MAIL] = "mail", [ACL_MAILAUTH] = "mailauth", [ACL_RCPT] = "rcpt", [ACL_PREDATA] = "predata",
		[ACL_MIME] = "mime", [ACL_DKIM] = "dkim", [ACL_DATA] = "data", [ACL_PRDR] = "data_prdr",
		[ACL_QUIT] = "quit", [ACL_NOTQUIT] = "notquit", [ACL_VRFY] = "vrfy", [ACL_EXPN] = "expn",
		[ACL_ETRN] = "etrn", [ACL_NOTSMTP] = "not_smtp", [ACL_NOTSMTP_START] = "not_smtp_start",
		[ACL_NOTSMTP_MIME] = "not_smtp_mime",
	};

	return stage == ASK_TLS ? "tls" : stage == ASK_PROXY ? "proxy" : NAME_OF(names, stage);
}

const char *acl_verdict_name(uint64_t verdict)
{
	static const char *const names[] = {
		[ACL_ACCEPT] = "accept", [ACL_DENY] = "deny", [ACL_DEFER] = "defer", [ACL_DROP] = "drop", [ACL_DISCARD] = "discard",
	};

	return NAME_OF(names, verdict);
}

const char *edit_op_name(uint64_t op)
{
	static const char *const names[] = {
		[EDIT_ADD_TOP] = "add_top", [EDIT_ADD_AFTER_RECEIVED] = "add_after_received",
		[EDIT_ADD_START_RFC] = "add_start_rfc", [EDIT_ADD_END] = "add_end", [EDIT_REMOVE] = "remove",
		[EDIT_REPLACE] = "replace",
	};

	return NAME_OF(names, op);
}

const char *retry_error_name(uint64_t error)
{
	static const char *const names[] = {
		[RETRY_NONE] = "none", [RETRY_OTHER] = "other", [RETRY_AUTH_FAILED] = "auth_failed",
		[RETRY_DATA_4XX] = "data_4xx", [RETRY_MAIL_4XX] = "mail_4xx", [RETRY_RCPT_4XX] = "rcpt_4xx",
		[RETRY_LOOKUP] = "lookup", [RETRY_LOST_CONNECTION] = "lost_connection", [RETRY_REFUSED] = "refused",
		[RETRY_TIMEOUT_CONNECT] = "timeout_connect", [RETRY_TIMEOUT] = "timeout",
		[RETRY_TLS_REQUIRED] = "tls_required", [RETRY_QUOTA] = "quota",
	};

	return NAME_OF(names, error);
}

const char *route_outcome_name(uint64_t outcome)
{
	static const char *const names[] = {
		[ROUTE_DELIVER] = "deliver", [ROUTE_FAIL] = "fail", [ROUTE_DEFER] = "defer", [ROUTE_DISCARD] = "discard",
	};

	return NAME_OF(names, outcome);
}

const char *delivery_result_name(uint64_t result)
{
	static const char *const names[] = {
		[DELIVERY_OK] = "delivered", [DELIVERY_FAILED] = "failed", [DELIVERY_DEFERRED] = "deferred",
	};

	return NAME_OF(names, result);
}

const char *hint_op_name(uint64_t op)
{
	static const char *const names[] = {
		[HINT_GET] = "get", [HINT_PUT] = "put", [HINT_ADD] = "add", [HINT_REMOVE] = "remove", [HINT_LIST] = "list",
		[HINT_RATE] = "rate", [HINT_TAKE] = "take", [HINT_KEEP] = "keep",
	};

	return NAME_OF(names, op);
}

const char *tlsa_state_name(uint64_t state)
{
	static const char *const names[] = {
		[TLSA_NOT_ASKED] = "not asked", [TLSA_USABLE] = "usable", [TLSA_NONE] = "none", [TLSA_INSECURE] = "insecure",
		[TLSA_FAILED] = "failed", [TLSA_REFUSED] = "refused", [TLSA_UNUSABLE] = "unusable", [TLSA_HOST_INSECURE] = "host insecure",
	};

	return NAME_OF(names, state);
}

const char *spool_record_kind_name(uint64_t kind)
{
	static const char *const names[] = {
		[SPOOL_RESULT] = "result", [SPOOL_RETRY] = "retry", [SPOOL_FLAGS] = "flags", [SPOOL_REPLACE] = "replace",
		[SPOOL_WARNED] = "warned", [SPOOL_NOTE] = "note",
	};

	return NAME_OF(names, kind);
}

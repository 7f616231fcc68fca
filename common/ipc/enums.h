/* SPDX-License-Identifier: ISC */
/* enums.h - the numbers that travel in messages and in the spool. A number is never used again for another meaning.
 * Used by:    whoever sends or reads a message; spool files.
 * Errors:     a number out of range is refused by the receiver (enum_NAME_valid()). */
#ifndef IPC_ENUMS_H
#define IPC_ENUMS_H

#include <stdbool.h>
#include <stdint.h>

/* The points at which an ACL may run (specification, chapter 44). */
enum { HOST_GROUP_FALLBACK = 1000000 /* struct ipc_host: fallback_hosts; no MX preference is that large */ };

enum acl_stage {
	ACL_CONNECT = 1, ACL_HELO, ACL_STARTTLS, ACL_AUTH, ACL_MAIL, ACL_MAILAUTH, ACL_RCPT, ACL_PREDATA, ACL_MIME,
	ACL_DKIM, ACL_DATA, ACL_PRDR, ACL_QUIT, ACL_NOTQUIT, ACL_VRFY, ACL_EXPN, ACL_ETRN,
	ACL_NOTSMTP, ACL_NOTSMTP_START, ACL_NOTSMTP_MIME,
	ACL_STAGES_END
};

/* In place of a stage in acl_ask: no ACL is meant, only the settings of TLS with this client, which a handshake waits for; or whether the
 * peer is one of hosts_proxy. */
enum { ASK_TLS = 64, ASK_PROXY };

enum acl_verdict {
	ACL_ACCEPT = 1,
	ACL_DENY,    /* 5xx */
	ACL_DEFER,   /* 4xx */
	ACL_DROP,    /* 5xx, then the connection is closed */
	ACL_DISCARD, /* 250, but the recipient (RCPT) or the message (MAIL, DATA) goes nowhere */
	ACL_VERDICTS_END
};

/* What comes of a step of AUTH. */
enum auth_result {
	AUTH_CHALLENGE = 1, /* 334 */
	AUTH_OK,            /* 235 */
	AUTH_FAIL,          /* 535 */
	AUTH_DEFER,         /* 435 */
	AUTH_BAD_DATA,      /* 501: what the client sent can't be used */
	AUTH_NO_INITIAL,    /* 553: data with AUTH where the mechanism begins with a challenge */
	AUTH_UNKNOWN,       /* 504: no such mechanism is offered */
	AUTH_RESULTS_END
};

/* Properties of a message or session, most of them set by ACL controls. */
enum msg_flag {
	MSG_FREEZE = 1 << 0,           /* control = freeze: queue it frozen */
	MSG_QUEUE = 1 << 1,            /* control = queue: no delivery before the next queue run */
	MSG_EIGHTBIT = 1 << 2,         /* BODY=8BITMIME was said */
	MSG_SMTPUTF8 = 1 << 3,
	MSG_LOCAL = 1 << 4,            /* submitted on this machine */
	MSG_SUBMISSION = 1 << 5,       /* control = submission */
	MSG_NO_FIXUPS = 1 << 6,        /* control = suppress_local_fixups */
	MSG_FAKE_REJECT = 1 << 7,
	MSG_FAKE_DEFER = 1 << 8,
	MSG_NO_PIPELINING = 1 << 9,
	MSG_NO_ENFORCE_SYNC = 1 << 10,
	MSG_ENFORCE_SYNC = 1 << 11,
	MSG_CASEFUL_LOCAL = 1 << 12,   /* control = caseful_local_part */
	MSG_NO_MULTILINE = 1 << 13,
	MSG_REQUIRETLS = 1 << 14,
	MSG_DISCARDED = 1 << 15,       /* discard: accepted, goes nowhere */
	MSG_BOUNCE = 1 << 16,          /* a report made here */
	MSG_HELD = 1 << 17,            /* held by an administrator */
	MSG_NO_DELAY_FLUSH = 1 << 18,
	MSG_CASELOWER_LOCAL = 1 << 19,
	MSG_FROZEN_ADMIN = 1 << 20,
	MSG_DEBUG = 1 << 22,           /* control = debug: ACLs say in the log what they do */
	MSG_AUTH_UNADVERTISED = 1 << 23, /* control = allow_auth_unadvertised */
	MSG_NO_CALLOUT_FLUSH = 1 << 24,
	MSG_NO_TELL = 1 << 25,         /* control = freeze/no_tell: nobody is told of the freezing */
	MSG_FIRST_PASS = 1 << 26,      /* control = queue/first_pass_route: routed at once, but nothing is sent by SMTP before the next queue run */
	MSG_CHUNKED = 1 << 27,         /* it came by BDAT */
	MSG_TLS_OPTIONAL = 1 << 29,    /* its header says TLS-Required: No (RFC 8689 section 5) */
	MSG_PRDR = 1 << 28,            /* PRDR was said with MAIL */
	/* those that a control sets for the rest of the connection */
	MSG_OF_CONNECTION = MSG_NO_PIPELINING | MSG_NO_ENFORCE_SYNC | MSG_ENFORCE_SYNC | MSG_NO_MULTILINE | MSG_NO_DELAY_FLUSH | MSG_DEBUG |
		MSG_AUTH_UNADVERTISED | MSG_NO_CALLOUT_FLUSH,
	MSG_HEADER_OPEN = 1 << 21,     /* no empty line ends the content's header: whoever sends it supplies one */
};

/* Flags that an int has no room for. */
#define MSG_UTF8_CONVERT (UINT64_C(1) << 32)    /* control = utf8_downconvert: addresses go out in ASCII forms */
#define MSG_UTF8_CONVERT_IF (UINT64_C(1) << 33) /* ... to hosts without SMTPUTF8 */

/* Changes to a header, applied in order when the message is sent; the received octets stay as they are. */
enum edit_op {
	EDIT_ADD_TOP = 1,        /* :at_start: */
	EDIT_ADD_AFTER_RECEIVED, /* :after_received: behind the topmost block of Received: fields */
	EDIT_ADD_START_RFC,      /* :at_start_rfc: before the first field that is no Received: or Resent- */
	EDIT_ADD_END,            /* :at_end:, the default of add_header */
	EDIT_REMOVE,             /* all fields of this name that are in the content (not those added) */
	EDIT_REPLACE,            /* one field of the content: "AT FIELD", AT being the octet at which it begins, FIELD all of it */
	EDIT_OPS_END
};

enum dsn_notify { DSN_NEVER = 1, DSN_SUCCESS = 2, DSN_FAILURE = 4, DSN_DELAY = 8 };

enum route_outcome { ROUTE_DELIVER = 1, ROUTE_FAIL, ROUTE_DEFER, ROUTE_DISCARD, ROUTE_OUTCOMES_END };

/* Why an address is not delivered in a round though nothing is wrong with it. */
enum leaf_wait {
	WAIT_NO = 0,
	WAIT_HELD,      /* hold_domains */
	WAIT_QUEUED,    /* queue_domains, queue_smtp_domains, queue_only_file: until the next queue run */
	WAITS_END
};

enum report_kind { REPORT_FAILURE = 1, REPORT_DELAY, REPORT_KINDS_END };

enum delivery_result { DELIVERY_OK = 1, DELIVERY_FAILED, DELIVERY_DEFERRED, DELIVERY_RESULTS_END };

/* What retry rules name (specification, chapter 32). */
enum retry_error {
	RETRY_NONE = 0,
	RETRY_OTHER, RETRY_AUTH_FAILED, RETRY_DATA_4XX, RETRY_MAIL_4XX, RETRY_RCPT_4XX, RETRY_LOOKUP, RETRY_LOST_CONNECTION,
	RETRY_REFUSED, RETRY_TIMEOUT_CONNECT, RETRY_TIMEOUT, RETRY_TLS_REQUIRED, RETRY_QUOTA,
	RETRY_ERRORS_END
};

/* What the DNS says of a host's TLSA records. */
enum tlsa_state {
	TLSA_NOT_ASKED = 0,  /* DANE is not wanted with this host */
	TLSA_USABLE,         /* secure, and some can be used */
	TLSA_NONE,           /* secure: there are none */
	TLSA_INSECURE,       /* an answer that is not secure */
	TLSA_FAILED,         /* no answer, or a server failure, which is what a bogus one looks like */
	TLSA_REFUSED,        /* REFUSED, FORMERR, NOTIMP */
	TLSA_UNUSABLE,       /* secure, but none can be used */
	TLSA_HOST_INSECURE,  /* not asked: the host's MX or address answer is not secure */
	TLSA_STATES_END
};

/* How far a callout came. */
enum callout_stage { CALLOUT_CONNECT = 1, CALLOUT_HELO, CALLOUT_MAIL, CALLOUT_RANDOM, CALLOUT_RCPT, CALLOUT_POSTMASTER, CALLOUT_STAGES_END };

/* What a record in a message's file is about. */
enum spool_record_kind {
	SPOOL_RESULT = 1, /* a recipient was delivered, failed or deferred */
	SPOOL_RETRY,      /* when to try again */
	SPOOL_FLAGS,      /* frozen, held, released */
	SPOOL_REPLACE,    /* one_time: a recipient is replaced for good */
	SPOOL_WARNED,     /* a delay warning was sent */
	SPOOL_NOTE,       /* facts */
	SPOOL_RECORDS_END
};

enum rules_what { RULES_REWRITE = 1, RULES_RETRY, RULES_END };

enum hint_op { HINT_GET = 1, HINT_PUT, HINT_ADD, HINT_REMOVE, HINT_LIST, HINT_RATE, HINT_TAKE, HINT_KEEP, HINT_OPS_END };

const char *acl_stage_name(uint64_t stage);      /* "rcpt"; NULL if there is none */
const char *acl_verdict_name(uint64_t verdict);
const char *edit_op_name(uint64_t op);
const char *retry_error_name(uint64_t error);
const char *route_outcome_name(uint64_t outcome);
const char *delivery_result_name(uint64_t result);
const char *hint_op_name(uint64_t op);
const char *tlsa_state_name(uint64_t state);     /* "usable" */
const char *spool_record_kind_name(uint64_t kind);

#endif

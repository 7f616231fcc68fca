/* SPDX-License-Identifier: ISC */
/* settings.h - the part of the configuration that the queue manager works by, as plain values.
 * Used by:    all of qmgr/; made from a view by settings_from_conf(), by hand in tests.
 * Owns:       all texts, in its arena.
 * Errors:     none after it has been made. */
#ifndef QMGR_SETTINGS_H
#define QMGR_SETTINGS_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/conf/log_selector.h"
#include "common/ipc/enums.h"

struct retry_step {
	char kind;                   /* F, G, H */
	uint32_t cutoff, interval;   /* seconds */
	uint32_t factor;             /* thousandths, G and H */
};

struct retry_rule {
	enum retry_error error;      /* RETRY_NONE: any */
	uint16_t code_min, code_max; /* rcpt_45x: 450 and 459; else 0 */
	char via;                    /* 'A', 'M', 0 */
	int64_t quota_age;           /* -1: any */
	struct retry_step *steps;
	uint32_t n;                  /* 0: do not retry */
};

struct settings {
	struct arena arena;
	struct str host;             /* primary_hostname */
	struct str qualify_domain;
	struct str dsn_from, errors_reply_to, bounce_text, warning_condition; /* dsn_from and the condition may need expansion */
	struct str bounce_auth;      /* bounce_sender_authentication */
	struct str *freeze_tell;     /* addresses */
	uint32_t n_freeze_tell;
	bool ask_failure, ask_delay; /* the router has words for such reports, or copies */
	bool return_body, extra_info;
	uint64_t return_size_max;    /* octets; 0: none */
	uint32_t return_line_max;
	uint32_t *warn_at;           /* delay_warning, seconds, rising */
	uint32_t n_warn;
	uint32_t retry_interval_max, retry_data_expire;    /* seconds */
	int64_t timeout_frozen, ignore_bounce_errors, auto_thaw; /* seconds; -1: never */
	bool queue_only;
	uint32_t queue_interval;     /* seconds until a message that was only queued is tried */
	int64_t space_kb, inodes;    /* check_spool_space, check_spool_inodes; 0: not checked */
	uint32_t load_max;           /* deliver_queue_load_max, thousandths; LOAD_NO_LIMIT: unset */
	int64_t log_kb, log_inodes;  /* check_log_space, check_log_inodes */
	uint32_t concurrency_first, concurrency_max;       /* deliveries to one destination at a time */
	uint32_t remote_parallel;    /* remote_max_parallel: remote deliveries of one message at a time; 0: no limit */
	uint32_t remote_max, local_max;                    /* deliveries at a time, all destinations */
	struct retry_rule *retry;
	uint32_t n_retry;
	uint64_t log;                /* LOG_SEL() bits */
};

/* The defaults of every option, host "localhost". */
struct settings *settings_new(void);
void settings_free(struct settings *s);
struct conf;
enum status settings_from_conf(const struct conf *conf, struct settings **out, struct err *err);

#endif

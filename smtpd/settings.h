/* SPDX-License-Identifier: ISC */
/* settings.h - what smtpd goes by: its part of the configuration, and what policyd says of a client at its connection.
 * Used by:    all of smtpd; unit tests fill the structs by hand (settings_init() gives the defaults).
 * Owns:       struct settings lends texts from the configuration; struct client_settings is counted, its texts are its own.
 * Errors:     none: the view has been checked; a value of policyd that does not parse leaves the default. */
#ifndef SMTPD_SETTINGS_H
#define SMTPD_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/conf/log_selector.h"
#include "common/conf/slowing.h"
#include "common/ipc/codec.h"
#include "common/ipc/enums.h"

struct conf;

struct settings {
	struct str hostname;             /* primary_hostname */
	struct str qualify_domain, qualify_recipient;
	struct str software;             /* for Received: and the banner: "Bulkhead 0.1" */
	struct str helo_allow_chars;
	struct str from_prefixes, from_suffixes; /* local_from_prefix, local_from_suffix: lists */
	struct conf_slowing slow_mail, slow_rcpt;
	uint32_t acl_stages;             /* 1 << enum acl_stage: an ACL is set */
	bool rewrites_args, rewrites_rcpt, rewrites_data; /* rewriting rules for which policyd is asked; struct conf has them */
	uint64_t log;                    /* LOG_SEL(...) */
	uint32_t accept_max, accept_reserve, accept_queue, queue_per_connection, max_nonmail, max_synprot, max_unknown;
	uint32_t queue_load, load_reserve; /* queue_only_load, smtp_load_reserve, thousandths; LOAD_NO_LIMIT: unset */
	bool queue_load_latch;
	uint32_t recipients_max, received_max, line_max;
	uint64_t header_max, header_line_max;
	uint32_t command_timeout_ms, data_timeout_ms, min_rate; /* min_rate: octets a second */
	bool enforce_sync, strict, literals, utf8_domains, eightbit, prdr, recipients_reject, check_space, return_details;
	bool remove_return_path, remove_envelope_to, remove_delivery_date;
	bool from_check, sender_retain, received_none, received_own, utc, reject_log, nodelay, keepalive;
	bool proxies;                    /* hosts_proxy is set */
	uint32_t proxy_timeout_ms;
	bool helo_lookup, helo_lookup_ours; /* helo_lookup_domains: any may be in it; only our name and addresses */
	bool untrusted_any, untrusted_asks; /* untrusted_set_sender is *; is a list that policyd knows */
	bool tls_remember_esmtp;
	uint32_t tls_dh_max_bits;
	struct str openssl_options;
};

/* Answers of the connect stage's host lists. */
enum client_flag {
	CLIENT_REJECT = 1 << 0,          /* host_reject_connection */
	CLIENT_REQUIRE_HELO = 1 << 1,
	CLIENT_HELO_JUNK = 1 << 2,
	CLIENT_SENDER_UNQUALIFIED = 1 << 3,
	CLIENT_RCPT_UNQUALIFIED = 1 << 4,
	CLIENT_PIPELINING = 1 << 5,
	CLIENT_NONMAIL = 1 << 6,         /* smtp_accept_max_nonmail counts */
	CLIENT_NOLOG = 1 << 7,           /* hosts_connection_nolog */
	CLIENT_RESERVED = 1 << 8,        /* smtp_reserve_hosts */
	CLIENT_DSN = 1 << 9,
	CLIENT_HELO_VERIFY = 1 << 10,
	CLIENT_AUTH_LATER = 1 << 11,     /* which mechanisms are offered, policyd tells at EHLO */
	CLIENT_HELO_TRY = 1 << 12,
	CLIENT_FROMLINE = 1 << 13,       /* ignore_fromline_hosts */
	CLIENT_SLOWED = 1 << 14,         /* smtp_ratelimit_hosts */
	CLIENT_CHUNKING = 1 << 15,       /* chunking_advertise_hosts */
	CLIENT_LIMITS = 1 << 16,         /* limits_advertise_hosts */
	CLIENT_XCLIENT = 1 << 17,        /* hosts_xclient */
	CLIENT_PIPECONNECT = 1 << 20,    /* pipelining_connect_advertise_hosts */
	CLIENT_UTF8 = 1 << 24,           /* smtputf8_advertise_hosts */
	CLIENT_REQUIRETLS = 1 << 25,     /* tls_advertise_requiretls */
	CLIENT_DEFAULT = CLIENT_REQUIRE_HELO | CLIENT_PIPELINING | CLIENT_NONMAIL | CLIENT_CHUNKING | CLIENT_LIMITS | CLIENT_UTF8,
};

/* Names of TLS settings, as policyd has expanded them. */
enum tls_name {
	TLS_N_CERTIFICATE, TLS_N_PRIVATEKEY, TLS_N_OCSP_FILE, TLS_N_VERIFY_CERTIFICATES, TLS_N_CRL, TLS_N_CIPHERS, TLS_N_DHPARAM, TLS_N_ECCURVE,
	TLS_N_ALPN, TLS_N_TROUBLE /* why there can be no TLS: an expansion failed */, TLS_NAMES
};

enum tls_flag {
	TLS_F_ADVERTISE = 1 << 0,        /* tls_advertise_hosts */
	TLS_F_VERIFY = 1 << 1,           /* tls_verify_hosts */
	TLS_F_TRY_VERIFY = 1 << 2,
	TLS_F_RESUME = 1 << 3,           /* tls_resumption_hosts */
	TLS_F_ALPN = 1 << 4,             /* hosts_require_alpn */
	TLS_F_NAMES = 1 << 6,            /* tls_verify_client_hostnames */
	TLS_F_SNI = 1 << 5,              /* the certificates depend on the client's server name: policyd is asked once it is known */
};

struct client_tls {
	uint32_t flags;
	char *v[TLS_NAMES];              /* NULL: not set */
};

struct client_settings {
	uint32_t refs;
	uint32_t flags;                  /* enum client_flag */
	uint64_t size_limit;             /* octets of a message; 0: none */
	uint32_t max_per_host, max_per_connection; /* 0: none */
	uint32_t receive_timeout_ms;     /* 0: none */
	char *banner;                    /* without the code; NULL: the default */
	char *auth;                      /* mechanisms offered, blanks between; NULL: none */
	char *active_hostname;           /* NULL: primary_hostname */
	char *name;                      /* the client's verified name, where the settings hold for one client; NULL: none */
	bool name_looked;                /* it was looked up */
	struct client_tls tls;
};

void settings_init(struct settings *s);
void settings_from_conf(struct settings *s, const struct conf *conf);

struct client_settings *client_settings_new(void);      /* the defaults, one reference */
void client_tls_parse(struct client_tls *t, const struct ipc_pair *v, uint32_t n);
void client_tls_clear(struct client_tls *t);
void client_settings_parse(struct client_settings *c, const struct ipc_pair *v, uint32_t n);
struct client_settings *client_settings_ref(struct client_settings *c);
void client_settings_unref(struct client_settings *c);  /* NULL is fine */

#endif

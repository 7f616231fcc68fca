/* SPDX-License-Identifier: ISC */
/* policyd.h - policyd: a pool of workers that run ACLs for smtpd.
 * Used by:    policyd's own files, its unit tests.
 * Owns:       struct policyd is a worker's: the language with all that was compiled, files that ACLs and lists name.
 * Errors:     a question that can't be answered is answered ACL_DEFER with a text for the log; never with silence.
 *
 * Interface: smtpd asks acl_ask; policyd asks router lookup_ask, name_ask, host_ask, verify_ask. It may touch nothing else. */
#ifndef POLICYD_POLICYD_H
#define POLICYD_POLICYD_H

#include "common/daemon/pool.h"
#include "common/lang/acl.h"
#include "common/lang/lang_ip.h"

enum {
	POLICYD_ASK_MS = 90000,          /* for an answer of router: above the longest DNS question */
	POLICYD_RUN_MORE_MS = 20000,     /* for router's answer, beside the time that a program of ${run} may take */
	POLICYD_VERIFY_MS = 295000,      /* with callouts (CALLOUT_TIME_MAX_S) and routing; clients wait five minutes */
	POLICYD_FILES_MAX = 64,          /* files kept */
	POLICYD_FILE_FRESH_MS = 1000,    /* a file is believed to be unchanged for so long */
	POLICYD_ADDRESSES_MAX = 256,     /* addresses of our interfaces */
	POLICYD_CACHE_MS = 3600000,      /* settings that depend on nothing that changes; a reload brings new processes anyway */
	POLICYD_CACHE_WORLD_MS = 60000,  /* settings that a lookup took part in */
	POLICYD_TLS_MAX = 24,            /* settings of TLS */
	POLICYD_CACHE_TIME_MS = 1000,    /* settings that depend on the time */
};

struct policyd_file {
	struct policyd_file *next;
	char *path, *version;
	struct str content;              /* heap */
	uint64_t checked_ms;
};

struct policyd_setting;
struct policyd_tls;
struct policyd_auth;
struct policyd {
	struct worker *worker;           /* NULL in unit tests that give other services */
	const struct conf *conf;
	struct lang *lang;
	struct policyd_file *files;
	unsigned n_files;
	struct policyd_auth *auth;       /* policyd_auth.h */
	struct policyd_setting *settings; /* compiled; policyd_settings.c */
	struct lang_list *helo_lookup;   /* helo_lookup_domains */
	struct lang_list *untrusted;     /* untrusted_set_sender; NULL: unset */
	struct policyd_tls *tls;         /* compiled; policyd_tls.c */
	struct ip *addresses;            /* of our interfaces */
	unsigned n_addresses;
	struct policyd_texts *texts;     /* policyd_message.c */
	uint64_t scans_until_ms;         /* when scans and programs of the question at hand must be over; scan.h */
	struct str log_id;               /* put before lines that ACLs log; of the question at hand */
};

extern const struct pool_spec policyd_spec;
void policyd_prepare(void);          /* before the jail: what of the machine must be known */

/* services: NULL for those over router. */
struct policyd *policyd_new(struct worker *worker, const struct conf *conf, const struct lang_services *services, struct err *err);
void policyd_free(struct policyd *p);
/* The whole of one question; texts in the arena. fd: the message, or -1. */
void policyd_answer(struct policyd *p, struct arena *a, const struct ipc_acl_ask *ask, int fd, struct ipc_acl_answer *out);

/* policyd_settings.c: the values of options and host lists for a client, at the connect stage; how long they hold. */
enum status policyd_settings_compile(struct policyd *p, struct err *err);
void policyd_settings_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out);
size_t policyd_setting_count(void);
const char *policyd_setting_name(size_t i);

/* Is the peer one of hosts_proxy? */
void policyd_proxy_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out);

bool policyd_setting_yes(struct policyd *p, struct eval *ev, const char *list); /* the client is in that host list */

/* policyd_helo.c: false: HELO is refused, and *out says it. */
enum status policyd_helo_compile(struct policyd *p, struct err *err);
bool policyd_helo_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out);

/* policyd_message.c: texts of a message that is about to be committed, as settings of the answer. */
enum status policyd_message_compile(struct policyd *p, struct err *err);
void policyd_message_free(struct policyd *p);
void policyd_message_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out);
/* What received_header_text gives; empty: nothing, or the default. */
struct str policyd_received_text(struct policyd *p, struct eval *ev);

/* policyd_tls.c: those of TLS. hello: the client's hello has been read, $tls_in_sni is known. False: one of them can't be told; "tls_trouble" says why. */
enum status policyd_tls_compile(struct policyd *p, struct err *err);
bool policyd_tls_run(struct policyd *p, struct eval *ev, bool hello, struct ipc_pair *v, uint32_t *n);
void policyd_tls_answer(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out); /* to ASK_TLS */

/* policyd_rewrite.c: rewriting rules at reception. */
enum status policyd_rewrite_compile(struct policyd *p, struct err *err);
/* The path that stands for the one given; of a local submitter who is not trusted it is his own address where untrusted_set_sender
 * does not let him have another. */
void policyd_rewrite_argument(struct policyd *p, struct eval *ev, struct str argument, struct ipc_acl_answer *out);
void policyd_rewrite_recipient(struct eval *ev, struct ipc_acl_answer *out);
/* The sender, if it changed, and the fields to be replaced; both are put into the facts, too, which the ACL is to see. */
struct ipc_edit *policyd_rewrite_message(struct policyd *p, struct eval *ev, struct ipc_facts *facts, struct str *sender_out, uint32_t *n_out);

/* policyd_vrfy.c: VRFY and EXPN. Before the ACL of VRFY: the address is the recipient that it is about; false: it is none, *out says so. */
bool policyd_vrfy_begin(struct eval *ev, struct ipc_facts *facts, struct ipc_acl_answer *out);
/* Behind an ACL that accepted. */
void policyd_vrfy_answer(struct policyd *p, struct eval *ev, const struct ipc_facts *facts, struct ipc_acl_answer *out);
void policyd_expn_answer(struct policyd *p, struct eval *ev, const struct ipc_facts *facts, struct ipc_acl_answer *out);

/* policyd_services.c */
void policyd_services_init(struct policyd *p, struct lang_services *out);
/* policyd_files.c: files as router sees them, kept. */
enum status policyd_file_get(struct policyd *p, struct arena *a, struct str path, struct lang_file *out, struct err *err);
void policyd_files_clear(struct policyd *p);

#endif

/* SPDX-License-Identifier: ISC */
/* session_priv.h - what the parts of the session share among themselves.
 * Used by:    session*.c only.
 * Owns:       a transaction (struct txn) belongs to its session, from the MAIL command to the end of the message, RSET or the
 *             end; all of it but the waiting content is in its arena.
 * Errors:     none. */
#ifndef SMTPD_SESSION_PRIV_H
#define SMTPD_SESSION_PRIV_H

#include "common/mail/address.h"
#include "common/mail/msgid.h"
#include "smtpd/data_scan.h"
#include "smtpd/session.h"

/* acl_answer's cache_scope */
enum { CACHE_SESSION, CACHE_CLIENT, CACHE_EVERYONE };

/* What became of the file for the content. */
enum txn_file { FILE_NONE, FILE_ASKED, FILE_OPEN, FILE_REFUSED, FILE_LOST };

struct txn {
	struct arena arena;
	struct str sender;            /* without brackets */
	struct ipc_recipient *rcpts;
	uint32_t n_rcpts, rcpts_room;
	uint32_t rcpt_count, rcpt_accepted, rcpt_deferred, rcpt_failed; /* accepted counts the discarded ones */
	uint32_t rcpt_over;           /* refused for recipients_max */
	struct str recipient;         /* the one being checked */
	struct ipc_recipient rcpt;    /* its parameters */
	uint64_t declared;            /* SIZE= */
	struct str ret, envid;
	struct str auth_sender;       /* AUTH=, decoded */
	uint64_t flags;               /* enum msg_flag */
	int64_t received_us;
	struct ipc_edit *edits;
	uint32_t n_edits, edits_room;
	size_t edits_size;
	struct str reply;             /* accept's own text for the final 250 */
	struct str data_text;         /* and for 354 */
	struct str full_name;         /* that a local submitter gave */
	struct { struct str received, id_domain, id_text, full_name, from; } texts; /* that policyd made for the message; empty: the usual */
	uint16_t reply_code, data_code;
	struct str discard_text;      /* why, for the log */
	bool discarded;               /* MAIL or DATA: goes nowhere */
	bool accepted;                /* MAIL was accepted */
	bool unqualified;             /* a header field has an address without domain, which is to get one */
	bool local_message;           /* submitted without SMTP (protocol "local") */

	uint8_t file;                 /* enum txn_file */
	enum status file_status;
	char id[MSGID_SIZE];
	struct str file_text;

	struct data_scan scan;
	bool scanning;
	struct buf pending;           /* content that has not been written */
	uint64_t written;             /* octets in the file */
	enum status write_status;
	char write_text[128];
	uint64_t data_ms;             /* when DATA, or the first BDAT, began */
	bool chunked;                 /* by BDAT */
	uint16_t small_chunks;
	struct buf prdr_places;       /* for each recipient that was accepted, in order: enum prdr_place */
	uint32_t prdr_at, prdr_rcpt;  /* at which of them, and of rcpts, the ACL is */
	bool prdr_refused, prdr_deferred, prdr_discarded; /* somebody was */
	struct buf carry;             /* the end of a chunk that needs the next one to be understood */
	struct str header;            /* read back for local fix-ups */
};

/* ---- commands: rows with a check and, behind policyd's answer, a proceed part ---- */

enum verb_flag {
	VERB_MAIL = 1 << 0,           /* belongs to a transaction: not counted by smtp_accept_max_nonmail */
	VERB_SYNC = 1 << 1,           /* must be the last of a pipelined group */
	VERB_SYNC_PLAIN = 1 << 2,     /* ... only where PIPELINING is not offered */
	VERB_BEFORE_HELO = 1 << 3,
	VERB_UTF8 = 1 << 5,           /* its check looks at octets over 127 */
	VERB_LAST = 1 << 4,           /* nothing at all may stand behind it, whatever smtp_enforce_sync says */
};

struct verb {
	const char *name;
	unsigned flags;
	/* args: behind the name and its blanks. Replies, asks policyd, or changes the state. */
	void (*check)(struct session *s, struct str args);
	const char *help;
};
extern const struct verb session_verbs[]; /* ended by a NULL name */

void verb_helo(struct session *s, struct str args);
void verb_ehlo(struct session *s, struct str args);
void verb_mail(struct session *s, struct str args);
void verb_rcpt(struct session *s, struct str args);
void verb_data(struct session *s, struct str args);
void verb_bdat(struct session *s, struct str args);
void verb_rset(struct session *s, struct str args);
void verb_noop(struct session *s, struct str args);
void verb_quit(struct session *s, struct str args);
void verb_vrfy(struct session *s, struct str args);
void verb_expn(struct session *s, struct str args);
void verb_etrn(struct session *s, struct str args);
void verb_xclient(struct session *s, struct str args);
void verb_help(struct session *s, struct str args);
void verb_auth(struct session *s, struct str args);
void verb_starttls(struct session *s, struct str args);

/* ---- session.c ---- */
void session_enter(struct session *s, enum session_state state);
void session_close(struct session *s);                         /* after what has been replied */
void session_drop(struct session *s, unsigned code, const char *esc, const char *text); /* reply and close */
/* The same; the not-QUIT ACL hears the reason ("bad-commands"), and may say something else. */
void session_drop_for(struct session *s, const char *reason, unsigned code, const char *esc, const char *text);
void session_end_without_quit(struct session *s, const char *reason); /* the client has been told */
bool session_pipelining(const struct session *s);              /* offered to this client and usable */
bool session_sync_wanted(const struct session *s);             /* it has to wait for replies */
struct client_settings *session_client(const struct session *s);
void session_vars_set(struct vars *vars, const struct ipc_pair *v, uint32_t n);
void session_transaction_end(struct session *s);               /* forgets the message and its variables */
struct str session_hostname(const struct session *s);          /* the name by which we speak */

void session_client_known(struct session *s);                  /* who the client is, is settled: the connect stage begins */

void session_client_new(struct session *s);                    /* likewise, on a connection that stands */
bool helo_valid(struct session *s, struct str name);

/* ---- session_xclient.c ---- */
bool xclient_offered(const struct session *s);
struct str xclient_text(struct session *s);                    /* the attributes, each with a blank in front */
void xclient_decide(struct session *s);                        /* the settings of who connected are known */

/* ---- session_proxy.c ---- */
void proxy_ask(struct session *s);                             /* must the peer send a header? Goes on with session_client_known() */
void proxy_late(struct session *s);
bool proxy_refuses(struct session *s, const struct verb *v);   /* has replied */

/* ---- session_auth.c ---- */
struct str auth_offer(const struct session *s);                /* the mechanisms; empty: none */
void auth_helo(struct session *s, const struct ipc_acl_answer *answer);
void auth_clear(struct session *s);
size_t auth_input(struct session *s, const char *p, size_t n);
void auth_late(struct session *s);
void auth_ask_again(struct session *s);
struct str auth_line_split(struct session *s, struct str line);
size_t auth_line_max(const struct session *s, const char *p, size_t n);
void auth_mail(struct session *s, void (*next)(struct session *s)); /* AUTH= is judged, then next() */

/* ---- session_early.c: PIPECONNECT ---- */
bool early_offered(const struct session *s);                   /* in the reply to EHLO */
bool early_greeting(struct session *s);                        /* there is input before the greeting: true if it may be */
void early_begin(struct session *s);                           /* the client may begin with a group: at the greeting, behind the handshake */
bool early_permits(struct session *s, const struct verb *v, bool more); /* a command that comes too early, had it not been offered */
struct str early_log(const struct session *s);                 /* "L*" and the like, for the arrival's line */
struct str early_fastopen_log(struct session *s);              /* "TFO*", once a connection */

/* ---- session_tls.c ---- */
bool tls_offered(const struct session *s);                     /* STARTTLS, in the reply to EHLO */
void tls_begin(struct session *s);                             /* a session that begins with TLS */
void tls_late(struct session *s);
void tls_names_check(struct session *s);                       /* the client's names are new: is its certificate still for it? */
struct str tls_log(struct session *s);                         /* " X=... CV=no ..." for log lines, in scratch; empty without TLS */
void session_begin(struct session *s);                         /* session.c: the connect stage */

/* ---- session_requiretls.c ---- */
bool requiretls_offered(const struct session *s);              /* in the reply to EHLO */
const char *requiretls_param(struct session *s, struct str value); /* of MAIL */
uint64_t requiretls_waived(struct session *s);                 /* MSG_TLS_OPTIONAL where the header of the message, now complete, says so, else 0 */

/* ---- session_utf8.c ---- */
bool utf8_offered(const struct session *s);                    /* SMTPUTF8, in the reply to EHLO */
const char *utf8_param(struct session *s, struct str value);   /* of MAIL: NULL, or the text for 501 */
bool utf8_helo_valid(struct session *s, struct str name);      /* a name with U-labels, where those may be */
/* Why this address, which the grammar allows, is refused for its octets over 127 (*esc_out is changed if it says more); NULL: it isn't. */
const char *utf8_address_wrong(struct session *s, const struct address *addr, const char **esc_out);
bool utf8_argument_valid(struct session *s, struct str args);  /* of VRFY and EXPN; otherwise has replied */

/* ---- session_reply.c ---- */
/* "CODE ESC TEXT"; LF in text begins a further line. esc NULL: none; a text that begins with an enhanced code keeps its own. */
void reply(struct session *s, unsigned code, const char *esc, struct str text);
void replyf(struct session *s, unsigned code, const char *esc, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void reply_syntax(struct session *s, unsigned code, const char *esc, const char *text);   /* counted, logged by smtp_syntax_error */
void reply_protocol(struct session *s, unsigned code, const char *esc, const char *text, bool expected); /* wrong order */
bool reply_has_enhanced(struct str text);

/* ---- session_log.c ---- */
struct str log_host(struct session *s);                        /* "H=(helo) [ip]" or "U=login", in scratch */
struct str log_peer(struct session *s);                        /* the same without "H=" for sentences */
void session_logf(struct session *s, unsigned targets, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void log_rejection(struct session *s, const char *what, struct str subject, bool temporary, struct str text, bool reject_log);
void log_rejected_header(struct session *s);
void log_incomplete(struct session *s);
void log_closed(struct session *s, const char *how);
struct str log_duration(struct session *s);                    /* "D=1s" */
struct str log_printable(struct session *s, struct str text);  /* cut for a log line */

/* ---- session_policy.c ---- */
bool policy_has(const struct session *s, enum acl_stage stage);
/* Asks about the stage (proceed comes with the answer); without an ACL proceed is called at once with NULL. */
void policy_ask(struct session *s, enum acl_stage stage, void (*proceed)(struct session *s, const struct ipc_acl_answer *answer));
/* Asks for the rewriting of the argument (within the command's line) of MAIL or RCPT, and for nothing else. */
void policy_ask_argument(struct session *s, enum acl_stage stage, struct str argument,
	void (*proceed)(struct session *s, const struct ipc_acl_answer *answer));
/* Goes on when the time is over, where smtp_ratelimit_hosts has the client; else at once. */
void policy_wait(struct session *s, uint64_t ms, void (*proceed)(struct session *s, const struct ipc_acl_answer *answer));
bool policy_rewrites(const struct session *s, enum acl_stage stage); /* rewriting rules make policyd be asked, with an ACL or without */
bool policy_rewritten(const struct ipc_acl_answer *answer);    /* policyd gave another address, and it is one */
/* Did the answer accept (or discard)? Otherwise replies, logs "rejected WHAT subject" and, on drop, closes. answer NULL: yes. */
/* What an accepting answer says in place of this code, within its class. */
unsigned policy_code(const struct ipc_acl_answer *answer, unsigned code);
/* The option of a control, kept with the message's variables ("!fake_text"); STR_NULL: none. */
struct str policy_kept(const struct session *s, const char *name);
bool policy_accepts(struct session *s, const struct ipc_acl_answer *answer, const char *what, struct str subject);
void session_facts(struct session *s, struct ipc_facts *f);    /* all that is known; lends from the session and scratch */
void session_on_delay(struct session *s);                      /* the delay before a reply is over */

/* ---- session_mail.c, session_data.c, session_local.c ---- */
struct txn *txn_new(struct session *s);
void txn_free(struct session *s);
void txn_edit_add(struct txn *t, uint64_t op, struct str text);
bool txn_edits_full(const struct txn *t);
void txn_file_want(struct session *s);                         /* asks qmgr for a file, unless that has been done */
size_t data_input(struct session *s, const char *p, size_t n);
/* What DATA and BDAT share. */
void data_scan_begin(struct session *s);
void data_content(struct session *s, struct iovec *piece, unsigned n); /* pieces to keep */
bool data_refuse(struct session *s);                           /* for what it is, or since it could not be written: has replied */
void data_end(struct session *s);                              /* all is here: the ACL, the commit, the reply */
void data_file_refused(struct session *s);
bool data_too_slow(const struct session *s, uint64_t began_ms, uint64_t octets);
void data_slow(struct session *s);                             /* drops for it */
void data_late(struct session *s);
void data_judge(struct session *s);                            /* the content is good: the ACL, unless nobody is to get it */
/* session_prdr.c */
const char *param_prdr(struct session *s, struct str value);
bool prdr_offered(const struct session *s);
void prdr_accepted(struct txn *t, bool kept);                  /* RCPT was; !kept: discarded */
bool prdr_begin(struct session *s);                            /* false: it is not wanted; true: goes on with data_judge() */
/* session_bdat.c */
size_t bdat_input(struct session *s, const char *p, size_t n);
void bdat_file_ready(struct session *s);                       /* the file for the first chunk, or the refusal, is here */
bool bdat_line_lost(struct session *s, struct str line);       /* a line that is refused was a BDAT: the session ends, since its octets can't be told from commands */
void data_file_ready(struct session *s);                       /* the file for DATA, or the refusal, is here */
void data_committed(struct session *s, enum status status, bool no_space, struct str text);
bool local_unqualified(struct session *s);                     /* a field of the header has an address without domain */
void local_utf8_mark(struct session *s);                       /* what was submitted here needs SMTPUTF8 if its header is in UTF-8 */
enum status local_fixups(struct session *s, struct err *err);  /* Date:, Message-ID:, From:, Sender: of a submitted message */

#endif

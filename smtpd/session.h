/* SPDX-License-Identifier: ISC */
/* session.h - one SMTP session as the server: bytes and answers in, bytes and questions out.
 * Used by:    conn.c, which joins it to sockets, timers and channels; unit tests and the fuzz target drive it directly.
 * Owns:       a session owns its facts and its transaction. It holds no descriptor, knows no clock but server->now_ms, and
 *             calls nothing but server->ops.
 * Order:      at most one question (policy, file, commit) is waited for at a time, beside the request for a file, which runs while
 *             the client goes on talking. While a session waits it takes no input: what has come keeps its place in the
 *             caller's buffer, so that pipelined commands are answered in order however late the answers are.
 * Errors:     none: whatever a client or another daemon does leads to a reply, a log line or the end of this session.
 *
 *   CONNECT --answer--> COMMAND <--> ASK, DELAY, FILE; AUTH <--> AUTH_ASK   (a command waits for policyd, for its delay, for qmgr's file)
 *                          |  ^
 *                    354   v  | 250 or refusal
 *                        DATA --end--> ASK (data ACL) --> COMMIT (qmgr)
 *   COMMAND --BDAT--> CHUNK --250 or refusal--> COMMAND; the last one --> ASK (data ACL); the first one may wait for its file
 *   COMMAND --STARTTLS, 220--> TLS --handshake--> COMMAND, all forgotten; TLS <--> ASK where the certificate depends on the server name
 *   TLS on connect: TLS --handshake--> CONNECT
 *   any --421, QUIT, drop, lost--> CLOSING --> CLOSED
 *
 * Standards:  RFC 5321, 1870 (SIZE), 2920 (PIPELINING), 6152 (8BITMIME), 2034 (ENHANCEDSTATUSCODES), 3461 (DSN), 3030 (CHUNKING). */
#ifndef SMTPD_SESSION_H
#define SMTPD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/ipc/codec.h"
#include "smtpd/proxy_header.h"
#include "smtpd/settings.h"

enum { SESSION_VERBS = 20 /* commands that $smtp_command_history has */ };
enum {
	SESSION_ASK_MAX = 3,                    /* how often a question may lose its worker */
	SESSION_POLICY_WAIT_MS = 300 * 1000,    /* for an answer of policyd: what RFC 5321 section 4.5.3.2 lets clients wait */
	SESSION_QMGR_WAIT_MS = 300 * 1000,      /* for a file, for a commit */
	SESSION_LINGER_MS = 10 * 1000,          /* for the client to take the last reply */
	SESSION_RATE_GRACE_MS = 60 * 1000,      /* before smtp_min_data_rate is asked for */
	SESSION_PENDING_MAX = 48 * 1024,        /* octets of content collected before they are written */
	SESSION_OVERRUN_MAX = 64 * 1024 * 1024, /* octets beyond the size limit that are read and dropped before the client is */
	SESSION_DROPPED_MAX = 1024 * 1024,      /* octets of a refused line, and behind the last reply, that are read and dropped */
	SESSION_EDITS_MAX = 96 * 1024,          /* octets of header changes of one message */
	SESSION_VARS_MAX = 64 * 1024,           /* octets of ACL variables of one kind */
	SESSION_BATCH_BYTES = 64 * 1024,        /* octets of recipients in one message to qmgr */
	SESSION_BATCH_RCPT = 400,
	SESSION_AUTH_TRIES = 3,                 /* failures of AUTH that end the session */
};

enum session_state {
	SESSION_CONNECT, SESSION_PROXY, SESSION_COMMAND, SESSION_AUTH, SESSION_AUTH_ASK, SESSION_ASK, SESSION_DELAY, SESSION_FILE, SESSION_DATA, SESSION_COMMIT, SESSION_CLOSING, SESSION_CLOSED,
	SESSION_TLS, SESSION_CHUNK,
	SESSION_STATES
};

struct tls_facts;

struct session;

/* What the session wants of the world; all are called from within the session's own functions. */
struct session_ops {
	void (*output)(struct session *s, const char *p, size_t n);
	/* A question to policyd; the answer comes by session_on_acl(), never from within. reader: the message's content rides along. */
	void (*ask)(struct session *s, const struct ipc_acl_ask *ask, bool reader);
	void (*ask_cancel)(struct session *s);
	void (*begin)(struct session *s, const struct ipc_msg_begin *begin);    /* answered by session_on_file() */
	void (*recipients)(struct session *s, const struct ipc_msg_recipients *more);
	void (*commit)(struct session *s, const struct ipc_msg_commit *commit); /* answered by session_on_commit() */
	void (*forget)(struct session *s, const char *id);  /* the file and the question for it are not wanted any more; id may be "" */
	/* All pieces at this offset of the content. ST_DEFER: no space; ST_ERROR. */
	enum status (*write)(struct session *s, const struct iovec *iov, unsigned n, uint64_t offset, struct err *err);
	enum status (*read)(struct session *s, void *p, size_t n, uint64_t offset, struct err *err);
	bool (*input_waiting)(struct session *s);           /* has the client sent something that has not been read? */
	void (*remember)(struct session *s, uint64_t ms);   /* s->client holds for its address so long */
	void (*log)(struct session *s, unsigned targets, struct str line);
	/* A step of AUTH; the answer comes by session_on_auth(). A descriptor that came with the answer before goes along. */
	void (*auth_ask)(struct session *s, const struct ipc_auth_ask *ask);
	bool (*etrn)(struct session *s, const struct ipc_etrn *etrn); /* false: there is no qmgr now */
	void (*client_changed)(struct session *s);          /* client_ip is another now: who is counted, and what is remembered of it (s->client, NULL before) */
	void (*auth_forget)(struct session *s);             /* that descriptor is not needed any more */
	/* The session waits for TLS (SESSION_TLS). What follows comes by session_on_tls_...(), never from within. */
	void (*tls_start)(struct session *s);
	void (*tls_go_on)(struct session *s);               /* session_tls() is what the client's hello asked for */
};

struct server_stats {
	uint64_t sessions, refused /* before a session began */, lost, timeouts, messages, recipients, rejects, bytes, asked, asked_again, tls, tls_resumed, tls_failed;
	uint32_t open;
};

/* What all sessions of a process share. */
struct server {
	struct settings settings;
	const struct session_ops *ops;
	struct client_settings *everyone;    /* answers of the connect stage that hold for every client, while now_ms < everyone_until_ms */
	uint64_t everyone_until_ms;          /* 0: for good */
	uint64_t now_ms;                     /* monotonic; set by the shell before it calls a session */
	int64_t wall_us;
	uint32_t load;                       /* of the machine, thousandths, where a limit for it is set; kept by the shell */
	uint64_t load_ms;                    /* when it looked */
	struct arena scratch;                /* for the time of one call; reset by the shell */
	struct server_stats stats;
	uint64_t last_session;               /* counts connections, for their ids */
	uint32_t process;                    /* process id */
	bool draining;
	bool intake_closed;                  /* qmgr's last word */
	uint32_t intake_code;
	char intake_text[512];
	uint64_t intake_space_kb;
	struct ipc_house house;          /* figures of the queue, for policyd */
};

struct verb;
struct txn;
struct auth;

struct vars {                         /* a set of variables or results, replaced as a whole */
	struct ipc_pair *v;
	uint32_t n;
	struct arena arena;
};

/* What BDAT announced; its octets are taken, whatever becomes of them. */
struct chunk {
	uint64_t size, left;              /* octets; of them still to come */
	uint64_t began_ms;
	bool last;
	void (*end)(struct session *s);   /* when all are here: replies */
};

struct session {
	struct server *server;
	void *shell;                      /* the caller's */
	struct client_settings *client;   /* NULL until the connect stage is through */
	uint64_t started_ms, deadline_ms; /* deadline_ms 0: none. The shell calls session_on_deadline() then or soon after */
	uint64_t line_ms;                 /* when the present, unfinished line began; 0: none */
	uint64_t number;
	uint64_t flags;                   /* enum msg_flag of controls outside a transaction */
	const struct verb *verb;          /* the command that waits */
	void (*proceed)(struct session *s, const struct ipc_acl_answer *answer);
	char *line;                       /* the command line that waits, on the heap; of AUTH without what may be secret */
	struct str secret;                /* that part, in the caller's buffer, while the command is looked at */
	struct auth *auth;                /* the exchange under way; NULL: none */
	void (*auth_next)(struct session *s); /* goes on with MAIL */
	char *auth_offer;                 /* mechanisms, as policyd said at EHLO; NULL: the client's settings have them */
	char *auth_method, *auth_id;      /* authenticator that let the client in, and its id */
	char *auth_fail_id;
	struct txn *txn;
	struct chunk chunk;
	struct ipc_acl_answer *held;      /* an answer that waits for its delay, in held_arena */
	struct arena held_arena;
	char *helo, *client_name, *ident, *gecos, *connection_id;
	struct vars acl_c, acl_m, results, proxy; /* proxy: what $proxy_... say */
	struct vars tls;                  /* facts of its encryption; n 0: none */
	struct client_tls *tls_own;       /* settings of this session alone; NULL: the client's */
	uint64_t uid, gid;                /* each + 1, of a local submitter */
	uint32_t host_connections;        /* from this address when it connected, this one included */
	uint8_t client_ip[16], server_ip[16];
	uint16_t client_port, server_port;
	uint16_t nonmail, unknown, synprot;
	uint32_t mails, messages;         /* MAIL commands; messages accepted */
	uint8_t state;                    /* enum session_state */
	uint8_t stage;                    /* of the question that is open, enum acl_stage; 0: none */
	uint8_t attempts;                 /* workers lost with it */
	struct str argument;              /* ... that is about the rewriting of this, within `line`; p NULL: about the stage */
	bool ipv6, server_ipv6, local, trusted;
	bool xclient_may;                 /* who connected is in hosts_xclient */
	bool xclient_used;                /* the client is whom it named */
	bool proxy_failed;                /* the header of a proxy was due, and was none */
	bool tls_on_connect;              /* it begins with TLS */
	bool tls_started;                 /* 220 was said to STARTTLS, or it began so */
	bool tls_advertised, tls_active;
	bool tls_verified;                /* the client's certificate, whoever it names */
	bool starttls_free;               /* as rset_free */
	bool esmtp, helo_verified, name_looked, name_deferred;
	bool skip_line;                   /* the rest of a refused line is dropped up to CR LF */
	uint32_t dropped;                 /* octets of it, or behind the last reply */
	bool queue_only;                  /* smtp_accept_queue was exceeded when it connected */
	uint8_t verbs[SESSION_VERBS];     /* places of the last commands in session_verbs, + 1; the latest last */
	uint32_t connections;             /* open when it began */
	bool early_open;                  /* the next EHLO may have more behind it */
	bool early_group;                 /* it had: what follows, up to the last of them, came without waiting for its reply */
	bool early_used, pipelined;       /* for the log: this happened; commands came in groups */
	bool early_held;                  /* the replies to the first group go out together */
	uint8_t fastopen;                 /* the connection began with TCP Fast Open: 1; 2: with data in its first segment */
	bool queue_load;                  /* queue_only_load was exceeded, and holds (queue_only_load_latch) */
	bool counted;                     /* in stats.open */
	bool rset_free, helo_free;        /* the next RSET, HELO is not counted as nonmail */
	bool mail_done;                   /* MAIL was said at least once */
	bool quit;
	bool notquit_asked;
	bool auth_advertised, auth_condition, auth_failed;
	bool wipe;                        /* the caller's buffer held a secret: overwrite what was taken, and reset this */
	uint8_t auth_failures;
	const char *end_reason;           /* of an end without QUIT, for the ACL */
	char *end_text, *end_esc;         /* the reply that waits for it, on the heap */
	uint16_t end_code;
	uint8_t reject_targets;           /* where the refusal at hand is logged, enum log_target; 0: the usual */
	bool pretended;                   /* an administrator plays the client: no waiting, no order of turns */
	bool trace;                       /* policyd is to say in the log what it does */
};

void session_init(struct session *s, struct server *server);
void session_clear(struct session *s);          /* gives all back; forgets an open message */

/* The connection is there, facts are set: client_ip ... or local, uid, ident. */
void session_start(struct session *s);
/* Takes what it can; the rest must be kept and come again, more behind it, when it waits no more (session_wants_input()). */
size_t session_input(struct session *s, const char *p, size_t n);
bool session_wants_input(const struct session *s);
void session_on_eof(struct session *s, const char *why);  /* the connection is lost or half closed; why: NULL or an error */
void session_on_deadline(struct session *s);
void session_on_proxy(struct session *s, const struct proxy_header *h, const char *why); /* in state proxy: the header; NULL: there is none, why */
void session_on_drain(struct session *s);       /* nothing more after the present message: 421 when it is idle */

/* The answer; NULL: none will come, *why tells. lost: a worker died with the question. */
void session_on_acl(struct session *s, const struct ipc_acl_answer *answer, bool lost, const char *why);
void session_on_auth(struct session *s, const struct ipc_auth_answer *answer, bool lost, const char *why);
void session_auth_reset(struct session *s);     /* as if nobody had authenticated */
void session_ask_again(struct session *s);      /* the open question could not be sent: now it can */
void session_on_file(struct session *s, enum status status, struct str id, struct str text);
void session_on_commit(struct session *s, enum status status, bool no_space, struct str text); /* no_space: 452 instead of 451 */
const char *session_message_id(const struct session *s); /* of the transaction's open file; "": none */
void session_on_file_lost(struct session *s);   /* the qmgr that gave the file is gone */

/* TLS: what the shell has to say while the session is in SESSION_TLS. Text is for the log. */
const struct client_tls *session_tls(const struct session *s);       /* the settings to go by */
void session_on_tls_ready(struct session *s);                        /* there is a context, and no input waits: says 220 */
void session_on_tls_injected(struct session *s);                     /* there is input behind STARTTLS */
void session_on_tls_unavailable(struct session *s, const char *text);
void session_on_tls_hello(struct session *s, struct str sni);        /* TLS_F_SNI: answered by ops->tls_go_on, or by the session's end */
void session_on_tls_done(struct session *s, const struct tls_facts *facts); /* texts are copied */
void session_on_tls_failed(struct session *s, const char *text);

const char *session_state_name(const struct session *s);
/* An address (4 or 16 octets) as text; out holds 64 octets. */
void session_ip_format(bool ipv6, const uint8_t *ip, char *out);
bool session_holds(const struct session *s);    /* replies wait for those that will follow: a question about the same group is open */
size_t session_size(void);                      /* octets of an idle session, for the record */

#endif

/* SPDX-License-Identifier: ISC */
/* smtp_client.h - the client's side of an SMTP or LMTP dialogue, without descriptor, clock or event library.
 * Used by:    out_conn.c, which joins it to a socket; unit tests and the fuzz target drive it directly.
 * Owns:       its unfinished reply and what waits in `out`. Profile and transaction are lent by the caller until the client is
 *             cleared or the transaction is done.
 * Orders:     BANNER (EHLO [STARTTLS TLS EHLO] AUTH* | HELO) (TLS first of all, where the connection begins with it) then, for each message, [RSET] MAIL RCPT+ DATA BODY DOT+
 *             and back to READY; QUIT from READY.
 *             Two positions walk along: `send` is the next command to go out, `recv` the one whose reply comes next. With
 *             PIPELINING send runs ahead, without it waits for recv; nothing else differs. A row of the table in
 *             smtp_client.c says of each step what is sent, what a reply does, which time-out holds and how far one may run
 *             ahead, so TLS and CHUNKING are further rows.
 * Shell:      after every call: send `out` (smtp_client_sent() takes off what went), and look at `phase`:
 *             BUSY  waits for replies; the time-out is smtp_client_timer().
 *             BODY  send the content with its final dot, then call smtp_client_body_sent(); replies may come meanwhile. With
 *                   txn->chunked: without dots, each piece behind smtp_client_chunk().
 *             READY no transaction: the connection may wait, carry another, or be quit.
 *             SHAKE `out` is empty: shake hands, then say smtp_client_tls_done() or smtp_client_tls_failed(). Octets of the server that
 *                   were read before belong in front of its reply to STARTTLS: they end the connection, and are never taken as said inside.
 *             OVER  close the connection; nothing more will come of it.
 *             `txn` is NULL again once every recipient has its result; or, with again_clear, when the same host is to be tried once
 *             more without TLS.
 * Errors:     all trouble ends in results of recipients and in txn->host_error.
 * Standards:  RFC 5321, 1870 (SIZE), 2033 (LMTP), 2920 (PIPELINING), 3030 (CHUNKING), 9422 (LIMITS), 3207 (STARTTLS), 3461 (DSN), 6152 (8BITMIME);
 *             draft-hall-prdr (PRDR). */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include "common/ipc/codec.h"
#include "common/ipc/enums.h"
#include "smtp-out/smtp_reply.h"

/* How to speak; the same for all connections of one plan. */
struct smtp_profile {
	struct str helo;          /* argument of EHLO, HELO, LHLO; CONF_LATE_MARK in it: our address */
	bool is_host;             /* a host, not a Unix socket */
	bool lmtp;
	bool avoid_esmtp;         /* HELO at once */
	bool avoid_pipelining;
	bool try_chunking, try_prdr; /* use them where they are offered */
	bool ignore_quota;        /* LMTP: IGNOREQUOTA with RCPT where offered */
	const struct ipc_client_auth *auth; /* authenticators, in order */
	uint32_t n_auth;
	bool auth_try, auth_require; /* this host is in hosts_try_auth, hosts_require_auth */
	bool auth_sender_force;
	struct str auth_sender;   /* AUTH= of MAIL; empty: none */
	int64_t size_addition;    /* added to SIZE=; negative: no SIZE */
};

/* One recipient and what became of it. Zero result: not yet known. */
struct smtp_rcpt {
	struct str addr, orcpt;
	struct str ascii;         /* in place of addr for a host without SMTPUTF8; p NULL: as it is */
	struct str status;        /* enhanced status; never empty with a result */
	struct str text;          /* the peer's words, or what went wrong */
	const char *stage;        /* what was being done */
	uint16_t code;            /* 0: no reply */
	uint8_t notify;           /* enum dsn_notify */
	uint8_t result;           /* enum delivery_result */
	uint8_t error;            /* enum retry_error */
	uint16_t error_no;        /* errno; 0: none */
	bool host_error;          /* the host's fault */
	bool refused;             /* deferred, but the host said 5xx to us, or is none for this message: a failure if no other host is left */
	bool waits;               /* an earlier host deferred it for a reason that may pass: then it is none */
	bool skip;                /* in: not part of this transaction (it has its result from another host) */
	bool accepted;            /* RCPT got 2xx */
	bool later;               /* deferred only since the host takes no more of them at a time (LIMITS) */
};

/* One message on one connection. */
struct smtp_txn {
	struct arena *arena;      /* texts of results go here */
	struct str sender, ret, envid;
	uint64_t size;            /* octets of the content as it will be sent, about */
	bool eightbit;
	bool utf8, utf8_header;   /* marked as needing SMTPUTF8; and its header really has octets over 127 */
	int8_t downconvert;       /* envelope to ASCII forms: 1 always, 0 never, -1 where the host lacks SMTPUTF8 */
	bool requiretls;          /* MAIL says REQUIRETLS where it is offered (RFC 8689) */
	bool requiretls_must;     /* and a host where it is not is none for this message */
	bool probe;               /* a callout: it ends with the replies to RCPT, one command at a time; DATA is never said */
	struct smtp_rcpt *rcpts;
	uint32_t n_rcpts;
	/* what became of it */
	uint32_t n_accepted, n_delivered;
	uint32_t n_later;         /* for another transaction on the same connection: smtp_txn_rest() */
	uint8_t host_error;       /* enum retry_error: the host's trouble; RETRY_NONE: it worked */
	struct str host_text;
	bool mail_answered;       /* some reply to MAIL came: the connection was alive */
	bool dsn_passed;          /* the peer offers DSN */
	bool utf8_said;           /* MAIL has SMTPUTF8 */
	struct str sender_ascii;  /* as a recipient's */
	bool pipelined;
	bool early;               /* it began in a group that went out before EHLO was answered */
	bool prdr, chunked;       /* used */
	struct str confirmation;  /* reply to the end of data */
};

struct scram;
enum smtp_phase { SMTP_BUSY, SMTP_BODY, SMTP_READY, SMTP_OVER, SMTP_SHAKE };
enum smtp_timer { SMTP_T_NONE, SMTP_T_COMMAND, SMTP_T_DATA, SMTP_T_FINAL, SMTP_T_QUIT };
enum smtp_step {
	SMTP_BANNER, SMTP_EHLO, SMTP_HELO, SMTP_STARTTLS, SMTP_TLS, SMTP_AUTH, SMTP_WAIT, SMTP_RSET, SMTP_MAIL, SMTP_RCPT, SMTP_DATA, SMTP_CONTENT, SMTP_DOT, SMTP_QUIT,
	SMTP_END, SMTP_STEPS
};
enum smtp_offer {
	SMTP_O_PIPELINING = 1, SMTP_O_SIZE = 2, SMTP_O_8BITMIME = 4, SMTP_O_DSN = 8, SMTP_O_SMTPUTF8 = 16, SMTP_O_IGNOREQUOTA = 32,
	SMTP_O_STARTTLS = 64, SMTP_O_CHUNKING = 128, SMTP_O_AUTH = 256, SMTP_O_REQUIRETLS = 512,
	SMTP_O_ESMTP = 1024,      /* EHLO was taken */
	SMTP_O_PRDR = 2048, SMTP_O_PIPECONNECT = 4096,
};
enum smtp_tls { SMTP_TLS_NO, SMTP_TLS_TRY /* where it is offered */, SMTP_TLS_MUST };
enum { SMTP_EARLY_BODY_MAX = 8192 /* octets of content that go with the first group, by BDAT: what fits into the first round trip */ };
enum smtp_early {
	SMTP_EARLY_NOT,
	SMTP_EARLY_GROUP,         /* its replies are awaited */
	SMTP_EARLY_BROKEN,        /* it was in vain, but the content is under way with it: whether somebody got it, the last reply tells */
};
enum smtp_loss { SMTP_LOST_CLOSED, SMTP_LOST_ERROR, SMTP_LOST_TIMEOUT, SMTP_LOST_CONTENT /* our file could not be read */ };

struct smtp_memory;

struct smtp_client {
	const struct smtp_profile *profile;
	struct smtp_txn *txn;
	struct smtp_reply reply;
	struct buf out;
	struct buf ehlo;          /* the reply to EHLO in clear, as it came, where ehlo_wanted */
	struct buf mechanisms;    /* of AUTH, as EHLO's reply has them */
	const char *local_ip;     /* our address, lent; NULL: not known */
	uint64_t peer_size;       /* SIZE of the peer; 0: no limit */
	uint32_t limit_mails, limit_rcpts, limit_domains; /* LIMITS of the peer: transactions on a connection; recipients, and their domains, in one; 0: none */
	uint32_t send_rcpt, recv_rcpt; /* positions among the recipients, in steps RCPT and DOT */
	uint32_t commands, replies;    /* asked for, come */
	uint16_t offers;          /* enum smtp_offer, as far as the profile wants them */
	uint16_t offered;         /* all of them */
	uint8_t send, recv;       /* enum smtp_step */
	uint8_t phase;            /* enum smtp_phase */
	uint8_t auth, auth_sent;  /* authenticator being tried, or that worked; strings sent */
	bool auth_cancelled;      /* "*" was sent */
	struct scram *scram;      /* on the heap, from the first SCRAM authenticator on; NULL */
	char auth_why[96];        /* why a server that had to prove itself is not to be trusted; empty: nothing is wrong */
	bool auth_tried;          /* one was refused */
	struct buf auth_refusal;  /* in which words: for the log; the shell takes them */
	uint8_t auth_refused;     /* which one said them */
	bool authenticated;
	bool ahead;               /* the command sent last allows the next one to follow at once */
	bool rset;                /* the last transaction was not finished: RSET before the next */
	bool peer_closes;         /* 421 was said */
	uint8_t tls_want;         /* enum smtp_tls; set by the shell */
	bool clear_if_refused;    /* likewise: with TLS_TRY, on in clear after 4xx to STARTTLS; after 5xx always */
	bool clear_if_failed;     /* likewise: with TLS_TRY, in clear on another connection after a handshake that failed */
	bool ehlo_wanted;         /* set by the shell */
	bool tls;                 /* the connection is encrypted */
	struct str tls_phrase;    /* set by the shell, lent: what a handshake that failed was; empty: "TLS session" */
	bool again_clear;         /* this connection is over; the host is to be tried without TLS */
	bool prdr_asked, prdr_answers; /* PRDR was said with MAIL; 353 has come: a reply for each recipient, and one for all */
	uint32_t owed;            /* replies that have just been announced, for which no command goes out */
	uint32_t chunks;          /* BDAT commands, but the last, that wait for their replies */
	struct smtp_memory *memory; /* lent by the shell; NULL: nothing is to be remembered of this host */
	uint8_t early;            /* enum smtp_early: of the group that went out before its first reply came */
	uint8_t early_next;       /* enum smtp_step: what stands behind EHLO there; WAIT: nothing */
	uint32_t early_uses;      /* offers that are taken for granted there */
	uint32_t early_end;       /* replies at its end */
	bool early_failed;        /* the connection is over; the host is to be tried once more, and not early */
	bool learned, forget;     /* the memory is to be written; is wrong */
	bool chunk_wanted;        /* the whole content may go with the group, by smtp_client_chunk_early() */
	bool body_ahead;          /* it did */
	bool lone_dot;            /* DATA was taken though no recipient was: its content is empty */
};

/* The connection is open and the banner is awaited, with a first transaction to carry (or NULL). */
void smtp_client_init(struct smtp_client *c, const struct smtp_profile *profile, struct smtp_txn *txn);
/* Right behind smtp_client_init(): TLS is there before the banner. */
void smtp_client_tls_first(struct smtp_client *c);
/* In phase SHAKE. why: what the peer or its certificate did, or what is wrong with us (ours), which is no reason to go on in clear. */
void smtp_client_tls_done(struct smtp_client *c);
void smtp_client_tls_failed(struct smtp_client *c, const char *why, bool ours);
/* Before or when the connection is there, or when TLS is, where that comes first: what the memory allows goes out without waiting for the
 * banner. False: it knows nothing. */
bool smtp_client_early(struct smtp_client *c);
/* Where chunk_wanted is set: writes the BDAT command for the whole content, which has to follow it at once. */
void smtp_client_chunk_early(struct smtp_client *c, size_t octets);
/* A further transaction, in phase READY. */
void smtp_client_begin(struct smtp_client *c, struct smtp_txn *txn);
void smtp_client_input(struct smtp_client *c, const char *p, size_t n);
void smtp_client_sent(struct smtp_client *c, size_t n);
void smtp_client_body_sent(struct smtp_client *c);
/* Writes the BDAT command for the next octets of the content. */
void smtp_client_chunk(struct smtp_client *c, size_t octets, bool last);
/* The connection is gone, or has to be given up; `text` for errors, may be NULL. Phase becomes OVER. */
void smtp_client_lost(struct smtp_client *c, enum smtp_loss loss, const char *text);
void smtp_client_quit(struct smtp_client *c);
enum smtp_timer smtp_client_timer(const struct smtp_client *c);
const char *smtp_step_name(enum smtp_step step);
/* Gives memory back while the connection waits. */
void smtp_client_trim(struct smtp_client *c);
void smtp_client_clear(struct smtp_client *c);

/* Gives every recipient of the transaction that has no result a deferral for the host's sake. */
void smtp_txn_host_failed(struct smtp_txn *t, enum retry_error error, const char *stage, struct str status, struct str text);
/* Only those who are `later` are left, for another transaction on the same connection. */
void smtp_txn_rest(struct smtp_txn *t);
/* Forgets the temporary results before the next host is tried; final ones are skipped from now on. False: nobody is left. */
bool smtp_txn_again(struct smtp_txn *t);

#endif

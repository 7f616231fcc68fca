/* SPDX-License-Identifier: ISC */
/* smtpd.h - the daemon: listeners, channels, and the connections that carry sessions.
 * Used by:    smtpd/'s shell (smtpd.c, listener.c, conn.c, conn_channel.c); the sessions themselves know nothing of it.
 * Owns:       struct smtpd owns all connections, the table of hosts and the shared read buffer. A connection is released at the
 *             end of the loop's turn in which it ended; late answers find it gone by the struct that carried the question.
 * Errors:     a client's connection may fail at any time; without policyd or qmgr sessions wait, then answer 451. */
#ifndef SMTPD_SMTPD_H
#define SMTPD_SMTPD_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "common/daemon/daemon.h"
#include "common/tls/tls.h"
#include "common/tls/tls_shelf.h"
#include "smtpd/session.h"
#include "smtpd/users.h"

enum {
	SMTPD_READ_MAX = 128 * 1024,      /* octets read at a time */
	SMTPD_ACCEPT_BATCH = 64,          /* connections accepted in a turn for each listener */
	SMTPD_OUT_MAX = 64 * 1024,        /* octets of replies that may wait before a client is not listened to any more */
	SMTPD_HOSTS_MAX = 20000,          /* addresses remembered */
	SMTPD_DRAIN_TICK_MS = 100,
	SMTPD_DRAIN_GRACE_MS = 500,       /* an idle session may go on so long when stopping */
};

/* Contexts by their settings (smtpd_tls.c). */
struct tls_cache {
	struct tls_keyd keyd;
	struct tls_shelf shelf;
};

struct smtpd {
	struct daemon *daemon;
	struct server server;
	struct list conns, listeners;
	struct hash hosts;                /* 16 octets of address: struct host */
	struct daemon_link *policyd, *qmgr; /* NULL: none now */
	struct tls_cache tls;
	struct loop_timer drain;
	uint64_t drain_idle_ms, drain_from_ms;
	uint32_t n_conns;
	char *buffer;                     /* SMTPD_READ_MAX octets */
	bool draining, full_logged;
};

/* Where connections come from. */
struct listener {
	struct list node;
	struct smtpd *smtpd;
	struct loop_fd watch;
	int fd;
	uint16_t port;
	bool tls, submit;
};

/* An address with connections, or with settings that still hold. */
struct host {
	uint8_t ip[16];
	uint32_t connections;
	struct client_settings *client;   /* NULL: none */
	uint64_t client_until_ms;
};

/* Where a connection is on its way into TLS. */
enum conn_tls {
	CONN_CLEAR,
	CONN_TLS_WANTED,                  /* the session waits; nothing was done */
	CONN_TLS_FLUSH,                   /* 220 is on its way */
	CONN_TLS_SHAKE,
	CONN_TLS_ASKED,                   /* which context, policyd is asked */
	CONN_TLS_CHOSEN,
	CONN_TLS_ON,
};

struct begin;                         /* a question for a file, which may outlive its message */

struct conn {
	struct list node;
	struct smtpd *smtpd;
	struct session session;
	struct loop_fd watch;
	struct loop_timer timer;
	struct host *host;
	struct tls_conn *tls;             /* NULL: none */
	struct buf out;
	char *in;                         /* what the session has not taken */
	uint32_t in_len;
	int fd;
	int auth_fd;                      /* connection to Dovecot, between two steps of AUTH; -1 */
	int file, reader;                 /* the message's file, read-write and read-only; -1 */
	uint64_t file_offset;
	uint64_t file_limit;              /* it is in memory, for content up to this; 0: it is a file */
	struct begin *grow;               /* the question for a file in its place */
	bool file_full;                   /* there was none */
	struct channel *ask_channel, *commit_channel, *file_channel;
	uint64_t ask_id, commit_id;
	struct begin *begin;
	uint64_t begin_size;
	uint64_t active_ms;
	bool ask_waits, begin_waits;      /* for a channel */
	uint64_t held_ms;                 /* since when replies are held back for the rest of their group; 0: they are not */
	bool stalled;                     /* there is input that can't be taken now */
	bool shut, ended, eof;
	struct tls_socket tls_socket;
	struct buf proxy;                 /* octets of a header that is not complete */
	uint8_t tls_step;                 /* enum conn_tls */
	uint8_t tls_want;                 /* LOOP_READ, LOOP_WRITE: of the handshake */
};

extern const struct daemon_spec smtpd_spec;
void smtpd_prepare(void);                               /* before the jail: what can be read only now */
const struct users *smtpd_users(void);

void listener_add(struct daemon *d, const struct daemon_listener *listener);
void listeners_close(struct smtpd *m);

void conn_new(struct smtpd *m, struct listener *from, int fd, const struct sockaddr_storage *peer);
/* A client with the addresses that it was given, on any kind of socket (takes fd). */
void conn_pretended(struct smtpd *m, int fd, const struct ipc_session_client *who);
void conn_end(struct conn *c);                          /* closes now, releases at the end of the turn */
/* Around everything that is done with a session from outside. */
void conn_enter(struct conn *c);
void conn_leave(struct conn *c);                        /* goes on with waiting input, sends, sets the timer */
extern const struct session_ops conn_ops;

void conn_channels_release(struct conn *c);             /* questions and files of a connection that ends */
void conn_policyd_opened(struct smtpd *m);
void conn_qmgr_opened(struct smtpd *m);
void conn_qmgr_closed(struct smtpd *m, struct channel *ch);
void conn_grow(struct conn *c);                         /* the content has passed file_limit */
void conn_ask(struct session *s, const struct ipc_acl_ask *ask, bool reader);
void conn_ask_cancel(struct session *s);
void conn_auth_ask(struct session *s, const struct ipc_auth_ask *ask);
void conn_auth_forget(struct session *s);
bool conn_etrn(struct session *s, const struct ipc_etrn *etrn);
void conn_begin(struct session *s, const struct ipc_msg_begin *begin);
void conn_recipients(struct session *s, const struct ipc_msg_recipients *more);
void conn_commit(struct session *s, const struct ipc_msg_commit *commit);
void conn_forget(struct session *s, const char *id);

/* conn_proxy.c */
void conn_proxy_read(struct conn *c);                   /* in state proxy, when there is something to read */
void conn_proxy_end(struct conn *c);

/* conn_tls.c */
void conn_tls_start(struct session *s);
void conn_tls_go_on(struct session *s);
void conn_tls_step(struct conn *c);                     /* as far as it goes now */
void conn_tls_end(struct conn *c);
/* As send() and recv(), errno EAGAIN too; recv: 0 at the end of the stream. */
ssize_t conn_tls_send(struct conn *c, const char *p, size_t n);
ssize_t conn_tls_recv(struct conn *c, char *p, size_t n);

/* smtpd_tls.c */
void tls_cache_init(struct smtpd *m);
void tls_cache_clear(struct smtpd *m);
void tls_keyd_opened(struct daemon_link *link);
void tls_tickets_take(struct daemon *d, struct str now, struct str before);
/* Counted by whoever makes connections with it; lent until the loop's turn ends. hello: the client's hello was read; else a context
 * may ask for it (TLS_F_SNI). NULL: *err says why. May block for as long as keyd takes. */
struct tls_ctx *tls_cache_get(struct smtpd *m, const struct client_tls *t, bool hello, struct err *err);

struct host *host_get(struct smtpd *m, const uint8_t ip[16]);
void host_put(struct smtpd *m, struct host *h);         /* one connection less */
void hosts_clear(struct smtpd *m);

#endif

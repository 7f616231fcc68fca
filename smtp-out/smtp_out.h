/* SPDX-License-Identifier: ISC */
/* smtp_out.h - the agent: deliveries, connections, and the channels from qmgr.
 * Used by:    out_daemon.c and the tests; its own files.
 * Owns:       a delivery lives from `deliver` to `delivered`; it tries the plan's hosts one after the other, each on a
 *             connection. A connection lives from connect to close; it carries one delivery at a time, waits for the next
 *             one under its number, or takes its leave. Both are released at the end of the loop's turn.
 * Limits:     below; time-outs are the transport's.
 * Errors:     a delivery that can't be begun is answered at once with a deferral. */
#ifndef SMTP_OUT_H
#define SMTP_OUT_H

#include <sys/socket.h>

#include "common/ipc/channel.h"
#include "common/tls/tls_shelf.h"
#include "smtp-out/out_content.h"
#include "smtp-out/out_plan.h"

enum {
	OUT_DELIVERIES_MAX = 20000,
	OUT_HOST_STATES_MAX = 64,       /* as in messages.def */
	OUT_GONE_MS = 30 * 1000,        /* the plan of one that ended while it waited is remembered so long, for a `deliver` under way */
	OUT_QUIT_MS = 5 * 1000,
	OUT_FILL = 64 * 1024,           /* octets of content that are produced ahead */
	OUT_ROUNDS = 8,                 /* fills in one turn of the loop for one connection */
};

struct out_delivery;
struct out_hint;
struct out_callout;
struct out_socks;
struct conf_proxy;

enum out_conn_state { OUT_ASKING /* what is remembered of the host */, OUT_CONNECTING, OUT_TALKING, OUT_WAITING, OUT_LEAVING, OUT_GONE };

struct out_conn {
	struct list node;               /* smtp_out.conns */
	struct smtp_out *so;
	struct out_plan *plan;
	struct out_delivery *delivery;  /* NULL: none */
	struct channel *channel;        /* whose deliveries it carries */
	struct out_socks *socks;        /* NULL: not through a proxy, or the target is reached */
	const struct conf_proxy *proxy; /* through which it goes, or tried last; lent from the options */
	struct smtp_client client;
	struct smtp_memory *memory;     /* its own; NULL: of this host nothing is remembered */
	struct out_hint *asked;         /* for it */
	void (*early_known)(struct out_conn *conn); /* goes on with the answer */
	struct loop_fd watch;
	struct loop_timer timer;
	const struct out_host *to;      /* of the plan */
	struct out_tls_host demand;     /* of the host, and of the message that the connection was made for */
	uint64_t marks;                 /* of that message: out_tls_marks() */
	struct tls_conn *tls;           /* NULL: none */
	struct out_session *session;    /* NULL: none is wanted */
	struct tls_facts facts;         /* after the handshake; texts in tls_arena */
	struct arena tls_arena;
	uint64_t number;                /* 0: never waited */
	uint32_t host;                  /* index in the plan's hosts */
	uint32_t messages;
	uint32_t timer_mark;            /* replies and commands when the timer was started */
	int fd;
	uint16_t local_port;
	uint8_t state;                  /* enum out_conn_state */
	uint8_t fastopen;               /* enum out_fastopen */
	uint8_t timer_kind;             /* enum smtp_timer */
	uint8_t tls_watch;              /* LOOP_READ or LOOP_WRITE: what the handshake waits for */
	struct tls_socket tls_socket;
	char local_ip[46];
};

struct out_delivery {
	struct list node;               /* smtp_out.deliveries, or smtp_out.spare */
	struct smtp_out *so;
	struct channel *channel;
	uint64_t request;
	struct ipc_deliver msg;
	struct out_plan *plan;
	struct out_conn *conn;
	struct out_callout *callout;    /* not a delivery but a question about an address (out_callout.c); NULL: a delivery */
	struct out_content content;
	struct smtp_txn txn;
	struct ipc_host_state *hosts;   /* tried */
	uint8_t *given_by;              /* for each recipient: which of hosts gave its result, from 1 */
	uint32_t n_hosts;
	uint32_t next_host, tried;
	uint32_t tried_before;          /* the fallback hosts */
	bool reused;                    /* the present connection had carried others before */
	uint32_t not_early;             /* host + 1 to which a group was sent in vain */
	bool failed_here;               /* our own fault: further hosts would not help */
	bool in_clear;                  /* the present host is tried without TLS, since that has failed */
	uint64_t bytes;
	struct arena arena;
};

struct smtp_out {
	struct loop *loop;
	struct hash plans;
	struct hash by_number;          /* waiting and gone connections */
	struct list conns, deliveries, spare;
	struct str helo;
	char *scratch;                  /* OUT_SCRATCH octets */
	uint64_t last_number;
	uint32_t n_conns, n_waiting, n_deliveries, n_spare;
	struct tls_keyd keyd;
	uint8_t session_key[32];        /* seals what lies among the hints */
	bool session_key_known;
	struct tls_shelf shelf;         /* contexts of TLS */
	struct str openssl_options;
	void (*log)(void *arg, const char *line); /* to the main log; NULL in tests */
	void *log_arg;
	struct channel *hints;          /* to router; NULL: none now */
	struct list hint_asks;          /* struct out_hint */
	uint32_t n_hint_asks;
	uint64_t ehlo_expire_s;         /* retry_data_expire: how long EHLO replies are believed */
	bool hints_wanted;              /* master was asked for the channel */
	void (*need)(void *arg, const char *daemon, uint64_t cookie); /* asks master for a channel; NULL in tests */
	void *need_arg;
	bool draining;
	void (*drained)(void *arg);     /* called once, when draining and nothing is left */
	void *drained_arg;
	struct {
		uint64_t deliveries, delivered, failed, deferred, connections, reused, bytes, host_errors, callouts, proxy_errors;
	} count;
};

/* helo: our name; openssl_options: the main option; both copied. */
struct smtp_out *smtp_out_new(struct loop *loop, struct str helo, struct str openssl_options);
/* A line of the main log about this delivery. */
void smtp_out_log(struct smtp_out *so, const struct out_delivery *d, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void smtp_out_free(struct smtp_out *so);
/* What qmgr may send. */
void smtp_out_deliver(struct smtp_out *so, struct ipc_in *in);
void smtp_out_conn_close(struct smtp_out *so, struct ipc_in *in);
/* What router may send. */
void smtp_out_callout(struct smtp_out *so, struct ipc_in *in);
void smtp_out_channel_closed(struct smtp_out *so, struct channel *ch); /* gives up all that it asked for */
/* Nothing new is kept open; drained(arg) when the last delivery has ended. */
void smtp_out_drain(struct smtp_out *so, void (*drained)(void *arg), void *arg);
struct smtp_out_counter { const char *name; uint64_t value; };
/* One after the other, from i = 0; false behind the last. */
bool smtp_out_counter(const struct smtp_out *so, unsigned i, struct smtp_out_counter *out);

/* ---- among its own files ---- */

/* Opens a connection to the host of d->next_host and gives it the delivery. NULL: *v says why. */
struct smtp_verdict;
struct out_conn *out_conn_open(struct out_delivery *d, uint32_t host, struct smtp_verdict *v);
void out_conn_begin(struct out_conn *conn, struct out_delivery *d); /* on a waiting connection */
void out_conn_wait(struct out_conn *conn);   /* gives it a number */
void out_conn_quit(struct out_conn *conn);
void out_conn_wake(struct out_conn *conn);   /* what it waited for, other than the host, is there */
void out_conn_close(struct out_conn *conn);  /* at once */
struct out_conn *out_conn_find(struct smtp_out *so, uint64_t number);
const struct ipc_host *out_conn_host(const struct out_conn *conn); /* NULL: Unix socket */

/* The connection has no more to say about the transaction; conn may be READY, leaving or over. */
void out_delivery_answered(struct out_delivery *d, struct out_conn *conn);
void out_delivery_abandon(struct out_delivery *d); /* nobody wants the answer */
/* For callouts, which try hosts as deliveries do. */
struct out_delivery *out_delivery_new(struct smtp_out *so);
void out_delivery_free(struct out_delivery *d);
bool out_delivery_host_next(struct out_delivery *d, uint32_t *out);
void out_callout_answered(struct out_delivery *d, struct out_conn *conn);
void out_callout_clear(struct out_delivery *d);
const char *out_callout_during(struct out_delivery *d); /* for the log: on whose behalf; "" for a delivery */
/* One more transaction on the connection that carried the last one, which is still in hand. False: it can't. */
bool out_conn_again(struct out_conn *conn, struct out_delivery *d);
void smtp_out_check_drained(struct smtp_out *so);

#endif

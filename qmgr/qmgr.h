/* SPDX-License-Identifier: ISC */
/* qmgr.h - what the queue manager's files share: the objects of the queue and the verbs on them.
 * Used by:    qmgr/ and its tests.
 * Owns:       struct qmgr owns everything; a message belongs to it from msg_begin until it is complete, an active part to its
 *             message, a delivery to the active part, a connection to its agent. docs/QUEUE.md draws them.
 * Invariant:  a recipient is in exactly one state; a message with an active part is in no timer; what is in flight is found
 *             by number and checked against the channel that it went to.
 * Errors:     a peer's nonsense is answered with a closed channel; its deliveries and questions are asked again. */
#ifndef QMGR_QMGR_H
#define QMGR_QMGR_H

#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/event/loop.h"
#include "common/ipc/channel.h"
#include "common/daemon/daemon.h"
#include "common/mail/msgid.h"
#include "common/spool/spool.h"
#include "qmgr/settings.h"

enum {
	ACTIVE_MESSAGES_MAX = 4000,   /* messages with an active part */
	ACTIVE_RCPT_MAX = 20000,      /* recipients in their windows */
	WINDOW_MAX = 512,             /* recipients of one message that are routed or delivered at a time */
	ROUTE_SLICE = 64,             /* recipients in one question, as route_ask declares */
	ROUTE_OPEN_MAX = 512,         /* questions open at a time */
	ROUTE_DEADLINE_MS = 300000,
	DELIVER_RCPT_MAX = 512,       /* recipients in one delivery, as deliver declares */
	LOST_MAX = 3,                 /* workers or agents lost with the same message before it is set aside */
	LOADS_A_TURN = 64,            /* envelopes read back from disk in one turn */
	LANE_QUEUE_MAX = 1000,        /* deliveries that wait in memory for one lane; further messages wait at the destination */
	WAKE_BATCH = 64,              /* messages woken by one success */
	CONN_IDLE_MS = 2000,          /* an open connection waits so long for its next delivery */
	AGENT_IDLE_MS = 60000,        /* a process under a uid of its own is kept so long without work */
	CONNS_IDLE_MAX = 500,         /* of them at a time */
	INTAKE_OPEN_MAX = 20000,      /* messages that one smtpd may be receiving */
	RECIPIENTS_MAX = 100000,      /* of one message, as spool_envelope declares */
	RETRY_ENTRIES_MAX = 50000,    /* hosts and addresses remembered as failing */
	REPORT_RCPT_MAX = 1000,       /* recipients in one report */
	TRY_NEVER = 0xffffffff,
	INTERNAL_RETRY_S = 60,        /* after an error of our own: first interval, doubled each time up to an hour */
	AGENT_QUEUE_MAX = 4,          /* deliveries given to a local pool's channel beyond what it has finished, per worker assumed */
};

struct qmgr;
struct message;
struct active;
struct rcpt;
struct dest;
struct lane;
struct job;
struct delivery;
struct agent;
struct conn;

/* ---- messages (qmgr_message.c) ---- */

enum message_state {
	M_CURSOR = 0,   /* no message: a place in the list that a listing keeps */
	M_INTAKE,       /* smtpd is writing it */
	M_COMMITTING,
	M_READY,        /* to be made active as soon as there is room */
	M_ACTIVE,
	M_DEFERRED,     /* waits for its time */
	M_PARKED,       /* waits in its destination's list, without a time */
	M_FROZEN,
	M_HELD,
	M_LEAVING,      /* a command is at work on its file; nothing else may touch it */
	M_STATES
};

struct message {
	struct list node;           /* q->messages, in the order of arrival */
	struct list queue;          /* ready lists; or its destination's list of those that wait for it */
	struct spool_msg *file;     /* file->owner is the message */
	union {
		struct active *active;  /* M_ACTIVE, M_COMMITTING */
		struct intake *intake;  /* M_INTAKE */
	};
	struct dest *dest;          /* that all its open recipients wait for; NULL: several, or not known */
	uint64_t flags;             /* enum msg_flag */
	uint32_t received;          /* seconds since 1970 */
	uint32_t next_try;          /* seconds since 1970; 0: now; TRY_NEVER */
	uint32_t slot;              /* place in the timer's heap + 1 */
	uint32_t n_rcpt, n_open;    /* recipients, those not yet done */
	uint32_t frozen_at;         /* seconds since 1970 */
	uint32_t overdue_at;        /* from here on host retry times don't hold it back any more */
	uint16_t tries;
	uint8_t state;              /* enum message_state */
	uint8_t lost;               /* workers and agents lost with it */
	uint8_t warned;             /* delay reports sent */
	uint8_t internal;           /* errors of our own in a row */
	uint8_t cancel;             /* enum cancel: fails for good without being tried */
	bool forced;                /* an administrator said: now */
	bool null_sender;
};

enum cancel { CANCEL_NO, CANCEL_FROZEN, CANCEL_ADMIN };

/* ---- the active part ---- */

enum rcpt_state {
	R_TODO,        /* not looked at in this round */
	R_BUSY,        /* at the router or in deliveries */
	R_DEFERRED,
	R_DONE,        /* delivered, discarded, replaced or failed; its report may still be due */
};

struct rcpt {
	struct ipc_recipient *r;
	struct leaf *leaves;        /* of this round */
	struct done *done;          /* leaves that earlier rounds delivered */
	uint32_t first_failed, last_try, next_try;
	uint16_t tries;
	uint16_t open;              /* leaves not settled */
	struct dest *dest;          /* what its deferred leaves wait for; counted in its refs */
	uint8_t state;              /* enum rcpt_state */
	bool deferred;              /* a leaf of this round was */
	bool expanded;              /* its redirection was reported as success */
	bool waited;                /* nothing was tried: it is held, or waits for a queue run */
	struct str why, status;     /* of the last deferral */
	struct str why_host, why_ip;
};

struct done {
	struct done *next;
	struct str addr, transport;
};

/* A final address of a recipient. */
struct leaf {
	struct leaf *next;          /* of the recipient */
	struct leaf *in_delivery;   /* next one in its delivery */
	struct leaf *same;          /* leaves of other recipients with the same address and transport: one copy serves all */
	struct rcpt *rcpt;
	struct ipc_leaf *l;         /* as the router gave it, in the active part's arena */
	uint8_t result;             /* enum delivery_result; 0: not settled */
};

/* What a report must tell. */
enum due_kind { DUE_FAILED = 1, DUE_SUCCESS, DUE_DELAY };
struct due {
	struct due *next;
	struct rcpt *rcpt;
	enum due_kind kind;
	uint8_t action;             /* enum dsn_action */
	struct str to;              /* whom it is for */
	struct str addr, parent, status, host, ip, diagnostic, error, greeting, helo, note;
	struct str output;          /* what a command wrote */
	unsigned port;
	int64_t retry_until;
};

struct active {
	struct qmgr *q;             /* for questions about it */
	struct message *m;
	struct list node;           /* q->actives, or the spare ones */
	struct arena arena;
	struct ipc_spool_envelope *env;
	struct rcpt *rcpt;
	uint32_t n_rcpt;
	uint32_t next;              /* the first recipient that was not looked at in this round */
	uint32_t window;            /* recipients that are busy */
	uint32_t questions;         /* open at the router or with an expansion */
	uint32_t deliveries;        /* queued or in flight */
	uint32_t reports;           /* being made durable */
	uint32_t n_replaced;        /* recipients that one_time redirections put behind the others in this round */
	struct list jobs;
	struct list back;           /* deliveries that are not yet in a lane: remote_max_parallel, remote_sort_domains; in their order */
	uint32_t remote_out;        /* remote deliveries in lanes or in flight, where they are counted */
	struct hash seen;           /* leaves by transport and address, when there are several */
	struct due *due, **due_last;
	struct buf records;         /* struct ipc_spool_record, to be written at the end of the step */
	uint64_t request;           /* msg_commit to be answered */
	uint64_t client;            /* and who asked: struct client's serial */
	struct dest *parked;        /* too much waits there: the message leaves memory until there is room */
	bool first;                 /* nothing was tried before this round */
	bool withdrawn;             /* deliveries that waited were taken back */
	bool internal;              /* an error of our own happened in this round */
	uint8_t want;               /* enum want: what an administrator asked for meanwhile */
	const char *freeze;         /* why the message is to be frozen when the round ends */
	uint8_t warn;               /* enum warn: how far the delay report of this round has come */
	bool reported;              /* reports were written in this round */
	bool report_failed;         /* a report could not be kept: once more, later */
	bool closing;               /* in active_step() */
};

enum warn { WARN_UNDECIDED, WARN_NO, WARN_LATER, WARN_DONE };
enum want { WANT_NOTHING, WANT_HOLD, WANT_REMOVE, WANT_BOUNCE, WANT_FREEZE };

struct message *message_new(struct qmgr *q, struct spool_msg *file);
void message_free(struct qmgr *q, struct message *m);              /* no longer in the queue; the file is not touched */
/* A message whose commit is durable, with its active part filled (a->env); reports and arrivals alike. */
void message_arrived(struct qmgr *q, struct message *m);
void message_scanned(struct qmgr *q, const struct spool_loaded *loaded);
void message_ready(struct qmgr *q, struct message *m, bool fresh); /* into the list of those to be made active */
void message_wake(struct qmgr *q, struct message *m, bool forced); /* deferred, parked: now */
void messages_pump(struct qmgr *q);                                /* makes ready ones active while there is room */
struct active *active_new(struct qmgr *q, struct message *m);
void active_free(struct qmgr *q, struct active *a);
void active_fill(struct active *a, const struct ipc_spool_record *records, uint32_t n);
/* Something of the message came to an end: goes on with the next window, or closes the round. */
void active_step(struct qmgr *q, struct active *a);
void active_withdraw(struct qmgr *q, struct active *a);            /* takes back what waits to be delivered, not what is in flight */
void message_due(struct qmgr *q, struct message *m);               /* its time has come */
void message_defer(struct qmgr *q, struct message *m, uint32_t when); /* no active part any more */
void message_freeze(struct qmgr *q, struct message *m, const char *why); /* qmgr_frozen.c */
void message_frozen_due(struct qmgr *q, struct message *m, uint32_t now);
void message_state_set(struct qmgr *q, struct message *m, enum message_state state);
void message_complete(struct qmgr *q, struct message *m);
void message_hold(struct qmgr *q, struct message *m);              /* in no list, no timer */
void message_flags_record(struct qmgr *q, struct message *m, struct str by);
const char *message_state_name(const struct message *m);
bool message_is_bounce(const struct message *m);

/* ---- recipients (qmgr_recipient.c) ---- */

/* What became of a leaf; texts are lent during the call. */
struct leaf_end {
	enum delivery_result result;
	bool internal;              /* our own fault: retried whatever the rules say */
	bool waits;                 /* nothing was tried */
	bool discarded;             /* :blackhole: */
	struct str status, text;    /* enhanced status, whole error text */
	struct str diagnostic;      /* the server's words with their code */
	struct str told;            /* what a report says in place of text; empty: text */
	struct str output;          /* what a command wrote, for the report */
	struct str host, ip, transport, router, greeting, helo;
	unsigned port;
	bool remote, dsn_passed, lasthop;
	uint32_t next_try;          /* deferred: seconds since 1970 */
	uint32_t first_failed;
	struct dest *dest;
};
void leaf_settle(struct qmgr *q, struct active *a, struct leaf *leaf, const struct leaf_end *end);
/* All its leaves are settled: its state, its records. Also for one that has none (end: what the router said; may be NULL). */
void rcpt_settle(struct qmgr *q, struct active *a, struct rcpt *r);
void rcpt_expanded(struct qmgr *q, struct active *a, struct rcpt *r, bool record); /* it was redirected: reported, if that was asked for */
void leaf_withdraw(struct qmgr *q, struct active *a, struct leaf *leaf); /* as if it had not been looked at */
struct leaf *leaf_new(struct active *a, struct rcpt *r, const struct ipc_leaf *l); /* copies l; NULL: none, the recipient's own address */
void due_add(struct active *a, const struct due *due);              /* copies the texts */
void record_add(struct qmgr *q, struct active *a, const struct ipc_spool_record *record); /* texts must live in the arena */
void records_flush(struct qmgr *q, struct active *a);
struct str report_to(const struct active *a, const struct rcpt *r, const struct leaf *leaf); /* empty: nobody */

/* ---- routing (qmgr_route.c) ---- */

void route_window(struct qmgr *q, struct active *a);  /* asks for the next recipients, as far as the window goes */
void route_pump(struct qmgr *q);                      /* questions that waited for a router */
void route_router_add(struct qmgr *q, struct channel *ch, uint64_t generation);
void route_router_gone(struct qmgr *q, struct channel *ch); /* NULL: all */
void route_forget(struct qmgr *q);                    /* what waits for a router is given up: the end of the daemon */
struct channel *route_router(struct qmgr *q);         /* the newest; NULL: none */

/* ---- destinations, lanes, jobs (qmgr_destination.c) ---- */

enum agent_class { AGENT_SMTP, AGENT_LOCAL, AGENT_PIPE, AGENT_QUEUEFILE, AGENT_CLASSES };

/* Deliveries by one transport, which max_parallel limits. */
struct load {
	struct str name;            /* of the transport; owned */
	struct list waiting;        /* destinations that may start a delivery when one has ended */
	uint32_t busy, most;        /* most: 0: no limit */
};

/* What concurrency counts by: transport and destination. */
struct dest {
	struct str key;             /* transport, LF, destination; owned */
	struct str name;            /* the destination's part of it */
	struct list lanes;          /* those with deliveries waiting, taken in turn */
	struct list ready;          /* in its class's list when it may start a delivery */
	struct list waiting;        /* messages deferred or parked for it */
	enum agent_class class;
	struct load *load;
	uint32_t refs;              /* lanes and messages */
	uint32_t queued, busy;      /* deliveries waiting, in flight */
	uint32_t window;            /* deliveries at a time */
	uint32_t successes;         /* since the window last changed */
	uint32_t dead_until;        /* seconds since 1970: nothing can be delivered before */
	uint32_t n_waiting, n_parked;
};

/* Deliveries that may share a connection. */
struct lane {
	struct str key;             /* the plan's key; owned */
	struct dest *dest;
	struct list node;           /* dest->lanes */
	struct list jobs;           /* one for each message, taken in turn */
	struct list idle;           /* connections that wait for work, the last used first */
	uint32_t queued, busy, conns;
	uint64_t uid, gid;          /* local: + 1 */
	struct str user;
	bool initgroups;            /* with all groups of that user */
};

/* The deliveries of one message in one lane. */
struct job {
	struct list node;           /* lane->jobs */
	struct list of_message;     /* active->jobs */
	struct list deliveries;
	struct lane *lane;
	struct active *a;
};

void load_landed(struct qmgr *q, struct load *load);           /* one delivery of its transport is over */
struct dest *dest_get(struct qmgr *q, struct str transport, struct str name, enum agent_class class);
void dest_unref(struct qmgr *q, struct dest *d);
void dest_wait(struct dest *d, struct message *m, bool parked);
void dest_unwait(struct qmgr *q, struct message *m);
void dest_result(struct qmgr *q, struct dest *d, bool worked); /* feedback to the window */
void dest_wake(struct qmgr *q, struct dest *d, uint32_t most);
void dests_unpark(struct qmgr *q); /* parked messages whose destination has room again, or has died: now and then */
struct lane *lane_get(struct qmgr *q, struct dest *d, const struct ipc_plan *plan);
void lane_release(struct qmgr *q, struct lane *lane);          /* frees it when nothing needs it */
void lane_add(struct qmgr *q, struct lane *lane, struct active *a, struct delivery *d);
void lane_add_front(struct qmgr *q, struct lane *lane, struct active *a, struct delivery *d); /* it came back */
struct delivery *lane_last(struct lane *lane, struct active *a); /* the message's last one that waits; NULL: none */
struct delivery *lane_take(struct qmgr *q, struct lane *lane); /* the next one, messages in turn; NULL: none */
void lane_flush(struct qmgr *q, struct lane *lane, const struct leaf_end *end); /* settles all that waits */
void job_drop(struct qmgr *q, struct job *job);                /* its deliveries are given up unsettled */

void destinations_free(struct qmgr *q);                        /* at the end: no message or connection is left */

/* ---- scheduling (qmgr_schedule.c) ---- */

void schedule_dest(struct qmgr *q, struct dest *d);   /* it may have become ready, or not ready */
void schedule_pump(struct qmgr *q);                   /* starts what may be started; at the end of each turn */
struct delivery *schedule_next(struct qmgr *q, struct lane *lane); /* for a connection that became free; NULL: close or keep it */

/* ---- agents and connections (qmgr_connection.c) ---- */

struct agent {
	struct list node;           /* class's agents, the newest first */
	struct qmgr *q;
	struct daemon_link *link;   /* NULL: asked for, not yet there */
	enum agent_class class;
	uint64_t uid, gid, cookie;
	char groups_of[64];         /* user whose groups it has beside; empty: none */
	uint32_t busy;
	uint64_t idle_ms;           /* nothing in flight since */
	bool old;                   /* a newer generation is there: nothing new for it */
	struct list conns;
	struct list stalled;        /* destinations that wait for a place in it, or for it to come */
};

struct conn {
	struct list node;           /* agent->conns */
	struct list idle;           /* lane->idle */
	struct list age;            /* q->idle_conns, oldest first */
	struct agent *agent;
	struct lane *lane;
	uint64_t number;            /* the agent's */
	uint64_t idle_ms;           /* waiting since */
};

/* An agent for the lane: ST_OK; ST_DEFER: none now. The destination then waits, at the agent if there is one that is full or was
 * asked for, and becomes ready again when that changes. */
enum status agent_for(struct qmgr *q, struct lane *lane, struct agent **out);
void agent_opened(struct qmgr *q, enum agent_class class, struct daemon_link *link);
void agent_closed(struct daemon_link *link);
void agent_refused(struct qmgr *q, uint64_t cookie, struct str text);
void agent_on_conn_closed(void *link, struct ipc_in *in);
void agent_landed(struct agent *agent);            /* a delivery came back: its place is free */
void agents_expire(struct qmgr *q, uint64_t now_ms);              /* those under a uid of their own that have had nothing to do for long */
void agents_free(struct qmgr *q);
struct conn *conn_find(struct agent *agent, uint64_t number);
struct conn *conn_idle_take(struct qmgr *q, struct lane *lane);  /* NULL: none waits */
void conn_keep(struct qmgr *q, struct conn *c);
void conn_close(struct qmgr *q, struct conn *c, bool tell);
void conns_expire(struct qmgr *q, uint64_t now_ms);

/* ---- deliveries (qmgr_deliver.c) ---- */

struct plan_part {              /* what is kept of a plan, in the active part's arena */
	struct str encoded;
	uint64_t hash;
	struct lane *lane;
	struct str transport, router, return_path;
	uint32_t most;              /* recipients in one delivery */
	uint32_t n_hosts;           /* those that may be tried now */
	uint32_t skipped_next;      /* when the first of the others may be; TRY_NEVER: none was skipped */
	bool skipped_alive;         /* one of them is not past its last cutoff */
	bool has_return_path, lmtp, no_log, affixes, retry_any_sender, retry_by_name;
	enum agent_class class;
	struct str shadow, shadow_name, shadow_error; /* as in struct ipc_plan */
};

struct delivery {
	struct list node;           /* its job's, while it waits */
	struct qmgr *q;
	struct active *a;
	struct plan_part *plan;
	struct leaf *leaves, **leaves_last;
	struct str sender;
	uint64_t order;             /* among those that are held back */
	bool counted;               /* in remote_out */
	struct agent *agent;        /* in flight */
	struct conn *conn;
	uint64_t number;
	int64_t started_us;
	uint32_t n;
	uint8_t attempt;
	struct shadow *holds;       /* lines of those delivered, to be logged once the shadow has ended */
	struct shadow *shadow;      /* it is one: its leaves are settled already */
};

/* What is kept of a plan; NULL: it is too large. Its lane is kept until the caller takes one off lane->busy. */
struct plan_part *plan_part_new(struct qmgr *q, struct active *a, const struct ipc_plan *plan);
/* The address without the affixes that a router took off. */
struct str leaf_address_bare(struct arena *a, struct str addr, const struct ipc_leaf *l);
/* Puts a leaf to a delivery's end. */
void delivery_append(struct delivery *d, struct leaf *leaf);
struct delivery *delivery_new(struct qmgr *q, struct active *a, struct plan_part *p, struct str sender, uint64_t order);
/* It is no longer in flight. */
void delivery_landed(struct qmgr *q, struct delivery *d);

/* ---- shadow transports (qmgr_shadow.c): run after a success; the log line waits for them, nothing else does ---- */

struct log_delivery;
/* The leaf was delivered: its line is kept when there is a shadow to wait for. False: log it now. */
bool shadow_hold(struct qmgr *q, struct delivery *d, struct leaf *leaf, const struct log_delivery *log);
/* All leaves are settled: the shadow of those delivered begins, if there is one. */
void shadow_start(struct qmgr *q, struct delivery *d);
/* It has ended, or will never run; error: empty when it worked. */
void shadow_end(struct qmgr *q, struct delivery *d, struct str error);
/* The agent's answer. */
void shadow_result(struct qmgr *q, struct delivery *d, const struct ipc_delivered *msg);
/* No more are begun: lines that wait for one that was not are written. */
void shadows_drain(struct qmgr *q);

/* Makes deliveries of the leaves of one answer. plans: as decoded, lent. */
void deliver_leaves(struct qmgr *q, struct active *a, struct leaf **leaves, uint32_t n, const struct ipc_plan *plans, uint32_t n_plans);
/* Gives it to an agent; false: it was settled here instead (its file can't be read). */
bool deliver_send(struct qmgr *q, struct delivery *d, struct agent *agent, struct conn *conn);
void deliver_settle_all(struct qmgr *q, struct delivery *d, const struct leaf_end *end);
void delivery_over(struct delivery *d);                        /* it is neither in a lane nor in flight any more */
/* Deliveries that are held back (qmgr_back.c). */
bool back_wanted(const struct qmgr *q, const struct plan_part *p, const struct leaf *leaf);
struct delivery *back_last(struct active *a, const struct plan_part *p, struct str sender, uint64_t order); /* one that takes one more; NULL: none */
void back_add(struct active *a, struct delivery *d);
void back_release(struct qmgr *q, struct active *a);           /* into their lanes, as many as may go */
void back_drop(struct qmgr *q, struct active *a, bool settle); /* none will go; settle: their leaves are as if they had not been looked at */

/* ---- retry (qmgr_retry.c, qmgr_host.c) ---- */

struct retry_fault {
	enum retry_error error;
	unsigned code;
	char via;                   /* 'M': the host came from an MX record, 'A': not, 0: not known */
	int64_t quota_age;          /* seconds since the mailbox was read; -1: not known */
};
/* The first rule among those numbered (text numbers, hostile) that names this fault; NULL: none. */
const struct retry_rule *retry_rule_find(const struct settings *s, struct ipc_strs numbers, const struct retry_fault *fault);
/* When to try again. *expired_out: the last cutoff has passed. last_try 0: the first failure. random: 32 random bits. */
uint32_t retry_next(const struct retry_rule *rule, uint32_t first_failed, uint32_t last_try, uint32_t next_try, uint32_t now,
	uint32_t interval_max, uint32_t random, bool *expired_out);
uint32_t retry_cutoff(const struct retry_rule *rule); /* seconds of the last step; 0: no step */
uint32_t retry_cutoff_longest(const struct settings *s); /* of all rules */

/* What is remembered of a host or address that failed. */
struct retry_entry {
	struct list node;           /* q->retry_age, the longest unused first */
	uint32_t first_failed, last_try, next_try;
	uint16_t key_len;
	uint8_t error;
	bool expired;
	char key[];
};
struct retry_entry *retry_get(struct qmgr *q, struct str key);     /* NULL: nothing is known against it, or it is too old */
/* It failed: the entry, made or updated. NULL when no rule holds. */
struct retry_entry *retry_failed(struct qmgr *q, struct str key, const struct retry_rule *rule, enum retry_error error, uint32_t not_later_than);
void retry_worked(struct qmgr *q, struct str key);
void retry_load(struct qmgr *q);                                   /* asks the hints store for what it remembers */
void retry_clear(struct qmgr *q);
enum { RETRY_KEY_MAX = 700 };
struct str retry_host_key(char out[static RETRY_KEY_MAX], struct str name, struct str ip, uint64_t port);
struct str retry_addr(const struct ipc_leaf *l, struct str addr); /* the address, or its domain where retry times count for that */
struct str retry_addr_key(char out[static RETRY_KEY_MAX], char kind, struct str addr, struct str sender);

/* ---- time (qmgr_timer.c) ---- */

void timer_set(struct qmgr *q, struct message *m, uint32_t when); /* TRY_NEVER: out */
struct message *timer_due(struct qmgr *q, uint32_t now);          /* takes the first that is due; NULL: none */
uint32_t timer_next(const struct qmgr *q);

/* ---- reports (qmgr_report.c) ---- */

/* Makes the reports that are due; true: none is outstanding and the round may be closed; else active_step() is called later. */
bool report_round(struct qmgr *q, struct active *a);
/* A message made here. The caller fills active->env between the two; `about`, where there is one, stays active until it is durable.
 * False: logged. */
struct message *own_message_new(struct qmgr *q);
bool own_message_submit(struct qmgr *q, struct active *about, struct message *m, const char *id, struct str content);
/* What an autoreply transport put together (qmgr_reply.c): a message of its own from now on. The descriptor is closed. */
void reply_take(struct qmgr *q, struct delivery *d, const struct ipc_delivered *msg, int fd);
void notice_send(struct qmgr *q, struct active *about, const struct ipc_notice *n);
/* freeze_tell: that the message is frozen, and why, unless nobody is to know. */
void freeze_notice(struct qmgr *q, const struct active *a, const char *why, bool arrival);
uint32_t report_next_warning(const struct qmgr *q, const struct message *m); /* seconds since 1970; TRY_NEVER */
bool report_warning_due(struct qmgr *q, struct message *m);
/* A delay is to be reported, unless its recipient did not want it. */
void delay_add(struct qmgr *q, struct active *a, struct rcpt *r);
void report_view(struct qmgr *q);                                  /* settings changed: expand what needs it (qmgr_from.c) */

/* ---- the log (qmgr_log.c) ---- */

struct log_delivery {
	const struct active *a;
	const struct leaf *leaf;
	const struct plan_part *plan;           /* NULL: not delivered, only routed */
	const struct ipc_delivered *d;          /* NULL: no agent */
	const struct ipc_outcome *outcome;      /* NULL: none */
	struct str sender;
	struct str host, ip;                    /* that gave the outcome */
	unsigned port;
	int64_t took_us;
	bool first;                             /* of its delivery: => rather than -> */
};
void log_arrival(struct qmgr *q, const struct message *m, const struct ipc_spool_envelope *env);
void log_delivered(struct qmgr *q, const struct log_delivery *l);
/* The line in two parts, before and behind ST=; and the whole of it, later. */
void log_delivered_keep(struct qmgr *q, const struct log_delivery *l, struct arena *a, struct str *head_out, struct str *tail_out);
void log_delivered_kept(struct qmgr *q, struct str head, struct str shadow, struct str error, struct str tail);
void log_failed(struct qmgr *q, const struct log_delivery *l, struct str why);
void log_deferred(struct qmgr *q, const struct log_delivery *l, struct str why);
void log_discarded(struct qmgr *q, const struct log_delivery *l);
void log_completed(struct qmgr *q, const struct message *m);
void log_message(struct qmgr *q, const struct message *m, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "550 5.1.1 text" as an error: "SMTP error from remote mail server after RCPT TO:<a@b>: host H [ip]: 550 ..." */
struct str log_error_text(struct arena *a, const struct ipc_delivered *d, const struct ipc_outcome *o);

/* ---- intake (qmgr_intake.c) ---- */

struct intake {
	struct list node;           /* of the client */
	struct client *client;
	struct message *m;
	struct arena arena;         /* recipients that went ahead */
	struct ipc_recipient *rcpt;
	uint32_t n_rcpt, cap_rcpt;
};

struct client {                 /* an smtpd */
	struct list node;
	struct qmgr *q;
	struct daemon_link *link;
	uint64_t serial;            /* never used twice */
	struct list open;           /* struct intake */
	uint32_t n_open;
};
void intake_opened(struct qmgr *q, struct daemon_link *link);
void intake_closed(struct daemon_link *link);
void intake_check(struct qmgr *q);                 /* disk space, health of the spool: tells the clients of a change */
void intake_health(struct qmgr *q, enum spool_health health, const char *text);
extern const struct ipc_handler intake_handlers[];

void intake_tell(struct qmgr *q);                  /* the clients: gate and figures as they are now */

/* ---- figures (qmgr_house.c) ---- */

bool house_look(struct qmgr *q);                   /* q->house; true: it changed */
bool house_load_high(struct qmgr *q);              /* deliver_queue_load_max is exceeded */
bool house_log_short(const struct qmgr *q);        /* check_log_space, check_log_inodes are not met */

/* ---- the command (qmgr_queue_cmd.c) ---- */

bool queue_wild_match(struct str pattern, struct str text); /* "*" stands for anything; ASCII caseless */
/* Retries what waits for recipients with this in their address. False: another such walk is not over. */
bool queue_etrn(struct qmgr *q, struct str part, bool domain, struct str by);
void queue_etrn_stop(struct qmgr *q);
void queue_cmd_opened(struct qmgr *q, struct daemon_link *link);
void queue_cmd_closed(struct daemon_link *link);
extern const struct ipc_handler queue_cmd_handlers[];

/* ---- the whole (qmgr.c) ---- */

struct qmgr_env {
	struct loop *loop;
	struct log *log;
	int64_t (*wall_us)(void *arg);             /* NULL: the clock */
	uint32_t (*load)(void *arg);               /* of the machine, thousandths; NULL: as the kernel says */
	/* Asks master for a channel; the answer is agent_opened() or agent_refused() with the cookie. uid, gid: + 1, 0: none. */
	void (*need)(void *arg, const char *peer, uint64_t cookie, uint64_t uid, uint64_t gid, struct str user,
		bool initgroups);
	void *arg;
};

struct qmgr_class {
	struct list agents;
	struct list ready;          /* destinations */
	uint32_t busy;
};

struct qmgr_counts {
	uint64_t received, reports, completed, delivered, failed, deferred, bytes, routed, route_lost, agent_lost, reused, parked;
};

struct qmgr {
	struct qmgr_env env;
	struct loop *loop;
	struct log *log;
	struct settings *set;
	struct spool *spool;
	struct msgid_gen ids;
	uint64_t random;
	int64_t now_us;             /* wall clock, taken once a turn */

	struct list messages;       /* all but M_INTAKE and M_COMMITTING */
	struct list ready[2];       /* fresh ones, others: taken in turn */
	uint8_t ready_turn;
	struct list actives, spare_actives;
	uint32_t n_messages, n_active, n_spare, n_window;
	uint32_t n_state[M_STATES];

	struct message **heap;      /* by next_try */
	uint32_t n_heap, cap_heap;
	struct loop_timer timer, tick, scan;
	uint32_t timer_at;

	struct list routers;        /* struct router_peer, newest first */
	struct list route_waiting;  /* questions */
	uint32_t n_questions;
	bool route_content;         /* the routers of this view need the content */
	struct loop_timer again;    /* work is left that no event will announce */

	struct qmgr_class class[AGENT_CLASSES];
	struct hash dests, lanes, loads;
	uint64_t delivery_number;
	struct list shadows;        /* struct shadow, those that have not ended */
	struct list idle_conns;
	uint32_t n_idle_conns;
	uint64_t cookie;

	struct hash retry;
	struct list retry_age;
	uint32_t n_retry;

	struct list clients, ctls;
	struct cmd *etrn;           /* the walk for smtpd; NULL: there was none yet */
	uint64_t client_serial;
	bool intake_is_closed, draining, scanning, pumping;
	bool stopped;               /* answers, and their absence, mean nothing any more */
	unsigned intake_code;
	uint64_t intake_space_kb;
	char intake_text[256];
	uint64_t intake_checked_ms;
	struct ipc_house house;     /* as last looked at */
	uint64_t load_ms;           /* when the load was last looked at */
	bool load_high;             /* deliver_queue_load_max was exceeded then */
	struct log_limit limit_disk, limit_spool, limit_route;

	struct str dsn_from;        /* expanded; heap */
	struct loop_hook hook;
	struct buf line;            /* a log line being made */
	struct qmgr_counts counts;
};

struct qmgr *qmgr_new(const struct qmgr_env *env, struct settings *set); /* takes the settings */
enum status qmgr_open(struct qmgr *q, const struct spool_options *options, struct err *err); /* locks and recovers the spool; scans in the background */
void qmgr_stop(struct qmgr *q);                            /* before its links are closed: what is in flight is left as it is */
void qmgr_free(struct qmgr *q);                            /* after that; closes the spool */
void qmgr_settings(struct qmgr *q, struct settings *set);  /* in place; takes them */
void qmgr_on_time(void *q);                                /* looks at what is due now; the timer calls it */
void qmgr_drain(struct qmgr *q);                           /* takes and starts nothing new */
bool qmgr_is_idle(const struct qmgr *q);                   /* nothing is in flight */
void qmgr_pump(struct qmgr *q);                            /* the pumps run at the end of this turn */
uint32_t qmgr_now(struct qmgr *q);                         /* seconds since 1970 */
int64_t qmgr_now_us(struct qmgr *q);
uint32_t qmgr_random(struct qmgr *q);
uint64_t qmgr_counter(const struct qmgr *q, unsigned i, const char **name_out); /* NULL name: no more */

#endif

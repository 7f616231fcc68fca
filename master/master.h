/* SPDX-License-Identifier: ISC */
/* master.h - what master's files share: its state, its children, its listeners.
 * Used by:    master/ only.
 * Owns:       struct master owns everything; a child owns its control channel; needs and jobs are freed with what they wait for.
 * Invariant:  a child with a pid is in state starting, ready or draining; one without is waiting for its restart.
 * Errors:     a function that can fail says why in *err; what happens later is logged. Master ends only on `stop`, or when the
 *             first start fails. */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include <netinet/in.h>
#include <sys/types.h>

#include "common/base/list.h"
#include "common/base/log.h"
#include "common/conf/conf.h"
#include "common/conf/read.h"
#include "common/event/loop.h"
#include "common/ipc/channel.h"
#include "master/ticket_keys.h"

enum {
	MASTER_MACROS_MAX = 64,        /* -D */
	MASTER_LISTENERS_MAX = 1024,
	MASTER_LOCALS_MAX = 256,       /* uids with a process for local delivery at the same time */
	MASTER_NEEDS_MAX = 16384,      /* open requests for channels */
	MASTER_PATH_MAX = 4096,
	START_TIMEOUT_MS = 120 * 1000, /* for a daemon, from its start to "ready" */
	START_RETRY_MS = 20 * 1000,    /* the first start of all: so long it is tried again when a daemon could not start */
	READY_LONG_MS = 10 * 1000,     /* ready for so long: its end is no habit */
	KILL_GRACE_MS = 2000,          /* behind the deadline of a drain */
	BACKOFF_MIN_MS = 100,
};

/* How a new process says that the system gave it no namespace of its own. */
#define NAMESPACE_REFUSED "no namespace of its own"

struct master;
struct child;

/* ---- services: the design's table as data (master_service.c) ---- */

enum root_kind {
	ROOT_EMPTY,  /* an empty directory */
	ROOT_SPOOL,  /* the spool itself */
	ROOT_TABLES, /* own mount namespace: lookup_directories, read-only; hints_directory */
	ROOT_STORE,  /* own mount namespace: store_directories */
	ROOT_HANDOVER, /* own mount namespace: directories of the queuefile transports */
	ROOT_KEYS,   /* own mount namespace: tls_directories, the system's trust anchors, read-only */
	ROOT_HOST,   /* the machine's own: commands need their programs */
	ROOT_SOCKETS, /* own mount namespace: directories of the lmtp transports' sockets; empty when there are none */
};

struct service {
	const char *name;              /* executable, and user behind daemon_user_prefix */
	uint32_t see;                  /* V_... */
	enum root_kind root;
	int uid_offset;                /* from daemon_uid_base; -1: the uid that is asked for */
	size_t count;                  /* row of the main table that says how many; CONF_NO_FIELD: one */
	bool stays;                    /* lives through reloads (new view in place), and can't overlap with its successor */
	bool on_demand;                /* started by ctl_need, for a uid */
	bool listens;
	unsigned stop_stage;           /* in which order they stop, from 0 */
	const char *driver;            /* only if there is a transport of this driver; NULL: always */
	const char *program;           /* executable, where it is not the name */
};
enum { STOP_STAGES = 4 };
extern const struct service services[];              /* ended by a NULL name */
const struct service *service_find(struct str name); /* NULL: none */
bool service_is_wanted(const struct service *s, const struct conf *conf); /* some transport needs it */
unsigned service_count(const struct service *s, const struct conf *conf);

/* Who is given a channel to whom at start, and who may ask for one. */
struct service_link {
	const char *from, *to;
	bool on_need;
};
extern const struct service_link service_links[];    /* ended by a NULL from */

/* The next delay before a restart: none after a long time of readiness, else doubling from BACKOFF_MIN_MS. */
uint64_t backoff_next(uint64_t last_ms, uint64_t ready_ms, uint64_t max_ms);

/* Users: by name if they exist, else by number. ST_ERROR: neither; the text says what to do. */
enum status service_user(const struct service *s, const struct conf *conf, uid_t *uid_out, gid_t *gid_out, struct err *err);

/* ---- listeners (master_listen.c) ---- */

struct listen_address {            /* what the configuration wants */
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} sa;
	socklen_t sa_len;
	char address[INET6_ADDRSTRLEN + 20];
	unsigned port;
	bool tls;
};
struct listener {
	struct list node;
	struct listen_address at;      /* submit: address is the path */
	int fd;
	bool submit, wanted, fresh;    /* wanted: by the configuration that is being taken; fresh: bound for it */
	bool tls_next;                 /* at.tls once that is in force */
};

/* Binds what conf wants and is not yet open; tries again for retry_ms when an address is in use. On an error what was bound now is closed. */
enum status listeners_prepare(struct master *m, const struct conf *conf, uint64_t retry_ms, struct err *err);
void listeners_commit(struct master *m);                 /* closes those that are not wanted any more */
void listeners_rollback(struct master *m);               /* closes those that are fresh */
enum status submit_open(struct master *m, struct err *err);
void listeners_close(struct master *m);

/* ---- children ---- */

enum child_state { CHILD_WAITING, CHILD_STARTING, CHILD_READY, CHILD_DRAINING };

struct child {
	struct list node;              /* in master.children */
	struct master *m;
	const struct service *service;
	unsigned number;
	uint64_t generation;
	char name[64];                 /* "smtpd/1" */
	enum child_state state;
	pid_t pid;                     /* 0: none */
	uid_t uid;
	gid_t gid;
	char groups_of[64];            /* on demand, and keyd: a user whose groups it has, too; empty: none */
	char root[MASTER_PATH_MAX];    /* as status shows it; empty: none */
	struct channel *control;
	uint64_t started_ms, ready_ms, delay_ms;
	int64_t since;                 /* wall clock of the present state */
	unsigned restarts;
	struct loop_timer timer;       /* waiting: restart; starting: too long; draining: kill */
	char trouble[768];             /* the last one, for status */
	bool pending;                  /* of a generation that is not yet in force */
	bool leaving;                  /* is not started again */
	bool killed;                   /* by us: why is in trouble */
	bool dropped;                  /* by us, for another's failure: not worth a line */
};

/* A request for a channel that waits for its daemon. */
struct need {
	struct list node;
	struct child *asker;
	const struct service *service;
	uint64_t cookie;
	uid_t uid;
	gid_t gid;
	char groups_of[64];            /* as in struct child */
};

/* A question of the command that takes time: status, reload, stop, restart. */
struct control_job;

struct master {
	struct loop *loop;
	struct log log;
	struct conf *conf, *next_conf;         /* in force; being taken */
	uint64_t generation;
	bool privileged, foreground, libexec_own;
	const char *conf_path, *libexec;
	struct conf_define defines[MASTER_MACROS_MAX];
	uint32_t n_defines;
	char run[MASTER_PATH_MAX], spool[MASTER_PATH_MAX], hints[MASTER_PATH_MAX], log_path[MASTER_PATH_MAX];
	int lock_fd, background_fd;            /* background_fd: who started us waits there; -1 */
	struct list children, listeners, needs, control_jobs;
	char reload_says[4096];                /* what is told when the reload has succeeded: warnings, options that need a restart */
	struct control_job *reload_job;        /* who waits for the reload or restart that is under way; NULL: nobody */
	int control_fd;
	struct loop_fd control_watch;
	struct loop_hook hook;
	bool started;                          /* all were ready once */
	uint64_t start_ms;
	bool stopping;
	unsigned stop_stage;
	uint64_t stop_at_ms;                   /* when all should have stopped */
	struct loop_timer start_timer, reap_timer;
	int exit_code;
	struct ticket_keys tickets;
	uint8_t session_key[TLS_SEAL_KEY];     /* of sessions that servers gave smtp-out */
	int64_t tickets_period;                /* seconds of a slot */
	bool tickets_clock;                    /* slots are those of the clock, for keys are shared between machines */
	bool tickets_strange;                  /* the hints have a key that is not wrapped with our secret */
	struct channel *tickets_router;        /* NULL: none is open */
	uint64_t tickets_question[2];          /* the last ones, for the present key and the one before */
	struct loop_timer tickets_timer, tickets_leave;
	char notes[1024];                      /* what protection is missing: for status and log; lines separated by "; " */
	bool namespaces_fail;                  /* seen once */
	unsigned next_local;
	struct list clients;                   /* of the control socket */
};

/* master_life.c */
int master_main(int argc, char **argv);
void master_log(struct master *m, unsigned targets, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void master_note(struct master *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void master_start_failed(struct master *m, const char *why);  /* the first start: says so, stops all, ends with an error */
void master_started(struct master *m);

/* master_config.c */
enum status config_read(struct master *m, struct conf **out, struct buf *problems);
void config_changes_check(const struct master *m, const struct conf *next, struct buf *text); /* options that need a restart */

/* master_dirs.c */
enum status dirs_make(struct master *m, struct err *err);
enum status lock_take(struct master *m, struct err *err);

/* master_log.c */
enum status logs_open(struct master *m, struct err *err);
enum status logs_reopen(struct master *m, struct err *err);   /* and hands them out */
bool logs_dup(const struct master *m, int fds_out[LOG_FDS]);  /* main, reject, panic, syslog */

/* master_root.c: in the new process, before exec */
enum status root_enter(const struct master *m, const struct child *c, struct err *err);
bool root_has_namespace(const struct master *m, const struct child *c);
bool root_is_empty(const struct master *m, const struct child *c);
/* What it is started with: of a pending generation, that of a reload under way. */
const struct conf *child_conf(const struct child *c);

/* master_spawn.c */
enum status child_spawn(struct child *c, struct err *err);    /* process, first messages, channels */

/* master_child.c */
struct child *child_new(struct master *m, const struct service *s, unsigned number, uint64_t generation);
void child_free(struct child *c);
void child_start(struct child *c);                            /* spawn; on failure waits and tries again */
void child_drain(struct child *c, uint64_t deadline_ms, bool idle); /* idle: as in ctl_drain */
void child_state_set(struct child *c, enum child_state state);
void children_reap(struct master *m);
extern const struct ipc_handler child_handlers[];
void child_control_closed(void *owner, struct channel *ch, const char *why);
const char *child_state_name(const struct child *c);

/* master_channel.c */
void child_connect_all(struct child *c);                      /* the channels of service_links that are not on need */
bool child_connect(struct child *from, struct child *to, uint64_t cookie, struct err *err);
void need_take(struct child *asker, const struct ipc_ctl_need *msg);
void needs_serve(struct child *c);                            /* those that wait for this new process */
bool needs_wait_for(const struct child *c);
void needs_drop(const struct child *asker);
void peers_reconnect(const struct child *dead);               /* one of an old generation died: who still used it gets its successor */
void child_listeners_send(struct child *c);

/* master_tickets.c */
void tickets_start(struct master *m);                         /* makes the first key, and others in time, or takes those of other machines */
void tickets_stop(struct master *m);                          /* no more of them: the daemons are told to end */
void tickets_clear(struct master *m);
void child_tickets_send(struct child *c);

/* master_reload.c */
void generation_start(struct master *m);                      /* the first: all services */
void reload_begin(struct master *m, struct control_job *job); /* job may be NULL (signal) */
void restart_begin(struct master *m, struct str name, struct control_job *job);
void reload_look(struct master *m);                           /* a child became ready, or failed */
void reload_failed(struct master *m, const struct child *c);  /* one of the new generation could not start */
void stop_begin(struct master *m);
void stop_look(struct master *m);                             /* a child is gone */
bool reload_running(const struct master *m);

/* master_control.c */
enum status control_open(struct master *m, struct err *err);
void control_close(struct master *m);
void control_job_done(struct control_job *job, enum status st, const char *text); /* job may be NULL */
void control_jobs_stopped(struct master *m);                  /* answers those that wait for the stop */

/* sd_notify.c */
void sd_notify_send(const char *text);

#endif

/* SPDX-License-Identifier: ISC */
/* daemon.h - the skeleton that every daemon stands on: arguments, jail, view, seccomp, channels, "ready", signals, drain.
 * Used by:    the main() of every daemon: `return daemon_main(&smtpd_spec, argc, argv);`; pool.h for daemons that are pools.
 * Owns:       struct daemon owns loop, log, conf and links. A link (channel to another daemon) is freed when its channel has
 *             closed and closed() has returned, or by daemon_link_close().
 * Errors:     a start that fails says why on one line (stderr, and to master) and ends with an enum daemon_exit.
 *
 * Order of life: arguments; jail (chroot, uid, no_new_privs, limits) before a byte is read; on descriptor 3 ctl_start (view,
 * logs), ctl_listener..., ctl_channel..., ctl_go; view loaded; seccomp filter on; start(); listener() and opened() for each that
 * came; ctl_ready; then the loop. ctl_drain, SIGTERM, or master's end: drain(), daemon_finish() when all is done, at the latest
 * after the deadline; stop(); exit 0. */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/event/loop.h"
#include "common/ipc/channel.h"

struct conf;
struct daemon;

/* How a daemon ends: sysexits.h numbers. Master logs the phrase of daemon_exit_text(). */
enum daemon_exit {
	DAEMON_EXIT_OK = 0,        /* drained */
	DAEMON_EXIT_USAGE = 64,    /* not started by master */
	DAEMON_EXIT_START = 69,    /* start() failed: a directory, a database, a listener */
	DAEMON_EXIT_SOFTWARE = 70, /* a defect: bug_on() */
	DAEMON_EXIT_MEMORY = 71,   /* no memory, or no descriptors at start */
	DAEMON_EXIT_CHANNEL = 76,  /* the control channel broke, or master said something that is not understood */
	DAEMON_EXIT_JAIL = 77,     /* chroot, uid or filter could not be set */
	DAEMON_EXIT_VIEW = 78,     /* the view of the configuration could not be loaded */
};
const char *daemon_exit_text(int code); /* NULL: none of these */

/* A channel to another daemon. As `owner` it is what handlers get: link->state is the daemon's own. */
struct daemon_link {
	struct list node;               /* in daemon.links */
	struct daemon *daemon;
	const struct daemon_peer *peer;
	struct channel *channel;        /* NULL for a raw peer */
	int fd;                         /* raw: belongs to whoever opened() makes of it (set to -1 to take it); else -1 */
	unsigned number;                /* which of several processes */
	uint64_t generation, cookie;
	uint64_t uid, gid;              /* each + 1, 0: none */
	char user[64];                  /* whose groups it has, beside gid */
	char name[64];                  /* "policyd/1", for messages */
	bool retired;                   /* a newer one came; closed when its last question is answered */
	void *state;                    /* the daemon's own */
};

/* A kind of peer; a row for each that this daemon may be given a channel to, ended by a NULL name. */
struct daemon_peer {
	const char *name;                    /* smtpd, policyd, router, qmgr, smtp-out, local, queuefile, ctl */
	const struct ipc_handler *handlers;  /* what it may send besides answers; owner is the struct daemon_link */
	unsigned pack;                       /* frames in a packet, at most (to a pool: 1 or few); 0: as many as fit */
	size_t queue_max;                    /* as in struct channel_spec */
	bool raw;                            /* no struct channel is made: link->fd */
	/* Set for peers that are only asked (policyd, router): when another channel to the same kind and number comes (a reload or a
	 * restart), the older one is closed as soon as it has no open question. Without it the daemon closes old links itself. */
	bool retire;
	void (*opened)(struct daemon_link *link);
	void (*closed)(struct daemon_link *link, const char *why); /* questions have been answered with NULL already; may be NULL */
};

/* Groups of system calls. Base (memory, clocks, reading and writing what is open, epoll, signals, exit) is always there. */
enum daemon_sys {
	DAEMON_SYS_ACCEPT = 1 << 0,  /* accept, socket options and names, shutdown */
	DAEMON_SYS_CONNECT = 1 << 1, /* socket (Internet and Unix), connect, bind, socket options and names, shutdown */
	DAEMON_SYS_READ = 1 << 2,    /* open files for reading, stat, list directories */
	DAEMON_SYS_WRITE = 1 << 3,   /* create, rename, link, remove, truncate, sync, lock */
	DAEMON_SYS_FORK = 1 << 4,    /* fork, wait, kill: pool managers (and, inherited, their workers); set by pool_main() */
	DAEMON_SYS_EXEC = 1 << 6,    /* run other programs: all calls but those that change the machine, or look into other processes */
	DAEMON_SYS_CONNECT_UNIX = 1 << 7, /* as CONNECT, but sockets of Unix only */
	DAEMON_SYS_SETFL = 1 << 5,   /* fcntl(F_SETFL): for libraries that make their sockets non-blocking */
};

struct daemon_limits {
	unsigned memory_mb;   /* address space; 0: none. Not applied under sanitizers */
	unsigned files;       /* descriptors; 0: as many as master has */
	bool processes;       /* may have children (always for pools) */
	bool cores;           /* programs that it runs may be allowed core files; it writes none itself */
};

struct daemon_listener {
	int fd;               /* non-blocking; the callback owns it */
	const char *address;
	unsigned port;
	bool tls, submit;
};

struct daemon_status;     /* see daemon_count() */

struct daemon_spec {
	const char *name;            /* "smtpd" */
	const char *what;            /* one line, as in its manual page */
	uint32_t see;                /* V_SMTPD: which view it gets (common/conf) */
	const struct daemon_peer *peers;
	uint32_t sys;                /* DAEMON_SYS_... */
	uint32_t (*sys_for)(const struct conf *conf); /* what the configuration adds to it; may be NULL */
	const char *const *sys_more; /* names of further system calls, NULL behind the last; may be NULL */
	struct daemon_limits limits;

	/* View is loaded; make the state, hang it at d->state. ST_OK: "ready" is said once links and listeners have been opened.
	 * ST_DEFER (no text needed): the daemon calls daemon_ready() itself, later. Others: the start failed. */
	enum status (*start)(struct daemon *d, struct err *err);
	void (*listener)(struct daemon *d, const struct daemon_listener *listener);
	/* Reload in place (qmgr): the new view. ST_OK: nothing points into the old one any more, it is freed on return and d->conf is
	 * `conf`. Otherwise the old one stays, and master is told. NULL: this daemon is replaced on reload. */
	enum status (*view)(struct daemon *d, const struct conf *conf, struct err *err);
	/* Take nothing new; daemon_finish() when all is done. After deadline_ms the skeleton ends by itself. NULL: finishes at once. */
	void (*drain)(struct daemon *d, uint64_t deadline_ms);
	void (*stop)(struct daemon *d);                         /* last: give back what start() made; may be NULL */
	void (*status)(struct daemon *d, struct daemon_status *out); /* counters for `bulkhead status`; may be NULL */
	void (*refused)(struct daemon *d, uint64_t cookie, struct str text); /* the answer to daemon_need(): no; may be NULL */
	void (*logs)(struct daemon *d);                         /* logs were reopened; may be NULL */
	void (*tickets)(struct daemon *d, struct str now, struct str before); /* keys of TLS session tickets, at start and then anew; may be NULL */
	void (*session_key)(struct daemon *d, struct str key);  /* for sessions that servers gave; may be NULL */
};

struct daemon {
	const struct daemon_spec *spec;
	struct loop *loop;
	struct log log;              /* flushed at the end of each turn */
	const struct conf *conf;     /* the view */
	char name[64];               /* "smtpd/2" */
	unsigned number;             /* which of several processes, from 1 */
	uint64_t generation;
	bool unprivileged;           /* one uid for all, no chroot: qmgr's spool is then spool_directory, and "/" otherwise */
	bool draining;
	bool drain_idle;             /* ... and a successor is there: end when nothing is under way, though peers are still connected */
	void *state;                 /* the daemon's own */
	struct list links;           /* struct daemon_link, oldest first */
	struct daemon_impl *impl;
};

/* The life of a daemon; returns the exit code. */
int daemon_main(const struct daemon_spec *spec, int argc, char **argv);

void daemon_ready(struct daemon *d);                                 /* after ST_DEFER from start() */
_Noreturn void daemon_fail(struct daemon *d, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void daemon_finish(struct daemon *d);                                /* drained: the loop ends after this turn */
/* The newest link to this kind of peer that is open, any number; NULL: none now (another comes by itself). */
struct daemon_link *daemon_link_find(struct daemon *d, const char *peer);
void daemon_link_close(struct daemon_link *link);                    /* closed() is not called; open questions get NULL */
/* Asks master for a channel: opened() comes with link->cookie, or refused(). uid and gid without + 1, for "local" and "pipe" only. */
void daemon_need(struct daemon *d, const char *peer, uint64_t cookie, uid_t uid, gid_t gid, const char *user, bool initgroups);
void daemon_need_any(struct daemon *d, const char *peer, uint64_t cookie); /* a peer that has no uid of the asker's choice */

void daemon_count(struct daemon_status *out, const char *name, uint64_t value);
void daemon_note(struct daemon_status *out, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "smtpd/1: TEXT" in the main log (and what `targets` adds). */
void daemon_log(struct daemon *d, unsigned targets, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif

/* SPDX-License-Identifier: ISC */
/* pool_impl.h - what the manager of a pool and its workers share: the slots in shared memory, and the step between them.
 * Used by:    pool.c (manager), pool_worker.c.
 * Owns:       the manager maps the slots; workers inherit the mapping.
 * Invariant:  a slot is written by its worker alone, while it lives. The manager believes nothing in it: numbers are bounded,
 *             clients are looked up.
 * Errors:     none. */
#ifndef DAEMON_POOL_IMPL_H
#define DAEMON_POOL_IMPL_H

#include <stdatomic.h>

#include "common/daemon/pool.h"

enum {
	POOL_PACKET_MAX = 64,      /* frames in one packet that a client may send */
	POOL_WORKERS_MAX = 1000,
	POOL_PEERS_MAX = 8,
};

enum slot_state { SLOT_FREE, SLOT_STARTING, SLOT_IDLE, SLOT_READING, SLOT_BUSY };

struct pool_slot {
	_Atomic uint32_t state;
	_Atomic uint32_t n;                           /* requests below */
	_Atomic uint32_t at;                          /* the one that is worked on */
	_Atomic uint64_t client;                      /* pool_client.id */
	_Atomic uint64_t since_ms;                    /* of this state; of the present question when busy */
	_Atomic uint64_t until_ms;                    /* the present question may take until then, even if that is longer than usual; 0: it may not */
	_Atomic uint32_t slow;                        /* 1: at something that blocks for long, of which the pool bounds the number */
	_Atomic uint64_t done;                        /* questions answered */
	_Atomic uint64_t requests[POOL_PACKET_MAX];   /* of the packet; 0: answered, or none expected */
};

struct pool_shared {
	_Atomic uint32_t busy;     /* workers that are busy: a hint, corrected by the manager */
	_Atomic uint32_t workers;  /* how many there are */
	_Atomic uint64_t full_since; /* the manager was told that all are busy; it sets this back to 0 */
	uint32_t n_slots;
	struct pool_slot slots[];
};

/* A client's channel, whose far end manager and workers hold. */
struct pool_client {
	struct list node;
	uint64_t id;
	int fd;
	const struct pool_peer *peer;
	char name[64];
};

/* What the worker is born with; all of it is the manager's memory, copied by fork(). */
struct pool_birth {
	const struct pool_spec *spec;
	struct daemon *daemon;
	struct pool_shared *shared;
	struct pool_slot *slot;
	struct list *clients;
	unsigned number;
	int control;               /* SEQPACKET to the manager: ctl_channel, ctl_logs; ctl_ready, ctl_failed, ctl_need */
	int full;                  /* eventfd: all workers are busy */
	pid_t manager;
};

/* The life of a worker, in its own process. */
_Noreturn void worker_run(const struct pool_birth *birth);

#endif

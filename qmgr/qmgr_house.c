/* SPDX-License-Identifier: ISC */
/* Figures of the queue and of the disks, for the variables that name them ($queue_size, $spool_space ...) and for the gate: looked at
 * every few seconds, told to smtpd, which hands them to policyd with its facts, and to the router with each question. */
#include "qmgr/qmgr.h"

#include "common/base/load.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

/* The file system of the main log; false where there is none, or it does not say. */
static bool log_space(const struct qmgr *q, uint64_t *kb_out, uint64_t *inodes_out)
{
	struct statvfs vfs;
	struct stat st;
	int fd = q->log->fd[0];

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || fstatvfs(fd, &vfs) || !vfs.f_blocks)
		return false;
	*kb_out = (uint64_t)vfs.f_bavail * vfs.f_frsize / 1024;
	*inodes_out = vfs.f_files ? vfs.f_favail : UINT64_MAX;
	return true;
}

static uint64_t known(uint64_t n) { return n == UINT64_MAX ? 0 : n + 1; }

bool house_load_high(struct qmgr *q)
{
	uint64_t now = loop_now(q->loop);
	uint32_t load = 0;

	if (q->set->load_max == LOAD_NO_LIMIT)
		return false;
	if (q->load_ms && now < q->load_ms + LOAD_LOOK_MS)
		return q->load_high;
	q->load_ms = now;
	if (q->env.load)
		load = q->env.load(q->env.arg);
	else
		load_average(&load);
	if (load > q->set->load_max && !q->load_high)
		log_line(q->log, LOG_MAIN, "no deferred message is tried: load average %u.%02u (deliver_queue_load_max)", load / 1000, load % 1000 / 10);
	q->load_high = load > q->set->load_max;
	return q->load_high;
}

bool house_log_short(const struct qmgr *q)
{
	uint64_t kb, inodes;

	if ((q->set->log_kb <= 0 && q->set->log_inodes <= 0) || !log_space(q, &kb, &inodes))
		return false;
	return (q->set->log_kb > 0 && kb < (uint64_t)q->set->log_kb) || (q->set->log_inodes > 0 && inodes < (uint64_t)q->set->log_inodes);
}

bool house_look(struct qmgr *q)
{
	struct ipc_house now = { .queue_size = known(q->n_messages - q->n_state[M_INTAKE]) }, was = q->house;
	uint64_t kb, inodes;

	if (q->spool && !spool_space(q->spool, &kb, &inodes, NULL)) {
		now.spool_space = known(kb);
		now.spool_inodes = known(inodes);
	}
	if (log_space(q, &kb, &inodes)) {
		now.log_space = known(kb);
		now.log_inodes = known(inodes);
	}
	q->house = now;
	return now.queue_size != was.queue_size || now.spool_space != was.spool_space || now.spool_inodes != was.spool_inodes ||
		now.log_space != was.log_space || now.log_inodes != was.log_inodes;
}

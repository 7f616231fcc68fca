/* SPDX-License-Identifier: ISC */
/* Two threads that wait for the disk, and the way back to the loop: an eventfd. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/spool/priv.h"

static void job_finished(struct spool *spool, struct spool_job *job)
{
	static const uint64_t one = 1;
	bool wake;

	pthread_mutex_lock(&spool->mutex);
	list_push(&spool->done, &job->node);
	wake = !spool->signalled;
	spool->signalled = true;
	pthread_mutex_unlock(&spool->mutex);
	if (wake)
		while (write(spool->event_fd, &one, sizeof one) < 0 && errno == EINTR)
			;
}

static void *lane_main(void *arg)
{
	struct spool_lane *lane = arg;
	struct spool *spool = lane->spool;

	pthread_mutex_lock(&spool->mutex);
	for (;;) {
		struct list *n = list_first(&lane->jobs);

		if (n) {
			struct spool_job *job = list_entry(n, struct spool_job, node);

			list_remove(n);
			pthread_mutex_unlock(&spool->mutex);
			job->run(spool, job);
			job_finished(spool, job);
			pthread_mutex_lock(&spool->mutex);
		} else if (lane->stop) {
			break;
		} else {
			pthread_cond_wait(&lane->wake, &spool->mutex);
		}
	}
	pthread_mutex_unlock(&spool->mutex);
	return NULL;
}

void job_submit(struct spool *spool, enum lane lane, struct spool_job *job)
{
	spool->jobs++;
	if (spool->opt.inline_io) {
		job->run(spool, job);
		list_push(&spool->done, &job->node);
		return;
	}
	pthread_mutex_lock(&spool->mutex);
	list_push(&spool->lanes[lane].jobs, &job->node);
	pthread_cond_signal(&spool->lanes[lane].wake);
	pthread_mutex_unlock(&spool->mutex);
}

bool jobs_collect(struct spool *spool, bool wait)
{
	struct list mine;
	struct list *n;
	uint64_t count;

	if (wait && !spool->opt.inline_io && spool->jobs) {
		struct pollfd p = { .fd = spool->event_fd, .events = POLLIN };

		poll(&p, 1, 1000);
	}
	list_init(&mine);
	pthread_mutex_lock(&spool->mutex);
	if (spool->signalled && read(spool->event_fd, &count, sizeof count) > 0)
		spool->signalled = false;
	while ((n = list_first(&spool->done))) {
		list_remove(n);
		list_push(&mine, n);
	}
	pthread_mutex_unlock(&spool->mutex);
	if (list_empty(&mine))
		return false;
	while ((n = list_first(&mine))) {
		struct spool_job *job = list_entry(n, struct spool_job, node);

		list_remove(n);
		spool->jobs--;
		job->done(spool, job);
	}
	return true;
}

enum status jobs_start(struct spool *spool, struct err *err)
{
	sigset_t all, before;
	int error = 0;

	list_init(&spool->done);
	for (int i = 0; i < LANES; i++)
		list_init(&spool->lanes[i].jobs);
	pthread_mutex_init(&spool->mutex, NULL);
	spool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (spool->event_fd < 0)
		return err_set(err, ST_ERROR, "eventfd: %s", strerror(errno));
	if (spool->opt.inline_io)
		return ST_OK;
	/* Signals belong to the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < LANES && !error; i++) {
		struct spool_lane *lane = &spool->lanes[i];

		lane->spool = spool;
		pthread_cond_init(&lane->wake, NULL);
		error = pthread_create(&lane->thread, NULL, lane_main, lane);
		lane->running = !error;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? err_set(err, ST_ERROR, "can't start a thread: %s", strerror(error)) : ST_OK;
}

void jobs_stop(struct spool *spool, bool finish)
{
	for (int i = 0; i < LANES; i++) {
		struct spool_lane *lane = &spool->lanes[i];

		if (!lane->running)
			continue;
		pthread_mutex_lock(&spool->mutex);
		if (!finish)
			while (!list_empty(&lane->jobs)) {
				struct list *n = lane->jobs.next;

				list_remove(n);
				list_push(&spool->done, n);
			}
		lane->stop = true;
		pthread_cond_signal(&lane->wake);
		pthread_mutex_unlock(&spool->mutex);
		pthread_join(lane->thread, NULL);
		pthread_cond_destroy(&lane->wake);
		lane->running = false;
	}
}

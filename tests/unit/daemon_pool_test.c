/* SPDX-License-Identifier: ISC */
/* A small pool, with the test in place of master and of the clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "common/conf/view.h"
#include "common/daemon/jail.h"
#include "common/daemon/pool.h"

/* Its machine makes system calls that a filter would kill, and takes its time. */
static bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

/* ---- the pool: the key of a lookup says what to do ---- */

static void work_lookup(struct worker *w, struct ipc_in *in)
{
	const struct ipc_lookup_ask *q = in->msg;
	struct ipc_lookup_answer a = { .status = ST_OK, .value = q->key, .matched = str_printf(&w->arena, "%d", (int)getpid()) };
	uint64_t ms;

	if (str_is(q->key, "die"))
		raise(SIGKILL);
	if (str_is(q->key, "exit"))
		_exit(3);
	if (str_is(q->key, "silent"))
		return;
	if (str_is(q->key, "forbidden"))
		syscall(165, NULL, NULL, NULL, 0, NULL); /* mount() */
	if (str_is(q->key, "upstream")) {
		struct ipc_lookup_ask up = { .type = STR_LIT("x"), .key = STR_LIT("from below") };
		struct ipc_lookup_answer got;
		struct err err = ERR_INIT;
		enum status st = worker_call(w, &ipc_type_lookup_ask, &up, NULL, 0, &ipc_type_lookup_answer, &got, 1500, &err);

		a.status = st;
		a.value = st ? str_of(arena_strdup(&w->arena, err.text)) : got.value;
	}
	if (str_begins(q->key, "allowed ") && str_u64(str_from(q->key, 8), 100000, &ms)) {
		worker_allow(w, ms + 5000);
		usleep((useconds_t)ms * 1000);
	}
	if (str_begins(q->key, "slow ") && str_u64(str_from(q->key, 5), 100000, &ms)) {
		if (worker_slow_begin(w, 2)) {
			usleep((useconds_t)ms * 1000);
			worker_slow_end(w);
		} else {
			a.value = STR_LIT("too many");
		}
	}
	if (str_is(q->key, "slow and die")) {
		worker_slow_begin(w, 2);
		raise(SIGKILL);
	}
	if (str_is(q->key, "upstream once")) {
		struct ipc_lookup_ask up = { .type = STR_LIT("x"), .key = STR_LIT("from below") };
		struct ipc_lookup_answer got;
		struct err err = ERR_INIT;

		a.status = worker_call_once(w, &ipc_type_lookup_ask, &up, &ipc_type_lookup_answer, &got, 1500, &err);
		a.value = a.status ? str_of(arena_strdup(&w->arena, err.text)) : got.value;
	}
	if (str_begins(q->key, "errand ") && str_u64(str_from(q->key, 7), 100000, &ms)) {
		struct ipc_lookup_ask up = { .type = STR_LIT("x"), .key = STR_LIT("from below") };
		struct worker_login login = { (uid_t)ms, (gid_t)ms + 1 };
		struct ipc_lookup_answer got;
		struct err err = ERR_INIT;

		a.status = worker_errand(w, &login, &ipc_type_lookup_ask, &up, &ipc_type_lookup_answer, &got, 1500, &err);
		a.value = a.status ? str_of(arena_strdup(&w->arena, err.text)) : got.value;
	}
	if (str_begins(q->key, "sleep ") && str_u64(str_from(q->key, 6), 100000, &ms))
		usleep((useconds_t)ms * 1000);
	worker_answer(w, in, &ipc_type_lookup_answer, &a, NULL, 0);
}

static enum status start(struct worker *w, struct err *err)
{
	w->state = w;
	return str_is(w->conf->main.qualify_domain.text, "broken.example") ? err_set(err, ST_ERROR, "no database") : ST_OK;
}

static void size(const struct conf *conf, struct pool_size *out)
{
	(void)conf;
	*out = (struct pool_size){ .min = 2, .max = 6, .stuck_ms = 2000, .grow_ms = 10, .idle_ms = 300 };
}

static const struct pool_handler handlers[] = { { IPC_lookup_ask, work_lookup }, { 0, NULL } };
static const struct pool_peer peers[] = { { "qmgr", handlers }, { NULL, NULL } };
static const struct pool_spec spec = {
	.name = "local", .what = "a pool for tests", .see = V_LOCAL, .peers = peers, .needs = "router", .errand = "query", .size = size, .worker_start = start
};

/* ---- the test as master ---- */

struct fixture {
	pid_t pid;
	int control, log;
	uint64_t request, needs[64];   /* workers that want a channel upstream */
	unsigned n_needs;
	struct ipc_ctl_need errand;    /* the last one; uid 0: none */
	struct arena arena;
};

static int view_make(const char *domain)
{
	char text[256];
	struct conf_source source = { .path = "test.conf", .text = text };
	struct err err = ERR_INIT;
	struct conf *conf;
	int fd;

	source.text_len = (size_t)snprintf(text, sizeof text, "qualify_domain = %s\nprimary_hostname = test.example\nseccomp = %s\n", domain,
#if defined(__SANITIZE_ADDRESS__)
		"off"
#else
		under_valgrind() ? "off" : "enforce"
#endif
	);
	assert_int_equal(conf_read(&source, &conf), ST_OK);
	if (conf_view_make(conf, V_LOCAL, &fd, &err))
		fail_msg("%s", err.text);
	conf_free(conf);
	return fd;
}

static void master_send(struct fixture *f, const struct ipc_type *type, const void *msg, const int *fds, unsigned n)
{
	struct err err = ERR_INIT;

	if (ipc_send(f->control, type, 0, false, msg, fds, n, 1000, &err))
		fail_msg("%s", err.text);
}

static void pool_begin(struct fixture *f, const char *domain)
{
	static const struct ipc_ctl_go go;
	struct ipc_ctl_start msg = { .name = STR_LIT("local/1"), .number = 1, .generation = 1, .unprivileged = true };
	struct err err = ERR_INIT;
	char name[] = "/tmp/pool-test-XXXXXX";
	int pair[2], fds[1 + LOG_FDS];

	arena_clear(&f->arena);
	memset(f, 0, sizeof *f);
	assert_true(ipc_pair(pair, &err));
	fflush(NULL);
	f->pid = fork();
	if (f->pid == 0) {
		static char *argv[] = { (char *)"local", (char *)"--name", (char *)"local/1", (char *)"--unprivileged", NULL };

		if (pair[1] != JAIL_CONTROL_FD)
			dup2(pair[1], JAIL_CONTROL_FD);
		else
			fcntl(pair[1], F_SETFD, 0);
		if (pair[0] != JAIL_CONTROL_FD)
			close(pair[0]);
		_exit(pool_main(&spec, 4, argv));
	}
	close(pair[1]);
	f->control = pair[0];
	f->log = mkstemp(name);
	unlink(name);
	fds[0] = view_make(domain);
	for (int i = 1; i < 1 + LOG_FDS; i++)
		fds[i] = fcntl(f->log, F_DUPFD_CLOEXEC, 0);
	master_send(f, &ipc_type_ctl_start, &msg, fds, 1 + LOG_FDS);
	master_send(f, &ipc_type_ctl_go, &go, NULL, 0);
}

/* The next message of this type from the pool. */
static bool master_wait(struct fixture *f, const struct ipc_type *type, struct ipc_in *in, int timeout_ms)
{
	struct ipc_packet p = { .data = BUF_INIT };
	uint64_t until = clock_ms() + (uint64_t)timeout_ms;
	struct err err = ERR_INIT;
	struct ipc_in one;
	bool found = false;

	while (!found && clock_ms() < until && !ipc_recv(f->control, &p, (int)(until - clock_ms()), &err))
		while (!ipc_packet_next(&p, &f->arena, &one, &err)) {
			if (one.type == type && !found) {
				found = true;
				*in = one;
			}
			if (one.type == &ipc_type_ctl_need && str_is(((const struct ipc_ctl_need *)one.msg)->peer, "query")) {
				f->errand = *(const struct ipc_ctl_need *)one.msg;
			} else if (one.type == &ipc_type_ctl_need && f->n_needs < 64) {
				assert_true(str_is(((const struct ipc_ctl_need *)one.msg)->peer, "router"));
				f->needs[f->n_needs++] = ((const struct ipc_ctl_need *)one.msg)->cookie;
			}
		}
	ipc_packet_clear(&p);
	return found;
}

/* n workers want a channel upstream; each gets one. */
static int client_new(struct fixture *f, const char *peer, uint64_t cookie);
static void upstream_give(struct fixture *f, int *fds, struct pollfd *ready, unsigned n)
{
	struct ipc_in in;

	while (f->n_needs < n)
		if (!master_wait(f, &ipc_type_ctl_need, &in, 2000))
			fail_msg("%u of %u workers want a channel", f->n_needs, n);
	for (unsigned i = 0; i < n; i++) {
		fds[i] = client_new(f, "router", f->needs[i]);
		ready[i] = (struct pollfd){ fds[i], POLLIN, 0 };
	}
	f->n_needs = 0;
}

static int client_new(struct fixture *f, const char *peer, uint64_t cookie)
{
	struct ipc_ctl_channel msg = { .peer = str_of(peer), .number = 1, .generation = 1, .cookie = cookie };
	struct err err = ERR_INIT;
	int pair[2];

	assert_true(ipc_pair(pair, &err));
	master_send(f, &ipc_type_ctl_channel, &msg, &pair[1], 1);
	return pair[0];
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct ipc_in in;

	pool_begin(f, "ok.example");
	assert_true(master_wait(f, &ipc_type_ctl_ready, &in, 5000));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int status = -1;

	close(f->control);
	for (int i = 0; i < 500 && waitpid(f->pid, &status, WNOHANG) == 0; i++)
		usleep(20000);
	if (status == -1) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	close(f->log);
	arena_clear(&f->arena);
	free(f);
	return status == 0 ? 0 : -1;
}

static uint64_t ask(struct fixture *f, int fd, const char *key)
{
	struct ipc_lookup_ask q = { .type = STR_LIT("lsearch"), .key = str_of(key) };
	struct err err = ERR_INIT;

	if (ipc_send(fd, &ipc_type_lookup_ask, ++f->request, false, &q, NULL, 0, 1000, &err))
		fail_msg("%s", err.text);
	return f->request;
}

struct answer {
	uint64_t request;
	bool lost, waited;
	char value[256], by[32];
};

/* Up to n answers; how many came in time. */
static unsigned answers_take(struct fixture *f, int fd, struct answer *v, unsigned n, int timeout_ms)
{
	uint64_t until = clock_ms() + (uint64_t)timeout_ms;
	struct ipc_packet p = { .data = BUF_INIT };
	struct err err = ERR_INIT;
	struct ipc_in in;
	unsigned got = 0;

	while (got < n && clock_ms() < until && !ipc_recv(fd, &p, (int)(until - clock_ms()), &err))
		while (got < n && !ipc_packet_next(&p, &f->arena, &in, &err)) {
			struct answer *a = &v[got++];

			memset(a, 0, sizeof *a);
			a->request = in.request;
			a->lost = in.type == &ipc_type_ctl_lost;
			if (in.type == &ipc_type_lookup_answer) {
				const struct ipc_lookup_answer *m = in.msg;

				snprintf(a->value, sizeof a->value, "%.*s", STR_FMT(m->value));
				snprintf(a->by, sizeof a->by, "%.*s", STR_FMT(m->matched));
			} else if (a->lost) {
				const struct ipc_ctl_lost *m = in.msg;

				snprintf(a->value, sizeof a->value, "%.*s", STR_FMT(m->text));
				a->waited = m->waited;
			}
		}
	ipc_packet_clear(&p);
	return got;
}

static uint64_t counter(struct fixture *f, const char *name)
{
	static const struct ipc_ctl_status_ask q;
	struct ipc_ctl_status a;
	struct err err = ERR_INIT;
	uint64_t n = UINT64_MAX;

	/* Requests for channels may come in between: taken off first. */
	struct ipc_in in;

	while (master_wait(f, &ipc_type_ctl_need, &in, 1))
		;
	if (ipc_call(f->control, &ipc_type_ctl_status_ask, &q, NULL, 0, &ipc_type_ctl_status, &f->arena, &a, 10000, &err))
		fail_msg("status: %s", err.text);
	for (uint32_t i = 0; i < a.n_counters; i++)
		if (str_is(a.counters[i].name, name))
			str_u64(a.counters[i].value, UINT64_MAX, &n);
	return n;
}

static bool counter_becomes(struct fixture *f, const char *name, uint64_t want, int timeout_ms)
{
	uint64_t until = clock_ms() + (uint64_t)timeout_ms;

	while (clock_ms() < until) {
		if (counter(f, name) == want)
			return true;
		usleep(10000);
	}
	print_message("%s is %llu, want %llu\n", name, (unsigned long long)counter(f, name), (unsigned long long)want);
	return false;
}

/* ---- tests ---- */

static void test_answers(void **state)
{
	struct fixture *f = *state;
	int a = client_new(f, "qmgr", 0), b = client_new(f, "qmgr", 0);
	struct answer got[2];
	char key[32];

	for (int i = 0; i < 200; i++) {
		uint64_t ra, rb;

		snprintf(key, sizeof key, "key%d", i);
		ra = ask(f, a, key);
		rb = ask(f, b, key);
		assert_int_equal(answers_take(f, a, got, 1, 2000), 1);
		assert_int_equal(got[0].request, ra);
		assert_string_equal(got[0].value, key);
		assert_int_equal(answers_take(f, b, got, 1, 2000), 1);
		assert_int_equal(got[0].request, rb);
	}
	assert_int_equal(counter(f, "questions"), 400);
	assert_int_equal(counter(f, "clients"), 2);
	close(a);
	assert_true(counter_becomes(f, "clients", 1, 1000));
	close(b);
	assert_true(counter_becomes(f, "clients", 0, 1000));
}

static void frames_send(struct fixture *f, int fd, const char *const *keys, unsigned n)
{
	struct buf packet = BUF_INIT;
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < n; i++) {
		struct ipc_lookup_ask q = { .type = STR_LIT("lsearch"), .key = str_of(keys[i]) };

		assert_int_equal(ipc_frame_add(&packet, &ipc_type_lookup_ask, ++f->request, false, &q, &err), ST_OK);
	}
	assert_int_equal(ipc_send_packet(fd, &packet, 1000, &err), ST_OK);
	buf_clear(&packet);
}

static void test_several_in_a_packet(void **state)
{
	static const char *const keys[] = { "a", "b", "c", "d" };
	struct fixture *f = *state;
	struct ipc_packet p = { .data = BUF_INIT };
	struct err err = ERR_INIT;
	struct ipc_in in;
	int fd = client_new(f, "qmgr", 0);
	unsigned n = 0, packets = 0;

	frames_send(f, fd, keys, 4);
	while (n < 4) {
		assert_int_equal(ipc_recv(fd, &p, 2000, &err), ST_OK);
		while (!ipc_packet_next(&p, &f->arena, &in, &err)) {
			const struct ipc_lookup_answer *m = in.msg;

			assert_int_equal(in.request, ++n);
			assert_true(str_is(m->value, keys[n - 1]));
		}
		packets++;
	}
	ipc_packet_clear(&p);
	assert_true(packets < 4 || under_valgrind()); /* quick answers come together */
	close(fd);
}

/* The second of three kills its worker: the first has its answer, the others are told as lost, and can be asked again. */
static void test_worker_dies_in_a_packet(void **state)
{
	static const char *const keys[] = { "sleep 5", "die", "c" };
	struct fixture *f = *state;
	struct answer got[3];
	int fd = client_new(f, "qmgr", 0);

	frames_send(f, fd, keys, 3);
	assert_int_equal(answers_take(f, fd, got, 3, 3000), 3);
	assert_int_equal(got[0].request, 1);
	assert_false(got[0].lost);
	assert_true(got[1].lost && got[2].lost);
	assert_int_equal(got[1].request, 2);
	assert_int_equal(got[2].request, 3);
	assert_non_null(strstr(got[1].value, "SIGKILL"));
	assert_false(got[1].waited);
	assert_true(got[2].waited);
	ask(f, fd, "again");
	assert_int_equal(answers_take(f, fd, got, 1, 2000), 1);
	assert_string_equal(got[0].value, "again");
	assert_true(counter_becomes(f, "workers", 2, 2000));
	assert_int_equal(counter(f, "questions_lost"), 2);
	close(fd);
}

static void test_every_end_is_told(void **state)
{
	static const struct {
		const char *key, *text;
	} cases[] = {
		{ "die", "SIGKILL" }, { "exit", "code 3" }, { "silent", "not answered" }, { "sleep 5000", "stuck" },
#if !defined(__SANITIZE_ADDRESS__)
		{ "forbidden", "seccomp" },
#endif
	};
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0);

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct answer got;
		uint64_t request;

		if (under_valgrind() && !strcmp(cases[i].text, "seccomp"))
			continue;
		request = ask(f, fd, cases[i].key);
		assert_int_equal(answers_take(f, fd, &got, 1, 4000), 1);
		if (!got.lost || got.request != request || !strstr(got.value, cases[i].text))
			fail_msg("%s: got %s \"%s\" for %llu, want lost \"%s\" for %llu", cases[i].key, got.lost ? "lost" : "an answer", got.value,
				(unsigned long long)got.request, cases[i].text, (unsigned long long)request);
	}
	assert_true(counter_becomes(f, "workers", 2, 2000));
	close(fd);
}

static void test_grows_and_shrinks(void **state)
{
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0);
	struct answer got[6];
	uint64_t began;

	for (int i = 0; i < 6; i++)
		ask(f, fd, "sleep 400");
	began = clock_ms();
	assert_int_equal(answers_take(f, fd, got, 6, 5000), 6);
	if (clock_ms() - began > 1000) /* one after the other by two workers: 1200 */
		fail_msg("six questions of 400 ms took %llu ms", (unsigned long long)(clock_ms() - began));
	assert_int_equal(counter(f, "workers"), 6);
	assert_true(counter_becomes(f, "workers", 2, 5000));
	close(fd);
}

static void test_clients_that_misbehave(void **state)
{
	struct fixture *f = *state;
	struct ipc_hint_ask wrong = { .op = 1, .space = STR_LIT("x"), .key = STR_LIT("y") };
	struct ipc_packet p = { .data = BUF_INIT };
	struct err err = ERR_INIT;
	struct answer got;
	int good = client_new(f, "qmgr", 0), bad = client_new(f, "qmgr", 0), junk = client_new(f, "qmgr", 0);

	assert_int_equal(ipc_send(bad, &ipc_type_hint_ask, 1, false, &wrong, NULL, 0, 1000, &err), ST_OK);
	assert_int_equal(ipc_recv(bad, &p, 3000, &err), ST_FAIL);
	assert_int_equal(send(junk, "hello, this is no frame", 23, MSG_NOSIGNAL), 23);
	assert_int_equal(ipc_recv(junk, &p, 3000, &err), ST_FAIL);
	ask(f, good, "fine");
	assert_int_equal(answers_take(f, good, &got, 1, 2000), 1);
	assert_string_equal(got.value, "fine");
	assert_true(counter_becomes(f, "clients", 1, 1000));
	ipc_packet_clear(&p);
	close(good);
	close(bad);
	close(junk);
}

/* The test answers as router: one question. */
static void upstream_answer(struct fixture *f, int fd)
{
	struct ipc_packet p = { .data = BUF_INIT };
	struct ipc_lookup_answer a = { .status = ST_OK, .value = STR_LIT("from above") };
	struct err err = ERR_INIT;
	struct ipc_in in;

	if (ipc_recv(fd, &p, 3000, &err) || ipc_packet_next(&p, &f->arena, &in, &err))
		fail_msg("upstream: %s", err.text);
	assert_int_equal(ipc_send(fd, &ipc_type_lookup_answer, in.request, true, &a, NULL, 0, 1000, &err), ST_OK);
	ipc_packet_clear(&p);
}

static void test_upstream(void **state)
{
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0), up[2];
	struct pollfd ready[2];
	struct answer got;

	/* Nobody there: a deferral, in time. */
	ask(f, fd, "upstream");
	assert_int_equal(answers_take(f, fd, &got, 1, 4000), 1);
	assert_non_null(strstr(got.value, "not there"));
	for (int round = 0; round < 2; round++) { /* the second time it was restarted: the workers ask for others */
		upstream_give(f, up, ready, 2);
		ask(f, fd, "upstream");
		assert_int_equal(poll(ready, 2, 3000), 1);
		upstream_answer(f, ready[0].revents ? up[0] : up[1]);
		assert_int_equal(answers_take(f, fd, &got, 1, 2000), 1);
		assert_string_equal(got.value, "from above");
		close(up[0]);
		close(up[1]);
	}
	close(fd);
}

/* A question that is asked once is not put to the successor of the daemon that died with it. */
static void test_upstream_once(void **state)
{
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0), up[2];
	struct pollfd ready[2];
	struct answer got;

	upstream_give(f, up, ready, 2);
	ask(f, fd, "upstream once");
	assert_int_equal(poll(ready, 2, 3000), 1);
	close(ready[0].revents ? up[0] : up[1]);
	assert_int_equal(answers_take(f, fd, &got, 1, 1000), 1);
	assert_string_equal(got.value, "router did not answer");
	close(ready[0].revents ? up[1] : up[0]);
	close(fd);
}

/* Two may be slow at a time; one that dies with it leaves its place. */
/* A channel for the errand, under the login asked for, or another. */
static int errand_give(struct fixture *f, uint64_t uid)
{
	struct ipc_ctl_channel msg = { .peer = STR_LIT("query"), .number = 1, .generation = 1, .uid = uid + 1, .gid = uid + 2 };
	struct err err = ERR_INIT;
	struct ipc_in in;
	int pair[2];

	while (!f->errand.uid)
		if (!master_wait(f, &ipc_type_ctl_need, &in, 2000))
			fail_msg("no worker wants a channel for an errand");
	msg.cookie = f->errand.cookie;
	assert_int_equal(f->errand.gid, f->errand.uid + 1);
	f->errand.uid = 0;
	assert_true(ipc_pair(pair, &err));
	master_send(f, &ipc_type_ctl_channel, &msg, &pair[1], 1);
	return pair[0];
}

static void test_errand(void **state)
{
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0), up, other;
	struct ipc_ctl_refused no = { .text = STR_LIT("that login may not") };
	struct ipc_packet p = { .data = BUF_INIT };
	struct err err = ERR_INIT;
	struct answer got;
	struct ipc_in in;

	/* A channel of its own, which ends with the answer. */
	ask(f, fd, "errand 1001");
	up = errand_give(f, 1001);
	upstream_answer(f, up);
	assert_int_equal(answers_take(f, fd, &got, 1, 2000), 1);
	assert_string_equal(got.value, "from above");
	assert_int_equal(ipc_recv(up, &p, 2000, &err), ST_FAIL);
	close(up);

	/* It had just ended: another is asked for, once; a channel of another login is none. */
	ask(f, fd, "errand 1002");
	close(errand_give(f, 1002));
	other = errand_give(f, 1001);
	assert_int_equal(ipc_recv(other, &p, 1000, &err), ST_FAIL);
	assert_int_equal(answers_take(f, fd, &got, 1, 3000), 1);
	assert_string_equal(got.value, "no process for it is there now");
	close(other);
	ask(f, fd, "errand 1003");
	close(errand_give(f, 1003));
	close(errand_give(f, 1003));
	assert_int_equal(answers_take(f, fd, &got, 1, 1000), 1);
	assert_string_equal(got.value, "query ended before it answered");

	/* Refused. */
	ask(f, fd, "errand 1004");
	while (!f->errand.uid)
		assert_true(master_wait(f, &ipc_type_ctl_need, &in, 2000));
	no.cookie = f->errand.cookie;
	f->errand.uid = 0;
	master_send(f, &ipc_type_ctl_refused, &no, NULL, 0);
	assert_int_equal(answers_take(f, fd, &got, 1, 1000), 1);
	assert_string_equal(got.value, "that login may not");
	ask(f, fd, "fine");
	assert_int_equal(answers_take(f, fd, &got, 1, 2000), 1);
	ipc_packet_clear(&p);
	close(fd);
}

static void test_slow_ones_are_bounded(void **state)
{
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0);
	unsigned refused = 0, done = 0;
	struct answer got[8];

	for (int i = 0; i < 4; i++) {
		ask(f, fd, "slow and die");
		assert_int_equal(answers_take(f, fd, got, 1, 3000), 1);
		assert_true(got[0].lost);
	}
	for (int i = 0; i < 5; i++)
		ask(f, fd, "slow 1500");
	assert_int_equal(answers_take(f, fd, got, 5, 8000), 5);
	for (int i = 0; i < 5; i++) {
		refused += !strcmp(got[i].value, "too many");
		done += !strcmp(got[i].value, "slow 1500");
	}
	assert_int_equal(refused + done, 5);
	assert_true(done >= 2 && refused >= 1);
	ask(f, fd, "slow 1");
	assert_int_equal(answers_take(f, fd, got, 1, 3000), 1);
	assert_string_equal(got[0].value, "slow 1");
	close(fd);
}

static void test_allowed_time(void **state)
{
	struct fixture *f = *state;
	int fd = client_new(f, "qmgr", 0);
	struct answer got;

	ask(f, fd, "allowed 3000");
	assert_int_equal(answers_take(f, fd, &got, 1, 8000), 1);
	assert_false(got.lost);
	ask(f, fd, "sleep 5000"); /* it held for that question alone */
	assert_int_equal(answers_take(f, fd, &got, 1, 4800), 1);
	assert_true(got.lost);
	close(fd);
}

static void test_drains_when_its_clients_are_gone(void **state)
{
	struct fixture *f = *state;
	struct ipc_ctl_drain msg = { .deadline_ms = 10000 };
	int fd = client_new(f, "qmgr", 0), status;
	struct answer got;

	ask(f, fd, "sleep 100");
	master_send(f, &ipc_type_ctl_drain, &msg, NULL, 0);
	assert_int_equal(answers_take(f, fd, &got, 1, 2000), 1);
	ask(f, fd, "still");
	assert_int_equal(answers_take(f, fd, &got, 1, 2000), 1);
	assert_string_equal(got.value, "still");
	close(fd);
	for (int i = 0; i < 200 && waitpid(f->pid, &status, WNOHANG) == 0; i++)
		usleep(10000);
	assert_int_equal(kill(f->pid, 0), -1);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* For the teardown: another. */
	close(f->control);
	close(f->log);
	pool_begin(f, "ok.example");
}

static void test_a_start_that_fails_says_why(void **state)
{
	struct fixture f = { 0 };
	struct ipc_in in;
	int status;

	(void)state;
	pool_begin(&f, "broken.example");
	assert_true(master_wait(&f, &ipc_type_ctl_failed, &in, 5000));
	assert_true(str_is(((const struct ipc_ctl_failed *)in.msg)->text, "no database"));
	waitpid(f.pid, &status, 0);
	assert_int_equal(WEXITSTATUS(status), DAEMON_EXIT_START);
	close(f.control);
	close(f.log);
	arena_clear(&f.arena);
}

/* The end of the manager is the end of its workers: their channels close. */
static void test_killed_manager(void **state)
{
	struct fixture *f = *state;
	struct ipc_packet p = { .data = BUF_INIT };
	int fd = client_new(f, "qmgr", 0);
	struct err err = ERR_INIT;
	struct answer got;

	ask(f, fd, "x");
	assert_int_equal(answers_take(f, fd, &got, 1, 2000), 1);
	kill(f->pid, SIGKILL);
	assert_int_equal(ipc_recv(fd, &p, 3000, &err), ST_FAIL);
	ipc_packet_clear(&p);
	waitpid(f->pid, NULL, 0);
	close(f->control);
	close(f->log);
	close(fd);
	pool_begin(f, "ok.example");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_several_in_a_packet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_worker_dies_in_a_packet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_end_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_grows_and_shrinks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clients_that_misbehave, setup, teardown),
		cmocka_unit_test_setup_teardown(test_upstream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_upstream_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errand, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_ones_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_allowed_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drains_when_its_clients_are_gone, setup, teardown),
		cmocka_unit_test(test_a_start_that_fails_says_why),
		cmocka_unit_test_setup_teardown(test_killed_manager, setup, teardown),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}

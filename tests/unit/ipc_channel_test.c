/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/ipc/enums.h"

struct side {
	struct channel *ch;
	int asked, answered, lost, closed, notices;
	int fd_octet;
	char last[256], why[256];
	bool mute;
};

static void on_ask(void *owner, struct ipc_in *in)
{
	struct side *s = owner;
	const struct ipc_lookup_ask *q = in->msg;
	struct ipc_lookup_answer a = { .status = ST_OK, .value = q->key };

	s->asked++;
	snprintf(s->last, sizeof s->last, "%.*s", STR_FMT(q->key));
	if (!s->mute)
		channel_answer(in->channel, in->request, &ipc_type_lookup_answer, &a, NULL, 0);
}

static void on_file(void *owner, struct ipc_in *in)
{
	struct side *s = owner;
	char c = 0;

	s->notices++;
	if (in->fds[0] >= 0 && pread(in->fds[0], &c, 1, 0) == 1)
		s->fd_octet = c;
}

static void on_closed(void *owner, struct channel *ch, const char *why)
{
	struct side *s = owner;

	(void)ch;
	s->closed++;
	snprintf(s->why, sizeof s->why, "%s", why);
}

static void on_answer(void *arg, struct ipc_in *in, const struct err *err)
{
	struct side *s = arg;

	if (!in) {
		s->lost++;
		assert_int_equal(err->status, ST_DEFER);
		return;
	}
	s->answered++;
	if (in->type == &ipc_type_lookup_answer)
		snprintf(s->last, sizeof s->last, "%.*s", STR_FMT(((const struct ipc_lookup_answer *)in->msg)->value));
}

static const struct ipc_handler handlers[] = { { IPC_lookup_ask, on_ask }, { IPC_msg_file, on_file }, { 0, NULL } };

struct pair {
	struct loop *loop;
	struct side a, b;
};

static void side_open(struct pair *p, struct side *s, int fd, unsigned pack)
{
	struct channel_spec spec = { .peer = "peer", .handlers = handlers, .owner = s, .closed = on_closed, .pack = pack };

	s->ch = channel_open(p->loop, fd, &spec);
}

static struct pair *pair_new(unsigned pack)
{
	struct pair *p = mem_new(sizeof *p);
	struct err err = ERR_INIT;
	int fds[2];

	p->loop = loop_new();
	assert_true(ipc_pair(fds, &err));
	side_open(p, &p->a, fds[0], pack);
	side_open(p, &p->b, fds[1], 0);
	return p;
}

static void pair_free(struct pair *p)
{
	channel_free(p->a.ch);
	channel_free(p->b.ch);
	loop_turn(p->loop, false);
	loop_free(p->loop);
	mem_free(p);
}

static void turns(struct pair *p, int n)
{
	while (n--)
		loop_turn(p->loop, false);
}

static void test_many_questions(void **state)
{
	static const unsigned packs[] = { 0, 1, 3 };

	(void)state;
	for (size_t k = 0; k < sizeof packs / sizeof *packs; k++) {
		struct pair *p = pair_new(packs[k]);

		for (int i = 0; i < 1000; i++) {
			struct arena a = ARENA_INIT;
			struct ipc_lookup_ask q = { .type = STR_LIT("lsearch"), .key = str_printf(&a, "key %d", i) };

			channel_ask(p->a.ch, &ipc_type_lookup_ask, &q, NULL, 0, &ipc_type_lookup_answer, 5000, on_answer, &p->a);
			arena_clear(&a);
		}
		turns(p, 80);
		assert_int_equal(p->a.answered, 1000);
		assert_string_equal(p->a.last, "key 999");
		assert_int_equal(channel_questions(p->a.ch), 0);
		pair_free(p);
	}
}

static void test_descriptor(void **state)
{
	struct pair *p = pair_new(0);
	struct ipc_msg_file m = { .id = STR_LIT("x") };
	FILE *f = tmpfile();
	int fd;

	(void)state;
	fputs("Q", f);
	fflush(f);
	fd = dup(fileno(f));
	fclose(f);
	channel_send(p->a.ch, &ipc_type_msg_file, &m, &fd, 1);
	turns(p, 3);
	assert_int_equal(p->b.notices, 1);
	assert_int_equal(p->b.fd_octet, 'Q');
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* given away here, closed there */
	pair_free(p);
}

static void test_deadline_and_late_answer(void **state)
{
	struct pair *p = pair_new(0);
	struct ipc_lookup_ask q = { .key = STR_LIT("k") };
	struct ipc_lookup_answer a = { .status = ST_FAIL };

	(void)state;
	p->b.mute = true;
	channel_ask(p->a.ch, &ipc_type_lookup_ask, &q, NULL, 0, &ipc_type_lookup_answer, 1, on_answer, &p->a);
	turns(p, 2);
	usleep(5000);
	turns(p, 3);
	assert_int_equal(p->a.lost, 1);
	channel_answer(p->b.ch, 1, &ipc_type_lookup_answer, &a, NULL, 0);
	turns(p, 3);
	assert_int_equal(p->a.answered, 0);
	assert_true(channel_is_open(p->a.ch));
	pair_free(p);
}

static void test_closing_answers_questions(void **state)
{
	struct pair *p = pair_new(0);
	struct ipc_lookup_ask q = { .key = STR_LIT("k") };

	(void)state;
	p->b.mute = true;
	channel_ask(p->a.ch, &ipc_type_lookup_ask, &q, NULL, 0, &ipc_type_lookup_answer, 0, on_answer, &p->a);
	turns(p, 2);
	channel_free(p->b.ch);
	p->b.ch = NULL;
	turns(p, 3);
	assert_int_equal(p->a.lost, 1);
	assert_int_equal(p->a.closed, 1);
	channel_ask(p->a.ch, &ipc_type_lookup_ask, &q, NULL, 0, &ipc_type_lookup_answer, 0, on_answer, &p->a);
	turns(p, 3);
	assert_int_equal(p->a.lost, 2);
	pair_free(p);
}

/* What a peer that was taken over may send: each closes the channel, with a reason, and never the process. */
static void test_hostile_packets(void **state)
{
	static const struct {
		const char *name;
		unsigned char bytes[40];
		size_t n;
		const char *why;
	} cases[] = {
		{ "short", { 1, 2, 3 }, 3, "a frame of 3 octets" },
		{ "length below the head", { 4, 0, 0, 0, 40, 0, 0, 0, 1 }, 16, "a frame that says 4" },
		{ "length beyond the packet", { 99, 0, 0, 0, 40, 0, 0, 0, 1 }, 16, "a frame that says 99" },
		{ "unknown message", { 16, 0, 0, 0, 19, 0, 0, 0, 1 }, 16, "message 19 is not known" },
		{ "not allowed", { 16, 0, 0, 0, 63, 0, 0, 0, 1 }, 16, "may not send msg_commit" },
		{ "answer to nothing", { 16, 0, 0, 0, 41, 0, 0, 1, 9 }, 16, "answered what was not asked" },
		{ "descriptors that are not there", { 16, 0, 0, 0, 61, 0, 1, 0, 0 }, 16, "with 1 descriptors" },
		{ "text beyond the frame", { 20, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, IPC_STR, 50, 'x' }, 20, "lookup_ask.type" },
		{ "tag twice", { 22, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, IPC_STR, 0, 1, IPC_STR, 0 }, 22, "given twice" },
		{ "wrong kind", { 19, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, IPC_U64, 0 }, 19, "wrong kind" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pair *p = mem_new(sizeof *p);
		struct err err = ERR_INIT;
		int fds[2];

		p->loop = loop_new();
		assert_true(ipc_pair(fds, &err));
		side_open(p, &p->a, fds[0], 0);
		assert_int_equal(send(fds[1], cases[i].bytes, cases[i].n, 0), (ssize_t)cases[i].n);
		turns(p, 3);
		if (p->a.closed != 1 || !strstr(p->a.why, cases[i].why))
			fail_msg("%s: got %d \"%s\", want \"%s\"", cases[i].name, p->a.closed, p->a.why, cases[i].why);
		channel_free(p->a.ch);
		close(fds[1]);
		loop_free(p->loop);
		mem_free(p);
	}
}

static void test_unknown_tag_is_skipped(void **state)
{
	static const unsigned char bytes[] = { 200, IPC_STR, 3, 'a', 'b', 'c', 201, IPC_LIST, 2, 0, 0, 0, 1, 2, 3, IPC_STR, 1, 'k' };
	struct ipc_lookup_ask q;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(ipc_decode(&ipc_type_lookup_ask, str_make((const char *)bytes, sizeof bytes), &a, &q, &err), ST_OK);
	assert_true(str_is(q.key, "k"));
	assert_true(q.key.tainted);
	arena_clear(&a);
}

static void test_blocking_call(void **state)
{
	struct err err = ERR_INIT;
	struct arena a = ARENA_INIT;
	struct ipc_packet packet = { .data = BUF_INIT };
	struct ipc_lookup_ask q = { .key = STR_LIT("k") };
	struct ipc_lookup_answer answer;
	struct ipc_in in;
	int fds[2];

	(void)state;
	assert_true(ipc_pair(fds, &err));
	assert_int_equal(ipc_call(fds[0], &ipc_type_lookup_ask, &q, NULL, 0, &ipc_type_lookup_answer, &a, &answer, 10, &err), ST_DEFER);
	assert_int_equal(ipc_recv(fds[1], &packet, 100, &err), ST_OK);
	assert_int_equal(ipc_packet_next(&packet, &a, &in, &err), ST_OK);
	assert_ptr_equal(in.type, &ipc_type_lookup_ask);
	assert_int_equal(ipc_packet_next(&packet, &a, &in, &err), ST_FAIL);
	close(fds[1]);
	assert_int_equal(ipc_recv(fds[0], &packet, 10, &err), ST_FAIL);
	close(fds[0]);
	ipc_packet_clear(&packet);
	arena_clear(&a);
}

/* A peer that said something and then died with our messages unread: what it said still comes, then the end. */
static void test_last_words(void **state)
{
	struct ipc_lookup_ask words = { .type = STR_LIT("x"), .key = STR_LIT("the reason") }, q = { .type = STR_LIT("x"), .key = STR_LIT("unread") };
	struct side s = { .mute = true };
	struct pair p = { .loop = loop_new() };
	struct err err = ERR_INIT;
	int fds[2];

	(void)state;
	assert_true(ipc_pair(fds, &err));
	side_open(&p, &s, fds[0], 0);
	channel_send(s.ch, &ipc_type_lookup_ask, &q, NULL, 0);
	channel_flush(s.ch);
	assert_int_equal(ipc_send(fds[1], &ipc_type_lookup_ask, 0, false, &words, NULL, 0, 100, &err), ST_OK);
	close(fds[1]);
	channel_send(s.ch, &ipc_type_lookup_ask, &q, NULL, 0); /* goes nowhere */
	channel_flush(s.ch);
	turns(&p, 4);
	assert_int_equal(s.asked, 1);
	assert_string_equal(s.last, "the reason");
	assert_int_equal(s.closed, 1);
	channel_free(s.ch);
	loop_turn(p.loop, false);
	loop_free(p.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_questions), cmocka_unit_test(test_descriptor),
		cmocka_unit_test(test_deadline_and_late_answer), cmocka_unit_test(test_closing_answers_questions),
		cmocka_unit_test(test_hostile_packets), cmocka_unit_test(test_unknown_tag_is_skipped),
		cmocka_unit_test(test_blocking_call),
		cmocka_unit_test(test_last_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: ISC */
/* What is remembered of hosts, with a channel in place of router. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "smtp-out/out_hint.h"

enum answer { ANSWER, NOTHING, SILENCE };

struct world {
	struct loop *loop;
	struct smtp_out *so;
	struct channel *ours, *router;
	struct channel_spec ours_spec, router_spec;
	enum answer answer;
	unsigned needed, asked, got;
	char value[64], last[128]; /* what came; operation, space, key, value that router saw */
};

static void on_ask(void *owner, struct ipc_in *in)
{
	struct world *w = owner;
	const struct ipc_hint_ask *m = in->msg;
	struct ipc_hint_answer answer = { .status = w->answer == NOTHING ? ST_FAIL : ST_OK, .value = STR_LIT("remembered") };

	w->asked++;
	snprintf(w->last, sizeof w->last, "%s %.*s %.*s %.*s", hint_op_name(m->op), STR_FMT(m->space), STR_FMT(m->key), STR_FMT(m->value));
	if (w->answer != SILENCE)
		channel_answer(in->channel, in->request, &ipc_type_hint_answer, &answer, NULL, 0);
}

static const struct ipc_handler handlers[] = { { IPC_hint_ask, on_ask }, { 0, NULL } }, none[] = { { 0, NULL } };

static void on_closed(void *owner, struct channel *ch, const char *why)
{
	struct world *w = owner;

	(void)ch, (void)why;
	out_hint_closed(w->so);
}

static void channel_give(struct world *w)
{
	int pair[2];
	struct err err;

	assert_true(ipc_pair(pair, &err));
	w->ours_spec = (struct channel_spec){ .peer = "router", .handlers = none, .owner = w, .closed = on_closed };
	w->router_spec = (struct channel_spec){ .peer = "smtp-out", .handlers = handlers, .owner = w };
	w->ours = channel_open(w->loop, pair[0], &w->ours_spec);
	w->router = channel_open(w->loop, pair[1], &w->router_spec);
	out_hint_opened(w->so, w->ours);
}

static void need(void *arg, const char *daemon, uint64_t cookie)
{
	struct world *w = arg;

	assert_string_equal(daemon, "router");
	assert_true(cookie != 0);
	w->needed++;
}

static void world_begin(struct world *w, enum answer answer)
{
	memset(w, 0, sizeof *w);
	w->loop = loop_new();
	assert_non_null(w->loop);
	w->so = smtp_out_new(w->loop, STR_LIT("me"), STR_NULL);
	w->so->need = need;
	w->so->need_arg = w;
	w->answer = answer;
}

static void world_end(struct world *w)
{
	smtp_out_free(w->so);
	if (w->ours)
		channel_free(w->ours);
	if (w->router)
		channel_free(w->router);
	loop_free(w->loop);
}

static void on_value(void *arg, struct str value)
{
	struct world *w = arg;

	w->got++;
	snprintf(w->value, sizeof w->value, "%.*s", value.p ? (int)value.len : 7, value.p ? value.p : "nothing");
}

static void turn_until(struct world *w, const unsigned *n, unsigned want)
{
	loop_turn(w->loop, false); /* what was asked between turns goes out */
	for (uint64_t end = clock_ms() + 5000; *n < want;) {
		assert_true(clock_ms() < end);
		loop_turn(w->loop, true);
	}
}

static void test_asked(void **state)
{
	static const struct { enum answer answer; bool take; const char *want, *seen; } rows[] = {
		{ ANSWER, false, "remembered", "get tls h " }, { ANSWER, true, "remembered", "take tls h " }, { NOTHING, false, "nothing", "get tls h " },
		{ SILENCE, false, "nothing", "get tls h " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct world w;

		world_begin(&w, rows[i].answer);
		assert_non_null((rows[i].take ? out_hint_take : out_hint_get)(w.so, "tls", STR_LIT("h"), on_value, &w));
		assert_int_equal(w.needed, 1); /* and waits for the channel */
		channel_give(&w);
		turn_until(&w, &w.got, 1);
		assert_string_equal(w.value, rows[i].want);
		assert_string_equal(w.last, rows[i].seen);
		assert_int_equal(w.so->n_hint_asks, 0);
		world_end(&w);
	}
}

/* No channel comes: nothing is known, after a while. */
static void test_no_router(void **state)
{
	struct world w;

	(void)state;
	world_begin(&w, ANSWER);
	out_hint_get(w.so, "ehlo", STR_LIT("h"), on_value, &w);
	turn_until(&w, &w.got, 1);
	assert_string_equal(w.value, "nothing");
	out_hint_put(w.so, "ehlo", STR_LIT("h"), STR_LIT("v"), 60); /* lost */
	assert_int_equal(w.needed, 1);
	world_end(&w);
}

static void test_cancelled(void **state)
{
	struct world w;

	(void)state;
	world_begin(&w, ANSWER);
	channel_give(&w);
	out_hint_cancel(out_hint_get(w.so, "tls", STR_LIT("a"), on_value, &w));
	out_hint_put(w.so, "tls", STR_LIT("b"), STR_LIT("v"), 60);
	turn_until(&w, &w.asked, 2);
	assert_string_equal(w.last, "put tls b v");
	out_hint_remove(w.so, "tls", STR_LIT("c"));
	turn_until(&w, &w.asked, 3);
	assert_string_equal(w.last, "remove tls c ");
	loop_turn(w.loop, false);
	assert_int_equal(w.got, 0);
	world_end(&w);
}

/* Router goes: what was asked is answered with nothing, and the next question asks for another channel. */
static void test_router_lost(void **state)
{
	struct world w;

	(void)state;
	world_begin(&w, SILENCE);
	channel_give(&w);
	out_hint_get(w.so, "tls", STR_LIT("a"), on_value, &w);
	turn_until(&w, &w.asked, 1);
	channel_free(w.router);
	w.router = NULL;
	turn_until(&w, &w.got, 1);
	assert_string_equal(w.value, "nothing");
	channel_free(w.ours);
	w.ours = NULL;
	assert_int_equal(w.needed, 0);
	out_hint_get(w.so, "tls", STR_LIT("a"), on_value, &w);
	assert_int_equal(w.needed, 1);
	w.answer = ANSWER;
	channel_give(&w);
	turn_until(&w, &w.got, 2);
	assert_string_equal(w.value, "remembered");
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_asked), cmocka_unit_test(test_no_router), cmocka_unit_test(test_cancelled), cmocka_unit_test(test_router_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

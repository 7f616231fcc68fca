/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_hint.h"

enum { HINT_COOKIE = 1 };

struct out_hint {
	struct list node;            /* smtp_out.hint_asks */
	struct smtp_out *so;
	struct loop_timer timer;
	const char *space;
	struct str key;              /* its own copy, until it is sent */
	uint64_t request;            /* 0: waits for a channel */
	uint8_t op;
	out_hint_fn *fn;
	void *arg;
};

static void hint_free(struct out_hint *q)
{
	list_remove(&q->node);
	q->so->n_hint_asks--;
	loop_timer_stop(&q->timer);
	mem_free((void *)(uintptr_t)q->key.p);
	mem_free(q);
}

static void hint_end(struct out_hint *q, struct str value)
{
	out_hint_fn *fn = q->fn;
	void *arg = q->arg;

	q->request = 0;
	hint_free(q);
	fn(arg, value);
}

static void hint_late(void *arg)
{
	struct out_hint *q = arg;

	if (q->request && q->so->hints)
		channel_cancel(q->so->hints, q->request);
	hint_end(q, STR_NULL);
}

static void hint_answered(void *arg, struct ipc_in *in, const struct err *err)
{
	const struct ipc_hint_answer *answer = in && in->type == &ipc_type_hint_answer ? in->msg : NULL;

	(void)err;
	hint_end(arg, answer && answer->status == ST_OK ? answer->value : STR_NULL);
}

static void hint_ask(struct out_hint *q)
{
	const struct ipc_hint_ask ask = { .op = q->op, .space = str_of(q->space), .key = q->key };

	q->request = channel_ask(q->so->hints, &ipc_type_hint_ask, &ask, NULL, 0, &ipc_type_hint_answer, 0, hint_answered, q);
}

/* Without a channel the questions wait for it; their time is the limit. */
static void channel_want(struct smtp_out *so)
{
	if (so->hints || so->hints_wanted || !so->need)
		return;
	so->hints_wanted = true;
	so->need(so->need_arg, "router", HINT_COOKIE);
}

static struct out_hint *hint_new(struct smtp_out *so, out_hint_fn *fn, void *arg)
{
	struct out_hint *q;

	if (so->n_hint_asks >= OUT_HINTS_MAX)
		return NULL;
	q = mem_new(sizeof *q);
	q->so = so;
	q->fn = fn;
	q->arg = arg;
	list_push(&so->hint_asks, &q->node);
	so->n_hint_asks++;
	loop_timer_start(&q->timer, so->loop, so->need ? OUT_HINT_MS : 0, hint_late, q);
	return q;
}

static struct out_hint *hint_begin(struct smtp_out *so, enum hint_op op, const char *space, struct str key, out_hint_fn *fn, void *arg)
{
	struct out_hint *q = hint_new(so, fn, arg);

	if (!q)
		return NULL;
	q->op = (uint8_t)op;
	q->space = space;
	q->key = str_make(mem_memdup(key.p, key.len), key.len);
	if (so->hints)
		hint_ask(q);
	else
		channel_want(so);
	return q;
}

struct out_hint *out_hint_get(struct smtp_out *so, const char *space, struct str key, out_hint_fn *fn, void *arg)
{
	return hint_begin(so, HINT_GET, space, key, fn, arg);
}

struct out_hint *out_hint_take(struct smtp_out *so, const char *space, struct str key, out_hint_fn *fn, void *arg)
{
	return hint_begin(so, HINT_TAKE, space, key, fn, arg);
}

static void hint_expanded(void *arg, struct ipc_in *in, const struct err *err)
{
	const struct ipc_expand_answer *answer = in && in->type == &ipc_type_expand_answer ? in->msg : NULL;
	struct str value = STR_NULL;

	(void)err;
	if (answer && answer->status == ST_OK)
		value = str_make(answer->text.p ? answer->text.p : "", answer->text.len);
	hint_end(arg, value);
}

struct out_hint *out_hint_expand(struct smtp_out *so, struct str text, const struct ipc_host *host, struct str item, out_hint_fn *fn, void *arg)
{
	struct ipc_pair v[] = {
		{ .name = STR_LIT("host"), .value = host->name, .tainted = true }, { .name = STR_LIT("host_address"), .value = host->ip, .tainted = true },
		{ .name = STR_LIT("item"), .value = item, .tainted = true },
	};
	const struct ipc_expand_ask ask = { .text = text, .variables = v, .n_variables = sizeof v / sizeof *v };
	struct out_hint *q;

	if (!so->hints) {
		channel_want(so);
		return NULL;
	}
	q = hint_new(so, fn, arg);
	if (q)
		q->request = channel_ask(so->hints, &ipc_type_expand_ask, &ask, NULL, 0, &ipc_type_expand_answer, 0, hint_expanded, q);
	return q;
}

void out_hint_cancel(struct out_hint *q)
{
	if (!q)
		return;
	if (q->request && q->so->hints)
		channel_cancel(q->so->hints, q->request);
	hint_free(q);
}

static void told(void *arg, struct ipc_in *in, const struct err *err)
{
	(void)arg, (void)in, (void)err; /* advice: lost, at worst */
}

static void hint_tell(struct smtp_out *so, const struct ipc_hint_ask *ask)
{
	if (so->hints)
		channel_ask(so->hints, &ipc_type_hint_ask, ask, NULL, 0, &ipc_type_hint_answer, 60000, told, NULL);
	else
		channel_want(so);
}

void out_hint_put(struct smtp_out *so, const char *space, struct str key, struct str value, uint64_t expire_s)
{
	const struct ipc_hint_ask ask = { .op = HINT_PUT, .space = str_of(space), .key = key, .value = value, .expire_s = expire_s };

	hint_tell(so, &ask);
}

void out_hint_remove(struct smtp_out *so, const char *space, struct str key)
{
	const struct ipc_hint_ask ask = { .op = HINT_REMOVE, .space = str_of(space), .key = key };

	hint_tell(so, &ask);
}

void out_hint_opened(struct smtp_out *so, struct channel *router)
{
	so->hints = router;
	so->hints_wanted = false;
	list_each_safe(&so->hint_asks, n) {
		struct out_hint *q = list_entry(n, struct out_hint, node);

		if (!q->request)
			hint_ask(q);
	}
}

/* Open questions have been answered already: by the channel, with nothing. */
void out_hint_closed(struct smtp_out *so)
{
	so->hints = NULL;
}

void out_hint_clear(struct smtp_out *so)
{
	list_each_safe(&so->hint_asks, n)
		out_hint_cancel(list_entry(n, struct out_hint, node));
}

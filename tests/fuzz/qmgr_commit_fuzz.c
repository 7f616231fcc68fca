/* SPDX-License-Identifier: ISC */
/* Hostile peers of the queue manager: what smtpd, router, agents and the command send is made of the fuzzer's octets, and only
 * forced to be well-formed. Whatever they say, nothing breaks, and a message leaves the queue only by an end that was told. */
#include "tests/unit/qmgr_fake.h"

#include <fcntl.h>

/* The answers of the stand-ins: the octets that are left, decoded leniently, else the honest answer. */
static const uint8_t *left;
static size_t n_left;

static struct str take(size_t most)
{
	size_t n = n_left ? left[0] : 0;
	struct str s;

	if (n_left) {
		left++;
		n_left--;
	}
	n = n * 4 < most ? n * 4 : most;
	n = n < n_left ? n : n_left;
	s = str_make((const char *)left, n);
	left += n;
	n_left -= n;
	return s;
}

static bool hostile_answer(struct ipc_in *in, const struct ipc_type *type, uint64_t delivery)
{
	struct arena a = ARENA_INIT;
	void *msg = arena_alloc(&a, type->size);
	bool ok = n_left > 2 && !ipc_decode(type, take(4096), &a, msg, NULL);

	if (ok) {
		if (type == &ipc_type_delivered && delivery)
			((struct ipc_delivered *)msg)->delivery = delivery;
		if (type == &ipc_type_route_answer)
			((struct ipc_route_answer *)msg)->more = false;
		channel_answer(in->channel, in->request, type, msg, NULL, 0);
	}
	arena_clear(&a);
	return ok;
}

static void on_route(void *owner, struct ipc_in *in)
{
	if (!hostile_answer(in, &ipc_type_route_answer, 0))
		fake_on_route(owner, in);
}

static void on_deliver(void *owner, struct ipc_in *in)
{
	const struct ipc_deliver *msg = in->msg;

	if (!hostile_answer(in, &ipc_type_delivered, n_left && left[0] & 1 ? 0 : msg->delivery))
		fake_on_deliver(owner, in);
}

static const struct ipc_handler router_side[] = { { IPC_route_ask, on_route }, { IPC_hint_ask, fake_on_hint }, { IPC_expand_ask, fake_on_expand }, { 0, NULL } };
static const struct ipc_handler agent_side[] = { { IPC_deliver, on_deliver }, { IPC_conn_close, fake_on_conn_close }, { 0, NULL } };

static void on_any(void *owner, struct ipc_in *in) { (void)owner, (void)in; }
static const struct ipc_handler ctl_side[] = { { IPC_queue_row, on_any }, { IPC_queue_end, on_any }, { 0, NULL } };

static void send_decoded(struct fake *f, struct channel *ch, const struct ipc_type *type)
{
	struct arena a = ARENA_INIT;
	void *msg = arena_alloc(&a, type->size);

	if (ch && !ipc_decode(type, take(8192), &a, msg, NULL)) {
		if (type == &ipc_type_msg_commit && f->id[0])
			((struct ipc_msg_commit *)msg)->id = str_of(f->id);
		channel_send(ch, type, msg, NULL, 0);
	}
	arena_clear(&a);
	fake_turns(f, 3);
}

static struct fake f; /* one queue for all runs: its start costs more than a run */

static void peers_join(void)
{
	if (!f.smtpd.link.channel) {
		fake_unlink(&f.smtpd);
		fake_join(&f, &f.smtpd, &fake_peers[0], intake_handlers, fake_smtpd_handlers);
		intake_opened(f.q, &f.smtpd.link);
	}
	if (!f.router.link.channel) {
		fake_unlink(&f.router);
		fake_join(&f, &f.router, &fake_peers[1], NULL, router_side);
		route_router_add(f.q, f.router.link.channel, 1);
	}
	if (!f.agents[0].link.channel) {
		fake_unlink(&f.agents[0]);
		fake_join(&f, &f.agents[0], &fake_peers[2], fake_agent_side, agent_side);
		agent_opened(f.q, AGENT_SMTP, &f.agents[0].link);
	}
	if (!f.ctl.link.channel) {
		fake_unlink(&f.ctl);
		fake_join(&f, &f.ctl, &fake_peers[3], queue_cmd_handlers, ctl_side);
		queue_cmd_opened(f.q, &f.ctl.link);
	}
}

static void queue_empty(void)
{
	for (unsigned i = 0; i < 64 && f.q->n_messages; i++) {
		struct ipc_queue_ask ask = { .verb = STR_LIT("remove"), .younger_s = 0xffffffff };

		n_left = 0;
		peers_join();
		fake_turns(&f, 4);
		channel_send(f.ctl.far, &ipc_type_queue_ask, &ask, NULL, 0);
		fake_pass(&f, 60);
	}
	if (f.q->n_state[M_ACTIVE] + f.q->n_state[M_DEFERRED] + f.q->n_state[M_FROZEN] > 0)
		abort(); /* a message that can't be got rid of is wedged */
	for (unsigned i = 0; i < f.n_sent; i++)
		free(f.sent[i].recipients);
	f.n_sent = f.answered = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const rcpt[] = { "u@a.test", "down@b.test", "u@alias.test", "r451@a.test", "u@local.test" };

	if (!f.q) {
		fake_start(&f);
		log_set_fd(&f.log, 0, open("/dev/null", O_WRONLY | O_CLOEXEC));
		log_set_fd(&f.log, 2, open("/dev/null", O_WRONLY | O_CLOEXEC));
		fake_unlink(&f.router);
	}
	left = data;
	n_left = size;
	peers_join();
	for (unsigned steps = 0; n_left && steps < 40; steps++) {
		uint8_t op = left[0];
		struct fake_mail mail = { .sender = op & 16 ? "" : "s@x.test", .rcpt = rcpt, .n = 1 + op % 5u, .notify = op & 15u };

		left++;
		n_left--;
		switch (op % 8) {
		case 0:
		case 1:
			fake_mail(&f, &mail);
			break;
		case 2:
			fake_begin(&f, fake_content);
			send_decoded(&f, f.smtpd.far, &ipc_type_msg_commit);
			break;
		case 3:
			send_decoded(&f, f.smtpd.far, &ipc_type_msg_recipients);
			break;
		case 4:
			send_decoded(&f, f.ctl.far, &ipc_type_queue_ask);
			break;
		case 5:
			send_decoded(&f, f.agents[0].far, &ipc_type_conn_closed);
			break;
		case 6:
			fake_pass(&f, op * 100);
			break;
		case 7:
			if (f.agents[0].far) {
				channel_free(f.agents[0].far);
				f.agents[0].far = NULL;
			}
			break;
		}
		fake_turns(&f, 6);
		peers_join();
	}
	queue_empty();
	return 0;
}

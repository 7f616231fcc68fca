/* SPDX-License-Identifier: ISC */
/* out_callout.c - asks a server whether it takes an address: MAIL and RCPT, for up to four addresses one after the other. Host by host as a
 * delivery would go, each on a connection of its own, until one gives an answer. */
#include <string.h>

#include "common/base/clock.h"
#include "smtp-out/smtp_command.h"
#include "smtp-out/smtp_out.h"
#include "smtp-out/smtp_result.h"

enum { UNKNOWN, TAKEN, REFUSED }; /* as in messages.def */

enum test { TEST_RANDOM, TEST_RCPT, TEST_POSTMASTER, TEST_FULL_POSTMASTER, TESTS };

struct out_callout {
	struct ipc_callout_ask ask;
	struct ipc_callout_answer answer;
	struct loop_timer end;
	uint64_t until_ms;            /* no host is begun after it */
	enum test test;
	struct smtp_rcpt rcpt;
};

void out_callout_clear(struct out_delivery *d)
{
	loop_timer_stop(&d->callout->end);
	mem_free(d->callout);
	d->callout = NULL;
}

const char *out_callout_during(struct out_delivery *d)
{
	const struct ipc_callout_ask *ask = d->callout ? &d->callout->ask : NULL;

	return ask ? arena_printf(&d->arena, " (during %c-verify for [%.*s])", ask->of_sender ? 'S' : 'R', STR_FMT(ask->client_ip)) : "";
}

/* ---- the answer ---- */

static void callout_report(struct out_delivery *d, enum status status)
{
	struct ipc_callout_answer *out = &d->callout->answer;

	out->status = status;
	channel_answer(d->channel, d->request, &ipc_type_callout_answer, out, NULL, 0);
	out_delivery_free(d);
}

static void callout_refuse(struct out_delivery *d, const struct err *err)
{
	d->callout->answer.stage = CALLOUT_CONNECT;
	d->callout->answer.text = str_printf(&d->arena, "%s", err->text);
	callout_report(d, err->status == ST_FAIL ? ST_FAIL : ST_DEFER);
}

static void host_fill(struct out_delivery *d, uint32_t host)
{
	struct ipc_callout_answer *out = &d->callout->answer;
	const struct ipc_host *h = host < d->plan->plan.n_hosts ? &d->plan->plan.hosts[host] : NULL;

	out->host = h ? h->name : d->plan->options.socket;
	out->ip = h ? h->ip : STR_NULL;
	out->port = !h ? 0 : h->port ? h->port : d->plan->options.port;
}

/* ---- tests ---- */

static struct str test_address(const struct out_callout *c)
{
	switch (c->test) {
	case TEST_RANDOM: return c->ask.random;
	case TEST_POSTMASTER: return c->ask.postmaster;
	case TEST_FULL_POSTMASTER: return STR_LIT("postmaster");
	case TEST_RCPT: case TESTS: break;
	}
	return c->ask.addr;
}

static struct str test_sender(const struct out_callout *c)
{
	return c->test < TEST_POSTMASTER ? c->ask.sender : c->ask.postmaster_sender;
}

static enum callout_stage stage_of(const struct out_callout *c)
{
	static const enum callout_stage stages[TESTS] = { CALLOUT_RANDOM, CALLOUT_RCPT, CALLOUT_POSTMASTER, CALLOUT_POSTMASTER };
	const char *said = c->rcpt.stage;

	/* Before its first test the connection had not been greeted. */
	if (!said || c->test >= TEST_POSTMASTER || !strcmp(said, "RCPT TO") || !strcmp(said, "RSET"))
		return stages[c->test];
	if (!strcmp(said, "MAIL FROM"))
		return CALLOUT_MAIL;
	return !strcmp(said, "initial connection") ? CALLOUT_CONNECT : CALLOUT_HELO;
}

static void test_prepare(struct out_delivery *d)
{
	struct out_callout *c = d->callout;

	c->rcpt = (struct smtp_rcpt){ .addr = test_address(c) };
	d->txn = (struct smtp_txn){ .arena = &d->arena, .sender = test_sender(c), .utf8 = c->ask.utf8,
		.requiretls = c->ask.requiretls, .requiretls_must = c->ask.requiretls,
		.downconvert = d->plan->options.utf8_downconvert == OUT_DOWNCONVERT_MESSAGE ? 0 : d->plan->options.utf8_downconvert, .probe = true, .rcpts = &c->rcpt, .n_rcpts = 1 };
}

/* What was sent, and what came back. reply: the server's; NULL when there was none. */
static void words_keep(struct out_delivery *d, const struct smtp_reply *reply)
{
	struct out_callout *c = d->callout;
	struct ipc_callout_answer *out = &c->answer;
	const char *said = c->rcpt.stage;

	out->stage = stage_of(c);
	out->code = c->rcpt.code;
	out->own = c->rcpt.refused && !c->rcpt.code ? c->rcpt.status : STR_NULL;
	out->text = str_sub(c->rcpt.text, 0, 4096);
	out->reply = c->rcpt.code && reply ? str_sub(smtp_reply_words(&d->txn, reply), 0, 4096) : STR_NULL;
	if (!said || !strcmp(said, "RCPT TO")) /* a recipient that was taken has no trouble to tell */
		out->sent = str_printf(&d->arena, "RCPT TO:<%.*s>", STR_FMT(c->rcpt.ascii.p ? c->rcpt.ascii : c->rcpt.addr));
	else if (!strcmp(said, "MAIL FROM"))
		out->sent = str_printf(&d->arena, "MAIL FROM:<%.*s>", STR_FMT(d->txn.sender_ascii.p ? d->txn.sender_ascii : d->txn.sender));
	else if (!strcmp(said, "EHLO") || !strcmp(said, "HELO"))
		out->sent = str_printf(&d->arena, "%s %.*s", d->plan->options.lmtp ? "LHLO" : said, STR_FMT(out_plan_host(d->plan, d->next_host - 1)->profile.helo));
	else
		out->sent = str_of(said);
}

static enum status test_status(const struct out_callout *c)
{
	const struct smtp_rcpt *r = &c->rcpt;

	if (!r->result)
		return r->accepted ? ST_OK : ST_DEFER;
	return r->result == DELIVERY_FAILED || r->refused ? ST_FAIL : ST_DEFER;
}

/* ---- hosts ---- */

static void callout_start(struct out_delivery *d)
{
	d->callout->test = d->callout->ask.random.len ? TEST_RANDOM : TEST_RCPT;
	d->callout->answer.random = d->callout->answer.recipient = d->callout->answer.postmaster = UNKNOWN;
	test_prepare(d);
}

static void callout_try(struct out_delivery *d)
{
	struct out_callout *c = d->callout;
	uint32_t host;

	while ((!d->tried || clock_ms() < c->until_ms) && out_delivery_host_next(d, &host)) {
		struct smtp_verdict v;

		d->tried++;
		d->next_host = host == UINT32_MAX ? host : host + 1;
		d->in_clear = false;
		callout_start(d);
		host_fill(d, host);
		if (out_conn_open(d, host, &v))
			return;
		smtp_verdict_give_all(&d->txn, &v);
		words_keep(d, NULL);
		if (!v.host_error && !v.refused)
			break;
	}
	if (!d->tried)
		c->answer.text = STR_LIT("there is no host to ask");
	callout_report(d, c->rcpt.refused ? ST_FAIL : ST_DEFER);
}

/* The next question to the same server. False: there is none, *status is the answer. */
static bool test_next(struct out_callout *c, enum status *status)
{
	bool taken = *status == ST_OK;

	switch (c->test) {
	case TEST_RANDOM:
		c->answer.random = taken ? TAKEN : REFUSED;
		c->test = TEST_RCPT;
		return !taken;
	case TEST_RCPT:
		c->answer.recipient = taken ? TAKEN : REFUSED;
		c->test = TEST_POSTMASTER;
		return taken && c->ask.postmaster.len;
	case TEST_POSTMASTER:
		c->answer.postmaster = taken ? TAKEN : REFUSED;
		c->test = TEST_FULL_POSTMASTER;
		return !taken && c->ask.fullpostmaster;
	case TEST_FULL_POSTMASTER:
		c->answer.postmaster = taken ? TAKEN : REFUSED;
		break;
	case TESTS:
		break;
	}
	return false;
}

void out_callout_answered(struct out_delivery *d, struct out_conn *conn)
{
	struct out_callout *c = d->callout;
	enum status status = test_status(c);
	enum callout_stage stage;

	words_keep(d, &conn->client.reply);
	stage = (enum callout_stage)c->answer.stage;
	if (status == ST_DEFER) {
		callout_try(d);
		return;
	}
	/* Refused before the address was named: nothing is known of the address. */
	if (stage >= CALLOUT_RANDOM && test_next(c, &status)) {
		test_prepare(d);
		if (out_conn_again(conn, d))
			return;
		c->rcpt.stage = "RSET";
		c->rcpt.text = STR_LIT("Remote host closed connection between two transactions");
		words_keep(d, NULL);
		callout_try(d);
		return;
	}
	callout_report(d, status);
}

static void callout_late(void *arg)
{
	struct out_delivery *d = arg;
	struct out_conn *conn = d->conn;

	d->callout->answer.stage = stage_of(d->callout);
	d->callout->answer.text = STR_LIT("no answer within the callout's time (maxwait)");
	if (conn) {
		conn->delivery = NULL;
		conn->client.txn = NULL;
		d->conn = NULL;
		out_conn_close(conn);
	}
	callout_report(d, ST_DEFER);
}

/* ---- start ---- */

static bool addresses_are_safe(const struct ipc_callout_ask *m)
{
	return m->addr.len && smtp_address_is_safe(m->addr) && smtp_address_is_safe(m->sender) && smtp_address_is_safe(m->random) &&
		smtp_address_is_safe(m->postmaster) && smtp_address_is_safe(m->postmaster_sender);
}

void smtp_out_callout(struct smtp_out *so, struct ipc_in *in)
{
	struct out_delivery *d = out_delivery_new(so);
	struct out_callout *c = mem_new(sizeof *c);
	struct err err = ERR_INIT;

	so->count.callouts++;
	d->callout = c;
	d->channel = in->channel;
	d->request = in->request;
	ipc_copy(&ipc_type_callout_ask, in->msg, &c->ask, &d->arena);
	c->until_ms = clock_ms() + c->ask.maxwait_ms;
	if (so->n_deliveries > OUT_DELIVERIES_MAX)
		err_set(&err, ST_DEFER, "too many deliveries at once");
	else if (!addresses_are_safe(&c->ask))
		err_set(&err, ST_FAIL, "the address can't be sent in an SMTP command");
	else
		out_plan_get(&so->plans, c->ask.plan, so->helo, &d->plan, &err);
	if (err.status) {
		callout_refuse(d, &err);
		return;
	}
	loop_timer_start(&c->end, so->loop, c->ask.end_ms ? c->ask.end_ms : 1, callout_late, d);
	callout_try(d);
}

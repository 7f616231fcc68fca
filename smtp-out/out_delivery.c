/* SPDX-License-Identifier: ISC */
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/proxies.h"
#include "common/mail/delivery.h"
#include "smtp-out/out_connect.h"
#include "smtp-out/smtp_auth.h"
#include "smtp-out/smtp_out.h"
#include "smtp-out/smtp_result.h"

enum { SPARE_MAX = 64, CONFIRMATION_MAX = 1000 };

static void delivery_try(struct out_delivery *d);

/* ---- life ---- */

struct out_delivery *out_delivery_new(struct smtp_out *so)
{
	struct list *n = list_first(&so->spare);
	struct out_delivery *d;

	if (n) {
		d = list_entry(n, struct out_delivery, node);
		list_remove(n);
		so->n_spare--;
	} else {
		d = mem_new(sizeof *d);
	}
	d->so = so;
	d->content.fd = -1;
	list_push(&so->deliveries, &d->node);
	so->n_deliveries++;
	return d;
}

void out_delivery_free(struct out_delivery *d)
{
	struct smtp_out *so = d->so;
	struct arena a = d->arena;

	if (d->content.fd >= 0)
		close(d->content.fd);
	if (d->callout)
		out_callout_clear(d);
	out_plan_drop(d->plan);
	list_remove(&d->node);
	so->n_deliveries--;
	arena_reset(&a);
	memset(d, 0, sizeof *d);
	if (so->n_spare < SPARE_MAX) {
		d->arena = a;
		list_push(&so->spare, &d->node);
		so->n_spare++;
	} else {
		arena_clear(&a);
		mem_free(d);
	}
	smtp_out_check_drained(so);
}

void out_delivery_abandon(struct out_delivery *d)
{
	struct out_conn *conn = d->conn;

	if (conn) {
		conn->delivery = NULL;
		conn->client.txn = NULL;
		out_conn_close(conn);
	}
	out_delivery_free(d);
}

/* ---- the answer ---- */

/* As the log has it: quotes around, quotes and backslashes within escaped. */
static struct str confirmation_quote(struct arena *a, struct str s)
{
	struct buf b = BUF_INIT;
	struct str out;

	buf_addc(&b, '"');
	for (uint32_t i = 0; i < s.len && i < CONFIRMATION_MAX; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_addc(&b, '\\');
		if (s.p[i] == '\n')
			buf_adds(&b, "\\n");
		else
			buf_addc(&b, s.p[i]);
	}
	buf_addc(&b, '"');
	out = str_taint(str_dup(a, buf_str(&b)));
	buf_clear(&b);
	return out;
}

/* There are hosts whose retry time has not come: what the others say is not the last word. */
static bool hosts_wait(const struct out_delivery *d)
{
	return d->plan && d->plan->plan.hosts_left_out;
}

static void outcomes_fill(struct out_delivery *d, struct ipc_delivered *out)
{
	out->outcomes = arena_alloc(&d->arena, d->txn.n_rcpts * sizeof *out->outcomes);
	out->n_outcomes = d->txn.n_rcpts;
	for (uint32_t i = 0; i < d->txn.n_rcpts; i++) {
		struct smtp_rcpt *r = &d->txn.rcpts[i];
		bool failed = r->result == DELIVERY_FAILED || (r->result == DELIVERY_DEFERRED && r->refused && !r->waits && !hosts_wait(d));
		uint64_t *count = r->result == DELIVERY_OK ? &d->so->count.delivered : failed ? &d->so->count.failed : &d->so->count.deferred;

		++*count;
		out->outcomes[i] = (struct ipc_outcome){
			.recipient = d->msg.recipients[i].index, .result = failed ? DELIVERY_FAILED : r->result, .code = r->code, .status = r->status,
			.text = r->text, .stage = str_of(r->stage), .error = r->error, .host_error = r->host_error, .host = d->given_by[i],
			.error_no = r->error_no,
		};
	}
}

static void conn_facts_fill(struct out_delivery *d, struct out_conn *conn, struct ipc_delivered *out)
{
	const struct ipc_host *h = out_conn_host(conn);

	if (h) {
		out->host = h->name;
		out->ip = h->ip;
		out->port = h->port ? h->port : conn->to->options->port;
	} else {
		out->store = conn->to->options->socket;
	}
	out->local_ip = str_of(conn->local_ip);
	out->local_port = conn->local_port;
	out->sequence = conn->messages;
	out->dsn_passed = d->txn.dsn_passed;
}

static bool conn_takes_more(const struct out_conn *conn)
{
	return !conn->client.limit_mails || conn->messages < conn->client.limit_mails;
}

/* Whether the connection waits for more from qmgr. */
static bool conn_is_worth_keeping(const struct out_conn *conn)
{
	const struct out_options *o = conn->to->options;

	return conn->client.phase == SMTP_READY && conn->state == OUT_TALKING && !conn->so->draining && !(conn->tls && conn->to->tls.one_message) &&
		o->idle_ms && (!o->max_messages || conn->messages < o->max_messages) && conn_takes_more(conn);
}

static uint32_t tls_log_fill(const struct tls_facts *f, struct ipc_pair *log, uint32_t n)
{
	log[n++] = (struct ipc_pair){ .name = STR_LIT("X"), .value = f->cipher };
	if (f->resumption & TLS_RES_RESUMED)
		log[n++] = (struct ipc_pair){ .name = STR_LIT("X*") };
	log[n++] = (struct ipc_pair){ .name = STR_LIT("CV"), .value = f->dane ? STR_LIT("dane") : f->verified ? STR_LIT("yes") : STR_LIT("no") };
	if (f->peerdn.len)
		log[n++] = (struct ipc_pair){ .name = STR_LIT("DN"), .value = f->peerdn, .tainted = true };
	if (f->sni.len)
		log[n++] = (struct ipc_pair){ .name = STR_LIT("SNI"), .value = f->sni };
	return n;
}

static void delivery_report(struct out_delivery *d, struct out_conn *conn)
{
	struct ipc_delivered out = { .delivery = d->msg.delivery, .hosts = d->hosts, .n_hosts = d->n_hosts, .bytes = d->bytes };
	struct ipc_pair log[16];

	outcomes_fill(d, &out);
	out.log = log;
	if (d->txn.pipelined || d->txn.early)
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("L"), .value = d->txn.early ? STR_LIT("*") : STR_NULL };
	if (d->txn.prdr)
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("PRDR") };
	if (d->txn.chunked)
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("K") };
	if (d->txn.confirmation.len)
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("C"), .value = confirmation_quote(&d->arena, d->txn.confirmation), .tainted = true };
	if (conn && conn->client.tls)
		out.n_log = tls_log_fill(&conn->facts, log, out.n_log);
	if (conn && conn->client.authenticated) {
		const struct ipc_client_auth *a = smtp_auth_current(&conn->client);

		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("A"), .value = str_printf(&d->arena, "%.*s%s%.*s", STR_FMT(a->name), a->id.len ? ":" : "",
			STR_FMT(a->id)) };
	}
	if (conn && conn->fastopen >= OUT_FASTOPEN_USED && conn->messages <= 1)
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("TFO"), .value = conn->fastopen == OUT_FASTOPEN_DATA ? STR_LIT("*") : STR_NULL };
	if (conn && conn->to->host && conn->to->host->secure)
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("DS") };
	if (conn && conn->proxy) {
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("PRX"), .value = conn->proxy->host };
		log[out.n_log++] = (struct ipc_pair){ .name = STR_LIT("PRX.port"), .value = str_printf(&d->arena, "%u", conn->proxy->port) };
	}
	if (conn) {
		conn_facts_fill(d, conn, &out);
		if (conn_is_worth_keeping(conn)) {
			out_conn_wait(conn);
			out.connection = conn->number;
		}
	}
	if (d->request)
		channel_answer(d->channel, d->request, &ipc_type_delivered, &out, NULL, 0);
	else
		channel_send(d->channel, &ipc_type_delivered, &out, NULL, 0);
	out_delivery_free(d);
}

static void delivery_refuse(struct out_delivery *d, const struct err *err)
{
	struct smtp_verdict v = {
		.result = DELIVERY_DEFERRED, .error = RETRY_OTHER, .stage = "start", .status = STR_LIT("4.3.0"),
		.text = str_printf(&d->arena, "%s", err->text),
	};

	smtp_verdict_give_all(&d->txn, &v);
	delivery_report(d, NULL);
}

/* Lines longer than the transport allows: the message is returned. */
static void delivery_too_long(struct out_delivery *d)
{
	struct smtp_verdict v = {
		.result = DELIVERY_FAILED, .error = RETRY_OTHER, .stage = "start", .status = STR_LIT("5.6.0"),
		.text = STR_LIT("message has lines too long for transport"),
	};

	smtp_verdict_give_all(&d->txn, &v);
	delivery_report(d, NULL);
}

/* ---- hosts ---- */

static void host_note(struct out_delivery *d, uint32_t host)
{
	const struct ipc_host *h = host < d->plan->plan.n_hosts ? &d->plan->plan.hosts[host] : NULL;
	struct ipc_host_state *s;

	if (d->txn.host_error)
		d->so->count.host_errors++;
	if (h && d->n_hosts < OUT_HOST_STATES_MAX) {
		s = &d->hosts[d->n_hosts++];
		s->name = h->name;
		s->ip = h->ip;
		s->port = h->port ? h->port : d->plan->options.port;
		s->retry_rules = h->retry_rules;
		s->mx = h->mx;
		s->error = d->txn.host_error;
		s->text = d->txn.host_text;
	}
	for (uint32_t i = 0; i < d->txn.n_rcpts; i++)
		if (!d->txn.rcpts[i].skip || !d->given_by[i])
			d->given_by[i] = (uint8_t)d->n_hosts;
}

/* It says nothing of the host that we may not use it: no retry time comes of that. */
static void host_forget(struct out_delivery *d)
{
	for (uint32_t i = 0; i < d->txn.n_rcpts; i++)
		if (!d->txn.rcpts[i].skip)
			d->given_by[i] = 0;
}

static bool is_fallback(const struct ipc_plan *p, uint32_t i)
{
	return i < p->n_hosts && p->hosts[i].group >= HOST_GROUP_FALLBACK;
}

/* Past hosts_max_try: of MX hosts the first of a further preference, else a fallback host; these are counted by themselves. */
static uint32_t host_skip(const struct ipc_plan *p, uint32_t i)
{
	const struct ipc_host *last = &p->hosts[i - 1];

	if (last->group >= HOST_GROUP_FALLBACK)
		return p->n_hosts;
	while (i < p->n_hosts && !is_fallback(p, i) && (!last->mx || p->hosts[i].group == last->group))
		i++;
	return i;
}

/* The next host to try (specification, section 30.5). */
bool out_delivery_host_next(struct out_delivery *d, uint32_t *out)
{
	const struct ipc_plan *p = &d->plan->plan;
	const struct out_options *o = &d->plan->options;
	uint32_t i = d->next_host;

	if (o->socket.len) {
		*out = UINT32_MAX;
		return !d->tried;
	}
	if (o->hosts_max_try_hardlimit && d->tried >= o->hosts_max_try_hardlimit)
		return false;
	if (i && o->hosts_max_try && d->tried - d->tried_before >= o->hosts_max_try)
		i = host_skip(p, i);
	if (i && is_fallback(p, i) && !is_fallback(p, d->next_host - 1))
		d->tried_before = d->tried;
	*out = i;
	return i < p->n_hosts;
}

static bool somebody_waits(const struct out_delivery *d)
{
	for (uint32_t i = 0; i < d->txn.n_rcpts; i++) {
		if (d->txn.rcpts[i].result == DELIVERY_DEFERRED)
			return true;
	}
	return false;
}

static void delivery_try(struct out_delivery *d)
{
	uint32_t host;

	while (out_delivery_host_next(d, &host)) {
		struct smtp_verdict v;

		d->tried++;
		d->next_host = host == UINT32_MAX ? host : host + 1;
		d->reused = d->in_clear = false;
		smtp_txn_again(&d->txn);
		out_content_rewind(&d->content);
		if (out_conn_open(d, host, &v))
			return;
		smtp_verdict_give_all(&d->txn, &v);
		if (!v.host_error && !v.refused)
			break;
		if (v.host_error)
			host_note(d, host);
		else
			host_forget(d);
	}
	if (!d->tried) {
		struct err err;

		err_set(&err, ST_DEFER, "there is no host to deliver to");
		delivery_refuse(d, &err);
		return;
	}
	delivery_report(d, NULL);
}

/* The same host once more, without TLS. */
static bool delivery_again_clear(struct out_delivery *d, const struct out_conn *conn)
{
	struct smtp_verdict v;

	d->in_clear = true;
	smtp_txn_again(&d->txn);
	if (out_conn_open(d, conn->host, &v))
		return true;
	smtp_verdict_give_all(&d->txn, &v);
	return false;
}

/* The recipients beyond the host's limits, on the same connection. Each round is of at least one of them. */
static bool rest_begin(struct out_delivery *d, struct out_conn *conn)
{
	if (conn->client.phase != SMTP_READY || conn->state != OUT_TALKING || conn->so->draining || !conn_takes_more(conn))
		return false;
	for (uint32_t i = 0; i < d->txn.n_rcpts; i++)
		if (!d->txn.rcpts[i].skip)
			d->given_by[i] = 0; /* this host's now: host_note() comes when all are through */
	smtp_txn_rest(&d->txn);
	out_content_rewind(&d->content);
	return out_conn_again(conn, d);
}

void out_delivery_answered(struct out_delivery *d, struct out_conn *conn)
{
	uint32_t host;

	if (conn->client.again_clear && delivery_again_clear(d, conn))
		return;
	if (d->callout) {
		out_callout_answered(d, conn);
		return;
	}
	if (d->txn.n_delivered || d->txn.mail_answered)
		conn->messages++;
	if (d->reused && !d->txn.mail_answered) { /* it had died while it waited: as if it had never been there */
		d->tried = d->tried_before = d->next_host = 0;
		delivery_try(d);
		return;
	}
	if (d->txn.n_later && rest_begin(d, conn))
		return;
	host_note(d, conn->host);
	if (!d->failed_here && somebody_waits(d) && out_delivery_host_next(d, &host)) {
		delivery_try(d);
		return;
	}
	delivery_report(d, conn);
}

/* ---- start ---- */

static enum status plan_find(struct out_delivery *d, struct out_conn *conn, struct err *err)
{
	if (d->msg.plan.len)
		return out_plan_get(&d->so->plans, d->msg.plan, d->so->helo, &d->plan, err);
	if (!conn)
		return err_set(err, ST_DEFER, "the connection has gone, and with it its plan");
	d->plan = out_plan_hold(conn->plan);
	return ST_OK;
}

static void txn_init(struct out_delivery *d)
{
	const struct ipc_deliver *m = &d->msg;

	d->txn = (struct smtp_txn){
		.arena = &d->arena, .sender = m->sender, .ret = m->ret, .envid = m->envid, .eightbit = m->content_8bit || (m->flags & MSG_EIGHTBIT),
		.requiretls = m->flags & MSG_REQUIRETLS, .utf8 = m->flags & MSG_SMTPUTF8, .n_rcpts = m->n_recipients,
	};
	d->txn.rcpts = arena_alloc(&d->arena, m->n_recipients * sizeof *d->txn.rcpts);
	d->given_by = arena_alloc(&d->arena, m->n_recipients);
	for (uint32_t i = 0; i < m->n_recipients; i++) {
		d->txn.rcpts[i].addr = m->recipients[i].addr;
		d->txn.rcpts[i].orcpt = m->recipients[i].orcpt;
		d->txn.rcpts[i].notify = (uint8_t)m->recipients[i].notify;
	}
}

/* The transport's word, or the message's own (control = utf8_downconvert). */
static int8_t downconvert(const struct out_options *o, uint64_t flags)
{
	if (o->utf8_downconvert != OUT_DOWNCONVERT_MESSAGE)
		return o->utf8_downconvert;
	return flags & MSG_UTF8_CONVERT ? 1 : flags & MSG_UTF8_CONVERT_IF ? -1 : 0;
}

/* Only for what was marked as needing SMTPUTF8: all else goes as it is. */
static enum status header_look(struct out_delivery *d, struct err *err)
{
	enum status st;

	d->txn.downconvert = downconvert(&d->plan->options, d->msg.flags);
	if (!d->txn.utf8 || d->plan->options.body_only)
		return ST_OK;
	st = out_content_header_8bit(&d->content, d->msg.header_size, d->so->scratch, err);
	d->txn.utf8_header = st == ST_OK;
	return st == ST_FAIL ? ST_OK : st;
}

static enum status content_prepare(struct out_delivery *d, int fd, struct err *err)
{
	const struct out_options *o = &d->plan->options;
	const struct ipc_deliver *m = &d->msg;
	struct str fields[DELIVERY_FIELDS_MAX];
	struct delivery_fields want = {
		.return_path = o->return_path_add, .envelope_to = o->envelope_to_add, .delivery_date = o->delivery_date_add, .sender = d->txn.sender,
		.recipients = m->recipients, .n_recipients = m->n_recipients, .now_s = clock_wall(),
	};
	struct out_content_spec spec = {
		.edit = {
			.edits = m->edits, .n_edits = m->n_edits, .rewrites = d->plan->plan.rewrites, .n_rewrites = d->plan->plan.n_rewrites,
			.headers_add = d->plan->plan.headers_add,
			.headers_remove = d->plan->plan.headers_remove, .prepend = fields, .fd = fd, .offset = m->offset, .header_size = m->header_size, .flags = m->flags,
		},
		.content = m->content, .headers_only = o->headers_only, .body_only = o->body_only,
	};
	enum status st;

	spec.edit.n_prepend = delivery_fields_make(&want, &d->arena, fields);
	st = out_content_init(&d->content, &spec, &d->arena, err);
	d->content.fd = fd;
	d->txn.size = d->content.size;
	return st ? st : header_look(d, err);
}

void smtp_out_deliver(struct smtp_out *so, struct ipc_in *in)
{
	struct out_delivery *d = out_delivery_new(so);
	struct out_conn *conn;
	struct err err = ERR_INIT;
	int fd = in->fds[0];

	so->count.deliveries++;
	in->fds[0] = -1;
	d->channel = in->channel;
	d->request = in->request;
	d->content.fd = fd;
	ipc_copy(&ipc_type_deliver, in->msg, &d->msg, &d->arena);
	txn_init(d);
	conn = out_conn_find(so, d->msg.connection);
	if (conn && conn->channel != d->channel)
		conn = NULL; /* another qmgr's; else, even when it is leaving or gone, its plan is known */
	if (so->n_deliveries > OUT_DELIVERIES_MAX)
		err_set(&err, ST_DEFER, "too many deliveries at once");
	else if (!d->msg.n_recipients)
		err_set(&err, ST_ERROR, "no recipients");
	else if (fd < 0)
		err_set(&err, ST_ERROR, "no descriptor came with the message");
	else if (!plan_find(d, conn, &err)) {
		if (d->plan->plan.has_return_path)
			d->txn.sender = d->plan->plan.return_path;
		d->txn.requiretls_must = d->txn.requiretls && d->txn.sender.len; /* a report goes on as well protected as it can be */
		content_prepare(d, fd, &err);
	}
	if (err.status) {
		delivery_refuse(d, &err);
		return;
	}
	if (d->plan->options.line_max && d->msg.longest_line > d->plan->options.line_max) {
		delivery_too_long(d);
		return;
	}
	d->hosts = arena_alloc(&d->arena, (d->plan->plan.n_hosts < OUT_HOST_STATES_MAX ? d->plan->plan.n_hosts : OUT_HOST_STATES_MAX) * sizeof *d->hosts);
	if (conn && conn->state == OUT_WAITING && conn->plan == d->plan && conn->marks == out_tls_marks(d)) {
		d->reused = true;
		d->tried = 1;
		d->next_host = conn->host == UINT32_MAX ? conn->host : conn->host + 1;
		out_conn_begin(conn, d);
		return;
	}
	delivery_try(d);
}

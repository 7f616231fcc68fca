/* SPDX-License-Identifier: ISC */
/* The fact lines of the main log: arrival, delivery, deferral, failure, completion, in Exim's forms (specification, chapter 53),
 * so that exigrep and eximstats read them. Each fact has one function here; the logger escapes what strangers wrote. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>

#include "common/mail/received.h"

/* ---- small parts ---- */

static void line_begin(struct qmgr *q, const struct message *m)
{
	buf_reset(&q->line);
	buf_adds(&q->line, m->file->id);
	buf_addc(&q->line, ' ');
}

static void line_end(struct qmgr *q) { log_text(q->log, LOG_MAIN, buf_str(&q->line)); }

static void line_field(struct buf *b, const char *name, struct str value)
{
	if (!value.len)
		return;
	buf_adds(b, name);
	buf_add_str(b, value);
}

/* "3m45s", "1d2h"; shorter than a minute with milliseconds where they are wanted: "0.304s". */
static void line_time(struct buf *b, const char *name, int64_t us, bool millisec)
{
	static const struct { unsigned seconds; char letter; } units[] = { { 604800, 'w' }, { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	int64_t s;

	if (us < 0)
		us = 0;
	buf_adds(b, name);
	if (millisec && us < 60000000) {
		buf_printf(b, "%lld.%03llds", (long long)(us / 1000000), (long long)(us / 1000 % 1000));
		return;
	}
	s = us / 1000000;
	if (!s)
		buf_adds(b, "0s");
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (s >= units[i].seconds) {
			buf_printf(b, "%lld%c", (long long)(s / units[i].seconds), units[i].letter);
			s %= units[i].seconds;
		}
}

static struct str pair_get(const struct ipc_pair *v, uint32_t n, const char *name, bool *there_out)
{
	for (uint32_t i = 0; i < n; i++)
		if (str_is(v[i].name, name)) {
			*there_out = true;
			return v[i].value;
		}
	*there_out = false;
	return STR_NULL;
}

/* TLS and other facts by name, in the order of the log; a bit of log_selector each (0: always). */
static const struct fact_row {
	const char *name, *pair;
	uint64_t part;
	bool quoted;
} tls_rows[] = {
	{ " X=", "X", LOG_SEL(tls_cipher), false },
	{ " ", "on_connect", LOG_SEL(tls_on_connect), false },
	{ " CV=", "CV", LOG_SEL(tls_certificate_verified), false },
	{ " DN=", "DN", LOG_SEL(tls_peerdn), true },
	{ " SNI=", "SNI", LOG_SEL(tls_sni), true },
	{ NULL, NULL, 0, false },
}, delivery_rows[] = {
	{ " TFO", "TFO", 0, false },
	{ " X=", "X", LOG_SEL(tls_cipher), false },
	{ " CV=", "CV", LOG_SEL(tls_certificate_verified), false },
	{ " DN=", "DN", LOG_SEL(tls_peerdn), true },
	{ " SNI=", "SNI", LOG_SEL(tls_sni), true },
	{ " A=", "A", 0, false },
	{ " L", "L", LOG_SEL(pipelining), false },
	{ " PRDR", "PRDR", 0, false },
	{ " K", "K", 0, false },
	{ NULL, NULL, 0, false },
};

static void line_facts(struct qmgr *q, const struct fact_row *row, const struct ipc_pair *v, uint32_t n)
{
	for (; row->name; row++) {
		bool there;
		struct str value = pair_get(v, n, row->pair, &there);

		if (!there || (row->part && !(q->set->log & row->part)))
			continue;
		buf_adds(&q->line, row->name);
		if (row->quoted && value.len && value.p[0] != '"')
			buf_printf(&q->line, "\"%.*s\"", STR_FMT(value));
		else
			buf_add_str(&q->line, value);
		if (!strcmp(row->pair, "X") && q->set->log & LOG_SEL(tls_resumption)) {
			pair_get(v, n, "X*", &there);
			buf_adds(&q->line, there ? "*" : "");
		}
	}
}

void log_message(struct qmgr *q, const struct message *m, const char *fmt, ...)
{
	va_list ap;

	line_begin(q, m);
	va_start(ap, fmt);
	buf_vprintf(&q->line, fmt, ap);
	va_end(ap);
	line_end(q);
}

/* ---- arrival ---- */

static void arrival_recipients(struct buf *b, const struct ipc_spool_envelope *env)
{
	buf_adds(b, " for");
	for (uint32_t i = 0; i < env->n_recipients && b->len < 7000; i++) {
		buf_addc(b, ' ');
		buf_add_str(b, env->recipients[i].addr);
	}
}

static void arrival_auth(struct qmgr *q, const struct ipc_facts *f)
{
	line_field(&q->line, " A=", f->auth_method);
	if (f->auth_method.len)
		line_field(&q->line, ":", f->auth_id);
	if (f->auth_method.len && q->set->log & LOG_SEL(smtp_mailauth))
		line_field(&q->line, ":", f->auth_sender);
}

void log_arrival(struct qmgr *q, const struct message *m, const struct ipc_spool_envelope *env)
{
	static const struct ipc_facts none;
	const struct ipc_facts *f = env->facts ? env->facts : &none;
	uint64_t parts = q->set->log;
	struct buf *b = &q->line;

	line_begin(q, m);
	buf_adds(b, "<= ");
	if (f->sender.len)
		buf_add_str(b, f->sender);
	else
		buf_adds(b, "<>");
	line_field(b, " R=", env->about);
	if (f->client_ip.len) {
		struct arena a = ARENA_INIT;

		line_field(b, " H=", received_fullhost(&a, f, (parts & LOG_SEL(incoming_port)) != 0));
		arena_clear(&a);
		if (parts & LOG_SEL(incoming_interface) && f->server_ip.len)
			buf_printf(b, " I=[%.*s]:%u", STR_FMT(f->server_ip), (unsigned)f->server_port);
		line_field(b, " ", f->fastopen);
	}
	line_field(b, " U=", f->ident);
	line_field(b, " P=", f->protocol);
	line_facts(q, tls_rows, f->tls, f->n_tls);
	if (parts & LOG_SEL(pipelining))
		line_field(b, " ", f->pipelining);
	arrival_auth(q, f);
	for (uint32_t i = 0; parts & LOG_SEL(proxy) && i < f->n_proxy; i++)
		if (str_is(f->proxy[i].name, "local_address"))
			line_field(b, " PRX=", f->proxy[i].value);
	if (env->flags & MSG_PRDR)
		buf_adds(b, " PRDR");
	if (env->flags & MSG_CHUNKED)
		buf_adds(b, " K");
	if (env->flags & MSG_TLS_OPTIONAL)
		buf_adds(b, " TLSREQ=no");
	buf_printf(b, " S=%llu", (unsigned long long)env->content);
	if (parts & LOG_SEL(8bitmime))
		buf_printf(b, " M8S=%d", env->flags & MSG_EIGHTBIT ? 8 : 0);
	if (parts & LOG_SEL(receive_time) && f->received_us)
		line_time(b, " RT=", env->received_us - f->received_us, (parts & LOG_SEL(millisec)) != 0);
	if (parts & LOG_SEL(msg_id))
		line_field(b, " id=", env->header_message_id);
	if (parts & LOG_SEL(subject) && env->subject.len) {
		buf_adds(b, " T=\"");
		for (uint32_t i = 0; i < env->subject.len; i++) {
			if (env->subject.p[i] == '"' || env->subject.p[i] == '\\')
				buf_addc(b, '\\');
			buf_addc(b, env->subject.p[i]);
		}
		buf_addc(b, '"');
	}
	if (parts & LOG_SEL(received_sender))
		buf_printf(b, " from <%.*s>", STR_FMT(f->sender));
	if (parts & LOG_SEL(received_recipients))
		arrival_recipients(b, env);
	line_end(q);
}

/* ---- deliveries ---- */

/* "final (parent) <original>"; a local delivery shows the local part alone. */
static void line_address(struct qmgr *q, const struct log_delivery *l, bool delivered)
{
	const struct ipc_recipient *r = l->leaf->rcpt->r;
	struct str addr = l->leaf->l->addr.len ? l->leaf->l->addr : r->addr, parents = l->leaf->l->parents, parent = STR_NULL, part;
	struct str top = r->parent.len ? r->parent : r->addr;
	struct buf *b = &q->line;
	size_t before = b->len;

	if (delivered && l->plan && addr.len && addr.p[0] != '|' && addr.p[0] != '/' && str_rfind(addr, '@') > 0) {
		bool local = l->plan->class == AGENT_LOCAL || l->plan->class == AGENT_PIPE || l->plan->lmtp;
		struct arena scratch = ARENA_INIT;
		struct str bare = l->plan->affixes ? addr : leaf_address_bare(&scratch, addr, l->leaf->l);

		buf_add_str(b, local && !l->leaf->l->log_whole ? str_sub(bare, 0, (size_t)str_rfind(bare, '@')) : bare);
		arena_clear(&scratch);
	} else {
		buf_add_str(b, addr);
	}
	while (str_split(&parents, '\n', &part)) {
		if (q->set->log & LOG_SEL(all_parents) && part.len && !str_eqi(part, top))
			buf_printf(b, " (%.*s)", STR_FMT(part));
		if (part.len)
			parent = part;
	}
	if (!(q->set->log & LOG_SEL(all_parents)) && parent.len && !str_eqi(parent, top))
		buf_printf(b, " (%.*s)", STR_FMT(parent));
	if (!str_eqi(str_make(b->p + before, b->len - before), top))
		buf_printf(b, " <%.*s>", STR_FMT(top));
}

static void line_senders(struct qmgr *q, const struct log_delivery *l)
{
	const struct ipc_facts *f = l->a->env->facts;

	if (q->set->log & LOG_SEL(sender_on_delivery))
		buf_printf(&q->line, " F=<%.*s>", STR_FMT(f ? f->sender : STR_NULL));
	if (q->set->log & LOG_SEL(return_path_on_delivery) && l->d)
		buf_printf(&q->line, " P=<%.*s>", STR_FMT(l->sender));
	line_field(&q->line, " R=", l->plan ? l->plan->router : l->leaf->l->router);
	line_field(&q->line, " T=", l->plan ? l->plan->transport : STR_NULL);
}

/* The SOCKS5 proxy through which it went. */
static void line_proxy(struct qmgr *q, const struct ipc_delivered *d)
{
	bool there;
	struct str ip = pair_get(d->log, d->n_log, "PRX", &there);

	if (!there || !(q->set->log & LOG_SEL(proxy)))
		return;
	buf_printf(&q->line, " PRX=[%.*s]", STR_FMT(ip));
	if (q->set->log & LOG_SEL(outgoing_port))
		line_field(&q->line, ":", pair_get(d->log, d->n_log, "PRX.port", &there));
}

/* The host's address came with DNSSEC. */
static void line_secure(struct qmgr *q, const struct ipc_delivered *d)
{
	bool there;

	pair_get(d->log, d->n_log, "DS", &there);
	if (there)
		buf_adds(&q->line, " DS");
}

static void line_host(struct qmgr *q, const struct log_delivery *l)
{
	const struct ipc_delivered *d = l->d;
	struct buf *b = &q->line;

	if (!d || !l->host.len)
		return;
	buf_printf(b, " H=%.*s", STR_FMT(l->host));
	if (q->set->log & LOG_SEL(dnssec))
		line_secure(q, d);
	if (l->ip.len)
		buf_printf(b, " [%.*s]", STR_FMT(l->ip));
	if (q->set->log & LOG_SEL(outgoing_port) && l->port)
		buf_printf(b, ":%u", l->port);
	if (d->sequence > 1)
		buf_addc(b, '*');
	if (q->set->log & LOG_SEL(incoming_interface) && q->set->log & LOG_SEL(outgoing_interface) && d->local_ip.len) {
		buf_printf(b, " I=[%.*s]", STR_FMT(d->local_ip));
		if (q->set->log & LOG_SEL(outgoing_port))
			buf_printf(b, ":%u", (unsigned)d->local_port);
	}
	line_proxy(q, d);
	line_facts(q, delivery_rows, d->log, d->n_log);
}

enum { CONFIRMATION_MAX = 1000 };

static void line_confirmation(struct qmgr *q, const struct log_delivery *l)
{
	bool there;
	struct str text;

	if (!(q->set->log & LOG_SEL(smtp_confirmation)) || !l->d)
		return;
	/* Each recipient's own words: LMTP has a reply for each. */
	if (l->outcome && l->outcome->text.len && l->plan && l->plan->class == AGENT_SMTP) {
		buf_adds(&q->line, " C=\"");
		for (uint32_t i = 0; i < l->outcome->text.len && i < CONFIRMATION_MAX; i++) {
			if (l->outcome->text.p[i] == '"' || l->outcome->text.p[i] == '\\')
				buf_addc(&q->line, '\\');
			if (l->outcome->text.p[i] == '\n')
				buf_adds(&q->line, "\\\\n"); /* as Exim has it */
			else
				buf_addc(&q->line, l->outcome->text.p[i]);
		}
		buf_addc(&q->line, '"');
		return;
	}
	text = pair_get(l->d->log, l->d->n_log, "C", &there);
	if (there)
		line_field(&q->line, " C=", text);
}

static void line_times(struct qmgr *q, const struct log_delivery *l, bool queue)
{
	bool millisec = (q->set->log & LOG_SEL(millisec)) != 0;

	if (queue && q->set->log & LOG_SEL(queue_time))
		line_time(&q->line, " QT=", qmgr_now_us(q) - l->a->env->received_us, millisec);
	if (q->set->log & LOG_SEL(deliver_time) && l->d)
		line_time(&q->line, " DT=", l->took_us, millisec);
}

static void delivered_head(struct qmgr *q, const struct log_delivery *l)
{
	line_begin(q, l->a->m);
	buf_adds(&q->line, l->first ? "=> " : "-> ");
	line_address(q, l, true);
	line_senders(q, l);
	if (q->set->log & LOG_SEL(delivery_size))
		buf_printf(&q->line, " S=%llu", (unsigned long long)(l->d && l->d->bytes ? l->d->bytes : l->a->env->content));
	line_host(q, l);
	line_confirmation(q, l);
}

void log_delivered(struct qmgr *q, const struct log_delivery *l)
{
	if (l->plan && l->plan->no_log)
		return;
	delivered_head(q, l);
	line_times(q, l, true);
	line_end(q);
}

void log_delivered_keep(struct qmgr *q, const struct log_delivery *l, struct arena *a, struct str *head_out, struct str *tail_out)
{
	delivered_head(q, l);
	*head_out = str_dup(a, buf_str(&q->line));
	buf_reset(&q->line);
	line_times(q, l, true);
	*tail_out = str_dup(a, buf_str(&q->line));
}

void log_delivered_kept(struct qmgr *q, struct str head, struct str shadow, struct str error, struct str tail)
{
	buf_reset(&q->line);
	buf_add_str(&q->line, head);
	line_field(&q->line, " ST=", shadow);
	if (shadow.len && error.len)
		buf_printf(&q->line, " (%.*s)", STR_FMT(error));
	buf_add_str(&q->line, tail);
	line_end(q);
}

void log_discarded(struct qmgr *q, const struct log_delivery *l)
{
	const struct ipc_recipient *r = l->leaf->rcpt->r;

	line_begin(q, l->a->m);
	buf_printf(&q->line, "=> :blackhole: <%.*s>", STR_FMT(r->parent.len ? r->parent : r->addr));
	line_senders(q, l);
	line_times(q, l, true);
	line_end(q);
}

void log_failed(struct qmgr *q, const struct log_delivery *l, struct str why)
{
	if (l->plan && l->plan->no_log)
		return;
	line_begin(q, l->a->m);
	buf_adds(&q->line, "** ");
	line_address(q, l, false);
	line_senders(q, l);
	line_host(q, l);
	line_times(q, l, false);
	line_field(&q->line, ": ", why);
	line_end(q);
}

/* Exim's number for a kind of trouble: errno where there is one, else its own negative ones. */
static const struct { enum retry_error error; int number; const char *text; } numbers[] = {
	{ RETRY_REFUSED, 111, "Connection refused" },
	{ RETRY_TIMEOUT_CONNECT, 110, "Connection timed out" },
	{ RETRY_TIMEOUT, 110, "Connection timed out" },
	{ RETRY_LOST_CONNECTION, -18, NULL },
	{ RETRY_QUOTA, -22, NULL },
	{ RETRY_TLS_REQUIRED, -38, NULL },
	{ RETRY_AUTH_FAILED, -42, NULL },
	{ RETRY_RCPT_4XX, -44, NULL },
	{ RETRY_MAIL_4XX, -45, NULL },
	{ RETRY_DATA_4XX, -46, NULL },
};
enum { NUMBER_HOST_NOT_DUE = -53, NUMBER_OTHER = -1, NUMBER_HELD = -23 };

void log_deferred(struct qmgr *q, const struct log_delivery *l, struct str why)
{
	int number = l->plan && !l->d && str_begins(why, "retry time") ? NUMBER_HOST_NOT_DUE : NUMBER_OTHER;
	const char *text = NULL;

	if (!l->plan && l->leaf->l->wait == WAIT_HELD)
		number = NUMBER_HELD;
	if (l->outcome && l->outcome->error_no)
		number = (int)l->outcome->error_no;
	for (size_t i = 0; l->outcome && i < sizeof numbers / sizeof *numbers; i++)
		if (numbers[i].error == (enum retry_error)l->outcome->error) {
			number = numbers[i].number;
			text = numbers[i].text;
		}
	if (l->plan && l->plan->no_log)
		return;
	line_begin(q, l->a->m);
	buf_adds(&q->line, "== ");
	line_address(q, l, false);
	line_senders(q, l);
	buf_printf(&q->line, " defer (%d)", number);
	if (text)
		buf_printf(&q->line, ": %s", text);
	line_host(q, l);
	line_times(q, l, false);
	if (!text || !str_is(why, text))
		line_field(&q->line, ": ", why);
	line_end(q);
}

void log_completed(struct qmgr *q, const struct message *m)
{
	line_begin(q, m);
	buf_adds(&q->line, "Completed");
	if (q->set->log & LOG_SEL(queue_time_overall))
		line_time(&q->line, " QT=", qmgr_now_us(q) - (int64_t)m->received * 1000000, (q->set->log & LOG_SEL(millisec)) != 0);
	line_end(q);
}

struct str log_error_text(struct arena *a, const struct ipc_delivered *d, const struct ipc_outcome *o)
{
	char code[8];

	(void)d;
	if (o->result == DELIVERY_OK || !o->code)
		return o->text;
	/* The bare words of a server are put into a sentence; agents that have done so already are left alone. */
	snprintf(code, sizeof code, "%u", (unsigned)o->code);
	if (!str_begins(o->text, code))
		return o->text;
	return str_printf(a, "SMTP error from remote mail server after %.*s: %.*s", STR_FMT(o->stage.len ? o->stage : STR_LIT("a command")), STR_FMT(o->text));
}

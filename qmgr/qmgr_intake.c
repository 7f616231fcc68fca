/* SPDX-License-Identifier: ISC */
/* smtpd's side: files for messages that come in, their commit, and the gate that closes when there is no room for more. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	LEADING_RCPT_STEP = 512,
	/* What smtpd may say of a message; the rest is ours to say. */
	FLAGS_FROM_SMTPD = MSG_CHUNKED | MSG_PRDR | MSG_FREEZE | MSG_QUEUE | MSG_EIGHTBIT | MSG_SMTPUTF8 | MSG_LOCAL | MSG_SUBMISSION | MSG_NO_FIXUPS | MSG_FAKE_REJECT |
		MSG_FAKE_DEFER | MSG_NO_PIPELINING | MSG_NO_ENFORCE_SYNC | MSG_ENFORCE_SYNC | MSG_CASEFUL_LOCAL | MSG_NO_MULTILINE | MSG_REQUIRETLS |
		MSG_DISCARDED | MSG_NO_DELAY_FLUSH | MSG_CASELOWER_LOCAL | MSG_HEADER_OPEN | MSG_NO_TELL | MSG_FIRST_PASS |
		MSG_TLS_OPTIONAL,
};

static struct client *client_of(void *owner) { return ((struct daemon_link *)owner)->state; }

/* ---- files ---- */

static void intake_end(struct intake *in)
{
	list_remove(&in->node);
	in->client->n_open--;
	arena_clear(&in->arena);
	mem_free(in->rcpt);
	mem_free(in);
}

static void intake_forget(struct qmgr *q, struct message *m)
{
	struct spool_msg *file = m->file;

	intake_end(m->intake);
	m->intake = NULL;
	message_free(q, m);
	spool_abort(q->spool, file);
}

/* A message that this client is sending; NULL: none of its. */
static struct message *intake_find(struct client *c, struct str id)
{
	struct spool_msg *file = c ? spool_find(c->q->spool, id) : NULL;
	struct message *m = file ? file->owner : NULL;

	return m && m->state == M_INTAKE && m->intake->client == c ? m : NULL;
}

/* Small ones are kept in memory, which needs no second descriptor: smtpd seals it before anybody else reads it. */
static enum status file_make(struct client *c, uint64_t size, struct message **out, int fds[2], struct err *err)
{
	struct qmgr *q = c->q;
	struct spool_msg *file;
	char id[MSGID_SIZE];
	enum status status;
	struct intake *in;

	if (q->intake_is_closed || q->draining)
		return err_set(err, ST_DEFER, "%s", q->intake_text[0] ? q->intake_text : "shutting down, try again later");
	if (c->n_open >= INTAKE_OPEN_MAX)
		return err_set(err, ST_DEFER, "too many messages at a time, try again later");
	msgid_next(&q->ids, qmgr_now_us(q), id);
	status = size > SPOOL_SMALL_MAX ? spool_create_file(q->spool, id, &file, &fds[0], &fds[1], err) :
		spool_create(q->spool, id, &file, &fds[0], NULL, err);
	if (status) {
		/* The client need not know our paths. */
		log_line(q->log, LOG_MAIN | (status == ST_DEFER ? 0 : LOG_PANIC), "no spool file could be made: %s", err->text);
		return err_set(err, ST_DEFER, "no space for a message now, try again later");
	}
	in = mem_new(sizeof *in);
	in->client = c;
	list_push(&c->open, &in->node);
	c->n_open++;
	*out = message_new(q, file);
	(*out)->intake = in;
	in->m = *out;
	return ST_OK;
}

/* A message in memory has become large. */
static enum status file_grow(struct client *c, struct str id, struct message **out, int fds[2], struct err *err)
{
	*out = intake_find(c, id);
	return *out ? spool_grow(c->q->spool, (*out)->file, &fds[0], &fds[1], err) : err_set(err, ST_ERROR, "no such message");
}

static void on_msg_moved(void *owner, struct ipc_in *in)
{
	const struct ipc_msg_moved *msg = in->msg;
	struct client *c = client_of(owner);
	struct message *m = intake_find(c, msg->id);

	if (m)
		spool_grown(c->q->spool, m->file);
}

static void on_msg_begin(void *owner, struct ipc_in *in)
{
	const struct ipc_msg_begin *msg = in->msg;
	struct client *c = client_of(owner);
	struct ipc_msg_file answer = { .offset = SPOOL_CONTENT_OFFSET };
	struct message *m = NULL;
	struct err err = ERR_INIT;
	int fds[2] = { -1, -1 };

	if (!c)
		return;
	answer.status = msg->id.len ? file_grow(c, msg->id, &m, fds, &err) : file_make(c, msg->size, &m, fds, &err);
	if (answer.status)
		answer.text = str_of(err.text);
	else
		answer.id = str_of(m->file->id);
	answer.limit = fds[1] < 0 ? SPOOL_MEMORY_MAX : 0;
	channel_answer(in->channel, in->request, &ipc_type_msg_file, &answer, fds, answer.status ? 0 : fds[1] < 0 ? 1 : 2);
}

static void on_msg_abort(void *owner, struct ipc_in *in)
{
	const struct ipc_msg_abort *msg = in->msg;
	struct client *c = client_of(owner);
	struct message *m = intake_find(c, msg->id);

	if (m)
		intake_forget(c->q, m);
}

/* ---- recipients ---- */

static bool recipients_keep(struct intake *in, const struct ipc_recipient *v, uint32_t n)
{
	if (n > RECIPIENTS_MAX - in->n_rcpt)
		return false;
	if (in->n_rcpt + n > in->cap_rcpt) {
		in->cap_rcpt = in->n_rcpt + n + LEADING_RCPT_STEP;
		in->rcpt = mem_resize(in->rcpt, in->cap_rcpt * sizeof *in->rcpt);
	}
	for (uint32_t i = 0; i < n && in->arena.used <= SPOOL_ENVELOPE_MAX; i++)
		ipc_copy(&ipc_type_recipient, &v[i], &in->rcpt[in->n_rcpt++], &in->arena);
	return in->arena.used <= SPOOL_ENVELOPE_MAX; /* more could never be committed */
}

static void on_msg_recipients(void *owner, struct ipc_in *in)
{
	const struct ipc_msg_recipients *msg = in->msg;
	struct client *c = client_of(owner);
	struct message *m = intake_find(c, msg->id);

	if (m && !recipients_keep(m->intake, msg->recipients, msg->n_recipients))
		intake_forget(c->q, m); /* its commit will be refused */
}

/* ---- commit ---- */

static bool text_is_clean(struct str s) { return !str_has_ctl(s); }

/* What the log, hand-over files and header fields have on one line. */
static bool facts_are_clean(const struct ipc_facts *f)
{
	const struct str lines[] = { f->sender, f->client_ip, f->server_ip, f->client_name, f->helo, f->protocol, f->auth_method, f->auth_id, f->auth_sender,
		f->ident, f->connection_id };

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		if (!text_is_clean(lines[i]))
			return false;
	for (uint32_t i = 0; i < f->n_tls; i++) /* but for the client's certificate, which has lines of its own */
		if (!text_is_clean(f->tls[i].name) || (!text_is_clean(f->tls[i].value) && !str_is(f->tls[i].name, "peercert")))
			return false;
	return true;
}

static enum status commit_check(const struct message *m, const struct ipc_msg_commit *msg, struct err *err)
{
	const struct intake *in = m->intake;
	uint32_t n = in->n_rcpt + msg->n_recipients;

	if (!msg->facts || !facts_are_clean(msg->facts))
		return err_set(err, ST_ERROR, "bad sender, or facts of the session");
	if (msg->recipients_sent != in->n_rcpt || msg->n_recipients > RECIPIENTS_MAX - in->n_rcpt)
		return err_set(err, ST_ERROR, "recipients are missing");
	if (!n && !(msg->flags & MSG_DISCARDED))
		return err_set(err, ST_ERROR, "no recipients");
	if (msg->header_size > msg->content || !text_is_clean(msg->envid) || !text_is_clean(msg->ret))
		return err_set(err, ST_ERROR, "bad envelope");
	for (uint32_t i = 0; i < n; i++) {
		const struct ipc_recipient *r = i < in->n_rcpt ? &in->rcpt[i] : &msg->recipients[i - in->n_rcpt];

		if (!r->addr.len || !text_is_clean(r->addr) || !text_is_clean(r->orcpt) || !text_is_clean(r->errors_to) || !text_is_clean(r->parent))
			return err_set(err, ST_ERROR, "bad recipient");
	}
	return ST_OK;
}

/* All that is kept, copied into the active part. */
static void commit_envelope(struct qmgr *q, struct message *m, struct active *a, const struct ipc_msg_commit *msg)
{
	const struct intake *in = m->intake;
	struct ipc_facts facts = *msg->facts;
	struct ipc_spool_envelope env = { .id = str_of(m->file->id), .received_us = qmgr_now_us(q), .facts = &facts, .recipients = msg->recipients,
		.n_recipients = msg->n_recipients, .edits = msg->edits, .n_edits = msg->n_edits, .content = msg->content, .header_size = msg->header_size,
		.flags = msg->flags & (FLAGS_FROM_SMTPD | MSG_UTF8_CONVERT | MSG_UTF8_CONVERT_IF), .content_8bit = msg->content_8bit, .longest_line = msg->longest_line, .ret = msg->ret,
		.envid = msg->envid, .header_message_id = msg->header_message_id, .subject = msg->subject };
	struct ipc_recipient *all = NULL;

	facts.n_acl_c = 0;
	facts.n_edits = 0;
	facts.house = NULL;
	facts.recipients.n = 0;
	if (in->n_rcpt) {
		env.n_recipients = in->n_rcpt + msg->n_recipients;
		env.recipients = all = mem_new(env.n_recipients * sizeof *all);
		memcpy(all, in->rcpt, in->n_rcpt * sizeof *all);
		if (msg->n_recipients)
			memcpy(all + in->n_rcpt, msg->recipients, msg->n_recipients * sizeof *all);
	}
	a->env = arena_alloc(&a->arena, sizeof *a->env);
	ipc_copy(&ipc_type_spool_envelope, &env, a->env, &a->arena);
	for (uint32_t i = 0; i < a->env->n_recipients; i++)
		a->env->recipients[i].index = i;
	mem_free(all);
}

static struct client *client_find(struct qmgr *q, uint64_t serial)
{
	list_each(&q->clients, n) {
		struct client *c = list_entry(n, struct client, node);

		if (c->serial == serial)
			return c;
	}
	return NULL;
}

static void commit_answer(struct qmgr *q, uint64_t client, uint64_t request, const char *id, enum status status, const char *text)
{
	struct client *c = client_find(q, client);
	struct ipc_msg_committed answer = { .status = status, .id = str_of(id), .text = str_of(text),
		.no_space = status && (spool_health(q->spool, NULL) == SPOOL_FULL || q->intake_code == 452) };

	if (c)
		channel_answer(c->link->channel, request, &ipc_type_msg_committed, &answer, NULL, 0);
}

static void commit_on_durable(void *arg, struct spool_msg *file, enum status status, const struct err *err)
{
	struct qmgr *q = arg;
	struct message *m = file->owner;
	struct active *a = m->active;

	if (status) {
		log_line(q->log, LOG_MAIN | (status == ST_ERROR ? LOG_PANIC : 0), "%s could not be made durable: %s", file->id, err->text);
		commit_answer(q, a->client, a->request, file->id, ST_DEFER, "the message could not be stored, try again later");
		message_free(q, m);
		spool_abort(q->spool, file);
		return;
	}
	q->counts.received++;
	log_arrival(q, m, a->env);
	commit_answer(q, a->client, a->request, file->id, ST_OK, NULL);
	message_arrived(q, m);
	qmgr_pump(q);
}

static void on_msg_commit(void *owner, struct ipc_in *in)
{
	const struct ipc_msg_commit *msg = in->msg;
	struct client *c = client_of(owner);
	struct message *m = intake_find(c, msg->id);
	struct err err = ERR_INIT;
	struct active *a;

	if (!c)
		return;
	if (!m) {
		struct ipc_msg_committed answer = { .status = ST_ERROR, .id = msg->id, .text = STR_LIT("no such message is being received") };

		channel_answer(in->channel, in->request, &ipc_type_msg_committed, &answer, NULL, 0);
		return;
	}
	if (commit_check(m, msg, &err)) {
		log_line(c->q->log, LOG_MAIN, "%s refused from %s: %s", m->file->id, c->link->name, err.text);
		commit_answer(c->q, c->serial, in->request, m->file->id, ST_ERROR, err.text);
		intake_forget(c->q, m);
		return;
	}
	a = active_new(c->q, m);
	commit_envelope(c->q, m, a, msg);
	a->client = c->serial;
	a->request = in->request;
	intake_end(m->intake);
	m->active = a;
	c->q->n_state[m->state]--;
	m->state = M_COMMITTING;
	c->q->n_state[m->state]++;
	if (spool_commit(c->q->spool, m->file, a->env, commit_on_durable, c->q, &err))
		commit_on_durable(c->q, m->file, err.status ? err.status : ST_DEFER, &err);
}

static void on_etrn(void *owner, struct ipc_in *in)
{
	struct daemon_link *link = owner;
	struct client *c = link->state;
	const struct ipc_etrn *m = in->msg;
	bool begun;

	if (!c)
		return;
	begun = queue_etrn(c->q, m->part, m->domain, m->by);
	if (c->q->set->log & LOG_SEL(etrn))
		log_line(c->q->log, LOG_MAIN, "ETRN for \"%s%.*s\" by %.*s%s", m->domain ? "@" : "", STR_FMT(m->part), STR_FMT(m->by), begun ? "" : ": another is not over; left out");
}

const struct ipc_handler intake_handlers[] = {
	{ IPC_msg_begin, on_msg_begin },
	{ IPC_msg_recipients, on_msg_recipients },
	{ IPC_msg_commit, on_msg_commit },
	{ IPC_msg_abort, on_msg_abort },
	{ IPC_msg_moved, on_msg_moved },
	{ IPC_etrn, on_etrn },
	{ 0, NULL },
};

/* ---- clients ---- */

static void client_tell(struct client *c)
{
	struct qmgr *q = c->q;
	struct ipc_intake msg = { .closed = q->intake_is_closed, .code = q->intake_code, .text = str_of(q->intake_text), .space_kb = q->intake_space_kb,
		.house = &q->house };

	channel_send(c->link->channel, &ipc_type_intake, &msg, NULL, 0);
}

void intake_opened(struct qmgr *q, struct daemon_link *link)
{
	struct client *c = mem_new(sizeof *c);

	c->q = q;
	c->link = link;
	c->serial = ++q->client_serial;
	list_init(&c->open);
	list_push(&q->clients, &c->node);
	link->state = c;
	client_tell(c);
}

void intake_closed(struct daemon_link *link)
{
	struct client *c = link->state;
	struct list *n;

	if (!c)
		return;
	while ((n = list_first(&c->open))) {
		struct intake *in = list_entry(n, struct intake, node);
		struct message *m = in->m;

		intake_forget(c->q, m);
	}
	list_remove(&c->node);
	link->state = NULL;
	mem_free(c);
}

/* ---- the gate ---- */

void intake_tell(struct qmgr *q)
{
	list_each(&q->clients, n)
		client_tell(list_entry(n, struct client, node));
}

#define SHORTAGE "space shortage, please try later"

/* Clients are told the text; the administrator also where there is no room: why, or "". */
static void gate_set(struct qmgr *q, bool closed, unsigned code, const char *text, const char *why, uint64_t space_kb)
{
	bool changed = closed != q->intake_is_closed || strcmp(text, q->intake_text) != 0;
	/* Small changes of the free space are not worth a message. */
	uint64_t before = q->intake_space_kb, moved = before > space_kb ? before - space_kb : space_kb - before;

	if (closed != q->intake_is_closed)
		log_line(q->log, LOG_MAIN | (closed ? LOG_PANIC : 0), "%s%s%s", closed ? "no new messages are accepted: " : "messages are accepted again", text, why);
	q->intake_is_closed = closed;
	q->intake_code = code;
	snprintf(q->intake_text, sizeof q->intake_text, "%s", text);
	if (!changed && moved <= before / 16)
		return;
	q->intake_space_kb = space_kb;
	intake_tell(q);
}

void intake_check(struct qmgr *q)
{
	uint64_t kb = 0, inodes = 0, least = q->set->space_kb > 0 ? (uint64_t)q->set->space_kb : 0, slack;
	struct err err = ERR_INIT;
	const char *text = NULL;
	enum spool_health health = spool_health(q->spool, &text);

	if (health == SPOOL_BROKEN) {
		/* Nothing is taken as if it had not happened: first all that is in memory must be on the disk. */
		if (spool_check(q->spool, &err)) {
			gate_set(q, true, 451, "the queue can not be written, try again later", "", 0);
			return;
		}
		log_line(q->log, LOG_MAIN | LOG_PANIC, "the spool was checked and works again");
	} else if (health == SPOOL_FULL) {
		gate_set(q, true, 452, SHORTAGE, " (the spool's disk is full)", 0);
		return;
	}
	if (spool_space(q->spool, &kb, &inodes, &err)) {
		gate_set(q, true, 451, "the queue can not be looked at, try again later", "", 0);
		return;
	}
	slack = q->intake_is_closed ? least / 8 : 0; /* a little more than the limit must be there to open again */
	if ((least && kb < least + slack) || (q->set->inodes > 0 && inodes < (uint64_t)q->set->inodes))
		gate_set(q, true, 452, SHORTAGE, " (check_spool_space, check_spool_inodes)", 0);
	else if (house_log_short(q))
		gate_set(q, true, 452, SHORTAGE, " (where the logs are: check_log_space, check_log_inodes)", 0);
	else
		gate_set(q, false, 0, "", "", least ? kb - least : 0);
}

void intake_health(struct qmgr *q, enum spool_health health, const char *text)
{
	if (health == SPOOL_GOOD) {
		intake_check(q);
		return;
	}
	log_line(q->log, LOG_MAIN | LOG_PANIC, "spool: %s", text);
	if (health == SPOOL_FULL)
		gate_set(q, true, 452, SHORTAGE, " (the spool's disk is full)", 0);
	else
		gate_set(q, true, 451, "the queue can not be written, try again later", "", 0);
}

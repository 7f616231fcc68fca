/* SPDX-License-Identifier: ISC */
/* DATA: the content goes into the file as it comes; then the ACL, the commit, the final reply. */
#include <stdio.h>
#include <string.h>

#include "common/mail/date.h"
#include "common/mail/header.h"
#include "common/mail/received.h"
#include "smtpd/session_priv.h"

/* ---- the command ---- */

void data_scan_begin(struct session *s)
{
	struct txn *t = s->txn;
	struct settings *set = &s->server->settings;
	struct data_limits limits = { .size = session_client(s)->size_limit, .header = set->header_max, .header_line = set->header_line_max,
		.fromline = session_client(s)->flags & CLIENT_FROMLINE };

	data_scan_init(&t->scan, &limits);
	t->scanning = true;
	t->data_ms = s->server->now_ms;
}

static void data_begin(struct session *s)
{
	struct txn *t = s->txn;

	data_scan_begin(s);
	if (t->data_text.len)
		reply(s, t->data_code, NULL, t->data_text);
	else
		reply(s, 354, NULL, STR_LIT("Enter message, ending with \".\" on a line by itself"));
	session_enter(s, SESSION_DATA);
}

/* qmgr's refusal of a file. */
void data_file_refused(struct session *s)
{
	struct txn *t = s->txn;

	if (t->file_status == ST_DEFER && t->file_text.len)
		reply(s, 452, "4.3.1", t->file_text);
	else
		reply(s, 451, "4.3.0", STR_LIT("Temporary local problem - please try later"));
	session_logf(s, LOG_MAIN, "%.*s F=<%.*s> temporarily rejected DATA: no file for the message: %.*s", STR_FMT(log_host(s)), STR_FMT(t->sender),
		STR_FMT(t->file_text));
	session_transaction_end(s);
}

void data_file_ready(struct session *s)
{
	struct txn *t = s->txn;

	session_enter(s, SESSION_COMMAND);
	if (t->chunked)
		bdat_file_ready(s);
	else if (t->file == FILE_OPEN)
		data_begin(s);
	else
		data_file_refused(s);
}

static void predata_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct txn *t = s->txn;

	if (!policy_accepts(s, answer, "DATA", STR_NULL))
		return;
	if (answer && answer->text.len) {
		t->data_text = str_dup(&t->arena, answer->text);
		t->data_code = (uint16_t)policy_code(answer, 354);
	}
	if (!t->n_rcpts || t->discarded) { /* all go nowhere: read, not kept */
		data_begin(s);
		return;
	}
	txn_file_want(s); /* again, if its qmgr has gone */
	if (t->file == FILE_ASKED)
		session_enter(s, SESSION_FILE);
	else
		data_file_ready(s);
}

void verb_data(struct session *s, struct str args)
{
	struct txn *t = s->txn;

	if (args.len) {
		reply_syntax(s, 501, "5.5.4", "DATA has no argument");
	} else if (!t || !t->accepted) {
		reply_protocol(s, 503, "5.5.1", "MAIL and RCPT must come before DATA", s->mail_done && session_pipelining(s));
	} else if (t->chunked) {
		reply_protocol(s, 503, "5.5.1", "DATA may not follow BDAT", false);
	} else if (!t->rcpt_accepted) {
		if (session_pipelining(s))
			reply_protocol(s, 554, "5.5.1", "No valid recipients", true);
		else
			reply_protocol(s, 503, "5.5.1", "valid RCPT command must precede DATA", false);
	} else if (t->rcpt_over && s->server->settings.recipients_reject) {
		reply(s, 554, "5.5.3", STR_LIT("Too many recipients"));
	} else {
		policy_ask(s, ACL_PREDATA, predata_proceed);
	}
}

/* ---- content into the file ---- */

static bool data_kept(const struct txn *t)
{
	return t->file == FILE_OPEN && !t->discarded && t->write_status == ST_OK && !t->scan.faults;
}

static void content_write(struct session *s, struct iovec *iov, unsigned n)
{
	struct txn *t = s->txn;
	struct err err = ERR_INIT;
	size_t size = 0;

	for (unsigned i = 0; i < n; i++)
		size += iov[i].iov_len;
	if (!size || !data_kept(t))
		return;
	t->write_status = s->server->ops->write(s, iov, n, t->written, &err);
	if (t->write_status)
		snprintf(t->write_text, sizeof t->write_text, "%.100s", err.text);
	t->written += size;
}

/* Small pieces are put together; what ends a message, or is large, is written from where it lies. */
void data_content(struct session *s, struct iovec *piece, unsigned n)
{
	struct iovec iov[DATA_IOV_MAX + 1];
	struct txn *t = s->txn;
	size_t size = 0;

	for (unsigned i = 0; i < n; i++)
		size += piece[i].iov_len;
	if (!data_kept(t)) {
		buf_clear(&t->pending);
		return;
	}
	if (!t->scan.done && t->pending.len + size <= SESSION_PENDING_MAX) {
		if (!t->pending.cap && size < SESSION_PENDING_MAX / 4)
			buf_room(&t->pending, 4 * size);
		for (unsigned i = 0; i < n; i++)
			buf_add(&t->pending, piece[i].iov_base, piece[i].iov_len);
		return;
	}
	iov[0] = (struct iovec){ t->pending.p, t->pending.len };
	memcpy(iov + 1, piece, n * sizeof *piece);
	content_write(s, t->pending.len ? iov : iov + 1, n + (t->pending.len > 0));
	buf_reset(&t->pending);
}

/* ---- the end of the data ---- */

/* Fewer octets than smtp_min_data_rate asks for, or all of smtp_data_timeout gone. */
bool data_too_slow(const struct session *s, uint64_t began_ms, uint64_t octets)
{
	const struct settings *set = &s->server->settings;
	uint64_t elapsed = s->server->now_ms - began_ms;

	if (set->data_timeout_ms && elapsed > set->data_timeout_ms)
		return true;
	return set->min_rate && elapsed > SESSION_RATE_GRACE_MS && octets / (elapsed / 1000) < set->min_rate;
}

void data_slow(struct session *s)
{
	s->server->stats.timeouts++;
	session_logf(s, LOG_MAIN, "SMTP data too slow (message abandoned) on connection from %.*s F=<%.*s> %.*s", STR_FMT(log_peer(s)),
		STR_FMT(s->txn ? s->txn->sender : STR_NULL), STR_FMT(log_duration(s)));
	session_drop_for(s, "data-timeout", 421, "4.4.2", "SMTP data timeout - closing connection");
}

size_t data_input(struct session *s, const char *p, size_t n)
{
	struct iovec iov[DATA_IOV_MAX];
	struct txn *t = s->txn;
	uint64_t limit = session_client(s)->size_limit;
	unsigned pieces;
	size_t at = 0, taken;

	do {
		taken = data_scan_take(&t->scan, p + at, n - at, iov, &pieces);
		data_content(s, iov, pieces);
		at += taken;
	} while (taken && at < n && !t->scan.done);
	s->server->stats.bytes += at;
	if (t->scan.done) {
		data_end(s);
		return at;
	}
	if (s->deadline_ms)
		s->deadline_ms = s->server->now_ms + session_client(s)->receive_timeout_ms;
	if (data_too_slow(s, t->data_ms, t->scan.kept)) {
		data_slow(s);
	} else if (limit && t->scan.kept > limit + SESSION_OVERRUN_MAX) {
		log_rejection(s, "after DATA", STR_NULL, false, STR_LIT("message too big, still coming"), true);
		session_drop(s, 552, "5.3.4", "Message size exceeds maximum permitted");
	}
	return at;
}

/* Why a message is refused for what it is; the first that holds. */
static const struct { unsigned fault; unsigned code; const char *esc, *text; } faults[] = {
	{ DATA_FALSE_END, 550, "5.6.11", "a line feed or carriage return stands alone around a final dot" },
	{ DATA_SIZE, 552, "5.3.4", "Message size exceeds maximum permitted" },
	{ DATA_HEADER_SIZE, 552, "5.3.4", "Message header size exceeds maximum permitted" },
	{ DATA_HEADER_LINE, 552, "5.3.4", "A message header line is too long" },
	{ DATA_BARE_LF, 550, "5.6.11", "Message contains a line feed without carriage return" },
	{ DATA_BARE_CR, 550, "5.6.11", "Message contains a carriage return without line feed" },
	{ DATA_NUL, 550, "5.6.0", "Message contains a NUL character" },
};

static bool content_faulty(struct session *s)
{
	struct txn *t = s->txn;

	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		if (!(t->scan.faults & faults[i].fault))
			continue;
		if (!(faults[i].fault & DATA_SIZE) || (s->server->settings.log & LOG_SEL(size_reject)))
			log_rejection(s, "after DATA", STR_NULL, false, str_of(faults[i].text), true);
		reply(s, faults[i].code, faults[i].esc, str_of(faults[i].text));
		if (faults[i].fault & DATA_FALSE_END)
			session_close(s);
		return true;
	}
	if (t->scan.received > s->server->settings.received_max) {
		log_rejection(s, "after DATA", STR_NULL, false, STR_LIT("Too many \"Received\" headers - suspected mail loop"), true);
		reply(s, 550, "5.4.6", STR_LIT("Too many \"Received\" headers - suspected mail loop"));
		return true;
	}
	return false;
}

/* The file could not take it. */
static bool content_unwritten(struct session *s)
{
	struct txn *t = s->txn;

	if (t->file == FILE_LOST && !t->discarded && t->n_rcpts)
		snprintf(t->write_text, sizeof t->write_text, "the queue manager went away");
	else if (!t->write_status)
		return false;
	log_rejection(s, "after DATA", STR_NULL, true, str_of(t->write_text), false);
	if (t->write_status == ST_DEFER)
		reply(s, 452, "4.3.1", STR_LIT("space shortage, please try later"));
	else
		reply(s, 451, "4.3.0", STR_LIT("Temporary local problem - please try later"));
	return true;
}

/* ---- the commit ---- */

static void recipients_ahead(struct session *s, struct ipc_msg_commit *commit)
{
	struct txn *t = s->txn;
	uint32_t from = 0;

	while (t->n_rcpts - from > 0) {
		size_t size = 0;
		uint32_t n = 0;

		while (from + n < t->n_rcpts && n < SESSION_BATCH_RCPT && size < SESSION_BATCH_BYTES) {
			const struct ipc_recipient *r = &t->rcpts[from + n++];

			size += r->addr.len + r->orcpt.len + r->parent.len + 32;
			for (uint32_t i = 0; i < r->n_facts; i++)
				size += r->facts[i].name.len + r->facts[i].value.len + 16;
		}
		if (from + n == t->n_rcpts && size < SESSION_BATCH_BYTES / 2) {
			commit->recipients = t->rcpts + from;
			commit->n_recipients = n;
			break;
		}
		s->server->ops->recipients(s, &(struct ipc_msg_recipients){ .id = str_of(t->id), .recipients = t->rcpts + from, .n_recipients = n });
		from += n;
	}
	commit->recipients_sent = from;
}

/* Our Received: first, then the removal of fields that only a final delivery may write, then what the ACLs made. */
static void edits_collect(struct session *s, struct ipc_facts *f, struct ipc_msg_commit *commit)
{
	struct settings *set = &s->server->settings;
	struct arena *a = &s->server->scratch;
	struct txn *t = s->txn;
	const struct { bool wanted; unsigned field; const char *name; } removals[] = {
		{ set->remove_return_path, DATA_FIELD_RETURN_PATH, "Return-path" },
		{ set->remove_envelope_to, DATA_FIELD_ENVELOPE_TO, "Envelope-to" },
		{ set->remove_delivery_date, DATA_FIELD_DELIVERY_DATE, "Delivery-date" },
	};
	struct received r = { .facts = f, .hostname = set->hostname, .software = set->software, .message_id = str_of(t->id),
		.recipient = t->n_rcpts == 1 ? t->rcpts[0].addr : STR_NULL, .wall_s = s->server->wall_us / 1000000, .utc = set->utc,
		.utf8 = t->scan.header_8bit,
		.log_port = set->log & LOG_SEL(incoming_port) };

	commit->edits = arena_alloc(a, (t->n_edits + 4) * sizeof *commit->edits);
	if (t->texts.received.len)
		commit->edits[commit->n_edits++] = (struct ipc_edit){ EDIT_ADD_TOP, received_given(a, t->texts.received, r.wall_s, set->utc) };
	else if (!set->received_none)
		commit->edits[commit->n_edits++] = (struct ipc_edit){ EDIT_ADD_TOP, received_format(a, &r) };
	for (size_t i = 0; i < sizeof removals / sizeof *removals; i++)
		if (removals[i].wanted && (t->scan.fields & 1u << removals[i].field))
			commit->edits[commit->n_edits++] = (struct ipc_edit){ EDIT_REMOVE, str_of(removals[i].name) };
	if (t->n_edits)
		memcpy(commit->edits + commit->n_edits, t->edits, t->n_edits * sizeof *t->edits);
	commit->n_edits += t->n_edits;
}

static void commit_send(struct session *s)
{
	struct txn *t = s->txn;
	struct ipc_facts f;
	struct ipc_msg_commit commit = { .id = str_of(t->id), .facts = &f, .content = t->scan.kept, .ret = t->ret, .envid = t->envid,
		.content_8bit = t->scan.eightbit, .longest_line = t->scan.longest, .header_size = t->scan.header_size };

	s->stage = 0;
	session_facts(s, &f);
	f.acl_c = NULL;
	f.n_acl_c = 0;
	f.edits = NULL;
	f.n_edits = 0;
	f.n_tls -= f.n_tls && str_is(f.tls[f.n_tls - 1].name, "ourcert");
	f.command = f.recipient = STR_NULL;
	f.house = NULL;
	f.command_history = STR_NULL;
	f.pipelining = early_log(s);
	f.fastopen = early_fastopen_log(s);
	f.connections = 0;
	f.flags |= requiretls_waived(s);
	edits_collect(s, &f, &commit);
	commit.flags = f.flags | (t->scan.header_closed ? 0 : MSG_HEADER_OPEN);
	commit.header_message_id = header_msgid(buf_str(&t->scan.message_id));
	commit.subject = str_trim(buf_str(&t->scan.subject));
	recipients_ahead(s, &commit);
	session_enter(s, SESSION_COMMIT);
	s->server->ops->commit(s, &commit);
}

/* Nobody is to get it: it is as if it had been delivered. */
static void message_discard(struct session *s, const char *stage, struct str why)
{
	struct txn *t = s->txn;

	session_logf(s, LOG_MAIN, "%s%s%.*s F=<%.*s> message discarded%s%s%s%.*s", t->id, t->id[0] ? " " : "", STR_FMT(log_host(s)), STR_FMT(t->sender),
		stage ? " by the ACL for " : "", stage ? stage : "", why.len ? ": " : "", STR_FMT(why));
	if (t->id[0])
		replyf(s, 250, "2.0.0", "OK id=%s", t->id);
	else
		reply(s, 250, "2.0.0", STR_LIT("OK"));
	s->messages++;
	session_transaction_end(s);
}

/* What the configuration has of its own for this message. */
static void texts_take(struct txn *t, const struct ipc_acl_answer *answer)
{
	const struct { const char *name; struct str *slot; } rows[] = {
		{ "received_header", &t->texts.received }, { "message_id_domain", &t->texts.id_domain }, { "message_id_text", &t->texts.id_text },
		{ "full_name", &t->texts.full_name }, { "from", &t->texts.from },
	};

	for (uint32_t i = 0; i < answer->n_settings; i++)
		for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
			if (str_is(answer->settings[i].name, rows[k].name))
				*rows[k].slot = str_dup(&t->arena, answer->settings[i].value);
}

static void content_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct txn *t = s->txn;
	struct err err = ERR_INIT;

	bool mime = answer && (answer->stage == ACL_MIME || answer->stage == ACL_NOTSMTP_MIME);

	if (!policy_accepts(s, answer, mime ? "during MIME ACL checks" : t->local_message ? "by the ACL for local messages" : "after DATA", STR_NULL)) {
		session_transaction_end(s);
		return;
	}
	if (answer && answer->verdict == ACL_DISCARD) {
		message_discard(s, mime ? "MIME" : "DATA", answer->log_text);
		return;
	}
	if (policy_rewritten(answer))
		t->sender = str_is(answer->rewritten, "<>") ? STR_LIT("") : str_dup(&t->arena, answer->rewritten);
	if (answer && answer->text.len) {
		t->reply = str_dup(&t->arena, answer->text);
		t->reply_code = (uint16_t)policy_code(answer, 250);
	}
	if (answer)
		texts_take(t, answer);
	if ((t->flags & (MSG_LOCAL | MSG_SUBMISSION)) && !(t->flags & MSG_NO_FIXUPS) && local_fixups(s, &err)) {
		log_rejection(s, "after DATA", STR_NULL, true, str_of(err.text), false);
		reply(s, 451, "4.3.0", STR_LIT("Temporary local problem - please try later"));
		session_transaction_end(s);
		return;
	}
	if (t->file != FILE_OPEN) { /* while policyd was thinking */
		content_unwritten(s);
		session_transaction_end(s);
		return;
	}
	commit_send(s);
}

static void content_ask(struct session *s)
{
	struct txn *t = s->txn;

	local_utf8_mark(s);
	t->unqualified = (session_client(s)->flags & (CLIENT_SENDER_UNQUALIFIED | CLIENT_RCPT_UNQUALIFIED)) && local_unqualified(s);
	policy_ask(s, t->local_message ? ACL_NOTSMTP : ACL_DATA, content_proceed);
}

bool data_refuse(struct session *s)
{
	return content_faulty(s) || content_unwritten(s);
}

void data_end(struct session *s)
{
	struct txn *t = s->txn;

	buf_clear(&t->pending);
	session_enter(s, SESSION_COMMAND);
	if (data_refuse(s))
		session_transaction_end(s);
	else if (t->discarded || !prdr_begin(s))
		data_judge(s);
}

void data_judge(struct session *s)
{
	struct txn *t = s->txn;

	if (!t->n_rcpts || t->discarded)
		message_discard(s, NULL, STR_NULL);
	else
		content_ask(s);
}

static void reply_fake(struct session *s, struct txn *t)
{
	struct str own = policy_kept(s, "!fake_text"), text = own.len ? own :
		STR_LIT("Your message has been rejected but is being kept for evaluation.\n"
			"If it was a legitimate message, it may still be delivered to the target recipient(s).");

	if (t->flags & MSG_FAKE_REJECT)
		reply(s, 550, "5.7.1", text);
	else
		reply(s, 450, "4.7.1", text);
}

void data_committed(struct session *s, enum status status, bool no_space, struct str text)
{
	struct txn *t = s->txn;

	session_enter(s, SESSION_COMMAND);
	t->file = FILE_NONE; /* qmgr's now, whatever became of it */
	if (status != ST_OK) {
		log_rejection(s, "after DATA", STR_NULL, true, text.len ? text : STR_LIT("the message could not be made durable"), false);
		reply(s, no_space ? 452 : 451, no_space ? "4.3.1" : "4.3.0", text.len ? text : STR_LIT("Temporary local problem - please try later"));
	} else {
		s->messages++;
		s->server->stats.messages++;
		if (t->flags & (MSG_FAKE_REJECT | MSG_FAKE_DEFER))
			reply_fake(s, t);
		else if (t->reply.len)
			reply(s, t->reply_code, "2.0.0", t->reply);
		else
			replyf(s, 250, "2.0.0", "OK id=%s%s", t->id, t->prdr_refused ? " message accepted for some recipients" : "");
	}
	session_transaction_end(s);
}

/* ---- qmgr's answers ---- */

void session_on_file(struct session *s, enum status status, struct str id, struct str text)
{
	struct txn *t = s->txn;

	if (!t || t->file != FILE_ASKED)
		return;
	if (status == ST_OK && msgid_valid(id)) {
		t->file = FILE_OPEN;
		memcpy(t->id, id.p, id.len);
		t->id[id.len] = 0;
	} else {
		t->file = FILE_REFUSED;
		t->file_status = status == ST_OK ? ST_ERROR : status;
		t->file_text = str_dup(&t->arena, text);
	}
	if (s->state == SESSION_FILE)
		data_file_ready(s);
}

const char *session_message_id(const struct session *s)
{
	return s->txn && s->txn->file == FILE_OPEN ? s->txn->id : "";
}

void session_on_file_lost(struct session *s)
{
	struct txn *t = s->txn;

	if (!t || t->file != FILE_OPEN)
		return;
	t->file = FILE_LOST;
	t->id[0] = 0;
}

void session_on_commit(struct session *s, enum status status, bool no_space, struct str text)
{
	if (s->state == SESSION_COMMIT)
		data_committed(s, status, no_space, text);
}

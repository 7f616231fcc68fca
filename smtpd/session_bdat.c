/* SPDX-License-Identifier: ISC */
/* BDAT (RFC 3030): the content in chunks whose length is said before. Whatever becomes of a chunk, exactly its octets are taken from
 * the client before the reply, so that none of them is ever a command. Where that is impossible the connection is closed. */
#include <string.h>

#include "smtpd/session_priv.h"

enum {
	BDAT_DIGITS = 20,
	BDAT_SMALL = 256,              /* octets; a smaller chunk that is not the last one is a small one */
	BDAT_SMALL_MAX = 1000,         /* small chunks of one message */
	BDAT_CARRY = 2 * DATA_LINE_HEAD,
};

/* chunk-size, and LAST behind a blank: nothing else. */
static bool arguments_parse(struct str args, uint64_t *size, bool *last)
{
	size_t n = 0;

	while (n < args.len && ascii_is_digit(args.p[n]))
		n++;
	if (!n || n > BDAT_DIGITS || !str_u64(str_sub(args, 0, n), INT64_MAX, size))
		return false;
	args = str_from(args, n);
	*last = args.len > 0;
	return !args.len || (args.p[0] == ' ' && str_isi(str_trim(args), "LAST"));
}

/* It is not known where the next command begins. */
static void bdat_close(struct session *s, unsigned code, const char *esc, const char *text)
{
	session_logf(s, LOG_MAIN, "SMTP call from %.*s dropped: %s (last command was \"%.*s\")", STR_FMT(log_peer(s)), text,
		STR_FMT(log_printable(s, str_of(s->line))));
	s->server->stats.rejects++;
	session_drop_for(s, "bad-commands", code, esc, text);
}

bool bdat_line_lost(struct session *s, struct str line)
{
	if (!str_beginsi(line, "BDAT"))
		return false;
	bdat_close(s, 501, "5.5.4", "malformed BDAT command");
	return true;
}

/* ---- the end of a chunk that is not wanted ---- */

static void end_not_offered(struct session *s)
{
	reply_protocol(s, 503, "5.5.1", "BDAT command used when CHUNKING not advertised", false);
}

static void end_no_mail(struct session *s)
{
	reply_protocol(s, 503, "5.5.1", "MAIL and RCPT must come before BDAT", s->mail_done && session_pipelining(s));
}

static void end_no_recipient(struct session *s)
{
	if (session_pipelining(s))
		reply_protocol(s, 554, "5.5.1", "No valid recipients", true);
	else
		reply_protocol(s, 503, "5.5.1", "valid RCPT command must precede BDAT", false);
}

static void end_too_many_recipients(struct session *s)
{
	reply(s, 554, "5.5.3", STR_LIT("Too many recipients"));
}

/* ---- content ---- */

/* Scans what has been carried and moves on; last: there is nothing behind it. */
static void carry_scan(struct session *s, bool last)
{
	struct txn *t = s->txn;
	struct iovec iov[DATA_IOV_MAX];
	unsigned pieces;
	size_t taken;

	do {
		taken = last ? data_scan_end(&t->scan, t->carry.p, t->carry.len, iov, &pieces) : data_scan_take(&t->scan, t->carry.p, t->carry.len, iov, &pieces);
		data_content(s, iov, pieces);
		buf_drop(&t->carry, taken);
	} while (taken && t->carry.len);
}

/* A chunk may end anywhere, between CR and LF too: what can't be told yet is carried to the next one. Takes all of p[0..n). */
static void chunk_scan(struct session *s, const char *p, size_t n)
{
	struct txn *t = s->txn;
	struct iovec iov[DATA_IOV_MAX];
	unsigned pieces;
	size_t taken;

	while (n && t->carry.len) {
		size_t more = n < BDAT_CARRY ? n : BDAT_CARRY;

		buf_add(&t->carry, p, more);
		carry_scan(s, false);
		p += more;
		n -= more;
		if (n && t->carry.len <= more) { /* what is left lies in the input, too */
			p -= t->carry.len;
			n += t->carry.len;
			buf_reset(&t->carry);
		}
	}
	while (n && (taken = data_scan_take(&t->scan, p, n, iov, &pieces))) {
		data_content(s, iov, pieces);
		p += taken;
		n -= taken;
	}
	if (n)
		buf_add(&t->carry, p, n);
}

static void end_taken(struct session *s)
{
	if (s->chunk.last) {
		carry_scan(s, true);
		data_end(s);
	} else if (data_refuse(s)) {
		session_transaction_end(s);
	} else {
		replyf(s, 250, "2.0.0", "%llu octets received", (unsigned long long)s->chunk.size);
	}
}

static void chunk_done(struct session *s)
{
	session_enter(s, SESSION_COMMAND);
	s->chunk.end(s);
}

size_t bdat_input(struct session *s, const char *p, size_t n)
{
	bool wanted = s->chunk.end == end_taken;

	if (n > s->chunk.left)
		n = (size_t)s->chunk.left;
	if (wanted)
		chunk_scan(s, p, n);
	s->chunk.left -= n;
	s->server->stats.bytes += n;
	if (s->deadline_ms)
		s->deadline_ms = s->server->now_ms + session_client(s)->receive_timeout_ms;
	if (data_too_slow(s, wanted ? s->txn->data_ms : s->chunk.began_ms, wanted ? s->txn->scan.kept : s->chunk.size - s->chunk.left))
		data_slow(s);
	else if (!s->chunk.left)
		chunk_done(s);
	return n;
}

/* Takes the octets; then `end` replies. */
static void chunk_take(struct session *s, void (*end)(struct session *s))
{
	s->chunk.end = end;
	s->chunk.began_ms = s->server->now_ms;
	session_enter(s, SESSION_CHUNK);
	if (!s->chunk.left)
		chunk_done(s);
}

void bdat_file_ready(struct session *s)
{
	chunk_take(s, s->txn->file == FILE_OPEN ? end_taken : data_file_refused);
}

/* A chunk that is too much is not kept at all. */
static void size_check(struct session *s)
{
	struct txn *t = s->txn;
	uint64_t limit = session_client(s)->size_limit;

	if (limit && (s->chunk.size > limit || t->scan.kept > limit - s->chunk.size))
		t->scan.faults |= DATA_SIZE;
}

/* The first chunk. No predata ACL: there is no command before the data that could be refused (specification, section 44.6). */
static void content_begin(struct session *s)
{
	struct txn *t = s->txn;

	data_scan_begin(s);
	t->scan.counted = t->chunked = true;
	size_check(s);
	t->flags |= MSG_CHUNKED;
	if (!t->n_rcpts || t->discarded) { /* all go nowhere: read, not kept */
		chunk_take(s, end_taken);
		return;
	}
	txn_file_want(s);
	if (t->file == FILE_ASKED)
		session_enter(s, SESSION_FILE);
	else
		bdat_file_ready(s);
}

static void chunk_judge(struct session *s)
{
	struct txn *t = s->txn;

	if (!s->esmtp || !(session_client(s)->flags & CLIENT_CHUNKING)) {
		chunk_take(s, end_not_offered);
	} else if (!t || !t->accepted) {
		chunk_take(s, end_no_mail);
	} else if (!t->rcpt_accepted) {
		chunk_take(s, end_no_recipient);
	} else if (t->rcpt_over && s->server->settings.recipients_reject) {
		chunk_take(s, end_too_many_recipients);
	} else if (s->chunk.size < BDAT_SMALL && !s->chunk.last && ++t->small_chunks > BDAT_SMALL_MAX) {
		bdat_close(s, 421, "4.7.0", "too many small chunks");
	} else if (!t->chunked) {
		content_begin(s);
	} else {
		size_check(s);
		chunk_take(s, end_taken);
	}
}

/* Octets of a chunk that is refused anyway, beyond which it is not waited for. */
static bool chunk_too_large(const struct session *s)
{
	uint64_t limit = session_client(s)->size_limit;

	if (s->txn && s->txn->rcpt_accepted && !limit)
		return false;
	return s->chunk.size > limit + SESSION_OVERRUN_MAX;
}

void verb_bdat(struct session *s, struct str args)
{
	s->chunk = (struct chunk){ 0 };
	if (!arguments_parse(args, &s->chunk.size, &s->chunk.last)) {
		bdat_line_lost(s, str_of(s->line));
		return;
	}
	s->chunk.left = s->chunk.size;
	if (chunk_too_large(s))
		bdat_close(s, 552, "5.3.4", "Message size exceeds maximum permitted");
	else
		chunk_judge(s);
}

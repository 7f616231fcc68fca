/* SPDX-License-Identifier: ISC */
/* What an autoreply transport composed becomes a message of its own, with a null sender: nothing ever answers it; so does what a router
 * has to say of errors in redirection data. The agent may have been taken over: sealed memory of bounded size is read, addresses are checked, and that is all it can do. */
#include "qmgr/qmgr.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/dsn/dsn.h"
#include "common/mail/address.h"
#include "common/mail/date.h"
#include "common/mail/header.h"
#include "common/spool/fs.h"

enum { REPLY_MAX = 32 * 1024 * 1024, SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

static bool content_read(int fd, struct buf *out)
{
	struct stat st;
	char *p;

	if (fcntl(fd, F_GET_SEALS) < 0 || (fcntl(fd, F_GET_SEALS) & SEALS) != SEALS || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > REPLY_MAX)
		return false;
	p = buf_room(out, (size_t)st.st_size);
	if (!p || spool_fs_read(&spool_fs_real, fd, p, (size_t)st.st_size, 0))
		return false;
	out->len += (size_t)st.st_size;
	return true;
}

static void lines_measure(const struct buf *b, struct ipc_spool_envelope *env)
{
	uint64_t line = 0;

	for (size_t i = 0; i < b->len; i++) {
		if ((unsigned char)b->p[i] > 127)
			env->content_8bit = true;
		if (b->p[i] == '\n') {
			env->longest_line = line > env->longest_line ? line : env->longest_line;
			line = 0;
		} else if (b->p[i] != '\r') {
			line++;
		}
	}
	env->longest_line = line > env->longest_line ? line : env->longest_line;
}

static void recipients_fill(struct arena *a, struct ipc_spool_envelope *env, const struct ipc_recipient *to, uint32_t n)
{
	env->recipients = arena_alloc(a, n * sizeof *env->recipients);
	for (uint32_t i = 0; i < n; i++) {
		struct str addr = to[i].addr;
		struct address parsed;

		if (address_parse(addr, ADDR_LITERALS | ADDR_UTF8, &parsed, NULL) != ST_OK || str_has_ctl(addr))
			continue;
		env->recipients[env->n_recipients] = (struct ipc_recipient){ .addr = str_dup(a, addr), .index = env->n_recipients, .notify = DSN_NEVER };
		env->n_recipients++;
	}
}

/* Whom an own message is for, and what it came of. */
struct own {
	struct active *about;       /* waits until it is durable; NULL: nobody does */
	const char *about_id;
	struct str ident;
	const struct ipc_recipient *to;
	uint32_t n_to;
	uint64_t marks;             /* what it inherits: MSG_REQUIRETLS */
};

static void envelope_fill(struct qmgr *q, const struct own *own, struct active *a, const char *id, const struct buf *content)
{
	struct ipc_spool_envelope *env = arena_alloc(&a->arena, sizeof *env);
	struct header_field field;
	bool closed = false;

	env->id = str_of(arena_strdup(&a->arena, id));
	env->received_us = qmgr_now_us(q);
	env->facts = arena_alloc(&a->arena, sizeof *env->facts);
	env->facts->has_sender = env->facts->local = true;
	env->facts->protocol = STR_LIT("local");
	env->facts->ident = str_dup(&a->arena, own->ident);
	env->facts->received_us = env->received_us;
	recipients_fill(&a->arena, env, own->to, own->n_to);
	env->content = content->len;
	env->header_size = header_end(buf_str(content), &closed);
	env->flags = MSG_LOCAL | (closed ? 0 : MSG_HEADER_OPEN) | own->marks;
	lines_measure(content, env);
	if (env->content_8bit)
		env->flags |= MSG_EIGHTBIT;
	if (header_find(str_sub(buf_str(content), 0, env->header_size), "Message-ID", 0, &field))
		env->header_message_id = str_dup(&a->arena, str_sub(header_msgid(field.value), 0, 1024));
	env->about = str_of(arena_strdup(&a->arena, own->about_id));
	a->env = env;
}

static void own_send(struct qmgr *q, const struct own *own, const char *id, const struct buf *content)
{
	struct message *m = own_message_new(q);

	envelope_fill(q, own, m->active, id, content);
	if (m->active->env->n_recipients)
		own_message_submit(q, own->about, m, id, buf_str(content));
	else
		message_free(q, m);
}

void reply_take(struct qmgr *q, struct delivery *d, const struct ipc_delivered *msg, int fd)
{
	const struct own own = { d->a, d->a->m->file->id, d->plan->lane->user, msg->reply_to, msg->n_reply_to, d->a->m->flags & MSG_REQUIRETLS };
	struct buf content = BUF_INIT;
	char id[MSGID_SIZE];

	if (!content_read(fd, &content)) {
		log_line(q->log, LOG_MAIN | LOG_PANIC, "%s a reply to it can't be read, and is dropped", d->a->m->file->id);
	} else {
		msgid_next(&q->ids, qmgr_now_us(q), id);
		own_send(q, &own, id, &content);
	}
	buf_clear(&content);
	close(fd);
}

/* Lines end in CRLF; what can't stand in a message's text is left out. */
static void body_add(struct buf *out, struct str text)
{
	struct str line;

	while (str_split(&text, '\n', &line)) {
		for (uint32_t i = 0; i < line.len && i < DSN_LINE_MAX; i++)
			if ((unsigned char)line.p[i] >= ' ' || line.p[i] == '\t')
				buf_addc(out, line.p[i]);
		buf_adds(out, "\r\n");
	}
}

void notice_send(struct qmgr *q, struct active *about, const struct ipc_notice *n)
{
	const struct ipc_recipient to = { .addr = n->to };
	const struct own own = { about, about->m->file->id, STR_LIT("router"), &to, 1, about->m->flags & MSG_REQUIRETLS };
	struct buf content = BUF_INIT;
	char id[MSGID_SIZE], date[DATE_TEXT];

	if (str_has_ctl(n->to))
		return;
	msgid_next(&q->ids, qmgr_now_us(q), id);
	date_format(date, (int64_t)(qmgr_now_us(q) / 1000000), false);
	buf_printf(&content, "From: %.*s\r\nTo: %.*s\r\nDate: %s\r\nMessage-ID: <E%s@%.*s>\r\n", STR_FMT(q->dsn_from), STR_FMT(n->to), date, id,
		STR_FMT(q->set->host));
	buf_adds(&content, "Subject: error(s) in forwarding or filtering\r\nAuto-Submitted: auto-generated\r\n\r\n");
	body_add(&content, n->text);
	own_send(q, &own, id, &content);
	buf_clear(&content);
}

/* ---- frozen ---- */

static void tell_recipients(struct buf *out, const struct active *a)
{
	bool begun = false;

	for (uint32_t i = 0; i < a->n_rcpt; i++) {
		const struct rcpt *r = &a->rcpt[i];

		if (r->state == R_DONE)
			continue;
		if (!begun)
			buf_adds(out, "\nThe following address(es) have yet to be delivered:\n\n");
		begun = true;
		buf_printf(out, "  %.*s", STR_FMT(r->r->addr));
		if (r->why.len)
			buf_printf(out, ": %.*s", STR_FMT(r->why));
		buf_addc(out, '\n');
	}
}

void freeze_notice(struct qmgr *q, const struct active *a, const char *why, bool arrival)
{
	const struct settings *set = q->set;
	const struct message *m = a->m;
	struct ipc_recipient *to;
	struct own own = { NULL, m->file->id, STR_LIT("bulkhead"), NULL, set->n_freeze_tell, m->flags & MSG_REQUIRETLS };
	struct buf content = BUF_INIT, text = BUF_INIT;
	char id[MSGID_SIZE], date[DATE_TEXT];

	/* What was made here and has a null sender could come back without end. */
	if (!set->n_freeze_tell || m->flags & (MSG_NO_TELL | MSG_BOUNCE) || (m->null_sender && m->flags & MSG_LOCAL))
		return;
	own.to = to = mem_new(set->n_freeze_tell * sizeof *to);
	msgid_next(&q->ids, qmgr_now_us(q), id);
	date_format(date, (int64_t)(qmgr_now_us(q) / 1000000), false);
	buf_printf(&content, "Auto-Submitted: auto-replied\r\nFrom: %.*s\r\nTo: ", STR_FMT(q->dsn_from));
	for (uint32_t i = 0; i < set->n_freeze_tell; i++) {
		to[i].addr = set->freeze_tell[i];
		buf_printf(&content, "%s%.*s", i ? ",\r\n\t" : "", STR_FMT(to[i].addr));
	}
	buf_printf(&content, "\r\nDate: %s\r\nMessage-ID: <E%s@%.*s>\r\n", date, id, STR_FMT(set->host));
	if (a->env->header_message_id.len && !str_has_ctl(a->env->header_message_id))
		buf_printf(&content, "References: <%.*s>\r\n", STR_FMT(a->env->header_message_id));
	buf_printf(&content, "Subject: Message frozen%s\r\n\r\n", arrival ? " on arrival" : "");
	buf_printf(&text, arrival ? "Message %s was frozen on arrival %s.\n" : "Message %s has been frozen (%s).\n", m->file->id, why);
	buf_printf(&text, "The sender is <%.*s>.\n", STR_FMT(a->env->facts ? a->env->facts->sender : STR_NULL));
	tell_recipients(&text, a);
	body_add(&content, buf_str(&text));
	own_send(q, &own, id, &content);
	buf_clear(&text);
	buf_clear(&content);
	mem_free(to);
}

/* SPDX-License-Identifier: ISC */
/* A connection's questions to policyd and qmgr, and what becomes of them when these go away. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "smtpd/smtpd.h"

/* A request for a file. It stays until its answer comes, also when nobody wants the file any more: qmgr must then be told. */
struct begin {
	struct conn *conn;       /* NULL: forgotten */
	struct channel *channel;
};

static void file_close(struct conn *c)
{
	if (c->file >= 0)
		close(c->file);
	if (c->reader >= 0)
		close(c->reader);
	c->file = c->reader = -1;
	c->file_channel = NULL;
	c->file_limit = 0;
	c->file_full = false;
	if (c->grow)
		c->grow->conn = NULL;
	c->grow = NULL;
}

/* ---- policyd ---- */

static void ask_done(void *arg, struct ipc_in *in, const struct err *err)
{
	struct conn *c = arg;
	bool lost = in && in->type == &ipc_type_ctl_lost;
	struct channel *asked = c->ask_channel;

	c->ask_id = 0;
	c->ask_channel = NULL;
	conn_enter(c);
	if (lost)
		session_on_acl(&c->session, NULL, true, "a worker died or was killed");
	else if (in)
		session_on_acl(&c->session, in->msg, false, NULL);
	else
		session_on_acl(&c->session, NULL, !asked || !channel_is_open(asked), err ? err->text : "no answer");
	conn_leave(c);
}

void conn_ask(struct session *s, const struct ipc_acl_ask *ask, bool reader)
{
	struct conn *c = s->shell;
	struct daemon_link *link = c->smtpd->policyd;
	int fd = -1;

	c->ask_waits = !link || !channel_is_open(link->channel);
	if (c->ask_waits)
		return;
	if (reader && c->file >= 0) {
		/* Content in memory has no read-only descriptor of its own: sealed, it is read-only for everybody. A file has no seals. */
		fcntl(c->file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
		fd = fcntl(c->reader >= 0 ? c->reader : c->file, F_DUPFD_CLOEXEC, 3);
		ask->facts->offset = c->file_offset;
	}
	c->ask_channel = link->channel;
	c->ask_id = channel_ask(link->channel, &ipc_type_acl_ask, ask, &fd, fd >= 0, &ipc_type_acl_answer, 0, ask_done, c);
}

void conn_ask_cancel(struct session *s)
{
	struct conn *c = s->shell;

	if (c->ask_id) /* open or not: until its answer came, the channel is there */
		channel_cancel(c->ask_channel, c->ask_id);
	c->ask_id = 0;
	c->ask_channel = NULL;
	c->ask_waits = false;
}

/* ---- steps of AUTH ---- */

void conn_auth_forget(struct session *s)
{
	struct conn *c = s->shell;

	if (c->auth_fd >= 0)
		close(c->auth_fd);
	c->auth_fd = -1;
}

static void auth_done(void *arg, struct ipc_in *in, const struct err *err)
{
	struct conn *c = arg;
	bool lost = in && in->type == &ipc_type_ctl_lost;
	struct channel *asked = c->ask_channel;

	c->ask_id = 0;
	c->ask_channel = NULL;
	conn_enter(c);
	if (in && !lost) {
		conn_auth_forget(&c->session);
		c->auth_fd = in->fds[0];
		in->fds[0] = -1;
		session_on_auth(&c->session, in->msg, false, NULL);
	} else {
		session_on_auth(&c->session, NULL, lost || !asked || !channel_is_open(asked), lost ? "a worker died or was killed" : err ? err->text : "no answer");
	}
	conn_leave(c);
}

void conn_auth_ask(struct session *s, const struct ipc_auth_ask *ask)
{
	struct conn *c = s->shell;
	struct daemon_link *link = c->smtpd->policyd;
	int fd = c->auth_fd;

	c->ask_waits = !link || !channel_is_open(link->channel);
	if (c->ask_waits)
		return;
	c->auth_fd = -1;
	c->ask_channel = link->channel;
	c->ask_id = channel_ask(link->channel, &ipc_type_auth_ask, ask, &fd, fd >= 0, &ipc_type_auth_answer, 0, auth_done, c);
}

void conn_policyd_opened(struct smtpd *m)
{
	list_each_safe(&m->conns, n) {
		struct conn *c = list_entry(n, struct conn, node);

		if (!c->ask_waits)
			continue;
		conn_enter(c);
		c->ask_waits = false;
		session_ask_again(&c->session);
		conn_leave(c);
	}
}

/* ---- qmgr ---- */

static void file_abort(struct channel *ch, struct str id)
{
	struct ipc_msg_abort abort_msg = { .id = id };

	if (channel_is_open(ch))
		channel_send(ch, &ipc_type_msg_abort, &abort_msg, NULL, 0);
}

static void begin_done(void *arg, struct ipc_in *in, const struct err *err)
{
	struct begin *b = arg;
	const struct ipc_msg_file *file = in && in->type == &ipc_type_msg_file ? in->msg : NULL;
	struct conn *c = b->conn;
	bool gone = !channel_is_open(b->channel);

	if (!c) {
		if (file && file->status == ST_OK)
			file_abort(b->channel, file->id);
		mem_free(b);
		return;
	}
	c->begin = NULL;
	conn_enter(c);
	if (file && file->status == ST_OK && in->fds[0] >= 0) {
		c->file = in->fds[0];
		c->reader = in->fds[1];
		in->fds[0] = in->fds[1] = -1;
		c->file_offset = file->offset;
		c->file_limit = file->limit;
		c->file_channel = b->channel;
		session_on_file(&c->session, ST_OK, file->id, STR_NULL);
	} else if (file) {
		session_on_file(&c->session, file->status == ST_OK ? ST_ERROR : (enum status)file->status, STR_NULL, file->text);
	} else if (gone) {
		c->begin_waits = true; /* the next qmgr is asked again */
	} else {
		session_on_file(&c->session, ST_ERROR, STR_NULL, str_of(err ? err->text : "no answer"));
	}
	mem_free(b);
	conn_leave(c);
}

static void begin_send(struct conn *c)
{
	struct daemon_link *link = c->smtpd->qmgr;
	struct ipc_msg_begin begin = { .size = c->begin_size };

	c->begin_waits = !link || !channel_is_open(link->channel);
	if (c->begin_waits)
		return;
	c->begin = mem_new(sizeof *c->begin);
	*c->begin = (struct begin){ c, link->channel };
	channel_ask(link->channel, &ipc_type_msg_begin, &begin, NULL, 0, &ipc_type_msg_file, 0, begin_done, c->begin);
}

bool conn_etrn(struct session *s, const struct ipc_etrn *etrn)
{
	struct conn *c = s->shell;
	struct daemon_link *link = c->smtpd->qmgr;

	if (!link || !channel_is_open(link->channel))
		return false;
	channel_send(link->channel, &ipc_type_etrn, etrn, NULL, 0);
	return true;
}

void conn_begin(struct session *s, const struct ipc_msg_begin *begin)
{
	struct conn *c = s->shell;

	file_close(c);
	c->begin_size = begin->size;
	begin_send(c);
}

/* ---- memory that becomes a file ---- */

static bool content_move(struct conn *c, int to)
{
	char p[16384];
	off_t at = (off_t)c->file_offset;
	ssize_t n;

	while ((n = pread(c->file, p, sizeof p, at)) > 0) {
		if (pwrite(to, p, (size_t)n, at) != n)
			return false;
		at += n;
	}
	return n == 0;
}

/* What came meanwhile went into memory too: all of it moves at once. A commit or an abort was faster when grow->conn is NULL. */
static void grow_done(void *arg, struct ipc_in *in, const struct err *err)
{
	struct begin *grow = arg;
	const struct ipc_msg_file *file = in && in->type == &ipc_type_msg_file ? in->msg : NULL;
	struct conn *c = grow->conn;

	(void)err;
	mem_free(grow);
	if (!c)
		return;
	c->grow = NULL;
	c->file_limit = 0;
	c->file_full = !file || file->status || in->fds[0] < 0 || !content_move(c, in->fds[0]);
	if (c->file_full)
		return;
	close(c->file);
	if (c->reader >= 0)
		close(c->reader);
	c->file = in->fds[0];
	c->reader = in->fds[1];
	in->fds[0] = in->fds[1] = -1;
	channel_send(in->channel, &ipc_type_msg_moved, &(struct ipc_msg_moved){ .id = file->id }, NULL, 0);
}

void conn_grow(struct conn *c)
{
	struct ipc_msg_begin begin = { .size = c->file_limit, .id = str_of(session_message_id(&c->session)) };

	if (!c->file_channel || !channel_is_open(c->file_channel) || !begin.id.len)
		return;
	c->grow = mem_new(sizeof *c->grow);
	*c->grow = (struct begin){ c, c->file_channel };
	channel_ask(c->file_channel, &ipc_type_msg_begin, &begin, NULL, 0, &ipc_type_msg_file, 0, grow_done, c->grow);
}

void conn_forget(struct session *s, const char *id)
{
	struct conn *c = s->shell;

	if (c->begin)
		c->begin->conn = NULL;
	c->begin = NULL;
	c->begin_waits = false;
	if (c->file >= 0 && id[0] && c->file_channel)
		file_abort(c->file_channel, str_of(id));
	file_close(c);
}

void conn_recipients(struct session *s, const struct ipc_msg_recipients *more)
{
	struct conn *c = s->shell;

	if (c->file_channel && channel_is_open(c->file_channel))
		channel_send(c->file_channel, &ipc_type_msg_recipients, more, NULL, 0);
}

static void commit_done(void *arg, struct ipc_in *in, const struct err *err)
{
	struct conn *c = arg;
	const struct ipc_msg_committed *done = in && in->type == &ipc_type_msg_committed ? in->msg : NULL;

	(void)err;
	c->commit_id = 0;
	c->commit_channel = NULL;
	conn_enter(c);
	session_on_commit(&c->session, done ? (enum status)done->status : ST_DEFER, done && done->no_space, done ? done->text : STR_NULL);
	conn_leave(c);
}

void conn_commit(struct session *s, const struct ipc_msg_commit *commit)
{
	struct conn *c = s->shell;

	c->commit_channel = c->file_channel;
	if (commit->facts)
		commit->facts->offset = 0;
	file_close(c);
	/* qmgr's channel is checked by the session: it has just said that the file is open. */
	if (c->commit_channel)
		c->commit_id = channel_ask(c->commit_channel, &ipc_type_msg_commit, commit, NULL, 0, &ipc_type_msg_committed, 0, commit_done, c);
}

void conn_qmgr_opened(struct smtpd *m)
{
	list_each_safe(&m->conns, n) {
		struct conn *c = list_entry(n, struct conn, node);

		if (c->begin_waits)
			begin_send(c);
	}
}

/* Its files are lost; sessions that have not begun their data get another from the next qmgr. */
void conn_qmgr_closed(struct smtpd *m, struct channel *ch)
{
	list_each_safe(&m->conns, n) {
		struct conn *c = list_entry(n, struct conn, node);

		if (c->file_channel != ch)
			continue;
		conn_enter(c);
		file_close(c);
		session_on_file_lost(&c->session);
		conn_leave(c);
	}
}

void conn_channels_release(struct conn *c)
{
	conn_ask_cancel(&c->session);
	if (c->begin)
		c->begin->conn = NULL;
	c->begin = NULL;
	if (c->commit_id)
		channel_cancel(c->commit_channel, c->commit_id);
	c->commit_id = 0;
	file_close(c);
}

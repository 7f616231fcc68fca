/* SPDX-License-Identifier: ISC */
#include "ctl/session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/enums.h"
#include "common/mail/msgid.h"

enum status session_queue_open(struct session_queue *q, struct offline_daemon *smtpd, struct err *err)
{
	struct ipc_intake open = { .closed = false };
	int pair[2];
	enum status st;

	if (!ipc_pair(pair, err))
		return ST_ERROR;
	q->fd = pair[0];
	st = offline_daemon_channel(smtpd, "qmgr", 0, pair[1], err);
	return st ? st : ipc_send(q->fd, &ipc_type_intake, 0, false, &open, NULL, 0, OFFLINE_START_MS, err);
}

/* A file in memory, twice: as qmgr gives it to smtpd. */
static enum status file_give(struct session_queue *q, const struct ipc_in *in, struct err *err)
{
	struct ipc_msg_file file = { .status = ST_OK };
	struct msgid_gen gen;
	char id[MSGID_SIZE], path[64];
	int fds[2];

	msgid_gen_init(&gen, q->messages++);
	msgid_next(&gen, clock_wall_us(), id);
	file.id = str_of(id);
	fds[0] = memfd_create("message", MFD_CLOEXEC);
	if (fds[0] < 0)
		return err_set(err, ST_ERROR, "memfd_create: %s", strerror(errno));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
	fds[1] = open(path, O_RDONLY | O_CLOEXEC);
	return ipc_send(q->fd, &ipc_type_msg_file, in->request, true, &file, fds, fds[1] < 0 ? 1 : 2, OFFLINE_START_MS, err);
}

static const struct { uint64_t flag; const char *words; } flag_words[] = {
	{ MSG_FREEZE, "freeze" }, { MSG_QUEUE, "queue" }, { MSG_SUBMISSION, "submission" }, { MSG_NO_FIXUPS, "suppress_local_fixups" },
	{ MSG_FAKE_REJECT, "fakereject" }, { MSG_FAKE_DEFER, "fakedefer" }, { MSG_EIGHTBIT, "8bitmime" }, { MSG_SMTPUTF8, "smtputf8" },
	{ MSG_REQUIRETLS, "requiretls" },
};

static void recipients_show(const struct ipc_recipient *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fprintf(stderr, ">>>   to <%.*s>\n", STR_FMT(v[i].addr));
}

static void edit_show(const struct ipc_edit *e)
{
	static const char *const where[EDIT_OPS_END] = { [EDIT_ADD_TOP] = "add at start", [EDIT_ADD_AFTER_RECEIVED] = "add after received",
		[EDIT_ADD_START_RFC] = "add at start of RFC fields", [EDIT_ADD_END] = "add", [EDIT_REMOVE] = "remove" };
	struct str text = str_trim(e->text), line;

	fprintf(stderr, ">>>   header: %s ", e->op < EDIT_OPS_END && where[e->op] ? where[e->op] : "?");
	for (bool first = true; str_split(&text, '\n', &line); first = false)
		fprintf(stderr, "%s%.*s\n", first ? "" : ">>>     ", STR_FMT(str_trim(line)));
}

static void commit_show(const struct ipc_msg_commit *c)
{
	fprintf(stderr, ">>> message %.*s would be queued: from <%.*s>, %llu octets", STR_FMT(c->id), STR_FMT(c->facts ? c->facts->sender : STR_NULL),
		(unsigned long long)c->content);
	for (size_t i = 0; i < sizeof flag_words / sizeof *flag_words; i++)
		if (c->flags & flag_words[i].flag)
			fprintf(stderr, ", %s", flag_words[i].words);
	fputc('\n', stderr);
	recipients_show(c->recipients, c->n_recipients);
	for (uint32_t i = 0; i < c->n_edits; i++)
		edit_show(&c->edits[i]);
	fflush(stderr);
}

static enum status message_take(struct session_queue *q, const struct ipc_in *in, struct err *err)
{
	if (in->type == &ipc_type_msg_begin)
		return file_give(q, in, err);
	if (in->type == &ipc_type_msg_recipients && q->show) {
		const struct ipc_msg_recipients *more = in->msg;

		recipients_show(more->recipients, more->n_recipients);
	}
	if (in->type == &ipc_type_msg_commit) {
		const struct ipc_msg_commit *commit = in->msg;
		struct ipc_msg_committed done = { .status = ST_OK, .id = commit->id };

		if (q->show)
			commit_show(commit);
		return ipc_send(q->fd, &ipc_type_msg_committed, in->request, true, &done, NULL, 0, OFFLINE_START_MS, err);
	}
	return ST_OK;
}

enum status session_queue_read(struct session_queue *q, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	enum status st = ipc_recv(q->fd, &packet, 0, err);
	bool ended = st == ST_FAIL;
	struct ipc_in in;

	while (!st && (st = ipc_packet_next(&packet, q->arena, &in, err)) == ST_OK) {
		st = message_take(q, &in, err);
		for (int i = 0; i < IPC_FDS_MAX; i++)
			if (in.fds[i] >= 0)
				close(in.fds[i]);
	}
	ipc_packet_clear(&packet);
	if (ended) /* smtpd has ended; its control channel tells why */
		session_queue_close(q);
	return st == ST_ERROR ? st : ST_OK;
}

void session_queue_close(struct session_queue *q)
{
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
}

/* SPDX-License-Identifier: ISC */
/* How messages come in: through the journal when they are small, by their own file when they are not or the journal is short. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/spool/priv.h"

static enum status refuse(const struct spool *spool, struct err *err)
{
	return err_set(err, ST_DEFER, "%s", spool->health_text);
}

static enum status create_failed(struct spool *spool, struct spool_msg *msg, const char *what, struct err *err)
{
	int error = errno;

	err_set(err, error == EEXIST ? ST_FAIL : ST_DEFER, "message %s: %s: %s", msg->id, what, strerror(error));
	if (msg->named && error != EEXIST)
		spool->fs->unlink(spool->fs->arg, spool->shard_fd[msg->shard], msg->id);
	msg_forget(spool, msg);
	msg_release(spool, msg);
	return error == EEXIST ? ST_FAIL : ST_DEFER;
}

static enum status message_begin(struct spool *spool, const char *id, struct spool_msg **msg_out, struct err *err)
{
	if (spool->health != SPOOL_GOOD)
		return refuse(spool, err);
	if (!spool_id_valid(str_of(id)))
		return err_set(err, ST_ERROR, "\"%.40s\" is no message id", id);
	/* Before the scan has ended, an old message may be known to the directory alone. */
	if (spool_find(spool, str_of(id)) || (!spool->scanned && !faccessat(spool->shard_fd[shard_of(str_of(id))], id, F_OK, AT_SYMLINK_NOFOLLOW)))
		return err_set(err, ST_FAIL, "message %s exists", id);
	*msg_out = msg_new(spool, str_of(id));
	(*msg_out)->state = SPOOL_NEW;
	return ST_OK;
}

/* A file in queue/, whose head says that what follows was never accepted, unless the journal knows better. -1 and errno on error. */
static int file_create(struct spool *spool, struct spool_msg *msg)
{
	const struct spool_fs *fs = spool->fs;
	struct spool_head none = { 0 };
	unsigned char head[SPOOL_HEAD];
	int fd = fs->open(fs->arg, spool->shard_fd[msg->shard], msg->id, O_RDWR | O_CREAT | O_EXCL, 0600), error;

	if (fd < 0)
		return -1;
	msg->named = true;
	spool_head_encode(&none, SPOOL_HEAD_NEW, head);
	if (!spool_fs_write(fs, fd, head, sizeof head, 0))
		return fd;
	error = errno;
	fs->close(fs->arg, fd);
	errno = error;
	return -1;
}

/* The descriptors for smtpd and policyd. false: errno. */
static bool fds_make(struct spool *spool, struct spool_msg *msg, int *fd_out, int *read_fd_out)
{
	const struct spool_fs *fs = spool->fs;
	int error;

	*fd_out = fcntl(msg->fd, F_DUPFD_CLOEXEC, 0);
	if (*fd_out < 0)
		return false;
	if (!read_fd_out)
		return true;
	*read_fd_out = !msg->memory ? fs->open(fs->arg, spool->shard_fd[msg->shard], msg->id, O_RDONLY, 0) : fcntl(msg->fd, F_DUPFD_CLOEXEC, 0);
	if (*read_fd_out >= 0)
		return true;
	error = errno;
	close(*fd_out);
	errno = error;
	return false;
}

enum status spool_create(struct spool *spool, const char *id, struct spool_msg **msg_out, int *fd_out, int *read_fd_out, struct err *err)
{
	struct spool_msg *msg;
	enum status st;

	*msg_out = NULL;
	st = message_begin(spool, id, &msg, err);
	if (st)
		return st;
	msg->memory = true;
	msg->fd = memory_file(id, err);
	if (msg->fd < 0)
		return create_failed(spool, msg, "can't make a file in memory", err);
	if (!fds_make(spool, msg, fd_out, read_fd_out))
		return create_failed(spool, msg, "can't open it", err);
	*msg_out = msg;
	return ST_OK;
}

enum status spool_create_file(struct spool *spool, const char *id, struct spool_msg **msg_out, int *fd_out, int *read_fd_out, struct err *err)
{
	struct spool_msg *msg;
	enum status st;

	*msg_out = NULL;
	st = message_begin(spool, id, &msg, err);
	if (st)
		return st;
	msg->fd = file_create(spool, msg);
	if (msg->fd < 0)
		return create_failed(spool, msg, "can't create the file", err);
	if (!fds_make(spool, msg, fd_out, read_fd_out))
		return create_failed(spool, msg, "can't open the file", err);
	*msg_out = msg;
	return ST_OK;
}

enum status spool_grow(struct spool *spool, struct spool_msg *msg, int *fd_out, int *read_fd_out, struct err *err)
{
	int memory = msg->fd, file;
	bool ok;

	if (msg->state != SPOOL_NEW || !msg->memory || msg->failed || msg->grown_fd >= 0)
		return err_set(err, ST_ERROR, "message %s can't get a file now", msg->id);
	file = file_create(spool, msg);
	if (file < 0)
		return err_set(err, ST_DEFER, "message %s: can't create the file: %s", msg->id, strerror(errno));
	msg->fd = file;
	msg->memory = false;
	ok = fds_make(spool, msg, fd_out, read_fd_out);
	msg->fd = memory;
	msg->memory = true;
	if (!ok) {
		spool->fs->close(spool->fs->arg, file);
		return err_set(err, ST_DEFER, "message %s: can't open the file: %s", msg->id, strerror(errno));
	}
	msg->grown_fd = file;
	return ST_OK;
}

void spool_grown(struct spool *spool, struct spool_msg *msg)
{
	if (msg->state != SPOOL_NEW || msg->grown_fd < 0)
		return;
	spool->fs->close(spool->fs->arg, msg->fd);
	msg->fd = msg->grown_fd;
	msg->grown_fd = -1;
	msg->memory = false;
}

/* ---- commit ---- */

struct commit {
	struct spool_msg *msg;
	const struct ipc_spool_envelope *envelope;
	spool_done_fn *fn;
	void *arg;
};

static void direct_done(struct spool *spool, struct spool_job *job);

/* By its own file, made durable by the files' thread. */
static struct file_item *direct_add(struct spool *spool, const struct commit *c)
{
	struct file_item *item;

	if (!spool->direct)
		spool->direct = file_job_new(direct_done);
	item = file_job_add(spool->direct, c->msg);
	item->write_head = true;
	item->head.content = c->msg->content;
	item->tail_at = SPOOL_HEAD + c->msg->content;
	item->fn = c->fn;
	item->arg = c->arg;
	if (c->msg->memory) {
		item->make = item->trim = true;
		item->from_fd = c->msg->fd;
		c->msg->named = true;
	}
	c->msg->state = SPOOL_COMMITTING;
	c->msg->settling = true;
	return item;
}

static void present_add(struct spool *spool, struct spool_msg *msg, spool_done_fn *fn, void *arg)
{
	struct journal_entry entry = { .type = JOURNAL_PRESENT };
	struct batch *b = batch_room(spool, 0);
	size_t payload;

	memcpy(entry.id, msg->id, sizeof entry.id);
	payload = journal_entry_open(&b->data, &entry);
	journal_entry_close(&b->data, payload);
	batch_item_add(b, ITEM_PRESENT, msg, payload, fn, arg);
}

static void direct_item_done(struct spool *spool, struct file_item *item)
{
	struct spool_msg *msg = item->msg;

	msg->settling = false;
	if (spool->health == SPOOL_BROKEN && !item->status)
		item->status = err_set(&item->err, ST_DEFER, "%s", spool->health_text);
	if (item->status) {
		msg->state = SPOOL_NEW;
		msg->failed = true;
		if (item->fn)
			item->fn(item->arg, msg, item->status, &item->err);
		return;
	}
	msg_fd_close(spool, msg);
	msg->envelope = (uint32_t)(item->tail.len - item->settled);
	msg->salt = item->head.salt;
	msg->file_end = item->tail_at + item->tail.len;
	spool->stats.large++;
	present_add(spool, msg, item->fn, item->arg);
}

static void direct_done(struct spool *spool, struct spool_job *job)
{
	struct file_job *fj = (struct file_job *)(void *)((char *)job - offsetof(struct file_job, job));

	if (spool->crossed) {
		file_job_drop(spool, fj);
		return;
	}
	for (uint32_t i = 0; i < fj->n; i++)
		if (fj->items[i].sync_failed)
			spool_break(spool, fj->items[i].err.text, fj->items[i].error);
	for (uint32_t i = 0; i < fj->n; i++)
		direct_item_done(spool, &fj->items[i]);
	file_job_free(fj);
}

static enum status commit_direct(struct spool *spool, const struct commit *c, struct str encoded)
{
	struct file_item *item = direct_add(spool, c);

	item->crc = true;
	buf_add_str(&item->tail, encoded);
	item->head.envelope = encoded.len;
	item->head.envelope_crc = spool_crc(0, encoded.p, encoded.len);
	return ST_OK;
}

/* A whole message as an entry: head, content, envelope; the content is copied once, from the file's pages into the batch. */
static enum status commit_journal(struct spool *spool, const struct commit *c, struct err *err)
{
	struct journal_entry entry = { .type = JOURNAL_COMMIT };
	struct spool_msg *msg = c->msg;
	struct spool_head head = { .content = msg->content };
	unsigned char image[SPOOL_HEAD];
	struct batch *b = batch_room(spool, 2 * (size_t)spool->opt.small_max + SPOOL_HEAD);
	size_t before = b->data.len, payload, at;
	struct str encoded;
	enum status st;

	memcpy(entry.id, msg->id, sizeof entry.id);
	payload = journal_entry_open(&b->data, &entry);
	buf_room(&b->data, SPOOL_HEAD + msg->content);
	b->data.len += SPOOL_HEAD;
	at = b->data.len;
	if (spool_fs_read(spool->fs, msg->fd, b->data.p + at, msg->content, SPOOL_CONTENT_OFFSET)) {
		b->data.len = before;
		return err_set(err, ST_DEFER, "queue/%02x/%s: can't read the content: %s", msg->shard, msg->id, strerror(errno));
	}
	b->data.len += msg->content;
	head.content_crc = spool_crc(0, b->data.p + at, msg->content);
	at = b->data.len;
	st = ipc_encode(&ipc_type_spool_envelope, c->envelope, &b->data, err);
	if (st) {
		b->data.len = before;
		return st;
	}
	encoded = str_make(b->data.p + at, b->data.len - at);
	if (encoded.len > spool->opt.small_max) {
		st = commit_direct(spool, c, encoded);
		b->data.len = before;
		return st;
	}
	head.envelope = encoded.len;
	head.envelope_crc = spool_crc(0, encoded.p, encoded.len);
	spool_head_encode(&head, SPOOL_HEAD_COMPLETE, image);
	memcpy(b->data.p + payload, image, sizeof image);
	journal_entry_close(&b->data, payload);
	msg->envelope = encoded.len;
	msg->salt = head.salt;
	msg->state = SPOOL_COMMITTING;
	batch_item_add(b, ITEM_COMMIT, msg, payload, c->fn, c->arg);
	return ST_OK;
}

/* Nobody may change what is accepted, and the envelope stands in the same file. Files have no seals, but a lease for reading is given
 * only while nobody has the file open for writing. File systems that know no leases say something else than EAGAIN. */
static enum status file_alone(struct spool *spool, struct spool_msg *msg, struct err *err)
{
	const struct spool_fs *fs = spool->fs;
	int fd = fs->open(fs->arg, spool->shard_fd[msg->shard], msg->id, O_RDONLY, 0);

	if (fd < 0)
		return err_set(err, ST_DEFER, "queue/%02x/%s: %s", msg->shard, msg->id, strerror(errno));
	fs->close(fs->arg, msg->fd);
	msg->fd = fd;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) && errno == EAGAIN)
		return err_set(err, ST_ERROR, "queue/%02x/%s: somebody can still write to it", msg->shard, msg->id);
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return ST_OK;
}

/* What its writer has sealed against sealing must have had our seals before. */
static enum status content_seal(const struct spool_msg *msg, struct err *err)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

	if (!fcntl(msg->fd, F_ADD_SEALS, wanted | F_SEAL_SEAL))
		return ST_OK;
	if (errno != EPERM)
		return err_set(err, ST_DEFER, "message %s: can't seal its content: %s", msg->id, strerror(errno));
	if ((fcntl(msg->fd, F_GET_SEALS) & wanted) == wanted)
		return ST_OK;
	return err_set(err, ST_ERROR, "message %s: its content was sealed by somebody else, and not as it must be", msg->id);
}

static enum status commit_check(struct spool *spool, const struct commit *c, struct err *err)
{
	struct spool_msg *msg = c->msg;
	struct stat st;
	uint64_t has;

	if (spool->health != SPOOL_GOOD)
		return refuse(spool, err);
	if (msg->state != SPOOL_NEW || msg->failed)
		return err_set(err, ST_ERROR, "message %s is not being received", msg->id);
	if (!str_is(c->envelope->id, msg->id))
		return err_set(err, ST_ERROR, "the envelope of %s is for another message", msg->id);
	if (fstat(msg->fd, &st))
		return err_set(err, ST_DEFER, "queue/%02x/%s: fstat: %s", msg->shard, msg->id, strerror(errno));
	has = st.st_size > SPOOL_CONTENT_OFFSET ? (uint64_t)st.st_size - SPOOL_CONTENT_OFFSET : 0;
	if (c->envelope->content != has)
		return err_set(err, ST_ERROR, "message %s: %llu octets of content were announced, the file has %llu from octet %d on", msg->id,
			(unsigned long long)c->envelope->content, (unsigned long long)has, SPOOL_CONTENT_OFFSET);
	/* A hole costs its writer nothing, and us the time and the space of reading and writing it. */
	if (msg->memory && (uint64_t)st.st_blocks * 512 < has)
		return err_set(err, ST_ERROR, "message %s: its content has holes", msg->id);
	return msg->memory ? content_seal(msg, err) : file_alone(spool, msg, err);
}

enum status spool_commit(struct spool *spool, struct spool_msg *msg, const struct ipc_spool_envelope *envelope, spool_done_fn *fn, void *arg,
	struct err *err)
{
	struct commit c = { msg, envelope, fn, arg };
	enum status st = commit_check(spool, &c, err);
	uint64_t reserve = (uint64_t)spool->seg_size * (spool->n_seg < 8 ? 1 : 2);

	if (st)
		return st;
	msg->content = envelope->content;
	if (msg->memory && msg->content <= spool->opt.small_max && journal_room(spool) > reserve + spool->seg_size / 2) {
		st = commit_journal(spool, &c, err);
	} else {
		struct buf encoded = BUF_LIMIT(SPOOL_ENVELOPE_MAX);

		st = ipc_encode(&ipc_type_spool_envelope, envelope, &encoded, err);
		if (!st)
			st = commit_direct(spool, &c, buf_str(&encoded));
		buf_clear(&encoded);
	}
	return st;
}

enum status spool_submit(struct spool *spool, const char *id, struct str content, const struct ipc_spool_envelope *envelope,
	struct spool_msg **msg_out, spool_done_fn *fn, void *arg, struct err *err)
{
	struct spool_msg *msg;
	enum status st;

	*msg_out = NULL;
	st = message_begin(spool, id, &msg, err);
	if (st)
		return st;
	msg->memory = true;
	msg->fd = memory_file(id, err);
	if (msg->fd < 0)
		return create_failed(spool, msg, "can't make a file in memory", err);
	if (spool_fs_write(spool->fs, msg->fd, content.p, content.len, SPOOL_CONTENT_OFFSET))
		return create_failed(spool, msg, "write", err);
	st = spool_commit(spool, msg, envelope, fn, arg, err);
	if (st)
		spool_abort(spool, msg);
	else
		*msg_out = msg;
	return st;
}

void spool_abort(struct spool *spool, struct spool_msg *msg)
{
	bug_on(msg->state != SPOOL_NEW);
	/* A commit that failed may yet be in the journal or complete in the file; a removal that is told there settles it. */
	if (msg->failed)
		finish_add(spool, msg);
	else if (msg->named)
		spool->fs->unlink(spool->fs->arg, spool->shard_fd[msg->shard], msg->id);
	msg_forget(spool, msg);
	msg_release(spool, msg);
}

/* ---- from elsewhere ---- */

static enum status import_tail(struct file_item *item, const struct spool_file *file, const char *id, struct err *err)
{
	struct ipc_spool_envelope envelope = *file->envelope;
	unsigned char image[SPOOL_HEAD];
	enum status st;

	envelope.id = str_of(id);
	st = ipc_encode(&ipc_type_spool_envelope, &envelope, &item->tail, err);
	if (st)
		return st;
	item->head = (struct spool_head){ .content = file->head.content, .envelope = (uint32_t)item->tail.len,
		.content_crc = file->head.content_crc, .envelope_crc = spool_crc(0, item->tail.p, item->tail.len) };
	spool_head_encode(&item->head, SPOOL_HEAD_COMPLETE, image);
	for (uint32_t i = 0; i < file->n_records && !st; i++)
		st = spool_record_encode(&item->tail, item->head.salt, i + 1, &file->records[i], err);
	item->settled = (uint32_t)item->tail.len - item->head.envelope;
	return st;
}

enum status spool_import(struct spool *spool, const char *id, int fd, struct spool_msg **msg_out, spool_done_fn *fn, void *arg, struct err *err)
{
	struct arena a = ARENA_INIT;
	struct spool_file file;
	struct spool_msg *msg = NULL;
	struct file_item *item = NULL;
	enum status st;

	*msg_out = NULL;
	st = spool_file_read(&spool_fs_real, fd, false, &a, &file, err);
	if (!st && file.end != file.size)
		st = err_set(err, ST_FAIL, "damaged from octet %llu on", (unsigned long long)file.end);
	if (!st)
		st = message_begin(spool, id, &msg, err);
	if (!st && (msg->fd = file_create(spool, msg)) < 0) {
		arena_clear(&a);
		return create_failed(spool, msg, "can't create the file", err);
	}
	if (!st) {
		struct commit c = { msg, NULL, fn, arg };

		msg->content = file.head.content;
		msg->seq = file.seq;
		item = direct_add(spool, &c);
		item->from_fd = fd;
		st = import_tail(item, &file, id, err);
		msg_fd_close(spool, msg);
	}
	arena_clear(&a);
	if (!st) {
		*msg_out = msg;
	} else if (item) {
		buf_clear(&item->tail);
		spool->direct->n--;
		msg->state = SPOOL_NEW;
		msg->settling = false;
		spool_abort(spool, msg);
	}
	return st;
}

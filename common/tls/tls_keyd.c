/* SPDX-License-Identifier: ISC */
#include "common/tls/tls_keyd.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/channel.h"

enum { FILE_MAX = 16 * 1024 * 1024 };

void tls_keyd_open(struct tls_keyd *k, int fd)
{
	tls_keyd_close(k);
	k->fd = fd;
	k->opened++;
	k->lost_ms = 0;
}

void tls_keyd_close(struct tls_keyd *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

bool tls_keyd_wanted(struct tls_keyd *k)
{
	if (k->fd >= 0 || !k->lost_ms || clock_ms() < k->lost_ms + TLS_KEYD_PAUSE_MS)
		return false;
	k->lost_ms = clock_ms();
	return true;
}

/* After anything but a proper answer the channel is given up: a late answer would be taken for the next question's. */
static enum status ask(struct tls_keyd *k, const struct ipc_type *type, const void *msg, const struct ipc_type *want, struct arena *a, void *answer,
	int *fd_out, struct err *err)
{
	struct err why = ERR_INIT;
	enum status st;

	if (k->fd < 0)
		return err_set(err, ST_DEFER, "keyd is not there");
	st = fd_out ? ipc_call_fd(k->fd, type, msg, want, a, answer, fd_out, TLS_KEYD_MS, &why) :
		ipc_call(k->fd, type, msg, NULL, 0, want, a, answer, TLS_KEYD_MS, &why);
	if (!st)
		return ST_OK;
	tls_keyd_close(k);
	k->lost_ms = clock_ms();
	return err_set(err, ST_DEFER, "keyd does not answer: %s", why.text);
}

static enum status status_of(uint64_t status, struct str text, struct err *err)
{
	enum status st = status <= ST_ERROR ? (enum status)status : ST_ERROR;

	return st ? err_set(err, st, "%.*s", STR_FMT(str_sub(text, 0, ERR_TEXT_MAX / 2))) : ST_OK;
}

enum status tls_keyd_cert(struct tls_keyd *k, struct arena *a, struct str cert, struct str key, struct str ocsp, struct tls_keyd_cert *out, struct err *err)
{
	struct ipc_cert_ask msg = { .cert = cert, .key = key, .ocsp = ocsp };
	struct ipc_cert_answer answer;
	enum status st = ask(k, &ipc_type_cert_ask, &msg, &ipc_type_cert_answer, a, &answer, NULL, err);

	*out = (struct tls_keyd_cert){ 0 };
	if (!st)
		st = status_of(answer.status, answer.text, err);
	if (st)
		return st;
	out->chain_pem = answer.chain;
	out->ocsp_der = answer.ocsp;
	out->version = answer.version;
	out->key = str_printf(a, "%llu", (unsigned long long)answer.key);
	return ST_OK;
}

enum status tls_keyd_file(struct tls_keyd *k, struct arena *a, struct str file, uint64_t *version, struct str *out, struct err *err)
{
	struct ipc_file_ask msg = { .file = file, .version = *version };
	struct ipc_file_answer answer;
	int fd = -1;
	enum status st = ask(k, &ipc_type_file_ask, &msg, &ipc_type_file_answer, a, &answer, &fd, err);

	*out = STR_NULL;
	if (st)
		return st;
	st = status_of(answer.status, answer.text, err);
	if (!st && fd >= 0) {
		char *room = answer.size <= FILE_MAX ? arena_alloc(a, answer.size + 1) : NULL;
		size_t done = 0;
		ssize_t n = 1;

		while (room && done < answer.size && (n = pread(fd, room + done, answer.size - done, (off_t)done)) > 0)
			done += (size_t)n;
		if (!room || done != answer.size)
			st = err_set(err, ST_ERROR, "%.*s: what keyd gave is not whole", STR_FMT(str_sub(file, 0, 200)));
		else
			*out = str_make(room, done);
	}
	if (!st) {
		*version = answer.version;
		k->directory = answer.directory;
	}
	if (fd >= 0)
		close(fd);
	return st;
}

enum status tls_keyd_sign(void *keyd, struct str key, bool raw, struct str octets, struct buf *signature, struct err *err)
{
	struct arena a = ARENA_INIT;
	struct ipc_sign_ask msg = { .raw = raw, .octets = octets };
	struct ipc_sign_answer answer;
	char number[24] = "";
	enum status st;

	for (uint32_t i = 0; i < key.len && i < sizeof number - 1; i++)
		number[i] = key.p[i];
	msg.key = strtoull(number, NULL, 10);
	st = ask(keyd, &ipc_type_sign_ask, &msg, &ipc_type_sign_answer, &a, &answer, NULL, err);
	if (!st)
		st = status_of(answer.status, answer.text, err);
	if (!st)
		buf_add_str(signature, answer.signature);
	arena_clear(&a);
	return st;
}

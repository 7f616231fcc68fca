/* SPDX-License-Identifier: ISC */
#include "keyd/keyd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/conf/conf.h"
#include "common/ipc/channel.h"
#include "keyd/key_asker.h"
#include "keyd/key_store.h"

enum {
	PROBLEM_PERIOD_MS = 60000, /* every handshake asks: what is wrong with a file is not logged as often */
	PROBLEMS = 16,             /* different ones that are remembered */
};

struct keyd {
	struct key_store *store;
	struct problem {
		uint64_t hash, said_ms; /* said_ms 0: none */
	} problems[PROBLEMS];
};

static struct daemon *daemon_of(void *owner)
{
	struct daemon_link *link = owner;

	return link->daemon;
}

static void problem_log(struct daemon *d, const char *text)
{
	struct keyd *k = d->state;
	struct problem *at = k->problems;
	uint64_t hash = hash_bytes(text, strlen(text)), now = loop_now(d->loop);

	/* One more than are remembered takes the oldest place, and waits until that may be said again. */
	for (size_t i = 0; i < PROBLEMS; i++) {
		struct problem *p = &k->problems[i];

		if (p->said_ms && p->hash == hash) {
			at = p;
			break;
		}
		if (p->said_ms < at->said_ms)
			at = p;
	}
	if (at->said_ms && now < at->said_ms + PROBLEM_PERIOD_MS)
		return;
	*at = (struct problem){ hash, now };
	daemon_log(d, LOG_MAIN | LOG_PANIC, "%s", text);
}

static void on_trouble(void *arg, const char *text)
{
	problem_log(arg, text);
}

static void on_cert(void *owner, struct ipc_in *in)
{
	struct daemon *d = daemon_of(owner);
	const struct ipc_cert_ask *ask = in->msg;
	struct ipc_cert_answer answer = { 0 };
	struct store_cert cert;
	struct err err = ERR_INIT;
	struct daemon_link *link = owner;
	enum status st = key_asker_may(d->conf, link->peer->name, ask) ?
		store_cert(((struct keyd *)d->state)->store, ask->cert, ask->key, ask->ocsp, loop_now(d->loop), &cert, &err) :
		err_set(&err, ST_ERROR, "%s wanted the certificate \"%.*s\", which no transport names", link->name, STR_FMT(str_sub(ask->cert, 0, 200)));

	answer.status = st;
	if (st) {
		answer.text = str_of(err.text);
		problem_log(d, err.text);
	} else {
		key_asker_give(link->state, cert.key);
		answer.chain = cert.chain;
		answer.ocsp = cert.ocsp;
		answer.key = cert.key;
		answer.version = cert.version;
	}
	channel_answer(in->channel, in->request, &ipc_type_cert_answer, &answer, NULL, 0);
}

/* -1: no memory. */
static int text_seal(struct str text)
{
	int fd = memfd_create("bulkhead-file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t done = 0;

	while (fd >= 0 && done < text.len) {
		ssize_t n = write(fd, text.p + done, text.len - done);

		if (n <= 0) {
			close(fd);
			return -1;
		}
		done += (size_t)n;
	}
	if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void on_file(void *owner, struct ipc_in *in)
{
	struct daemon *d = daemon_of(owner);
	const struct ipc_file_ask *ask = in->msg;
	struct ipc_file_answer answer = { 0 };
	struct err err = ERR_INIT;
	struct store_file file = { 0 };
	enum status st = store_file(((struct keyd *)d->state)->store, ask->file, loop_now(d->loop), &file, &err);
	int fd = -1;

	if (!st && file.version != ask->version && (fd = text_seal(file.text)) < 0)
		st = err_set(&err, ST_ERROR, "no memory for a copy of %.*s", STR_FMT(str_sub(ask->file, 0, 200)));
	answer.status = st;
	if (st) {
		answer.text = str_of(err.text);
		problem_log(d, err.text);
	} else {
		answer.size = file.text.len;
		answer.version = file.version;
		answer.directory = file.directory;
	}
	channel_answer(in->channel, in->request, &ipc_type_file_answer, &answer, &fd, fd >= 0);
}

static void on_sign(void *owner, struct ipc_in *in)
{
	struct daemon *d = daemon_of(owner);
	struct daemon_link *link = owner;
	const struct ipc_sign_ask *ask = in->msg;
	struct ipc_sign_answer answer = { 0 };
	struct buf signature = BUF_LIMIT(2048);
	struct err err = ERR_INIT;

	if (key_asker_has(link->state, ask->key))
		answer.status = store_sign(((struct keyd *)d->state)->store, ask->key, ask->raw, ask->octets, &signature, &err);
	else
		answer.status = err_set(&err, ST_FAIL, "there is no key %llu", (unsigned long long)ask->key);
	if (answer.status)
		answer.text = str_of(err.text);
	answer.signature = buf_str(&signature);
	channel_answer(in->channel, in->request, &ipc_type_sign_answer, &answer, NULL, 0);
	buf_clear(&signature);
}

static enum status keyd_start(struct daemon *d, struct err *err)
{
	struct str host = d->conf->main.primary_hostname.text;
	struct utsname uts;
	struct keyd *k;

	if (!host.len && uname(&uts) < 0)
		return err_set(err, ST_ERROR, "this machine has no name; set primary_hostname");
	d->state = k = mem_new(sizeof *k);
	k->store = store_new(host.len ? host : str_of(uts.nodename));
	store_on_trouble(k->store, on_trouble, d);
	return ST_OK;
}

static void keyd_stop(struct daemon *d)
{
	struct keyd *k = d->state;

	store_free(k->store);
	mem_free(k);
	d->state = NULL;
}

static void keyd_status(struct daemon *d, struct daemon_status *out)
{
	struct keyd *k = d->state;
	struct store_count n;

	store_count(k->store, &n);
	daemon_count(out, "certificates", n.certs);
	daemon_count(out, "files", n.files);
	daemon_count(out, "keys", n.keys);
	daemon_count(out, "signatures", n.signatures);
	daemon_count(out, "refused", n.refused);
}

static const struct ipc_handler handlers[] = {
	{ IPC_cert_ask, on_cert },
	{ IPC_file_ask, on_file },
	{ IPC_sign_ask, on_sign },
	{ 0, NULL },
};

static void drained_look(void *arg)
{
	struct daemon *d = arg;

	if (d->draining && list_empty(&d->links))
		daemon_finish(d);
}

static void peer_opened(struct daemon_link *link)
{
	link->state = mem_new(sizeof(struct key_asker));
}

/* The link is freed behind this. */
static void peer_closed(struct daemon_link *link, const char *why)
{
	(void)why;
	key_asker_clear(link->state);
	mem_free(link->state);
	link->state = NULL;
	loop_defer(link->daemon->loop, drained_look, link->daemon);
}

/* Sessions of the generation that goes may still want a handshake. */
static void keyd_drain(struct daemon *d, uint64_t deadline_ms)
{
	(void)deadline_ms;
	drained_look(d);
}

static const struct daemon_peer peers[] = {
	{ .name = "smtpd", .handlers = handlers, .opened = peer_opened, .closed = peer_closed },
	{ .name = "smtp-out", .handlers = handlers, .opened = peer_opened, .closed = peer_closed },
	{ .name = NULL },
};

static const char *const sys_more[] = { "memfd_create", NULL };

const struct daemon_spec keyd_spec = {
	.name = "keyd",
	.what = "holds private keys and signs with them",
	.see = V_KEYD,
	.peers = peers,
	.sys = DAEMON_SYS_READ,
	.sys_more = sys_more,
	.start = keyd_start,
	.drain = keyd_drain,
	.stop = keyd_stop,
	.status = keyd_status,
};

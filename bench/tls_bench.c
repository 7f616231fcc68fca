/* SPDX-License-Identifier: ISC */
/* What it costs that private keys live in keyd: TLS 1.3 handshakes of a server as smtpd makes them, with the key in its own process and
 * with the key behind a channel, for clients in another process that do not resume.
 *   tls_bench KEY-FILE CERT-FILE HANDSHAKES
 * Prints two lines, with tabs: where the key is (process, keyd), handshakes a second, microseconds of processor time a handshake in the server,
 * the same in keyd. The one who holds the key answers like keyd, without its daemon around it. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ipc/channel.h"
#include "common/tls/tls.h"
#include "common/tls/tls_keyd.h"
#include "keyd/key_store.h"

static void die(const char *what)
{
	fprintf(stderr, "tls_bench: %s\n", what);
	exit(1);
}

static uint64_t cpu_us(int who)
{
	struct rusage u;

	getrusage(who, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- who holds the key ---- */

static void answer_cert(int fd, const struct ipc_in *in, struct key_store *store)
{
	const struct ipc_cert_ask *ask = in->msg;
	struct ipc_cert_answer answer = { 0 };
	struct store_cert cert = { 0 };
	struct err err = ERR_INIT;

	answer.status = store_cert(store, ask->cert, ask->key, STR_NULL, clock_ms(), &cert, &err);
	answer.chain = cert.chain;
	answer.key = cert.key;
	answer.version = cert.version;
	ipc_send(fd, &ipc_type_cert_answer, in->request, true, &answer, NULL, 0, 1000, &err);
}

static void answer_sign(int fd, const struct ipc_in *in, struct key_store *store)
{
	const struct ipc_sign_ask *ask = in->msg;
	struct ipc_sign_answer answer = { 0 };
	struct buf signature = BUF_LIMIT(2048);
	struct err err = ERR_INIT;

	answer.status = store_sign(store, ask->key, ask->raw, ask->octets, &signature, &err);
	answer.signature = buf_str(&signature);
	ipc_send(fd, &ipc_type_sign_answer, in->request, true, &answer, NULL, 0, 1000, &err);
	buf_clear(&signature);
}

/* Ends when the other side does. */
static void holder_run(int fd)
{
	struct key_store *store = store_new(STR_LIT("bench.invalid"));
	struct ipc_packet packet = { .data = BUF_INIT };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;

	while (!ipc_recv(fd, &packet, -1, &err)) {
		struct ipc_in in;

		while (!ipc_packet_next(&packet, &a, &in, &err)) {
			if (in.type == &ipc_type_cert_ask)
				answer_cert(fd, &in, store);
			else if (in.type == &ipc_type_sign_ask)
				answer_sign(fd, &in, store);
		}
		arena_reset(&a);
	}
	exit(0);
}

/* ---- both ends of a handshake ---- */

static bool handshake(struct tls_ctx *ctx, int fd, const struct tls_peer *peer)
{
	struct err err = ERR_INIT;
	struct tls_conn *c = tls_conn_new(ctx, fd, peer, &err);
	enum tls_io io = TLS_FAILED;

	while (c) {
		struct pollfd p = { .fd = fd };

		io = tls_handshake(c, &err);
		if (io != TLS_WANT_READ && io != TLS_WANT_WRITE)
			break;
		p.events = io == TLS_WANT_READ ? POLLIN : POLLOUT;
		if (poll(&p, 1, 5000) <= 0)
			break;
	}
	if (io != TLS_DONE)
		fprintf(stderr, "tls_bench: %s\n", err.text);
	tls_conn_free(c);
	return io == TLS_DONE;
}

/* Connects as often as it is handed an end of a pair. */
static void clients_run(int fd, unsigned n)
{
	struct tls_options o = { .verify = TLS_VERIFY_NONE };
	const struct tls_peer peer = { .sni = STR_NULL };
	struct tls_ctx *ctx;
	struct err err = ERR_INIT;

	if (tls_ctx_new(&o, &ctx, &err))
		die(err.text);
	while (n--) {
		char byte;
		struct iovec v = { &byte, 1 };
		union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control;
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
		int end;

		if (recvmsg(fd, &m, 0) != 1)
			die("no connection came");
		memcpy(&end, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof end);
		if (!handshake(ctx, end, &peer))
			die("the client's side failed");
		close(end);
	}
	exit(0);
}

static int pair_give(int to)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } control;
	char byte = 0;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	control.h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.h), &pair[1], sizeof(int));
	if (sendmsg(to, &m, 0) != 1)
		die("sendmsg");
	close(pair[1]);
	return pair[0];
}

/* ---- one run ---- */

static struct str file_read(const char *path)
{
	static char room[2][65536];
	static unsigned used;
	char *p = room[used++ & 1];
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		die(path);
	n = fread(p, 1, sizeof room[0], f);
	fclose(f);
	return str_make(p, n);
}

static void run(const char *key_file, const char *cert_file, unsigned n, bool elsewhere)
{
	struct tls_options o = { .server = true, .n_certs = 1 };
	struct tls_keyd keyd = TLS_KEYD_INIT;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct tls_ctx *ctx;
	uint64_t began, cpu, children;
	pid_t holder = 0, clients;
	int to_holder[2] = { -1, -1 }, to_clients[2];

	if (elsewhere) {
		struct tls_keyd_cert cert;

		if (!ipc_pair(to_holder, &err))
			die(err.text);
		holder = fork();
		if (!holder) {
			close(to_holder[0]);
			holder_run(to_holder[1]);
		}
		close(to_holder[1]);
		tls_keyd_open(&keyd, to_holder[0]);
		if (tls_keyd_cert(&keyd, &a, str_of(cert_file), str_of(key_file), STR_NULL, &cert, &err))
			die(err.text);
		o.certs[0] = (struct tls_cert){ .chain_pem = cert.chain_pem, .sign = tls_keyd_sign, .sign_ctx = &keyd, .key = cert.key };
	} else {
		o.certs[0] = (struct tls_cert){ .chain_pem = file_read(cert_file), .key_pem = file_read(key_file) };
	}
	if (tls_ctx_new(&o, &ctx, &err) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to_clients))
		die(err.text);
	clients = fork();
	if (!clients)
		clients_run(to_clients[1], n);
	close(to_clients[1]);
	began = clock_us();
	cpu = cpu_us(RUSAGE_SELF);
	for (unsigned i = 0; i < n; i++) {
		int fd = pair_give(to_clients[0]);

		if (!handshake(ctx, fd, NULL))
			die("the server's side failed");
		close(fd);
	}
	began = clock_us() - began;
	cpu = cpu_us(RUSAGE_SELF) - cpu;
	waitpid(clients, NULL, 0);
	children = cpu_us(RUSAGE_CHILDREN);
	tls_keyd_close(&keyd);
	if (holder)
		waitpid(holder, NULL, 0);
	children = cpu_us(RUSAGE_CHILDREN) - children;
	printf("%s\t%.0f\t%.0f\t%.0f\n", elsewhere ? "keyd" : "process", n * 1e6 / (double)began, (double)cpu / n, elsewhere ? (double)children / n : 0.0);
	fflush(stdout);
	close(to_clients[0]);
	tls_ctx_unref(ctx);
	arena_clear(&a);
}

int main(int argc, char **argv)
{
	uint64_t n;

	if (argc != 4 || !str_u64(str_of(argv[3]), 1000000, &n) || !n)
		die("usage: tls_bench KEY-FILE CERT-FILE HANDSHAKES");
	run(argv[1], argv[2], (unsigned)n, false);
	run(argv[1], argv[2], (unsigned)n, true);
	return 0;
}

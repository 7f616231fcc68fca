/* SPDX-License-Identifier: ISC */
/* SMTP load with a new connection for each message, or for each handshake, in clear or with STARTTLS.
 *   tlsload HOST PORT THREADS COUNT BYTES plain|tls|resume|shake|reshake
 * tls: TLS 1.3, a full handshake each time; resume: the same, with the newest ticket that the server gave this thread. shake,
 * reshake: likewise, without a message; BYTES is not looked at.
 * Prints: mode, count, seconds, count a second, resumed, processor seconds of the client, errors. Loopback only. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in to;
static long messages, taken, done, resumed, errors;
static char *body;
static size_t body_len;
static enum { PLAIN, TLS, RESUME } mode;
static bool messages_too = true;
static SSL_CTX *ctx;
static int session_slot;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

struct conn {
	int fd;
	SSL *ssl;
	char buf[4096];
	size_t have;
};

static int put(struct conn *c, const char *p, size_t n)
{
	while (n) {
		int w = c->ssl ? SSL_write(c->ssl, p, n) : (int)write(c->fd, p, n);
		if (w <= 0)
			return -1;
		p += w;
		n -= w;
	}
	return 0;
}

/* One reply, however many lines; its code, or -1. */
static int reply(struct conn *c)
{
	for (;;) {
		char *nl;
		while ((nl = memchr(c->buf, '\n', c->have))) {
			size_t n = nl - c->buf + 1;
			int last = n >= 4 && c->buf[3] != '-';
			int code = atoi(c->buf);
			memmove(c->buf, nl + 1, c->have - n);
			c->have -= n;
			if (last)
				return code;
		}
		if (c->have == sizeof c->buf)
			return -1;
		size_t room = sizeof c->buf - c->have;
		int r = c->ssl ? SSL_read(c->ssl, c->buf + c->have, room)
			       : (int)read(c->fd, c->buf + c->have, room);
		if (r <= 0)
			return -1;
		c->have += r;
	}
}

static int command(struct conn *c, const char *line, int want)
{
	return put(c, line, strlen(line)) || reply(c) / 100 != want ? -1 : 0;
}

static int new_session(SSL *ssl, SSL_SESSION *s)
{
	SSL_SESSION **slot = SSL_get_ex_data(ssl, session_slot);
	if (!slot)
		return 0;
	if (*slot)
		SSL_SESSION_free(*slot);
	*slot = s;
	return 1;
}

static int one(SSL_SESSION **ticket)
{
	struct conn c = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct timeval limit = { .tv_sec = 30 };
	int one = 1, rc = -1;

	if (c.fd < 0)
		return -1;
	setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(c.fd, (struct sockaddr *)&to, sizeof to) || reply(&c) != 220 ||
	    command(&c, "EHLO bench.invalid\r\n", 2))
		goto out;
	if (mode != PLAIN) {
		if (command(&c, "STARTTLS\r\n", 2))
			goto out;
		SSL *ssl = SSL_new(ctx);
		SSL_set_fd(ssl, c.fd);
		if (mode == RESUME) {
			SSL_set_ex_data(ssl, session_slot, ticket);
			/* A copy: libssl marks a TLS 1.3 session as used, and not
			 * every server sends a new ticket when it resumes. */
			SSL_SESSION *copy = *ticket ? SSL_SESSION_dup(*ticket) : NULL;
			if (copy)
				SSL_set_session(ssl, copy);
			SSL_SESSION_free(copy);
		}
		c.ssl = ssl;
		if (SSL_connect(ssl) != 1)
			goto out;
		if (SSL_session_reused(ssl))
			__atomic_fetch_add(&resumed, 1, __ATOMIC_RELAXED);
		if (command(&c, "EHLO bench.invalid\r\n", 2))
			goto out;
	}
	if (!messages_too)
		goto done;
	if (command(&c, "MAIL FROM:<a@bench.invalid>\r\n", 2) ||
	    command(&c, "RCPT TO:<b@sink.invalid>\r\n", 2) || command(&c, "DATA\r\n", 3) ||
	    put(&c, body, body_len) || reply(&c) / 100 != 2)
		goto out;
done:
	rc = 0;
	if (command(&c, "QUIT\r\n", 2))
		goto out;
	if (c.ssl)
		SSL_shutdown(c.ssl);
out:
	if (c.ssl)
		SSL_free(c.ssl);
	close(c.fd);
	return rc;
}

static void *worker(void *arg)
{
	SSL_SESSION *ticket = NULL;

	while (__atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED) < messages) {
		if (one(&ticket))
			__atomic_fetch_add(&errors, 1, __ATOMIC_RELAXED);
		else
			__atomic_fetch_add(&done, 1, __ATOMIC_RELAXED);
	}
	if (ticket)
		SSL_SESSION_free(ticket);
	return arg;
}

int main(int argc, char **argv)
{
	if (argc != 7) {
		fprintf(stderr, "usage: tlsload HOST PORT THREADS COUNT BYTES plain|tls|resume|shake|reshake\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	to.sin_family = AF_INET;
	to.sin_port = htons(atoi(argv[2]));
	if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || (ntohl(to.sin_addr.s_addr) >> 24) != 127) {
		fprintf(stderr, "tlsload: %s: not a loopback address\n", argv[1]);
		return 2;
	}
	int threads = atoi(argv[3]);
	messages = atol(argv[4]);
	size_t bytes = strtoul(argv[5], NULL, 10);
	if (threads < 1 || threads > 1000 || messages < 1 || messages > 1000000 || bytes > 1 << 24)
		return 2;
	messages_too = !strstr(argv[6], "shake");
	mode = !strcmp(argv[6], "tls") || !strcmp(argv[6], "shake") ? TLS : strcmp(argv[6], "plain") ? RESUME : PLAIN;

	static const char head[] = "From: a@bench.invalid\r\nTo: b@sink.invalid\r\nSubject: load\r\n\r\n";
	body = malloc(sizeof head + bytes + 8);
	memcpy(body, head, sizeof head - 1);
	body_len = sizeof head - 1;
	for (size_t i = 0; i < bytes; i++)
		body[body_len++] = i % 80 == 78 ? '\r' : i % 80 == 79 ? '\n' : 'X';
	memcpy(body + body_len, "\r\n.\r\n", 5);
	body_len += 5;

	ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, new_session);
	session_slot = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);

	pthread_t *t = calloc(threads, sizeof *t);
	double t0 = now();
	for (int i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, worker, NULL))
			return 1;
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	double took = now() - t0;
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	printf("%s %ld %.3f %.1f %ld %.3f %ld\n", argv[6], done, took, done / took, resumed,
	    u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6, errors);
	return errors != 0;
}

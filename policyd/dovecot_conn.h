/* SPDX-License-Identifier: ISC */
/* dovecot_conn.h - a connection to Dovecot's auth service: Unix socket, TCP, or TCP with TLS; lines in both directions, with deadlines.
 * Used by:    auth_dovecot.c.
 * Owns:       the descriptor and the TLS session until dovecot_conn_close() or dovecot_conn_take().
 * Errors:     ST_DEFER with the words for the log: no connection, silence, a close; ST_ERROR for what is no Dovecot. */
#ifndef POLICYD_DOVECOT_CONN_H
#define POLICYD_DOVECOT_CONN_H

#include <openssl/ssl.h>

#include "policyd/dovecot_line.h"

enum { DOVECOT_CONNECT_MS = 5000 };

struct dovecot_conn {
	int fd;                          /* -1: not connected */
	SSL *ssl;                        /* NULL: none */
	size_t in_len;
	char in[DOVECOT_LINE_MAX + 1];
};

/* Where and how to connect. */
struct dovecot_target {
	struct str path;                 /* Unix socket; empty: ip and port */
	struct str ip;
	uint16_t port;
	SSL_CTX *tls;                    /* NULL: without */
	struct str tls_name;
	uint32_t timeout_ms;
};

void dovecot_conn_init(struct dovecot_conn *c);
void dovecot_conn_adopt(struct dovecot_conn *c, int fd);
/* Connects, and begins TLS. */
enum status dovecot_conn_open(struct dovecot_conn *c, const struct dovecot_target *t, struct err *err);
enum status dovecot_conn_send(struct dovecot_conn *c, struct str octets, uint64_t until_ms, struct err *err);
/* One line without its LF; lent until dovecot_conn_next(), which takes it off. ST_FAIL: the server has closed. */
enum status dovecot_conn_line(struct dovecot_conn *c, uint64_t until_ms, struct str *out, struct err *err);
void dovecot_conn_next(struct dovecot_conn *c, struct str line);
bool dovecot_conn_quiet(const struct dovecot_conn *c);   /* nothing has come that was not read, and it is not closed */
int dovecot_conn_take(struct dovecot_conn *c);           /* the descriptor; without TLS only */
void dovecot_conn_close(struct dovecot_conn *c);

#endif

/* SPDX-License-Identifier: ISC */
/* smtp_auth.h - AUTH as the client: which mechanism, what to send, what a challenge asks for.
 * Used by:    smtp_client.c, as its step AUTH.
 * Owns:       nothing; what is sent is appended to the client's `out`. Secrets are the plan's.
 * Errors:     none: an authenticator that can't go on is cancelled, and the next one is tried.
 *             A server that has to prove itself, and can't, gets nothing: neither the message nor another authenticator's password.
 * Standards:  RFC 4954, 2195, 5802. */
#ifndef SMTP_AUTH_H
#define SMTP_AUTH_H

#include "smtp-out/smtp_client.h"

/* Before the jail: OpenSSL reads files when it is first used. */
void smtp_auth_prepare(void);
/* The next authenticator of the plan, from c->auth on, that the server offers; false: there is none. Sets c->auth. */
bool smtp_auth_find(struct smtp_client *c);
const struct ipc_client_auth *smtp_auth_current(const struct smtp_client *c);
/* The AUTH command, without CRLF. */
void smtp_auth_command(struct smtp_client *c, struct buf *out);
/* The answer to the challenge in c->reply, without CRLF; false: there is none, "*" was written. */
bool smtp_auth_respond(struct smtp_client *c, struct buf *out);
/* The reply to AUTH, or to an answer, has come: why the server is not to be trusted, though it may have said that all is well; NULL: it is. */
const char *smtp_auth_distrust(const struct smtp_client *c);
void smtp_auth_clear(struct smtp_client *c);

#endif

/* SPDX-License-Identifier: ISC */
/* policyd_auth.h - SMTP AUTH as the server: what is offered, and each step of an exchange.
 * Used by:    policyd.c, the files of the drivers (auth_*.c), unit tests.
 * Owns:       struct policyd_auth is a worker's, in the language's arena, but for what drivers keep open (auth_drivers[].stop).
 * Invariant:  a worker keeps nothing of an exchange between two steps: what must survive rides in ask->state and, for Dovecot, in
 *             the descriptor of the open connection. Any worker can serve any step.
 * Secrets:    what the client sent, and all that was made of it, lies in the worker's arena, which is wiped behind each step. Texts
 *             for the log are made without it.
 * Errors:     all end in an enum auth_result: what can't be known now is AUTH_DEFER (435), never AUTH_FAIL.
 * Standards:  RFC 4954 (AUTH), 4616 (PLAIN), 2195 (CRAM-MD5), 4422 appendix A (EXTERNAL). */
#ifndef POLICYD_AUTH_H
#define POLICYD_AUTH_H

#include "policyd/policyd.h"

enum {
	AUTH_STRINGS_MAX = 20,           /* $1 ... $20 */
	AUTH_STATE_MAX = 30000,          /* octets collected over the steps of one exchange */
	AUTH_STEPS_MAX = 30,
	AUTH_OFFER_MAX = 900,            /* octets of the list of mechanisms */
};

struct auth_driver;

struct auth_inst {
	const struct conf_instance *conf;
	const struct auth_driver *driver;
	struct str name, public_name;
	struct expansion *advertise, *condition, *set_id, *debug, *mail_condition;
	struct expansion *own[3];        /* the driver's: prompts or secret; param1 to param3 */
	void *state;                     /* the driver's; NULL: none */
};

struct policyd_auth {
	struct auth_inst *v;
	uint32_t n;
	const struct auth_inst *tls;     /* of driver tls; NULL: none */
	struct lang_list *hosts;         /* auth_advertise_hosts */
};

/* One step being worked on. */
struct auth_step {
	struct policyd *p;
	const struct auth_inst *inst;
	struct eval *ev;
	const struct ipc_auth_ask *ask;
	struct ipc_auth_answer *out;
	int fd;                          /* connection that came with the step, or goes with the challenge; -1 */
};

/* One file for each driver, a row here. */
struct auth_driver {
	const struct conf_table *table;
	bool smtp;                       /* has a mechanism, and is offered */
	/* At load. False: not configured as a server. */
	bool (*is_server)(const struct conf_instance *conf);
	enum status (*compile)(struct policyd *p, struct auth_inst *inst, struct err *err);   /* may be NULL */
	enum auth_result (*step)(struct auth_step *s, struct err *err);                       /* err: for the log */
	bool (*offers)(const struct auth_inst *inst);                                         /* NULL: always */
	void (*stop)(struct auth_inst *inst);                                                 /* may be NULL */
};
extern const struct auth_driver auth_plaintext, auth_cram_md5, auth_external, auth_tls, auth_dovecot;

enum status policyd_auth_compile(struct policyd *p, struct err *err);
void policyd_auth_stop(struct policyd *p);

/* "PLAIN LOGIN" for this client now, in the arena; empty: none. *later_out: it depends on what is known at EHLO only, ask again then. */
struct str policyd_auth_offer(struct policyd *p, struct eval *ev, bool *later_out);
/* Driver tls, at EHLO under TLS. */
void policyd_auth_tls(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out);
/* server_mail_auth_condition of the authenticator that let the client in: may AUTH= be believed? */
bool policyd_auth_mail(struct policyd *p, struct eval *ev);
/* One step. *fd: the descriptor that came (taken), and the one that goes; -1: none. Texts in the arena. */
void policyd_auth_step(struct policyd *p, struct arena *a, const struct ipc_auth_ask *ask, int *fd, struct ipc_auth_answer *out);

/* ---- for the drivers ---- */
/* $authN and $N, from 1. */
void auth_string_set(struct eval *ev, unsigned n, struct str value);
/* An option of the driver: AUTH_OK; AUTH_FAIL when forced to fail; AUTH_DEFER. */
enum auth_result auth_expand(struct auth_step *s, const struct expansion *x, const char *option, struct str *out, struct err *err);
/* server_condition, AUTH_OK when there is none. */
enum auth_result auth_condition(struct auth_step *s, struct err *err);

#endif

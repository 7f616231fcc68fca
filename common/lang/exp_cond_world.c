/* SPDX-License-Identifier: ISC */
/* Conditions on the world outside: files, the delivery, passwords. */
#include "common/lang/expand_tree.h"

#include "common/lang/lang_ask.h"

static enum status cond_exists(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str what;
	enum status st = lang_ask_stat(ev, args[0], &what, err);

	(void)c;
	*yes = st == ST_OK;
	return st == ST_FAIL ? ST_OK : st;
}

static enum status cond_first_delivery(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)c;
	(void)args;
	(void)err;
	*yes = ev->first_delivery;
	ev->deps |= DEP_SESSION;
	return ST_OK;
}

static enum status cond_queue_running(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)c;
	(void)args;
	(void)err;
	*yes = ev->queue_running;
	ev->deps |= DEP_SESSION;
	return ST_OK;
}

const struct cond_row exp_conds_world[] = {
	{ "exists", COND_ARGS, 1, cond_exists, 0, false, "there is a file or directory of this name" },
	{ "first_delivery", COND_NONE, 0, cond_first_delivery, 0, false, "the message is tried for the first time" },
	{ "queue_running", COND_NONE, 0, cond_queue_running, 0, false, "a queue run started the delivery" },
	{ NULL }
};

const struct cond_row exp_conds_later[] = {
	{ "crypteq", COND_ARGS, 2, NULL, 0, true, "a password fits its encrypted form" },
	{ "inbound_srs", COND_ARGS, 2, NULL, 0, true, "a local part is a genuine SRS address" },
	{ "ldapauth", COND_ARGS, 1, NULL, 0, true, "LDAP accepts user and password" },
	{ "pam", COND_ARGS, 1, NULL, 0, true, "PAM accepts user and password" },
	{ "pwcheck", COND_ARGS, 1, NULL, 0, true, "the pwcheck daemon accepts user and password" },
	{ "radius", COND_ARGS, 1, NULL, 0, true, "RADIUS accepts user and password" },
	{ "saslauthd", COND_ARGS, 1, NULL, 0, true, "saslauthd accepts user and password" },
	{ NULL }
};

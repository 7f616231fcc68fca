/* SPDX-License-Identifier: ISC */
/* Variables of the session: client, HELO, authentication, TLS, PROXY, the SMTP command. */
#include "common/lang/expand_tree.h"

#include "common/mail/received.h"

#define FACT(field) offsetof(struct ipc_facts, field)

static enum status var_client_port(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%llu", (unsigned long long)ev->facts->client_port);
	return ST_OK;
}

static enum status var_server_port(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->facts->server_port ? str_printf(ev->arena, "%llu", (unsigned long long)ev->facts->server_port) : STR_LIT("-1");
	return ST_OK;
}

/* Looked up when it is asked for. No name is empty; so is a name that can't be known now: $host_lookup_deferred tells. */
static enum status var_sender_host_name(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	enum status st;

	(void)name;
	if (!ev->client_name.len && !ev->facts->client_ip.len)
		return ST_OK;
	st = eval_client_name(ev, err);
	if (st == ST_OK)
		*out = ev->client_name;
	return st == ST_ERROR ? st : ST_OK;
}

static enum status var_auth_failed(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->facts->auth_failed ? STR_LIT("1") : STR_LIT("0");
	return ST_OK;
}

static enum status var_host_lookup_failed(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->name_looked && !ev->client_name.len && !ev->name_deferred ? STR_LIT("1") : STR_LIT("0");
	return ST_OK;
}

static enum status var_host_lookup_deferred(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->name_looked && ev->name_deferred ? STR_LIT("1") : STR_LIT("0");
	return ST_OK;
}

static enum status var_sender_fullhost(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	struct ipc_facts facts = *ev->facts;

	(void)name;
	(void)err;
	facts.client_name = ev->client_name;
	*out = str_taint(received_fullhost(ev->arena, &facts, false));
	return ST_OK;
}

static enum status var_sender_rcvhost(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	struct ipc_facts facts = *ev->facts;

	(void)name;
	(void)err;
	facts.client_name = ev->client_name;
	*out = str_taint(received_rcvhost(ev->arena, &facts, false));
	return ST_OK;
}

static enum status var_helo_verified(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->helo_verified ? STR_LIT("1") : STR_NULL;
	return ST_OK;
}

static enum status var_uid(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->facts->uid)
		*out = str_printf(ev->arena, "%llu", (unsigned long long)ev->facts->uid - 1);
	return ST_OK;
}

static enum status var_gid(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->facts->gid)
		*out = str_printf(ev->arena, "%llu", (unsigned long long)ev->facts->gid - 1);
	return ST_OK;
}

/* What follows the command's first word; for MAIL FROM: and RCPT TO: what follows the colon. */
static enum status var_command_argument(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	struct str s = ev->facts->command;
	uint32_t at = 0;

	(void)name;
	(void)err;
	while (at < s.len && !ascii_is_space(s.p[at]))
		at++;
	s = str_trim(str_from(s, at));
	if (str_beginsi(s, "from:"))
		s = str_trim(str_from(s, 5));
	else if (str_beginsi(s, "to:"))
		s = str_trim(str_from(s, 3));
	*out = str_taint(s);
	return ST_OK;
}

const struct var_row exp_vars_session[] = {
	{ "sender_host_address", VAR_FACT, DEP_CLIENT, FACT(client_ip), true, NULL, NULL, "IP address of the client" },
	{ "sender_host_port", VAR_FN, DEP_SESSION, 0, false, NULL, var_client_port, "port of the client" },
	{ "sender_host_name", VAR_FN, DEP_CLIENT, 0, false, NULL, var_sender_host_name, "verified name of the client; looked up when used" },
	{ "host_lookup_failed", VAR_FN, DEP_CLIENT, 0, false, NULL, var_host_lookup_failed, "1 when the client has no verified name" },
	{ "host_lookup_deferred", VAR_FN, DEP_CLIENT, 0, false, NULL, var_host_lookup_deferred, "1 when looking up the client's name failed for now" },
	{ "sender_fullhost", VAR_FN, DEP_SESSION, 0, false, NULL, var_sender_fullhost, "name, HELO and address of the client, as in the log" },
	{ "sender_rcvhost", VAR_FN, DEP_SESSION, 0, false, NULL, var_sender_rcvhost, "the client as in the Received: field" },
	{ "sender_helo_name", VAR_FACT, DEP_SESSION, FACT(helo), false, NULL, NULL, "argument of HELO or EHLO" },
	{ "sender_helo_verified", VAR_FN, DEP_SESSION, 0, false, NULL, var_helo_verified, "1 when HELO was found true" },
	{ "sender_ident", VAR_FACT, DEP_SESSION, FACT(ident), false, NULL, NULL, "login name of a local submitter" },
	{ "interface_address", VAR_FACT, DEP_SESSION, FACT(server_ip), true, NULL, NULL, "our IP address of the connection" },
	{ "interface_port", VAR_FN, DEP_SESSION, 0, false, NULL, var_server_port, "our port of the connection" },
	{ "received_ip_address", VAR_FACT, DEP_SESSION, FACT(server_ip), true, NULL, NULL, "our IP address when the message came" },
	{ "received_port", VAR_FN, DEP_SESSION, 0, false, NULL, var_server_port, "our port when the message came" },
	{ "received_protocol", VAR_FACT, DEP_SESSION, FACT(protocol), true, NULL, NULL, "protocol of the session, such as esmtp, esmtpsa or local" },
	{ "connection_id", VAR_FACT, DEP_SESSION, FACT(connection_id), true, NULL, NULL, "identifies the connection in the log" },
	{ "authenticated_id", VAR_FACT, DEP_SESSION, FACT(auth_id), false, NULL, NULL, "id of an authenticated client" },
	{ "authenticated_fail_id", VAR_FACT, DEP_SESSION, FACT(auth_fail_id), false, NULL, NULL, "what the last failed attempt to authenticate claimed to be" },
	{ "authentication_failed", VAR_FN, DEP_SESSION, 0, false, NULL, var_auth_failed, "1 when an attempt to authenticate failed, else 0" },
	{ "authenticated_sender", VAR_FACT, DEP_SESSION, FACT(auth_sender), false, NULL, NULL, "AUTH= of MAIL" },
	{ "sender_host_authenticated", VAR_FACT, DEP_SESSION, FACT(auth_method), true, NULL, NULL, "authenticator that let the client in" },
	{ "caller_uid", VAR_FN, DEP_SESSION, 0, false, NULL, var_uid, "uid of a local submitter" },
	{ "caller_gid", VAR_FN, DEP_SESSION, 0, false, NULL, var_gid, "gid of a local submitter" },
	{ "originator_uid", VAR_FN, DEP_SESSION, 0, false, NULL, var_uid, "uid of the local submitter of the message" },
	{ "originator_gid", VAR_FN, DEP_SESSION, 0, false, NULL, var_gid, "gid of the local submitter of the message" },
	{ "smtp_command", VAR_FACT, DEP_SESSION, FACT(command), false, NULL, NULL, "SMTP command being handled" },
	{ "smtp_command_argument", VAR_FN, DEP_SESSION, 0, false, NULL, var_command_argument, "argument of the SMTP command being handled" },
	{ "smtp_command_history", VAR_FACT, DEP_SESSION, FACT(command_history), true, NULL, NULL, "the last commands of the session, with commas" },
	{ "smtp_count_at_connection_start", VAR_FACT_U64, DEP_SESSION, FACT(connections), true, NULL, NULL,
		"open connections of its process when this one began, itself among them" },
	{ NULL }
};

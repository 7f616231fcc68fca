/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_early.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/conf/option.h"
#include "smtp-out/out_connect.h"
#include "smtp-out/out_hint.h"
#include "smtp-out/smtp_early.h"

static const char space[] = "ehlo";

static struct str key_of(const struct out_conn *conn, char text[128])
{
	const struct ipc_host *h = conn->to->host;
	unsigned port = h->port ? (unsigned)h->port : conn->to->options->port;
	bool v6 = str_find(h->ip, ':') >= 0;
	int n = snprintf(text, 128, "%s%.*s%s:%u.EHLO", v6 ? "[" : "", STR_FMT(h->ip), v6 ? "]" : "", port);

	return str_make(text, n > 0 && n < 128 ? (size_t)n : 0);
}

/* A name that depends on our address can't be said before there is one. */
static bool is_wanted(const struct out_conn *conn)
{
	const struct out_options *o = conn->to->options;
	const struct smtp_profile *f = &conn->to->profile;
	const struct ipc_host *h = conn->to->host;

	if (!h || f->lmtp || f->avoid_esmtp || f->avoid_pipelining || !out_host_matches(o->pipe_connect, h->name, h->ip))
		return false;
	return str_find(f->helo, CONF_LATE_MARK) < 0 || o->interface.len;
}

static void memory_begin(struct out_conn *conn)
{
	conn->memory = mem_new(sizeof *conn->memory);
	conn->client.memory = conn->memory;
}

static void answered(void *arg, struct str value)
{
	struct out_conn *conn = arg;
	int64_t now = clock_wall();

	conn->asked = NULL;
	memory_begin(conn);
	if (value.p && smtp_memory_parse(value, conn->memory) &&
		(conn->memory->since_s > now || (uint64_t)(now - conn->memory->since_s) > conn->so->ehlo_expire_s))
		*conn->memory = (struct smtp_memory){ 0 };
	conn->early_known(conn);
}

bool out_early_ask(struct out_conn *conn, void (*known)(struct out_conn *conn))
{
	char text[128];

	if (!is_wanted(conn))
		return false;
	if (conn->delivery->not_early == conn->host + 1) { /* it is to be learned anew */
		memory_begin(conn);
		return false;
	}
	conn->early_known = known;
	conn->asked = out_hint_get(conn->so, space, key_of(conn, text), answered, conn);
	return conn->asked != NULL;
}

bool out_early_begin(struct out_conn *conn)
{
	const struct ipc_host *h = conn->to->host;
	struct smtp_client *c = &conn->client;

	if (!conn->memory || c->phase != SMTP_BUSY) /* TLS comes first */
		return false;
	if (!c->local_ip) {
		struct str ip = out_interface_for(conn->to->options->interface, str_find(h->ip, ':') >= 0 ? AF_INET6 : AF_INET);

		snprintf(conn->local_ip, sizeof conn->local_ip, "%.*s", STR_FMT(ip));
		c->local_ip = conn->local_ip;
	}
	return smtp_client_early(c);
}

bool out_early_harmless(struct str content)
{
	struct str line;
	unsigned n = 0;

	while (content.len && n < EARLY_HARMLESS) {
		str_split(&content, '\n', &line);
		if (n ? !line.len || (line.p[0] != ' ' && line.p[0] != '\t') : !str_beginsi(line, "Received:"))
			return false;
		n++;
	}
	return n == EARLY_HARMLESS;
}

void out_early_keep(struct out_conn *conn)
{
	struct smtp_client *c = &conn->client;
	struct buf b = BUF_INIT;
	char text[128];

	if (!conn->memory || (!c->learned && !c->forget))
		return;
	if (c->forget) {
		out_hint_remove(conn->so, space, key_of(conn, text));
		*conn->memory = (struct smtp_memory){ 0 };
	} else {
		conn->memory->since_s = clock_wall();
		smtp_memory_format(conn->memory, &b);
		out_hint_put(conn->so, space, key_of(conn, text), buf_str(&b), conn->so->ehlo_expire_s);
		buf_clear(&b);
	}
	c->learned = c->forget = false;
}

void out_early_clear(struct out_conn *conn)
{
	out_hint_cancel(conn->asked);
	mem_free(conn->memory);
	conn->asked = NULL;
	conn->memory = conn->client.memory = NULL;
}
